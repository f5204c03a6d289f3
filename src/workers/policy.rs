//! When a worker is replaced, asked to end, killed or started again: decisions alone, from facts and the time.
//!
//! Nothing here touches a process. Times are since any fixed moment.

use std::time::Duration;

use super::report::Cause;

/// A worker whose loop is silent for this long on top of `request_timeout` hangs: every call that it might still answer
/// has been given up.
pub(super) const HANG_GRACE: Duration = Duration::from_secs(5);
/// Time to write all threads' stacks before the kill.
pub(super) const DUMP: Duration = Duration::from_millis(500);
/// Time to end after having been told that nothing is left to do.
pub(super) const DISMISSAL: Duration = Duration::from_secs(2);
/// Time to end after SIGTERM.
pub(super) const TERMINATION: Duration = Duration::from_secs(1);
/// What each of both has at least.
const HURRY: Duration = Duration::from_millis(100);
/// Time to hear of the end of a killed process.
pub(super) const BURIAL: Duration = Duration::from_secs(5);
/// The most silence that one look may add: a supervisor that was late itself must not blame the worker.
const STEP: Duration = Duration::from_millis(500);
/// The first and the longest wait before a worker is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// After this long in good health a worker's earlier ends no longer count.
const HEALTHY: Duration = Duration::from_secs(60);
/// So many failed loads with no worker ready, and nothing is tried any more.
const TRIES: u32 = 3;

/// The limits that decisions go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) start_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) drain_timeout: Duration,
    /// In bytes; 0 = any.
    pub(super) memory: u64,
}

/// What is known of a worker at a look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Whether its loop has given a sign of life since the last look.
    pub(super) beaten: bool,
    pub(super) in_flight: usize,
    /// Calls that it was handed so far.
    pub(super) served: u64,
    /// Its private memory in bytes, where known.
    pub(super) memory: u64,
    /// Threads that are held by calls that were given up, and all threads.
    pub(super) stuck: (u64, u64),
}

impl Facts {
    fn are_greedy(&self, rules: &Rules) -> bool {
        rules.memory > 0 && self.memory > rules.memory
    }
}

/// What is to be done with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Start another in its place; it goes on until that is ready.
    Replace(Cause),
    /// Have it write the stacks of its threads; it takes no more calls and is killed a moment later.
    Dump(Cause),
    /// SIGKILL.
    Kill(Option<Cause>),
    /// Tell it that it may end.
    Dismiss,
    /// SIGTERM.
    Terminate,
    /// Its end is not heard of: whoever should have told is not to be trusted either.
    Abandon,
}

/// One worker process, from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    phase: Phase,
    /// When the phase began.
    since: Duration,
    /// The last look.
    looked: Duration,
    silent: Duration,
    /// Calls after which it is replaced; 0 = never.
    quota: u64,
    /// Whether its replacement has been asked for.
    replaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// Takes no more calls; those that it has may end.
    Leaving,
    Dismissed,
    Terminated,
    Dumped,
    Killed,
    Abandoned,
}

impl Rules {
    /// A step of an end, which takes no longer than calls themselves may: a stop is in a hurry.
    fn step(&self, most: Duration) -> Duration {
        most.min(self.drain_timeout.max(HURRY))
    }
}

impl Life {
    /// A worker that was started now, to be replaced after `quota` calls (0 = never).
    pub(super) fn new(now: Duration, quota: u64) -> Self {
        Self {
            phase: Phase::Starting,
            since: now,
            looked: now,
            silent: Duration::ZERO,
            quota,
            replaced: false,
        }
    }

    /// It has loaded the handler. Whether that still counts: not if it is on its way out.
    pub(super) fn ready(&mut self, now: Duration) -> bool {
        let counts = self.phase == Phase::Starting;
        if counts {
            self.enter(Phase::Ready, now);
            self.silent = Duration::ZERO;
        }
        counts
    }

    /// It is to take no more calls, and to end once it has none.
    pub(super) fn leave(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Starting | Phase::Ready) {
            self.enter(Phase::Leaving, now);
        }
    }

    /// It is to be killed now, whatever it does: it cannot be watched any more.
    pub(super) fn condemn(&mut self, now: Duration) -> Option<Act> {
        if matches!(self.phase, Phase::Killed | Phase::Abandoned) {
            return None;
        }
        self.enter(Phase::Killed, now);
        Some(Act::Kill(None))
    }

    /// How long it has been ready, if it is.
    pub(super) fn ready_for(&self, now: Duration) -> Option<Duration> {
        (self.phase == Phase::Ready).then(|| now.saturating_sub(self.since))
    }

    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// One look at it: what is to be done now.
    pub(super) fn look(&mut self, now: Duration, facts: &Facts, rules: &Rules) -> Option<Act> {
        let passed = now.saturating_sub(self.looked).min(STEP);
        self.looked = now;
        self.silent = if facts.beaten { Duration::ZERO } else { self.silent.saturating_add(passed) };
        let lasts = now.saturating_sub(self.since);
        match self.phase {
            Phase::Starting | Phase::Ready | Phase::Leaving if facts.are_greedy(rules) => {
                Some(self.go(Phase::Killed, now, Act::Kill(Some(Cause::Memory))))
            }
            Phase::Starting if lasts >= rules.start_timeout => {
                Some(self.go(Phase::Dumped, now, Act::Dump(Cause::Slow)))
            }
            Phase::Ready if self.hangs(facts, rules) => {
                Some(self.go(Phase::Dumped, now, Act::Dump(Cause::Hang)))
            }
            Phase::Ready => self.replacement(facts),
            Phase::Leaving if facts.in_flight == 0 => Some(self.go(Phase::Dismissed, now, Act::Dismiss)),
            Phase::Leaving if lasts >= rules.drain_timeout => {
                Some(self.go(Phase::Terminated, now, Act::Terminate))
            }
            Phase::Dismissed if lasts >= rules.step(DISMISSAL) => {
                Some(self.go(Phase::Terminated, now, Act::Terminate))
            }
            Phase::Terminated if lasts >= rules.step(TERMINATION) => {
                Some(self.go(Phase::Killed, now, Act::Kill(None)))
            }
            Phase::Dumped if lasts >= DUMP => Some(self.go(Phase::Killed, now, Act::Kill(None))),
            Phase::Killed if lasts >= BURIAL => Some(self.go(Phase::Abandoned, now, Act::Abandon)),
            _ => None,
        }
    }

    fn replacement(&mut self, facts: &Facts) -> Option<Act> {
        let used_up = (self.quota > 0 && facts.served >= self.quota).then_some(Cause::Requests);
        let stuck = (facts.stuck.0.saturating_mul(2) > facts.stuck.1).then_some(Cause::Stuck);
        let cause = used_up.or(stuck).filter(|_| !self.replaced)?;
        self.replaced = true;
        Some(Act::Replace(cause))
    }

    /// Calls in flight by now are streams that have begun: their own limit on silence bounds them.
    fn hangs(&self, facts: &Facts, rules: &Rules) -> bool {
        self.silent >= rules.request_timeout.saturating_add(HANG_GRACE) && facts.in_flight == 0
    }

    fn go(&mut self, phase: Phase, now: Duration, act: Act) -> Act {
        self.enter(phase, now);
        act
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
    }
}

/// When a place of a crew may have a worker started in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    delay: Duration,
    not_before: Duration,
}

impl Slot {
    /// A place that may be filled at once.
    pub(super) fn new() -> Self {
        Self { delay: BACKOFF.0, not_before: Duration::ZERO }
    }

    /// Its worker has ended against its will, after having been `healthy` for so long (zero if it never was).
    pub(super) fn lost(&mut self, now: Duration, healthy: Duration) {
        if healthy >= HEALTHY {
            self.delay = BACKOFF.0;
        }
        self.not_before = now.saturating_add(self.delay);
        self.delay = self.delay.saturating_mul(2).min(BACKOFF.1);
    }

    /// Whether a worker may be started in it now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.not_before
    }
}

/// How often loading has failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// A worker has become ready.
    pub(super) fn succeeded(&mut self) {
        self.0 = 0;
    }

    /// A worker has ended before it was ready.
    pub(super) fn failed(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// Whether it is no use to go on, with so many workers that serve, unless the handler has loaded before from the same
    /// files: what keeps it from that passes.
    pub(super) fn are_over(&self, serving: usize) -> bool {
        self.0 >= TRIES && serving == 0
    }
}

/// The calls after which a worker is replaced: up to a tenth less than `most`, by `chance` from 0 to 1, so that the
/// workers of a crew are not replaced all at once. 0 = never.
pub(super) fn quota(most: usize, chance: f64) -> u64 {
    let most = most as u64;
    // A tenth of any count that can be reached is exact in a float.
    let less = (most as f64 / 10.0 * chance.clamp(0.0, 1.0)) as u64;
    if most == 0 { 0 } else { most.saturating_sub(less).max(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        start_timeout: Duration::from_secs(60),
        request_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(30),
        memory: 1000,
    };
    const LOOK: Duration = Duration::from_millis(100);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn beating() -> Facts {
        Facts { beaten: true, stuck: (0, 32), ..Facts::default() }
    }

    fn silent() -> Facts {
        Facts { beaten: false, ..beating() }
    }

    /// Looks every 100 ms until something is to be done: when, and what.
    fn next(life: &mut Life, now: &mut Duration, facts: Facts) -> (Duration, Act) {
        for _ in 0..100_000 {
            if let Some(act) = life.look(*now, &facts, &RULES) {
                return (*now, act);
            }
            *now += LOOK;
        }
        panic!("nothing was ever done in {life:?}");
    }

    fn ready(quota: u64) -> (Life, Duration) {
        let mut life = Life::new(Duration::ZERO, quota);
        assert!(life.ready(secs(1)));
        assert_eq!(life.look(secs(1), &beating(), &RULES), None);
        (life, secs(1))
    }

    #[test]
    fn a_worker_that_does_not_get_ready_is_dumped_then_killed_then_given_up() {
        let (mut life, mut now) = (Life::new(Duration::ZERO, 0), Duration::ZERO);
        assert_eq!(next(&mut life, &mut now, silent()), (secs(60), Act::Dump(Cause::Slow)));
        assert!(!life.ready(now), "too late");
        assert_eq!(next(&mut life, &mut now, silent()), (millis(60_500), Act::Kill(None)));
        assert_eq!(next(&mut life, &mut now, silent()), (millis(65_500), Act::Abandon));
    }

    #[test]
    fn a_silent_loop_hangs_only_once_every_call_must_have_been_given_up() {
        let (mut life, mut now) = ready(0);
        assert_eq!(next(&mut life, &mut now, silent()), (secs(16), Act::Dump(Cause::Hang)));
        assert_eq!(next(&mut life, &mut now, silent()), (millis(16_500), Act::Kill(None)));
        let (mut life, _) = ready(0);
        let streaming = Facts { in_flight: 1, ..silent() };
        for tenth in 10..1000 {
            assert_eq!(life.look(LOOK * tenth, &streaming, &RULES), None, "a stream that has begun");
        }
        assert_eq!(life.look(secs(100), &silent(), &RULES), Some(Act::Dump(Cause::Hang)));
    }

    #[test]
    fn one_beat_ends_the_silence_and_a_supervisor_that_slept_blames_nobody() {
        let (mut life, mut now) = ready(0);
        for _ in 0..20 {
            now += secs(14);
            for tenth in 1..140 {
                assert_eq!(life.look(now + LOOK * tenth, &silent(), &RULES), None);
            }
            now += secs(14);
            assert_eq!(life.look(now, &beating(), &RULES), None);
        }
        assert_eq!(life.look(now + secs(3600), &silent(), &RULES), None, "the machine was asleep");
    }

    #[test]
    fn memory_above_the_limit_is_killed_at_once_wherever_the_worker_stands() {
        let greedy = Facts { memory: 1001, in_flight: 3, ..beating() };
        let (mut life, now) = ready(0);
        assert_eq!(life.look(now, &Facts { memory: 1000, ..greedy }, &RULES), None);
        assert_eq!(life.look(now, &greedy, &RULES), Some(Act::Kill(Some(Cause::Memory))));
        assert_eq!(life.look(now, &greedy, &RULES), None, "once");
        let mut life = Life::new(now, 0);
        assert_eq!(life.look(now, &greedy, &RULES), Some(Act::Kill(Some(Cause::Memory))));
        let (mut life, now) = ready(0);
        let any = Rules { memory: 0, ..RULES };
        assert_eq!(life.look(now, &Facts { memory: u64::MAX, ..greedy }, &any), None);
        life.leave(now);
        assert_eq!(life.look(now, &greedy, &RULES), Some(Act::Kill(Some(Cause::Memory))));
    }

    #[test]
    fn a_worker_that_is_used_up_or_stuck_is_replaced_once() {
        let (mut life, now) = ready(100);
        assert_eq!(life.look(now, &Facts { served: 99, ..beating() }, &RULES), None);
        let used = Facts { served: 100, ..beating() };
        assert_eq!(life.look(now, &used, &RULES), Some(Act::Replace(Cause::Requests)));
        assert_eq!(life.look(now, &used, &RULES), None);
        let (mut life, now) = ready(0);
        assert_eq!(life.look(now, &Facts { served: u64::MAX, stuck: (16, 32), ..beating() }, &RULES), None);
        let stuck = Facts { stuck: (17, 32), ..beating() };
        assert_eq!(life.look(now, &stuck, &RULES), Some(Act::Replace(Cause::Stuck)));
    }

    #[test]
    fn a_leaving_worker_ends_its_calls_first_and_does_not_stay_for_ever() {
        let (mut life, mut now) = ready(0);
        life.leave(now);
        let busy = Facts { in_flight: 1, ..beating() };
        assert_eq!(life.look(now, &busy, &RULES), None);
        now += secs(5);
        assert_eq!(next(&mut life, &mut now, beating()), (secs(6), Act::Dismiss));
        assert_eq!(next(&mut life, &mut now, beating()), (secs(8), Act::Terminate));
        assert_eq!(next(&mut life, &mut now, beating()), (secs(9), Act::Kill(None)));
        let (mut life, mut now) = ready(0);
        life.leave(now);
        assert_eq!(next(&mut life, &mut now, busy), (secs(31), Act::Terminate));
        assert_eq!(next(&mut life, &mut now, busy), (secs(32), Act::Kill(None)));
    }

    #[test]
    fn waits_before_a_new_start_double_and_are_forgotten_after_a_healthy_minute() {
        let mut slot = Slot::new();
        assert!(slot.is_due(Duration::ZERO));
        let mut waits = Vec::new();
        for _ in 0..9 {
            slot.lost(secs(100), secs(59));
            waits.push((slot.not_before - secs(100)).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert!(!slot.is_due(millis(109_999)) && slot.is_due(secs(110)));
        slot.lost(secs(200), secs(60));
        assert!(slot.is_due(millis(200_100)));
    }

    #[test]
    fn three_failed_loads_in_a_row_are_enough_unless_another_worker_serves() {
        let mut tries = Tries::default();
        for _ in 0..2 {
            tries.failed();
            assert!(!tries.are_over(0));
        }
        tries.succeeded();
        for _ in 0..3 {
            tries.failed();
        }
        assert!(!tries.are_over(1) && tries.are_over(0));
    }

    #[test]
    fn the_number_of_calls_varies_by_a_tenth_and_never_means_never() {
        assert_eq!((quota(0, 1.0), quota(1, 1.0), quota(1000, 0.0), quota(1000, 1.0)), (0, 1, 1000, 900));
        assert_eq!(quota(10, f64::NAN), 10);
    }

    fn facts() -> impl Strategy<Value = Facts> {
        let counts = (0usize..3, 0u64..40, 0u64..1200, 0u64..40);
        (any::<bool>(), counts).prop_map(|(beaten, (in_flight, served, memory, stuck))| Facts {
            beaten,
            in_flight,
            served,
            memory,
            stuck: (stuck, 32),
        })
    }

    proptest! {
        /// Whatever happens, and however often it is looked at: one replacement, one dump, one kill, and in this order.
        #[test]
        fn each_step_is_taken_at_most_once_and_the_way_out_is_one_way(
            steps in prop::collection::vec((0u64..3000, facts(), 0u8..20), 1..300),
            quota in 0u64..40,
        ) {
            let mut life = Life::new(Duration::ZERO, quota);
            let (mut now, mut acts) = (Duration::ZERO, Vec::new());
            for (passed, facts, event) in steps {
                now += millis(passed);
                match event {
                    0 => life.leave(now),
                    1 | 2 => drop(life.ready(now)),
                    _ => {}
                }
                if let Some(act) = life.look(now, &facts, &RULES) {
                    if let Act::Kill(Some(cause)) = act {
                        prop_assert_eq!(cause, Cause::Memory);
                        prop_assert!(facts.memory > RULES.memory);
                    }
                    acts.push(rank(act));
                }
            }
            prop_assert!(acts.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", acts);
        }

        /// A worker that beats, keeps its limits and may stay is left alone.
        #[test]
        fn a_healthy_worker_is_never_touched(
            steps in prop::collection::vec((0u64..100_000, 0usize..100, any::<u32>(), 0u64..=16), 1..200),
        ) {
            let (mut life, mut now) = ready(0);
            for (passed, in_flight, served, stuck) in steps {
                now += millis(passed);
                let facts =
                    Facts { beaten: true, in_flight, served: served.into(), memory: 1000, stuck: (stuck, 32) };
                prop_assert_eq!(life.look(now, &facts, &RULES), None);
            }
        }

        /// From wherever it stands, a worker that must leave is dead or given up in bounded time.
        #[test]
        fn nothing_stays_for_ever(
            before in prop::collection::vec((0u64..3000, facts(), any::<bool>()), 0..50),
            after in prop::collection::vec(facts(), 600),
        ) {
            let (mut life, mut now) = (Life::new(Duration::ZERO, 0), Duration::ZERO);
            let mut acts = Vec::new();
            for (passed, facts, ready) in before {
                now += millis(passed);
                if ready {
                    life.ready(now);
                }
                acts.extend(life.look(now, &facts, &RULES));
            }
            life.leave(now);
            for facts in after {
                now += LOOK;
                acts.extend(life.look(now, &facts, &RULES));
            }
            prop_assert_eq!(acts.last(), Some(&Act::Abandon));
            prop_assert!(acts.iter().any(|act| matches!(act, Act::Kill(_))));
        }

        /// However workers die, starts in one place are at least 100 ms and at most 10 s apart.
        #[test]
        fn a_place_is_neither_hammered_nor_forgotten(deaths in prop::collection::vec((0u64..200, 0u64..200), 1..50)) {
            let (mut slot, mut now) = (Slot::new(), Duration::ZERO);
            for (passed, healthy) in deaths {
                now += secs(passed);
                slot.lost(now, secs(healthy));
                prop_assert!(!slot.is_due(now + millis(99)) && slot.is_due(now + secs(10)));
            }
        }
    }

    fn rank(act: Act) -> u8 {
        match act {
            Act::Replace(_) => 0,
            Act::Dump(_) => 1,
            Act::Dismiss => 2,
            Act::Terminate => 3,
            Act::Kill(_) => 4,
            Act::Abandon => 5,
        }
    }
}
