//! Whether anyone is being served, and since when nobody is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Counts visits: one atomic step at the beginning and two at the end of each.
#[derive(Debug)]
pub struct Activity {
    born: Instant,
    visits: AtomicUsize,
    /// Milliseconds since `born`.
    last_end: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { born: Instant::now(), visits: AtomicUsize::new(0), last_end: AtomicU64::new(0) }
    }
}

impl Activity {
    pub(super) fn begin(&self) {
        self.visits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, now: Instant) {
        self.last_end.store((now - self.born).as_millis() as u64, Ordering::Relaxed);
        self.visits.fetch_sub(1, Ordering::Release);
    }

    /// How long nobody has been served; `None` while someone is.
    pub fn idle_for(&self) -> Option<Duration> {
        if self.visits.load(Ordering::Acquire) > 0 {
            return None;
        }
        let last_end = Duration::from_millis(self.last_end.load(Ordering::Relaxed));
        Some(self.born.elapsed().saturating_sub(last_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idleness_is_counted_from_the_last_end() {
        let activity = Activity::default();
        tokio::time::advance(Duration::from_secs(9)).await;
        activity.begin();
        activity.begin();
        activity.end(Instant::now());
        assert_eq!(activity.idle_for(), None);
        activity.end(Instant::now());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(activity.idle_for(), Some(Duration::from_secs(2)));
    }
}
