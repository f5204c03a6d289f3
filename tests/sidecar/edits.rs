//! What configuration changes in a request, and what it refuses before anything leaves.

use serde_json::{Value, json};

use crate::support::{Call, Setup, Upstream};

/// What the provider hears when the sidecar with `lines` gets `body`.
fn heard(lines: &str, body: &str) -> String {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, lines).start();
    assert_eq!(sidecar.ask(&Call::chat(body)).content(), "hello");
    upstream.request().text().to_owned()
}

#[test]
fn a_default_is_set_only_where_the_client_gave_none() {
    let lines = "defaults = { max_tokens = 1024, temperature = 0.5 }";
    let got: Value =
        serde_json::from_str(&heard(lines, r#"{"model":"plain","max_tokens":7}"#)).expect("it is JSON");
    assert_eq!(got, json!({"model": "plain", "max_tokens": 7, "temperature": 0.5}));
    assert!(
        heard(lines, r#"{"model": "plain",  "max_tokens": 7}"#)
            .starts_with(r#"{"model": "plain",  "max_tokens": 7"#)
    );
}

#[test]
fn a_field_is_renamed_unless_the_new_name_is_taken() {
    let lines = "rename = { max_tokens = \"max_completion_tokens\" }";
    assert_eq!(
        heard(lines, r#"{"model":"plain", "max_tokens" : 7,"x":1}"#),
        r#"{"model":"plain", "max_completion_tokens" : 7,"x":1}"#
    );
    let both = r#"{"model":"plain","max_tokens":7,"max_completion_tokens":8}"#;
    let got: Value = serde_json::from_str(&heard(lines, both)).expect("it is JSON");
    assert_eq!(got["max_completion_tokens"], 8);
}

#[test]
fn a_dropped_field_leaves_the_rest_byte_for_byte() {
    let body = r#"{ "user" : "ann","model":"plain" , "n":12345678901234567890}"#;
    assert_eq!(heard("drop = [\"user\"]", body), r#"{"model":"plain" , "n":12345678901234567890}"#);
}

#[test]
fn supported_parameters_filter_only_parameters_of_galileos_list() {
    let lines = "model_properties = [{ name = \"plain\", supported_parameters = [\"temperature\", \"stop_sequences\"] }]";
    let body = r#"{"model":"plain","messages":[],"stream":false,"temperature":1,"stop":["x"],"top_p":0.5,"max_tokens":9,"own":1}"#;
    let got: Value = serde_json::from_str(&heard(lines, body)).expect("it is JSON");
    assert_eq!(
        got,
        json!({"model": "plain", "messages": [], "stream": false, "temperature": 1, "stop": ["x"], "own": 1})
    );
}

#[test]
fn a_parameter_that_is_filtered_is_named_on_the_answer() {
    let upstream = Upstream::saying("hello");
    let lines = "model_properties = [{ name = \"plain\", supported_parameters = [\"temperature\"] }]";
    let sidecar = Setup::before(&upstream, lines).start();
    let answer = sidecar
        .ask(&Call::chat(r#"{"model":"plain","messages":[],"temperature":1,"top_p":0.5,"max_tokens":9}"#));
    let dropped = answer.header("x-outrider-dropped").expect("what was dropped is said");
    let mut names: Vec<&str> = dropped.split(',').map(str::trim).collect();
    names.sort_unstable();
    assert_eq!(names, ["max_tokens", "top_p"]);
}

#[test]
fn a_strict_integration_refuses_what_it_would_drop() {
    let upstream = Upstream::saying("hello");
    let lines =
        "strict = true\nmodel_properties = [{ name = \"plain\", supported_parameters = [\"temperature\"] }]";
    let sidecar = Setup::before(&upstream, lines).start();
    let answer = sidecar.ask(&Call::chat(r#"{"model":"plain","messages":[],"top_p":0.5}"#));
    assert!(answer.refusal(400, "unsupported_parameter").contains("top_p"));
    assert_eq!(answer.json()["error"]["param"], "top_p");
    assert_eq!(upstream.count(), 0);
    assert_eq!(
        sidecar.ask(&Call::chat(r#"{"model":"plain","messages":[],"temperature":1}"#)).content(),
        "hello"
    );
}

/// A request whose last message carries these parts.
fn with_parts(parts: &Value) -> Call {
    let messages = json!([{"role": "user", "content": "see"}, {"role": "user", "content": parts}]);
    Call::chat(json!({"model": "plain", "messages": messages}).to_string())
}

fn image(bytes: usize) -> Value {
    // Three bytes are four letters of base64.
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "AAAA".repeat(bytes / 3))}})
}

#[test]
fn too_many_images_are_refused_naming_the_part_before_the_body_leaves() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "multi_modal_config = { max_files = 1 }").start();
    assert_eq!(
        sidecar.ask(&with_parts(&json!([image(30), {"type": "text", "text": "a"}]))).content(),
        "hello"
    );
    let answer = sidecar.ask(&with_parts(&json!([{"type": "text", "text": "a"}, image(30), image(30)])));
    assert_eq!(answer.status, 400, "{}", answer.text());
    let shown = answer.text();
    assert!(shown.contains("messages[1].content[2]"), "the part is not named: {shown}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_image_that_is_too_large_is_refused_naming_the_part_before_the_body_leaves() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "multi_modal_config = { max_file_size_bytes = 3000 }").start();
    assert_eq!(sidecar.ask(&with_parts(&json!([image(3000), image(2997)]))).content(), "hello");
    let answer = sidecar.ask(&with_parts(&json!([image(30), image(3003)])));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("messages[1].content[1]"), "{}", answer.text());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn path_and_query_shape_the_url() {
    let upstream = Upstream::saying("hello");
    let lines =
        "path = \"/deployments/{model}/chat\"\nquery = { api-version = \"2024-10-21\", tag = \"a b&c\" }";
    let sidecar = Setup::before(&upstream, lines).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    let request = upstream.request();
    let (path, query) = request.target().split_once('?').expect("the URL has a query");
    assert_eq!(path, "/v1/deployments/real-model/chat");
    let pairs: Vec<&str> = query.split('&').collect();
    assert!(pairs.contains(&"api-version=2024-10-21"), "{query}");
    assert!(pairs.contains(&"tag=a+b%26c") || pairs.contains(&"tag=a%20b%26c"), "{query}");
}

#[test]
fn a_model_name_cannot_leave_its_place_in_the_path() {
    let upstream = Upstream::saying("hello");
    let lines = "path = \"/d/{model}/chat\"\nmodels = [\"a/../b?c#d\"]";
    let sidecar = Setup::before(&upstream, lines).start();
    assert_eq!(sidecar.ask(&Call::say("a/../b?c#d", "hi")).content(), "hello");
    let request = upstream.request();
    assert!(!request.target().contains("/../") && !request.target().contains('?'), "{}", request.target());
}
