//! What becomes of all that a handler may return and yield.

use serde_json::{Value, json};

use super::{all_of, chunks, stream, text_of};
use crate::support::Call;
use crate::support::handlers::{handler, say, setup, start};

/// Why the answer ended, and how many tokens it says it took.
fn end_of(chunks: &[Value]) -> (Value, Value) {
    let reason =
        chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).find(|reason| !reason.is_null());
    let usages: Vec<&Value> =
        chunks.iter().filter(|chunk| chunk.get("usage").is_some_and(|u| !u.is_null())).collect();
    if let [usage] = usages[..] {
        assert_eq!(
            (usage, &usage["choices"]),
            (&chunks[chunks.len() - 1], &json!([])),
            "usage comes last, alone"
        );
    }
    assert!(usages.len() < 2, "usage comes once: {usages:?}");
    (
        reason.cloned().unwrap_or_default(),
        usages.first().map_or(Value::Null, |chunk| chunk["usage"]["total_tokens"].clone()),
    )
}

/// With usage asked for.
fn usage() -> Value {
    json!({"stream_options": {"include_usage": true}})
}

#[test]
fn whatever_is_returned_becomes_a_complete_answer_or_a_stream() {
    let (text, null) = (json!("text"), Value::Null);
    let cases = [
        ("Response", &text, "stop", json!(3)),
        ("Complete", &text, "length", null.clone()),
        ("ToolCall", &null, "tool_calls", null.clone()),
        ("Dict", &text, "stop", null.clone()),
        ("DictOfObjects", &text, "stop", json!(3)),
        ("OpenAIObject", &text, "stop", null.clone()),
        ("OwnModel", &text, "stop", null.clone()),
        ("Awaitable", &text, "stop", null.clone()),
        ("Empty", &null, "stop", null.clone()),
        ("StreamUnasked", &json!("gathered"), "length", json!(3)),
    ];
    let tables = all_of("returns.py", &cases.each_ref().map(|(class, ..)| *class), "")
        + &all_of("returns.py", &["Surrogate"], "");
    let sidecar = start(setup(&["returns.py"], "", &tables));
    for (class, content, reason, tokens) in cases {
        let (name, own) = (class.to_lowercase(), class == "Complete");
        let answer = say(&sidecar, &name, "hi");
        assert_eq!(answer.status, 200, "{class}: {}", answer.text());
        let body = answer.json();
        let (choice, tools) = (&body["choices"][0], class == "ToolCall");
        assert_eq!(body["object"], "chat.completion", "{class}: {body}");
        assert_eq!(body["model"], if own { "own-model" } else { "real-model" }, "{class}: {body}");
        assert!(
            body["id"].as_str().is_some_and(|id| !id.is_empty() && (id == "own-id") == own),
            "{class}: {body}"
        );
        assert!(
            body["created"]
                .as_u64()
                .is_some_and(|at| at > 1_500_000_000 || (at == 5 && (own || class == "OpenAIObject"))),
            "{class}: {body}"
        );
        assert_eq!(
            (&choice["index"], &choice["finish_reason"]),
            (&json!(0), &json!(reason)),
            "{class}: {body}"
        );
        let message = choice["message"].as_object().expect("it has a message");
        assert_eq!(message.get("role"), Some(&json!("assistant")), "{class}: {body}");
        assert_eq!(message.get("content"), Some(content), "{class}: {body}");
        assert_eq!(message.get("tool_calls").is_some(), tools, "{class}: {body}");
        assert_eq!(body.get("usage").is_some(), !tokens.is_null(), "{class}: {body}");
        assert_eq!(body["usage"]["total_tokens"], tokens, "{class}: {body}");
        let streamed = chunks(class, &sidecar, &name, usage());
        assert_eq!(text_of(&streamed), content.as_str().unwrap_or_default(), "{class}, streamed");
        assert_eq!(end_of(&streamed), (json!(reason), tokens), "{class}, streamed");
        let call = &streamed[0]["choices"][0]["delta"]["tool_calls"][0];
        let wanted = if tools {
            json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}})
        } else {
            Value::Null
        };
        assert_eq!(call, &wanted, "{class}, streamed");
    }
    let half = say(&sidecar, "surrogate", "hi");
    assert_eq!(half.status, 200, "{}", half.text());
    assert!(half.text().contains("half, \\u00fcn\\u00efcode"), "{}", half.text());
}

#[test]
fn what_is_no_answer_is_refused_by_the_name_of_its_type() {
    let cases = [
        ("returns.py", "Nothing", "returned NoneType", 502),
        ("returns.py", "Text", "returned str", 502),
        ("returns.py", "Number", "returned int", 502),
        ("returns.py", "NoChoices", "(dict) has no choices", 502),
        ("returns.py", "WrongToolCalls", "(dict) has tool_calls that are int", 502),
        ("returns.py", "WrongFinish", "(dict) cannot be understood", 502),
        ("returns.py", "NotANumber", "not JSON", 200),
        ("returns.py", "Endless", "not JSON", 200),
        ("chunks.py", "WrongFirst", "yielded int", 502),
        ("chunks.py", "NotAnIterator", "returned int", 502),
        ("chunks.py", "WrongLater", "yielded int", 200),
        ("chunks.py", "WrongTools", "(dict) cannot be understood", 502),
        ("chunks.py", "WrongIndex", "(dict) cannot be understood", 502),
        ("chunks.py", "WrongReason", "cannot be understood", 200),
    ];
    let tables: String =
        cases.map(|(file, class, ..)| handler(&class.to_lowercase(), file, class, "")).concat();
    let tables = tables + &handler("raises", "chunks.py", "RaisesStopIteration", "");
    let sidecar = start(setup(&["returns.py", "chunks.py"], "", &tables));
    for (_, class, words, streamed) in cases {
        let name = class.to_lowercase();
        let message = say(&sidecar, &name, "hi").refusal(502, "handler_garbled");
        assert!(
            message.starts_with(&format!("integration `{name}`: the handler")) && message.contains(words),
            "{class}: {message}"
        );
        let call = Call::stream(&format!("{name}/m"), "hi");
        match (streamed, class) {
            // What is wrong in them is no part of a stream.
            (200, "NotANumber" | "Endless") => {
                assert_eq!(text_of(&chunks(class, &sidecar, &name, json!({}))), "text", "{class}")
            }
            (200, _) => {
                let (data, status) = stream(&sidecar, &name, json!({}));
                assert!(status == 200 && data[0].contains("\"Hel\""), "{class}: {status} {data:?}");
                let last = data.last().map(String::as_str).unwrap_or_default();
                let error: Value = serde_json::from_str(last).unwrap_or_default();
                assert_eq!(error["error"]["code"], "handler_garbled", "{class}: {data:?}");
                assert!(
                    error["error"]["message"].as_str().is_some_and(|text| text.contains(words)),
                    "{class}: {data:?}"
                );
            }
            _ => assert!(sidecar.ask(&call).refusal(502, "handler_garbled").contains(words), "{class}"),
        }
    }
    for call in [Call::say("raises/m", "hi"), Call::stream("raises/m", "hi")] {
        let message = sidecar.ask(&call).refusal(500, "handler_error");
        assert!(message.contains("raised StopIteration"), "{message}");
    }
}

#[test]
fn whatever_is_yielded_becomes_a_stream_or_a_complete_answer() {
    let hello: &[&str] = &["Hel", "lo"];
    let cases: [(&str, &[&str], &str, Value); 11] = [
        ("Generic", hello, "stop", json!(3)),
        ("Loose", &["", "Hel", "lo"], "stop", json!(3)),
        ("Objects", hello, "length", Value::Null),
        ("OpenAIDicts", &["", "Hel", "lo"], "stop", json!(3)),
        ("Text", hello, "stop", Value::Null),
        ("Coroutine", hello, "stop", Value::Null),
        ("Synchronous", hello, "stop", json!(3)),
        ("SynchronousFromAsync", hello, "stop", Value::Null),
        ("SynchronousList", hello, "stop", Value::Null),
        ("LosesStopIteration", hello, "stop", Value::Null),
        ("NoChunks", &[""], "stop", Value::Null),
    ];
    let tables = all_of("chunks.py", &cases.each_ref().map(|(class, ..)| *class), "");
    let sidecar = start(setup(&["chunks.py"], "", &tables));
    for (class, pieces, reason, tokens) in cases {
        let name = class.to_lowercase();
        let streamed = chunks(class, &sidecar, &name, usage());
        let deltas: Vec<&str> =
            streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!((deltas.as_slice(), &streamed[0]["model"]), (pieces, &json!("real-model")), "{class}");
        assert_eq!(end_of(&streamed), (json!(reason), tokens.clone()), "{class}");
        let unasked = chunks(class, &sidecar, &name, json!({}));
        assert_eq!(end_of(&unasked), (json!(reason), Value::Null), "{class}: nobody asked for usage");
        let body = say(&sidecar, &name, "hi").json();
        let content = Some(pieces.concat()).filter(|text| !text.is_empty());
        assert_eq!(
            body["choices"][0]["message"],
            json!({"role": "assistant", "content": content}),
            "{class}: {body}"
        );
        assert_eq!(body["choices"][0]["finish_reason"], reason, "{class}: {body}");
        assert_eq!(body["usage"]["total_tokens"], tokens, "{class}: {body}");
    }
}

#[test]
fn tool_calls_and_choices_that_are_streamed_are_told_apart() {
    let sidecar = start(setup(
        &["chunks.py"],
        "",
        &all_of("chunks.py", &["Tools", "ToolsWithoutIndex", "TwoChoices"], ""),
    ));
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let cases = [
        (
            "tools",
            vec![(0, Some("c1"), ""), (0, None, "{\"a\":"), (0, None, "1}")],
            json!([call("c1", "f", "{\"a\":1}")]),
        ),
        (
            "toolswithoutindex",
            vec![(0, Some("c1"), "{}"), (1, Some("c2"), "{}")],
            json!([call("c1", "f", "{}"), call("c2", "g", "{}")]),
        ),
    ];
    for (name, wanted, gathered) in cases {
        let streamed = chunks(name, &sidecar, name, usage());
        let calls: Vec<&Value> =
            streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
        let told: Vec<_> = calls
            .iter()
            .map(|call| {
                (
                    call["index"].as_i64().unwrap_or(-1),
                    call["id"].as_str(),
                    call["function"]["arguments"].as_str().unwrap_or("?"),
                )
            })
            .collect();
        assert_eq!(told, wanted, "{name}");
        assert_eq!(end_of(&streamed).0, "tool_calls", "{name}");
        let body = say(&sidecar, name, "hi").json();
        assert_eq!(
            body["choices"][0]["message"],
            json!({"role": "assistant", "content": null, "tool_calls": gathered}),
            "{name}"
        );
        assert_eq!(body["choices"][0]["finish_reason"], "tool_calls", "{name}");
    }
    let streamed = chunks("TwoChoices", &sidecar, "twochoices", json!({}));
    let body = say(&sidecar, "twochoices", "hi").json();
    for (index, text, reason) in [(0, "c0 c0 ", "stop"), (1, "c1 c1 ", "length")] {
        let of_it =
            || streamed.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let said: String = of_it().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        let ended: Vec<&str> = of_it().filter_map(|choice| choice["finish_reason"].as_str()).collect();
        assert_eq!((said.as_str(), ended), (text, vec![reason]), "choice {index}: {streamed:?}");
        let whole = &body["choices"][usize::try_from(index).unwrap_or_default()];
        assert_eq!(
            (&whole["message"]["content"], &whole["finish_reason"]),
            (&json!(text), &json!(reason)),
            "choice {index}"
        );
    }
}
