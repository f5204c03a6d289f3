//! The connections of one destination: kept per seat, used again last in first out, closed when idle or old.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::clock::Clock;
use super::connect::Destination;
use super::error::SendError;
use super::http1::Line;
use super::shared::{Pings, Shared, Slot};
use super::wire::{Seen, Stream};
use crate::tasks::{Seat, Tasks};

/// Idle for longer than this, a connection is looked at before it is used again: its peer may just have closed it, and the
/// runtime not yet noticed. A trade: looking costs each request of a busy caller a system call, and what a peer closes
/// sooner than this without having said so, as one that restarts does, costs the request that is sent on it.
pub(super) const NOTICE: Duration = Duration::from_millis(50);

/// The least time after which a busy connection is looked at again.
const AGAIN: Duration = Duration::from_millis(10);

/// How long connections are kept, and how a dead one of HTTP/2 is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Keep {
    pub(super) idle: Duration,
    pub(super) age: Duration,
    pub(super) pings: Pings,
}

/// One destination's connections. Dropped, it closes those that are idle.
#[derive(Debug)]
pub(super) struct Pool {
    destination: Destination,
    keep: Keep,
    seats: Box<[Mutex<Shelf>]>,
    /// One for each seat: a burst opens one connection of HTTP/2, not one for each request.
    turns: Box<[Semaphore]>,
    /// The server chose HTTP/1.1, although it might have chosen HTTP/2.
    single: AtomicBool,
    tasks: Tasks,
    /// Its end, or a value in it, ends the reapers.
    closed: watch::Sender<bool>,
}

/// The idle connections of one seat.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    /// Connections of HTTP/2, with streams or without.
    shared: Vec<Arc<Shared>>,
    /// Whether a task is there that closes what has expired, or what its peer has closed.
    reaped: bool,
    /// Calls that task, and when it looks again by itself.
    reaper: Option<(Waker, Instant)>,
}

#[derive(Debug)]
struct Idle {
    line: Box<Line>,
    since: Instant,
}

/// The right to send one request, on a connection of its own or on one that others use too.
#[derive(Debug)]
pub(super) enum Lease {
    /// A connection of HTTP/1.1.
    Line(Box<Line>),
    /// A stream of HTTP/2.
    Slot(Slot),
}

impl Pool {
    pub(super) fn new(destination: Destination, keep: Keep, seats: usize, tasks: Tasks) -> Arc<Self> {
        let turns = (0..seats).map(|_| Semaphore::new(1)).collect();
        let seats = (0..seats).map(|_| Mutex::default()).collect();
        let (single, closed) = (AtomicBool::new(false), watch::channel(false).0);
        Arc::new(Self { destination, keep, seats, turns, single, tasks, closed })
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Opens a connection before `clock` is over, on this thread's runtime; also says how long that took.
    pub(super) async fn open(
        self: &Arc<Self>,
        seat: Seat,
        clock: &Clock<'_>,
    ) -> Result<(Lease, Duration), SendError> {
        let (begin, mut has_left) = (Instant::now(), false);
        loop {
            let stream = self.destination.connect(clock).await?;
            if !stream.speaks_http2() {
                self.single.store(true, Ordering::Relaxed);
                return Ok((Lease::Line(Box::new(Line::new(stream))), begin.elapsed()));
            }
            match self.share(seat, stream, clock).await {
                // One that restarts may let us in and say goodbye at once; nothing was asked of it yet.
                Err(SendError::Connect(_)) if !std::mem::replace(&mut has_left, true) => {}
                shared => return Ok((Lease::Slot(shared?), begin.elapsed())),
            }
        }
    }

    /// A stream of a connection that others use too, if there is one with room.
    pub(super) async fn join(&self, seat: Seat) -> Option<Slot> {
        if !self.destination.may_share() {
            return None;
        }
        let is_quiet = |it: &Arc<Shared>| it.idle_since().is_some_and(|since| since.elapsed() > NOTICE);
        if self.shelf(seat)?.shared.iter().any(is_quiet) {
            tokio::task::yield_now().await;
        }
        let mut shelf = self.shelf(seat)?;
        let now = Instant::now();
        shelf.shared.retain(|it| self.may_stay(it, now));
        shelf.shared.iter().find_map(Shared::join)
    }

    /// Waits until nobody else opens a connection that could be shared; `None` where none can.
    pub(super) async fn turn(&self, seat: Seat) -> Option<SemaphorePermit<'_>> {
        if !self.destination.may_share() || self.single.load(Ordering::Relaxed) {
            return None;
        }
        self.turns.get(seat.0)?.acquire().await.ok()
    }

    /// Makes `stream` a connection of HTTP/2 that others may join.
    async fn share(
        self: &Arc<Self>,
        seat: Seat,
        stream: Stream,
        clock: &Clock<'_>,
    ) -> Result<Slot, SendError> {
        let started = Shared::start(stream, self.keep.pings, &self.tasks);
        let started = clock.bound("the start of HTTP/2", started).await?;
        let shared = started.map_err(|pulse| self.destination.explain_end(pulse.tls_failure()))?;
        let slot = shared.join().ok_or_else(|| self.destination.explain_end(None))?;
        if !*self.closed.borrow()
            && let Some(mut shelf) = self.shelf(seat)
        {
            shelf.shared.push(shared);
            self.reap(seat, shelf);
        }
        Ok(slot)
    }

    fn may_stay(&self, shared: &Shared, now: Instant) -> bool {
        let idle = shared.idle_since().is_some_and(|since| now >= since + self.keep.idle);
        shared.is_good() && !idle && now < shared.born() + self.keep.age
    }

    /// Sees to it that what has expired on `shelf` is closed.
    fn reap(self: &Arc<Self>, seat: Seat, mut shelf: MutexGuard<'_, Shelf>) {
        if !std::mem::replace(&mut shelf.reaped, true) {
            drop(shelf);
            self.tasks.spawn(reap(Arc::downgrade(self), seat, self.closed.subscribe()));
        }
    }

    /// The connection last given back that is still good.
    pub(super) async fn reuse(&self, seat: Seat) -> Option<Box<Line>> {
        loop {
            let mut idle = self.shelf(seat)?.idle.pop()?;
            let now = Instant::now();
            if now >= self.expiry(&idle) {
                continue;
            }
            if now - idle.since > NOTICE {
                match idle.line.look() {
                    Seen::End => continue,
                    // Lets the runtime see it too.
                    Seen::Bytes => tokio::task::yield_now().await,
                    Seen::Nothing => {}
                }
            }
            if idle.line.is_quiet(&mut Context::from_waker(Waker::noop())) {
                return Some(idle.line);
            }
        }
    }

    /// Keeps `line` for the next request, unless it is busy (the upstream answered before it had read everything),
    /// closed or too old.
    pub(super) fn give_back(self: &Arc<Self>, seat: Seat, mut line: Box<Line>) {
        if *self.closed.borrow() || !line.rest() {
            return;
        }
        let now = Instant::now();
        let mut idle = Idle { line, since: now };
        let Some(mut shelf) = self.shelf(seat) else { return };
        // The task that closes connections is called when something comes on this one.
        let reaper = shelf.reaper.as_ref().map_or(Waker::noop(), |(reaper, _)| reaper);
        if !self.is_good(&mut idle, now, &mut Context::from_waker(reaper)) {
            return;
        }
        if let Some((reaper, next)) = &shelf.reaper
            && self.expiry(&idle) < *next
        {
            reaper.wake_by_ref();
        }
        shelf.idle.push(idle);
        self.reap(seat, shelf);
    }

    /// Closes what is idle, now and from now on.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        for shelf in &self.seats {
            let mut shelf = lock(shelf);
            shelf.idle.clear();
            shelf.shared.clear();
        }
    }

    /// Closes what has expired, and what its peer has closed; when to look again, or `None` if nothing is left to look
    /// after. Who calls is called when something comes on an idle connection.
    fn sweep(&self, seat: Seat, cx: &mut Context<'_>) -> Option<Instant> {
        let now = Instant::now();
        let mut shelf = self.shelf(seat)?;
        shelf.idle.retain_mut(|idle| self.is_good(idle, now, cx));
        shelf.shared.retain(|shared| self.may_stay(shared, now));
        let shared = shelf.shared.iter().map(|it| {
            // A busy one is looked at again; how soon it is idle nobody knows.
            let idle = it.idle_since().unwrap_or(now + AGAIN) + self.keep.idle;
            idle.min(it.born() + self.keep.age)
        });
        let next = shelf.idle.iter().map(|idle| self.expiry(idle)).chain(shared).min();
        shelf.reaped = next.is_some();
        shelf.reaper = next.map(|next| (cx.waker().clone(), next));
        next
    }

    fn is_good(&self, idle: &mut Idle, now: Instant, cx: &mut Context<'_>) -> bool {
        now < self.expiry(idle) && idle.line.is_quiet(cx)
    }

    fn expiry(&self, idle: &Idle) -> Instant {
        (idle.since + self.keep.idle).min(idle.line.born() + self.keep.age)
    }

    /// `None` for a seat that is not ours: its connections are simply not kept.
    fn shelf(&self, seat: Seat) -> Option<MutexGuard<'_, Shelf>> {
        self.seats.get(seat.0).map(lock)
    }
}

/// Closes the idle connections of one seat in time, and those that their peer has closed; ends when there are none, or
/// with the pool.
async fn reap(pool: Weak<Pool>, seat: Seat, mut closed: watch::Receiver<bool>) {
    let look = |cx: &mut Context<'_>| pool.upgrade().and_then(|pool| pool.sweep(seat, cx));
    while let Some(next) = poll_fn(|cx| Poll::Ready(look(cx))).await {
        let mut wait = pin!(tokio::time::timeout_at(next, closed.changed()));
        let is_closed = poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.is_ok()),
            // Called by a connection: it is looked at, with all others. One may expire earlier than was known.
            Poll::Pending if look(cx).is_some_and(|sooner| sooner >= next) => Poll::Pending,
            Poll::Pending => Poll::Ready(false),
        });
        if is_closed.await {
            return;
        }
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Clients, EgressLimits};
    use super::*;
    use crate::config::valid::Proxy;
    use crate::outbound::Segments;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_connection_is_used_again_once_its_answer_was_read() {
        for answer in [OK, "HTTP/1.1 204 No Content\r\n\r\n", &format!("{CHUNK}0\r\n\r\n")] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let (first, mut peer) = upstream.answer(&egress, answer).await;
            let first = first.unwrap();
            assert!(first.connected.is_some());
            text(first).await;
            let (second, got) = tokio::join!(egress.send(SEAT, post(&["2"])), peer.serve());
            let second = second.unwrap();
            assert_eq!((second.connected, got.ends_with("\r\n\r\n2")), (None, true), "after {answer:?}");
            assert_eq!(text(second).await, "ok");
        }
    }

    #[tokio::test]
    async fn two_requests_at_once_have_a_connection_each_and_the_last_used_goes_first() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let over = tokio::sync::Notify::new();
        let ask = || async {
            text(egress.send(SEAT, post(&["x"])).await.unwrap()).await;
            over.notify_one();
        };
        let serve_in_turn = async {
            let (mut early, mut late) = (upstream.accept().await, upstream.accept().await);
            early.serve().await;
            over.notified().await;
            late.serve().await;
            (early, late)
        };
        let ((), (), (early, mut late)) = tokio::join!(ask(), ask(), serve_in_turn);
        drop(early);
        let (sent, _) = tokio::join!(egress.send(SEAT, post(&["x"])), late.serve());
        assert_eq!(sent.unwrap().connected, None);
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_its_seat_alone() {
        let upstream = Upstream::bind().await;
        let clients = Clients::new(2, Tasks::new());
        let egress =
            clients.egress(&upstream.url("http"), &Default::default(), &Proxy::Direct, &LIMITS).unwrap();
        let _first = upstream.warm(&egress).await;
        for seat in [Seat(1), Seat(7)] {
            let (sent, _peer) = tokio::join!(egress.send(seat, post(&["x"])), async {
                let mut peer = upstream.accept().await;
                peer.serve().await;
                peer
            });
            assert!(sent.unwrap().connected.is_some(), "{seat:?}");
        }
    }

    #[tokio::test]
    async fn bytes_after_an_answer_never_answer_the_next_request() {
        let poison = OK.replace("ok", "no");
        for at_once in [true, false] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let answer = if at_once { format!("{OK}{poison}") } else { OK.to_owned() };
            let (sent, mut peer) = upstream.answer(&egress, &answer).await;
            assert_eq!(text(sent.unwrap()).await, "ok");
            if !at_once {
                peer.say(&poison).await;
            }
            peer.closed().await;
            let (sent, _peer) = upstream.answer(&egress, OK).await;
            let sent = sent.unwrap();
            assert!(sent.connected.is_some());
            assert_eq!(text(sent).await, "ok");
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_upstream_closes_is_let_go() {
        for end in ["", "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let mut peer = upstream.warm(&egress).await;
            peer.say(end).await;
            drop(peer);
            settle().await;
            let (sent, _peer) = upstream.answer(&egress, OK).await;
            assert!(sent.unwrap().connected.is_some());
        }
    }

    #[tokio::test]
    async fn an_idle_connection_that_the_upstream_ends_is_closed_before_anybody_wants_it() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let (busy, mut first) = upstream.answer(&egress, CHUNK).await;
        let mut second = upstream.warm(&egress).await;
        // The task that looks after idle connections knows the second already, and not yet the first.
        settle().await;
        first.say("0\r\n\r\n").await;
        assert_eq!(text(busy.unwrap()).await, "hello");
        for peer in [&mut first, &mut second] {
            peer.io.shutdown().await.unwrap();
            peer.closed().await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_says_close_or_comes_too_early_ends_its_connection() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        let (sent, mut peer) = upstream.answer(&egress, close).await;
        assert_eq!(text(sent.unwrap()).await, "ok");
        peer.closed().await;
        let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
        let (sent, mut peer) = upstream.answer_early(&egress, answer).await;
        assert_eq!(text(sent.unwrap()).await, "no");
        peer.closed().await;
    }

    #[tokio::test]
    async fn a_large_request_that_is_refused_ends_its_connection_for_it_may_lie_there_unread() {
        for (length, status, stays) in [(100, "413 No", false), (60, "413 No", true), (100, "200 OK", true)] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let mut request = post(&[]);
            request.request.body = Segments::one(vec![b'x'; length << 10].into());
            let (sent, mut peer) = tokio::join!(egress.send(SEAT, request), async {
                let mut peer = upstream.accept().await;
                peer.request().await;
                peer.say(&format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno")).await;
                peer
            });
            assert_eq!(text(sent.unwrap()).await, "no");
            if stays {
                let (sent, _) = tokio::join!(egress.send(SEAT, post(&["x"])), peer.serve());
                assert!(sent.unwrap().connected.is_none(), "{length} KiB, {status}");
            } else {
                peer.closed().await;
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_answers_early_and_then_neither_reads_nor_closes_is_left() {
        for answer in [OK, "HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n", &format!("{CHUNK}0\r\n\r\n")] {
            let upstream = Upstream::bind().await;
            let egress = upstream.egress(LIMITS);
            let (sent, mut peer) = upstream.answer_early(&egress, answer).await;
            text(sent.unwrap()).await;
            assert!(peer.closed().await < LARGE / 2, "the rest of the request was kept for it");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_at_its_limit_and_an_old_one_at_its_age() {
        for limits in [
            EgressLimits { pool_idle: SHORT, ..LIMITS },
            EgressLimits { max_connection_age: SHORT, ..LIMITS },
            EgressLimits { max_connection_age: Duration::ZERO, ..LIMITS },
        ] {
            let upstream = Upstream::bind().await;
            let tasks = Tasks::new();
            let clients = Clients::new(1, tasks.clone());
            let egress =
                clients.egress(&upstream.url("http"), &Default::default(), &Proxy::Direct, &limits).unwrap();
            upstream.warm(&egress).await.closed().await;
            // The task that closed it goes too.
            soon(tasks.finished()).await;
        }
    }

    #[tokio::test]
    async fn an_old_connection_that_comes_back_beside_a_young_one_is_closed_at_its_own_age() {
        let age = Duration::from_secs(3);
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(EgressLimits { max_connection_age: age, ..LIMITS });
        let (old, mut old_peer) = upstream.answer(&egress, CHUNK).await;
        tokio::time::sleep(age / 2).await;
        let (born, mut young_peer) = (Instant::now(), upstream.warm(&egress).await);
        settle().await;
        old_peer.say("0\r\n\r\n").await;
        assert_eq!(text(old.unwrap()).await, "hello");
        old_peer.closed().await;
        let mut byte = [0];
        let is_open = futures_util::poll!(std::pin::pin!(young_peer.io.read(&mut byte))).is_pending();
        // A machine that stood still meanwhile has found both of them old at once.
        assert!(is_open || born.elapsed() >= age, "the young one was closed first");
    }

    #[tokio::test]
    async fn a_stop_closes_what_is_idle_and_what_is_busy_after_its_answer() {
        let upstream = Upstream::bind().await;
        let tasks = Tasks::new();
        let clients = Clients::new(1, tasks.clone());
        let egress =
            clients.egress(&upstream.url("http"), &Default::default(), &Proxy::Direct, &LIMITS).unwrap();
        let (busy, mut busy_peer) = upstream.answer(&egress, CHUNK).await;
        let mut idle = upstream.warm(&egress).await;
        clients.close();
        idle.closed().await;
        busy_peer.say("0\r\n\r\n").await;
        assert_eq!(text(busy.unwrap()).await, "hello");
        busy_peer.closed().await;
        soon(tasks.finished()).await;
    }
}
