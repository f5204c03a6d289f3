//! What is told of a crew: to the admin side, to metrics and to `check`.

use std::path::PathBuf;

/// How a crew is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrewStatus {
    /// Whether it serves.
    pub state: CrewState,
    /// Why the newest settings or files are not what serves: the one before goes on.
    pub stale: Option<String>,
    /// Whether the newest settings or files have neither come to serve nor failed: how they turn out is still to be seen.
    pub settling: bool,
    /// The last thing that went wrong with a worker, even if the crew has got over it.
    pub trouble: Option<String>,
    /// Which generation serves, counted from 1; 0 before the first.
    pub generation: u64,
    /// Its processes.
    pub workers: Vec<WorkerStatus>,
    /// How often a worker was replaced or ended, by cause: all causes, in a fixed order.
    pub restarts: [(&'static str, u64); Cause::ALL.len()],
    /// How many calls were handed to workers since the crew began.
    pub calls: u64,
    /// How many calls are in flight.
    pub in_flight: usize,
    /// How many requests wait for a worker.
    pub waiting: usize,
    /// What serves.
    pub loaded: Option<Loaded>,
    /// The files whose change makes a new generation.
    pub files: Vec<PathBuf>,
}

impl CrewStatus {
    /// Whether a process is there that takes calls: between the end of the last one and the next none may be.
    pub fn takes_calls(&self) -> bool {
        let does = |worker: &WorkerStatus| matches!(worker.state, WorkerState::Ready | WorkerState::Blocked);
        self.state == CrewState::Ready && self.workers.iter().any(does)
    }
}

/// Whether a crew serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrewState {
    /// No worker has been ready yet, or none is there and the last start of one has failed: it is tried again.
    Starting,
    /// A generation serves; its workers may be restarting.
    Ready,
    /// Nothing serves, and nothing is tried before files or settings change: why, and what to do.
    Failed(String),
    /// It is being stopped.
    Stopping,
}

/// One worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its process; `None` before it is known.
    pub pid: Option<u32>,
    /// What it does.
    pub state: WorkerState,
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls so far.
    pub calls: u64,
    /// Its private memory when last looked at, in bytes; 0 before that.
    pub memory: u64,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Loads the handler.
    Starting,
    /// Takes calls.
    Ready,
    /// Was ready, and its event loop is silent: something blocks it.
    Blocked,
    /// Ends the calls that it has.
    Draining,
}

impl WorkerState {
    /// All of them, with the words for them in metrics and on the admin side.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Starting, "starting"),
        (Self::Ready, "ready"),
        (Self::Blocked, "blocked"),
        (Self::Draining, "draining"),
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }
}

/// What a worker has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The handler's class.
    pub class: String,
    /// Its methods that are called.
    pub methods: Vec<String>,
    /// How they are called: `direct` or `litellm`.
    pub style: String,
    /// What was strange, in words.
    pub warnings: Vec<String>,
    /// Python's version.
    pub python: String,
    /// litellm's version.
    pub litellm: String,
}

/// Why a worker ended or was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It did not load: exception, wrong class, or it ended before it was ready.
    Load,
    /// It was not ready in time.
    Slow,
    /// It ended by itself, or someone else ended it.
    Crash,
    /// Its event loop was blocked for too long.
    Hang,
    /// It used too much memory.
    Memory,
    /// It had served as many calls as one worker may.
    Requests,
    /// Too many of its threads were held by calls that nobody waits for.
    Stuck,
}

impl Cause {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Load, "load"),
        (Self::Slow, "start_timeout"),
        (Self::Crash, "crash"),
        (Self::Hang, "hang"),
        (Self::Memory, "memory"),
        (Self::Requests, "max_requests"),
        (Self::Stuck, "stuck_threads"),
    ];
}
