//! A call's place with a worker, and what it means when no answer comes of it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::core::Core;
use super::pool::Worker;
use super::process::Ending;
use super::spec::Spec;
use crate::egress::{Egress, SendError, Sent};
use crate::outbound::Signed;
use crate::tasks::Seat;

/// How long word of a process's end may take to come after its connection broke.
const WORD: Duration = Duration::from_secs(1);
/// How long after word of a process's end the last of its connections may be closed: its group, which was killed with it,
/// dies beside it.
const CLOSING: Duration = Duration::from_millis(50);

/// Why there is no worker for a request. What each says is for the log or for people, not secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// The handler does not load: what is wrong and what to do. For the log and the operator: it may name paths.
    #[error("{0}")]
    Failed(String),
    /// No worker became ready within `start_wait`.
    #[error("the handler is still starting")]
    Starting,
    /// All places were taken for all of `queue_timeout`.
    #[error("all {most} places with the handler's workers are taken")]
    Busy {
        /// How many calls are served at once.
        most: usize,
    },
    /// The crew is being stopped.
    #[error("the handler is being stopped")]
    Stopping,
}

/// Why a worker gave no answer. Each holds words for the client, which name no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerFailure {
    /// The process ended, or broke the connection.
    #[error("{0}")]
    Crashed(String),
    /// No answer began in time.
    #[error("{0}")]
    TimedOut(String),
    /// The request did not reach a worker: not a byte of it was read, so that another may be asked.
    #[error("{0}")]
    Unreachable(String),
    /// The answer made no sense as HTTP.
    #[error("{0}")]
    Garbled(String),
}

/// One call's place with a worker, from before it is sent until the last byte of its answer. Dropped, it is free.
#[derive(Debug)]
pub struct Lease {
    core: Arc<Core>,
    worker: Arc<Worker>,
    spec: Arc<Spec>,
}

impl Lease {
    pub(super) fn new(core: Arc<Core>, worker: Arc<Worker>, spec: Arc<Spec>) -> Self {
        Self { core, worker, spec }
    }

    /// Whether the worker may be handed what is meant for workers of `spec`.
    pub(super) fn is_for(&self, spec: &Spec) -> bool {
        self.spec.is_handed_alike(spec)
    }

    /// The way to the worker.
    pub fn egress(&self) -> &Egress {
        &self.worker.egress
    }

    /// Has the key in `headers`, which are about to be sent, taken out of what the worker prints. Where it is the one of
    /// the call before it costs a comparison.
    pub fn hand(&self, headers: &HeaderMap) {
        if let Some(value) = self.spec.key_header.as_deref().and_then(|name| headers.get(name)) {
            self.worker.handed.note(value);
        }
    }

    /// How long the worker has until its answer begins. The egress waits 250 ms longer.
    pub fn request_timeout(&self) -> Duration {
        self.spec.request_timeout
    }

    /// The worker's process, for the log.
    pub fn pid(&self) -> Option<u32> {
        self.worker.pid.get().copied()
    }

    /// Sends the call to the worker, and reads the head of its answer, or says why there is none. A worker that has ended is
    /// not waited for: its socket stays a moment, and nobody takes what still waits there to be accepted.
    pub async fn send(&self, seat: Seat, request: Signed) -> Result<Box<Sent>, HandlerFailure> {
        let sent = tokio::select! {
            // What has come counts, be it an answer or the end of a connection that the process had accepted.
            biased;
            sent = self.worker.egress.send(seat, request) => sent,
            () = self.closed() => {
                let words = "the handler's process had ended before it took the request";
                return Err(HandlerFailure::Unreachable(words.to_owned()));
            }
        };
        match sent {
            Ok(sent) => Ok(sent),
            Err(error) => Err(self.blame(&error).await),
        }
    }

    /// Returns once the worker's process has ended and all that it had accepted is closed.
    async fn closed(&self) {
        let mut ended = self.worker.ended.clone();
        match Ending::of(&mut ended).await {
            // The kernel closes a process's connections before it tells of its end.
            Ending::Exited(_) | Ending::Signalled(_) => tokio::time::sleep(CLOSING).await,
            // It may live and be at work on the call.
            Ending::Refused(_) | Ending::Unknown => std::future::pending().await,
        }
    }

    /// What it means that the worker gave no answer. Waits a moment (1 s at most) for word of how the process ended.
    async fn blame(&self, error: &SendError) -> HandlerFailure {
        match error {
            SendError::Resolve(_)
            | SendError::Connect(_)
            | SendError::ConnectTimeout(_)
            | SendError::Tls(_)
            | SendError::Proxy(_)
            | SendError::ProxyAuth(_) => {
                HandlerFailure::Unreachable(format!("the handler's process could not be reached: {error}"))
            }
            SendError::FirstByteTimeout(_) => HandlerFailure::TimedOut(format!(
                "the handler did not begin to answer within {:?} (handlers.request_timeout)",
                self.spec.request_timeout
            )),
            SendError::Closed(_) => HandlerFailure::Crashed(self.ending().await.unwrap_or_else(|| {
                "the handler's process closed the connection before it had answered".to_owned()
            })),
            SendError::Garbled(_) => match self.ending().await {
                Some(ending) => HandlerFailure::Crashed(ending),
                None => HandlerFailure::Garbled("the handler's process did not answer in HTTP".to_owned()),
            },
        }
    }

    /// How the worker's process ended, if it has: for an answer that broke off. Waits a moment (1 s at most).
    pub async fn ending(&self) -> Option<String> {
        let mut ended = self.worker.ended.clone();
        let word = tokio::time::timeout(WORD, Ending::of(&mut ended)).await;
        if let Some(verdict) = self.worker.verdict.get() {
            return Some(verdict.clone());
        }
        Some(match word.ok()? {
            Ending::Unknown => "the handler's process has ended".to_owned(),
            ending => format!("the handler's process {ending}"),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.worker.leave();
        self.core.freed_one();
    }
}
