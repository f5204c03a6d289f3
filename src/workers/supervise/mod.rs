//! The processes of one generation, from the first start to the last end.

mod deeds;
mod news;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::check::check_file;
use super::core::Core;
use super::floor::Floor;
use super::launch::{Ear, Event, Launched, launch};
use super::made::{self, Seen};
use super::memory::Gauge;
use super::policy::{Life, Rules, Slot, Tries, quota};
use super::pool::{Generation, Worker};
use super::process::{Process, State, Zygote};
use super::report::Cause;
use super::run_dir::Door;
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
    /// The files of the worker that was ready last. Where there is one, the others may start too.
    proven: Option<Seen>,
    /// The files of the worker that said last that they do not load.
    refused: Seen,
    /// Nothing is started any more.
    ending: bool,
    events: mpsc::Receiver<(u64, Event)>,
    tell: mpsc::Sender<(u64, Event)>,
}

/// Where one worker serves, and its successor after it.
struct Place {
    slot: Slot,
    /// Kept until the next worker starts, so that who still waits to be accepted is told from whose connection breaks. No other
    /// worker serves it: it would take calls there that have been given to someone else.
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
        let (tell, events) = mpsc::channel(EVENTS);
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
            proven: None,
            refused: Seen::new(),
            ending: false,
            events,
            tell,
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
                Some((number, event)) = self.events.recv() => self.heard(number, event).await,
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
            self.generation.made().failed(folder, std::mem::take(&mut self.refused));
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

    /// How many places have a worker that serves.
    fn serving(&self) -> usize {
        self.places.iter().filter(|place| place.serving.is_some()).count()
    }

    /// Starts what is missing and may be started now.
    async fn fill(&mut self) {
        for at in 0..self.places.len() {
            let now = self.began.elapsed();
            let place = &self.places[at];
            let is_needed = place.coming.is_none() && (place.serving.is_none() || place.wants.is_some());
            // The first shows whether it loads at all.
            let may_start = self.proven.is_some() || at == 0;
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
        self.core.note_trouble(what.to_owned());
        self.generation.is_failing(true);
        self.core.note_restart(Cause::Load);
        if self.is_hopeless().await || (is_final && self.serving() == 0) {
            return self.fail(what).await;
        }
        tracing::error!(integration = &*self.core.integration, "{what}; it is tried again");
    }

    /// A start has failed: whether it is no use to try again.
    async fn is_hopeless(&mut self) -> bool {
        self.tries.failed();
        self.tries.are_over(self.serving()) && !self.is_proven().await
    }

    /// Whether a worker has been ready that had read the files as they are now: someone may have changed them since without a
    /// word to us.
    async fn is_proven(&self) -> bool {
        let Some(seen) = self.proven.clone() else { return false };
        // If they cannot be looked at, that says nothing against them.
        tokio::task::spawn_blocking(move || made::are_same(&seen)).await.unwrap_or(true)
    }

    fn start(&mut self, at: usize, now: Duration, zygote: &Arc<Zygote>) -> Result<(), String> {
        let number = self.floor.number();
        let door = Door::open(&self.floor.dir, number)
            .map_err(|error| format!("a socket for a worker cannot be made: {error}"))?;
        let door = Arc::new(door);
        let ear = Ear { number, events: self.tell.clone() };
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
