//! Bytes to events and events to bytes, with no socket in sight.

pub mod eventstream;
pub mod json_array;
pub mod ndjson;
pub mod sse;

use std::ops::Deref;

use bytes::BytesMut;

/// An event or a line that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one event of the upstream's stream is longer than {0} bytes (limits.max_event)")]
pub struct TooLong(pub usize);

/// Bytes that end where an event or a line ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Complete<'i> {
    /// The beginning of the input, or all of it, not copied.
    Input(&'i [u8]),
    /// What had been held and what completed it.
    Joined(BytesMut),
}

impl Deref for Complete<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Input(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}
