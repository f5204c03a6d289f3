//! The way through a proxy: CONNECT for what is encrypted (RFC 9110 §9.3.6), the absolute form for what is not.

use std::io;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::address::Address;
use super::clock::Clock;
use super::error::SendError;
use super::lookup::Lookup;
use super::message::USER_AGENT;
use super::preview::ProxyRoute;
use super::secure::Secure;
use super::wire::Stream;
use crate::config::valid::Entrance;
use crate::tls;

/// The longest answer to CONNECT, interim answers included, in bytes.
const MOST: usize = 16 << 10;

/// A proxy on the way to one destination.
#[derive(Debug)]
pub(super) struct Through {
    address: Address,
    lookup: Lookup,
    tls: Option<Secure>,
    shown: String,
    authorization: Option<HeaderValue>,
}

impl Through {
    /// `material` is `None` exactly where no TLS is spoken with the proxy.
    pub(super) fn new(
        entrance: Entrance,
        material: Option<&tls::Material>,
        lookup: Lookup,
    ) -> Result<Self, String> {
        let address = Address::new(&entrance.uri)?;
        let tls = material.map(|material| Secure::new(&address, material)).transpose()?;
        Ok(Self { address, lookup, tls, shown: entrance.shown, authorization: entrance.authorization })
    }

    /// What it does for us: it `forwards` requests, or leads through.
    pub(super) fn route(&self, forwards: bool) -> ProxyRoute {
        let has_credentials = self.authorization.is_some();
        ProxyRoute { url: self.shown.clone(), forwards, has_credentials }
    }

    /// Its URL, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Connects to the proxy, and has it connect to `to` if TLS is spoken there.
    pub(super) async fn enter(&self, to: &Address, clock: &Clock<'_>) -> Result<Stream, SendError> {
        let shown = &self.shown;
        let look = format!("looking up the name of the proxy {shown}");
        let addresses = clock.bound(look, self.address.resolve(&self.lookup)).await?;
        let addresses = addresses.map_err(|error| self.fails(error))?;
        let connect = format!("connecting to the proxy {shown}");
        let tcp = clock.bound(connect, self.address.reach(addresses)).await?;
        let tcp = tcp.map_err(|error| self.fails(error))?;
        let mut stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => {
                let step = format!("the TLS handshake with the proxy {shown}");
                let done = clock.bound(step, tls.shake_hands(tcp)).await?;
                Stream::Tls(done.map_err(|error| self.fails(error))?)
            }
        };
        if to.is_secure() {
            let step = format!("the answer of the proxy {shown} to CONNECT");
            clock.bound(step, self.tunnel(&mut stream, to)).await??;
        }
        Ok(stream)
    }

    /// Who we are to it.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// What its answer `status` means, when it was asked to lead to `to`.
    pub(super) fn refuses(&self, to: &str, status: StatusCode, fields: &HeaderMap) -> SendError {
        let shown = &self.shown;
        if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return SendError::Proxy(format!(
                "the proxy {shown} refused to connect to {to}: it answered {status}"
            ));
        }
        let schemes = schemes(fields);
        SendError::ProxyAuth(if !schemes.is_empty() && !schemes.iter().any(|it| it == "basic") {
            format!(
                "the proxy {shown} demands credentials (407) by {}, and this version can give only Basic",
                schemes.join(", ")
            )
        } else if self.authorization.is_some() {
            format!(
                "the proxy {shown} refused the credentials in its URL (407): correct user and password there, with \
                 special characters percent-encoded"
            )
        } else {
            format!(
                "the proxy {shown} demands credentials (407): put them into its URL, as http://USER:PASSWORD@HOST:PORT"
            )
        })
    }

    /// Has the proxy connect to `to`; from then on `stream` leads there.
    async fn tunnel(&self, stream: &mut Stream, to: &Address) -> Result<(), SendError> {
        let request = self.connect_request(to);
        let answered = ask(stream, &request).await;
        let (status, fields) =
            answered.map_err(|flaw| SendError::Proxy(format!("the proxy {} {flaw}", self.shown)))?;
        if status.is_success() { Ok(()) } else { Err(self.refuses(to.shown(), status, &fields)) }
    }

    fn connect_request(&self, to: &Address) -> Vec<u8> {
        let target = to.shown();
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
        let fields = [
            (header::USER_AGENT, Some(&USER_AGENT)),
            (header::PROXY_AUTHORIZATION, self.authorization.as_ref()),
        ];
        for (name, value) in fields {
            let Some(value) = value else { continue };
            request.extend_from_slice(name.as_str().as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    fn fails(&self, why: impl std::fmt::Display) -> SendError {
        SendError::Proxy(format!("the proxy {} cannot be used: {why}", self.shown))
    }
}

/// The ways to prove oneself that a 407 names, in small letters: the first word of each field.
fn schemes(fields: &HeaderMap) -> Vec<String> {
    let fields = fields.get_all(header::PROXY_AUTHENTICATE).iter();
    let texts = fields.filter_map(|field| field.to_str().ok());
    let words = texts.flat_map(|text| text.split(',')).filter_map(|part| part.split_whitespace().next());
    // The parameters of a scheme stand between commas too; they have a `=`.
    words.filter(|word| !word.contains('=')).map(str::to_ascii_lowercase).collect()
}

/// Why there is no answer to CONNECT.
#[derive(Debug, thiserror::Error)]
enum Flaw {
    #[error("broke the connection: {0}")]
    Io(#[from] io::Error),
    #[error("closed the connection before it answered CONNECT")]
    Closed,
    #[error("speaks TLS on this port: should its URL begin with https:// ?")]
    SpeaksTls,
    #[error("answered CONNECT with something that is not HTTP/1.1: is it an HTTP proxy?")]
    Foreign,
    #[error("answered CONNECT with a head of more than {} KiB", MOST >> 10)]
    TooLong,
    #[error("sent bytes that nobody asked for after its answer to CONNECT")]
    Chatter,
}

/// Sends the CONNECT `request` and reads the head of its answer; a success must end there.
async fn ask<S>(io: &mut S, request: &[u8]) -> Result<(StatusCode, HeaderMap), Flaw>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(request).await?;
    io.flush().await?;
    let mut read = Vec::new();
    let mut all = 0;
    loop {
        while let Some(end) = memmem::find(&read, b"\r\n\r\n") {
            let (status, fields) = head(&read[..end + 2]).ok_or(Flaw::Foreign)?;
            if !status.is_informational() {
                let is_over = !status.is_success() || read.len() == end + 4;
                return if is_over { Ok((status, fields)) } else { Err(Flaw::Chatter) };
            }
            read.drain(..end + 4);
        }
        if all >= MOST {
            return Err(Flaw::TooLong);
        }
        match (&mut *io).take((MOST - all) as u64).read_buf(&mut read).await? {
            0 => return Err(Flaw::Closed),
            some => all += some,
        }
        if read.starts_with(&[0x15, 0x03]) {
            return Err(Flaw::SpeaksTls);
        }
        if !read.iter().zip(b"HTTP/1.").all(|(a, b)| a == b) {
            return Err(Flaw::Foreign);
        }
    }
}

/// Status and fields of a response head; fields that make no sense are passed over.
fn head(bytes: &[u8]) -> Option<(StatusCode, HeaderMap)> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let (version, rest) = lines.next()?.split_once(' ')?;
    if version.len() != "HTTP/1.1".len() {
        return None;
    }
    let status = StatusCode::from_bytes(rest.split(' ').next()?.as_bytes()).ok()?;
    let mut fields = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), value.trim().parse()) {
            fields.append(name, value);
        }
    }
    Some((status, fields))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ALL_VERSIONS, ServerConfig};
    use tokio_rustls::TlsAcceptor;

    use super::super::testing::*;
    use super::super::{Clients, Egress, EgressLimits, Sent};
    use super::*;
    use crate::config::valid::Proxy;
    use crate::secret::Secret;
    use crate::tasks::Tasks;
    use crate::tls::Profile;
    use crate::tls::testing::{Authority, server};

    const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
    /// `me:s3cret`.
    const BASIC: &str = "Basic bWU6czNjcmV0";

    /// The proxy that `listener` plays, with `credentials` in its URL.
    fn proxy(scheme: &str, listener: &Upstream, credentials: &str) -> Proxy {
        let at = format!("127.0.0.1:{}", listener.port());
        let url = Secret::new(format!("{scheme}://{credentials}{at}"));
        Proxy::Through { url, shown: format!("{scheme}://{at}") }
    }

    fn egress(url: &str, profile: &Profile, proxy: &Proxy, limits: &EgressLimits) -> Egress {
        Clients::new(1, Tasks::new()).egress(&url.parse().unwrap(), profile, proxy, limits).unwrap()
    }

    /// An authority, and a server of `llm.example` under it.
    fn secured() -> (Authority, Arc<ServerConfig>) {
        let authority = Authority::new();
        let config = server(&authority.issue(&["llm.example"], |_| {}), ALL_VERSIONS, None);
        (authority, config)
    }

    /// What comes of a request for `url` if the proxy says `answer` to whatever it is asked, and what it was asked.
    async fn told(url: &str, credentials: &str, answer: &str) -> (Result<Box<Sent>, SendError>, String) {
        let listener = Upstream::bind().await;
        let way = proxy("http", &listener, credentials);
        let egress = egress(url, &Authority::new().trusted(), &way, &LIMITS);
        tokio::join!(soon(egress.send(SEAT, post(&["x"]))), async {
            let mut peer = listener.accept().await;
            let asked = peer.request().await;
            peer.say(answer).await;
            asked
        })
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_exactly_and_carries_tls_and_is_used_again() {
        for (credentials, field) in
            [("", String::new()), ("me:s3cret@", format!("proxy-authorization: {BASIC}\r\n"))]
        {
            let (authority, config) = secured();
            let listener = Upstream::bind().await;
            let way = proxy("http", &listener, credentials);
            let egress = egress("https://llm.example/base", &authority.trusted(), &way, &LIMITS);
            let serve = async {
                let mut peer = listener.accept().await;
                let asked = peer.request().await;
                // In pieces, and after an interim answer.
                peer.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200").await;
                settle().await;
                peer.say(" \r\ncontent-length: 5\r\n\r\n").await;
                let mut inner = Peer::new(TlsAcceptor::from(config).accept(peer.io).await.unwrap());
                (asked, inner.serve().await, inner)
            };
            let (sent, (asked, got, mut inner)) = tokio::join!(egress.send(SEAT, post(&["x"])), serve);
            assert_eq!(text(sent.unwrap()).await, "ok");
            let version = env!("CARGO_PKG_VERSION");
            assert_eq!(
                asked,
                format!(
                    "CONNECT llm.example:443 HTTP/1.1\r\nhost: llm.example:443\r\nuser-agent: outrider/{version}\r\n{field}\r\n"
                )
            );
            assert!(got.starts_with("POST /v1/x?a=1 HTTP/1.1\r\n"), "{got}");
            assert!(got.contains("\r\nhost: llm.example\r\n") && !got.contains("proxy"), "{got}");
            let (sent, _) = tokio::join!(egress.send(SEAT, post(&["y"])), inner.serve());
            assert_eq!(sent.unwrap().connected, None);
        }
    }

    #[tokio::test]
    async fn a_plain_endpoint_is_asked_for_in_absolute_form_over_one_kept_connection() {
        let listener = Upstream::bind().await;
        let way = proxy("http", &listener, "me:s3cret@");
        let egress = egress("http://llm.example:8080/base", &Profile::default(), &way, &LIMITS);
        let (sent, (mut peer, got)) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
            let mut peer = listener.accept().await;
            let got = peer.serve().await;
            (peer, got)
        });
        assert_eq!(text(sent.unwrap()).await, "ok");
        assert!(got.starts_with("POST http://llm.example:8080/v1/x?a=1 HTTP/1.1\r\n"), "{got}");
        assert!(got.contains("\r\nhost: llm.example:8080\r\n"), "{got}");
        assert!(got.contains(&format!("\r\nproxy-authorization: {BASIC}\r\n")), "{got}");
        let (sent, got) = tokio::join!(egress.send(SEAT, post(&["y"])), peer.serve());
        assert_eq!(sent.unwrap().connected, None);
        assert!(got.starts_with("POST http://llm.example:8080/"), "{got}");
    }

    #[tokio::test]
    async fn each_way_of_a_proxy_to_refuse_has_its_words_and_none_prints_the_password() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(17 << 10));
        let ntlm = "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM, Digest realm=\"a\", nonce=\"b\"\r\n\r\n";
        let basic = "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=\"x, y\"\r\n\r\n";
        let bare = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        for (credentials, answer, words) in [
            ("", bare, "demands credentials (407): put them into its URL"),
            ("", basic, "demands credentials (407): put them into its URL"),
            ("me:s3cret@", basic, "refused the credentials in its URL (407): correct"),
            ("me:s3cret@", ntlm, "by negotiate, ntlm, digest, and this version can give only Basic"),
            (
                "",
                "HTTP/1.1 403 Nope\r\n\r\nbody",
                "refused to connect to llm.example:443: it answered 403 Forbidden",
            ),
            ("", "HTTP/1.0 502 x\r\n\r\n", "it answered 502 Bad Gateway"),
            ("", "HTTP/1.1 302 x\r\nlocation: http://login/\r\n\r\n", "it answered 302 Found"),
            ("me:s3cret@", "", "closed the connection before it answered CONNECT"),
            ("me:s3cret@", "HTTP/1.1 2", "closed the connection before it answered CONNECT"),
            (
                "",
                "\u{15}\u{3}\u{1}\0\u{2}\u{2}F",
                "speaks TLS on this port: should its URL begin with https:// ?",
            ),
            ("", "SSH-2.0-OpenSSH_9.9\r\n", "is it an HTTP proxy?"),
            ("", "HTTP/1.1 abc\r\n\r\n", "is it an HTTP proxy?"),
            ("", long.as_str(), "a head of more than 16 KiB"),
            ("", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "bytes that nobody asked for"),
        ] {
            let (sent, asked) = told("https://llm.example", credentials, answer).await;
            let error = sent.unwrap_err();
            assert!(asked.starts_with("CONNECT "), "{asked}");
            let text = error.to_string();
            let (refused, unauthorized) =
                (matches!(error, SendError::Proxy(_)), matches!(error, SendError::ProxyAuth(_)));
            assert_eq!(
                (refused, unauthorized),
                (!answer.contains(" 407 "), answer.contains(" 407 ")),
                "{error:?}"
            );
            assert!(!error.reached_upstream(), "{error:?}");
            assert!(text.starts_with("the proxy http://127.0.0.1:") && text.contains(words), "{text}");
            assert!(!text.contains("s3cret") && !text.contains("me:") && !text.contains(BASIC), "{text}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_should_pass_a_request_on_is_told_apart_from_the_endpoint() {
        let refused = "HTTP/1.1 407 x\r\ncontent-length: 0\r\n\r\n";
        let (sent, _) = told("http://llm.example", "", refused).await;
        let error = sent.unwrap_err();
        assert!(
            matches!(&error, SendError::ProxyAuth(words) if words.contains("put them into its URL")),
            "{error:?}"
        );
        // Any other status may be the endpoint's own.
        let (sent, _) = told("http://llm.example", "", "HTTP/1.1 403 x\r\ncontent-length: 2\r\n\r\nno").await;
        assert_eq!(text(sent.unwrap()).await, "no");
        // And without a proxy a 407 is the endpoint's too.
        let upstream = Upstream::bind().await;
        let (sent, _peer) = upstream.answer(&upstream.egress(LIMITS), refused).await;
        assert_eq!(sent.unwrap().head.status, 407);
        let (sent, _) = told("http://llm.example", "me:s3cret@", "").await;
        let words = sent.unwrap_err().to_string();
        assert!(words.contains("llm.example:80 through the proxy http://127.0.0.1:"), "{words}");
        assert!(!words.contains("s3cret"), "{words}");
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_or_says_nothing_has_its_words() {
        let listener = Upstream::bind().await;
        let limits = EgressLimits { connect: SHORT, ..LIMITS };
        let way = proxy("http", &listener, "me:s3cret@");
        let slow = egress("https://llm.example", &Authority::new().trusted(), &way, &limits);
        let at = format!("http://127.0.0.1:{}", listener.port());
        let error = soon(slow.send(SEAT, post(&["x"]))).await.unwrap_err();
        let words = format!(
            "no connection to llm.example:443 through the proxy {at} within 50ms (connect): the answer of the proxy {at} to \
             CONNECT took too long"
        );
        assert_eq!(error, SendError::ConnectTimeout(words));
        let (_socket, port) = closed_port();
        let at = format!("http://127.0.0.1:{port}");
        let way = Proxy::Through { url: Secret::new(at.clone()), shown: at.clone() };
        for url in ["http://llm.example", "https://llm.example"] {
            let gone = egress(url, &Authority::new().trusted(), &way, &LIMITS);
            let error = soon(gone.send(SEAT, post(&["x"]))).await.unwrap_err();
            let begin = format!("the proxy {at} cannot be used: no connection to 127.0.0.1:");
            assert!(matches!(&error, SendError::Proxy(words) if words.starts_with(&begin)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn tls_is_spoken_with_a_proxy_that_wants_it_and_again_inside_of_it() {
        let (authority, config) = secured();
        let outer = server(&authority.issue(&["127.0.0.1"], |_| {}), ALL_VERSIONS, None);
        // What proves who we are is the endpoint's alone, and so is the name that it is asked for.
        let profile = Profile {
            server_name: Some("llm.example".into()),
            ..authority.trusted_with(&authority.issue_client())
        };
        let listener = Upstream::bind().await;
        let way = proxy("https", &listener, "me:s3cret@");
        let egress = egress("https://10.0.0.1", &profile, &way, &LIMITS);
        let (sent, asked) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
            let mut peer = listener.accept_tls(outer).await.unwrap();
            let asked = peer.request().await;
            peer.say(OPEN).await;
            Peer::new(TlsAcceptor::from(config).accept(peer.io).await.unwrap()).serve().await;
            asked
        });
        assert_eq!(text(sent.unwrap()).await, "ok");
        assert!(asked.starts_with("CONNECT 10.0.0.1:443 ") && asked.contains(BASIC), "{asked}");

        let stranger =
            server(&Authority::named("Stranger").issue(&["127.0.0.1"], |_| {}), ALL_VERSIONS, None);
        let (sent, _) = tokio::join!(egress.send(SEAT, post(&["x"])), listener.accept_tls(stranger));
        let error = sent.unwrap_err();
        assert!(
            matches!(&error, SendError::Proxy(words) if words.contains("an authority that is not in `ca_file`")),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn two_ways_to_one_host_never_share_a_connection() {
        let clients = Clients::new(1, Tasks::new());
        let upstream = Upstream::bind().await;
        let of = |proxy: &Proxy| {
            clients.egress(&upstream.url("http"), &Profile::default(), proxy, &LIMITS).unwrap()
        };
        let direct = of(&Proxy::Direct);
        upstream.warm(&direct).await;
        let listener = Upstream::bind().await;
        for credentials in ["", "me:s3cret@", "you:s3cret@"] {
            let through = of(&proxy("http", &listener, credentials));
            let (sent, _peer) = listener.answer(&through, OK).await;
            assert!(sent.unwrap().connected.is_some(), "a connection of another way was used");
        }
    }
}
