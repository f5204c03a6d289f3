//! Where a generation has its workers from: a zygote, waited for with a limit and started anew when it dies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::floor::Floor;
use super::made;
use super::policy::Slot;
use super::process::{Interpreter, State, Zygote};
use super::spec::Spec;

/// The zygote that a generation uses, as far as there is one.
#[derive(Debug)]
pub(super) struct Source {
    current: Option<Current>,
    slot: Slot,
}

#[derive(Debug)]
struct Current {
    zygote: Arc<Zygote>,
    since: Duration,
    interpreter: Option<Arc<Interpreter>>,
}

/// What there is to have workers from.
#[derive(Debug)]
pub(super) enum Supply {
    /// It forks.
    Ready(Arc<Zygote>),
    /// It imports, or a new one may not be started yet.
    Wait,
    /// There is none.
    Failed {
        /// What is wrong and what to do.
        what: String,
        /// Whether the next would fail in the same way.
        is_final: bool,
        /// What packages there are, and below which prefix, as far as that is known.
        packages: Option<(PathBuf, u64)>,
    },
}

impl Default for Source {
    fn default() -> Self {
        Self { current: None, slot: Slot::new() }
    }
}

impl Source {
    /// What there is at `now`; a zygote is asked for if there is none. Each failure is told once. Blocks for a moment
    /// after a failure: it reads the names of packages.
    pub(super) fn supply(&mut self, floor: &Floor, spec: &Spec, now: Duration) -> Supply {
        if self.current.is_none() && !self.slot.is_due(now) {
            return Supply::Wait;
        }
        let current = self.current.get_or_insert_with(|| Current {
            zygote: floor.zygote(spec),
            since: now,
            interpreter: None,
        });
        match current.zygote.state() {
            State::Ready(interpreter) => {
                current.interpreter = Some(interpreter);
                Supply::Ready(Arc::clone(&current.zygote))
            }
            State::Starting if now.saturating_sub(current.since) < spec.start_timeout => Supply::Wait,
            State::Starting => {
                floor.forget(spec, &current.zygote);
                self.lose(now);
                let what = format!(
                    "the interpreter {} had not imported litellm within {:?} (handlers.start_timeout): is the machine too slow for it?",
                    spec.python, spec.start_timeout
                );
                Supply::Failed { what, is_final: false, packages: None }
            }
            State::Dead(failure) => {
                let served = current.interpreter.is_some();
                self.lose(now);
                if served {
                    // Its workers live; what it was needed for next is what its successor is for.
                    tracing::warn!("{}; another is started", failure.words);
                    return Supply::Wait;
                }
                let prefix = failure.prefix.as_deref().map(Path::new);
                Supply::Failed {
                    what: failure.words.clone(),
                    is_final: failure.is_final,
                    packages: prefix.map(|prefix| (prefix.to_owned(), made::packages(prefix))),
                }
            }
        }
    }

    fn lose(&mut self, now: Duration) {
        let since = self.current.take().map_or(now, |current| current.since);
        self.slot.lost(now, now.saturating_sub(since));
    }

    /// Changes of the zygote's state, while one is waited for.
    pub(super) fn changes(&self) -> Option<watch::Receiver<State>> {
        let mut changes = self.current.as_ref()?.zygote.changes();
        let is_waited_for = matches!(*changes.borrow_and_update(), State::Starting);
        is_waited_for.then_some(changes)
    }

    pub(super) fn zygote(&self) -> Option<Arc<Zygote>> {
        self.current.as_ref().map(|current| Arc::clone(&current.zygote))
    }

    /// The interpreter that it turned out to be.
    pub(super) fn interpreter(&self) -> Option<Arc<Interpreter>> {
        self.current.as_ref().and_then(|current| current.interpreter.clone())
    }
}
