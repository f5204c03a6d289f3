//! The stop, each sentence with real signals: readiness first, answers to their end, the limits, exit 0; and what
//! `healthcheck` tells of it.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Call, Connection, Ended, Gate, Setup, Sidecar, Upstream};

/// A provider that streams one word, then waits at the gate; a request that does not stream is answered at once.
fn gated() -> (Upstream, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| match turn.request.text().contains("\"stream\"") {
        true => {
            turn.open_stream();
            turn.delta("one");
            held.wait();
            turn.done();
        }
        false => turn.complete("hello"),
    });
    (upstream, gate)
}

/// A connection on which a stream runs.
fn streaming(sidecar: &Sidecar) -> Connection {
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    connection.data();
    connection
}

/// Waits until the listener of `sidecar` is closed.
fn closed(sidecar: &Sidecar) {
    let mut waited = 0;
    while std::net::TcpStream::connect(sidecar.address()).is_ok() {
        waited += 1;
        assert!(waited < 100_000, "new connections are still taken after a stop signal");
    }
}

fn parts(call: &Call) -> (Vec<u8>, Vec<u8>) {
    let mut head = call.bytes();
    let rest = head.split_off(40);
    (head, rest)
}

#[test]
fn idle_connections_are_closed_at_once_and_the_probes_go_on() {
    let (upstream, gate) = gated();
    let mut sidecar = Setup::before(&upstream, "").start();
    let (mut used, mut fresh) = (sidecar.connect(), sidecar.connect());
    assert_eq!(used.send(&Call::say("m", "hi")).answer().content(), "hello");
    let mut busy = streaming(&sidecar);
    sidecar.terminate();
    assert!(used.is_closed() && fresh.is_closed());
    closed(&sidecar);
    assert_eq!((sidecar.admin("/readyz").status, sidecar.admin("/livez").status), (503, 200));
    gate.open();
    assert_eq!(busy.all_data().last().map(String::as_str), Some("[DONE]"));
    assert!(busy.is_closed());
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
}

#[test]
fn a_request_whose_head_is_half_read_is_told_to_go_elsewhere() {
    let (upstream, gate) = gated();
    let mut sidecar = Setup::before(&upstream, "").server("workers = 1").start();
    let (head, rest) = parts(&Call::say("m", "hi"));
    let (mut first, mut second) = (sidecar.connect(), sidecar.connect());
    assert_eq!(second.send(&Call::say("m", "hi")).answer().content(), "hello");
    for connection in [&mut first, &mut second] {
        connection.send_raw(&head);
    }
    // The only thread has read what came before once this answer is here.
    let mut busy = streaming(&sidecar);
    let before = upstream.count();
    sidecar.terminate();
    closed(&sidecar);
    for connection in [&mut first, &mut second] {
        let answer = connection.send_raw(&rest).answer();
        answer.refusal(503, "draining");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.is_closed());
    }
    assert_eq!(upstream.count(), before, "a request was taken on after the stop");
    gate.open();
    busy.all_data();
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
}

#[test]
fn a_request_that_is_being_answered_gets_its_answer_and_the_connection_is_closed() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        held.wait();
        turn.complete("late");
    });
    let mut sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::say("m", "hi"));
    upstream.requests(1);
    sidecar.terminate();
    closed(&sidecar);
    gate.open();
    let answer = connection.answer();
    assert_eq!(answer.content(), "late");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.is_closed());
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
}

#[test]
fn lingering_serves_new_connections_too_and_ends_when_idle() {
    let (upstream, gate) = gated();
    let mut sidecar = Setup::before(&upstream, "").server("linger = \"1s\"").start();
    let mut busy = streaming(&sidecar);
    sidecar.terminate();
    sidecar.logged("stopping", 1);
    assert_eq!(sidecar.admin("/readyz").status, 503);
    let mut kept = sidecar.connect();
    for _ in 0..2 {
        let answer = kept.send(&Call::say("m", "hi")).answer();
        assert_eq!((answer.content().as_str(), answer.header("connection")), ("hello", None));
    }
    gate.open();
    assert_eq!(busy.all_data().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
    assert!(sidecar.output().contains("every answer is out"), "{}", sidecar.output());
}

#[test]
fn lingering_counts_from_the_signal_however_long_it_was_idle_before() {
    let (upstream, _gate) = gated();
    let server = "linger = \"3s\"\nidle_timeout = \"3100ms\"";
    let mut sidecar = Setup::before(&upstream, "").server(server).start();
    // Idle for longer than `linger` before the signal: so long that a connection is closed for it.
    assert!(sidecar.connect().is_closed());
    sidecar.terminate();
    sidecar.logged("stopping", 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
}

#[test]
fn drain_timeout_bounds_lingering_and_a_cut_stream_ends_in_words() {
    let (upstream, gate) = gated();
    let server = "linger = \"60s\"\ndrain_timeout = \"300ms\"";
    let mut sidecar = Setup::before(&upstream, "").server(server).start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi"));
    let answer_head = connection.head();
    assert_eq!(answer_head.0, 200);
    connection.data();
    sidecar.terminate();
    let rest = connection.all_data();
    assert!(rest.last().is_some_and(|last| last.contains("\"draining\"")), "{rest:?}");
    assert!(!rest.iter().any(|data| data == "[DONE]"));
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
    assert!(sidecar.output().contains("stopped at drain_timeout"), "{}", sidecar.output());
    gate.open();
}

#[test]
fn a_second_signal_cuts_what_is_open_in_words_and_exits_0() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        if turn.request.text().contains("\"stream\"") {
            turn.open_stream();
            turn.delta("one");
        }
        held.wait();
        turn.close();
    });
    let mut sidecar = Setup::before(&upstream, "").start();
    let mut stream = streaming(&sidecar);
    let mut whole = sidecar.connect();
    whole.send(&Call::say("m", "hi"));
    upstream.requests(2);
    sidecar.terminate();
    sidecar.logged("stopping", 1);
    sidecar.terminate();
    whole.answer().refusal(503, "draining");
    let rest = stream.all_data();
    assert!(rest.last().is_some_and(|last| last.contains("\"draining\"")), "{rest:?}");
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
    gate.open();
}

#[test]
fn a_client_that_takes_nothing_does_not_hold_the_end_up() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        let much = "x".repeat(64 << 10);
        while turn.delta(&much) {}
    });
    let mut sidecar = Setup::before(&upstream, "").server("drain_timeout = \"300ms\"").start();
    let mut stuck = Connection::open_narrow(sidecar.address());
    stuck.send(&Call::stream("m", "hi")).head();
    sidecar.terminate();
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
}

#[test]
fn the_socket_file_has_its_mode_and_goes_with_a_clean_stop() {
    let upstream = Upstream::saying("hello");
    for (line, mode) in [("", 0o660), ("unix_mode = \"0600\"", 0o600)] {
        let setup = Setup::before(&upstream, "").server("listen = \"unix:proxy.sock\"").server(line);
        let mut sidecar = setup.admin("listen = \"unix:admin.sock\"").start();
        let files = ["proxy.sock", "admin.sock"].map(|name| sidecar.dir().join(name));
        for file in &files {
            let found = std::fs::metadata(file).expect("the socket is there");
            assert_eq!(found.permissions().mode() & 0o7777, mode);
        }
        let mut connection = Connection::open_unix(&files[0]);
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
        sidecar.terminate();
        assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
        for file in &files {
            assert!(!file.exists(), "{} was left behind", file.display());
        }
    }
}

#[test]
fn healthcheck_tells_living_and_ready_apart_over_a_unix_socket() {
    let (upstream, gate) = gated();
    let mut sidecar = Setup::before(&upstream, "").admin("listen = \"unix:admin.sock\"").start();
    let check = |sidecar: &Sidecar, more: &[&str]| -> Ended {
        sidecar.run(&[&["healthcheck", "--config", "config.toml"], more].concat())
    };
    for more in [&[][..], &["--ready"]] {
        assert_eq!(check(&sidecar, more).code, 0, "{}", check(&sidecar, more).output());
    }
    // What is wrong elsewhere is not what is asked.
    sidecar.rewrite("[integrations.acme]\nendpoit = 1\n");
    assert_eq!(check(&sidecar, &[]).code, 0);
    let mut busy = streaming(&sidecar);
    sidecar.terminate();
    sidecar.logged("stopping", 1);
    assert_eq!(check(&sidecar, &[]).code, 0);
    let draining = check(&sidecar, &["--ready"]);
    assert_eq!(draining.code, 1);
    assert!(draining.stderr.contains("answers 503: draining"), "{}", draining.output());
    gate.open();
    busy.all_data();
    sidecar.wait();
    let gone = check(&sidecar, &[]);
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("no answer from unix:"), "{}", gone.output());
}

#[test]
fn healthcheck_without_an_admin_listener_says_what_to_set() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").admin("listen = \"off\"");
    setup.write();
    let ended = setup.run(&["healthcheck"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("admin.listen is \"off\""), "{}", ended.output());
}
