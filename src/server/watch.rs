//! Notices that a client has left while it is being answered.
//!
//! hyper would notice by reading ahead, for which it takes a new buffer of 8 KiB with each request. Here the system is
//! asked, and only when something has come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::listen::Stream;

/// A client's connection, writing to which fails once the client has left. hyper must be told to allow half-closed
/// connections: it looks by itself only while it reads.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// hyper waits for more to read: it looks by itself.
    reads: bool,
    /// The client has sent more than one request: behind it, its end cannot be seen.
    ahead: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, reads: false, ahead: false }
    }

    /// Fails if the client has left; else `cx` is called when it does.
    fn is_there(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.reads) || self.ahead {
            return Ok(());
        }
        match self.stream.poll_sent(cx) {
            Poll::Ready(Ok(true)) => self.ahead = true,
            Poll::Ready(Ok(false)) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {}
        }
        Ok(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        (self.reads, self.ahead) = (read.is_pending(), false);
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        if wrote.is_pending() {
            self.is_there(cx)?;
        }
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if wrote.is_pending() {
            self.is_there(cx)?;
        }
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper does so at the end of each of its turns.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_there(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    /// Both ends of a connection, on which `said` has been said and read.
    async fn ends(said: &[u8]) -> (Watched, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut near = Watched::new(Stream::Tcp(listener.accept().await.unwrap().0));
        far.write_all(said).await.unwrap();
        near.read_exact(&mut vec![0; said.len()]).await.unwrap();
        (near, far)
    }

    /// Why writing fails in the end, though nobody writes.
    async fn left(near: &mut Watched) -> io::Error {
        let failed = poll_fn(|cx| match Pin::new(&mut *near).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        });
        tokio::time::timeout(std::time::Duration::from_secs(30), failed).await.expect("nobody noticed")
    }

    #[tokio::test]
    async fn a_client_that_leaves_or_breaks_off_is_noticed_without_reading() {
        for breaks_off in [false, true] {
            let (mut near, far) = ends(b"request").await;
            near.flush().await.unwrap();
            if breaks_off {
                socket2::SockRef::from(&far).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
            let (_, error) = tokio::join!(async { drop(far) }, left(&mut near));
            let expected =
                if breaks_off { io::ErrorKind::ConnectionReset } else { io::ErrorKind::ConnectionAborted };
            assert_eq!(error.kind(), expected);
        }
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = Watched::new(Stream::Unix(near));
        near.flush().await.unwrap();
        let (_, error) = tokio::join!(async { drop(far) }, left(&mut near));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn what_a_client_sends_ahead_is_left_for_later() {
        let (mut near, mut far) = ends(b"request").await;
        far.write_all(b"next").await.unwrap();
        while !near.ahead {
            near.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut next = [0; 4];
        near.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"next");
        drop(far);
        assert_eq!(left(&mut near).await.kind(), io::ErrorKind::ConnectionAborted);
    }
}
