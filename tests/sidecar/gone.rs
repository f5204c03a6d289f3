//! Who is gone without saying so is noticed: a client that had sent something ahead, a provider whose connection is dead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::support::tls::Authority;
use crate::support::upstream::completion;
use crate::support::{Call, Connection, Gate, Setup, Sidecar, Turn, Upstream, Watched, integration};

const NAME: &str = "outrider.example";

/// The ways in.
const WAYS: [&str; 3] = ["TCP", "a Unix socket", "TLS"];

/// A sidecar before `upstream`, and a connection to it by `way`.
fn enter(upstream: &Upstream, way: &str) -> (Sidecar, Connection) {
    let setup = Setup::before(upstream, "");
    match way {
        "TCP" => {
            let sidecar = setup.start();
            let connection = sidecar.connect();
            (sidecar, connection)
        }
        "TLS" => {
            let authority = Authority::new();
            let pair = authority.issue(NAME);
            let setup = setup.server("tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }");
            let sidecar = setup.file("tls.crt", &pair.certificate).file("tls.key", &pair.key).start();
            let connection = Connection::open_tls(sidecar.address(), authority.caller(None), NAME);
            (sidecar, connection)
        }
        _ => {
            let sidecar = setup.server("listen = [\"127.0.0.1:0\", \"unix:proxy.sock\"]").start();
            let connection = Connection::open_unix(&sidecar.dir().join("proxy.sock"));
            (sidecar, connection)
        }
    }
}

#[test]
fn a_client_that_sends_something_ahead_and_then_leaves_is_noticed() {
    let next = Call::say("m", "next").bytes();
    let much = Call::say("m", &"x".repeat(50_000)).bytes();
    for ahead in [b"\r\n", &next[..60], &next, &much] {
        let left = Arc::new(Watched::new(0));
        let told = Arc::clone(&left);
        let upstream = Upstream::start(move |turn| {
            turn.until_left();
            told.change(|left| *left += 1);
        });
        for (number, way) in WAYS.into_iter().enumerate() {
            let (_sidecar, mut connection) = enter(&upstream, way);
            connection.send(&Call::say("m", "hi"));
            upstream.requests(number + 1);
            connection.send_raw(ahead);
            drop(connection);
            left.wait(|left| (*left == number + 1).then_some(())).expect("the upstream is closed");
        }
        assert_eq!(upstream.count(), 3, "what nobody waits for was sent");
    }
}

#[test]
fn a_client_that_says_goodbye_by_tls_alone_behind_what_it_sent_ahead_is_noticed() {
    let left = Gate::new();
    let told = left.clone();
    let upstream = Upstream::start(move |turn| {
        turn.until_left();
        told.open();
    });
    let (_sidecar, mut connection) = enter(&upstream, "TLS");
    connection.send(&Call::say("m", "hi"));
    upstream.request();
    connection.send_raw(&Call::say("m", &"x".repeat(100_000)).bytes());
    connection.say_goodbye();
    left.wait();
}

#[test]
fn what_a_client_sent_ahead_does_not_cost_it_the_last_words_of_a_stop() {
    for way in WAYS {
        let gate = Gate::new();
        let held = gate.clone();
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            turn.delta("one");
            held.wait();
        });
        let (mut sidecar, mut connection) = enter(&upstream, way);
        connection.send(&Call::stream("m", "hi")).head();
        connection.data();
        // More than is taken, so that the socket holds some of it when it is closed.
        connection.send_raw(&[b'P'; 300_000]);
        sidecar.terminate();
        sidecar.logged("stopping", 1);
        sidecar.terminate();
        assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
        let rest = connection.all_data();
        assert!(rest.last().is_some_and(|last| last.contains("\"draining\"")), "{way}: {rest:?}");
        gate.open();
    }
}

#[test]
fn what_a_client_sends_ahead_is_answered_in_its_turn_and_whole() {
    let long = "x".repeat(50_000);
    for way in WAYS {
        let gate = Gate::new();
        let held = gate.clone();
        let upstream = Upstream::start(move |turn: &mut Turn| {
            let said = turn.request.json()["messages"][0]["content"].as_str().expect("a text").to_owned();
            if said == "first" {
                held.wait();
            }
            turn.complete(&said);
        });
        let (_sidecar, mut connection) = enter(&upstream, way);
        connection.send(&Call::say("m", "first"));
        upstream.request();
        // Less than is taken ahead, and more.
        connection.send_raw(b"\r\n").send(&Call::say("m", "second")).send(&Call::say("m", &long));
        gate.open();
        for said in ["first", "second", &long, "last"] {
            if said == "last" {
                connection.send(&Call::say("m", said));
            }
            assert!(connection.answer().content() == said, "not the answer to {said:.9} by {way}");
        }
    }
}

/// A provider that speaks HTTP/2. Its first connection dies when `dies` tells, and says when it has: it stays open, and
/// nobody reads it.
fn dying(authority: &Authority, dies: &Arc<Notify>) -> (SocketAddr, Receiver<()>) {
    let mut tls = authority.server("localhost");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    listener.set_nonblocking(true).expect("a socket need not block");
    let (acceptor, dies) = (TlsAcceptor::from(Arc::new(tls)), Arc::clone(dies));
    let (tell, died) = channel();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket may be watched");
        let (first, _) = listener.accept().await.expect("the sidecar connects");
        let first = acceptor.accept(first).await.expect("the sidecar trusts us");
        let mut dead = h2::server::handshake(first).await.expect("the sidecar speaks HTTP/2");
        tokio::select! { () = answer(&mut dead) => {}, () = dies.notified() => {} }
        tell.send(()).expect("the test waits for it");
        let (second, _) = listener.accept().await.expect("the sidecar connects again");
        let second = acceptor.accept(second).await.expect("the sidecar trusts us");
        answer(&mut h2::server::handshake(second).await.expect("the sidecar speaks HTTP/2")).await;
        drop(dead);
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(serve);
    });
    (address, died)
}

/// Answers all that comes on `connection`.
async fn answer<S>(connection: &mut h2::server::Connection<S, bytes::Bytes>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let head = http::Response::builder().header("content-type", "application/json");
        let head = head.body(()).expect("a good head");
        let mut stream = respond.send_response(head, false).expect("the stream is open");
        stream.send_data(completion("hello").to_string().into(), true).expect("the stream is open");
    }
}

#[test]
fn a_dead_connection_of_http2_costs_one_request_and_the_next_has_another() {
    let (authority, dies) = (Authority::new(), Arc::new(Notify::new()));
    let (provider, died) = dying(&authority, &dies);
    let url = format!("https://localhost:{}/v1", provider.port());
    let lines = "tls = { ca_file = \"ca.pem\", http2 = true }\nlimits = { first_byte = \"5s\" }";
    // One worker: each has a connection of its own.
    let setup = Setup::new(integration("acme", &url, lines)).file("ca.pem", &authority.pem());
    let sidecar = setup.server("workers = 1").start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    dies.notify_one();
    died.recv().expect("the provider lives");
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(504, "upstream_timeout");
    assert!(message.contains("(first_byte)"), "{message}");
    for _ in 0..2 {
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    }
}
