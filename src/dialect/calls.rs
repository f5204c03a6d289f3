//! The calls of tools: those of a conversation, found again by their results, and those of a stream, told as they come.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::de::IgnoredAny;

use super::chunks::Chunks;
use crate::openai::json::Text;

/// The arguments of a call as one JSON object; `{}` where there are none.
pub(super) fn arguments(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(Cow::Borrowed("{}"));
    }
    let is_object = trimmed.starts_with('{') && serde_json::from_str::<IgnoredAny>(trimmed).is_ok();
    is_object.then_some(text)
}

/// The calls that a stream has begun.
#[derive(Debug)]
pub(super) struct Calling {
    legacy: bool,
    begun: Vec<Begun>,
}

/// A call whose arguments may still come.
#[derive(Debug)]
struct Begun {
    /// The provider's number of it, or of the block that it is.
    key: u64,
    open: bool,
    has_arguments: bool,
}

impl Calling {
    /// None yet; with `legacy` the client knows one `function_call` only.
    pub(super) fn new(legacy: bool) -> Self {
        Self { legacy, begun: Vec::new() }
    }

    /// Whether there has been none.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// A call begins.
    pub(super) fn begin(
        &mut self,
        key: u64,
        head: (Text<'_>, Text<'_>),
        chunks: &mut Chunks,
        out: &mut BytesMut,
    ) {
        self.begun.push(Begun { key, open: true, has_arguments: false });
        chunks.call(self.legacy, self.begun.len() - 1, Some(head), Text::Plain(""), out);
    }

    /// More of the arguments of the call `key`, if it is still open.
    pub(super) fn add(&mut self, key: u64, json: Text<'_>, chunks: &mut Chunks, out: &mut BytesMut) {
        let Some(at) = self.begun.iter().rposition(|call| call.key == key && call.open) else { return };
        self.begun[at].has_arguments = true;
        chunks.call(self.legacy, at, None, json, out);
    }

    /// The call `key` is complete.
    pub(super) fn end(&mut self, key: u64, chunks: &mut Chunks, out: &mut BytesMut) {
        self.end_where(|call| call.key == key, chunks, out);
    }

    /// All calls are complete.
    pub(super) fn end_all(&mut self, chunks: &mut Chunks, out: &mut BytesMut) {
        self.end_where(|_| true, chunks, out);
    }

    /// Ends calls; one that got no arguments has none, which is `{}` and not an empty text.
    fn end_where(&mut self, which: impl Fn(&Begun) -> bool, chunks: &mut Chunks, out: &mut BytesMut) {
        for (at, call) in self.begun.iter_mut().enumerate() {
            if !call.open || !which(call) {
                continue;
            }
            call.open = false;
            if !call.has_arguments {
                chunks.call(self.legacy, at, None, Text::Plain("{}"), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_one_object_or_nothing() {
        let input = |text: &'static str| arguments(Cow::Borrowed(text)).map(Cow::into_owned);
        assert_eq!(input("").as_deref(), Some("{}"));
        assert_eq!(input(" \n").as_deref(), Some("{}"));
        assert_eq!(input("{\"a\": 1}").as_deref(), Some("{\"a\": 1}"));
        for wrong in ["[]", "\"x\"", "1", "null", "{", "{} {}", "not json"] {
            assert_eq!(input(wrong), None, "{wrong}");
        }
    }
}
