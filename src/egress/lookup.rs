//! Looking a name up: once at a time, however many connections wait for it.
//!
//! The system's resolver blocks a thread for as long as it likes, and nobody can call it back. So who asks while a name is
//! being looked up waits for that answer, and a lookup goes on when its first caller has left: a name that hangs takes one
//! thread, not all that others need. Nothing is kept: addresses change.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::error::SendError;
use crate::tasks::Tasks;

type Answer = Result<Arc<[SocketAddr]>, SendError>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// The lookups of one name.
pub(super) struct Lookup {
    running: Mutex<Option<Flight>>,
    tasks: Tasks,
}

impl Lookup {
    /// None yet; they will run as tasks of `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { running: Mutex::default(), tasks }
    }

    /// What `look` finds, or what one finds that was begun before and is not done.
    pub(super) async fn find<F>(&self, look: impl FnOnce() -> F) -> Result<Vec<SocketAddr>, SendError>
    where
        F: Future<Output = Result<Vec<SocketAddr>, SendError>> + Send + 'static,
    {
        let found = self.flight(look).await?;
        Ok(found.to_vec())
    }

    fn flight<F>(&self, look: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Result<Vec<SocketAddr>, SendError>> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.as_ref().filter(|flight| flight.peek().is_none()) {
            return flight.clone();
        }
        let look = look();
        let flight = async { look.await.map(Arc::from) }.boxed().shared();
        self.tasks.spawn(flight.clone());
        running.insert(flight).clone()
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A resolver that counts how often it is asked, and answers when it is told to.
    #[derive(Default)]
    struct Resolver {
        asked: AtomicUsize,
        answer: Notify,
    }

    impl Resolver {
        fn look(self: &Arc<Self>) -> impl Future<Output = Result<Vec<SocketAddr>, SendError>> + Send + use<> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let resolver = Arc::clone(self);
            async move {
                resolver.answer.notified().await;
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
            }
        }
    }

    #[tokio::test]
    async fn who_asks_while_a_name_is_looked_up_waits_for_that_answer_and_its_first_caller_may_leave() {
        let (lookup, resolver) = (Lookup::new(Tasks::new()), Arc::new(Resolver::default()));
        {
            let mut first = Box::pin(lookup.find(|| resolver.look()));
            assert!(futures_util::poll!(first.as_mut()).is_pending());
        }
        let (mut second, mut third) =
            (Box::pin(lookup.find(|| resolver.look())), Box::pin(lookup.find(|| resolver.look())));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
        resolver.answer.notify_one();
        let (second, third) = tokio::join!(second, third);
        assert_eq!((second.unwrap().len(), third.unwrap().len()), (1, 1));
        // Nothing is kept of it.
        resolver.answer.notify_one();
        assert_eq!(lookup.find(|| resolver.look()).await.unwrap().len(), 1);
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    }
}
