//! Connecting as a request would, without sending one: what was met at the other end, for those who look for what is
//! wrong.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::{Error, ProtocolVersion};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::Egress;
use super::address::Address;
use super::clock::Clock;
use super::connect::Destination;
use super::error::SendError;
use super::secure::rustls_error;
use super::wire::Stream;
use crate::tls::{self, Validity};

/// How long a server is given for the word that need not come: that it refuses our certificate, or speaks TLS where none
/// was expected.
const WORD: Duration = Duration::from_secs(1);

/// What was met where a connection came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// The address that the connection leads to: the proxy's, where there is one.
    pub address: Option<SocketAddr>,
    /// How long connecting took, the handshake included.
    pub took: Duration,
    /// What was agreed on, where TLS is spoken.
    pub tls: Option<MetTls>,
}

/// What a TLS handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetTls {
    /// Its version: `1.2` or `1.3`.
    pub version: &'static str,
    /// Whether HTTP/2 was agreed on.
    pub http2: bool,
    /// When the server's own certificate ends, in seconds since the epoch.
    pub certificate_ends: Option<u64>,
}

impl Egress {
    /// Connects as a request would (proxy, DNS, TCP, TLS), sends no request, and closes. The pool is neither used nor
    /// filled.
    ///
    /// A server that says within a second that it does not take our certificate is heard: with TLS 1.3 it judges that
    /// after the handshake. Where no TLS is spoken and no proxy is on the way, a second connection asks whether the port
    /// speaks TLS.
    ///
    /// # Errors
    ///
    /// Those of [`Egress::send`] up to the handshake, in the same words and within the same limit.
    pub async fn reach(&self) -> Result<Met, SendError> {
        let to = self.pool.destination();
        let clock = Clock::start(to.shown(), self.limits.connect);
        let begin = Instant::now();
        let mut stream = to.connect(&clock).await?;
        let met = Met {
            address: stream.tcp().and_then(|tcp| tcp.peer_addr().ok()),
            took: begin.elapsed(),
            tls: stream.session().map(agreed),
        };
        if stream.session().is_some_and(|it| it.protocol_version() == Some(ProtocolVersion::TLSv1_3)) {
            // One that is silent for so long has nothing against us.
            if let Ok(Err(end)) = timeout(WORD, word(&mut stream)).await {
                return Err(to.explain_end(rustls_error(&end)));
            }
        }
        match to.without_tls() {
            Some(address) if speaks_tls(address).await => Err(to.speaks_tls()),
            _ => Ok(met),
        }
    }
}

fn agreed(session: &ClientConnection) -> MetTls {
    let is_latest = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let own = session.peer_certificates().and_then(|chain| chain.first());
    MetTls {
        version: if is_latest { "1.3" } else { "1.2" },
        http2: session.alpn_protocol() == Some(b"h2"),
        certificate_ends: own.and_then(Validity::of).map(|validity| validity.not_after),
    }
}

/// Waits for a word of the server's: a ticket, which it gives to those whose side of the handshake it took, or any byte
/// of an answer. The error is the end of the connection.
async fn word(stream: &mut Stream) -> io::Result<()> {
    poll_fn(|cx| {
        let mut byte = [0];
        let mut into = ReadBuf::new(&mut byte);
        match Pin::new(&mut *stream).poll_read(cx, &mut into) {
            Poll::Ready(Ok(())) if into.filled().is_empty() => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Poll::Pending if stream.session().is_some_and(|it| it.tls13_tickets_received() > 0) => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    })
    .await
}

/// Whether what listens at `address` answers a TLS handshake with TLS. One that says nothing does not.
async fn speaks_tls(address: &Address) -> bool {
    let Ok(name) = ServerName::try_from(address.host().to_owned()) else { return false };
    let Ok(client) = tls::distrustful() else { return false };
    let shake_hands = async {
        let tcp = address.reach(address.look_up().await.ok()?).await.ok()?;
        Some(TlsConnector::from(client).connect(name, tcp).await)
    };
    match timeout(WORD, shake_hands).await {
        Err(_) | Ok(None) => false,
        Ok(Some(Ok(_))) => true,
        // What is no record of TLS is something else; any other complaint is about TLS that was spoken.
        Ok(Some(Err(io))) => rustls_error(&io).is_some_and(|why| !matches!(why, Error::InvalidMessage(_))),
    }
}

impl Destination {
    /// That a port speaks TLS which was asked without.
    pub(super) fn speaks_tls(&self) -> SendError {
        let shown = self.shown();
        SendError::Garbled(format!("{shown} speaks TLS on this port: should the URL begin with https:// ?"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::date_time_ymd;
    use rustls::ServerConfig;
    use rustls::version::{TLS12, TLS13};

    use super::super::testing::*;
    use super::super::{Clients, Egress};
    use super::*;
    use crate::config::valid::Proxy;
    use crate::tasks::Tasks;
    use crate::tls::Profile;
    use crate::tls::testing::{Authority, server};

    fn egress(upstream: &Upstream, scheme: &str, profile: &Profile) -> Egress {
        let clients = Clients::new(1, Tasks::new());
        clients.egress(&upstream.url(scheme), profile, &Proxy::Direct, &LIMITS).unwrap()
    }

    /// What is met at a server of `config`, which is held open until then.
    async fn met(config: Arc<ServerConfig>, profile: &Profile) -> Result<Met, SendError> {
        let upstream = Upstream::bind().await;
        let egress = egress(&upstream, "https", profile);
        let serve = async {
            // Whoever refuses a certificate says so and closes.
            if let Ok(_open) = upstream.accept_tls(config).await {
                std::future::pending::<()>().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { met = soon(egress.reach()) => met, () = serve => unreachable!() }
    }

    #[tokio::test]
    async fn what_was_agreed_on_is_told_in_either_version() {
        let authority = Authority::new();
        let pair = authority.issue(&["127.0.0.1"], |params| params.not_after = date_time_ymd(2040, 1, 1));
        for (versions, version) in [(&[&TLS12], "1.2"), (&[&TLS13], "1.3")] {
            let met = met(server(&pair, versions, None), &authority.trusted()).await.unwrap();
            let agreed = MetTls { version, http2: false, certificate_ends: Some(2_208_988_800) };
            assert_eq!((met.tls, met.address.is_some()), (Some(agreed), true));
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_judged_after_the_handshake_is_waited_for() {
        let authority = Authority::new();
        let pair = authority.issue(&["127.0.0.1"], |_| {});
        for versions in [&[&TLS12], &[&TLS13]] {
            let config = || server(&pair, versions, Some(&authority));
            let error = met(config(), &authority.trusted()).await.unwrap_err();
            assert!(
                matches!(&error, SendError::Tls(words) if words.contains("`client_cert_file`")),
                "{error:?}"
            );
            let stranger = Authority::new().issue_client();
            let error = met(config(), &authority.trusted_with(&stranger)).await.unwrap_err();
            assert!(matches!(&error, SendError::Tls(words) if words.contains("client.pem")), "{error:?}");
            met(config(), &authority.trusted_with(&authority.issue_client())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_with_tls_that_would_be_asked_without_is_found_out() {
        let authority = Authority::new();
        let config = server(&authority.issue(&["127.0.0.1"], |_| {}), rustls::ALL_VERSIONS, None);
        let upstream = Upstream::bind().await;
        let egress = egress(&upstream, "http", &Profile::default());
        let serve = async {
            let _first = upstream.accept().await;
            let refused = upstream.accept_tls(config).await;
            assert!(refused.is_err());
            std::future::pending::<()>().await;
        };
        let error =
            tokio::select! { met = soon(egress.reach()) => met.unwrap_err(), () = serve => unreachable!() };
        assert!(
            matches!(&error, SendError::Garbled(words) if words.contains("should the URL begin with https:// ?")),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_port_without_tls_is_met_as_it_is() {
        for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
            let upstream = Upstream::bind().await;
            let egress = egress(&upstream, "http", &Profile::default());
            let serve = async {
                let _first = upstream.accept().await;
                upstream.accept().await.say(answer).await;
                std::future::pending::<()>().await;
            };
            let met =
                tokio::select! { met = soon(egress.reach()) => met.unwrap(), () = serve => unreachable!() };
            assert_eq!((met.tls, met.address.map(|to| to.port())), (None, Some(upstream.port())));
        }
    }
}
