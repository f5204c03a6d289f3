//! What a call is handed, whatever the signature.

use serde_json::{Value, json};

use super::{KEY, SIGNED, all_of, and, chunks, text_of, with_key};
use crate::support::Answer;
use crate::support::handlers::{ask_with, handler, say, setup, start, state, until};

/// What a handler of `signatures.py` says that it got.
fn got(name: &str, answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    serde_json::from_str(&answer.content()).expect("the handler tells in JSON what it got")
}

/// Checks that `got` has at least what `wanted` has; an object may have more.
fn holds(name: &str, got: &Value, wanted: &Value) {
    match wanted {
        Value::Object(wanted) => {
            for (key, wanted) in wanted {
                holds(&format!("{name}.{key}"), &got[key], wanted);
            }
        }
        _ => assert_eq!(got, wanted, "{name}"),
    }
}

/// The names of litellm's own signature.
const FULL: [&str; 16] = [
    "model",
    "messages",
    "api_base",
    "custom_prompt_dict",
    "model_response",
    "print_verbose",
    "encoding",
    "api_key",
    "logging_obj",
    "optional_params",
    "acompletion",
    "litellm_params",
    "logger_fn",
    "headers",
    "timeout",
    "client",
];

/// A request that has what handlers read, and names that are not its to set.
fn request() -> Value {
    json!({
        "temperature": 0.5, "max_completion_tokens": 9, "seed": 4, "user": "u1", "foo": "bar", "top_p": null,
        "metadata": {"a": "b"}, "tools": [{"type": "function", "function": {"name": "f"}}],
        "api_key": "evil", "api_base": "evil", "headers": {"evil": "1"}, "extra_headers": {"evil": "1"}, "timeout": 1,
        "custom_llm_provider": "evil", "model_response": 5, "optional_params": {"evil": 1}, "litellm_params": 5,
    })
}

/// The fields of [`request`] as litellm hands them on, nested.
fn nested() -> Value {
    json!({
        "temperature": 0.5, "max_tokens": 9, "seed": 4, "user": "u1", "foo": "bar", "metadata": {"a": "b"},
        "tools": [{"type": "function", "function": {"name": "f"}}],
    })
}

/// All that stands above a request's own fields, as `integration` has it.
fn ours(integration: &str) -> Value {
    json!({
        "model": "real-model", "messages": [{"role": "user", "content": "hi"}],
        "api_base": "http://127.0.0.1:9/base", "api_key": KEY, "custom_llm_provider": integration, "timeout": 45.0,
        "headers": {"x-corp-key": KEY, "x-signed-token": SIGNED},
    })
}

/// What a handler that takes everything is handed in litellm's style, but for the id of the call.
fn everything(integration: &str) -> Value {
    let headers = json!({"x-corp-key": KEY, "x-signed-token": SIGNED});
    let plumbing = json!({
        "acompletion": true, "client": null, "custom_prompt_dict": {}, "encoding": null, "logger_fn": null,
        "logging_obj": "Logging", "model_response": "ModelResponse", "print_verbose": "function", "headers": headers,
        "max_completion_tokens": 9, "optional_params": nested(), "litellm_params": params(integration),
    });
    and(and(nested(), ours(integration)), plumbing)
}

fn params(integration: &str) -> Value {
    json!({
        "api_base": "http://127.0.0.1:9/base", "api_key": KEY, "custom_llm_provider": integration, "timeout": 45.0,
        "metadata": {"a": "b"}, "proxy_server_request": {},
    })
}

/// Takes out what differs from call to call.
fn without_call_id(mut got: Value) -> Value {
    if let Some(params) = got.get_mut("litellm_params").and_then(Value::as_object_mut) {
        let id = params.remove("litellm_call_id").expect("each call has an id");
        assert!(id.as_str().is_some_and(|id| !id.is_empty()), "{id}");
    }
    got
}

/// `value` without these of its members.
fn without(mut value: Value, names: &[&str]) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    value
}

/// What Galileo's documented handler is handed: flat fields, all of them JSON.
fn flat(integration: &str) -> Value {
    let headers = &ours(integration)["headers"];
    and(and(nested(), ours(integration)), json!({"max_completion_tokens": 9, "extra_headers": headers}))
}

/// What litellm's own signature is handed: none of a request's fields but nested. It changes two of its dicts.
fn full() -> Value {
    let fields: Vec<String> =
        nested().as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
    let mut names: Vec<&str> = fields.iter().map(String::as_str).collect();
    names.extend(["max_completion_tokens", "custom_llm_provider"]);
    let headers = and(ours("")["headers"].clone(), json!({"x-changed": "by the handler"}));
    let changed = json!({"optional_params": without(nested(), &["temperature"]), "headers": headers});
    and(without(everything("full"), &names), changed)
}

/// What each class of `signatures.py` is handed; all of it.
fn handed() -> Vec<(&'static str, Value)> {
    let (model, messages, headers) =
        ("real-model", ours("")["messages"].clone(), ours("")["headers"].clone());
    let named = ["model", "optional_params", "api_key", "messages"];
    let taken = without(everything(""), &named);
    let mut rest: Vec<&String> = taken.as_object().expect("it is an object").keys().collect();
    rest.sort();
    let unnamed = without(everything("fulloptional"), &FULL);
    let tools = nested()["tools"].clone();
    vec![
        ("Documented", flat("documented")),
        ("DocumentedToJson", json!({"sent": without(flat(""), &["api_base", "custom_llm_provider"])})),
        (
            "DocumentedNoRest",
            json!({"model": model, "temperature": 0.5, "custom_llm_provider": "documentednorest"}),
        ),
        ("Full", full()),
        ("FullOptional", json!({"json": and(nested(), json!({"model": model})), "flat": unnamed})),
        ("SomeNames", json!({"model": model, "optional_params": nested(), "api_key": KEY, "rest": rest})),
        (
            "SomeNamesOnly",
            json!({"model": model, "optional_params": nested(), "litellm_params": params("somenamesonly")}),
        ),
        ("ModelAndMessages", json!({"max_tokens": 9, "tools": tools})),
        (
            "Agno",
            json!({"custom_llm_provider": "agno", "temperature": 0.5, "user": "u1", "metadata": {"a": "b"}}),
        ),
        ("Anything", and(everything("anything"), json!({"args": []}))),
        ("OnlyRest", everything("onlyrest")),
        ("KeywordOnly", json!({"model": model, "headers": headers, "timeout": 45.0})),
        ("PositionalOnly", json!({"model": model, "messages": messages, "api_key": KEY, "seed": 4})),
        ("PositionalDefault", json!({"model": model, "temperature": 0.5, "api_key": KEY})),
        ("MessagesFirst", json!({"model": model, "messages": messages, "api_key": KEY})),
        ("RequiredField", json!({"temperature": 0.5})),
        ("ChangesAll", everything("changesall")),
        ("OldBase", json!({"model": model})),
        ("Undecorated", json!({"model": model})),
    ]
}

#[test]
fn every_signature_gets_what_it_names_and_each_call_gets_its_own() {
    let cases = handed();
    let classes: Vec<&str> = cases.iter().map(|(class, _)| *class).collect();
    let more = ["ForwardsAll", "RequiredUnknown"];
    let tables =
        all_of("signatures.py", &classes, &with_key()) + &all_of("signatures.py", &more, &with_key());
    let sidecar = start(setup(&["signatures.py"], "request_timeout = \"45s\"", &tables));
    for (class, wanted) in cases {
        let name = class.to_lowercase();
        // A handler that changed what it was given must not have changed what the next one gets.
        for _ in 0..2 {
            assert_eq!(without_call_id(got(class, &ask_with(&sidecar, &name, request()))), wanted, "{class}");
        }
        let warnings = state(&sidecar, &name)["handler"]["warnings"].clone();
        let count = warnings.as_array().map(Vec::len);
        assert_eq!(count, Some(usize::from(class == "OldBase")), "{class}: {warnings}");
    }
    assert_eq!(say(&sidecar, "forwardsall", "hi").content(), "forwarded");
    say(&sidecar, "requiredunknown", "hi").refusal(503, "handler_unavailable");
    let failed = state(&sidecar, "requiredunknown")["remedy"].to_string();
    assert!(failed.contains("acompletion requires tenant"), "{failed}");
}

#[test]
fn what_a_request_lacks_is_left_out_and_an_odd_request_harms_no_call() {
    let tables = all_of(
        "signatures.py",
        &["Documented", "Anything", "RequiredField", "PositionalDefault", "Streams"],
        "",
    );
    let sidecar = start(setup(&["signatures.py"], "", &tables));
    let bare = json!({
        "model": "real-model", "messages": [{"role": "user", "content": "hi"}], "api_base": "http://127.0.0.1:9/base",
        "custom_llm_provider": "documented", "timeout": 600.0,
    });
    let documented = |fields: Value| got("Documented", &ask_with(&sidecar, "documented", fields));
    assert_eq!(documented(json!({})), bare);
    assert_eq!(documented(json!({"temperature": null})), bare);
    let both =
        got("both", &ask_with(&sidecar, "anything", json!({"max_tokens": 5, "max_completion_tokens": 9})));
    assert_eq!((&both["max_tokens"], &both["max_completion_tokens"]), (&json!(5), &json!(9)));
    assert_eq!(both["optional_params"], json!({"max_tokens": 9}), "as litellm has it: the newer name wins");
    assert_eq!((&both["api_key"], &both["headers"]), (&Value::Null, &json!({})));
    assert_eq!(got("RequiredField", &say(&sidecar, "requiredfield", "hi")), json!({"temperature": null}));
    let lacking = got("PositionalDefault", &say(&sidecar, "positionaldefault", "hi"));
    assert_eq!(lacking, json!({"model": "real-model", "temperature": 0.25, "api_key": null}));
    for odd in [json!("text"), json!([1]), json!(5), json!({})] {
        let got = got("metadata", &ask_with(&sidecar, "anything", json!({"metadata": odd})));
        assert_eq!((&got["metadata"], &got["litellm_params"]["metadata"]), (&odd, &json!({})), "{odd}");
    }
    // A stream is told to methods that stream, and to no other.
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = chunks("Streams", &sidecar, "streams", options.clone());
    let told: Value = serde_json::from_str(&text_of(&streamed)).expect("it is JSON");
    holds("Streams", &told, &options);
    holds("Streams", &told["optional_params"], &options);
    let whole = text_of(&chunks("Anything", &sidecar, "anything", options));
    assert!(!whole.contains("\"stream"), "{whole}");
    let unasked = got("Streams", &ask_with(&sidecar, "streams", json!({})));
    assert_eq!((&unasked["stream"], &unasked["stream_options"]), (&json!(true), &Value::Null));
}

#[test]
fn the_style_of_a_call_can_be_set_for_all_handlers_and_for_one() {
    let of = |name: &str, class: &str, lines: &str| handler(name, "signatures.py", class, lines);
    let tables = of("nested", "Documented", "call_style = \"litellm\"")
        + &of("plain", "Documented", "")
        + &of("bare", "Anything", "call_style = \"direct\"")
        + &of("auto", "Anything", "call_style = \"auto\"");
    for (common, plain) in [("auto", "direct"), ("litellm", "litellm")] {
        let keys = format!("call_style = \"{common}\"");
        let sidecar = start(setup(&["signatures.py"], &keys, &tables));
        for (name, style) in
            [("nested", "litellm"), ("plain", plain), ("bare", "direct"), ("auto", "litellm")]
        {
            let got = got(name, &ask_with(&sidecar, name, request()));
            let case = format!("{name} where all are {common}");
            assert_eq!(got["temperature"], 0.5, "{case}");
            assert_eq!(got["optional_params"].is_object(), style == "litellm", "{case}: {got}");
            assert_eq!(got.get("logging_obj").is_some(), style == "litellm", "{case}: {got}");
            assert_eq!(state(&sidecar, name)["handler"]["call_style"], style, "{case}");
        }
    }
}

#[test]
fn the_habits_of_public_handlers_work() {
    let cases = [
        ("FillsModelResponse", "filled"),
        ("OnlySynchronous", "sync hi"),
        ("OverridesToRefuse", "completion of 1 messages, stream=None"),
        ("BlocksTheLoop", "blocked a little"),
        ("PopsAndLeaves", "popped 1"),
        ("NoSuperInit", "hello, ran at import"),
        ("StreamsOnlyToRefuse", "whole, stream=None, None"),
        ("MixedChunks", "one two"),
        ("ForwardsStream", "forwarded as a stream"),
        ("TimedSleep", "timeout 600.0"),
    ];
    let tables = all_of("public.py", &cases.map(|(class, _)| class), "")
        + &handler("loop", "loop_at_import.py", "Handler", "")
        + &handler("sibling", "sibling.py", "Handler", "");
    let files = ["public.py", "loop_at_import.py", "sibling.py", "helper_module.py", "late_module.py"];
    let sidecar = start(setup(&files, "", &tables));
    let others =
        [("loop", "a task of the constructor, same loop: True"), ("sibling", "from the helper, and late")];
    for (class, wanted) in cases.into_iter().chain(others) {
        let name = class.to_lowercase();
        for _ in 0..2 {
            let whole = say(&sidecar, &name, "hi");
            assert_eq!(whole.status, 200, "{class}: {}", whole.text());
            assert_eq!(whole.content(), wanted, "{class}");
            let streamed = chunks(class, &sidecar, &name, json!({}));
            assert_eq!(text_of(&streamed), wanted, "{class}, streamed");
        }
    }
    assert_eq!(say(&sidecar, "fillsmodelresponse", "hi").json()["usage"]["total_tokens"], 3);
    let state = until(&sidecar, "sibling", |state| {
        state["handler"]["files"].as_array().is_some_and(|files| files.len() == 3)
    });
    let files = state["handler"]["files"].to_string();
    for file in ["sibling.py", "helper_module.py", "late_module.py"] {
        assert!(files.contains(file), "{file} is not in {files}");
    }
}
