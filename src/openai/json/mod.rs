//! JSON that is read once and written once: texts stay in the form they came in, objects are a list of members.

mod cursor;
mod escape;
mod object;
mod writer;

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use self::cursor::Cursor;
pub use self::escape::{escape, quote};
pub use self::object::{Object, list};
pub use self::writer::Writer;

/// A byte order mark, which no JSON should begin with (RFC 8259 §8.1), and which clients skip.
pub const MARK: &[u8] = b"\xEF\xBB\xBF";

/// `json` without the byte order mark that it may begin with.
pub fn unmarked(json: &[u8]) -> &[u8] {
    json.strip_prefix(MARK).unwrap_or(json)
}

/// One JSON value as it stood in the input, without the white space around it. It has been read before, so it is sound.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a>(Source<'a>);

/// Who has read it.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Serde(&'a RawValue),
    Scan(&'a str),
    /// The scan, and it is a string without an escape.
    Plain(&'a str),
}

impl<'a> Raw<'a> {
    /// The value that `json` is, which must have been read.
    pub(super) fn scanned(json: &'a str) -> Self {
        Self(Source::Scan(json))
    }

    /// The value that `json` is, which must have been read; `is_plain` if it is a string without an escape.
    pub(super) fn spelt(json: &'a str, is_plain: bool) -> Self {
        Self(if is_plain { Source::Plain(json) } else { Source::Scan(json) })
    }

    /// The JSON.
    pub fn get(self) -> &'a str {
        match self.0 {
            Source::Serde(raw) => raw.get(),
            Source::Scan(json) | Source::Plain(json) => json,
        }
    }

    /// Whether it is known to be a string without an escape.
    pub fn is_plain(self) -> bool {
        matches!(self.0, Source::Plain(_))
    }

    /// The characters of it, which is a string; `None` if an escape spells half a surrogate pair.
    fn characters(self) -> Option<Cow<'a, str>> {
        match self.0 {
            Source::Plain(json) => Some(Cow::Borrowed(inner(json))),
            Source::Scan(_) | Source::Serde(_) => unquote(self.get()),
        }
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(Source::Serde(raw))
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Source::Serde(raw) => raw.serialize(serializer),
            Source::Scan(json) | Source::Plain(json) => {
                serde_json::from_str::<&RawValue>(json).map_err(S::Error::custom)?.serialize(serializer)
            }
        }
    }
}

/// A JSON string: as it stood in the input, escapes and all, or plain text of ours.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// With its quotes and escapes, ready to be written again.
    Raw(Raw<'a>),
    /// To be escaped when written.
    Plain(&'a str),
}

/// What every escape by number begins with.
static NUMBERED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br"\u"));

impl<'a> Text<'a> {
    /// `raw` as a text, if it is a string.
    pub fn read(raw: impl Into<Raw<'a>>) -> Option<Self> {
        let raw = raw.into();
        raw.get().starts_with('"').then_some(Self::Raw(raw))
    }

    /// The characters; `None` if an escape spells half a surrogate pair, which no text can hold.
    pub fn decode(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Plain(text) => Some(Cow::Borrowed(text)),
            Self::Raw(raw) => raw.characters(),
        }
    }

    /// Whether there is not one character.
    pub fn is_empty(self) -> bool {
        self.inner().is_empty()
    }

    /// Whether there is nothing but white space.
    pub fn is_blank(self) -> bool {
        match self.inner().as_bytes().first() {
            None => true,
            Some(first) if first.is_ascii_graphic() && *first != b'\\' => false,
            Some(_) => self.decode().is_some_and(|text| text.trim().is_empty()),
        }
    }

    /// Whether it holds an escape that spells half a surrogate pair.
    pub fn is_torn(self) -> bool {
        let Self::Raw(raw) = self else { return false };
        !raw.is_plain() && spells_surrogates(raw.get()) && self.decode().is_none()
    }

    /// Whether it spells `word`.
    pub fn is(self, word: &str) -> bool {
        self.decode().is_some_and(|text| text == word)
    }

    /// What stands between the quotes.
    fn inner(self) -> &'a str {
        match self {
            Self::Plain(text) => text,
            Self::Raw(raw) => inner(raw.get()),
        }
    }
}

/// Whether `json` may hold an escape of a surrogate, whole or half: one that begins with `\ud`.
pub fn spells_surrogates(json: &str) -> bool {
    let bytes = json.as_bytes();
    NUMBERED.find_iter(bytes).any(|at| matches!(bytes.get(at + 2), Some(b'd' | b'D')))
}

/// The characters of `quoted`, a sound JSON string; `None` if an escape spells half a surrogate pair.
pub fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = inner(quoted);
    match memchr::memchr(b'\\', inner.as_bytes()) {
        None => Some(Cow::Borrowed(inner)),
        Some(first) => escape::resolve(inner, first).map(Cow::Owned),
    }
}

fn inner(quoted: &str) -> &str {
    quoted.get(1..quoted.len() - 1).unwrap_or_default()
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw(raw) => raw.serialize(serializer),
            Self::Plain(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        Self::read(raw).ok_or_else(|| de::Error::custom("expected a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_as_it_came_and_can_be_read() {
        let json = r#"{"a":"\u00e9\/x","b":"plain","c":" \n\u00a0","d":"","e":"\ud800"}"#;
        let mut object = Object::read(json).unwrap();
        let mut text = |name: &str| Text::read(object.take(name).unwrap()).unwrap();
        let (a, b, c, d, e) = (text("a"), text("b"), text("c"), text("d"), text("e"));
        assert_eq!(serde_json::to_string(&a).unwrap(), r#""\u00e9\/x""#);
        assert_eq!(a.decode().unwrap(), "é/x");
        assert!(matches!(b.decode(), Some(Cow::Borrowed("plain"))));
        assert!(c.is_blank() && !c.is_empty() && d.is_blank() && d.is_empty() && !a.is_blank());
        assert!(e.decode().is_none() && !e.is_blank() && e.is_torn() && !a.is_torn());
    }

    #[test]
    fn half_a_pair_is_found_wherever_it_stands() {
        for (json, torn) in [
            (r#""\ud800""#, true),
            (r#""x\\\uD800y""#, true),
            (r#""\u00e9 and \udc00\ud800""#, true),
            (r#""\ud83d\ude00 \ud83d""#, true),
            (r#""\ud83d\ude00""#, false),
            (r#""\\ud800""#, false),
            (r#""\u0064800""#, false),
            (r#""ud800""#, false),
        ] {
            for pad in [0, 3, 40, 200] {
                let json = json.replacen('"', &format!("\"{}", "p".repeat(pad)), 1);
                assert_eq!(Text::read(Raw::scanned(&json)).unwrap().is_torn(), torn, "{json}");
            }
        }
    }

    #[test]
    fn what_was_scanned_is_written_as_what_serde_read() {
        let json = r#"{"a": [1.0, "\u00e9"]}"#;
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        for raw in [Raw::scanned(json), Raw::from(raw)] {
            assert_eq!(serde_json::to_string(&raw).unwrap(), json);
        }
    }
}
