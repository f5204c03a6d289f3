//! Notices that a client has left while it is being answered.
//!
//! hyper would notice by reading ahead, for which it takes a new buffer of 8 KiB with each request; and once something has
//! come, it looks no more. Here the system is asked, and only when something has come. What a client sends ahead is taken
//! out of the way, so that its end is seen behind it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use super::listen::Heard;
use crate::tasks::bell::Bell;

/// How much of what a client sends ahead is taken, in bytes, as much as hyper would read by itself: behind more, its end
/// is only looked for from time to time, a goodbye of TLS is not seen, and behind more than the system's buffers hold in
/// addition, the end itself does not come until that is read.
const MOST: usize = 256 << 10;
/// With how much room taking begins, in bytes: it doubles when it is full.
const ROOM: usize = 8 << 10;
const LOOK: Duration = Duration::from_millis(250);

/// A client's connection, writing to which fails once the client has left. hyper must be told to allow half-closed
/// connections: it looks by itself only while it reads.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    /// hyper waits for more to read: it looks by itself.
    reads: bool,
    /// Something has come that hyper has not read.
    heard: bool,
    /// Tells that something may have come.
    bell: Bell,
    /// What of it was taken, which hyper reads first. It has room only while something is in it.
    ahead: BytesMut,
    /// When the end is looked for behind what there is no room for.
    look: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Heard + Unpin> Watched<S> {
    /// On `stream`, which is driven by the task of `bell`.
    pub(super) fn new(stream: S, bell: Bell) -> Self {
        Self { stream, reads: false, heard: false, bell, ahead: BytesMut::new(), look: None }
    }

    /// Fails if the client has left; else `cx` is called when it does.
    fn is_there(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.reads) {
            return Ok(());
        }
        if self.heard {
            return self.take(cx);
        }
        let Some(waker) = self.bell.rang(cx) else { return Ok(()) };
        match self.stream.poll_heard(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(Some(_))) => {
                self.heard = true;
                // It may be the rest of what hyper is reading, and is then read, not taken, at its next turn.
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Ok(None)) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Takes what has come, as long as there is room; fails if the client has left behind it.
    fn take(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let taken = self.ahead.len();
            if taken >= MOST {
                return self.look(cx);
            }
            if taken == self.ahead.capacity() {
                self.ahead.reserve(taken.max(ROOM));
            }
            let room = self.ahead.capacity().min(MOST) - taken;
            let mut into = (&mut self.ahead).limit(room);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut into) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.leave();
                    return Ok(());
                }
            }
        }
    }

    /// Fails if the client has left behind what is not taken, by an end or a break of its socket: a goodbye of TLS alone is
    /// not seen there; else `cx` is called to look again.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let timer = self.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
        while timer.as_mut().poll(cx).is_ready() {
            timer.set(tokio::time::sleep(LOOK));
        }
        if self.stream.has_left() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Gives back the room if nothing is in it.
    fn leave(&mut self) {
        if self.ahead.is_empty() {
            (self.ahead, self.heard, self.look) = (BytesMut::new(), false, None);
            self.bell.ring();
        }
    }
}

impl Heard for Box<TlsStream<TcpStream>> {
    /// What is sent may be TLS' own, and nothing to be read.
    fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        self.get_ref().0.poll_heard(cx)
    }

    fn has_left(&self) -> bool {
        self.get_ref().0.has_left()
    }
}

impl<S: AsyncRead + Heard + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(cx, buf);
            (self.reads, self.heard) = (read.is_pending(), false);
            // Who is to be called is another now.
            self.bell.ring();
            return read;
        }
        let some = buf.remaining().min(self.ahead.len());
        buf.put_slice(&self.ahead[..some]);
        self.ahead.advance(some);
        self.leave();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Heard + Unpin> AsyncWrite for Watched<S> {
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

    use super::super::listen::Stream;
    use super::*;

    /// Both ends of a connection, on which `said` has been said and read.
    async fn ends(said: &[u8]) -> (Watched<Stream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut near = Watched::new(Stream::Tcp(listener.accept().await.unwrap().0), Bell::default());
        far.write_all(said).await.unwrap();
        near.read_exact(&mut vec![0; said.len()]).await.unwrap();
        (near, far)
    }

    /// Why writing fails in the end, though nobody writes.
    async fn left(near: &mut Watched<Stream>) -> io::Error {
        let failed = poll_fn(|cx| match Pin::new(&mut *near).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        });
        tokio::time::timeout(Duration::from_secs(30), failed).await.expect("nobody noticed")
    }

    /// Checks that writing fails once `far` has left, by a reset if it `breaks_off`.
    async fn is_noticed(near: &mut Watched<Stream>, far: TcpStream, breaks_off: bool) {
        if breaks_off {
            socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let (_, error) = tokio::join!(async { drop(far) }, left(near));
        let expected =
            if breaks_off { io::ErrorKind::ConnectionReset } else { io::ErrorKind::ConnectionAborted };
        assert_eq!(error.kind(), expected);
    }

    #[tokio::test]
    async fn a_client_that_leaves_or_breaks_off_is_noticed_without_reading() {
        for breaks_off in [false, true] {
            let (mut near, far) = ends(b"request").await;
            near.flush().await.unwrap();
            is_noticed(&mut near, far, breaks_off).await;
        }
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = Watched::new(Stream::Unix(near), Bell::default());
        near.flush().await.unwrap();
        let (_, error) = tokio::join!(async { drop(far) }, left(&mut near));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    /// Looks after the client until `done`.
    async fn watch(near: &mut Watched<Stream>, done: impl Fn(&Watched<Stream>) -> bool) {
        let done = poll_fn(|cx| match Pin::new(&mut *near).poll_flush(cx) {
            Poll::Ready(Ok(())) if done(near) => Poll::Ready(()),
            Poll::Ready(Ok(())) => Poll::Pending,
            other => panic!("{other:?}"),
        });
        tokio::time::timeout(Duration::from_secs(30), done).await.expect("it did not happen")
    }

    #[tokio::test]
    async fn what_a_client_sends_ahead_is_kept_for_later_and_its_end_is_seen_behind_it() {
        for breaks_off in [false, true] {
            let (mut near, mut far) = ends(b"request").await;
            far.write_all(b"next").await.unwrap();
            watch(&mut near, |near| near.ahead.len() == 4).await;
            far.write_all(b"more").await.unwrap();
            watch(&mut near, |near| near.ahead.len() == 8).await;
            let mut ahead = [0; 5];
            near.read_exact(&mut ahead).await.unwrap();
            assert_eq!(&ahead, b"nextm");
            near.flush().await.unwrap();
            is_noticed(&mut near, far, breaks_off).await;
        }
    }

    #[tokio::test]
    async fn what_is_taken_is_bounded_and_comes_in_order_and_leaves_no_room_behind() {
        let (mut near, mut far) = ends(b"request").await;
        let sent: Vec<u8> = (0..3 * MOST).map(|n| (n % 251) as u8).collect();
        let read = async {
            watch(&mut near, |near| near.ahead.len() == MOST).await;
            near.flush().await.unwrap();
            assert_eq!(near.ahead.len(), MOST);
            let mut read = vec![0; 3 * MOST];
            near.read_exact(&mut read).await.unwrap();
            read
        };
        // Both at once: what is not taken may have no room in the system's buffers either.
        let (wrote, read) = tokio::join!(far.write_all(&sent), read);
        wrote.unwrap();
        assert!(read == sent, "not what was sent");
        assert_eq!(near.ahead.capacity(), 0);
        let (_, error) = tokio::join!(async { drop(far) }, left(&mut near));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_client_that_leaves_behind_more_than_is_taken_is_noticed() {
        for breaks_off in [false, true] {
            let (mut near, mut far) = ends(b"request").await;
            // One byte more: an end behind more than the system's own buffers hold would not come.
            let sent = vec![b'x'; MOST + 1];
            let (wrote, ()) =
                tokio::join!(far.write_all(&sent), watch(&mut near, |near| near.ahead.len() == MOST));
            wrote.unwrap();
            if breaks_off {
                socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
            }
            let (_, error) = tokio::join!(async { drop(far) }, left(&mut near));
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        }
    }

    #[tokio::test]
    async fn what_is_read_at_the_next_turn_is_not_taken() {
        let (mut near, mut far) = ends(b"request").await;
        far.write_all(b"rest").await.unwrap();
        watch(&mut near, |near| near.heard).await;
        assert_eq!(near.ahead.capacity(), 0);
        let mut rest = [0; 4];
        near.read_exact(&mut rest).await.unwrap();
        assert!(&rest == b"rest" && !near.heard);
    }
}
