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

use bytes::BytesMut;
use http::Method;

use self::stream::Stream;
use super::loss::Losses;
use super::openai;
use super::vectors::{self, Vectors};
use super::{Broken, Context, Decoder, Dialect, End, Fed, Head, Outcome, Prepared, Untranslatable, Whole};
use crate::openai::{ChatRequest, Completion, EmbeddingsRequest, Envelope, Fault, Operation, Usage};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Mistral;

impl Dialect for Mistral {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let mut losses = Losses::new(context.strict);
        let (tail, wire, decoder): (_, _, Box<dyn Decoder>) = match context.operation {
            Operation::Chat => {
                let chat = ChatRequest::of(request)?;
                let wire = request::write(&chat, context, &mut losses)?;
                (CHAT, wire, Box::new(Answer::new(&chat, context)))
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

/// Reads the answer to one chat request.
#[derive(Debug)]
struct Answer {
    created: u64,
    id: String,
    model: String,
    legacy: bool,
    stream: Stream,
    whole: Option<Usage>,
}

impl Answer {
    fn new(chat: &ChatRequest<'_>, context: &Context<'_>) -> Self {
        Self {
            created: context.created,
            id: context.id.to_owned(),
            model: context.client_model.to_owned(),
            legacy: chat.legacy,
            stream: Stream::new(chat, context),
            whole: None,
        }
    }
}

impl Decoder for Answer {
    fn whole(&mut self, _: Head<'_>, body: &[u8]) -> Result<Whole, Broken> {
        let reply = reply::read(body, &self.id, self.legacy)?;
        let completion = Completion {
            id: reply.id,
            object: "chat.completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: reply.choices,
            usage: reply.usage,
        };
        self.whole = completion.usage;
        Ok(Whole::Completion(completion))
    }

    fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> Result<Fed, Broken> {
        self.stream.feed(input, out).map(|()| Fed::Rewritten)
    }

    fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        self.stream.finish(end, out)
    }

    fn is_done(&self) -> bool {
        self.stream.is_done()
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        reply::fault(head, body)
    }

    fn usage(&self) -> Option<Usage> {
        self.whole.or_else(|| self.stream.usage())
    }
}

#[cfg(test)]
mod tests;
