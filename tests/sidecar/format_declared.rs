//! A format that is declared in the configuration, through the whole sidecar; every example of `docs/declared.md` runs.

use serde_json::{Value, json};

use crate::support::{Call, Setup, Sidecar, Turn, Upstream, integration};

const DOCS: &str = include_str!("../../docs/declared.md");

/// A provider that does `script`, and a sidecar before it whose integration has these tables.
fn declared(tables: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let table = integration(
        "acme",
        &upstream.url("/generate/"),
        &format!("format = \"declared\"\nquery = {{ v = 1 }}\n{tables}"),
    );
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

const TABLES: &str = r#"
[integrations.acme.request]
engine = "{{ model }}"
prompt = "{{ messages | join_prompt(user='User: ') }}"
heat = "{{ temperature * 100 if temperature is defined else none }}"
[integrations.acme.response]
content = "{{ output }}"
usage.total_tokens = "{{ read + written }}"
error = "{{ problem }}"
"#;

const STREAM: &str = r#"
[integrations.acme.stream]
framing = "ndjson"
delta = "{{ output }}"
finish_reason = "{{ 'stop' if last else none }}"
"#;

/// One example of the documentation: the blocks of a section, in order.
fn example(heading: &str) -> Vec<(&'static str, String)> {
    let section = DOCS.split_once(&format!("\n### {heading}\n")).expect("the example is there").1;
    blocks(section.split_once("\n### ").map_or(section, |(section, _)| section))
}

/// The fenced blocks of a text, each with its language.
fn blocks(text: &'static str) -> Vec<(&'static str, String)> {
    let pieces: Vec<_> = text.split("```").collect();
    let block = |piece: &&'static str| piece.split_once('\n').map(|(word, body)| (word, body.to_owned()));
    pieces.iter().skip(1).step_by(2).filter_map(block).collect()
}

#[test]
fn every_example_of_the_documentation_does_what_it_says() {
    let section = DOCS.split_once("\n## Examples\n").expect("there are examples").1;
    let headings: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(headings.len() >= 4);
    let request: Value = serde_json::from_str(&blocks(section)[0].1).expect("the request is JSON");
    for heading in headings {
        let blocks = example(heading);
        let languages: Vec<_> = blocks.iter().map(|(language, _)| *language).collect();
        assert_eq!(languages, ["toml", "json", "text", "json"], "{heading}");
        let [toml, sent, answer, wanted] = [0, 1, 2, 3].map(|at| blocks[at].1.clone());
        let (mut request, streams) = (request.clone(), toml.contains("framing"));
        let upstream = Upstream::start(move |turn| {
            let kind = if answer.starts_with("data:") { "text/event-stream" } else { "application/json" };
            turn.answer_with(200, &[("content-type", kind)], &answer);
        });
        let host = toml
            .split("https://")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .expect("it has an endpoint");
        let sidecar = Setup::new(toml.replace(&format!("https://{host}"), &upstream.url(""))).start();
        if streams {
            request["stream"] = true.into();
            request["stream_options"] = json!({ "include_usage": true });
        }
        let call = Call::chat(request.to_string());
        let found = if streams { told(&streamed(&sidecar, &call)) } else { said(&sidecar.ask(&call).json()) };
        let wanted: Value = serde_json::from_str(&wanted).expect("what it becomes is JSON");
        assert_eq!(found, wanted, "{heading}");
        let sent: Value = serde_json::from_str(&sent).expect("what is sent is JSON");
        assert_eq!(upstream.request().json(), sent, "{heading}");
    }
}

/// The chunks of a stream that is complete.
fn streamed(sidecar: &Sidecar, call: &Call) -> Vec<Value> {
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(call).head().0, 200);
    let mut data = connection.all_data();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"), "{data:?}");
    data.iter().map(|chunk| serde_json::from_str(chunk).expect("a chunk is JSON")).collect()
}

/// What a completion says, as the documentation sums it up.
fn said(completion: &Value) -> Value {
    let choice = &completion["choices"][0];
    json!({ "content": choice["message"]["content"], "finish_reason": choice["finish_reason"], "total_tokens": completion["usage"]["total_tokens"] })
}

/// The same of a stream's chunks.
fn told(chunks: &[Value]) -> Value {
    let words = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let reasons = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]);
    let reason = reasons.into_iter().find(|reason| !reason.is_null()).cloned();
    let total = chunks.iter().map(|chunk| &chunk["usage"]["total_tokens"]).find(|total| !total.is_null());
    json!({ "content": words.collect::<String>(), "finish_reason": reason, "total_tokens": total })
}

#[test]
fn a_whole_answer_is_translated_both_ways() {
    let (upstream, sidecar) =
        declared(TABLES, |turn| turn.answer(200, r#"{"output":"hello","read":2,"written":3}"#));
    let body =
        json!({"model": "m", "temperature": 0.5, "seed": 1, "messages": [{"role": "user", "content": "hi"}]});
    let answer = sidecar.ask(&Call::chat(body.to_string()));
    assert_eq!(said(&answer.json()), json!({"content": "hello", "finish_reason": "stop", "total_tokens": 5}));
    assert_eq!(answer.json()["model"], "m");
    assert_eq!(answer.header("x-outrider-dropped"), Some("seed"));
    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/generate/?v=1"));
    assert_eq!(request.head.header("content-type"), Some("application/json"));
    assert_eq!(request.json(), json!({"engine": "real-model", "prompt": "User: hi", "heat": 50.0}));
}

#[test]
fn what_no_expression_takes_is_a_400_that_names_it() {
    let (upstream, sidecar) = declared(TABLES, |turn| turn.answer(200, "{}"));
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let body = json!({"model": "m", "tools": [tool], "messages": [{"role": "user", "content": "hi"}]});
    let answer = sidecar.ask(&Call::chat(body.to_string()));
    answer.refusal(400, "unsupported_parameter");
    assert_eq!(answer.json()["error"]["param"], "tools");
    let image = json!([{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": image}]});
    let answer = sidecar.ask(&Call::chat(body.to_string()));
    answer.refusal(400, "unsupported_parameter");
    assert_eq!(answer.json()["error"]["param"], "messages[0].content[0]");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_expression_that_fails_is_a_502_that_names_it() {
    let (_upstream, sidecar) = declared(TABLES, |turn| turn.answer(200, r#"{"output":"hello","read":2}"#));
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_garbled");
    assert!(message.contains("`integrations.acme.response.usage.total_tokens` failed"), "{message}");
    let bad = TABLES.replace("temperature * 100 if temperature is defined else none", "custom * 100");
    let (upstream, sidecar) = declared(&bad, |turn| turn.answer(200, "{}"));
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(502, "translation_failed");
    assert!(message.contains("`integrations.acme.request.heat` failed"), "{message}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn errors_are_found_in_a_200_and_behind_a_status() {
    let (_upstream, sidecar) = declared(TABLES, |turn| turn.answer(200, r#"{"problem":"out of order"}"#));
    assert!(sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_error").contains("out of order"));
    let (_upstream, sidecar) = declared(TABLES, |turn| {
        turn.answer_with(429, &[("retry-after", "7")], r#"{"problem":"too fast"}"#);
    });
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert!(answer.refusal(429, "upstream_error").contains("too fast"));
    assert_eq!(answer.header("retry-after"), Some("7"));
}

#[test]
fn lines_are_relayed_while_they_come_and_a_stream_that_stops_is_told() {
    let tables = format!("{TABLES}{STREAM}");
    let (_upstream, sidecar) = declared(&tables, |turn| {
        turn.answer_with(
            200,
            &[("content-type", "application/json")],
            "{\"output\":\"he\"}\n{\"output\":\"llo\",\"last\":true}\n",
        );
    });
    let chunks = streamed(&sidecar, &Call::stream("m", "hi"));
    assert_eq!(told(&chunks), json!({"content": "hello", "finish_reason": "stop", "total_tokens": null}));
    let (_upstream, sidecar) = declared(&tables, |turn| turn.answer(200, "{\"output\":\"he\"}\n"));
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    let data = connection.all_data();
    let last: Value = serde_json::from_str(data.last().expect("something came")).expect("it is JSON");
    assert_eq!(last["error"]["code"], "upstream_garbled", "{data:?}");
}

#[test]
fn without_a_stream_table_a_client_gets_the_whole_answer_as_a_stream() {
    let tables = TABLES.replace("engine =", "stream = \"{{ stream }}\"\nengine =");
    let (upstream, sidecar) =
        declared(&tables, |turn| turn.answer(200, r#"{"output":"hello","read":2,"written":3}"#));
    let chunks = streamed(&sidecar, &Call::stream("m", "hi"));
    assert_eq!(told(&chunks)["content"], "hello");
    assert_eq!(upstream.request().json()["stream"], false);
}

#[test]
fn check_shows_every_mistake_and_ends_with_78() {
    let tables = TABLES.replace("output }}", "output | uper }}").replace("join_prompt(", "join_promt(");
    let table = integration("acme", "https://a.example/g", &format!("format = \"declared\"\n{tables}"));
    let ended = Setup::new("").file("bad.toml", &table).run(&["check", "bad.toml"]);
    assert_eq!(ended.code, 78, "{}", ended.output());
    for words in [
        "did you mean `join_prompt`?",
        "did you mean `upper`?",
        "integrations.acme.request.prompt",
        "2 errors",
    ] {
        assert!(ended.output().contains(words), "{words}: {}", ended.output());
    }
}
