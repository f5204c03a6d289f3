//! One client's connection, from its first byte to its last: HTTP/1.1 by hyper, our time limits, and the stop.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::clock::{Clock, Clocked, STUCK, Wait};
use super::handshake;
use super::listen::{Heard, Stream};
use super::room::Place;
use super::shell::{self, Host};
use super::stop::Stop;
use super::watch::Watched;
use crate::config::valid;
use crate::proxy::Answer;
use crate::tasks::Tasks;
use crate::tasks::bell::Bell;
use crate::tasks::hush::Caller;
use crate::tls::Inbound;

/// How long a cut answer may take to say so.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// How much hyper may read at once, in bytes.
const READ: usize = 256 << 10;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) header: Duration,
    idle: Duration,
    max_header_bytes: usize,
    /// How long a client may take nothing of its answer.
    pub(super) stuck: Duration,
}

impl Limits {
    pub(super) fn of(settings: &valid::Server) -> Self {
        Self {
            header: settings.header_timeout,
            idle: settings.idle_timeout,
            max_header_bytes: settings.max_header_bytes,
            stuck: STUCK,
        }
    }
}

/// What a connection is served with.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) host: Host,
    pub(super) limits: Limits,
    pub(super) stop: Stop,
    /// Free again when the connection has ended.
    pub(super) place: Place,
}

/// Serves `stream` until the client leaves, falls silent too long, or the stop has let the last answer out.
///
/// A connection that has sent nothing yet costs its task and no buffer: clients may hold thousands of them. It goes on in
/// another of `tasks`, with nothing around it that each event of a stream would have to go through.
pub(super) async fn serve(mut guest: Guest, stream: Stream, tls: Option<Arc<Inbound>>, tasks: Tasks) {
    let Limits { header, idle, .. } = guest.limits;
    let patience = if tls.is_some() { header } else { idle };
    let first = tokio::select! {
        biased;
        // Before the stop: a request that is here is told of it.
        begun = tokio::time::timeout(patience, stream.begins()) => begun.ok().flatten(),
        () = guest.stop.begun() => None,
    };
    let Some(first) = first else { return };
    if tls.is_none() && first == handshake::FIRST {
        return tracing::warn!(
            "a caller speaks TLS, and this port does not: its URL must begin with http:// (server.tls is not set)"
        );
    }
    match (tls, stream) {
        (Some(tls), Stream::Tcp(stream)) => {
            let shaken = Box::pin(handshake::accept(stream, &tls, header, guest.stop.clone())).await;
            if let Some(stream) = shaken {
                tasks.spawn(talk(stream, guest));
            }
        }
        (_, stream) => {
            tasks.spawn(talk(stream, guest));
        }
    }
}

async fn talk<S>(stream: S, Guest { host, limits, mut stop, place: _place }: Guest)
where
    S: AsyncRead + AsyncWrite + Heard + Send + Unpin + 'static,
{
    let mut bell = Bell::of_this_task().await;
    let clock = Clock::new(limits.stuck, bell.another());
    let io = TokioIo::new(Clocked::new(Watched::new(stream, bell.another()), Arc::clone(&clock)));
    let service = shell::service(host, Arc::clone(&clock));
    let mut connection = pin!(protocol(limits).serve_connection(io, service));
    let mut timer = pin!(tokio::time::sleep_until(clock.deadline(limits.header, limits.idle)));
    let (mut stage, mut caller) = (Stage::Serving, Caller::default());
    loop {
        let step = {
            let mut asked = pin!(stop.after(stage != Stage::Serving));
            bell.ring();
            poll_fn(|cx| {
                // Once an answer had to wait for more, nearly nothing is left of its request that could call for nothing.
                // Both wakers call this task.
                let waker = if clock.begin_turn() { cx.waker() } else { caller.waker(cx) };
                let mut turn = Context::from_waker(waker);
                let mut polled = connection.as_mut().poll(&mut turn);
                // hyper ends without a goodbye where an upgrade was offered, which somebody might have taken up. Asked
                // again, it has forgotten the offer.
                if matches!(polled, Poll::Ready(Ok(()))) && !clock.is_leaving() {
                    polled = connection.as_mut().poll(&mut turn);
                }
                if let Poll::Ready(ended) = polled {
                    return Poll::Ready(Step::Ended(ended));
                }
                if matches!(stage, Stage::Asked | Stage::Closing) && clock.is_lingering() {
                    return Poll::Ready(Step::Stop);
                }
                // Looked at after every step of the connection in the same task, so that nobody need be woken.
                if stage == Stage::Asked && !clock.is_reading_a_head() {
                    return Poll::Ready(Step::BetweenHeads);
                }
                let Some(waker) = bell.rang(cx) else { return Poll::Pending };
                let mut cx = Context::from_waker(&waker);
                if timer.as_mut().poll(&mut cx).is_ready() {
                    return Poll::Ready(Step::Timer);
                }
                match stage {
                    Stage::LastWords => Poll::Pending,
                    _ => asked.as_mut().poll(&mut cx).map(|()| Step::Stop),
                }
            })
            .await
        };
        match step {
            Step::Ended(Ok(())) => return,
            Step::Ended(Err(error)) => return tracing::debug!(%error, "a client's connection ended"),
            Step::Timer if stage == Stage::LastWords || clock.is_over(limits.header, limits.idle) => return,
            Step::Timer => {
                let soon = Instant::now() + Duration::from_millis(1);
                timer.as_mut().reset(clock.deadline(limits.header, limits.idle).max(soon));
            }
            Step::BetweenHeads => {
                stage = Stage::Closing;
                connection.as_mut().graceful_shutdown();
            }
            Step::Stop if stage == Stage::Serving => stage = Stage::Asked,
            Step::Stop => {
                // The house has been told before: what is still open ends in words, if its client takes them.
                stage = Stage::LastWords;
                timer.as_mut().reset(Instant::now() + LAST_WORDS);
            }
        }
    }
}

/// HTTP/1.1 as clients speak it with us.
fn protocol(limits: Limits) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        // Writing fails once the client has left: hyper need not look for it.
        .half_close(true)
        // Ours tells an idle connection from a slow head; hyper's would close both alike.
        .header_read_timeout(None)
        // A body of a usual size comes in one piece then, and is handed on without a copy; the head's own limit is
        // kept by the journey.
        .max_buf_size(limits.max_header_bytes.max(READ));
    protocol
}

/// What a connection's task has come upon.
enum Step {
    /// hyper is done with it.
    Ended(hyper::Result<()>),
    Timer,
    BetweenHeads,
    Stop,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// The stop has begun, and a head that is being read is read to its end: hyper would close on it.
    Asked,
    /// Closed as soon as the answer is out.
    Closing,
    /// Closed in a moment, whatever is still to come.
    LastWords,
}

/// An answer's body that is asked once a turn, and starts the idle time when hyper is done with it.
#[derive(Debug)]
pub(super) struct Timed {
    answer: Answer,
    clock: Arc<Clock>,
}

impl Timed {
    pub(super) fn new(mut answer: Answer, clock: Arc<Clock>) -> Self {
        answer.call_by(clock.bell());
        Self { answer, clock }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = <Answer as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { answer, clock } = &mut *self;
        clock.ask(|| Pin::new(answer).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        // Still unfinished, and its client took nothing of it: that is why the connection ends.
        if let Some(patience) = self.clock.stalled() {
            self.answer.stalled(patience);
        }
        self.clock.set(Wait::Idle);
    }
}
