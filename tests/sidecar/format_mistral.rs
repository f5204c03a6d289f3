//! `format = "mistral"` through the whole sidecar; the golden tables hold the details.

use serde_json::{Value, json};

use crate::support::{Call, Gate, Setup, Sidecar, Turn, Upstream, integration};

/// Mistral doing `script`, and a sidecar before it.
fn mistral(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let key = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer key-1\"";
    let table = integration("acme", &upstream.url("/v1"), &format!("format = \"mistral\"\n{key}\n{lines}"));
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

/// A whole answer of Mistral's.
fn completion(message: &Value, reason: &str) -> String {
    json!({"id": "cmpl-1", "object": "chat.completion", "created": 1, "model": "real-model",
           "choices": [{"index": 0, "message": message, "finish_reason": reason}],
           "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}})
    .to_string()
}

/// Sends one chunk of Mistral's.
fn say(turn: &mut Turn, delta: &Value, reason: Option<&str>) {
    let mut chunk = json!({"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "real-model",
                           "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
    if reason.is_some() {
        chunk["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14});
    }
    turn.event(chunk.to_string());
}

#[test]
fn a_whole_answer_is_translated_both_ways() {
    let message = json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "hello"}]});
    let (upstream, sidecar) = mistral("", move |turn| turn.answer(200, completion(&message, "model_length")));
    let body = json!({"model": "m", "max_completion_tokens": 50, "seed": 7, "presence_penalty": 0.5, "trace": "t",
                      "messages": [{"role": "user", "content": "hi", "name": "bob"}]});
    let answer = sidecar.ask(&Call::chat(body.to_string()).header("authorization", "Bearer caller"));
    assert_eq!(answer.content(), "hello");
    assert_eq!(answer.header("x-outrider-dropped"), Some("trace,messages[0].name"));
    let got = answer.json();
    assert_eq!(got["choices"][0]["message"]["reasoning_content"], "hm");
    assert_eq!((&got["model"], &got["choices"][0]["finish_reason"]), (&json!("m"), &json!("length")));
    assert_eq!(got["usage"]["total_tokens"], 14);
    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/v1/chat/completions"));
    assert_eq!(request.head.header("authorization"), Some("Bearer key-1"));
    let wanted = json!({"model": "real-model", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50,
                        "presence_penalty": 0.5, "random_seed": 7});
    assert_eq!(request.json(), wanted);
}

#[test]
fn ids_of_other_providers_are_mapped_and_its_own_come_back() {
    let call =
        json!({"id": "abcDEF123", "function": {"name": "weather", "arguments": "{\"city\":\"Riga\"}"}});
    let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let (upstream, sidecar) = mistral("", move |turn| turn.answer(200, completion(&message, "tool_calls")));
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let made =
        json!({"id": "call_of_openai", "type": "function", "function": {"name": "weather", "arguments": ""}});
    let messages = json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call_of_openai", "content": "rain"},
    ]);
    let body = json!({"model": "m", "messages": messages, "tools": [tool], "tool_choice": "required"});
    let answer = sidecar.ask(&Call::chat(body.to_string())).json();
    let called = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&called["id"], &called["type"]), (&json!("abcDEF123"), &json!("function")), "{answer}");
    let sent = upstream.request().json();
    let id = sent["messages"][1]["tool_calls"][0]["id"].as_str().expect("a call has an id").to_owned();
    assert!(id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    assert_eq!(sent["messages"][2]["tool_call_id"], id);
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["arguments"], "{}");
    assert_eq!(
        (&sent["tools"][0]["function"]["parameters"]["type"], &sent["tool_choice"]),
        (&json!("object"), &json!("any"))
    );
}

#[test]
fn a_stream_is_translated_event_by_event() {
    let gate = Gate::new();
    let held = gate.clone();
    let (upstream, sidecar) = mistral("", move |turn| {
        turn.open_stream();
        say(turn, &json!({"role": "assistant", "content": "one "}), None);
        held.wait();
        let call = json!({"id": "abcDEF123", "index": 0, "function": {"name": "f", "arguments": "{}"}});
        say(turn, &json!({"content": "two", "tool_calls": [call]}), Some("tool_calls"));
        turn.event("[DONE]");
        turn.end();
    });
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                      "stream_options": {"include_usage": true}});
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::chat(body.to_string())).head().0, 200);
    assert!(connection.data().contains("\"one \""));
    gate.open();
    let mut rest = connection.all_data();
    assert_eq!(rest.pop().as_deref(), Some("[DONE]"));
    let events: Vec<Value> = rest.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect();
    assert!(events.iter().all(|event| event["id"] == "cmpl-1" && event["model"] == "m"), "{events:?}");
    assert_eq!(events[1]["choices"][0]["delta"]["tool_calls"][0]["id"], "abcDEF123");
    assert_eq!(events[2]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(events[3]["usage"]["total_tokens"], 14);
    let sent = upstream.request().json();
    assert_eq!((&sent["stream"], sent.get("stream_options")), (&json!(true), None));
}

#[test]
fn a_list_of_what_is_wrong_is_told_in_words() {
    let (_upstream, sidecar) = mistral("", |turn| {
        turn.answer(
            422,
            r#"{"detail":[{"type":"missing","loc":["body","messages",0],"msg":"Field required"}]}"#,
        );
    });
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert_eq!(answer.status, 422);
    let error = &answer.json()["error"];
    assert!(
        error["message"].as_str().is_some_and(|m| m.contains("body.messages.0: Field required")),
        "{error}"
    );
}

#[test]
fn embeddings_are_translated_and_what_is_strict_refuses() {
    let answer = json!({"id": "e", "object": "list", "model": "real-model", "data": [
        {"object": "embedding", "index": 0, "embedding": [1.0, -0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}});
    let (upstream, sidecar) = mistral("strict = true", move |turn| turn.answer(200, answer.to_string()));
    let body = json!({"model": "m", "input": "x", "dimensions": 2, "encoding_format": "base64"});
    let got = sidecar.ask(&Call::post("/v1/embeddings", body.to_string())).json();
    assert_eq!((&got["data"][0]["embedding"], &got["model"]), (&json!("AACAPwAAAL8="), &json!("m")));
    assert_eq!(got["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let request = upstream.request();
    assert_eq!(request.target(), "/v1/embeddings");
    assert_eq!(request.json(), json!({"model": "real-model", "input": ["x"], "output_dimension": 2}));
    let body = json!({"model": "m", "input": "x", "user": "u"});
    let refused = sidecar.ask(&Call::post("/v1/embeddings", body.to_string()));
    refused.refusal(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "user");
}
