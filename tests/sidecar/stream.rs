//! Streams: event by event, at the client's pace, and never ending as if complete when they are not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::upstream::delta;
use crate::support::{Call, Connection, Gate, PATIENCE, Setup, Turn, Upstream, Watched};

/// Opens a stream; fails where the answer is none.
fn open(connection: &mut Connection) {
    let (status, head) = connection.send(&Call::stream("m", "hi")).head();
    assert_eq!(status, 200);
    assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
}

/// Checks that the stream went on with `texts` and ended in an error event, without `[DONE]`; the error.
fn broken_after(connection: &mut Connection, texts: &[&str]) -> Value {
    let mut data = connection.all_data();
    let last = data.pop().expect("a broken stream ends in an error event");
    assert!(data.iter().all(|d| d != "[DONE]") && last != "[DONE]", "a broken stream was ended as complete");
    let got: Vec<Value> = data.iter().map(|d| serde_json::from_str(d).expect("an event is JSON")).collect();
    let got: Vec<&str> = got.iter().filter_map(|d| d["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(got, texts);
    let last: Value = serde_json::from_str(&last).expect("the error event is JSON");
    let error = &last["error"];
    for key in ["message", "type", "param", "code"] {
        assert!(error.get(key).is_some(), "the error event has no `{key}`: {last}");
    }
    assert!(error["message"].as_str().is_some_and(|m| m.contains("acme")), "{last}");
    error.clone()
}

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        turn.open_stream();
        turn.delta("one");
        held.wait();
        turn.delta("two");
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    open(&mut connection);
    assert_eq!(connection.data(), delta("one").to_string());
    gate.open();
    let rest = connection.all_data();
    assert_eq!(rest[0], delta("two").to_string());
    assert_eq!(rest.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(rest.len(), 3);
}

#[test]
fn events_pass_byte_for_byte_wherever_they_are_cut() {
    let events = "data: {\"id\":\"x\",\"own\":12345678901234567890,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"caf\u{e9}\"},\
                  \"finish_reason\":null}]}\n\ndata: {\"id\":\"x\",\"choices\":[],\"usage\":{\"total_tokens\":5}}\n\ndata: [DONE]\n\n";
    for size in [1, 7, 64, 1000] {
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            for piece in events.as_bytes().chunks(size) {
                turn.chunk(piece);
            }
            turn.end();
        });
        let sidecar = Setup::before(&upstream, "").start();
        let answer = sidecar.ask(&Call::stream("m", "hi"));
        assert_eq!((answer.text(), answer.clean), (events, true), "cut every {size} bytes");
    }
}

#[test]
fn a_stream_is_known_by_its_first_bytes_whatever_its_content_type_says() {
    let events = format!("data: {}\n\n{FINISH}data: [DONE]\n\n", delta("one"));
    for (kind, before) in [
        ("text/plain", ""),
        ("application/json", ": hi\n\n"),
        ("text/html; charset=utf-8", "\u{feff}\r\n\r\nevent: x\r\n"),
    ] {
        let events = format!("{before}{events}");
        for size in [1, 7, 1 << 20] {
            let sent = events.clone();
            let upstream = Upstream::start(move |turn| {
                turn.say(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
                ));
                for piece in sent.as_bytes().chunks(size) {
                    turn.chunk(piece);
                }
                turn.end();
            });
            let sidecar = Setup::before(&upstream, "").start();
            let answer = sidecar.ask(&Call::stream("m", "hi"));
            assert_eq!((answer.status, answer.text()), (200, &*events), "{kind}, cut every {size} bytes");
            let kind = answer.header("content-type");
            assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
        }
    }
}

#[test]
fn a_stream_with_a_wrong_content_type_goes_on_as_it_comes_and_is_watched() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n");
        turn.delta("one");
        held.wait();
        turn.end();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    open(&mut connection);
    assert_eq!(connection.data(), delta("one").to_string());
    gate.open();
    let error = broken_after(&mut connection, &[]);
    assert_eq!(error["code"], "upstream_garbled");
}

/// The event that finishes the only choice of a stream.
const FINISH: &str =
    "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

#[test]
fn a_connection_serves_on_after_a_stream_and_so_does_the_upstreams() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "").server("workers = 1").start();
    let mut connection = sidecar.connect();
    for _ in 0..3 {
        open(&mut connection);
        assert_eq!(connection.all_data().len(), 3);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_client_that_leaves_at_done_lets_the_upstream_connection_live() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "").server("workers = 1").start();
    for _ in 0..4 {
        let mut connection = sidecar.connect();
        open(&mut connection);
        while connection.data() != "[DONE]" {}
    }
    sidecar.log_line("an access line of status 200", |line| line.to_string().contains("200"));
    assert!(upstream.connections() <= 2, "{} connections for 4 streams", upstream.connections());
}

#[test]
fn a_stream_that_is_cut_ends_in_an_error_event() {
    let inside_a_chunk: fn(&mut Turn) = |turn| {
        turn.say("20\r\ndata: {\"choices\"");
        turn.close();
    };
    let cuts: [fn(&mut Turn); 3] = [Turn::close, Turn::reset, inside_a_chunk];
    for cut in cuts {
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            turn.delta("one");
            cut(turn);
        });
        let sidecar = Setup::before(&upstream, "").start();
        let mut connection = sidecar.connect();
        open(&mut connection);
        broken_after(&mut connection, &["one"]);
    }
}

#[test]
fn a_stream_that_ends_without_done_ends_in_an_error_event() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.end();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    open(&mut connection);
    broken_after(&mut connection, &["one"]);
}

#[test]
fn an_error_event_of_the_upstreams_is_told_with_its_own_code_or_ours_and_ends_the_stream() {
    for (own, told) in [(r#""oom""#, "oom"), ("null", "upstream_error")] {
        let event = format!(
            r#"{{"error":{{"message":"out of memory","type":"server_error","param":null,"code":{own}}}}}"#
        );
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            turn.delta("one");
            turn.event(&event);
            turn.end();
        });
        let sidecar = Setup::before(&upstream, "").start();
        let mut connection = sidecar.connect();
        open(&mut connection);
        let error = broken_after(&mut connection, &["one"]);
        assert_eq!((&error["type"], &error["code"]), (&"server_error".into(), &told.into()));
        assert!(error["message"].as_str().is_some_and(|words| words.contains("out of memory")), "{error}");
    }
}

#[test]
fn a_stream_that_falls_silent_is_ended_at_the_idle_limit() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.until_left();
    });
    let sidecar = Setup::before(&upstream, "limits = { idle = \"300ms\" }").start();
    let mut connection = sidecar.connect();
    open(&mut connection);
    let error = broken_after(&mut connection, &["one"]);
    assert_eq!(error["code"], "upstream_timeout");
    assert!(error["message"].as_str().is_some_and(|words| words.contains("limits.idle: 300ms")), "{error}");
    let line = sidecar.log_line("the request", |line| line["message"] == "request");
    assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("limits.idle")), "{line}");
    upstream.wait_closed(1);
}

#[test]
fn a_stream_that_keeps_talking_outlives_every_limit() {
    let (go_on, waits) = std::sync::mpsc::channel();
    let waits = Mutex::new(waits);
    let upstream = Upstream::start(move |turn| {
        turn.open_stream();
        for _ in 0..12 {
            turn.delta("x");
            let waits = waits.lock().expect("nobody else waits");
            waits.recv_timeout(PATIENCE).expect("the client goes on");
        }
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "limits = { idle = \"1s\", first_byte = \"1s\" }").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi").header("x-stainless-read-timeout", "0.1"));
    assert_eq!(connection.head().0, 200);
    for _ in 0..12 {
        connection.data();
        // Sent after 100 ms of silence: together they last longer than the limits.
        assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
        go_on.send(()).expect("the upstream waits for it");
    }
    assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
}

fn line_behind_comments(connection: &mut Connection) -> Option<String> {
    std::iter::repeat_with(|| connection.line()).find(|line| line != ": ping")
}

/// OpenAI's SDK for Python keeps an event's id, takes each blank line behind it for the end of an event, and dies of one
/// without data.
#[test]
fn a_comment_of_ours_has_no_blank_line_in_a_stream_whose_events_have_ids() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        turn.open_stream();
        turn.chunk(format!("id: 7\ndata: {}\n\n", delta("one")));
        held.wait();
        turn.delta("two");
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi").header("x-stainless-read-timeout", "0.1"));
    assert_eq!(connection.head().0, 200);
    let data = |text| format!("data: {}", delta(text));
    // On a slow machine the first event takes longer than the client bears, and has comments before it.
    assert_eq!(line_behind_comments(&mut connection).as_deref(), Some("id: 7"));
    for line in [&data("one"), "", ": ping", ": ping"] {
        assert_eq!(connection.line(), line);
    }
    gate.open();
    assert_eq!(line_behind_comments(&mut connection), Some(data("two")));
    assert_eq!(connection.line(), "");
    assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
}

#[test]
fn the_wait_for_a_late_head_is_no_silence_inside_of_its_stream() {
    const IDLE: Duration = Duration::from_secs(3);
    let gates = [Gate::new(), Gate::new()];
    let held = gates.clone();
    let upstream = Upstream::start(move |turn| {
        held[0].wait();
        turn.open_stream();
        held[1].wait();
        turn.delta("one");
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "limits = { idle = \"3s\" }").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi").header("x-stainless-read-timeout", "0.5"));
    assert_eq!(connection.head().0, 200);
    assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    let first = Instant::now();
    while first.elapsed() < IDLE {
        assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    }
    gates[0].open();
    for _ in 0..2 {
        assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    }
    gates[1].open();
    assert_eq!(connection.data(), delta("one").to_string());
    assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
}

#[test]
fn a_stream_that_is_silent_behind_a_late_head_is_not_borne_until_the_next_comment() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        held.wait();
        // Longer than the limit, and over before the next comment, both times.
        std::thread::sleep(Duration::from_millis(600));
        turn.open_stream();
        std::thread::sleep(Duration::from_millis(1200));
        turn.delta("late");
        turn.until_left();
    });
    let sidecar = Setup::before(&upstream, "limits = { idle = \"300ms\" }").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi").header("x-stainless-read-timeout", "4"));
    assert_eq!(connection.head().0, 200);
    assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    gate.open();
    assert_eq!(broken_after(&mut connection, &[])["code"], "upstream_timeout");
}

#[test]
fn a_client_that_says_how_long_it_bears_silence_hears_comments_before_that() {
    let gates = [Gate::new(), Gate::new()];
    let held = gates.clone();
    let upstream = Upstream::start(move |turn| {
        held[0].wait();
        turn.open_stream();
        turn.delta("one");
        held[1].wait();
        turn.delta("two");
        turn.done();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi").header("x-stainless-read-timeout", "0.5"));
    // Nothing has come from the upstream, nor will before the gate is open.
    assert_eq!(connection.head().0, 200);
    for _ in 0..3 {
        assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    }
    gates[0].open();
    assert_eq!(connection.data(), delta("one").to_string());
    for _ in 0..2 {
        assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    }
    gates[1].open();
    let rest = connection.all_data();
    assert_eq!(rest[0], delta("two").to_string());
    assert_eq!(rest.last().map(String::as_str), Some("[DONE]"));
}

#[test]
fn a_refusal_behind_a_comment_travels_in_the_stream() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        held.wait();
        turn.answer(429, r#"{"error":{"message":"too many","type":"t","code":"rate"}}"#);
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi").header("x-stainless-read-timeout", "0.3"));
    assert_eq!(connection.head().0, 200);
    assert_eq!(connection.event_or_comment().as_deref(), Some(": ping"));
    gate.open();
    let error = broken_after(&mut connection, &[]);
    assert!(error["message"].as_str().is_some_and(|it| it.contains("too many")), "{error}");
}

#[test]
fn a_refusal_before_the_stream_is_a_plain_error() {
    let upstream = Upstream::start(|turn| {
        turn.answer(400, r#"{"error":{"message":"no such model","type":"t","code":"c"}}"#)
    });
    let sidecar = Setup::before(&upstream, "").start();
    assert!(sidecar.ask(&Call::stream("m", "hi")).refusal(400, "c").contains("no such model"));
}

#[test]
fn the_upstream_is_closed_when_the_client_leaves_before_the_first_byte() {
    let left = Arc::new(Watched::new(None));
    let told = Arc::clone(&left);
    let upstream = Upstream::start(move |turn| {
        let after = turn.until_left();
        told.change(|left| *left = Some(after));
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi"));
    upstream.requests(1);
    drop(connection);
    let after = left.wait(|left| *left).expect("the upstream is closed");
    assert!(after < Duration::from_secs(2), "closed only after {after:?}");
}

#[test]
fn the_upstream_is_closed_when_the_client_leaves_in_the_middle() {
    for reset in [false, true] {
        let left = Arc::new(Watched::new(None));
        let told = Arc::clone(&left);
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            turn.delta("one");
            let after = turn.until_left();
            told.change(|left| *left = Some(after));
        });
        let sidecar = Setup::before(&upstream, "").start();
        let mut connection = sidecar.connect();
        open(&mut connection);
        connection.data();
        if reset {
            connection.reset()
        } else {
            drop(connection)
        }
        let after = left.wait(|left| *left).expect("the upstream is closed");
        assert!(after < Duration::from_secs(2), "closed only after {after:?}");
    }
}

#[test]
fn a_client_that_does_not_read_draws_a_bounded_amount() {
    const OFFERED: usize = 200 << 20;
    let drawn = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&drawn);
    let stuck = Gate::new();
    let told = stuck.clone();
    let upstream = Upstream::start(move |turn| {
        turn.open_stream();
        turn.write_limit(Duration::from_millis(700));
        let event = format!("data: {}\n\n", "x".repeat(65_528));
        while counted.load(Ordering::SeqCst) < OFFERED && turn.chunk(&event) {
            counted.fetch_add(event.len(), Ordering::SeqCst);
        }
        told.open();
        turn.close();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = Connection::open_narrow(sidecar.address());
    connection.send(&Call::stream("m", "hi"));
    stuck.wait();
    let drawn = drawn.load(Ordering::SeqCst);
    assert!(drawn > 0, "nothing was drawn at all");
    assert!(drawn < 16 << 20, "a client that does not read drew {} MiB", drawn >> 20);
    assert_eq!(sidecar.admin("/livez").status, 200);
}

#[test]
fn behind_an_upstreams_own_error_event_the_stream_ends_and_its_slot_is_free() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.event(r#"{"error":{"message":"boom","type":"server_error"}}"#);
        turn.until_left();
    });
    let sidecar = Setup::before(&upstream, "limits = { max_concurrent = 1 }").start();
    for _ in 0..2 {
        let mut connection = sidecar.connect();
        open(&mut connection);
        assert!(connection.all_data().last().is_some_and(|last| last.contains("boom")));
    }
    upstream.wait_closed(2);
}
