//! Ollama through the whole sidecar; the golden tables hold the details.

use serde_json::{Value, json};

use crate::support::{Call, Gate, Setup, Sidecar, Turn, Upstream, integration};

/// A provider of Ollama's shape that does `script`, and a sidecar before it.
fn ollama(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let table = integration("acme", &upstream.url(""), &format!("format = \"ollama\"\n{lines}"));
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

/// The head of a stream as Ollama sends it.
fn open(turn: &mut Turn) {
    turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n");
}

/// Sends one line.
fn say(turn: &mut Turn, line: &Value) -> bool {
    turn.chunk(format!("{line}\n"))
}

fn text(text: &str) -> Value {
    json!({"model": "real-model", "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": text}, "done": false})
}

fn last(mut line: Value) -> Value {
    line["done"] = json!(true);
    line["done_reason"] = json!("stop");
    line["prompt_eval_count"] = json!(10);
    line["eval_count"] = json!(4);
    line
}

#[test]
fn a_whole_answer_is_translated_both_ways() {
    let (upstream, sidecar) =
        ollama("defaults = { options = { num_ctx = 8192 }, keep_alive = \"5m\" }", |turn| {
            turn.answer(200, last(text("hello")).to_string());
        });
    let body = json!({"model": "m", "max_tokens": 50, "temperature": 0.5, "stop": "END", "logit_bias": {"1": 1},
                      "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]});
    let got = sidecar.ask(&Call::chat(body.to_string()).header("authorization", "Bearer caller"));
    assert_eq!((got.content().as_str(), got.header("x-outrider-dropped")), ("hello", Some("logit_bias")));
    let got = got.json();
    assert_eq!((&got["model"], &got["usage"]["total_tokens"]), (&json!("m"), &json!(14)));
    assert!(got["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")), "{got}");

    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/api/chat"));
    assert_eq!(request.head.header("authorization"), None);
    let sent = request.json();
    assert_eq!(
        (&sent["model"], &sent["stream"], &sent["keep_alive"]),
        (&json!("real-model"), &json!(false), &json!("5m"))
    );
    assert_eq!(
        sent["options"],
        json!({"num_ctx": 8192, "temperature": 0.5, "num_predict": 50, "stop": ["END"]})
    );
}

#[test]
fn calls_and_results_are_translated() {
    let (upstream, sidecar) = ollama("", |turn| {
        let calls = json!([{"function": {"name": "weather", "arguments": {"city": "Riga"}}}, {"function": {"name": "weather", "arguments": {}}}]);
        let mut line = last(text(""));
        line["message"]["tool_calls"] = calls;
        turn.answer(200, line.to_string());
    });
    let call = |id: &str, city: &str| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": json!({"city": city}).to_string()}});
    let messages = json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": [call("a", "Oslo"), call("b", "Rome")]},
        {"role": "tool", "tool_call_id": "b", "content": "sun"},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]);
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let got = sidecar
        .ask(&Call::chat(json!({"model": "m", "messages": messages, "tools": [tool]}).to_string()))
        .json();
    let choice = &got["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{got}");
    let (one, two) = (&choice["message"]["tool_calls"][0], &choice["message"]["tool_calls"][1]);
    assert_eq!(
        (&one["function"]["arguments"], &two["function"]["arguments"]),
        (&json!(r#"{"city":"Riga"}"#), &json!("{}"))
    );
    assert!(one["id"].is_string() && two["id"].is_string() && one["id"] != two["id"], "{got}");
    let sent = upstream.request().json();
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["arguments"], json!({"city": "Oslo"}));
    assert_eq!(
        (&sent["messages"][2]["content"], &sent["messages"][2]["tool_name"]),
        (&json!("rain"), &json!("weather"))
    );
}

#[test]
fn a_stream_of_lines_is_translated_line_by_line() {
    let gate = Gate::new();
    let held = gate.clone();
    let (upstream, sidecar) = ollama("", move |turn| {
        open(turn);
        say(turn, &text("one "));
        held.wait();
        let line = format!("{}\n{}\n", text("two"), last(text("")));
        let (head, tail) = line.split_at(20);
        turn.chunk(head);
        turn.chunk(tail);
        turn.end();
    });
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                      "stream_options": {"include_usage": true}});
    let mut connection = sidecar.connect();
    let (status, head) = connection.send(&Call::chat(body.to_string())).head();
    assert_eq!(status, 200);
    assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    let first: Value = serde_json::from_str(&connection.data()).expect("an event is JSON");
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": "one "}));
    gate.open();
    let mut rest = connection.all_data();
    assert_eq!(rest.pop().as_deref(), Some("[DONE]"));
    let rest: Vec<Value> =
        rest.iter().map(|data| serde_json::from_str(data).expect("an event is JSON")).collect();
    assert_eq!(rest[0]["choices"][0]["delta"], json!({"content": "two"}));
    assert_eq!(rest[1]["choices"][0]["finish_reason"], "stop");
    assert_eq!(rest[2]["usage"]["total_tokens"], 14);
    assert!(rest.len() == 3 && rest.iter().all(|event| event["id"] == first["id"]), "{rest:?}");
    assert_eq!(upstream.request().head.header("accept"), Some("application/x-ndjson"));
}

#[test]
fn a_stream_that_is_cut_or_reports_an_error_never_ends_as_complete() {
    let cut: fn(&mut Turn) = Turn::close;
    let ended: fn(&mut Turn) = Turn::end;
    let error: fn(&mut Turn) = |turn| {
        say(turn, &json!({"error": "cuda died"}));
        turn.end();
    };
    for (script, words) in [(cut, ""), (ended, "ended early"), (error, "cuda died")] {
        let (_upstream, sidecar) = ollama("", move |turn| {
            open(turn);
            say(turn, &text("one"));
            script(turn);
        });
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
        let data = connection.all_data();
        assert!(data.first().is_some_and(|d| d.contains("one")), "{data:?}");
        assert!(!data.iter().any(|d| d == "[DONE]" || d.contains("\"stop\"")), "it looks complete: {data:?}");
        let last: Value = serde_json::from_str(data.last().expect("an error")).expect("it is JSON");
        assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains(words)), "{last}");
    }
}

#[test]
fn refusals_of_the_provider_become_openai_errors() {
    let (_upstream, sidecar) = ollama("", |turn| turn.answer(404, r#"{"error":"model 'x' not found"}"#));
    for call in [Call::say("m", "hi"), Call::stream("m", "hi")] {
        let answer = sidecar.ask(&call);
        assert_eq!(answer.status, 404);
        assert!(
            answer.json()["error"]["message"].as_str().is_some_and(|m| m.contains("model 'x' not found"))
        );
    }
}

#[test]
fn embeddings_have_their_own_path() {
    let (upstream, sidecar) = ollama("", |turn| {
        turn.answer(
            200,
            json!({"model": "real-model", "embeddings": [[1.0, -0.5]], "prompt_eval_count": 3}).to_string(),
        );
    });
    let body = json!({"model": "m", "input": "a", "encoding_format": "base64"});
    let got = sidecar.ask(&Call::post("/v1/embeddings", body.to_string()));
    assert_eq!(got.status, 200, "{}", got.text());
    let got = got.json();
    assert_eq!(got["data"][0]["embedding"], "AACAPwAAAL8=");
    assert_eq!(got["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let request = upstream.request();
    assert_eq!(
        (request.target(), request.json()),
        ("/api/embed", json!({"model": "real-model", "input": ["a"]}))
    );
}
