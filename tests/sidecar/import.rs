//! `outrider import`: what it prints serves like the JSON that it is made of, and no secret is in it.

use serde_json::{Value, json};

use crate::support::{Call, Setup, TokenServer, Upstream};

const BODY: &str =
    r#"{"model": "Nice Name", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "top_p": 1}"#;

/// An export of an integration behind an API key, with a secret in a header too.
fn export(endpoint: &str) -> Value {
    json!({
        "id": "0f0e", "provider": "custom", "created_at": "2026-01-01T00:00:00Z", "permissions": [],
        "authentication_type": "api_key", "endpoint": endpoint, "api_key_header": "Authorization",
        "api_key_value": "Bearer key-SENTINEL", "oauth2_token_url": null, "token": null,
        "headers": {"x-team": "red", "x-gateway-key": "header-SENTINEL"}, "custom_header_mapping": {"job_id": "X-Corp-Job"},
        "model_properties": [{"name": "real-model", "alias": "Nice Name", "supported_parameters": ["max_tokens"]}],
        "brand_new": 1
    })
}

#[test]
fn what_it_prints_is_explained_and_served_as_the_json_is() {
    let upstream = Upstream::saying("hello");
    let json = export(&upstream.url("/v1"));
    let setup = Setup::new("integrations_dir = \"d\"").file("d/acme.json", &json.to_string());
    let ended = setup.run(&["import", "d/acme.json"]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(!ended.output().contains("SENTINEL"), "{}", ended.output());
    let written = Setup::new(ended.stdout.as_str())
        .file("acme-api-key", "Bearer key-SENTINEL\n")
        .file("request.json", BODY)
        .env("ACME_HEADERS_X_GATEWAY_KEY", "header-SENTINEL");
    let of_json = setup.file("request.json", BODY);
    let (before, after) = (of_json.write(), written.write());
    for args in [&["explain", "acme", "--request", "request.json"][..], &["console", "acme"]] {
        let run = |setup: &Setup, config: &str| setup.run(&[args, &["--config", config]].concat());
        let (before, after) =
            (run(&of_json, &before.to_string_lossy()), run(&written, &after.to_string_lossy()));
        assert_eq!((before.code, after.code), (0, 0), "{}{}", before.output(), after.output());
        assert_eq!(before.stdout, after.stdout, "{args:?}");
    }
    let checked = written.run(&["check", "config.toml"]);
    assert!(checked.code == 0 && !checked.output().contains("warning"), "{}", checked.output());
    let sidecar = written.start();
    assert_eq!(sidecar.ask(&Call::chat(BODY)).content(), "hello");
    let request = upstream.request();
    let head = &request.head;
    assert_eq!(head.header("authorization"), Some("Bearer key-SENTINEL"));
    assert_eq!(head.header("x-gateway-key"), Some("header-SENTINEL"));
}

#[test]
fn stderr_says_where_each_secret_is_to_be_put_and_what_is_ignored() {
    let setup = Setup::new("").file("acme.json", &export("http://127.0.0.1:9/v1").to_string());
    let ended = setup.run(&["import", "acme.json"]);
    for words in [
        "acme.json: [integrations.acme]",
        "unknown key `brand_new`",
        "secret: `api_key_value`: put it into the file `acme-api-key` beside config.toml, `Bearer ` included\n",
        "secret: `headers.x-gateway-key`: put it into the environment variable `ACME_HEADERS_X_GATEWAY_KEY`\n",
        "ignored, for it has no effect here: `id`, `provider`, `created_at`, `permissions`\n",
    ] {
        assert!(ended.stderr.contains(words), "`{words}` is missing:\n{}", ended.stderr);
    }
    let table: toml::Table = ended.stdout.parse().expect("stdout is TOML alone");
    assert_eq!(table["integrations"]["acme"]["api_key_value_file"].as_str(), Some("acme-api-key"));
}

#[test]
fn a_token_of_galileos_fetches_tokens_from_toml_too() {
    let (upstream, tokens) = (Upstream::saying("hello"), TokenServer::issuing());
    let json = json!({
        "authentication_type": "oauth2", "endpoint": upstream.url("/v1"), "oauth2_token_url": tokens.url(), "authentication_scope": "inference",
        "token": "{\"client_id\": \"app\", \"client_secret\": \"s\\\"SENTINEL\"}", "models": ["Nice Name"]
    });
    let ended = Setup::new("").run_fed(&["import", "-", "--name", "from-stdin"], &json.to_string());
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(!ended.output().contains("SENTINEL"), "{}", ended.output());
    assert!(ended.stdout.starts_with("# From stdin.\n[integrations.from-stdin]\n"), "{}", ended.stdout);
    let sidecar = Setup::new(ended.stdout).file("from-stdin-client-secret", "s\"SENTINEL").start();
    assert_eq!(sidecar.ask(&Call::chat(BODY)).content(), "hello");
    let form: Vec<_> = form_urlencoded::parse(&tokens.requests(1)[0].body).into_owned().collect();
    for (key, value) in [("client_id", "app"), ("client_secret", "s\"SENTINEL"), ("scope", "inference")] {
        assert!(form.contains(&(key.to_owned(), value.to_owned())), "{form:?}");
    }
}

#[test]
fn wrong_json_is_exit_78_with_its_place_and_wrong_usage_exit_2() {
    let setup = Setup::new("")
        .file("bad.json", "{\"endpoint\": \"https://a.example/v1\",\n \"models\": \"m\",\n \"api_key_value\": \"k-SENTINEL\"}")
        .file("good.json", &export("http://127.0.0.1:9/v1").to_string());
    std::fs::write(setup.dir().join("binary.json"), b"{\n\"a\": \"\xff\"}")
        .expect("the folder can be written");
    for (args, code, words) in [
        (&["import", "good.json", "bad.json"][..], 78, "--> bad.json:2:2"),
        (&["import", "binary.json"], 78, "--> binary.json:2"),
        (&["import", "none.json"], 2, "cannot read none.json"),
        (&["import", "good.json", "good.json"], 2, "are both called `good`"),
        (&["import", "good.json", "--name", "no good"], 2, "letters, digits"),
        (&["import", "-"], 2, "--name"),
        (&["import"], 2, "FILE"),
    ] {
        let ended = if args.contains(&"-") {
            setup.run_fed(args, &export("http://127.0.0.1:9/v1").to_string())
        } else {
            setup.run(args)
        };
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{args:?}: {}", ended.output());
        assert!(
            ended.stderr.contains(words) && !ended.stderr.contains("SENTINEL"),
            "{args:?}: {}",
            ended.stderr
        );
    }
}
