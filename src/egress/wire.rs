//! The socket under a connection, and the few facts about it that outlive each request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
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
}

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
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        if !self.waiting.load(Ordering::Relaxed) {
            return Ok(());
        }
        let heard = self.heard.fetch_add(bytes, Ordering::Relaxed) + bytes;
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
        }
    };
}

impl Wire {
    pub(super) fn new(stream: Stream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    /// Refuses to write for nobody: else a peer that does not read would keep an abandoned connection open.
    fn wanted(&self) -> io::Result<()> {
        if self.pulse.is_abandoned() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        with!(&mut self.stream, io => ready!(io.poll_read(cx, into))?);
        Poll::Ready(self.pulse.count(into.filled().len() - before))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wanted()?;
        with!(&mut self.stream, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wanted()?;
        with!(&mut self.stream, io => io.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wanted()?;
        with!(&mut self.stream, io => io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goodbye = with!(&mut self.stream, io => io.poll_shutdown(cx));
        // A TLS goodbye that the socket does not take at once is not waited for: closing says it too.
        if goodbye.is_pending() { Poll::Ready(Ok(())) } else { goodbye }
    }
}
