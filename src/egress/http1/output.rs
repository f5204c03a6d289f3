//! A request on its way out: its head and the pieces of its body, as they are, in as few writes as they fit in.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::outbound::Segments;

/// The most pieces that go into one write.
const MOST: usize = 16;

/// What is still to be written of a request.
#[derive(Default)]
pub(super) struct Output {
    /// Empty once it is written.
    head: Vec<u8>,
    pieces: Vec<Bytes>,
    /// Pieces that are written.
    done: usize,
    /// Bytes that are written of the head, or of the first piece that is not done.
    written: usize,
    begun: bool,
    /// Not all is written, or some of it not sent.
    open: bool,
}

impl Output {
    pub(super) fn new(head: Vec<u8>, body: Segments) -> Self {
        Self { head, pieces: body.into_pieces(), open: true, ..Self::default() }
    }

    /// Nothing more, of a request that has been begun.
    pub(super) fn sent() -> Self {
        Self { begun: true, ..Self::default() }
    }

    /// Whether all of it is sent.
    pub(super) fn is_done(&self) -> bool {
        !self.open
    }

    /// Whether a byte of it was written.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The body, if no byte of the request was written.
    pub(super) fn take_unsent(&mut self) -> Option<Segments> {
        (!self.begun).then(|| Segments::many(std::mem::take(self).pieces))
    }

    /// Writes to `stream` what it takes; ready once all is written. The first write is of at most `first` bytes: where that
    /// fails, nothing was sent.
    pub(super) fn poll<S>(
        &mut self,
        mut stream: Pin<&mut S>,
        first: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncWrite,
    {
        loop {
            let mut slices = [IoSlice::new(&[]); MOST];
            let count = self.gather(&mut slices, if self.begun { usize::MAX } else { first });
            if count == 0 {
                ready!(stream.poll_flush(cx))?;
                *self = Self::sent();
                return Poll::Ready(Ok(()));
            }
            let wrote = match &slices[..count] {
                [one] => ready!(stream.as_mut().poll_write(cx, one))?,
                many => ready!(stream.as_mut().poll_write_vectored(cx, many))?,
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.advance(wrote);
        }
    }

    /// Puts what comes next into `slices`, at most `most` bytes; how many there are.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; MOST], mut most: usize) -> usize {
        let head = (!self.head.is_empty()).then_some(self.head.as_slice());
        let pieces = self.pieces[self.done..].iter().map(|piece| &piece[..]);
        let mut skipped = self.written;
        let rest = head.into_iter().chain(pieces).map(|piece| &piece[std::mem::take(&mut skipped)..]);
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(rest.filter(|piece| !piece.is_empty())) {
            if most == 0 {
                break;
            }
            let piece = &piece[..piece.len().min(most)];
            most -= piece.len();
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, wrote: usize) {
        self.written += wrote;
        if !self.head.is_empty() {
            if self.written < self.head.len() {
                return;
            }
            self.written -= self.head.len();
            self.head = Vec::new();
        }
        while let Some(piece) = self.pieces.get_mut(self.done)
            && self.written >= piece.len()
        {
            self.written -= piece.len();
            // Its memory is not needed any more, and may be large.
            *piece = Bytes::new();
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes at a time, and keeps them.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let some = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..some]);
            Poll::Ready(Ok(some))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(self.0).collect();
            self.1.extend_from_slice(&all);
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn all_bytes_go_out_in_order_however_few_are_taken_at_a_time(
            head in prop::collection::vec(any::<u8>(), 1..100),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..40),
            width in 1usize..200,
            first in 1usize..200,
        ) {
            let all = [head.clone(), pieces.concat()].concat();
            let mut output = Output::new(head, Segments::many(pieces.into_iter().map(Bytes::from).collect()));
            let mut sink = Narrow(width, Vec::new());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            prop_assert!(matches!(output.poll(Pin::new(&mut sink), first, &mut cx), Poll::Ready(Ok(()))));
            prop_assert!(output.is_done());
            prop_assert_eq!(sink.1, all);
        }
    }

    #[test]
    fn the_body_comes_back_only_if_nothing_was_written() {
        let body = || Segments::many(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        let mut output = Output::new(b"head".to_vec(), body());
        assert_eq!(output.take_unsent(), Some(body()));
        let mut output = Output::new(b"head".to_vec(), body());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(output.poll(Pin::new(&mut Narrow(5, Vec::new())), 3, &mut cx).is_ready());
        assert_eq!(output.take_unsent(), None);
    }
}
