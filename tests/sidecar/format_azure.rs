//! `format = "azure"`: OpenAI's bodies under Azure's own paths, through the whole sidecar.

use serde_json::{Value, json};

use crate::support::{Call, Setup, Sidecar, Turn, Upstream, integration};

/// An Azure resource that does `script`, and a sidecar before it.
fn azure(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let key = "authentication_type = \"api_key\"\napi_key_header = \"api-key\"\napi_key_value = \"azure-secret-key\"";
    let table = integration("acme", &upstream.url(""), &format!("format = \"azure\"\n{key}\n{lines}"));
    let sidecar = Setup::new(table).start();
    (upstream, sidecar)
}

const VERSION: &str = "api_version = \"2024-10-21\"";

/// What comes before the first chunk, and what comes between chunks, where filters run beside the model.
const PROMPT_RESULTS: &str = r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;

#[test]
fn a_deployment_is_called_under_its_own_name() {
    let models = "model_properties = [{ name = \"gpt 4o/eu\", alias = \"m\" }]\n";
    let (upstream, sidecar) = azure(&format!("{models}{VERSION}"), |turn| turn.complete("hello"));
    let body = "{\"model\":\"m\", \"messages\":[],\"n\" : 1e0,\"data_sources\":[]}";
    let answer = sidecar.ask(&Call::chat(body).header("authorization", "Bearer caller"));
    assert_eq!(answer.content(), "hello");
    let request = upstream.request();
    assert_eq!(request.target(), "/openai/deployments/gpt%204o%2Feu/chat/completions?api-version=2024-10-21");
    assert_eq!(request.text(), body.replace("\"m\"", "\"gpt 4o/eu\""));
    assert_eq!(request.head.header("api-key"), Some("azure-secret-key"));
    assert_eq!(request.head.header("authorization"), None);
}

#[test]
fn embeddings_have_their_path_and_the_version_may_stand_in_the_query() {
    let query = "query = { api-version = \"2024-06-01\", tenant = \"a b\" }";
    let (upstream, sidecar) = azure(query, |turn| turn.answer(200, "{\"data\":[]}"));
    let answer = sidecar.ask(&Call::post("/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}"));
    assert_eq!(answer.status, 200);
    assert_eq!(
        upstream.request().target(),
        "/openai/deployments/real-model/embeddings?api-version=2024-06-01&tenant=a+b"
    );
}

#[test]
fn a_stream_passes_as_it_comes_filter_results_and_all() {
    let (upstream, sidecar) = azure(VERSION, |turn| {
        turn.open_stream();
        turn.event(PROMPT_RESULTS);
        turn.delta("hi");
        turn.done();
    });
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::stream("m", "hi")).head().0, 200);
    assert_eq!(connection.data(), PROMPT_RESULTS);
    assert!(connection.data().contains("\"hi\""));
    assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(upstream.request().head.header("accept"), Some("text/event-stream"));
}

#[test]
fn a_stream_that_ends_after_the_filter_results_is_no_answer() {
    let (_upstream, sidecar) = azure(VERSION, |turn| {
        turn.open_stream();
        turn.event(PROMPT_RESULTS);
        turn.end();
    });
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    let data = connection.all_data();
    assert!(data.last().is_some_and(|last| last.contains("\"error\"")), "{data:?}");
}

#[test]
fn what_the_content_filter_says_is_kept_and_our_key_is_not() {
    let (_upstream, sidecar) = azure(VERSION, |turn| {
        let inner = json!({"code": "ResponsibleAIPolicyViolation", "key": "azure-secret-key",
                           "content_filter_result": {"jailbreak": {"filtered": true, "detected": true}}});
        let error = json!({"message": "filtered by Azure's content management policy", "type": null,
                           "param": "prompt", "code": "content_filter", "status": 400, "innererror": inner});
        turn.answer(400, json!({"error": error}).to_string());
    });
    let answer = sidecar.ask(&Call::say("m", "hi"));
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status, &error["code"], &error["param"]),
        (400, &json!("content_filter"), &json!("prompt"))
    );
    assert!(error["message"].as_str().is_some_and(|m| m.contains("content management policy")), "{error}");
    let inner: &Value = &error["innererror"];
    assert_eq!(inner["content_filter_result"]["jailbreak"]["filtered"], true);
    assert!(!answer.text().contains("azure-secret-key"), "{error}");
}
