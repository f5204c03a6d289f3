//! What must hold for every request and answer; the tables of cases are in `tests/golden/gemini` and `tests/golden/vertex`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::testing::json_of;
use crate::dialect::{Broken, Decoder, End, Fed, Head, Outcome};
use crate::openai::Fault;

fn context(operation: Operation, provider_model: &'static str) -> Context<'static> {
    Context {
        operation,
        provider_model,
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict: false,
        max_event: 200,
    }
}

fn prepare(dialect: Gemini, body: &Value) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    dialect.prepare(&envelope, &context(Operation::Chat, "gemini-3-pro-preview"))
}

fn plain(stream: bool) -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": stream })
}

fn decoder() -> Box<dyn Decoder> {
    prepare(Gemini::STUDIO, &plain(true)).unwrap().decoder
}

fn wire(prepared: &Prepared) -> Value {
    serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap()
}

#[test]
fn the_headers_are_those_of_the_format_and_none_that_lets_in() {
    let prepared = prepare(Gemini::STUDIO, &plain(true)).unwrap();
    let mut names: Vec<_> = prepared.unsigned.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["accept", "content-type"]);
}

#[test]
fn every_tail_that_is_used_is_announced() {
    for (dialect, count) in [(Gemini::STUDIO, 3), (Gemini::VERTEX, 5)] {
        let tails = dialect.tails();
        assert_eq!(tails.len(), count);
        assert!(tails.iter().all(|tail| tail.contains("/models/{model}:")));
        let mut used: Vec<_> =
            [true, false].map(|s| prepare(dialect, &plain(s)).unwrap().unsigned.tail).into();
        for (model, input) in [
            ("gemini-embedding-001", json!("a")),
            ("gemini-embedding-001", json!(["a", "b"])),
            ("text-embedding-005", json!("a")),
        ] {
            let envelope = Envelope::read(Bytes::from(json!({ "input": input }).to_string())).unwrap();
            used.push(
                dialect.prepare(&envelope, &context(Operation::Embeddings, model)).unwrap().unsigned.tail,
            );
        }
        assert!(used.iter().all(|tail| tails.contains(tail)), "{used:?}");
        used.sort();
        used.dedup();
        assert_eq!(used.len(), count);
    }
}

#[test]
fn a_signature_survives_the_way_through_the_client_and_back() {
    let body = json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": [
        { "functionCall": { "name": "f", "args": { "a": 1 } }, "thoughtSignature": "CgQ+/w==" },
        { "functionCall": { "id": "g7", "name": "g" } },
    ] } }] });
    let headers = http::HeaderMap::new();
    let answer =
        decoder().whole(Head { status: 200, headers: &headers }, body.to_string().as_bytes()).unwrap();
    let message = serde_json::to_value(answer).unwrap()["choices"][0]["message"].clone();
    let calls = message["tool_calls"].as_array().unwrap();
    let results =
        calls.iter().rev().map(|call| json!({ "role": "tool", "tool_call_id": call["id"], "content": "r" }));
    let mut messages = vec![json!({ "role": "user", "content": "go" }), message.clone()];
    messages.extend(results);
    let prepared = prepare(Gemini::STUDIO, &json!({ "messages": messages })).unwrap();
    let contents = wire(&prepared)["contents"].clone();
    assert_eq!(
        contents[1]["parts"],
        json!([
            { "functionCall": { "id": "call_1_0", "name": "f", "args": { "a": 1 } }, "thoughtSignature": "CgQ+/w==" },
            { "functionCall": { "id": "g7", "name": "g", "args": {} } },
        ])
    );
    let names: Vec<_> = [0, 1].map(|at| contents[2]["parts"][at]["functionResponse"]["id"].clone()).into();
    assert_eq!(names, ["call_1_0", "g7"]);
}

#[test]
fn an_event_over_the_limit_breaks_the_stream() {
    let mut out = BytesMut::new();
    let error = decoder().feed(&[b'x'; 300], &mut out).unwrap_err();
    assert!(matches!(error, Broken::Garbled(words) if words.contains("max_event")));
}

#[test]
fn candidates_without_end_break_the_stream() {
    let (mut decoder, mut out, mut broken) = (decoder(), BytesMut::new(), None);
    for index in 0..1000 {
        let event = format!("data: {{\"candidates\":[{{\"index\":{index}}}]}}\n\n");
        broken = decoder.feed(event.as_bytes(), &mut out).err();
        if broken.is_some() {
            break;
        }
    }
    assert!(broken.is_some());
}

#[test]
fn the_usage_is_known_before_the_end() {
    let (mut decoder, mut out) = (decoder(), BytesMut::new());
    assert_eq!(decoder.usage(), None);
    let event = "data: {\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":1}}\n\n";
    assert_eq!(decoder.feed(event.as_bytes(), &mut out), Ok(Fed::Rewritten));
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
        "error",
        "message",
        "candidates",
        "parts",
        "functionCall",
        "args",
        "thought",
        "thoughtSignature",
        "finishReason",
        "STOP",
        "promptFeedback",
        "blockReason",
        "usageMetadata",
        "promptTokenCount",
        "logprobsResult",
        "chosenCandidates",
        "embeddings",
        "values",
        "predictions",
        "image_url",
        "url",
        "data:image/png;base64,QUJD",
        "call_1-sig-AAAA",
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
        other in any_json(),
    ) {
        let _ = prepare(Gemini::STUDIO, &json!({ "messages": messages, "tools": other }));
        let messages: Vec<_> = messages.iter().map(|m| json!({ "role": role, "content": m, "name": m })).collect();
        let format = json!({ "type": "json_schema", "json_schema": { "schema": other } });
        let _ = prepare(Gemini::VERTEX, &json!({ "messages": messages, "response_format": format }));
    }

    #[test]
    fn no_answer_makes_it_panic(body in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let headers = http::HeaderMap::new();
        let head = Head { status: 200, headers: &headers };
        for model in ["gemini-embedding-001", "text-embedding-005"] {
            let envelope = Envelope::read(Bytes::from_static(b"{\"input\":\"x\"}")).unwrap();
            let context = context(Operation::Embeddings, model);
            let mut decoder = Gemini::VERTEX.prepare(&envelope, &context).unwrap().decoder;
            let _ = decoder.whole(head, body.to_string().as_bytes());
        }
        let mut decoder = decoder();
        let _ = decoder.whole(head, body.to_string().as_bytes());
        let _ = decoder.whole(head, &bytes);
        prop_assert!(!decoder.fault(head, &bytes).message.is_empty());
        prop_assert!(!decoder.fault(head, body.to_string().as_bytes()).message.is_empty());
    }

    #[test]
    fn no_stream_makes_it_panic_and_every_one_ends_once(events in prop::collection::vec(any_json(), 0..6)) {
        let (mut decoder, mut out) = (decoder(), BytesMut::new());
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
