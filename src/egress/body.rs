//! A response body that brings its connection back when it has been read to the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::error::LineError;
use super::http1::Line;
use super::pool::Pool;
use super::shared::Slot;
use crate::tasks::Seat;

/// The body of a response. Read to its end, its connection is used again; dropped before, the connection is closed
/// at once, or of HTTP/2 the stream reset, so that the upstream stops working for nobody.
#[derive(Debug)]
pub struct Body(From);

/// Where the rest of it comes from.
#[derive(Debug)]
enum From {
    /// Nothing is left.
    Nowhere,
    /// A connection of its own.
    Line(Lent),
    /// A stream of a shared connection.
    Slot { incoming: Incoming, slot: Slot },
}

/// A connection that is busy with one answer, and where it goes back to.
#[derive(Debug)]
struct Lent {
    line: Box<Line>,
    pool: Arc<Pool>,
    seat: Seat,
}

impl Body {
    pub(super) fn new(line: Box<Line>, pool: &Arc<Pool>, seat: Seat) -> Self {
        let mut body = Self(From::Line(Lent { line, pool: Arc::clone(pool), seat }));
        body.give_back_if_over();
        body
    }

    /// The body of an answer on a stream of its own.
    pub(super) fn of_stream(incoming: Incoming, slot: Slot) -> Self {
        let mut body = Self(From::Slot { incoming, slot });
        body.give_back_if_over();
        body
    }

    fn give_back_if_over(&mut self) {
        let is_over = match &self.0 {
            From::Nowhere => false,
            From::Line(lent) => lent.line.is_over(),
            From::Slot { incoming, .. } => http_body::Body::is_end_stream(incoming),
        };
        if is_over
            && let From::Line(Lent { line, pool, seat }) = std::mem::replace(&mut self.0, From::Nowhere)
        {
            pool.give_back(seat, line);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = LineError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LineError>>> {
        let frame = match &mut self.0 {
            From::Nowhere => return Poll::Ready(None),
            From::Line(lent) => ready!(lent.line.poll_frame(cx)).map(|data| data.map(Frame::data)),
            From::Slot { incoming, slot } => {
                ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| frame.map_err(|it| slot.explain(it)))
            }
        };
        match &frame {
            Some(Ok(_)) => self.give_back_if_over(),
            // A line is at its end then too.
            None if matches!(self.0, From::Line(_)) => self.give_back_if_over(),
            None | Some(Err(_)) => self.0 = From::Nowhere,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            From::Nowhere => true,
            From::Line(_) => false,
            From::Slot { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            From::Nowhere => SizeHint::with_exact(0),
            From::Line(lent) => lent.line.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            From::Slot { incoming, .. } => incoming.size_hint(),
        }
    }
}
