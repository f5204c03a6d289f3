//! What is heard of workers: they are ready, or do not load, or have ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Supervisor;
use crate::workers::launch::Event;
use crate::workers::made::{self, Seen};
use crate::workers::process::Ending;
use crate::workers::report::{Cause, Loaded};
use crate::workers::words;

impl Supervisor {
    pub(super) async fn heard(&mut self, number: u64, event: Event) {
        let Some(at) = self.running.iter().position(|one| one.number == number) else { return };
        let now = self.began.elapsed();
        match event {
            Event::Ready(loaded, seen) => self.ready(at, now, *loaded, seen),
            Event::Failed { error, traceback, seen } => {
                self.generation.made().add(seen.clone());
                self.refused = seen;
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
        self.generation.made().add(seen.clone());
        one.worker.open();
        let (place, number, worker) = (one.place, one.number, Arc::clone(&one.worker));
        let before = self.places[place].serving.replace(number);
        self.places[place].coming = None;
        self.places[place].door = Some(Arc::clone(&one.door));
        if let Some(cause) = self.places[place].wants.take() {
            self.core.note_restart(cause);
        }
        let first = self.proven.replace(seen).is_none();
        self.tries.succeeded();
        self.generation.is_failing(false);
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
        let what = match one.failure.or_else(|| one.worker.verdict.get().cloned()) {
            Some(what) => what,
            None if was_coming => format!("the handler's process {ending} before it was ready"),
            None => format!("the handler's process {ending}"),
        };
        // Counted when the rest is told: who sees the count looks for what it means.
        if was_coming {
            self.generation.is_failing(true);
        }
        self.core.note_trouble(what.clone());
        self.core.note_restart(cause);
        if cause == Cause::Crash || (was_coming && one.cause.is_none()) {
            tracing::error!(
                integration = &*self.core.integration,
                pid = one.worker.pid.get(),
                "{what}; another is started"
            );
        }
        if was_coming && self.is_hopeless().await {
            self.fail(&what).await;
        }
    }
}
