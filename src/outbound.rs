//! A provider request before it may leave (`Unsigned`) and after (`Signed`), and the report of what a translation
//! could not carry.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// A body as slices of what came in and what was put between them: spliced, never copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(Vec<Bytes>);

impl Segments {
    /// A body of one piece.
    pub fn one(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }

    /// A body of several pieces, sent one after the other.
    pub fn many(pieces: Vec<Bytes>) -> Self {
        Self(pieces)
    }

    /// The length of all pieces together, in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// The pieces, in order.
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.0
    }

    /// The whole as one piece; copies only if there is more than one.
    pub fn joined(&self) -> Bytes {
        match self.0.as_slice() {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

/// A provider request that does not yet carry its right to enter.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// The method, nearly always POST.
    pub method: Method,
    /// What the format appends to the integration's endpoint, beginning with `/`, query included
    /// (`/v1/messages`); the integration's own `path` and `query` are put on top of it.
    pub tail: Cow<'static, str>,
    /// The absolute URL; set by `integration.dress` from `tail`.
    pub uri: Uri,
    /// Content headers and those that the format asks for; `host` and framing are the egress' own.
    pub headers: HeaderMap,
    /// The body.
    pub body: Segments,
}

impl Unsigned {
    /// A request to `tail` with `headers` and `body`; its URL is filled in by `integration.dress`. It stays where it
    /// is from here until it leaves: handed on by value it would be copied at each step.
    pub fn new(
        method: Method,
        tail: impl Into<Cow<'static, str>>,
        headers: HeaderMap,
        body: Segments,
    ) -> Box<Self> {
        Box::new(Self { method, tail: tail.into(), uri: Uri::default(), headers, body })
    }

    /// Makes it ready to leave. Only `auth` may call this: the architecture test says so. `stamp` tells which
    /// credential was put on, so that a refusal can be matched to it.
    pub fn seal(self: Box<Self>, stamp: Stamp) -> Signed {
        Signed { request: self, stamp }
    }
}

/// Which credential a request carries: 0 for one that never changes, else the number of the token's fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(pub u64);

/// A provider request with everything that it needs to enter. Not `Clone`: it is sent once.
#[derive(Debug)]
pub struct Signed {
    /// The request, its right to enter among the headers.
    pub request: Box<Unsigned>,
    /// Which credential was put on.
    pub stamp: Stamp,
}

/// What a translation changed: shown by `x-outrider-dropped`, metrics and `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every change, in the order it was made.
    pub changes: Vec<Change>,
}

/// One field that did not reach the provider as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was done to it.
    pub what: Done,
    /// The path of the field in the OpenAI body (`response_format.json_schema.schema.minimum`).
    pub field: Cow<'static, str>,
    /// Why, in words that a user can act on.
    pub why: Cow<'static, str>,
}

/// What was done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Left out: the format has no place for it.
    Dropped,
    /// Sent under another name by configuration.
    Renamed,
    /// Sent with another value (clamped, mapped).
    Changed,
    /// Set because the client gave none.
    Defaulted,
}

impl Report {
    /// Notes that `field` was left out.
    pub fn dropped(&mut self, field: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) {
        self.note(Done::Dropped, field, why);
    }

    /// Notes that `field` was sent with another value.
    pub fn changed(&mut self, field: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) {
        self.note(Done::Changed, field, why);
    }

    /// Notes one change.
    pub fn note(
        &mut self,
        what: Done,
        field: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) {
        self.changes.push(Change { what, field: field.into(), why: why.into() });
    }

    /// The fields that were left out or sent with another value, in order: what `x-outrider-dropped` lists.
    pub fn lost(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| matches!(c.what, Done::Dropped | Done::Changed))
    }
}
