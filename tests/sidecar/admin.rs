//! What operators see: probes, metrics, integrations, one line a request; and what nobody may see.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::upstream::completion;
use crate::support::{Call, Connection, Setup, Sidecar, TokenServer, Turn, Upstream, integration};

#[test]
fn the_probes_say_that_we_live_and_are_ready() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    for path in ["/livez", "/readyz"] {
        assert_eq!(sidecar.admin(path).status, 200, "{path}");
    }
    assert_eq!(sidecar.admin("/no-such-path").status, 404);
    assert_eq!(sidecar.ask(&Call::get("/livez")).status, 404, "the proxy listener serves no probes");
}

#[test]
fn a_client_that_calls_the_wrong_listener_is_told_so() {
    let sidecar = Setup::before(&Upstream::saying("hello"), "").start();
    let answer = Connection::open(sidecar.admin_address()).send(&Call::say("m", "hi")).answer();
    assert_eq!(answer.status, 405);
    assert!(answer.text().contains("models answer at `server.listen`"), "{}", answer.text());
}

#[test]
fn metrics_count_requests_under_our_prefix() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    sidecar.ask(&Call::say("m", "hi")).content();
    let answer = sidecar.admin("/metrics");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let counted = |line: &&str| line.starts_with("outrider_") && line.contains("acme");
    assert!(text.lines().any(|line| counted(&line)), "no metric names the integration:\n{text}");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("outrider_"), "a metric without our prefix: {line}");
    }
}

#[test]
fn integrations_are_listed_with_their_state() {
    let upstream = Upstream::saying("hello");
    let broken = integration("broken", "https://127.0.0.1:1/v1", "tls = { ca_file = \"no-such-file.pem\" }");
    let sidecar = Setup::new(integration("acme", &upstream.url("/v1"), "") + &broken).start();
    let answer = sidecar.admin("/integrations");
    assert_eq!(answer.status, 200);
    let _: Value = answer.json();
    for words in ["acme", "broken", "no-such-file.pem"] {
        assert!(answer.text().contains(words), "{words} is not told: {}", answer.text());
    }
}

#[test]
fn the_admin_listener_can_be_off_and_the_metrics_one_shows_less() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").admin("listen = \"off\"").start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");

    let both = "listen = \"127.0.0.1:0\"\nmetrics_listen = \"unix:metrics.sock\"";
    let sidecar = Setup::before(&upstream, "").admin(both).start();
    let get = |path: &str| {
        Connection::open_unix(&sidecar.dir().join("metrics.sock")).send(&Call::get(path)).answer()
    };
    assert_eq!((get("/metrics").status, get("/livez").status, get("/readyz").status), (200, 200, 200));
    let refused = get("/integrations");
    assert_eq!(
        (refused.status, refused.text().contains("/integrations")),
        (404, false),
        "{}",
        refused.text()
    );
    let listening = sidecar.log_line("where it listens", |line| line["message"] == "listening");
    let metrics = sidecar.dir().join("metrics.sock");
    assert_eq!(listening["metrics"], format!("unix:{}", metrics.display()));
}

#[test]
fn each_request_writes_one_access_line() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    let id = answer.header("x-request-id").expect("every answer has an id").to_owned();
    let line = sidecar.log_line("the access line", |line| line.to_string().contains(&id));
    let line = line.to_string();
    for words in ["200", "acme"] {
        assert!(line.contains(words), "the access line does not say {words}: {line}");
    }
    sidecar.ask(&Call::say("m", "again")).content();
    let lines = sidecar.output().lines().filter(|l| l.contains(&id)).count();
    assert_eq!(lines, 1, "one request wrote {lines} lines:\n{}", sidecar.output());
}

#[test]
fn access_lines_can_be_switched_off() {
    let upstream = Upstream::saying("hello");
    let tables = integration("acme", &upstream.url("/v1"), "") + "[log]\naccess = false\n";
    let mut sidecar = Setup::new(tables).start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    let id = answer.header("x-request-id").expect("every answer has an id").to_owned();
    sidecar.terminate();
    sidecar.wait();
    assert!(!sidecar.output().contains(&id), "{}", sidecar.output());
}

const SECRETS: [&str; 5] =
    ["KEY-SENTINEL", "CS-SENTINEL", "TOKEN-SENTINEL", "PROMPT-SENTINEL", "CALLER-SENTINEL"];

/// A sidecar at its most talkative, with a secret in every place where one can stand.
fn talkative(upstream: &Upstream, server: &TokenServer) -> Sidecar {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"KEY-SENTINEL\"";
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         token = '{{\"client_id\": \"cid\", \"client_secret\": \"CS-SENTINEL\"}}'",
        server.url()
    );
    let tables = [
        integration("key", &upstream.url("/v1"), key),
        integration("oauth", &upstream.url("/v1"), &oauth),
        "[log]\nlevel = \"trace\"\n".to_owned(),
    ];
    Setup::new(tables.concat()).server("api_key = \"CALLER-SENTINEL\"").start()
}

#[test]
fn no_output_of_ours_shows_a_secret_or_a_prompt() {
    let upstream = Upstream::start(|turn| match turn.request.text().contains("fail") {
        true => turn.answer(500, r#"{"error":{"message":"sorry"}}"#),
        false => turn.complete("hello"),
    });
    let server = TokenServer::start(|turn, _| {
        turn.answer(200, r#"{"access_token":"TOKEN-SENTINEL","expires_in":3600}"#)
    });
    let sidecar = talkative(&upstream, &server);
    let mut seen = String::new();
    for model in ["key/m", "oauth/m", "none/m"] {
        for text in ["PROMPT-SENTINEL", "PROMPT-SENTINEL fail"] {
            let call = Call::say(model, text).header("authorization", "Bearer CALLER-SENTINEL");
            seen.push_str(sidecar.ask(&call).text());
        }
    }
    let broken = Call::chat("{\"model\":\"key/m\",\"PROMPT-SENTINEL\"")
        .header("authorization", "Bearer CALLER-SENTINEL");
    seen.push_str(sidecar.ask(&broken).text());
    for path in ["/metrics", "/integrations", "/readyz"] {
        seen.push_str(sidecar.admin(path).text());
    }
    assert_eq!(upstream.count(), 4);
    sidecar.terminate();
    let mut sidecar = sidecar;
    sidecar.wait();
    seen.push_str(&sidecar.output());
    for secret in SECRETS {
        let at =
            seen.find(secret).map(|at| seen[at.saturating_sub(200)..].chars().take(400).collect::<String>());
        assert_eq!(at, None, "{secret} was shown");
    }
}

#[test]
fn an_answer_that_came_in_pieces_is_logged_as_complete() {
    let upstream = Upstream::start(|turn| {
        let body = completion(&"long ".repeat(200_000)).to_string();
        turn.answer(200, body);
    });
    let sidecar = Setup::before(&upstream, "").start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert!(answer.clean && answer.content().len() == 1_000_000);
    let line = sidecar.log_line("the access line", |line| line["message"] == "request");
    assert_eq!((&line["ending"], &line["status"]), (&"complete".into(), &200.into()), "{line}");
}

/// What a gateway may do that shows a failed request to whoever sent it: all of it, under a code of its own.
fn echo(turn: &mut Turn, count: usize) {
    let text = format!("I got {:?} {}", turn.request.head, turn.request.text());
    let error =
        serde_json::json!({"error": {"message": text, "type": text, "code": format!("c{count}\u{1b}[2J")}});
    match (turn.request.text().contains("\"stream\": true"), count % 2) {
        (true, 0) => {
            turn.open_stream();
            turn.delta("one");
            turn.event(error.to_string());
            turn.until_left();
        }
        (true, _) => {
            turn.open_stream();
            turn.event(format!("{text} is no JSON"));
            turn.until_left();
        }
        (false, _) => turn.answer(400, error.to_string()),
    }
}

#[test]
fn an_upstream_that_sends_our_request_back_puts_nothing_of_it_into_log_or_metrics() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |turn| echo(turn, count.fetch_add(1, Ordering::SeqCst)));
    let server = TokenServer::start(|turn, _| {
        turn.answer(200, r#"{"access_token":"TOKEN-SENTINEL","expires_in":3600}"#)
    });
    let mut sidecar = talkative(&upstream, &server);
    let mut told = String::new();
    for model in ["key/m", "oauth/m"] {
        for ask in [Call::say, Call::stream, Call::stream] {
            let call = ask(model, "PROMPT-SENTINEL").header("authorization", "Bearer CALLER-SENTINEL");
            told.push_str(sidecar.ask(&call).text());
        }
    }
    assert!(told.contains("PROMPT-SENTINEL"), "the client is told what the upstream said: {told}");
    let metrics = sidecar.admin("/metrics").text().to_owned();
    assert!(!metrics.contains("code=\"c"), "an upstream can make metrics without end: {metrics}");
    sidecar.terminate();
    sidecar.wait();
    let seen = sidecar.output() + &metrics;
    for secret in SECRETS {
        assert!(!seen.contains(secret), "{secret} was shown: {seen}");
    }
    for key in ["KEY-SENTINEL", "TOKEN-SENTINEL"] {
        let refusals = told.lines().filter(|line| line.starts_with("{\"error\"")).collect::<String>();
        assert!(!refusals.contains(key), "{key} was told to the client: {refusals}");
    }
}
