//! Cohere through the whole sidecar; the golden tables hold the details.

use serde_json::{Value, json};

use crate::support::{Call, Gate, Setup, Sidecar, Turn, Upstream, integration};

/// A provider of Cohere's shape that does `script`, and a sidecar before it.
fn cohere(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let table = integration("acme", &upstream.url(""), &format!("format = \"cohere\"\n{lines}"));
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

const KEY: &str = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer co-key\"";

/// A whole answer with this message.
fn answer(message: &Value, reason: &str) -> String {
    let usage = json!({"billed_units": {"input_tokens": 8, "output_tokens": 5}, "tokens": {"input_tokens": 10, "output_tokens": 5}});
    json!({"id": "c1", "finish_reason": reason, "message": message, "usage": usage}).to_string()
}

/// Sends one event.
fn say(turn: &mut Turn, data: &Value) -> bool {
    turn.chunk(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
}

/// Opens a stream that begins with the text "one ".
fn begin(turn: &mut Turn) {
    turn.open_stream();
    say(
        turn,
        &json!({"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}),
    );
    say(turn, &text("one "));
}

fn text(text: &str) -> Value {
    json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}})
}

#[test]
fn a_whole_answer_is_translated_both_ways() {
    let message = json!({"role": "assistant", "content": [{"type": "text", "text": "hello"}]});
    let (upstream, sidecar) = cohere(KEY, move |turn| turn.answer(200, answer(&message, "MAX_TOKENS")));
    let body = json!({"model": "m", "max_tokens": 50, "temperature": 1.5, "top_p": 0.5, "stop": ["END"],
                      "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}]});
    let got = sidecar.ask(&Call::chat(body.to_string()).header("authorization", "Bearer caller"));
    assert_eq!((got.content().as_str(), got.header("x-outrider-dropped")), ("hello", Some("temperature")));
    let got = got.json();
    assert_eq!((&got["id"], &got["model"]), (&json!("c1"), &json!("m")));
    assert_eq!(got["choices"][0]["finish_reason"], "length");
    assert_eq!((&got["usage"]["prompt_tokens"], &got["usage"]["total_tokens"]), (&json!(10), &json!(15)));

    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/v2/chat"));
    assert_eq!(request.head.header("authorization"), Some("Bearer co-key"));
    assert_eq!(request.head.header("accept"), Some("application/json"));
    let sent = request.json();
    assert_eq!(
        (&sent["model"], &sent["max_tokens"], &sent["temperature"]),
        (&json!("real-model"), &json!(50), &json!(1.0))
    );
    assert_eq!((&sent["p"], &sent["stop_sequences"]), (&json!(0.5), &json!(["END"])));
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "be brief"}));
}

#[test]
fn a_stream_is_translated_event_by_event() {
    let gate = Gate::new();
    let held = gate.clone();
    let (upstream, sidecar) = cohere(KEY, move |turn| {
        begin(turn);
        held.wait();
        say(turn, &text("two"));
        let usage = json!({"tokens": {"input_tokens": 10, "output_tokens": 4}});
        say(turn, &json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}));
        turn.event("[DONE]");
        turn.end();
    });
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                      "stream_options": {"include_usage": true}});
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::chat(body.to_string())).head().0, 200);
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
    assert!(
        rest.len() == 3 && rest.iter().all(|event| event["id"] == "c1" && event["model"] == "m"),
        "{rest:?}"
    );
    let request = upstream.request();
    assert_eq!(request.json()["stream"], true);
    assert_eq!(request.head.header("accept"), Some("text/event-stream"));
}

#[test]
fn a_stream_that_is_cut_or_reports_an_error_never_ends_as_complete() {
    let cut: fn(&mut Turn) = Turn::close;
    let ended: fn(&mut Turn) = Turn::end;
    let error: fn(&mut Turn) = |turn| {
        say(
            turn,
            &json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "model exploded"}}),
        );
        turn.event("[DONE]");
        turn.end();
    };
    for (script, words) in [(cut, ""), (ended, "ended early"), (error, "model exploded")] {
        let (_upstream, sidecar) = cohere("", move |turn| {
            begin(turn);
            script(turn);
        });
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
        let data = connection.all_data();
        assert!(data.first().is_some_and(|d| d.contains("one ")), "{data:?}");
        assert!(!data.iter().any(|d| d == "[DONE]" || d.contains("\"stop\"")), "it looks complete: {data:?}");
        let last: Value = serde_json::from_str(data.last().expect("an error")).expect("it is JSON");
        assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains(words)), "{last}");
    }
}

#[test]
fn refusals_of_the_provider_become_openai_errors() {
    let (_upstream, sidecar) = cohere("", |turn| {
        let headers = [("content-type", "application/json"), ("retry-after", "3")];
        turn.answer_with(429, &headers, r#"{"id":"e","message":"too many calls"}"#);
    });
    for call in [Call::say("m", "hi"), Call::stream("m", "hi")] {
        let answer = sidecar.ask(&call);
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| m.contains("too many calls")));
    }
}

#[test]
fn embeddings_have_their_own_path() {
    let (upstream, sidecar) = cohere("", |turn| {
        let meta = json!({"billed_units": {"input_tokens": 4}});
        let found = json!({"id": "e1", "embeddings": {"float": [[0.5, -1.0], [0.25, 0.0]]}, "texts": ["a", "b"], "meta": meta});
        turn.answer(200, found.to_string());
    });
    let body = json!({"model": "m", "input": ["a", "b"], "dimensions": 256, "input_type": "search_query"});
    let got = sidecar.ask(&Call::post("/v1/embeddings", body.to_string()));
    assert_eq!(got.status, 200, "{}", got.text());
    let got = got.json();
    assert_eq!((&got["object"], &got["model"]), (&json!("list"), &json!("m")));
    assert_eq!(got["data"][1], json!({"object": "embedding", "index": 1, "embedding": [0.25, 0.0]}));
    assert_eq!(got["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
    let request = upstream.request();
    assert_eq!(request.target(), "/v2/embed");
    let wanted = json!({"model": "real-model", "texts": ["a", "b"], "embedding_types": ["float"],
                        "output_dimension": 256, "input_type": "search_query"});
    assert_eq!(request.json(), wanted);
}
