//! The body of an answer, as hyper takes it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::ended::Stay;
use crate::proxy::relay::Relay;
use crate::proxy::whole::{Cut, Whole};
use crate::tasks::bell::Bell;

/// The body of an answer. Dropped before its end, the client has left: the upstream is closed and the slot is free.
#[derive(Debug)]
pub struct Answer(Kind);

#[derive(Debug)]
enum Kind {
    /// All at once. The visit ends when the body is dropped.
    Full(Option<Bytes>, Option<Stay>),
    Whole(Whole),
    Stream(Box<Relay>),
}

impl Answer {
    pub(super) fn full(json: Bytes, visit: Stay) -> Self {
        Self(Kind::Full(Some(json), Some(visit)))
    }

    /// A body that nobody visits for: the answer to a request whose handling panicked.
    pub(super) fn bare(json: Bytes) -> Self {
        Self(Kind::Full(Some(json), None))
    }

    pub(super) fn whole(whole: Whole) -> Self {
        Self(Kind::Whole(whole))
    }

    pub(super) fn stream(relay: Relay) -> Self {
        Self(Kind::Stream(Box::new(relay)))
    }

    /// Its quiet things call the connection's task by a bell like `bell`: a stream alone has some.
    pub fn call_by(&mut self, bell: &Bell) {
        if let Kind::Stream(relay) = &mut self.0 {
            relay.call_by(bell.another());
        }
    }

    /// Notes that the client is given up: it took nothing of this for `patience`.
    pub fn stalled(&mut self, patience: Duration) {
        match &mut self.0 {
            Kind::Full(_, None) => {}
            Kind::Full(_, Some(visit)) => visit.stalled(patience),
            Kind::Whole(whole) => whole.visit().stalled(patience),
            Kind::Stream(relay) => relay.visit().stalled(patience),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.0 {
            Kind::Full(bytes, visit) => {
                if let (Some(bytes), Some(visit)) = (&*bytes, visit) {
                    visit.sent(bytes.len());
                }
                Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b))))
            }
            Kind::Whole(whole) => whole.poll(cx),
            Kind::Stream(relay) => relay.poll(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes, _) => bytes.is_none(),
            Kind::Whole(whole) => whole.is_end(),
            Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Whole(whole) => whole.size_hint(),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}
