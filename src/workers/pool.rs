//! Workers as calls see them: which one takes the next call, and how many each has.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::{SetOnce, watch};
use tokio::time::Instant;

use super::handed::Handed;
use super::made::Made;
use super::process::Ending;
use super::report::{Loaded, WorkerState, WorkerStatus};
use super::spec::Spec;
use crate::egress::{Clients, Egress, EgressLimits};

/// A worker whose loop has been silent for longer gets no new call.
const FRESH: Duration = Duration::from_secs(1);
/// How much longer than the worker we wait for its answer: its own refusal says more than ours.
const LONGER: Duration = Duration::from_millis(250);
/// Connecting to a socket of this machine that is already listened on.
const CONNECT: Duration = Duration::from_secs(5);

/// One worker process as calls see it.
#[derive(Debug)]
pub(super) struct Worker {
    /// Of its own: what its predecessor left open must not be used again.
    pub(super) egress: Egress,
    pub(super) pid: Arc<SetOnce<u32>>,
    pub(super) ended: watch::Receiver<Option<Ending>>,
    /// What is secret of what it was handed.
    pub(super) handed: Arc<Handed>,
    /// Why we end it, in words for clients.
    pub(super) verdict: OnceLock<String>,
    in_flight: AtomicUsize,
    served: AtomicU64,
    pub(super) memory: AtomicU64,
    began: Instant,
    /// Milliseconds after `began`.
    beat: AtomicU64,
    /// Whether it takes calls.
    open: AtomicBool,
    /// Whether it has ever taken calls.
    was_open: AtomicBool,
}

impl Worker {
    pub(super) fn new(
        egress: Egress,
        pid: Arc<SetOnce<u32>>,
        ended: watch::Receiver<Option<Ending>>,
        handed: Arc<Handed>,
    ) -> Self {
        Self {
            egress,
            pid,
            ended,
            handed,
            verdict: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            began: Instant::now(),
            beat: AtomicU64::new(0),
            open: AtomicBool::new(false),
            was_open: AtomicBool::new(false),
        }
    }

    /// From now on it takes calls.
    pub(super) fn open(&self) {
        self.beat();
        self.was_open.store(true, Ordering::SeqCst);
        self.open.store(true, Ordering::SeqCst);
    }

    /// From now on it takes no more calls. Every call that it has taken is in `in_flight`.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Its loop runs. Whether it had been silent for too long before.
    pub(super) fn beat(&self) -> bool {
        let was_fresh = self.is_fresh();
        self.beat.store(millis(self.began.elapsed()), Ordering::Relaxed);
        !was_fresh
    }

    /// Changes with every beat.
    pub(super) fn last_beat(&self) -> u64 {
        self.beat.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Ends one call.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes one more call, if it takes any and has fewer than `most`.
    fn enter(&self, most: usize) -> bool {
        let more = |have: usize| (have < most).then_some(have + 1);
        if self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err() {
            return false;
        }
        // After it was counted: whoever closes it either sees this call or is seen here.
        if !self.open.load(Ordering::SeqCst) {
            self.leave();
            return false;
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn is_fresh(&self) -> bool {
        let silent = millis(self.began.elapsed()).saturating_sub(self.last_beat());
        Duration::from_millis(silent) < FRESH
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let state = match (self.open.load(Ordering::SeqCst), self.was_open.load(Ordering::SeqCst)) {
            (true, _) if self.is_fresh() => WorkerState::Ready,
            (true, _) => WorkerState::Blocked,
            (false, true) => WorkerState::Draining,
            (false, false) => WorkerState::Starting,
        };
        WorkerStatus {
            pid: self.pid.get().copied(),
            state,
            in_flight: self.in_flight(),
            calls: self.served(),
            memory: self.memory.load(Ordering::Relaxed),
        }
    }
}

/// The way to the worker that serves the socket at `path`.
pub(super) fn way(clients: &Clients, path: &Path, spec: &Spec) -> Result<Egress, String> {
    // As old and idle as the worker itself may get: what ends it closes its connections.
    let long = Duration::from_secs(24 * 3600);
    let limits = EgressLimits {
        connect: CONNECT,
        first_byte: spec.request_timeout.saturating_add(LONGER),
        pool_idle: long,
        max_connection_age: long,
    };
    clients.worker(path, &limits)
}

/// Workers that were made of the same.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) spec: Arc<Spec>,
    pub(super) loaded: ArcSwapOption<Loaded>,
    made: Mutex<Made>,
    places: Box<[ArcSwapOption<Worker>]>,
    /// All processes that have not ended.
    roster: Mutex<Vec<Arc<Worker>>>,
    /// Set: it is to end, and its calls have so long.
    retired: watch::Sender<Option<Duration>>,
    /// Whether its last start has failed.
    failing: AtomicBool,
}

impl Generation {
    pub(super) fn new(number: u64, spec: Arc<Spec>, made: Made) -> Self {
        let places = (0..spec.workers.max(1)).map(|_| ArcSwapOption::empty()).collect();
        Self {
            number,
            spec,
            loaded: ArcSwapOption::empty(),
            made: Mutex::new(made),
            places,
            roster: Mutex::default(),
            retired: watch::Sender::new(None),
            failing: AtomicBool::new(false),
        }
    }

    /// A worker that has taken one more call: the least busy of those whose loop runs.
    pub(super) fn take(&self) -> Option<Arc<Worker>> {
        let most = self.spec.max_in_flight.max(1);
        loop {
            let mut best: Option<(usize, Guard<Option<Arc<Worker>>>)> = None;
            for place in &self.places {
                let guard = place.load();
                let Some(worker) = guard.as_ref() else { continue };
                let has = worker.in_flight();
                if has < most
                    && best.as_ref().is_none_or(|(least, _)| has < *least)
                    && worker.open.load(Ordering::SeqCst)
                    && worker.is_fresh()
                    // Known here before its supervisor closes it.
                    && worker.ended.borrow().is_none()
                {
                    best = Some((has, guard));
                }
            }
            let worker = best.and_then(|(_, guard)| Guard::into_inner(guard))?;
            // Otherwise someone was faster, and in the next round it is full or closed.
            if worker.enter(most) {
                return Some(worker);
            }
        }
    }

    /// Whether any worker is ready, be it busy or blocked.
    pub(super) fn has_workers(&self) -> bool {
        self.places.iter().any(|place| place.load().is_some())
    }

    /// Takes note of how its last start turned out.
    pub(super) fn is_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// Whether no worker is there and the last start has failed. Between a worker's end and the next start that is not so.
    pub(super) fn is_down(&self) -> bool {
        self.failing.load(Ordering::SeqCst) && !self.has_workers()
    }

    /// Has the worker of a place take calls, instead of the one before.
    pub(super) fn seat(&self, place: usize, worker: Option<Arc<Worker>>) {
        if let Some(seat) = self.places.get(place) {
            seat.store(worker);
        }
    }

    /// How many calls it serves at once.
    pub(super) fn most(&self) -> usize {
        self.spec.max_in_flight.max(1).saturating_mul(self.places.len())
    }

    /// Has it end; its calls have `drain`, at most what its spec says.
    pub(super) fn retire(&self, drain: Duration) {
        let drain = drain.min(self.spec.drain_timeout);
        self.retired.send_if_modified(|retired| {
            let is_sooner = retired.is_none_or(|before| drain < before);
            if is_sooner {
                *retired = Some(drain);
            }
            is_sooner
        });
    }

    pub(super) fn retired(&self) -> watch::Receiver<Option<Duration>> {
        self.retired.subscribe()
    }

    /// What it was made of.
    pub(super) fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its processes.
    pub(super) fn roster(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
