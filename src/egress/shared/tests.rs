//! HTTP/2 over real sockets: a provider that holds back, refuses, leaves or goes without a word.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http_body_util::BodyExt as _;
use rustls::ServerConfig;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::super::testing::*;
use super::super::{Clients, Egress, EgressLimits, SendError};
use super::*;
use crate::config::valid::Proxy;
use crate::tls::Profile;
use crate::tls::testing::{Authority, server};

/// What a server does with a request, whose number counts from 0.
type Script = fn(usize) -> Doing;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Answer,
    Reset(Reason),
    /// Says half of it, and the rest never.
    Half,
    /// Says one half, and the other with the next permit.
    Halves,
    /// Says half of it, and resets the stream with the next permit.
    Torn(Reason),
}

/// A server of HTTP/2 that holds every answer back until the gate has a permit for it.
struct House {
    egress: Egress,
    clients: Clients,
    seen: Arc<Seen>,
}

struct Seen {
    gate: Semaphore,
    connections: AtomicUsize,
    open: AtomicUsize,
    heads: Mutex<Vec<String>>,
    bodies: Mutex<Vec<Bytes>>,
    resets: Mutex<Vec<Reason>>,
    /// Makes the open connections deaf: they stay open, and all that comes on them is lost.
    deafened: tokio::sync::Notify,
    came: tokio::sync::Notify,
}

fn speaking(pair: &crate::tls::testing::Pair, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let mut config = (*server(pair, &[&TLS13], None)).clone();
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    Arc::new(config)
}

/// A place for a server that speaks `protocol`, what it speaks by, and the way there by clients that must stay.
async fn offering(protocol: &[u8]) -> (Upstream, Arc<ServerConfig>, Clients, Egress) {
    let authority = Authority::new();
    let config = speaking(&authority.issue(&["127.0.0.1"], |_| {}), &[protocol]);
    let (upstream, clients) = (Upstream::bind().await, Clients::new(1, Tasks::new()));
    let profile = Profile { http2: true, ..authority.trusted() };
    let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, &LIMITS).unwrap();
    (upstream, config, clients, egress)
}

impl House {
    async fn open(most: u32, limits: &EgressLimits, script: Script) -> Self {
        Self::pinged(most, limits, Pings::USUAL, script).await
    }

    /// One that is asked whether it is there as `pings` says.
    async fn pinged(most: u32, limits: &EgressLimits, pings: Pings, script: Script) -> Self {
        let authority = Authority::new();
        let config = speaking(&authority.issue(&["127.0.0.1"], |_| {}), &[b"h2"]);
        let upstream = Upstream::bind().await;
        let clients = Clients { pings, ..Clients::new(1, Tasks::new()) };
        let profile = Profile { http2: true, ..authority.trusted() };
        let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, limits).unwrap();
        let seen = Arc::new(Seen {
            gate: Semaphore::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            heads: Mutex::default(),
            bodies: Mutex::default(),
            resets: Mutex::default(),
            deafened: tokio::sync::Notify::new(),
            came: tokio::sync::Notify::new(),
        });
        let tasks = Tasks::new();
        let (inner, shown) = (tasks.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            while let Ok(peer) = upstream.accept_tls(Arc::clone(&config)).await {
                shown.connections.fetch_add(1, Ordering::SeqCst);
                shown.open.fetch_add(1, Ordering::SeqCst);
                inner.spawn(connection(peer.io, most, script, Arc::clone(&shown), inner.clone()));
            }
        });
        Self { egress, clients, seen }
    }

    async fn until(&self, what: impl Fn(&Seen) -> bool) {
        soon(async {
            while !what(&self.seen) {
                self.seen.came.notified().await;
            }
        })
        .await;
    }

    /// The same way to it for requests that wait no longer than `first_byte`.
    fn impatient(&self, first_byte: Duration) -> Egress {
        let limits = EgressLimits { first_byte, ..self.egress.limits };
        Egress { pool: Arc::clone(&self.egress.pool), limits }
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// A request that is held back for longer than it waits; `meanwhile` happens when the server has it.
    async fn outlasts(&self, first_byte: Duration, meanwhile: impl FnOnce()) {
        let egress = self.impatient(first_byte);
        let before = lock(&self.seen.heads).len();
        let (sent, ()) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
            self.until(|seen| lock(&seen.heads).len() > before).await;
            meanwhile();
        });
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::FirstByteTimeout(_)), "{error:?}");
    }

    /// Begins `count` requests at once, waits until the server has them, lets them be answered; how many connections
    /// had been opened for them.
    async fn burst(&self, count: usize) -> usize {
        let sent =
            (0..count).map(|_| async { text(self.egress.send(SEAT, post(&["x"])).await.unwrap()).await });
        let before = lock(&self.seen.heads).len();
        let watch = async {
            self.until(|seen| lock(&seen.heads).len() == before + count).await;
            self.seen.gate.add_permits(count);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(sent), watch);
        assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
        self.connections()
    }
}

async fn connection<S>(io: S, most: u32, script: Script, seen: Arc<Seen>, tasks: Tasks)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut server = h2::server::Builder::new();
    let mut server = server.max_concurrent_streams(most).handshake::<_, Bytes>(io).await.unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = server.accept() => accepted,
            () = seen.deafened.notified() => std::future::pending().await,
        };
        let Some(Ok((request, respond))) = accepted else { break };
        tasks.spawn(answer(request, respond, script, Arc::clone(&seen)));
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
    seen.came.notify_one();
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    script: Script,
    seen: Arc<Seen>,
) {
    let (head, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        whole.extend_from_slice(&piece);
    }
    let doing = {
        let mut heads = lock(&seen.heads);
        heads.push(format!("{} {} {:?}", head.method, head.uri, head.headers));
        lock(&seen.bodies).push(whole.into());
        script(heads.len() - 1)
    };
    seen.came.notify_one();
    if let Doing::Reset(reason) = doing {
        return respond.send_reset(reason);
    }
    let permit = tokio::select! {
        permit = seen.gate.acquire() => permit.unwrap(),
        reason = poll_fn(|cx| respond.poll_reset(cx)) => return gone(&seen, reason),
    };
    permit.forget();
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    if doing == Doing::Half {
        stream.send_data(Bytes::from_static(b"o"), false).unwrap();
        gone(&seen, poll_fn(|cx| stream.poll_reset(cx)).await);
    } else if doing == Doing::Halves {
        stream.send_data(Bytes::from_static(b"o"), false).unwrap();
        seen.gate.acquire().await.unwrap().forget();
        stream.send_data(Bytes::from_static(b"k"), true).unwrap();
    } else if let Doing::Torn(reason) = doing {
        stream.send_data(Bytes::from_static(b"o"), false).unwrap();
        seen.gate.acquire().await.unwrap().forget();
        stream.send_reset(reason);
    } else {
        stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
    }
}

fn gone(seen: &Seen, reason: Result<Reason, h2::Error>) {
    lock(&seen.resets).push(reason.unwrap());
    seen.came.notify_one();
}

#[tokio::test]
async fn a_burst_shares_one_connection_and_each_request_is_whole() {
    let house = House::open(100, &LIMITS, |_| Doing::Answer).await;
    assert_eq!(house.burst(20).await, 1);
    assert_eq!(house.burst(20).await, 1);
    let head = lock(&house.seen.heads)[0].clone();
    assert!(head.starts_with("POST https://127.0.0.1:") && head.contains("/v1/x?a=1 "), "{head}");
    assert!(head.contains("\"content-length\": \"1\"") && !head.contains("\"host\""), "{head}");
    let big = Bytes::from(vec![b'x'; 1 << 20]);
    let mut request = post(&[]);
    request.request.body = crate::outbound::Segments::many(vec![big.clone(), "end".into()]);
    house.seen.gate.add_permits(1);
    assert_eq!(text(soon(house.egress.send(SEAT, request)).await.unwrap()).await, "ok");
    assert_eq!(lock(&house.seen.bodies).last().unwrap().len(), big.len() + 3);
}

#[tokio::test]
async fn more_requests_than_the_peer_allows_open_more_connections_and_none_is_lost() {
    let house = House::open(2, &LIMITS, |_| Doing::Answer).await;
    assert_eq!(house.burst(5).await, 3);
    assert_eq!(house.burst(6).await, 3);
}

#[tokio::test]
async fn a_refused_stream_is_sent_once_more_and_nothing_else_is() {
    let once: Script =
        |number| if number == 0 { Doing::Reset(Reason::REFUSED_STREAM) } else { Doing::Answer };
    let house = House::open(100, &LIMITS, once).await;
    house.seen.gate.add_permits(1);
    assert_eq!(text(soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap()).await, "ok");
    assert_eq!(lock(&house.seen.heads).len(), 2);
    for (script, requests) in [
        ((|_| Doing::Reset(Reason::REFUSED_STREAM)) as Script, 2),
        ((|_| Doing::Reset(Reason::INTERNAL_ERROR)) as Script, 1),
        ((|_| Doing::Reset(Reason::CANCEL)) as Script, 1),
    ] {
        let house = House::open(100, &LIMITS, script).await;
        let error = soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap_err();
        assert!(
            matches!(&error, SendError::Closed(words) if words.contains("ended the request")),
            "{error:?}"
        );
        assert_eq!(lock(&house.seen.heads).len(), requests);
    }
}

#[tokio::test]
async fn an_answer_whose_stream_is_reset_is_cut_even_if_that_is_called_no_error() {
    for script in [(|_| Doing::Torn(Reason::NO_ERROR)) as Script, |_| Doing::Torn(Reason::CANCEL)] {
        let house = House::open(100, &LIMITS, script).await;
        house.seen.gate.add_permits(1);
        let mut body = soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap().body;
        assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "o");
        house.seen.gate.add_permits(1);
        let end = soon(body.frame()).await;
        assert!(matches!(end, Some(Err(_))), "{end:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_the_rules_is_not_told_as_a_connection_that_broke() {
    let (upstream, config, _clients, egress) = offering(b"h2").await;
    let serve = async {
        let mut server = h2::server::handshake(upstream.accept_tls(config).await.unwrap().io).await.unwrap();
        for (name, value) in [("x", "a".repeat(MAX_HEAD)), ("content-length", "5".to_owned())] {
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            let answer = Response::builder().header(name, value).body(()).unwrap();
            respond.send_response(answer, false).unwrap().send_data(Bytes::from_static(b"ok"), true).unwrap();
        }
        let _ = server.accept().await;
    };
    let ask = async {
        let error = egress.send(SEAT, post(&["x"])).await.unwrap_err();
        let rules = "breaks the rules of HTTP/2";
        assert!(matches!(&error, SendError::Garbled(words) if words.contains(rules)), "{error:?}");
        let sent = egress.send(SEAT, post(&["x"])).await.unwrap();
        let error = sent.body.collect().await.unwrap_err();
        assert!(matches!(&error, LineError::Garbled(words) if words.contains(rules)), "{error:?}");
    };
    tokio::select! { () = soon(ask) => {}, () = serve => unreachable!("it stayed open") }
}

#[tokio::test]
async fn a_request_that_is_given_up_resets_its_own_stream_alone() {
    let house =
        House::open(100, &LIMITS, |number| if number == 0 { Doing::Half } else { Doing::Answer }).await;
    house.seen.gate.add_permits(1);
    let half = soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap();
    let other = house.egress.send(SEAT, post(&["y"]));
    tokio::pin!(other);
    tokio::select! { _ = &mut other => unreachable!("nobody answered"), () = house.until(|seen| lock(&seen.heads).len() == 2) => {} }
    tokio::select! { _ = house.egress.send(SEAT, post(&["z"])) => unreachable!("nobody answered"), () = house.until(|seen| lock(&seen.heads).len() == 3) => {} }
    house.until(|seen| lock(&seen.resets).len() == 1).await;
    drop(half);
    house.until(|seen| lock(&seen.resets).len() == 2).await;
    assert_eq!(*lock(&house.seen.resets), [Reason::CANCEL; 2]);
    house.seen.gate.add_permits(1);
    assert_eq!(text(soon(other).await.unwrap()).await, "ok");
    assert_eq!(house.connections(), 1);
}

/// Asked at once whether it is there, and given time for it.
const SOON: Pings = Pings { interval: SHORT, timeout: Duration::from_secs(1) };

const HALVES_THEN_WHOLE: Script = |number| if number == 0 { Doing::Halves } else { Doing::Answer };

#[tokio::test]
async fn a_connection_on_which_nothing_comes_any_more_takes_no_new_request() {
    let house = House::open(100, &LIMITS, |_| Doing::Answer).await;
    assert_eq!(house.burst(1).await, 1);
    house.seen.deafened.notify_waiters();
    let error = house.impatient(SHORT).send(SEAT, post(&["x"])).await.unwrap_err();
    assert!(matches!(error, SendError::FirstByteTimeout(_)), "{error:?}");
    assert_eq!(house.burst(3).await, 2);
}

#[tokio::test]
async fn a_slow_answer_retires_no_connection_on_which_others_come() {
    let house = House::open(100, &LIMITS, HALVES_THEN_WHOLE).await;
    house.seen.gate.add_permits(1);
    let halves = soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap();
    // The other half comes while the second request waits.
    house.outlasts(Duration::from_secs(1), || house.seen.gate.add_permits(1)).await;
    assert_eq!(text(halves).await, "ok");
    assert_eq!(house.burst(1).await, 1);
}

#[tokio::test]
async fn what_has_begun_on_a_connection_that_takes_no_new_request_goes_on() {
    let house = House::open(100, &LIMITS, HALVES_THEN_WHOLE).await;
    house.seen.gate.add_permits(1);
    let mut halves = soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap();
    // All that is still on the way has come: the half, and what follows no request.
    let half = soon(http_body_util::BodyExt::frame(&mut halves.body)).await.unwrap().unwrap();
    assert_eq!(half.into_data().unwrap(), "o");
    settle().await;
    house.outlasts(SHORT, || {}).await;
    // The permit for the other half, and that of the new request.
    house.seen.gate.add_permits(1);
    assert_eq!(house.burst(1).await, 2);
    assert_eq!(text(halves).await, "k");
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up_in_words_and_asked_nothing_again() {
    let house = House::pinged(100, &LIMITS, SOON, |n| if n == 1 { Doing::Half } else { Doing::Answer }).await;
    house.burst(1).await;
    house.seen.gate.add_permits(1);
    let half = soon(house.egress.send(SEAT, post(&["x"]))).await.unwrap();
    let deafen = async {
        house.until(|seen| lock(&seen.heads).len() == 3).await;
        house.seen.deafened.notify_waiters();
    };
    let (sent, ()) = tokio::join!(soon(house.egress.send(SEAT, post(&["y"]))), deafen);
    let error = sent.unwrap_err();
    let words = "fell silent before it answered, and the connection was given up: a ping of HTTP/2 was not answered within 1s";
    assert!(matches!(&error, SendError::Closed(told) if told.ends_with(words)), "{error:?}");
    assert!(error.reached_upstream() && error.to_string().starts_with("127.0.0.1:"), "{error}");
    let error = read(half.body).await.unwrap_err();
    assert!(matches!(error, LineError::Unanswered(_)), "{error:?}");
    assert_eq!((lock(&house.seen.heads).len(), house.connections()), (3, 1));
    // What was asked on the dead connection is answered first, to nobody.
    house.seen.gate.add_permits(1);
    assert_eq!(house.burst(2).await, 2);
}

#[tokio::test]
async fn a_slow_answer_of_a_peer_that_answers_pings_is_waited_for() {
    let house = House::pinged(100, &LIMITS, SOON, |_| Doing::Answer).await;
    let (sent, ()) = tokio::join!(house.egress.send(SEAT, post(&["x"])), async {
        house.until(|seen| lock(&seen.heads).len() == 1).await;
        tokio::time::sleep(2 * SOON.timeout).await;
        house.seen.gate.add_permits(1);
    });
    assert_eq!(text(sent.unwrap()).await, "ok");
}

#[tokio::test]
async fn an_idle_or_old_connection_is_closed_and_a_stop_closes_all() {
    for limits in [
        EgressLimits { pool_idle: SHORT, ..LIMITS },
        EgressLimits { max_connection_age: Duration::from_millis(200), ..LIMITS },
        LIMITS,
    ] {
        let house = House::open(100, &limits, |_| Doing::Answer).await;
        // One, unless the machine is so slow that it is old before all three are on it.
        assert!(house.burst(3).await >= 1);
        if limits == LIMITS {
            house.clients.close();
        }
        house.until(|seen| seen.open.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn an_old_connection_takes_no_new_request_but_ends_what_it_has() {
    let limits = EgressLimits { max_connection_age: Duration::ZERO, ..LIMITS };
    let house = House::open(100, &limits, |_| Doing::Answer).await;
    assert_eq!(house.burst(3).await, 3);
}

#[tokio::test]
async fn what_a_leaving_peer_did_not_begin_goes_to_another_connection() {
    let (upstream, config, _clients, egress) = offering(b"h2").await;
    let serve = async {
        let mut leaving = upstream.accept_tls(Arc::clone(&config)).await.unwrap().io;
        leaving.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        // The preface, then frames up to the head of a request.
        leaving.read_exact(&mut [0; 24]).await.unwrap();
        loop {
            let mut frame = [0; 9];
            leaving.read_exact(&mut frame).await.unwrap();
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
            leaving.read_exact(&mut vec![0; length]).await.unwrap();
            if frame[3] == 1 {
                break;
            }
        }
        // GOAWAY: the last stream that was begun is number 0.
        leaving.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        answer_one(&upstream, config).await;
        drop(leaving);
    };
    let sent = async { text(egress.send(SEAT, post(&["x"])).await.unwrap()).await };
    tokio::select! { answer = soon(sent) => assert_eq!(answer, "ok"), () = serve => unreachable!("it stayed open") }
}

#[tokio::test]
async fn a_peer_that_says_goodbye_as_it_lets_us_in_is_left_for_another_connection() {
    for settings in [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[]] {
        let (upstream, config, _clients, egress) = offering(b"h2").await;
        let serve = async {
            let mut leaving = upstream.accept_tls(Arc::clone(&config)).await.unwrap().io;
            let goodbye = [settings, &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
            leaving.write_all(&goodbye).await.unwrap();
            answer_one(&upstream, config).await;
            drop(leaving);
        };
        let sent = async { text(egress.send(SEAT, post(&["x"])).await.unwrap()).await };
        tokio::select! { answer = soon(sent) => assert_eq!(answer, "ok"), () = serve => unreachable!("it stayed open") }
    }
}

/// Answers the first request on the next connection, and waits until that ends.
async fn answer_one(upstream: &Upstream, config: Arc<ServerConfig>) {
    let next = upstream.accept_tls(config).await.unwrap().io;
    let mut server = h2::server::handshake(next).await.unwrap();
    let (_, mut respond) = server.accept().await.unwrap().unwrap();
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
    let _ = server.accept().await;
}

#[tokio::test]
async fn a_peer_that_chooses_http_1_is_spoken_to_in_it() {
    let (upstream, config, _clients, egress) = offering(b"http/1.1").await;
    for _ in 0..2 {
        let (sent, got) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
            let mut peer = upstream.accept_tls(Arc::clone(&config)).await.unwrap();
            peer.serve().await
        });
        assert!(got.starts_with("POST /v1/x?a=1 HTTP/1.1\r\n"), "{got}");
        drop(sent.unwrap());
    }
}

#[tokio::test]
async fn a_peer_that_refuses_our_certificate_or_leaves_at_once_has_its_words() {
    let authority = Authority::new();
    let pair = authority.issue(&["127.0.0.1"], |_| {});
    let mut strict = (*server(&pair, &[&TLS13], Some(&authority))).clone();
    strict.alpn_protocols = vec![b"h2".to_vec()];
    let upstream = Upstream::bind().await;
    let clients = Clients::new(1, Tasks::new());
    let profile = Profile { http2: true, ..authority.trusted() };
    let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, &LIMITS).unwrap();
    let (sent, _) = tokio::join!(soon(egress.send(SEAT, post(&["x"]))), upstream.accept_tls(strict.into()));
    let error = sent.unwrap_err();
    assert!(matches!(&error, SendError::Tls(words) if words.contains("`client_cert_file`")), "{error:?}");
    let leave = async {
        for _ in 0..2 {
            drop(upstream.accept_tls(speaking(&pair, &[b"h2"])).await.unwrap());
        }
    };
    let (sent, ()) = soon(async { tokio::join!(egress.send(SEAT, post(&["x"])), leave) }).await;
    let error = sent.unwrap_err();
    assert!(matches!(&error, SendError::Connect(_)) && !error.reached_upstream(), "{error:?}");
}
