//! The main journeys through the real `openai` package: what a runner's own client makes of our answers.

use serde_json::json;

use crate::support::{Setup, Sidecar, Turn, Upstream, integration, python};

/// Runs `script` with a `client` that points at the sidecar; fails with the script's own words.
fn journey(sidecar: &Sidecar, script: &str) {
    const PRELUDE: &str = "import json, sys, openai\n\
                           client = openai.OpenAI(base_url=sys.argv[1], api_key='caller', max_retries=0, timeout=15)\n\
                           hi = [{'role': 'user', 'content': 'hi'}]\n";
    let base = format!("http://{}/v1", sidecar.address());
    let ended = python::run(&format!("{PRELUDE}{script}"), &[&base]);
    assert_eq!(ended.code, 0, "{}{}\nthe sidecar said:\n{}", ended.stdout, ended.stderr, sidecar.output());
}

/// An OpenAI-shaped provider: whole and streamed answers, a tool call where there are tools, errors by request.
fn openai(turn: &mut Turn) {
    let request = turn.request.json();
    let text = turn.request.text().to_owned();
    if text.contains("please fail") {
        let body = json!({"error": {"message": "quota used up, ask ann", "type": "insufficient_quota", "param": null, "code": "quota"}});
        return turn.answer(429, body.to_string());
    }
    if request["stream"] == true {
        turn.open_stream();
        turn.delta("hel");
        turn.delta("lo");
        return if text.contains("please break") { turn.close() } else { turn.done() };
    }
    if request["tools"].is_array() {
        let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Riga\"}"}});
        let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let body = json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "real-model",
                          "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]});
        return turn.answer(200, body.to_string());
    }
    turn.complete("hello");
}

/// An Anthropic-shaped provider with the same manners.
fn anthropic(turn: &mut Turn) {
    let request = turn.request.json();
    if turn.request.text().contains("please fail") {
        return turn.answer(
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"overloaded, ask ann"}}"#,
        );
    }
    let block = if request["tools"].is_array() {
        json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Riga"}})
    } else {
        json!({"type": "text", "text": "hello"})
    };
    let stop = if request["tools"].is_array() { "tool_use" } else { "end_turn" };
    let message = |content: serde_json::Value, stop: Option<&str>| {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-model", "content": content,
               "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 9, "output_tokens": 4}})
    };
    if request["stream"] != true {
        return turn.answer(200, message(json!([block]), Some(stop)).to_string());
    }
    turn.open_stream();
    let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    let events = [
        json!({"type": "message_start", "message": message(json!([]), None)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        text("hel"),
        text("lo"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ];
    let count = if turn.request.text().contains("please break") { 4 } else { events.len() };
    for event in &events[..count] {
        turn.chunk(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()));
    }
    turn.end();
}

/// Both providers behind one sidecar: the models `openai` and `anthropic`.
fn both() -> (Upstream, Upstream, Sidecar) {
    let (first, second) = (Upstream::start(openai), Upstream::start(anthropic));
    let model =
        |alias: &str| format!("model_properties = [{{ name = \"real-model\", alias = \"{alias}\" }}]");
    let tables = [
        integration("one", &first.url("/v1"), &model("openai")),
        integration("two", &second.url(""), &format!("format = \"anthropic\"\n{}", model("anthropic"))),
    ];
    let sidecar = Setup::new(tables.concat()).start();
    (first, second, sidecar)
}

#[test]
fn whole_answers_and_tool_calls_reach_the_client_from_both_formats() {
    let (_first, _second, sidecar) = both();
    journey(
        &sidecar,
        "
tools = [{'type': 'function', 'function': {'name': 'weather', 'parameters': {'type': 'object', 'properties': {'city': {'type': 'string'}}}}}]
for model in ('openai', 'anthropic'):
    answer = client.chat.completions.create(model=model, messages=hi, max_tokens=50)
    assert answer.choices[0].message.content == 'hello', answer
    assert answer.choices[0].finish_reason == 'stop', answer
    assert answer.usage.total_tokens > 0 and answer.id, answer
    answer = client.chat.completions.create(model=model, messages=hi, tools=tools, max_tokens=50)
    assert answer.choices[0].finish_reason == 'tool_calls', answer
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == 'weather' and json.loads(call.function.arguments) == {'city': 'Riga'}, answer
",
    );
}

#[test]
fn streams_reach_the_client_from_both_formats() {
    let (_first, _second, sidecar) = both();
    journey(
        &sidecar,
        "
for model in ('openai', 'anthropic'):
    for _ in range(2):
        stream = client.chat.completions.create(model=model, messages=hi, stream=True, max_tokens=50)
        chunks = list(stream)
        texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
        assert texts == ['hel', 'lo'], chunks
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == 'stop', chunks
        assert len({c.id for c in chunks}) == 1, chunks
",
    );
}

#[test]
fn a_broken_stream_raises_instead_of_ending_as_a_success() {
    let (_first, _second, sidecar) = both();
    journey(
        &sidecar,
        "
for model in ('openai', 'anthropic'):
    texts = []
    try:
        for chunk in client.chat.completions.create(model=model, messages=[{'role': 'user', 'content': 'please break'}], stream=True):
            texts += [c.delta.content for c in chunk.choices if c.delta.content]
    except openai.APIError as error:
        assert ''.join(texts) == 'hello', texts
        assert error.message and error.code, error
    else:
        raise AssertionError('a broken stream was taken for a success')
",
    );
}

#[test]
fn the_message_of_an_error_reaches_the_exception() {
    let (_first, _second, sidecar) = both();
    journey(
        &sidecar,
        "
def refused(kind, **call):
    try:
        client.chat.completions.create(**call)
    except kind as error:
        return error
    raise AssertionError('nothing was raised')
fail = [{'role': 'user', 'content': 'please fail'}]
error = refused(openai.RateLimitError, model='openai', messages=fail)
assert 'quota used up, ask ann' in error.message and error.code == 'quota', error
error = refused(openai.APIStatusError, model='anthropic', messages=fail)
assert 'overloaded, ask ann' in error.message and error.status_code >= 500, error
error = refused(openai.NotFoundError, model='openay', messages=hi)
assert 'openay' in error.message and 'openai' in error.message and error.code == 'model_not_found', error
error = refused(openai.BadRequestError, model='anthropic', messages=hi, n=3)
assert error.param == 'n' and error.code == 'unsupported_parameter' and error.request_id, error
",
    );
}

#[test]
fn the_list_of_models_reaches_the_client() {
    let (_first, _second, sidecar) = both();
    journey(
        &sidecar,
        "assert {'openai', 'anthropic'} <= {model.id for model in client.models.list()}, list(client.models.list())",
    );
}
