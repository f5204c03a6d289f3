//! A scripted provider on a real socket: it records every request byte for byte and does what its script says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire::{Head, Socket, Wire, is_timeout};
use super::{PATIENCE, Watched};

/// One request as it arrived.
#[derive(Debug)]
pub(crate) struct Request {
    /// The head.
    pub(crate) head: Head,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// The certificate that the other side showed, DER.
    pub(crate) client: Option<Vec<u8>>,
}

impl Request {
    /// `POST`, `GET`, …
    pub(crate) fn method(&self) -> &str {
        self.head.first_line.split(' ').next().unwrap_or_default()
    }

    /// The path with its query.
    pub(crate) fn target(&self) -> &str {
        self.head.first_line.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

type Script = dyn Fn(&mut Turn) + Send + Sync;

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Arc<Request>>,
    connections: usize,
    closed: usize,
    failures: Vec<String>,
}

struct Shared {
    seen: Watched<Seen>,
    stopping: AtomicBool,
    script: Box<Script>,
    tls: Option<Arc<ServerConfig>>,
}

/// A fake provider; it stops when it is dropped, and then fails the test if its script has failed by then.
/// [`Upstream::wait_closed`] waits for what a script still does.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Runs `script` for every request.
    pub(crate) fn start(script: impl Fn(&mut Turn) + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), None)
    }

    /// Likewise, behind TLS.
    pub(crate) fn start_tls(tls: ServerConfig, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), Some(Arc::new(tls)))
    }

    /// Answers every request with an OpenAI completion that says `text`.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::start(move |turn| turn.complete(text))
    }

    fn listen(script: Box<Script>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Watched::new(Seen::default());
        let shared = Arc::new(Shared { seen, stopping: AtomicBool::new(false), script, tls });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL with `path`: `http://127.0.0.1:PORT/v1`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The first `count` requests, once they are there; fails loudly if they do not come.
    pub(crate) fn requests(&self, count: usize) -> Vec<Arc<Request>> {
        let enough = |seen: &Seen| (seen.requests.len() >= count).then(|| seen.requests.clone());
        let found = self.shared.seen.wait(enough);
        found.unwrap_or_else(|| {
            let came = self.count();
            assert_eq!(came, count, "the upstream did not get all requests in {PATIENCE:?}");
            Vec::new()
        })
    }

    /// The only request; fails if there are more.
    pub(crate) fn request(&self) -> Arc<Request> {
        let requests = self.requests(1);
        assert_eq!(requests.len(), 1, "the upstream got more than one request");
        Arc::clone(&requests[0])
    }

    /// How many requests have come so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.change(|seen| seen.requests.len())
    }

    /// How many connections have been opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.change(|seen| seen.connections)
    }

    /// Waits until the other side or the script has closed `count` connections.
    pub(crate) fn wait_closed(&self, count: usize) {
        let closed = self.shared.seen.wait(|seen| (seen.closed >= count).then_some(()));
        assert!(closed.is_some(), "fewer than {count} connections were closed in {PATIENCE:?}");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; if it is gone already, so much the better.
        let _ = TcpStream::connect(self.address);
        let failures = self.shared.seen.change(|seen| std::mem::take(&mut seen.failures));
        assert!(
            failures.is_empty() || std::thread::panicking(),
            "the upstream's script failed: {failures:?}"
        );
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(socket) = socket else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            shared.seen.change(|seen| seen.connections += 1);
            let served = catch_unwind(AssertUnwindSafe(|| serve(socket, &shared)));
            shared.seen.change(|seen| {
                seen.closed += 1;
                if let Err(panic) = served {
                    let text = panic.downcast_ref::<String>().cloned();
                    seen.failures.push(text.unwrap_or_else(|| "a panic without words".to_owned()));
                }
            });
        });
    }
}

/// Serves one connection until either side ends it.
fn serve(socket: TcpStream, shared: &Shared) {
    socket.set_nodelay(true).expect("a TCP socket takes TCP_NODELAY");
    let socket = match &shared.tls {
        None => Socket::Tcp(socket),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).expect("the TLS settings are good");
            Socket::Tls(Box::new(StreamOwned::new(session, socket)))
        }
    };
    let mut wire = Wire::new(socket);
    let stop = || shared.stopping.load(Ordering::SeqCst);
    while wire.wait_for_more(stop) {
        let Some(head) = wire.head() else { return };
        let (body, complete) = wire.body(head.framing(true));
        if !complete {
            return;
        }
        let client = wire.socket.shown();
        let request = Arc::new(Request { head, body, client });
        let mut turn = Turn { request: Arc::clone(&request), wire, open: true };
        shared.seen.change(|seen| seen.requests.push(request));
        (shared.script)(&mut turn);
        if !turn.open {
            return;
        }
        wire = turn.wire;
    }
}

/// One request and the means to answer it. What is written to a client that has left is lost without a complaint.
pub(crate) struct Turn {
    /// The request.
    pub(crate) request: Arc<Request>,
    wire: Wire,
    open: bool,
}

impl Turn {
    /// Writes bytes as they are; false if the other side has left.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.socket.write_all(bytes.as_ref()).and_then(|()| self.wire.socket.flush()).is_ok()
    }

    /// A whole answer with a length and the headers given.
    pub(crate) fn answer_with(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.say([head.as_bytes(), body].concat());
    }

    /// A whole answer of JSON.
    pub(crate) fn answer(&mut self, status: u16, body: impl AsRef<[u8]>) {
        self.answer_with(status, &[("content-type", "application/json")], body);
    }

    /// An OpenAI completion that says `text`.
    pub(crate) fn complete(&mut self, text: &str) {
        self.answer(200, completion(text).to_string());
    }

    /// The head of a stream.
    pub(crate) fn open_stream(&mut self) {
        self.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    /// One chunk of a chunked body; false if the other side has left.
    pub(crate) fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        self.say([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    /// One event that carries `data`; false if the other side has left.
    pub(crate) fn event(&mut self, data: impl AsRef<str>) -> bool {
        self.chunk(format!("data: {}\n\n", data.as_ref()))
    }

    /// One event of an OpenAI stream that adds `text`.
    pub(crate) fn delta(&mut self, text: &str) -> bool {
        self.event(delta(text).to_string())
    }

    /// Ends an OpenAI stream as it should end.
    pub(crate) fn done(&mut self) {
        let last = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-model",
                          "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        self.event(last.to_string());
        // In one piece with the end of the body: the client may ask again as soon as it has seen the event.
        self.say("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }

    /// How long one write may wait for a reader before it fails.
    pub(crate) fn write_limit(&self, limit: Duration) {
        self.wire.socket.set_write_timeout(limit);
    }

    /// The last chunk of a chunked body.
    pub(crate) fn end(&mut self) {
        self.say("0\r\n\r\n");
    }

    /// Closes the connection, whatever has been said so far.
    pub(crate) fn close(&mut self) {
        self.wire.socket.close();
        self.open = false;
    }

    /// Breaks the connection with a reset.
    pub(crate) fn reset(&mut self) {
        self.wire.socket.reset_on_drop();
        self.open = false;
    }

    /// Waits until the other side has left; how long that took. Fails loudly after [`PATIENCE`].
    pub(crate) fn until_left(&mut self) -> Duration {
        let start = Instant::now();
        self.open = false;
        self.wire.socket.set_read_timeout(PATIENCE);
        let mut block = [0; 1024];
        loop {
            match self.wire.socket.read(&mut block) {
                Ok(0) => return start.elapsed(),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    assert!(!is_timeout(&error), "the other side is still there after {PATIENCE:?}");
                    return start.elapsed();
                }
            }
        }
    }
}

/// An OpenAI completion that says `text`.
pub(crate) fn completion(text: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "real-model",
           "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
           "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
}

/// One chunk of an OpenAI stream that adds `text`.
pub(crate) fn delta(text: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-model",
           "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null}]})
}
