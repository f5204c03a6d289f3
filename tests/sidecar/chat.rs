//! Whole answers: what the client sent reaches the provider, and what the provider said reaches the client.

use crate::support::{Call, Connection, Setup, Upstream};

#[test]
fn only_the_model_is_rewritten_and_all_else_leaves_byte_for_byte() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let body = |model: &str| {
        format!(
            "{{ \"messages\" :[{{\"role\":\"user\",\"content\":\"caf\\u00e9 \u{1F600}\"}}],\r\n\t\"model\"  : \"{model}\" ,\
             \"big\":12345678901234567890,\"float\":1.10,\"exponent\":1E400, \"unknown\":{{\"model\":\"inner\",\"x\":null}}, \
             \"seed\":9223372036854775807 }}\n"
        )
    };
    assert_eq!(sidecar.ask(&Call::chat(body("m"))).content(), "hello");
    let request = upstream.request();
    assert_eq!(request.text(), body("real-model"));
    assert_eq!((request.method(), request.target()), ("POST", "/v1/chat/completions"));
    assert_eq!(request.head.header("content-type"), Some("application/json"));
    assert_eq!(request.head.header("host"), Some(upstream.address().to_string().as_str()));
    assert_eq!(request.head.header("content-length"), Some(body("real-model").len().to_string().as_str()));
}

#[test]
fn a_whole_answer_arrives_byte_for_byte() {
    let answer =
        "{ \"id\":\"x\", \"choices\" : [ ],\"big\":98765432109876543210, \"own\":{\"b\":1,\"a\":2}\n}\n";
    let upstream = Upstream::start(move |turn| turn.answer(200, answer));
    let sidecar = Setup::before(&upstream, "").start();
    let got = sidecar.ask(&Call::say("plain", "hi"));
    assert_eq!((got.status, got.text()), (200, answer));
    assert!(got.clean && got.header("x-request-id").is_some());
    assert_eq!(got.header("content-type"), Some("application/json"));
}

#[test]
fn an_answer_in_chunks_and_one_that_ends_with_the_connection_arrive_whole() {
    let chunked = Upstream::start(|turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
        turn.chunk("{\"a\":");
        turn.chunk("1}");
        turn.end();
    });
    assert_eq!(Setup::before(&chunked, "").start().ask(&Call::say("m", "hi")).text(), "{\"a\":1}");
    let closing = Upstream::start(|turn| {
        turn.say("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":1}");
        turn.close();
    });
    assert_eq!(Setup::before(&closing, "").start().ask(&Call::say("m", "hi")).text(), "{\"a\":1}");
}

#[test]
fn one_connection_serves_many_requests_to_one_upstream_connection() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").server("workers = 1").start();
    let mut connection = sidecar.connect();
    for _ in 0..5 {
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
    }
    assert_eq!(upstream.count(), 5);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_request_in_chunks_is_read_and_leaves_with_its_length() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send_raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
          transfer-encoding: chunked\r\n\r\n9\r\n{\"model\":\r\n7\r\n\"plain\"\r\nf\r\n,\"messages\":[]}\r\n0\r\n\r\n",
    );
    assert_eq!(connection.answer().content(), "hello");
    let request = upstream.request();
    assert_eq!(request.text(), "{\"model\":\"plain\",\"messages\":[]}");
    assert_eq!(request.head.header("content-length"), Some("31"));
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let call = Call::say("m", "hi").header("expect", "100-continue").bytes();
    let body = call.windows(4).position(|w| w == b"\r\n\r\n").expect("a head ends") + 4;
    let mut connection = sidecar.connect();
    connection.send_raw(&call[..body]);
    assert_eq!(connection.interim(), 100);
    assert_eq!(connection.send_raw(&call[body..]).answer().content(), "hello");
    assert_eq!(upstream.request().head.header("expect"), None);
}

#[test]
fn a_unix_socket_serves_like_a_port_and_beside_one() {
    let upstream = Upstream::saying("hello");
    for port in ["", "\"127.0.0.1:0\", "] {
        let setup = Setup::before(&upstream, "");
        let path = setup.dir().join("proxy.sock");
        let sidecar = setup.server(&format!("listen = [{port}\"unix:{}\"]", path.display())).start();
        let mut connection = Connection::open_unix(&path);
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
        if !port.is_empty() {
            assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
        }
        assert_eq!(sidecar.admin("/livez").status, 200);
    }
}

#[test]
fn one_head_has_one_request_id_and_no_word_of_the_upstreams_machinery() {
    let upstream = Upstream::start(|turn| {
        let headers = [
            ("content-type", "application/json"),
            ("x-request-id", "upstream-1"),
            ("set-cookie", "session=1"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ];
        turn.answer_with(200, &headers, "{}");
    });
    let sidecar = Setup::before(&upstream, "").start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert_eq!(answer.head.all("x-request-id").len(), 1);
    assert!(answer.head.all("date").len() <= 1);
    assert_eq!(answer.header("set-cookie"), None);
}

#[test]
fn embeddings_go_the_same_way() {
    let answer = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"model":"real-model"}"#;
    let upstream = Upstream::start(move |turn| turn.answer(200, answer));
    let sidecar = Setup::before(&upstream, "").start();
    for path in ["/v1/embeddings", "/acme/v1/embeddings"] {
        let got = sidecar.ask(&Call::post(path, r#"{"model":"m", "input":["a"]}"#));
        assert_eq!((got.status, got.text()), (200, answer));
    }
    for request in upstream.requests(2) {
        assert_eq!(
            (request.target(), request.text()),
            ("/v1/embeddings", r#"{"model":"real-model", "input":["a"]}"#)
        );
    }
}

#[test]
fn requests_sent_one_behind_the_other_are_answered_in_their_order() {
    let upstream = Upstream::start(|turn| {
        let text = turn.request.json()["messages"][0]["content"].clone();
        turn.complete(text.as_str().unwrap_or_default());
    });
    let sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    let calls = ["one", "two", "three"].map(|text| Call::say("m", text).bytes());
    connection.send_raw(&calls.concat());
    for text in ["one", "two", "three"] {
        assert_eq!(connection.answer().content(), text);
    }
}

#[test]
fn a_refusal_of_the_upstream_keeps_its_status_words_and_retry_after() {
    let upstream = Upstream::start(|turn| {
        let body = r#"{"error":{"message":"slow down, please","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
        let headers =
            [("content-type", "application/json"), ("retry-after", "7"), ("x-should-retry", "true")];
        turn.answer_with(429, &headers, body);
    });
    let sidecar = Setup::before(&upstream, "").start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert!(answer.refusal(429, "rate_limit_exceeded").contains("slow down, please"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("x-should-retry"), Some("true"));
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
}

#[test]
fn a_page_of_html_as_an_error_becomes_an_openai_error_of_bounded_length() {
    let page = format!("<html><body>gateway {}</body></html>", "very ".repeat(1000));
    let upstream =
        Upstream::start(move |turn| turn.answer_with(503, &[("content-type", "text/html")], &page));
    let sidecar = Setup::before(&upstream, "").start();
    let answer = sidecar.ask(&Call::say("m", "hi"));
    assert_eq!(answer.status, 503);
    let error = answer.json()["error"].clone();
    let message = error["message"].as_str().expect("an error has a message");
    assert!(message.contains("gateway") && message.contains("acme"), "{message}");
    assert!(
        message.chars().count() < 800,
        "the page was passed on whole: {} characters",
        message.chars().count()
    );
    assert!(["type", "param", "code"].iter().all(|key| error.get(key).is_some()), "{error}");
}
