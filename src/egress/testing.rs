//! A scripted upstream on a real socket, for the tests of this room.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt as _;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Body, Clients, Egress, EgressLimits, LineError, SendError, Sent};
use crate::config::valid::Proxy;
use crate::outbound::{Segments, Signed, Stamp, Unsigned};
use crate::tasks::{Seat, Tasks};
use crate::tls::Profile;

/// A whole answer.
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// An answer that goes on.
pub(super) const CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
/// A limit that is reached.
pub(super) const SHORT: Duration = Duration::from_millis(50);
/// More than all buffers on the way hold, in bytes.
pub(super) const LARGE: usize = 32 << 20;
/// The seat of every test.
pub(super) const SEAT: Seat = Seat(0);
/// Limits that no test reaches.
pub(super) const LIMITS: EgressLimits = EgressLimits {
    connect: Duration::from_secs(20),
    first_byte: Duration::from_secs(20),
    pool_idle: Duration::from_secs(20),
    max_connection_age: Duration::from_secs(300),
};

/// A listener that the test answers for.
pub(super) struct Upstream(TcpListener);

impl Upstream {
    pub(super) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub(super) fn url(&self, scheme: &str) -> Uri {
        format!("{scheme}://127.0.0.1:{}/base", self.port()).parse().unwrap()
    }

    /// A plain egress to here with its own clients.
    pub(super) fn egress(&self, limits: EgressLimits) -> Egress {
        let clients = Clients::new(1, Tasks::new());
        clients.egress(&self.url("http"), &Profile::default(), &Proxy::Direct, &limits).unwrap()
    }

    pub(super) async fn accept(&self) -> Peer<TcpStream> {
        Peer::new(self.0.accept().await.unwrap().0)
    }

    pub(super) async fn accept_tls(
        &self,
        server: Arc<ServerConfig>,
    ) -> io::Result<Peer<TlsStream<TcpStream>>> {
        let tcp = self.0.accept().await.unwrap().0;
        TlsAcceptor::from(server).accept(tcp).await.map(Peer::new)
    }

    /// Sends a request, takes it on a new connection, and says `answer`.
    pub(super) async fn answer(
        &self,
        egress: &Egress,
        answer: &str,
    ) -> (Result<Box<Sent>, SendError>, Peer<TcpStream>) {
        tokio::join!(egress.send(SEAT, post(&["x"])), async {
            let mut peer = self.accept().await;
            peer.request().await;
            peer.say(answer).await;
            peer
        })
    }

    /// Sends a request of [`LARGE`] bytes, takes the first of them alone, and says `answer`.
    pub(super) async fn answer_early(
        &self,
        egress: &Egress,
        answer: &str,
    ) -> (Result<Box<Sent>, SendError>, Peer<TcpStream>) {
        let mut request = post(&[]);
        request.request.body = Segments::one(vec![b'x'; LARGE].into());
        tokio::join!(egress.send(SEAT, request), async {
            let mut peer = self.accept().await;
            peer.io.read_exact(&mut [0; 64]).await.unwrap();
            peer.say(answer).await;
            peer
        })
    }

    /// The other end of a connection that has served one request and is idle now.
    pub(super) async fn warm(&self, egress: &Egress) -> Peer<TcpStream> {
        let (sent, peer) = self.answer(egress, OK).await;
        assert_eq!(text(sent.unwrap()).await, "ok");
        peer
    }

    /// Whether a connection is waiting to be accepted.
    pub(super) async fn is_called(&self) -> bool {
        tokio::select! { biased; _ = self.0.accept() => true, () = settle() => false }
    }
}

/// A port where nobody listens, nor can: it is bound as long as the socket lives.
pub(super) fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// One accepted connection.
pub(super) struct Peer<S> {
    pub(super) io: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, read: Vec::new() }
    }

    /// One request, head and body, exactly as it came.
    pub(super) async fn request(&mut self) -> String {
        loop {
            let text = String::from_utf8(self.read.clone()).unwrap();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |digits| digits.parse().unwrap());
                if body.len() >= length {
                    let end = head.len() + 4 + length;
                    self.read.drain(..end);
                    return text[..end].to_owned();
                }
            }
            assert!(self.io.read_buf(&mut self.read).await.unwrap() > 0, "closed after {text:?}");
        }
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Takes one request and gives the whole answer.
    pub(super) async fn serve(&mut self) -> String {
        let request = self.request().await;
        self.say(OK).await;
        request
    }

    /// Takes one request, gives the whole answer, and keeps the connection open.
    pub(super) async fn serve_then_wait(&mut self) {
        self.serve().await;
        self.closed().await;
    }

    /// Waits until the other side has closed; how many bytes it had still sent.
    pub(super) async fn closed(&mut self) -> usize {
        let (mut sink, mut read) = ([0; 4096], 0);
        soon(async {
            while let Ok(some @ 1..) = self.io.read(&mut sink).await {
                read += some;
            }
        })
        .await;
        read
    }
}

/// A POST of `pieces` to `/v1/x?a=1`.
pub(super) fn post(pieces: &[&'static str]) -> Signed {
    let body = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let uri = Uri::from_static("https://elsewhere.example/v1/x?a=1");
    let mut request = Unsigned::new(Method::POST, "", headers, Segments::many(body));
    request.uri = uri;
    Signed { request, stamp: Stamp::default() }
}

/// Reads the whole body.
pub(super) async fn text(sent: Box<Sent>) -> String {
    read(sent.body).await.unwrap()
}

/// Reads the whole body, which may break.
pub(super) async fn read(body: Body) -> Result<String, LineError> {
    Ok(String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap())
}

/// Waits for what must happen; a test that waits in vain should fail, not hang.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it did not happen")
}

/// Lets every task that can run do so, and the sockets be looked at.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
