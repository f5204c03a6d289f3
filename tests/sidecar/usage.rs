//! What an answer cost is told as the provider told it: a number that nobody said is none.

use serde_json::{Value, json};

use crate::support::frames::event as frame;
use crate::support::{Call, Setup, Turn, Upstream, integration};

/// A format, what of the counts a provider sends in its place for them (`""` leaves them out), its whole answer and its
/// stream, which hold that.
type Case = (&'static str, &'static str, String, &'static str, Vec<u8>);

const SSE: &str = "text/event-stream";

/// Events of server-sent events.
fn events(data: &[Value]) -> Vec<u8> {
    data.iter().flat_map(|data| format!("data: {data}\n\n").into_bytes()).collect()
}

/// `value` with the members of `more`.
fn with(mut value: Value, more: &str) -> Value {
    let more: Value = serde_json::from_str(&format!("{{{more}}}")).expect("members");
    for (key, member) in more.as_object().expect("an object") {
        value[key] = member.clone();
    }
    value
}

fn anthropic(more: &'static str) -> Case {
    let text = json!([{"type": "text", "text": "hi"}]);
    let whole = json!({"type": "message", "role": "assistant", "content": text, "stop_reason": "end_turn"});
    let start = with(json!({"id": "m", "role": "assistant", "content": []}), more);
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    let stream = events(&[
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": text[0]}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
        with(end, more),
        json!({"type": "message_stop"}),
    ]);
    ("anthropic", more, with(whole, more).to_string(), SSE, stream)
}

fn bedrock(more: &'static str) -> Case {
    let text = json!({"role": "assistant", "content": [{"text": "hi"}]});
    let whole = json!({"output": {"message": text}, "stopReason": "end_turn"});
    let stream = [
        frame("messageStart", &json!({"role": "assistant"})),
        frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "hi"}})),
        frame("contentBlockStop", &json!({"contentBlockIndex": 0})),
        frame("messageStop", &json!({"stopReason": "end_turn"})),
        frame("metadata", &with(json!({"metrics": {"latencyMs": 1}}), more)),
    ];
    let kind = "application/vnd.amazon.eventstream";
    ("bedrock", more, with(whole, more).to_string(), kind, stream.concat())
}

fn gemini(more: &'static str) -> Case {
    let content = json!({"parts": [{"text": "hi"}]});
    let whole = with(json!({"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}]}), more);
    ("gemini", more, whole.to_string(), SSE, events(&[whole]))
}

fn mistral(more: &'static str) -> Case {
    let message = json!({"role": "assistant", "content": "hi"});
    let choice = |key: &str| json!([{"index": 0, key: message, "finish_reason": "stop"}]);
    let whole = with(json!({"id": "c", "choices": choice("message")}), more);
    let stream = events(&[with(json!({"id": "c", "choices": choice("delta")}), more)]);
    ("mistral", more, whole.to_string(), SSE, stream)
}

fn cohere(more: &'static str) -> Case {
    let message = json!({"role": "assistant", "content": [{"type": "text", "text": "hi"}]});
    let whole = with(json!({"id": "1", "finish_reason": "COMPLETE", "message": message}), more);
    let delta = |text: Value| json!({"message": {"content": text}});
    let stream = events(&[
        json!({"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}}),
        json!({"type": "content-start", "index": 0, "delta": delta(json!({"type": "text", "text": ""}))}),
        json!({"type": "content-delta", "index": 0, "delta": delta(json!({"text": "hi"}))}),
        json!({"type": "content-end", "index": 0}),
        json!({"type": "message-end", "delta": with(json!({"finish_reason": "COMPLETE"}), more)}),
    ]);
    ("cohere", more, whole.to_string(), SSE, stream)
}

fn ollama(more: &'static str) -> Case {
    let message = json!({"role": "assistant", "content": "hi"});
    let last = json!({"model": "m", "message": message, "done": true, "done_reason": "stop"});
    let last = with(last, more).to_string();
    ("ollama", more, last.clone(), "application/x-ndjson", format!("{last}\n").into_bytes())
}

#[test]
fn counts_that_the_provider_does_not_tell_are_not_told() {
    let cases = [
        anthropic(""),
        anthropic(r#""usage":{}"#),
        bedrock(""),
        bedrock(r#""usage":{}"#),
        gemini(""),
        gemini(r#""usageMetadata":{}"#),
        mistral(""),
        mistral(r#""usage":{}"#),
        cohere(""),
        cohere(r#""usage":{}"#),
        ollama(""),
    ];
    let (mut upstreams, mut tables) = (Vec::new(), String::new());
    for (at, (format, _, whole, kind, stream)) in cases.iter().cloned().enumerate() {
        // The caller asks for the whole answer first.
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let upstream = Upstream::start(move |turn: &mut Turn| {
            match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => turn.answer(200, &whole),
                _ => turn.answer_with(200, &[("content-type", kind)], &stream),
            }
        });
        let base = if format == "mistral" { "/v1" } else { "" };
        let lines = format!("format = \"{format}\"");
        tables.push_str(&integration(&format!("p{at}"), &upstream.url(base), &lines));
        upstreams.push(upstream);
    }
    let sidecar = Setup::new(tables).start();
    for (at, (format, more, ..)) in cases.iter().enumerate() {
        let which = format!("{format} {{{more}}}");
        let body = json!({"model": format!("p{at}/m"), "messages": [{"role": "user", "content": "hi"}]});
        let whole = sidecar.ask(&Call::chat(body.to_string()));
        assert_eq!(whole.content(), "hi", "{which}");
        assert_eq!(whole.json().get("usage"), None, "{which}: {}", whole.text());
        let asked = r#""stream":true,"stream_options":{"include_usage":true}"#;
        let streamed = sidecar.ask(&Call::chat(with(body, asked).to_string()));
        let text = streamed.text();
        assert!(text.contains("\"hi\"") && text.ends_with("data: [DONE]\n\n"), "{which}: {text}");
        assert!(!text.contains("usage"), "{which}: {text}");
    }
}
