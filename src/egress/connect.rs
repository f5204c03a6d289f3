//! From a destination to a connected stream: DNS, TCP to the first address that answers, TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::error::{SendError, cause};
use super::wire::Stream;
use crate::tls;

/// After this long without an answer the next address is tried too (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Scheme and authority of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    secure: bool,
    /// Host and port as they stand in a URL.
    shown: String,
    /// The same without the scheme's own port.
    field: HeaderValue,
}

/// Where requests go, and how.
#[derive(Debug)]
pub(super) struct Destination {
    address: Address,
    tls: Option<Secure>,
}

/// TLS towards one destination.
struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
    profile: tls::Profile,
}

impl Address {
    /// Of `uri` only scheme and authority count.
    pub(super) fn new(uri: &Uri) -> Result<Self, String> {
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("the endpoint's URL does not begin with http:// or https://".to_owned()),
        };
        let Some(authority) = uri.authority() else {
            return Err("the endpoint's URL names no host".to_owned());
        };
        let default = if secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default);
        let host = authority.host().to_ascii_lowercase();
        let shown = format!("{host}:{port}");
        let field = HeaderValue::from_str(if port == default { &host } else { &shown })
            .map_err(|_| format!("`{host}` cannot be a host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, secure, shown, field })
    }

    /// Whether TLS is spoken there.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }
}

impl Destination {
    /// `material` is `None` exactly where no TLS is spoken.
    pub(super) fn new(address: Address, material: Option<&tls::Material>) -> Result<Self, String> {
        let secure = |material: &tls::Material| -> Result<Secure, String> {
            let name = material.server_name(&address.host)?;
            let connector = TlsConnector::from(material.client()?);
            Ok(Secure { connector, name, profile: material.profile().clone() })
        };
        let tls = material.map(secure).transpose()?;
        Ok(Self { address, tls })
    }

    /// Host and port, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.address.shown
    }

    /// The `host` field: without the scheme's own port.
    pub(super) fn host_field(&self) -> &HeaderValue {
        &self.address.field
    }

    /// What a failure of hyper's means here; `unsent`: no byte of the request was written. On a `fresh` connection it
    /// may be the end of the TLS handshake.
    pub(super) fn explain(&self, error: &hyper::Error, unsent: bool, fresh: bool) -> SendError {
        if let (Some(secure), Some(io), true) = (&self.tls, cause::<io::Error>(error), fresh)
            && let Some(refusal) = rustls_error(io).filter(|error| tls::is_refusal(error))
        {
            return SendError::Tls(tls::explain(refusal, &self.address.host, &secure.profile));
        }
        SendError::from_hyper(self.shown(), error, unsent)
    }

    /// Connects; DNS, TCP and TLS together take at most `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Stream, SendError> {
        let clock = Clock { shown: self.shown(), limit, end: Instant::now() + limit };
        let addresses = clock.bound("looking up its name", self.resolve()).await??;
        let tcp = clock.bound("connecting", self.reach(addresses)).await??;
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(secure) => clock.bound("the TLS handshake", self.shake_hands(secure, tcp)).await?,
        }
    }

    async fn shake_hands(&self, secure: &Secure, tcp: TcpStream) -> Result<Stream, SendError> {
        match secure.connector.connect(secure.name.clone(), tcp).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(io) => Err(SendError::Tls(match rustls_error(&io) {
                Some(error) => tls::explain(error, &self.address.host, &secure.profile),
                None => format!(
                    "{} closed the connection during the TLS handshake ({io}): does it speak TLS on this port?",
                    self.shown()
                ),
            })),
        }
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, SendError> {
        if let Ok(address) = self.address.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.address.port)]);
        }
        match tokio::net::lookup_host((self.address.host.as_str(), self.address.port)).await {
            Ok(found) => Ok(found.collect()),
            Err(error) => {
                Err(SendError::Resolve(format!("the name {} was not found: {error}", self.address.host)))
            }
        }
    }

    /// The first connection that comes about. Addresses are tried in the resolver's order; the next one begins when
    /// the last has failed or is slow, and the slow one goes on.
    async fn reach(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, SendError> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        let mut addresses = addresses.into_iter();
        let mut attempts: FuturesUnordered<_> = addresses.next().map(dial).into_iter().collect();
        while !attempts.is_empty() {
            match tokio::time::timeout(NEXT_ADDRESS, attempts.next()).await {
                Ok(Some(Ok(tcp))) => return Ok(tcp),
                Ok(Some(Err(error))) => failed = error,
                Ok(None) | Err(_) => {}
            }
            attempts.extend(addresses.next().map(dial));
        }
        Err(SendError::Connect(format!("no connection to {}: {failed}", self.shown())))
    }
}

/// What rustls says inside `io`.
fn rustls_error(io: &io::Error) -> Option<&rustls::Error> {
    io.get_ref().and_then(|inner| inner.downcast_ref())
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure")
            .field("name", &self.name)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// The one limit over all steps of connecting.
struct Clock<'a> {
    shown: &'a str,
    limit: Duration,
    end: Instant,
}

impl Clock<'_> {
    async fn bound<T>(&self, step: &str, work: impl Future<Output = T>) -> Result<T, SendError> {
        tokio::time::timeout_at(self.end, work).await.map_err(|_| {
            let Self { shown, limit, .. } = self;
            SendError::ConnectTimeout(format!(
                "no connection to {shown} within {limit:?} (connect): {step} took too long"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ALL_VERSIONS, ServerConfig};
    use tokio::net::TcpSocket;

    use super::super::testing::*;
    use super::super::{Clients, Egress, EgressLimits};
    use super::*;
    use crate::config::valid::Proxy;
    use crate::tasks::Tasks;
    use crate::tls::testing::{Authority, server};
    use crate::tls::{Profile, Version};

    fn egress(url: &Uri, profile: &Profile, limits: &EgressLimits) -> Egress {
        Clients::new(1, Tasks::new()).egress(url, profile, &Proxy::Direct, limits).unwrap()
    }

    /// What comes of a request to a server of `config`.
    async fn refused(config: &Arc<ServerConfig>, profile: &Profile) -> SendError {
        let upstream = Upstream::bind().await;
        let egress = egress(&upstream.url("https"), profile, &LIMITS);
        let serve = async {
            if let Ok(mut peer) = upstream.accept_tls(Arc::clone(config)).await {
                peer.serve().await;
            }
            std::future::pending::<()>().await;
        };
        let error = tokio::select! { sent = soon(egress.send(SEAT, post(&["x"]))) => sent.unwrap_err(), () = serve => unreachable!() };
        assert!(!error.reached_upstream());
        error
    }

    #[tokio::test]
    async fn a_connection_over_tls_carries_requests_and_is_used_again() {
        let authority = Authority::new();
        let pair = authority.issue(&["127.0.0.1"], |_| {});
        for versions in [&[&TLS12], &[&TLS13]] {
            let upstream = Upstream::bind().await;
            let egress = egress(&upstream.url("https"), &authority.trusted(), &LIMITS);
            let (first, peer) = tokio::join!(egress.send(SEAT, post(&["1"])), async {
                let mut peer = upstream.accept_tls(server(&pair, versions, None)).await.unwrap();
                peer.serve().await;
                peer
            });
            assert_eq!(text(first.unwrap()).await, "ok");
            let mut peer = peer;
            assert_eq!(peer.io.get_ref().1.alpn_protocol(), None);
            let (second, got) = tokio::join!(egress.send(SEAT, post(&["2", "3"])), peer.serve());
            let second = second.unwrap();
            assert_eq!((second.connected, got.ends_with("\r\n\r\n23")), (None, true));
            drop(second);
            peer.closed().await;
        }
    }

    #[tokio::test]
    async fn each_flaw_of_a_server_certificate_has_its_words() {
        let authority = Authority::new();
        let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2021, 1, 31);
        let early = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(2090, 1, 31);
            params.not_after = date_time_ymd(2091, 1, 31);
        };
        let client_only = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        };
        let cases = [
            (
                Authority::named("Stranger").issue(&["127.0.0.1"], |_| {}),
                "not trusted: give its certificate as `ca_file`",
            ),
            (Authority::new().issue(&["127.0.0.1"], |_| {}), "trusted authority of the same name: give"),
            (
                authority.issue(&["a.example", "b.example"], |_| {}),
                "is not for `127.0.0.1` but for a.example, b.example: set `server_name`",
            ),
            (authority.issue(&["127.0.0.1"], expired), "expired on Sun, 31 Jan 2021 00:00:00 GMT"),
            (
                authority.issue(&["127.0.0.1"], early),
                "is valid only from Tue, 31 Jan 2090 00:00:00 GMT: is the clock right?",
            ),
            (authority.issue(&["127.0.0.1"], client_only), "is not for servers"),
        ];
        for (pair, words) in cases {
            let error = refused(&server(&pair, ALL_VERSIONS, None), &authority.trusted()).await;
            assert!(matches!(&error, SendError::Tls(text) if text.contains(words)), "{error:?}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_configured_server_name_is_asked_for_and_verified_instead_of_the_host() {
        let authority = Authority::new();
        let config = server(&authority.issue(&["llm.example"], |_| {}), ALL_VERSIONS, None);
        let upstream = Upstream::bind().await;
        let profile = Profile { server_name: Some("llm.example".to_owned()), ..authority.trusted() };
        let egress = egress(&upstream.url("https"), &profile, &LIMITS);
        let (sent, (got, asked)) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
            let mut peer = upstream.accept_tls(config).await.unwrap();
            (peer.serve().await, peer.io.get_ref().1.server_name().map(str::to_owned))
        });
        assert_eq!(text(sent.unwrap()).await, "ok");
        assert_eq!(asked.as_deref(), Some("llm.example"));
        assert!(got.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", upstream.port())), "{got}");
    }

    #[tokio::test]
    async fn a_client_certificate_is_presented_and_one_profile_never_uses_anothers_connection() {
        let authority = Authority::new();
        let config = server(&authority.issue(&["127.0.0.1"], |_| {}), ALL_VERSIONS, Some(&authority));
        let upstream = Upstream::bind().await;
        let clients = Clients::new(1, Tasks::new());
        let mut presented = Vec::new();
        let mut open = Vec::new();
        for _ in 0..2 {
            // The same paths, other files.
            let profile = authority.trusted_with(&authority.issue_client());
            let egress = clients.egress(&upstream.url("https"), &profile, &Proxy::Direct, &LIMITS).unwrap();
            let (sent, peer) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
                let mut peer = upstream.accept_tls(Arc::clone(&config)).await.unwrap();
                peer.serve().await;
                peer
            });
            let sent = sent.unwrap();
            assert!(sent.connected.is_some());
            assert_eq!(text(sent).await, "ok");
            presented.push(peer.io.get_ref().1.peer_certificates().unwrap()[0].clone());
            open.push((egress, peer));
        }
        assert_ne!(presented[0], presented[1]);
    }

    #[tokio::test]
    async fn a_demanded_client_certificate_has_its_words_in_either_version_of_tls() {
        let authority = Authority::new();
        let pair = authority.issue(&["127.0.0.1"], |_| {});
        for versions in [&[&TLS12], &[&TLS13]] {
            let config = server(&pair, versions, Some(&authority));
            let error = refused(&config, &authority.trusted()).await;
            assert!(
                matches!(&error, SendError::Tls(words) if words.contains("`client_cert_file`")),
                "{error:?}"
            );
            let stranger = Authority::new().issue_client();
            let error = refused(&config, &authority.trusted_with(&stranger)).await;
            assert!(matches!(&error, SendError::Tls(words) if words.contains("client.pem")), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_server_of_too_low_a_version_has_its_words() {
        let authority = Authority::new();
        let config = server(&authority.issue(&["127.0.0.1"], |_| {}), &[&TLS12], None);
        let profile = Profile { min_version: Version::Tls13, ..authority.trusted() };
        let error = refused(&config, &profile).await;
        assert!(error.to_string().contains("does not speak TLS 1.3, the `min_version`"), "{error}");
    }

    #[tokio::test]
    async fn a_port_without_tls_or_that_closes_has_its_words() {
        for (answer, words) in
            [("HTTP/1.1 400 Bad Request\r\n\r\n", "http:// ?"), ("", "closed the connection during")]
        {
            let upstream = Upstream::bind().await;
            let egress = egress(&upstream.url("https"), &Authority::new().trusted(), &LIMITS);
            let (sent, ()) = tokio::join!(egress.send(SEAT, post(&["x"])), async {
                let mut peer = upstream.accept().await;
                peer.say(answer).await;
            });
            let error = sent.unwrap_err();
            assert!(matches!(&error, SendError::Tls(text) if text.contains(words)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn each_step_of_connecting_is_bounded_and_named() {
        let limits = EgressLimits { connect: SHORT, ..LIMITS };
        let mute = Upstream::bind().await;
        let tls = egress(&mute.url("https"), &Authority::new().trusted(), &limits);
        let error = tls.send(SEAT, post(&["x"])).await.unwrap_err();
        let words = format!(
            "no connection to 127.0.0.1:{} within 50ms (connect): the TLS handshake took too long",
            mute.port()
        );
        assert_eq!(error, SendError::ConnectTimeout(words));

        // A queue that is full: the kernel drops what else wants to connect.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(tcp) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
            held.push(tcp.unwrap());
        }
        let url = format!("http://{address}").parse().unwrap();
        let error = egress(&url, &Profile::default(), &limits).send(SEAT, post(&["x"])).await.unwrap_err();
        assert!(
            matches!(&error, SendError::ConnectTimeout(text) if text.ends_with("connecting took too long")),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_refused_connection_and_a_name_without_address_have_their_words() {
        let upstream = Upstream::bind().await;
        let (gone, port) = (upstream.url("http"), upstream.port());
        drop(upstream);
        let error = egress(&gone, &Profile::default(), &LIMITS).send(SEAT, post(&["x"])).await.unwrap_err();
        let words = format!("no connection to 127.0.0.1:{port}: Connection refused (os error 111)");
        assert_eq!(error, SendError::Connect(words));
        // A label of 64 letters is no DNS name: nobody is asked for it.
        let name = format!("http://{}.example", "a".repeat(64)).parse().unwrap();
        let error = egress(&name, &Profile::default(), &LIMITS).send(SEAT, post(&["x"])).await.unwrap_err();
        assert!(matches!(&error, SendError::Resolve(text) if text.contains("was not found")), "{error:?}");
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let upstream = Upstream::bind().await;
        let dead = Upstream::bind().await;
        let addresses = [dead.port(), upstream.port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        drop(dead);
        let destination = Destination::new(Address::new(&upstream.url("http")).unwrap(), None).unwrap();
        let tcp = destination.reach(addresses.to_vec()).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap().port(), upstream.port());
        assert!(tcp.nodelay().unwrap());
        let none = destination.reach(vec![]).await.unwrap_err();
        assert!(none.to_string().contains("its name has no address"), "{none}");
    }

    #[test]
    fn the_host_field_leaves_out_the_schemes_own_port() {
        for (url, field, shown) in [
            ("http://A.example:80/x", "a.example", "a.example:80"),
            ("https://a.example", "a.example", "a.example:443"),
            ("http://a.example:443", "a.example:443", "a.example:443"),
            ("http://[::1]:8080/", "[::1]:8080", "[::1]:8080"),
            ("https://[::1]/", "[::1]", "[::1]:443"),
        ] {
            let address = Address::new(&url.parse().unwrap()).unwrap();
            assert_eq!((address.field.to_str().unwrap(), address.shown.as_str()), (field, shown));
        }
        assert!(Address::new(&"ftp://a.example".parse().unwrap()).is_err());
        assert!(Address::new(&"/x".parse().unwrap()).is_err());
    }
}
