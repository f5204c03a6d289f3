//! What must hold for every request and answer; the tables of cases are in `tests/golden/cohere`.

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
        provider_model: "command-a-reasoning-08-2025",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict: false,
        max_event: 200,
    }
}

fn prepare(body: &Value) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    Cohere.prepare(&envelope, &context(Operation::Chat))
}

fn plain() -> Prepared {
    prepare(&json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true })).unwrap()
}

#[test]
fn nothing_that_lets_in_is_put_on() {
    let mut names: Vec<_> = plain().unsigned.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["accept", "content-type"]);
    assert_eq!(plain().unsigned.tail, "/v2/chat");
    assert_eq!(Cohere.tails(), ["/v2/chat", "/v2/embed"]);
}

#[test]
fn every_finish_reason_has_its_word_or_is_an_error() {
    for (reason, legacy, wanted) in [
        ("COMPLETE", false, FinishReason::Stop),
        ("STOP_SEQUENCE", false, FinishReason::Stop),
        ("MAX_TOKENS", false, FinishReason::Length),
        ("ERROR_LIMIT", false, FinishReason::Length),
        ("TOOL_CALL", false, FinishReason::ToolCalls),
        ("TOOL_CALL", true, FinishReason::FunctionCall),
        ("ERROR_TOXIC", false, FinishReason::ContentFilter),
        ("SOMETHING_NEW", false, FinishReason::Stop),
    ] {
        assert_eq!(reply::finish_reason(reason, None, legacy), Ok(wanted), "{reason}");
    }
    for (reason, told, status, words) in [
        ("ERROR", None, 502, "ERROR"),
        ("ERROR", Some("out of memory"), 502, "out of memory"),
        ("TIMEOUT", Some(" "), 504, "TIMEOUT"),
        ("USER_CANCEL", None, 502, "USER_CANCEL"),
    ] {
        let Err(Broken::Upstream(fault)) = reply::finish_reason(reason, told, false) else {
            panic!("{reason}")
        };
        assert!(fault.status == status && fault.message.contains(words), "{fault:?}");
    }
}

#[test]
fn every_cut_of_max_tokens_leaves_room_for_the_answer() {
    for max_tokens in [1, 1000, 1001, 3047, 3048, 40_000] {
        let prepared = prepare(&json!({
            "messages": [{ "role": "user", "content": "Hi" }], "reasoning_effort": "low", "max_tokens": max_tokens
        }))
        .unwrap();
        let wire: Value = serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap();
        assert_eq!(wire["max_tokens"], max_tokens);
        match wire["thinking"]["token_budget"].as_u64() {
            Some(budget) => assert!(budget > 0 && budget <= 2048 && budget + 1000 <= max_tokens),
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
        "message",
        "usage",
        "tokens",
        "tool_plan",
        "thinking",
        "logprobs",
        "message-start",
        "content-start",
        "content-delta",
        "tool-plan-delta",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "message-end",
        "finish_reason",
        "COMPLETE",
        "TOOL_CALL",
        "embeddings",
        "float",
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
        number in any::<f64>(),
    ) {
        let _ = prepare(&json!({ "messages": messages, "tools": tools, "temperature": number, "top_p": number }));
        let messages: Vec<_> = messages.iter().map(|m| json!({ "role": role, "content": m, "name": m })).collect();
        let _ = prepare(&json!({ "messages": messages }));
    }

    #[test]
    fn no_answer_makes_it_panic(body in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let headers = http::HeaderMap::new();
        let head = Head { status: 200, headers: &headers };
        let envelope = Envelope::read(Bytes::from_static(b"{\"input\":\"x\"}")).unwrap();
        let embeddings = Cohere.prepare(&envelope, &context(Operation::Embeddings)).unwrap().decoder;
        for mut decoder in [plain().decoder, embeddings] {
            let _ = decoder.whole(head, body.to_string().as_bytes());
            let _ = decoder.whole(head, &bytes);
            prop_assert!(!decoder.fault(head, &bytes).message.is_empty());
        }
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
