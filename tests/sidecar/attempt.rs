//! `outrider try`: one request through an integration without a running sidecar, told step by step; what went wrong,
//! whose fault it is, and the exit codes that scripts rely on.

use std::net::TcpListener;

use outrider::dialect::Format;
use serde_json::json;

use crate::support::handlers::{handler, handler_at, setup};
use crate::support::provider::{self, needs};
use crate::support::tls::Authority;
use crate::support::{Ended, Gate, Setup, TokenServer, Upstream, integration};

const KEY: &str = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer key-SENTINEL\"";

/// Runs `outrider try acme MORE`; no secret of the tests is in what it prints.
fn attempt(setup: &Setup, more: &[&str]) -> Ended {
    let config = setup.write();
    let ended = setup.run(&[&["try", "acme", "--config", &config.to_string_lossy()], more].concat());
    assert!(!ended.output().contains("SENTINEL"), "{}", ended.output());
    ended
}

/// What stands behind `label`.
fn fact<'a>(ended: &'a Ended, label: &str) -> &'a str {
    let line = ended.stdout.lines().find(|line| line.split("  ").next() == Some(label));
    assert!(line.is_some(), "no `{label}`:\n{}", ended.output());
    line.map_or("", |line| line[label.len()..].trim())
}

/// Fails unless it ended with `code` and said `words` behind `failed`.
fn failed(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{}", ended.output());
    for word in words {
        assert!(fact(ended, "failed").contains(word), "`{word}` is missing:\n{}", ended.output());
    }
    for label in ["error", "whose fault", "next"] {
        assert!(!fact(ended, label).is_empty());
    }
}

fn behind(tokens: &TokenServer) -> String {
    format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"cid\", client_secret = \"cs-SENTINEL\" }}",
        tokens.url()
    )
}

// ---- What goes well.

#[test]
fn a_whole_answer_is_told_from_the_configuration_to_its_last_byte() {
    let upstream = Upstream::start(|turn| {
        let body = crate::support::upstream::completion("hello\nyou");
        let headers = [("content-type", "application/json"), ("x-request-id", "up-7")];
        turn.answer_with(200, &headers, body.to_string());
    });
    let setup = Setup::before(&upstream, &format!("{KEY}\ndefaults = {{ seed = 7 }}\ndrop = [\"user\"]"));
    let ended = attempt(&setup, &[]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert_eq!(ended.stderr, "");
    assert!(fact(&ended, "configuration").ends_with("config.toml"));
    assert!(fact(&ended, "integration").starts_with("`acme` (config.toml:"), "{}", ended.stdout);
    assert_eq!(fact(&ended, "model"), "`m`, the default, which is `real-model` there");
    assert_eq!(fact(&ended, "authorization"), "api_key; header `authorization`: the API key");
    assert_eq!(fact(&ended, "connects to"), format!("{} without TLS", upstream.address()));
    assert_eq!((fact(&ended, "status"), fact(&ended, "request id")), ("200", "up-7 (x-upstream-request-id)"));
    assert!(ended.stdout.contains("\nanswer         hello\n               you\n"), "{}", ended.stdout);
    assert_eq!(fact(&ended, "finish_reason"), "stop");
    assert_eq!(fact(&ended, "usage"), "3 prompt + 2 completion = 5 tokens");
    for words in ["connected in ", "first byte after ", "all after "] {
        assert!(fact(&ended, "time").contains(words), "{}", ended.stdout);
    }
    assert!(ended.stdout.ends_with("\nok\n"), "{}", ended.stdout);
    let request = upstream.request();
    assert_eq!(request.head.header("authorization"), Some("Bearer key-SENTINEL"));
    assert_eq!(request.json()["model"], "real-model");
    assert_eq!(request.json()["messages"][0]["role"], "user");
}

#[test]
fn model_and_prompt_are_those_of_the_command_line() {
    let upstream = Upstream::saying("hello");
    let ended = attempt(&Setup::before(&upstream, ""), &["--model", "plain", "--prompt", "say \"é\""]);
    assert_eq!((ended.code, fact(&ended, "model")), (0, "`plain`"), "{}", ended.output());
    let body = upstream.request().json();
    assert_eq!((&body["model"], &body["messages"][0]["content"]), (&json!("plain"), &json!("say \"é\"")));
}

#[test]
fn a_stream_is_shown_as_it_arrives() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        assert_eq!(turn.request.json()["stream"], true);
        turn.open_stream();
        turn.delta("one\ntw");
        held.wait();
        turn.delta("o");
        turn.event(
            json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
                .to_string(),
        );
        turn.done();
    });
    let setup = Setup::before(&upstream, "");
    let config = setup.write();
    let begun = setup.begin(&["try", "acme", "--stream", "--config", &config.to_string_lossy()]);
    begun.heard("answer         one");
    gate.open();
    let ended = begun.end("`outrider try`");
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(ended.stdout.contains("\n               two\nfinish_reason  stop\n"), "{}", ended.stdout);
    assert_eq!(fact(&ended, "usage"), "3 prompt + 2 completion = 5 tokens");
}

#[test]
fn a_token_is_fetched_and_told_of_but_not_shown() {
    let (upstream, tokens) = (Upstream::saying("hello"), TokenServer::issuing());
    let setup = Setup::before(&upstream, &behind(&tokens));
    let ended = attempt(&setup, &[]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    let from = format!("oauth2; header `authorization`: token from {}", tokens.url());
    assert_eq!(fact(&ended, "authorization"), from);
    let token = fact(&ended, "token");
    assert!(token.starts_with("fetched from 127.0.0.1:") && token.contains("it ends in 3600 s"), "{token}");
    assert!(!ended.output().contains("token-1"), "{}", ended.output());
    assert_eq!(upstream.request().head.header("authorization"), Some("Bearer token-1"));
}

#[test]
fn every_format_is_tried_whole_and_streamed() {
    for (word, format) in Format::ALL.iter().map(|(word, format)| (*word, *format)) {
        let upstream = Upstream::start(move |turn| provider::answer(turn, format));
        let (lines, tables) = needs(format, "acme");
        let lines = format!("format = \"{word}\"\n{lines}");
        let setup = Setup::new(integration("acme", &upstream.url("/base"), &lines) + &tables);
        for more in [&[][..], &["--stream"]] {
            let ended = attempt(&setup, more);
            assert_eq!(ended.code, 0, "{word} {more:?}: {}", ended.output());
            assert!(fact(&ended, "integration").ends_with(&format!("format {word}")), "{}", ended.stdout);
            assert_eq!(fact(&ended, "answer"), "hello", "{word} {more:?}");
        }
    }
}

#[test]
fn neither_the_listeners_nor_another_integration_stand_in_the_way() {
    let upstream = Upstream::saying("hello");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = taken.local_addr().expect("a bound socket has an address");
    let tables = integration("acme", &upstream.url("/v1"), "")
        + &integration(
            "other",
            "http://127.0.0.1:9/v1",
            "models = [\"o\"]\ntls = { ca_file = \"no-such-file\" }",
        );
    let setup = Setup::new(tables)
        .server(&format!("listen = \"{address}\""))
        .server("start = \"strict\"\napi_key = \"caller-SENTINEL\"\ntls = { cert_file = \"no\", key_file = \"no\" }")
        .admin("listen = \"off\"");
    let ended = attempt(&setup, &[]);
    assert_eq!((ended.code, fact(&ended, "answer")), (0, "hello"), "{}", ended.output());
    assert_eq!(
        upstream.request().head.header("authorization"),
        None,
        "the caller's key is for callers alone"
    );
}

#[test]
fn what_was_not_sent_is_told() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "drop = [\"stream_options\"]");
    let ended = attempt(&setup, &[]);
    assert!(!ended.stdout.contains("dropped"), "{}", ended.stdout);
    let streaming = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("hello");
        turn.done();
    });
    let ended = attempt(&Setup::before(&streaming, "drop = [\"stream_options\"]"), &["--stream"]);
    assert_eq!(fact(&ended, "dropped"), "stream_options (x-outrider-dropped)");
}

// ---- What goes wrong.

#[test]
fn an_upstream_that_is_not_there_is_exit_69() {
    let ended = attempt(&Setup::new(integration("acme", "http://127.0.0.1:9/v1", "")), &[]);
    failed(&ended, 69, &["connection: ", "127.0.0.1:9"]);
    assert!(fact(&ended, "error").contains("`upstream_unreachable`"), "{}", ended.stdout);
}

#[test]
fn an_unknown_authority_is_exit_69_and_a_known_one_is_told() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(authority.server("127.0.0.1"), |turn| turn.complete("hello"));
    let endpoint = format!("https://{}/v1", upstream.address());
    failed(&attempt(&Setup::new(integration("acme", &endpoint, "")), &[]), 69, &["connection: "]);
    let lines = "tls = { ca_file = \"ca.pem\" }";
    let setup = Setup::new(integration("acme", &endpoint, lines)).file("ca.pem", &authority.pem());
    let ended = attempt(&setup, &[]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(fact(&ended, "connects to").contains("by TLS 1.2 or later as 127.0.0.1"), "{}", ended.stdout);
}

#[test]
fn an_upstream_that_is_silent_is_exit_69() {
    let upstream = Upstream::start(|turn| {
        turn.until_left();
    });
    let ended = attempt(&Setup::before(&upstream, "limits = { first_byte = \"50ms\" }"), &[]);
    failed(&ended, 69, &["first_byte"]);
}

#[test]
fn a_refused_key_is_exit_77_and_stays_hidden_where_the_upstream_repeats_it() {
    for status in [401, 403] {
        let upstream = Upstream::start(move |turn| {
            let key = turn.request.head.header("authorization").unwrap_or_default().to_owned();
            let body =
                json!({"error": {"message": format!("bad key {key}"), "code": "no_such_key"}}).to_string();
            turn.answer_with(status, &[("content-type", "application/json"), ("x-request-id", &key)], body);
        });
        let ended = attempt(&Setup::before(&upstream, KEY), &[]);
        failed(&ended, 77, &["authorization: integration `acme`: bad key ***"]);
        assert_eq!(fact(&ended, "status"), format!("{status}, the upstream's own"));
        assert!(fact(&ended, "error").contains("code `no_such_key`"), "{}", ended.stdout);
    }
}

#[test]
fn a_secret_stays_hidden_in_an_answer_too_whole_or_in_pieces() {
    let (tokens, upstream) = (
        TokenServer::start(|turn, _| {
            let body = json!({"access_token": "token-SENTINEL-1", "token_type": "Bearer", "expires_in": 60});
            turn.answer(200, body.to_string());
        }),
        Upstream::start(|turn| {
            let shown = turn.request.head.header("authorization").unwrap_or_default().to_owned();
            if turn.request.json()["stream"] != true {
                return turn.complete(&format!("you sent {shown}!"));
            }
            turn.open_stream();
            for letter in format!("you sent {shown}!").chars() {
                turn.delta(&letter.to_string());
            }
            turn.done();
        }),
    );
    for lines in [KEY, &behind(&tokens)] {
        for more in [&[][..], &["--stream"]] {
            let ended = attempt(&Setup::before(&upstream, lines), more);
            assert_eq!((ended.code, fact(&ended, "answer")), (0, "you sent ***!"), "{}", ended.output());
        }
    }
}

#[test]
fn refused_client_credentials_are_exit_77_and_a_token_server_that_is_down_69() {
    let upstream = Upstream::saying("hello");
    let tokens = TokenServer::start(|turn, _| {
        turn.answer(401, r#"{"error": "invalid_client", "error_description": "who is this"}"#);
    });
    let ended = attempt(&Setup::before(&upstream, &behind(&tokens)), &[]);
    failed(&ended, 77, &["token: integration `acme`: the token endpoint", "invalid_client: who is this"]);
    assert!(fact(&ended, "error").contains("`token_refused`"), "{}", ended.stdout);
    let tokens = TokenServer::start(|turn, _| turn.answer(503, "{}"));
    let ended = attempt(&Setup::before(&upstream, &behind(&tokens)), &[]);
    failed(&ended, 69, &["token: ", "no token from 127.0.0.1:"]);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_token_that_the_upstream_does_not_take_is_fetched_anew_once() {
    let tokens = TokenServer::issuing();
    let upstream = Upstream::start(|turn| match turn.request.head.header("authorization") {
        Some("Bearer token-1") => turn.answer(401, "{}"),
        _ => turn.complete("hello"),
    });
    let ended = attempt(&Setup::before(&upstream, &behind(&tokens)), &[]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(fact(&ended, "token").ends_with("it is the second: the upstream did not take the first"));
}

#[test]
fn an_upstreams_own_error_is_exit_1_with_its_words() {
    for more in [&[][..], &["--stream"]] {
        let upstream = Upstream::start(|turn| {
            let headers =
                [("content-type", "application/json"), ("x-request-id", "up-7"), ("retry-after", "9")];
            turn.answer_with(500, &headers, r#"{"error": {"message": "kaput"}}"#);
        });
        let ended = attempt(&Setup::before(&upstream, ""), more);
        failed(&ended, 1, &["answer: integration `acme`: kaput"]);
        assert_eq!(fact(&ended, "status"), "500, the upstream's own");
        assert_eq!(fact(&ended, "request id"), "up-7 (x-upstream-request-id)");
        assert_eq!(fact(&ended, "retry after"), "9 (retry-after)");
    }
}

#[test]
fn a_stream_that_breaks_is_exit_1_and_what_came_is_shown() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.close();
    });
    let ended = attempt(&Setup::before(&upstream, ""), &["--stream"]);
    failed(&ended, 1, &["answer: "]);
    assert_eq!(fact(&ended, "answer"), "one");
    assert!(fact(&ended, "error").contains("`upstream_garbled`"), "{}", ended.stdout);
}

#[test]
fn an_error_inside_a_stream_is_told_by_its_type() {
    for (kind, code) in [("authentication_error", 77), ("overloaded_error", 1)] {
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            turn.delta("one");
            turn.event(json!({"error": {"message": "not you", "type": kind}}).to_string());
            turn.end();
        });
        let ended = attempt(&Setup::before(&upstream, ""), &["--stream"]);
        failed(&ended, code, &["not you"]);
        assert_eq!((fact(&ended, "status"), fact(&ended, "answer")), ("200", "one"));
    }
}

#[test]
fn an_answer_that_is_no_completion_is_exit_1_though_it_passes_unread() {
    let upstream = Upstream::start(|turn| turn.answer(200, r#"{"hello": "w\u001b[2Jorld"}"#));
    let ended = attempt(&Setup::before(&upstream, ""), &[]);
    assert_eq!(ended.code, 1, "{}", ended.output());
    assert_eq!(fact(&ended, "failed"), "answer: the answer is no chat completion");
    assert!(fact(&ended, "answer").contains("hello"), "{}", ended.stdout);
}

#[test]
fn a_wrong_path_or_model_is_blamed_on_the_configuration_with_the_url_that_was_asked() {
    let upstream = Upstream::start(|turn| turn.answer(404, "page not found"));
    let ended = attempt(&Setup::before(&upstream, ""), &[]);
    failed(&ended, 1, &["404"]);
    assert!(fact(&ended, "whose fault").contains("the path in `endpoint`, or the model's `name`"));
    let words = format!(
        "is {} the right URL (`endpoint` begins it), and does the upstream know a model `real-model`?",
        upstream.url("/v1/chat/completions")
    );
    assert_eq!(fact(&ended, "next"), words);
}

#[test]
fn a_request_that_is_not_taken_is_the_requests_fault_and_the_advice_can_be_typed_as_it_stands() {
    let upstream = Upstream::start(|turn| turn.answer(400, r#"{"error": {"message": "n is too large"}}"#));
    let setup = Setup::before(&upstream, "");
    let config = setup.write().display().to_string();
    let ended = attempt(&setup, &[]);
    failed(&ended, 1, &["n is too large"]);
    assert!(fact(&ended, "whose fault").starts_with("the request's"), "{}", ended.stdout);
    let command = format!("`outrider explain acme --config {config}`");
    assert!(fact(&ended, "next").contains(&command), "{}", ended.stdout);
    let ended = setup.run(&["try", "acme"]);
    assert!(fact(&ended, "next").contains("`outrider explain acme`"), "{}", ended.stdout);
}

#[test]
fn an_error_inside_a_success_is_not_told_as_a_status_of_the_upstream() {
    let told = r#"{"error": {"message": "kaput", "type": "server_error"}, "type": "error"}"#;
    for (format, body) in
        [("openai", told), ("anthropic", told), ("openai", &told.replace("{\"error", "{\"id\": 1, \"error"))]
    {
        let body = body.to_owned();
        let is_first = body.starts_with("{\"error");
        let upstream = Upstream::start(move |turn| turn.answer(200, &body));
        let ended = attempt(&Setup::before(&upstream, &format!("format = \"{format}\"")), &[]);
        failed(&ended, 1, &["kaput"]);
        assert_eq!(fact(&ended, "whose fault"), "the upstream's");
        let status = if is_first {
            "500, for an error that the upstream put into an answer of success"
        } else {
            "200"
        };
        assert_eq!(fact(&ended, "status"), status);
    }
}

#[test]
fn an_answer_that_was_cut_is_not_blamed_on_the_format() {
    let upstream = Upstream::start(|turn| {
        let begin =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{\"id\":";
        turn.say(begin);
        turn.close();
    });
    let ended = attempt(&Setup::before(&upstream, ""), &[]);
    assert_eq!(ended.code, 1, "{}", ended.output());
    assert!(fact(&ended, "whose fault").contains("the answer was cut"), "{}", ended.stdout);
    let streaming = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.close();
    });
    let ended = attempt(&Setup::before(&streaming, ""), &["--stream"]);
    assert!(fact(&ended, "whose fault").contains("the answer was cut"), "{}", ended.stdout);
}

#[test]
fn a_port_of_tls_that_is_asked_without_is_the_endpoints_fault() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(authority.server("127.0.0.1"), |turn| turn.complete("hello"));
    let blunt = Upstream::start(|turn| turn.answer(400, "Client sent an HTTP request to an HTTPS server.\n"));
    for address in [upstream.address(), blunt.address()] {
        let ended = attempt(&Setup::new(integration("acme", &format!("http://{address}/v1"), "")), &[]);
        failed(&ended, 69, &["connection: "]);
        assert!(fact(&ended, "whose fault").contains("`endpoint` begins with http://"), "{}", ended.stdout);
        assert_eq!(fact(&ended, "next"), "begin `endpoint` with https://");
    }
}

#[test]
fn an_authority_that_is_not_in_ca_file_is_told_with_the_file() {
    let upstream = Upstream::start_tls(Authority::new().server("127.0.0.1"), |turn| turn.complete("hello"));
    let endpoint = format!("https://{}/v1", upstream.address());
    let setup = Setup::new(integration("acme", &endpoint, "tls = { ca_file = \"other.pem\" }"));
    let ended = attempt(&setup.file("other.pem", &Authority::new().pem()), &[]);
    failed(&ended, 69, &["connection: ", "other.pem"]);
    assert!(!fact(&ended, "failed").contains("as `ca_file`"), "{}", ended.stdout);
}

#[test]
fn a_token_of_googles_that_cannot_be_had_is_not_blamed_on_oauth2() {
    let metadata = Upstream::start(|turn| turn.answer(404, "no account"));
    let lines =
        format!("authentication_type = \"gcp\"\ngcp = {{ metadata_host = \"{}\" }}", metadata.address());
    let ended = attempt(&Setup::before(&Upstream::saying("hello"), &lines), &[]);
    failed(&ended, 69, &["token: "]);
    assert!(!ended.stdout.contains("oauth2_token_url"), "{}", ended.stdout);
    assert!(fact(&ended, "next").contains("`gcp.credentials_file`"), "{}", ended.stdout);
}

#[test]
fn nothing_of_an_upstreams_turns_a_terminal_around() {
    let upstream = Upstream::start(|turn| match turn.request.json()["model"].as_str() {
        Some("plain") => {
            turn.answer(400, json!({"error": {"message": "a\u{202e}b\u{2028}c\u{1b}[2J"}}).to_string())
        }
        _ => turn.complete("a\u{202e}b\u{2066}c\u{1b}[2J"),
    });
    let setup = Setup::before(&upstream, "");
    assert_eq!(fact(&attempt(&setup, &[]), "answer"), "a\\u{202e}b\\u{2066}c [2J");
    let ended = attempt(&setup, &["--model", "plain"]);
    failed(&ended, 1, &["a\\u{202e}b\\u{2028}c [2J"]);
}

#[test]
fn an_unknown_name_is_wrong_usage_with_a_guess() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "");
    let config = setup.write();
    let ended = setup.run(&["try", "acne", "--config", &config.to_string_lossy()]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.contains("did you mean `acme`?"), "{}", ended.stderr);
    let ended = setup.run(&["try", "something-else", "--config", &config.to_string_lossy()]);
    assert!(ended.code == 2 && ended.stderr.contains("there are: acme"), "{}", ended.stderr);
    let ended = setup.run(&["try", "config.toml"]);
    assert!(ended.code == 2 && ended.stderr.contains("the file behind --config"), "{}", ended.stderr);
    let ended = attempt(&setup, &["--model", "gpt"]);
    failed(&ended, 2, &["has no model `gpt`"]);
    assert!(fact(&ended, "next").ends_with("`m`, `plain`"), "{}", ended.stdout);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_bad_configuration_is_exit_78_with_its_mistakes() {
    let setup = Setup::new("[integrations.acme]\nendpoit = \"http://127.0.0.1:9/v1\"\nmodels = [\"m\"]\n");
    let ended = attempt(&setup, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""));
    assert!(ended.stderr.contains("endpoit") && ended.stderr.contains("config.toml:"), "{}", ended.stderr);
}

#[test]
fn an_integration_that_the_world_fails_says_why_and_is_exit_78() {
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-SENTINEL\"";
    let ended = attempt(&Setup::new(integration("acme", "http://127.0.0.1:9/v1", key)), &[]);
    failed(&ended, 78, &["configuration: integration `acme` cannot serve: api_key_value_file"]);
    assert!(fact(&ended, "error").contains("`integration_unavailable`"), "{}", ended.stdout);
}

#[test]
fn ctrl_c_ends_it_at_once() {
    for name in ["INT", "TERM"] {
        let upstream = Upstream::start(|turn| {
            turn.until_left();
        });
        let setup = Setup::before(&upstream, "");
        let config = setup.write();
        let begun = setup.begin(&["try", "acme", "--config", &config.to_string_lossy()]);
        upstream.requests(1);
        begun.signal(name);
        let ended = begun.end("`outrider try`");
        assert_eq!(ended.code, 1, "{}", ended.output());
        assert!(ended.stderr.contains(&format!("SIG{name}")), "{}", ended.output());
        upstream.wait_closed(1);
    }
}

// ---- Handlers.

#[test]
fn a_handler_is_loaded_and_answers() {
    let setup = setup(&["bad.py"], "", &handler("acme", "bad.py", "Handler", ""));
    for more in [&["--prompt", "hello"][..], &["--prompt", "hello", "--stream"]] {
        let ended = attempt(&setup, more);
        assert_eq!(ended.code, 0, "{}", ended.output());
        assert!(fact(&ended, "integration").ends_with("handler bad.py, class Handler"), "{}", ended.stdout);
        assert!(fact(&ended, "handler").contains("Handler loads: "), "{}", ended.stdout);
        assert!(fact(&ended, "answer").ends_with(" hello"), "{}", ended.stdout);
        let lines = ["authorization", "endpoint"].map(|label| fact(&ended, label));
        assert_eq!(lines, ["none", "http://127.0.0.1:9/base: the handler connects by itself"]);
    }
    let ended = attempt(&setup, &["--prompt", "no number"]);
    failed(&ended, 1, &["the handler raised ValueError"]);
    assert!(ended.stderr.contains("Traceback"), "the log goes to stderr: {}", ended.stderr);
}

const CALLS: &str = r#"
import json, urllib.request
from litellm import CustomLLM

class Handler(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        request = urllib.request.Request(kwargs["api_base"] + "/generate", data=b"{}")
        response = kwargs["model_response"]
        response.choices[0].message.content = json.load(urllib.request.urlopen(request))["text"]
        return response
"#;

#[test]
fn what_a_handler_sends_leaves_with_the_integrations_token_where_it_is_to() {
    let tokens = TokenServer::issuing();
    let upstream = Upstream::start(|turn| turn.answer(200, r#"{"text": "hello"}"#));
    let tables = handler_at(&upstream.url("/base"), "acme", ("calls.py", "Handler"), &behind(&tokens));
    let ended = attempt(&setup(&[], "egress = true", &tables).file("handlers/calls.py", CALLS), &[]);
    assert_eq!((ended.code, fact(&ended, "answer")), (0, "hello"), "{}", ended.output());
    assert_eq!(fact(&ended, "connects to"), format!("{} without TLS", upstream.address()));
    assert!(fact(&ended, "token").starts_with("fetched from 127.0.0.1:"), "{}", ended.stdout);
    let request = upstream.request();
    assert_eq!(request.target(), "/base/generate");
    assert_eq!(request.head.header("authorization"), Some("Bearer token-1"));
}

#[test]
fn a_provider_behind_a_handler_that_is_dead_is_found_out_where_its_calls_leave_through_us() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let gone = gone.expect("a loopback port is free");
    let tables = handler_at(&format!("http://{gone}/base"), "acme", ("calls.py", "Handler"), "");
    let ended = attempt(&setup(&[], "egress = true", &tables).file("handlers/calls.py", CALLS), &[]);
    failed(&ended, 69, &["HTTP Error 502"]);
    assert!(fact(&ended, "provider").starts_with(&format!("cannot be reached: no connection to {gone}")));
    assert!(fact(&ended, "whose fault").contains("`endpoint`"), "{}", ended.stdout);

    let tokens = TokenServer::start(|turn, _| turn.answer(401, r#"{"error": "invalid_client"}"#));
    let upstream = Upstream::saying("hello");
    let tables = handler_at(&upstream.url("/base"), "acme", ("calls.py", "Handler"), &behind(&tokens));
    let ended = attempt(&setup(&[], "egress = true", &tables).file("handlers/calls.py", CALLS), &[]);
    failed(&ended, 77, &["HTTP Error 502"]);
    assert!(fact(&ended, "provider").contains("there is no token: "), "{}", ended.stdout);
}

const REFUSES: &str = r#"
from litellm import CustomLLM

class Refused(Exception):
    status_code = 422

class Handler(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        raise Refused("no such customer")
"#;

#[test]
fn a_handlers_own_refusal_sends_nobody_to_a_traceback() {
    let tables = handler("acme", "refuses.py", "Handler", "");
    let ended = attempt(&setup(&[], "", &tables).file("handlers/refuses.py", REFUSES), &[]);
    failed(&ended, 1, &[""]);
    assert_eq!(fact(&ended, "status"), "422, the handler's own");
    assert!(fact(&ended, "whose fault").contains("blames the request"), "{}", ended.stdout);
    assert!(fact(&ended, "next").contains("no traceback"), "{}", ended.stdout);
}

#[test]
fn a_handler_that_does_not_load_says_why_and_is_exit_78() {
    let tables = handler("acme", "odd.py", "Handler", "");
    let setup = setup(&[], "", &tables).file("handlers/odd.py", "raise ValueError('no luck')\n");
    let ended = attempt(&setup, &[]);
    failed(&ended, 78, &["handler: ", "does not load: ", "no luck"]);
    assert_eq!(ended.stdout.matches("does not load").count(), 1, "{}", ended.stdout);
    assert!(ended.stderr.contains("Traceback"), "the log goes to stderr: {}", ended.stderr);
}
