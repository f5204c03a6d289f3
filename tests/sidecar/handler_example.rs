//! `handlers/example_handler.py` does what a handler that is worth copying must do.

use serde_json::{Value, json};

use crate::support::handlers::{handler_at, setup};
use crate::support::{Answer, Call, Setup, Sidecar, TokenServer, Turn, Upstream};

const EXAMPLE: &str = include_str!("../../handlers/example_handler.py");

/// A sidecar with the example before `upstream`; `lines` as in `integration`, `keys` in `[handlers]`.
fn example(upstream: &Upstream, lines: &str, keys: &str) -> Setup {
    let class = ("example_handler.py", "ExampleHandler");
    setup(&[], keys, &handler_at(&upstream.url("/v2"), "acme", class, lines))
        .file("handlers/example_handler.py", EXAMPLE)
}

/// Acme, as the example describes it: says `Hello.`, and does what it is told by the last word.
fn acme(turn: &mut Turn) {
    let question = turn.request.json();
    let told = question["turns"].as_array().and_then(|turns| turns.last()).map(|turn| turn["text"].clone());
    let counts = json!({"read": 1, "written": 2});
    let call = json!([{"ref": "c1", "name": "weather", "input": {"city": "Bonn"}}]);
    match told.as_ref().and_then(Value::as_str).unwrap_or_default() {
        "refuse" => turn.answer_with(429, &[("retry-after", "7")], "{\"problem\": \"too fast\"}"),
        "login" => turn.answer(200, "<html>log in</html>"),
        "move" => turn.answer_with(302, &[("location", "http://127.0.0.1:9/")], ""),
        "cut" => turn.answer(200, "{\"text\": \"Hel\"}\n"),
        "call" if question["live"] == true => {
            turn.answer(200, format!("{}\n{}\n", json!({"calls": call}), json!({"ended": "call"})));
        }
        "call" => turn.answer(200, json!({"calls": call, "ended": "call"}).to_string()),
        _ if question["live"] == true => {
            let end = json!({"ended": "limit", "counts": counts});
            turn.answer(200, format!("{{\"text\": \"Hel\"}}\n\n{{\"text\": \"lo.\"}}\n{end}\n"));
        }
        _ => turn.answer(200, json!({"text": "Hello.", "ended": "done", "counts": counts}).to_string()),
    }
}

fn ask(sidecar: &Sidecar, fields: Value) -> Answer {
    let mut body = json!({"model": "m"});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    sidecar.ask(&Call::post("/acme/v1/chat/completions", body.to_string()))
}

fn say(sidecar: &Sidecar, text: &str) -> Answer {
    ask(sidecar, json!({"messages": [{"role": "user", "content": text}]}))
}

/// The chunks of a stream, and whether it ended in `[DONE]`.
fn stream(sidecar: &Sidecar, text: &str) -> (Vec<Value>, bool) {
    let body = json!({"model": "acme/m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": text}]});
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::chat(body.to_string())).head().0, 200);
    let mut data = connection.all_data();
    let done = data.last().is_some_and(|last| last == "[DONE]");
    data.retain(|line| line != "[DONE]");
    (data.iter().map(|line| serde_json::from_str(line).expect("events are JSON")).collect(), done)
}

#[test]
fn the_conversation_reaches_the_provider_in_its_own_format_with_a_token() {
    let (upstream, tokens) = (Upstream::start(acme), TokenServer::issuing());
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        tokens.url()
    );
    let sidecar = example(&upstream, &oauth, "").start();
    let answer = ask(
        &sidecar,
        json!({"temperature": 0.5, "max_completion_tokens": 9, "stop": ["x"], "seed": null,
            "tools": [{"type": "function", "function": {"name": "weather"}}],
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "How is "}, {"type": "text", "text": "Bonn?"}]},
                {"role": "assistant", "content": null, "tool_calls":
                    [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Bonn\"}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"}]}),
    );
    let body = answer.json();
    assert_eq!(answer.content(), "Hello.");
    assert_eq!(body["usage"], json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}));
    let request = upstream.request();
    assert_eq!(request.target(), "/v2/generate");
    assert_eq!(request.head.header("authorization"), Some("Bearer token-1"));
    assert_eq!(
        request.json(),
        json!({"engine": "real-model", "instruction": "Be short.", "limit": 9, "heat": 0.5, "stop_at": ["x"],
            "functions": [{"name": "weather"}],
            "turns": [
                {"author": "user", "text": "How is Bonn?"},
                {"author": "assistant", "text": "", "calls": [{"ref": "c1", "name": "weather", "input": {"city": "Bonn"}}]},
                {"author": "tool", "ref": "c1", "text": "rain"}]})
    );
}

#[test]
fn streams_and_calls_of_tools_come_back_as_openais() {
    let upstream = Upstream::start(acme);
    let sidecar = example(&upstream, "", "").start();
    let (chunks, done) = stream(&sidecar, "hi");
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), done), ("Hello.", true));
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "length"), "{chunks:?}");
    assert_eq!(chunks.last().expect("there are chunks")["usage"]["total_tokens"], 3);

    let calls = |of: &Value| of["tool_calls"][0]["function"].clone();
    let whole = say(&sidecar, "call").json();
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    let function = json!({"name": "weather", "arguments": "{\"city\": \"Bonn\"}"});
    assert_eq!(calls(&whole["choices"][0]["message"]), function);
    let (chunks, _) = stream(&sidecar, "call");
    assert!(chunks.iter().any(|chunk| calls(&chunk["choices"][0]["delta"]) == function), "{chunks:?}");
    // One client for all calls keeps its connection.
    assert_eq!((upstream.count(), upstream.connections()), (3, 1));
}

#[test]
fn the_providers_refusals_and_its_nonsense_become_errors_in_words() {
    let upstream = Upstream::start(acme);
    let sidecar = example(&upstream, "", "").start();
    let refused = say(&sidecar, "refuse");
    assert!(refused.refusal(429, "handler_error").contains("too fast"));
    assert_eq!(refused.header("retry-after"), Some("7"));
    let streamed = sidecar.ask(&Call::stream("acme/m", "refuse"));
    assert!(streamed.refusal(429, "handler_error").contains("too fast"));
    say(&sidecar, "login").refusal(502, "handler_error");
    say(&sidecar, "move").refusal(502, "handler_error");
    let (events, done) = stream(&sidecar, "cut");
    let error = &events.last().expect("there are events")["error"];
    assert!(
        error["message"].as_str().is_some_and(|words| words.contains("broke off")) && !done,
        "{events:?}"
    );
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]);
    let words = ask(&sidecar, json!({"messages": image})).refusal(400, "handler_error");
    assert!(words.contains("image_url"), "{words}");
}

#[test]
fn behind_egress_the_same_code_needs_no_token() {
    let (upstream, tokens) = (Upstream::start(acme), TokenServer::issuing());
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        tokens.url()
    );
    let sidecar = example(&upstream, &oauth, "egress = true").start();
    assert_eq!(say(&sidecar, "hi").content(), "Hello.");
    let request = upstream.request();
    assert_eq!(request.target(), "/v2/generate");
    assert_eq!(request.head.header("authorization"), Some("Bearer token-1"));
    let (chunks, done) = stream(&sidecar, "hi");
    assert!(done && chunks.len() > 2, "{chunks:?}");
}
