//! From a destination to a connected stream: a proxy or the straight way, DNS, TCP, TLS; or a Unix socket.

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, StatusCode};

use super::address::Address;
use super::clock::Clock;
use super::error::{LineError, SendError};
use super::lookup::Lookup;
use super::message::{self, Outgoing};
use super::preview::Route;
use super::secure::{Secure, rustls_error};
use super::socket::{self, Socket};
use super::through::Through;
use super::wire::Stream;
use crate::outbound::Unsigned;

/// Where requests go, and how.
#[derive(Debug)]
pub(super) struct Destination {
    place: Place,
    tls: Option<Secure>,
    through: Option<Through>,
    /// Host and port, and the proxy.
    shown: String,
    authority: Authority,
    /// A proxy passes requests on, rather than leads through.
    forwards: bool,
}

#[derive(Debug)]
enum Place {
    /// A server somewhere.
    Host(Address, Lookup),
    /// A process of our own, beside us.
    Socket(Socket),
}

/// What is known of a connection when a request fails on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// No byte of the request was written.
    pub(super) unsent: bool,
    /// It is the connection's first request.
    pub(super) fresh: bool,
    /// The other side may ask for another TLS handshake.
    pub(super) renegotiable: bool,
    /// What came begins like TLS.
    pub(super) spoke_tls: bool,
}

impl Destination {
    /// `tls` is `None` exactly where no TLS is spoken.
    pub(super) fn new(
        address: Address,
        tls: Option<Secure>,
        through: Option<Through>,
        lookup: Lookup,
    ) -> Result<Self, String> {
        let host = address.shown();
        let shown = match &through {
            None => host.to_owned(),
            Some(proxy) => format!("{host} through the proxy {}", proxy.shown()),
        };
        let authority = Authority::try_from(address.host_field().as_bytes());
        let authority = authority.map_err(|_| format!("`{host}` cannot be a host"))?;
        let forwards = tls.is_none() && through.is_some();
        Ok(Self { place: Place::Host(address, lookup), tls, through, shown, authority, forwards })
    }

    /// A process of our own, spoken to without TLS or proxy.
    pub(super) fn beside(socket: Socket) -> Self {
        Self {
            place: Place::Socket(socket),
            tls: None,
            through: None,
            shown: socket::SHOWN.to_owned(),
            authority: Authority::from_static("handler"),
            forwards: false,
        }
    }

    /// Host, port and proxy, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Where it leads, and how.
    pub(super) fn route(&self) -> Route {
        Route {
            to: self.place.shown().to_owned(),
            tls: self.tls.as_ref().map(Secure::route),
            proxy: self.through.as_ref().map(|proxy| proxy.route(self.forwards)),
        }
    }

    /// The `host` field: without the scheme's own port.
    pub(super) fn host_field(&self) -> &HeaderValue {
        match &self.place {
            Place::Host(address, _) => address.host_field(),
            Place::Socket(_) => &socket::HOST,
        }
    }

    /// Who we are to a proxy that passes requests on: what it passes them to may be shown it.
    pub(super) fn proxy_authorization(&self) -> Option<&HeaderValue> {
        self.through.as_ref().filter(|_| self.forwards)?.authorization()
    }

    /// The head of `request` as it goes on a connection of HTTP/1.1.
    pub(super) fn head(&self, request: &Unsigned) -> Vec<u8> {
        let proxy = self.through.as_ref().filter(|_| self.forwards);
        let forward = proxy.map(|proxy| (&self.authority, proxy.authorization()));
        message::head(request, self.host_field(), forward)
    }

    /// `request` as it goes on a connection of HTTP/2.
    pub(super) fn compose(&self, request: &Unsigned) -> Request<Outgoing> {
        message::compose(request, &self.authority)
    }

    /// Whether HTTP/2 may be spoken.
    pub(super) fn may_share(&self) -> bool {
        self.tls.as_ref().is_some_and(Secure::offers_http2)
    }

    /// Where requests go straight and without TLS.
    pub(super) fn without_tls(&self) -> Option<&Address> {
        match &self.place {
            Place::Host(address, _) if self.tls.is_none() && self.through.is_none() => Some(address),
            Place::Host(..) | Place::Socket(_) => None,
        }
    }

    /// Whether an answer is not the destination's but a refusal of the proxy that should have passed the request on.
    /// Of other statuses nobody can tell whose they are.
    pub(super) fn refusal(&self, status: StatusCode, fields: &HeaderMap) -> Option<SendError> {
        let proxy = self.through.as_ref().filter(|_| self.forwards)?;
        let is_its = status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        is_its.then(|| proxy.refuses(self.place.shown(), status, fields))
    }

    /// What `error` means here.
    pub(super) fn explain(&self, error: &LineError, met: Moment) -> SendError {
        let failure = error.io().and_then(rustls_error);
        if let Some(words) = failure.and_then(|it| self.late(it, met.fresh, met.renegotiable)) {
            return SendError::Tls(words);
        }
        if met.spoke_tls {
            return self.speaks_tls();
        }
        match SendError::of(self.shown(), error, met.unsent) {
            SendError::Connect(words) if self.forwards => SendError::Proxy(words),
            other => other,
        }
    }

    /// What it means that a new connection ended before a request could be sent on it, because of `failure` of TLS.
    pub(super) fn explain_end(&self, failure: Option<&rustls::Error>) -> SendError {
        match failure.and_then(|it| self.late(it, true, false)) {
            Some(words) => SendError::Tls(words),
            None => {
                let shown = self.shown();
                SendError::Connect(format!("{shown} closed the connection before the request was sent"))
            }
        }
    }

    fn late(&self, failure: &rustls::Error, fresh: bool, renegotiable: bool) -> Option<String> {
        self.tls.as_ref()?.late_refusal(failure, fresh, renegotiable)
    }

    /// Connects; proxy, DNS, TCP and TLS together are over before `clock` is.
    pub(super) async fn connect(&self, clock: &Clock<'_>) -> Result<Stream, SendError> {
        let stream = match (&self.place, &self.through) {
            (Place::Socket(socket), _) => Stream::Unix(clock.bound("connecting", socket.reach()).await??),
            (Place::Host(address, _), Some(proxy)) => proxy.enter(address, clock).await?,
            (Place::Host(address, lookup), None) => {
                let addresses = clock.bound("looking up its name", address.resolve(lookup)).await??;
                Stream::Plain(clock.bound("connecting", address.reach(addresses)).await??)
            }
        };
        match &self.tls {
            None => Ok(stream),
            Some(tls) => clock.bound("the TLS handshake", secured(tls, stream)).await?,
        }
    }
}

impl Place {
    fn shown(&self) -> &str {
        match self {
            Self::Host(address, _) => address.shown(),
            Self::Socket(_) => socket::SHOWN,
        }
    }
}

/// `stream` with TLS on top.
async fn secured(tls: &Secure, stream: Stream) -> Result<Stream, SendError> {
    match stream {
        Stream::Plain(tcp) => tls.shake_hands(tcp).await.map(Stream::Tls),
        Stream::Tls(outer) => tls.shake_hands(outer).await.map(Stream::Nested),
        other @ (Stream::Nested(_) | Stream::Unix(_)) => Ok(other),
    }
    .map_err(SendError::Tls)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Uri;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ALL_VERSIONS, ServerConfig};
    use tokio::net::{TcpSocket, TcpStream};

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
        let authority_itself = |params: &mut CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        };
        let cases = [
            (
                Authority::named("Stranger").issue(&["127.0.0.1"], |_| {}),
                "ca.pem, and `ca_mode = \"replace\"` leaves the system's out: add its certificate there",
            ),
            (
                Authority::new().issue(&["127.0.0.1"], |_| {}),
                "of the same name: replace the authority's certificate in",
            ),
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
            (authority.issue(&["127.0.0.1"], authority_itself), "is that of an authority itself"),
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
    async fn a_port_with_tls_that_is_asked_without_has_its_words() {
        let authority = Authority::new();
        let config = server(&authority.issue(&["127.0.0.1"], |_| {}), ALL_VERSIONS, None);
        let upstream = Upstream::bind().await;
        let egress = egress(&upstream.url("http"), &Profile::default(), &LIMITS);
        let (sent, refused) = tokio::join!(egress.send(SEAT, post(&["x"])), upstream.accept_tls(config));
        assert!(refused.is_err());
        let error = sent.unwrap_err();
        let words = format!(
            "127.0.0.1:{} speaks TLS on this port: should the URL begin with https:// ?",
            upstream.port()
        );
        assert_eq!(error, SendError::Garbled(words));
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
        let (_socket, port) = closed_port();
        let gone = format!("http://127.0.0.1:{port}").parse().unwrap();
        let error = egress(&gone, &Profile::default(), &LIMITS).send(SEAT, post(&["x"])).await.unwrap_err();
        let words = format!("no connection to 127.0.0.1:{port}: Connection refused (os error 111)");
        assert_eq!(error, SendError::Connect(words));
        // A label of 64 letters is no DNS name: nobody is asked for it.
        let name = format!("http://{}.example", "a".repeat(64)).parse().unwrap();
        let error = egress(&name, &Profile::default(), &LIMITS).send(SEAT, post(&["x"])).await.unwrap_err();
        assert!(matches!(&error, SendError::Resolve(text) if text.contains("was not found")), "{error:?}");
    }
}
