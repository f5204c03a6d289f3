//! `outrider try` where the code alone does not say whose fault a failure is: what stands before a token endpoint, a
//! token endpoint that answers, an answer that was cut.

use crate::proxy::{Doing, Via};
use crate::support::tls::Authority;
use crate::support::{Setup, TokenServer, Upstream, integration};

/// Runs `outrider try acme`, and fails unless it ends with `code`, blames `fault`, and advises `next`.
fn blames(setup: &Setup, code: i32, fault: &str, next: &str) {
    let config = setup.write();
    let ended = setup.run(&["try", "acme", "--config", &config.to_string_lossy()]);
    assert_eq!(ended.code, code, "{}", ended.output());
    for (label, words) in [("whose fault", fault), ("next", next)] {
        let line = ended.stdout.lines().find(|line| line.starts_with(label));
        assert!(line.is_some_and(|line| line.contains(words)), "no `{words}`: {}", ended.output());
    }
}

fn with_token_from(url: &str, lines: &str) -> Setup {
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{url}\"\n\
         oauth2 = {{ client_id = \"cid\", client_secret = \"cs\" }}\n{lines}"
    );
    Setup::new(integration("acme", "https://llm.corp.example/v1", &oauth))
}

#[test]
fn a_token_that_a_proxy_stands_before_is_the_proxys_fault() {
    for (answer, fault, next) in [
        ("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n", "the proxy's on the way", "its credentials"),
        ("HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n", "the proxy's on the way", "`no_proxy`"),
        ("HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n", "behind the proxy", "known where the proxy stands"),
    ] {
        let via = Via::start(Doing::Say(answer));
        let lines = format!("proxy = \"{}\"", via.url("ann:pw@"));
        blames(&with_token_from("https://idp.corp.example/token", &lines), 69, fault, next);
        assert_eq!(via.asked().len(), 1);
    }
}

#[test]
fn a_token_that_tls_stands_before_is_the_fault_of_its_settings_or_of_the_url() {
    let authority = Authority::new();
    let tokens = Upstream::start_tls(authority.server("127.0.0.1"), |turn| turn.answer(200, "{}"));
    let url = |scheme: &str| format!("{scheme}://{}/token", tokens.address());
    blames(&with_token_from(&url("https"), ""), 69, "the TLS settings'", "`ca_file`");
    blames(&with_token_from(&url("http"), ""), 69, "its scheme or its port", "https:// where TLS is spoken");
}

#[test]
fn a_token_endpoint_that_answers_without_a_token_is_not_sought_in_the_network() {
    for (status, body) in [(200, "<html>"), (200, "{}"), (404, ""), (302, ""), (503, "{}")] {
        let tokens = TokenServer::start(move |turn, _| turn.answer(status, body));
        blames(&with_token_from(&tokens.url(), ""), 69, "it was reached", "is `oauth2_token_url` right");
    }
}

#[test]
fn an_answer_that_ends_inside_its_json_was_cut() {
    for body in ["{\"id\":\"x\",\"choi", "{"] {
        let upstream = Upstream::start(move |turn| turn.answer(200, body));
        blames(&Setup::before(&upstream, ""), 1, "the answer was cut", "try again");
    }
}

#[test]
fn a_request_that_was_not_there_in_time_is_not_said_to_be_wrong() {
    let upstream = Upstream::start(|turn| turn.answer(408, "<html>Request Time-out</html>"));
    blames(&Setup::before(&upstream, ""), 1, "the network's, or the upstream's", "try again");
}

#[test]
fn a_status_that_http_does_not_know_is_told_beside_the_one_that_clients_get() {
    let upstream = Upstream::start(|turn| turn.answer(999, "{\"error\":{\"message\":\"denied\"}}"));
    let setup = Setup::before(&upstream, "");
    let config = setup.write();
    let ended = setup.run(&["try", "acme", "--config", &config.to_string_lossy()]);
    let status = ended.stdout.lines().find(|line| line.starts_with("status"));
    let wanted = "status         502, for the upstream's 999, which is no status of HTTP";
    assert_eq!((ended.code, status), (1, Some(wanted)), "{}", ended.output());
}
