//! The composition root: a configuration becomes a registry, listeners and worker threads.

mod collect;
mod control;
mod crews;
mod desk;
mod keeper;
mod live;
mod renew;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::auth::Tokens;
use crate::config::valid::{Listen, Settings};
use crate::egress::Clients;
use crate::integration::{Entry, HandlersDoor, Registry, SlotBook, Stable, Workshop};
use crate::observe::{Access, Metrics, Sink, Status, clock};
use crate::proxy::{Activity, Ended, House, Rules};
use crate::server::admin::{self, Scope};
use crate::server::listen::{Address, Bound};
use crate::server::stop::{Stop, Stopper};
use crate::server::{Doors, Serving};
use crate::tasks::Tasks;
use crate::tls::Inbound;
use crate::workers::Workers;
use control::Control;
use keeper::Keeper;

pub use control::Caught;
pub use keeper::{Reread, Source};

/// Where the handlers' door is bound: the system chooses the port.
const LOOPBACK: Listen = Listen::Tcp(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)));

/// A running sidecar. Dropped, it goes on serving until the process ends.
#[derive(Debug)]
pub struct Running {
    /// Where it listens for clients, in the order of `server.listen`.
    pub proxy: Vec<Address>,
    /// Where the admin side listens.
    pub admin: Option<Address>,
    /// Where it listens for scrapers from outside.
    pub metrics: Option<Address>,
    /// Weak: what the house holds ends with the control thread.
    house: Weak<House>,
    stopper: Stopper,
    control: JoinHandle<Result<(), Broken>>,
}

/// It has stopped without having been told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped: a thread of ours ended before its time")]
pub struct Broken;

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener or a thread that the world does not allow.
    #[error("{0}")]
    Cannot(String),
    /// `start = "strict"` and an integration is failed by the world.
    #[error("start = \"strict\", and {}", .0.join("; "))]
    World(Vec<String>),
    /// A key of `[server]` names a file that is not as it must be: there is nothing to serve without it.
    #[error("{0}")]
    Door(String),
    /// It was told to stop before.
    #[error("stopped before the start was done")]
    Stopped,
}

/// How to start.
pub struct Start {
    /// The checked configuration.
    pub settings: Settings,
    /// Where access lines go.
    pub sink: Sink,
    /// Where the configuration came from; `None` leaves it as it is (for a sidecar inside another process).
    pub source: Option<Source>,
    /// The signals that it obeys; `None` leaves all signals alone.
    pub signals: Option<Caught>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Binds, builds and serves; returns once requests are answered.
pub fn start(mut start: Start) -> Result<Running, StartError> {
    let settings = start.settings.clone();
    let open = unless_stopped(start.signals.as_mut(), move || Open::new(&settings))?;
    run(start, open, CancellationToken::new())
}

/// What `work` comes to. A file system or a socket may hold it up: whoever gives up on that is heard.
fn unless_stopped<T: Send + 'static>(
    signals: Option<&mut Caught>,
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let Some(caught) = signals else { return work() };
    match caught.unless_stopped(work) {
        Ok(Some(done)) => done,
        Ok(None) => Err(StartError::Stopped),
        Err(error) => Err(StartError::Cannot(format!("cannot start: {error}"))),
    }
}

/// Everything that is listened on, and what TLS is spoken there.
struct Open {
    inbound: Option<Arc<Inbound>>,
    /// One for each worker thread.
    doors: Vec<Doors>,
    admin: Option<Bound>,
    outside: Option<Bound>,
}

impl Open {
    fn new(settings: &Settings) -> Result<Self, StartError> {
        let inbound = inbound(settings)?;
        let bind = |to: &Listen| Bound::bind(to, &settings.server.unix).map_err(StartError::Cannot);
        let clients = settings.server.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let handlers = settings.handlers.egress.then(|| bind(&LOOPBACK)).transpose()?;
        let first = Doors { clients, handlers };
        let others = (1..settings.server.workers).map(|_| first.try_clone());
        let others = others.collect::<std::io::Result<Vec<_>>>().map_err(cannot_start_workers)?;
        let admin = settings.admin.listen.as_ref().map(bind).transpose()?;
        let outside = settings.admin.metrics_listen.as_ref().map(bind).transpose()?;
        let doors = std::iter::once(first).chain(others).collect();
        Ok(Self { inbound, doors, admin, outside })
    }
}

/// `lost` is cancelled when a worker thread ends before its time.
fn run(start: Start, open: Open, lost: CancellationToken) -> Result<Running, StartError> {
    let Start { settings, sink, source, mut signals } = start;
    let Open { inbound, doors, admin, outside } = open;
    let door = doors[0].handlers.as_ref().map(handlers_door).transpose()?;
    let (tasks, connections) = (Tasks::new(), Tasks::new());
    let metrics = Arc::new(Metrics::new());
    let clients = Arc::new(Clients::new(settings.server.workers, tasks.clone()));
    let workshop = Arc::new(Workshop {
        clients: Arc::clone(&clients),
        tokens: Tokens::new(tasks.clone()),
        metrics: Arc::clone(&metrics),
        slots: SlotBook::default(),
        stable: Some(Stable { workers: Workers::new(clients), door: door.clone() }),
    });
    let registry = build_unless_stopped(&settings, &workshop, signals.as_mut())?;
    let house = Arc::new(House {
        registry: ArcSwap::from_pointee(registry),
        access: settings.log.access.then(|| Access::new(sink.clone())),
        strays: metrics.integration(""),
        metrics,
        tasks: tasks.clone(),
        max_head: settings.server.max_header_bytes,
        door,
        rules: ArcSwap::from_pointee(rules(&settings)?),
        status: ArcSwap::from_pointee(Status::new(source.as_ref().map(Source::file))),
        unready: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        cut: AtomicBool::new(false),
        activity: Activity::default(),
        ended: Ended::new(settings.server.workers, sink.clone()),
    });
    let reading = Box::new(collect::Reading { house: Arc::downgrade(&house), inbound: inbound.clone() });
    house.metrics.register(|registry| registry.register_collector(reading));
    let served = Arc::downgrade(&house);
    let (stopper, stop) = Stopper::new();
    let proxy = doors[0].clients.iter().map(Bound::address).collect();
    let [inside, scraped] = [&admin, &outside].map(|bound| bound.as_ref().map(Bound::address));
    let crew = Serving::crew(&house, &settings.server, &connections, &stop, inbound.as_ref());
    let workers = spawn_workers(doors, crew, &house.ended, &connections, &lost)?;
    let admins = [(admin, Scope::All), (outside, Scope::Outside)];
    let source = source.unwrap_or_else(Source::none);
    let keeper = Keeper::new(Arc::clone(&house), Arc::clone(&workshop), sink, settings, source).with(inbound);
    let control = Control {
        house: Arc::clone(&house),
        stopper: stopper.clone(),
        connections,
        tasks,
        keeper,
        workshop,
        signals: None,
        lost,
    };
    let control = spawn_control(control, signals, admins, stop, workers)?;
    Ok(Running { proxy, admin: inside, metrics: scraped, house: served, stopper, control })
}

impl Running {
    /// The integrations as they are served now; `None` once it has ended.
    pub fn registry(&self) -> Option<Arc<Registry>> {
        self.house.upgrade().map(|house| house.registry.load_full())
    }

    /// Waits until it has stopped, by a signal or by [`Running::stop`].
    ///
    /// # Errors
    ///
    /// It has stopped because one of its threads ended before its time. The log says which, and why.
    pub fn wait(self) -> Result<(), Broken> {
        // A panic of the control thread is logged where it happens.
        self.control.join().unwrap_or(Err(Broken))
    }

    /// Ends it at once, without waiting for answers.
    pub fn stop(self) {
        self.stopper.begin();
        self.stopper.end();
        // Who ends it at once does not mind how it ends.
        let _ = self.wait();
    }
}

fn handlers_door(bound: &Bound) -> Result<Arc<HandlersDoor>, StartError> {
    match bound.address() {
        Address::Tcp(address) => Ok(Arc::new(HandlersDoor::new(address))),
        Address::Unix(_) | Address::Unknown => {
            Err(StartError::Cannot("cannot tell where the handlers' door is bound".to_owned()))
        }
    }
}

fn build_unless_stopped(
    settings: &Settings,
    workshop: &Arc<Workshop>,
    mut signals: Option<&mut Caught>,
) -> Result<Registry, StartError> {
    let (wanted, shared) = (settings.clone(), Arc::clone(workshop));
    let built = unless_stopped(signals.as_deref_mut(), move || build(&wanted, &shared));
    if let (Err(StartError::Stopped), Some(caught)) = (&built, signals) {
        caught.finish(control::end_workers(workshop, control::LAST_WORK));
    }
    built
}

fn build(settings: &Settings, workshop: &Workshop) -> Result<Registry, StartError> {
    let built = settings.integrations.values().map(|one| Arc::new(Entry::build(one.clone(), workshop)));
    let entries: Vec<Arc<Entry>> = built.collect();
    let failed: Vec<String> = entries.iter().filter_map(renew::failure).collect();
    if settings.server.strict_start && !failed.is_empty() {
        return Err(StartError::World(failed));
    }
    for failure in failed {
        tracing::error!("{failure}");
    }
    if settings.server.strict_start {
        let unfit: Vec<String> = entries.iter().filter_map(|entry| unfit_handler(entry, settings)).collect();
        if !unfit.is_empty() {
            return Err(StartError::World(unfit));
        }
    }
    Ok(Registry::new(entries, clock::unix_seconds()))
}

/// What is wrong with the handler of an entry, once its workers have begun or failed to.
fn unfit_handler(entry: &Arc<Entry>, settings: &Settings) -> Option<String> {
    let crew = entry.state.as_ref().ok()?.crew.as_ref()?;
    // The interpreter starts first, and then each worker.
    let most = settings.handlers.start_timeout.saturating_mul(3);
    let why = crew.wait_settled(most).err()?;
    Some(format!("integration `{}` ({}) cannot serve: {why}", entry.settings.name, entry.settings.origin))
}

fn inbound(settings: &Settings) -> Result<Option<Arc<Inbound>>, StartError> {
    let inbound = settings.server.tls.clone().map(Inbound::load).transpose();
    inbound.map(|tls| tls.map(Arc::new)).map_err(|why| StartError::Door(format!("server.tls: {why}")))
}

fn rules(settings: &Settings) -> Result<Rules, StartError> {
    live::rules(&settings.server).map_err(StartError::Door)
}

fn spawn_workers(
    doors: Vec<Doors>,
    crew: Vec<Serving>,
    ended: &Arc<Ended>,
    connections: &Tasks,
    lost: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let spawn = |(serving, doors): (Serving, Doors)| -> std::io::Result<JoinHandle<()>> {
        let (ended, seat) = (Arc::clone(ended), serving.seat());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Behind all answers that are ready, and before it sleeps.
            .on_thread_park(move || ended.settle(seat))
            .build()?;
        let (connections, lost) = (connections.clone(), lost.clone());
        std::thread::Builder::new().name(format!("worker-{}", serving.seat().0)).spawn(move || {
            if !to_the_end(|| runtime.block_on(serving.run(doors))) {
                lost.cancel();
                // Whom it serves has an answer to come: nobody else can give it.
                runtime.block_on(connections.finished());
            }
            // A name that is still being looked up would hold the end up.
            runtime.shutdown_background();
        })
    };
    let spawned: std::io::Result<Vec<_>> = crew.into_iter().zip(doors).map(spawn).collect();
    spawned.map_err(cannot_start_workers)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn cannot_start_workers(error: std::io::Error) -> StartError {
    StartError::Cannot(format!("cannot start the worker threads: {error}"))
}

/// Whether a worker thread's `work` came to its end, rather than to an error or a panic, which are logged.
fn to_the_end(work: impl FnOnce() -> std::io::Result<()>) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "a worker thread ended, and the process stops");
            false
        }
        // The panic hook says where.
        Err(_) => {
            tracing::error!("a worker thread ended with a panic, and the process stops");
            false
        }
    }
}

fn spawn_control(
    mut control: Control,
    caught: Option<Caught>,
    admins: [(Option<Bound>, Scope); 2],
    stop: Stop,
    workers: Vec<JoinHandle<()>>,
) -> Result<JoinHandle<Result<(), Broken>>, StartError> {
    let (lost, visits) = (control.lost.clone(), Arc::clone(&control.house.ended));
    let runtime = match caught {
        Some(Caught { runtime, signals }) => {
            control.signals = Some(signals);
            Ok(runtime)
        }
        None => control::runtime(),
    };
    let spawned = runtime.and_then(|runtime| {
        std::thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async move {
                for (door, scope) in admins {
                    if let Some(door) = door {
                        spawn_admin(&control, door, scope, stop.clone());
                    }
                }
                control.run().await;
            });
            let ended: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
            // Those whose connections were cut.
            visits.settle_all();
            // A look at a file system that hangs must not hold the end up.
            runtime.shutdown_background();
            if ended.iter().all(Result::is_ok) && !lost.is_cancelled() { Ok(()) } else { Err(Broken) }
        })
    });
    spawned.map_err(|error| StartError::Cannot(format!("cannot start the control thread: {error}")))
}

fn spawn_admin(control: &Control, door: Bound, scope: Scope, stop: Stop) {
    let lost = control.lost.clone();
    let serving = admin::run(door, scope, Arc::clone(&control.house), control.tasks.clone(), stop);
    control.tasks.spawn(async move {
        // Nobody could see how the rest does.
        if let Err(error) = serving.await {
            tracing::error!(%error, "the admin side cannot be served, and the process stops");
            lost.cancel();
        }
    });
}
