//! Where a client marks the end of what the provider should keep in its cache, as clients of Claude do in OpenAI's
//! format: `cache_control` on a part of a message, or on a tool.
//!
//! A mark follows the block that it was set on as a block of its own, and each vendor's folder writes it in its own way.

use crate::openai::json::{Object, Raw, Text};
use crate::openai::tool::Tool;

/// The field that is a mark.
pub(super) const FIELD: &str = "cache_control";

/// One mark of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark<'a> {
    /// What the client wrote: an object.
    pub(super) raw: Raw<'a>,
    /// Whether what is kept lives longer than usual: set by a vendor that knows it.
    pub(super) long: bool,
    /// The number of the message.
    message: usize,
    /// The number of its part.
    part: usize,
}

impl<'a> Mark<'a> {
    /// The mark on the part `json`, which stands in a message; `None` if it is not of the shape that it should have.
    pub(super) fn of(json: Raw<'a>, message: usize, part: usize) -> Option<Self> {
        let raw = Object::read(json.get()).ok()?.take(FIELD).filter(|raw| is_mark(*raw))?;
        Some(Self { raw, long: false, message, part })
    }

    /// Where the client wrote it.
    pub(super) fn path(&self) -> String {
        format!("messages[{}].content[{}].{FIELD}", self.message, self.part)
    }
}

/// The mark on a tool, with the name of the field that it is: clients set it beside the function or inside of it.
pub(super) fn of_tool<'t, 'a>(tool: &'t Tool<'a>) -> Option<(&'t str, Raw<'a>)> {
    let marks = tool.others.iter().filter(|(name, raw)| {
        matches!(name.strip_prefix("function.").unwrap_or(name), FIELD) && is_mark(*raw)
    });
    marks.map(|(name, raw)| (&**name, *raw)).next_back()
}

/// How long what is kept should live, if the mark says.
pub(super) fn life(mark: Raw<'_>) -> Option<Text<'_>> {
    Object::read(mark.get()).ok()?.take("ttl").and_then(Text::read)
}

fn is_mark(raw: Raw<'_>) -> bool {
    raw.get().starts_with('{')
}
