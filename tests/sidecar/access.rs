//! The access line of a request that fails: whose it was, how far it came, and nothing that somebody else wrote.

use serde_json::Value;

use crate::support::upstream::completion;
use crate::support::{Call, Setup, Sidecar, TokenServer, Upstream, integration};

/// The access line of a request with this id.
fn line(sidecar: &Sidecar, id: &str) -> Value {
    sidecar.log_line("the access line", |line| line["message"] == "request" && line["request_id"] == id)
}

#[test]
fn a_request_that_is_refused_early_belongs_to_the_integration_in_its_path() {
    let upstream = Upstream::saying("unreached");
    let setup = Setup::before(&upstream, "").server("max_body = \"1KiB\"\nbody_timeout = \"1s\"");
    let sidecar = setup.start();
    let at = |body: &str| Call::chat(body).at("/acme/v1/chat/completions");
    let calls = [
        ("large", "body_too_large", at(&" ".repeat(2048))),
        ("type", "unsupported_media_type", at("{}").header("content-encoding", "gzip")),
        ("method", "method_not_allowed", at("{}").method("PUT")),
        ("json", "invalid_body", at("{bad")),
        ("model", "model_not_found", at("{\"model\":\"x\"}")),
    ];
    for (id, code, call) in calls {
        sidecar.ask(&call.header("x-request-id", id));
        let line = line(&sidecar, id);
        assert_eq!((&line["integration"], &line["code"]), (&"acme".into(), &code.into()), "{line}");
        let counted = format!("outrider_errors_total{{integration=\"acme\",code=\"{code}\"}}");
        assert_eq!(sidecar.metric(&counted), Some(1.0), "{counted}");
    }
    let mut stalled = sidecar.connect();
    stalled.send_raw(
        b"POST /acme/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: stalled\r\ncontent-length: 100\r\n\r\n\
          {\"a\":\"12345678",
    );
    stalled.answer().refusal(408, "body_timeout");
    let stalled = line(&sidecar, "stalled");
    assert_eq!((&stalled["integration"], &stalled["bytes_in"]), (&"acme".into(), &14.into()), "{stalled}");

    sidecar.ask(&at("{}").at("/nobody/v1/chat/completions").header("x-request-id", "nobody"));
    assert_eq!(line(&sidecar, "nobody").get("integration"), None);
    assert_eq!(sidecar.metric("outrider_in_flight{integration=\"acme\"}"), Some(0.0));
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_upstream_that_refuses_has_answered_all_the_same() {
    for format in ["openai", "anthropic"] {
        let upstream = Upstream::start(|turn| match turn.request.text().contains("login") {
            true => turn.answer(200, "<html>login</html>"),
            false => turn.answer(429, r#"{"error":{"message":"slow down"}}"#),
        });
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
        let sidecar = Setup::new(table).start();
        let (mut heard, mut connected) = (0.0, 0.0);
        for (id, call) in [
            ("whole", Call::say("m", "hi")),
            ("stream", Call::stream("m", "hi")),
            ("garbled", Call::say("m", "login")),
        ] {
            let answer = sidecar.ask(&call.header("x-request-id", id));
            assert!(answer.status >= 400, "{format}: {}", answer.text());
            let line = line(&sidecar, id);
            assert!(line["first_byte_ms"].is_number(), "{format}: {line}");
            heard += 1.0;
            connected += f64::from(u8::from(line["connect_ms"].is_number()));
        }
        let count = |metric: &str| sidecar.metric(&format!("{metric}{{integration=\"acme\"}}"));
        assert_eq!(count("outrider_first_byte_seconds_count"), Some(heard), "{format}");
        assert!(connected >= 1.0, "{format}: nobody has connected");
        assert_eq!(count("outrider_upstream_connects_total"), Some(connected), "{format}");
    }
}

#[test]
fn what_others_wrote_is_no_cause() {
    let upstream = Upstream::start(|turn| turn.answer_with(200, &[("content-type", "words/SENTINEL")], "<"));
    let server = TokenServer::start(|turn, _| {
        turn.answer(401, r#"{"error":"SENTINEL","error_description":"SENTINEL"}"#);
    });
    let oauth2 = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let tables = [
        integration("open", &upstream.url("/v1"), ""),
        integration("shut", &upstream.url("/v1"), &oauth2),
        integration("strict", &upstream.url("/v1"), "format = \"anthropic\"\nstrict = true"),
    ];
    let sidecar = Setup::new(tables.concat()).start();
    let field = r#"{"model":"strict/m","messages":[{"role":"user","content":"hi"}],"SENTINEL":1}"#;
    for (id, status, call) in [
        ("model", 404, Call::say("SENTINEL", "hi")),
        ("theirs", 404, Call::say("SENTINEL", "hi").at("/open/v1/chat/completions")),
        ("path", 404, Call::get("/SENTINEL")),
        ("integration", 404, Call::say("m", "hi").at("/SENTINEL/v1/chat/completions")),
        ("token", 502, Call::say("shut/m", "hi")),
        ("garbled", 502, Call::say("open/m", "hi")),
        ("field", 400, Call::chat(field)),
    ] {
        let answer = sidecar.ask(&call.header("x-request-id", id));
        assert_eq!(answer.status, status, "{id}: {}", answer.text());
        assert!(answer.text().contains("SENTINEL"), "{id}: the client is not told: {}", answer.text());
        let line = line(&sidecar, id);
        let cause = line["cause"].as_str().expect("a failure has a cause");
        assert!(!cause.is_empty() && !cause.contains("SENTINEL"), "{id}: {line}");
    }
}

#[test]
fn of_an_endless_path_the_line_has_the_beginning() {
    let upstream = Upstream::saying("unreached");
    let sidecar = Setup::before(&upstream, "").start();
    let path = format!("/{}", "p".repeat(30_000));
    sidecar.ask(&Call::get(&path).header("x-request-id", "long"));
    assert_eq!(line(&sidecar, "long")["path"], path[..512]);
}

#[test]
fn a_refusal_brings_the_upstreams_request_id_and_its_rate_limits_and_no_key_that_it_repeats() {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"k3y-for-nobody\"";
    for format in ["openai", "anthropic", "gemini"] {
        let upstream = Upstream::start(|turn| {
            let headers = [
                ("content-type", "application/json"),
                ("x-request-id", "theirs-1"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("anthropic-ratelimit-tokens-reset", "k3y-for-nobody"),
                ("retry-after", "7"),
                ("set-cookie", "a=b"),
            ];
            turn.answer_with(429, &headers, r#"{"error":{"message":"slow down"}}"#);
        });
        let lines = format!("format = \"{format}\"\n{key}");
        let sidecar = Setup::new(integration("acme", &upstream.url(""), &lines)).start();
        for (id, call) in [
            ("whole", Call::say("m", "hi")),
            ("stream", Call::stream("m", "hi")),
            ("relayed", Call::get("/acme/v1/files")),
        ] {
            if id == "relayed" && format != "openai" {
                continue;
            }
            let answer = sidecar.ask(&call.header("x-request-id", id));
            let told = |name| answer.header(name);
            assert_eq!((answer.status, told("x-request-id")), (429, Some(id)), "{format}");
            assert_eq!(told("x-upstream-request-id"), Some("theirs-1"), "{format} {id}");
            assert_eq!(told("x-ratelimit-remaining-tokens"), Some("0"), "{format} {id}");
            assert_eq!(told("anthropic-ratelimit-tokens-reset"), Some("***"), "{format} {id}");
            assert_eq!((told("retry-after"), told("set-cookie")), (Some("7"), None), "{format} {id}");
            assert_eq!(line(&sidecar, id)["upstream_request_id"], "theirs-1", "{format} {id}");
        }
    }
}

#[test]
fn an_upstream_may_call_its_request_id_otherwise() {
    for format in ["openai", "anthropic"] {
        let upstream = Upstream::start(|turn| {
            let body = match turn.request.target() {
                "/v1/messages" => {
                    r#"{"type":"message","role":"assistant","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#.to_owned()
                }
                _ => completion("hi").to_string(),
            };
            let status = if turn.request.text().contains("refuse") { 429 } else { 200 };
            let headers = [
                ("content-type", "application/json"),
                ("request-id", "theirs-1"),
                ("x-amzn-requestid", "no"),
            ];
            turn.answer_with(status, &headers, body);
        });
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
        let sidecar = Setup::new(table).start();
        for (status, words) in [(200, "hi"), (429, "refuse")] {
            let answer = sidecar.ask(&Call::say("m", words).header("x-request-id", words));
            let told = (answer.status, answer.header("x-upstream-request-id"));
            assert_eq!(told, (status, Some("theirs-1")), "{format}: {}", answer.text());
            assert_eq!(answer.header("x-request-id"), Some(words));
        }
        assert_eq!(line(&sidecar, "refuse")["upstream_request_id"], "theirs-1", "{format}");
    }
}

#[test]
fn who_leaves_inside_of_a_body_has_left_and_who_garbles_it_has_failed() {
    let upstream = Upstream::saying("unreached");
    let sidecar = Setup::before(&upstream, "").start();
    let head = |id: &str, framing: &str| {
        format!(
            "POST /acme/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\n{framing}\r\n\r\n"
        )
    };
    for (id, framing, body) in [
        ("length", "content-length: 100", "{\"model\":"),
        ("chunked", "transfer-encoding: chunked", "5\r\n{\"mod"),
    ] {
        let mut connection = sidecar.connect();
        connection.send_raw(head(id, framing).as_bytes()).send_raw(body.as_bytes());
        drop(connection);
        let line = line(&sidecar, id);
        assert_eq!((&line["status"], &line["ending"]), (&499.into(), &"cancelled".into()), "{line}");
        assert_eq!((line.get("code"), &line["integration"]), (None, &"acme".into()), "{line}");
    }
    let bad = "outrider_errors_total{integration=\"acme\",code=\"bad_request\"}";
    assert_eq!(sidecar.metric(bad).unwrap_or_default(), 0.0);
    let mut connection = sidecar.connect();
    connection.send_raw(head("garbled", "transfer-encoding: chunked").as_bytes()).send_raw(b"zz\r\n");
    connection.answer().refusal(400, "bad_request");
    assert_eq!(line(&sidecar, "garbled")["ending"], "failed");
    assert_eq!(sidecar.metric(bad), Some(1.0));
}
