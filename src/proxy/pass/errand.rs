//! What a handler's own HTTP client asks of its provider through the handlers' door: sent on with the integration's right
//! to enter, certificate and way, and answered as the provider answers.
//!
//! It is a part of a call that was let in before: no caller's key is asked for, no slot is taken, and a drain refuses
//! nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request};
use hyper::body::Incoming;

use super::{path, send};
use crate::config::valid::Authorization;
use crate::hop::{connection_named, is_hop_by_hop};
use crate::integration::Integration;
use crate::outbound::{Segments, Unsigned};
use crate::proxy::House;
use crate::proxy::failure::Failure;
use crate::proxy::head::Fields;
use crate::proxy::heard::Heard;
use crate::proxy::intake;
use crate::proxy::reply::Outcome;
use crate::proxy::visit::Visit;
use crate::tasks::Seat;

/// Fields that we say ourselves, and what would be no business of the provider's. What comes back must be readable:
/// `identity` is asked for.
const OURS: [HeaderName; 5] = [HOST, CONTENT_LENGTH, EXPECT, PROXY_AUTHORIZATION, ACCEPT_ENCODING];

/// One request of a handler that has shown its key.
#[derive(Debug)]
pub(in crate::proxy) struct Errand {
    integration: Arc<str>,
    /// What stands behind the key, as it came: nothing, or a path that begins with `/`.
    tail: String,
}

impl Errand {
    /// That of `request`; `None` where its path begins with no key.
    pub(in crate::proxy) fn of<B>(request: &Request<B>, house: &House) -> Option<Self> {
        let path = request.uri().path().strip_prefix('/')?;
        let (key, tail) = path.split_at(path.find('/').unwrap_or(path.len()));
        let integration = house.door.as_ref()?.whose(key.as_bytes())?;
        Some(Self { integration, tail: tail.to_owned() })
    }

    /// The path that is asked for below the endpoint.
    pub(in crate::proxy) fn tail(&self) -> &str {
        &self.tail
    }

    /// Sends `request` on, and takes what comes back.
    pub(in crate::proxy) async fn run(
        self,
        request: Box<Request<Incoming>>,
        house: &Arc<House>,
        seat: Seat,
        visit: &mut Visit,
    ) -> Result<Outcome, Failure> {
        let registry = house.registry.load_full();
        let entry = registry.integration(&self.integration)?;
        visit.found(entry, Arc::default(), false);
        intake::check_head(&request, &Fields::of(&request), house.max_head)?;
        if request.method() == Method::TRACE {
            return Err(Failure::BadRequest("TRACE is not sent on: its answer would show what lets us in"));
        }
        path::check_below(&self.tail).map_err(Failure::BadRequest)?;
        let Ok(ready) = &entry.state else { return Err(Failure::unavailable(entry)) };
        let (head, body) = request.into_parts();
        let body = intake::body(body, house, visit).await?;
        let unsigned = dress(ready, &self.tail, &head, body)?;
        let upstream = send(entry, ready, seat, unsigned, None).await?;
        visit.answered(Heard::of(&upstream.sent));
        upstream.take_whole(&head.method, None, None).await
    }
}

/// The handler's request, whose head is `head`, as the provider gets it, whole but for its right to enter.
fn dress(integration: &Integration, tail: &str, head: &Parts, body: Bytes) -> Result<Box<Unsigned>, Failure> {
    let replaced = integration.settings().authorization != Authorization::None;
    let own = kept(&head.headers, replaced);
    let mut unsigned = Unsigned::new(head.method.clone(), "", own, Segments::one(body));
    match integration.dress_relay(&mut unsigned, tail, head.uri.query(), &head.headers)? {
        true => Ok(unsigned),
        false => Err(super::NO_URL),
    }
}

/// What of a handler's fields goes on. Where the integration has a right to enter (`replaced`), the handler's own is
/// none, or a stand-in that its SDK demands.
fn kept(headers: &HeaderMap, replaced: bool) -> HeaderMap {
    let mut kept = headers.clone();
    let alone = headers.keys().filter(|name| is_hop_by_hop(name));
    for name in OURS.iter().chain(replaced.then_some(&AUTHORIZATION)).chain(alone) {
        kept.remove(name);
    }
    for name in connection_named(headers) {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn names(given: &[(&'static str, &'static str)], replaced: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut names: Vec<_> =
            kept(&headers, replaced).keys().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_concerns_the_connection_alone_stays_and_all_else_goes_on() {
        let given = [
            ("host", "127.0.0.1:1"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip, br"),
            ("proxy-authorization", "Basic eA=="),
            ("content-type", "application/json"),
            ("cookie", "session=1"),
            ("user-agent", "httpx/0.28"),
            ("authorization", "Bearer stand-in"),
        ];
        let all = ["authorization", "content-type", "cookie", "user-agent"];
        assert_eq!(names(&given, false), all);
        assert_eq!(names(&given, true), all[1..]);
    }
}
