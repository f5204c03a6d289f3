//! A log that nobody reads: its pipe is full from the start, and neither requests nor the end wait for it.

use std::io::{PipeReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::support::{Call, Connection, Gate, PATIENCE, Setup, Upstream};

/// A sidecar whose stdout is full. It listens on Unix sockets, since it cannot say on which port it does.
struct Mute {
    child: Child,
    setup: Setup,
    /// Kept open and never read.
    _stdout: PipeReader,
}

impl Mute {
    /// `server` is a line of `[server]`.
    fn start(upstream: &Upstream, server: &str) -> Self {
        let setup = Setup::before(upstream, "").server("listen = \"unix:proxy.sock\"");
        let setup = setup.server(server).admin("listen = \"unix:admin.sock\"");
        let (reader, writer) = full_pipe();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
        command.arg("--config").arg(setup.write()).env_clear().current_dir(setup.dir());
        let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn();
        let mute = Self { child: child.expect("the program is there"), setup, _stdout: reader };
        let mut turns = 0;
        while UnixStream::connect(mute.at("admin.sock")).is_err() {
            turns += 1;
            assert!(turns < 10_000_000, "it does not come to listen");
            std::thread::yield_now();
        }
        // Who connects may only be in the queue: who is answered may send signals.
        assert_eq!(mute.ready(), 200);
        mute
    }

    fn at(&self, socket: &str) -> PathBuf {
        self.setup.dir().join(socket)
    }

    fn connect(&self) -> Connection {
        Connection::open_unix(&self.at("proxy.sock"))
    }

    fn ready(&self) -> u16 {
        Connection::open_unix(&self.at("admin.sock")).send(&Call::get("/readyz")).answer().status
    }

    fn terminate(&self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM could not be sent");
    }

    /// Its exit code, once it has ended; fails loudly if it does not.
    fn wait(&mut self) -> Option<i32> {
        let mut stderr = self.child.stderr.take().expect("stderr is a pipe");
        let (ended, end) = mpsc::channel();
        // A process that ends closes its pipes.
        std::thread::spawn(move || ended.send(stderr.read_to_end(&mut Vec::new()).is_ok()));
        assert_eq!(end.recv_timeout(PATIENCE), Ok(true), "it did not end: nobody reads its log");
        self.child.wait().expect("the child is ours").code()
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe that takes no byte more. Whoever writes to it waits.
fn full_pipe() -> (PipeReader, std::io::PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let (reader, mut writer) = std::io::pipe().expect("pipes are to be had");
    let flags = fcntl_getfl(&writer).expect("a pipe has flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("a pipe takes flags");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("a pipe takes flags");
    (reader, writer)
}

/// A provider that answers what says `hang` only behind the gate.
fn gated() -> (Upstream, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        if turn.request.text().contains("hang") {
            held.wait();
        }
        turn.complete("hello");
    });
    (upstream, gate)
}

#[test]
fn a_stop_ends_with_its_last_answer_though_nobody_reads_the_log() {
    let upstream = Upstream::saying("hello");
    let mut mute = Mute::start(&upstream, "");
    for _ in 0..3 {
        assert_eq!(mute.connect().send(&Call::say("m", "hi")).answer().content(), "hello");
    }
    mute.terminate();
    assert_eq!(mute.wait(), Some(0));
}

#[test]
fn drain_timeout_and_a_second_signal_end_it_though_nobody_reads_the_log() {
    for (limit, signals) in [("200ms", 1), ("600s", 2)] {
        let (upstream, gate) = gated();
        let mut mute = Mute::start(&upstream, &format!("drain_timeout = \"{limit}\""));
        let mut hanging = mute.connect();
        hanging.send(&Call::say("m", "hang"));
        upstream.requests(1);
        mute.terminate();
        if signals == 2 {
            while mute.ready() != 503 {}
            mute.terminate();
        }
        assert_eq!(mute.wait(), Some(0), "with {limit}");
        gate.open();
    }
}
