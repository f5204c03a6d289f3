//! A task that waits for one busy thing and a few quiet ones: the quiet ones are looked at only when one has called.
//!
//! Looking at a timer and at the stop at every step of a connection costs more than it seems: both take a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Rings when a quiet thing calls, and wakes the task.
#[derive(Debug, Default)]
pub struct Bell(Option<(Arc<Call>, Waker)>);

#[derive(Debug)]
struct Call {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    /// What the quiet things are to be polled with; `None` if none has called since the last time. It rings by itself
    /// the first time, and when another task asks.
    pub fn rang(&mut self, cx: &Context<'_>) -> Option<&Waker> {
        let known = self.0.as_ref().is_some_and(|(call, _)| call.task.will_wake(cx.waker()));
        if !known {
            let call = Arc::new(Call { rang: AtomicBool::new(true), task: cx.waker().clone() });
            self.0 = Some((Arc::clone(&call), call.into()));
        }
        let (call, waker) = self.0.as_ref()?;
        // A look costs less than a swap, and nearly always says no.
        let rang = call.rang.load(Ordering::Relaxed) && call.rang.swap(false, Ordering::Acquire);
        rang.then_some(waker)
    }

    /// Has the quiet things looked at the next time: there is a new one among them.
    pub fn ring(&self) {
        if let Some((call, _)) = &self.0 {
            call.rang.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_first_and_then_once_for_each_call() {
        let mut bell = Bell::default();
        std::future::poll_fn(|cx| {
            let waker = bell.rang(cx).unwrap().clone();
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
}
