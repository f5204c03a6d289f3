//! A call's place with a worker, and what it means when no answer comes of it.

use std::time::Duration;

use crate::egress::{Egress, SendError};

/// Why there is no worker for a request. What each says is for the log or for people, not secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// The handler does not load: what is wrong and what to do, for the log and the operator.
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
    egress: Egress,
    timeout: Duration,
}

impl Lease {
    /// The way to the worker.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// How long the worker has until its answer begins. The egress waits 250 ms longer.
    pub fn request_timeout(&self) -> Duration {
        self.timeout
    }

    /// The worker's process, for the log.
    pub fn pid(&self) -> Option<u32> {
        None
    }

    /// What it means that the worker gave no answer. Waits a moment (100 ms at most) for word of how the process ended.
    pub async fn blame(&self, error: &SendError) -> HandlerFailure {
        self.ending().await;
        HandlerFailure::Crashed(error.to_string())
    }

    /// How the worker's process ended, if it has: for an answer that broke off. Waits a moment (100 ms at most).
    pub async fn ending(&self) -> Option<String> {
        tokio::task::yield_now().await;
        None
    }
}
