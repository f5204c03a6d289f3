//! The watcher: looks at files now and then, on a thread that may block.
//!
//! What is just being written is left alone: an emptied file can be a configuration without integrations, and a cut
//! secret is a secret. Only what two looks saw alike is told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::files::{Eye, Prints};

/// What has changed is looked at again after so long: longer than a writer pauses between emptying a file and filling it.
const SETTLE: Duration = Duration::from_millis(250);

/// Which files are looked at, and when.
#[derive(Debug)]
pub(super) struct Watch {
    every: Duration,
    next: Instant,
    paths: BTreeSet<PathBuf>,
    /// At home between two looks.
    eye: Option<Eye>,
    looking: Option<JoinHandle<(Eye, Prints)>>,
    /// What the look before saw.
    before: Prints,
}

impl Watch {
    /// Looks at nothing yet. Needs a runtime.
    pub(super) fn new(every: Duration) -> Self {
        let next = Instant::now() + every;
        Self { every, next, paths: BTreeSet::new(), eye: None, looking: None, before: Prints::new() }
    }

    /// From now on looks at `paths`, `every` so often.
    pub(super) fn set(&mut self, paths: BTreeSet<PathBuf>, every: Duration) {
        if every != self.every {
            (self.every, self.next) = (every, Instant::now() + every);
        }
        self.paths = paths;
    }

    /// What the files are once two looks saw the same. Given up and called again, it goes on where it was. A file system that
    /// hangs holds up the looks and nothing else.
    pub(super) async fn look(&mut self) -> Prints {
        loop {
            if let Some(looking) = &mut self.looking {
                let looked = looking.await;
                self.looking = None;
                self.next = Instant::now() + self.every;
                let Ok((eye, prints)) = looked else { continue };
                self.eye = Some(eye);
                if prints == self.before {
                    return prints;
                }
                self.before = prints;
                self.next = Instant::now() + SETTLE;
                continue;
            }
            sleep_until(self.next).await;
            let (mut eye, paths) = (self.eye.take().unwrap_or_default(), self.paths.clone());
            self.looking = Some(spawn_blocking(move || {
                let prints = eye.look(paths);
                (eye, prints)
            }));
        }
    }
}
