//! One client's connection, from its first byte to its last: HTTP/1.1 by hyper, our time limits, and the stop.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::clock::{Clock, Clocked, Wait};
use super::listen::Stream;
use super::shell;
use super::stop::Stop;
use crate::config::valid;
use crate::proxy::{Answer, House};
use crate::tasks::Seat;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    header: Duration,
    idle: Duration,
    max_header_bytes: usize,
}

impl Limits {
    pub(super) fn of(settings: &valid::Server) -> Self {
        Self {
            header: settings.header_timeout,
            idle: settings.idle_timeout,
            max_header_bytes: settings.max_header_bytes,
        }
    }
}

/// Serves `stream` until the client leaves, falls silent too long, or the stop has let the last answer out.
///
/// A connection that has sent nothing yet costs its task and no buffer: clients may hold thousands of them.
pub(super) async fn serve(stream: Stream, house: Arc<House>, seat: Seat, limits: Limits, mut stop: Stop) {
    tokio::select! {
        biased;
        () = stop.begun() => return,
        begun = tokio::time::timeout(limits.idle, stream.begins()) => if begun != Ok(true) {
            return;
        }
    }
    Box::pin(talk(stream, house, seat, limits, stop)).await;
}

async fn talk(stream: Stream, house: Arc<House>, seat: Seat, limits: Limits, mut stop: Stop) {
    let clock = Clock::new();
    let io = TokioIo::new(Clocked::new(stream, Arc::clone(&clock)));
    let service = shell::service(house, seat, Arc::clone(&clock));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Ours tells an idle connection from a slow head; hyper's would close both alike.
        .header_read_timeout(None)
        .max_buf_size(limits.max_header_bytes.max(8192))
        .serve_connection(io, service);
    tokio::pin!(connection);
    let timer = tokio::time::sleep_until(clock.deadline(limits.header, limits.idle));
    tokio::pin!(timer);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a client's connection ended");
                }
                return;
            }
            () = timer.as_mut() => {
                if clock.is_over(limits.header, limits.idle) {
                    return;
                }
                timer.as_mut().reset(clock.deadline(limits.header, limits.idle).max(Instant::now() + Duration::from_millis(1)));
            }
            () = stop.after(stopping) => {
                if stopping {
                    return;
                }
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// An answer's body that starts the idle time when hyper is done with it.
#[derive(Debug)]
pub(super) struct Timed {
    answer: Answer,
    clock: Arc<Clock>,
}

impl Timed {
    pub(super) fn new(answer: Answer, clock: Arc<Clock>) -> Self {
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
        Pin::new(&mut self.answer).poll_frame(cx)
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
        self.clock.set(Wait::Idle);
    }
}
