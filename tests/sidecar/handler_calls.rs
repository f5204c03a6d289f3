//! What a call of a handler is handed, and what becomes of all that it may return, yield and raise: tables of cases.

mod answers;
mod errors;
mod handed;

use serde_json::{Value, json};

use crate::support::handlers::handler;
use crate::support::{Call, Sidecar};

/// Longer than a word of the log, so that a message may end inside of it.
const KEY: &str = "k3y-0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z-0a1B2c3D4e5F6g7H8i9J0k1L2";
const SIGNED: &str = "s1gned-value";

/// The lines of an integration that is handed [`KEY`] and one more header.
fn with_key() -> String {
    format!(
        "authentication_type = \"api_key\"\napi_key_header = \"X-Corp-Key\"\napi_key_value = \"{KEY}\"\nheaders = {{ x-signed-token = \"{SIGNED}\" }}"
    )
}

/// The integrations `classes` of `file`, called as their classes are but for the letters' case; `lines` for each.
fn all_of(file: &str, classes: &[&str], lines: &str) -> String {
    classes.iter().map(|class| handler(&class.to_lowercase(), file, class, lines)).collect()
}

/// `first` with the members of `second`.
fn and(first: Value, second: Value) -> Value {
    let (Value::Object(mut first), Value::Object(second)) = (first, second) else { return Value::Null };
    first.extend(second);
    Value::Object(first)
}

/// Fails where eight letters of a secret are to be read.
fn keeps_secrets(name: &str, text: &str) {
    for secret in [KEY, SIGNED] {
        for part in secret.as_bytes().windows(8) {
            let part = std::str::from_utf8(part).expect("it is ASCII");
            assert!(!text.contains(part), "{name}: {part} is to be read in {text}");
        }
    }
}

/// A stream that ended well, but for its `[DONE]`: checked for what every stream must be.
fn chunks(name: &str, sidecar: &Sidecar, integration: &str, fields: Value) -> Vec<Value> {
    let (mut data, status) = stream(sidecar, integration, fields);
    assert_eq!(status, 200, "{name}: {data:?}");
    assert_eq!(data.pop().as_deref(), Some("[DONE]"), "{name}: {data:?}");
    let chunks: Vec<Value> =
        data.iter().map(|data| serde_json::from_str(data).expect("a chunk is JSON")).collect();
    let first = &chunks[0];
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant", "{name}: {first}");
    assert!(
        first["created"].is_u64() && first["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{name}: {first}"
    );
    let mut begun = Vec::new();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk", "{name}: {chunk}");
        for key in ["id", "created", "model"] {
            assert_eq!(chunk[key], first[key], "{name}: {chunk}");
        }
        for choice in chunk["choices"].as_array().expect("a chunk has choices") {
            let (is_begun, delta) = (begun.contains(&choice["index"]), &choice["delta"]);
            assert_eq!(delta.get("role").is_none(), is_begun, "{name}: the role comes once: {chunk}");
            begun.push(choice["index"].clone());
            let is_end = !choice["finish_reason"].is_null();
            assert_eq!(is_end, *delta == json!({}), "{name}: the reason stands by itself: {chunk}");
        }
    }
    chunks
}

/// The data of a stream, and its status.
fn stream(sidecar: &Sidecar, integration: &str, fields: Value) -> (Vec<String>, u16) {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let call = Call::post(&format!("/{integration}/v1/chat/completions"), and(body, fields).to_string());
    let mut connection = sidecar.connect();
    let (status, head) = connection.send(&call).head();
    if status == 200 {
        let kind = head.header("content-type");
        assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{integration}: {kind:?}");
    }
    (connection.all_data(), status)
}

/// What all deltas say.
fn text_of(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}
