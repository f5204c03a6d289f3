//! AWS event-stream frames out of readable lines, one a frame, for tables and scripts.
//!
//! | line | what comes of it |
//! | --- | --- |
//! | `{"event":"messageStop","payload":{…}}` | an event |
//! | `{"exception":"throttlingException","payload":{…}}` | an exception |
//! | `{"error":"code","message":"words"}` | an error that no service has modelled |
//! | `{"cut":3}` | the three bytes before it are not sent |
//! | `{"text":"…"}` | bytes that are no frame |
//!
//! With `"damage":"crc"` or `"damage":"prelude"` a frame's checksum is wrong.

use serde_json::Value;

/// The bytes of all `lines`.
pub(crate) fn frames(lines: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        if let Some(cut) = line["cut"].as_u64() {
            stream.truncate(stream.len() - usize::try_from(cut).expect("a small number"));
        } else if let Some(text) = line["text"].as_str() {
            stream.extend_from_slice(text.as_bytes());
        } else {
            stream.extend_from_slice(&one(&line));
        }
    }
    stream
}

/// One event.
pub(crate) fn event(kind: &str, payload: &Value) -> Vec<u8> {
    one(&serde_json::json!({ "event": kind, "payload": payload }))
}

fn one(line: &Value) -> Vec<u8> {
    let text = |key: &str| line[key].as_str();
    let headers: Vec<u8> = match (text("event"), text("exception"), text("error")) {
        (Some(kind), ..) => headers(&[(":event-type", kind), (":message-type", "event")]),
        (None, Some(kind), _) => headers(&[(":exception-type", kind), (":message-type", "exception")]),
        (None, None, Some(code)) => {
            let words = text("message").unwrap_or_default();
            headers(&[(":error-code", code), (":error-message", words), (":message-type", "error")])
        }
        (None, None, None) => headers(&[]),
    };
    let payload = if line["payload"].is_null() { String::new() } else { line["payload"].to_string() };
    let length = |length: usize| u32::try_from(length).expect("a short frame").to_be_bytes();
    let mut frame = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
    let sum = |frame: &mut Vec<u8>, damaged: bool| {
        let crc = crc32fast::hash(frame) ^ u32::from(damaged);
        frame.extend_from_slice(&crc.to_be_bytes());
    };
    sum(&mut frame, text("damage") == Some("prelude"));
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    sum(&mut frame, text("damage") == Some("crc"));
    frame
}

fn headers(texts: &[(&str, &str)]) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in texts.iter().chain(&[(":content-type", "application/json")]) {
        headers.push(u8::try_from(name.len()).expect("a short name"));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    headers
}
