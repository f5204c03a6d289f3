//! Ollama's own API: `POST /api/chat`, answered line by line, and `POST /api/embed`.
//!
//! Reference: <https://docs.ollama.com/api>.

mod embed;
mod messages;
mod models;
mod reply;
mod request;
mod stream;

use std::borrow::Cow;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use self::stream::Stream;
use super::loss::Losses;
use super::{Context, Decoder, Dialect, Prepared, Untranslatable};
use crate::openai::{ChatRequest, Envelope, Operation};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Ollama;

impl Dialect for Ollama {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let mut losses = Losses::of(request, context);
        let (tail, stream, wire, decoder): (_, _, _, Box<dyn Decoder>) = match context.operation {
            Operation::Chat => {
                let chat = ChatRequest::of(request)?;
                let wire = request::write(&chat, context, &mut losses)?;
                (CHAT, chat.stream, wire, Box::new(Stream::answer(&chat, context)))
            }
            Operation::Embeddings => {
                let (wire, decoder) = embed::translate(request, context, &mut losses)?;
                (EMBED, false, wire, Box::new(decoder))
            }
            Operation::Relay => {
                return Err(Untranslatable::unsupported("", "Ollama's format has chat and embeddings only"));
            }
        };
        let unsigned = Unsigned::new(Method::POST, tail, headers(stream), Segments::one(wire.freeze()));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![CHAT.into(), EMBED.into()]
    }
}

const CHAT: &str = "/api/chat";
const EMBED: &str = "/api/embed";

fn headers(stream: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if stream { "application/x-ndjson" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers
}

#[cfg(test)]
mod tests;
