//! OAuth2 client credentials: one token for all, fetched once, renewed when refused, and never shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::proxy::{Doing, Via};
use crate::support::tls::Authority;
use crate::support::token_server::issue;
use crate::support::upstream::Request;
use crate::support::{Call, Gate, PATIENCE, Setup, Sidecar, TokenServer, Upstream};

const TOKEN: &str = r#"token = '{"client_id": "cid", "client_secret": "cs-SENTINEL"}'"#;

/// A sidecar before `upstream` whose tokens come from `server`.
fn sidecar(upstream: &Upstream, server: &TokenServer, lines: &str) -> Sidecar {
    let oauth = format!("authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n{lines}", server.url());
    Setup::before(upstream, &oauth).start()
}

fn form(request: &Request) -> HashMap<String, String> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

fn bearers(upstream: &Upstream, count: usize) -> Vec<String> {
    let one = |r: &Arc<Request>| r.head.header("authorization").unwrap_or("none").to_owned();
    upstream.requests(count).iter().map(one).collect()
}

#[test]
fn who_runs_out_of_patience_over_a_token_is_not_told_that_the_model_was_slow() {
    let upstream = Upstream::saying("unreached");
    let server = TokenServer::start(|turn, _| {
        turn.until_left();
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    for path in ["/v1/chat/completions", "/acme/v1/responses"] {
        let call = Call::say("m", "hi").at(path).header("x-stainless-read-timeout", "0.5");
        let answer = sidecar.ask(&call);
        assert!(
            answer.refusal(503, "token_unavailable").contains("no token came within"),
            "{}",
            answer.text()
        );
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn who_runs_out_of_patience_over_the_renewal_of_a_refused_token_is_not_told_that_either() {
    for path in ["/v1/chat/completions", "/acme/v1/responses"] {
        let upstream = Upstream::start(|turn| turn.answer(401, "{}"));
        let server = TokenServer::start(|turn, number| match number {
            1 => issue(turn, 1, 3600),
            _ => drop(turn.until_left()),
        });
        let sidecar = sidecar(&upstream, &server, TOKEN);
        let answer = sidecar.ask(&Call::say("m", "hi").at(path).header("x-stainless-read-timeout", "0.5"));
        let message = answer.refusal(503, "token_unavailable");
        assert!(message.contains("no token came within"), "{message}");
        assert_eq!((upstream.count(), server.calls()), (1, 2));
    }
}

/// Stands in the path of a token endpoint.
const IN_THE_PATH: &str = "Abcdefgh-0123456789-XYZ";

#[test]
fn what_came_from_elsewhere_into_the_path_of_a_token_endpoint_is_shown_nowhere() {
    let upstream = Upstream::saying("unreached");
    let server = TokenServer::start(|turn, _| {
        let said = format!("no such place: {}", turn.request.target());
        turn.answer(400, json!({"error": "invalid_request", "error_description": said}).to_string());
    });
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}/${{TENANT}}/v1\"\n{TOKEN}",
        server.url()
    );
    let setup = Setup::before(&upstream, &lines).env("TENANT", IN_THE_PATH);
    let setup = setup.file("ask.json", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
    setup.write();
    let explained = setup.run(&["explain", "acme", "--request", "ask.json"]).output();
    let tried = setup.run(&["try", "acme"]).output();
    let sidecar = setup.start();
    let told = sidecar.ask(&Call::say("m", "hi")).text().to_owned();
    let listed = sidecar.admin("/integrations").text().to_owned();
    for shown in [&explained, &tried, &told, &listed, &sidecar.output()] {
        assert!(!shown.contains("Abcdefgh") && !shown.contains("0123456789"), "{shown}");
    }
    for shown in [&explained, &tried, &told] {
        assert!(shown.contains("/***/v1"), "{shown}");
    }
    assert!(server.requests(1)[0].target().contains(IN_THE_PATH));
}

#[test]
fn a_token_is_fetched_once_and_used_for_every_request() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let sidecar =
        sidecar(&upstream, &server, &format!("authentication_scope = \"inference.execute\"\n{TOKEN}"));
    for _ in 0..3 {
        let call = Call::say("m", "hi").header("authorization", "Bearer caller");
        assert_eq!(sidecar.ask(&call).content(), "hello");
    }
    assert_eq!(bearers(&upstream, 3), ["Bearer token-1"; 3]);
    assert_eq!(server.calls(), 1);
    let call = &server.requests(1)[0];
    assert_eq!((call.method(), call.target()), ("POST", "/oauth2/token"));
    assert_eq!(call.head.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(call.head.header("accept").is_some_and(|a| a.contains("application/json")));
    let want = [
        ("grant_type", "client_credentials"),
        ("client_id", "cid"),
        ("client_secret", "cs-SENTINEL"),
        ("scope", "inference.execute"),
    ];
    assert_eq!(form(call), want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert!(!sidecar.output().contains("SENTINEL") && !sidecar.output().contains("token-1"));
}

#[test]
fn basic_encodes_both_halves_before_it_joins_them() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let lines = "oauth2 = { client_id = \"a:b\", client_secret = \"p w+%é\", client_auth = \"basic\", audience = \"aud\", \
                 resource = \"urn:r\", extra_params = { tenant = \"t 1\" }, extra_headers = { x-extra = \"e\" } }";
    assert_eq!(sidecar(&upstream, &server, lines).ask(&Call::say("m", "hi")).content(), "hello");
    let call = &server.requests(1)[0];
    // base64 of "a%3Ab:p+w%2B%25%C3%A9" (RFC 6749 §2.3.1: form-encoded first)
    assert_eq!(call.head.header("authorization"), Some("Basic YSUzQWI6cCt3JTJCJTI1JUMzJUE5"));
    assert_eq!(call.head.header("x-extra"), Some("e"));
    let want =
        [("grant_type", "client_credentials"), ("audience", "aud"), ("resource", "urn:r"), ("tenant", "t 1")];
    assert_eq!(form(call), want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn the_token_endpoint_is_the_endpoint_where_none_is_given() {
    let upstream = Upstream::start(|turn| {
        if turn.request.target() == "/v1" {
            turn.answer(200, r#"{"access_token":"t-1","token_type":"Bearer","expires_in":60}"#);
        } else {
            turn.complete("hello");
        }
    });
    let sidecar = Setup::before(&upstream, &format!("authentication_type = \"oauth2\"\n{TOKEN}")).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    let requests = upstream.requests(2);
    assert_eq!((requests[0].method(), requests[0].target()), ("POST", "/v1"));
    assert_eq!(requests[1].head.header("authorization"), Some("Bearer t-1"));
}

#[test]
fn header_prefix_and_fields_are_the_customers_to_choose() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| turn.answer(200, r#"{"jwt":"j-1","ttl":"3600"}"#));
    let lines = "oauth2 = { client_id = \"c\", client_secret = \"s\", header = \"x-gateway-token\", prefix = \"JWT \", \
                 token_field = \"jwt\", expires_field = \"ttl\" }";
    let sidecar = sidecar(&upstream, &server, lines);
    for _ in 0..2 {
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    }
    assert_eq!(upstream.requests(2)[1].head.header("x-gateway-token"), Some("JWT j-1"));
    assert_eq!(server.calls(), 1);
}

#[test]
fn many_callers_at_once_make_one_token_call() {
    let upstream = Upstream::saying("hello");
    let gate = Gate::new();
    let held = gate.clone();
    let server = TokenServer::start(move |turn, number| {
        held.wait();
        issue(turn, number, 3600);
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    let mut callers: Vec<_> = (0..40).map(|_| sidecar.connect()).collect();
    for caller in &mut callers {
        caller.send(&Call::say("m", "hi"));
    }
    server.requests(1);
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.answer().content(), "hello");
    }
    assert_eq!(server.calls(), 1);
    assert_eq!(upstream.count(), 40);
}

#[test]
fn the_token_call_survives_the_caller_that_began_it() {
    let upstream = Upstream::saying("hello");
    let gate = Gate::new();
    let held = gate.clone();
    let server = TokenServer::start(move |turn, number| {
        held.wait();
        issue(turn, number, 3600);
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    let mut first = sidecar.connect();
    first.send(&Call::say("m", "first"));
    server.requests(1);
    let mut second = sidecar.connect();
    second.send(&Call::say("m", "second"));
    first.reset();
    sidecar.logged("request", 1); // the access line of the caller that left
    gate.open();
    assert_eq!(second.answer().content(), "hello");
    assert_eq!(server.calls(), 1);
    assert!(upstream.request().text().contains("second"));
}

#[test]
fn a_401_of_the_upstream_renews_the_token_once_and_sends_once_more() {
    let upstream = Upstream::start(|turn| match turn.request.head.header("authorization") {
        Some("Bearer token-1") => turn.answer(401, r#"{"error":{"message":"expired"}}"#),
        _ => turn.complete("hello"),
    });
    let server = TokenServer::issuing();
    let sidecar = sidecar(&upstream, &server, TOKEN);
    assert_eq!(sidecar.ask(&Call::say("m", "one")).content(), "hello");
    assert_eq!(sidecar.ask(&Call::say("m", "two")).content(), "hello");
    assert_eq!(bearers(&upstream, 3), ["Bearer token-1", "Bearer token-2", "Bearer token-2"]);
    let requests = upstream.requests(3);
    assert_eq!(requests[0].body, requests[1].body, "the second try is the same request");
    assert_eq!(server.calls(), 2);
}

#[test]
fn an_upstream_that_always_says_401_is_passed_on_and_draws_few_tokens() {
    let upstream =
        Upstream::start(|turn| turn.answer(401, r#"{"error":{"message":"no entry","type":"t","code":"c"}}"#));
    let server = TokenServer::issuing();
    let sidecar = sidecar(&upstream, &server, TOKEN);
    for _ in 0..6 {
        assert!(sidecar.ask(&Call::say("m", "hi")).refusal(401, "c").contains("no entry"));
    }
    assert!(upstream.count() <= 12, "{} requests upstream for 6 of ours", upstream.count());
    assert!(server.calls() <= 2, "{} token calls for 6 requests", server.calls());
}

#[test]
fn refused_credentials_are_told_with_the_servers_words() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| {
        turn.answer(401, r#"{"error":"invalid_client","error_description":"unknown client cid"}"#);
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    let answer = sidecar.ask(&Call::say("m", "hi"));
    let message = answer.refusal(502, "token_refused");
    for words in ["acme", "invalid_client", "unknown client cid"] {
        assert!(message.contains(words), "the message does not say `{words}`: {message}");
    }
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(upstream.count(), 0);
    assert!(!sidecar.output().contains("SENTINEL") && !message.contains("SENTINEL"));
}

#[test]
fn a_token_server_that_is_down_is_a_503_that_says_when_to_come_back() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| turn.answer(500, "{}"));
    let sidecar = sidecar(&upstream, &server, TOKEN);
    for _ in 0..5 {
        let answer = sidecar.ask(&Call::say("m", "hi"));
        assert!(answer.refusal(503, "token_unavailable").contains("acme"));
        assert!(answer.header("retry-after").is_some());
    }
    assert!(server.calls() <= 5, "{} token calls", server.calls());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_token_server_that_asks_to_be_left_alone_is_and_callers_are_told_for_how_long() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| {
        turn.answer_with(429, &[("content-type", "application/json"), ("retry-after", "40")], "{}");
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    for _ in 0..3 {
        let answer = sidecar.ask(&Call::say("m", "hi"));
        answer.refusal(503, "token_unavailable");
        let seconds: u64 =
            answer.header("retry-after").and_then(|said| said.parse().ok()).unwrap_or_default();
        assert!((6..=40).contains(&seconds), "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), None);
    }
    assert_eq!((server.calls(), upstream.count()), (1, 0));
    let line = sidecar.log_line("the failed fetch", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("no token from"))
    });
    assert_eq!(line["integration"], "acme", "{line}");
}

#[test]
fn a_token_that_tls_or_a_proxy_stands_before_is_not_worth_a_retry() {
    let upstream = Upstream::saying("hello");
    let untrusted = Authority::new().server("127.0.0.1");
    let server = Upstream::start_tls(untrusted, |turn| turn.answer(200, "{}"));
    let tls = (format!("https://{}/token", server.address()), String::new());
    let via = Via::start(Doing::Say("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n"));
    let proxy =
        ("https://idp.corp.example/token".to_owned(), format!("proxy = \"{}\"\n", via.url("ann:pw@")));
    for (url, lines) in [tls, proxy] {
        let oauth = format!("authentication_type = \"oauth2\"\noauth2_token_url = \"{url}\"\n{lines}{TOKEN}");
        let answer = Setup::before(&upstream, &oauth).start().ask(&Call::say("m", "hi"));
        answer.refusal(503, "token_unavailable");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{}", answer.text());
    }
}

#[test]
fn a_silent_token_server_is_given_up_at_its_limit() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| {
        turn.until_left();
    });
    let sidecar = sidecar(&upstream, &server, &format!("limits = {{ token = \"200ms\" }}\n{TOKEN}"));
    sidecar.ask(&Call::say("m", "hi")).refusal(503, "token_unavailable");
    assert_eq!(upstream.count(), 0);
    let why = ": it did not answer within 200ms (limits.token); next try in";
    sidecar.log_line("one whose cause says why", |line| {
        line["cause"].as_str().is_some_and(|cause| cause.contains(why))
    });
}

#[test]
fn the_cause_of_a_missing_token_says_why_and_never_in_the_words_of_its_server() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| {
        turn.answer(503, r#"{"error":"busy","error_description":"SENTINEL"}"#);
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert!(answer.refusal(503, "token_unavailable").contains("it answered 503 (busy: SENTINEL)"));
    let line = sidecar.log_line("the request's", |line| line["cause"].is_string());
    let cause = line["cause"].as_str().unwrap_or_default();
    assert!(cause.contains(": it answered 503; next try in"), "{line}");
    assert!(!line.to_string().contains("SENTINEL"), "{line}");
}

#[test]
fn answers_that_are_no_token_send_nothing_upstream() {
    let huge = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(2 << 20));
    let bad = [
        (200, "<html>login</html>".to_owned()),
        (200, r#"{"access_token":""}"#.to_owned()),
        (200, r#"{"access_token":"a\r\nx-smug: 1"}"#.to_owned()),
        (200, r#"{"error":"invalid_scope"}"#.to_owned()),
        (200, r#"{"access_token":"t","token_type":"mac"}"#.to_owned()),
        (307, "{}".to_owned()),
        (200, huge),
    ];
    for (status, body) in bad {
        let shown: String = body.chars().take(60).collect();
        let upstream = Upstream::saying("hello");
        let server = TokenServer::start(move |turn, _| {
            let headers = [("content-type", "application/json"), ("location", "http://127.0.0.1:9/")];
            turn.answer_with(status, &headers, &body);
        });
        let answer = sidecar(&upstream, &server, TOKEN).ask(&Call::say("m", "hi"));
        assert!(matches!(answer.status, 502 | 503), "{shown}: {}", answer.text());
        assert!(!answer.text().contains("SENTINEL"), "{}", answer.text());
        assert_eq!(upstream.count(), 0, "{shown}");
    }
}

#[test]
fn lifetimes_and_types_are_read_generously() {
    let lifetimes = [json!("3600"), json!(3600.5), json!(null)];
    let types = [json!("bEaReR"), json!("BearerToken"), json!(null)];
    for (expires, kind) in lifetimes.into_iter().zip(types) {
        let upstream = Upstream::saying("hello");
        let server = TokenServer::start(move |turn, _| {
            let mut body = json!({"access_token": "t"});
            for (key, value) in [("expires_in", &expires), ("token_type", &kind)] {
                if !value.is_null() {
                    body[key] = value.clone();
                }
            }
            turn.answer(200, body.to_string());
        });
        let sidecar = sidecar(&upstream, &server, TOKEN);
        for _ in 0..2 {
            assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
        }
        assert_eq!(bearers(&upstream, 2), ["Bearer t"; 2]);
        assert_eq!(server.calls(), 1);
    }
}

#[test]
fn a_failed_flight_is_followed_by_a_good_one() {
    let upstream = Upstream::saying("hello");
    let failures = AtomicUsize::new(0);
    let server = TokenServer::start(move |turn, number| {
        if failures.fetch_add(1, Ordering::SeqCst) == 0 {
            turn.reset();
        } else {
            issue(turn, number, 3600);
        }
    });
    let sidecar = sidecar(&upstream, &server, TOKEN);
    // The first failure begins a pause of 250 ms in which callers are refused at once; its end is the event.
    let mut refused = 0;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while sidecar.ask(&Call::say("m", "hi")).status != 200 {
        refused += 1;
        assert!(tokio::time::Instant::now() < deadline, "{refused} refusals, and no token after a failure");
    }
    assert_eq!(server.calls(), 2);
}
