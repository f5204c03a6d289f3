//! HTTP/1.1 as bytes on a blocking socket: what was really sent, not what a library made of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::{ClientConnection, ServerConnection, StreamOwned};

use super::PATIENCE;

/// A connected socket of any kind.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    TlsClient(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// How long one read may wait.
    pub(crate) fn set_read_timeout(&self, limit: Duration) {
        let result = match self {
            Self::Tcp(socket) => socket.set_read_timeout(Some(limit)),
            Self::Unix(socket) => socket.set_read_timeout(Some(limit)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(limit)),
            Self::TlsClient(stream) => stream.sock.set_read_timeout(Some(limit)),
        };
        result.expect("an open socket takes a timeout");
    }

    /// How long one write may wait.
    pub(crate) fn set_write_timeout(&self, limit: Duration) {
        let result = match self {
            Self::Tcp(socket) => socket.set_write_timeout(Some(limit)),
            Self::Unix(socket) => socket.set_write_timeout(Some(limit)),
            Self::Tls(stream) => stream.sock.set_write_timeout(Some(limit)),
            Self::TlsClient(stream) => stream.sock.set_write_timeout(Some(limit)),
        };
        result.expect("an open socket takes a timeout");
    }

    /// The certificate that the client has shown, DER.
    pub(crate) fn shown(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => Some(stream.conn.peer_certificates()?.first()?.to_vec()),
            Self::Tcp(_) | Self::Unix(_) | Self::TlsClient(_) => None,
        }
    }

    /// Says goodbye both ways, properly.
    pub(crate) fn close(&self) {
        // The other side may have left first; then there is nothing to close.
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
            Self::Tls(stream) => stream.sock.shutdown(Shutdown::Both),
            Self::TlsClient(stream) => stream.sock.shutdown(Shutdown::Both),
        };
    }

    /// Makes the coming drop send a reset instead of a goodbye (TCP only).
    pub(crate) fn reset_on_drop(&self) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => &stream.sock,
            Self::TlsClient(stream) => &stream.sock,
            Self::Unix(_) => return,
        };
        socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("a TCP socket can linger");
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::TlsClient(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::TlsClient(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.flush(),
            Self::Unix(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::TlsClient(stream) => stream.flush(),
        }
    }
}

/// The head of a message, byte for byte and taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Everything up to and with the empty line.
    pub(crate) raw: Vec<u8>,
    /// The first line without its end.
    pub(crate) first_line: String,
    /// Names as they were written, values trimmed, in order.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        };
        Self { raw: raw.to_vec(), first_line, headers: lines.map(field).collect() }
    }

    /// The only value of `name`, in any case; fails where there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands {} times in {:?}", all.len(), self.headers);
        all.first().copied()
    }

    /// Every value of `name`, in any case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length").map(|n| n.parse().expect("content-length is a number"))
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }

    /// How the body behind this head is framed; `is_request`: without a framing there is none.
    pub(crate) fn framing(&self, is_request: bool) -> Framing {
        match (self.is_chunked(), self.length()) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) if is_request => Framing::Length(0),
            (false, None) => Framing::ToTheEnd,
        }
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    ToTheEnd,
}

/// What a read of a piece of a body gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// The body has ended as its framing says.
    End,
    /// The connection ended first.
    Cut,
}

/// A socket and what was read from it but not yet used.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    buffer: Vec<u8>,
}

impl Wire {
    /// Every read waits at most [`PATIENCE`].
    pub(crate) fn new(socket: Socket) -> Self {
        socket.set_read_timeout(PATIENCE);
        Self { socket, buffer: Vec::new() }
    }

    /// Reads more; false at the end, be it a goodbye or a reset. Fails loudly when nothing comes in time.
    fn fill(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        match self.socket.read(&mut block) {
            Ok(length) => {
                self.buffer.extend_from_slice(&block[..length]);
                length > 0
            }
            // A read with a time limit is not taken up again by the system after a signal, such as a child's end.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.fill(),
            Err(error) => {
                assert!(!is_timeout(&error), "nothing came for {PATIENCE:?}; so far: {:?}", self.shown());
                false
            }
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(300)]).into_owned()
    }

    /// The next head; `None` if the connection ends before it is complete.
    pub(crate) fn head(&mut self) -> Option<Head> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(Head::parse(&raw));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next piece of a body; a length counts down in `framing`.
    pub(crate) fn piece(&mut self, framing: &mut Framing) -> Piece {
        match framing {
            Framing::Length(0) => Piece::End,
            Framing::Length(left) => {
                if self.buffer.is_empty() && !self.fill() {
                    return Piece::Cut;
                }
                let taken = self.buffer.len().min(*left);
                *left -= taken;
                Piece::Bytes(self.buffer.drain(..taken).collect())
            }
            Framing::Chunked => self.chunk().unwrap_or(Piece::Cut),
            Framing::ToTheEnd => {
                if self.buffer.is_empty() && !self.fill() {
                    return Piece::End;
                }
                Piece::Bytes(std::mem::take(&mut self.buffer))
            }
        }
    }

    /// One chunk, `End` for the last; `None` if the connection ends inside it.
    fn chunk(&mut self) -> Option<Piece> {
        let line = loop {
            match find(&self.buffer, b"\r\n") {
                Some(at) => break self.buffer.drain(..at + 2).collect::<Vec<u8>>(),
                None if self.fill() => {}
                None => return None,
            }
        };
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk begins with its size");
        while self.buffer.len() < size + 2 {
            if !self.fill() {
                return None;
            }
        }
        let data: Vec<u8> = self.buffer.drain(..size).collect();
        assert!(self.buffer.starts_with(b"\r\n"), "a chunk of {size} bytes does not end where it should");
        self.buffer.drain(..2);
        Some(if size == 0 { Piece::End } else { Piece::Bytes(data) })
    }

    /// A whole body, and whether it ended as its framing says.
    pub(crate) fn body(&mut self, mut framing: Framing) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match self.piece(&mut framing) {
                Piece::Bytes(bytes) => body.extend(bytes),
                Piece::End => return (body, true),
                Piece::Cut => return (body, false),
            }
        }
    }

    /// Whether the other side says nothing more: waits for the end, at most [`PATIENCE`].
    pub(crate) fn is_at_end(&mut self) -> bool {
        while self.fill() {}
        self.buffer.is_empty()
    }

    /// Waits for the next byte as long as it takes, looking at `stop` now and then; false if none will come.
    pub(crate) fn wait_for_more(&mut self, stop: impl Fn() -> bool) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        self.socket.set_read_timeout(Duration::from_millis(100));
        let mut byte = [0; 1];
        let came = loop {
            match self.socket.read(&mut byte) {
                Ok(length) => break length > 0,
                Err(error) if is_timeout(&error) && !stop() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.socket.set_read_timeout(PATIENCE);
        if came {
            self.buffer.push(byte[0]);
        }
        came
    }
}

/// Whether an error of a read says that its time was up.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Where `needle` first stands in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// A port that is bound and never listened on: as long as the socket lives nobody answers there, and nobody else gets it.
pub(crate) fn deaf_port() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a loopback port is free");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    (socket, address.expect("a bound socket has an address"))
}
