//! Python handlers as their callers see them: what they are handed, how their answers come back, and who gets in.

use serde_json::{Value, json};

use crate::support::handlers::{ask_with, handler, handler_at, say, setup, start, state, until};
use crate::support::tls::Authority;
use crate::support::{Call, TokenServer, Upstream, python};

/// What a handler of `signatures.py` says that it got.
fn told(content: &str) -> Value {
    serde_json::from_str(content).expect("the handler tells in JSON what it got")
}

#[test]
fn galileos_documented_handler_answers_unchanged_whole_and_streamed() {
    let config = "custom_llm_config = { file_name = \"documented.py\", class_name = \"Handler\", init_kwargs = { timeout = 60, retry_count = 3 } }";
    let sidecar = start(setup(&["documented.py"], "", &handler("h", "", "", config)));
    let answer = ask_with(&sidecar, "h", json!({"temperature": 0.5, "max_completion_tokens": 9}));
    let (body, text) = (answer.json(), answer.content());
    assert_eq!(
        (&body["object"], &body["model"], &body["usage"]["total_tokens"]),
        (&json!("chat.completion"), &json!("real-model"), &json!(7))
    );
    for part in [
        "hi ",
        "'base': 'http://127.0.0.1:9/base'",
        "'provider': 'h'",
        "'temperature': 0.5",
        "'max_tokens': 9",
        "'init': [60, 3]",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let mut stream = sidecar.connect();
    assert_eq!(stream.send(&Call::stream("h/m", "hello")).head().0, 200);
    let data = stream.all_data();
    assert_eq!(data.last().map(String::as_str), Some("[DONE]"));
    let first: Value = serde_json::from_str(&data[0]).expect("chunks are JSON");
    assert_eq!(
        (&first["object"], &first["choices"][0]["delta"]["role"]),
        (&json!("chat.completion.chunk"), &json!("assistant"))
    );
    assert!(data.concat().contains("hello"), "{data:?}");
}

#[test]
fn the_real_openai_client_gets_answers_streams_and_errors_of_a_handler() {
    let tables = handler("h", "chunks.py", "Generic", "") + &handler("e", "errors.py", "Handler", "");
    let sidecar = start(setup(&["chunks.py", "errors.py"], "", &tables));
    say(&sidecar, "e", "whole none").status.to_string();
    let script = "import sys, openai\n\
        c = openai.OpenAI(base_url=sys.argv[1], api_key='x', max_retries=0, timeout=30)\n\
        hi = lambda text: [{'role': 'user', 'content': text}]\n\
        s = c.chat.completions.create(model='h/m', messages=hi('hi'), stream=True, stream_options={'include_usage': True})\n\
        chunks = list(s)\n\
        assert ''.join(k.choices[0].delta.content or '' for k in chunks if k.choices) == 'Hello', chunks\n\
        assert chunks[-1].usage.total_tokens == 3 and len({k.id for k in chunks}) == 1, chunks\n\
        try: c.chat.completions.create(model='e/m', messages=hi('whole custom-429'))\n\
        except openai.RateLimitError as e: assert 'slow down' in str(e) and e.code == 'handler_error', e\n\
        else: raise SystemExit('no error')\n\
        try: list(c.chat.completions.create(model='e/m', messages=hi('later custom-503'), stream=True))\n\
        except openai.APIError as e: assert 'full' in str(e), e\n\
        else: raise SystemExit('a broken stream looked complete')\n";
    let ended = python::run(script, &[&format!("http://{}/v1", sidecar.address())]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.output(), sidecar.output());
}

#[test]
fn a_handler_is_handed_the_token_the_key_and_the_headers_but_never_the_client_secret() {
    let server = TokenServer::issuing();
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"cl13nt-s3cret\" }}\n\
         headers = {{ x-team = \"ml\" }}\ncustom_header_mapping = {{ job_id = \"x-their-job\" }}",
        server.url()
    );
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"X-Corp-Key\"\napi_key_value = \"k3y-value\"";
    let tables = handler("o", "signatures.py", "Anything", &oauth)
        + &handler("k", "signatures.py", "Full", key)
        + &handler("n", "signatures.py", "Anything", "")
        + &handler("env", "bad.py", "Handler", &oauth);
    let sidecar = start(setup(&["signatures.py", "bad.py"], "", &tables));
    let call = Call::say("o/m", "hi")
        .header("authorization", "Bearer of-the-runner")
        .header("x-galileo-job-id", "j7");
    let got = told(&sidecar.ask(&call).content());
    assert_eq!(got["api_key"], "token-1");
    assert_eq!(
        got["headers"],
        json!({"Authorization": "Bearer token-1", "x-team": "ml", "x-their-job": "j7"})
    );
    assert_eq!((&got["api_base"], &got["model"]), (&json!("http://127.0.0.1:9/base"), &json!("real-model")));
    let got = told(&say(&sidecar, "k", "hi").content());
    assert_eq!(got["api_key"], "k3y-value");
    assert_eq!(got["headers"]["x-corp-key"], "k3y-value");
    let got = told(&say(&sidecar, "n", "hi").content());
    assert_eq!((&got["api_key"], &got["headers"]), (&Value::Null, &json!({})));
    say(&sidecar, "env", "environment").content();
    // Nothing of it is in any process but ours.
    for worker in state(&sidecar, "env")["handler"]["workers"].as_array().expect("it has workers") {
        let pid = worker["pid"].as_u64().expect("it runs");
        for file in ["environ", "cmdline"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("it runs");
            assert!(
                !String::from_utf8_lossy(&bytes).contains("cl13nt-s3cret"),
                "{file} holds the client secret"
            );
        }
    }
    assert!(!sidecar.output().contains("cl13nt-s3cret") && !sidecar.output().contains("token-1"));
}

#[test]
fn a_token_that_the_provider_refuses_is_fetched_anew_and_the_call_made_once_more() {
    let server = TokenServer::issuing();
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let text = "from litellm import CustomLLM\nfrom litellm.llms.custom_llm import CustomLLMError\n\n\
        class H(CustomLLM):\n    async def acompletion(self, messages, api_key, **kwargs):\n        \
        if api_key == 'token-1':\n            raise CustomLLMError(401, 'expired ' + api_key)\n        \
        return {'choices': [{'message': {'content': api_key}}]}\n";
    let sidecar = start(setup(&[], "", &handler("h", "h.py", "H", &oauth)).file("handlers/h.py", text));
    assert_eq!(say(&sidecar, "h", "hi").content(), "token-2");
    assert_eq!(server.calls(), 2);
}

#[test]
fn with_egress_a_handlers_own_requests_leave_with_our_token_and_it_never_sees_it() {
    let server = TokenServer::issuing();
    let upstream = Upstream::start(|turn| {
        let authorization = turn.request.head.header("authorization").unwrap_or("nothing").to_owned();
        let target = turn.request.target().to_owned();
        if authorization.ends_with("token-1") {
            return turn.answer(401, "{\"error\": \"expired\"}");
        }
        turn.answer(
            200,
            json!({"seen": authorization, "target": target, "team": turn.request.head.header("x-team")})
                .to_string(),
        );
    });
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}\nheaders = {{ x-team = \"ml\" }}",
        server.url()
    );
    let text = "import sys\nimport httpx\nfrom litellm import CustomLLM\nfrom litellm.llms.custom_llm import CustomLLMError\n\n\
        class H(CustomLLM):\n    def __init__(self):\n        self.http = httpx.AsyncClient(trust_env=False)\n\n    \
        async def acompletion(self, messages, api_base, api_key, headers, **kwargs):\n        \
        answer = await self.http.post(api_base + '/deep/path?q=1', json={'x': 1}, headers={'x-own': '1'})\n        \
        print(api_base, file=sys.stderr)\n        \
        if messages[-1]['content'] == 'fail':\n            raise CustomLLMError(400, 'no luck at ' + api_base)\n        \
        return {'choices': [{'message': {'content': f'{answer.status_code} {answer.text} {api_key} {headers} {api_base}'}}]}\n";
    let table = handler_at(&upstream.url("/base"), "h", ("h.py", "H"), &oauth);
    let sidecar = start(setup(&[], "egress = true", &table).file("handlers/h.py", text));
    let said = say(&sidecar, "h", "hi").content();
    for part in [
        "200 ",
        "\"seen\":\"Bearer token-2\"",
        "\"target\":\"/base/deep/path?q=1\"",
        "\"team\":\"ml\"",
        " None ",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!said.contains("Authorization"), "{said}");
    let key = said.rsplit('/').next().expect("api_base ends with the key");
    assert!(key.len() > 30, "{key}");
    let refused = say(&sidecar, "h", "fail");
    let message = refused.refusal(400, "handler_error");
    assert!(message.contains("no luck") && !message.contains(key), "{message}");
    sidecar.log_line("what it printed", |line| {
        line["message"].as_str().is_some_and(|text| text.ends_with("/***"))
    });
    assert!(!sidecar.output().contains(key));
}

#[test]
fn online_checking_loads_each_handler_and_tells_what_it_found() {
    let tables =
        handler("good", "signatures.py", "Documented", "") + &handler("old", "signatures.py", "OldBase", "");
    let setup_of = |tables: &str| setup(&["signatures.py", "broken/syntax.py"], "", tables);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let base = listener.local_addr().expect("it listens").to_string();
    let open = |tables: &str| tables.replace("127.0.0.1:9", &base);
    let good = setup_of(&open(&tables));
    let config = good.write().to_string_lossy().into_owned();
    let ended = good.run(&["check", &config, "--online"]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    for part in ["Documented loads: acompletion", "direct style", "litellm 1.", "warning"] {
        assert!(ended.stdout.contains(part), "{part} is not in {}", ended.stdout);
    }
    let offline = good.run(&["check", &config]);
    assert!(!offline.stdout.contains("loads"), "checking alone runs no code: {}", offline.stdout);
    let bad = setup_of(&open(&(tables + &handler("broken", "syntax.py", "Handler", ""))));
    let config = bad.write().to_string_lossy().into_owned();
    let ended = bad.run(&["check", &config, "--online"]);
    assert_eq!(ended.code, 78, "{}", ended.output());
    assert!(ended.stdout.contains("does not load") && ended.stdout.contains("syntax.py"), "{}", ended.stdout);
    assert_eq!(bad.run(&["check", &config]).code, 0, "without --online nothing is known of it");
}

#[test]
fn a_request_that_comes_while_the_handler_starts_waits_for_it() {
    let sidecar = setup(&["documented.py"], "", &handler("h", "documented.py", "Handler", "")).start();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| say(&sidecar, "h", "hi").status)).collect();
        calls.into_iter().map(|call| call.join().expect("it was answered")).collect()
    });
    assert_eq!(answers, [200; 8]);
    assert_eq!(sidecar.metric("outrider_handler_calls_total{integration=\"h\"}"), Some(8.0));
    assert_eq!(sidecar.metric("outrider_handler_seconds_count{integration=\"h\"}"), Some(8.0));
}

#[test]
fn where_all_places_are_taken_a_request_waits_its_turn_and_is_then_told_so() {
    let lines = "limits = { queue_timeout = \"200ms\" }";
    let sidecar = start(setup(&["bad.py"], "max_in_flight = 1", &handler("h", "bad.py", "Handler", lines)));
    say(&sidecar, "h", "who").content();
    let mut slow = sidecar.connect();
    slow.send(&Call::say("h/m", "hang 600"));
    until(&sidecar, "h", |state| state["handler"]["in_flight"] == 1);
    let answer = say(&sidecar, "h", "who");
    answer.refusal(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(slow);
    until(&sidecar, "h", |state| state["handler"]["in_flight"] == 0);
    say(&sidecar, "h", "who").content();
}

#[test]
fn explain_shows_what_a_worker_is_asked() {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"X-Corp-Key\"\napi_key_value = \"k3y-value\"";
    let setup = setup(&["bad.py"], "", &handler("h", "bad.py", "Handler", key));
    let config = setup.write();
    let args = ["explain", "h", "--request", "-", "--config", &config.to_string_lossy()];
    let ended = setup.run_fed(&args, "{\"model\": \"m\", \"messages\": []}");
    assert_eq!(ended.code, 0, "{}", ended.output());
    for part in
        ["/v1/chat/completions", "real-model", "x-outrider-deadline-ms", "Handler in bad.py", "x-corp-key"]
    {
        assert!(ended.stdout.contains(part), "{part} is not in {}", ended.stdout);
    }
    assert!(!ended.output().contains("k3y-value"));
}

#[test]
fn a_handlers_own_connections_trust_the_authorities_of_its_integration() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(authority.server("127.0.0.1"), |turn| turn.answer(200, "\"secure\""));
    let text = "import httpx\nfrom litellm import CustomLLM\n\n\
        class H(CustomLLM):\n    async def acompletion(self, messages, api_base, **kwargs):\n        \
        async with httpx.AsyncClient() as http:\n            answer = await http.get(api_base)\n        \
        return {'choices': [{'message': {'content': answer.text}}]}\n";
    let url = upstream.url("/v1").replace("http://", "https://");
    let tables = handler_at(&url, "with", ("h.py", "H"), "tls = { ca_file = \"ca.pem\" }")
        + &handler_at(&url, "without", ("h.py", "H"), "");
    let setup = setup(&[], "", &tables).file("handlers/h.py", text).file("ca.pem", &authority.pem());
    let sidecar = start(setup);
    assert_eq!(say(&sidecar, "with", "hi").content(), "\"secure\"");
    say(&sidecar, "without", "hi").refusal(502, "handler_error");
}

#[test]
fn no_core_dump_of_ours_or_of_a_worker_can_hold_a_secret() {
    let sidecar = start(setup(&["bad.py"], "", &handler("h", "bad.py", "Handler", "")));
    let worker = state(&sidecar, "h")["handler"]["workers"][0]["pid"].to_string();
    for pid in [sidecar.admin("/integrations").json()["pid"].to_string(), worker] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("it is listed");
        assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"], "{core}");
    }
}

#[test]
fn a_secret_given_to_the_constructor_reaches_neither_a_client_nor_the_log() {
    let text = "from litellm import CustomLLM\nfrom litellm.llms.custom_llm import CustomLLMError\n\n\
        class H(CustomLLM):\n    def __init__(self, login):\n        self.login = login\n\n    \
        async def acompletion(self, messages, **kwargs):\n        raise CustomLLMError(500, f'refused {self.login}')\n";
    let config = "custom_llm_config = { file_name = \"h.py\", class_name = \"H\", init_kwargs = { login = { user = \"ann\", api_key = \"sk-1n1t-s3cret\" } } }";
    let sidecar = start(setup(&[], "", &handler("h", "", "", config)).file("handlers/h.py", text));
    let message = say(&sidecar, "h", "hi").refusal(500, "handler_error");
    assert!(message.contains("ann") && !message.contains("s3cret"), "{message}");
    sidecar.log_line("what was raised", |line| line.to_string().contains("refused"));
    assert!(!sidecar.output().contains("s3cret"));
}
