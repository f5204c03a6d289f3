//! Bedrock through the whole sidecar: its paths, its frames, its errors, its keys; the golden tables hold the details.

use serde_json::{Value, json};

use crate::support::frames::{event, frames};
use crate::support::{Call, Gate, Setup, Sidecar, Turn, Upstream, integration};

const MODELS: &str = "model_properties = [\
    { name = \"anthropic.claude-3-5-sonnet-20240620-v1:0\", alias = \"m\" }, \
    { name = \"arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-v1:0\", alias = \"arn\" }, \
    { name = \"amazon.titan-embed-text-v2:0\", alias = \"titan\" }]";

/// A provider that speaks Converse and does `script`, and a sidecar before it.
fn bedrock(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let lines = format!("format = \"bedrock\"\n{MODELS}\n{lines}");
    let sidecar = Setup::new(integration("acme", &upstream.url(""), &lines)).start();
    (upstream, sidecar)
}

fn message(content: &Value, stop: &str) -> String {
    json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop,
           "usage": {"inputTokens": 10, "outputTokens": 4, "totalTokens": 20, "cacheReadInputTokens": 5,
                     "cacheWriteInputTokens": 1}, "metrics": {"latencyMs": 1}})
    .to_string()
}

/// Opens a stream that says `text`.
fn begin(turn: &mut Turn, text: &str) {
    turn.say(
        "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    turn.chunk(event("messageStart", &json!({"role": "assistant"})));
    turn.chunk(event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": text}})));
}

/// Ends it as it should end.
fn finish(turn: &mut Turn) {
    turn.chunk(event("contentBlockStop", &json!({"contentBlockIndex": 0})));
    turn.chunk(event("messageStop", &json!({"stopReason": "end_turn"})));
    let usage = json!({"inputTokens": 10, "outputTokens": 4, "totalTokens": 14});
    turn.chunk(event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 1}})));
    turn.end();
}

#[test]
fn a_whole_answer_is_translated_both_ways_and_the_model_stands_in_the_path() {
    let (upstream, sidecar) =
        bedrock("", |turn| turn.answer(200, message(&json!([{"text": "hello"}]), "end_turn")));
    let body = json!({"model": "m", "max_tokens": 50, "temperature": 1.5, "stop": ["END"],
                      "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]});
    let answer = sidecar.ask(&Call::chat(body.to_string()).header("authorization", "Bearer caller"));
    assert_eq!(
        (answer.content().as_str(), answer.header("x-outrider-dropped")),
        ("hello", Some("temperature"))
    );
    let got = answer.json();
    assert_eq!((&got["model"], &got["choices"][0]["finish_reason"]), (&json!("m"), &json!("stop")));
    assert_eq!((&got["usage"]["prompt_tokens"], &got["usage"]["total_tokens"]), (&json!(16), &json!(20)));

    let request = upstream.request();
    let target = "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse";
    assert_eq!((request.method(), request.target()), ("POST", target));
    assert_eq!(request.head.header("authorization"), None);
    assert_eq!(request.head.header("accept"), Some("application/json"));
    let wanted = json!({
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "system": [{"text": "be brief"}],
        "inferenceConfig": {"maxTokens": 50, "temperature": 1.0, "stopSequences": ["END"]},
    });
    assert_eq!(request.json(), wanted);
}

#[test]
fn an_arn_and_a_bearer_key_go_as_bedrock_wants_them() {
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer ABSK-1\"";
    let (upstream, sidecar) =
        bedrock(lines, |turn| turn.answer(200, message(&json!([{"text": "hello"}]), "end_turn")));
    assert_eq!(sidecar.ask(&Call::say("arn", "hi")).content(), "hello");
    let request = upstream.request();
    assert_eq!(
        request.target(),
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude-sonnet-4-5-v1%3A0/converse"
    );
    assert_eq!(request.head.all("authorization"), ["Bearer ABSK-1"]);
}

#[test]
fn a_stream_of_frames_is_translated_event_by_event() {
    let gate = Gate::new();
    let held = gate.clone();
    let (upstream, sidecar) = bedrock("", move |turn| {
        begin(turn, "one ");
        held.wait();
        let more = event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "two"}}));
        let (first, second) = more.split_at(21);
        turn.chunk(first);
        turn.chunk(second);
        finish(turn);
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
    assert_eq!(rest[0]["choices"][0]["delta"]["content"], "two");
    assert_eq!(rest[1]["choices"][0]["finish_reason"], "stop");
    assert_eq!((&rest[2]["choices"], &rest[2]["usage"]["total_tokens"]), (&json!([]), &json!(14)));
    assert!(rest.iter().all(|event| event["id"] == first["id"]), "{rest:?}");
    let request = upstream.request();
    assert!(request.target().ends_with("/converse-stream"), "{}", request.target());
    assert_eq!(request.head.header("accept"), Some("application/vnd.amazon.eventstream"));
}

#[test]
fn a_stream_that_is_cut_or_damaged_or_reports_an_error_never_ends_as_complete() {
    let cut: fn(&mut Turn) = Turn::close;
    let ended: fn(&mut Turn) = Turn::end;
    let inside: fn(&mut Turn) = |turn| {
        turn.chunk(frames(
            "{\"event\":\"messageStop\",\"payload\":{\"stopReason\":\"end_turn\"}}\n{\"cut\":3}",
        ));
        turn.end();
    };
    let exception: fn(&mut Turn) = |turn| {
        turn.chunk(frames("{\"exception\":\"throttlingException\",\"payload\":{\"message\":\"slow down\"}}"));
        turn.end();
    };
    let damaged: fn(&mut Turn) = |turn| {
        turn.chunk(frames(
            "{\"event\":\"messageStop\",\"payload\":{\"stopReason\":\"end_turn\"},\"damage\":\"crc\"}",
        ));
        finish(turn);
    };
    for (script, words) in
        [(cut, ""), (ended, "messageStop"), (inside, "inside"), (exception, "slow down"), (damaged, "CRC")]
    {
        let (_upstream, sidecar) = bedrock("", move |turn| {
            begin(turn, "one");
            script(turn);
        });
        let mut connection = sidecar.connect();
        assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
        let data = connection.all_data();
        assert!(data[0].contains("one"), "{data:?}");
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
fn refusals_of_aws_become_openai_errors() {
    let (_upstream, sidecar) = bedrock("", |turn| {
        let headers = [
            ("content-type", "application/json"),
            ("x-amzn-errortype", "ThrottlingException:http://internal.amazon.com/"),
            ("retry-after", "3"),
        ];
        turn.answer_with(429, &headers, r#"{"Message":"Too many tokens"}"#);
    });
    for call in [Call::say("m", "hi"), Call::stream("m", "hi")] {
        let answer = sidecar.ask(&call);
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().is_some_and(|m| m.contains("Too many tokens")), "{error}");
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!("ThrottlingException"), &json!("rate_limit_error"))
        );
    }
}

#[test]
fn embeddings_are_asked_for_by_invoking_the_model() {
    let (upstream, sidecar) = bedrock("", |turn| {
        turn.answer(200, r#"{"embedding":[0.5,-0.25],"inputTextTokenCount":3}"#);
    });
    let body = json!({"model": "titan", "input": "hi", "dimensions": 256});
    let answer = sidecar.ask(&Call::post("/v1/embeddings", body.to_string())).json();
    assert_eq!(answer["data"][0]["embedding"], json!([0.5, -0.25]));
    assert_eq!((&answer["model"], &answer["usage"]["prompt_tokens"]), (&json!("titan"), &json!(3)));
    let request = upstream.request();
    assert_eq!(request.target(), "/model/amazon.titan-embed-text-v2%3A0/invoke");
    assert_eq!(request.json(), json!({"inputText": "hi", "dimensions": 256}));

    let many = json!({"model": "titan", "input": ["a", "b"]});
    let refused = sidecar.ask(&Call::post("/v1/embeddings", many.to_string()));
    refused.refusal(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "input");
    assert_eq!(upstream.count(), 1);
}
