//! Facts to the policy, and its decisions to the workers.

use std::sync::atomic::Ordering;

use super::Supervisor;
use crate::workers::policy::{Act, Facts};
use crate::workers::process::Signal;
use crate::workers::report::Cause;
use crate::workers::words;

impl Supervisor {
    /// One look at every worker.
    pub(super) fn look(&mut self) {
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

    pub(super) fn act(&mut self, at: usize, act: Act) {
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
                    let _ = self.running[at].worker.verdict.set(words::OVERDUE.to_owned());
                    self.say(at, "a worker is ended although calls of it are not (drain_timeout)");
                }
                self.running[at].process.signal(Signal::Terminate);
            }
            Act::Abandon => {
                self.running[at].process.abandon_zygote();
                // Again, since the one before may never have been passed on: this time by ourselves.
                self.running[at].process.signal(Signal::Kill);
            }
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

    pub(super) fn say(&self, at: usize, what: &str) {
        let pid = self.running[at].worker.pid.get();
        tracing::error!(integration = &*self.core.integration, pid, "{what}");
    }
}
