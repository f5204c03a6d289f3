//! From a destination to a connected stream: DNS, TCP to the first address that answers, TLS.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::error::SendError;
use super::wire::Stream;

/// After this long without an answer the next address is tried too (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where requests go.
#[derive(Debug)]
pub(super) struct Destination {
    host: String,
    port: u16,
    shown: String,
    field: HeaderValue,
}

impl Destination {
    /// Of `uri` only scheme and authority count.
    pub(super) fn new(uri: &Uri) -> Result<Self, String> {
        let Some(authority) = uri.authority() else { return Err(format!("`{}` names no host", uri.path())) };
        let default = match uri.scheme_str() {
            Some("http") => 80,
            _ => return Err(format!("{} needs TLS, which is not in this version", authority.host())),
        };
        let port = authority.port_u16().unwrap_or(default);
        let host = authority.host();
        let field = if port == default { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            shown: format!("{host}:{port}"),
            field: HeaderValue::from_str(&field).map_err(|_| format!("`{host}` cannot be a host"))?,
        })
    }

    /// Host and port, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Scheme, host and port.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.shown)
    }

    /// The `host` field: without the scheme's own port.
    pub(super) fn host_field(&self) -> &HeaderValue {
        &self.field
    }

    /// What a failure of hyper's means here.
    pub(super) fn explain(&self, error: &hyper::Error, unsent: bool) -> SendError {
        SendError::from_hyper(&self.shown, error, unsent)
    }

    /// Connects; DNS, TCP and TLS together take at most `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Stream, SendError> {
        let clock = Clock { shown: &self.shown, limit, end: Instant::now() + limit };
        let addresses = clock.bound("looking up its name", self.resolve()).await??;
        let tcp = clock.bound("connecting", self.reach(addresses)).await??;
        Ok(Stream::Plain(tcp))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, SendError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
            Ok(found) => Ok(found.collect()),
            Err(error) => Err(SendError::Resolve(format!("the name {} was not found: {error}", self.host))),
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
        Err(SendError::Connect(format!("no connection to {}: {failed}", self.shown)))
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
