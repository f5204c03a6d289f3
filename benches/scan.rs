//! What one request's body costs before it leaves: the scan, the splice of `model`, the configured edits; and for
//! comparison the same by way of a `serde_json::Value`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use outrider::openai::Envelope;
use outrider::openai::scan::scan;
use serde_json::{Value, json};

criterion_group!(benches, bodies);
criterion_main!(benches);

fn bodies(criterion: &mut Criterion) {
    for (name, body) in [
        ("chat 2 KB", chat(2 << 10, false)),
        ("chat 100 KB", chat(100 << 10, false)),
        ("escapes 100 KB", chat(100 << 10, true)),
        ("tools 100 KB", tools(100 << 10)),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("scan", |b| b.iter(|| scan(black_box(&body)).map(|found| found.members.len())));
        group.bench_function("splice of model", |b| {
            b.iter_batched(|| body.clone(), splice, BatchSize::SmallInput);
        });
        group.bench_function("edits", |b| b.iter_batched(|| body.clone(), edits, BatchSize::SmallInput));
        group.bench_function("splice of model by Value", |b| b.iter(|| by_value(black_box(&body))));
        group.finish();
    }
}

/// What a request costs whose model has another name at the provider.
fn splice(body: Bytes) -> usize {
    let mut envelope = Envelope::read(body).expect("the body is sound");
    envelope.set_model("the-provider/their-name");
    envelope.body().len()
}

/// The same with a default, a rename and a drop.
fn edits(body: Bytes) -> usize {
    let mut envelope = Envelope::read(body).expect("the body is sound");
    envelope.set_model("the-provider/their-name");
    if !envelope.has("top_p") {
        envelope.set("top_p", "0.9");
    }
    envelope.rename("max_tokens", "max_completion_tokens");
    envelope.drop_field("user");
    envelope.body().len()
}

fn by_value(body: &[u8]) -> usize {
    let mut value: Value = serde_json::from_slice(body).expect("the body is sound");
    value["model"] = "the-provider/their-name".into();
    serde_json::to_vec(&value).expect("a value serialises").len()
}

/// A chat of two messages in about `length` bytes; prose, or code with an escape every few words.
fn chat(length: usize, code: bool) -> Bytes {
    let words = if code {
        "if name == \"fox\":\n\treturn path.join('C:\\dogs', name)\n"
    } else {
        "The quick brown fox jumps over the lazy dog, and the café closes at nine. "
    };
    let text: String = words.chars().cycle().take(length * 9 / 10).collect();
    let body = json!({
        "model": "alias", "messages": [{"role": "system", "content": "You are a judge."}, {"role": "user", "content": text}],
        "temperature": 0, "max_tokens": 256, "user": "runner", "stream": false,
    });
    body.to_string().into()
}

/// Many small schemas: short strings, deep nesting, numbers.
fn tools(length: usize) -> Bytes {
    let tool = |n: usize| {
        json!({"type": "function", "function": {"name": format!("look_up_{n}"), "description": "Finds a thing by its number.",
            "parameters": {"type": "object", "additionalProperties": false, "required": ["id"],
                "properties": {"id": {"type": "integer", "minimum": n, "maximum": 1000}, "kind": {"enum": ["a", "b", null]}}}}})
    };
    let each = tool(1).to_string().len() + 3;
    let all: Vec<Value> = (0..length / each).map(tool).collect();
    let messages = json!([{"role": "user", "content": "Which one?"}]);
    json!({"model": "alias", "messages": messages, "tools": all, "max_tokens": 256, "user": "runner"})
        .to_string()
        .into()
}
