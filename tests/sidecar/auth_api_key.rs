//! An API key: set verbatim, under the name that the customer gives, and seen by the provider alone.

use crate::support::{Call, Setup, Upstream};

#[test]
fn the_key_stands_verbatim_under_its_header() {
    let upstream = Upstream::saying("hello");
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"x-portkey-api-key\"\napi_key_value = \"K-1 verbatim\"";
    let sidecar = Setup::before(&upstream, lines).start();
    assert_eq!(
        sidecar.ask(&Call::say("m", "hi").header("authorization", "Bearer caller")).content(),
        "hello"
    );
    let request = upstream.request();
    assert_eq!(request.head.header("x-portkey-api-key"), Some("K-1 verbatim"));
    assert_eq!(request.head.header("authorization"), None);
}

#[test]
fn a_static_bearer_replaces_the_callers_own() {
    let upstream = Upstream::saying("hello");
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer KEY\"\n\
                 forward_headers = [\"x-tenant\"]";
    let sidecar = Setup::before(&upstream, lines).start();
    sidecar
        .ask(&Call::say("m", "hi").header("authorization", "Bearer caller").header("x-tenant", "t"))
        .content();
    assert_eq!(upstream.request().head.all("authorization"), ["Bearer KEY"]);
}

#[test]
fn the_key_may_come_from_a_file_or_from_the_environment() {
    let upstream = Upstream::saying("hello");
    let lines =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"keys/acme\"";
    let sidecar = Setup::before(&upstream, lines).file("keys/acme", "from-file\n").start();
    sidecar.ask(&Call::say("m", "hi")).content();
    assert_eq!(upstream.request().head.header("x-key"), Some("from-file"));

    let upstream = Upstream::saying("hello");
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"${PREFIX:-v1} ${KEY}\"";
    let sidecar = Setup::before(&upstream, lines).env("KEY", "from-env").start();
    sidecar.ask(&Call::say("m", "hi")).content();
    assert_eq!(upstream.request().head.header("x-key"), Some("v1 from-env"));
}

#[test]
fn a_secret_that_stands_where_its_file_belongs_is_told_to_nobody() {
    const SECRET: &str = "sk-SECRET-123";
    let upstream = Upstream::saying("hello");
    let (key, token) =
        ("authentication_type = \"api_key\"\napi_key_header = \"x\"", "authentication_type = \"oauth2\"");
    for (lines, named) in [
        (format!("{key}\napi_key_value_file = \"Bearer {SECRET}\""), "api_key_value_file"),
        (format!("{key}\napi_key_value = \"${{file:{SECRET}}}\""), "api_key_value"),
        (
            format!("{token}\noauth2 = {{ client_id = \"i\", client_secret_file = \"{SECRET}\" }}"),
            "client_secret_file",
        ),
        (format!("{token}\ntoken_file = '{{\"client_secret\": \"{SECRET}\"}}'"), "token_file"),
    ] {
        let sidecar = Setup::before(&upstream, &lines).start();
        let answer = sidecar.ask(&Call::say("m", "hi"));
        answer.refusal(503, "integration_unavailable");
        assert!(answer.text().contains(named), "{named} is not named: {}", answer.text());
        let checked = sidecar.run(&["check", "config.toml"]);
        assert_eq!(checked.code, 78, "{}", checked.output());
        let listed = sidecar.admin("/integrations");
        for shown in [answer.text(), listed.text(), &checked.output(), &sidecar.output()] {
            assert!(shown.contains(named) && !shown.contains("SECRET"), "{named}: {shown}");
        }
    }
}

#[test]
fn without_authentication_nothing_is_added() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    sidecar.ask(&Call::say("m", "hi").header("authorization", "Bearer caller")).content();
    let head = String::from_utf8_lossy(&upstream.request().head.raw).to_lowercase();
    assert!(!head.contains("authorization") && !head.contains("key"), "{head}");
}

#[test]
fn a_401_of_the_upstream_is_passed_on_once() {
    let upstream = Upstream::start(|turn| {
        turn.answer(401, r#"{"error":{"message":"bad key","type":"auth","code":"invalid_api_key"}}"#)
    });
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"k\"";
    let sidecar = Setup::before(&upstream, lines).start();
    assert!(sidecar.ask(&Call::say("m", "hi")).refusal(401, "invalid_api_key").contains("bad key"));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_caller_without_our_key_is_refused_and_the_key_stays_here() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("api_key = \"caller-SENTINEL\"").start();
    for call in [
        Call::say("m", "hi"),
        Call::say("m", "hi").header("authorization", "Bearer wrong"),
        Call::say("m", "hi").header("authorization", "caller-SENTINEL"),
        Call::say("m", "hi").header("authorization", "Bearer caller-SENTINE"),
        Call::get("/v1/models"),
    ] {
        let message = sidecar.ask(&call).refusal(401, "caller_unauthorized");
        assert!(!message.contains("SENTINEL"), "{message}");
    }
    assert_eq!(upstream.count(), 0);
    let call = Call::say("m", "hi").header("authorization", "Bearer caller-SENTINEL");
    assert_eq!(sidecar.ask(&call).content(), "hello");
    assert!(!String::from_utf8_lossy(&upstream.request().head.raw).contains("SENTINEL"));
    assert!(!sidecar.output().contains("SENTINEL"));
}
