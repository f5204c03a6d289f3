//! Visits that are over and not yet told: their log lines and figures wait until several have gathered, or until the log
//! looks for lines to write, or somebody for figures.
//!
//! A request's time is mostly spent on code that the processor's caches have lost (`docs/performance.md`). What nobody
//! waits for comes behind what a client waits for, and runs from a warm cache for all but the first.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::visit::Visit;
use crate::observe::log::Sink;
use crate::tasks::Seat;

/// So many visits are told by the worker that served them, when it has nothing else to do.
const MANY: usize = 8;
/// So many visits of one worker wait at most, if it never has nothing else to do.
const MOST: usize = 16;

/// A visit that is going on. Dropped, it is over: whatever it has not noted by then did not happen.
#[derive(Debug)]
pub(super) struct Stay(Option<Box<Visit>>);

impl Stay {
    pub(super) fn new(visit: Box<Visit>) -> Self {
        Self(Some(visit))
    }
}

impl Deref for Stay {
    type Target = Visit;

    fn deref(&self) -> &Visit {
        self.0.as_ref().expect("a visit goes on until its stay is dropped")
    }
}

impl DerefMut for Stay {
    fn deref_mut(&mut self) -> &mut Visit {
        self.0.as_mut().expect("a visit goes on until its stay is dropped")
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(mut visit) = self.0.take() {
            visit.leave(Instant::now());
            let ended = Arc::clone(&visit.house().ended);
            ended.push(*visit);
        }
    }
}

/// The visits that are over and not yet told.
#[derive(Debug)]
pub struct Ended {
    /// By the worker thread that served them.
    seats: Box<[Mutex<Vec<Visit>>]>,
    /// Held by whoever tells of what others have served: who comes next finds all of it told.
    telling: Mutex<()>,
    log: Sink,
}

impl Ended {
    /// For so many worker threads; `log` tells of what they leave.
    pub fn new(seats: usize, log: Sink) -> Arc<Self> {
        let seats = (0..seats.max(1)).map(|_| Mutex::new(Vec::with_capacity(MOST))).collect();
        let new = Arc::new(Self { seats, telling: Mutex::default(), log });
        let told = Arc::downgrade(&new);
        new.log.draw_from(move || {
            if let Some(ended) = told.upgrade() {
                ended.settle_all();
            }
        });
        new
    }

    fn push(&self, visit: Visit) {
        let mut ended = lock(&self.seats[visit.seat().0 % self.seats.len()]);
        ended.push(visit);
        match ended.len() {
            1 => {
                drop(ended);
                self.log.call();
            }
            MOST.. => tell(&mut ended),
            _ => {}
        }
    }

    /// Tells of what this worker has served, if it is much. To be called when it has nothing else to do.
    pub fn settle(&self, seat: Seat) {
        let mut ended = lock(&self.seats[seat.0 % self.seats.len()]);
        // Mostly not so: it is called behind each event of a stream.
        if ended.len() >= MANY {
            tell(&mut ended);
        }
    }

    /// Tells of what any worker has served: before lines are written, before figures are read, and before the end.
    pub fn settle_all(&self) {
        let _telling = lock(&self.telling);
        for seat in &self.seats {
            let mut ended = lock(seat);
            if !ended.is_empty() {
                // Its worker goes on meanwhile.
                let mut taken = std::mem::replace(&mut *ended, Vec::with_capacity(MOST));
                drop(ended);
                tell(&mut taken);
            }
        }
    }
}

fn lock<T>(ended: &Mutex<T>) -> MutexGuard<'_, T> {
    ended.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(ended: &mut Vec<Visit>) {
    let now = Instant::now();
    for mut visit in ended.drain(..) {
        // The panic hook has logged where. A worker thread must not end because one line could not be written.
        let _ = catch_unwind(AssertUnwindSafe(|| visit.tell(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;
    use crate::proxy::House;
    use crate::proxy::head::Fields;

    fn house(seats: usize) -> Arc<House> {
        Arc::new(House::bare(seats, Arc::new(Metrics::new())))
    }

    fn leave(house: &Arc<House>, seat: usize) {
        drop(Visit::begin(house, Seat(seat), "/v1/chat/completions", &Fields::default()));
    }

    /// How many visits are in the figures: of clients that left before they were sent a status.
    fn told(house: &House) -> usize {
        let text = house.metrics.text();
        let line =
            text.lines().find(|line| line.contains("status=\"499\"") && line.contains("requests_total"));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn a_worker_with_nothing_else_to_do_tells_of_its_visits_once_many_have_gathered() {
        let house = house(2);
        (1..MANY).for_each(|_| leave(&house, 1));
        house.ended.settle(Seat(1));
        assert_eq!((told(&house), house.activity.idle_for()), (0, None));
        leave(&house, 1);
        house.ended.settle(Seat(0));
        assert_eq!(told(&house), 0);
        house.ended.settle(Seat(1));
        assert_eq!(told(&house), MANY);
        assert!(house.activity.idle_for().is_some());
        house.ended.settle(Seat(1));
        assert_eq!(told(&house), MANY, "a visit was told twice");
    }

    #[test]
    fn a_worker_that_is_never_idle_tells_of_its_visits_when_so_many_have_gathered() {
        let house = house(2);
        leave(&house, 1);
        (1..MOST).for_each(|_| leave(&house, 0));
        assert_eq!(told(&house), 0);
        leave(&house, 0);
        assert_eq!(told(&house), MOST);
        house.ended.settle_all();
        assert_eq!(told(&house), MOST + 1);
    }

    #[test]
    fn a_house_whose_visits_are_all_told_is_kept_by_nobody() {
        let house = house(1);
        leave(&house, 0);
        assert_eq!(Arc::strong_count(&house), 2);
        house.ended.settle_all();
        assert_eq!(Arc::strong_count(&house), 1);
    }
}
