//! The thread that looks after all workers, and what is shared by everything on it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::core::Core;
use super::made;
use super::pool::Generation;
use super::process::{Recipe, State, Wards, Zygote, adopt_orphans, reap_strays};
use super::run_dir::RunDir;
use super::spec::Spec;
use super::supervise::Supervisor;
use crate::egress::Clients;
use crate::tasks::Tasks;

/// How often ends of processes that nobody else waits for are taken note of.
const REAP: Duration = Duration::from_secs(1);
/// How much longer than its calls' time a stop may take: to ask, to kill, and to hear of the ends.
const LAST_STEPS: Duration = Duration::from_secs(10);

/// What supervisors share.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) clients: Arc<Clients>,
    pub(super) dir: Arc<RunDir>,
    pub(super) tasks: Tasks,
    zygotes: Mutex<HashMap<Recipe, Known>>,
    numbers: AtomicU64,
    wards: Wards,
    adopted: bool,
}

#[derive(Debug)]
struct Known {
    zygote: Weak<Zygote>,
    /// What its interpreter's packages were when it was ready.
    packages: Option<u64>,
}

/// The way to the thread, from any other.
#[derive(Debug)]
pub(super) struct Desk {
    orders: mpsc::UnboundedSender<Order>,
    floor: Arc<Floor>,
}

enum Order {
    Supervise(Arc<Core>, Arc<Generation>),
    Stop(Duration, oneshot::Sender<()>),
}

impl Desk {
    /// Makes the private directory and starts the thread. Blocks.
    pub(super) fn open(clients: Arc<Clients>, base: &Path, script: &str) -> Result<Self, String> {
        let dir = Arc::new(RunDir::make(base, script)?);
        let adopted = adopt_orphans();
        if !adopted {
            tracing::debug!(
                "orphans of workers cannot be adopted: if an interpreter dies, its workers are ended"
            );
        }
        let floor = Arc::new(Floor {
            clients,
            dir,
            tasks: Tasks::new(),
            zygotes: Mutex::default(),
            numbers: AtomicU64::new(0),
            wards: Wards::of_this_process(),
            adopted,
        });
        let (orders, taken) = mpsc::unbounded_channel();
        let says = |error: std::io::Error| {
            format!("the thread that looks after handlers cannot be started: {error}")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(says)?;
        let mine = Arc::clone(&floor);
        let run = move || {
            let served = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(serve(mine, taken))));
            if served.is_err() {
                tracing::error!(
                    "the thread that looks after handlers has failed: no handler is served any more"
                );
            }
            // A look at a file system that hangs must not hold the end up. With it go all ends of sockets: what
            // processes are left end by that.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("handlers".into()).spawn(run).map_err(says)?;
        Ok(Self { orders, floor })
    }

    /// Starts the processes of `generation` and looks after them to their end.
    pub(super) fn supervise(&self, core: &Arc<Core>, generation: Arc<Generation>) {
        let order = Order::Supervise(Arc::clone(core), generation);
        if let Err(mpsc::error::SendError(Order::Supervise(core, generation))) = self.orders.send(order) {
            core.fail(&generation, "nobody looks after handlers any more: Outrider must be started anew");
        }
    }

    /// No new worker comes from the zygote of `spec` if that began with other packages than there are now. Blocks.
    pub(super) fn forget_zygote(&self, spec: &Spec) {
        let recipe = self.floor.recipe(spec);
        let known = self.floor.zygotes().get(&recipe).map(|known| (known.zygote.upgrade(), known.packages));
        let Some((Some(zygote), Some(then))) = known else { return };
        if let State::Ready(interpreter) = zygote.state()
            && made::packages(Path::new(&interpreter.prefix)) != then
        {
            self.floor.forget(spec, &zygote);
        }
    }

    /// Ends everything; calls have `drain`.
    pub(super) async fn stop(&self, drain: Duration) {
        let (done, told) = oneshot::channel();
        if self.orders.send(Order::Stop(drain, done)).is_ok() {
            let _ = timeout(drain.saturating_add(LAST_STEPS.saturating_mul(2)), told).await;
        }
    }
}

impl Floor {
    /// A number that no other worker or socket of this process has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The zygote of `spec`: one that lives already, or a new one.
    pub(super) fn zygote(&self, spec: &Spec) -> Arc<Zygote> {
        let recipe = self.recipe(spec);
        let mut zygotes = self.zygotes();
        zygotes.retain(|_, known| known.zygote.strong_count() > 0);
        if let Some(zygote) = zygotes.get(&recipe).and_then(|known| known.zygote.upgrade())
            && !matches!(zygote.state(), State::Dead(_))
        {
            return zygote;
        }
        let zygote = Zygote::start(recipe.clone(), self.adopted, &self.wards, &self.tasks);
        zygotes.insert(recipe, Known { zygote: Arc::downgrade(&zygote), packages: None });
        zygote
    }

    /// What the packages of the zygote of `spec` were when it was ready.
    pub(super) fn note_packages(&self, spec: &Spec, zygote: &Arc<Zygote>, print: u64) {
        let recipe = self.recipe(spec);
        if let Some(known) = self.zygotes().get_mut(&recipe)
            && known.zygote.as_ptr() == Arc::as_ptr(zygote)
        {
            known.packages.get_or_insert(print);
        }
    }

    /// Whoever asks for the zygote of `spec` from now on gets another than `zygote`.
    pub(super) fn forget(&self, spec: &Spec, zygote: &Arc<Zygote>) {
        let recipe = &self.recipe(spec);
        let mut zygotes = self.zygotes();
        if zygotes.get(recipe).is_some_and(|known| known.zygote.as_ptr() == Arc::as_ptr(zygote)) {
            zygotes.remove(recipe);
        }
    }

    fn recipe(&self, spec: &Spec) -> Recipe {
        Recipe {
            python: spec.python.clone(),
            environment: spec.environment.clone(),
            script: self.dir.script().to_owned(),
        }
    }

    fn zygotes(&self) -> MutexGuard<'_, HashMap<Recipe, Known>> {
        self.zygotes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(floor: Arc<Floor>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut crews: Vec<Weak<Core>> = Vec::new();
    let mut reaping = interval(REAP);
    reaping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = reaping.tick() => {
                reap_strays(&floor.wards);
                continue;
            }
        };
        match order {
            Some(Order::Supervise(core, generation)) => {
                crews.retain(|crew| crew.strong_count() > 0);
                if !crews.iter().any(|crew| crew.as_ptr() == Arc::as_ptr(&core)) {
                    crews.push(Arc::downgrade(&core));
                }
                let (floor, tasks) = (Arc::clone(&floor), floor.tasks.clone());
                tasks.spawn(look_after(core, generation, floor));
            }
            Some(Order::Stop(drain, done)) => {
                stop(&floor, &crews, drain).await;
                let _ = done.send(());
                return;
            }
            // All crews have gone, and who made them: what is left of their calls may end.
            None => return stop(&floor, &crews, Duration::ZERO).await,
        }
    }
}

async fn look_after(core: Arc<Core>, generation: Arc<Generation>, floor: Arc<Floor>) {
    let supervisor = Supervisor::new(Arc::clone(&core), Arc::clone(&generation), floor);
    // With a supervisor that fails its ends of all sockets are closed, and by that its workers end.
    if AssertUnwindSafe(supervisor.run()).catch_unwind().await.is_err() {
        core.fail(
            &generation,
            "looking after it has failed (a fault in Outrider): change its file or settings to try again",
        );
    }
}

async fn stop(floor: &Floor, crews: &[Weak<Core>], drain: Duration) {
    crews.iter().filter_map(Weak::upgrade).for_each(|crew| crew.close(drain));
    if timeout(drain.saturating_add(LAST_STEPS), floor.tasks.finished()).await.is_err() {
        tracing::error!(tasks = floor.tasks.running(), "some processes of handlers may not have ended");
    }
    reap_strays(&floor.wards);
    floor.dir.remove();
}
