//! Other paths of an OpenAI-compatible provider: relayed below the integration's own path, untouched in both directions.

use serde_json::json;

use crate::support::{Call, Gate, Setup, Sidecar, TokenServer, Turn, Upstream, integration};

const KEY: &str = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer provider-key\"";

/// A provider that does `script`, and a sidecar before it that has its key.
fn acme(lines: &str, script: impl Fn(&mut Turn) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let sidecar = Setup::before(&upstream, &format!("{KEY}\n{lines}")).start();
    (upstream, sidecar)
}

#[test]
fn method_type_query_and_body_are_the_clients_and_the_key_is_ours() {
    let (upstream, sidecar) = acme("forward_headers = [\"openai-beta\"]", |turn| {
        let headers = [
            ("content-type", "application/x-odd; v=1"),
            ("x-ratelimit-remaining", "7"),
            ("x-request-id", "up"),
        ];
        turn.answer_with(202, &headers, b"\x00\xff{not json");
    });
    let body = b"--x\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n\x00\xfe\xff\r\n--x--\r\n";
    let call = Call::post("/acme/v1/files?purpose=batch&x=%20", body)
        .without("content-type")
        .header("content-type", "multipart/form-data; boundary=x")
        .header("accept", "application/x-odd")
        .header("authorization", "Bearer caller")
        .header("openai-beta", "assistants=v2")
        .header("cookie", "a=b")
        .header("x-other", "1");
    let answer = sidecar.ask(&call);
    assert_eq!((answer.status, &answer.body[..]), (202, &b"\x00\xff{not json"[..]));
    assert_eq!(answer.header("content-type"), Some("application/x-odd; v=1"));
    assert_eq!(
        (answer.header("x-ratelimit-remaining"), answer.header("x-upstream-request-id")),
        (Some("7"), Some("up"))
    );
    let request = upstream.request();
    assert_eq!((request.method(), request.target()), ("POST", "/v1/files?purpose=batch&x=%20"));
    assert_eq!(request.body, body);
    for (name, wanted) in [
        ("content-type", Some("multipart/form-data; boundary=x")),
        ("accept", Some("application/x-odd")),
        ("authorization", Some("Bearer provider-key")),
        ("openai-beta", Some("assistants=v2")),
        ("accept-encoding", Some("identity")),
        ("cookie", None),
        ("x-other", None),
    ] {
        assert_eq!(request.head.header(name), wanted, "{name}");
    }
}

#[test]
fn requests_without_a_body_are_relayed_by_their_method() {
    let (upstream, sidecar) =
        acme("query = { tenant = \"t\" }\npath = \"/odd/{model}\"", |turn| match turn.request.method() {
            "DELETE" => turn.answer_with(204, &[], ""),
            "HEAD" => {
                turn.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\n");
            }
            _ => turn.answer_with(200, &[("content-type", "text/plain")], "hello"),
        });
    let answer = sidecar.ask(&Call::get("/acme/v1/files/file-1/content?after=x"));
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    let mut connection = sidecar.connect();
    assert_eq!(connection.send(&Call::get("/acme/v1/models/org%2Fname").method("DELETE")).head().0, 204);
    let (status, head) = connection.send(&Call::get("/acme/v1/files/file-1").method("HEAD")).head();
    assert_eq!(
        (status, head.header("content-length"), head.header("content-type")),
        (200, Some("5"), Some("text/plain"))
    );
    let requests = upstream.requests(3);
    assert_eq!(requests[0].target(), "/v1/files/file-1/content?after=x&tenant=t");
    assert_eq!(requests[1].target(), "/v1/models/org%2Fname?tenant=t");
    assert!(requests.iter().all(|request| request.body.is_empty()));
    assert_eq!(requests[1].head.header("content-type"), None);
    sidecar.ask(&Call::get("/acme/v1/files").method("TRACE")).refusal(405, "method_not_allowed");
}

#[test]
fn a_stream_passes_event_by_event_and_the_next_request_uses_its_connection() {
    let gate = Gate::new();
    let held = gate.clone();
    let (upstream, sidecar) = acme("", move |turn| {
        turn.open_stream();
        turn.chunk("event: response.created\ndata: {\"type\":\"response.created\"}\n\n");
        held.wait();
        turn.chunk("event: response.completed\ndata: {}\n\n: the end\n\n");
        turn.end();
    });
    let mut connection = sidecar.connect();
    let call = Call::post("/acme/v1/responses", "{\"model\":\"any\",\"stream\":true}");
    let (status, head) = connection.send(&call).head();
    assert_eq!((status, head.header("content-type")), (200, Some("text/event-stream")));
    let first = connection.event().expect("an event comes before the gate opens");
    assert_eq!(first, "event: response.created\ndata: {\"type\":\"response.created\"}");
    gate.open();
    assert!(connection.event().is_some_and(|event| event.starts_with("event: response.completed")));
    assert_eq!(connection.event(), None);
    assert!(connection.send(&call).answer().clean);
    assert_eq!((upstream.count(), upstream.connections()), (2, 1));
    assert_eq!(upstream.requests(1)[0].text(), "{\"model\":\"any\",\"stream\":true}");
}

#[test]
fn a_refusal_goes_back_as_it_is_but_for_our_own_key() {
    let (upstream, sidecar) = acme("", |turn| {
        let headers = [("content-type", "text/html"), ("retry-after", "9")];
        turn.answer_with(429, &headers, "<b>key provider-key is spent</b>");
    });
    let answer = sidecar.ask(&Call::get("/acme/v1/files").header("x-request-id", "refused-1"));
    assert_eq!((answer.status, answer.text()), (429, "<b>key *** is spent</b>"));
    assert_eq!((answer.header("content-type"), answer.header("retry-after")), (Some("text/html"), Some("9")));
    let line = sidecar.log_line("the access line", |line| line["request_id"] == "refused-1");
    assert_eq!(
        (&line["status"], &line["code"], &line["ending"]),
        (&json!(429), &json!("upstream_error"), &json!("failed"))
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_token_is_put_on_and_renewed_once_with_the_same_body() {
    let server = TokenServer::issuing();
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let upstream = Upstream::start(|turn| match turn.request.head.header("authorization") {
        Some("Bearer token-1") => turn.answer(401, "{}"),
        _ => turn.answer(200, "{\"ok\":true}"),
    });
    let sidecar = Setup::before(&upstream, &lines).start();
    let answer = sidecar.ask(&Call::post("/acme/v1/batches", "{\"a\":1}"));
    assert_eq!((answer.status, answer.text()), (200, "{\"ok\":true}"));
    let requests = upstream.requests(2);
    assert!(requests.iter().all(|request| request.text() == "{\"a\":1}"));
    assert_eq!(requests[1].head.header("authorization"), Some("Bearer token-2"));
}

#[test]
fn no_path_leads_out_of_the_endpoint_or_around_what_we_edit() {
    let (upstream, sidecar) = acme("", |turn| turn.complete("hello"));
    for path in [
        "/acme/v1/../admin",
        "/acme/v1/files/%2e%2e/%2E%2E/admin",
        "/acme/v1/files/..%2f..%2fadmin",
        "/acme/v1/files/%252e%252e/admin",
        "/acme/v1//files",
        "/acme/v1/files//x",
        "/acme/v1/files/..%5cadmin",
        "/acme/v1/./chat/completions",
        "/acme/v1/chat%2Fcompletions",
        "/acme/v1/%63hat/completions",
        "/acme/v1/Chat/Completions",
        "/acme/v1/chat/completions/",
        "/acme/v1/%65mbeddings",
    ] {
        sidecar.ask(&Call::post(path, "{\"model\":\"m\"}")).refusal(400, "bad_request");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn only_an_integration_in_the_path_is_relayed_to_and_only_a_compatible_one() {
    let upstream = Upstream::saying("hello");
    let tables = integration("acme", &upstream.url("/v1"), "")
        + &integration("claude", &upstream.url(""), "format = \"anthropic\"")
        + &integration("llama", &upstream.url(""), "format = \"ollama\"")
        + &integration("broken", "https://127.0.0.1:1/v1", "tls = { ca_file = \"no-such-file.pem\" }");
    let sidecar = Setup::new(tables).start();
    sidecar.ask(&Call::get("/v1/files")).refusal(404, "not_found");
    assert!(sidecar.ask(&Call::get("/acmee/v1/files")).refusal(404, "model_not_found").contains("acme"));
    let message = sidecar.ask(&Call::get("/claude/v1/files")).refusal(404, "not_found");
    assert!(message.contains("claude") && message.contains("anthropic"), "{message}");
    assert!(message.ends_with("it serves /chat/completions and /models"), "{message}");
    let message = sidecar.ask(&Call::get("/llama/v1/files")).refusal(404, "not_found");
    assert!(message.ends_with("it serves /chat/completions, /embeddings and /models"), "{message}");
    sidecar.ask(&Call::get("/broken/v1/files")).refusal(503, "integration_unavailable");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn azure_relays_below_its_v1_and_mistral_below_its_endpoint() {
    let upstream = Upstream::start(|turn| turn.answer(200, "{}"));
    let azure = "format = \"azure\"\napi_version = \"2024-10-21\"";
    let tables = integration("az", &upstream.url(""), azure)
        + &integration("mi", &upstream.url("/v1"), "format = \"mistral\"");
    let sidecar = Setup::new(tables).start();
    assert_eq!(sidecar.ask(&Call::post("/az/v1/responses?x=1", "{}")).status, 200);
    assert_eq!(sidecar.ask(&Call::get("/mi/v1/files")).status, 200);
    let targets: Vec<_> = upstream.requests(2).iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/openai/v1/responses?x=1", "/v1/files"]);
}

#[test]
fn a_body_over_the_limit_is_refused_and_one_below_is_not() {
    let upstream = Upstream::start(|turn| turn.answer(200, "{}"));
    let sidecar = Setup::before(&upstream, "").server("max_body = \"4KiB\"").start();
    let call =
        |size| Call::post("/acme/v1/files", vec![0; size]).header("content-type", "application/octet-stream");
    sidecar.ask(&call(4097)).refusal(413, "body_too_large");
    assert_eq!(sidecar.ask(&call(4096)).status, 200);
    assert_eq!(upstream.request().body.len(), 4096);
}

#[test]
fn a_slot_is_held_to_the_last_byte_and_free_again_when_the_client_leaves() {
    let (upstream, sidecar) = acme("limits = { max_concurrent = 1, queue_timeout = \"1s\" }", |turn| {
        if turn.request.target().ends_with("/endless") {
            turn.open_stream();
            turn.chunk("one\n\n");
            turn.until_left();
        } else {
            turn.answer(200, "{}");
        }
    });
    let mut endless = sidecar.connect();
    endless.send(&Call::get("/acme/v1/endless").header("x-request-id", "left-1")).head();
    assert_eq!(endless.event().as_deref(), Some("one"));
    sidecar.ask(&Call::get("/acme/v1/files")).refusal(503, "overloaded");
    drop(endless);
    sidecar.until_metric("outrider_in_flight{integration=\"acme\"}", 0.0);
    assert_eq!(sidecar.ask(&Call::get("/acme/v1/files")).status, 200);
    upstream.wait_closed(1);
    let line = sidecar.log_line("the access line", |line| line["request_id"] == "left-1");
    assert_eq!((&line["ending"], &line["status"]), (&json!("cancelled"), &json!(200)));
}

#[test]
fn redirects_silence_and_a_cut_are_not_passed_on_as_answers() {
    let (_upstream, sidecar) =
        acme("limits = { idle = \"300ms\" }", |turn| match turn.request.target().rsplit('/').next() {
            Some("moved") => turn.answer_with(302, &[("location", "https://elsewhere.example/")], ""),
            Some("packed") => turn.answer_with(200, &[("content-encoding", "gzip")], "x"),
            Some("silent") => {
                turn.open_stream();
                turn.chunk("one");
                turn.until_left();
            }
            _ => {
                turn.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
                turn.close();
            }
        });
    let answer = sidecar.ask(&Call::get("/acme/v1/moved"));
    answer.refusal(502, "upstream_redirect");
    assert_eq!(answer.header("location"), None);
    sidecar.ask(&Call::get("/acme/v1/packed")).refusal(502, "upstream_garbled");
    for (path, code) in [("silent", "upstream_timeout"), ("cut", "upstream_garbled")] {
        let answer = sidecar.ask(&Call::get(&format!("/acme/v1/{path}")).header("x-request-id", path));
        assert!(!answer.clean, "{path} looks complete");
        let line = sidecar.log_line("the access line", |line| line["request_id"] == path);
        assert_eq!(line["code"], code, "{line}");
    }
}

#[test]
fn json_that_only_its_connection_ends_is_passed_on_whole_or_not_at_all() {
    let (_upstream, sidecar) = acme("", |turn| {
        let is_cut = turn.request.target().ends_with("/cut");
        let (kind, json) =
            if is_cut { ("application/json", "[{\"a\":") } else { ("Application/JSON; x=1", "[1]") };
        turn.say(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{json}"));
        turn.close();
    });
    let answer = sidecar.ask(&Call::get("/acme/v1/whole"));
    assert_eq!((answer.status, answer.text()), (200, "[1]"));
    sidecar.ask(&Call::get("/acme/v1/cut")).refusal(502, "upstream_garbled");
}

#[test]
fn the_headers_of_a_refusal_do_not_show_our_key() {
    let (_upstream, sidecar) = acme("", |turn| {
        turn.answer_with(401, &[("www-authenticate", "Bearer error=\"bad provider-key\"")], "{}");
    });
    let answer = sidecar.ask(&Call::get("/acme/v1/files"));
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer error=\"bad ***\"")));
}

#[test]
fn a_configured_parameter_is_not_given_twice() {
    let (upstream, sidecar) = acme("query = { tenant = \"ours\" }", |turn| turn.answer(200, "{}"));
    sidecar.ask(&Call::get("/acme/v1/files?a=1&tenant=theirs&%74enant=x&tenant&b"));
    assert_eq!(upstream.request().target(), "/v1/files?a=1&b&tenant=ours");
}

#[test]
fn what_is_relayed_is_logged_and_counted_under_its_integration() {
    let (_upstream, sidecar) =
        acme("", |turn| turn.answer_with(200, &[("content-type", "audio/mpeg")], "sound"));
    let call = Call::post("/acme/v1/audio/speech?secret=1", "{\"input\":\"a prompt\"}")
        .header("x-request-id", "said-1");
    assert_eq!(sidecar.ask(&call).text(), "sound");
    let line = sidecar.log_line("the access line", |line| line["request_id"] == "said-1");
    for (key, wanted) in [
        ("path", json!("/acme/v1/audio/speech")),
        ("integration", json!("acme")),
        ("status", json!(200)),
        ("ending", json!("complete")),
        ("bytes_in", json!(20)),
        ("bytes_out", json!(5)),
    ] {
        assert_eq!(line[key], wanted, "{key} in {line}");
    }
    assert_eq!(line.get("model"), None, "{line}");
    assert_eq!(sidecar.metric("outrider_requests_total{integration=\"acme\",status=\"200\"}"), Some(1.0));
    assert_eq!(sidecar.metric("outrider_in_flight{integration=\"acme\"}").unwrap_or_default(), 0.0);
    assert!(!sidecar.output().contains("a prompt") && !sidecar.output().contains("secret=1"));
}
