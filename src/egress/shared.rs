//! One HTTP/2 connection, shared by the requests of one seat up to the number of streams that the peer allows.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::error::{LineError, cause};
use super::http1::MAX_HEAD;
use super::message::Outgoing;
use super::wire::{Pulse, Stream, Wire};
use crate::tasks::Tasks;

/// What one answer may have on the way that nobody has read yet, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all answers on one connection: readers that are slow must be many before they hold up the others.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How a peer that is gone without a word is found: it is asked whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pings {
    /// How long no answer may have come on, while requests are open, until it is asked.
    pub(super) interval: Duration,
    /// How long it may take to say that it is.
    pub(super) timeout: Duration,
}

impl Pings {
    /// Dead after 40 s at most. gRPC waits 20 s for a ping's answer too; asked more often, a server may take it for abuse.
    pub(super) const USUAL: Self =
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(20) };
}

type Running = Connection<TokioIo<Wire>, Outgoing, Exec>;

/// An open connection. Dropped, it closes; a [`Slot`] keeps it.
#[derive(Debug)]
pub(super) struct Shared {
    sender: SendRequest<Outgoing>,
    /// `None` once it is over: dropped, it gives back what it has not begun.
    connection: Arc<Mutex<Option<Running>>>,
    pulse: Arc<Pulse>,
    pings: Pings,
    born: Instant,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    streams: usize,
    /// When a stream last ended.
    since: Instant,
    /// It takes no new streams: the peer is about to leave, refused one, or is not heard of any more.
    retired: bool,
}

/// The right to one stream; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    /// How much had come on the connection before.
    heard: u64,
}

impl Shared {
    /// Begins to speak HTTP/2 on `stream`, and waits until the peer has said how many streams it allows: a first burst
    /// would else be refused (RFC 9113 §5.1.2).
    ///
    /// # Errors
    ///
    /// The pulse of a connection that ended before; it knows why.
    pub(super) async fn start(stream: Stream, pings: Pings, tasks: &Tasks) -> Result<Arc<Self>, Arc<Pulse>> {
        let pulse = Arc::new(Pulse::default());
        let wire = TokioIo::new(Wire::new(stream, Arc::clone(&pulse)));
        let mut builder = Builder::new(Exec(tasks.clone()));
        builder.initial_max_send_streams(0).max_header_list_size(MAX_HEAD as u32);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        builder.timer(TokioTimer::new());
        builder.keep_alive_interval(pings.interval).keep_alive_timeout(pings.timeout);
        let Ok((sender, connection)) = builder.handshake(wire).await else { return Err(pulse) };
        let connection = Arc::new(Mutex::new(Some(connection)));
        tasks.spawn(drive(Arc::clone(&connection)));
        let now = Instant::now();
        let usage = Mutex::new(Usage { streams: 0, since: now, retired: false });
        let shared = Self { sender, connection, pulse, pings, born: now, usage };
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
            Slot { shared: Arc::clone(self), heard: self.pulse.heard() }
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
        lock(&self.connection).as_ref().map_or(0, Connection::current_max_send_streams)
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
        self.shared.sender.clone().try_send_request(request)
    }

    /// Lets the connection take no new streams; those that it has go on.
    pub(super) fn retire(&self) {
        lock(&self.shared.usage).retired = true;
    }

    /// Likewise if nothing at all has come on the connection since the slot was taken: its peer may be gone. One that is
    /// only slow with this answer keeps it.
    pub(super) fn retire_if_silent(&self) {
        if self.shared.pulse.heard() == self.heard {
            self.retire();
        }
    }

    /// What `error` of a request or an answer on this stream means.
    pub(super) fn explain(&self, error: hyper::Error) -> LineError {
        // hyper says why it gave up the connection to who waits for a head, and to nobody else.
        let is_broken = cause::<h2::Error>(&error).is_some_and(h2::Error::is_io);
        if error.is_timeout() || is_broken && self.shared.pulse.was_given_up() {
            LineError::Unanswered(self.shared.pings.timeout)
        } else if let Some(flaw) = cause::<h2::Error>(&error).filter(|it| it.is_library()) {
            // Found here in what came; the peer has neither ended nor broken anything.
            LineError::Garbled(format!("it breaks the rules of HTTP/2: {flaw}"))
        } else {
            LineError::Http2(error)
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut usage = lock(&self.shared.usage);
        usage.streams -= 1;
        usage.since = Instant::now();
    }
}

/// Whether the peer says that it has done nothing for a request (RFC 9113 §8.7).
pub(super) fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Has hyper speak on `connection` until it is over.
async fn drive(connection: Arc<Mutex<Option<Running>>>) {
    let look = |cx: &mut Context<'_>| match lock(&connection).as_mut() {
        Some(running) => Pin::new(running).poll(cx),
        None => Poll::Ready(Ok(())),
    };
    if let Err(error) = poll_fn(look).await {
        tracing::debug!(%error, "a connection of HTTP/2 ended");
    }
    let over = lock(&connection).take();
    drop(over);
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
mod tests;
