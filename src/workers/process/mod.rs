//! Processes: the zygote that forks workers, the workers themselves, signals to them and word of their ends.

mod control;
mod ending;
mod orphans;
mod zygote;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::Pid;
use tokio::sync::{SetOnce, mpsc, watch};

pub(super) use ending::Ending;
pub(super) use orphans::{adopt_orphans, reap_strays};
pub(super) use zygote::{Interpreter, Recipe, State, Zygote};

/// What a worker is given, in the order in which it expects them.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) listener: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) spec: OwnedFd,
}

/// Signals that workers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGUSR1, to the worker alone: it writes the stacks of its threads.
    Dump,
    /// SIGTERM, to its whole process group.
    Terminate,
    /// SIGKILL, to its whole process group.
    Kill,
}

/// One worker process. Dropped, it goes on: its end comes by signals, or by its status socket being closed.
#[derive(Debug)]
pub(super) struct Process {
    id: u64,
    pid: Arc<SetOnce<u32>>,
    ended: watch::Receiver<Option<Ending>>,
    zygote: Arc<Zygote>,
}

/// What is asked of a zygote's keeper.
#[derive(Debug)]
enum Ask {
    Spawn(u64, Kit, Record),
    Signal(u64, Signal),
    Abandon,
}

/// What the keeper of a zygote knows of a worker.
#[derive(Debug)]
struct Record {
    pid: Arc<SetOnce<u32>>,
    ended: watch::Sender<Option<Ending>>,
}

/// Processes whose ends are waited for by name, so that nobody else takes them.
#[derive(Clone, Debug)]
pub(super) struct Wards(Arc<Mutex<HashSet<i32>>>);

impl Process {
    /// Asks `zygote` for a worker. What comes of it is told by `ended`.
    pub(super) fn spawn(id: u64, zygote: &Arc<Zygote>, kit: Kit) -> Self {
        let pid = Arc::new(SetOnce::new());
        let (tell, ended) = watch::channel(None);
        let record = Record { pid: Arc::clone(&pid), ended: tell };
        if let Err(mpsc::error::SendError(Ask::Spawn(_, _, record))) =
            zygote.asks.send(Ask::Spawn(id, kit, record))
        {
            record.end(Ending::Refused("the interpreter has ended".to_owned()));
        }
        Self { id, pid, ended, zygote: Arc::clone(zygote) }
    }

    /// Its process id, once it is known.
    pub(super) fn pid(&self) -> &Arc<SetOnce<u32>> {
        &self.pid
    }

    /// Sends a signal, if it still lives.
    pub(super) fn signal(&self, signal: Signal) {
        // Nobody to ask: then it has ended.
        let _ = self.zygote.asks.send(Ask::Signal(self.id, signal));
    }

    /// Ends the zygote, since it does not do what it is asked; its workers are signalled directly from then on.
    pub(super) fn abandon_zygote(&self) {
        let _ = self.zygote.asks.send(Ask::Abandon);
    }

    /// Word of its end; clones may be kept.
    pub(super) fn ended(&self) -> watch::Receiver<Option<Ending>> {
        self.ended.clone()
    }
}

impl Record {
    fn end(&self, ending: Ending) {
        self.ended.send_replace(Some(ending));
    }
}

impl Drop for Record {
    /// However its keeper ends, nobody waits for ever.
    fn drop(&mut self) {
        self.ended.send_if_modified(|ended| {
            let untold = ended.is_none();
            if untold {
                *ended = Some(Ending::Unknown);
            }
            untold
        });
    }
}

impl Signal {
    fn raw(self) -> rustix::process::Signal {
        match self {
            Self::Dump => rustix::process::Signal::USR1,
            Self::Terminate => rustix::process::Signal::TERM,
            Self::Kill => rustix::process::Signal::KILL,
        }
    }
}

impl Wards {
    /// Those of this process, as all children are: whoever else takes note of ends in it must let them alone.
    pub(super) fn of_this_process() -> Self {
        static ALL: OnceLock<Wards> = OnceLock::new();
        ALL.get_or_init(|| Self(Arc::default())).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, pid: Pid) {
        self.lock().insert(pid.as_raw_pid());
    }

    fn remove(&self, pid: Pid) {
        self.lock().remove(&pid.as_raw_pid());
    }

    fn has(&self, pid: Pid) -> bool {
        self.lock().contains(&pid.as_raw_pid())
    }
}

fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().filter(|raw| *raw > 1).and_then(Pid::from_raw)
}
