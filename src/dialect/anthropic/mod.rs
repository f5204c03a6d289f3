//! Anthropic's Messages: `POST /v1/messages`.
//!
//! Reference: <https://docs.anthropic.com/en/api/messages>. The right to enter is no business of this folder: behind a
//! bearer there must be no `x-api-key`.

mod block;
mod reply;
mod request;
mod stream;
mod tools;

use std::borrow::Cow;

use bytes::BytesMut;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};

use self::stream::Stream;
use super::loss::Losses;
use super::{
    Broken, Context, Decoder, Dialect, End, Fed, Head, Outcome, Prepared, Untranslatable, Whole, openai,
};
use crate::openai::{ChatRequest, Completion, Envelope, Fault, Operation, Usage};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

impl Dialect for Anthropic {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        if context.operation != Operation::Chat {
            return Err(Untranslatable::unsupported("", "Anthropic's format has chat completions only"));
        }
        let chat = ChatRequest::of(request)?;
        let mut losses = Losses::new(context.strict);
        let wire = request::write(&chat, context, &mut losses)?;
        let unsigned = Unsigned::new(Method::POST, TAIL, headers(chat.stream), Segments::one(wire.freeze()));
        let decoder = Box::new(Answer::new(&chat, context));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![TAIL.into()]
    }
}

const TAIL: &str = "/v1/messages";

fn headers(stream: bool) -> HeaderMap {
    let mut headers = openai::headers(stream);
    headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    headers
}

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
        completion.usage = Some(reply.usage);
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
