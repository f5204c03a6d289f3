//! The one task set: every task that outlives its caller is in it, so that a stop can wait for all.

pub mod bell;
pub mod hush;

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// A handle to the task set; clones share it. Tasks run on the runtime of the thread that spawns them.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` to its end on this thread's runtime, whether or not anyone keeps the handle.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(future)
    }

    /// Returns once the set has been closed and every task in it has ended.
    pub async fn finished(&self) {
        self.0.close();
        self.0.wait().await;
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.0.len()
    }
}

/// Which worker thread a request is served on: pools of connections are kept apart by it, since a socket
/// belongs to the runtime that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seat(pub usize);
