//! What the tests are made of: a scripted provider, a token server, the real binary, and a client that sees bytes.

pub(crate) mod client;
pub(crate) mod launch;
pub(crate) mod python;
pub(crate) mod tls;
pub(crate) mod token_server;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub(crate) use client::{Answer, Call, Connection};
pub(crate) use launch::{Setup, Sidecar, integration};
pub(crate) use token_server::TokenServer;
pub(crate) use upstream::{Turn, Upstream};

/// The longest that any wait of a test may take before it fails. Nothing is timed by it: a healthy wait ends at
/// its event, which is milliseconds away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A value that others wait for.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// Begins with `value`.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    /// Changes the value and wakes all who wait.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        self.changed.notify_all();
        result
    }

    /// Waits until `look` gives something; `None` when [`PATIENCE`] is over.
    pub(crate) fn wait<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let mut found = None;
        let guard = self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = self.changed.wait_timeout_while(guard, PATIENCE, |value| {
            found = look(value);
            found.is_none()
        });
        drop(waited);
        found
    }
}

/// A door that a script stands before until the test opens it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Watched<bool>>);

impl Gate {
    /// A closed one.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets all through, for good.
    pub(crate) fn open(&self) {
        self.0.change(|open| *open = true);
    }

    /// Waits until it is open; fails loudly after [`PATIENCE`].
    pub(crate) fn wait(&self) {
        self.0.wait(|open| open.then_some(())).expect("the gate was never opened");
    }
}
