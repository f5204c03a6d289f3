//! What newcomers run into, and where the commands point them to: a proxy that answers in the upstream's place, a token
//! endpoint that nobody named, a listener that is the other one.

use std::net::TcpListener;

use serde_json::Value;

use crate::proxy::{Doing, Via};
use crate::support::tls::Authority;
use crate::support::{Ended, Setup, Upstream, integration};

const KEY: &str =
    "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"key-SENTINEL\"";

/// Runs `outrider COMMAND acme`.
fn run(setup: &Setup, command: &str) -> Ended {
    let config = setup.write();
    let ended = setup.run(&[command, "acme", "--config", &config.to_string_lossy()]);
    assert!(!ended.output().contains("SENTINEL"), "{}", ended.output());
    ended
}

/// Fails unless it ended with `code` and says all of `words`.
fn says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{}", ended.output());
    for word in words {
        assert!(ended.output().contains(word), "`{word}` is missing:\n{}", ended.output());
    }
}

#[test]
fn an_answer_that_may_be_the_forwarding_proxys_own_is_not_blamed_on_the_upstream_alone() {
    for (status, code, words) in [
        (403, 77, "the credentials', which the upstream does not take, or that of the proxy http://"),
        (502, 1, "which may not reach the host in `endpoint`"),
    ] {
        let proxy = Upstream::start(move |turn| turn.answer(status, "blocked"));
        let lines = format!("{KEY}\nproxy = \"http://{}\"", proxy.address());
        let ended = run(&Setup::new(integration("acme", "http://llm.corp.example/v1", &lines)), "try");
        says(&ended, code, &[words, &proxy.address().to_string(), "the host in `endpoint`"]);
        // Where it goes straight there is nobody else.
        let setup = Setup::new(integration("acme", &proxy.url("/v1"), KEY));
        assert!(!run(&setup, "try").output().contains("the proxy"));
    }
}

#[test]
fn a_proxy_that_cannot_reach_the_host_points_to_the_endpoint() {
    let via = Via::start(Doing::Say("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    let lines = format!("proxy = \"{}\"", via.url(""));
    let ended = run(&Setup::new(integration("acme", "https://llm.corp.example/v1", &lines)), "try");
    says(&ended, 69, &["a wrong host in `endpoint`: the proxy cannot reach it"]);
}

#[test]
fn a_proxy_that_does_not_answer_in_tls_is_not_taken_for_a_slow_model() {
    // Connections are taken by the system, and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = silent.local_addr().expect("a bound socket has an address");
    let limits = "limits = { connect = \"200ms\" }";
    let lines = format!("proxy = \"https://{address}\"\n{limits}");
    let ended = run(&Setup::new(integration("acme", "https://llm.corp.example/v1", &lines)), "try");
    says(&ended, 69, &["begin `proxy` with http:// if the proxy speaks no TLS itself"]);
    let ended = run(&Setup::new(integration("acme", &format!("https://{address}/v1"), limits)), "try");
    says(&ended, 69, &["nothing answered while connecting", "`outrider check --online --config"]);
    assert!(!ended.output().contains("model is only slow"), "{}", ended.output());
}

#[test]
fn without_a_token_url_it_is_said_first_that_the_endpoint_was_asked() {
    let lines =
        "authentication_type = \"oauth2\"\noauth2 = { client_id = \"c\", client_secret = \"s-SENTINEL\" }";
    for (status, code) in [(401, 77), (404, 69)] {
        let upstream = Upstream::start(move |turn| turn.answer(status, "{\"error\": \"no\"}"));
        let setup = Setup::new(integration("acme", &upstream.url("/v1"), lines));
        says(
            &run(&setup, "try"),
            code,
            &[
                "whose fault    the configuration's, most likely: no `oauth2_token_url` is set, so `endpoint` itself was asked",
                "next           set `oauth2_token_url`",
                "check oauth2_token_url",
            ],
        );
    }
}

#[test]
fn explain_needs_no_request() {
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", "default_model = \"plain\""));
    says(
        &run(&setup, "explain"),
        0,
        &["POST http://127.0.0.1:9/v1/chat/completions", "Say hello.", "`plain`"],
    );
    let config = setup.write().display().to_string();
    let args = ["explain", "acme", "--config", &config, "--path", "/v1/embeddings", "--format", "json"];
    let page: Value = serde_json::from_str(&setup.run(&args).stdout).expect("stdout is one JSON value");
    assert_eq!(page["request"]["body"]["input"], "hello", "{page}");
    let bare = Setup::new(
        "[integrations.acme]\nendpoint = \"http://127.0.0.1:9/v1\"\nauthentication_type = \"none\"\n\
                           custom_llm_config = { file_name = \"h.py\", class_name = \"H\" }\n",
    );
    says(&run(&bare, "explain"), 2, &["has no model: name a request with --request"]);
}

#[test]
fn a_reload_that_is_waited_for_shows_the_warnings_of_what_it_loaded() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").admin("listen = \"unix:admin.sock\"");
    let config = setup.write().display().to_string();
    let mut sidecar = setup.start();
    let url = upstream.url("/v1");
    sidecar.rewrite(integration("acme", &url, "") + &integration("beta", &url, ""));
    let ended = sidecar.run(&["reload", "--wait", "--config", &config]);
    says(&ended, 0, &["generation 2", "warning: 3 models are also in the integration `acme`", "1 warning"]);
}

#[test]
fn where_nobody_answers_at_admin_listen_its_old_address_is_thought_of() {
    let setup =
        Setup::new(integration("acme", "http://127.0.0.1:9/v1", "")).admin("listen = \"unix:none.sock\"");
    let config = setup.write().display().to_string();
    let ended = setup.run(&["reload", "--wait", "--config", &config]);
    says(&ended, 1, &["no process answers at admin.listen", "still answers at its old address", "SIGHUP"]);
}

#[test]
fn a_reload_where_the_admin_port_is_another_at_each_start_says_so() {
    let setup =
        Setup::new(integration("acme", "http://127.0.0.1:9/v1", "")).admin("listen = \"127.0.0.1:0\"");
    let config = setup.write().display().to_string();
    let ended = setup.run(&["reload", "--wait", "--config", &config]);
    says(&ended, 1, &["the port of admin.listen is 0", "SIGHUP"]);
    assert!(!ended.output().contains("no process answers"), "{}", ended.output());
}

#[test]
fn console_says_that_runners_need_a_client_certificate() {
    let authority = Authority::new();
    let server = authority.issue("127.0.0.1");
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""))
        .server("tls = { cert_file = \"c.pem\", key_file = \"k.pem\", client_ca_file = \"ca.pem\" }")
        .file("c.pem", &server.certificate)
        .file("k.pem", &server.key)
        .file("ca.pem", &authority.pem());
    says(&run(&setup, "console"), 0, &["server.tls.client_ca_file is set", "client certificate"]);
    let plain = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""));
    assert!(!run(&plain, "console").output().contains("client certificate"));
}

#[test]
fn a_configuration_in_a_commands_place_is_told_its_option() {
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""));
    says(&setup.run(&["config.toml"]), 2, &["outrider --config config.toml"]);
    assert!(!setup.run(&["chekc"]).output().contains("--config chekc"));
}
