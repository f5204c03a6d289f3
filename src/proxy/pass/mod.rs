//! Other paths of an OpenAI-compatible provider: found by the integration in the path alone, sent on with their own
//! method, type and query, never scanned, and answered as the provider answers.
//!
//! Our own edits, limits on media and translations do not reach such a request. So a path that only spells one of the
//! paths served elsewhere in another way is refused, and so is one that would leave the endpoint.

mod errand;
mod path;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::exchange;
use super::failure::{Awaited, Failure, Refusal};
use super::head::essence;
use super::heard::Heard;
use super::hide::Hidden;
use super::intake;
use super::reply::Outcome;
use super::visit::Visit;
use super::whole;
use super::{House, Patience, within};
use crate::dialect::Context;
use crate::egress::Sent;
use crate::integration::{Entry, Integration, Permit, Registry};
use crate::openai::{Envelope, Operation};
use crate::outbound::{Report, Segments, Unsigned};
use crate::tasks::Seat;

pub(super) use errand::Errand;
pub(super) use path::twice;

/// The methods that are relayed.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The same in words.
const METHOD_WORDS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What is said of a path or query that makes no URL of the provider's.
const NO_URL: Failure =
    Failure::BadRequest("this path and query do not fit behind the integration's endpoint");

/// What of a client's headers belongs to the body that it sends or wants.
const KEPT: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, ACCEPT];

/// A provider's answer that is at hand as a whole.
#[derive(Debug)]
pub(super) struct Relayed {
    /// What the upstream sent, of whose body no more is wanted.
    pub(super) sent: Box<Sent>,
    pub(super) body: Bytes,
    /// How long the body would be that a HEAD does not bring.
    pub(super) length: Option<HeaderValue>,
}

/// Checks what can be known of the method.
pub(super) fn check_method(method: &Method) -> Result<(), Failure> {
    if METHODS.contains(method) { Ok(()) } else { Err(Failure::MethodNotAllowed(METHOD_WORDS)) }
}

/// Relays `request` to `integration`, at `rest` of its paths, which is what stands behind `/v1/`, for a client of
/// that `patience`.
pub(super) async fn relay(
    request: Box<Request<Incoming>>,
    (integration, rest, patience): (&str, &str, Option<Duration>),
    house: &Arc<House>,
    seat: Seat,
    visit: &mut Visit,
) -> Result<Outcome, Failure> {
    let registry = house.registry.load_full();
    let entered = enter(&registry, integration, visit).and_then(|(entry, ready)| {
        check(ready, rest)?;
        Ok((entry, ready))
    });
    let (entry, ready) = match entered {
        Ok(entered) => entered,
        Err(failure) => return Err(intake::unread(failure, *request).await),
    };
    let (head, body) = request.into_parts();
    let body = intake::body(body, house, visit).await?;
    let unsigned = dress(ready, rest, &head, body)?;
    let patience = patience.and_then(Patience::begin);
    let permit = pin!(async { Ok(ready.permit(&entry.metrics).await?) });
    let permit = within(patience, Awaited::Turn, permit).await?;
    let upstream = pin!(send(entry, ready, seat, unsigned, patience));
    let upstream = within(patience, Awaited::Answer, upstream).await?;
    visit.answered(Heard::of(&upstream.sent));
    upstream.take_whole(&head.method, patience, Some(permit)).await
}

/// The integration of that name, if it can serve.
fn enter<'a>(
    registry: &'a Registry,
    name: &str,
    visit: &mut Visit,
) -> Result<(&'a Arc<Entry>, &'a Integration), Failure> {
    let entry = registry.integration(name)?;
    visit.found(entry, Arc::default(), false);
    match &entry.state {
        Ok(ready) => Ok((entry, ready)),
        Err(_) => Err(Failure::unavailable(entry)),
    }
}

/// Checks that `integration` takes other paths, and that `rest` may be one.
pub(super) fn check(integration: &Integration, rest: &str) -> Result<(), Failure> {
    if !integration.dialect().is_openai_compatible() {
        let (settings, format) = (integration.settings(), integration.settings().spoken());
        let (embeds, integration) = (embeds(integration), settings.name.to_string());
        return Err(Failure::NotRelayed { integration, format, embeds });
    }
    path::check(rest).map_err(Failure::BadRequest)
}

/// Whether embeddings can be asked of any model of `integration`. Its dialect knows, and is asked as by a client.
fn embeds(integration: &Integration) -> bool {
    let settings = integration.settings();
    let Ok(envelope) = Envelope::read(Bytes::from_static(br#"{"model":"m","input":"text"}"#)) else {
        return false;
    };
    settings.models.iter().any(|model| {
        let context = Context {
            operation: Operation::Embeddings,
            provider_model: model.name.as_str(),
            client_model: model.alias.as_str(),
            id: "",
            created: 0,
            strict: false,
            max_event: settings.limits.max_event,
        };
        integration.dialect().prepare(&envelope, &context).is_ok()
    })
}

/// The request of a client, whose head is `head`, as the provider gets it, whole but for its right to enter.
pub(super) fn dress(
    integration: &Integration,
    rest: &str,
    head: &Parts,
    body: Bytes,
) -> Result<Box<Unsigned>, Failure> {
    let mut own = HeaderMap::with_capacity(8);
    for name in KEPT {
        for value in head.headers.get_all(&name) {
            own.append(name.clone(), value.clone());
        }
    }
    let mut unsigned = Unsigned::new(head.method.clone(), "", own, Segments::one(body));
    let tail = format!("{}/{rest}", integration.dialect().relays_below());
    match integration.dress_relay(&mut unsigned, &tail, head.uri.query(), &head.headers)? {
        true => Ok(unsigned),
        false => Err(NO_URL),
    }
}

/// A provider's answer whose body is still to come.
struct Upstream {
    sent: Box<Sent>,
    hidden: Hidden,
    entry: Arc<Entry>,
}

async fn send(
    entry: &Arc<Entry>,
    integration: &Integration,
    seat: Seat,
    unsigned: Box<Unsigned>,
    patience: Option<Patience>,
) -> Result<Upstream, Failure> {
    let mut renewed = false;
    loop {
        let signed = {
            let sign = pin!(async { Ok(integration.authorizer.sign(seat, unsigned.clone()).await?) });
            within(patience, Awaited::Token, sign).await?
        };
        let (stamp, hidden) = (signed.stamp, Hidden::of(&signed.request.headers, &integration.egress, entry));
        let mut sent = integration.egress.send(seat, signed).await?;
        let blamed = integration.authorizer.is_blamed(sent.head.status, &sent.head.headers);
        let renew = || Box::pin(exchange::renew(&integration.authorizer, (seat, stamp), patience));
        if blamed && !renewed && renew().await? {
            renewed = true;
            Heard::of(&sent).count(entry);
            continue;
        }
        // Here, so that nobody who tells something of this head has to remember it.
        hidden.strip_headers(&mut sent.head.headers);
        return Ok(Upstream { sent, hidden, entry: Arc::clone(entry) });
    }
}

impl Upstream {
    /// Takes an error, whose words may repeat what we sent, an answer without a body, and JSON that would look complete
    /// if it were cut; leaves any other open.
    async fn take(&mut self, method: &Method) -> Result<Option<Bytes>, Failure> {
        exchange::check_head(&self.sent.head, &self.hidden)?;
        let status = self.sent.head.status;
        let is_error = status.is_client_error() || status.is_server_error();
        let is_over = self.sent.body.is_end_stream() || *method == Method::HEAD;
        let is_bare = is_over || self.sent.body.size_hint().exact() == Some(0);
        let is_open_json =
            !is_bare && is_json(&self.sent.head) && whole::ends_with_its_connection(&self.sent.head);
        if !is_error && !is_bare && !is_open_json {
            return Ok(None);
        }
        if let Some(fault) = exchange::unread_refusal(&self.sent.head).filter(|_| is_error && !is_bare) {
            let (fault, report) = (self.hidden.strip(fault), Report::default());
            return Err(Failure::Upstream(Box::new(Refusal { fault, report })));
        }
        let mut body = BytesMut::new();
        if !is_over {
            exchange::read_whole(&mut body, &mut self.sent.body, self.entry.settings.limits).await?;
        }
        if is_open_json && !is_error {
            whole::check_complete(&body)?;
        }
        if is_error {
            return Ok(Some(self.hidden.strip_bytes(body.freeze())));
        }
        Ok(Some(body.freeze()))
    }

    /// What becomes of it for a client that asked by `method`, of the time until `patience` ends.
    async fn take_whole(
        mut self,
        method: &Method,
        patience: Option<Patience>,
        permit: Option<Permit>,
    ) -> Result<Outcome, Failure> {
        let taken = {
            let take = pin!(self.take(method));
            within(patience, Awaited::Answer, take).await
        };
        match taken {
            Ok(None) => Ok(Outcome::Passed(whole::untouched(self.sent, &self.entry, permit))),
            Ok(Some(body)) => {
                let length = self.sent.head.headers.get(CONTENT_LENGTH).cloned();
                let length = length.filter(|_| *method == Method::HEAD);
                Ok(Outcome::Relayed(Box::new(Relayed { sent: self.sent, body, length })))
            }
            Err(failure) => Err(failure.after(&self.sent)),
        }
    }
}

/// Whether an answer says that it is one JSON value.
fn is_json(parts: &response::Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| essence(kind).eq_ignore_ascii_case(b"application/json"))
}
