//! Embeddings of an OpenAI-compatible provider: the body and the answer pass as they are, and what it cost is counted.

use serde_json::json;

use crate::support::{Call, Setup, TokenServer, Turn, Upstream};

/// An answer with odd white space and numbers that must not change.
const ANSWER: &str = "{ \"object\":\"list\", \"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":\"AACAPwAAAL8=\"}],\n\
    \"model\":\"real-model\",\"big\":12345678901234567890,\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}\n";

#[test]
fn body_and_answer_pass_byte_for_byte_but_for_the_model() {
    let upstream = Upstream::start(|turn| turn.answer(200, ANSWER));
    let sidecar = Setup::before(&upstream, "").start();
    let body =
        "{\"model\" : \"m\", \"input\":[\"h\\u00e9\", \"b\"],\"encoding_format\":\"base64\",\"new\":1e2}";
    for path in ["/v1/embeddings", "/acme/v1/embeddings"] {
        let answer = sidecar.ask(&Call::post(path, body).header("authorization", "Bearer caller"));
        assert_eq!((answer.status, answer.text(), answer.clean), (200, ANSWER, true));
    }
    for request in upstream.requests(2) {
        assert_eq!((request.method(), request.target()), ("POST", "/v1/embeddings"));
        assert_eq!(request.text(), body.replace("\"m\"", "\"real-model\""));
        assert_eq!(request.head.header("authorization"), None);
    }
}

#[test]
fn tokens_of_what_passes_unread_are_counted() {
    let upstream = Upstream::start(|turn| {
        let target = turn.request.target().to_owned();
        if target.ends_with("/embeddings") { turn.answer(200, ANSWER) } else { turn.complete("hello") }
    });
    let sidecar = Setup::before(&upstream, "").start();
    let input = json!({"model": "m", "input": "x"}).to_string();
    assert_eq!(sidecar.ask(&Call::post("/v1/embeddings", input).header("x-request-id", "vec-1")).status, 200);
    let of = |id: &'static str| sidecar.log_line(id, move |line| line["request_id"] == id);
    let line = of("vec-1");
    assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(8), &json!(0)), "{line}");
    assert_eq!(sidecar.ask(&Call::say("m", "hi").header("x-request-id", "chat-1")).content(), "hello");
    let line = of("chat-1");
    assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&json!(3), &json!(2)), "{line}");
    let counted = sidecar.metric("outrider_tokens_total{integration=\"acme\",kind=\"prompt\"}");
    assert_eq!(counted, Some(11.0));
}

#[test]
fn a_refusal_keeps_its_words_and_a_token_is_put_on() {
    let server = TokenServer::issuing();
    let refusing = |turn: &mut Turn| {
        turn.answer(400, r#"{"error":{"message":"too many inputs","type":"invalid_request_error","param":"input","code":null}}"#);
    };
    let upstream = Upstream::start(refusing);
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let sidecar = Setup::before(&upstream, &lines).start();
    let answer = sidecar.ask(&Call::post("/v1/embeddings", r#"{"model":"m","input":["a"]}"#));
    assert!(answer.refusal(400, "upstream_error").contains("too many inputs"));
    assert_eq!(answer.json()["error"]["param"], "input");
    assert_eq!(upstream.request().head.header("authorization"), Some("Bearer token-1"));
}

#[test]
fn an_unknown_model_and_a_wrong_method_are_refused_as_for_chats() {
    let upstream = Upstream::start(|turn| turn.answer(200, ANSWER));
    let sidecar = Setup::before(&upstream, "").start();
    sidecar
        .ask(&Call::post("/v1/embeddings", r#"{"model":"nope","input":"a"}"#))
        .refusal(404, "model_not_found");
    sidecar.ask(&Call::get("/v1/embeddings")).refusal(405, "method_not_allowed");
    assert_eq!(upstream.count(), 0);
}
