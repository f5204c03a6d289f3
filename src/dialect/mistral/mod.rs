//! Mistral's own API: `POST /chat/completions` and `POST /embeddings`.
//!
//! Reference: <https://docs.mistral.ai/api/>. It looks like OpenAI's but refuses every field that it does not know, so
//! nothing passes unread; how its conversations must be built is told by its own library `mistral-common`.

mod embeddings;
mod ids;
mod models;
mod parts;
mod reply;
mod request;
mod stream;
mod tools;
mod turns;

use std::borrow::Cow;

use http::Method;

use self::stream::Stream;
use super::loss::Losses;
use super::openai;
use super::vectors::{self, Vectors};
use super::{Context, Decoder, Dialect, Prepared, Untranslatable};
use crate::openai::{ChatRequest, EmbeddingsRequest, Envelope, Operation};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Mistral;

impl Dialect for Mistral {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let mut losses = Losses::of(request, context);
        let (tail, wire, decoder): (_, _, Box<dyn Decoder>) = match context.operation {
            Operation::Chat => {
                let chat = ChatRequest::of(request)?;
                let wire = request::write(&chat, context, &mut losses)?;
                (CHAT, wire, Box::new(Stream::answer(&chat, context)))
            }
            Operation::Embeddings => {
                let wanted = EmbeddingsRequest::of(request)?;
                vectors::check(request, &wanted)?;
                let wire = embeddings::write(&wanted, context, &mut losses)?;
                (EMBEDDINGS, wire, Box::new(Vectors::new(&wanted, context, embeddings::read)))
            }
            Operation::Relay => {
                return Err(Untranslatable::unsupported("", "a relayed path has no chat request in it"));
            }
        };
        let headers = openai::headers(request.stream());
        let unsigned = Unsigned::new(Method::POST, tail, headers, Segments::one(wire.freeze()));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![CHAT.into(), EMBEDDINGS.into()]
    }

    fn is_openai_compatible(&self) -> bool {
        true
    }
}

const CHAT: &str = "/chat/completions";
const EMBEDDINGS: &str = "/embeddings";

#[cfg(test)]
mod tests;
