//! The processes of one generation, from its first start to its last end: facts to the policy, its decisions to them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::check::check_file;
use super::core::Core;
use super::floor::Floor;
use super::launch::{Ear, Event, Launched, launch};
use super::made::{self, Seen};
use super::memory::Gauge;
use super::policy::{Act, Facts, Life, Rules, Slot, Tries, quota};
use super::pool::{Generation, Worker};
use super::process::{Ending, Process, Signal, State, Zygote};
use super::report::{Cause, Loaded};
use super::run_dir::Door;
use super::words;
use super::zygotes::{Source, Supply};

/// How often workers are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How many events of workers may wait to be heard.
const EVENTS: usize = 64;

/// Looks after one generation.
pub(super) struct Supervisor {
    core: Arc<Core>,
    generation: Arc<Generation>,
    floor: Arc<Floor>,
    began: Instant,
    rules: Rules,
    places: Vec<Place>,
    running: Vec<Running>,
    source: Source,
    tries: Tries,
    /// A worker has been ready: the others may start too.
    proven: bool,
    /// Nothing is started any more.
    ending: bool,
    events: (mpsc::Sender<(u64, Event)>, mpsc::Receiver<(u64, Event)>),
}

/// Where one worker serves, and its successor after it.
struct Place {
    slot: Slot,
    /// Kept over restarts, so that whoever waits to be accepted is accepted by the next.
    door: Option<Arc<Door>>,
    serving: Option<u64>,
    coming: Option<u64>,
    /// Why another is to take over from the one that serves.
    wants: Option<Cause>,
}

/// One process.
struct Running {
    number: u64,
    place: usize,
    life: Life,
    process: Process,
    worker: Arc<Worker>,
    line: OwnedWriteHalf,
    door: Arc<Door>,
    gauge: Gauge,
    last_beat: u64,
    stuck: (u64, u64),
    /// How long it had been ready when it stopped to be.
    healthy: Option<Duration>,
    /// Why we ended it.
    cause: Option<Cause>,
    /// Why it did not load, as it said.
    failure: Option<String>,
    /// It was asked to end.
    leaving: bool,
}

impl Supervisor {
    pub(super) fn new(core: Arc<Core>, generation: Arc<Generation>, floor: Arc<Floor>) -> Self {
        let spec = &generation.spec;
        let rules = Rules {
            start_timeout: spec.start_timeout,
            request_timeout: spec.request_timeout,
            drain_timeout: spec.drain_timeout,
            memory: spec.memory as u64,
        };
        let place = || Place { slot: Slot::new(), door: None, serving: None, coming: None, wants: None };
        let places = (0..spec.workers.max(1)).map(|_| place()).collect();
        Self {
            core,
            generation,
            floor,
            began: Instant::now(),
            rules,
            places,
            running: Vec::new(),
            source: Source::default(),
            tries: Tries::default(),
            proven: false,
            ending: false,
            events: mpsc::channel(EVENTS),
        }
    }

    /// Returns once the generation has ended and no process of it is left.
    pub(super) async fn run(mut self) {
        let mut retired = self.generation.retired();
        if let Err(why) = self.check().await {
            return self.fail(&why).await;
        }
        let mut looking = interval(LOOK);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(self.ending && self.running.is_empty()) {
            let drain = *retired.borrow_and_update();
            if let Some(drain) = drain {
                self.end(drain);
            }
            self.look();
            self.fill().await;
            let mut source = self.source.changes();
            tokio::select! {
                Some((number, event)) = self.events.1.recv() => self.heard(number, event).await,
                _ = looking.tick() => {}
                _ = retired.changed() => {}
                () = changed(&mut source) => {}
            }
        }
    }

    async fn check(&self) -> Result<(), String> {
        let spec = Arc::clone(&self.generation.spec);
        let checked = tokio::task::spawn_blocking(move || check_file(&spec.directory, &spec.file_name)).await;
        checked.unwrap_or_else(|error| Err(format!("the handler could not be looked at: {error}"))).map(drop)
    }

    /// It does not serve and is not tried any more.
    async fn fail(&mut self, why: &str) {
        let directory = self.generation.spec.directory.clone();
        if let Ok(folder) = tokio::task::spawn_blocking(move || made::folder(&directory)).await {
            self.generation.made().failed(folder);
        }
        self.core.fail(&self.generation, why);
        self.end(Duration::MAX);
    }

    /// Starts nothing more; what runs ends its calls within `drain`, and then itself.
    fn end(&mut self, drain: Duration) {
        self.ending = true;
        self.rules.drain_timeout = self.rules.drain_timeout.min(drain);
        let now = self.began.elapsed();
        for at in 0..self.running.len() {
            self.leave(at, now);
        }
    }

    /// No call goes there any more.
    fn leave(&mut self, at: usize, now: Duration) {
        let one = &mut self.running[at];
        one.healthy = one.life.ready_for(now).or(one.healthy);
        one.life.leave(now);
        one.leaving = true;
        one.worker.close();
        self.unseat(at);
    }

    fn unseat(&self, at: usize) {
        let one = &self.running[at];
        if self.places[one.place].serving == Some(one.number) {
            self.generation.seat(one.place, None);
        }
    }

    // What is heard.

    async fn heard(&mut self, number: u64, event: Event) {
        let Some(at) = self.running.iter().position(|one| one.number == number) else { return };
        let now = self.began.elapsed();
        match event {
            Event::Ready(loaded, seen) => self.ready(at, now, *loaded, seen),
            Event::Failed { error, traceback, seen } => {
                self.generation.made().add(seen);
                self.did_not_load(at, now, error, traceback.as_deref());
            }
            Event::Seen(seen) => self.generation.made().add(seen),
            Event::Stuck(stuck, threads) => self.running[at].stuck = (stuck, threads),
            Event::Deaf => {
                if let Some(act) = self.running[at].life.condemn(now) {
                    self.say(at, "a handler's process has closed its line to Outrider: it is ended");
                    self.act(at, act);
                }
            }
            Event::Ended(ending) => self.ended(at, now, &ending).await,
        }
    }

    fn ready(&mut self, at: usize, now: Duration, loaded: Loaded, seen: Seen) {
        let one = &mut self.running[at];
        if one.failure.is_some() || !one.life.ready(now) {
            return;
        }
        self.generation.made().add(seen);
        one.worker.open();
        let (place, number, worker) = (one.place, one.number, Arc::clone(&one.worker));
        let before = self.places[place].serving.replace(number);
        self.places[place].coming = None;
        self.places[place].door = Some(Arc::clone(&one.door));
        if let Some(cause) = self.places[place].wants.take() {
            self.core.note_restart(cause);
        }
        let first = !std::mem::replace(&mut self.proven, true);
        self.tries.succeeded();
        words::tell_ready(&self.core.integration, &self.generation, worker.pid.get(), &loaded, first);
        self.generation.loaded.store(Some(Arc::new(loaded)));
        self.generation.seat(place, Some(worker));
        if let Some(before) =
            before.and_then(|before| self.running.iter().position(|one| one.number == before))
        {
            self.leave(before, now);
        }
        if first {
            self.note_packages();
        }
        self.core.promote(&self.generation);
    }

    /// What the interpreter's packages are, to see when they change. Not waited for.
    fn note_packages(&self) {
        let (Some(zygote), Some(interpreter)) = (self.source.zygote(), self.source.interpreter()) else {
            return;
        };
        let (floor, generation) = (Arc::clone(&self.floor), Arc::clone(&self.generation));
        let look = move || {
            let print = made::packages(Path::new(&interpreter.prefix));
            generation.made().with_packages(Path::new(&interpreter.prefix), print);
            floor.note_packages(&generation.spec, &zygote, print);
        };
        drop(tokio::task::spawn_blocking(look));
    }

    fn did_not_load(&mut self, at: usize, now: Duration, error: String, traceback: Option<&str>) {
        let one = &mut self.running[at];
        if one.failure.is_some() || !one.life.is_starting() {
            return;
        }
        words::tell_failed(&self.core.integration, &self.generation, one.worker.pid.get(), &error, traceback);
        one.failure = Some(error);
        // It ends by itself; if not, it is helped on.
        one.life.leave(now);
    }

    async fn ended(&mut self, at: usize, now: Duration, ending: &Ending) {
        self.unseat(at);
        let one = self.running.swap_remove(at);
        one.worker.close();
        self.generation.roster().retain(|worker| !Arc::ptr_eq(worker, &one.worker));
        let place = &mut self.places[one.place];
        let was_serving = place.serving == Some(one.number);
        let was_coming = place.coming == Some(one.number);
        if was_serving {
            place.serving = None;
            place.wants = None;
        }
        if was_coming {
            place.coming = None;
        }
        let healthy = one.life.ready_for(now).or(one.healthy);
        if one.leaving || self.ending || !(was_serving || was_coming) {
            tracing::debug!(
                integration = &*self.core.integration,
                pid = one.worker.pid.get(),
                "a worker {ending}"
            );
            return;
        }
        place.slot.lost(now, healthy.unwrap_or_default());
        let cause = one.cause.unwrap_or(if was_coming { Cause::Load } else { Cause::Crash });
        self.core.note_restart(cause);
        let what = match one.failure.or_else(|| one.worker.verdict.get().cloned()) {
            Some(what) => what,
            None if was_coming => format!("the handler's process {ending} before it was ready"),
            None => format!("the handler's process {ending}"),
        };
        if cause == Cause::Crash || (was_coming && one.cause.is_none()) {
            tracing::error!(
                integration = &*self.core.integration,
                pid = one.worker.pid.get(),
                "{what}; another is started"
            );
        }
        self.core.note_trouble(what.clone());
        if was_coming {
            self.tries.failed();
            if self.tries.are_over(self.serving()) {
                self.fail(&what).await;
            }
        }
    }

    fn serving(&self) -> usize {
        self.places.iter().filter(|place| place.serving.is_some()).count()
    }

    // What is done.

    fn look(&mut self) {
        let now = self.began.elapsed();
        for at in 0..self.running.len() {
            let one = &mut self.running[at];
            let beat = one.worker.last_beat();
            let memory = match one.worker.pid.get() {
                Some(pid) => one.gauge.look(*pid, now, self.rules.memory),
                None => 0,
            };
            one.worker.memory.store(memory, Ordering::Relaxed);
            let facts = Facts {
                beaten: std::mem::replace(&mut one.last_beat, beat) != beat,
                in_flight: one.worker.in_flight(),
                served: one.worker.served(),
                memory,
                stuck: one.stuck,
            };
            one.healthy = one.life.ready_for(now).or(one.healthy);
            if let Some(act) = one.life.look(now, &facts, &self.rules) {
                self.act(at, act);
            }
        }
    }

    fn act(&mut self, at: usize, act: Act) {
        match act {
            Act::Replace(cause) => {
                let one = &self.running[at];
                if let Some(place) = self.places.get_mut(one.place) {
                    place.wants = Some(cause);
                }
                tracing::info!(
                    integration = &*self.core.integration,
                    pid = one.worker.pid.get(),
                    calls = one.worker.served(),
                    "a worker is replaced: {}",
                    words::replaced(cause, one.stuck)
                );
            }
            Act::Dump(cause) => {
                self.condemn(at, cause);
                self.running[at].process.signal(Signal::Dump);
            }
            Act::Kill(cause) => {
                if let Some(cause) = cause {
                    self.condemn(at, cause);
                }
                self.running[at].worker.close();
                self.unseat(at);
                self.running[at].process.signal(Signal::Kill);
            }
            Act::Dismiss => {
                // Full or closed: then it is asked by signal, later.
                let _ = self.running[at].line.try_write(b"{\"drain\":true}\n");
            }
            Act::Terminate => {
                let in_flight = self.running[at].worker.in_flight();
                if in_flight > 0 {
                    self.say(at, "a worker is ended although calls of it are not (drain_timeout)");
                }
                self.running[at].process.signal(Signal::Terminate);
            }
            Act::Abandon => self.running[at].process.abandon_zygote(),
        }
    }

    /// It is ended for `cause`: calls learn why, and so does the log.
    fn condemn(&mut self, at: usize, cause: Cause) {
        let one = &mut self.running[at];
        one.cause = Some(cause);
        let memory = one.worker.memory.load(Ordering::Relaxed);
        let verdict = words::verdict(cause, &self.rules, memory);
        let remedy = words::remedy(cause);
        one.worker.close();
        let _ = one.worker.verdict.set(verdict.clone());
        self.unseat(at);
        self.say(at, &format!("{verdict}{remedy}"));
    }

    fn say(&self, at: usize, what: &str) {
        let pid = self.running[at].worker.pid.get();
        tracing::error!(integration = &*self.core.integration, pid, "{what}");
    }

    /// Starts what is missing and may be started now.
    async fn fill(&mut self) {
        for at in 0..self.places.len() {
            let now = self.began.elapsed();
            let place = &self.places[at];
            let is_needed = place.coming.is_none() && (place.serving.is_none() || place.wants.is_some());
            // The first shows whether it loads at all.
            let may_start = self.proven || at == 0;
            if self.ending || !is_needed || !may_start || !place.slot.is_due(now) {
                continue;
            }
            match self.source.supply(&self.floor, &self.generation.spec, now) {
                Supply::Ready(zygote) => {
                    let started = self.start(at, now, &zygote);
                    if let Err(what) = started {
                        self.places[at].slot.lost(now, Duration::ZERO);
                        self.trouble(&what, false).await;
                    }
                }
                Supply::Wait => return,
                Supply::Failed { what, is_final, packages } => {
                    if let Some((prefix, print)) = packages {
                        self.generation.made().with_packages(&prefix, print);
                    }
                    return self.trouble(&what, is_final).await;
                }
            }
        }
    }

    /// No worker could be started.
    async fn trouble(&mut self, what: &str, is_final: bool) {
        self.tries.failed();
        self.core.note_restart(Cause::Load);
        if (is_final && self.serving() == 0) || self.tries.are_over(self.serving()) {
            return self.fail(what).await;
        }
        tracing::error!(integration = &*self.core.integration, "{what}; it is tried again");
        self.core.note_trouble(what.to_owned());
    }

    fn start(&mut self, at: usize, now: Duration, zygote: &Arc<Zygote>) -> Result<(), String> {
        let number = self.floor.number();
        let place = &self.places[at];
        let door = match &place.door {
            // While one serves there, its successor needs a door of its own.
            Some(door) if place.serving.is_none() => Arc::clone(door),
            _ => Arc::new(
                Door::open(&self.floor.dir, number)
                    .map_err(|error| format!("a socket for a worker cannot be made: {error}"))?,
            ),
        };
        let ear = Ear { number, events: self.events.0.clone() };
        let Launched { process, worker, line } =
            launch(&self.floor, &self.core, &self.generation, (zygote, &door), ear)?;
        self.generation.roster().push(Arc::clone(&worker));
        let place = &mut self.places[at];
        place.coming = Some(number);
        if place.serving.is_none() {
            place.door = Some(Arc::clone(&door));
        }
        self.running.push(Running {
            number,
            place: at,
            life: Life::new(now, quota(self.generation.spec.max_requests, fastrand::f64())),
            process,
            last_beat: worker.last_beat(),
            worker,
            line,
            door,
            gauge: Gauge::default(),
            stuck: (0, 0),
            healthy: None,
            cause: None,
            failure: None,
            leaving: false,
        });
        Ok(())
    }
}

async fn changed(source: &mut Option<watch::Receiver<State>>) {
    match source {
        Some(source) => {
            if source.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
