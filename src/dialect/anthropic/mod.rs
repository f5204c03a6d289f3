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

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};

use self::stream::Stream;
use super::loss::Losses;
use super::{Context, Dialect, Prepared, Untranslatable, openai};
use crate::openai::{ChatRequest, Envelope, Operation};
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
        let mut losses = Losses::of(request, context);
        let wire = request::write(&chat, context, &mut losses)?;
        let unsigned = Unsigned::new(Method::POST, TAIL, headers(chat.stream), Segments::one(wire.freeze()));
        let decoder = Box::new(Stream::answer(&chat, context));
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

#[cfg(test)]
mod tests;
