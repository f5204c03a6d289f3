//! The control thread: signals, reload, and the stop in its order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::keeper::{Keeper, Times};
use super::watch::Watch;
use crate::integration::Workshop;
use crate::proxy::House;
use crate::server::stop::Stopper;
use crate::tasks::Tasks;

/// How long background work (a token being fetched, a tail being drained) may hold up the end.
pub(super) const LAST_WORK: Duration = Duration::from_millis(500);
/// How often a lingering stop looks whether anyone is still served.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Control {
    pub(super) house: Arc<House>,
    pub(super) stopper: Stopper,
    /// The clients' connections.
    pub(super) connections: Tasks,
    /// Everything else.
    pub(super) tasks: Tasks,
    pub(super) keeper: Keeper,
    pub(super) workshop: Arc<Workshop>,
    /// `None` leaves all signals alone.
    pub(super) signals: Option<Signals>,
    /// Cancelled when a worker thread has ended before its time, or the admin side has: only a part of us is left.
    pub(super) lost: CancellationToken,
}

impl Control {
    /// Runs until the process is to end.
    pub(super) async fn run(self) {
        let Self { house, stopper, connections, tasks, keeper, workshop, signals: mut caught, lost } = self;
        let mut stop = stopper.listen();
        let mut patience = LAST_WORK;
        let mut times = keeper.times();
        let (paths, every) = keeper.watched();
        let mut watch = Watch::new(every);
        watch.set(paths, every);
        let mut desk = Desk::new(keeper);
        let drain = Drain { house: &house, stopper: &stopper, connections: &connections, lost: &lost };
        loop {
            let is_free = desk.keeper().is_some();
            tokio::select! {
                () = stop.over() => break,
                stopping = next(&mut caught) => {
                    if stopping {
                        patience = drain.run(times, &mut caught).await;
                        break;
                    }
                    desk.reload();
                }
                () = lost.cancelled() => {
                    patience = drain.run(times, &mut caught).await;
                    break;
                }
                () = desk.done() => {}
                now = watch.look(), if is_free => desk.looked(now),
            }
            if let Some(keeper) = desk.keeper() {
                times = keeper.times();
                let (paths, every) = keeper.watched();
                watch.set(paths, every);
            }
        }
        house.cut.store(true, Ordering::Relaxed);
        stopper.end();
        end_workers(&workshop, patience).await;
        workshop.clients.close();
        let _ = timeout(patience, tasks.finished()).await;
    }
}

/// Ends the handlers' processes, so that nothing is left of them.
pub(super) async fn end_workers(workshop: &Workshop, patience: Duration) {
    if let Some(stable) = &workshop.stable {
        stable.workers.stop(patience).await;
    }
}

/// Whom a stop concerns.
struct Drain<'a> {
    house: &'a House,
    stopper: &'a Stopper,
    connections: &'a Tasks,
    lost: &'a CancellationToken,
}

impl Drain<'_> {
    /// The stop in its order: not ready, lingering, draining; how long background work may still take after it.
    async fn run(&self, Times { linger, drain_timeout }: Times, signals: &mut Option<Signals>) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (linger_ms, drain_timeout_ms) = (millis(linger), millis(drain_timeout));
        // Before it is logged: whoever reads the line may ask next.
        self.house.unready.store(true, Ordering::Relaxed);
        tracing::info!(linger_ms, drain_timeout_ms, "stopping");
        let orderly = async {
            if !linger.is_zero() {
                tokio::select! {
                    () = self.linger(linger) => {}
                    // Half a house takes nobody in.
                    () = self.lost.cancelled() => {}
                }
            }
            self.house.draining.store(true, Ordering::Relaxed);
            self.stopper.begin();
            self.connections.finished().await;
            // Their lines come before ours.
            self.house.ended.settle_all();
        };
        let patience = tokio::select! {
            ended = timeout(drain_timeout, orderly) => {
                match ended {
                    Ok(()) => {
                        tracing::info!("stopped: every answer is out");
                        LAST_WORK
                    }
                    Err(_) => {
                        tracing::warn!(connections = self.connections.running(), "stopped at drain_timeout: what was still open is cut");
                        // It bounds everything: nothing is left of it for background work.
                        Duration::ZERO
                    }
                }
            }
            () = second(signals) => {
                tracing::warn!("stopped by a second signal: what was still open is cut");
                Duration::ZERO
            }
        };
        self.house.draining.store(true, Ordering::Relaxed);
        self.stopper.begin();
        patience
    }

    /// Returns once no request has been served for `idle` since the stop was asked for: a runner that is stopped
    /// beside us may be at work without asking us for anything.
    async fn linger(&self, idle: Duration) {
        let asked = Instant::now();
        let quiet = || {
            self.house.ended.settle_all();
            self.house.activity.idle_for().map(|quiet| quiet.min(asked.elapsed()))
        };
        while quiet() < Some(idle) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether the next signal asks for a stop, rather than a reload; waits for ever where signals are left alone.
async fn next(signals: &mut Option<Signals>) -> bool {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

async fn second(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => signals.stop().await,
        None => std::future::pending().await,
    }
}

/// Signals that are caught from the very start of a process, and not only once it serves: by default a SIGHUP ends it,
/// and as a container's first process it would not even hear a SIGTERM. They wait on the runtime that becomes the
/// control thread's.
#[derive(Debug)]
pub struct Caught {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

impl Caught {
    /// From now on they are caught.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn new() -> io::Result<Self> {
        let runtime = runtime()?;
        let signals = {
            let _entered = runtime.enter();
            Signals::new()?
        };
        Ok(Self { runtime, signals })
    }

    /// Does what is left to be done where it ends before it serves.
    pub(super) fn finish(&self, work: impl Future<Output = ()>) {
        self.runtime.block_on(work);
    }

    /// What `work` comes to, which may take long; `None` where a stop is asked for before that, and it is left to itself.
    ///
    /// # Errors
    ///
    /// No thread can be had for it, or it has panicked.
    pub fn unless_stopped<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Option<T>> {
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new().name("start".into()).spawn(move || tell.send(work()))?;
        let Self { runtime, signals } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = signals.stop() => Ok(None),
                done = told => done.map(Some).map_err(io::Error::other),
            }
        })
    }
}

/// A runtime as the control thread has it.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The signals that the process obeys. They are caught from [`Signals::new`] on.
#[derive(Debug)]
pub(super) struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Must be called on the runtime that waits for them.
    fn new() -> io::Result<Self> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_drain_timeout_once_it_has_run_out_is_nothing() {
        let times = Times { linger: Duration::ZERO, drain_timeout: Duration::from_secs(3) };
        let house = House::bare(1, Arc::new(Metrics::new()));
        let ((stopper, _), lost) = (Stopper::new(), CancellationToken::new());
        let connections = Tasks::new();
        let drain = Drain { house: &house, stopper: &stopper, connections: &connections, lost: &lost };
        assert_eq!(drain.run(times, &mut None).await, LAST_WORK, "every answer is out");
        let open = connections.spawn(std::future::pending::<()>());
        assert_eq!(drain.run(times, &mut None).await, Duration::ZERO);
        open.abort();
    }
}
