//! The socket under a connection, and the few facts about it that outlive each request.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

/// Bytes that may arrive before a response head is complete: more is a flood of interim answers. One read of hyper's
/// is at most 408 KiB, and may bring a head and what follows it.
const MOST_BEFORE_HEAD: usize = 1 << 20;

/// What sender and socket of one connection tell each other. Both live on one thread: nothing is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    waiting: AtomicBool,
    heard: AtomicUsize,
    abandoned: AtomicBool,
    /// Who waits for the socket to take more.
    blocked: AtomicWaker,
    spoke_tls: AtomicBool,
    /// The other side may ask for another TLS handshake.
    renegotiable: bool,
    /// Told of all that comes, where somebody waits for it.
    news: Option<Notify>,
    ended: OnceLock<Option<rustls::Error>>,
}

/// The types of TLS records that a server may begin with: an alert, a handshake (RFC 8446 §5.1).
const RECORDS: [u8; 2] = [0x15, 0x16];

impl Pulse {
    /// A request goes out: from now on bytes are counted until its head has come.
    pub(super) fn asked(&self) {
        self.heard.store(0, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// The head has come.
    pub(super) fn answered(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Nobody wants the connection any more: it must close without waiting for the peer.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        // A peer that does not read would else keep connection and request as long as it likes.
        self.blocked.wake();
    }

    /// Whether what came where an answer should begin looks like TLS.
    pub(super) fn spoke_tls(&self) -> bool {
        self.spoke_tls.load(Ordering::Relaxed)
    }

    /// That of a connection of HTTP/1.1 on `stream`.
    pub(super) fn of(stream: &Stream) -> Self {
        Self { renegotiable: stream.is_renegotiable(), ..Self::default() }
    }

    /// Whether the other side may ask for another TLS handshake.
    pub(super) fn is_renegotiable(&self) -> bool {
        self.renegotiable
    }

    /// One whose news somebody waits for.
    pub(super) fn with_news() -> Self {
        Self { news: Some(Notify::new()), ..Self::default() }
    }

    /// Waits for the next bytes, or the end.
    pub(super) async fn news(&self) {
        if let Some(news) = &self.news {
            news.notified().await;
        }
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
        let Some(news) = &self.news else { return };
        let end = match read {
            Ok(0) => Some(None),
            Ok(_) => None,
            Err(error) => Some(error.get_ref().and_then(|inner| inner.downcast_ref()).cloned()),
        };
        if let Some(end) = end {
            self.ended.get_or_init(|| end);
        }
        news.notify_one();
    }

    fn count(&self, bytes: &[u8]) -> io::Result<()> {
        if !self.waiting.load(Ordering::Relaxed) {
            return Ok(());
        }
        let before = self.heard.fetch_add(bytes.len(), Ordering::Relaxed);
        if before == 0 && matches!(bytes, [kind, 0x03, ..] if RECORDS.contains(kind)) {
            self.spoke_tls.store(true, Ordering::Relaxed);
        }
        let heard = before + bytes.len();
        if heard > MOST_BEFORE_HEAD { Err(io::Error::other(Flood)) } else { Ok(()) }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// A peer that sends interim answers without end.
#[derive(Debug, thiserror::Error)]
#[error("more than {} KiB came without a response head", MOST_BEFORE_HEAD >> 10)]
pub(super) struct Flood;

/// A connected socket.
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
    /// Whether the other side may ask for another handshake: TLS 1.3 knows none.
    fn is_renegotiable(&self) -> bool {
        let version = match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(io) => io.get_ref().1.protocol_version(),
            Self::Nested(io) => io.get_ref().1.protocol_version(),
        };
        version == Some(ProtocolVersion::TLSv1_2)
    }

    /// Whether HTTP/2 was agreed on (RFC 7301).
    pub(super) fn speaks_http2(&self) -> bool {
        let protocol = match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(io) => io.get_ref().1.alpn_protocol(),
            Self::Nested(io) => io.get_ref().1.alpn_protocol(),
        };
        protocol == Some(b"h2")
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

    /// Notes who is to be called if the connection is abandoned while the socket takes nothing.
    fn blocked_if(&self, is_blocked: bool, cx: &Context<'_>) {
        if is_blocked {
            self.pulse.blocked.register(cx.waker());
        }
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
        let read = with!(&mut self.stream, io => ready!(io.poll_read(cx, into)));
        if room > 0 {
            self.pulse.tell(&read.as_ref().map(|()| into.filled().len() - before));
        }
        read?;
        Poll::Ready(self.pulse.count(&into.filled()[before..]))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wanted()?;
        let wrote = with!(&mut self.stream, io => io.poll_write(cx, bytes));
        self.blocked_if(wrote.is_pending(), cx);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wanted()?;
        let wrote = with!(&mut self.stream, io => io.poll_write_vectored(cx, pieces));
        self.blocked_if(wrote.is_pending(), cx);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wanted()?;
        let flushed = with!(&mut self.stream, io => io.poll_flush(cx));
        self.blocked_if(flushed.is_pending(), cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goodbye = with!(&mut self.stream, io => io.poll_shutdown(cx));
        // A TLS goodbye that the socket does not take at once is not waited for: closing says it too.
        if goodbye.is_pending() { Poll::Ready(Ok(())) } else { goodbye }
    }
}
