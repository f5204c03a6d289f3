//! One HTTP/2 connection, shared by the requests of one seat up to the number of streams that the peer allows.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::message::Outgoing;
use super::pool::MAX_HEAD;
use super::wire::{Pulse, Stream, Wire};
use crate::tasks::Tasks;

/// What one answer may have on the way that nobody has read yet, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all answers on one connection: readers that are slow must be many before they hold up the others.
const CONNECTION_WINDOW: u32 = 8 << 20;

type Running = Connection<TokioIo<Wire>, Outgoing, Exec>;

/// An open connection. Dropped, it closes; a [`Slot`] keeps it.
#[derive(Debug)]
pub(super) struct Shared {
    sender: SendRequest<Outgoing>,
    connection: Arc<Mutex<Running>>,
    pulse: Arc<Pulse>,
    born: Instant,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    streams: usize,
    /// When a stream last ended.
    since: Instant,
    /// It takes no new streams: the peer is about to leave, or refused one.
    retired: bool,
}

/// The right to one stream; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Shared>);

impl Shared {
    /// Begins to speak HTTP/2 on `stream`, and waits until the peer has said how many streams it allows: a first burst
    /// would else be refused (RFC 9113 §5.1.2).
    ///
    /// # Errors
    ///
    /// The pulse of a connection that ended before; it knows why.
    pub(super) async fn start(stream: Stream, tasks: &Tasks) -> Result<Arc<Self>, Arc<Pulse>> {
        let pulse = Arc::new(Pulse::default());
        let wire = TokioIo::new(Wire::new(stream, Arc::clone(&pulse)));
        let mut builder = Builder::new(Exec(tasks.clone()));
        builder.initial_max_send_streams(0).max_header_list_size(MAX_HEAD as u32);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let Ok((sender, connection)) = builder.handshake(wire).await else { return Err(pulse) };
        let connection = Arc::new(Mutex::new(connection));
        let driven = Arc::clone(&connection);
        tasks.spawn(poll_fn(move |cx| Pin::new(&mut *lock(&driven)).poll(cx)));
        let now = Instant::now();
        let usage = Mutex::new(Usage { streams: 0, since: now, retired: false });
        let shared = Self { sender, connection, pulse, born: now, usage };
        while shared.allowed() == 0 {
            if shared.pulse.has_ended() || !shared.sender.is_ready() {
                return Err(Arc::clone(&shared.pulse));
            }
            shared.pulse.news().await;
        }
        Ok(Arc::new(shared))
    }

    /// A stream, if the peer allows one more.
    pub(super) fn join(self: &Arc<Self>) -> Option<Slot> {
        let allowed = self.allowed();
        let mut usage = lock(&self.usage);
        let is_free = usage.streams < allowed && !usage.retired && self.sender.is_ready();
        is_free.then(|| {
            usage.streams += 1;
            Slot(Arc::clone(self))
        })
    }

    /// Whether it may ever take a stream again.
    pub(super) fn is_good(&self) -> bool {
        !lock(&self.usage).retired && self.sender.is_ready() && !self.pulse.has_ended()
    }

    /// When it was opened.
    pub(super) fn born(&self) -> Instant {
        self.born
    }

    /// Since when it has no stream; `None` while it has.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let usage = lock(&self.usage);
        (usage.streams == 0).then_some(usage.since)
    }

    fn allowed(&self) -> usize {
        lock(&self.connection).current_max_send_streams()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pulse.abandon();
    }
}

impl Slot {
    /// Hands `request` to the connection; an error holds the request if no byte of it was written. Dropped before its
    /// end, it resets this stream alone.
    pub(super) fn send(
        &self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<> {
        self.0.sender.clone().try_send_request(request)
    }

    /// Lets the connection take no new streams; those that it has go on.
    pub(super) fn retire(&self) {
        lock(&self.0.usage).retired = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut usage = lock(&self.0.usage);
        usage.streams -= 1;
        usage.since = Instant::now();
    }
}

/// Whether the peer says that it has done nothing for a request (RFC 9113 §8.7).
pub(super) fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Runs what hyper wants to have run.
#[derive(Clone, Debug)]
struct Exec(Tasks);

impl<F> hyper::rt::Executor<F> for Exec
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use h2::server::SendResponse;
    use h2::{Reason, RecvStream};
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
        came: tokio::sync::Notify,
    }

    fn speaking(pair: &crate::tls::testing::Pair, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = (*server(pair, &[&TLS13], None)).clone();
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Arc::new(config)
    }

    impl House {
        async fn open(most: u32, limits: &EgressLimits, script: Script) -> Self {
            let authority = Authority::new();
            let config = speaking(&authority.issue(&["127.0.0.1"], |_| {}), &[b"h2"]);
            let upstream = Upstream::bind().await;
            let clients = Clients::new(1, Tasks::new());
            let profile = Profile { http2: true, ..authority.trusted() };
            let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, limits).unwrap();
            let seen = Arc::new(Seen {
                gate: Semaphore::new(0),
                connections: AtomicUsize::new(0),
                open: AtomicUsize::new(0),
                heads: Mutex::default(),
                bodies: Mutex::default(),
                resets: Mutex::default(),
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
            self.seen.connections.load(Ordering::SeqCst)
        }
    }

    async fn connection<S>(io: S, most: u32, script: Script, seen: Arc<Seen>, tasks: Tasks)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let mut server = h2::server::Builder::new();
        let mut server = server.max_concurrent_streams(most).handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok((request, respond))) = server.accept().await {
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
        assert_eq!(house.seen.connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_idle_or_old_connection_is_closed_and_a_stop_closes_all() {
        for limits in [
            EgressLimits { pool_idle: SHORT, ..LIMITS },
            EgressLimits { max_connection_age: Duration::from_millis(200), ..LIMITS },
            LIMITS,
        ] {
            let house = House::open(100, &limits, |_| Doing::Answer).await;
            assert_eq!(house.burst(3).await, 1);
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
        let authority = Authority::new();
        let config = speaking(&authority.issue(&["127.0.0.1"], |_| {}), &[b"h2"]);
        let upstream = Upstream::bind().await;
        let clients = Clients::new(1, Tasks::new());
        let profile = Profile { http2: true, ..authority.trusted() };
        let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, &LIMITS).unwrap();
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
            let next = upstream.accept_tls(config).await.unwrap().io;
            let mut server = h2::server::handshake(next).await.unwrap();
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
            let _ = server.accept().await;
            drop(leaving);
        };
        let sent = async { text(egress.send(SEAT, post(&["x"])).await.unwrap()).await };
        tokio::select! { answer = soon(sent) => assert_eq!(answer, "ok"), () = serve => unreachable!("it stayed open") }
    }

    #[tokio::test]
    async fn a_peer_that_chooses_http_1_is_spoken_to_in_it() {
        let authority = Authority::new();
        let config = speaking(&authority.issue(&["127.0.0.1"], |_| {}), &[b"http/1.1"]);
        let upstream = Upstream::bind().await;
        let clients = Clients::new(1, Tasks::new());
        let profile = Profile { http2: true, ..authority.trusted() };
        let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, &LIMITS).unwrap();
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
        let (sent, _) =
            tokio::join!(soon(egress.send(SEAT, post(&["x"]))), upstream.accept_tls(strict.into()));
        let error = sent.unwrap_err();
        assert!(matches!(&error, SendError::Tls(words) if words.contains("`client_cert_file`")), "{error:?}");
        let (sent, _) = tokio::join!(soon(egress.send(SEAT, post(&["x"]))), async {
            drop(upstream.accept_tls(speaking(&pair, &[b"h2"])).await.unwrap());
        });
        let error = sent.unwrap_err();
        assert!(matches!(&error, SendError::Connect(_)) && !error.reached_upstream(), "{error:?}");
    }
}
