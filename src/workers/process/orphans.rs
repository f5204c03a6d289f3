//! Processes whose parent has gone: Outrider takes them on, signals them and takes note of their ends.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, kill_process_group, waitid, waitpid,
};
use tokio::sync::mpsc;

use super::{Ask, Ending, Record, Signal, Wards, pid};

/// How often it is looked whether an orphan has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Makes Outrider the parent of what its children leave behind. Whether that worked.
pub(in crate::workers) fn adopt_orphans() -> bool {
    rustix::process::set_child_subreaper(Some(getpid())).is_ok()
}

/// Looks after the workers of a zygote that has ended, until they have too.
pub(super) async fn guard(
    mut records: HashMap<u64, Record>,
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    adopted: bool,
    wards: &Wards,
) {
    let pid_of = |record: &Record| record.pid.get().copied().and_then(pid);
    // Whose number is not known cannot be watched; it ends when its status socket is closed.
    records.retain(|_, record| pid_of(record).is_some());
    if !adopted {
        // Somebody else is told of their ends: later their numbers may be anyone's.
        records.values().filter_map(pid_of).for_each(|pid| send(pid, Signal::Kill));
        records.clear();
    }
    while !records.is_empty() {
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(Ask::Signal(id, signal)) => {
                    if let Some(pid) = records.get(&id).and_then(pid_of) {
                        send(pid, signal);
                    }
                }
                Some(Ask::Spawn(..) | Ask::Abandon) => {}
                None => tokio::time::sleep(LOOK).await,
            },
            () = tokio::time::sleep(LOOK) => {}
        }
        records.retain(|_, record| {
            let ending = pid_of(record).map_or(Some(Ending::Unknown), ended);
            if let Some(ending) = ending {
                if let Some(pid) = pid_of(record) {
                    bury(pid, wards);
                }
                record.end(ending);
                return false;
            }
            true
        });
    }
}

/// How the child `pid` ended, if it has.
fn ended(pid: Pid) -> Option<Ending> {
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => Some(Ending::of_orphan(status)),
        Ok(None) | Err(Errno::INTR) => None,
        Err(_) => Some(Ending::Unknown),
    }
}

/// What the worker has started goes with it. Its number is no other group's as long as one of them lives.
fn bury(pid: Pid, wards: &Wards) {
    let _ = kill_process_group(pid, Signal::Kill.raw());
    wards.remove(pid);
}

/// Only to children that nobody has waited for yet: their numbers are theirs.
fn send(pid: Pid, signal: Signal) {
    // A worker makes its group first thing; before that there is only itself.
    let sent = match signal {
        Signal::Dump => kill_process(pid, signal.raw()),
        Signal::Terminate | Signal::Kill => {
            kill_process_group(pid, signal.raw()).or_else(|_| kill_process(pid, signal.raw()))
        }
    };
    if let Err(error) = sent {
        tracing::debug!(pid = pid.as_raw_pid(), %error, "a worker was not there to be signalled");
    }
}

/// Takes note of the ends of processes that dead workers have left behind and that are not among `wards`: without it
/// they would stay as zombies. What Outrider itself has started is in its own session and is let alone.
pub(in crate::workers) fn reap_strays(wards: &Wards) {
    let Some(own) = session_of(getpid()) else { return };
    for child in children() {
        if !wards.has(child) && is_dead(child) && session_of(child).is_some_and(|theirs| theirs != own) {
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        }
    }
}

/// The session of the process `of`, 0 where its leader is outside our container: a number that `getsid` of rustix
/// takes for impossible, and that every process of a container has which did not call `setsid` in it.
fn session_of(of: Pid) -> Option<u32> {
    session_in(&fs::read_to_string(format!("/proc/{}/stat", of.as_raw_pid())).ok()?)
}

/// The sixth field of a line of `/proc/PID/stat` (proc_pid_stat(5)), whose second may contain anything.
fn session_in(line: &str) -> Option<u32> {
    let (_, fields) = line.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(3)?.parse().ok()
}

fn is_dead(child: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), look).is_ok_and(|found| found.is_some())
}

fn children() -> Vec<Pid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|raw| pid(raw.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_whatever_the_program_is_called_and_wherever_its_leader_is() {
        assert_eq!(session_in("7 (a) b (c) S 1 7 5 0 -1 4194560 0\n"), Some(5));
        assert_eq!(session_in("2 (outrider) S 1 0 0 0 -1 4194560 0\n"), Some(0));
        assert_eq!(session_in(""), None);
        assert_eq!(session_in("2 (outrider) S 1"), None);
    }

    #[test]
    fn what_we_have_started_is_in_our_session_until_it_is_gone() {
        let own = session_of(getpid()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = pid(child.id()).unwrap();
        assert_eq!(session_of(pid), Some(own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(session_of(pid), None);
    }

    #[test]
    fn an_end_that_somebody_in_this_process_waits_for_is_left_to_them() {
        // In a session of its own, as workers are, and gone once its stdin is.
        let script = "import os; os.setsid(); os.read(0, 1); os._exit(5)";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (pid, wards) = (pid(child.id()).unwrap(), Wards::of_process());
        wards.add(pid);
        drop(child.stdin.take());
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        reap_strays(&Wards::of_process());
        assert_eq!(ended(pid), Some(Ending::Exited(5)));
        wards.remove(pid);
        assert!(child.wait().is_err(), "its end was taken");
    }
}
