//! Gemini and Vertex AI through the whole sidecar; the golden tables hold the details.

use serde_json::{Value, json};

use crate::support::{Call, Setup, Sidecar, Turn, Upstream, integration};

/// A provider that does `script`, and a sidecar before it that speaks `format`.
fn google(
    format: &str,
    lines: &str,
    script: impl Fn(&mut Turn) + Send + Sync + 'static,
) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\"\n{lines}"));
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

const KEY: &str =
    "authentication_type = \"api_key\"\napi_key_header = \"x-goog-api-key\"\napi_key_value = \"k-1\"\n";

/// An answer of Gemini's, or an event of its stream.
fn answer(parts: &Value, finish: Option<&str>) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({"candidates": [candidate], "responseId": "r1", "modelVersion": "real-model",
           "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 2,
                             "totalTokenCount": 16, "cachedContentTokenCount": 5}})
}

fn say(turn: &mut Turn, data: &Value) -> bool {
    turn.chunk(format!("data: {data}\r\n\r\n"))
}

#[test]
fn a_whole_answer_is_translated_both_ways() {
    let parts = json!([{"text": "well", "thought": true}, {"text": "hello"}]);
    let body = answer(&parts, Some("STOP")).to_string();
    let (upstream, sidecar) = google("gemini", KEY, move |turn| turn.answer(200, body.clone()));
    let asked = json!({"model": "m", "max_tokens": 50, "temperature": 0.5, "stop": "END",
                       "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]});
    let got = sidecar.ask(&Call::chat(asked.to_string()).header("authorization", "Bearer caller"));
    assert_eq!(got.content(), "hello");
    let got = got.json();
    assert_eq!((&got["id"], &got["model"]), (&json!("r1"), &json!("m")));
    let choice = &got["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["reasoning_content"]),
        (&json!("stop"), &json!("well"))
    );
    let usage = &got["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(10), &json!(6), &json!(16))
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 5);

    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/v1beta/models/real-model:generateContent"));
    assert_eq!(request.head.header("x-goog-api-key"), Some("k-1"));
    assert_eq!(request.head.header("authorization"), None);
    let sent = request.json();
    assert_eq!(sent["systemInstruction"]["parts"], json!([{"text": "be brief"}]));
    assert_eq!(sent["contents"], json!([{"role": "user", "parts": [{"text": "hi"}]}]));
    assert_eq!(
        sent["generationConfig"],
        json!({"maxOutputTokens": 50, "stopSequences": ["END"], "temperature": 0.5})
    );
    assert_eq!((sent.get("model"), sent.get("stream")), (None, None));
}

#[test]
fn a_call_keeps_its_signature_on_the_way_to_the_client_and_back() {
    let parts = json!([{"functionCall": {"name": "weather", "args": {"city": "Riga"}}, "thoughtSignature": "CgQ+/w=="},
                       {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]);
    let body = answer(&parts, Some("STOP")).to_string();
    let (upstream, sidecar) = google("gemini", KEY, move |turn| turn.answer(200, body.clone()));
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}});
    let mut messages = vec![json!({"role": "user", "content": "weather?"})];
    let ask = |messages: &[Value]| {
        let body = json!({"model": "m", "messages": messages, "tools": [tool]});
        sidecar.ask(&Call::chat(body.to_string())).json()
    };
    let choice = ask(&messages)["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
    let calls = choice["message"]["tool_calls"].as_array().expect("there are calls").clone();
    assert_eq!(calls[0]["function"]["arguments"], "{\"city\":\"Riga\"}");
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    messages.push(choice["message"].clone());
    for call in calls.iter().rev() {
        messages.push(
            json!({"role": "tool", "tool_call_id": call["id"], "content": call["function"]["arguments"]}),
        );
    }
    let first = upstream.request().json();
    assert_eq!(first["tools"][0]["functionDeclarations"][0]["name"], "weather");
    ask(&messages);
    let sent = upstream.requests(2)[1].json();
    assert_eq!(sent["contents"][1]["parts"], parts);
    let response = &sent["contents"][2]["parts"][0]["functionResponse"];
    assert_eq!(
        response,
        &json!({"name": "weather", "response": {"output": "{\"city\":\"Riga\"}"}}),
        "results stand in the order of their calls"
    );
}

#[test]
fn a_stream_is_translated_event_by_event() {
    let (upstream, sidecar) = google("vertex", "", move |turn| {
        turn.open_stream();
        say(turn, &answer(&json!([{"text": "one "}]), None));
        say(turn, &answer(&json!([{"text": "two"}]), Some("MAX_TOKENS")));
        turn.end();
    });
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                      "stream_options": {"include_usage": true}});
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::chat(body.to_string())).head().0, 200);
    let mut data = connection.all_data();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let mut events: Vec<Value> =
        data.iter().map(|data| serde_json::from_str(data).expect("an event is JSON")).collect();
    let text =
        |event: &Value| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
    assert_eq!(events.iter().map(text).collect::<String>(), "one two");
    assert!(events.iter().all(|e| e["id"] == "r1" && e["model"] == "m"), "{events:?}");
    let last = events.pop().expect("a stream has events");
    assert_eq!(
        (&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]),
        (&json!(10), &json!(6))
    );
    assert!(events.iter().any(|e| e["choices"][0]["finish_reason"] == "length"));
    assert_eq!(upstream.request().target(), "/models/real-model:streamGenerateContent?alt=sse");
}

#[test]
fn a_stream_that_is_cut_or_reports_an_error_never_ends_as_complete() {
    let cut: fn(&mut Turn) = Turn::close;
    let ended: fn(&mut Turn) = Turn::end;
    let error: fn(&mut Turn) = |turn| {
        say(turn, &json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "Overloaded, sorry"}}));
        turn.end();
    };
    let malformed: fn(&mut Turn) = |turn| {
        say(turn, &json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}));
        turn.end();
    };
    for (script, words) in
        [(cut, ""), (ended, ""), (error, "Overloaded, sorry"), (malformed, "MALFORMED_FUNCTION_CALL")]
    {
        let (_upstream, sidecar) = google("gemini", KEY, move |turn| {
            turn.open_stream();
            say(turn, &answer(&json!([{"text": "one"}]), None));
            script(turn);
        });
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
        let data = connection.all_data();
        assert!(data.iter().any(|d| d.contains("one")), "{data:?}");
        assert!(!data.iter().any(|d| d == "[DONE]" || d.contains("\"stop\"")), "{data:?}");
        let last: Value =
            serde_json::from_str(data.last().expect("an error event")).expect("the error event is JSON");
        assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains(words)), "{last}");
    }
}

#[test]
fn refusals_of_the_provider_tell_when_to_come_again() {
    let (_upstream, sidecar) = google("gemini", KEY, |turn| {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}]);
        let error = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota", "details": details}});
        turn.answer(429, error.to_string());
    });
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("quota")), "{error}");
    assert_eq!(error["code"], "RESOURCE_EXHAUSTED");
}

#[test]
fn embeddings_are_translated_both_ways() {
    let values = json!({"values": [1.0, -0.5]});
    let ask = |sidecar: &Sidecar, input: &Value| {
        let body = json!({"model": "m", "input": input, "dimensions": 2});
        sidecar.ask(&Call::post("/v1/embeddings", body.to_string())).json()
    };
    let body = json!({"embeddings": [values, values]}).to_string();
    let (upstream, sidecar) = google("gemini", KEY, move |turn| turn.answer(200, body.clone()));
    let got = ask(&sidecar, &json!(["a", "b"]));
    assert_eq!(got["data"][1], json!({"object": "embedding", "index": 1, "embedding": [1.0, -0.5]}));
    let request = upstream.request();
    assert_eq!(request.target(), "/v1beta/models/real-model:batchEmbedContents");
    assert_eq!(
        request.json()["requests"][1],
        json!({"model": "models/real-model", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 2})
    );

    let prediction = json!({"embeddings": {"values": [1.0], "statistics": {"token_count": 3}}});
    let body = json!({"predictions": [prediction]}).to_string();
    let (upstream, sidecar) = google("vertex", "", move |turn| turn.answer(200, body.clone()));
    assert_eq!(ask(&sidecar, &json!("a"))["usage"]["prompt_tokens"], 3);
    assert_eq!(upstream.request().target(), "/models/real-model:predict");
}
