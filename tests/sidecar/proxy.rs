//! The way out through a corporate proxy: led through or passed on by it, refused by it, and never its password shown.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use crate::support::tls::Authority;
use crate::support::token_server::issue;
use crate::support::wire::deaf_port;
use crate::support::{Call, Setup, TokenServer, Upstream, Watched, integration};

const CA: &str = "tls = { ca_file = \"ca.pem\" }";
/// `ann:pw-SENTINEL`.
const BASIC: &str = "proxy-authorization: Basic YW5uOnB3LVNFTlRJTkVM\r\n";

/// What a proxy does once it has been asked to CONNECT.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// Leads to this address, whatever it was asked for: it alone knows the names of the network.
    Lead(SocketAddr),
    /// Answers this, and closes.
    Say(&'static str),
    /// Nothing.
    Hang,
}

/// A CONNECT proxy that keeps the heads of what it was asked.
pub(crate) struct Via {
    address: SocketAddr,
    asked: Arc<Watched<Vec<String>>>,
}

impl Via {
    pub(crate) fn start(doing: Doing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let asked = Arc::new(Watched::new(Vec::new()));
        let heard = Arc::clone(&asked);
        // It ends with the process: nobody waits for a listener of a test.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || serve(client, doing, &heard));
            }
        });
        Self { address, asked }
    }

    /// Its URL, with `credentials`.
    pub(crate) fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}{}", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.change(|asked| asked.clone())
    }
}

fn serve(mut client: TcpStream, doing: Doing, heard: &Watched<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !client.read(&mut byte).is_ok_and(|length| length == 1) {
            return;
        }
        head.push(byte[0]);
    }
    heard.change(|asked| asked.push(String::from_utf8_lossy(&head).into_owned()));
    match doing {
        Doing::Say(answer) => {
            let _ = client.write_all(answer.as_bytes());
        }
        Doing::Hang => {
            let _ = client.read(&mut byte);
        }
        Doing::Lead(to) => {
            let server = TcpStream::connect(to).expect("the provider listens");
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").expect("the client listens");
            let (from, into) = (clone(&server), clone(&client));
            std::thread::spawn(move || carry(from, into));
            carry(client, server);
        }
    }
}

fn clone(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a socket can be shared")
}

fn carry(mut from: TcpStream, mut into: TcpStream) {
    // Either side may leave first.
    let _ = io::copy(&mut from, &mut into);
    let _ = into.shutdown(Shutdown::Write);
}

/// A provider behind TLS that is `llm.corp.example`, a name that only the proxy knows.
fn hidden(authority: &Authority) -> Upstream {
    Upstream::start_tls(authority.server("llm.corp.example"), |turn| turn.complete("hello"))
}

/// The configuration of an integration for `endpoint` whose proxy is `proxy`.
fn through(proxy: &str, endpoint: &str, lines: &str) -> Setup {
    let tables = format!("[egress]\nproxy = \"{proxy}\"\n\n{}", integration("acme", endpoint, lines));
    Setup::new(tables)
}

#[test]
fn an_https_provider_is_reached_through_one_tunnel_whose_password_nobody_else_sees() {
    let authority = Authority::new();
    let upstream = hidden(&authority);
    let via = Via::start(Doing::Lead(upstream.address()));
    let setup = through(&via.url("ann:pw-SENTINEL@"), "https://llm.corp.example/v1", CA);
    let sidecar = setup.file("ca.pem", &authority.pem()).start();
    // One connection: each is served by one worker, which has upstream connections of its own.
    let mut connection = sidecar.connect();
    for _ in 0..3 {
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
    }
    let asked = via.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].starts_with("CONNECT llm.corp.example:443 HTTP/1.1\r\nhost: llm.corp.example:443\r\n"),
        "{asked:?}"
    );
    assert!(asked[0].contains(BASIC), "{asked:?}");
    for request in upstream.requests(3) {
        assert_eq!(request.target(), "/v1/chat/completions");
        assert_eq!(request.head.header("host"), Some("llm.corp.example"));
        assert_eq!(request.head.header("proxy-authorization"), None);
    }
    assert!(!sidecar.output().contains("SENTINEL"), "{}", sidecar.output());
}

#[test]
fn a_plain_provider_is_asked_for_by_its_whole_url() {
    let proxy = Upstream::saying("hello");
    let url = format!("http://ann:pw-SENTINEL@{}", proxy.address());
    let sidecar = through(&url, "http://llm.corp.example:8080/v1", "").start();
    // One connection: each is served by one worker, which has upstream connections of its own.
    let mut connection = sidecar.connect();
    for _ in 0..2 {
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
    }
    for request in proxy.requests(2) {
        assert_eq!(request.target(), "http://llm.corp.example:8080/v1/chat/completions");
        assert_eq!(request.head.header("host"), Some("llm.corp.example:8080"));
        assert_eq!(request.head.header("proxy-authorization"), Some("Basic YW5uOnB3LVNFTlRJTkVM"));
    }
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn our_credentials_for_a_proxy_that_passes_requests_on_come_back_in_no_refusal() {
    let proxy = Upstream::start(|turn| {
        let said = turn.request.head.header("proxy-authorization").expect("we say who we are");
        let body = format!(r#"{{"error":"denied","error_description":"you said {said}"}}"#);
        turn.answer_with(403, &[("content-type", "application/json")], &body);
    });
    let url = format!("http://ann:pw-SENTINEL@{}", proxy.address());
    let oauth = "authentication_type = \"oauth2\"\noauth2_token_url = \"http://idp.corp.example/token\"\n\
                 oauth2 = { client_id = \"cid\", client_secret = \"cs-0123456789\" }";
    for (lines, status) in [("", 403), (oauth, 502)] {
        let sidecar = through(&url, "http://llm.corp.example/v1", lines).start();
        for call in [Call::say("m", "hi"), Call::stream("m", "hi"), Call::get("/acme/v1/files")] {
            let answer = sidecar.ask(&call);
            assert_eq!(answer.status, status, "{}", answer.text());
            assert!(answer.text().contains("you said ***"), "{}", answer.text());
        }
        let shown = sidecar.output() + sidecar.admin("/integrations").text();
        assert!(!shown.contains("YW5uOnB3LVNFTlRJTkVM") && !shown.contains("SENTINEL"), "{shown}");
    }
}

#[test]
fn the_environment_names_the_proxy_and_what_is_spared_goes_straight() {
    let authority = Authority::new();
    let upstream = hidden(&authority);
    let straight = Upstream::saying("straight");
    let via = Via::start(Doing::Lead(upstream.address()));
    // Behind a firewall a resolver may give up only after a while.
    let unhurried = format!("limits = {{ connect = \"55s\" }}\n{CA}");
    let tables = integration("far", "https://llm.corp.example/v1", CA)
        + &integration("near", &straight.url("/v1"), "")
        + &integration(
            "own",
            "https://llm.corp.example.invalid/v1",
            &format!("proxy = \"none\"\n{unhurried}"),
        )
        + &integration("spared", "https://gw.svc.invalid/v1", &unhurried);
    let sidecar = Setup::new(tables)
        .file("ca.pem", &authority.pem())
        .env("HTTPS_PROXY", &via.url(""))
        .env("HTTP_PROXY", &via.url(""))
        .env("NO_PROXY", ".svc.invalid")
        .start();
    assert_eq!(sidecar.ask(&Call::say("far/m", "hi")).content(), "hello");
    assert_eq!(sidecar.ask(&Call::say("near/m", "hi")).content(), "straight");
    for name in ["own", "spared"] {
        let message =
            sidecar.ask(&Call::say(&format!("{name}/m"), "hi")).refusal(502, "upstream_unreachable");
        assert!(message.contains("was not found"), "{message}");
    }
    assert_eq!(via.asked().len(), 1);
}

#[test]
fn a_proxy_that_refuses_or_makes_no_sense_says_so_itself() {
    let demand =
        "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"corp\"\r\n\r\n";
    for (credentials, answer, words) in [
        ("", demand, "demands credentials (407): put them into its URL"),
        ("ann:pw-SENTINEL@", demand, "refused the credentials in its URL (407)"),
        (
            "ann:pw-SENTINEL@",
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "refused to connect to llm.corp.example:443: it answered 403",
        ),
        ("ann:pw-SENTINEL@", "220 smtp.corp.example\r\n", "is it an HTTP proxy?"),
        ("ann:pw-SENTINEL@", "", "closed the connection before it answered CONNECT"),
    ] {
        let via = Via::start(Doing::Say(answer));
        let sidecar = through(&via.url(credentials), "https://llm.corp.example/v1", "").start();
        let told = sidecar.ask(&Call::say("m", "hi"));
        let message = told.refusal(502, "proxy_refused");
        let is_hopeless = told.header("x-should-retry") == Some("false");
        assert_eq!(is_hopeless, words.contains("407"), "{message}");
        let shown = format!("the proxy {}", via.url(""));
        assert!(message.contains("acme") && message.contains(&shown) && message.contains(words), "{message}");
        assert!(!message.contains("SENTINEL") && !sidecar.output().contains("SENTINEL"), "{message}");
    }
}

#[test]
fn a_proxy_that_is_not_there_or_hangs_is_named() {
    let hung = Via::start(Doing::Hang);
    let slow = "limits = { connect = \"500ms\" }";
    let sidecar = through(&hung.url(""), "https://llm.corp.example/v1", slow).start();
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(504, "upstream_timeout");
    assert!(
        message.contains(&format!("the answer of the proxy {} to CONNECT took too long", hung.url(""))),
        "{message}"
    );
    let (_socket, gone) = deaf_port();
    let gone = format!("http://{gone}");
    for endpoint in ["https://llm.corp.example/v1", "http://llm.corp.example/v1"] {
        let message =
            through(&gone, endpoint, "").start().ask(&Call::say("m", "hi")).refusal(502, "proxy_refused");
        assert!(message.contains(&format!("the proxy {gone} cannot be used: no connection to")), "{message}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_nothing_to_who_fetches_the_same_token_another_way() {
    let (_socket, gone) = deaf_port();
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         oauth2 = {{ client_id = \"cid\", client_secret = \"cs\" }}",
        server.url()
    );
    let dead = format!("proxy = \"http://{gone}\"\n{oauth}");
    let tables = integration("dead", &upstream.url("/v1"), &dead)
        + &integration("good", &upstream.url("/v1"), &oauth)
        + &integration("twin", &upstream.url("/v1"), &oauth);
    let sidecar = Setup::new(tables).start();
    let message = sidecar.ask(&Call::say("dead/m", "hi")).refusal(503, "token_unavailable");
    assert!(message.contains(&gone.to_string()), "{message}");
    for name in ["good", "twin"] {
        assert_eq!(sidecar.ask(&Call::say(&format!("{name}/m"), "hi")).content(), "hello");
    }
    assert_eq!(server.calls(), 1);
}

#[test]
fn tokens_are_fetched_through_the_proxy_too() {
    let proxy = Upstream::start(|turn| issue(turn, 1, 3600));
    let upstream = Upstream::saying("hello");
    let oauth = "authentication_type = \"oauth2\"\noauth2_token_url = \"http://idp.corp.example/token\"\n\
                 oauth2 = { client_id = \"cid\", client_secret = \"cs\" }";
    let sidecar = through(&format!("http://{}", proxy.address()), &upstream.url("/v1"), oauth).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(proxy.request().target(), "http://idp.corp.example/token");
    assert_eq!(upstream.request().head.header("authorization"), Some("Bearer token-1"));
}

#[test]
fn an_integrations_own_proxy_takes_even_what_no_proxy_and_loopback_spare() {
    let upstream = Upstream::saying("hello");
    for (own, asked) in [(true, 1), (false, 0)] {
        let via = Via::start(Doing::Say("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"));
        let proxy = format!("proxy = \"{}\"", via.url(""));
        let (common, own) = if own { ("", proxy.as_str()) } else { (proxy.as_str(), "") };
        let endpoint = integration("acme", &upstream.url("/v1"), own);
        let setup = Setup::new(format!("[egress]\nno_proxy = \"127.0.0.1\"\n{common}\n\n{endpoint}"));
        let answer = setup.start().ask(&Call::say("m", "hi"));
        assert_eq!(answer.status, if asked == 1 { 403 } else { 200 }, "{}", answer.text());
        assert_eq!(via.asked().len(), asked);
    }
}
