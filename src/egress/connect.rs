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
