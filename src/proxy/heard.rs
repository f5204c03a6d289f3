//! What is kept of an upstream's head where its answer turns out to be a failure: when it came, for the log, and the
//! headers that a client needs then most.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::failure::Failure;
use super::hide::Hidden;
use crate::egress::Sent;
use crate::integration::Entry;

/// The upstream's own request id, on its way to the client.
pub(super) const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// What upstreams call it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The upstream's own request id, if these headers of its have one. A copy: a part of the head would keep all of the
/// head's buffer while a stream lasts.
pub(super) fn id_in(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(REQUEST_ID).and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok())
}

/// When an upstream's head came, and what connecting took if that was needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) connected: Option<Duration>,
}

impl Heard {
    /// That of what was sent.
    pub(super) fn of(sent: &Sent) -> Self {
        Self { at: sent.heard, connected: sent.connected }
    }

    /// Counts the connection, if one was opened for it.
    pub(super) fn count(self, entry: &Entry) {
        if self.connected.is_some() {
            entry.metrics.connects.inc();
        }
    }
}

/// A failure that came after the upstream's head.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) failure: Failure,
    pub(super) heard: Heard,
    /// The upstream's own, which may be none of HTTP's.
    pub(super) status: StatusCode,
    /// The upstream's request id, and what it said of its rate limits.
    pub(super) headers: HeaderMap,
}

impl Failure {
    /// The same, with what is kept of the head of what was sent, in which nothing stands that is `hidden`.
    pub(super) fn after(self, sent: &Sent, hidden: &Hidden) -> Self {
        let mut headers = kept(&sent.head.headers);
        hidden.strip_headers(&mut headers);
        let (heard, status) = (Heard::of(sent), sent.head.status);
        Self::Answered(Box::new(Answered { failure: self, heard, status, headers }))
    }
}

fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        let name = match name.as_str() {
            "x-request-id" => UPSTREAM_REQUEST_ID,
            // OpenAI's `x-ratelimit-…`, and the like of others.
            limit if limit.contains("ratelimit") => name.clone(),
            _ => continue,
        };
        kept.append(name, value.clone());
    }
    kept
}
