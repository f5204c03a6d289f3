//! What all holders of a crew share: which generation serves, who waits for it, and how it is doing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep};

use super::lease::{Absent, Lease};
use super::made::Made;
use super::pool::Generation;
use super::report::{Cause, CrewState, CrewStatus};
use super::spec::Spec;

/// The heart of a crew.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) integration: Arc<str>,
    serving: ArcSwapOption<Generation>,
    ledger: Mutex<Ledger>,
    /// Wakes whoever blocks on a settled ledger.
    settled: Condvar,
    /// Wakes all that wait for a worker when there may be no hope any more.
    turned: watch::Sender<()>,
    /// A place may have come free.
    freed: Notify,
    /// Those who wait, in their order: only the first looks for a place.
    queue: Semaphore,
    waiting: AtomicUsize,
    calls: AtomicU64,
    restarts: [AtomicU64; Cause::ALL.len()],
}

#[derive(Debug)]
struct Ledger {
    newest: Arc<Generation>,
    /// How the newest turned out.
    outcome: Option<Result<(), String>>,
    /// All that have processes, and those that are about to.
    generations: Vec<Weak<Generation>>,
    trouble: Option<String>,
    closing: bool,
}

impl Core {
    /// A crew whose first generation is about to start.
    pub(super) fn new(integration: &str, first: &Arc<Generation>) -> Self {
        let ledger = Ledger {
            newest: Arc::clone(first),
            outcome: None,
            generations: vec![Arc::downgrade(first)],
            trouble: None,
            closing: false,
        };
        Self {
            integration: integration.into(),
            serving: ArcSwapOption::empty(),
            ledger: Mutex::new(ledger),
            settled: Condvar::new(),
            turned: watch::Sender::new(()),
            freed: Notify::new(),
            queue: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            restarts: Default::default(),
        }
    }

    /// A place with a worker; see [`super::Crew::lease`].
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Absent> {
        // Who comes while others wait stands behind them.
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(lease) = self.take()
        {
            return Ok(lease);
        }
        let _waits = Waits::new(&self.waiting);
        // For a start and for a place: the one does not count for the other.
        let (mut starting, mut queueing) = (Duration::ZERO, Duration::ZERO);
        let mut turned = self.turned.subscribe();
        let turn = self.turn();
        tokio::pin!(turn);
        loop {
            let since = Instant::now();
            let (most, absent) = self.outlook();
            let waited = if matches!(absent, Absent::Busy { .. }) { &mut queueing } else { &mut starting };
            let Some(left) = most.checked_sub(*waited).filter(|left| !left.is_zero()) else {
                // The last chance, for those whose limit is zero: nobody stands before them.
                return if most.is_zero() { self.take().ok_or(absent) } else { Err(absent) };
            };
            tokio::select! {
                biased;
                lease = &mut turn => return Ok(lease),
                _ = turned.changed() => {}
                () = sleep(left) => {}
            }
            *waited += since.elapsed();
        }
    }

    /// Waits for its turn and then for a place, without end.
    async fn turn(self: &Arc<Self>) -> Lease {
        // It is never closed.
        let _first = self.queue.acquire().await;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(lease) = self.take() {
                return lease;
            }
            freed.await;
        }
    }

    /// Whether what serves may not be handed what is meant for workers of `spec`.
    pub(super) fn serves_other_than(&self, spec: &Spec) -> bool {
        self.serving.load().as_ref().is_some_and(|serving| !serving.spec.is_handed_alike(spec))
    }

    fn take(self: &Arc<Self>) -> Option<Lease> {
        let generation = self.serving.load();
        let generation = generation.as_ref()?;
        let worker = generation.take()?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        Some(Lease::new(Arc::clone(self), worker, Arc::clone(&generation.spec)))
    }

    /// How long it is worth waiting for a place, and what is to be said after that.
    fn outlook(&self) -> (Duration, Absent) {
        if let Some(serving) = self.serving.load().as_ref() {
            if serving.has_workers() {
                return (serving.spec.queue_timeout, Absent::Busy { most: serving.most() });
            }
            return (serving.spec.start_wait, Absent::Starting);
        }
        let ledger = self.ledger();
        match (&ledger.outcome, ledger.closing) {
            (_, true) => (Duration::ZERO, Absent::Stopping),
            (Some(Err(why)), false) => (Duration::ZERO, Absent::Failed(why.clone())),
            (Some(Ok(())) | None, false) => (ledger.newest.spec.start_wait, Absent::Starting),
        }
    }

    /// A call has ended, or a worker has come.
    pub(super) fn freed_one(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// A worker of `generation` is ready: it serves from now on, unless a newer one does.
    pub(super) fn promote(&self, generation: &Arc<Generation>) {
        let mut ledger = self.ledger();
        let before = self.serving.load_full();
        let is_old = before.as_ref().is_some_and(|before| before.number > generation.number);
        if ledger.closing || is_old {
            return generation.retire(Duration::MAX);
        }
        if before.as_ref().is_none_or(|before| before.number < generation.number) {
            self.serving.store(Some(Arc::clone(generation)));
            before.inspect(|before| before.retire(Duration::MAX));
        }
        if ledger.newest.number == generation.number {
            ledger.outcome = Some(Ok(()));
        }
        self.turn_to(ledger);
        self.freed_one();
    }

    /// `generation` does not serve, or no longer, and is not tried any more: why.
    pub(super) fn fail(&self, generation: &Arc<Generation>, why: &str) {
        let mut ledger = self.ledger();
        let serving = self.serving.load_full();
        if serving.as_ref().is_some_and(|serving| serving.number == generation.number) {
            self.serving.store(None);
        }
        if ledger.newest.number == generation.number {
            ledger.outcome = Some(Err(why.to_owned()));
        }
        ledger.trouble = Some(why.to_owned());
        let goes_on = self.serving.load().is_some();
        self.turn_to(ledger);
        let integration = &*self.integration;
        if goes_on {
            tracing::error!(
                integration,
                "the handler's new files or settings are not used: {why}; the ones before go on"
            );
        } else {
            tracing::error!(integration, "the handler cannot be served: {why}");
        }
    }

    /// What went wrong with a worker.
    pub(super) fn note_trouble(&self, what: String) {
        self.ledger().trouble = Some(what);
    }

    pub(super) fn note_restart(&self, cause: Cause) {
        let at = Cause::ALL.iter().position(|(one, _)| *one == cause);
        if let Some(count) = at.and_then(|at| self.restarts.get(at)) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The next generation, if `spec` and the files call for one. Blocks: it reads them.
    pub(super) fn next(&self, spec: Spec) -> Option<Arc<Generation>> {
        let newest = self.newest();
        // A copy: nobody may have to wait for a file system that hangs.
        let made = newest.made().clone();
        if made.is_of(&spec) {
            return None;
        }
        let serving = self.serving.load_full().filter(|serving| serving.number != newest.number);
        if let Some(serving) = serving {
            let made = serving.made().clone();
            if made.is_of(&spec) {
                self.return_to(serving);
                return None;
            }
        }
        let spec = Arc::new(spec);
        let next = Arc::new(Generation::new(newest.number + 1, Arc::clone(&spec), Made::begin(spec)));
        let mut ledger = self.ledger();
        if ledger.closing {
            return None;
        }
        // What had not come to serve never will.
        let serving = self.serving.load().as_ref().map(|serving| serving.number);
        ledger.generations.retain(|generation| generation.strong_count() > 0);
        for generation in ledger.generations.iter().filter_map(Weak::upgrade) {
            if Some(generation.number) != serving {
                generation.retire(Duration::MAX);
            }
        }
        ledger.generations.push(Arc::downgrade(&next));
        ledger.newest = Arc::clone(&next);
        ledger.outcome = None;
        self.turn_to(ledger);
        Some(next)
    }

    /// An edit was taken back: what serves is again what is wanted.
    fn return_to(&self, serving: Arc<Generation>) {
        let mut ledger = self.ledger();
        if ledger.newest.number != serving.number {
            ledger.newest.retire(Duration::MAX);
            ledger.newest = serving;
            ledger.outcome = Some(Ok(()));
            tracing::info!(integration = &*self.integration, "the handler is again what serves");
        }
        self.turn_to(ledger);
    }

    /// Ends all; calls have `drain`, at most what their spec says.
    pub(super) fn close(&self, drain: Duration) {
        let mut ledger = self.ledger();
        ledger.closing = true;
        self.serving.store(None);
        for generation in ledger.generations.iter().filter_map(Weak::upgrade) {
            generation.retire(drain);
        }
        self.turn_to(ledger);
    }

    pub(super) fn status(&self) -> CrewStatus {
        let mut count = 0;
        // First: what is counted has been told before.
        let restarts = Cause::ALL.map(|(_, name)| {
            count += 1;
            (name, self.restarts[count - 1].load(Ordering::SeqCst))
        });
        let serving = self.serving.load_full();
        let ledger = self.ledger();
        let failed = ledger.outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
        let state = match (&serving, failed) {
            _ if ledger.closing => CrewState::Stopping,
            (Some(serving), _) if serving.is_down() => CrewState::Starting,
            (Some(_), _) => CrewState::Ready,
            (None, Some(why)) => CrewState::Failed(why.clone()),
            (None, None) => CrewState::Starting,
        };
        let all = ledger.generations.iter().filter_map(Weak::upgrade);
        let workers: Vec<_> = all
            .flat_map(|one| one.roster().iter().map(|worker| worker.status()).collect::<Vec<_>>())
            .collect();
        CrewStatus {
            state,
            stale: failed.filter(|_| serving.is_some()).cloned(),
            settling: ledger.outcome.is_none() && !ledger.closing,
            trouble: ledger.trouble.clone(),
            generation: serving.as_ref().map_or(0, |serving| serving.number),
            in_flight: workers.iter().map(|worker| worker.in_flight).sum(),
            workers,
            restarts,
            calls: self.calls.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            loaded: serving.as_ref().and_then(|one| one.loaded.load_full()).map(|loaded| (*loaded).clone()),
            files: watched(&ledger, serving.as_ref()),
        }
    }

    /// Waits until the newest generation serves or has failed.
    pub(super) fn wait_settled(&self, most: Duration) -> Result<(), String> {
        let ledger = self.ledger();
        let unsettled = |ledger: &mut Ledger| ledger.outcome.is_none() && !ledger.closing;
        let (ledger, _) =
            self.settled.wait_timeout_while(ledger, most, unsettled).unwrap_or_else(PoisonError::into_inner);
        match (&ledger.outcome, ledger.closing) {
            (_, true) => Err("the handler is being stopped".to_owned()),
            (Some(outcome), false) => outcome.clone(),
            (None, false) => Err(match &ledger.trouble {
                Some(trouble) => {
                    format!("the handler was not ready within {most:?}; the last trouble: {trouble}")
                }
                None => format!("the handler was not ready within {most:?}"),
            }),
        }
    }

    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let serving = self.serving.load_full();
        watched(&self.ledger(), serving.as_ref())
    }

    pub(super) fn newest(&self) -> Arc<Generation> {
        Arc::clone(&self.ledger().newest)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn_to(&self, ledger: MutexGuard<'_, Ledger>) {
        drop(ledger);
        self.settled.notify_all();
        self.turned.send_replace(());
    }
}

fn watched(ledger: &Ledger, serving: Option<&Arc<Generation>>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let all = serving.into_iter().chain([&ledger.newest]).flat_map(|one| one.made().paths());
    all.filter(|path| seen.insert(path.clone())).collect()
}

/// One that waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
