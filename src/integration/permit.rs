//! The slots of one integration: at most `max_concurrent` requests at once, the rest waits its turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::observe::IntegrationMetrics;
use crate::workers::Lease;

/// A slot, free again when dropped.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
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

/// No slot came free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// How many requests are served at once.
    pub most: usize,
}

#[derive(Debug)]
pub(super) struct Permits {
    slots: Arc<Semaphore>,
    most: usize,
    wait: Duration,
}

impl Permits {
    pub(super) fn new(most: usize, wait: Duration) -> Self {
        // tokio's semaphore panics above its own limit, which no machine can reach.
        Self { slots: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), most, wait }
    }

    /// First come, first served. A caller that leaves while waiting gives up its place.
    pub(super) async fn acquire(&self, metrics: &IntegrationMetrics) -> Result<Permit, Busy> {
        let slots = || Arc::clone(&self.slots);
        if let Ok(slot) = slots().try_acquire_owned() {
            return Ok(Permit { _slot: slot, lease: None });
        }
        let _waiting = Waiting::new(metrics);
        // Boxed: waiting is rare, and would make room in every request's future.
        match Box::pin(tokio::time::timeout(self.wait, slots().acquire_owned())).await {
            Ok(Ok(slot)) => Ok(Permit { _slot: slot, lease: None }),
            Ok(Err(_)) | Err(_) => Err(Busy { most: self.most }),
        }
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

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_its_turn_and_then_gives_up() {
        let metrics = Arc::new(Metrics::new()).integration("acme");
        let permits = Permits::new(1, Duration::from_secs(30));
        let first = permits.acquire(&metrics).await.unwrap();
        assert_eq!(permits.acquire(&metrics).await.unwrap_err(), Busy { most: 1 });
        assert_eq!(metrics.queued.get(), 0);
        drop(first);
        assert!(permits.acquire(&metrics).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_the_queue_takes_no_slot() {
        let metrics = Arc::new(Metrics::new()).integration("acme");
        let permits = Permits::new(1, Duration::from_secs(30));
        let first = permits.acquire(&metrics).await.unwrap();
        {
            let waiting = permits.acquire(&metrics);
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert_eq!(metrics.queued.get(), 1);
        }
        assert_eq!(metrics.queued.get(), 0);
        drop(first);
        assert!(permits.acquire(&metrics).await.is_ok());
    }

    #[tokio::test]
    async fn a_limit_beyond_all_measure_is_none() {
        let metrics = Arc::new(Metrics::new()).integration("acme");
        assert!(Permits::new(usize::MAX, Duration::ZERO).acquire(&metrics).await.is_ok());
    }
}
