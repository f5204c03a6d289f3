//! `explain`: the very request that is sent, every change to it, and no secret.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use outrider::dialect::Format;
use serde_json::{Value, json};

use crate::support::provider::{answer, needs};
use crate::support::tls::Authority;
use crate::support::{Call, Ended, Setup, TokenServer, Upstream, integration};

const STARS: &str = "***";

/// Explains `body` as a request to `acme`, with `args` besides.
fn explain(setup: &Setup, body: &str, args: &[&str]) -> Ended {
    let config = setup.write();
    let config = config.to_string_lossy();
    let fixed = ["explain", "acme", "--request", "-", "--config", &config];
    setup.run_fed(&[&fixed, args].concat(), body)
}

/// Likewise, in JSON; fails unless it is shown.
fn sheet(setup: &Setup, body: &str, args: &[&str]) -> Value {
    let ended = explain(setup, body, &[&["--format", "json"], args].concat());
    assert_eq!(ended.code, 0, "{}", ended.output());
    serde_json::from_str(&ended.stdout).expect("stdout is one JSON value")
}

/// The changes of a page, as `what field`.
fn changes(page: &Value) -> Vec<String> {
    let all = page["changes"].as_array().expect("changes are listed");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().map(|change| format!("{} {}", text(&change["what"]), text(&change["field"]))).collect()
}

/// The only header `name` of a page.
fn header(page: &Value, name: &str) -> Option<String> {
    let all = page["request"]["headers"].as_array().expect("headers are listed");
    let mut found = all.iter().filter(|header| header["name"] == name);
    let value = found.next().and_then(|header| header["value"].as_str()).map(str::to_owned);
    assert!(found.next().is_none(), "{name} stands twice: {page}");
    value
}

const BODY: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.25, "user": "u", "seed": 7, "max_tokens": 50}"#;

/// Explains and sends the same request: what was shown must be what came, but for what is secret.
fn agrees(format: Format, lines: &str, call_headers: &[(&str, &str)]) {
    let (upstream, tokens) = (Upstream::start(move |turn| answer(turn, format)), TokenServer::issuing());
    let (own, tables) = needs(format, "acme");
    let lines =
        format!("format = \"{}\"\n{own}{lines}\n{tables}", format.word()).replace("TOKENS", &tokens.url());
    let setup = Setup::new(integration("acme", &upstream.url("/base"), &lines))
        .file("key", "Bearer key-in-a-file")
        .env(
            "GCE_METADATA_HOST",
            tokens.url().trim_start_matches("http://").trim_end_matches("/oauth2/token"),
        );
    let flags: Vec<String> =
        call_headers.iter().map(|(name, value)| format!("--header={name}: {value}")).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let page = sheet(&setup, BODY, &flags);
    assert_eq!((upstream.count(), tokens.calls()), (0, 0), "explain sent something");

    let sidecar = setup.start();
    let call = Call::chat(BODY).at("/acme/v1/chat/completions");
    let call = call_headers.iter().fold(call, |call, (name, value)| call.header(name, value));
    assert_eq!(sidecar.ask(&call).content(), "hello", "{lines}");
    let sent = upstream.request();
    let shown = &page["request"];
    assert_eq!(shown["method"], sent.method(), "{lines}");
    assert_eq!(shown["url"], upstream.url(sent.target()), "{lines}");
    assert_eq!(shown["body_bytes"], sent.body.len(), "{lines}");
    assert_eq!(shown["body"], sent.json(), "{lines}");
    let headers = shown["headers"].as_array().expect("headers are listed");
    assert_eq!(headers.len(), sent.head.headers.len(), "{page}\n{:?}", sent.head.headers);
    for (header, (name, value)) in headers.iter().zip(&sent.head.headers) {
        assert_eq!(header["name"], name.to_lowercase(), "{lines}");
        let text = header["value"].as_str().expect("a header has a value");
        let mut rest = value.as_str();
        // The time of a signature is another each second.
        for piece in text.split(STARS).filter(|_| name != "x-amz-date") {
            let piece = piece.split("/20").next().unwrap_or_default();
            let at = rest.find(piece);
            assert!(at.is_some(), "{lines}: {name}: `{piece}` of {text} is not in {value}");
            rest = &rest[at.unwrap_or_default()..];
        }
        if !text.contains(STARS) && name != "x-amz-date" {
            assert_eq!(text, value, "{lines}: {name}");
        }
    }
}

#[test]
fn what_is_shown_is_what_is_sent() {
    for (lines, headers) in [
        ("", &[][..]),
        (
            "headers = { X-Team = \"ml\", user-agent = \"corp/1\" }\nquery = { tenant = \"a b\", v = \"1\" }",
            &[],
        ),
        ("path = \"/run/{model}\"", &[("authorization", "Bearer caller")]),
        ("forward_headers = [\"x-tenant\"]", &[("x-tenant", "red"), ("x-other", "no")]),
        ("custom_header_mapping = { job_id = \"X-Corp-Job\" }", &[("x-galileo-job-id", "job-7")]),
        (
            "defaults = { top_p = 0.5, user = \"none\" }\nrename = { max_tokens = \"max_completion_tokens\" }\ndrop = [\"seed\"]",
            &[],
        ),
    ] {
        agrees(Format::OpenAi, lines, headers);
    }
}

#[test]
fn what_is_shown_is_what_is_sent_in_every_format_and_by_every_authorization() {
    let authorizations = [
        "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value_file = \"key\"",
        "authentication_type = \"oauth2\"\noauth2_token_url = \"TOKENS\"\noauth2 = { client_id = \"c\", client_secret = \"s3cr3t-s3cr3t\", header = \"X-Token\", prefix = \"JWT \" }",
        "authentication_type = \"gcp\"",
        "authentication_type = \"aws_sigv4\"\naws = { region = \"eu-west-1\", service = \"bedrock\", access_key_id = \"AKID-SENTINEL\", secret_access_key = \"s3cr3t-s3cr3t\" }",
        "authentication_type = \"aws_sigv4\"\naws = { region = \"eu-west-1\", service = \"bedrock\", access_key_id = \"AKID-SENTINEL\", secret_access_key = \"s3cr3t-s3cr3t\", session_token = \"session-SENTINEL\" }",
        "",
    ];
    for (n, (_, format)) in Format::ALL.into_iter().enumerate() {
        // Each pair once would be long: each format and each authorization stands in two of these.
        for at in [n, n + 1] {
            agrees(format, authorizations[at % authorizations.len()], &[]);
        }
    }
}

#[test]
fn every_edit_is_told_with_its_reason() {
    let lines = "model_properties = [{ name = \"real-model\", alias = \"m\", supported_parameters = [\"temperature\", \"max_tokens\"] }]\n\
                 defaults = { stop = [\"END\"] }\nrename = { max_tokens = \"max_completion_tokens\" }\ndrop = [\"user\"]";
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", lines));
    let body = r#"{"model": "m", "messages": [], "max_tokens": 5, "user": "u", "top_p": 1, "seed": 7}"#;
    let page = sheet(&setup, body, &[]);
    assert_eq!(changes(&page), ["dropped top_p", "defaulted stop", "renamed max_tokens", "dropped user"]);
    assert_eq!(page["model"], json!({"asked": "m", "alias": "m", "name": "real-model"}));
    let sent = json!({"model": "real-model", "messages": [], "max_completion_tokens": 5, "seed": 7, "stop": ["END"]});
    assert_eq!(page["request"]["body"], sent);
    let text = explain(&setup, body, &[]).stdout;
    for words in [
        "supported_parameters",
        "`defaults`",
        "to max_completion_tokens",
        "`drop`",
        "`m` is `real-model` there",
    ] {
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
}

#[test]
fn what_a_format_has_no_place_for_is_told_and_with_strict_refused() {
    let lines = "format = \"anthropic\"\n";
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9", lines));
    let page = sheet(&setup, BODY, &[]);
    assert_eq!(changes(&page), ["dropped seed"]);
    assert!(page["request"]["body"].get("seed").is_none());
    let strict = Setup::new(integration("acme", "http://127.0.0.1:9", &format!("{lines}strict = true")));
    let refused = explain(&strict, BODY, &[]);
    assert_eq!(refused.code, 1, "{}", refused.output());
    let sidecar = strict.start();
    let told = sidecar.ask(&Call::chat(BODY).at("/acme/v1/chat/completions"));
    told.refusal(400, "unsupported_parameter");
    assert!(refused.stdout.contains(told.text()), "{}\n{}", refused.stdout, told.text());
}

#[test]
fn a_refusal_is_the_one_that_the_client_gets() {
    let lines = "multi_modal_config = { max_files = 1 }";
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", lines));
    let image = r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}"#;
    let images = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{image},{image}]}}]}}"#);
    let bodies = [
        r#"{"model": 5}"#,
        r#"{"model": "mm", "messages": []}"#,
        "[]",
        r#"{"model":"m","model":"m"}"#,
        &images,
    ];
    let shown: Vec<Value> = bodies
        .iter()
        .map(|body| {
            let ended = explain(&setup, body, &["--format", "json"]);
            assert_eq!(ended.code, 1, "{}", ended.output());
            serde_json::from_str(&ended.stdout).expect("stdout is one JSON value")
        })
        .collect();
    let sidecar = setup.start();
    for (body, page) in bodies.iter().zip(shown) {
        let told = sidecar.ask(&Call::chat(body).at("/acme/v1/chat/completions"));
        assert_eq!(page["refused"]["status"], told.status, "{body}");
        assert_eq!(page["refused"]["body"], told.json(), "{body}");
    }
}

#[test]
fn broken_json_is_named_by_line_and_column() {
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""))
        .file("ask.json", "{\n  \"model\": \"ü\",,\n}\n");
    let config = setup.write();
    let args = ["explain", "acme", "--request", "ask.json", "--config", &config.to_string_lossy()];
    let ended = setup.run(&args);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stdout.contains("at ask.json:2:16\n") && ended.stdout.contains("invalid_body"),
        "{}",
        ended.output()
    );
    let page: Value = serde_json::from_str(&setup.run(&[&args[..], &["--format", "json"]].concat()).stdout)
        .expect("it is JSON");
    assert_eq!(page["refused"]["at"], json!({"file": "ask.json", "line": 2, "column": 16}));
}

#[test]
fn a_request_may_leave_the_model_to_the_integration_and_name_another_path() {
    let lines = "models = [\"a\", \"b\"]\ndefault_model = \"b\"";
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", lines));
    let page = sheet(&setup, r#"{"messages": []}"#, &[]);
    assert_eq!((&page["model"]["name"], &page["model"]["asked"]), (&json!("b"), &Value::Null));
    let page = sheet(&setup, r#"{"model": "a", "input": "x"}"#, &["--path", "/v1/embeddings"]);
    assert_eq!(page["request"]["url"], "http://127.0.0.1:9/v1/embeddings");
    let query = sheet(&setup, r#"{"model": "a", "input": [1]}"#, &["--path", "/v1/responses?after=r%201"]);
    assert_eq!(query["request"]["url"], "http://127.0.0.1:9/v1/responses?after=r%201");
    assert_eq!((&query["model"], &query["request"]["body"]["input"]), (&Value::Null, &json!([1])));
    for path in ["/v1/", "/v1/files/../x", "/v1/chat%2Fcompletions"] {
        assert_eq!(explain(&setup, "{}", &["--path", path]).code, 1, "{path}");
    }
    let anthropic = Setup::new(integration("acme", "http://127.0.0.1:9", "format = \"anthropic\""));
    let refused = explain(&anthropic, "no JSON", &["--path", "/v1/responses"]);
    assert!(refused.code == 1 && !refused.stdout.contains("at stdin"), "{}", refused.output());
}

#[test]
fn wrong_usage_and_a_configuration_that_cannot_serve_have_their_own_exit_codes() {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"";
    let tables = format!(
        "{}{}",
        integration("acme", "http://127.0.0.1:9/v1", key),
        integration("globex", "http://127.0.0.1:9/v1", "")
    );
    let setup = Setup::new(tables);
    let config = setup.write();
    let config = config.to_string_lossy();
    let near = setup.run(&["explain", "globes", "--request", "-", "--config", &config]);
    assert!(near.code == 2 && near.stderr.contains("did you mean `globex`?"), "{}", near.output());
    assert_eq!(setup.run(&["explain", "globex", "--request", "no-such-file", "--config", &config]).code, 2);
    let failed = explain(&setup, BODY, &[]);
    assert_eq!(failed.code, 78, "{}", failed.output());
    assert!(
        failed.stdout.contains("api_key_value_file") && failed.stdout.contains("integration_unavailable"),
        "{}",
        failed.output()
    );
    assert_eq!(setup.run(&["explain", "acme", "--request", "-", "--config", "no-such.toml"]).code, 78);
}

#[test]
fn where_the_connection_goes_is_told() {
    let authority = Authority::new();
    let (certificate, key) = authority.client();
    let lines = "proxy = \"http://ann:pw-SENTINEL@proxy.example:3128\"\n\
                 tls = { ca_file = \"ca.pem\", client_cert_file = \"client.pem\", client_key_file = \"client.key\", server_name = \"ai.internal\", min_version = \"1.3\" }";
    let setup = Setup::new(integration("acme", "https://gateway.example/v1", lines))
        .file("ca.pem", &authority.pem())
        .file("client.pem", &certificate)
        .file("client.key", &key);
    let text = explain(&setup, BODY, &[]).stdout;
    for words in [
        "connects to  gateway.example:443 by TLS 1.3 or later as ai.internal",
        "proxy        http://proxy.example:3128, by CONNECT, with the credentials in its URL",
        "certificate  CN=rcgen self signed cert (",
        "client.pem",
    ] {
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
    let page = sheet(&setup, BODY, &[]);
    assert_eq!(page["connection"]["tls"]["server_name"], "ai.internal");
    assert_eq!(page["connection"]["proxy"]["how"], "connect");
    let plain = Setup::new(integration(
        "acme",
        "http://gateway.example/v1",
        "proxy = \"http://ann:pw-SENTINEL@proxy.example:3128\"",
    ));
    let page = sheet(&plain, BODY, &[]);
    assert_eq!(header(&page, "proxy-authorization").as_deref(), Some(STARS));
    assert_eq!(page["connection"]["proxy"]["how"], "forward");
    assert!(!format!("{text}{page}").contains("SENTINEL"));
}

/// What must never be seen, not even in part.
const SECRET: &str = "Zq7+s3NT1Nel/9xW";

/// Every place where a secret of an integration may stand, `@` being the secret.
const PLACES: [&str; 20] = [
    "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"@\"",
    "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer @\"",
    "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"secret\"",
    "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"${SECRET}\"\nheaders = { x-team = \"@\" }",
    "authentication_type = \"oauth2\"\ntoken = '{\"client_id\": \"me\", \"client_secret\": \"@\"}'",
    "authentication_type = \"oauth2\"\ntoken = '{\"client_id\": \"me\", \"client_secret\": \"${SECRET}\"}'\ndefaults = { top_k = \"@\" }",
    "authentication_type = \"oauth2\"\noauth2 = { client_id = \"me\", client_secret_file = \"secret\", client_auth = \"basic\" }",
    "authentication_type = \"oauth2\"\noauth2 = { client_id = \"me\", client_secret = \"x1\", extra_params = { password = \"@\" }, extra_headers = { x-k = \"@\" } }",
    "authentication_type = \"oauth2\"\noauth2 = { client_id = \"me\", client_secret = \"x1\", prefix = \"${SECRET} \" }",
    "authentication_type = \"aws_sigv4\"\naws = { region = \"r\", service = \"s\", access_key_id = \"@\", secret_access_key = \"@\", session_token = \"@\" }",
    "authentication_type = \"aws_sigv4\"\naws = { region = \"r\", service = \"s\", access_key_id = \"${SECRET}\", secret_access_key_file = \"secret\" }",
    "headers = { x-key = \"@\" }",
    "headers = { x-team = \"${SECRET}\", x-more = \"Bearer ${file:secret}\" }",
    "headers = { authorization = \"Basic @\" }",
    "query = { subscription-key = \"@\" }",
    "query = { tenant = \"${SECRET}\" }",
    "defaults = { top_k = \"${SECRET}\", metadata = { a = [\"${file:secret}\"] } }",
    "defaults = { top_k = \"${SECRET}\", seed = \"a ${file:secret} b\" }\nformat = \"anthropic\"",
    "proxy = \"http://me:@@proxy.example:3128\"",
    "proxy = \"${PROXY}\"\nheaders = { x-team = \"ml\" }",
];

#[test]
fn no_page_shows_a_secret_or_a_part_of_one() {
    let encoded = SECRET.replace('+', "%2B").replace('/', "%2F");
    let bodies = [
        BODY,
        r#"{"model":"m"}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"Zq7+s3NT1Nel/9xW"}]}"#,
        "{",
    ];
    for place in PLACES {
        let written = if place.starts_with("proxy") { encoded.as_str() } else { SECRET };
        let lines =
            place.replace("@@", &format!("{written}\u{0}")).replace('@', written).replace('\u{0}', "@");
        let setup = Setup::new(integration("acme", "http://gateway.example/v1", &lines))
            .file("secret", SECRET)
            .env("SECRET", SECRET)
            .env("PROXY", &format!("http://me:{encoded}@proxy.example:3128"));
        for body in bodies {
            for args in [&[][..], &["--exact"], &["--format", "json"]] {
                let ended = explain(&setup, body, args);
                assert!([0, 1].contains(&ended.code), "{place}: {}", ended.output());
                shows_nothing(place, &ended.output());
            }
        }
    }
}

/// Fails if any six characters of the secret, or of a form of it, are in `output`.
fn shows_nothing(place: &str, output: &str) {
    let mut forms = vec![SECRET.to_owned(), SECRET.replace('+', "%2B").replace('/', "%2F")];
    for before in ["", "m", "me:", "Bearer "] {
        let text = format!("{before}{SECRET}");
        forms.extend([BASE64_STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)]);
    }
    for form in forms {
        for part in form.as_bytes().windows(6) {
            let part = std::str::from_utf8(part).expect("the forms are ASCII");
            assert!(!output.contains(part), "{place}: `{part}` is shown:\n{output}");
        }
    }
}

#[test]
fn what_the_environment_sets_is_masked_and_what_a_file_says_is_not() {
    let lines = "headers = { x-team = \"blue\", x-region = \"${REGION}\" }\nquery = { version = \"7\" }";
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", lines))
        .env("REGION", "eu")
        .env("OUTRIDER_INTEGRATIONS__ACME__QUERY__ZONE", "z9");
    let page = sheet(&setup, BODY, &[]);
    assert_eq!(header(&page, "x-team").as_deref(), Some("blue"));
    assert_eq!(header(&page, "x-region").as_deref(), Some(STARS));
    assert_eq!(page["request"]["url"], "http://127.0.0.1:9/v1/chat/completions?version=7&zone=***");
}
