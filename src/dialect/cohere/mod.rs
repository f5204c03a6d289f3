//! Cohere's second API: `POST /v2/chat` and `POST /v2/embed`.
//!
//! Reference: <https://docs.cohere.com/reference/chat> and <https://docs.cohere.com/reference/embed>.

mod embed;
mod messages;
mod models;
mod reply;
mod request;
mod schema;
mod stream;
mod tools;

use std::borrow::Cow;

use http::Method;

use self::stream::Stream;
use super::loss::Losses;
use super::{Context, Decoder, Dialect, Prepared, Untranslatable, openai};
use crate::openai::{ChatRequest, Envelope, Operation};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Cohere;

impl Dialect for Cohere {
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
                return Err(Untranslatable::unsupported("", "Cohere's format has chat and embeddings only"));
            }
        };
        let unsigned =
            Unsigned::new(Method::POST, tail, openai::headers(stream), Segments::one(wire.freeze()));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![CHAT.into(), EMBED.into()]
    }
}

const CHAT: &str = "/v2/chat";
const EMBED: &str = "/v2/embed";

#[cfg(test)]
mod tests;
