//! One signed request out, one response head back: destinations, their connections and what may fail on the way.
//!
//! The pool is our own, on `hyper::client::conn::http1`: connections are kept per seat (a socket belongs to the
//! runtime that opened it), age, tell exactly what failed, and are resent on only when hyper hands the request back
//! unwritten. The pooled client of hyper-util has none of these, and costs more CPU per request.

mod body;
mod connect;
mod error;
mod message;
mod pool;
#[cfg(test)]
mod testing;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::Uri;

pub use body::Body;
pub use error::SendError;

use crate::config::valid;
use crate::outbound::Signed;
use crate::tasks::{Seat, Tasks};
use crate::tls;
use connect::{Address, Destination};
use message::Outgoing;
use pool::{Keep, Line, Pool};

/// One destination with its pool, limits and TLS. Clones share all of it.
#[derive(Clone, Debug)]
pub struct Egress {
    pool: Arc<Pool>,
    limits: EgressLimits,
}

/// How long the steps of a request may take, and how long a connection is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// From the request having been handed to a connection until the response head, interim answers included.
    pub first_byte: Duration,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// The oldest that a connection is used again.
    pub max_connection_age: Duration,
}

/// Longer than any process lives, and short enough to be added to a clock.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl EgressLimits {
    fn within(self, most: Duration) -> Self {
        Self {
            connect: self.connect.min(most),
            first_byte: self.first_byte.min(most),
            pool_idle: self.pool_idle.min(most),
            max_connection_age: self.max_connection_age.min(most),
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub struct Sent {
    /// The head, and the body still to be read. A body dropped before its end closes its connection at once.
    pub response: http::Response<Body>,
    /// How long connecting took; `None` if a connection was used again.
    pub connected: Option<Duration>,
}

impl Egress {
    /// Sends `request` once and resolves with the response head; the body is still to be read.
    ///
    /// Of the request's URL only path and query count: where it goes is the destination's. `host`, `user-agent`
    /// (unless set) and framing are added here. A request goes to a second connection only if the first, a used one,
    /// turned out to be closed before a byte of it was written.
    ///
    /// # Errors
    ///
    /// Connecting and waiting for the head are bounded by the limits; an answer that makes no sense as HTTP/1.1
    /// (RFC 9112), and a 101 that nobody asked for, are errors too.
    pub async fn send(&self, seat: Seat, request: Signed) -> Result<Sent, SendError> {
        let to = self.pool.destination();
        let mut request = message::dress(request, to.host_field());
        loop {
            let (line, connected) = self.line(seat).await?;
            match self.exchange(line, connected.is_some(), seat, request).await {
                Ok(response) => return Ok(Sent { response, connected }),
                Err((_, Some(unsent))) if connected.is_none() => request = unsent,
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// An idle connection, or a new one and how long it took.
    async fn line(&self, seat: Seat) -> Result<(Line, Option<Duration>), SendError> {
        if let Some(line) = self.pool.reuse(seat).await {
            return Ok((line, None));
        }
        // Boxed: the handshake is large, rare, and not what every request should carry about.
        let (line, took) = Box::pin(self.pool.open(self.limits.connect)).await?;
        Ok((line, Some(took)))
    }

    /// One request and its head on `line`; gives the request back if no byte of it was written.
    async fn exchange(
        &self,
        mut line: Line,
        fresh: bool,
        seat: Seat,
        request: http::Request<Outgoing>,
    ) -> Result<http::Response<Body>, (SendError, Option<http::Request<Outgoing>>)> {
        let to = self.pool.destination();
        let response = match tokio::time::timeout(self.limits.first_byte, line.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(mut failure)) => {
                let unsent = failure.take_message();
                return Err((to.explain(&failure.into_error(), unsent.is_some(), fresh), unsent));
            }
            Err(_) => return Err((SendError::silent(to.shown(), self.limits.first_byte), None)),
        };
        line.heard();
        if let Err(why) = message::check(&response) {
            return Err((SendError::garbled(to.shown(), why), None));
        }
        Ok(response.map(|incoming| Body::new(incoming, line, &self.pool, seat)))
    }
}

/// All clients of the process. Two endpoints share connections only if scheme, authority, TLS, proxy and the limits
/// on keeping connections are the same; what is unchanged by a reload keeps its connections through it.
#[derive(Debug)]
pub struct Clients {
    seats: usize,
    tasks: Tasks,
    pools: Mutex<HashMap<Key, Weak<Pool>>>,
}

/// What must be equal for two endpoints to share connections: never the host alone, which would mix client
/// certificates.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    address: Address,
    tls: Option<tls::Material>,
    proxy: valid::Proxy,
    keep: Keep,
}

impl Clients {
    /// No clients yet, for `seats` worker threads; connections run as tasks of `tasks`.
    pub fn new(seats: usize, tasks: Tasks) -> Self {
        Self { seats, tasks, pools: Mutex::default() }
    }

    /// The egress for one endpoint, of which only scheme and authority count.
    ///
    /// Reads certificate files: it belongs to the building of an integration, not to a request. The system's
    /// authorities are read once, for the first https endpoint.
    ///
    /// # Errors
    ///
    /// What is wrong in the world, in words that name the file or key: a missing or broken CA file, a key that does
    /// not match its certificate, or something that this version cannot do.
    pub fn egress(
        &self,
        destination: &Uri,
        profile: &tls::Profile,
        proxy: &valid::Proxy,
        limits: &EgressLimits,
    ) -> Result<Egress, String> {
        if let valid::Proxy::Through { shown, .. } = proxy {
            return Err(format!("the proxy {shown} cannot be used: a proxy is not in this version"));
        }
        let address = Address::new(destination)?;
        let limits = limits.within(FOREVER);
        let key = Key {
            tls: if address.is_secure() { Some(tls::read(profile)?) } else { None },
            address,
            proxy: proxy.clone(),
            keep: Keep { idle: limits.pool_idle, age: limits.max_connection_age },
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| pool.strong_count() > 0);
        let known = pools.get(&key).and_then(Weak::upgrade);
        let pool = match known {
            Some(pool) => pool,
            None => {
                let destination = Destination::new(key.address.clone(), key.tls.as_ref())?;
                let pool = Pool::new(destination, key.keep, self.seats, self.tasks.clone());
                pools.insert(key, Arc::downgrade(&pool));
                pool
            }
        };
        Ok(Egress { pool, limits })
    }

    /// Closes idle connections, and busy ones as soon as their answer has been read: for a stop.
    pub fn close(&self) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in pools.values().filter_map(Weak::upgrade) {
            pool.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[tokio::test]
    async fn the_request_head_is_ours_and_its_body_comes_in_its_pieces() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let mut request = post(&["{\"model\":", "", "\"m\"}"]);
        for (name, value) in
            [("connection", "x"), ("transfer-encoding", "chunked"), ("content-length", "999")]
        {
            request.headers.insert(name, value.parse().unwrap());
        }
        let (sent, got) = tokio::join!(egress.send(SEAT, request), async {
            let mut peer = upstream.accept().await;
            peer.serve().await
        });
        let expected = format!(
            "POST /v1/x?a=1 HTTP/1.1\r\ncontent-type: application/json\r\nhost: 127.0.0.1:{}\r\n\
             user-agent: outrider/{}\r\ncontent-length: 13\r\n\r\n{{\"model\":\"m\"}}",
            upstream.port(),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(got, expected);
        assert_eq!(text(sent.unwrap()).await, "ok");
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_its_answer_was_read() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let (first, mut peer) = tokio::join!(egress.send(SEAT, post(&["1"])), async {
            let mut peer = upstream.accept().await;
            peer.serve().await;
            peer
        });
        let first = first.unwrap();
        assert!(first.connected.is_some());
        assert_eq!(text(first).await, "ok");
        let (second, got) = tokio::join!(egress.send(SEAT, post(&["2"])), peer.serve());
        let second = second.unwrap();
        assert_eq!((second.connected, got.ends_with("\r\n\r\n2")), (None, true));
        assert_eq!(text(second).await, "ok");
    }
}
