//! Scheme, host and port, and TCP to the first address that answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use rustix::io::Errno;
use tokio::net::TcpStream;

use super::error::SendError;
use super::lookup::Lookup;

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

    /// A name or an address, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Host and port, as they stand in a URL.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The `host` field: without the scheme's own port.
    pub(super) fn host_field(&self) -> &HeaderValue {
        &self.field
    }

    /// Its addresses, in the resolver's order; `lookup` is that of its name.
    pub(super) async fn resolve(&self, lookup: &Lookup) -> Result<Vec<SocketAddr>, SendError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        lookup.find(|| self.look_up()).await
    }

    /// Likewise, by a lookup of its own.
    pub(super) fn look_up(&self) -> impl Future<Output = Result<Vec<SocketAddr>, SendError>> + Send + use<> {
        let (host, port) = (self.host.clone(), self.port);
        async move {
            match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(found) => Ok(found.collect()),
                Err(error) => {
                    Err(SendError::Resolve(format!("the name {host} was not found: {}", words(&error))))
                }
            }
        }
    }

    /// The first connection that comes about. Addresses are tried in the resolver's order; the next one begins when
    /// the last has failed or is slow, and the slow one goes on.
    pub(super) async fn reach(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, SendError> {
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
        Err(SendError::Connect(format!("no connection to {}: {}", self.shown, words(&failed))))
    }
}

/// What the system says; what this process lacks itself is not to be taken for the peer's fault.
fn words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => {
            format!(
                "{error}: it is Outrider that is at its limit: raise that (ulimit -n), or lower server.max_connections"
            )
        }
        _ => error.to_string(),
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let upstream = Upstream::bind().await;
        let dead = Upstream::bind().await;
        let addresses = [dead.port(), upstream.port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        drop(dead);
        let address = Address::new(&upstream.url("http")).unwrap();
        let tcp = address.reach(addresses.to_vec()).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap().port(), upstream.port());
        assert!(tcp.nodelay().unwrap());
        let none = address.reach(vec![]).await.unwrap_err();
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
