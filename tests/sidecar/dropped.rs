//! `x-outrider-dropped` names every field that did not reach the provider, whatever it is called and whatever came of it.

use serde_json::{Value, json};

use crate::support::{Call, Setup, Sidecar, Turn, Upstream, integration};

fn anthropic(script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let sidecar = Setup::new(integration("acme", &upstream.url(""), "format = \"anthropic\"")).start();
    (upstream, sidecar)
}

fn good(turn: &mut Turn) {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                        "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 1, "output_tokens": 1}});
    turn.answer(200, answer.to_string());
}

fn call(fields: &Value) -> Call {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let all = body.as_object_mut().expect("it is an object");
    all.extend(fields.as_object().expect("they are fields").clone());
    Call::chat(body.to_string())
}

#[test]
fn a_field_of_any_name_is_told_and_hides_no_other() {
    let (_upstream, sidecar) = anthropic(good);
    let answer = sidecar.ask(&call(&json!({"logit_bias": {"1": 1}, "größe": 1, "a, b": 2})));
    let mut told: Vec<&str> = answer.header("x-outrider-dropped").expect("a header").split(',').collect();
    told.sort_unstable();
    assert_eq!(told, ["a%2C%20b", "gr%C3%B6%C3%9Fe", "logit_bias"]);
}

#[test]
fn a_long_list_begins_with_the_fields_on_top_and_says_how_many_are_missing() {
    let (_upstream, sidecar) = anthropic(good);
    let field = |n: usize| (format!("customer_reference_{n}"), json!({"type": "string", "minLength": 1}));
    let tool = |n: usize| {
        let properties: serde_json::Map<String, Value> = (0..9).map(field).collect();
        let parameters = json!({"type": "object", "properties": properties, "additionalProperties": false});
        json!({"type": "function", "function": {"name": format!("search_{n}"), "strict": true, "parameters": parameters}})
    };
    let tools: Vec<Value> = (0..4).map(tool).collect();
    let answer = sidecar.ask(&call(&json!({"tools": tools, "seed": 7, "zzz": 1})));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.header("x-outrider-dropped").expect("a header");
    let (told, more) = list.rsplit_once(",+").expect("it says how many more there are");
    assert!(more.parse::<usize>().is_ok_and(|more| more > 0) && told.len() <= 1000, "{list}");
    let told: Vec<&str> = told.split(',').collect();
    assert!(told.contains(&"seed") && told.contains(&"zzz"), "{list}");
    let deep = told.iter().position(|field| field.contains('.')).expect("a path");
    assert!(told[deep..].iter().all(|field| field.contains(['.', '['])), "{list}");
}

#[test]
fn a_refusal_tells_what_was_left_out_too() {
    for status in [400, 429, 500] {
        let (_upstream, sidecar) =
            anthropic(move |turn| turn.answer(status, r#"{"error":{"message":"no","type":"x"}}"#));
        let answer = sidecar.ask(&call(&json!({"logit_bias": {"1": 1}})));
        assert_eq!((answer.status, answer.header("x-outrider-dropped")), (status, Some("logit_bias")));
        let counted = sidecar.metric("outrider_lost_fields_total{integration=\"acme\",field=\"logit_bias\"}");
        assert_eq!(counted, Some(1.0));
        let answer = sidecar.ask(&call(&json!({"logit_bias": {"1": 1}, "stream": true})));
        assert_eq!((answer.status, answer.header("x-outrider-dropped")), (status, Some("logit_bias")));
    }
    let upstream = Upstream::start(|turn| turn.answer(200, r#"{"error":{"message":"no","code":400}}"#));
    let sidecar = Setup::before(&upstream, "drop = [\"user\"]").start();
    let answer = sidecar.ask(&call(&json!({"user": "ann"})));
    assert_eq!((answer.status, answer.header("x-outrider-dropped")), (400, Some("user")));
}
