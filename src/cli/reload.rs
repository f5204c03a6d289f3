//! `outrider reload`: asks the running process to read its configuration again, and tells how it went.
//!
//! The admin listener changes nothing, so the way is SIGHUP: the process tells its id there, and how the reload ended.

use std::io::{self, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::Instant;

use super::check::world;
use super::{Exit, terminal};
use crate::config::valid::{Listen, Settings};
use crate::config::{self, Options};

/// The longest that one question to the admin listener may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest that `--wait` waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// What else it may be if nobody answers.
const ELSEWHERE: &str = "if this key was changed since the process started, it still answers at its old address: send it SIGHUP \
                         (`kill -HUP PID`), and restart it to have the new one";
/// More of an answer is not read.
const MOST: u64 = 64 << 20;

/// What reloading takes.
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Wait until it has been taken (exit 0; 3 if an integration then cannot serve, or not what is new of it) or refused
    /// (exit 78)
    #[arg(long)]
    wait: bool,
}

/// How a reload ended that was not taken.
enum Failed {
    /// The configuration is refused, with the report.
    Config(String),
    /// It could not be asked, in words.
    Other(String),
}

/// A reload that was asked for, or that was taken.
struct Asked {
    text: String,
    /// What is not as whoever asked for it expects.
    notes: String,
    exit: Exit,
    /// The keys whose new values wait for a restart.
    restart: Vec<String>,
}

impl Asked {
    /// Says that what waits for a restart would not survive it.
    fn judge(&mut self, settings: &Settings) {
        if !self.restart.iter().any(|key| key == "server.tls") {
            return;
        }
        for why in world::of_server_tls(settings) {
            let why = terminal::line(&why);
            self.notes +=
                &format!("error: server.tls: {why}: the old certificate stays, and a restart would fail\n");
            self.exit = Exit::Partly;
        }
    }
}

/// Reloads. A configuration that is wrong is shown, and the process is left alone.
pub(super) fn run(reload: &Reload) -> Exit {
    let (text, notes, exit) = match try_to(reload) {
        Ok(Asked { text, notes, exit, .. }) => (format!("{text}\n"), notes, exit),
        Err(Failed::Config(text)) => (String::new(), text, Exit::Config),
        Err(Failed::Other(text)) => (String::new(), format!("error: {text}\n"), Exit::Failed),
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // Nothing can be said to someone whose terminal is gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let _ = err.write_all(notes.as_bytes()).and_then(|()| err.flush());
    exit
}

fn try_to(reload: &Reload) -> Result<Asked, Failed> {
    let options = Options::process(reload.config.clone());
    let loaded = config::load(&options).map_err(|problems| {
        let report = problems.render(io::stderr().is_terminal());
        Failed::Config(format!("{report}not reloaded: the running configuration stays\n"))
    })?;
    let warnings = loaded.warnings.render(io::stderr().is_terminal());
    let admin = loaded.settings.admin.listen.clone().ok_or_else(|| {
        Failed::Other("`admin.listen` is \"off\", so the process cannot be found: send it SIGHUP".to_owned())
    })?;
    let before = State::ask(&admin).map_err(|why| Failed::Other(format!("{why}; {ELSEWHERE}")))?;
    before.check().map_err(Failed::Other)?;
    kill_process(before.pid, Signal::HUP)
        .map_err(|error| Failed::Other(format!("SIGHUP to process {}: {error}", before.pid)))?;
    if !reload.wait {
        let text = format!("process {} was asked to reload; `--wait` would tell how it went", before.pid);
        return Ok(Asked { text, notes: warnings, exit: Exit::Done, restart: Vec::new() });
    }
    let mut asked = wait(&admin, &before)?;
    asked.judge(&loaded.settings);
    asked.notes += &warnings;
    Ok(asked)
}

/// Waits until the reload is over, and every handler has shown whether its new files serve.
fn wait(admin: &Listen, before: &State) -> Result<Asked, Failed> {
    let start = Instant::now();
    let mut taken = None;
    while start.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
        let now = State::ask(admin).map_err(Failed::Other)?;
        if now.pid != before.pid {
            return Err(Failed::Other(format!(
                "process {} is gone, {} answers in its place",
                before.pid, now.pid
            )));
        }
        if now.refused > before.refused {
            return Err(Failed::Config(format!("{}refused: the running configuration stays\n", now.text)));
        }
        if now.generation > before.generation {
            if now.integrations.iter().all(|one| !one.is_settling) {
                return Ok(now.told());
            }
            taken = Some(now);
        }
    }
    if let Some(now) = taken {
        return Ok(now.told());
    }
    Err(Failed::Other(format!("process {} has not reloaded in {PATIENCE:?}: see its log", before.pid)))
}

/// What the running process tells of itself.
struct State {
    pid: Pid,
    generation: u64,
    refused: u64,
    text: String,
    /// The keys whose new values wait for a restart.
    restart: Vec<String>,
    integrations: Vec<One>,
}

/// What it tells of one integration.
struct One {
    name: String,
    /// Whether it is still to be seen how its handler does: it starts, for the first time or again.
    is_settling: bool,
    /// Why it, or what is new of it, does not serve.
    trouble: Option<String>,
    /// What went wrong last with a process of its handler.
    mishap: Option<String>,
}

impl One {
    fn read(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let handler = &value["handler"];
        let failed = || {
            (value["state"] == "failed")
                .then(|| format!("cannot serve: {}", text(&value["remedy"]).unwrap_or_default()))
        };
        let stale = || Some(format!("goes on with its old files: {}", text(&value["stale"])?));
        let old = || Some(format!("goes on with the handler that it had: {}", text(&handler["stale"])?));
        let takes_calls = |worker: &Value| worker["state"] == "ready" || worker["state"] == "blocked";
        let is_alone = handler["workers"].as_array().is_some_and(|all| !all.iter().any(takes_calls));
        let is_starting = value["state"] == "starting" || value["state"] == "ready" && is_alone;
        Self {
            name: text(&value["name"]).unwrap_or_default(),
            is_settling: handler["settling"] == true || is_starting,
            trouble: failed().or_else(stale).or_else(old),
            mishap: text(&handler["trouble"]),
        }
    }
}

impl State {
    /// What to say of a reload that was taken.
    fn told(&self) -> Asked {
        let mut notes = String::new();
        for One { name, is_settling, trouble, mishap } in &self.integrations {
            match trouble {
                Some(why) => notes += &format!("error: integration `{name}` {}\n", terminal::line(why)),
                None if *is_settling => {
                    let why = mishap.as_ref().map(|why| format!(": {}", terminal::line(why)));
                    let why = why.unwrap_or_default();
                    notes += &format!(
                        "error: integration `{name}`: its handler is not ready after {PATIENCE:?}{why}\n"
                    );
                }
                None => {}
            }
        }
        let exit = if notes.is_empty() { Exit::Done } else { Exit::Partly };
        if !self.restart.is_empty() {
            let keys: Vec<_> = self.restart.iter().map(|key| format!("`{key}`")).collect();
            notes += &format!(
                "warning: a restart is needed for {}: the old values stay in use until then\n",
                keys.join(", ")
            );
        }
        let text = format!("process {} runs generation {}", self.pid, self.generation);
        Asked { text, notes, exit, restart: self.restart.clone() }
    }

    fn ask(admin: &Listen) -> Result<Self, String> {
        let (answer, shown) = match admin {
            Listen::Tcp(address) if address.port() == 0 => {
                return Err(
                    "the port of admin.listen is 0, which is another at each start: give it one".to_owned()
                );
            }
            Listen::Tcp(address) => {
                // What listens everywhere answers on loopback.
                let mut to = *address;
                if to.ip().is_unspecified() {
                    to.set_ip(if to.is_ipv4() {
                        [127, 0, 0, 1].into()
                    } else {
                        std::net::Ipv6Addr::LOCALHOST.into()
                    });
                }
                let ask = || {
                    let stream = TcpStream::connect_timeout(&to, ANSWER)?;
                    stream.set_read_timeout(Some(ANSWER))?;
                    get(stream)
                };
                (ask(), to.to_string())
            }
            Listen::Unix(path) => {
                let ask = || {
                    let stream = UnixStream::connect(path)?;
                    stream.set_read_timeout(Some(ANSWER))?;
                    get(stream)
                };
                (ask(), format!("unix:{}", path.display()))
            }
        };
        let answer =
            answer.map_err(|error| format!("no process answers at admin.listen {shown}: {error}"))?;
        Self::read(&answer).ok_or_else(|| format!("what answers at admin.listen {shown} is no Outrider"))
    }

    fn read(answer: &[u8]) -> Option<Self> {
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
        let value: Value = serde_json::from_slice(&answer[head + 4..]).ok()?;
        let config = &value["config"];
        let list = |key: &str| config["last_reload"][key].as_array().into_iter().flatten();
        Some(Self {
            pid: Pid::from_raw(i32::try_from(value["pid"].as_u64()?).ok()?)?,
            generation: value["generation"].as_u64()?,
            refused: config["reloads_refused"].as_u64()?,
            text: config["last_reload"]["text"].as_str().unwrap_or_default().to_owned(),
            restart: list("restart_needed_for").filter_map(Value::as_str).map(str::to_owned).collect(),
            integrations: value["integrations"].as_array().into_iter().flatten().map(One::read).collect(),
        })
    }

    /// Whether that id is the process that answered. Containers of one pod share their network and not their
    /// processes: the same id may be the runner's.
    fn check(&self) -> Result<(), String> {
        let program = |of: String| {
            let path = std::fs::read_link(format!("/proc/{of}/exe")).ok()?;
            let name = path.file_name()?.to_string_lossy().into_owned();
            // A binary that was replaced since it started.
            Some(name.trim_end_matches(" (deleted)").to_owned())
        };
        // A sidecar keeps its memory to itself (`PR_SET_DUMPABLE`), and with it what its link leads to, from all but root.
        let called = |of: String| std::fs::read_to_string(format!("/proc/{of}/comm")).ok();
        let Some(ours) = program("self".to_owned()) else { return Ok(()) };
        let is_ours = match program(self.pid.to_string()) {
            Some(theirs) => theirs == ours,
            None => called(self.pid.to_string()).is_some_and(|name| called("self".to_owned()) == Some(name)),
        };
        if is_ours {
            return Ok(());
        }
        Err(format!(
            "process {} is not to be seen from here as {ours}: run this in its container and as its user, or set `watch = true`",
            self.pid
        ))
    }
}

fn get(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    stream.write_all(b"GET /integrations HTTP/1.0\r\nhost: outrider\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_somebody_else_is_not_taken_for_a_process() {
        for answer in
            ["", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n{\"pid\": 0}", "\r\n\r\n{\"pid\":-1}"]
        {
            assert!(State::read(answer.as_bytes()).is_none(), "{answer}");
        }
        let answer =
            b"HTTP/1.0 200 OK\r\n\r\n{\"pid\":7,\"generation\":2,\"config\":{\"reloads_refused\":1}}";
        let state = State::read(answer).unwrap();
        assert_eq!((state.generation, state.refused), (2, 1));
    }

    #[test]
    fn a_handler_that_is_started_again_is_waited_for_and_at_last_told_with_what_went_wrong() {
        let answer = |state: &str, settling: bool, trouble: &str| {
            let integrations = format!(
                r#"[{{"name":"h","state":"{state}","handler":{{"settling":{settling},"trouble":{trouble}}}}}]"#
            );
            let config = r#""config":{"reloads_refused":0}"#;
            let body = format!(r#"{{"pid":7,"generation":2,{config},"integrations":{integrations}}}"#);
            State::read(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes()).unwrap()
        };
        let down = answer("starting", false, "\"it is down\"");
        assert!(down.integrations[0].is_settling);
        let told = down.told();
        assert_eq!(told.notes, "error: integration `h`: its handler is not ready after 60s: it is down\n");
        assert_eq!(told.exit, Exit::Partly);
        let ready = answer("ready", false, "\"it was down\"");
        assert!(!ready.integrations[0].is_settling && ready.told().notes.is_empty());
        assert!(answer("ready", true, "null").integrations[0].is_settling);
    }

    #[test]
    fn a_handler_of_which_no_process_takes_calls_is_waited_for_unless_it_has_failed() {
        let is_settling = |state: &str, workers: &[&str]| {
            let workers: Vec<_> = workers.iter().map(|state| serde_json::json!({ "state": state })).collect();
            let one = serde_json::json!({"name": "h", "state": state, "handler": {"workers": workers}});
            One::read(&one).is_settling
        };
        assert!(is_settling("ready", &[]) && is_settling("ready", &["starting", "draining"]));
        assert!(!is_settling("ready", &["starting", "ready"]) && !is_settling("ready", &["blocked"]));
        assert!(!is_settling("failed", &["starting"]));
    }

    #[test]
    fn only_a_process_of_the_same_program_is_signalled() {
        let state = |pid: u32| State {
            pid: Pid::from_raw(pid.try_into().unwrap()).unwrap(),
            generation: 1,
            refused: 0,
            text: String::new(),
            restart: Vec::new(),
            integrations: Vec::new(),
        };
        assert!(state(std::process::id()).check().is_ok());
        assert!(state(i32::MAX as u32).check().unwrap_err().contains("container"));
    }
}
