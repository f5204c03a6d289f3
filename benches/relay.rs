//! What the sidecar adds on loopback: latency, requests a second and streamed chunks, through it and without it.
//!
//! Client, sidecar and upstream share this process and its processors, so the figures compare the two ways in one run and
//! nothing else; the ways take turns, round by round. CPU a request, and peers, are measured elsewhere, by process.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use outrider::app::{self, Running, Start};
use outrider::config::{self, Options};
use outrider::observe::Sink;
use outrider::server::listen::Address;
use outrider::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

const CHUNKS: usize = 50;
const CONNECTIONS: usize = 16;
const REPLY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The quick brown fox jumps over the lazy dog."},"finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":5,"total_tokens":9}}"#;
const CHUNK: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" fox\"},\"finish_reason\":null}]}\n\n";
const DONE: &str = "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

type Reply = Either<Full<Bytes>, Chunks>;
type Chunks = StreamBody<Pin<Box<dyn stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

fn main() {
    // Without `--bench` (cargo test --benches) one round shows that it works.
    let full = std::env::args().any(|arg| arg == "--bench");
    let upstream = upstream();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (running, sidecar) = sidecar(folder.path(), upstream);
    let rounds = if full { 20 } else { 1 };
    runtime().block_on(measure([upstream, sidecar], rounds));
    running.stop();
}

async fn measure(ways: [SocketAddr; 2], rounds: usize) {
    let mut found = [Found::default(), Found::default()];
    let (small, large, streamed) = (body(2 << 10, false), body(100 << 10, false), body(2 << 10, true));
    for round in 0..=rounds {
        for (at, way) in ways.into_iter().enumerate() {
            let fresh = Found {
                small: one_by_one(way, &small, 200).await,
                large: one_by_one(way, &large, 50).await,
                streams: one_by_one(way, &streamed, 20).await,
                each: at_once(way, &small, 100).await,
            };
            // The first round warms up.
            if round > 0 {
                found[at].add(fresh);
            }
        }
    }
    report(&mut found);
}

/// Times of one way, in µs.
#[derive(Default)]
struct Found {
    small: Vec<f64>,
    large: Vec<f64>,
    /// Of whole streams.
    streams: Vec<f64>,
    /// A round's time by its number of requests, many connections at once.
    each: Vec<f64>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.small.extend(other.small);
        self.large.extend(other.large);
        self.streams.extend(other.streams);
        self.each.extend(other.each);
    }
}

fn report([direct, through]: &mut [Found; 2]) {
    let mut lines = vec![format!("{:34} {:>9} {:>9} {:>9}", "µs", "direct", "through", "added")];
    let mut line = |what: &str, direct: f64, through: f64| {
        lines.push(format!("{what:34} {direct:9.1} {through:9.1} {:9.1}", through - direct));
    };
    for (what, direct, through) in [
        ("2 KB", &mut direct.small, &mut through.small),
        ("100 KB", &mut direct.large, &mut through.large),
        ("stream of 51 chunks", &mut direct.streams, &mut through.streams),
    ] {
        for part in [0.5, 0.99] {
            line(&format!("{what}, p{}", part * 100.0), share(direct, part), share(through, part));
        }
    }
    let chunks = (CHUNKS + 1) as f64;
    line("a chunk, p50", share(&mut direct.streams, 0.5) / chunks, share(&mut through.streams, 0.5) / chunks);
    let (a, b) = (share(&mut direct.each, 0.5), share(&mut through.each, 0.5));
    line(&format!("a request of {CONNECTIONS} connections' load"), a, b);
    lines.push(format!("{:34} {:9.0} {:9.0}", "requests a second, all processors", 1e6 / a, 1e6 / b));
    lines.push("One process, loopback, ways in turn: p99 and small differences are noise.".to_owned());
    let _ = writeln!(io::stdout().lock(), "{}", lines.join("\n"));
}

/// The value below which `part` of them lie.
fn share(times: &mut [f64], part: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * part) as usize]
}

/// The times of `count` requests on one connection, one after the other, each to the end of its answer.
async fn one_by_one(to: SocketAddr, body: &Bytes, count: usize) -> Vec<f64> {
    let mut line = connect(to).await;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        ask(&mut line, to, body).await;
        times.push(micros(begin.elapsed()));
    }
    times
}

/// The time that one request takes of all, `count` of them on each of many connections.
async fn at_once(to: SocketAddr, body: &Bytes, count: usize) -> Vec<f64> {
    let begin = Instant::now();
    join_all((0..CONNECTIONS).map(|_| one_by_one(to, body, count))).await;
    vec![micros(begin.elapsed()) / (CONNECTIONS * count) as f64]
}

async fn connect(to: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(to).await.expect("it listens");
    stream.set_nodelay(true).expect("TCP can be told so");
    let (line, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("nothing is sent yet");
    drop(Tasks::new().spawn(connection));
    line
}

async fn ask(line: &mut SendRequest<Full<Bytes>>, to: SocketAddr, body: &Bytes) {
    let request = Request::post("/v1/chat/completions").header(HOST, to.to_string());
    let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body.clone()));
    line.ready().await.expect("the connection is open");
    let answer = line.send_request(request.expect("a sound request")).await.expect("an answer comes");
    assert_eq!(answer.status(), 200);
    let mut answer = answer.into_body();
    while let Some(frame) = answer.frame().await {
        frame.expect("the answer comes to its end");
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn body(length: usize, stream: bool) -> Bytes {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(length / 45);
    let messages = serde_json::json!([{"role": "user", "content": text}]);
    serde_json::json!({"model": "m", "messages": messages, "stream": stream}).to_string().into()
}

/// The real sidecar with a key, metrics and an access log that nobody reads.
fn sidecar(folder: &std::path::Path, upstream: SocketAddr) -> (Running, SocketAddr) {
    let file = folder.join("outrider.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[integrations.mock]\n\
         endpoint = \"http://{upstream}/v1\"\nauthentication_type = \"api_key\"\napi_key_header = \"api-key\"\n\
         api_key_value = \"sk-bench\"\nmodels = [\"m\"]\n"
    );
    std::fs::write(&file, text).expect("the folder can be written to");
    let options = Options { file: Some(file), ..Options::default() };
    let loaded = config::load(&options).expect("the configuration is sound");
    let (sink, writer) = Sink::to(io::sink(), true, Duration::from_millis(50));
    // The log is written until the process ends.
    std::mem::forget(writer);
    let running = app::start(Start { settings: loaded.settings, sink, source: None, signals: None })
        .expect("it starts");
    match running.proxy.first() {
        Some(&Address::Tcp(address)) => (running, address),
        other => unreachable!("it was told to listen on TCP, and does on {other:?}"),
    }
}

/// A provider on a thread of its own.
fn upstream() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a socket can be told so");
    std::thread::spawn(move || runtime().block_on(accept(listener)));
    address
}

async fn accept(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("the runtime takes it");
    let tasks = Tasks::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("TCP can be told so");
        let service = hyper::service::service_fn(reply);
        let connection = hyper::server::conn::http1::Builder::new();
        drop(tasks.spawn(connection.serve_connection(TokioIo::new(stream), service)));
    }
}

async fn reply(request: Request<Incoming>) -> Result<Response<Reply>, hyper::Error> {
    let asked = request.into_body().collect().await?.to_bytes();
    let streamed = asked.ends_with(b"\"stream\":true}");
    let (kind, body) = if streamed {
        ("text/event-stream", Either::Right(chunks()))
    } else {
        ("application/json", Either::Left(Full::from(REPLY)))
    };
    Ok(Response::builder().header(CONTENT_TYPE, kind).body(body).expect("a sound answer"))
}

/// A stream that lets each chunk leave before it makes the next.
fn chunks() -> Chunks {
    let next = |sent: usize| async move {
        tokio::task::yield_now().await;
        let text = if sent < CHUNKS { CHUNK } else { DONE };
        (sent <= CHUNKS).then(|| (Ok(Frame::data(Bytes::from_static(text.as_bytes()))), sent + 1))
    };
    StreamBody::new(Box::pin(stream::unfold(0, next)))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}
