//! Configuration: Galileo's own files, overlays, the environment, and every mistake at once.

use serde_json::json;

use crate::support::{Call, Setup, TokenServer, Upstream, integration};

#[test]
fn an_export_of_galileos_loads_as_it_is() {
    let upstream = Upstream::saying("hello");
    let export = json!({
        "id": "0f0e", "name": "acme", "provider": "custom", "extra": {"a": 1}, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "created_by": "ann", "is_selected": true, "permissions": [], "is_legacy_format": false,
        "authentication_type": "api_key", "endpoint": upstream.url("/v1"),
        "api_key_header": "x-portkey-api-key", "api_key_value": "KEY", "oauth2_token_url": null, "token": null,
        "authentication_scope": null, "headers": {"x-team": "a"}, "custom_header_mapping": null,
        "model_properties": [{"name": "provider-model-v2", "alias": "Provider Model v2", "supported_parameters": ["max_tokens"]}],
        "models": null, "default_model": "Provider Model v2", "custom_llm_config": null,
        "multi_modal_config": {"max_files": null, "max_file_size_bytes": null}
    });
    let sidecar = Setup::new("integrations_dir = \"integrations\"")
        .file("integrations/acme.json", &export.to_string())
        .start();
    assert_eq!(sidecar.ask(&Call::chat(r#"{"messages":[],"max_tokens":3,"top_p":1}"#)).content(), "hello");
    let request = upstream.request();
    assert_eq!(request.json(), json!({"messages": [], "max_tokens": 3, "model": "provider-model-v2"}));
    assert_eq!(request.head.header("x-portkey-api-key"), Some("KEY"));
    assert_eq!(request.head.header("x-team"), Some("a"));
    assert_eq!(sidecar.ask(&Call::say("Provider Model v2", "hi")).content(), "hello");
}

#[test]
fn a_table_overlays_the_file_of_its_name() {
    let upstream = Upstream::saying("hello");
    let export = json!({"authentication_type": "none", "endpoint": upstream.url("/wrong"), "models": ["a", "b"], "headers": {"x-a": "1"}});
    let tables = format!(
        "integrations_dir = \"defs\"\n[integrations.acme]\nendpoint = \"{}\"\nforward_headers = [\"x-b\"]\n",
        upstream.url("/v1")
    );
    let sidecar = Setup::new(tables).file("defs/acme.json", &export.to_string()).start();
    assert_eq!(sidecar.ask(&Call::say("b", "hi").header("x-b", "2")).content(), "hello");
    let request = upstream.request();
    assert_eq!(request.target(), "/v1/chat/completions");
    assert_eq!((request.head.header("x-a"), request.head.header("x-b")), (Some("1"), Some("2")));
}

#[test]
fn an_oauth2_export_with_its_escaped_token_loads_and_expands_variables() {
    let server = TokenServer::issuing();
    let upstream = Upstream::saying("hello");
    let export = json!({
        "authentication_type": "oauth2", "endpoint": upstream.url("/v1"), "oauth2_token_url": server.url(),
        "token": "{\"client_id\": \"enterprise_app\", \"client_secret\": \"${CLIENT_SECRET}\"}", "models": ["enterprise-llm-v2"]
    });
    let setup = Setup::new("integrations_dir = \"defs\"").file("defs/acme.json", &export.to_string());
    let sidecar = setup.env("CLIENT_SECRET", "a\"b\\c").start();
    assert_eq!(sidecar.ask(&Call::say("enterprise-llm-v2", "hi")).content(), "hello");
    let form: Vec<_> = form_urlencoded::parse(&server.requests(1)[0].body).into_owned().collect();
    assert!(form.contains(&("client_secret".to_owned(), "a\"b\\c".to_owned())), "{form:?}");
}

#[test]
fn the_environment_overrides_the_file_by_names_with_two_underscores_alone() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").server("listen = \"127.0.0.1:1\"");
    let sidecar = setup
        .env("OUTRIDER_SERVER__LISTEN", "127.0.0.1:0")
        .env("OUTRIDER_PORT", "tcp://10.0.0.1:4010")
        .env("OUTRIDER_SERVICE_HOST", "10.0.0.1")
        .start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn the_file_is_found_where_the_contract_says() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "");
    setup.write();
    let here = setup.run(&["check"]);
    assert_eq!(here.code, 0, "{}", here.output());
    let setup = setup.env("OUTRIDER_CONFIG", "/no/such/file.toml");
    let named = setup.run(&["check"]);
    assert_eq!(named.code, 78, "{}", named.output());
    assert!(named.output().contains("/no/such/file.toml"), "{}", named.output());
}

#[test]
fn a_start_with_mistakes_prints_all_of_them_and_no_secret() {
    let tables = "[integrations.acme]\nendpoit = \"http://127.0.0.1:9/v1\"\nmodels = [\"m\"]\nauthentication_type = \"api_key\"\n\
                  api_key_header = \"x-key\"\napi_key_value = \"key-SENTINEL\"\nlimits = { connect = \"5 parsecs\" }\n\
                  [integrations.beta]\nendpoint = \"${NO_SUCH_VARIABLE}\"\nmodels = \"m\"\nauthentication_type = \"none\"\n\
                  [log]\nlevel = \"loud\"\n";
    let setup = Setup::new(tables).server("max_body = \"many\"");
    let config = setup.write();
    let ended = setup.run(&["--config", &config.to_string_lossy()]);
    let output = ended.output();
    assert_eq!(ended.code, 78, "{output}");
    for words in
        ["config.toml:", "endpoit", "endpoint", "connect", "NO_SUCH_VARIABLE", "models", "loud", "max_body"]
    {
        assert!(output.contains(words), "the mistakes do not name `{words}`:\n{output}");
    }
    assert!(!output.contains("SENTINEL"), "{output}");
}

#[test]
fn a_syntax_error_names_the_file_and_the_line() {
    let setup = Setup::new("[integrations.acme]\nendpoint = \n");
    let config = setup.write();
    let ended = setup.run(&["serve", "--config", &config.to_string_lossy()]);
    assert_eq!(ended.code, 78, "{}", ended.output());
    assert!(ended.output().contains("config.toml:"), "{}", ended.output());
}

#[test]
fn every_key_of_the_contract_is_known() {
    let upstream = Upstream::saying("hello");
    let tables = format!(
        "[log]\nlevel = \"info\"\nformat = \"json\"\naccess = true\n\
         [egress]\nproxy = \"none\"\nno_proxy = \"127.0.0.1,.svc\"\nca_mode = \"add\"\n\
         [limits]\nconnect = \"5s\"\nfirst_byte = \"600s\"\nidle = \"120s\"\ntoken = \"5s\"\nmax_concurrent = 1024\nqueue_timeout = \"30s\"\n\
         pool_idle = \"30s\"\nmax_connection_age = \"5m\"\nmax_answer = \"32MiB\"\nmax_event = \"16MiB\"\n\
         [handlers]\nenabled = false\ndirectory = \"handlers\"\npython = \"python3\"\nworkers = 2\nstart_timeout = \"60s\"\nstart_wait = \"10s\"\n\
         request_timeout = \"600s\"\nmemory = \"1GiB\"\nmax_requests = 0\nmax_in_flight = 64\nsync_threads = 32\negress = false\n\
         call_style = \"auto\"\nenv = [\"CORP_REGION\"]\n{}",
        integration(
            "acme",
            &upstream.url("/v1"),
            "proxy = \"none\"\nlimits = { connect = \"2s\", first_byte = \"60s\" }\nstrict = false"
        )
    );
    let setup = Setup::new(tables)
        .server("start = \"degrade\"\nwatch = false\nworkers = 0\nheader_timeout = \"10s\"\nbody_timeout = \"30s\"\nidle_timeout = \"75s\"")
        .server("max_header_bytes = \"64KiB\"\nmax_body = 33554432\nmax_connections = 16384\nlinger = \"0s\"\ndrain_timeout = \"30s\"");
    assert_eq!(setup.start().ask(&Call::say("m", "hi")).content(), "hello");
}
