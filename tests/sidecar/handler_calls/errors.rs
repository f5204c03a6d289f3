//! What a client is told of all that a handler may raise, and what our log keeps of it.

use serde_json::{Value, json};

use super::{KEY, all_of, keeps_secrets, stream, with_key};
use crate::support::handlers::{handler, say, setup, start, state};
use crate::support::{Call, Sidecar, TokenServer};

/// An exception of `errors.py` as a client is told it.
struct Told {
    name: &'static str,
    status: u16,
    kind: &'static str,
    code: &'static str,
    message: String,
    retry_after: Option<&'static str>,
}

/// One whose text is meant for others.
fn told(name: &'static str, status: u16, code: &'static str, message: &str) -> Told {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        _ => "api_error",
    };
    Told { name, status, kind, code, message: message.to_owned(), retry_after: None }
}

/// One whose text may hold anything: its class is all that is told.
fn class(name: &'static str, status: u16, code: &'static str, class: &str) -> Told {
    told(name, status, code, &format!("the handler raised {class}; see Outrider's log"))
}

fn table() -> Vec<Told> {
    // What is longer than 2,000 characters is cut.
    let (long, many) = ("x".repeat(2000), "[redacted] ".repeat(200));
    let raised = "handler_error";
    vec![
        told("custom-400", 400, raised, "bad"),
        told("custom-401", 401, raised, "key [redacted] and Bearer [redacted] are wrong"),
        told("custom-418", 418, raised, "teapot"),
        told("custom-429", 429, raised, "slow down"),
        told("custom-503", 503, raised, "full"),
        told("custom-504", 504, raised, "upstream was late"),
        told("custom-text", 429, raised, "a status that is a string"),
        told("custom-200", 500, raised, "no status of an error"),
        told("custom-long", 400, raised, &format!("{long}…")),
        told("custom-cut", 500, raised, &format!("{}[redacted]", &long[..495])),
        told("custom-many", 400, raised, &format!("{}…", &many[..2000])),
        told("custom-quoted", 400, raised, "sent {'headers': {'x-signed-token': '[redacted]'}}"),
        told("custom-path", 400, raised, "failed in h.py, see https://docs.example/a/b.py"),
        Told { retry_after: Some("7"), ..told("litellm-rate", 429, raised, "too many") },
        told("litellm-context", 400, raised, "too long"),
        told("litellm-timeout", 408, raised, "late"),
        Told { retry_after: Some("3"), ..told("openai-rate", 429, "own_code", "said openai") },
        told("openai-connection", 502, raised, "Connection error."),
        told("openai-timeout", 504, "handler_timeout", "Request timed out."),
        told("httpx-status", 404, raised, "404 for url"),
        told("httpx-timeout", 504, "handler_timeout", "slow"),
        told("httpx-connect", 502, raised, "refused"),
        told("own-status", 422, "bad_field", "own text"),
        class("timeout", 504, "handler_timeout", "TimeoutError"),
        class("connection", 502, raised, "ConnectionResetError"),
        class("value", 500, raised, "ValueError"),
        class("value-cut", 500, raised, "ValueError"),
        class("assertion", 500, raised, "AssertionError"),
        class("key", 500, raised, "KeyError"),
        class("odd", 500, raised, "Odd"),
        class("exit", 500, raised, "SystemExit"),
        class("interrupt", 500, raised, "KeyboardInterrupt"),
        class("generator-exit", 500, raised, "GeneratorExit"),
        class("cancelled", 500, raised, "CancelledError"),
        class("stop-async", 500, raised, "StopAsyncIteration"),
        class("memory", 500, raised, "MemoryError"),
    ]
}

impl Told {
    /// The four fields of the error. In a generator Python makes another exception of some.
    fn error(&self, integration: &str, in_generator: bool) -> Value {
        let message = match self.name {
            "stop-async" if in_generator => self.message.replace("StopAsyncIteration", "RuntimeError"),
            _ => self.message.clone(),
        };
        let param = Some("messages").filter(|_| self.name == "own-status");
        json!({
            "message": format!("integration `{integration}`: {}", message),
            "type": self.kind, "code": self.code, "param": param,
        })
    }
}

/// The handlers of `errors.py`, asynchronous and not.
fn sidecar() -> Sidecar {
    start(setup(&["errors.py"], "", &all_of("errors.py", &["Handler", "Synchronous"], &with_key())))
}

#[test]
fn an_exception_before_the_first_byte_keeps_its_status_and_tells_no_more_than_it_may() {
    let sidecar = sidecar();
    for told in table() {
        for integration in ["handler", "synchronous"] {
            let model = format!("{integration}/m");
            for (stage, call) in [
                ("whole", Call::say(&model, &format!("whole {}", told.name))),
                ("first", Call::stream(&model, &format!("first {}", told.name))),
            ] {
                let case = format!("{integration}, {stage} {}", told.name);
                let answer = sidecar.ask(&call);
                keeps_secrets(&case, answer.text());
                assert_eq!(answer.status, told.status, "{case}: {}", answer.text());
                answer.refusal(told.status, told.code);
                assert_eq!(answer.json()["error"], told.error(integration, stage == "first"), "{case}");
                assert_eq!(answer.header("retry-after"), told.retry_after, "{case}");
                assert_eq!(answer.header("x-handler-error"), None, "{case}");
            }
        }
    }
    logs_what_it_does_not_tell(&sidecar);
}

/// The log has each fault whole, with the handler, the request and the place; and no secret.
fn logs_what_it_does_not_tell(sidecar: &Sidecar) {
    let call = Call::say("handler/m", "whole key").header("x-request-id", "r-1234567");
    let id = sidecar.ask(&call).header("x-request-id").map(str::to_owned).expect("it has one");
    let line = sidecar.log_line("the fault's", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains(&id) && text.contains("KeyError: 'choices'"))
    });
    let message = line["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("handler handler Handler, request "), "{message}");
    assert_eq!(line["integration"], "handler");
    sidecar.log_line("of its traceback", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("errors.py\", line"))
    });
    let log = sidecar.output();
    assert!(log.contains("ValueError: secret [redacted] and"), "{log}");
    keeps_secrets("the log", &log);
    assert!(KEY.len() > 64, "short keys are not cut");
}

#[test]
fn an_exception_after_the_first_chunk_ends_the_stream_with_an_error_and_without_done() {
    let sidecar = sidecar();
    for told in table() {
        for integration in ["handler", "synchronous"] {
            let case = format!("{integration}, later {}", told.name);
            let text = json!([{"role": "user", "content": format!("later {}", told.name)}]);
            let (data, status) = stream(&sidecar, integration, json!({ "messages": text }));
            keeps_secrets(&case, &data.concat());
            assert_eq!((status, data.len()), (200, 2), "{case}: {data:?}");
            assert!(data[0].contains("\"Hel\""), "{case}: {data:?}");
            let last: Value = serde_json::from_str(&data[1]).expect("an error is JSON");
            assert_eq!(last, json!({"error": told.error(integration, true)}), "{case}");
        }
    }
    // What comes too late to try another method is an error like any other.
    let text = json!([{"role": "user", "content": "later not-implemented"}]);
    let (data, _) = stream(&sidecar, "handler", json!({ "messages": text }));
    assert!(data[1].contains("raised NotImplementedError"), "{data:?}");
    keeps_secrets("the log", &sidecar.output());
}

#[test]
fn a_method_that_is_not_implemented_gives_way_to_the_next_one() {
    let sidecar = sidecar();
    for integration in ["handler", "synchronous"] {
        let model = format!("{integration}/m");
        assert_eq!(say(&sidecar, integration, "whole not-implemented").content(), "Hello", "{integration}");
        let data = sidecar.connect().send(&Call::stream(&model, "first not-implemented")).answer();
        assert!(
            data.text().contains("\"fine\"") && data.text().ends_with("data: [DONE]\n\n"),
            "{}",
            data.text()
        );
        assert_eq!(say(&sidecar, integration, "none none").content(), "fine", "{integration}");
    }
}

#[test]
fn a_task_that_exits_and_a_loop_that_is_stopped_end_no_worker() {
    let sidecar =
        start(setup(&["errors.py"], "", &all_of("errors.py", &["ExitsInATask", "StopsTheLoop"], "")));
    let pid = |name: &str| state(&sidecar, name)["handler"]["workers"][0]["pid"].clone();
    let before = ["exitsinatask", "stopstheloop"].map(pid);
    for _ in 0..3 {
        let message = say(&sidecar, "exitsinatask", "x y").refusal(500, "handler_error");
        assert!(message.contains("the handler raised SystemExit"), "{message}");
        assert_eq!(say(&sidecar, "stopstheloop", "x y").content(), "went on");
    }
    assert_eq!(["exitsinatask", "stopstheloop"].map(pid), before);
}

#[test]
fn a_token_and_a_secret_of_init_kwargs_are_in_no_message_and_in_no_log() {
    let server = TokenServer::issuing();
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let text = "from litellm import CustomLLM\n\n\
        class H(CustomLLM):\n    def __init__(self, private_key='', deep=None):\n        \
        if private_key: raise ValueError('x' * 480 + f' {private_key} and {deep} and {[private_key]}')\n\n    \
        async def acompletion(self, headers, **kwargs):\n        raise ValueError('x' * 480 + str(headers))\n";
    let key = format!("{KEY}\\n{KEY}");
    let config = format!(
        "custom_llm_config = {{ file_name = \"h.py\", class_name = \"H\", init_kwargs = {{ private_key = \"{key}\", deep = {{ token = \"s1gned-value\" }} }} }}"
    );
    let tables = handler("h", "h.py", "H", &oauth) + &handler("broken", "h.py", "H", &config);
    let sidecar = start(setup(&[], "", &tables).file("handlers/h.py", text));
    let message = say(&sidecar, "h", "hi").refusal(500, "handler_error");
    assert!(message.contains("raised ValueError"), "{message}");
    sidecar.log_line("the fault's", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("ValueError: xxx"))
    });
    let failed = state(&sidecar, "broken").to_string();
    assert!(failed.contains("making H failed: ValueError"), "{failed}");
    let log = sidecar.output();
    assert!(!log.contains("token-1"), "{log}");
    keeps_secrets("/integrations", &failed);
    keeps_secrets("the log", &log);
}
