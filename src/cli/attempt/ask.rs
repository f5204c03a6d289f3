//! The client of the one request: what a client of OpenAI sends, and what comes back as it arrives.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::alone::Alone;
use crate::auth::Authorizer;
use crate::config::valid::Proxy;
use crate::egress::{Body, Clients, Egress, EgressLimits};
use crate::outbound::{Segments, Unsigned};
use crate::tasks::{Seat, Tasks};
use crate::tls::Profile;

/// The integration's own limits end everything long before.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
const SEAT: Seat = Seat(0);

/// The answer to the request, of which the body is still to be read.
pub(super) struct Asked {
    pub(super) head: Parts,
    body: Body,
    /// Its connections are closed with it.
    _way: Egress,
}

/// The body of the request.
pub(super) fn body(model: &str, prompt: &str, stream: bool) -> Bytes {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": prompt}]});
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string().into()
}

impl Asked {
    /// Sends `body` to `alone` and waits for the head of its answer.
    pub(super) async fn of(alone: &Alone, integration: &str, body: Bytes) -> Result<Self, String> {
        let way = way(alone.to)?;
        let json = HeaderValue::from_static("application/json");
        let headers = [(AUTHORIZATION, alone.bearer.clone()), (CONTENT_TYPE, json.clone()), (ACCEPT, json)];
        let headers: HeaderMap = headers.into_iter().collect();
        let mut request = Unsigned::new(Method::POST, "", headers, Segments::one(body));
        let url = format!("/{integration}/v1/chat/completions").parse();
        request.uri = url.map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let signed = Authorizer::none().sign(SEAT, request).await.map_err(|error| error.to_string())?;
        let sent = way.send(SEAT, signed).await.map_err(|error| error.to_string())?;
        Ok(Self { head: sent.head, body: sent.body, _way: way })
    }

    /// The next bytes of the body; `None` at its end, also where it breaks off: what is missing then is seen.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }

    /// The whole body, or the first `most` bytes of it.
    pub(super) async fn whole(&mut self, most: usize) -> Bytes {
        let mut whole = BytesMut::new();
        while whole.len() < most
            && let Some(bytes) = self.next().await
        {
            whole.extend_from_slice(&bytes[..bytes.len().min(most - whole.len())]);
        }
        whole.freeze()
    }
}

fn way(to: SocketAddr) -> Result<Egress, String> {
    let limits =
        EgressLimits { connect: LIMIT, first_byte: LIMIT, pool_idle: LIMIT, max_connection_age: LIMIT };
    let url = format!("http://{to}").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    Clients::new(1, Tasks::new()).egress(&url, &Profile::default(), &Proxy::Direct, &limits)
}
