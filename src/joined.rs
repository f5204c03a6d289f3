//! Small pieces go out as one.
//!
//! A head and a short body, or the three pieces of a chunk, cost the system more as a list of pieces than it costs to put
//! them behind one another.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Up to this many bytes are joined; more are not worth the copy.
const MOST: usize = 4 << 10;

thread_local! {
    /// Room for pieces on their way: one for all connections of a thread, so that it stays in the processor's cache.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Writes `pieces` to `socket` in one piece if they are small, else as they are; how many bytes it took. As with
/// [`AsyncWrite::poll_write_vectored`], it may take only some of them.
pub fn poll_write<W: AsyncWrite>(
    socket: Pin<&mut W>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [one] = pieces {
        return socket.poll_write(cx, one);
    }
    let is_small = pieces.iter().try_fold(MOST, |left, piece| left.checked_sub(piece.len())).is_some();
    if !is_small {
        return socket.poll_write_vectored(cx, pieces);
    }
    let mut joined = ROOM.take();
    joined.clear();
    joined.reserve(MOST);
    for piece in pieces {
        joined.extend_from_slice(piece);
    }
    let wrote = socket.poll_write(cx, &joined);
    ROOM.set(joined);
    wrote
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// What was written, one entry a call.
    #[derive(Default)]
    struct Calls(Vec<(&'static str, Vec<u8>)>);

    impl AsyncWrite for Calls {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(("one", bytes.to_vec()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            let len = all.len();
            self.0.push(("many", all));
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_pieces_are_written_as_one_and_large_ones_as_they_are() {
        let mut calls = Calls::default();
        let (short, long) = (vec![b'x'; 100], vec![b'y'; MOST]);
        for pieces in [[&short[..], b"tail"], [&long, b""], [&long, b"z"], [b"head", b"tail"]] {
            let slices = pieces.map(IoSlice::new);
            let taken = poll_fn(|cx| poll_write(Pin::new(&mut calls), cx, &slices)).await.unwrap();
            let (_, written) = calls.0.last().unwrap();
            assert_eq!((taken, written), (pieces.concat().len(), &pieces.concat()));
        }
        let alone = poll_fn(|cx| poll_write(Pin::new(&mut calls), cx, &[IoSlice::new(&long)])).await.unwrap();
        assert_eq!(alone, MOST);
        let ways: Vec<_> = calls.0.iter().map(|(way, _)| *way).collect();
        assert_eq!(ways, ["one", "one", "many", "one", "one"]);
    }
}
