//! The slots of one integration: at most `max_concurrent` requests at once, the rest waits its turn.
//!
//! They outlive the integration as it was built: what is built anew shares them with the requests that still run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::observe::IntegrationMetrics;
use crate::workers::Lease;

/// A slot, free again when dropped.
#[derive(Debug)]
pub struct Permit {
    slots: Arc<Slots>,
    lease: Option<Box<Lease>>,
}

impl Permit {
    /// Holds the place with a worker, too, from which the answer comes.
    pub fn hold(&mut self, lease: Option<Box<Lease>>) {
        self.lease = lease;
    }

    /// The worker from which the answer comes, if it does from one.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_deref()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The worker's place first: who gets the slot may need it.
        self.lease = None;
        self.slots.give_back();
    }
}

/// No slot came free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// How many requests are served at once.
    pub most: usize,
}

/// The slots of all integrations by name, for as long as an integration or a request of it is there.
#[derive(Debug, Default)]
pub struct SlotBook(Mutex<HashMap<String, Weak<Slots>>>);

impl SlotBook {
    /// The slots of the integration `name`; `most` of them if they are new. What is there stays as it is.
    pub(super) fn of(&self, name: &str, most: usize) -> Arc<Slots> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.retain(|_, slots| slots.strong_count() > 0);
        if let Some(slots) = book.get(name).and_then(Weak::upgrade) {
            return slots;
        }
        let slots = Arc::new(Slots::new(most));
        book.insert(name.to_owned(), Arc::downgrade(&slots));
        slots
    }
}

/// Free slots, taken ones, and how many there are to be.
///
/// At any time `free` and taken ones together are `limit + owed`.
#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    limit: Mutex<usize>,
    /// Taken slots that are too many since the limit fell: as many are not free again when they come back.
    owed: AtomicUsize,
}

impl Slots {
    fn new(most: usize) -> Self {
        let most = possible(most);
        Self { free: Semaphore::new(most), limit: Mutex::new(most), owed: AtomicUsize::new(0) }
    }

    /// From now on there are `most`. More are there at once; fewer as those that are taken come back.
    fn resize(&self, most: usize) {
        let most = possible(most);
        let mut limit = self.limit();
        let was = std::mem::replace(&mut *limit, most);
        if most < was {
            self.owed.fetch_add(was - most, Ordering::SeqCst);
            self.settle();
        } else {
            let more = most - was;
            self.free.add_permits(more - self.pay(more));
        }
    }

    fn give_back(&self) {
        if self.pay(1) == 1 {
            return;
        }
        self.free.add_permits(1);
        // The limit may just have fallen, and this slot was then neither free nor known to come back.
        if self.owed.load(Ordering::SeqCst) > 0 {
            let _limit = self.limit();
            self.settle();
        }
    }

    /// Takes free slots away for what is owed, with the limit locked. What comes back meanwhile may pay first.
    fn settle(&self) {
        let gone = self.free.forget_permits(self.owed.load(Ordering::SeqCst));
        self.free.add_permits(gone - self.pay(gone));
    }

    fn limit(&self) -> MutexGuard<'_, usize> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `most` off what is owed; how much.
    fn pay(&self, most: usize) -> usize {
        let mut owed = self.owed.load(Ordering::SeqCst);
        while owed > 0 {
            let paid = owed.min(most);
            match self.owed.compare_exchange_weak(owed, owed - paid, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return paid,
                Err(now) => owed = now,
            }
        }
        0
    }
}

/// tokio's semaphore panics above its own limit, which no machine can reach.
fn possible(most: usize) -> usize {
    most.min(Semaphore::MAX_PERMITS)
}

/// The slots of an integration as it was built.
#[derive(Debug)]
pub(super) struct Permits {
    slots: Arc<Slots>,
    most: usize,
    wait: Duration,
}

impl Permits {
    pub(super) fn new(slots: Arc<Slots>, most: usize, wait: Duration) -> Self {
        Self { slots, most, wait }
    }

    /// Has its own limit hold from now on.
    pub(super) fn rule(&self) {
        self.slots.resize(self.most);
    }

    /// First come, first served. A caller that leaves while waiting gives up its place.
    pub(super) async fn acquire(&self, metrics: &IntegrationMetrics) -> Result<Permit, Busy> {
        if let Ok(slot) = self.slots.free.try_acquire() {
            return Ok(self.permit(slot));
        }
        let _waiting = Waiting::new(metrics);
        // Boxed: waiting is rare, and would make room in every request's future.
        match Box::pin(tokio::time::timeout(self.wait, self.slots.free.acquire())).await {
            Ok(Ok(slot)) => Ok(self.permit(slot)),
            Ok(Err(_)) | Err(_) => Err(Busy { most: *self.slots.limit() }),
        }
    }

    fn permit(&self, slot: SemaphorePermit<'_>) -> Permit {
        // The permit gives it back.
        slot.forget();
        Permit { slots: Arc::clone(&self.slots), lease: None }
    }
}

struct Waiting<'a>(&'a IntegrationMetrics);

impl<'a> Waiting<'a> {
    fn new(metrics: &'a IntegrationMetrics) -> Self {
        metrics.queued.inc();
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.queued.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;
    use futures_util::poll;
    use std::pin::pin;

    const WAIT: Duration = Duration::from_secs(30);

    fn metrics() -> IntegrationMetrics {
        Arc::new(Metrics::new()).integration("acme")
    }

    /// What an integration of this limit is built with.
    fn built(book: &SlotBook, most: usize) -> Permits {
        Permits::new(book.of("acme", most), most, WAIT)
    }

    /// How many more get a slot at once; they keep it.
    async fn fill(permits: &Permits, metrics: &IntegrationMetrics) -> Vec<Permit> {
        let mut all = Vec::new();
        while let std::task::Poll::Ready(Ok(permit)) = poll!(pin!(permits.acquire(metrics))) {
            all.push(permit);
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_its_turn_and_then_gives_up() {
        let (metrics, permits) = (metrics(), built(&SlotBook::default(), 1));
        let first = permits.acquire(&metrics).await.unwrap();
        assert_eq!(permits.acquire(&metrics).await.unwrap_err(), Busy { most: 1 });
        assert_eq!(metrics.queued.get(), 0);
        drop(first);
        assert!(permits.acquire(&metrics).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_the_queue_takes_no_slot() {
        let (metrics, permits) = (metrics(), built(&SlotBook::default(), 1));
        let first = permits.acquire(&metrics).await.unwrap();
        {
            let waiting = permits.acquire(&metrics);
            tokio::pin!(waiting);
            assert!(poll!(&mut waiting).is_pending());
            assert_eq!(metrics.queued.get(), 1);
        }
        assert_eq!(metrics.queued.get(), 0);
        drop(first);
        assert!(permits.acquire(&metrics).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_built_anew_shares_the_slots_and_the_queue_with_what_runs() {
        let (metrics, book) = (metrics(), SlotBook::default());
        let old = built(&book, 1);
        let first = old.acquire(&metrics).await.unwrap();
        let new = built(&book, 1);
        new.rule();
        let (mut second, mut third) = (pin!(old.acquire(&metrics)), pin!(new.acquire(&metrics)));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        assert_eq!(metrics.queued.get(), 2);
        drop(first);
        let poll = (poll!(&mut third).is_pending(), poll!(&mut second).is_ready());
        assert_eq!(poll, (true, true), "first come, first served");
    }

    #[tokio::test(start_paused = true)]
    async fn another_limit_holds_when_it_rules_and_not_when_it_is_built() {
        let (metrics, book) = (metrics(), SlotBook::default());
        let old = built(&book, 2);
        let running = fill(&old, &metrics).await;
        assert_eq!(running.len(), 2);
        let (less, more) = (built(&book, 1), built(&book, 3));
        assert!(fill(&more, &metrics).await.is_empty(), "it was only built");
        let mut waiting = pin!(more.acquire(&metrics));
        assert!(poll!(&mut waiting).is_pending());
        more.rule();
        let third = waiting.await.unwrap();
        assert!(fill(&old, &metrics).await.is_empty());
        less.rule();
        assert_eq!(less.acquire(&metrics).await.unwrap_err(), Busy { most: 1 });
        drop(running);
        assert!(fill(&less, &metrics).await.is_empty(), "one still runs");
        drop(third);
        assert_eq!(fill(&less, &metrics).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn slots_that_are_owed_go_before_anyone_who_waits() {
        let (metrics, book) = (metrics(), SlotBook::default());
        let mut running = fill(&built(&book, 3), &metrics).await;
        let now = built(&book, 1);
        now.rule();
        let mut waiting = pin!(now.acquire(&metrics));
        for _ in 0..2 {
            running.pop();
            assert!(poll!(&mut waiting).is_pending());
        }
        running.pop();
        assert!(poll!(&mut waiting).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_falls_and_rises_again_before_a_slot_came_back_owes_nothing() {
        let (metrics, book) = (metrics(), SlotBook::default());
        let mut running = fill(&built(&book, 4), &metrics).await;
        for (most, free) in [(1, 0), (3, 0), (2, 0), (5, 1), (4, 0)] {
            let permits = built(&book, most);
            permits.rule();
            let more = fill(&permits, &metrics).await;
            assert_eq!(more.len(), free, "at {most}");
        }
        running.clear();
        assert_eq!(fill(&built(&book, 4), &metrics).await.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_all_measure_is_none_and_still_counts() {
        let (metrics, book) = (metrics(), SlotBook::default());
        let few = built(&book, 2);
        let mut running = fill(&few, &metrics).await;
        let none = built(&book, usize::MAX);
        none.rule();
        for _ in 0..3 {
            running.push(none.acquire(&metrics).await.unwrap());
        }
        few.rule();
        running.truncate(2);
        assert!(fill(&few, &metrics).await.is_empty());
        running.pop();
        assert_eq!(fill(&few, &metrics).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_forgotten_with_the_last_request_that_holds_one() {
        let (metrics, book) = (metrics(), SlotBook::default());
        let held = built(&book, 1).acquire(&metrics).await.unwrap();
        assert!(fill(&built(&book, 1), &metrics).await.is_empty(), "it is gone and back, and one still runs");
        drop(held);
        book.of("other", 1);
        assert!(!book.0.lock().unwrap().contains_key("acme"));
    }

    #[test]
    fn no_slot_is_lost_or_made_while_the_limit_changes_under_requests() {
        let (book, metrics) = (SlotBook::default(), metrics());
        let callers = |most: usize| {
            let permits = built(&book, most);
            move || {
                for _ in 0..20_000 {
                    drop(permits.slots.free.try_acquire().map(|slot| permits.permit(slot)));
                }
                permits.rule();
            }
        };
        std::thread::scope(|scope| {
            for most in [7, 3, 5] {
                scope.spawn(callers(most));
            }
            for round in 0..20_000 {
                built(&book, 1 + round % 9).rule();
            }
        });
        let last = built(&book, 4);
        last.rule();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let all = runtime.block_on(fill(&last, &metrics));
        assert_eq!((all.len(), last.slots.owed.load(Ordering::SeqCst)), (4, 0));
    }
}
