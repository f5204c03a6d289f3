//! How much memory a worker has for itself, not counting what it shares with the zygote.

use std::fs;
use std::time::Duration;

/// A reading of all mappings costs about a millisecond: without cause it is done this rarely.
const REST: Duration = Duration::from_secs(10);
/// Where memory might be near its limit: this rarely unless it grows.
const CLOSE: Duration = Duration::from_secs(1);

/// Watches one worker's memory.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    last: Option<Reading>,
    /// What was anonymous at the first look: all of it may be the zygote's.
    shared: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Duration,
    resident: u64,
    private: u64,
}

impl Gauge {
    /// Its private memory in bytes at `now`, as exactly as it matters for `limit` (0 = none). Blocks for a moment.
    pub(super) fn look(&mut self, pid: u32, now: Duration, limit: u64) -> u64 {
        let Some((resident, anonymous)) = resident(pid) else { return self.private() };
        let shared = *self.shared.get_or_insert(anonymous);
        if self.is_due(now, resident, limit) {
            // Whoever may not read it, since the worker has closed itself to others, sees what it has taken since.
            let private = private(pid).unwrap_or_else(|| anonymous.saturating_sub(shared));
            self.last = Some(Reading { at: now, resident, private });
        }
        self.private()
    }

    fn private(&self) -> u64 {
        self.last.map_or(0, |last| last.private)
    }

    /// Private memory is never more than what is resident, and grows with it, but for pages that were shared.
    fn is_due(&self, now: Duration, resident: u64, limit: u64) -> bool {
        let Some(last) = self.last else { return true };
        let age = now.saturating_sub(last.at);
        if age >= REST {
            return true;
        }
        if limit == 0 || resident <= limit {
            return false;
        }
        let room = limit.saturating_sub(last.private);
        age >= CLOSE || resident.saturating_sub(last.resident) > room / 4
    }
}

/// What is resident of the process `pid`, and what of that belongs to no file, in bytes.
fn resident(pid: u32) -> Option<(u64, u64)> {
    let page = rustix::param::page_size() as u64;
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some((resident.saturating_mul(page), resident.saturating_sub(shared).saturating_mul(page)))
}

/// What is mapped by the process `pid` alone, in bytes.
fn private(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let mut kilobytes = 0u64;
    for line in text.lines() {
        let counted = ["Private_Clean:", "Private_Dirty:"].iter().find_map(|name| line.strip_prefix(name));
        if let Some(figure) = counted {
            kilobytes = kilobytes.saturating_add(figure.trim().strip_suffix("kB")?.trim().parse().ok()?);
        }
    }
    // A process that has just ended has no mappings left.
    (kilobytes > 0).then(|| kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_takes_memory_is_seen_to_have_it() {
        // Not this one, whose other tests take memory and give it back meanwhile.
        let script = "print(flush=True); input(); hog = b'x' * (64 << 20); print(flush=True); input()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (pid, mut input, mut output) =
            (child.id(), child.stdin.take().unwrap(), child.stdout.take().unwrap());
        // It runs: before that it may have no memory of its own to look at.
        output.read_exact(&mut [0]).unwrap();
        let before = private(pid).unwrap();
        input.write_all(b"\n").unwrap();
        output.read_exact(&mut [0]).unwrap();
        let after = private(pid).unwrap();
        assert!(after >= before + (48 << 20), "{before} {after}");
        let (resident, anonymous) = resident(pid).unwrap();
        assert!(resident >= after && anonymous <= resident);
        drop(input);
        child.wait().unwrap();
    }

    #[test]
    fn it_is_read_when_it_may_matter() {
        let at = Duration::from_secs(100);
        let gauge = Gauge { last: Some(Reading { at, resident: 1000, private: 500 }), shared: None };
        let soon = at + Duration::from_millis(100);
        assert!(
            !gauge.is_due(soon, 4000, 0) && !gauge.is_due(soon, 2000, 2000),
            "it cannot be above the limit"
        );
        assert!(!gauge.is_due(soon, 1100, 900) && gauge.is_due(soon, 1101, 900), "it grows");
        assert!(gauge.is_due(at + CLOSE, 1100, 900) && gauge.is_due(at + REST, 1, 0));
        assert!(Gauge::default().is_due(at, 1, 0));
    }

    #[test]
    fn a_process_that_is_gone_has_what_it_had() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.look(u32::MAX, Duration::ZERO, 1), 0);
        let had = gauge.look(std::process::id(), Duration::ZERO, 1);
        assert!(had > 0);
        assert_eq!(gauge.look(u32::MAX, REST, 1), had);
    }
}
