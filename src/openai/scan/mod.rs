//! The one scan of a request body: proves it sound and says where its parts stand, so it can be spliced, never written anew.
//!
//! A body is read once, from left to right, without recursion and without a copy. What passes is valid UTF-8 and valid
//! JSON (RFC 8259): one object, whitespace around it and nothing else, at most [`MAX_DEPTH`] levels deep.

use std::fmt;
use std::ops::Range;

pub(super) use self::blocks::{BLOCK, backslashes, marks};
pub(super) use self::reader::{Reader, Step};

mod blocks;
mod reader;
#[cfg(test)]
mod tests;

/// Levels of nesting a body may have, its outermost object counted.
pub const MAX_DEPTH: u32 = 128;

/// Members the outermost object may have: OpenAI knows some fifty, and each costs memory many times its own length.
pub const MAX_MEMBERS: usize = 4096;

/// What one pass over a body found. Spans are byte offsets into that body and always on character boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The object itself, from `{` to just behind `}`.
    pub object: Range<u32>,
    /// Every member of the object in the order of the body. Names other than `model` and `stream` may repeat.
    pub members: Vec<Member>,
    /// What stands under `model`.
    pub model: Model,
    /// The value of `stream` if that is `true` or `false`; `None` if it is absent or something else.
    pub stream: Option<bool>,
}

/// Where one member of the object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name, its quotes included.
    pub key: Range<u32>,
    /// The value, without the whitespace around it.
    pub value: Range<u32>,
}

/// The `model` of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// The body has none.
    Absent,
    /// A string: the span of the value with its quotes, and the text it stands for.
    Text(Range<u32>, String),
    /// Some other value, or a string that stands for no text because a surrogate in it is alone.
    Other(Range<u32>),
}

const MODEL: &str = "model";
const STREAM: &str = "stream";

/// Why a body is refused. Every `at` is the byte offset of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// No JSON can go on like this. At the end of a body that breaks off, `at` is its length.
    NotJson {
        /// The first byte that does not fit.
        at: usize,
        /// What would have fitted, in words.
        expected: &'static str,
    },
    /// The bytes are no text. This is told before any fault of the JSON.
    NotUtf8 {
        /// The first byte that does not fit.
        at: usize,
    },
    /// The body starts like JSON, but with another value than an object.
    NotAnObject {
        /// The first byte of that value.
        at: usize,
    },
    /// There are more than [`MAX_DEPTH`] levels.
    TooDeep {
        /// The bracket that opens the first level too many.
        at: usize,
    },
    /// The outermost object has more than [`MAX_MEMBERS`] members.
    TooManyMembers {
        /// The first key too many.
        at: usize,
    },
    /// `model` or `stream` stands twice, so two readers could understand two different requests.
    Duplicate {
        /// The name, escapes resolved.
        name: &'static str,
        /// The second key.
        at: usize,
    },
    /// The body is too long for the spans.
    TooLarge,
}

impl ScanError {
    /// The byte of the fault, if it is one byte's.
    pub fn at(&self) -> Option<usize> {
        match *self {
            Self::NotJson { at, .. }
            | Self::NotUtf8 { at }
            | Self::NotAnObject { at }
            | Self::TooDeep { at }
            | Self::TooManyMembers { at }
            | Self::Duplicate { at, .. } => Some(at),
            Self::TooLarge => None,
        }
    }
}

/// Scans `body` in time linear in its length. Beyond the list of members it allocates only names it has to decode.
///
/// # Errors
/// The first fault found: of the length, then of UTF-8, then of the JSON from left to right.
pub fn scan(body: &[u8]) -> Result<Scan, ScanError> {
    if u32::try_from(body.len()).is_err() {
        return Err(ScanError::TooLarge);
    }
    let mut reader = Reader::new(body);
    let found = document(&mut reader);
    if_text(&reader, found)
}

/// Checks that `json` is valid UTF-8 and one valid JSON value of any kind, at most [`MAX_DEPTH`] levels deep.
///
/// # Errors
/// The first fault found: of UTF-8, then of the JSON from left to right.
pub fn check(json: &[u8]) -> Result<(), ScanError> {
    let mut reader = Reader::new(json);
    reader.skip_space();
    let read = reader.value().and_then(|_| {
        reader.skip_space();
        match reader.peek() {
            None => Ok(()),
            Some(_) => Err(reader.expected("nothing after the value")),
        }
    });
    if_text(&reader, read)
}

/// What `reader` found in its body, if that is UTF-8: which what it has read to the end and is ASCII must be.
fn if_text<T>(reader: &Reader<'_>, found: Step<T>) -> Result<T, ScanError> {
    if found.is_err() || !reader.is_ascii() {
        let body = reader.body();
        simdutf8::basic::from_utf8(body).map_err(|_| {
            // The quick check does not say where.
            let at = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
            ScanError::NotUtf8 { at }
        })?;
    }
    found.map_err(|error| *error)
}

fn document(reader: &mut Reader<'_>) -> Step<Scan> {
    reader.skip_space();
    let start = reader.at();
    if !reader.take(b'{') {
        return Err(match reader.peek() {
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                Box::new(ScanError::NotAnObject { at: start })
            }
            _ => reader.expected("an object"),
        });
    }
    let mut scan = Scan { object: 0..0, members: Vec::with_capacity(16), model: Model::Absent, stream: None };
    reader.skip_space();
    if !reader.take(b'}') {
        members(reader, &mut scan)?;
    }
    scan.object = span(start, reader.at());
    reader.skip_space();
    match reader.peek() {
        None => Ok(scan),
        Some(_) => Err(reader.expected("nothing after the object")),
    }
}

/// The members of the outermost object, from its first key to just behind its `}`.
fn members(reader: &mut Reader<'_>, scan: &mut Scan) -> Step<()> {
    loop {
        let start = reader.at();
        if scan.members.len() == MAX_MEMBERS {
            return Err(Box::new(ScanError::TooManyMembers { at: start }));
        }
        reader.key()?;
        let key = span(start, reader.at());
        reader.colon()?;
        let start = reader.at();
        reader.value()?;
        scan.note(reader.body(), Member { key, value: span(start, reader.at()) })?;
        reader.skip_space();
        if reader.take(b'}') {
            return Ok(());
        }
        if !reader.take(b',') {
            return Err(reader.expected("`,` or `}`"));
        }
        reader.skip_space();
    }
}

/// The whole numbers under `names` in the object at the start of `json`, which may go on behind it: 0 for one that is
/// not there. `None` if that is no sound object, or a number is not whole, negative or beyond `u64`.
#[must_use]
pub fn numbers<const N: usize>(json: &[u8], names: [&str; N]) -> Option<[u64; N]> {
    let (mut reader, mut found) = (Reader::new(json), [0; N]);
    reader.skip_space();
    if !reader.take(b'{') {
        return None;
    }
    reader.skip_space();
    if reader.take(b'}') {
        return Some(found);
    }
    loop {
        let start = reader.at();
        reader.key().ok()?;
        let key = json.get(start + 1..reader.at() - 1)?;
        reader.colon().ok()?;
        let start = reader.at();
        reader.value().ok()?;
        if let Some(at) = names.iter().position(|name| name.as_bytes() == key) {
            found[at] = whole(json.get(start..reader.at())?)?;
        }
        reader.skip_space();
        if reader.take(b'}') {
            return Some(found);
        }
        if !reader.take(b',') {
            return None;
        }
        reader.skip_space();
    }
}

impl Scan {
    /// The first member of that name, escapes in its key resolved. `body` must be the body that was scanned.
    #[must_use]
    pub fn find(&self, body: &[u8], name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.is_named(body, name))
    }

    fn note(&mut self, body: &[u8], member: Member) -> Step<()> {
        if let Some(name) = weighed(bytes(body, &member.key)) {
            if self.find(body, name).is_some() {
                return Err(Box::new(ScanError::Duplicate { name, at: member.key.start as usize }));
            }
            match (name, bytes(body, &member.value)) {
                (MODEL, _) => self.model = Model::read(body, member.value.clone()),
                (_, b"true") => self.stream = Some(true),
                (_, b"false") => self.stream = Some(false),
                _ => {}
            }
        }
        self.members.push(member);
        Ok(())
    }
}

impl Member {
    /// Whether the key is `name`, escapes resolved. `body` must be the body that was scanned.
    #[must_use]
    pub fn is_named(&self, body: &[u8], name: &str) -> bool {
        let key = bytes(body, &self.key);
        let plain = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
        // An escape is longer than what it stands for.
        let may_spell = plain.len() > name.len() && memchr::memchr(b'\\', plain).is_some();
        plain == name.as_bytes() || (may_spell && text(key).is_some_and(|key| key == name))
    }
}

impl Model {
    fn read(body: &[u8], span: Range<u32>) -> Self {
        match text(bytes(body, &span)) {
            Some(name) => Self::Text(span, name),
            None => Self::Other(span),
        }
    }
}

impl std::error::Error for ScanError {}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { at, expected } => write!(f, "not JSON at byte {at}: expected {expected}"),
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::NotAnObject { at } => {
                write!(f, "not a JSON object: another kind of value starts at byte {at}")
            }
            Self::TooDeep { at } => write!(f, "nested more than {MAX_DEPTH} levels deep at byte {at}"),
            Self::TooManyMembers { at } => write!(f, "more than {MAX_MEMBERS} fields at byte {at}"),
            Self::Duplicate { name, at } => write!(f, "`{name}` stands a second time at byte {at}"),
            Self::TooLarge => write!(f, "longer than {} bytes", u32::MAX),
        }
    }
}

/// The bytes of a span; none if it lies outside of `body`.
fn bytes<'a>(body: &'a [u8], span: &Range<u32>) -> &'a [u8] {
    body.get(span.start as usize..span.end as usize).unwrap_or_default()
}

/// Which of the two names that may stand but once this key is.
fn weighed(key: &[u8]) -> Option<&'static str> {
    let plain = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    let spelt = |key: &str| [MODEL, STREAM].into_iter().find(|name| key == *name);
    match plain {
        b"model" => Some(MODEL),
        b"stream" => Some(STREAM),
        _ if memchr::memchr(b'\\', plain).is_some() => text(key).as_deref().and_then(spelt),
        _ => None,
    }
}

/// What a JSON string stands for; `None` if it is no string or stands for no text.
fn text(json: &[u8]) -> Option<String> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        return serde_json::from_slice(json).ok();
    }
    str::from_utf8(inner).ok().map(str::to_owned)
}

/// A whole number, if it is one and not beyond `u64`.
fn whole(json: &[u8]) -> Option<u64> {
    json.iter().try_fold(0_u64, |number, digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit) }
    })
}

/// Offsets as a span: they fit, for the body does.
const fn span(start: usize, end: usize) -> Range<u32> {
    start as u32..end as u32
}
