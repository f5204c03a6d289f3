//! TLS towards the provider: verified always, and not a byte of the request before that.

use crate::support::tls::Authority;
use crate::support::{Call, Setup, Upstream, integration};

/// A provider behind TLS that is `name`, and its base URL under that name.
fn provider(authority: &Authority, name: &str) -> (Upstream, String) {
    let upstream = Upstream::start_tls(authority.server(name), |turn| turn.complete("hello"));
    let url = format!("https://localhost:{}/v1", upstream.address().port());
    (upstream, url)
}

const CA: &str = "tls = { ca_file = \"ca.pem\" }";

#[test]
fn a_provider_under_our_own_authority_is_reached() {
    let authority = Authority::new();
    for lines in [
        CA,
        "tls = { ca_file = \"ca.pem\", ca_mode = \"replace\" }",
        "tls = { ca_file = \"ca.pem\", min_version = \"1.3\" }",
    ] {
        let (upstream, url) = provider(&authority, "localhost");
        let sidecar = Setup::new(integration("acme", &url, lines)).file("ca.pem", &authority.pem()).start();
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello", "{lines}");
        assert_eq!(upstream.request().target(), "/v1/chat/completions");
    }
}

#[test]
fn a_corporate_authority_may_be_given_once_for_all() {
    let authority = Authority::new();
    let (_upstream, url) = provider(&authority, "localhost");
    let tables = format!("[egress]\nca_file = \"ca.pem\"\n{}", integration("acme", &url, ""));
    let sidecar = Setup::new(tables).file("ca.pem", &authority.pem()).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn a_provider_may_have_another_name_than_its_address() {
    let authority = Authority::new();
    let (_upstream, url) = provider(&authority, "gateway.corp.example");
    let lines = "tls = { ca_file = \"ca.pem\", server_name = \"gateway.corp.example\" }";
    let sidecar = Setup::new(integration("acme", &url, lines)).file("ca.pem", &authority.pem()).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn a_provider_that_cannot_prove_itself_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cases = [
        (&other, "localhost", CA),             // signed by somebody else
        (&authority, "elsewhere.example", CA), // somebody else's name
        (&authority, "localhost", ""),         // an authority that nobody named
    ];
    for (signer, name, lines) in cases {
        let (upstream, url) = provider(signer, name);
        let sidecar = Setup::new(integration("acme", &url, lines)).file("ca.pem", &authority.pem()).start();
        let message = sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_tls");
        assert!(message.contains("acme"), "{message}");
        assert_eq!(upstream.count(), 0, "a request reached a server that could not prove itself");
    }
}

#[test]
fn a_provider_without_tls_is_told_apart() {
    let upstream = Upstream::saying("hello");
    let url = format!("https://127.0.0.1:{}/v1", upstream.address().port());
    let sidecar = Setup::new(integration("acme", &url, "")).start();
    sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_tls");
}
