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
    /// hyper has read since it last wrote or flushed: it looks by itself.
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
        (self.reads, self.ahead) = (true, false);
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
