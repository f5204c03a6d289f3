//! A task that waits for one busy thing and a few quiet ones: the quiet ones are looked at only when one has called.
//!
//! Looking at a timer and at the stop at every step of a connection costs more than it seems: both take a lock.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Rings when a quiet thing calls, and wakes the task.
#[derive(Debug, Default)]
pub struct Bell {
    /// Whom it wakes; what it is first asked with, unless it was told before.
    call: Option<Arc<Call>>,
    /// How many calls it has heard.
    heard: u32,
    is_silent: bool,
    /// It is asked by one task alone, whatever it is asked with.
    is_shared: bool,
}

/// Of all bells of one task: what each of them touches at every step would else lie in as many places.
#[derive(Debug)]
struct Call {
    calls: AtomicU32,
    task: Waker,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.calls.fetch_add(1, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    /// One of the task that awaits it, which alone may ask it.
    pub async fn of_this_task() -> Self {
        let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let call = Arc::new(Call { calls: AtomicU32::new(0), task });
        Self { call: Some(call), is_shared: true, ..Self::default() }
    }

    /// Another one for the same task, which rings whichever quiet thing calls: they call so seldom that none is looked at
    /// for nothing.
    pub fn another(&self) -> Self {
        Self { call: self.call.clone(), is_shared: self.is_shared, ..Self::default() }
    }

    /// What the quiet things are to be polled with; `None` if none has called since the last time. It rings by itself
    /// the first time, and when another task asks one that is not of a certain task.
    pub fn rang(&mut self, cx: &Context<'_>) -> Option<Waker> {
        let call = match &self.call {
            Some(call) if self.is_shared || call.task.will_wake(cx.waker()) => call,
            _ => {
                self.is_silent = false;
                self.call.insert(Arc::new(Call { calls: AtomicU32::new(0), task: cx.waker().clone() }))
            }
        };
        let calls = call.calls.load(Ordering::Acquire);
        if self.is_silent && calls == self.heard {
            return None;
        }
        (self.is_silent, self.heard) = (true, calls);
        Some(Waker::from(Arc::clone(call)))
    }

    /// Has the quiet things looked at the next time: there is a new one among them.
    pub fn ring(&mut self) {
        self.is_silent = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_at_first_and_then_once_for_each_call() {
        let mut bell = Bell::default();
        poll_fn(|cx| {
            let waker = bell.rang(cx).unwrap();
            assert!(bell.rang(cx).is_none());
            waker.wake_by_ref();
            waker.wake();
            assert!(bell.rang(cx).is_some());
            assert!(bell.rang(cx).is_none());
            bell.ring();
            assert!(bell.rang(cx).is_some());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn all_bells_of_a_task_ring_for_a_call_of_any_and_wake_that_task_whoever_asks() {
        let mut one = Bell::of_this_task().await;
        let mut other = one.another();
        let stranger = &Context::from_waker(Waker::noop());
        let waker = one.rang(stranger).unwrap();
        assert!(
            other.rang(stranger).is_some() && one.rang(stranger).is_none() && other.rang(stranger).is_none()
        );
        let mut turns = 0;
        poll_fn(|_| {
            turns += 1;
            if turns == 1 {
                waker.wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        assert!(one.rang(stranger).is_some() && one.rang(stranger).is_none());
        assert!(other.rang(stranger).is_some() && other.rang(stranger).is_none());
    }
}
