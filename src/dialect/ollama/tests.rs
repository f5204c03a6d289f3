//! What must hold for every request and answer; the tables of cases are in `tests/golden/ollama`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::testing::json_of;
use crate::dialect::{Broken, End, Head, Outcome};
use crate::openai::Fault;

fn context(operation: Operation) -> Context<'static> {
    Context {
        operation,
        provider_model: "llama3.1",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict: false,
        max_event: 200,
    }
}

fn prepare(body: &Value) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    Ollama.prepare(&envelope, &context(Operation::Chat))
}

fn plain() -> Prepared {
    prepare(&json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true })).unwrap()
}

#[test]
fn a_stream_is_asked_for_as_lines_and_nothing_that_lets_in_is_put_on() {
    let unsigned = plain().unsigned;
    let mut names: Vec<_> = unsigned.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["accept", "content-type"]);
    assert_eq!(unsigned.headers["accept"], "application/x-ndjson");
    assert_eq!(unsigned.tail, "/api/chat");
    assert_eq!(Ollama.tails(), ["/api/chat", "/api/embed"]);
}

#[test]
fn a_whole_answer_is_asked_for_in_so_many_words() {
    let prepared = prepare(&json!({ "messages": [{ "role": "user", "content": "Hi" }] })).unwrap();
    let wire: Value = serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap();
    assert_eq!(wire["stream"], false);
    assert_eq!(prepared.unsigned.headers["accept"], "application/json");
}

#[test]
fn a_line_over_the_limit_breaks_the_stream() {
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
        "arguments",
        "{}",
        "message",
        "thinking",
        "logprobs",
        "token",
        "logprob",
        "done",
        "done_reason",
        "error",
        "eval_count",
        "embeddings",
        "options",
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
        let _ = prepare(&json!({ "messages": messages, "tools": tools, "options": tools, "format": tools }));
        let messages: Vec<_> = messages.iter().map(|m| json!({ "role": role, "content": m, "name": m })).collect();
        let _ = prepare(&json!({ "messages": messages }));
    }

    #[test]
    fn no_answer_makes_it_panic(body in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let headers = HeaderMap::new();
        let head = Head { status: 200, headers: &headers };
        let envelope = Envelope::read(Bytes::from_static(b"{\"input\":\"x\"}")).unwrap();
        let embeddings = Ollama.prepare(&envelope, &context(Operation::Embeddings)).unwrap().decoder;
        for mut decoder in [plain().decoder, embeddings] {
            let _ = decoder.whole(head, body.to_string().as_bytes());
            let _ = decoder.whole(head, &bytes);
            prop_assert!(!decoder.fault(head, &bytes).message.is_empty());
        }
    }

    #[test]
    fn no_stream_makes_it_panic_and_every_one_ends_once(lines in prop::collection::vec(any_json(), 0..6)) {
        let (mut decoder, mut out) = (plain().decoder, BytesMut::new());
        for line in lines {
            let _ = decoder.feed(format!("{line}\n").as_bytes(), &mut out);
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
