//! What a client still sends behind the last answer on its connection: read and thrown away for a while. Closed with
//! something unread, the connection would be reset, and the client might lose the answer (RFC 9112 §9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// How much is read, in bytes, and for how long.
const MOST: usize = 128 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// How much is read at once, in bytes.
const STEP: usize = 16 << 10;

/// The rest of what comes on one connection.
#[derive(Debug, Default)]
pub(super) struct Remainder {
    read: usize,
    until: Option<Pin<Box<Sleep>>>,
}

impl Remainder {
    /// Ready once the client has ended too, or has had its time.
    pub(super) fn poll<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()>
    where
        S: AsyncRead + Unpin,
    {
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut room = [0; STEP];
        while self.read < MOST {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.read += buf.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }

    /// Whether nothing has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.read == 0
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_read_until_the_client_ends() {
        let (mut client, mut server) = tokio::io::duplex(64);
        let mut remainder = Remainder::default();
        let sending = async {
            client.write_all(&[b'x'; 1000]).await.unwrap();
            drop(client);
        };
        let begun = Instant::now();
        tokio::join!(poll_fn(|cx| remainder.poll(&mut server, cx)), sending);
        assert_eq!((remainder.read, begun.elapsed()), (1000, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_end_has_its_time() {
        let (_client, mut server) = tokio::io::duplex(64);
        let begun = Instant::now();
        let mut remainder = Remainder::default();
        poll_fn(|cx| remainder.poll(&mut server, cx)).await;
        assert!(begun.elapsed() >= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_and_on_is_left() {
        let mut endless = tokio::io::repeat(b'x');
        let begun = Instant::now();
        let mut remainder = Remainder::default();
        poll_fn(|cx| remainder.poll(&mut endless, cx)).await;
        assert!(remainder.read >= MOST && remainder.read < MOST + STEP && begun.elapsed() < PATIENCE);
    }
}
