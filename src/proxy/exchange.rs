//! One exchange with the upstream: prepare, dress, sign, send, and reading the head of what comes back.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::failure::{Awaited, Failure, Refusal};
use super::head::essence;
use super::heard::Heard;
use super::hide::Hidden;
use super::opening::{self, Opening};
use super::whole::EMPTY;
use super::worker;
use super::{Patience, within};
use crate::auth::Authorizer;
use crate::config::valid::{self, Limits};
use crate::dialect::{Broken, Context, Decoder, Head, Prepared, foreign};
use crate::egress::{Body, LineError, Sent};
use crate::integration::{Entry, Integration};
use crate::openai::json::unmarked;
use crate::openai::{Envelope, Fault, Operation};
use crate::outbound::{Report, Signed, Stamp};
use crate::tasks::Seat;
use crate::workers::{HandlerFailure, Lease};

/// How much of an upstream's error is read.
const MAX_FAULT: usize = 64 << 10;

/// How much is read of an answer that says nothing yet, before it is no stream.
const MOST_BLANK: usize = 1 << 10;

/// Everything that one request needs to be sent; owns it all, since a stream may outlive the handler of its head.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) entry: Arc<Entry>,
    /// Which of the entry's models.
    pub(super) model: usize,
    pub(super) client_model: Arc<str>,
    /// An id for the completion.
    pub(super) id: Arc<str>,
    pub(super) created: u64,
    pub(super) operation: Operation,
    pub(super) envelope: Envelope,
    pub(super) report: Report,
    /// What the client sent.
    pub(super) headers: HeaderMap,
    pub(super) seat: Seat,
    /// How long the client bears to hear nothing, if it must not.
    pub(super) patience: Option<Patience>,
}

/// An answer still to be read.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) sent: Box<Sent>,
    pub(super) decoder: Box<dyn Decoder>,
    /// What was read of its body already: of a stream that had to be known by it.
    pub(super) first: Bytes,
    pub(super) entry: Arc<Entry>,
    pub(super) report: Report,
    /// What must not come back in its words.
    pub(super) hidden: Hidden,
    /// The place with the worker that answers, if one does.
    pub(super) lease: Option<Box<Lease>>,
}

impl Order {
    fn integration(&self) -> Result<&Integration, Failure> {
        self.entry.state.as_ref().map_err(|_| Failure::unavailable(&self.entry))
    }

    fn model(&self) -> &valid::Model {
        &self.entry.settings.models[self.model]
    }

    /// The provider's request, whole but for its right to enter.
    pub(super) fn prepare(&self) -> Result<Prepared, Failure> {
        let integration = self.integration()?;
        let context = Context {
            operation: self.operation,
            provider_model: self.model().name.as_str(),
            client_model: &self.client_model,
            id: &self.id,
            created: self.created,
            strict: integration.settings().strict,
            max_event: integration.settings().limits.max_event,
        };
        let mut prepared = integration.dialect().prepare(&self.envelope, &context)?;
        integration.dress(&mut prepared.unsigned, self.model, &self.headers, &self.envelope)?;
        Ok(prepared)
    }
}

/// Sends the request, and reads the head of an answer that is a stream. A refusal is read to its end.
pub(super) async fn open(order: Box<Order>) -> Result<Box<Upstream>, Failure> {
    let mut upstream = send(order).await?;
    match is_stream(&mut upstream).await {
        Ok(()) => Ok(upstream),
        Err(failure) => Err(failure.after(&upstream.sent)),
    }
}

async fn is_stream(upstream: &mut Upstream) -> Result<(), Failure> {
    is_success(upstream).await?;
    let strange = not_a_stream(&upstream.sent.head.headers);
    match strange.filter(|kind| !upstream.decoder.may_stream_as(kind)) {
        // Told before a 200 is out, it is tried again: SDKs do not do so for an error inside a stream.
        None if upstream.sent.body.is_end_stream() => Err(Failure::Garbled(EMPTY.into())),
        None => Ok(()),
        // Boxed: it is rare, and would make room in every request's future.
        Some(found) => Box::pin(look_into(upstream, found)).await,
    }
}

/// Checks that an answer is one. A refusal is read to its end; a failure has nothing of the upstream's head in it.
pub(super) async fn is_success(upstream: &mut Upstream) -> Result<(), Failure> {
    check_head(&upstream.sent.head, &upstream.hidden)?;
    if upstream.sent.head.status.is_success() {
        return Ok(());
    }
    // Boxed: it is rare, and would make room in every request's future.
    Err(Box::pin(refusal(upstream)).await)
}

/// Refuses what must not go on to a client: redirects, and an answer that is compressed. A refusal that is has still its
/// status to tell.
pub(super) fn check_head(head: &Parts, hidden: &Hidden) -> Result<(), Failure> {
    if head.status == StatusCode::NOT_MODIFIED {
        return Err(Failure::Garbled(
            "it is a 304 Not Modified, and nobody has asked whether it was modified".into(),
        ));
    }
    if head.status.is_redirection() {
        return Err(Failure::Redirect(head.status.as_u16()));
    }
    if let Some(coding) = coding(&head.headers).filter(|_| head.status.is_success()) {
        let how = format!("its content-encoding is `{coding}` although `identity` was asked for");
        return Err(Failure::Compressed(hidden.strip_text(how)));
    }
    Ok(())
}

/// The `content-encoding`, if it names any but `identity`, which is none (RFC 9110 §8.4).
fn coding(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let is_one = |coding: &[u8]| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
    let names_one =
        |value: &HeaderValue| value.as_bytes().split(|b| *b == b',').any(|it| is_one(it.trim_ascii()));
    let found = headers.iter().find(|(name, value)| *name == CONTENT_ENCODING && names_one(value));
    found.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()))
}

/// The refusal with `head`, if its body is compressed and so left unread: nobody here can read its words.
pub(super) fn unread_refusal(head: &Parts) -> Option<Fault> {
    let coding = coding(&head.headers)?;
    let words =
        format!("its words are compressed (content-encoding: {coding}), although `identity` was asked for");
    Some(Fault::read(head.status.as_u16(), &head.headers, b"").reworded(&words))
}

/// Sends the request and reads the head of its answer.
pub(super) async fn send(mut order: Box<Order>) -> Result<Box<Upstream>, Failure> {
    let (mut renewed, mut unreached) = (false, false);
    loop {
        let integration = order.integration()?;
        let mut prepared = order.prepare()?;
        // Boxed: handlers are few, and their leases would make room in every request's future.
        let lease = match integration.station() {
            Some(station) => {
                let mut lease = Box::pin(worker::lease(station, &order, &mut prepared.unsigned));
                Some(within(order.patience, Awaited::Turn, lease.as_mut()).await?)
            }
            None => None,
        };
        let entrance = integration.entrance();
        let signed = {
            let sign = pin!(async { Ok(entrance.sign(order.seat, prepared.unsigned).await?) });
            within(order.patience, Awaited::Token, sign).await?
        };
        let way = lease.as_ref().map_or(&integration.egress, |lease| lease.egress());
        let (stamp, hidden) = (signed.stamp, Hidden::of(&signed.request.headers, way, &order.entry));
        let mut sent = match &lease {
            None => way.send(order.seat, signed).await?,
            // Boxed, as above.
            Some(lease) => match Box::pin(ask(lease, &order, signed)).await {
                Ok(sent) => sent,
                // No byte of it was read: another worker may be asked, once.
                Err(HandlerFailure::Unreachable(_)) if !std::mem::replace(&mut unreached, true) => continue,
                Err(failure) => return Err(Failure::Handler(failure)),
            },
        };
        let blamed = entrance.is_blamed(sent.head.status, &sent.head.headers);
        if blamed && !renewed && Box::pin(renew(entrance, (order.seat, stamp), order.patience)).await? {
            renewed = true;
            Heard::of(&sent).count(&order.entry);
            continue;
        }
        // Here, so that nobody who tells something of this head has to remember it.
        hidden.strip_headers(&mut sent.head.headers);
        let mut report = std::mem::take(&mut order.report);
        report.changes.extend(prepared.report.changes);
        let (decoder, entry) = (prepared.decoder, order.entry);
        // Boxed: it is handed on from step to step.
        return Ok(Box::new(Upstream { sent, decoder, first: Bytes::new(), entry, report, hidden, lease }));
    }
}

/// Sends the request to a worker.
async fn ask(lease: &Lease, order: &Order, signed: Signed) -> Result<Box<Sent>, HandlerFailure> {
    lease.hand(&signed.request.headers);
    let asked = Instant::now();
    let sent = lease.send(order.seat, signed).await?;
    order.entry.metrics.handled(asked.elapsed());
    Ok(sent)
}

/// Gets another right to enter than the one that was refused, for a client of that `patience`; whether the request is worth
/// sending again.
pub(super) async fn renew(
    entrance: &Authorizer,
    (seat, stamp): (Seat, Stamp),
    patience: Option<Patience>,
) -> Result<bool, Failure> {
    let renew = pin!(async { Ok(entrance.refused(seat, stamp).await?) });
    within(patience, Awaited::Token, renew).await
}

/// The content type, if it is one that no stream has: a gateway's page or an answer given whole.
fn not_a_stream(headers: &HeaderMap) -> Option<&'static str> {
    one_of(["application/json", "text/html", "text/plain"], headers)
}

/// Which of `types` the content type is, if it is one of them.
fn one_of<const N: usize>(types: [&'static str; N], headers: &HeaderMap) -> Option<&'static str> {
    let essence = essence(headers.get(CONTENT_TYPE)?);
    types.into_iter().find(|t| essence.eq_ignore_ascii_case(t.as_bytes()))
}

/// An answer of a content type that no stream has. Some gateways send streams so, which the first bytes show.
async fn look_into(upstream: &mut Upstream, found: &'static str) -> Result<(), Failure> {
    let idle = upstream.entry.settings.limits.idle;
    let mut body = BytesMut::new();
    while body.len() < MOST_BLANK && upstream.decoder.is_stream_behind(&body).is_none() {
        let Some(data) = piece(&mut upstream.sent.body, idle).await? else { break };
        body.extend_from_slice(&data);
    }
    if upstream.decoder.is_stream_behind(&body) == Some(true) {
        upstream.first = body.freeze();
        return Ok(());
    }
    Err(unstreamed(upstream, found, body).await)
}

/// A stream was asked for and something else came, which begins with `body`: what it says is more use than that it came.
async fn unstreamed(upstream: &mut Upstream, found: &'static str, mut body: BytesMut) -> Failure {
    let idle = upstream.entry.settings.limits.idle;
    // More of it than can be told is not waited for.
    if let Err(failure) = read_into(&mut body, &mut upstream.sent.body, MAX_FAULT, idle).await {
        return failure;
    }
    if let Some(fault) = inside(upstream, &body) {
        let fault = fault.within_success(&upstream.sent.head.headers);
        return refused(upstream, fault);
    }
    if !upstream.decoder.passes_whole()
        && let Some(failure) = foreign(upstream, &body)
    {
        return failure;
    }
    let mut fault = upstream.decoder.fault(Head::from(&upstream.sent.head), &body);
    fault.message.insert_str(0, &format!("a stream was asked for and {found} came: "));
    let words = upstream.hidden.strip(fault).words();
    // Nothing at all may be something the next time.
    if body.trim_ascii().is_empty() { Failure::Nonsense(words) } else { Failure::Unstreamed(words) }
}

/// The error that stands in `body`, all of an answer of success.
fn inside(upstream: &mut Upstream, body: &[u8]) -> Option<Fault> {
    if upstream.decoder.passes_whole() {
        return if opening::of(body) == Opening::Error { opening::error(body) } else { None };
    }
    match upstream.decoder.whole(Head::from(&upstream.sent.head), unmarked(body)) {
        Err(Broken::Upstream(fault)) => Some(*fault),
        Err(Broken::Garbled(_)) | Ok(_) => None,
    }
}

async fn refusal(upstream: &mut Upstream) -> Failure {
    if let Some(fault) = unread_refusal(&upstream.sent.head) {
        return refused(upstream, fault);
    }
    let idle = upstream.entry.settings.limits.idle;
    // What was read until then is worth telling even if the rest does not come, or comes byte by byte.
    let mut body = BytesMut::new();
    let read = read_into(&mut body, &mut upstream.sent.body, MAX_FAULT, idle);
    let _ = tokio::time::timeout(idle, read).await;
    let fault = upstream.decoder.fault(Head::from(&upstream.sent.head), &body);
    refused(upstream, fault)
}

/// The failure that `fault`, in the upstream's own words, is for the client.
fn refused(upstream: &mut Upstream, fault: Fault) -> Failure {
    let fault = upstream.hidden.strip(fault);
    let refusal = Box::new(Refusal { fault, report: std::mem::take(&mut upstream.report) });
    match &upstream.lease {
        Some(_) => Failure::Raised(refusal, worker::kind(&upstream.sent.head.headers)),
        None => Failure::Upstream(refusal),
    }
}

/// Reads a whole answer, and gives what the client is told: JSON. A failure has nothing of the upstream's head in it.
pub(super) async fn translate(upstream: &mut Upstream) -> Result<Bytes, Failure> {
    let body = gather(&mut upstream.sent.body, upstream.entry.settings.limits).await?;
    let head = Head::from(&upstream.sent.head);
    let whole = upstream.decoder.whole(head, unmarked(&body)).map_err(|broken| match broken {
        Broken::Upstream(fault) => {
            let fault = fault.within_success(&upstream.sent.head.headers);
            refused(upstream, fault)
        }
        Broken::Garbled(_) if is_streamed(upstream, &body) => Failure::Streamed,
        Broken::Garbled(how) => match foreign(upstream, &body) {
            Some(failure) => failure,
            None => Failure::Nonsense(upstream.hidden.strip_text(how)),
        },
    })?;
    let json = serde_json::to_vec(&whole).map_err(|_| Failure::Internal("an answer did not serialise"))?;
    Ok(json.into())
}

/// Whether `body`, which is no answer, is a stream. Lines and frames do not begin as nothing else does.
fn is_streamed(upstream: &Upstream, body: &[u8]) -> bool {
    const TYPES: [&str; 3] =
        ["text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"];
    upstream.decoder.is_stream_behind(body) == Some(true)
        || !body.trim_ascii().is_empty() && one_of(TYPES, &upstream.sent.head.headers).is_some()
}

/// What is to be said of a whole answer that is no good for its own format, if it is one of another.
fn foreign(upstream: &Upstream, body: &[u8]) -> Option<Failure> {
    let own = upstream.entry.settings.format;
    let format = foreign::format_of(unmarked(body), own)?;
    Some(Failure::Foreign { format: format.word(), own: own.word() })
}

/// A whole body within `limits`.
async fn gather(body: &mut Body, limits: Limits) -> Result<BytesMut, Failure> {
    let mut whole = BytesMut::new();
    read_whole(&mut whole, body, limits).await.map(|()| whole)
}

/// Reads the rest of a body of which `whole` has come already, within `limits`.
pub(super) async fn read_whole(whole: &mut BytesMut, body: &mut Body, limits: Limits) -> Result<(), Failure> {
    let most = limits.max_answer;
    match read_into(whole, body, most, limits.idle).await? {
        true => Ok(()),
        false => Err(Failure::TooLong(most)),
    }
}

/// How a body ended too early, in words of ours.
pub(super) fn broken_off(error: LineError) -> String {
    match error {
        LineError::Garbled(how) => format!("its body is badly framed: {how}"),
        _ => "its body broke off before its end".to_owned(),
    }
}

/// Reads until the end (`true`) or until `most` bytes are there (`false`).
async fn read_into(
    whole: &mut BytesMut,
    body: &mut Body,
    most: usize,
    idle: Duration,
) -> Result<bool, Failure> {
    loop {
        if whole.len() > most {
            return Ok(false);
        }
        let Some(data) = piece(body, idle).await? else { return Ok(true) };
        let room = most - whole.len();
        whole.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok(false);
        }
    }
}

/// What comes next of a body; nothing at its end.
async fn piece(body: &mut Body, idle: Duration) -> Result<Option<Bytes>, Failure> {
    match tokio::time::timeout(idle, body.frame()).await.map_err(|_| Failure::Silent(idle))? {
        None => Ok(None),
        Some(Err(error)) => Err(Failure::Garbled(broken_off(error))),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
    }
}
