//! What must hold for every request and answer; the tables of cases are in `tests/golden/anthropic`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::testing::json_of;
use crate::dialect::{Broken, End, Fed, Head, Outcome};
use crate::openai::Fault;
use crate::openai::completion::FinishReason;

fn context(operation: Operation) -> Context<'static> {
    Context {
        operation,
        provider_model: "claude-sonnet-4-5",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict: false,
        max_event: 200,
    }
}

fn prepare(body: &Value) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    Anthropic.prepare(&envelope, &context(Operation::Chat))
}

fn plain() -> Prepared {
    prepare(&json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true })).unwrap()
}

#[test]
fn the_headers_are_those_of_the_format_and_none_that_lets_in() {
    let mut names: Vec<_> = plain().unsigned.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["accept", "anthropic-version", "content-type"]);
    assert_eq!(plain().unsigned.tail, "/v1/messages");
}

#[test]
fn embeddings_are_refused() {
    let envelope = Envelope::read(Bytes::from_static(b"{\"input\":\"x\"}")).unwrap();
    assert!(!Anthropic.prepare(&envelope, &context(Operation::Embeddings)).unwrap_err().malformed);
}

#[test]
fn every_stop_reason_has_its_word() {
    for (reason, legacy, wanted) in [
        ("end_turn", false, FinishReason::Stop),
        ("stop_sequence", false, FinishReason::Stop),
        ("pause_turn", false, FinishReason::Stop),
        ("max_tokens", false, FinishReason::Length),
        ("model_context_window_exceeded", false, FinishReason::Length),
        ("tool_use", false, FinishReason::ToolCalls),
        ("tool_use", true, FinishReason::FunctionCall),
        ("refusal", false, FinishReason::ContentFilter),
    ] {
        assert_eq!(reply::finish_reason(reason, legacy), wanted, "{reason}");
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
        assert_eq!(wire["max_tokens"], max_tokens);
        match wire["thinking"]["budget_tokens"].as_u64() {
            Some(budget) => assert!((1024..max_tokens).contains(&budget)),
            None => assert_eq!(prepared.report.changes[0].field, "reasoning_effort"),
        }
    }
}

#[test]
fn an_event_over_the_limit_breaks_the_stream() {
    let mut out = BytesMut::new();
    let error = plain().decoder.feed(&[b'x'; 300], &mut out).unwrap_err();
    assert!(matches!(error, Broken::Garbled(words) if words.contains("max_event")));
}

#[test]
fn the_usage_is_known_before_the_end() {
    let (mut decoder, mut out) = (plain().decoder, BytesMut::new());
    assert_eq!(decoder.usage(), None);
    let start = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n";
    assert_eq!(decoder.feed(start.as_bytes(), &mut out), Ok(Fed::Rewritten));
    assert_eq!(decoder.usage().unwrap().total_tokens, 4);
    assert!(out.is_empty() && !decoder.is_done());
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
        "index",
        "arguments",
        "{}",
        "delta",
        "error",
        "message",
        "usage",
        "input",
        "tool_use",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "message_start",
        "stop_reason",
        "image_url",
        "url",
        "data:image/png;base64,QUJD",
        "tool_call_id",
        "",
        " ",
        "é",
    ])
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        messages in prop::collection::vec(any_json(), 0..5),
        role in prop::sample::select(vec!["user", "assistant", "tool", "system", "function"]),
        tools in any_json(),
    ) {
        let _ = prepare(&json!({ "messages": messages, "tools": tools }));
        let messages: Vec<_> = messages.iter().map(|m| json!({ "role": role, "content": m, "name": m })).collect();
        let _ = prepare(&json!({ "messages": messages }));
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
    fn no_stream_makes_it_panic_and_every_one_ends_once(events in prop::collection::vec(any_json(), 0..6)) {
        let (mut decoder, mut out) = (plain().decoder, BytesMut::new());
        for event in events {
            let _ = decoder.feed(format!("data: {event}\n\n").as_bytes(), &mut out);
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
