//! A zygote: one Python process that has imported litellm, forks workers and tells of their ends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use super::control::{Control, MOST};
use super::ending::Ending;
use super::{Ask, Kit, Record, Wards, orphans, pid};
use crate::config::valid::Variables;
use crate::tasks::Tasks;
use crate::workers::output::{self, Label};
use crate::workers::pinned;

/// What is set besides the environment that is passed on: litellm neither looks for a model list nor calls home.
const SWITCHES: [(&str, &str); 2] =
    [("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_OFFLINE_MODE", "true")];
/// How long a zygote may take to end once its control socket is closed.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// What a zygote is made of: two that are made of the same are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::workers) struct Recipe {
    pub(in crate::workers) python: String,
    pub(in crate::workers) environment: Variables,
    /// The script, which the zygote and all its workers run.
    pub(in crate::workers) script: PathBuf,
}

/// A zygote. Dropped by everybody, it ends.
#[derive(Debug)]
pub(in crate::workers) struct Zygote {
    pub(super) asks: mpsc::UnboundedSender<Ask>,
    state: watch::Receiver<State>,
}

/// Whether it forks.
#[derive(Clone, Debug)]
pub(in crate::workers) enum State {
    /// It imports.
    Starting,
    /// It forks.
    Ready(Arc<Interpreter>),
    /// It has ended.
    Dead(Arc<Failure>),
}

/// The interpreter that it turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::workers) struct Interpreter {
    pub(in crate::workers) python: String,
    pub(in crate::workers) executable: String,
    pub(in crate::workers) prefix: String,
    pub(in crate::workers) litellm: String,
}

/// Why there is no zygote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::workers) struct Failure {
    /// What is wrong and what to do.
    pub(in crate::workers) words: String,
    /// Whether another try would end in the same way.
    pub(in crate::workers) is_final: bool,
    /// Where the interpreter looks for packages, if it said so.
    pub(in crate::workers) prefix: Option<String>,
}

impl Zygote {
    /// Starts one. On the runtime that looks after it.
    pub(in crate::workers) fn start(
        recipe: Recipe,
        adopted: bool,
        wards: &Wards,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let (ask, asks) = mpsc::unbounded_channel();
        let (tell, state) = watch::channel(State::Starting);
        let keeper = Keeper {
            recipe,
            asks,
            tell,
            adopted,
            wards: wards.clone(),
            tasks: tasks.clone(),
            records: HashMap::new(),
            pending: VecDeque::new(),
            ended: watch::Sender::new(None),
            abandoned: false,
        };
        tasks.spawn(keeper.run());
        Arc::new(Self { asks: ask, state })
    }

    /// How it is.
    pub(in crate::workers) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Changes of how it is.
    pub(in crate::workers) fn changes(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

struct Keeper {
    recipe: Recipe,
    asks: mpsc::UnboundedReceiver<Ask>,
    tell: watch::Sender<State>,
    adopted: bool,
    wards: Wards,
    tasks: Tasks,
    /// Workers that have not ended.
    records: HashMap<u64, Record>,
    /// What is still to be sent.
    pending: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// How the process itself ended.
    ended: watch::Sender<Option<Ending>>,
    /// It does not do what it is asked.
    abandoned: bool,
}

impl Keeper {
    async fn run(mut self) {
        let (control, mut child) = match self.begin().await {
            Ok(begun) => begun,
            Err(failure) => return self.dead(failure),
        };
        let pid = rustix::process::Pid::from_child(&child);
        self.wards.add(pid);
        let failure = self.serve(&control).await;
        let ending = if self.abandoned {
            // It must be dead before it can see the end of its control socket, at which it would kill every worker.
            let _ = child.kill();
            bury(child).await
        } else {
            drop(control);
            bury(child).await
        };
        self.wards.remove(pid);
        self.ended.send_replace(Some(ending.clone()));
        self.dead(failure.unwrap_or_else(|| self.untold(&ending)));
        orphans::guard(std::mem::take(&mut self.records), &mut self.asks, self.adopted, &self.wards).await;
    }

    fn dead(&self, failure: Failure) {
        self.tell.send_replace(State::Dead(Arc::new(failure)));
    }

    fn untold(&self, ending: &Ending) -> Failure {
        let words = match *self.tell.borrow() {
            State::Starting => format!(
                "the interpreter {} {ending} before it was ready: what it said is in the log (handlers.python)",
                self.recipe.python
            ),
            State::Ready(_) | State::Dead(_) => format!("the interpreter {} {ending}", self.recipe.python),
        };
        Failure { words, is_final: false, prefix: None }
    }

    async fn begin(&mut self) -> Result<(Control, Child), Failure> {
        let python = self.recipe.python.clone();
        let broken = move |error: &io::Error| Failure {
            words: match error.kind() {
                io::ErrorKind::NotFound => {
                    format!(
                        "the interpreter {python} was not found: name one that has litellm in handlers.python"
                    )
                }
                _ => format!("the interpreter {python} could not be started: {error} (handlers.python)"),
            },
            is_final: error.kind() == io::ErrorKind::NotFound
                || error.kind() == io::ErrorKind::PermissionDenied,
            prefix: None,
        };
        let (control, theirs) = Control::pair().map_err(|error| broken(&error))?;
        let recipe = self.recipe.clone();
        // Until the new program runs, starting it holds its thread up.
        let started = tokio::task::spawn_blocking(move || spawn(&recipe, theirs)).await;
        let mut child =
            started.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(|e| broken(&e))?;
        let outputs = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let label =
            |is_error| Label { integration: None, pid: Arc::new(child.id().into()), is_error, handed: None };
        for (pipe, is_error) in [(outputs.0, false), (outputs.1, true)] {
            match pipe.map(pipe::Receiver::from_owned_fd) {
                Some(Ok(pipe)) => {
                    drop(self.tasks.spawn(output::follow(pipe, label(is_error), self.ended.subscribe())))
                }
                Some(Err(error)) => tracing::warn!(%error, "what an interpreter says cannot be read"),
                None => {}
            }
        }
        Ok((control, child))
    }

    /// Until it ends or is no longer wanted: why it failed, if it said so.
    async fn serve(&mut self, control: &Control) -> Option<Failure> {
        let mut packet = vec![0; MOST];
        let mut failure = None;
        loop {
            let next = self.pending.front();
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(Ask::Spawn(id, kit, record)) => self.spawn(id, kit, record),
                    Some(Ask::Signal(id, signal)) => self.signal(id, signal.raw().as_raw()),
                    Some(Ask::Abandon) => {
                        tracing::error!(python = %self.recipe.python, "an interpreter does not do what it is asked: it is ended");
                        self.abandoned = true;
                        return failure;
                    }
                    None => return failure,
                },
                sent = send(control, next), if next.is_some() => {
                    self.pending.pop_front();
                    if let Err(error) = sent {
                        tracing::warn!(%error, "an interpreter cannot be reached");
                        return failure;
                    }
                }
                received = control.receive(&mut packet) => match received {
                    Ok(0) | Err(_) => return failure,
                    Ok(length) => match serde_json::from_slice(&packet[..length]) {
                        Ok(event) => failure = self.heard(&event).or(failure),
                        Err(error) => tracing::warn!(%error, "an interpreter said something that makes no sense"),
                    },
                },
            }
        }
    }

    fn spawn(&mut self, id: u64, kit: Kit, record: Record) {
        let Kit { listener, status, stdout, stderr, spec } = kit;
        let packet = json!({"verb": "spawn", "id": id}).to_string().into_bytes();
        self.pending.push_back((packet, vec![listener, status, stdout, stderr, spec]));
        self.records.insert(id, record);
    }

    fn signal(&mut self, id: u64, signal: i32) {
        if self.records.contains_key(&id) {
            let packet = json!({"verb": "signal", "id": id, "signal": signal}).to_string().into_bytes();
            self.pending.push_back((packet, Vec::new()));
        }
    }

    /// One event; why it failed, if that is what it says.
    fn heard(&mut self, event: &Value) -> Option<Failure> {
        let id = event["id"].as_u64();
        match event["event"].as_str() {
            Some("ready") => {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                let (python, executable) = (text("python"), text("executable"));
                let interpreter =
                    Interpreter { python, executable, prefix: text("prefix"), litellm: text("litellm") };
                self.tell.send_replace(State::Ready(Arc::new(interpreter)));
            }
            Some("failed") => return Some(failure(event, &self.recipe.python)),
            Some("spawned") => {
                let spawned = event["pid"].as_u64().and_then(|raw| u32::try_from(raw).ok());
                if let Some((record, raw)) = id.and_then(|id| self.records.get(&id)).zip(spawned) {
                    let _ = record.pid.set(raw);
                    pid(raw).into_iter().for_each(|pid| self.wards.add(pid));
                }
            }
            Some("exited") => {
                if let Some(record) = id.and_then(|id| self.records.remove(&id)) {
                    record
                        .pid
                        .get()
                        .copied()
                        .and_then(pid)
                        .into_iter()
                        .for_each(|pid| self.wards.remove(pid));
                    record.end(ending(event));
                }
            }
            Some("refused") => {
                if let Some(record) = id.and_then(|id| self.records.remove(&id)) {
                    record.end(Ending::Refused(
                        event["error"].as_str().unwrap_or("no reason given").to_owned(),
                    ));
                }
            }
            _ => tracing::debug!("an interpreter said something unknown"),
        }
        None
    }
}

/// Never asked for where there is nothing to send.
async fn send(control: &Control, next: Option<&(Vec<u8>, Vec<OwnedFd>)>) -> io::Result<()> {
    match next {
        Some((packet, fds)) => control.send(packet, fds).await,
        None => Ok(()),
    }
}

fn spawn(recipe: &Recipe, control: OwnedFd) -> io::Result<Child> {
    std::process::Command::new(&recipe.python)
        .arg("-u")
        .arg(&recipe.script)
        .env_clear()
        .envs(recipe.environment.0.iter().map(|(name, value)| (name, value)))
        .envs(SWITCHES)
        .stdin(Stdio::from(control))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits for the end of a zygote whose control socket is closed, and helps it on if it does not come.
async fn bury(mut child: Child) -> Ending {
    let begun = tokio::time::Instant::now();
    let mut killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ending::of_child(status),
            Ok(None) => {}
            Err(_) => return Ending::Unknown,
        }
        if begun.elapsed() >= PATIENCE && !killed {
            killed = true;
            let _ = child.kill();
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ending(event: &Value) -> Ending {
    let number = |key: &str| event[key].as_i64().and_then(|number| i32::try_from(number).ok());
    match (number("code"), number("signal")) {
        (_, Some(signal)) => Ending::Signalled(signal),
        (Some(code), None) => Ending::Exited(code),
        (None, None) => Ending::Unknown,
    }
}

/// What it says was missing, with the command that brings it.
fn failure(event: &Value, python: &str) -> Failure {
    let text = |key: &str| event[key].as_str().filter(|text| !text.is_empty());
    let executable = text("executable").unwrap_or(python);
    let prefix = text("prefix").unwrap_or("unknown");
    let error = text("error").unwrap_or("no reason given");
    let install = format!(
        "`{executable} -m pip install {}`, or name an interpreter that has it in handlers.python",
        pinned()
    );
    let words = match text("kind") {
        Some("litellm_missing") => {
            format!("litellm is not installed for {executable} (prefix {prefix}): {install}")
        }
        Some("aiohttp_missing") => {
            format!("aiohttp is not installed for {executable} (prefix {prefix}): {install}")
        }
        Some("litellm_broken") => {
            format!("litellm cannot be imported by {executable} (prefix {prefix}): {error}: {install}")
        }
        _ => format!("the interpreter {executable} (prefix {prefix}) cannot run handlers: {error}"),
    };
    Failure { words, is_final: true, prefix: text("prefix").map(ToOwned::to_owned) }
}
