//! A provider of every format: what an integration needs to speak it, where it is asked, and a minimal good answer.

use outrider::dialect::Format;
use serde_json::json;

use super::frames;
use super::upstream::{Turn, completion};

/// What an integration of `format` called `name` needs besides `format` itself: lines for its table, and further tables.
pub(crate) fn needs(format: Format, name: &str) -> (&'static str, String) {
    match format {
        Format::Azure => ("api_version = \"2024-10-21\"\n", String::new()),
        Format::Declared => (
            "",
            format!(
                "[integrations.{name}.request]\nengine = \"{{{{ model }}}}\"\nprompt = \"{{{{ messages | join_prompt }}}}\"\nlive = \"{{{{ stream }}}}\"\n\
                 [integrations.{name}.response]\ncontent = \"{{{{ output }}}}\"\n\
                 [integrations.{name}.stream]\nframing = \"ndjson\"\ndelta = \"{{{{ output }}}}\"\n\
                 finish_reason = \"{{{{ 'stop' if last else none }}}}\"\n"
            ),
        ),
        Format::OpenAi
        | Format::Anthropic
        | Format::Mistral
        | Format::Gemini
        | Format::Vertex
        | Format::Bedrock
        | Format::Cohere
        | Format::Ollama => ("", String::new()),
    }
}

/// What is appended to the endpoint for a chat request for the model `real-model`.
pub(crate) fn tail(format: Format, stream: bool) -> &'static str {
    match (format, stream) {
        (Format::OpenAi | Format::Mistral, _) => "/chat/completions",
        (Format::Anthropic, _) => "/v1/messages",
        (Format::Azure, _) => "/openai/deployments/real-model/chat/completions?api-version=2024-10-21",
        (Format::Gemini, false) => "/v1beta/models/real-model:generateContent",
        (Format::Gemini, true) => "/v1beta/models/real-model:streamGenerateContent?alt=sse",
        (Format::Vertex, false) => "/models/real-model:generateContent",
        (Format::Vertex, true) => "/models/real-model:streamGenerateContent?alt=sse",
        (Format::Bedrock, false) => "/model/real-model/converse",
        (Format::Bedrock, true) => "/model/real-model/converse-stream",
        (Format::Cohere, _) => "/v2/chat",
        (Format::Ollama, _) => "/api/chat",
        (Format::Declared, _) => "",
    }
}

/// Whether the request of `turn` asks for a stream, as `format` says it.
fn asks_for_a_stream(turn: &Turn, format: Format) -> bool {
    let (target, body) = (turn.request.target(), turn.request.json());
    match format {
        Format::Gemini | Format::Vertex => target.contains(":streamGenerateContent"),
        Format::Bedrock => target.ends_with("-stream"),
        Format::Declared => body["live"] == true,
        Format::OpenAi
        | Format::Anthropic
        | Format::Azure
        | Format::Mistral
        | Format::Cohere
        | Format::Ollama => body["stream"] == true,
    }
}

/// Answers as a provider of `format` does, whole or in a stream, whichever was asked for: the text is `hello`.
pub(crate) fn answer(turn: &mut Turn, format: Format) {
    if asks_for_a_stream(turn, format) { stream(turn, format) } else { whole(turn, format) }
}

fn whole(turn: &mut Turn, format: Format) {
    let body = match format {
        Format::OpenAi | Format::Azure | Format::Mistral => completion("hello"),
        Format::Anthropic => {
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-model",
                   "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn",
                   "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 2}})
        }
        Format::Gemini | Format::Vertex => candidate("hello", true),
        Format::Bedrock => {
            json!({"output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}}, "stopReason": "end_turn",
                   "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 1}})
        }
        Format::Cohere => {
            json!({"id": "c1", "finish_reason": "COMPLETE",
                   "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
                   "usage": {"tokens": {"input_tokens": 3, "output_tokens": 2}}})
        }
        Format::Ollama => line("hello", true),
        Format::Declared => json!({"output": "hello"}),
    };
    turn.answer(200, body.to_string());
}

fn stream(turn: &mut Turn, format: Format) {
    match format {
        Format::OpenAi | Format::Azure | Format::Mistral => {
            turn.open_stream();
            turn.delta("hel");
            turn.delta("lo");
            turn.done();
        }
        Format::Anthropic => {
            turn.open_stream();
            for event in anthropic() {
                typed(turn, &event);
            }
            turn.end();
        }
        Format::Gemini | Format::Vertex => {
            turn.open_stream();
            turn.event(candidate("hel", false).to_string());
            turn.event(candidate("lo", true).to_string());
            turn.end();
        }
        Format::Bedrock => {
            open(turn, "application/vnd.amazon.eventstream");
            for (kind, payload) in bedrock() {
                turn.chunk(frames::event(kind, &payload));
            }
            turn.end();
        }
        Format::Cohere => {
            turn.open_stream();
            for event in cohere() {
                typed(turn, &event);
            }
            turn.event("[DONE]");
            turn.end();
        }
        Format::Ollama => {
            open(turn, "application/x-ndjson");
            turn.chunk(format!("{}\n", line("hel", false)));
            turn.chunk(format!("{}\n", line("lo", true)));
            turn.end();
        }
        Format::Declared => {
            open(turn, "application/x-ndjson");
            turn.chunk("{\"output\":\"hel\"}\n{\"output\":\"lo\",\"last\":true}\n");
            turn.end();
        }
    }
}

fn open(turn: &mut Turn, kind: &str) {
    turn.say(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"));
}

/// One event that is named after the type in it.
fn typed(turn: &mut Turn, event: &serde_json::Value) {
    turn.chunk(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()));
}

fn anthropic() -> [serde_json::Value; 7] {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-model", "content": [],
                         "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}});
    let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        text("hel"),
        text("lo"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
}

fn bedrock() -> [(&'static str, serde_json::Value); 6] {
    let text = |text: &str| json!({"contentBlockIndex": 0, "delta": {"text": text}});
    let usage = json!({"inputTokens": 3, "outputTokens": 2, "totalTokens": 5});
    [
        ("messageStart", json!({"role": "assistant"})),
        ("contentBlockDelta", text("hel")),
        ("contentBlockDelta", text("lo")),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        ("metadata", json!({"usage": usage, "metrics": {"latencyMs": 1}})),
    ]
}

fn cohere() -> [serde_json::Value; 6] {
    let text = |text: &str| json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}});
    let content = json!({"type": "text", "text": ""});
    let usage = json!({"tokens": {"input_tokens": 3, "output_tokens": 2}});
    [
        json!({"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}),
        json!({"type": "content-start", "index": 0, "delta": {"message": {"content": content}}}),
        text("hel"),
        text("lo"),
        json!({"type": "content-end", "index": 0}),
        json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}),
    ]
}

/// A piece of Gemini's answer, or the last.
fn candidate(text: &str, last: bool) -> serde_json::Value {
    let mut piece = json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}],
                           "modelVersion": "real-model", "responseId": "r1"});
    if last {
        piece["candidates"][0]["finishReason"] = json!("STOP");
        piece["usageMetadata"] =
            json!({"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5});
    }
    piece
}

/// A line of Ollama's answer, or the last.
fn line(text: &str, last: bool) -> serde_json::Value {
    let mut line = json!({"model": "real-model", "created_at": "2026-01-01T00:00:00Z",
                          "message": {"role": "assistant", "content": text}, "done": last});
    if last {
        line["done_reason"] = json!("stop");
        line["prompt_eval_count"] = json!(3);
        line["eval_count"] = json!(2);
    }
    line
}
