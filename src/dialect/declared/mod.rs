//! A format that is declared in the configuration: for the provider that no list names.
//!
//! Its shape is data, not code: trees whose string leaves, when they are wholly `{{ … }}`, are minijinja expressions
//! that give typed values. `docs/declared.md` tells users about it. Expressions are compiled once, when the integration
//! is built; they run within bounds and reach nothing but the request or the answer.

mod check;
mod engine;
mod filters;
mod keys;
mod lint;
mod message;
mod messages;
mod prompts;
mod reply;
mod request;
mod shortcut;
mod source;
mod stream;
mod tables;
mod tokens;
mod tree;
mod values;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

pub use self::check::check;
pub use self::keys::{COUNTS, FRAMINGS, RESPONSE, STREAM, meaning};
pub use self::tables::{At, Mistake, Step};

use self::stream::Stream;
use self::tables::{Framing, Tables};
use super::loss::Losses;
use super::{Context, Dialect, Prepared, Untranslatable};
use crate::openai::{Envelope, Operation};
use crate::outbound::{Segments, Unsigned};

/// The translator of one integration.
#[derive(Clone, Debug)]
pub struct Declared {
    tables: Arc<Tables>,
}

impl Declared {
    /// The format that `tables` declare for the integration `name`.
    ///
    /// # Errors
    /// The first of what [`check`] finds wrong.
    pub fn new(name: Option<&str>, tables: Option<&Value>) -> Result<Self, String> {
        let (compiled, mistakes) = tables::compile(name, tables.unwrap_or(&Value::Null));
        match mistakes.into_iter().find(|mistake| !mistake.is_warning) {
            Some(wrong) => Err(format!("`{}` {}: {}", wrong.at, wrong.message, wrong.help)),
            None => Ok(Self { tables: Arc::new(compiled) }),
        }
    }
}

impl Dialect for Declared {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        if context.operation != Operation::Chat {
            let why =
                "a declared format has chat completions only: give embeddings an integration of their own";
            return Err(Untranslatable::unsupported("", why));
        }
        let mut losses = Losses::of(request, context);
        let include_usage = request::includes_usage(request)?;
        let wire = request::write(&self.tables, request, context, &mut losses)?;
        let headers = headers(self.framing().filter(|_| request.stream()));
        let unsigned = Unsigned::new(Method::POST, TAIL, headers, Segments::one(wire.freeze()));
        let legacy = request.has("functions");
        let decoder = Box::new(Stream::answer(Arc::clone(&self.tables), context, include_usage, legacy));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder })
    }

    /// The endpoint is the full URL.
    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![TAIL.into()]
    }
}

impl Declared {
    fn framing(&self) -> Option<Framing> {
        self.tables.stream.as_ref().map(|(framing, _)| *framing)
    }
}

const TAIL: &str = "";

fn headers(framing: Option<Framing>) -> HeaderMap {
    let accept = match framing {
        Some(Framing::Sse) => "text/event-stream",
        Some(Framing::Lines) => "application/x-ndjson, application/json",
        Some(Framing::Array) | None => "application/json",
    };
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers
}

#[cfg(test)]
mod tests;
