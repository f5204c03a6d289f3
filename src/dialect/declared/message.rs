//! One message of a list, the request's own or one that an expression made, and what it says.

use std::borrow::Cow;
use std::fmt;

use bytes::BytesMut;
use minijinja::{Error, ErrorKind, Value};

use super::engine::is_nothing;
use super::messages::{Messages, Turn};
use crate::dialect::Untranslatable;
use crate::openai::json;

/// A list of messages.
pub(super) enum List<'v> {
    /// All of the request's.
    Sent(&'v Messages),
    /// Some of them, or others that an expression made.
    Some(Cow<'v, [Value]>),
}

impl<'v> List<'v> {
    /// What `value` lists.
    ///
    /// # Errors
    /// It is no list.
    pub(super) fn of(value: &'v Value) -> Result<Self, Error> {
        use minijinja::value::ValueKind::{Iterable, Seq};
        if let Some(all) = value.downcast_object_ref::<Messages>() {
            return Ok(Self::Sent(all));
        }
        if let Some(list) = value.downcast_object_ref::<Vec<Value>>() {
            return Ok(Self::Some(Cow::Borrowed(list)));
        }
        match value.kind() {
            Seq | Iterable => Ok(Self::Some(value.try_iter()?.collect())),
            _ => {
                Err(Error::new(ErrorKind::InvalidOperation, "this filter wants `messages`, or some of them"))
            }
        }
    }

    /// Each of them, in order.
    pub(super) fn each(&self) -> impl DoubleEndedIterator<Item = Message<'_>> {
        let count = match self {
            Self::Sent(all) => all.len(),
            Self::Some(list) => list.len(),
        };
        (0..count).map(|index| match self {
            Self::Sent(all) => Message::Sent(all, index),
            Self::Some(list) => Message::of(index, &list[index]),
        })
    }
}

/// One message of a list.
#[derive(Clone, Copy)]
pub(super) enum Message<'m> {
    /// One of the request's, by its place there.
    Sent(&'m Messages, usize),
    /// One that an expression made, by its place in what it made.
    Made(usize, &'m Value),
}

impl<'m> Message<'m> {
    fn of(index: usize, value: &'m Value) -> Self {
        match value.downcast_object_ref::<Turn>() {
            Some(turn) => Self::Sent(&turn.all, turn.index),
            None => Self::Made(index, value),
        }
    }

    /// Who speaks, in OpenAI's word.
    pub(super) fn role(self) -> Result<Cow<'m, str>, Error> {
        let role = match self {
            Self::Sent(all, index) => all.find(index, "role").and_then(|(_, field)| all.text_of(field)),
            Self::Made(_, value) => member(value, "role").as_str().map(|role| Cow::Owned(role.to_owned())),
        };
        role.ok_or_else(|| self.refuse("role", "expected one of system, developer, user, assistant, tool"))
    }

    /// What is said, as the inside of one JSON string: the text parts of a list are joined by line feeds.
    pub(super) fn text(self) -> Result<Cow<'m, str>, Error> {
        let content = match self {
            Self::Sent(all, index) => {
                let Some(field) = all.use_field(index, "content") else { return Ok(self.refusal()) };
                if let Some(inside) = all.inside_of(field) {
                    return Ok(Cow::Borrowed(inside));
                }
                all.value_of(field)
            }
            Self::Made(_, value) => member(value, "content"),
        };
        if is_nothing(&content) {
            return Ok(self.refusal());
        }
        if let Some(text) = content.as_str() {
            return Ok(Cow::Owned(escaped(text)));
        }
        let parts =
            content.try_iter().map_err(|_| self.refuse("content", "expected a string or a list of parts"))?;
        let mut whole = String::new();
        for (place, part) in parts.enumerate() {
            if place > 0 {
                whole.push('\n');
            }
            whole.push_str(&self.part(place, &part)?);
        }
        Ok(Cow::Owned(escaped(&whole)))
    }

    /// What stands in for a content.
    fn refusal(self) -> Cow<'m, str> {
        let text = match self {
            Self::Sent(all, index) => {
                let inside = all.use_field(index, "refusal").and_then(|field| all.inside_of(field));
                inside.map(Cow::Borrowed)
            }
            Self::Made(_, value) => member(value, "refusal").as_str().map(|text| Cow::Owned(escaped(text))),
        };
        text.unwrap_or_default()
    }

    fn part(self, place: usize, part: &Value) -> Result<String, Error> {
        let kind = part.get_attr("type").unwrap_or_default();
        let field = match kind.as_str() {
            Some(kind @ ("text" | "refusal")) => kind,
            Some(kind) => {
                let kind: String = kind.chars().take(40).collect();
                let why = format!("this integration takes text only, and this part is of type `{kind}`");
                return Err(refusal(Untranslatable::unsupported(
                    self.path(&format!("content[{place}]")),
                    why,
                )));
            }
            None => return Err(self.refuse(&format!("content[{place}].type"), "this field is required")),
        };
        let keys = part.try_iter().into_iter().flatten();
        for key in keys.filter(|key| !matches!(key.as_str(), Some(name) if name == "type" || name == field)) {
            let says = |value: Value| !is_nothing(&value) && value.len() != Some(0);
            if let Self::Sent(all, index) = self
                && part.get_item(&key).is_ok_and(says)
            {
                let path = self.path(&format!("content[{place}].{key}"));
                all.lose(index, place, path);
            }
        }
        let text = part.get_attr(field).unwrap_or_default();
        let text = text.as_str().map(str::to_owned);
        text.ok_or_else(|| self.refuse(&format!("content[{place}].{field}"), "expected a string"))
    }

    /// The error that refuses a field of it as malformed.
    pub(super) fn refuse(self, field: &str, why: &str) -> Error {
        refusal(Untranslatable::malformed(self.path(field), why))
    }

    /// Where a field of it stands in the request.
    pub(super) fn path(self, field: &str) -> String {
        let (Self::Sent(_, index) | Self::Made(index, _)) = self;
        format!("messages[{index}].{field}")
    }
}

fn member(message: &Value, name: &str) -> Value {
    message.get_attr(name).unwrap_or_default()
}

/// A text as the inside of a JSON string.
pub(super) fn escaped(text: &str) -> String {
    let mut out = BytesMut::new();
    json::escape(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A request that a filter cannot express: the cause of the error with which its expression fails.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Untranslatable);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.0.param, self.0.message)
    }
}

impl std::error::Error for Refused {}

/// The error that refuses a request.
pub(super) fn refusal(why: Untranslatable) -> Error {
    let words = format!("`{}`: {}", why.param, why.message);
    Error::new(ErrorKind::InvalidOperation, words).with_source(Refused(why))
}
