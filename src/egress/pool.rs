//! The connections of one destination: kept per seat, used again last in first out, closed when idle or old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::Destination;
use super::error::SendError;
use super::message::Outgoing;
use super::wire::{Pulse, Wire};
use crate::tasks::{Seat, Tasks};

/// The longest response head, and the longest trailers, in bytes. hyper takes at most 100 fields.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// Idle for longer than this, a connection is given one turn of the runtime to notice that its peer has closed it.
const NOTICE: Duration = Duration::from_millis(500);

/// How long connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Keep {
    pub(super) idle: Duration,
    pub(super) age: Duration,
}

/// One destination's connections. Dropped, it closes those that are idle.
#[derive(Debug)]
pub(super) struct Pool {
    destination: Destination,
    keep: Keep,
    seats: Box<[Mutex<Shelf>]>,
    tasks: Tasks,
    /// Its end, or a value in it, ends the reapers.
    closed: watch::Sender<bool>,
}

/// The idle connections of one seat.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    /// Whether a task is there that closes what has expired.
    reaped: bool,
}

#[derive(Debug)]
struct Idle {
    line: Line,
    since: Instant,
}

/// One open connection. Dropped, it closes at once.
#[derive(Debug)]
pub(super) struct Line {
    sender: SendRequest<Outgoing>,
    pulse: Arc<Pulse>,
    born: Instant,
}

impl Pool {
    pub(super) fn new(destination: Destination, keep: Keep, seats: usize, tasks: Tasks) -> Arc<Self> {
        let seats = (0..seats).map(|_| Mutex::default()).collect();
        Arc::new(Self { destination, keep, seats, tasks, closed: watch::channel(false).0 })
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Opens a connection within `limit`, on this thread's runtime; also says how long that took.
    pub(super) async fn open(&self, limit: Duration) -> Result<(Line, Duration), SendError> {
        let begin = Instant::now();
        let stream = self.destination.connect(limit).await?;
        let pulse = Arc::new(Pulse::default());
        let wire = TokioIo::new(Wire::new(stream, Arc::clone(&pulse)));
        let handshake = Builder::new().max_header_size(MAX_HEAD).handshake(wire).await;
        let (sender, connection) = handshake.map_err(|error| self.destination.explain(&error, true, true))?;
        self.tasks.spawn(async move {
            // Its errors reach whoever waits for an answer; an idle connection ends without a word.
            let _ = connection.await;
        });
        let born = Instant::now();
        Ok((Line { sender, pulse, born }, born - begin))
    }

    /// The connection last given back that is still good.
    pub(super) async fn reuse(&self, seat: Seat) -> Option<Line> {
        loop {
            let idle = self.shelf(seat)?.idle.pop()?;
            let now = Instant::now();
            if !self.is_good(&idle, now) {
                continue;
            }
            if now - idle.since > NOTICE {
                tokio::task::yield_now().await;
                if !idle.line.sender.is_ready() {
                    continue;
                }
            }
            return Some(idle.line);
        }
    }

    /// Keeps `line` for the next request, unless it is busy (the upstream answered before it had read everything),
    /// closed or too old.
    pub(super) fn give_back(self: &Arc<Self>, seat: Seat, line: Line) {
        let idle = Idle { line, since: Instant::now() };
        if *self.closed.borrow() || !self.is_good(&idle, idle.since) {
            return;
        }
        let Some(mut shelf) = self.shelf(seat) else { return };
        shelf.idle.push(idle);
        if !std::mem::replace(&mut shelf.reaped, true) {
            drop(shelf);
            self.tasks.spawn(reap(Arc::downgrade(self), seat, self.closed.subscribe()));
        }
    }

    /// Closes what is idle, now and from now on.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        for shelf in &self.seats {
            lock(shelf).idle.clear();
        }
    }

    /// Closes what has expired; when to look again, or `None` if nothing is left to look after.
    fn sweep(&self, seat: Seat) -> Option<Instant> {
        let now = Instant::now();
        let mut shelf = self.shelf(seat)?;
        shelf.idle.retain(|idle| self.is_good(idle, now));
        let next = shelf.idle.iter().map(|idle| self.expiry(idle)).min();
        shelf.reaped = next.is_some();
        next
    }

    fn is_good(&self, idle: &Idle, now: Instant) -> bool {
        idle.line.sender.is_ready() && now < self.expiry(idle)
    }

    fn expiry(&self, idle: &Idle) -> Instant {
        (idle.since + self.keep.idle).min(idle.line.born + self.keep.age)
    }

    /// `None` for a seat that is not ours: its connections are simply not kept.
    fn shelf(&self, seat: Seat) -> Option<MutexGuard<'_, Shelf>> {
        self.seats.get(seat.0).map(lock)
    }
}

impl Line {
    /// Hands `request` to the connection; an error holds the request if no byte of it was written.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Outgoing>,
    ) -> Result<http::Response<hyper::body::Incoming>, TrySendError<http::Request<Outgoing>>> {
        self.pulse.asked();
        self.sender.try_send_request(request).await
    }

    /// The head has come: what follows is its body.
    pub(super) fn heard(&self) {
        self.pulse.answered();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.pulse.abandon();
    }
}

/// Closes the idle connections of one seat in time; ends when there are none, or with the pool.
async fn reap(pool: Weak<Pool>, seat: Seat, mut closed: watch::Receiver<bool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.sweep(seat)) {
        if tokio::time::timeout_at(next, closed.changed()).await.is_ok() {
            return;
        }
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
