//! The keeper at its desk: what it does reads files, so it is done on a thread that may block.
//!
//! A file system that hangs holds up the keeper and nothing else: signals, the admin side and the stop go on.

use std::future::pending;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::keeper::Keeper;
use crate::files::Prints;

/// How long the keeper may be at work until who asks for more is told of it.
const LONG: Duration = Duration::from_secs(1);

/// The keeper, and what it is at. Needs a runtime.
pub(super) struct Desk {
    /// At home while it has nothing to do.
    keeper: Option<Box<Keeper>>,
    work: Option<(JoinHandle<Box<Keeper>>, Instant)>,
    /// Whether a reload was asked for while it was at work.
    again: bool,
}

impl Desk {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self { keeper: Some(Box::new(keeper)), work: None, again: false }
    }

    /// The keeper, while it has nothing to do.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_deref()
    }

    /// SIGHUP. While the keeper is at work the reload waits for that.
    pub(super) fn reload(&mut self) {
        if let Some((_, since)) = &self.work {
            self.again = true;
            if since.elapsed() > LONG {
                tracing::warn!(
                    "files have been read for {} s and are not done (does a file system hang?): the reload waits for them",
                    since.elapsed().as_secs()
                );
            }
        }
        self.give(Keeper::reload);
    }

    /// The files are so now. While the keeper is at work nothing is done.
    pub(super) fn looked(&mut self, now: Prints) {
        self.give(move |keeper| keeper.looked(&now));
    }

    fn give(&mut self, task: impl FnOnce(&mut Keeper) + Send + 'static) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let work = spawn_blocking(move || {
            task(&mut keeper);
            keeper
        });
        self.work = Some((work, Instant::now()));
    }

    /// Waits until the keeper is done; for ever if it has nothing to do. Given up and called again, it goes on.
    pub(super) async fn done(&mut self) {
        let Some((work, _)) = &mut self.work else { return pending().await };
        let done = work.await;
        self.work = None;
        match done.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime ends.
            Err(Err(_)) => return pending().await,
        }
        if std::mem::take(&mut self.again) {
            self.reload();
        }
    }
}
