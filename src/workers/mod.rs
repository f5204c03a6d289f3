//! The Python processes that run customers' handlers: crews, their leases, and the thread that looks after them.

pub mod check;
mod crew;
mod lease;
mod report;
mod spec;

use std::sync::Arc;
use std::time::Duration;

use crate::egress::Clients;

pub use check::check_file;
pub use crew::Crew;
pub use lease::{Absent, HandlerFailure, Lease};
pub use report::{Cause, CrewState, CrewStatus, Loaded, WorkerState, WorkerStatus};
pub use spec::Spec;

/// All crews of the process. It costs nothing until the first crew: no thread, no directory, no process.
#[derive(Debug)]
pub struct Workers {
    _clients: Arc<Clients>,
}

impl Workers {
    /// No crews yet. Workers are reached through `clients`.
    pub fn new(clients: Arc<Clients>) -> Self {
        Self { _clients: clients }
    }

    /// The crew of `integration`: the one that is there, renewed if `spec` or its files have changed, else a new one,
    /// which begins to start at once. A crew ends when nobody holds it any more.
    ///
    /// Blocks: it reads the handler's files.
    ///
    /// # Errors
    ///
    /// The world allows no private directory for sockets, or no thread; or all is being stopped.
    pub fn crew(&self, integration: &str, spec: Spec) -> Result<Arc<Crew>, String> {
        let _ = (integration, spec);
        Err("not yet".to_owned())
    }

    /// Ends all crews: their calls have `drain` to end, then the processes are asked to end and at last killed. No
    /// process of theirs and no file is left when it returns, which takes at most some seconds more than `drain`.
    pub async fn stop(&self, drain: Duration) {
        tokio::time::sleep(drain.min(Duration::ZERO)).await;
    }
}
