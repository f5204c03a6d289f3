//! The credentials of one kind that are in use, each with its one source.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use moka::future::Cache;

use super::credential::{Credential, Held};
use super::source::{Source, States};
use crate::tasks::Tasks;

/// How many credentials are remembered at most.
const MAX_CREDENTIALS: u64 = 10_000;
/// How long the state of a credential that nobody has is remembered: longer than any token is believed to live.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 24 * 3600);

type Sources<C> = HashMap<Arc<Held<C>>, Weak<Source<C>>>;

/// All credentials of one kind.
pub(super) struct Stock<C: Credential> {
    states: States<C>,
    sources: Mutex<Sources<C>>,
}

impl<C: Credential> Default for Stock<C> {
    fn default() -> Self {
        let states = Cache::builder().max_capacity(MAX_CREDENTIALS).time_to_idle(FORGET_AFTER).build();
        Self { states, sources: Mutex::default() }
    }
}

impl<C: Credential> Stock<C> {
    /// The one source of what is `held`, for as long as an integration has it. Its tokens are numbered by `serial`, its
    /// fetches run as tasks of `tasks`.
    pub(super) fn source(&self, held: Held<C>, serial: &Arc<AtomicU64>, tasks: &Tasks) -> Arc<Source<C>> {
        let held = Arc::new(held);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = sources.get(&held).and_then(Weak::upgrade) {
            return source;
        }
        let (states, serial) = (self.states.clone(), Arc::clone(serial));
        let source = Arc::new(Source::new(Arc::clone(&held), states, serial, tasks.clone()));
        sources.insert(held, Arc::downgrade(&source));
        source
    }

    /// How many are remembered.
    pub(super) fn count(&self) -> u64 {
        self.states.entry_count()
    }
}
