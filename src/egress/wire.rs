//! The socket under a connection, and the few facts about it that the sender of HTTP/2 needs.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::ProtocolVersion;
use rustls::client::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

use crate::joined;

/// What sender and socket of one connection of HTTP/2 tell each other. Both live on one thread: nothing is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    abandoned: AtomicBool,
    /// Who waits for the socket to take more.
    blocked: AtomicWaker,
    /// Told of all that comes.
    news: Notify,
    /// How many times something came.
    heard: AtomicU64,
    ended: OnceLock<Option<rustls::Error>>,
    /// The socket would take no more.
    broke: AtomicBool,
    /// Nobody speaks on the socket any more.
    closed: AtomicBool,
}

impl Pulse {
    /// Nobody wants the connection any more: it must close without waiting for the peer.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        // A peer that does not read would else keep connection and request as long as it likes.
        self.blocked.wake();
    }

    /// Waits for the next bytes, or the end.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// How many times something has come: the same number later means silence in between.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether the connection was closed from this side, although the socket was well and requests were open: its peer
    /// was asked whether it is there, and did not say so.
    pub(super) fn was_given_up(&self) -> bool {
        let was_well = !self.has_ended() && !self.broke.load(Ordering::Relaxed) && !self.is_abandoned();
        was_well && self.closed.load(Ordering::Relaxed)
    }

    /// Whether nothing comes any more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// The failure of TLS that ended it, if one did.
    pub(super) fn tls_failure(&self) -> Option<&rustls::Error> {
        self.ended.get()?.as_ref()
    }

    /// Tells of what a read brought to who waits for it.
    fn tell(&self, read: &Result<usize, &io::Error>) {
        let end = match read {
            Ok(0) => Some(None),
            Ok(_) => None,
            Err(error) => Some(error.get_ref().and_then(|inner| inner.downcast_ref()).cloned()),
        };
        if let Some(end) = end {
            self.ended.get_or_init(|| end);
        }
        self.heard.store(self.heard() + 1, Ordering::Relaxed);
        self.news.notify_one();
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// A connected socket under HTTP/2.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    pulse: Arc<Pulse>,
}

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP, shaken hands.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS through a proxy that speaks TLS itself.
    Nested(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Does `$call` with the stream itself, whatever carries it.
macro_rules! with {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            Stream::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Stream::Tls($io) => {
                let $io = Pin::new($io);
                $call
            }
            Stream::Nested($io) => {
                let $io = Pin::new($io);
                $call
            }
            Stream::Unix($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl Stream {
    /// What was agreed on where TLS is spoken: with the endpoint, not with a proxy.
    pub(super) fn session(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(io) => Some(io.get_ref().1),
            Self::Nested(io) => Some(io.get_ref().1),
        }
    }

    /// The socket below all else, if it is one of TCP.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(io) => Some(io),
            Self::Tls(io) => Some(io.get_ref().0),
            Self::Nested(io) => Some(io.get_ref().0.get_ref().0),
            Self::Unix(_) => None,
        }
    }

    /// Whether the other side may ask for another handshake: TLS 1.3 knows none.
    pub(super) fn is_renegotiable(&self) -> bool {
        self.session().and_then(|it| it.protocol_version()) == Some(ProtocolVersion::TLSv1_2)
    }

    /// Whether HTTP/2 was agreed on (RFC 7301).
    pub(super) fn speaks_http2(&self) -> bool {
        self.session().and_then(|it| it.alpn_protocol()) == Some(b"h2")
    }

    /// Whether TLS is spoken on it.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Nested(_))
    }

    /// Waits until something may be read, as far as that can be told without reading it.
    pub(super) fn poll_news(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(io) => io.poll_read_ready(cx),
            Self::Unix(io) => io.poll_read_ready(cx),
            Self::Tls(_) | Self::Nested(_) => Poll::Ready(Ok(())),
        }
    }

    /// Asks the system what is there to be read, and leaves it there.
    pub(super) fn look(&self) -> Seen {
        let socket = match self {
            Self::Plain(io) => io.as_fd(),
            Self::Tls(io) => io.get_ref().0.as_fd(),
            Self::Nested(io) => io.get_ref().0.get_ref().0.as_fd(),
            Self::Unix(io) => io.as_fd(),
        };
        match rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Seen::End,
            Ok(_) => Seen::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Seen::Nothing,
            Err(_) => Seen::End,
        }
    }
}

/// What is there to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing, yet.
    Nothing,
    /// Something: of TLS not necessarily an answer.
    Bytes,
    /// The other side has closed.
    End,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with!(self.get_mut(), io => io.poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        with!(self.get_mut(), io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => joined::poll_write(Pin::new(io), cx, pieces),
            Self::Unix(io) => joined::poll_write(Pin::new(io), cx, pieces),
            // TLS puts them together itself.
            tls => with!(tls, io => io.poll_write_vectored(cx, pieces)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self.get_mut(), io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self.get_mut(), io => io.poll_shutdown(cx))
    }
}

impl Wire {
    pub(super) fn new(stream: Stream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    /// Refuses to write for nobody: else a peer that does not read would keep an abandoned connection open.
    fn wanted(&self) -> io::Result<()> {
        if self.pulse.is_abandoned() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Notes who is to be called if the connection is abandoned while the socket takes nothing. What it takes no more, because
    /// its peer has left, counts as written: a peer that leaves says last what it has begun (`GOAWAY`) or why it refuses, and
    /// h2 would end the connection without having read that. Behind it comes the end, and tells of itself.
    fn note(
        &self,
        wrote: Poll<io::Result<usize>>,
        asked: usize,
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Pending => self.pulse.blocked.register(cx.waker()),
            Poll::Ready(Err(error)) => {
                self.pulse.broke.store(true, Ordering::Relaxed);
                if has_left(error) {
                    return Poll::Ready(Ok(asked));
                }
            }
            Poll::Ready(Ok(_)) => {}
        }
        wrote
    }
}

/// Whether a write failed because nobody is there any more: then reading comes to an end too.
fn has_left(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.pulse.closed.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let room = into.remaining();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, into));
        if room > 0 {
            self.pulse.tell(&read.as_ref().map(|()| into.filled().len() - before));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wanted()?;
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(wrote, bytes.len(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wanted()?;
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note(wrote, pieces.iter().map(|piece| piece.len()).sum(), cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wanted()?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0);
        self.note(flushed, 0, cx).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goodbye = Pin::new(&mut self.stream).poll_shutdown(cx);
        // A TLS goodbye that the socket does not take at once is not waited for: closing says it too.
        if goodbye.is_pending() { Poll::Ready(Ok(())) } else { goodbye }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::task::Waker;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_a_peer_said_last_is_read_though_nothing_more_can_be_written_to_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let pulse = Arc::new(Pulse::default());
        let mut wire = Wire::new(Stream::Plain(near), Arc::clone(&pulse));
        let mut cx = Context::from_waker(Waker::noop());
        let mut into = [0; 64];
        assert!(Pin::new(&mut wire).poll_read(&mut cx, &mut ReadBuf::new(&mut into)).is_pending());
        far.write_all(b"goodbye").unwrap();
        socket2::SockRef::from(&far).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(far);
        // Not once left to the runtime: it would tell that there is something to read.
        while !pulse.broke.load(Ordering::Relaxed) {
            let wrote = Pin::new(&mut wire).poll_write(&mut cx, b"request");
            assert!(matches!(wrote, Poll::Ready(Ok(7))), "{wrote:?}");
        }
        assert!(matches!(Pin::new(&mut wire).poll_flush(&mut cx), Poll::Ready(Ok(()))));
        let read = wire.read(&mut into).await.unwrap();
        assert_eq!(&into[..read], b"goodbye");
        assert!(matches!(wire.read(&mut into).await, Ok(0) | Err(_)));
        assert!(pulse.has_ended());
    }
}
