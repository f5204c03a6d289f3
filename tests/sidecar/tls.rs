//! TLS towards the provider: verified always, and not a byte of the request before that.

use std::io::{Read, Write};
use std::net::TcpListener;

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
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let url = format!("https://{}/v1", listener.local_addr().expect("a bound socket has an address"));
    let sidecar = Setup::new(integration("acme", &url, "")).start();
    let mut connection = sidecar.connect();
    connection.send(&Call::say("m", "hi"));
    let (mut plain, _) = listener.accept().expect("the sidecar connects");
    let mut hello = [0; 64];
    assert!(plain.read(&mut hello).is_ok_and(|length| length > 0));
    plain.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").expect("the sidecar listens");
    connection.answer().refusal(502, "upstream_tls");
}

#[test]
fn a_client_certificate_opens_a_provider_that_demands_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let start = |lines: &str, (certificate, key): (String, String)| {
        let upstream =
            Upstream::start_tls(authority.strict_server("localhost"), |turn| turn.complete("hello"));
        let url = format!("https://localhost:{}/v1", upstream.address().port());
        let setup = Setup::new(integration("acme", &url, lines)).file("ca.pem", &authority.pem());
        let answer = setup.file("c.pem", &certificate).file("k.pem", &key).start().ask(&Call::say("m", "hi"));
        (upstream, answer)
    };
    let both = "tls = { ca_file = \"ca.pem\", client_cert_file = \"c.pem\", client_key_file = \"k.pem\" }";
    let (_upstream, answer) = start(both, authority.client());
    assert_eq!(answer.content(), "hello");
    for (lines, shown) in [(CA, authority.client()), (both, other.client())] {
        let (upstream, answer) = start(lines, shown);
        answer.refusal(502, "upstream_tls");
        assert_eq!(upstream.count(), 0);
    }
}

const MUTUAL: &str =
    "tls = { ca_file = \"ca.pem\", client_cert_file = \"client.pem\", client_key_file = \"client.key\" }";
/// A key of nobody, made for tests with OpenSSL, as it is and encrypted by the password `correct-horse`.
const KEY: [&str; 2] = [
    include_str!("../../src/tls/test_keys/ec-pkcs8.pem"),
    include_str!("../../src/tls/test_keys/ec-aes256-sha256.pem"),
];

/// A provider that demands client certificates of `authority`, and its base URL.
fn strict_provider(authority: &Authority) -> (Upstream, String) {
    let upstream = Upstream::start_tls(authority.strict_server("localhost"), |turn| turn.complete("hello"));
    let url = format!("https://localhost:{}/v1", upstream.address().port());
    (upstream, url)
}

#[test]
fn a_provider_that_demands_a_client_certificate_gets_it_whatever_form_its_key_has() {
    let authority = Authority::new();
    let encrypted = MUTUAL.replace(" }", ", client_key_password_file = \"password\" }");
    for (lines, key) in [(MUTUAL, KEY[0]), (encrypted.as_str(), KEY[1])] {
        let (upstream, url) = strict_provider(&authority);
        let sidecar = Setup::new(integration("acme", &url, lines))
            .file("ca.pem", &authority.pem())
            .file("client.pem", &authority.client_of(KEY[0], |_| {}))
            .file("client.key", key)
            .file("password", "correct-horse\n")
            .start();
        // One connection: each is served by one worker, which has upstream connections of its own.
        let mut connection = sidecar.connect();
        for _ in 0..2 {
            assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
        }
        assert_eq!((upstream.count(), upstream.connections()), (2, 1));
        assert!(!sidecar.output().contains("correct-horse"));
    }
}

#[test]
fn a_demanded_client_certificate_that_is_missing_or_strange_has_its_words() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = other.client();
    for (lines, words) in
        [(CA, "demands a client certificate: set `client_cert_file`"), (MUTUAL, "client.pem")]
    {
        let (upstream, url) = strict_provider(&authority);
        let sidecar = Setup::new(integration("acme", &url, lines))
            .file("ca.pem", &authority.pem())
            .file("client.pem", &certificate)
            .file("client.key", &key)
            .start();
        let message = sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_tls");
        assert!(message.contains(words), "{message}");
        assert_eq!(upstream.count(), 0);
    }
}

#[test]
fn an_expired_client_certificate_fails_its_integration_alone_and_names_the_day() {
    let authority = Authority::new();
    let (upstream, url) = strict_provider(&authority);
    let expired = authority.client_of(KEY[0], |params| params.not_after = rcgen::date_time_ymd(2021, 1, 31));
    let tables = integration("broken", &url, &MUTUAL.replace("client.pem", "expired.pem"))
        + &integration("acme", &url, MUTUAL);
    let sidecar = Setup::new(tables)
        .file("ca.pem", &authority.pem())
        .file("client.pem", &authority.client_of(KEY[0], |_| {}))
        .file("expired.pem", &expired)
        .file("client.key", KEY[0])
        .start();
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
    let message = sidecar.ask(&Call::say("broken/m", "hi")).refusal(503, "integration_unavailable");
    assert!(message.contains("expired.pem has a certificate that expired on Sun, 31 Jan 2021"), "{message}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_key_that_cannot_be_opened_names_the_file_with_the_password() {
    let authority = Authority::new();
    let lines = MUTUAL.replace(" }", ", client_key_password_file = \"password\" }");
    for (password, words) in [("battery-staple", "is it the right one?"), ("\n", "password is empty")] {
        let sidecar = Setup::new(integration("acme", "https://127.0.0.1:9/v1", &lines))
            .file("ca.pem", &authority.pem())
            .file("client.pem", &authority.client_of(KEY[0], |_| {}))
            .file("client.key", KEY[1])
            .file("password", password)
            .start();
        let message = sidecar.ask(&Call::say("m", "hi")).refusal(503, "integration_unavailable");
        assert!(message.contains(words) && message.contains("client_key_password_file"), "{message}");
        assert!(!sidecar.output().contains("battery-staple"));
    }
}

#[test]
fn a_provider_with_tls_that_is_asked_without_is_told_apart() {
    let authority = Authority::new();
    let (_upstream, url) = provider(&authority, "localhost");
    let sidecar = Setup::new(integration("acme", &url.replace("https://", "http://"), "")).start();
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_garbled");
    assert!(message.contains("speaks TLS on this port: should the URL begin with https:// ?"), "{message}");
}
