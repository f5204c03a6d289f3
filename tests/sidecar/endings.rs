//! How an answer ends: it is complete when all of it has come, and what broke off tells what is known of it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::support::tls::Authority;
use crate::support::upstream::{completion, delta};
use crate::support::{Call, Gate, Setup, Sidecar, Turn, Upstream, integration};

/// The access line of a request with this id.
fn line(sidecar: &Sidecar, id: &str) -> Value {
    sidecar.log_line("the access line", |line| line["message"] == "request" && line["request_id"] == id)
}

/// A completion that tells its tokens, as text.
fn counted() -> String {
    let mut answer = completion("hello");
    answer["usage"] = serde_json::json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    answer.to_string()
}

#[test]
fn trailers_are_the_end_of_an_answer_and_its_connection_is_used_again() {
    let upstream = Upstream::start(|turn| {
        turn.say(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        let answer = counted();
        turn.chunk(&answer[..40]);
        turn.chunk(&answer[40..]);
        turn.say("0\r\nx-sum: abc\r\nauthorization: none\r\n\r\n");
    });
    let sidecar = Setup::before(&upstream, "").server("workers = 1").start();
    for id in ["one", "two"] {
        let answer = sidecar.ask(&Call::say("m", "hi").header("te", "trailers").header("x-request-id", id));
        assert_eq!((answer.content().as_str(), answer.clean), ("hello", true));
        let line = line(&sidecar, id);
        assert_eq!((&line["ending"], &line["prompt_tokens"]), (&"complete".into(), &3.into()), "{line}");
        let relayed = Call::get("/acme/v1/files").header("x-request-id", &format!("{id}-relayed"));
        assert_eq!(sidecar.ask(&relayed).content(), "hello");
        let line = self::line(&sidecar, &format!("{id}-relayed"));
        assert_eq!(line["ending"], "complete", "{line}");
    }
    assert_eq!(upstream.connections(), 1);
}

/// A provider that speaks HTTP/2: it sends completions of a known length, and never that this was all.
fn late(authority: &Authority) -> SocketAddr {
    let mut tls = authority.server("localhost");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    listener.set_nonblocking(true).expect("a socket need not block");
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket may be watched");
        let (socket, _) = listener.accept().await.expect("the sidecar connects");
        let socket = TlsAcceptor::from(Arc::new(tls)).accept(socket).await.expect("the sidecar trusts us");
        let mut connection = h2::server::handshake(socket).await.expect("the sidecar speaks HTTP/2");
        let mut open = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let answer = counted();
            let head = http::Response::builder()
                .header("content-type", "application/json")
                .header("content-length", answer.len());
            let head = head.body(()).expect("a good head");
            let mut stream = respond.send_response(head, false).expect("the stream is open");
            stream.send_data(answer.into(), false).expect("the stream is open");
            open.push(stream);
        }
    };
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(serve);
    });
    address
}

#[test]
fn an_answer_of_which_all_that_was_announced_has_come_is_complete() {
    let authority = Authority::new();
    let address = late(&authority);
    let url = format!("https://localhost:{}/v1", address.port());
    let lines = "tls = { ca_file = \"ca.pem\", http2 = true }";
    // One worker: each has a connection of its own.
    let setup = Setup::new(integration("acme", &url, lines)).file("ca.pem", &authority.pem());
    let sidecar = setup.server("workers = 1").start();
    for id in ["one", "two"] {
        let answer = sidecar.ask(&Call::say("m", "hi").header("x-request-id", id));
        assert_eq!((answer.content().as_str(), answer.clean), ("hello", true));
        let line = line(&sidecar, id);
        assert_eq!((&line["ending"], &line["prompt_tokens"]), (&"complete".into(), &3.into()), "{line}");
    }
}

#[test]
fn a_whole_answer_in_which_nothing_begins_is_refused() {
    let upstream = Upstream::start(|turn| {
        let request = turn.request.json();
        let said = request["messages"][0]["content"].as_str().expect("a message of the client's").to_owned();
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
        if !said.is_empty() {
            turn.chunk(&said);
        }
        turn.say("0\r\nx-sum: abc\r\n\r\n");
    });
    let sidecar = Setup::before(&upstream, "").start();
    let long = " ".repeat(200_000);
    for (said, words) in [
        ("", "its body is empty"),
        (" \r\n\t ", "its body is empty"),
        ("{", "ends before its JSON is complete"),
        (r#" { "err"#, "ends before its JSON is complete"),
        (r#"{"error":"#, "ends before its JSON is complete"),
        (&long, "more than 65536 bytes of white space"),
    ] {
        let message = sidecar.ask(&Call::say("m", said)).refusal(502, "upstream_garbled");
        assert!(message.contains(words), "{said:?}: {message}");
    }
    assert_eq!(sidecar.ask(&Call::say("m", r#"  {"a":1}"#)).text(), r#"  {"a":1}"#);
}

#[test]
fn white_space_that_keeps_an_answer_alive_goes_on_before_its_client_gives_up() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        let request = turn.request.json();
        let said = request["messages"][0]["content"].as_str().expect("a message of the client's").to_owned();
        let framing = request["user"].as_str().expect("a user of the client's");
        turn.say(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"));
        let is_chunked = framing.contains("chunked");
        for piece in std::iter::once(&b"\n"[..]).chain(said.as_bytes().chunks(said.len().min(1000) / 2 + 1)) {
            if is_chunked {
                turn.chunk(piece);
            } else {
                turn.say(piece);
            }
            held.wait();
        }
        if is_chunked {
            turn.end();
        }
    });
    let sidecar = Setup::before(&upstream, "").start();
    let (long, spaces) = (" ".repeat(2000), format!("{{{}", " ".repeat(200_000)));
    let chunked = "transfer-encoding: chunked";
    let cases = [
        (counted(), chunked, None),
        ("\n \n{\"a\":1}".to_owned(), chunked, None),
        ("\n {\"a\":1}".to_owned(), "content-length: 10", None),
        (r#" {"error":{"message":"busy"}}"#.to_owned(), chunked, Some("upstream_error")),
        ("<html>busy</html>".to_owned(), chunked, Some("upstream_garbled")),
        (" {".to_owned(), chunked, Some("upstream_garbled")),
        (spaces, chunked, Some("upstream_garbled")),
        (String::new(), chunked, Some("upstream_garbled")),
        (long, "content-length: 2001", Some("upstream_garbled")),
    ];
    let mut clients = Vec::new();
    for (n, (said, framing, _)) in cases.iter().enumerate() {
        let body = json!({"model": "m", "user": framing, "messages": [{"role": "user", "content": said}]});
        let mut connection = sidecar.connect();
        let call = Call::chat(body.to_string()).header("x-request-id", &format!("late-{n}"));
        connection.send(&call.header("x-stainless-read-timeout", "3"));
        clients.push(connection);
    }
    for client in &mut clients {
        assert_eq!((client.head().0, client.line().as_str()), (200, ""));
    }
    gate.open();
    for (n, (mut client, (said, _, code))) in clients.into_iter().zip(cases).enumerate() {
        let (rest, clean) = client.rest();
        let line = line(&sidecar, &format!("late-{n}"));
        assert_eq!((clean, line["code"].as_str()), (code.is_none(), code), "{line}");
        if clean {
            assert_eq!(rest, said);
        } else {
            assert_eq!(rest.trim(), "", "nothing of what is no answer goes on");
        }
    }
}

#[test]
fn a_stream_behind_whose_head_nothing_comes_is_refused() {
    for head in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n",
    ] {
        let upstream = Upstream::start(move |turn| {
            turn.say(head);
        });
        for format in ["openai", "anthropic"] {
            let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
            let answer = Setup::new(table).start().ask(&Call::stream("m", "hi"));
            let message = answer.refusal(502, "upstream_garbled");
            assert!(message.contains("its body is empty"), "{format}, {head:?}: {message}");
        }
    }
}

#[test]
fn an_answer_that_ends_inside_of_its_json_is_told_as_failed() {
    let upstream = Upstream::start(|turn| {
        let answer = counted();
        let short = answer.len() - 20;
        turn.answer_with(200, &[("x-request-id", "req-7")], &answer[..short]);
    });
    let sidecar = Setup::before(&upstream, "").start();
    let answer = sidecar.ask(&Call::say("m", "hi").header("x-request-id", "cut"));
    assert_eq!((answer.status, answer.clean), (200, true));
    let line = line(&sidecar, "cut");
    let told = (&line["ending"], &line["code"], &line["upstream_request_id"]);
    assert_eq!(told, (&"failed".into(), &"upstream_garbled".into(), &"req-7".into()), "{line}");
    assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("before its JSON")), "{line}");
}

#[test]
fn an_error_inside_a_200_keeps_the_advice_of_its_head() {
    let upstream = Upstream::start(|turn| {
        let headers = [("content-type", "application/json"), ("retry-after", "7"), ("x-request-id", "up-1")];
        turn.answer_with(200, &headers, r#"{"error":{"message":"slow down","code":429}}"#);
    });
    for format in ["openai", "cohere"] {
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
        let answer = Setup::new(table).start().ask(&Call::say("m", "hi"));
        assert!(answer.status >= 400, "{format}: {}", answer.text());
        assert_eq!(answer.header("x-upstream-request-id"), Some("up-1"), "{format}");
        if format == "openai" {
            assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
        }
    }
}

/// The head of an answer with the upstream's own id and `fields`.
fn head(kind: &str, fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-request-id: up-1\r\n{fields}\r\n\r\n")
}

/// What an upstream does to a request that asks for it by the case that it names.
fn fail(turn: &mut Turn) {
    let id = turn.request.head.header("x-case").expect("the case is forwarded").to_owned();
    let (json, stream, chunked) = ("application/json", "text/event-stream", "transfer-encoding: chunked");
    match id.as_str() {
        "empty" => drop(turn.say(head(json, "content-length: 0"))),
        "blank" => drop(turn.say(head(json, chunked) + "2\r\n  \r\n0\r\n\r\n")),
        "unbegun" => {
            turn.say(head(json, "content-length: 9"));
            turn.close();
        }
        "silent" => {
            turn.say(head(json, "content-length: 9"));
            turn.until_left();
        }
        "cut" => {
            turn.say(head(json, "content-length: 99") + r#"{"id":"1","#);
            turn.close();
        }
        "open" => {
            turn.say(head(json, "connection: close") + r#"{"id":"#);
            turn.close();
        }
        "compressed" => drop(turn.say(head(json, "content-encoding: gzip\r\ncontent-length: 0"))),
        "broken" => {
            turn.say(head(stream, chunked));
            turn.delta("one");
            turn.close();
        }
        "error" => {
            turn.say(head(stream, chunked));
            turn.delta("one");
            turn.event(r#"{"error":{"message":"no more"}}"#);
            turn.end();
        }
        "quiet" => {
            turn.say(head(stream, chunked));
            turn.delta("one");
            turn.until_left();
        }
        _ => turn.close(),
    }
}

#[test]
fn whatever_fails_behind_the_upstreams_head_names_the_upstreams_request() {
    let upstream = Upstream::start(fail);
    let lines = "forward_headers = [\"x-case\"]\nlimits = { idle = \"300ms\" }";
    let sidecar = Setup::before(&upstream, lines).start();
    let (whole, stream) = (Call::say("m", "hi"), Call::stream("m", "hi"));
    let relayed = Call::get("/acme/v1/files");
    for (case, call) in [
        ("empty", &whole),
        ("blank", &whole),
        ("unbegun", &whole),
        ("silent", &whole),
        ("cut", &whole),
        ("open", &whole),
        ("compressed", &whole),
        ("broken", &stream),
        ("error", &stream),
        ("quiet", &stream),
        ("cut", &relayed),
        ("unbegun", &relayed),
        ("open", &relayed),
        ("compressed", &relayed),
    ] {
        let id = if std::ptr::eq(call, &relayed) { format!("relayed-{case}") } else { case.to_owned() };
        let mut connection = sidecar.connect();
        connection.send(&call.clone().header("x-case", case).header("x-request-id", &id));
        assert_eq!(connection.head().1.header("x-upstream-request-id"), Some("up-1"), "{id}");
        let line = line(&sidecar, &id);
        assert_eq!(
            (&line["ending"], &line["upstream_request_id"]),
            (&"failed".into(), &"up-1".into()),
            "{line}"
        );
    }
}

#[test]
fn a_client_that_runs_out_of_patience_is_told_which_request_it_was() {
    let upstream = Upstream::start(|turn| {
        turn.say(head("application/json", "content-length: 99"));
        turn.until_left();
    });
    for format in ["openai", "anthropic"] {
        let table = integration("acme", &upstream.url("/v1"), &format!("format = \"{format}\""));
        let sidecar = Setup::new(table).start();
        // The upstream's head must come within it, on whatever machine.
        let patience = |call: Call| call.header("x-stainless-read-timeout", "3");
        let answer = sidecar.ask(&patience(Call::say("m", "hi")));
        answer.refusal(504, "upstream_timeout");
        assert_eq!(answer.header("x-upstream-request-id"), Some("up-1"), "{format}");
    }
}

#[test]
fn a_client_that_leaves_behind_the_upstreams_head_leaves_its_id_in_the_log() {
    for status in [200, 500] {
        let upstream = Upstream::start(move |turn| {
            let head = head("application/json", "content-length: 99");
            turn.say(head.replace("200", &status.to_string()));
            turn.until_left();
        });
        for format in ["openai", "anthropic"] {
            let table = integration("acme", &upstream.url("/v1"), &format!("format = \"{format}\""));
            let sidecar = Setup::new(table).start();
            let mut connection = sidecar.connect();
            connection.send(&Call::say("m", "hi").header("x-request-id", "left"));
            sidecar.until_metric("outrider_first_byte_seconds_count{integration=\"acme\"}", 1.0);
            drop(connection);
            let line = line(&sidecar, "left");
            assert_eq!(
                (&line["ending"], &line["upstream_request_id"], line["first_byte_ms"].is_number()),
                (&"cancelled".into(), &"up-1".into(), true),
                "{status} {format}: {line}"
            );
        }
    }
}

#[test]
fn an_upstreams_id_that_repeats_our_key_is_not_logged() {
    let upstream = Upstream::start(|turn| {
        let key = turn.request.head.header("x-key").expect("the key is sent").to_owned();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: of-{key}\r\n");
        turn.say(head + "transfer-encoding: chunked\r\n\r\n");
        turn.delta("one");
        turn.close();
    });
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"k3y-for-nobody\"";
    let sidecar = Setup::before(&upstream, key).start();
    sidecar.ask(&Call::stream("m", "hi").header("x-request-id", "one"));
    assert_eq!(line(&sidecar, "one")["upstream_request_id"], "of-***");
    assert!(!sidecar.output().contains("k3y-for-nobody"));
}

#[test]
fn a_translated_stream_names_the_upstreams_request() {
    for (format, first) in [
        ("openai", format!("data: {}\n\n", delta("one"))),
        ("cohere", "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"1\"}\n\n".to_owned()),
    ] {
        let upstream = Upstream::start(move |turn| {
            turn.say(head("text/event-stream", "transfer-encoding: chunked"));
            turn.chunk(&first);
            turn.until_left();
        });
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
        let sidecar = Setup::new(table).start();
        let mut connection = sidecar.connect();
        let (status, head) = connection.send(&Call::stream("m", "hi")).head();
        let ids: Vec<_> = head.all("x-upstream-request-id");
        assert_eq!((status, ids), (200, vec!["up-1"]), "{format}");
    }
}

#[test]
fn a_whole_answer_that_our_own_stop_cuts_says_so() {
    let upstream = Upstream::start(|turn| {
        turn.say(head("application/json", "content-length: 99") + r#"{"id":"1","#);
        turn.until_left();
    });
    let mut sidecar = Setup::before(&upstream, "").server("drain_timeout = \"300ms\"").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::say("m", "hi").header("x-request-id", "cut"));
    assert_eq!(connection.head().0, 200);
    sidecar.terminate();
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
    let line = line(&sidecar, "cut");
    let told = ["status", "ending", "code", "upstream_request_id"].map(|name| line[name].clone());
    let want = serde_json::json!([200, "failed", "draining", "up-1"]);
    assert_eq!(Value::from(told.to_vec()), want, "{line}");
}

#[test]
fn every_connection_to_the_model_is_counted_though_its_answer_was_refused() {
    let tokens = crate::support::TokenServer::start(|turn, number| {
        turn.answer(200, format!(r#"{{"access_token":"token-{number}","expires_in":3600}}"#));
    });
    let upstream = Upstream::start(|turn| {
        if turn.request.head.header("authorization") == Some("Bearer token-1") {
            turn.answer_with(401, &[("connection", "close")], "{}");
            turn.close();
        } else {
            turn.complete("hello");
        }
    });
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        tokens.url()
    );
    let sidecar = Setup::before(&upstream, &lines).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(upstream.connections(), 2);
    assert_eq!(sidecar.metric("outrider_upstream_connects_total{integration=\"acme\"}"), Some(2.0));
}
