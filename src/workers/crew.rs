//! The workers of one integration as their callers see them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::core::Core;
use super::floor::Desk;
use super::lease::{Absent, Lease};
use super::made::Made;
use super::pool::Generation;
use super::report::CrewStatus;
use super::spec::Spec;

/// How often it is looked whether the newest generation serves.
const LOOK: Duration = Duration::from_millis(10);

/// The workers of one integration. Shared by requests; what serves behind it changes by generations. Dropped by the
/// last who holds it, its calls may end, and then its processes do.
#[derive(Debug)]
pub struct Crew {
    pub(super) core: Arc<Core>,
    desk: Arc<Desk>,
    /// One renewal at a time.
    renewing: Mutex<()>,
}

impl Crew {
    /// A crew that begins to start. Blocks: it reads the handler's files.
    pub(super) fn begin(integration: &str, spec: Spec, desk: Arc<Desk>) -> Self {
        let spec = Arc::new(spec);
        let first = Arc::new(Generation::new(1, Arc::clone(&spec), Made::begin(spec)));
        let core = Arc::new(Core::new(integration, &first));
        desk.supervise(&core, first);
        Self { core, desk, renewing: Mutex::default() }
    }

    /// A place with a worker: the one with the fewest calls among those whose event loop runs. It may be handed what is
    /// meant for workers of `spec`: it is never one of an older generation that would send a new key to an old endpoint.
    ///
    /// It waits at most `start_wait` where no worker is ready, as long again for the generation that `spec` began, and at
    /// most `queue_timeout` where all places are taken; who came first is served first.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn lease(&self, spec: &Spec) -> Result<Lease, Absent> {
        let end = Instant::now() + spec.start_wait;
        loop {
            if self.core.serves_other_than(spec) {
                if let Some(why) = self.core.status().stale {
                    return Err(Absent::Failed(why));
                }
                if Instant::now() >= end {
                    return Err(Absent::Starting);
                }
                // Rare and short: a reload has changed where calls go, and its workers are about to be ready.
                sleep(LOOK).await;
                continue;
            }
            let lease = self.core.lease().await?;
            if lease.is_for(spec) {
                return Ok(lease);
            }
        }
    }

    /// Begins a new generation, beside the one that serves, if `spec` or what is in the files differs from what the
    /// newest one, or the newest try, was made of; so does a change of the interpreter's packages. The new one serves
    /// once a worker of it is ready; if none ever is, the old one goes on. Blocks: it reads the files.
    pub fn renew(&self, spec: Spec) {
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.core.newest();
        let made = before.made().clone();
        if made.has_other_packages() {
            self.desk.forget_zygote(&before.spec);
        }
        if let Some(next) = self.core.next(spec) {
            self.desk.supervise(&self.core, next);
        }
    }

    /// How it is doing.
    pub fn status(&self) -> CrewStatus {
        self.core.status()
    }

    /// The files whose change makes [`Crew::renew`] worth calling.
    pub fn watched(&self) -> Vec<PathBuf> {
        self.core.watched()
    }

    /// Waits until the newest generation serves or has failed, at most for `most`. Blocks; not for requests.
    ///
    /// # Errors
    ///
    /// Why it does not serve.
    pub fn wait_settled(&self, most: Duration) -> Result<(), String> {
        self.core.wait_settled(most)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.core.close(Duration::MAX);
    }
}
