//! What has come on a connection and nobody has taken yet.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio_util::io::poll_read_buf;

use super::super::wire::Stream;

/// Room for one read, in bytes: the least, and the most, for a peer that fills it each time.
const LEAST: usize = 4 << 10;
const MOST: usize = 128 << 10;
/// The least that is read into what is left of the room.
const ENOUGH: usize = 1 << 10;

thread_local! {
    /// Room that no connection of this thread needs at present. Thousands of streams wait for their next event, and few
    /// read at a time.
    static ROOM: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Bytes that have come, and the room for the next.
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    room: usize,
}

impl Input {
    /// Nothing, and no memory for it.
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), room: LEAST }
    }

    /// Waits for the next bytes of `stream`; 0 is its end.
    pub(super) fn poll_fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // First, whether something is there: who waits needs no memory.
        ready!(stream.poll_news(cx))?;
        if self.bytes.capacity() == 0 {
            self.bytes = ROOM.take().unwrap_or_default();
        }
        if self.spare() < ENOUGH.max(self.room / 4) {
            self.bytes.reserve(self.room);
        }
        let spare = self.spare();
        let Poll::Ready(read) = poll_read_buf(Pin::new(stream), cx, &mut self.bytes) else {
            self.leave();
            return Poll::Pending;
        };
        let read = read?;
        if read == spare {
            self.room = (self.room * 2).min(MOST);
        }
        Poll::Ready(Ok(read))
    }

    /// Leaves its room to others if nothing is in it. A peer that sends much at a time keeps it.
    pub(super) fn leave(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 && self.room == LEAST {
            ROOM.set(Some(std::mem::take(&mut self.bytes)));
        }
    }

    fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }
}
