//! Limits that protect us and the provider: sizes, slots, queues, and slow clients.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{Call, Gate, Setup, Upstream, integration};

#[test]
fn a_body_over_the_limit_is_refused_by_its_length_alone() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("max_body = \"4KiB\"").start();
    let fits = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "a".repeat(4096 - 20));
    assert_eq!(fits.len(), 4096);
    assert_eq!(sidecar.ask(&Call::chat(&fits)).content(), "hello");
    let mut connection = sidecar.connect();
    connection.send_raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 4097\r\n\r\n");
    let message = connection.answer().refusal(413, "body_too_large");
    assert!(message.contains("4"), "the message does not name the limit: {message}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_client_that_asks_first_is_not_told_to_send_a_body_over_the_limit() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("max_body = \"4KiB\"").start();
    let mut connection = sidecar.connect();
    connection.send_raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
          expect: 100-continue\r\ncontent-length: 100000\r\n\r\n",
    );
    assert_eq!(connection.interim(), 413);
}

#[test]
fn a_body_over_the_limit_is_refused_while_its_chunks_are_read() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("max_body = \"4KiB\"").start();
    let mut connection = sidecar.connect();
    connection.send_raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        connection.send_raw(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes());
    }
    connection.answer().refusal(413, "body_too_large");
    assert_eq!(upstream.count(), 0);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn a_client_that_sends_all_that_nobody_reads_still_reads_why() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("max_body = \"4KiB\"").start();
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    let much = "x".repeat(16 << 20);
    for (head, status) in [
        (format!("{post}content-length: {}\r\n\r\n", much.len()), 413),
        (format!("{post}transfer-encoding: chunked\r\n\r\n{:x}\r\n", much.len()), 413),
        (format!("{post}host: y\r\ncontent-length: {}\r\n\r\n", much.len()), 400),
        (format!("{post}upgrade: h2c\r\ncontent-length: {}\r\n\r\n", much.len()), 413),
        (format!("{post}upgrade: websocket\r\ncontent-length: {}\r\n\r\n", much.len()), 400),
        (format!("PUT /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", much.len()), 405),
        (format!("{post}x-long: "), 431),
        ("no head at all\r\n\r\n".to_owned(), 400),
    ] {
        let mut client = TcpStream::connect(sidecar.address()).expect("the sidecar listens");
        client.write_all(head.as_bytes()).expect("the sidecar takes the head");
        assert!(client.write_all(much.as_bytes()).is_ok(), "{head}: the connection was reset");
        let mut answer = String::new();
        assert!(client.read_to_string(&mut answer).is_ok(), "{head}: the answer is lost");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    }
}

#[test]
fn a_full_integration_makes_others_wait_and_then_refuses_them() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        held.wait();
        turn.complete("hello");
    });
    let table = |name: &str, wait: &str| {
        let limits = format!("limits = {{ max_concurrent = 1, queue_timeout = \"{wait}\" }}");
        integration(name, &upstream.url("/v1"), &limits)
    };
    let sidecar = Setup::new(table("calm", "5m") + &table("hasty", "300ms")).start();
    let mut busy = ["calm/m", "hasty/m"].map(|model| {
        let mut connection = sidecar.connect();
        connection.send(&Call::say(model, "first"));
        connection
    });
    upstream.requests(2);
    let mut calm = sidecar.connect();
    calm.send(&Call::say("calm/m", "second"));
    let refused = sidecar.ask(&Call::say("hasty/m", "second"));
    assert!(refused.refusal(503, "overloaded").contains("hasty"));
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    gate.open();
    for connection in busy.iter_mut().chain([&mut calm]) {
        assert_eq!(connection.answer().content(), "hello");
    }
    assert_eq!(sidecar.ask(&Call::say("hasty/m", "third")).content(), "hello");
    assert_eq!(upstream.count(), 4);
}

#[test]
fn who_waits_for_a_slot_is_served_when_one_is_free() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        held.wait();
        turn.complete("hello");
    });
    let sidecar = Setup::before(&upstream, "limits = { max_concurrent = 1 }").start();
    let mut callers: Vec<_> = (0..5).map(|_| sidecar.connect()).collect();
    for caller in &mut callers {
        caller.send(&Call::say("m", "hi"));
    }
    upstream.requests(1);
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.answer().content(), "hello");
    }
}

#[test]
fn a_slot_is_held_to_the_last_byte_and_freed_when_the_client_leaves() {
    let upstream = Upstream::start(|turn| {
        if turn.request.text().contains("endless") {
            turn.open_stream();
            turn.delta("one");
            turn.until_left();
        } else {
            turn.complete("hello");
        }
    });
    let limits = "limits = { max_concurrent = 1, queue_timeout = \"1s\" }";
    let sidecar = Setup::before(&upstream, limits).start();
    let mut streaming = sidecar.connect();
    streaming.send(&Call::stream("m", "endless")).head();
    streaming.data();
    sidecar.ask(&Call::say("m", "too early")).refusal(503, "overloaded");
    drop(streaming);
    sidecar.until_metric("outrider_in_flight{integration=\"acme\"}", 0.0);
    assert_eq!(sidecar.ask(&Call::say("m", "next")).content(), "hello");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_full_integration_does_not_slow_the_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let full = Upstream::start(move |turn| {
        held.wait();
        turn.complete("full");
    });
    let free = Upstream::saying("free");
    let tables = [
        integration("full", &full.url("/v1"), "limits = { max_concurrent = 1 }"),
        integration("free", &free.url("/v1"), ""),
    ];
    let sidecar = Setup::new(tables.concat()).start();
    let mut stuck: Vec<_> = (0..3).map(|_| sidecar.connect()).collect();
    for caller in &mut stuck {
        caller.send(&Call::say("full/m", "hi"));
    }
    full.requests(1);
    assert_eq!(sidecar.ask(&Call::say("free/m", "hi")).content(), "free");
    gate.open();
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_cut_at_its_limit() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("header_timeout = \"1s\"").start();
    let mut slow = sidecar.connect();
    slow.send_raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n");
    assert!(slow.is_closed());
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn an_idle_connection_outlives_the_head_limit() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("header_timeout = \"1s\"").start();
    let mut idle = sidecar.connect();
    assert_eq!(idle.send(&Call::say("m", "hi")).answer().content(), "hello");
    // Another connection shows that the limit has passed: it began its head after ours fell idle.
    let mut slow = sidecar.connect();
    slow.send_raw(b"GET ");
    assert!(slow.is_closed());
    assert_eq!(idle.send(&Call::say("m", "hi")).answer().content(), "hello");
}

#[test]
fn an_idle_connection_is_closed_at_its_own_limit() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("idle_timeout = \"1s\"").start();
    let mut idle = sidecar.connect();
    assert_eq!(idle.send(&Call::say("m", "hi")).answer().content(), "hello");
    assert!(idle.is_closed());
}

#[test]
fn a_body_that_stops_coming_is_refused_at_its_limit() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("body_timeout = \"300ms\"").start();
    let mut slow = sidecar.connect();
    slow.send_raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\":");
    let answer = slow.answer();
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("max_header_bytes = \"8KiB\"").start();
    let call = Call::say("m", "hi").header("x-long", &"a".repeat(16 << 10));
    let (status, _) = sidecar.connect().send(&call).head();
    assert_eq!(status, 431);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_low_limit_of_open_files_is_raised_to_what_the_system_allows() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").open_files(32).start();
    let mut kept = Vec::new();
    for _ in 0..40 {
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
        kept.push(connection);
    }
    assert!(kept.iter_mut().all(|one| one.send(&Call::say("m", "hi")).answer().content() == "hello"));
}

#[test]
fn out_of_open_files_is_told_as_our_own_limit_and_ends_when_there_are_more() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let pid = sidecar.admin("/integrations").json()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(Pid::from_raw).expect("it tells its process id");
    let mut here = sidecar.connect();
    assert_eq!(here.send(&Call::get("/v1/models")).answer().status, 200);
    // Fewer than are open already: those stay, and there is none to be had.
    let none = Rlimit { current: Some(1), ..getrlimit(Resource::Nofile) };
    let before = prlimit(Some(pid), Resource::Nofile, none).expect("its limit can be set");
    let message = here.send(&Call::say("m", "hi")).answer().refusal(502, "upstream_unreachable");
    assert!(message.contains("it is Outrider that is at its limit"), "{message}");
    let mut waits = sidecar.connect();
    let line = sidecar.log_line("the refusal", |line| line["message"] == "a connection was not accepted");
    assert!(line["help"].as_str().is_some_and(|help| help.contains("ulimit -n")), "{line}");
    prlimit(Some(pid), Resource::Nofile, before).expect("its limit can be set");
    for connection in [&mut here, &mut waits] {
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
    }
}
