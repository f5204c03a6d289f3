//! Which headers reach the provider, and which reach the client.

use crate::support::{Call, Setup, Upstream, integration};

#[test]
fn the_callers_own_headers_stay_with_us() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let call = Call::say("m", "hi")
        .header("Authorization", "Bearer sk-caller")
        .header("x-stainless-lang", "python")
        .header("X-Stainless-Retry-Count", "0")
        .header("user-agent", "OpenAI/Python 2.54")
        .header("accept-encoding", "gzip, deflate, zstd")
        .header("cookie", "session=1")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-tenant", "blue");
    assert_eq!(sidecar.ask(&call).content(), "hello");
    let request = upstream.request();
    for name in [
        "authorization",
        "cookie",
        "x-forwarded-for",
        "x-tenant",
        "x-stainless-lang",
        "x-stainless-retry-count",
    ] {
        assert_eq!(request.head.header(name), None, "{name} was passed on");
    }
    assert!(!String::from_utf8_lossy(&request.head.raw).contains("sk-caller"));
    assert!(
        request.head.header("user-agent").is_none_or(|agent| agent.to_lowercase().starts_with("outrider"))
    );
    assert!(request.head.header("accept-encoding").is_none_or(|coding| coding == "identity"));
}

#[test]
fn only_the_headers_that_are_named_are_let_through() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "forward_headers = [\"X-Tenant\"]").start();
    sidecar.ask(&Call::say("m", "hi").header("x-tenant", "blue").header("x-other", "1")).content();
    let request = upstream.request();
    assert_eq!(request.head.header("x-tenant"), Some("blue"));
    assert_eq!(request.head.header("x-other"), None);
}

#[test]
fn static_headers_override_whatever_else_would_be_sent() {
    let upstream = Upstream::saying("hello");
    let lines = "forward_headers = [\"x-tenant\"]\nheaders = { x-tenant = \"fixed\", x-team = \"a b\", user-agent = \"mine/1\" }";
    let sidecar = Setup::before(&upstream, lines).start();
    sidecar.ask(&Call::say("m", "hi").header("x-tenant", "blue")).content();
    let request = upstream.request();
    assert_eq!(request.head.header("x-tenant"), Some("fixed"));
    assert_eq!(request.head.header("x-team"), Some("a b"));
    assert_eq!(request.head.header("user-agent"), Some("mine/1"));
}

const MAPPING: &str = "custom_header_mapping = { job_id = \"X-Corp-Job\", user_id = \"X-Corp-User\", \
                       project_id = \"X-Corp-Project\", run_id = \"X-Corp-Run\" }";

#[test]
fn the_runners_ids_are_sent_under_the_customers_names() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, MAPPING).start();
    let body = r#"{"model":"m","messages":[],"metadata":{"job_id":"from-body","user_id":"u-body","run_id":"r-body"}}"#;
    let call =
        Call::chat(body).header("x-galileo-job-id", "from-header").header("x-galileo-project-id", "p-header");
    sidecar.ask(&call).content();
    let request = upstream.request();
    assert_eq!(request.head.header("x-corp-job"), Some("from-header"));
    assert_eq!(request.head.header("x-corp-user"), Some("u-body"));
    assert_eq!(request.head.header("x-corp-project"), Some("p-header"));
    assert_eq!(request.head.header("x-corp-run"), Some("r-body"));
    assert_eq!(request.head.header("x-galileo-job-id"), None);
}

#[test]
fn an_id_that_is_not_given_sends_no_header() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, MAPPING).start();
    sidecar.ask(&Call::say("m", "hi")).content();
    assert_eq!(upstream.request().head.header("x-corp-job"), None);
}

#[test]
fn an_id_with_control_characters_is_refused() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, MAPPING).start();
    let body = r#"{"model":"m","messages":[],"metadata":{"job_id":"a\r\nx-evil: 1"}}"#;
    let answer = sidecar.ask(&Call::chat(body));
    let message = answer.refusal(400, "invalid_body");
    assert!(message.contains("job_id"), "{message}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn connection_named_and_hop_by_hop_fields_are_dropped_both_ways() {
    let upstream = Upstream::start(|turn| {
        let headers = [
            ("content-type", "application/json"),
            ("connection", "x-inner"),
            ("x-inner", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
        ];
        turn.answer_with(200, &headers, "{}");
    });
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer ours\"\n\
                 forward_headers = [\"x-named\"]";
    let sidecar = Setup::before(&upstream, lines).start();
    let call = Call::say("m", "hi")
        .header("connection", "x-named, authorization")
        .header("x-named", "1")
        .header("te", "trailers")
        .header("keep-alive", "timeout=9")
        .header("proxy-authorization", "Basic eDp5");
    let answer = sidecar.ask(&call);
    assert_eq!(answer.status, 200);
    for name in ["x-inner", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(name), None, "{name} reached the client");
    }
    let request = upstream.request();
    for name in ["x-named", "te", "keep-alive", "proxy-authorization"] {
        assert_eq!(request.head.header(name), None, "{name} reached the upstream");
    }
    assert_eq!(request.head.header("authorization"), Some("Bearer ours"));
}

#[test]
fn our_key_comes_back_in_no_header_of_a_good_answer() {
    let key = "Bearer sk-SECRET-abcdef123456";
    let upstream = Upstream::start(move |turn| {
        let (kind, body) = match turn.request.target() {
            "/v1/messages" => {
                let message =
                    r#"{"content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#.to_owned();
                ("application/json", message)
            }
            _ if turn.request.text().contains("\"stream\":true") => {
                ("text/event-stream", "data: [DONE]\n\n".to_owned())
            }
            target if target.ends_with("/empty") => ("text/plain", String::new()),
            _ => ("application/json", "{}".to_owned()),
        };
        let id = format!("of-{}", key.trim_start_matches("Bearer "));
        let headers = [
            ("content-type", kind),
            ("x-debug-authorization", key),
            ("x-debug-url", "https://a.example/?key=sk%2DSECRET%2dabcdef123456&b=1"),
            ("x-debug-team", "Bearer of no secret, and longer than the key"),
            ("x-request-id", &id),
        ];
        turn.answer_with(200, &headers, body);
    });
    let auth = format!(
        "authentication_type = \"api_key\"\napi_key_header = \"authorization\"\napi_key_value = \"{key}\""
    );
    let anthropic = integration("claude", &upstream.url(""), &format!("format = \"anthropic\"\n{auth}"));
    let sidecar = Setup::new(integration("acme", &upstream.url("/v1"), &auth) + &anthropic).start();
    for (call, passes) in [
        (Call::say("m", "hi").at("/acme/v1/chat/completions"), true),
        (Call::stream("m", "hi").at("/acme/v1/chat/completions"), true),
        (Call::get("/acme/v1/files/file-1"), true),
        (Call::get("/acme/v1/files/empty"), true),
        (Call::say("m", "hi").at("/claude/v1/chat/completions"), false),
    ] {
        let answer = sidecar.ask(&call);
        assert_eq!((answer.status, answer.header("x-upstream-request-id")), (200, Some("of-***")));
        for (name, wanted) in [
            ("x-debug-authorization", "***"),
            ("x-debug-url", "https://a.example/?key=***&b=1"),
            ("x-debug-team", "Bearer of no secret, and longer than the key"),
        ] {
            assert_eq!(answer.header(name), passes.then_some(wanted), "{name}");
        }
    }
}

#[test]
fn the_host_that_a_client_names_never_chooses_the_destination() {
    let (upstream, other) = (Upstream::saying("hello"), Upstream::saying("wrong"));
    let sidecar = Setup::before(&upstream, "").start();
    let body = r#"{"model":"m","messages":[]}"#;
    let head = |target: String, host: String| {
        format!(
            "POST {target} HTTP/1.1\r\nhost: {host}\r\nx-forwarded-host: {host}\r\nforwarded: host={host}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let named = head("/v1/chat/completions".to_owned(), other.address().to_string());
    assert_eq!(sidecar.connect().send_raw(named.as_bytes()).answer().content(), "hello");
    let absolute = head(other.url("/v1/chat/completions"), other.address().to_string());
    sidecar.connect().send_raw(absolute.as_bytes()).answer();
    assert_eq!(other.count(), 0);
}
