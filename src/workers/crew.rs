//! The workers of one integration as their callers see them.

use std::path::PathBuf;
use std::time::Duration;

use super::lease::{Absent, Lease};
use super::report::CrewStatus;
use super::spec::Spec;

/// The workers of one integration. Shared by requests; what serves behind it changes by generations.
#[derive(Debug)]
pub struct Crew {
    status: CrewStatus,
}

impl Crew {
    /// A place with a worker: the one with the fewest calls among those whose event loop is alive.
    ///
    /// It waits at most `start_wait` where no worker is ready, and at most `queue_timeout` where all places are taken;
    /// who came first is served first.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn lease(&self) -> Result<Lease, Absent> {
        tokio::task::yield_now().await;
        Err(Absent::Starting)
    }

    /// Begins a new generation, beside the one that serves, if `spec` or what is in the files differs from what the
    /// newest one, or the newest try, was made of. Blocks: it reads the files.
    pub fn renew(&self, spec: Spec) {
        drop(spec);
    }

    /// How it is doing.
    pub fn status(&self) -> CrewStatus {
        self.status.clone()
    }

    /// The files whose change makes [`Crew::renew`] worth calling.
    pub fn watched(&self) -> Vec<PathBuf> {
        self.status.files.clone()
    }

    /// Waits until the newest generation serves or has failed, at most for `most`. Blocks; not for requests.
    ///
    /// # Errors
    ///
    /// Why it does not serve.
    pub fn wait_settled(&self, most: Duration) -> Result<(), String> {
        Err(format!("{most:?}"))
    }
}
