//! One lookup of one name at a time, which all who ask meanwhile share.
//!
//! The system's resolver holds a thread until it gives up, whoever has stopped waiting: a name that hangs there would
//! take, request by request, every thread that other names need.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// What the resolver said: addresses in its order, or its words.
pub(super) type Found = Result<Arc<[SocketAddr]>, Arc<str>>;

/// The lookup of one name, if one is under way. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookup(Running);

type Running = Arc<Mutex<Option<Shared<oneshot::Receiver<Found>>>>>;

/// What is under way does not tell one address from another.
impl PartialEq for Lookup {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lookup {}

impl std::hash::Hash for Lookup {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Lookup {
    /// What `look`, which may block, finds, or the lookup that is under way. Given up, the lookup goes on for the others;
    /// its answer is for those who waited for it, and the next to ask begins another.
    pub(super) async fn ask(
        &self,
        look: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Found {
        let found = self.join(look).await;
        found.unwrap_or_else(|_| Err("the lookup was cut off".into()))
    }

    fn join(
        &self,
        look: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Shared<oneshot::Receiver<Found>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return running.clone();
        }
        let (tell, found) = oneshot::channel();
        let found = found.shared();
        *running = Some(found.clone());
        // A runtime that ends drops what it is given, and the landing takes the lock.
        drop(running);
        let landing = Landing(Arc::clone(&self.0));
        drop(spawn_blocking(move || {
            let found = look().map(Arc::from).map_err(|error| Arc::from(error.to_string()));
            drop(landing);
            let _ = tell.send(found);
        }));
        found
    }
}

/// Makes room for the next lookup when it goes, however this one ended.
struct Landing(Running);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    /// A resolver that counts its lookups and answers each when it is told to.
    struct Resolver {
        begun: Arc<AtomicUsize>,
        gate: Arc<Mutex<mpsc::Receiver<io::Result<Vec<SocketAddr>>>>>,
        answer: mpsc::Sender<io::Result<Vec<SocketAddr>>>,
    }

    impl Resolver {
        fn new() -> Self {
            let (answer, gate) = mpsc::channel();
            Self { begun: Arc::default(), gate: Arc::new(Mutex::new(gate)), answer }
        }

        fn look(&self) -> impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static {
            let (begun, gate) = (Arc::clone(&self.begun), Arc::clone(&self.gate));
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.lock().unwrap().recv().unwrap()
            }
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn all_who_ask_while_a_lookup_runs_share_it_and_the_next_begins_another() {
        let (lookup, resolver) = (Lookup::default(), Resolver::new());
        let mut asking = Box::pin(join_all((0..600).map(|_| lookup.ask(resolver.look()))));
        assert!(asking.as_mut().now_or_never().is_none());
        resolver.answer.send(Ok(vec![HERE])).unwrap();
        assert!(asking.await.into_iter().all(|found| found.unwrap()[..] == [HERE]));
        assert_eq!(resolver.begun(), 1);
        resolver.answer.send(Err(io::Error::other("no such name"))).unwrap();
        assert_eq!(&*lookup.ask(resolver.look()).await.unwrap_err(), "no such name");
        assert_eq!(resolver.begun(), 2);
    }

    #[tokio::test]
    async fn a_lookup_outlives_the_caller_that_began_it() {
        let (lookup, resolver) = (Lookup::default(), Resolver::new());
        assert!(Box::pin(lookup.ask(resolver.look())).now_or_never().is_none());
        let second = lookup.ask(resolver.look());
        resolver.answer.send(Ok(vec![HERE])).unwrap();
        assert_eq!(second.await.unwrap()[..], [HERE]);
        assert_eq!(resolver.begun(), 1);
    }

    #[tokio::test]
    async fn the_answer_of_a_lookup_that_all_gave_up_is_for_nobody() {
        let (lookup, resolver) = (Lookup::default(), Resolver::new());
        assert!(Box::pin(lookup.ask(resolver.look())).now_or_never().is_none());
        resolver.answer.send(Ok(vec![])).unwrap();
        while lookup.0.lock().unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        resolver.answer.send(Ok(vec![HERE])).unwrap();
        assert_eq!(lookup.ask(resolver.look()).await.unwrap()[..], [HERE]);
        assert_eq!(resolver.begun(), 2);
    }

    #[test]
    fn a_lookup_that_falls_over_leaves_room_for_the_next() {
        let lookup = Lookup::default();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let panics = lookup.ask(|| panic!("the resolver fell over"));
        assert_eq!(&*runtime().block_on(panics).unwrap_err(), "the lookup was cut off");
        assert_eq!(runtime().block_on(lookup.ask(|| Ok(vec![HERE]))).unwrap()[..], [HERE]);
    }
}
