//! The control thread: signals, reload, and the stop in its order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::{Reread, reload};
use crate::config::valid::Settings;
use crate::integration::Workshop;
use crate::proxy::House;
use crate::server::stop::Stopper;
use crate::tasks::Tasks;

/// How long background work (a token being fetched, a tail being drained) may hold up the end.
const LAST_WORK: Duration = Duration::from_millis(500);
/// How often a lingering stop looks whether anyone is still served.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Control {
    pub(super) house: Arc<House>,
    pub(super) workshop: Workshop,
    pub(super) stopper: Stopper,
    /// The clients' connections.
    pub(super) connections: Tasks,
    /// Everything else.
    pub(super) tasks: Tasks,
    pub(super) settings: Settings,
    /// How to read the configuration anew, and the signals that ask for it; `None` leaves all signals alone.
    pub(super) signals: Option<(Reread, Signals)>,
}

impl Control {
    /// Runs until the process is to end.
    pub(super) async fn run(mut self) {
        let mut stop = self.stopper.listen();
        match self.signals.take() {
            Some((reread, mut signals)) => loop {
                tokio::select! {
                    () = stop.over() => break,
                    stopping = signals.next() => {
                        if stopping {
                            self.drain(&mut signals).await;
                            break;
                        }
                        self.reload(&reread);
                    }
                }
            },
            None => stop.over().await,
        }
        self.stopper.end();
        self.workshop.clients.close();
        let _ = timeout(LAST_WORK, self.tasks.finished()).await;
    }

    fn reload(&mut self, reread: &Reread) {
        let loaded = match reread() {
            Ok(loaded) => loaded,
            Err(problems) => {
                tracing::error!(
                    problems = problems.len(),
                    "reload refused, the running configuration stays:\n{}",
                    problems.render(false)
                );
                return;
            }
        };
        let old = self.house.registry.load_full();
        let (registry, mut difference) = reload::prepare(&old, &loaded.settings, &self.workshop);
        difference.restart = reload::needs_restart(&self.settings, &loaded.settings);
        for failure in registry.entries().iter().filter_map(reload::failure) {
            tracing::error!("{failure}");
        }
        self.house.registry.store(Arc::new(registry));
        // Tables that need a restart stay as they run, so that each reload says so again.
        self.settings.integrations = loaded.settings.integrations;
        tracing::info!(
            added = ?difference.added,
            changed = ?difference.changed,
            removed = ?difference.removed,
            unchanged = difference.unchanged,
            restart_needed_for = ?difference.restart,
            "configuration reloaded"
        );
    }

    async fn drain(&self, signals: &mut Signals) {
        let server = &self.settings.server;
        tracing::info!(linger = ?server.linger, drain_timeout = ?server.drain_timeout, "stopping");
        self.house.unready.store(true, Ordering::Relaxed);
        let orderly = async {
            if !server.linger.is_zero() {
                self.linger(server.linger).await;
            }
            self.house.draining.store(true, Ordering::Relaxed);
            self.stopper.begin();
            self.connections.finished().await;
        };
        tokio::select! {
            ended = timeout(server.drain_timeout, orderly) => match ended {
                Ok(()) => tracing::info!("stopped: every answer is out"),
                Err(_) => tracing::warn!(connections = self.connections.running(), "stopped at drain_timeout: what was still open is cut"),
            },
            () = signals.stop() => tracing::warn!("stopped by a second signal: what was still open is cut"),
        }
        self.stopper.begin();
    }

    /// Returns once no request has been served for `idle`.
    async fn linger(&self, idle: Duration) {
        while self.house.activity.idle_for() < Some(idle) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The signals that the process obeys. They are caught from [`Signals::new`] on: it comes before the start line, so
/// that whoever reads that line may send one.
pub(super) struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Must be called on the runtime that waits for them.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// Whether the next signal asks for a stop, rather than a reload.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.hup.recv() => false,
            _ = self.term.recv() => true,
            _ = self.int.recv() => true,
        }
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
