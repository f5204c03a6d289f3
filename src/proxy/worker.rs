//! A handler's worker as the one that answers: its lease, what it is told besides the request, what its refusals mean.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::exchange::Order;
use super::failure::Failure;
use super::visit;
use crate::config::valid::Handler;
use crate::egress::Route;
use crate::outbound::Unsigned;
use crate::workers::{Crew, HandlerFailure, Lease, Spec};

const DEADLINE: HeaderName = HeaderName::from_static("x-outrider-deadline-ms");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What a worker says of its own error.
const KIND: HeaderName = HeaderName::from_static("x-handler-error");

/// A place with one of the crew's workers; tells it with the request how long it has, and the request's id.
pub(super) async fn lease(
    (crew, spec): (&Crew, &Spec),
    order: &Order,
    on: &mut Unsigned,
) -> Result<Box<Lease>, Failure> {
    let lease = Box::new(crew.lease(spec).await?);
    tell_deadline(lease.request_timeout(), on);
    if let Ok(id) = HeaderValue::from_str(visit::request_id_in(&order.id)) {
        on.headers.insert(REQUEST_ID, id);
    }
    Ok(lease)
}

/// Tells a worker how long it has until its answer begins.
pub(super) fn tell_deadline(timeout: Duration, on: &mut Unsigned) {
    let deadline = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    on.headers.insert(DEADLINE, HeaderValue::from(deadline));
}

/// Where a handler's requests go, for people.
pub(super) fn route(handler: &Handler) -> Route {
    let to = format!("a worker of the handler {} in {}", handler.class_name, handler.file_name);
    Route { to, tls: None, proxy: None }
}

/// The worker fell silent for `idle` inside its answer.
pub(super) fn silent(idle: Duration) -> Failure {
    let words = format!("the handler was silent for {idle:?} inside its answer (limits.idle)");
    Failure::Handler(HandlerFailure::TimedOut(words))
}

/// The worker broke off inside its answer.
pub(super) async fn ended(lease: &Lease) -> Failure {
    let how = lease.ending().await;
    let words = how.unwrap_or_else(|| "the handler's process broke off inside its answer".to_owned());
    Failure::Handler(HandlerFailure::Crashed(words))
}

/// Our code for a worker's refusal with these headers.
pub(super) fn kind(headers: &HeaderMap) -> &'static str {
    match headers.get(KIND).map(HeaderValue::as_bytes) {
        Some(b"timeout") => "handler_timeout",
        Some(b"bad-return") => "handler_garbled",
        Some(b"load") => "handler_unavailable",
        Some(_) | None => "handler_error",
    }
}
