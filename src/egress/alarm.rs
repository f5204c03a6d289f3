//! One timer for many waits, one after the other.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer that is set anew only when it rings: setting one for each request costs more than the wait is worth.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// One that is not set yet. It belongs to the runtime that it was made in.
    pub(super) fn new() -> Self {
        Self(Box::pin(tokio::time::sleep_until(Instant::now())))
    }

    /// What comes of `work`, or `None` if it takes longer than `limit`.
    pub(super) fn bound<T>(
        &mut self,
        limit: Duration,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = Option<T>> {
        let end = Instant::now() + limit;
        if self.0.deadline() > end {
            self.0.as_mut().reset(end);
        }
        poll_fn(move |cx| {
            if let Poll::Ready(done) = work(cx) {
                return Poll::Ready(Some(done));
            }
            // It rings for an earlier wait: too early for this one.
            while self.0.as_mut().poll(cx).is_ready() {
                if Instant::now() >= end {
                    return Poll::Ready(None);
                }
                self.0.as_mut().reset(end);
            }
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit_whatever_the_one_before_had() {
        let mut alarm = Alarm::new();
        for seconds in [5, 600, 1, 7, 0, 3] {
            let (limit, begun) = (Duration::from_secs(seconds), Instant::now());
            assert_eq!(alarm.bound(limit, |_| Poll::Ready(1)).await, Some(1));
            assert_eq!(alarm.bound(limit, |_| Poll::<()>::Pending).await, None);
            assert_eq!(begun.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_is_not_cut_by_an_alarm_set_before() {
        let mut alarm = Alarm::new();
        for (seconds, is_in_time) in [(6, true), (9, true), (11, false)] {
            let mut nap = Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
            let done = alarm.bound(Duration::from_secs(10), |cx| nap.as_mut().poll(cx)).await;
            assert_eq!(done.is_some(), is_in_time);
        }
    }
}
