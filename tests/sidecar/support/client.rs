//! A small HTTP/1.1 client that shows what arrived: status, headers, events one by one, and whether the end was clean.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use super::wire::{Framing, Head, Piece, Socket, Wire, find};

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// A chat completion with this body, as the SDK sends it.
    pub(crate) fn chat(body: impl AsRef<[u8]>) -> Self {
        Self::post("/v1/chat/completions", body)
    }

    /// A chat completion of one user message.
    pub(crate) fn say(model: &str, text: &str) -> Self {
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}]});
        Self::chat(body.to_string())
    }

    /// Likewise, streamed.
    pub(crate) fn stream(model: &str, text: &str) -> Self {
        let messages = [serde_json::json!({"role": "user", "content": text})];
        Self::chat(serde_json::json!({"model": model, "messages": messages, "stream": true}).to_string())
    }

    /// A POST of JSON.
    pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        let call = Self { method: "POST", path: path.to_owned(), headers: Vec::new(), body };
        call.header("content-type", "application/json")
    }

    /// A GET.
    pub(crate) fn get(path: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// Another method.
    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Another path.
    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// One more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    /// The bytes of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: 127.0.0.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The head.
    pub(crate) head: Head,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) clean: bool,
}

impl Answer {
    /// The only value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// What a completion says; fails where the answer is no success.
    pub(crate) fn content(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["choices"][0]["message"]["content"].as_str().expect("a completion has content").to_owned()
    }

    /// Checks that this is an error in OpenAI's form with `status` and `code`; gives its message.
    pub(crate) fn refusal(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(self.clean, "the error's body is not complete");
        let kind = self.header("content-type").expect("an error has a content type");
        assert!(kind.starts_with("application/json"), "{kind}");
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "no x-request-id");
        let body = self.json();
        let error = body["error"].as_object().expect("the body is {\"error\": {…}}");
        for key in ["message", "type", "param", "code"] {
            assert!(error.contains_key(key), "the error has no `{key}`: {body}");
        }
        assert_eq!(error.len(), 4, "the error has more than its four keys: {body}");
        assert!(error["type"].is_string(), "{body}");
        assert_eq!(error["code"], code, "{body}");
        error["message"].as_str().expect("the message is a text").to_owned()
    }
}

/// One connection to the sidecar.
pub(crate) struct Connection {
    wire: Wire,
    framing: Framing,
    events: Vec<u8>,
}

impl Connection {
    /// Connects over TCP.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the sidecar listens");
        socket.set_nodelay(true).expect("a TCP socket takes TCP_NODELAY");
        Self::over(Socket::Tcp(socket))
    }

    /// Connects over TCP with a receive buffer of a few KiB.
    pub(crate) fn open_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("sockets are to be had");
        socket.set_recv_buffer_size(4096).expect("a socket takes a buffer size");
        socket.connect(&address.into()).expect("the sidecar listens");
        Self::over(Socket::Tcp(socket.into()))
    }

    /// Connects over a Unix socket.
    pub(crate) fn open_unix(path: &Path) -> Self {
        Self::over(Socket::Unix(UnixStream::connect(path).expect("the sidecar listens")))
    }

    /// Connects over TLS to the server that is `name`. The handshake is done with the first bytes that are sent.
    pub(crate) fn open_tls(address: SocketAddr, tls: ClientConfig, name: &str) -> Self {
        let socket = TcpStream::connect(address).expect("the sidecar listens");
        let name = ServerName::try_from(name.to_owned()).expect("the name is good");
        let session = ClientConnection::new(Arc::new(tls), name).expect("the settings are good");
        Self::over(Socket::TlsClient(Box::new(StreamOwned::new(session, socket))))
    }

    fn over(socket: Socket) -> Self {
        Self { wire: Wire::new(socket), framing: Framing::Length(0), events: Vec::new() }
    }

    /// Sends a request, or as much of it as the other side takes.
    pub(crate) fn send(&mut self, call: &Call) -> &mut Self {
        self.send_raw(&call.bytes())
    }

    /// Sends bytes as they are, or as many as the other side takes: it may refuse before it has read all.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.wire.socket.write_all(bytes);
        self
    }

    /// The head of the next answer.
    pub(crate) fn head(&mut self) -> (u16, Head) {
        loop {
            let head = self.wire.head().expect("the sidecar answers");
            let status = status_of(&head);
            if status >= 200 {
                self.framing = if status == 204 { Framing::Length(0) } else { head.framing(false) };
                return (status, head);
            }
        }
    }

    /// The status of the next head, which is no final answer.
    pub(crate) fn interim(&mut self) -> u16 {
        status_of(&self.wire.head().expect("the sidecar answers"))
    }

    /// The next whole answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let (status, head) = self.head();
        let (body, clean) = self.wire.body(self.framing);
        Answer { status, head, body, clean }
    }

    /// The next event of a stream as it was written, comments aside; `None` at the end of the body.
    pub(crate) fn event(&mut self) -> Option<String> {
        loop {
            let event = self.event_or_comment()?;
            if !event.starts_with(':') {
                return Some(event);
            }
        }
    }

    /// The next event or comment of a stream as it was written; `None` at the end of the body.
    pub(crate) fn event_or_comment(&mut self) -> Option<String> {
        self.upto(b"\n\n")
    }

    /// The next line of a stream; fails at the end of the body.
    pub(crate) fn line(&mut self) -> String {
        self.upto(b"\n").expect("one more line comes")
    }

    /// What comes of a stream until `end`, which is taken too.
    fn upto(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = find(&self.events, end) {
                let text: Vec<u8> = self.events.drain(..at + end.len()).collect();
                return Some(String::from_utf8(text).expect("events are UTF-8").trim_end().to_owned());
            }
            match self.wire.piece(&mut self.framing) {
                Piece::Bytes(bytes) => self.events.extend(bytes),
                Piece::End | Piece::Cut => return None,
            }
        }
    }

    /// What is left of a body, and whether it ended as its framing says.
    pub(crate) fn rest(&mut self) -> (String, bool) {
        let (body, clean) = self.wire.body(self.framing);
        self.events.extend(body);
        (String::from_utf8(std::mem::take(&mut self.events)).expect("the body is UTF-8"), clean)
    }

    /// The data of the next event; fails at the end of the stream.
    pub(crate) fn data(&mut self) -> String {
        let event = self.event().expect("one more event comes");
        event
            .strip_prefix("data:")
            .expect("an event of an OpenAI stream has data alone")
            .trim_start()
            .to_owned()
    }

    /// The data of all events that are left.
    pub(crate) fn all_data(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = self.event() {
            all.push(event.strip_prefix("data:").unwrap_or(&event).trim_start().to_owned());
        }
        all
    }

    /// Whether the other side has closed without another word; waits for the end.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.wire.is_at_end()
    }

    /// Says by TLS that nothing more is sent, and leaves the socket open.
    pub(crate) fn say_goodbye(&mut self) {
        if let Socket::TlsClient(stream) = &mut self.wire.socket {
            stream.conn.send_close_notify();
        }
        self.wire.socket.flush().expect("the sidecar reads on");
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        self.wire.socket.reset_on_drop();
    }
}

fn status_of(head: &Head) -> u16 {
    let status = head.first_line.split(' ').nth(1).and_then(|s| s.parse().ok());
    status.expect("an answer begins with a status")
}
