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

use bytes::BytesMut;
use http::Method;

use self::stream::Stream;
use super::loss::Losses;
use super::{
    Broken, Context, Decoder, Dialect, End, Fed, Head, Outcome, Prepared, Untranslatable, Whole, openai,
};
use crate::openai::{ChatRequest, Completion, Envelope, Fault, Operation, Usage};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Cohere;

impl Dialect for Cohere {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let mut losses = Losses::new(context.strict);
        let (tail, stream, wire, decoder): (_, _, _, Box<dyn Decoder>) = match context.operation {
            Operation::Chat => {
                let chat = ChatRequest::of(request)?;
                let wire = request::write(&chat, context, &mut losses)?;
                (CHAT, chat.stream, wire, Box::new(Answer::new(&chat, context)))
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

/// Reads the answer to one request.
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
        let reply = reply::read(body, self.legacy)?;
        let id = if reply.id.is_empty() { self.id.clone() } else { reply.id };
        let mut completion = Completion::new(id, self.created, self.model.clone(), reply.choice);
        completion.usage = reply.usage;
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
        Fault::read(head.status, head.headers, body)
    }

    fn usage(&self) -> Option<Usage> {
        self.whole.or_else(|| self.stream.usage())
    }
}

#[cfg(test)]
mod tests;
