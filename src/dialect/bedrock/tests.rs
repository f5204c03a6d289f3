//! What must hold for every request and answer; the tables of cases are in `tests/golden/bedrock`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::testing::json_of;
use crate::dialect::{Broken, End, Head, Outcome};
use crate::openai::Fault;
use crate::openai::completion::FinishReason;

fn context(operation: Operation) -> Context<'static> {
    Context {
        operation,
        provider_model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict: false,
        max_event: 400,
    }
}

fn prepare_for(model: &'static str, body: &Value) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    Bedrock.prepare(&envelope, &Context { provider_model: model, ..context(Operation::Chat) })
}

fn prepare(body: &Value) -> Result<Prepared, Untranslatable> {
    prepare_for(context(Operation::Chat).provider_model, body)
}

fn plain() -> Prepared {
    prepare(&json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true })).unwrap()
}

/// One event as a frame.
fn frame(kind: &str, payload: &[u8]) -> Vec<u8> {
    let header = |name: &str, value: &str| {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &[7], &length, value.as_bytes()].concat()
    };
    let headers = [header(":message-type", "event"), header(":event-type", kind)].concat();
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let mut frame = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

#[test]
fn the_headers_are_those_of_the_format_and_none_that_lets_in() {
    let Prepared { unsigned, .. } = plain();
    let mut names: Vec<_> = unsigned.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["accept", "content-type"]);
    assert_eq!(unsigned.headers["accept"], "application/vnd.amazon.eventstream");
    assert_eq!(unsigned.tail, "/model/{model}/converse-stream");
    let whole = prepare(&json!({ "messages": [{ "role": "user", "content": "Hi" }] })).unwrap().unsigned;
    assert_eq!((&*whole.tail, &whole.headers["accept"]), (WHOLE, &HeaderValue::from_static(JSON)));
    assert!(Bedrock.tails().contains(&whole.tail));
}

#[test]
fn every_stop_reason_has_its_word() {
    let told = |legacy| Telling { legacy, by_tool: false };
    for (reason, legacy, called, wanted) in [
        ("end_turn", false, false, FinishReason::Stop),
        ("end_turn", false, true, FinishReason::ToolCalls),
        ("stop_sequence", false, false, FinishReason::Stop),
        ("max_tokens", false, true, FinishReason::Length),
        ("model_context_window_exceeded", false, false, FinishReason::Length),
        ("tool_use", false, true, FinishReason::ToolCalls),
        ("tool_use", true, true, FinishReason::FunctionCall),
        ("guardrail_intervened", false, false, FinishReason::ContentFilter),
        ("content_filtered", false, false, FinishReason::ContentFilter),
        ("brand_new", false, false, FinishReason::Stop),
    ] {
        assert_eq!(reply::finish_reason(reason, told(legacy), called, false), Ok(wanted), "{reason}");
    }
    for reason in ["malformed_model_output", "malformed_tool_use"] {
        let broken = reply::finish_reason(reason, told(false), false, false);
        assert!(matches!(broken, Err(Broken::Upstream(fault)) if fault.code.as_deref() == Some(reason)));
    }
}

#[test]
fn every_cut_of_max_tokens_leaves_room_for_the_answer() {
    for max_tokens in [1, 1024, 2047, 2048, 2049, 40_000] {
        let prepared = prepare(&json!({
            "messages": [{ "role": "user", "content": "Hi" }], "reasoning_effort": "high", "max_tokens": max_tokens
        }))
        .unwrap();
        let wire: Value = serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap();
        assert_eq!(wire["inferenceConfig"]["maxTokens"], max_tokens);
        match wire["additionalModelRequestFields"]["thinking"]["budget_tokens"].as_u64() {
            Some(budget) => assert!((1024..max_tokens).contains(&budget)),
            None => assert_eq!(prepared.report.changes[0].field, "reasoning_effort"),
        }
    }
}

#[test]
fn each_family_is_told_an_effort_and_top_k_in_its_own_words() {
    let body = json!({
        "messages": [{ "role": "user", "content": "Hi" }], "reasoning_effort": "high", "top_k": 5, "seed": 7
    });
    for (model, wanted, lost) in [
        (
            "amazon.nova-2-lite-v1:0",
            json!({ "inferenceConfig": { "topK": 5 },
          "reasoningConfig": { "type": "enabled", "maxReasoningEffort": "medium" } }),
            vec!["reasoning_effort", "seed"],
        ),
        (
            "amazon.nova-pro-v1:0",
            json!({ "inferenceConfig": { "topK": 5 } }),
            vec!["reasoning_effort", "seed"],
        ),
        ("openai.gpt-oss-20b-1:0", json!({ "reasoning_effort": "high" }), vec!["top_k", "seed"]),
        ("cohere.command-r-v1:0", json!({ "seed": 7, "k": 5 }), vec!["reasoning_effort"]),
        ("meta.llama3-8b-instruct-v1:0", Value::Null, vec!["reasoning_effort", "top_k", "seed"]),
        ("anthropic.claude-3-haiku-20240307-v1:0", json!({ "top_k": 5 }), vec!["reasoning_effort", "seed"]),
    ] {
        let prepared = prepare_for(model, &body).unwrap();
        let wire: Value = serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap();
        assert_eq!(wire["additionalModelRequestFields"], wanted, "{model}");
        let fields: Vec<_> = prepared.report.changes.iter().map(|change| &*change.field).collect();
        assert_eq!(fields, lost, "{model}");
    }
}

#[test]
fn tokens_of_embeddings_may_be_counted_in_a_header() {
    let envelope = Envelope::read(Bytes::from_static(br#"{"input":["a","b"]}"#)).unwrap();
    let context = Context { provider_model: "cohere.embed-v4:0", ..context(Operation::Embeddings) };
    let mut decoder = Bedrock.prepare(&envelope, &context).unwrap().decoder;
    let mut headers = HeaderMap::new();
    headers.insert("x-amzn-bedrock-input-token-count", HeaderValue::from_static("7"));
    let head = Head { status: 200, headers: &headers };
    decoder.whole(head, br#"{"embeddings":{"float":[[1.0],[2.0]]}}"#).unwrap();
    assert_eq!(decoder.usage().unwrap().prompt_tokens, 7);
}

#[test]
fn a_frame_over_the_limit_breaks_the_stream() {
    let mut out = BytesMut::new();
    let long = frame("contentBlockDelta", &[b' '; 400]);
    let error = plain().decoder.feed(&long, &mut out).unwrap_err();
    assert!(matches!(error, Broken::Garbled(words) if words.contains("max_event")));
}

#[test]
fn nothing_is_told_after_the_end() {
    let (mut decoder, mut out) = (plain().decoder, BytesMut::new());
    for (kind, payload) in [
        ("messageStop", &br#"{"stopReason":"end_turn"}"#[..]),
        ("metadata", br#"{"usage":{"inputTokens":3,"outputTokens":1}}"#),
    ] {
        assert!(!decoder.is_done());
        decoder.feed(&frame(kind, payload), &mut out).unwrap();
    }
    assert!(decoder.is_done());
    assert_eq!(decoder.usage().unwrap().total_tokens, 4);
    let length = out.len();
    decoder.feed(&frame("contentBlockDelta", b"not json"), &mut out).unwrap();
    assert_eq!(decoder.finish(End::Clean, &mut out), Outcome::Complete);
    assert_eq!(out.len(), length);
}

/// JSON made of the words that the two formats use.
fn any_json() -> impl Strategy<Value = Value> {
    json_of(&[
        "type",
        "role",
        "content",
        "text",
        "user",
        "assistant",
        "tool",
        "function",
        "tool_calls",
        "id",
        "name",
        "contentBlockIndex",
        "arguments",
        "{}",
        "delta",
        "start",
        "message",
        "usage",
        "input",
        "toolUse",
        "toolUseId",
        "reasoningContent",
        "output",
        "stopReason",
        "end_turn",
        "image_url",
        "url",
        "data:image/png;base64,QUJD",
        "file",
        "file_data",
        "filename",
        "data:application/pdf;base64,QUJD",
        "s3://b/k.png",
        "tool_call_id",
        "",
        " ",
        "é",
        "embedding",
        "embeddings",
        "float",
    ])
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        messages in prop::collection::vec(any_json(), 0..5),
        role in prop::sample::select(vec!["user", "assistant", "tool", "system", "function"]),
        any in any_json(),
    ) {
        let _ = prepare(&json!({ "messages": messages, "tools": any }));
        let messages: Vec<_> = messages.iter().map(|m| json!({ "role": role, "content": m, "name": m })).collect();
        let _ = prepare(&json!({ "messages": messages, "additionalModelRequestFields": any, "top_k": 1 }));
        let envelope = Envelope::read(Bytes::from(json!({ "input": any }).to_string())).unwrap();
        let model = "cohere.embed-v4:0";
        let _ = Bedrock.prepare(&envelope, &Context { provider_model: model, ..context(Operation::Embeddings) });
    }

    #[test]
    fn no_answer_makes_it_panic(body in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let headers = HeaderMap::new();
        let head = Head { status: 200, headers: &headers };
        let mut decoder = plain().decoder;
        let _ = decoder.whole(head, body.to_string().as_bytes());
        let _ = decoder.whole(head, &bytes);
        prop_assert!(!decoder.fault(head, &bytes).message.is_empty());
        prop_assert!(!decoder.fault(head, body.to_string().as_bytes()).message.is_empty());
    }

    #[test]
    fn no_stream_makes_it_panic_and_every_one_ends_once(
        events in prop::collection::vec((prop::sample::select(vec![
            "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "messageStart", "x",
        ]), any_json()), 0..6),
    ) {
        let (mut decoder, mut out) = (plain().decoder, BytesMut::new());
        for (kind, payload) in events {
            let _ = decoder.feed(&frame(kind, payload.to_string().as_bytes()), &mut out);
        }
        let mut outcome = decoder.finish(End::Clean, &mut out);
        if let Outcome::Unfinished(fault) = outcome {
            outcome = decoder.finish(End::Broken(&fault), &mut out);
        }
        let length = out.len();
        prop_assert_eq!(decoder.finish(End::Broken(&Fault::garbled("x")), &mut out), outcome.clone());
        prop_assert_eq!(out.len(), length);
        prop_assert_eq!(decoder.is_done(), outcome == Outcome::Complete);
    }
}

#[test]
fn a_stream_that_never_stops_calling_is_given_up() {
    let (mut decoder, mut out) = (plain().decoder, BytesMut::new());
    let mut begin = |n: u32| {
        let start =
            json!({ "contentBlockIndex": n, "start": { "toolUse": { "toolUseId": "c", "name": "f" } } });
        decoder.feed(&frame("contentBlockStart", start.to_string().as_bytes()), &mut out).map(drop)
    };
    assert!((0..1024).all(|n| begin(n).is_ok()));
    assert!(matches!(begin(1024), Err(Broken::Garbled(words)) if words.contains("calls")));
}
