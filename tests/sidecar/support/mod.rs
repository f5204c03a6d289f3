//! What the tests are made of: a scripted provider, a token server, the real binary, and a client that sees bytes.

pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod handlers;
pub(crate) mod launch;
pub(crate) mod page;
pub(crate) mod provider;
pub(crate) mod python;
pub(crate) mod schema;
pub(crate) mod tls;
pub(crate) mod token_server;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub(crate) use client::{Answer, Call, Connection};
pub(crate) use frames::frames;
pub(crate) use launch::{Ended, Setup, Sidecar, integration};
pub(crate) use token_server::TokenServer;
pub(crate) use upstream::{Turn, Upstream};

/// The longest that any wait of a test may take before it fails. Nothing is timed by it: a healthy wait ends at
/// its event, which is milliseconds away; a Python that imports litellm on a busy machine takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
    pub(crate) fn wait<R>(&self, look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        self.wait_at_most(PATIENCE, look)
    }

    /// Likewise; `None` when `limit` is over.
    pub(crate) fn wait_at_most<R>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        let mut found = None;
        let guard = self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = self.changed.wait_timeout_while(guard, limit, |value| {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream_of(script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Connection) {
        let upstream = Upstream::start(script);
        let mut connection = Connection::open(upstream.address());
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
        (upstream, connection)
    }

    #[test]
    fn the_upstream_records_what_the_client_sent() {
        let upstream = Upstream::saying("hello");
        let mut connection = Connection::open(upstream.address());
        for _ in 0..2 {
            let answer = connection.send(&Call::say("m", "hi").header("X-One", "1")).answer();
            assert_eq!((answer.content().as_str(), answer.clean), ("hello", true));
        }
        assert_eq!((upstream.count(), upstream.connections()), (2, 1));
        let requests = upstream.requests(2);
        assert_eq!((requests[0].method(), requests[0].target()), ("POST", "/v1/chat/completions"));
        assert_eq!(requests[0].head.header("x-one"), Some("1"));
        assert_eq!(requests[1].json()["model"], "m");
    }

    #[test]
    fn a_cut_a_reset_and_a_clean_end_are_told_apart() {
        let (_upstream, mut clean) = stream_of(|turn| {
            turn.open_stream();
            turn.delta("one");
            turn.done();
        });
        assert_eq!(clean.all_data().len(), 3);
        for script in [Turn::close as fn(&mut Turn), Turn::reset] {
            let upstream = Upstream::start(move |turn| {
                turn.open_stream();
                turn.delta("one");
                script(turn);
            });
            let answer = Connection::open(upstream.address()).send(&Call::stream("m", "hi")).answer();
            assert!(!answer.clean);
        }
    }

    #[test]
    fn the_upstream_sees_its_client_leave() {
        let left = Arc::new(Watched::new(false));
        let told = Arc::clone(&left);
        let (upstream, connection) = stream_of(move |turn| {
            turn.open_stream();
            turn.until_left();
            told.change(|left| *left = true);
        });
        drop(connection);
        left.wait(|left| left.then_some(())).expect("the script saw it");
        upstream.wait_closed(1);
    }

    #[test]
    fn the_script_stops_at_a_gate_until_it_is_opened() {
        let gate = Gate::new();
        let held = gate.clone();
        let (_upstream, mut connection) = stream_of(move |turn| {
            turn.open_stream();
            turn.delta("one");
            held.wait();
            turn.done();
        });
        assert!(connection.data().contains("one"));
        gate.open();
        assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
    }

    #[test]
    fn the_pinned_package_is_there() {
        let ended = python::run("import openai, sys; print(openai.__version__, *sys.argv[1:])", &["x"]);
        let pinned = include_str!("../../requirements.txt");
        let version = ended.stdout.split(' ').next().unwrap_or_default();
        assert!(pinned.contains(&format!("openai=={version}\n")), "{}{}", ended.stdout, ended.stderr);
    }
}
