//! What must hold for every declared format; the tables of cases are in `tests/golden/declared`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::testing::json_of;
use crate::dialect::{Broken, End, Head, Outcome};
use crate::openai::Fault;

fn context(strict: bool) -> Context<'static> {
    Context {
        operation: Operation::Chat,
        provider_model: "real",
        client_model: "alias",
        id: "chatcmpl-1",
        created: 1,
        strict,
        max_event: 200,
    }
}

/// A format with these tables.
fn declared(request: &Value, response: &Value, stream: &Value) -> Declared {
    let mut tables = json!({ "request": request, "response": response });
    if !stream.is_null() {
        tables["stream"] = stream.clone();
    }
    Declared::new(Some("acme"), Some(&tables)).unwrap()
}

fn plain() -> Declared {
    let request = json!({ "m": "{{ messages | join_prompt }}" });
    let rules = json!({ "content": "{{ text }}", "error": "{{ error }}", "usage": "{{ usage }}", "tool_calls": "{{ calls }}" });
    let stream = json!({ "framing": "ndjson", "delta": "{{ text }}", "finish_reason": "{{ why }}", "tool_calls": "{{ calls }}", "done": "{{ done }}" });
    declared(&request, &rules, &stream)
}

fn prepare(format: &Declared, body: &Value) -> Result<Prepared, Untranslatable> {
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    format.prepare(&envelope, &context(false))
}

/// What a request with `request` as its table and `more` besides a message becomes.
fn wire(request: &Value, more: &Value) -> Result<Value, Untranslatable> {
    let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let format = declared(request, &json!({ "content": "{{ x }}" }), &Value::Null);
    let prepared = prepare(&format, &body)?;
    Ok(serde_json::from_slice(&prepared.unsigned.body.joined()).unwrap())
}

fn whole(response: &Value, body: &Value) -> Result<Value, Broken> {
    let format = declared(&json!({ "m": "{{ messages }}" }), response, &Value::Null);
    let mut decoder =
        prepare(&format, &json!({ "messages": [{ "role": "user", "content": "Hi" }] })).unwrap().decoder;
    let headers = HeaderMap::new();
    let whole = decoder.whole(Head { status: 200, headers: &headers }, body.to_string().as_bytes())?;
    Ok(serde_json::to_value(&whole).unwrap())
}

#[test]
fn values_keep_their_types_and_what_is_nothing_has_no_key() {
    let request = json!({
        "m": "{{ messages }}", "big": "{{ seed }}", "half": "{{ top_p }}", "no": "{{ absent }}", "none": "{{ none }}",
        "list": ["{{ seed }}", "{{ absent }}", "as it stands", 5], "in": { "no": "{{ absent.x[0] }}" }, "t": true,
    });
    let found =
        wire(&request, &json!({ "seed": 9_007_199_254_740_993_u64, "top_p": 0.5, "temperature": null }))
            .unwrap();
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let wanted = json!({
        "m": messages, "big": 9_007_199_254_740_993_u64, "half": 0.5,
        "list": [9_007_199_254_740_993_u64, "as it stands", 5], "in": {}, "t": true,
    });
    assert_eq!(found, wanted);
}

#[test]
fn the_filters_make_the_shapes_of_other_providers() {
    let tool = json!([{ "type": "function", "function": { "name": "f", "parameters": { "a": 1 } } }]);
    for (expression, more, wanted) in [
        ("{{ stop | as_list }}", json!({ "stop": "END" }), json!(["END"])),
        ("{{ stop | as_list }}", json!({ "stop": ["a", "b"] }), json!(["a", "b"])),
        ("{{ stop | as_list }}", json!({}), Value::Null),
        (
            "{{ tools | pick(name='function.name', schema='function.parameters', no='function.x') }}",
            json!({ "tools": tool }),
            json!([{ "name": "f", "schema": { "a": 1 } }]),
        ),
        ("{{ tools | pick(name='function.name') }}", json!({}), Value::Null),
        ("{{ user | fromjson }}", json!({ "user": "{\"a\":[1]}" }), json!({ "a": [1] })),
        ("{{ messages | last_user }}", json!({}), json!("Hi")),
        ("{{ messages | system_text }}", json!({}), Value::Null),
        (
            "{{ messages | turns(role='who', content='text', user='HUMAN') }}",
            json!({}),
            json!([{ "who": "HUMAN", "text": "Hi" }]),
        ),
        (
            "{{ messages | join_prompt(user='<u>', user_end='</u>', end='<a>', separator='') }}",
            json!({}),
            json!("<u>Hi</u><a>"),
        ),
        ("{{ model ~ '!' }}", json!({}), json!("real!")),
        ("{{ max_tokens }}", json!({ "max_completion_tokens": 5 }), json!(5)),
        ("{{ max_completion_tokens }}", json!({ "max_tokens": 5 }), json!(5)),
    ] {
        let found = wire(&json!({ "m": "{{ messages }}", "x": expression }), &more).unwrap();
        assert_eq!(found.get("x").unwrap_or(&Value::Null), &wanted, "{expression}");
    }
}

#[test]
fn whose_fault_a_failed_expression_is() {
    let request = json!({ "m": "{{ messages }}", "x": "{{ temperature * 2 }}" });
    let fault = wire(&request, &json!({ "temperature": "hot" })).unwrap_err();
    assert!(fault.malformed && !fault.failed && fault.param == "temperature", "{fault:?}");
    let fault = wire(&request, &json!({})).unwrap_err();
    assert!(fault.failed && fault.param == "integrations.acme.request.x", "{fault:?}");
    assert!(fault.message.contains("`integrations.acme.request.x` failed"), "{}", fault.message);
}

#[test]
fn a_message_that_no_expression_takes_is_refused_and_never_lost() {
    let format = declared(
        &json!({ "p": "{{ messages | last_user }}" }),
        &json!({ "content": "{{ x }}" }),
        &Value::Null,
    );
    let turn = |role: &str| json!({ "role": role, "content": "x" });
    let refused = |messages: Value| prepare(&format, &json!({ "messages": messages })).unwrap_err().param;
    assert_eq!(refused(json!([turn("system"), turn("user")])), "messages[0].content");
    assert_eq!(refused(json!([turn("user"), turn("assistant"), turn("user")])), "messages[0].content");
    let image = json!({ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "u" } }] });
    assert_eq!(refused(json!([image])), "messages[0].content[0]");
    assert_eq!(refused(json!([])), "messages");
    let sliced = declared(
        &json!({ "p": "{{ messages | last_user }}", "h": "{{ messages[:-1] | turns }}" }),
        &json!({ "content": "{{ x }}" }),
        &Value::Null,
    );
    assert!(
        prepare(&sliced, &json!({ "messages": [turn("user"), turn("assistant"), turn("user")] })).is_ok()
    );
    let audio =
        json!({ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "input_audio" }] });
    let error = prepare(&sliced, &json!({ "messages": [turn("system"), audio, turn("user")] })).unwrap_err();
    assert_eq!((error.param.as_str(), error.malformed), ("messages[1].content[1]", false));
}

#[test]
fn an_answer_in_which_nothing_is_found_is_never_an_empty_one() {
    let rules = json!({ "content": "{{ output }}" });
    assert!(
        matches!(whole(&rules, &json!({ "text": "x" })), Err(Broken::Garbled(why)) if why.contains("integrations.acme.response.content"))
    );
    assert!(
        matches!(whole(&rules, &json!({ "output": {} })), Err(Broken::Garbled(why)) if why.contains("a map where a text"))
    );
    assert_eq!(whole(&rules, &json!({ "output": "" })).unwrap()["choices"][0]["message"]["content"], "");
    let rules = json!({ "content": "{{ a + b }}" });
    assert!(
        matches!(whole(&rules, &json!({ "a": 1 })), Err(Broken::Garbled(why)) if why.contains("response.content` failed"))
    );
}

#[test]
fn reasons_and_counts_are_read_in_every_spelling() {
    let rules = json!({ "content": "{{ c }}", "finish_reason": "{{ why }}", "usage": "{{ usage }}", "tool_calls": "{{ calls }}" });
    let reason = |body: Value| whole(&rules, &body).map(|found| found["choices"][0]["finish_reason"].clone());
    assert_eq!(reason(json!({ "c": "x" })).unwrap(), "stop");
    assert_eq!(reason(json!({ "c": "x", "why": "EOS_TOKEN" })).unwrap(), "stop");
    assert_eq!(reason(json!({ "c": "x", "why": "max_tokens" })).unwrap(), "length");
    assert!(reason(json!({ "c": "x", "why": "tired" })).is_err());
    assert_eq!(reason(json!({ "calls": [{ "name": "f" }], "why": "stop" })).unwrap(), "tool_calls");
    let usage = |usage: Value| {
        whole(&rules, &json!({ "c": "x", "usage": usage })).map(|found| found["usage"].clone())
    };
    assert_eq!(usage(Value::Null).unwrap(), Value::Null);
    let all = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 });
    assert_eq!(usage(all.clone()).unwrap(), all);
    assert_eq!(usage(json!({ "prompt_tokens": "3", "completion_tokens": 4.0 })).unwrap(), all);
    assert_eq!(usage(json!({ "prompt_tokens": 3, "total_tokens": 7 })).unwrap(), all);
    assert!(usage(json!({ "prompt_tokens": -1 })).is_err());
}

#[test]
fn a_call_in_a_flat_shape_becomes_one_of_openais() {
    let rules = json!({ "content": "{{ c }}", "tool_calls": "{{ calls | pick(id='uid', name='tool', arguments='args') }}" });
    let found = whole(
        &rules,
        &json!({ "calls": [{ "tool": "f", "args": { "a": 1 } }, { "uid": "u", "tool": "g" }] }),
    )
    .unwrap();
    let calls = &found["choices"][0]["message"]["tool_calls"];
    assert_eq!(
        calls[0],
        json!({ "id": "call_1_0", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } })
    );
    assert_eq!(
        calls[1],
        json!({ "id": "u", "type": "function", "function": { "name": "g", "arguments": "{}" } })
    );
}

#[test]
fn bad_tables_build_nothing_and_embeddings_are_refused() {
    for tables in
        [json!({}), json!({ "request": { "m": "{{ messages | }}" }, "response": { "content": "x" } })]
    {
        assert!(Declared::new(None, Some(&tables)).is_err());
    }
    assert!(Declared::new(None, None).is_err());
    let envelope = Envelope::read(Bytes::from_static(b"{\"input\":\"x\"}")).unwrap();
    let context = Context { operation: Operation::Embeddings, ..context(false) };
    assert!(!plain().prepare(&envelope, &context).unwrap_err().malformed);
}

#[test]
fn a_strict_integration_refuses_what_would_be_dropped() {
    let body = json!({ "messages": [{ "role": "user", "content": "x" }], "seed": 1 });
    let envelope = Envelope::read(Bytes::from(body.to_string())).unwrap();
    assert_eq!(plain().prepare(&envelope, &context(true)).unwrap_err().param, "seed");
    assert_eq!(plain().prepare(&envelope, &context(false)).unwrap().report.changes[0].field, "seed");
}

#[test]
fn an_event_over_the_limit_breaks_the_stream() {
    let body = json!({ "messages": [{ "role": "user", "content": "x" }], "stream": true });
    let mut decoder = prepare(&plain(), &body).unwrap().decoder;
    let error = decoder.feed(&[b'x'; 300], &mut BytesMut::new()).unwrap_err();
    assert!(matches!(error, Broken::Garbled(words) if words.contains("max_event")));
}

/// JSON made of the words that the tables above use.
fn any_json() -> impl Strategy<Value = Value> {
    json_of(&[
        "role",
        "content",
        "text",
        "user",
        "assistant",
        "tool",
        "type",
        "error",
        "message",
        "usage",
        "calls",
        "name",
        "arguments",
        "index",
        "id",
        "why",
        "stop",
        "done",
        "prompt_tokens",
        "",
        " ",
        "é",
        "code",
        "429",
    ])
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(messages in any_json(), content in any_json(), more in any_json()) {
        let _ = prepare(&plain(), &json!({ "messages": messages, "tools": more }));
        let said = json!([{ "role": "user", "content": content, "name": more }]);
        let _ = prepare(&plain(), &json!({ "messages": said, "stop": more }));
    }

    #[test]
    fn no_tables_make_it_panic(request in any_json(), response in any_json(), stream in any_json()) {
        let _ = check(&json!({ "request": request, "response": response, "stream": stream }), &[]);
    }

    #[test]
    fn no_answer_makes_it_panic(body in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let headers = HeaderMap::new();
        let head = Head { status: 200, headers: &headers };
        let request = json!({ "messages": [{ "role": "user", "content": "x" }] });
        let mut decoder = prepare(&plain(), &request).unwrap().decoder;
        let _ = decoder.whole(head, body.to_string().as_bytes());
        let _ = decoder.whole(head, &bytes);
        prop_assert!(!decoder.fault(head, &bytes).message.is_empty());
        prop_assert!(!decoder.fault(head, body.to_string().as_bytes()).message.is_empty());
    }

    #[test]
    fn no_stream_makes_it_panic_and_every_one_ends_once(events in prop::collection::vec(any_json(), 0..6)) {
        let request = json!({ "messages": [{ "role": "user", "content": "x" }], "stream": true });
        let (mut decoder, mut out) = (prepare(&plain(), &request).unwrap().decoder, BytesMut::new());
        for event in events {
            let _ = decoder.feed(format!("{event}\n").as_bytes(), &mut out);
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

#[test]
fn a_message_of_thousands_of_fields_is_refused_before_it_costs_time() {
    let fields: serde_json::Map<String, Value> = (0..300).map(|n| (format!("x{n}"), json!(n))).collect();
    let mut message = json!({ "role": "user", "content": "Hi" });
    message.as_object_mut().unwrap().extend(fields);
    let refused = prepare(&plain(), &json!({ "messages": [message] })).unwrap_err();
    assert!(refused.param == "messages" && refused.message.contains("more than 256 fields"), "{refused:?}");
}

#[test]
fn a_stream_that_never_stops_calling_is_given_up() {
    let mut decoder =
        prepare(&plain(), &json!({ "stream": true, "messages": [{ "role": "user", "content": "Hi" }] }))
            .unwrap()
            .decoder;
    let mut out = BytesMut::new();
    let mut fed = 0;
    let broken = loop {
        let line = json!({ "calls": [{ "index": fed, "name": "f" }] }).to_string() + "\n";
        match decoder.feed(line.as_bytes(), &mut out) {
            Ok(_) => fed += 1,
            Err(broken) => break broken,
        }
        assert!(fed <= 2000, "it goes on for ever");
    };
    assert!(matches!(&broken, Broken::Garbled(words) if words.contains("calls")), "{broken:?}");
    assert_eq!(fed, 1024);
}
