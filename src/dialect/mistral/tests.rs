//! What the golden tables cannot say: how a decoder and a request belong together, and what the wire never shows.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::dialect::{Broken, End, Head, Outcome, Whole};

fn prepare(body: &str, operation: Operation) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::copy_from_slice(body.as_bytes())).unwrap();
    let context = Context {
        operation,
        provider_model: "mistral-large-latest",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict: false,
        max_event: 10_000,
    };
    Mistral.prepare(&envelope, &context)
}

const HI: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

fn whole(decoder: &mut dyn Decoder, body: &str) -> Result<Whole, Broken> {
    decoder.whole(Head { status: 200, headers: &http::HeaderMap::new() }, body.as_bytes())
}

#[test]
fn each_operation_has_its_path_and_both_were_announced() {
    let chat = prepare(HI, Operation::Chat).unwrap().unsigned;
    let embeddings = prepare(r#"{"model":"m","input":"x"}"#, Operation::Embeddings).unwrap().unsigned;
    assert_eq!(Mistral.tails(), [chat.tail, embeddings.tail]);
    assert_eq!(chat.headers["accept"], "application/json");
    assert!(prepare(HI, Operation::Relay).is_err());
}

#[test]
fn usage_is_known_once_it_was_read() {
    let mut decoder = prepare(HI, Operation::Chat).unwrap().decoder;
    assert_eq!(decoder.usage(), None);
    let body = r#"{"id":"x","choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],
                   "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":7}}"#;
    assert!(matches!(whole(&mut *decoder, body), Ok(Whole::Completion(_))));
    assert_eq!(decoder.usage().unwrap().total_tokens, 5);
}

#[test]
fn vectors_come_in_the_order_of_the_texts_and_one_for_each() {
    let body = r#"{"model":"m","input":["a","b"],"encoding_format":"base64"}"#;
    let answer = r#"{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}],"usage":{"prompt_tokens":4}}"#;
    let mut decoder = prepare(body, Operation::Embeddings).unwrap().decoder;
    let Ok(Whole::Embeddings(found)) = whole(&mut *decoder, answer) else { panic!("no embeddings") };
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!((&json["data"][0]["embedding"], &json["data"][1]["index"]), (&"AACAPw==".into(), &1.into()));
    assert_eq!(decoder.usage().unwrap().prompt_tokens, 4);
    let one = r#"{"data":[{"embedding":[1.0]}]}"#;
    assert!(matches!(whole(&mut *decoder, one), Err(Broken::Garbled(_))));
    let error = r#"{"object":"error","message":"no such model"}"#;
    assert!(matches!(whole(&mut *decoder, error), Err(Broken::Upstream(_))));
}

#[test]
fn a_stream_of_embeddings_never_ends_well() {
    let mut decoder = prepare(r#"{"model":"m","input":"a"}"#, Operation::Embeddings).unwrap().decoder;
    let mut out = BytesMut::new();
    assert!(decoder.feed(b"data: {}\n\n", &mut out).is_err());
    let Outcome::Unfinished(fault) = decoder.finish(End::Clean, &mut out) else { panic!("it ended well") };
    assert!(matches!(decoder.finish(End::Broken(&fault), &mut out), Outcome::Failed(_)));
    assert!(!decoder.is_done() && !out.is_empty());
}

#[test]
fn a_stream_that_never_stops_calling_or_choosing_is_given_up() {
    let body = HI.replacen('{', r#"{"stream":true,"#, 1);
    let feed = |count: u32, chunk: fn(u32) -> String| {
        let (mut decoder, mut out) = (prepare(&body, Operation::Chat).unwrap().decoder, BytesMut::new());
        let mut feed = |n| decoder.feed(format!("data: {}\n\n", chunk(n)).as_bytes(), &mut out).map(drop);
        assert!((0..count).all(|n| feed(n).is_ok()));
        feed(count)
    };
    let call = |n| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{n},"id":"c{n}","function":{{"name":"f","arguments":""}}}}]}}}}]}}"#
        )
    };
    let choice = |n| format!(r#"{{"choices":[{{"index":{n},"delta":{{"content":"x"}}}}]}}"#);
    assert!(matches!(feed(1024, call), Err(Broken::Garbled(words)) if words.contains("calls")));
    assert!(matches!(feed(128, choice), Err(Broken::Garbled(words)) if words.contains("choices")));
}
