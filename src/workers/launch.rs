//! The start of one worker: its sockets and pipes, and the tasks that listen to it.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::MemfdFlags;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{mpsc, watch};

use super::core::Core;
use super::floor::Floor;
use super::handed::Handed;
use super::made::{self, Seen};
use super::output::{self, Label};
use super::pool::{self, Generation, Worker};
use super::process::{Ending, Kit, Process, Zygote};
use super::report::Loaded;
use super::run_dir::Door;
use super::status::{Message, Reader};

/// How long after its end a worker's last messages are still read: others may hold its socket open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long after its status socket was closed word of a worker's end may take to come.
const DEAF: Duration = Duration::from_secs(1);

/// What is heard of a worker.
#[derive(Debug)]
pub(super) enum Event {
    /// It answers.
    Ready(Box<Loaded>, Seen),
    /// It does not load.
    Failed { error: String, traceback: Option<String>, seen: Seen },
    /// It has read more files.
    Seen(Seen),
    /// So many of so many threads are held by calls that nobody waits for.
    Stuck(u64, u64),
    /// It has closed its status socket and lives: it cannot be watched any more.
    Deaf,
    /// It has ended.
    Ended(Ending),
}

/// A worker that was asked for.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) process: Process,
    pub(super) worker: Arc<Worker>,
    /// Closed, it ends the worker.
    pub(super) line: OwnedWriteHalf,
}

/// Who hears of a worker, and by which number it is known there.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) number: u64,
    pub(super) events: mpsc::Sender<(u64, Event)>,
}

/// Asks `zygote` for a worker that serves `door`. What comes of it is told to `ear`.
pub(super) fn launch(
    floor: &Floor,
    core: &Arc<Core>,
    generation: &Generation,
    (zygote, door): (&Arc<Zygote>, &Door),
    ear: Ear,
) -> Result<Launched, String> {
    let egress = pool::way(&floor.clients, door.path(), &generation.spec)?;
    let authorities = generation.spec.ca_bundle.as_deref().map(|text| door.keep(text)).transpose();
    let authorities =
        authorities.map_err(|error| format!("the authorities for the handler cannot be written: {error}"))?;
    let told = generation.spec.told(&core.integration, authorities.as_deref());
    let (kit, ends) =
        kit(door, &told).map_err(|error| format!("a worker's sockets cannot be made: {error}"))?;
    let since = SystemTime::now();
    let process = Process::spawn(ear.number, zygote, kit);
    let (pid, ended) = (process.pid(), process.ended());
    let handed = Arc::new(Handed::new(&generation.spec));
    let worker = Arc::new(Worker::new(egress, Arc::clone(pid), ended.clone(), handed));
    for (pipe, is_error) in [(ends.stdout, false), (ends.stderr, true)] {
        let (integration, handed) = (Some(Arc::clone(&core.integration)), Some(Arc::clone(&worker.handed)));
        let label = Label { integration, pid: Arc::clone(pid), is_error, handed };
        floor.tasks.spawn(output::follow(pipe, label, ended.clone()));
    }
    let (line_in, line) = ends.status.into_split();
    let listener = Listener {
        directory: generation.spec.directory.clone(),
        line: line_in,
        worker: Arc::clone(&worker),
        core: Arc::clone(core),
        since,
        ear,
    };
    floor.tasks.spawn(listener.listen(ended));
    Ok(Launched { process, worker, line })
}

struct Ends {
    status: UnixStream,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

fn kit(door: &Door, told: &[u8]) -> io::Result<(Kit, Ends)> {
    let (ours, status) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let (stdout_ours, stdout) = io::pipe()?;
    let (stderr_ours, stderr) = io::pipe()?;
    let ends = Ends {
        status: UnixStream::from_std(ours)?,
        stdout: pipe::Receiver::from_owned_fd(stdout_ours.into())?,
        stderr: pipe::Receiver::from_owned_fd(stderr_ours.into())?,
    };
    let kit = Kit {
        listener: door.listener().try_clone()?.into(),
        status: status.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
        spec: memory_file(told)?,
    };
    Ok((kit, ends))
}

/// A file that only its descriptor leads to: its content may be secret.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

struct Listener {
    directory: PathBuf,
    line: OwnedReadHalf,
    worker: Arc<Worker>,
    core: Arc<Core>,
    /// When it began to read files.
    since: SystemTime,
    ear: Ear,
}

impl Listener {
    /// Passes on what the worker says, in its order, and at last its end.
    async fn listen(self, mut ended: watch::Receiver<Option<Ending>>) {
        let mut over = ended.clone();
        let hear = self.hear();
        tokio::pin!(hear);
        tokio::select! {
            () = &mut hear => {}
            _ = Ending::of(&mut over) => drop(tokio::time::timeout(LAST_WORDS, &mut hear).await),
        }
        if tokio::time::timeout(DEAF, Ending::of(&mut ended)).await.is_err() {
            self.tell(Event::Deaf).await;
        }
        let ending = Ending::of(&mut ended).await;
        self.tell(Event::Ended(ending)).await;
    }

    /// To the end of what it says.
    async fn hear(&self) {
        let mut reader = Reader::new(&self.directory);
        let mut bytes = [0; 4 << 10];
        loop {
            if self.line.readable().await.is_err() {
                return;
            }
            let length = match self.line.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            for message in reader.push(&bytes[..length]) {
                self.take(message).await;
            }
            // A worker that writes without end must not keep this thread from the others.
            tokio::task::yield_now().await;
        }
    }

    async fn take(&self, message: Message) {
        let event = match message {
            Message::Beat => {
                if self.worker.beat() {
                    self.core.freed_one();
                }
                return;
            }
            Message::Ready(loaded, files) => {
                // The zygote tells it on another socket, and may be slower: nobody could watch what this one takes, or end it.
                self.worker.pid.wait().await;
                Event::Ready(loaded, self.see(files).await)
            }
            Message::Failed { error, traceback, files } => {
                let clean = |words: String| self.worker.handed.clean(&words).into_owned();
                let (error, traceback) = (clean(error), traceback.map(clean));
                Event::Failed { error, traceback, seen: self.see(files).await }
            }
            Message::Files(files) => Event::Seen(self.see(files).await),
            Message::Stuck(stuck, threads) => Event::Stuck(stuck, threads),
        };
        self.tell(event).await;
    }

    async fn see(&self, files: BTreeSet<PathBuf>) -> Seen {
        let since = self.since;
        tokio::task::spawn_blocking(move || made::see(files, since)).await.unwrap_or_default()
    }

    async fn tell(&self, event: Event) {
        // Nobody listens any more: then nothing more is done about this worker.
        let _ = self.ear.events.send((self.ear.number, event)).await;
    }
}
