//! What is wrong in the world fails one integration, with the remedy; the others serve.

use crate::support::{Call, Setup, Upstream, integration};

/// The message that a request to the integration `broken` gets, while `acme` serves.
fn remedy(broken: &str) -> String {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::new(integration("acme", &upstream.url("/v1"), "") + broken).start();
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
    let answer = sidecar.ask(&Call::say("broken/m", "hi"));
    let message = answer.refusal(503, "integration_unavailable");
    assert!(message.contains("broken"), "the message does not name the integration: {message}");
    assert_eq!(sidecar.admin("/readyz").status, 200, "one broken integration makes nobody unready");
    message
}

#[test]
fn a_missing_file_fails_its_integration_alone() {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"";
    let message = remedy(&integration("broken", "http://127.0.0.1:9/v1", key));
    assert!(message.contains("api_key_value_file"), "{message}");
    let ca = "tls = { ca_file = \"no-such-ca.pem\" }";
    let message = remedy(&integration("broken", "https://127.0.0.1:9/v1", ca));
    assert!(message.contains("no-such-ca.pem"), "{message}");
    let certificate = "tls = { client_cert_file = \"no-such-cert\", client_key_file = \"no-such-key\" }";
    let message = remedy(&integration("broken", "https://127.0.0.1:9/v1", certificate));
    assert!(message.contains("`client_key_file`"), "{message}");
}

#[test]
fn an_empty_secret_never_becomes_an_unauthenticated_request() {
    let upstream = Upstream::saying("hello");
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"empty\"";
    let sidecar = Setup::before(&upstream, key).file("empty", "\n").start();
    sidecar.ask(&Call::say("m", "hi")).refusal(503, "integration_unavailable");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_this_version_cannot_do_yet_is_said_by_the_integration_that_asks_for_it() {
    let signed = "authentication_type = \"signature\"";
    let message = remedy(&integration("broken", "https://127.0.0.1:9", signed));
    assert!(message.contains("signature"), "{message}");
}

#[test]
fn a_handler_is_refused_with_a_503_until_handlers_are_there() {
    let handler = "custom_llm_config = { file_name = \"h.py\", class_name = \"H\" }";
    let upstream = Upstream::saying("hello");
    let tables = integration("acme", &upstream.url("/v1"), "")
        + &integration("broken", "http://127.0.0.1:9/v1", handler);
    let sidecar = Setup::new(tables).start();
    let answer = sidecar.ask(&Call::say("broken/m", "hi"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("handler"), "{}", answer.text());
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
}

#[test]
fn a_strict_start_refuses_what_is_wrong_in_the_world() {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"";
    let setup = Setup::new(integration("broken", "http://127.0.0.1:9/v1", key)).server("start = \"strict\"");
    let config = setup.write();
    let ended = setup.run(&["--config", &config.to_string_lossy()]);
    assert_ne!(ended.code, 0);
    assert!(
        ended.output().contains("api_key_value_file") && ended.output().contains("broken"),
        "{}",
        ended.output()
    );
}
