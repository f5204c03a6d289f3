//! Scheme, host and port, and TCP to the first address that answers.

mod lookup;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use tokio::net::TcpStream;

use super::error::SendError;
use lookup::Lookup;

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
    lookup: Lookup,
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
        Ok(Self { host, port, secure, shown, field, lookup: Lookup::default() })
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

    /// Its addresses, in the resolver's order. The resolver is asked once for all who wait for it, clones included.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, SendError> {
        self.resolve_by(|host, port| Ok((host, port).to_socket_addrs()?.collect())).await
    }

    async fn resolve_by(
        &self,
        look: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Result<Vec<SocketAddr>, SendError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let (host, port) = (self.host.clone(), self.port);
        match self.lookup.ask(move || look(&host, port)).await {
            Ok(found) => Ok(found.to_vec()),
            Err(error) => Err(SendError::Resolve(format!("the name {} was not found: {error}", self.host))),
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
        Err(SendError::Connect(format!("no connection to {}: {failed}", self.shown)))
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

    #[tokio::test]
    async fn clones_share_one_lookup_of_a_name_and_an_address_needs_none() {
        let address = Address::new(&"http://a.example".parse().unwrap()).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let slow = address.resolve_by(move |host, port| {
            gate.recv().unwrap();
            assert_eq!((host, port), ("a.example", 80));
            Err(io::Error::other("nobody knows it"))
        });
        let clone = address.clone();
        let joined = clone.resolve_by(|_, _| panic!("it was asked twice"));
        let opened = async { open.send(()).unwrap() };
        let (slow, joined, ()) = tokio::join!(slow, joined, opened);
        let words = "the name a.example was not found: nobody knows it".to_owned();
        assert_eq!(slow, Err(SendError::Resolve(words)));
        assert_eq!(joined, slow);
        let plain = Address::new(&"http://127.0.0.1:7".parse().unwrap()).unwrap();
        let found = plain.resolve_by(|_, _| panic!("it was asked")).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 7))]);
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
