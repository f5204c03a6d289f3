//! What one translation costs: requests of 2 KB and 100 KB, whole answers, and one chunk of a stream, each dialect.
//!
//! `cargo bench --bench translate`. The lines to hold: 15 µs for 2 KB, 400 µs for 100 KB, 3 µs for a translated chunk,
//! well under 1 µs for one that passes.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use outrider::dialect::{Context, Decoder, Dialect, Format, Head, Prepared, Recipe, build};
use outrider::openai::{Envelope, Operation};

criterion_group!(benches, requests, replies, chunks);
criterion_main!(benches);

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for (size, turns, words) in [("2 KB", 3, 30), ("100 KB", 20, 400)] {
        let body = request(turns, words);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let envelope = envelope(&body);
        for (_, format) in Format::ALL {
            group.bench_function(format!("{} {size}", format.word()), |bencher| {
                let dialect = dialect(format);
                bencher.iter(|| prepare(&*dialect, black_box(&envelope)));
            });
        }
    }
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    let headers = HeaderMap::new();
    let head = Head { status: 200, headers: &headers };
    for (size, words) in [("2 KB", 300), ("100 KB", 16_000)] {
        let text = "line \\\"of\\\" text\\n".repeat(words / 3);
        let body = format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":10,"output_tokens":5}}}}"#
        );
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("anthropic {size}"), |bencher| {
            let mut decoder = decoder(Format::Anthropic);
            bencher.iter(|| {
                let completion = decoder.whole(head, black_box(body.as_bytes())).expect("a good answer");
                serde_json::to_vec(&completion).expect("a completion has text keys")
            });
        });
    }
}

fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk");
    for (_, format) in Format::ALL {
        let (first, chunk) = stream(format);
        group.throughput(Throughput::Bytes(chunk.len() as u64));
        let mut decoder = decoder(format);
        decoder.feed(&first, &mut BytesMut::new()).expect("a good beginning");
        let mut out = BytesMut::with_capacity(1 << 16);
        group.bench_function(format.word(), |bencher| {
            bencher.iter(|| {
                out.clear();
                decoder.feed(black_box(&chunk), &mut out).expect("a good chunk")
            });
        });
    }
}

fn decoder(format: Format) -> Box<dyn Decoder> {
    prepare(&*dialect(format), &envelope(&request(1, 1))).decoder
}

fn dialect(format: Format) -> Arc<dyn Dialect> {
    let tables = serde_json::json!({
        "request": {
            "engine": "{{ model }}",
            "prompt": "{{ messages | join_prompt(user='User: ', assistant='Bot: ', tool='Tool: ') }}",
            "calls": "{{ messages | selectattr('tool_calls') | list }}",
            "tools": "{{ tools | pick(name='function.name', schema='function.parameters') }}",
            "options": { "heat": "{{ temperature }}", "limit": "{{ max_tokens }}", "id": "{{ user }}" },
        },
        "response": { "content": "{{ output }}", "error": "{{ error.message }}" },
        "stream": {
            "framing": "ndjson",
            "delta": "{{ output.text }}",
            "finish_reason": "{{ {'end': 'stop', 'limit': 'length'}[stop_reason] }}",
            "usage": { "prompt_tokens": "{{ counts.read }}", "completion_tokens": "{{ counts.written }}" },
            "done": "{{ last }}",
        },
    });
    let recipe = Recipe { declared: Some(&tables), ..format.into() };
    build(recipe).expect("all of them are there")
}

fn prepare(dialect: &dyn Dialect, envelope: &Envelope) -> Prepared {
    let context = Context {
        operation: Operation::Chat,
        provider_model: "claude-sonnet-4-5",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1_750_000_000,
        strict: false,
        max_event: 1 << 24,
    };
    dialect.prepare(envelope, &context).expect("a good request")
}

fn envelope(body: &str) -> Envelope {
    let mut envelope = Envelope::read(Bytes::copy_from_slice(body.as_bytes())).expect("good JSON");
    envelope.set_model("claude-sonnet-4-5");
    envelope
}

/// A conversation with a system text, two tools and one call.
fn request(turns: usize, words: usize) -> String {
    let text = "Some words \\\"quoted\\\", then\\na line. ".repeat(words / 6 + 1);
    let pair = format!(r#"{{"role":"user","content":"{text}"}},{{"role":"assistant","content":"{text}"}},"#);
    let tool = |name: &str| {
        format!(
            r#"{{"type":"function","function":{{"name":"{name}","description":"What it does","parameters":{{"type":"object","properties":{{"city":{{"type":"string"}},"unit":{{"type":"string","enum":["c","f"]}}}},"required":["city"]}}}}}}"#
        )
    };
    let call = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"cold"}"#;
    format!(
        r#"{{"model":"alias","temperature":0.2,"max_tokens":1000,"stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"system","content":"Be brief."}},{}{call}],"tools":[{},{}],"user":"u-1"}}"#,
        pair.repeat(turns),
        tool("weather"),
        tool("time"),
    )
}

/// What a stream begins with, and a chunk of its text.
fn stream(format: Format) -> (Vec<u8>, Vec<u8>) {
    let (first, chunk) = match format {
        Format::OpenAi | Format::Azure | Format::Mistral => ("", OPENAI),
        Format::Anthropic => (ANTHROPIC_FIRST, ANTHROPIC),
        Format::Gemini | Format::Vertex => ("", GEMINI),
        Format::Bedrock => {
            return (frame("contentBlockDelta", BEDROCK_FIRST), frame("contentBlockDelta", BEDROCK));
        }
        Format::Cohere => (COHERE_FIRST, COHERE),
        Format::Ollama => ("", OLLAMA),
        Format::Declared => ("", DECLARED),
    };
    (first.into(), chunk.into())
}

/// A frame as AWS sends them: lengths, their checksum, headers, payload, checksum of it all.
fn frame(event: &str, payload: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in
        [(":event-type", event), (":content-type", "application/json"), (":message-type", "event")]
    {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let mut frame = Vec::new();
    frame.extend_from_slice(&((16 + headers.len() + payload.len()) as u32).to_be_bytes());
    frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

const OPENAI: &str = "data: {\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_07871e2ad8\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" words\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";

const ANTHROPIC: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" some \\\"words\\\" of an answer\"}}\n\n";

const DECLARED: &str =
    "{\"output\":{\"text\":\" some \\\"words\\\" of an answer\"},\"stop_reason\":null,\"last\":false}\n";

const ANTHROPIC_FIRST: &str = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";

const GEMINI: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" some \\\"words\\\" of an answer\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":10,\"candidatesTokenCount\":5,\"totalTokenCount\":15},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"abc\"}\r\n\r\n";

const BEDROCK_FIRST: &str = "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"First\"},\"p\":\"abc\"}";

const BEDROCK: &str =
    "{\"contentBlockIndex\":0,\"delta\":{\"text\":\" some \\\"words\\\" of an answer\"},\"p\":\"abcdefgh\"}";

const COHERE_FIRST: &str = "event: content-start\ndata: {\"type\":\"content-start\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n\n";

const COHERE: &str = "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\" some \\\"words\\\" of an answer\"}}}}\n\n";

const OLLAMA: &str = "{\"model\":\"llama3.1\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\" some \\\"words\\\" of an answer\"},\"done\":false}\n";
