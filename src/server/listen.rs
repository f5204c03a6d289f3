//! Listeners: bound once, cloned to each worker thread, so that a second instance on a taken port fails.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket_file::{self, SocketFile};
use crate::config::valid::{Listen, UnixSockets};
use crate::joined;

/// A listener that is bound but belongs to no runtime yet.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(StdTcpListener),
    /// A Unix socket. Its file goes with the last clone.
    Unix(UnixDoor<StdUnixListener>),
}

impl Bound {
    /// Binds `to`. The file of a Unix socket that nobody listens on any more is replaced; a new one is as `unix` says.
    ///
    /// # Errors
    ///
    /// Who has the address, or why it cannot be had.
    pub fn bind(to: &Listen, unix: &UnixSockets) -> Result<Self, String> {
        match to {
            Listen::Tcp(address) => bind_tcp(*address).map(Self::Tcp).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("{address} is taken: another process (another Outrider?) listens there")
                }
                _ => format!("cannot listen on {address}: {error}"),
            }),
            Listen::Unix(path) => socket_file::bind(path, unix).map(|(listener, file)| {
                Self::Unix(UnixDoor { path: path.clone(), file: Arc::new(file), listener })
            }),
        }
    }

    /// Another handle to the same listener.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(door) => Self::Unix(UnixDoor {
                path: door.path.clone(),
                file: Arc::clone(&door.file),
                listener: door.listener.try_clone()?,
            }),
        })
    }

    /// Where it is bound, with the port that the system chose.
    pub fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Address::Tcp(address),
                Err(_) => Address::Unknown,
            },
            Self::Unix(door) => Address::Unix(door.path.clone()),
        }
    }

    pub(super) fn into_async(self) -> io::Result<Door> {
        Ok(match self {
            Self::Tcp(listener) => Door::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(UnixDoor { path, file, listener }) => {
                Door::Unix(UnixDoor { path, file, listener: UnixListener::from_std(listener)? })
            }
        })
    }
}

/// A Unix socket that is listened on. Its file is dropped before the listener, which keeps the file's inode.
#[derive(Debug)]
pub struct UnixDoor<L> {
    path: PathBuf,
    file: Arc<SocketFile>,
    listener: L,
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// The system would not tell.
    Unknown,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// What the system may keep of an answer that it has not sent yet, in bytes. It takes more only once much of its buffer is
/// free: a client that reads slowly but steadily from megabytes would look like one that takes nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let listener = StdTcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Connections inherit it.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT)?;
    Ok(listener)
}

/// A listener on a runtime.
#[derive(Debug)]
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixDoor<UnixListener>),
}

impl Door {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(door) => door.listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What can tell that the other side has sent something, or has left.
pub(super) trait Heard {
    /// Waits until the other side has sent something that nobody has read yet, and gives its first byte; nothing if it
    /// has left instead. Whether anything is there is known without a system call as long as there is nothing.
    fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>>;

    /// Whether the other side has left, whatever it sent before that nobody has read yet.
    fn has_left(&self) -> bool;
}

macro_rules! heard {
    ($($socket:ty),*) => {$(
        impl Heard for $socket {
            fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
                loop {
                    ready!(self.poll_read_ready(cx))?;
                    match self.try_io(Interest::READABLE, || peek(self)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        heard => return Poll::Ready(heard),
                    }
                }
            }

            fn has_left(&self) -> bool {
                ended(self)
            }
        }
    )*};
}

heard!(TcpStream, UnixStream);

impl Heard for Stream {
    fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        match self {
            Self::Tcp(stream) => stream.poll_heard(cx),
            Self::Unix(stream) => stream.poll_heard(cx),
        }
    }

    fn has_left(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.has_left(),
            Self::Unix(stream) => stream.has_left(),
        }
    }
}

impl Stream {
    /// Resolves with the first byte that the client sends; nothing if it has left instead.
    pub(super) async fn begins(&self) -> Option<u8> {
        // Not `readable`: that is true at the end too, and tokio takes a socket that it has just accepted for readable
        // until a read says otherwise.
        poll_fn(|cx| self.poll_heard(cx)).await.ok().flatten()
    }

    /// Takes it from this thread's runtime, for another.
    pub(super) fn into_accepted(self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(stream) => Accepted::Tcp(stream.into_std()?),
            Self::Unix(stream) => Accepted::Unix(stream.into_std()?),
        })
    }
}

/// A client's connection that belongs to no runtime.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(StdUnixStream),
}

impl Accepted {
    /// Gives it to this thread's runtime.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// The next byte of `socket`, which is left there; nothing at its end.
fn peek(socket: impl AsFd) -> io::Result<Option<u8>> {
    let mut next = [0; 1];
    let (_, some) = rustix::net::recv(socket, &mut next, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok((some > 0).then_some(next[0]))
}

/// Whether nothing more will come to `socket`, or it has broken.
fn ended(socket: impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    let end = PollFlags::RDHUP;
    // Elsewhere only a break is told behind what has not been read.
    #[cfg(not(target_os = "linux"))]
    let end = PollFlags::HUP;
    let mut socket = [PollFd::new(&socket, end)];
    // A look that fails has seen nothing.
    let _ = rustix::event::poll(&mut socket, Some(&Timespec::default()));
    socket[0].revents().intersects(end | PollFlags::HUP | PollFlags::ERR)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(&mut Eager(stream)).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(&mut Eager(stream)).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => joined::poll_write(Pin::new(&mut Eager(stream)), cx, bufs),
            Self::Unix(stream) => joined::poll_write(Pin::new(&mut Eager(stream)), cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A socket that is written to without asking the runtime whether it takes anything: it nearly always does, and what the
/// runtime knows of it has left the processor's caches by the next event of a stream.
struct Eager<'a, S>(&'a mut S);

/// No signal where the other side has left: elsewhere than on Linux the socket itself is set so.
#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
#[cfg(not(target_os = "linux"))]
const SEND: SendFlags = SendFlags::DONTWAIT;

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Eager<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self(socket) = self.get_mut();
        match rustix::net::send(&socket, buf, SEND) {
            // Who waits must be known to the runtime.
            Err(Errno::AGAIN | Errno::INTR) => Pin::new(socket).poll_write(cx, buf),
            sent => Poll::Ready(sent.map_err(io::Error::from)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use socket2::SockRef;

    use super::*;

    const UNIX: UnixSockets = UnixSockets { mode: 0o660, owner: None, group: None };

    #[test]
    fn a_taken_port_is_an_error_in_words() {
        let first = Bound::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap()), &UNIX).unwrap();
        let Address::Tcp(taken) = first.address() else { panic!() };
        let error = Bound::bind(&Listen::Tcp(taken), &UNIX).unwrap_err();
        assert!(error.contains("is taken"), "{error}");
    }

    #[tokio::test]
    async fn a_client_that_leaves_without_a_word_has_not_begun() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for says in ["", "x"] {
            let far = TcpStream::connect(address).await.unwrap();
            let (far_unix, near_unix) = UnixStream::pair().unwrap();
            for near in [Stream::Tcp(listener.accept().await.unwrap().0), Stream::Unix(near_unix)] {
                let mut begins = Box::pin(near.begins());
                assert!(futures_util::poll!(begins.as_mut()).is_pending(), "nobody has done anything yet");
                let tcp = matches!(near, Stream::Tcp(_));
                if says.is_empty() {
                    let shut = if tcp {
                        SockRef::from(&far).shutdown(Shutdown::Both)
                    } else {
                        SockRef::from(&far_unix).shutdown(Shutdown::Both)
                    };
                    shut.unwrap();
                } else {
                    let said = if tcp {
                        far.try_write(says.as_bytes())
                    } else {
                        far_unix.try_write(says.as_bytes())
                    };
                    said.unwrap();
                }
                let begun = tokio::time::timeout(std::time::Duration::from_secs(30), begins).await;
                assert_eq!(begun, Ok(says.bytes().next()), "{near:?}");
            }
        }
    }
}
