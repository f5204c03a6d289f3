//! Starts the real binary with a configuration of the test's own, and ends it by its process id.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use super::client::{Answer, Call, Connection};
use super::upstream::Upstream;
use super::{PATIENCE, Watched, schema};

/// How long a look that waits for the log waits at most.
const BETWEEN: Duration = Duration::from_millis(20);

/// How long a command may take: some load handlers one after another, or make a virtual environment.
const COMMAND: Duration = PATIENCE.saturating_mul(5);

/// More than [`PATIENCE`].
const LONG: &str = "5m";

/// What a sidecar is started with. The proxy and the admin listener take free ports.
pub(crate) struct Setup {
    dir: TempDir,
    server: String,
    admin: String,
    rest: String,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
}

/// Writes `files` into a new folder and swings `..data` over to it in one step, as Kubernetes does with what it mounts.
pub(crate) fn mount(dir: &Path, number: usize, files: &[(&str, &str)]) {
    let folder = format!("..{number}");
    let swing = || {
        std::fs::create_dir_all(dir.join(&folder))?;
        for (name, text) in files {
            std::fs::write(dir.join(&folder).join(name), text)?;
        }
        symlink(&folder, dir.join("..next"))?;
        std::fs::rename(dir.join("..next"), dir.join("..data"))
    };
    swing().expect("the temporary folder can be written");
    for (name, _) in files {
        // There from the second time on.
        let _ = symlink(format!("..data/{name}"), dir.join(name));
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it wrote.
    pub(crate) stdout: String,
    /// What it complained.
    pub(crate) stderr: String,
}

impl Ended {
    /// Everything that it wrote.
    pub(crate) fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The table of the integration `name`: no authentication and the models `m` (for the provider `real-model`) and
/// `plain`, where `lines` do not say otherwise.
pub(crate) fn integration(name: &str, endpoint: &str, lines: &str) -> String {
    let mut table = format!("[integrations.{name}]\nendpoint = \"{endpoint}\"\n");
    if !lines.contains("authentication_type") {
        table.push_str("authentication_type = \"none\"\n");
    }
    if !lines.contains("models =") && !lines.contains("model_properties") {
        table.push_str(
            "model_properties = [{ name = \"real-model\", alias = \"m\" }, { name = \"plain\" }]\n",
        );
    }
    format!("{table}{lines}\n\n")
}

impl Setup {
    /// One integration, `acme`, whose provider is `upstream`; `lines` as in [`integration`].
    pub(crate) fn before(upstream: &Upstream, lines: &str) -> Self {
        Self::new(integration("acme", &upstream.url("/v1"), lines))
    }

    /// `tables` are the tables of the configuration but for `[server]` and `[admin]`.
    pub(crate) fn new(tables: impl Into<String>) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder can be made"),
            server: "listen = \"127.0.0.1:0\"\n".to_owned(),
            admin: "listen = \"127.0.0.1:0\"\n".to_owned(),
            rest: tables.into(),
            environment: Vec::new(),
            open_files: None,
        }
    }

    /// One more line in `[server]`; a `listen` replaces the one that is there.
    pub(crate) fn server(mut self, line: &str) -> Self {
        if line.starts_with("listen") {
            self.server.clear();
        }
        self.server.push_str(line);
        self.server.push('\n');
        self
    }

    /// What stands in `[admin]`.
    pub(crate) fn admin(mut self, line: &str) -> Self {
        self.admin = format!("{line}\n");
        self
    }

    /// A file beside the configuration.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        let folder = path.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(folder).expect("the temporary folder can be written");
        std::fs::write(path, text).expect("the temporary folder can be written");
        self
    }

    /// A variable of the environment, which is empty otherwise.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The soft limit of open files that it begins with.
    pub(crate) fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// The folder of the configuration.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration; where it is. What a test does not set itself lasts longer than any test waits: one that
    /// sets a limit must not pass by the default.
    pub(crate) fn write(&self) -> PathBuf {
        let path = self.dir.path().join("config.toml");
        let (admin, rest) = (&self.admin, &self.rest);
        let mut server = self.server.clone();
        for key in ["header_timeout", "body_timeout", "drain_timeout"] {
            if !server.contains(key) {
                server.push_str(&format!("{key} = \"{LONG}\"\n"));
            }
        }
        // Keys of the root come first, so what follows the tables' first header stays last.
        let (root, tables) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
        let text = format!("{root}\n[server]\n{server}\n[admin]\n{admin}\n{tables}\n");
        std::fs::write(&path, text).expect("the temporary folder can be written");
        path
    }

    /// Starts the sidecar and waits until it listens.
    pub(crate) fn start(self) -> Sidecar {
        let config = self.write();
        let command = self.command(&["--config", &config.to_string_lossy()]);
        let sidecar = Sidecar::watch(Process::new(command), self);
        schema::holds(&config);
        sidecar
    }

    /// Runs the binary with `args` until it ends by itself; fails loudly if it does not.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let ended = run_to_end(self.command(args), &format!("`outrider {}`", args.join(" ")));
        if let ["check", file, ..] = args
            && ended.code == 0
        {
            schema::holds(&self.dir.path().join(file));
        }
        ended
    }

    /// Likewise, with `input` on its stdin.
    pub(crate) fn run_fed(&self, args: &[&str], input: &str) -> Ended {
        let path = self.dir.path().join("stdin");
        let fed = std::fs::write(&path, input).and_then(|()| std::fs::File::open(path));
        let mut command = self.command(args);
        command.stdin(fed.expect("the temporary folder can be written"));
        run_to_end(command, &format!("`outrider {}`", args.join(" ")))
    }

    /// Starts the binary with `args`, and does not wait.
    pub(crate) fn begin(&self, args: &[&str]) -> Begun {
        Begun(Process::new(self.command(args)))
    }

    fn command(&self, args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_outrider");
        let mut command = Command::new(if self.open_files.is_some() { "/bin/sh" } else { program });
        if let Some(most) = self.open_files {
            command.args(["-c", &format!("ulimit -Sn {most} && exec \"$0\" \"$@\""), program]);
        }
        command.args(args).env_clear().envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.current_dir(self.dir.path());
        command.stdin(Stdio::null());
        command
    }
}

/// Runs `command` until it ends by itself; fails loudly if it does not. `what` names it.
pub(crate) fn run_to_end(command: Command, what: &str) -> Ended {
    Begun(Process::new(command)).end(what)
}

/// What came out of one pipe.
#[derive(Debug, Default)]
struct Pipe {
    lines: Vec<String>,
    ended: bool,
}

/// A running child and everything that it says. It is killed by its id when this is dropped.
struct Process {
    child: Child,
    stdout: Arc<Watched<Pipe>>,
    stderr: Arc<Watched<Pipe>>,
}

impl Process {
    fn new(mut command: Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program is there");
        let stdout = listen_to(child.stdout.take().expect("stdout is a pipe"));
        let stderr = listen_to(child.stderr.take().expect("stderr is a pipe"));
        Self { child, stdout, stderr }
    }

    /// Waits for the end, at most about `limit`: a child that ends closes its pipes.
    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        for pipe in [&self.stdout, &self.stderr] {
            pipe.wait_at_most(limit, |pipe| pipe.ended.then_some(()))?;
        }
        Some(self.child.wait().expect("the child is ours"))
    }

    /// What `look` finds in the lines of stdout, once it is there; `None` if the child ends without it.
    fn heard<R>(&self, mut look: impl FnMut(&[String]) -> Option<R>) -> Option<R> {
        self.stdout.wait(|pipe| look(&pipe.lines).map(Some).or(pipe.ended.then_some(None))).flatten()
    }

    fn output(&self) -> String {
        format!("{}{}", text(&self.stdout), text(&self.stderr))
    }

    fn signal(&self, name: &str) {
        // `kill` is a word of every shell; a program of that name is not on every machine.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} could not be sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(pipe: &Watched<Pipe>) -> String {
    pipe.change(|pipe| pipe.lines.concat())
}

/// Reads a pipe line by line to its end, on a thread of its own.
fn listen_to(pipe: impl Read + Send + 'static) -> Arc<Watched<Pipe>> {
    let heard = Arc::new(Watched::new(Pipe::default()));
    let into = Arc::clone(&heard);
    std::thread::spawn(move || {
        let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            into.change(|pipe| pipe.lines.push(String::from_utf8_lossy(&line).into_owned()));
            line.clear();
        }
        into.change(|pipe| pipe.ended = true);
    });
    heard
}

/// A command that runs.
pub(crate) struct Begun(Process);

impl Begun {
    /// Waits until a line of its stdout begins with `words`; fails loudly if none does.
    pub(crate) fn heard(&self, words: &str) {
        let found = self.0.heard(|lines| lines.iter().any(|line| line.starts_with(words)).then_some(()));
        assert!(found.is_some(), "no line begins with `{words}`:\n{}", self.0.output());
    }

    /// Waits until there is a file at `path`; fails loudly if none comes.
    pub(crate) fn until_file(&self, path: &Path) {
        let end = Instant::now() + PATIENCE;
        while !path.exists() {
            assert!(Instant::now() < end, "{} does not come:\n{}", path.display(), self.0.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a line of its log says `message`; fails loudly if none does.
    pub(crate) fn logged(&self, message: &str) {
        let said = |line: &String| fields_of(line, message).is_some();
        let found = self.0.heard(|lines| lines.iter().any(said).then_some(()));
        assert!(found.is_some(), "no line says `{message}`:\n{}", self.0.output());
    }

    /// Sends it the signal `name`.
    pub(crate) fn signal(&self, name: &str) {
        self.0.signal(name);
    }

    /// Waits for its end; fails loudly if it does not come. `what` names it.
    pub(crate) fn end(mut self, what: &str) -> Ended {
        let status = self.0.wait(COMMAND);
        assert!(status.is_some(), "{what} did not end in {COMMAND:?}:\n{}", self.0.output());
        let code = status.and_then(|s| s.code()).unwrap_or(-1);
        Ended { code, stdout: text(&self.0.stdout), stderr: text(&self.0.stderr) }
    }
}

/// A sidecar that listens.
pub(crate) struct Sidecar {
    process: Process,
    setup: Setup,
    proxy: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Sidecar {
    fn watch(process: Process, setup: Setup) -> Self {
        let start = process.heard(|lines| lines.iter().find_map(|line| fields_of(line, "listening")));
        assert!(start.is_some(), "the sidecar did not come to listen:\n{}", process.output());
        let start = start.unwrap_or_default();
        let address = |key: &str| start[key].as_str()?.split(',').find_map(|text| text.parse().ok());
        Self { proxy: address("proxy"), admin: address("admin"), process, setup }
    }

    /// Where the proxy listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.expect("the proxy listens on TCP")
    }

    /// Where the admin listener is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.expect("the admin listener is on TCP")
    }

    /// The folder of its configuration.
    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// Runs the binary with `args` beside it until it ends by itself.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.setup.run(args)
    }

    /// Likewise, with one more variable in its environment.
    pub(crate) fn run_with(&self, args: &[&str], (name, value): (&str, &str)) -> Ended {
        let mut command = self.setup.command(args);
        command.env(name, value);
        run_to_end(command, &format!("`outrider {}`", args.join(" ")))
    }

    /// A new connection to the proxy.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// One request on a new connection, and its answer.
    pub(crate) fn ask(&self, call: &Call) -> Answer {
        self.connect().send(call).answer()
    }

    /// One GET to the admin listener, and its answer.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        Connection::open(self.admin_address()).send(&Call::get(path)).answer()
    }

    /// Writes a file beside its configuration.
    pub(crate) fn put(&self, name: &str, text: &str) {
        std::fs::write(self.dir().join(name), text).expect("the temporary folder can be written");
    }

    /// The value of a metric, given its name and labels as they are written.
    pub(crate) fn metric(&self, line: &str) -> Option<f64> {
        let answer = self.admin("/metrics");
        answer.text().lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// Looks again whenever the log has a new line, until `look` gives something; fails loudly with `words` if it never
    /// does. Of some things no line tells: for these it looks in between, too.
    pub(crate) fn until<R>(&self, words: impl Fn() -> String, mut look: impl FnMut() -> Option<R>) -> R {
        let end = Instant::now() + PATIENCE * 2;
        loop {
            let known = self.process.stdout.change(|pipe| pipe.lines.len());
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "{}\n{}", words(), self.output());
            self.process.stdout.wait_at_most(BETWEEN, |pipe| (pipe.lines.len() > known).then_some(()));
        }
    }

    /// Waits until the metric `line` has `value`; fails loudly if it does not come to that.
    pub(crate) fn until_metric(&self, line: &str, value: f64) {
        let words = || format!("{line} is {:?}, not {value}", self.metric(line));
        self.until(words, || (self.metric(line) == Some(value)).then_some(()));
    }

    /// Everything that it has written so far, on both pipes.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// The first line of the log that `look` accepts, once it is there; fails loudly if it does not come.
    pub(crate) fn log_line(&self, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        let parsed = |line: &String| serde_json::from_str::<Value>(line).ok().filter(|line| look(line));
        let found = self.process.heard(|lines| lines.iter().find_map(parsed));
        assert!(found.is_some(), "no line of the log is {what}:\n{}", self.output());
        found.unwrap_or_default()
    }

    /// Waits for `count` lines of the log whose message begins with `message`.
    pub(crate) fn logged(&self, message: &str, count: usize) {
        let is_it = |line: &&String| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            message_of(&line).is_some_and(|text| text.starts_with(message))
        };
        let found = self.process.heard(|lines| (lines.iter().filter(is_it).count() >= count).then_some(()));
        assert!(found.is_some(), "fewer than {count} lines say `{message}`:\n{}", self.output());
    }

    /// Writes the configuration anew, with these tables.
    pub(crate) fn rewrite(&mut self, tables: impl Into<String>) {
        self.setup.rest = tables.into();
        self.setup.write();
    }

    /// Asks it to read its configuration again.
    pub(crate) fn reload(&self) {
        self.signal("HUP");
    }

    /// Asks it to finish.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits for its end; its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = self.process.wait(PATIENCE);
        assert!(status.is_some(), "the sidecar did not end in {PATIENCE:?}:\n{}", self.output());
        status.and_then(|s| s.code()).unwrap_or(-1)
    }

    /// Sends it the signal `name`.
    pub(crate) fn kill_with(&self, name: &str) {
        self.signal(name);
    }

    fn signal(&self, name: &str) {
        self.process.signal(name);
    }
}

/// What a log line says, wherever its format puts it.
fn message_of(line: &Value) -> Option<&str> {
    line["message"].as_str().or_else(|| line["fields"]["message"].as_str())
}

/// The fields of a log line whose message is `message`.
fn fields_of(line: &str, message: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_it = message_of(&line) == Some(message);
    is_it.then(|| if line["fields"].is_object() { line["fields"].clone() } else { line })
}
