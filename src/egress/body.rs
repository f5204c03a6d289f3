//! A response body that brings its connection back when it has been read to the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Line, Pool};
use super::shared::Slot;
use crate::tasks::{Seat, hush};

/// The body of a response. Read to its end, its connection is used again; dropped before, the connection is closed
/// at once, or of HTTP/2 the stream reset, so that the upstream stops working for nobody.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    held: Held,
}

/// What an answer keeps until it has been read.
#[derive(Debug)]
enum Held {
    Nothing,
    /// A connection of its own.
    Line(Lent),
    /// A stream of a shared connection.
    Slot {
        _slot: Slot,
    },
}

/// A connection that is busy with one answer, and where it goes back to.
#[derive(Debug)]
struct Lent {
    line: Box<Line>,
    pool: Arc<Pool>,
    seat: Seat,
}

impl Body {
    pub(super) fn new(incoming: Incoming, line: Box<Line>, pool: &Arc<Pool>, seat: Seat) -> Self {
        let held = Held::Line(Lent { line, pool: Arc::clone(pool), seat });
        Self { incoming, held }.given_back_if_over()
    }

    /// The body of an answer on a stream of its own.
    pub(super) fn of_stream(incoming: Incoming, slot: Slot) -> Self {
        Self { incoming, held: Held::Slot { _slot: slot } }.given_back_if_over()
    }

    fn given_back_if_over(mut self) -> Self {
        let body = &mut self;
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        self
    }

    fn give_back(&mut self) {
        if let Held::Line(Lent { line, pool, seat }) = std::mem::replace(&mut self.held, Held::Nothing) {
            pool.give_back(seat, line);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(hush::poll_frame(&mut self.incoming, cx));
        match &frame {
            None => self.give_back(),
            Some(Ok(_)) if self.incoming.is_end_stream() => self.give_back(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.held = Held::Nothing,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Before `incoming`: its end wakes the connection, which must then find itself abandoned.
        if matches!(self.held, Held::Line(_)) {
            self.held = Held::Nothing;
        }
    }
}
