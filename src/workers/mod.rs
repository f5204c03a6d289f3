//! The Python processes that run customers' handlers: crews, their leases, and the thread that looks after them.
//!
//! ```text
//! Workers       one for the process: crews by integration
//!  Crew         what callers hold; its Core is what calls, generations and status share
//!   Generation  workers that were made of the same files and settings; a changed file makes the next one
//!    Worker     one process as calls see it: its socket, its calls in flight, its last sign of life
//! ```
//!
//! All processes are looked after on a thread of its own (`floor`): a supervisor for each generation (`supervise`) turns
//! what it hears (`launch`, `status`) and sees (`memory`) into facts for the `policy`, and its decisions into signals and starts
//! (`process`). Calls touch none of it: they take a lease on their own thread (`pool`, `core`).

mod check;
mod core;
mod crew;
mod floor;
mod handed;
mod launch;
mod lease;
mod made;
mod memory;
mod output;
mod policy;
mod pool;
mod process;
mod report;
mod run_dir;
mod spec;
mod status;
mod supervise;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod words;
mod zygotes;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::egress::Clients;
use floor::Desk;

pub use check::check_file;
pub use crew::Crew;
pub use lease::{Absent, HandlerFailure, Lease};
pub use report::{Cause, CrewState, CrewStatus, Loaded, WorkerState, WorkerStatus};
pub use spec::Spec;

/// What zygotes and workers run.
const SCRIPT: &str = include_str!("../../handlers/worker.py");

/// What an interpreter needs to run handlers, as pip reads it from a file.
pub const REQUIREMENTS: &str = include_str!("../../handlers/requirements.txt");

/// The litellm that handlers are tested with, as pip takes it: who has only the binary has no file of requirements.
pub fn pinned() -> &'static str {
    let line = REQUIREMENTS.lines().find(|line| line.starts_with("litellm==")).unwrap_or("litellm");
    line.split(';').next().unwrap_or(line).trim()
}

/// All crews of the process. It costs nothing until the first crew: no thread, no directory, no process.
pub struct Workers {
    clients: Arc<Clients>,
    script: &'static str,
    base: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    desk: Option<Arc<Desk>>,
    crews: HashMap<String, Weak<Crew>>,
    stopped: bool,
}

impl Workers {
    /// No crews yet. Workers are reached through `clients`.
    pub fn new(clients: Arc<Clients>) -> Self {
        Self { clients, script: SCRIPT, base: std::env::temp_dir(), state: Mutex::default() }
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
        let desk = self.desk()?;
        let known = self.state().crews.get(integration).and_then(Weak::upgrade);
        if let Some(crew) = known {
            crew.renew(spec);
            return Ok(crew);
        }
        let crew = Arc::new(Crew::begin(integration, spec, desk));
        let mut state = self.state();
        if state.stopped {
            return Err(stopping());
        }
        state.crews.retain(|_, crew| crew.strong_count() > 0);
        state.crews.insert(integration.to_owned(), Arc::downgrade(&crew));
        Ok(crew)
    }

    /// Ends all crews: their calls have `drain` to end, then the processes are asked to end and at last killed. No
    /// process of theirs and no file is left when it returns, which takes at most some seconds more than `drain`.
    pub async fn stop(&self, drain: Duration) {
        let desk = {
            let mut state = self.state();
            state.stopped = true;
            state.desk.take()
        };
        if let Some(desk) = desk {
            desk.stop(drain).await;
        }
    }

    fn desk(&self) -> Result<Arc<Desk>, String> {
        let mut state = self.state();
        if state.stopped {
            return Err(stopping());
        }
        if let Some(desk) = &state.desk {
            return Ok(Arc::clone(desk));
        }
        let desk = Arc::new(Desk::open(Arc::clone(&self.clients), &self.base, self.script)?);
        state.desk = Some(Arc::clone(&desk));
        Ok(desk)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopping() -> String {
    "handlers are being stopped".to_owned()
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crews: Vec<String> = self.state().crews.keys().cloned().collect();
        f.debug_struct("Workers").field("crews", &crews).finish_non_exhaustive()
    }
}
