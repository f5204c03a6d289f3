//! Mock providers for `outrider demo`: OpenAI's chat completions, Anthropic's messages, and the format that the example
//! of a handler is for; whole and streamed, each behind the check that the real one makes. The answer repeats the
//! question's words.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::tokens::TokenDesk;

/// A mock's answer.
pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The header and key that `/v1/chat/completions` wants.
pub(super) const KEY: (&str, &str) = ("api-key", "demo-key-of-no-value");
/// The model that the OpenAI mock has.
pub(super) const OPENAI_MODEL: &str = "demo-gpt";
/// The model that the Anthropic mock has.
pub(super) const ANTHROPIC_MODEL: &str = "demo-claude";

/// The model that the provider of the example handler has.
pub(super) const ACME_MODEL: &str = "demo-acme";
/// What that provider refuses to answer.
pub(super) const TOO_MUCH: &str = "Tell me everything!";

/// Answers one request to any of the mocks.
pub(super) async fn answer(request: Request<Incoming>, desk: &TokenDesk) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return refuse(StatusCode::BAD_REQUEST, "the body broke off") };
    let body = body.to_bytes();
    if head.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is served");
    }
    match head.uri.path() {
        "/oauth2/token" => desk.answer(&head.headers, &body),
        "/v1/chat/completions" if !has_key(&head.headers) => {
            refuse(StatusCode::UNAUTHORIZED, "the api-key is missing or wrong")
        }
        "/v1/chat/completions" | "/open/v1/chat/completions" => with_json(&body, openai),
        "/v1/messages" if !desk.has_issued(bearer(&head.headers)) => {
            refuse(StatusCode::UNAUTHORIZED, "the bearer was not issued here")
        }
        "/v1/messages" if !head.headers.contains_key("anthropic-version") => {
            refuse(StatusCode::BAD_REQUEST, "anthropic-version is missing")
        }
        "/v1/messages" => with_json(&body, anthropic),
        "/acme/generate" if !desk.has_issued(bearer(&head.headers)) => {
            reply(StatusCode::UNAUTHORIZED, &json!({"problem": "the bearer was not issued here"}))
        }
        "/acme/generate" => with_json(&body, acme),
        _ => refuse(StatusCode::NOT_FOUND, "nothing is here"),
    }
}

/// A JSON answer.
pub(super) fn reply(status: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    respond(status, "application/json", body)
}

/// What the mocks say to `question`.
pub(super) fn echo(question: &str) -> String {
    format!("You said: {question}")
}

fn with_json(body: &[u8], provider: fn(&Value) -> Answer) -> Answer {
    match serde_json::from_slice(body) {
        Ok(request) => provider(&request),
        Err(_) => refuse(StatusCode::BAD_REQUEST, "the body is not JSON"),
    }
}

fn openai(request: &Value) -> Answer {
    if request["model"] != OPENAI_MODEL {
        return refuse(StatusCode::NOT_FOUND, "this model does not exist");
    }
    let turn = Turn::of(request);
    let usage = json!({
        "prompt_tokens": turn.asked,
        "completion_tokens": turn.words.len(),
        "total_tokens": turn.asked + turn.words.len(),
    });
    if request["stream"] != true {
        let message = json!({"role": "assistant", "content": turn.words.concat()});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        return reply(StatusCode::OK, &openai_object("chat.completion", &json!([choice]), &usage));
    }
    let chunk = |delta: Value, finish: Value| {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        openai_object("chat.completion.chunk", &choice, &Value::Null).to_string()
    };
    let mut lines = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    lines.extend(turn.words.iter().map(|word| chunk(json!({"content": word}), Value::Null)));
    lines.push(chunk(json!({}), json!("stop")));
    if request["stream_options"]["include_usage"] == true {
        lines.push(openai_object("chat.completion.chunk", &json!([]), &usage).to_string());
    }
    lines.push("[DONE]".to_owned());
    streamed(lines.into_iter().map(|line| format!("data: {line}\n\n")))
}

fn openai_object(object: &str, choices: &Value, usage: &Value) -> Value {
    let created = 1_700_000_000;
    let id = "chatcmpl-demo";
    json!({"id": id, "object": object, "created": created, "model": OPENAI_MODEL, "choices": choices, "usage": usage})
}

fn anthropic(request: &Value) -> Answer {
    if request["model"] != ANTHROPIC_MODEL {
        return refuse(StatusCode::NOT_FOUND, "this model does not exist");
    }
    if !request["max_tokens"].is_u64() {
        return refuse(StatusCode::BAD_REQUEST, "max_tokens: Field required");
    }
    let turn = Turn::of(request);
    let message = |content: Value, stop: Value, output: usize| {
        json!({
            "id": "msg_demo", "type": "message", "role": "assistant", "model": ANTHROPIC_MODEL,
            "content": content, "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": turn.asked, "output_tokens": output},
        })
    };
    if request["stream"] != true {
        let content = json!([{"type": "text", "text": turn.words.concat()}]);
        return reply(StatusCode::OK, &message(content, json!("end_turn"), turn.words.len()));
    }
    let delta = |word: &String| {
        let delta = json!({"type": "text_delta", "text": word});
        json!({"type": "content_block_delta", "index": 0, "delta": delta})
    };
    let ended = json!({"stop_reason": "end_turn", "stop_sequence": null});
    let mut events = vec![
        json!({"type": "message_start", "message": message(json!([]), Value::Null, 1)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(turn.words.iter().map(delta));
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events
        .push(json!({"type": "message_delta", "delta": ended, "usage": {"output_tokens": turn.words.len()}}));
    events.push(json!({"type": "message_stop"}));
    let named =
        |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    streamed(events.into_iter().map(named))
}

/// The format that `handlers/example_handler.py` describes.
fn acme(request: &Value) -> Answer {
    if request["engine"] != ACME_MODEL {
        return reply(StatusCode::NOT_FOUND, &json!({"problem": "this engine does not exist"}));
    }
    let turns = request["turns"].as_array().map(Vec::as_slice).unwrap_or_default();
    let turn = Turn::new(&turns.iter().map(|turn| text(&turn["text"])).collect::<Vec<_>>());
    if turn.words.concat() == echo(TOO_MUCH) {
        let mut refusal =
            reply(StatusCode::TOO_MANY_REQUESTS, &json!({"problem": "this is too much to ask"}));
        refusal.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("7"));
        return refusal;
    }
    let ending = json!({"ended": "done", "counts": {"read": turn.asked, "written": turn.words.len()}});
    if request["live"] != true {
        let mut answer = ending;
        answer["text"] = json!(turn.words.concat());
        return reply(StatusCode::OK, &answer);
    }
    let words = turn.words.into_iter().map(|word| json!({"text": word}));
    streamed(words.chain([ending]).map(|line| format!("{line}\n")))
}

/// One turn of a conversation: how long the question is, and the answer word by word.
struct Turn {
    asked: usize,
    words: Vec<String>,
}

impl Turn {
    fn of(request: &Value) -> Self {
        let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self::new(&messages.iter().map(|message| text(&message["content"])).collect::<Vec<_>>())
    }

    /// After these texts, the last of which is the question.
    fn new(texts: &[String]) -> Self {
        let asked = texts.iter().map(|text| text.split_whitespace().count()).sum();
        let answer = echo(texts.last().map_or("", String::as_str));
        Self { asked, words: answer.split_inclusive(' ').map(str::to_owned).collect() }
    }
}

/// The text of a message's content: a string, or the text parts of a list.
fn text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

fn has_key(headers: &HeaderMap) -> bool {
    let (name, key) = KEY;
    headers.get(name).is_some_and(|value| value == key) || bearer(headers) == Some(key)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// An error in a shape that both OpenAI's and Anthropic's clients read.
fn refuse(status: StatusCode, message: &str) -> Answer {
    let error = json!({"type": "mock_error", "message": message, "param": null, "code": null});
    reply(status, &json!({"type": "error", "error": error}))
}

fn streamed(events: impl Iterator<Item = String> + Send + Sync + 'static) -> Answer {
    let frames = events.map(|event| Ok(Frame::data(Bytes::from(event))));
    let body = StreamBody::new(stream::iter(frames));
    respond(StatusCode::OK, "text/event-stream", BoxBody::new(body))
}

fn respond(status: StatusCode, kind: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
