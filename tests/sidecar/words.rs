//! What an upstream says of its errors: its own words reach the client, our key in them never, and no blame is made up.

use std::sync::{Arc, Mutex};

use outrider::dialect::Format;
use serde_json::json;

use crate::support::{Answer, Call, Setup, Sidecar, Turn, Upstream, integration, provider};

/// 104 characters, like keys of providers.
const KEY: &str = concat!(
    "sk-live-0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef"
);

type Script = Box<dyn Fn(&mut Turn) + Send + Sync>;

/// One integration for each of `formats`, called like it, before an upstream that does the script of the moment.
fn world(formats: &[Format], key: &str) -> (Upstream, Sidecar, Arc<Mutex<Script>>) {
    let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|turn| turn.complete("hello"))));
    let current = Arc::clone(&script);
    let upstream = Upstream::start(move |turn| (current.lock().expect("no script panics"))(turn));
    let mut tables = String::new();
    for format in formats {
        let (lines, more) = provider::needs(*format, format.word());
        let lines = format!(
            "format = \"{}\"\n{lines}authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"Bearer {key}\"",
            format.word()
        );
        tables.push_str(&(integration(format.word(), &upstream.url(""), &lines) + &more));
    }
    (upstream, Setup::new(tables).start(), script)
}

fn ask(sidecar: &Sidecar, format: Format, stream: bool) -> Answer {
    let call = if stream { Call::stream("m", "hi") } else { Call::say("m", "hi") };
    sidecar.ask(&call.at(&format!("/{}/v1/chat/completions", format.word())))
}

/// A script that answers `status` with `body`, of the type `kind`.
fn whole(status: u16, kind: &'static str, body: String) -> Script {
    Box::new(move |turn| turn.answer_with(status, &[("content-type", kind)], &body))
}

/// A script that sends `body` as a stream of `kind`.
fn streamed(kind: &'static str, body: String) -> Script {
    Box::new(move |turn| {
        turn.say(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"));
        turn.chunk(&body);
        turn.end();
    })
}

#[test]
fn a_key_that_an_upstream_repeats_is_told_by_no_format_wherever_words_are_cut() {
    let formats: Vec<Format> = Format::ALL
        .into_iter()
        .map(|(_, format)| format)
        .filter(|format| *format != Format::Bedrock)
        .collect();
    let (_upstream, sidecar, script) = world(&formats, KEY);
    let (html, json) = ("text/html", "application/json");
    for format in formats {
        let (kind, begin) = match format {
            Format::Ollama | Format::Declared => ("application/x-ndjson", ""),
            _ => ("text/event-stream", "data: "),
        };
        // Each key of 104 characters is cut by whoever cuts at a place of these.
        for padding in (0..700).step_by(90).chain((1850..2020).step_by(90)) {
            let words = format!("{}{KEY} was refused", "x".repeat(padding));
            let message = json!({"error": {"message": words}}).to_string();
            let shapes: [(bool, Script); 9] = [
                (false, whole(401, html, format!("<p>{words}</p>"))),
                (false, whole(401, json, json!({"unknown": words}).to_string())),
                (false, whole(401, json, message.clone())),
                (false, whole(200, json, message.clone())),
                (false, whole(200, json, words.clone())),
                (true, whole(200, html, words.clone())),
                (true, whole(200, json, message.clone())),
                (true, streamed(kind, format!("{begin}{message}\n\n"))),
                (true, streamed(kind, format!("{begin}{words}\n\n"))),
            ];
            for (shape, (stream, answer)) in shapes.into_iter().enumerate() {
                *script.lock().expect("no script panics") = answer;
                let answer = ask(&sidecar, format, stream);
                let told = String::from_utf8_lossy(&answer.body);
                assert!(!told.contains("sk-liv"), "{format:?}, shape {shape}, {padding}: {told}");
                assert!(told.contains("\"error\":{"), "{format:?}, shape {shape}, {padding}: {told}");
            }
        }
    }
    assert!(!sidecar.output().contains("sk-liv"), "the log has a part of the key");
}

#[test]
fn a_token_longer_than_what_is_told_is_hidden_and_so_is_an_escaped_one() {
    let token = format!("eyJhbGciOi.{}.+/=", "c2VnbWVudA".repeat(90));
    let (_upstream, sidecar, script) = world(&[Format::OpenAi, Format::Cohere], &token);
    let escaped = token.replace('/', "\\/").replace('+', "\\u002B");
    let percent = token.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D");
    for body in
        [&token, &escaped, &percent].map(|token| format!("{{\"fault\":{{\"token\":\"{token}\"}},\"x\":1}}"))
    {
        *script.lock().expect("no script panics") = whole(401, "application/json", body);
        for format in [Format::OpenAi, Format::Cohere] {
            let answer = ask(&sidecar, format, false);
            assert_eq!(answer.status, 401);
            let error = answer.json()["error"]["message"].clone();
            let message = error.as_str().expect("a message");
            assert!(message.ends_with("{\"fault\":{\"token\":\"***\"},\"x\":1}"), "{message}");
        }
    }
    // A body that is longer than what is read of it.
    let long = format!("{}{token}", "x".repeat((64 << 10) - 100));
    *script.lock().expect("no script panics") = whole(401, "text/plain", long);
    assert!(!ask(&sidecar, Format::OpenAi, false).text().contains("eyJ"));
}

#[test]
fn a_key_in_the_query_is_hidden_and_the_versions_beside_it_are_not() {
    let upstream = Upstream::start(|turn| {
        let target = turn.request.target().to_owned();
        turn.answer_with(404, &[("content-type", "text/html")], format!("<p>nothing at {target}</p>"));
    });
    let query = "query = { api-version = \"2024-06-01\", key = \"AIzaSy+0123/456 789\" }";
    let sidecar = Setup::before(&upstream, query).start();
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(404, "upstream_error");
    assert!(message.ends_with("?api-version=2024-06-01&key=***</p>"), "{message}");
    let relayed = sidecar.ask(&Call::get("/acme/v1/files"));
    assert_eq!(relayed.text(), "<p>nothing at /v1/files?api-version=2024-06-01&key=***</p>");
    for request in upstream.requests(2) {
        assert!(request.target().ends_with("&key=AIzaSy%2B0123%2F456+789"), "{}", request.target());
    }
}

#[test]
fn an_answer_that_is_no_stream_is_blamed_for_nothing_else() {
    let formats = [Format::OpenAi, Format::Anthropic];
    let (_upstream, sidecar, script) = world(&formats, KEY);
    for format in formats {
        for kind in ["application/json", "text/plain"] {
            *script.lock().expect("no script panics") = whole(200, kind, "{\"id\":\"c1\"}".to_owned());
            let answer = ask(&sidecar, format, true);
            let message = answer.refusal(502, "upstream_garbled");
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{message}");
            let truth = format!(
                "a stream was asked for and {kind} came: the upstream answered 200 (OK) with {kind}: "
            );
            assert!(message.contains(&truth) && !message.contains("502"), "{message}");
        }
    }
}

#[test]
fn a_stream_that_nobody_asked_for_is_not_worth_another_try_and_a_page_or_nothing_is() {
    let (_upstream, sidecar, script) = world(&[Format::OpenAi], KEY);
    for begin in ["data: ", "\n: ping\n\ndata: ", "event: message\ndata: "] {
        *script.lock().expect("no script panics") =
            streamed("text/event-stream", format!("{begin}{{\"id\":\"c1\"}}\n\ndata: [DONE]\n\n"));
        let answer = ask(&sidecar, Format::OpenAi, false);
        let message = answer.refusal(502, "upstream_garbled");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{message}");
        assert!(message.contains("a stream of events, although a whole answer was asked for"), "{message}");
    }
    for body in ["<html>sign in</html>", "", " "] {
        *script.lock().expect("no script panics") = whole(200, "text/html", body.to_owned());
        let answer = ask(&sidecar, Format::OpenAi, false);
        answer.refusal(502, "upstream_garbled");
        assert_eq!(answer.header("x-should-retry"), None, "{body}");
    }
}

/// OpenRouter's way to say that the provider behind it failed.
const IN_A_200: &str =
    r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"x"}},"user_id":"u"}"#;

#[test]
fn an_error_inside_a_200_is_an_error_for_the_client_and_in_the_log() {
    let (_upstream, sidecar, script) = world(&[Format::OpenAi, Format::Azure, Format::Mistral], KEY);
    let formats = [Format::OpenAi, Format::Azure, Format::Mistral];
    for (format, streams) in formats.into_iter().flat_map(|format| [(format, false), (format, true)]) {
        *script.lock().expect("no script panics") = whole(200, "application/json", IN_A_200.to_owned());
        let answer = ask(&sidecar, format, streams);
        let message = answer.refusal(429, "429");
        assert_eq!(message, format!("integration `{}`: Provider returned error: x", format.word()));
    }
    let line = sidecar.log_line("the access line", |line| line["message"] == "request");
    assert_eq!((&line["ending"], &line["code"]), (&json!("failed"), &json!("upstream_error")), "{line}");
    // Wherever the pieces of it end, and behind the spaces that keep a connection open.
    for pieces in [vec!["\n", " \n", IN_A_200], vec!["{", &IN_A_200[1..]], vec!["{\"err", &IN_A_200[5..]]] {
        let pieces: Vec<String> = pieces.into_iter().map(str::to_owned).collect();
        *script.lock().expect("no script panics") = Box::new(move |turn| {
            turn.say(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            pieces.iter().for_each(|piece| {
                turn.chunk(piece);
            });
            turn.end();
        });
        assert_eq!(ask(&sidecar, Format::OpenAi, false).status, 429);
    }
    let embeddings = Call::post("/openai/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}");
    *script.lock().expect("no script panics") =
        whole(200, "application/json", format!("{{\"error\":\"the key {KEY} is spent\"}}"));
    let answer = sidecar.ask(&embeddings);
    assert_eq!(
        (answer.status, &answer.json()["error"]["message"]),
        (502, &json!("integration `openai`: the key *** is spent"))
    );
}

#[test]
fn what_is_no_error_inside_a_200_passes_byte_for_byte() {
    let (_upstream, sidecar, script) = world(&[Format::OpenAi], KEY);
    for body in [
        "{\"error\":null,\"choices\":[{\"message\":{\"content\":\"hi\"}}] }",
        "\n {\"error\" :{\"code\":0}, \"choices\":[{\"message\":{\"content\":\"hi\"}}]}",
        "{\"error\":{\"message\":\"half of it\"},\"choices\":[{\"message\":{\"content\":\"hi\"}}]}",
        "{\"error\":\"\",\"choices\":[]}",
        "{}",
        "\u{feff}{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}",
    ] {
        *script.lock().expect("no script panics") = whole(200, "application/json", body.to_owned());
        let answer = ask(&sidecar, Format::OpenAi, false);
        assert_eq!((answer.status, answer.text(), answer.clean), (200, body, true));
    }
    *script.lock().expect("no script panics") = whole(200, "application/json", IN_A_200.to_owned());
    let relayed = sidecar.ask(&Call::get("/openai/v1/files"));
    assert_eq!((relayed.status, relayed.text()), (200, IN_A_200), "another path is relayed as it comes");
}

#[test]
fn a_byte_order_mark_before_an_answer_hides_neither_it_nor_its_error() {
    let formats = [Format::OpenAi, Format::Anthropic];
    let (_upstream, sidecar, script) = world(&formats, KEY);
    let message = json!({"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"});
    *script.lock().expect("no script panics") = whole(200, "application/json", format!("\u{feff}{message}"));
    assert_eq!(ask(&sidecar, Format::Anthropic, false).content(), "hi");
    let error = format!("\u{feff}{}", json!({"error": {"message": "spent", "code": 429}}));
    for (format, streams) in formats.into_iter().flat_map(|format| [(format, false), (format, true)]) {
        *script.lock().expect("no script panics") = whole(200, "application/json", error.clone());
        assert_eq!(ask(&sidecar, format, streams).status, 429, "{}", format.word());
    }
    *script.lock().expect("no script panics") = whole(400, "application/json", error);
    let message = ask(&sidecar, Format::Anthropic, false).refusal(400, "429");
    assert!(message.ends_with(": spent"), "{message}");
}

#[test]
fn a_value_of_the_query_that_came_from_elsewhere_is_told_by_no_refusal_and_a_plain_one_is() {
    let upstream = Upstream::start(|turn| {
        let target = turn.request.target().to_owned();
        let body = json!({"error": {"message": format!("no such place: {target}")}}).to_string();
        turn.answer_with(404, &[("content-type", "application/json")], &body);
    });
    let query = "query = { code = \"${FUNCTION_KEY}\", api-version = \"2024-10-21\" }\nauthentication_type = \"none\"";
    let setup = Setup::new(integration("acme", &upstream.url("/v1"), query));
    let sidecar = setup.env("FUNCTION_KEY", "fn-0123456789abcdef").start();
    for call in [Call::say("m", "hi"), Call::post("/acme/v1/files", "{}")] {
        let answer = sidecar.ask(&call);
        let words = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 404);
        assert!(words.contains("code=***"), "{words}");
        assert!(!words.contains("fn-01") && words.contains("api-version=2024-10-21"), "{words}");
    }
}

/// The word of a secret that no place of these URLs may show.
const IN_A_URL: &str = "Abcdefgh-0123456789-XYZ";

#[test]
fn no_part_of_a_url_that_may_be_a_secret_is_told_by_a_refusal_or_by_explain_and_plain_ones_are() {
    let upstream = Upstream::start(|turn| {
        let target = turn.request.target().to_owned();
        let body = json!({"error": {"message": format!("no such place: {target}")}}).to_string();
        turn.answer_with(404, &[("content-type", "application/json")], &body);
    });
    let plain = "api-version = \"2024-10-21\", alt = \"sse\", region = \"us-east-1\", stage = \"v1beta1\"";
    for (path, lines) in [
        ("/v1", format!("query = {{ code = \"{IN_A_URL}\", {plain} }}")),
        ("/v1", format!("query = {{ x = \"{IN_A_URL}\", {plain} }}")),
        ("/v1", format!("query = {{ x = \"a ${{SECRET}} b\", {plain} }}")),
        ("/v1", format!("path = \"/${{SECRET}}/chat\"\nquery = {{ {plain} }}")),
        ("/v1", format!("path = \"/${{file:secret}}/chat\"\nquery = {{ {plain} }}")),
        ("/${SECRET}/v1", format!("query = {{ {plain} }}")),
    ] {
        let setup = Setup::new(integration("acme", &upstream.url(path), &lines))
            .env("SECRET", IN_A_URL)
            .file("secret", IN_A_URL)
            .file("ask.json", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
        setup.write();
        let explained = setup.run(&["explain", "acme", "--request", "ask.json"]);
        assert_eq!(explained.code, 0, "{lines}: {}", explained.output());
        let sidecar = setup.start();
        let told = sidecar.ask(&Call::say("m", "hi")).refusal(404, "upstream_error");
        let relayed = sidecar.ask(&Call::get("/acme/v1/files"));
        let listed = sidecar.admin("/integrations");
        let words = String::from_utf8_lossy(&relayed.body).into_owned();
        for shown in [&told, &words, listed.text(), &explained.output(), &sidecar.output()] {
            assert!(!shown.contains("Abcdefgh") && !shown.contains("0123456789"), "{path} {lines}: {shown}");
        }
        for shown in [&told, &words, &explained.output()] {
            for pair in ["api-version=2024-10-21", "alt=sse", "region=us-east-1", "stage=v1beta1"] {
                assert!(shown.contains(pair), "{path} {lines}: {pair} is not in {shown}");
            }
        }
        assert!(told.contains("***") && explained.output().contains("***"), "{path} {lines}: {told}");
        assert!(upstream.requests(1)[0].target().starts_with('/'));
    }
}
