//! The calls of tools in a conversation, as far as several providers treat them alike.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// The arguments of a call as one JSON object; `{}` where there are none.
pub(super) fn arguments(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(Cow::Borrowed("{}"));
    }
    let is_object = trimmed.starts_with('{') && serde_json::from_str::<IgnoredAny>(trimmed).is_ok();
    is_object.then_some(text)
}
