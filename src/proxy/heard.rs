//! What is kept of an upstream's head where its answer turns out to be a failure: when it came, for the log, and the
//! headers that a client needs then most.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::failure::Failure;
use crate::egress::Sent;
use crate::integration::Entry;

/// The upstream's own request id, on its way to the client.
pub(super) const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// What most upstreams call it, and we.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What others call it, those that are closer to the model first: Anthropic, AWS, and Azure's gateway before a model.
static OTHER_IDS: [HeaderName; 3] = [
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("apim-request-id"),
];

/// The upstream's own request id, if these headers of its have one.
pub(super) fn id_in(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(REQUEST_ID).or_else(|| other_id_in(headers))
}

/// Whether a field is the id by another name.
pub(super) fn is_other_id(name: &HeaderName) -> bool {
    OTHER_IDS.contains(name)
}

/// The same of headers that have no [`REQUEST_ID`].
pub(super) fn other_id_in(headers: &HeaderMap) -> Option<&HeaderValue> {
    OTHER_IDS.iter().find_map(|name| headers.get(name))
}

/// A copy of the upstream's own request id: a part of the head would keep all of the head's buffer while a stream lasts.
pub(super) fn id_apart(headers: &HeaderMap) -> Option<HeaderValue> {
    id_in(headers).and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok())
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
    /// The same, with what is kept of the head of what was sent.
    pub(super) fn after(self, sent: &Sent) -> Self {
        let headers = kept(&sent.head.headers);
        let (heard, status) = (Heard::of(sent), sent.head.status);
        Self::Answered(Box::new(Answered { failure: self, heard, status, headers }))
    }
}

fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    kept.extend(id_in(headers).map(|id| (UPSTREAM_REQUEST_ID, id.clone())));
    // OpenAI's `x-ratelimit-…`, and the like of others.
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().contains("ratelimit")) {
        kept.append(name, value.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstreams_id_is_the_first_of_its_names_that_it_sends() {
        let mut headers = HeaderMap::new();
        assert_eq!(id_in(&headers), None);
        for name in ["apim-request-id", "x-amzn-requestid", "request-id", "x-request-id"] {
            headers.insert(name, HeaderValue::from_static(name));
            assert_eq!(id_in(&headers).unwrap(), name);
            assert_eq!(kept(&headers)[UPSTREAM_REQUEST_ID], name);
        }
    }
}
