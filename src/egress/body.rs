//! A response body that brings its connection back when it has been read to the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Line, Pool};
use crate::tasks::Seat;

/// The body of a response. Read to its end, its connection is used again; dropped before, the connection is closed
/// at once, so that the upstream stops working for nobody.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    lent: Option<Lent>,
}

/// A connection that is busy with one answer, and where it goes back to.
#[derive(Debug)]
struct Lent {
    line: Line,
    pool: Arc<Pool>,
    seat: Seat,
}

impl Body {
    pub(super) fn new(incoming: Incoming, line: Line, pool: &Arc<Pool>, seat: Seat) -> Self {
        let mut body = Self { incoming, lent: Some(Lent { line, pool: Arc::clone(pool), seat }) };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some(Lent { line, pool, seat }) = self.lent.take() {
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
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            None => self.give_back(),
            Some(Ok(_)) if self.incoming.is_end_stream() => self.give_back(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.lent = None,
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
        self.lent = None;
    }
}
