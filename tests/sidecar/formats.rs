//! A provider that speaks another format, through the whole sidecar; the golden tables hold the details.

use serde_json::{Value, json};

use crate::support::{Call, Gate, Setup, Sidecar, TokenServer, Turn, Upstream, integration};

/// An Anthropic-shaped provider that does `script`, and a sidecar before it.
fn anthropic(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let table = integration("acme", &upstream.url(""), &format!("format = \"anthropic\"\n{lines}"));
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

/// A whole message of Anthropic's with these content blocks.
fn message(content: &Value, stop: &str) -> String {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-model", "content": content,
           "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 4,
           "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1}})
    .to_string()
}

/// Sends one event of Anthropic's.
fn say(turn: &mut Turn, data: &Value) -> bool {
    turn.chunk(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
}

/// Opens a stream of Anthropic's whose first block is text that begins with `text`.
fn begin(turn: &mut Turn, text: &str) {
    turn.open_stream();
    let usage = json!({"input_tokens": 10, "output_tokens": 1});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-model", "content": [],
                         "stop_reason": null, "stop_sequence": null, "usage": usage});
    say(turn, &json!({"type": "message_start", "message": message}));
    say(
        turn,
        &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    );
    say(
        turn,
        &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
    );
}

/// Ends it as it should end.
fn finish(turn: &mut Turn) {
    say(turn, &json!({"type": "content_block_stop", "index": 0}));
    let end = json!({"stop_reason": "end_turn", "stop_sequence": null});
    say(turn, &json!({"type": "message_delta", "delta": end, "usage": {"output_tokens": 4}}));
    say(turn, &json!({"type": "message_stop"}));
    turn.end();
}

#[test]
fn a_whole_answer_is_translated_both_ways() {
    let content = json!([{"type": "text", "text": "hello"}]);
    let (upstream, sidecar) = anthropic("", move |turn| turn.answer(200, message(&content, "end_turn")));
    let body = json!({"model": "m", "max_tokens": 50, "temperature": 0.5, "stop": ["END"],
                      "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]});
    let answer = sidecar.ask(&Call::chat(body.to_string()).header("authorization", "Bearer caller"));
    assert_eq!(answer.content(), "hello");
    let got = answer.json();
    assert_eq!((&got["object"], &got["model"]), (&json!("chat.completion"), &json!("m")));
    assert_eq!(got["choices"][0]["finish_reason"], "stop");
    let usage = &got["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(16), &json!(4), &json!(20))
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 5);

    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/v1/messages"));
    assert_eq!(request.head.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!((request.head.header("x-api-key"), request.head.header("authorization")), (None, None));
    let sent = request.json();
    assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!("real-model"), &json!(50)));
    assert_eq!((&sent["temperature"], &sent["stop_sequences"]), (&json!(0.5), &json!(["END"])));
    assert!(sent["system"].to_string().contains("be brief"));
    assert_eq!(sent["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_tool_call_and_its_result_are_translated() {
    let content =
        json!([{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Riga"}}]);
    let (upstream, sidecar) = anthropic("", move |turn| turn.answer(200, message(&content, "tool_use")));
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}});
    let call = json!({"id": "toolu_0", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}});
    let messages = json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_0", "content": "rain"},
    ]);
    let answer = sidecar
        .ask(&Call::chat(json!({"model": "m", "messages": messages, "tools": [tool]}).to_string()))
        .json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let called = &choice["message"]["tool_calls"][0];
    assert_eq!((&called["id"], &called["function"]["name"]), (&json!("toolu_1"), &json!("weather")));
    let arguments: Value =
        serde_json::from_str(called["function"]["arguments"].as_str().expect("arguments are a text"))
            .expect("and JSON");
    assert_eq!(arguments, json!({"city": "Riga"}));
    let sent = upstream.request().json();
    assert_eq!(sent["tools"][0]["name"], "weather");
    assert_eq!(sent["messages"][1]["content"][0]["type"], "tool_use");
    assert_eq!(sent["messages"][2]["content"][0]["tool_use_id"], "toolu_0");
}

#[test]
fn a_stream_is_translated_event_by_event() {
    let gate = Gate::new();
    let held = gate.clone();
    let (upstream, sidecar) = anthropic("", move |turn| {
        begin(turn, "one ");
        held.wait();
        say(turn, &json!({"type": "ping"}));
        say(
            turn,
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}}),
        );
        finish(turn);
    });
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                      "stream_options": {"include_usage": true}});
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::chat(body.to_string())).head().0, 200);
    let mut events = Vec::new();
    let text =
        |event: &Value| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
    while events.last().map(text).as_deref() != Some("one ") {
        events.push(serde_json::from_str::<Value>(&connection.data()).expect("an event is JSON"));
    }
    gate.open();
    let mut rest = connection.all_data();
    assert_eq!(rest.pop().as_deref(), Some("[DONE]"));
    events.extend(rest.iter().map(|data| serde_json::from_str::<Value>(data).expect("an event is JSON")));
    assert_eq!(events.iter().map(text).collect::<String>(), "one two");
    assert_eq!(
        events.iter().filter(|e| e["choices"][0]["delta"]["role"].is_string()).count(),
        1,
        "the role comes once"
    );
    assert!(events.iter().all(|e| e["id"] == events[0]["id"] && e["model"] == "m"), "{events:?}");
    let last = events.pop().expect("a stream has events");
    assert_eq!(
        (&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]),
        (&json!(10), &json!(4))
    );
    assert_eq!(last["choices"], json!([]));
    assert!(events.iter().any(|e| e["choices"][0]["finish_reason"] == "stop"));
    assert_eq!(upstream.request().json()["stream"], true);
}

#[test]
fn a_stream_that_is_cut_or_reports_an_error_never_ends_as_complete() {
    let cut: fn(&mut Turn) = Turn::close;
    let ended: fn(&mut Turn) = Turn::end;
    let error: fn(&mut Turn) = |turn| {
        say(
            turn,
            &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded, sorry"}}),
        );
        turn.end();
    };
    let garbled: fn(&mut Turn) = |turn| {
        turn.chunk("event: content_block_delta\ndata: {\"type\":\n\n");
        finish(turn);
    };
    for (script, words) in [(cut, ""), (ended, ""), (error, "Overloaded, sorry"), (garbled, "")] {
        let (_upstream, sidecar) = anthropic("", move |turn| {
            begin(turn, "one");
            script(turn);
        });
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
        let data = connection.all_data();
        assert!(data.iter().any(|d| d.contains("one")), "{data:?}");
        assert!(
            !data.iter().any(|d| d == "[DONE]" || d.contains("\"stop\"")),
            "a broken stream looks complete: {data:?}"
        );
        let last: Value =
            serde_json::from_str(data.last().expect("an error event")).expect("the error event is JSON");
        assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains(words)), "{last}");
    }
}

#[test]
fn an_early_end_is_told_with_the_integrations_name_and_without_the_key_that_it_repeats() {
    for format in ["anthropic", "gemini", "mistral", "cohere"] {
        let upstream = Upstream::start(|turn| {
            turn.open_stream();
            turn.chunk("{\"error\":{\"message\":\"the key k3y-for-nobody has no right here\"}}");
            turn.end();
        });
        let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"k3y-for-nobody\"";
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\"\n{key}"));
        let sidecar = Setup::new(table).start();
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200, "{format}");
        let data = connection.all_data();
        let last = data.last().expect("an error event");
        assert!(
            last.contains("acme") && last.contains("the key *** has no right here"),
            "{format}: {data:?}"
        );
        assert!(!data.iter().any(|event| event == "[DONE]"), "{format}: {data:?}");
        let line = sidecar.log_line("the access line", |line| line["message"] == "request");
        assert!(!line.to_string().contains("k3y-for"), "{format}: {line}");
    }
}

#[test]
fn refusals_of_the_provider_become_openai_errors() {
    let (_upstream, sidecar) = anthropic("", |turn| {
        let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"too many tokens"}}"#;
        turn.answer_with(429, &[("content-type", "application/json"), ("retry-after", "3")], body);
    });
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("too many tokens")), "{error}");
    assert_eq!(error["type"], "rate_limit_error");
}

#[test]
fn an_answer_that_makes_no_sense_is_garbled() {
    for body in ["<html>login</html>", "{}", "[]", "{\"type\":\"message\"", "{\"content\":7}"] {
        let (_upstream, sidecar) = anthropic("", move |turn| turn.answer(200, body));
        let message = sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_garbled");
        assert!(message.contains("acme"), "{message}");
    }
}

#[test]
fn a_stream_that_nobody_asked_for_is_not_asked_for_again() {
    for (format, kind, stream) in [
        ("anthropic", "application/json", "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        ("gemini", "text/event-stream", "data: {\"candidates\": []}\n\n"),
        ("ollama", "application/x-ndjson", "{\"done\": false}\n{\"done\": true}\n"),
    ] {
        let upstream = Upstream::start(move |turn| {
            turn.answer_with(200, &[("content-type", kind)], stream);
        });
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
        let answer = Setup::new(table).start().ask(&Call::say("m", "hi"));
        let message = answer.refusal(502, "upstream_garbled");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{format}: each try is paid for");
        assert!(message.contains("a stream of events, although a whole answer was asked for"), "{message}");
    }
}

#[test]
fn an_answer_of_another_format_is_told_for_what_it_is_and_not_asked_for_again() {
    let openai = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "from-a-stranger"}, "finish_reason": "stop"}]});
    let (_upstream, sidecar) = anthropic("", move |turn| {
        turn.answer_with(200, &[("content-type", "application/json")], openai.to_string());
    });
    for call in [Call::say("m", "hi"), Call::stream("m", "hi")] {
        let answer = sidecar.ask(&call);
        let message = answer.refusal(502, "upstream_garbled");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "it would be the same the next time");
        assert_eq!(
            message,
            "integration `acme`: the upstream's answer cannot be used: it is one of format \"openai\", and the \
             integration has `format = \"anthropic\"`: set the one that the upstream speaks at this `endpoint`"
        );
    }
}

#[test]
fn a_picture_in_an_answer_is_neither_lost_nor_asked_for_again() {
    let gemini = json!({"candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [
        {"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]}}]});
    let converse = json!({"stopReason": "end_turn", "output": {"message": {"role": "assistant", "content": [
        {"text": "Here:"}, {"image": {"format": "png", "source": {"bytes": "QUJD"}}}]}}});
    for (format, body) in [("gemini", gemini), ("bedrock", converse)] {
        let upstream = Upstream::start(move |turn| turn.answer(200, body.to_string()));
        let table = integration("acme", &upstream.url(""), &format!("format = \"{format}\""));
        let answer = Setup::new(table).start().ask(&Call::say("m", "hi"));
        let message = answer.refusal(502, "upstream_garbled");
        assert!(message.contains("OpenAI's chat format cannot carry"), "{format}: {message}");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{format}: each try is paid for");
    }
}

#[test]
fn an_answer_over_its_limit_is_not_read() {
    let (_upstream, sidecar) = anthropic("limits = { max_answer = \"4KiB\" }", |turn| {
        let content = json!([{"type": "text", "text": "x".repeat(8192)}]);
        turn.answer(200, message(&content, "end_turn"));
    });
    let answer = sidecar.ask(&Call::say("m", "hi"));
    let message = answer.refusal(502, "upstream_garbled");
    assert_eq!(answer.header("x-should-retry"), Some("false"), "it would be as long the next time");
    assert!(message.ends_with("it is longer than 4096 bytes (limits.max_answer)"), "{message}");
}

#[test]
fn a_bearer_goes_with_any_format_and_brings_no_other_key() {
    let server = TokenServer::issuing();
    let content = json!([{"type": "text", "text": "hello"}]);
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let (upstream, sidecar) = anthropic(&lines, move |turn| turn.answer(200, message(&content, "end_turn")));
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    let request = upstream.request();
    assert_eq!(request.head.header("authorization"), Some("Bearer token-1"));
    assert_eq!(request.head.header("x-api-key"), None);
}

#[test]
fn what_the_format_cannot_express_is_refused_or_dropped_visibly() {
    let content = json!([{"type": "text", "text": "hello"}]);
    let answering = move |turn: &mut Turn| turn.answer(200, message(&content, "end_turn"));
    let (upstream, sidecar) = anthropic("", answering.clone());
    let with = |field: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        Call::chat(body.to_string())
    };
    let refused = sidecar.ask(&with("n", json!(3)));
    refused.refusal(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "n");
    assert_eq!(upstream.count(), 0);
    let dropped = sidecar.ask(&with("seed", json!(7)));
    assert_eq!((dropped.content().as_str(), dropped.header("x-outrider-dropped")), ("hello", Some("seed")));
    assert_eq!(upstream.request().json().get("seed"), None);

    let (upstream, strict) = anthropic("strict = true", answering);
    let refused = strict.ask(&with("seed", json!(7)));
    refused.refusal(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "seed");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_refused_field_is_named_in_the_message_with_its_integration_in_every_format() {
    let upstream = Upstream::saying("unreached");
    for format in ["anthropic", "gemini", "vertex", "mistral", "cohere", "ollama", "bedrock"] {
        let lines = format!("format = \"{format}\"\nstrict = true");
        let sidecar = Setup::new(integration("acme", &upstream.url(""), &lines)).start();
        let message = json!([{"role": "user", "content": "hi"}]);
        for (field, code, body) in [
            ("messages", "invalid_body", json!({"model": "m"})),
            ("temperature", "invalid_body", json!({"model": "m", "messages": message, "temperature": "hot"})),
            (
                "logit_bias",
                "unsupported_parameter",
                json!({"model": "m", "messages": message, "logit_bias": {"1": 2}}),
            ),
        ] {
            let answer = sidecar.ask(&Call::chat(body.to_string()));
            let told = answer.refusal(400, code);
            assert!(told.starts_with("integration `acme`: "), "{format}: {told}");
            assert_eq!(told.matches(&format!("`{field}`")).count(), 1, "{format}: {told}");
            assert_eq!(answer.json()["error"]["param"], field, "{format}");
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_operation_that_the_format_lacks_is_refused_without_an_empty_field() {
    let (_upstream, sidecar) = anthropic("", |_| ());
    let answer = sidecar.ask(&Call::post("/v1/embeddings", r#"{"model":"m","input":"x"}"#));
    answer.refusal(400, "unsupported_parameter");
    assert_eq!(answer.json()["error"]["param"], Value::Null);
}
