//! Requests that go nowhere: refused in OpenAI's form before anything leaves.

use crate::support::{Call, Setup, Sidecar, Upstream};

/// A sidecar before an upstream that must not be reached.
fn guarded() -> (Upstream, Sidecar) {
    let upstream = Upstream::saying("reached");
    let sidecar = Setup::before(&upstream, "").start();
    (upstream, sidecar)
}

#[test]
fn a_body_that_is_not_one_json_object_is_refused() {
    let (upstream, sidecar) = guarded();
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bad: [&[u8]; 16] = [
        b"",
        b" ",
        b"{",
        b"{\"model\": ",
        b"[\"model\"]",
        b"\"m\"",
        b"null",
        b"{\"model\":\"m\"}{}",
        b"{\"model\":\"m\",}",
        b"{\"model\":\"m\" \"x\":1}",
        b"{'model':'m'}",
        b"{\"model\":\"m\",\"x\":01}",
        b"{\"model\":\"m\",\"x\":\"\xff\xfe\"}",
        b"{\"model\":\"m\",\"x\":\"a\nb\"}",
        b"{\"model\":\"m\",\"model\":\"plain\"}",
        deep.as_bytes(),
    ];
    for body in bad {
        let shown: String = String::from_utf8_lossy(body).chars().take(40).collect();
        let answer = sidecar.ask(&Call::chat(body));
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        assert!(!answer.refusal(400, "invalid_body").is_empty(), "{shown}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_model_that_is_no_text_is_refused() {
    let (upstream, sidecar) = guarded();
    for model in ["1", "[\"m\"]", "{}", "true"] {
        let answer = sidecar.ask(&Call::chat(format!("{{\"model\":{model},\"messages\":[]}}")));
        answer.refusal(400, "invalid_body");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_model_is_found_however_its_letters_are_written() {
    let (upstream, sidecar) = guarded();
    assert_eq!(sidecar.ask(&Call::chat(r#"{"mod\u0065l":"\u006d"}"#)).content(), "reached");
    assert_eq!(upstream.request().json()["model"], "real-model");
    sidecar.ask(&Call::chat(r#"{"mod\u0065l":"m","model":"m"}"#)).refusal(400, "invalid_body");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn content_types_are_taken_as_the_contract_says() {
    let (_upstream, sidecar) = guarded();
    let body = r#"{"model":"m","messages":[]}"#;
    let call = || Call::chat(body).without("content-type");
    assert_eq!(sidecar.ask(&call()).content(), "reached", "a missing type is fine");
    for good in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(sidecar.ask(&call().header("content-type", good)).content(), "reached", "{good}");
    }
    for bad in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "multipart/form-data; boundary=x",
    ] {
        let answer = sidecar.ask(&call().header("content-type", bad));
        assert_eq!(answer.status, 415, "{bad}: {}", answer.text());
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| m.contains("application/json")));
    }
    let packed = sidecar.ask(&Call::chat(body).header("content-encoding", "gzip"));
    assert_eq!(packed.status, 415, "{}", packed.text());
}

#[test]
fn every_refusal_has_its_four_keys_and_a_request_id_of_its_own() {
    let (_upstream, sidecar) = guarded();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = sidecar.ask(&Call::chat("{"));
        answer.refusal(400, "invalid_body");
        ids.push(answer.header("x-request-id").expect("every answer has an id").to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "request ids repeat");
}

#[test]
fn a_host_that_is_missing_or_doubled_is_refused_and_the_connection_closed() {
    let (upstream, sidecar) = guarded();
    let body = r#"{"model":"m","messages":[]}"#;
    for hosts in ["", "host: a\r\nhost: b\r\n"] {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\n{hosts}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = sidecar.connect();
        connection.send_raw(head.as_bytes());
        connection.answer().refusal(400, "bad_request");
        assert!(connection.is_closed());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn upgrades_and_tunnels_are_refused() {
    let (upstream, sidecar) = guarded();
    let upgrade = Call::get("/v1/models").header("connection", "upgrade").header("upgrade", "websocket");
    let mut connection = sidecar.connect();
    connection.send(&upgrade).answer().refusal(400, "bad_request");
    assert!(connection.is_closed());
    let mut connection = sidecar.connect();
    connection.send_raw(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n");
    let (status, _) = connection.head();
    assert_eq!(status, 400);
    assert_eq!(upstream.count(), 0);
}

/// As Java's own client sends it, and libraries that stand on it.
#[test]
fn an_offer_of_http_2_is_passed_over_and_nobody_hears_of_it() {
    let (upstream, sidecar) = guarded();
    let mut connection = sidecar.connect();
    for path in ["/v1/chat/completions", "/acme/v1/files", "/v1/chat/completions"] {
        let call = Call::say("m", "hi").at(path).header("connection", "Upgrade, HTTP2-Settings");
        let call = call.header("upgrade", "h2c").header("http2-settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA");
        assert_eq!(connection.send(&call).answer().status, 200, "{path}");
    }
    for request in upstream.requests(3) {
        let told = ["upgrade", "http2-settings"].map(|name| request.head.header(name).is_some());
        assert_eq!(told, [false, false], "{:?}", request.head);
    }
}

#[test]
fn framing_that_two_readers_would_read_differently_never_reaches_the_upstream() {
    let (upstream, sidecar) = guarded();
    let body = r#"{"model":"m","messages":[]}"#;
    let inner = "POST /v1/chat/completions?smug=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n{inner}", body.len());
    let lengths = format!("content-length: {}\r\n", chunked.len());
    let bad = [
        format!("{lengths}transfer-encoding: xchunked\r\n"),
        format!("{lengths}transfer-encoding : chunked\r\n"),
        format!("content-length: {}\r\ncontent-length: {}\r\n", body.len(), chunked.len()),
        "content-length: 0x10\r\n".to_owned(),
        "transfer-encoding: chunked, chunked\r\n".to_owned(),
        "transfer-encoding: gzip, chunked\r\n".to_owned(),
        format!("{lengths}x-a: a\0b\r\n"),
        format!("{lengths}x a: 1\r\n"),
    ];
    for framing in bad {
        let mut connection = sidecar.connect();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{framing}\r\n"
        );
        connection.send_raw(format!("{head}{chunked}").as_bytes());
        let (status, _) = connection.head();
        assert!((400..=505).contains(&status), "{framing:?} gave {status}");
    }
    assert_eq!(upstream.count(), 0);
}

/// The heads of requests that are refused before their bodies are read, each with its status.
const EARLY: [(u16, &str); 6] = [
    (401, "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"),
    (404, "POST /nowhere HTTP/1.1\r\nhost: x\r\nauthorization: Bearer K\r\n"),
    (404, "POST /nobody/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer K\r\n"),
    (404, "POST /nobody/v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer K\r\n"),
    (405, "PUT /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer K\r\n"),
    (
        415,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer K\r\ncontent-encoding: gzip\r\n",
    ),
];

#[test]
fn a_connection_lives_on_when_a_request_with_a_small_body_is_refused_by_its_head() {
    let upstream = Upstream::saying("unreached");
    let sidecar = Setup::before(&upstream, "").server("api_key = \"K\"").start();
    let body = r#"{"model":"m","messages":[]}"#;
    let models = Call::get("/v1/models").header("authorization", "Bearer K");
    for (status, head) in EARLY {
        for framing in ["content-length", "chunked"] {
            let mut connection = sidecar.connect();
            let (first, rest) = match framing {
                "chunked" => (
                    format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len()),
                    "0\r\n\r\n".to_owned(),
                ),
                _ => (format!("{head}content-length: {}\r\n\r\n", body.len()), body.to_owned()),
            };
            connection.send_raw(first.as_bytes());
            // What another connection is answered shows that the head has been seen long since.
            assert_eq!(sidecar.ask(&models).status, 200);
            connection.send_raw(rest.as_bytes());
            let answer = connection.answer();
            assert_eq!(answer.status, status, "{head}: {}", answer.text());
            assert_eq!(answer.header("connection"), None, "{head}");
            assert_eq!(answer.header("allow").is_some(), status == 405, "{head}");
            assert_eq!(connection.send(&models).answer().status, 200, "{head} {framing}");
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_connection_that_ends_before_an_unread_body_says_so() {
    let upstream = Upstream::saying("unreached");
    let sidecar = Setup::before(&upstream, "").server("api_key = \"K\"").start();
    for (status, head) in EARLY {
        // Large, held back until we ask for it, and never to come.
        for body in
            ["content-length: 10000000", "expect: 100-continue\r\ncontent-length: 9", "content-length: 9"]
        {
            let mut connection = sidecar.connect();
            connection.send_raw(format!("{head}{body}\r\n\r\n").as_bytes());
            let (got, fields) = connection.head();
            assert_eq!((got, fields.header("connection")), (status, Some("close")), "{head}{body}");
            assert!(fields.header("allow").is_some() == (status == 405), "{head}{body}");
        }
    }
    assert_eq!(upstream.count(), 0);
}
