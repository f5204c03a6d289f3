//! Bedrock's Converse: `POST /model/{model}/converse` and `/converse-stream`; embeddings by `/invoke`.
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>. The right to enter is
//! no business of this folder: a signature of AWS and a Bedrock API key as a bearer are equally good.

mod block;
mod cache;
mod embed;
mod extras;
mod fault;
mod form;
mod models;
mod reply;
mod request;
mod stream;
mod tools;

use std::borrow::Cow;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use self::stream::Stream;
use super::loss::Losses;
use super::{Context, Dialect, Prepared, Untranslatable};
use crate::openai::{ChatRequest, Envelope, Operation};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Bedrock;

impl Dialect for Bedrock {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        match context.operation {
            Operation::Chat => chat(request, context),
            Operation::Embeddings => embed::prepare(request, context),
            Operation::Relay => {
                Err(Untranslatable::unsupported("", "Bedrock's format has chat and embeddings only"))
            }
        }
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        [WHOLE, STREAM, embed::TAIL].into_iter().map(Cow::Borrowed).collect()
    }

    /// As AWS' own SDKs send it, so that a signature reads the same path wherever it is checked.
    fn keeps_only_unreserved(&self) -> bool {
        true
    }
}

const WHOLE: &str = "/model/{model}/converse";
const STREAM: &str = "/model/{model}/converse-stream";

fn chat(request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
    let chat = ChatRequest::of(request)?;
    let mut losses = Losses::of(request, context);
    let written = request::write(&chat, context, &mut losses)?;
    let (tail, accept) = match chat.stream {
        true => (STREAM, "application/vnd.amazon.eventstream"),
        false => (WHOLE, JSON),
    };
    let unsigned = Unsigned::new(Method::POST, tail, headers(accept), Segments::one(written.body.freeze()));
    let telling = Telling { legacy: chat.legacy, by_tool: written.by_tool };
    let decoder = Box::new(Stream::answer(&chat, telling, context));
    Ok(Prepared { unsigned, report: losses.into_report(), decoder })
}

const JSON: &str = "application/json";

fn headers(accept: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers
}

/// How an answer is told to its client.
#[derive(Clone, Copy, Debug)]
struct Telling {
    /// It knows one `function_call` only.
    legacy: bool,
    /// The call of [`form::TOOL`] is the text that it asked for.
    by_tool: bool,
}

#[cfg(test)]
mod tests;
