//! One signed request out, one response head back: destinations, their connections and what may fail on the way.
//!
//! The pool is our own: connections are kept per seat (a socket belongs to the runtime that opened it), age, tell exactly
//! what failed, and are resent on only when no byte of the request was written. HTTP/2 is hyper's.

mod address;
mod alarm;
mod body;
mod clock;
mod connect;
mod error;
mod http1;
mod lookup;
mod message;
mod pool;
mod preview;
mod reach;
mod secure;
mod shared;
mod socket;
#[cfg(test)]
mod testing;
mod through;
mod wire;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::response::Parts;
use http::{HeaderValue, Uri};
use tokio::time::Instant;

pub use body::Body;
pub use error::{LineError, SendError};
pub use preview::{ProxyRoute, Route, TlsRoute};
pub use reach::{Met, MetTls};

use crate::config::valid;
use crate::outbound::{Signed, Unsigned};
use crate::tasks::{Seat, Tasks};
use crate::tls;
use address::Address;
use clock::Clock;
use connect::{Destination, Moment};
use http1::Line;
use lookup::Lookup;
use pool::{Keep, Lease, Pool};
use secure::Secure;
use shared::{Pings, Slot};
use socket::Socket;
use through::Through;

/// One destination with its pool, limits and TLS. Clones share all of it.
#[derive(Clone, Debug)]
pub struct Egress {
    pool: Arc<Pool>,
    limits: EgressLimits,
}

/// How long the steps of a request may take, and how long a connection is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// From the request having been handed to a connection until the response head, interim answers included.
    pub first_byte: Duration,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// The oldest that a connection is used again.
    pub max_connection_age: Duration,
}

/// Longer than any process lives, and short enough to be added to a clock.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl EgressLimits {
    fn within(self, most: Duration) -> Self {
        Self {
            connect: self.connect.min(most),
            first_byte: self.first_byte.min(most),
            pool_idle: self.pool_idle.min(most),
            max_connection_age: self.max_connection_age.min(most),
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub struct Sent {
    /// The head.
    pub head: Parts,
    /// What is still to be read. Dropped before its end, it closes its connection at once.
    pub body: Body,
    /// How long connecting took; `None` if a connection was used again.
    pub connected: Option<Duration>,
    /// When the head came.
    pub heard: Instant,
}

impl Egress {
    /// What is put on each request besides its own fields and is a secret: our credentials for a proxy that passes
    /// requests on. It is not marked sensitive.
    pub fn proxy_authorization(&self) -> Option<&HeaderValue> {
        self.pool.destination().proxy_authorization()
    }

    /// Sends `request` once and resolves with the response head; the body is still to be read.
    ///
    /// Of the request's URL only path and query count: where it goes is the destination's. `host`, `user-agent`
    /// (unless set) and framing are added here. A request goes to a second connection only if the first, a used one,
    /// turned out to be closed before a byte of it was written, or over HTTP/2 the peer says that it did nothing for it
    /// (`REFUSED_STREAM`, `GOAWAY`; RFC 9113 §8.7) or leaves before it was asked anything, and then once.
    ///
    /// # Errors
    ///
    /// Connecting and waiting for the head are bounded by the limits; an answer that makes no sense as HTTP/1.1
    /// (RFC 9112), and a 101 that nobody asked for, are errors too.
    pub async fn send(&self, seat: Seat, request: Signed) -> Result<Box<Sent>, SendError> {
        let mut request = request.request;
        let mut refused = false;
        loop {
            let (lease, connected) = self.lease(seat).await?;
            let sent = match lease {
                Lease::Line(line) => self.exchange(line, &mut request, connected, seat).await,
                // Boxed: few speak HTTP/2, and it would make room in every request's future.
                Lease::Slot(slot) => Box::pin(self.stream(slot, &request, connected)).await,
            };
            match sent {
                Ok(sent) => return Ok(sent),
                Err(Failed::Unsent(_)) if connected.is_none() => {}
                Err(Failed::Refused(_)) if !std::mem::replace(&mut refused, true) => {}
                Err(Failed::Unsent(error) | Failed::Refused(error) | Failed::Sent(error)) => {
                    return Err(error);
                }
            }
        }
    }

    /// What its requests say as `host`.
    pub fn host(&self) -> &HeaderValue {
        self.pool.destination().host_field()
    }

    /// An idle connection, a stream of one that others use, or a new one and how long it took.
    async fn lease(&self, seat: Seat) -> Result<(Lease, Option<Duration>), SendError> {
        if let Some(line) = self.pool.reuse(seat).await {
            return Ok((Lease::Line(line), None));
        }
        if let Some(slot) = self.pool.join(seat).await {
            return Ok((Lease::Slot(slot), None));
        }
        // Boxed: the handshake is large, rare, and not what every request should carry about.
        Box::pin(self.open(seat)).await
    }

    async fn open(&self, seat: Seat) -> Result<(Lease, Option<Duration>), SendError> {
        let clock = Clock::start(self.pool.destination().shown(), self.limits.connect);
        let turn = clock.bound("another connection, which could be shared,", self.pool.turn(seat)).await?;
        if turn.is_some()
            && let Some(slot) = self.pool.join(seat).await
        {
            return Ok((Lease::Slot(slot), None));
        }
        let (lease, took) = self.pool.open(seat, &clock).await?;
        Ok((lease, Some(took)))
    }

    /// Sends `request` on `line`, and its answer's head; leaves the body to the request if no byte of it was written.
    async fn exchange(
        &self,
        mut line: Box<Line>,
        request: &mut Unsigned,
        connected: Option<Duration>,
        seat: Seat,
    ) -> Result<Box<Sent>, Failed> {
        let to = self.pool.destination();
        line.ask(request.method.clone(), to.head(request), std::mem::take(&mut request.body));
        let head = match line.hear(self.limits.first_byte).await {
            Some(Ok(head)) => head,
            Some(Err(failure)) => {
                let unsent = line.take_unsent();
                let error = to.explain(&failure, line.moment(unsent.is_some(), connected.is_some()));
                return Err(match unsent {
                    Some(body) => {
                        request.body = body;
                        Failed::Unsent(error)
                    }
                    None => Failed::Sent(error),
                });
            }
            None => return Err(Failed::Sent(SendError::silent(to.shown(), self.limits.first_byte))),
        };
        if let Some(refusal) = to.refusal(head.status, &head.headers) {
            return Err(Failed::Sent(refusal));
        }
        let (body, heard) = (Body::new(line, &self.pool, seat), Instant::now());
        // Boxed: it is handed on from step to step.
        Ok(Box::new(Sent { head, body, connected, heard }))
    }

    /// Likewise on a stream of HTTP/2.
    async fn stream(
        &self,
        slot: Slot,
        request: &Unsigned,
        connected: Option<Duration>,
    ) -> Result<Box<Sent>, Failed> {
        let to = self.pool.destination();
        let asked = slot.send(to.compose(request));
        let mut failure = match tokio::time::timeout(self.limits.first_byte, asked).await {
            Ok(Ok(response)) => {
                let (head, incoming) = response.into_parts();
                let (body, heard) = (Body::of_stream(incoming, slot), Instant::now());
                return Ok(Box::new(Sent { head, body, connected, heard }));
            }
            Ok(Err(failure)) => failure,
            Err(_) => {
                slot.retire_if_silent();
                return Err(Failed::Sent(SendError::silent(to.shown(), self.limits.first_byte)));
            }
        };
        let is_unsent = failure.take_message().is_some();
        let error = failure.into_error();
        let is_unprocessed = error::cause::<h2::Error>(&error).is_some_and(shared::is_unprocessed);
        if is_unsent || is_unprocessed {
            slot.retire();
        }
        let met = Moment { unsent: is_unsent, fresh: false, renegotiable: false, spoke_tls: false };
        let words = to.explain(&slot.explain(error), met);
        Err(match (is_unsent, is_unprocessed) {
            // It said goodbye as it let us in. If TLS refused us, the next would too.
            (true, _) if connected.is_some() && matches!(words, SendError::Connect(_)) => {
                Failed::Refused(words)
            }
            (true, _) => Failed::Unsent(words),
            (false, true) => Failed::Refused(words),
            (false, false) => Failed::Sent(words),
        })
    }
}

/// Why there is no answer, and whether the request may be sent again.
enum Failed {
    /// No byte of it was written.
    Unsent(SendError),
    /// The peer says that it has done nothing for it.
    Refused(SendError),
    /// The peer may have begun to work on it.
    Sent(SendError),
}

/// All clients of the process. Two endpoints share connections only if scheme, authority, TLS, proxy and the limits
/// on keeping connections are the same; what is unchanged by a reload keeps its connections through it.
#[derive(Debug)]
pub struct Clients {
    seats: usize,
    tasks: Tasks,
    pings: Pings,
    pools: Mutex<HashMap<Key, Weak<Pool>>>,
    /// Those of processes of our own.
    beside: Mutex<Vec<Weak<Pool>>>,
}

/// What must be equal for two endpoints to share connections: never the host alone, which would mix client
/// certificates.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    address: Address,
    tls: Option<tls::Material>,
    proxy: valid::Proxy,
    proxy_tls: Option<tls::Material>,
    keep: Keep,
}

impl Key {
    fn destination(&self, tasks: &Tasks) -> Result<Destination, String> {
        let lookup = || Lookup::new(tasks.clone());
        let secure = self.tls.as_ref().map(|material| Secure::new(&self.address, material));
        let entrance = self.proxy.entrance()?;
        let through = entrance.map(|entrance| Through::new(entrance, self.proxy_tls.as_ref(), lookup()));
        Destination::new(self.address.clone(), secure.transpose()?, through.transpose()?, lookup())
    }
}

/// What is read for TLS with a proxy that speaks it: the endpoint's authorities, and nothing that proves who we are.
fn proxy_tls(proxy: &valid::Proxy, profile: &tls::Profile) -> Result<Option<tls::Material>, String> {
    let is_secure = proxy.entrance()?.is_some_and(|at| at.uri.scheme_str() == Some("https"));
    if !is_secure {
        return Ok(None);
    }
    let (ca_files, ca_mode) = (profile.ca_files.clone(), profile.ca_mode);
    tls::read(&tls::Profile { ca_files, ca_mode, ..tls::Profile::default() }).map(Some)
}

impl Clients {
    /// No clients yet, for `seats` worker threads; connections run as tasks of `tasks`.
    pub fn new(seats: usize, tasks: Tasks) -> Self {
        let pings = Pings::USUAL;
        Self { seats, tasks, pings, pools: Mutex::default(), beside: Mutex::default() }
    }

    /// The egress for one endpoint, of which only scheme and authority count.
    ///
    /// Reads certificate files: it belongs to the building of an integration, not to a request. The system's
    /// authorities are read once, for the first https endpoint.
    ///
    /// # Errors
    ///
    /// What is wrong in the world, in words that name the file or key: a missing or broken CA file, a key that does
    /// not match its certificate, or something that this version cannot do.
    pub fn egress(
        &self,
        destination: &Uri,
        profile: &tls::Profile,
        proxy: &valid::Proxy,
        limits: &EgressLimits,
    ) -> Result<Egress, String> {
        let address = Address::new(destination)?;
        let limits = limits.within(FOREVER);
        let key = Key {
            tls: if address.is_secure() { Some(tls::read(profile)?) } else { None },
            address,
            proxy: proxy.clone(),
            proxy_tls: proxy_tls(proxy, profile)?,
            keep: self.keep(&limits),
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| pool.strong_count() > 0);
        let known = pools.get(&key).and_then(Weak::upgrade);
        let pool = match known {
            Some(pool) => pool,
            None => {
                let pool = Pool::new(key.destination(&self.tasks)?, key.keep, self.seats, self.tasks.clone());
                pools.insert(key, Arc::downgrade(&pool));
                pool
            }
        };
        Ok(Egress { pool, limits })
    }

    /// The egress for one process of our own that listens on the Unix socket at `path`, over HTTP/1.1 without TLS. Its
    /// connections are shared with no other call's, whatever its path, and go with its last clone. Before a byte is
    /// sent the socket's opener is checked to be the user that we run as.
    ///
    /// No error of a request names `path`: it could reach a client.
    ///
    /// # Errors
    ///
    /// `path` is longer than a Unix socket's can be.
    pub fn worker(&self, path: &Path, limits: &EgressLimits) -> Result<Egress, String> {
        let limits = limits.within(FOREVER);
        let keep = self.keep(&limits);
        let destination = Destination::beside(Socket::new(path)?);
        let pool = Pool::new(destination, keep, self.seats, self.tasks.clone());
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.retain(|pool| pool.strong_count() > 0);
        beside.push(Arc::downgrade(&pool));
        Ok(Egress { pool, limits })
    }

    fn keep(&self, limits: &EgressLimits) -> Keep {
        Keep { idle: limits.pool_idle, age: limits.max_connection_age, pings: self.pings }
    }

    /// Closes idle connections, and busy ones as soon as their answer has been read: for a stop.
    pub fn close(&self) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in pools.values().chain(beside.iter()).filter_map(Weak::upgrade) {
            pool.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[tokio::test]
    async fn the_request_head_is_ours_and_its_body_comes_in_its_pieces() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut request = post(&["{\"model\":", "", "\"m\"}"]);
        for (name, value) in
            [("connection", "x"), ("transfer-encoding", "chunked"), ("content-length", "999")]
        {
            request.request.headers.insert(name, value.parse().unwrap());
        }
        let (sent, got) = tokio::join!(egress.send(SEAT, request), async {
            let mut peer = upstream.accept().await;
            peer.serve().await
        });
        let expected = format!(
            "POST /v1/x?a=1 HTTP/1.1\r\ncontent-type: application/json\r\nhost: 127.0.0.1:{}\r\n\
             user-agent: outrider/{}\r\ncontent-length: 13\r\n\r\n{{\"model\":\"m\"}}",
            upstream.port(),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(got, expected);
        assert_eq!(text(sent.unwrap()).await, "ok");
    }

    #[tokio::test]
    async fn a_body_dropped_before_its_end_closes_the_upstream() {
        for begun in
            ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n", CHUNK]
        {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let (sent, mut peer) = upstream.answer(&egress, begun).await;
            settle().await;
            drop(sent.unwrap());
            peer.closed().await;
        }
    }

    #[tokio::test]
    async fn a_request_given_up_before_its_head_closes_the_upstream() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut peer = tokio::select! {
            _ = egress.send(SEAT, post(&["x"])) => unreachable!("nobody answered"),
            peer = async { let mut peer = upstream.accept().await; peer.request().await; peer } => peer,
        };
        peer.closed().await;
    }

    #[tokio::test]
    async fn a_request_given_up_while_the_upstream_reads_nothing_leaves_no_connection_behind() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut request = post(&[]);
        request.request.body = crate::outbound::Segments::one(vec![b'x'; LARGE].into());
        let mut peer = tokio::select! {
            _ = egress.send(SEAT, request) => unreachable!("nobody answered"),
            peer = async { let peer = upstream.accept().await; settle().await; peer } => peer,
        };
        assert!(peer.closed().await < LARGE / 2, "the rest of the request was kept for it");
    }

    #[tokio::test]
    async fn a_silent_upstream_is_given_up_at_first_byte_and_closed() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(EgressLimits { first_byte: SHORT, ..LIMITS });
        let (sent, mut peer) = upstream.answer(&egress, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200").await;
        let error = sent.unwrap_err();
        let words = format!("127.0.0.1:{} did not begin to answer within 50ms (first_byte)", upstream.port());
        assert_eq!((error.to_string(), error.reached_upstream()), (words, true));
        peer.closed().await;
    }

    #[tokio::test]
    async fn an_upstream_that_closes_without_an_answer_is_told_apart_and_not_asked_again() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut peer = upstream.warm(&egress).await;
        let (sent, ()) = tokio::join!(egress.send(SEAT, post(&["once"])), async {
            peer.request().await;
            drop(peer);
        });
        let error = sent.unwrap_err();
        assert!(
            matches!(&error, SendError::Closed(words) if words.contains("before it answered")),
            "{error:?}"
        );
        assert!(error.reached_upstream());
        assert!(!upstream.is_called().await, "a POST that had been read was sent again");
    }

    #[tokio::test]
    async fn a_request_that_met_a_closed_connection_goes_to_a_new_one_if_nothing_was_written() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        drop(upstream.warm(&egress).await);
        // Idle for long enough to be looked at; the runtime has had no chance to see the end.
        std::thread::sleep(2 * pool::NOTICE);
        let sent = tokio::select! { biased;
            sent = egress.send(SEAT, post(&["x"])) => sent.unwrap(),
            () = async { upstream.accept().await.serve_then_wait().await } => unreachable!("it stayed open"),
        };
        assert!(sent.connected.is_some());
        assert_eq!(text(sent).await, "ok");
    }

    #[tokio::test]
    async fn an_answer_that_makes_no_sense_is_refused_and_its_connection_closed() {
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70 << 10));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(101));
        for (answer, words) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 50\r\n\r\nhello", "content-length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", "content-length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "both"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "other than `chunked`"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", "other than `chunked`"),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "101"),
            ("HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\n{}", "header"),
            ("HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n", "header"),
            ("SSH-2.0-OpenSSH_9.9\r\n", "HTTP"),
            (head.as_str(), "64 KiB"),
            (many.as_str(), "100 fields"),
        ] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let (sent, mut peer) = upstream.answer(&egress, answer).await;
            let error = sent.unwrap_err();
            assert!(
                matches!(&error, SendError::Garbled(text) if text.contains(words)),
                "{answer:.80} gave {error:?}"
            );
            peer.closed().await;
        }
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over_but_not_without_end() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
        let (sent, mut peer) = upstream.answer(&egress, &format!("{}{OK}", interim.repeat(3))).await;
        assert_eq!(text(sent.unwrap()).await, "ok");
        let flood = async {
            peer.request().await;
            let some = interim.repeat(1000);
            while tokio::io::AsyncWriteExt::write_all(&mut peer.io, some.as_bytes()).await.is_ok() {}
        };
        let (sent, ()) = soon(async { tokio::join!(egress.send(SEAT, post(&["x"])), flood) }).await;
        let error = sent.unwrap_err();
        assert!(matches!(&error, SendError::Garbled(words) if words.contains("1024 KiB")), "{error:?}");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_or_badly_framed_never_looks_complete() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12345678",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        ] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let (sent, peer) = upstream.answer(&egress, answer).await;
            drop(peer);
            assert!(read(sent.unwrap().body).await.is_err(), "{answer:?} looked complete");
        }
    }

    #[tokio::test]
    async fn endpoints_share_connections_only_if_they_are_the_same_in_all_that_matters() {
        let clients = Clients::new(1, Tasks::new());
        let plain = tls::Profile::default();
        let of = |url: &str, limits: &EgressLimits| {
            let url = url.parse().unwrap();
            clients.egress(&url, &plain, &valid::Proxy::Direct, limits).unwrap()
        };
        let first = of("http://a.example/x", &LIMITS);
        let same = of("http://A.example:80/y", &EgressLimits { first_byte: SHORT, ..LIMITS });
        assert!(Arc::ptr_eq(&first.pool, &same.pool));
        assert_eq!(same.limits.first_byte, SHORT);
        let others = [
            of("http://a.example:81/x", &LIMITS),
            of("http://b.example/x", &LIMITS),
            of("http://a.example/x", &EgressLimits { pool_idle: SHORT, ..LIMITS }),
        ];
        assert!(others.iter().all(|other| !Arc::ptr_eq(&first.pool, &other.pool)));
    }
}
