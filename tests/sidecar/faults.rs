//! Upstreams that misbehave: each gets its own code, nothing is sent twice, and the next request is served.

use crate::support::upstream::completion;
use crate::support::wire::deaf_port;
use crate::support::{Answer, Call, Setup, Turn, Upstream, integration};

/// The answer to one request when the upstream does `script`; the sidecar must serve the next request as usual.
fn answer_to(lines: &str, script: fn(&mut Turn)) -> Answer {
    exchange(lines, script).0
}

/// Likewise, where the upstream must be left.
fn answer_and_leave(lines: &str, script: fn(&mut Turn)) -> Answer {
    let (answer, upstream) = exchange(lines, script);
    upstream.wait_closed(1);
    answer
}

fn exchange(lines: &str, script: fn(&mut Turn)) -> (Answer, Upstream) {
    let first = std::sync::atomic::AtomicBool::new(true);
    let upstream = Upstream::start(move |turn| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            script(turn)
        } else {
            turn.complete("healthy")
        }
    });
    let sidecar = Setup::before(&upstream, lines).start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert_eq!(upstream.count(), 1, "the request was sent more than once");
    assert_eq!(sidecar.ask(&Call::say("m", "again")).content(), "healthy");
    (answer, upstream)
}

/// Checks the code and that the message names the integration.
fn refused(answer: &Answer, status: u16, code: &str) -> String {
    let message = answer.refusal(status, code);
    assert!(message.contains("acme"), "the message does not name the integration: {message}");
    message
}

#[test]
fn a_port_where_nobody_listens_is_unreachable() {
    let (_socket, address) = deaf_port();
    let sidecar = Setup::new(integration("acme", &format!("http://{address}/v1"), "")).start();
    let message = refused(&sidecar.ask(&Call::say("m", "hi")), 502, "upstream_unreachable");
    assert!(message.contains(&address.to_string()), "the message does not say where: {message}");
}

#[test]
fn a_name_that_does_not_resolve_is_unreachable() {
    // Behind a firewall a resolver may give up only after a while.
    let lines = "limits = { connect = \"55s\" }";
    let sidecar = Setup::new(integration("acme", "http://no-such-host.invalid/v1", lines)).start();
    let message = refused(&sidecar.ask(&Call::say("m", "hi")), 502, "upstream_unreachable");
    assert!(message.contains("no-such-host.invalid"), "{message}");
}

#[test]
fn an_upstream_that_says_nothing_is_given_up_at_the_first_byte_limit() {
    let silent: fn(&mut Turn) = |turn| {
        turn.until_left();
    };
    refused(&answer_and_leave("limits = { first_byte = \"1s\" }", silent), 504, "upstream_timeout");
}

#[test]
fn a_client_that_says_how_long_it_waits_is_answered_before_it_gives_up() {
    let upstream = Upstream::start(|turn| {
        turn.until_left();
    });
    let sidecar = Setup::before(&upstream, "").start();
    let call = Call::say("m", "hi").header("x-stainless-read-timeout", "0.5");
    refused(&sidecar.ask(&call), 504, "upstream_timeout");
    upstream.wait_closed(1);
}

#[test]
fn a_clients_patience_counts_behind_the_head_and_in_the_queue_too() {
    let upstream = Upstream::start(|turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n");
        turn.until_left();
    });
    let sidecar = Setup::before(&upstream, "limits = { max_concurrent = 1 }").start();
    let mut first = sidecar.connect();
    first.send(&Call::say("m", "hi").header("x-stainless-read-timeout", "2"));
    upstream.request();
    for call in [Call::say("m", "queued"), Call::stream("m", "queued")] {
        let answer = sidecar.ask(&call.header("x-stainless-read-timeout", "0.3"));
        refused(&answer, 503, "overloaded");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(upstream.count(), 1);
    refused(&first.answer(), 504, "upstream_timeout");
    upstream.wait_closed(1);
}

#[test]
fn half_an_answer_that_only_its_connection_ends_is_refused() {
    let cut: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":{}");
        turn.close();
    };
    refused(&answer_to("", cut), 502, "upstream_garbled");
    let whole: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
        turn.say(completion("by its connection").to_string());
        turn.close();
    };
    assert_eq!(answer_to("", whole).content(), "by its connection");
}

#[test]
fn an_answer_that_stalls_in_its_body_is_given_up_at_the_idle_limit() {
    let stalled: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":");
        turn.until_left();
    };
    let answer = answer_and_leave("limits = { idle = \"1s\" }", stalled);
    assert!(
        answer.status == 504 || !answer.clean,
        "half an answer was passed on as a whole one: {}",
        answer.text()
    );
}

#[test]
fn a_refusal_that_drips_is_told_at_the_idle_limit() {
    let dripping: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 500 No\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n");
        turn.chunk("the disk is full");
        while turn.chunk(".") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let answer = answer_and_leave("limits = { idle = \"1s\" }", dripping);
    assert!(answer.status == 500 && answer.text().contains("the disk is full."), "{}", answer.text());
}

#[test]
fn half_an_answer_never_looks_whole() {
    let cut: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":");
        turn.close();
    };
    let answer = answer_to("", cut);
    assert!(
        answer.status == 502 || !answer.clean,
        "half an answer was passed on as a whole one: {}",
        answer.text()
    );
}

#[test]
fn a_redirect_is_neither_followed_nor_passed_on() {
    let elsewhere = Upstream::saying("stolen");
    let target = elsewhere.url("/v1/chat/completions");
    for status in [301, 302, 303, 307, 308] {
        let target = target.clone();
        let upstream = Upstream::start(move |turn| {
            turn.answer_with(status, &[("location", &target), ("content-type", "application/json")], "{}");
        });
        let sidecar = Setup::before(&upstream, "").start();
        let answer = sidecar.ask(&Call::say("m", "hi"));
        refused(&answer, 502, "upstream_redirect");
        assert_eq!(answer.header("location"), None);
    }
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn an_answer_compressed_unasked_is_garbled() {
    let compressed: fn(&mut Turn) = |turn| {
        let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
        turn.answer_with(200, &headers, b"\x1f\x8b\x08\x00");
    };
    let answer = answer_to("", compressed);
    let message = refused(&answer, 502, "upstream_garbled");
    assert!(message.contains("its content-encoding is `gzip` although"), "{message}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    for coding in ["identity", "", "Identity, identity"] {
        let upstream = Upstream::start(move |turn| {
            let headers = [("content-type", "application/json"), ("content-encoding", coding)];
            turn.answer_with(200, &headers, "{\"a\":1}");
        });
        let sidecar = Setup::before(&upstream, "").start();
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).text(), "{\"a\":1}", "`{coding}`");
    }
}

#[test]
fn a_compressed_refusal_keeps_all_but_its_words() {
    let upstream = Upstream::start(|turn| {
        let headers =
            [("content-type", "application/json"), ("content-encoding", "gzip"), ("retry-after", "7")];
        turn.answer_with(429, &headers, b"\x1f\x8b\x08\x00");
    });
    let sidecar = Setup::before(&upstream, "").start();
    for call in [Call::say("m", "hi"), Call::stream("m", "hi"), Call::get("/acme/v1/files")] {
        let answer = sidecar.ask(&call);
        let message = refused(&answer, 429, "upstream_error");
        assert!(message.contains("its words are compressed (content-encoding: gzip)"), "{message}");
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("7"), None));
    }
}

#[test]
fn a_body_that_is_badly_framed_is_not_told_as_a_connection_that_broke() {
    let upstream = Upstream::start(|turn| {
        let kind = match turn.request.head.header("x-case") {
            Some(_) => "text/event-stream",
            None => "application/json",
        };
        turn.say(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        ));
        turn.until_left();
    });
    let sidecar = Setup::before(&upstream, "forward_headers = [\"x-case\"]").start();
    let whole = refused(&sidecar.ask(&Call::say("m", "hi")), 502, "upstream_garbled");
    let stream = sidecar.ask(&Call::stream("m", "hi").header("x-case", "stream"));
    for told in [&whole, &stream.text().to_owned()] {
        assert!(told.contains("the size of a chunk makes no sense"), "{told}");
    }
}

#[test]
fn an_upstream_that_breaks_the_connection_got_the_request_once() {
    for script in [Turn::reset as fn(&mut Turn), Turn::close] {
        let answer = answer_to("", script);
        assert!(matches!(answer.status, 502 | 503), "{}", answer.text());
        assert!(answer.text().contains("acme"), "{}", answer.text());
    }
}

#[test]
fn a_request_on_a_connection_that_died_unused_is_not_lost() {
    // The upstream closes the idle connection between two requests: the second goes out on a fresh one.
    let upstream = Upstream::start(|turn| {
        turn.complete("hello");
        turn.close();
    });
    let sidecar = Setup::before(&upstream, "").start();
    for round in 1..=5 {
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
        upstream.wait_closed(round);
    }
    assert_eq!(upstream.count(), 5);
}

#[test]
fn bytes_that_are_no_http_answer_are_a_502() {
    let no_http: fn(&mut Turn) = |turn| {
        turn.say("just text, no status line\r\n\r\n");
        turn.close();
    };
    let two_lengths: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 50\r\n\r\nhello");
        turn.close();
    };
    let nul: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\n{}");
        turn.close();
    };
    let switching: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
        turn.close();
    };
    for script in [no_http, two_lengths, nul, switching] {
        let answer = answer_to("", script);
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.json()["error"]["message"].is_string());
    }
}

#[test]
fn a_few_interim_answers_are_swallowed() {
    let early: fn(&mut Turn) = |turn| {
        turn.say("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        turn.complete("hello");
    };
    assert_eq!(answer_to("", early).content(), "hello");
}

#[test]
fn a_connection_with_bytes_behind_an_answer_is_not_used_again() {
    let upstream = Upstream::start(|turn| {
        let poison = completion("poison").to_string();
        turn.complete("hello");
        turn.say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{poison}", poison.len()));
    });
    let sidecar = Setup::before(&upstream, "").start();
    for round in 1..=5 {
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
        upstream.wait_closed(round);
    }
}
