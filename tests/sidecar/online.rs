//! `outrider check --online`: each endpoint is reached as serving would reach it, through proxy and TLS, and what fails is
//! told in serving's words; one integration that is broken hides no other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;

use crate::proxy::{Doing, Via};
use crate::support::tls::Authority;
use crate::support::{Ended, Setup, TokenServer, Upstream, integration};

fn check(setup: &Setup) -> Ended {
    let config = setup.write();
    let ended = setup.run(&["check", &config.to_string_lossy(), "--online"]);
    assert!(!ended.output().contains("SENTINEL"), "{}", ended.output());
    ended
}

/// What is told of the place `what` of `acme`.
fn told<'a>(ended: &'a Ended, what: &str) -> &'a str {
    let begin = format!("{:24} {what} ", "acme");
    let line = ended.stdout.lines().find_map(|line| line.strip_prefix(&begin));
    assert!(line.is_some(), "nothing is told of the {what}:\n{}", ended.output());
    line.unwrap_or_default()
}

fn secure(authority: &Authority) -> Upstream {
    Upstream::start_tls(authority.server("127.0.0.1"), |turn| turn.complete("hello"))
}

fn endpoint(upstream: &Upstream, scheme: &str) -> String {
    format!("{scheme}://{}/v1", upstream.address())
}

#[test]
fn what_only_a_proxy_reaches_is_reached_through_it() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(authority.server("llm.corp.example"), |turn| turn.complete("hello"));
    let via = Via::start(Doing::Lead(upstream.address()));
    let lines = format!(
        "proxy = \"{}\"\ntls = {{ ca_file = \"ca.pem\" }}\nauthentication_type = \"oauth2\"\n\
         oauth2_token_url = \"https://llm.corp.example/token\"\noauth2 = {{ client_id = \"c\", client_secret = \"s-SENTINEL\" }}",
        via.url("ann:pw-SENTINEL@")
    );
    let setup = Setup::new(integration("acme", "https://llm.corp.example/v1", &lines))
        .file("ca.pem", &authority.pem());
    let ended = check(&setup);
    assert_eq!(ended.code, 0, "{}", ended.output());
    for what in ["endpoint", "token endpoint"] {
        let words = format!(
            "llm.corp.example:443: connected through the proxy {} by TLS 1.3; its certificate ends on ",
            via.url("")
        );
        assert!(told(&ended, what).starts_with(&words), "{}", ended.stdout);
    }
    assert_eq!((via.asked().len(), upstream.count()), (2, 0), "no request is sent");

    let refusing = Via::start(Doing::Say("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"));
    let proxy = format!("proxy = \"{}\"", refusing.url("ann:pw-SENTINEL@"));
    let ended = check(&Setup::new(integration("acme", "https://llm.corp.example/v1", &proxy)));
    assert_eq!(ended.code, 69, "{}", ended.output());
    assert!(told(&ended, "endpoint").contains("cannot be reached (proxy): the proxy"), "{}", ended.stdout);
    assert!(told(&ended, "endpoint").contains("refused the credentials in its URL (407)"));
}

#[test]
fn a_proxy_that_passes_requests_on_is_reached_and_what_is_behind_it_is_not_vouched_for() {
    let proxy = Upstream::saying("hello");
    let lines = format!("proxy = \"http://{}\"", proxy.address());
    let ended = check(&Setup::new(integration("acme", "http://llm.corp.example/v1", &lines)));
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(told(&ended, "endpoint").contains("which passes requests on"), "{}", ended.stdout);
}

#[test]
fn an_authority_that_is_unknown_or_another_is_exit_69_with_the_file_to_mend() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = secure(&authority);
    let setup = |lines: &str| {
        Setup::new(integration("acme", &endpoint(&upstream, "https"), lines))
            .file("ca.pem", &authority.pem())
            .file("other.pem", &other.pem())
    };
    let with = |lines: &str| {
        let ended = check(&setup(lines));
        assert_eq!(ended.code, 69, "{}", ended.output());
        told(&ended, "endpoint").to_owned()
    };
    assert!(with("").contains("cannot be reached (TLS): the certificate of 127.0.0.1 is signed by"));
    assert!(with("").contains("give its certificate as `ca_file`"));
    let words = with("tls = { ca_file = \"other.pem\" }");
    assert!(words.contains("other.pem") && !words.contains("as `ca_file`"), "{words}");
    let ended = check(&setup("tls = { ca_file = \"ca.pem\" }"));
    let words = format!("{0}: connected to {0} by TLS 1.3; its certificate ends on ", upstream.address());
    assert!(ended.code == 0 && told(&ended, "endpoint").starts_with(&words), "{}", ended.output());
}

#[test]
fn a_client_certificate_that_is_missing_or_refused_shows_before_any_request() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(authority.strict_server("127.0.0.1"), |turn| turn.complete("hello"));
    let (certificate, key) = authority.client();
    let (foreign, foreign_key) = Authority::new().client();
    let setup = |lines: &str| {
        Setup::new(integration(
            "acme",
            &endpoint(&upstream, "https"),
            &format!("tls = {{ ca_file = \"ca.pem\"{lines} }}"),
        ))
        .file("ca.pem", &authority.pem())
        .file("own.pem", &certificate)
        .file("own.key", &key)
        .file("foreign.pem", &foreign)
        .file("foreign.key", &foreign_key)
    };
    let ended = check(&setup(""));
    assert_eq!(ended.code, 69, "{}", ended.output());
    assert!(told(&ended, "endpoint").contains("demands a client certificate: set `client_cert_file`"));
    let ended = check(&setup(", client_cert_file = \"foreign.pem\", client_key_file = \"foreign.key\""));
    assert_eq!(ended.code, 69, "{}", ended.output());
    assert!(told(&ended, "endpoint").contains("foreign.pem"), "{}", ended.stdout);
    let ended = check(&setup(", client_cert_file = \"own.pem\", client_key_file = \"own.key\""));
    assert_eq!((ended.code, upstream.count()), (0, 0), "{}", ended.output());
}

/// A server of HTTP that says at once what it thinks of anything else.
fn blunt() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    // It ends with the process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut some = [0; 512];
            let _ =
                client.read(&mut some).and_then(|_| client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    address
}

#[test]
fn a_scheme_that_is_not_the_ports_is_pointed_out_either_way() {
    let encrypted = secure(&Authority::new());
    for (address, scheme, other) in [(encrypted.address(), "http", "https"), (blunt(), "https", "http")] {
        let ended = check(&Setup::new(integration("acme", &format!("{scheme}://{address}/v1"), "")));
        assert_eq!(ended.code, 69, "{}", ended.output());
        let words = told(&ended, "endpoint");
        assert!(
            words.contains("cannot be reached (TLS)") && words.contains(&format!("begin with {other}:// ?")),
            "{words}"
        );
    }
}

#[test]
fn an_integration_that_lacks_a_file_is_named_and_the_others_are_tried() {
    let (upstream, tokens) = (Upstream::saying("hello"), TokenServer::issuing());
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let gone = gone.expect("a loopback port is free");
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        tokens.url()
    );
    let tables = integration("acme", &upstream.url("/v1"), &oauth)
        + &integration(
            "broken",
            "https://127.0.0.1:9/v1",
            "tls = { ca_file = \"no-such-file\" }\nmodels = [\"b\"]",
        )
        + &integration("gone", &format!("http://{gone}/v1"), "models = [\"g\"]");
    let setup = Setup::new(tables);
    let ended = check(&setup);
    assert_eq!(ended.code, 78, "a mistake in the configuration weighs more:\n{}", ended.output());
    for what in ["endpoint", "token endpoint"] {
        assert!(told(&ended, what).contains(": connected to 127.0.0.1:"), "{}", ended.stdout);
    }
    let lines = [
        format!("{:24} not tried online: its errors above come first", "broken"),
        format!("{:24} endpoint {gone}: cannot be reached (connection): no connection to {gone}", "gone"),
    ];
    for line in lines {
        assert!(ended.stdout.contains(&line), "`{line}` is missing:\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("\nok\n"), "{}", ended.stdout);

    let config = setup.write();
    let json = setup.run(&["check", &config.to_string_lossy(), "--online", "--format", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("stdout is one JSON value");
    assert_eq!((&json["ok"], &json["unchecked"][0]), (&Value::Bool(false), &"broken".into()));
    let of =
        |name: &str| json["online"].as_array().into_iter().flatten().find(|one| one["integration"] == name);
    assert_eq!(of("gone").map(|one| &one["step"]), Some(&"connection".into()), "{json}");
    assert!(of("acme").is_some_and(|one| one["address"].is_string() && one["error"].is_null()), "{json}");
}

#[test]
fn a_file_with_mistakes_says_that_nothing_was_tried() {
    let ended =
        check(&Setup::new("[integrations.acme]\nendpoit = \"http://127.0.0.1:9/v1\"\nmodels = [\"m\"]\n"));
    assert_eq!(ended.code, 78, "{}", ended.output());
    assert!(
        ended.stdout.ends_with("nothing was tried online: the mistakes above come first\n"),
        "{}",
        ended.stdout
    );
}
