//! A whole answer that goes on byte for byte: only its beginning is looked at, since a gateway's login page with status
//! 200 is no answer, and neither is an error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use tokio::time::{Instant, Sleep};

use super::ended::Stay;
use super::exchange::{self, Upstream};
use super::failure::{Failure, Refusal};
use super::opening::{self, Late, MOST_SPACES, Next, Opening};
use super::rest;
use super::tail::Tail;
use super::visit::Visit;
use super::{PING_AFTER, Patience, worker};
use crate::config::valid::Limits;
use crate::egress::{Body, Sent};
use crate::integration::{Entry, Permit};
use crate::openai::json::unmarked;
use crate::outbound::Report;

/// An answer whose first bytes have come.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) sent: Box<Sent>,
    pub(super) report: Report,
    first: Bytes,
    /// Set while nothing but white space has come.
    late: Option<Late>,
    idle: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    permit: Option<Permit>,
    /// Where the usage is, if it is looked for.
    tail: Option<Tail>,
    /// The upstream's own request id, for the log if the rest does not come.
    id: Option<HeaderValue>,
}

/// What came of a body; nothing at its end.
type Came = Option<Result<Frame<Bytes>, <Body as http_body::Body>::Error>>;

/// Waits for the first bytes and checks that they can begin a JSON object that is no error. What comes of it goes to
/// [`Begun::of`]; a failure has nothing of the upstream's head in it.
///
/// An upstream may keep its answer alive with white space. Some of it has come when `patience` ends: then that goes on.
pub(super) async fn begin(
    upstream: &mut Upstream,
    permit: &mut Permit,
    patience: Option<Patience>,
) -> Result<Bytes, Failure> {
    permit.hold(upstream.lease.take());
    // What is there already needs no timer.
    match upstream.sent.body.frame().now_or_never() {
        Some(Some(Ok(frame))) if may_go_on(&frame, &upstream.sent.head) => {
            Ok(frame.into_data().unwrap_or_default())
        }
        // Boxed, as whatever here is rare: it would make room in every request's future.
        came => Box::pin(look_into(came, upstream, permit, patience)).await,
    }
}

fn may_go_on(frame: &Frame<Bytes>, head: &Parts) -> bool {
    let is_answer = frame.data_ref().is_some_and(|data| opening::of(data) == Opening::Answer);
    is_answer && !ends_with_its_connection(head)
}

/// What may go on of an answer, once it is clear that it is one; often all of it. `came` is what came first, if anything
/// has come.
async fn look_into(
    came: Option<Came>,
    upstream: &mut Upstream,
    permit: &Permit,
    patience: Option<Patience>,
) -> Result<Bytes, Failure> {
    let limits = upstream.entry.settings.limits;
    let first = match came {
        Some(came) => piece(came, permit).await?,
        None => next(upstream, permit).await?,
    };
    let held_until = patience.map_or_else(|| Instant::now() + PING_AFTER, |patience| patience.end);
    let (begun, opening) = opened(first, upstream, permit, held_until).await?;
    let sent = &mut upstream.sent;
    if opening == Opening::Nonsense {
        if upstream.decoder.is_stream_behind(&begun) == Some(true) {
            return Err(Failure::Streamed);
        }
        let kind = sent.head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let kind = kind.unwrap_or("of no content type");
        let how = format!("it is not a JSON object ({kind})");
        return Err(Failure::Nonsense(upstream.hidden.strip_text(how)));
    }
    if opening == Opening::Short || opening == Opening::Answer && !ends_with_its_connection(&sent.head) {
        return Ok(begun.freeze());
    }
    let whole = rest_of(begun, &mut sent.body, limits).await?;
    match opening::error(&whole).filter(|_| opening == Opening::Error) {
        None => Ok(whole),
        Some(fault) => {
            let fault = upstream.hidden.strip(fault.within_success(&sent.head.headers));
            let refusal = Box::new(Refusal { fault, report: std::mem::take(&mut upstream.report) });
            Err(match permit.lease() {
                Some(_) => Failure::Raised(refusal, worker::kind(&sent.head.headers)),
                None => Failure::Upstream(refusal),
            })
        }
    }
}

/// The beginning of an answer, which comes with `first`, and what it begins. That is [`Opening::Short`] only of white
/// space that may not be held longer.
async fn opened(
    mut first: Option<Bytes>,
    upstream: &mut Upstream,
    permit: &Permit,
    held_until: Instant,
) -> Result<(BytesMut, Opening), Failure> {
    let mut begun = BytesMut::new();
    // Some upstreams send spaces until they know what to say, and some of those say then that they failed.
    loop {
        let Some(data) = first else { return Err(Failure::Garbled(unbegun(&begun).into())) };
        begun.extend_from_slice(&data);
        let opening = opening::of(&begun);
        if opening != Opening::Short {
            return Ok((begun, opening));
        }
        if begun.len() > MOST_SPACES {
            let how = format!("it begins with more than {MOST_SPACES} bytes of white space");
            return Err(Failure::Garbled(how));
        }
        let may_go_on = begun.trim_ascii().is_empty() && !ends_with_its_connection(&upstream.sent.head);
        let coming = next(upstream, permit);
        first = if may_go_on {
            match tokio::time::timeout_at(held_until, coming).await {
                Ok(came) => came?,
                Err(_) => return Ok((begun, Opening::Short)),
            }
        } else {
            coming.await?
        };
    }
}

/// What comes next of a body; nothing at its end.
async fn next(upstream: &mut Upstream, permit: &Permit) -> Result<Option<Bytes>, Failure> {
    let idle = upstream.entry.settings.limits.idle;
    match tokio::time::timeout(idle, upstream.sent.body.frame()).await {
        Ok(came) => piece(came, permit).await,
        Err(_) if permit.lease().is_some() => Err(worker::silent(idle)),
        Err(_) => Err(Failure::Silent(idle)),
    }
}

/// The bytes of what came: none of trailers, behind which comes the end.
async fn piece(came: Came, permit: &Permit) -> Result<Option<Bytes>, Failure> {
    match (came, permit.lease()) {
        (None, _) => Ok(None),
        (Some(Ok(frame)), _) => Ok(Some(frame.into_data().unwrap_or_default())),
        (Some(Err(_)), Some(lease)) => Err(worker::ended(lease).await),
        (Some(Err(error)), None) => Err(Failure::Garbled(exchange::broken_off(error))),
    }
}

/// What is wrong with a whole body in which nothing has begun.
fn unbegun(body: &[u8]) -> &'static str {
    if body.trim_ascii().is_empty() { EMPTY } else { "its body ends before its JSON is complete" }
}

/// What is wrong with a body in which nothing has come.
pub(super) const EMPTY: &str = "its body is empty";

impl Begun {
    /// The answer of `upstream`, which [`begin`]s with `first`.
    pub(super) fn of(upstream: Upstream, first: Bytes, permit: Permit) -> Box<Self> {
        let Upstream { sent, report, entry, .. } = upstream;
        let idle = entry.settings.limits.idle;
        let (permit, tail) = (Some(permit), Some(Tail::default()));
        let late = first.trim_ascii().is_empty().then(Late::default);
        Box::new(Self { sent, report, first, late, idle, silence: None, permit, tail, id: None })
    }

    /// Keeps the upstream's own request id, which is `id`, for the log.
    pub(super) fn named(&mut self, id: Option<HeaderValue>) {
        self.id = id;
    }
}

/// An answer of any kind, nothing of which is looked at.
pub(super) fn untouched(sent: Box<Sent>, entry: &Entry, permit: Option<Permit>) -> Box<Begun> {
    let (report, idle, first) = (Report::default(), entry.settings.limits.idle, Bytes::new());
    Box::new(Begun { sent, report, first, late: None, idle, silence: None, permit, tail: None, id: None })
}

/// Whether nothing but the closing of the connection says where the body ends (RFC 9112 §6.3, rule 8): cut, it would
/// look complete.
pub(super) fn ends_with_its_connection(parts: &Parts) -> bool {
    let is_framed = |name: &HeaderName| *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING;
    parts.version < Version::HTTP_2 && !parts.headers.keys().any(is_framed)
}

/// The whole of a body that begins with `whole`, if it is one JSON value.
async fn rest_of(mut whole: BytesMut, body: &mut Body, limits: Limits) -> Result<Bytes, Failure> {
    exchange::read_whole(&mut whole, body, limits).await?;
    check_complete(&whole).map(|()| whole.freeze())
}

/// Checks that a body that ended with its connection is one whole JSON value.
pub(super) fn check_complete(body: &[u8]) -> Result<(), Failure> {
    match serde_json::from_slice::<IgnoredAny>(unmarked(body)) {
        Ok(IgnoredAny) => Ok(()),
        Err(_) => Err(Failure::Garbled("its connection was closed before its JSON was complete".into())),
    }
}

/// The body of such an answer on its way to the client.
#[derive(Debug)]
pub(super) struct Whole {
    /// Nothing once it is over.
    begun: Option<Box<Begun>>,
    visit: Stay,
    broken: bool,
}

/// The upstream broke off: the connection to the client is cut, since the answer must not look complete.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke off inside its answer")]
pub struct Cut;

impl Whole {
    pub(super) fn new(begun: Box<Begun>, visit: Stay) -> Self {
        Self { begun: Some(begun), visit, broken: false }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(begun) = &mut self.begun else {
            return Poll::Ready(self.broken.then_some(Err(Cut)));
        };
        let data = if begun.first.is_empty() {
            match Pin::new(&mut begun.sent.body).poll_frame(cx) {
                Poll::Pending => return self.poll_silence(cx).map(|()| Some(Err(Cut))),
                Poll::Ready(None) if begun.late.is_some() => return self.refuse(Late::ENDED, cx),
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    let code = if begun.is_of_a_handler() { "handler_crashed" } else { "upstream_garbled" };
                    return self.refuse((code, &format!("the answer broke off: {error}")), cx);
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) if begun.late.is_some() => return self.refuse(Late::ENDED, cx),
                    // Trailers, which no client was told of: all of the answer has come.
                    Err(_) => {
                        self.end_before_its_body();
                        return Poll::Ready(None);
                    }
                },
            }
        } else {
            std::mem::take(&mut begun.first)
        };
        begun.silence = None;
        match Late::next(&mut begun.late, data) {
            // hyper would ask no more of a body that has given all that it announced.
            Next::Pass(_) if begun.late.is_some() && begun.sent.body.size_hint().exact() == Some(0) => {
                self.refuse(Late::ENDED, cx)
            }
            Next::Pass(data) => Poll::Ready(Some(Ok(Frame::data(self.pass(data))))),
            Next::Wait => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Next::Refuse(told) => self.refuse(told, cx),
        }
    }

    /// Notes that `data` goes on.
    fn pass(&mut self, data: Bytes) -> Bytes {
        let Some(begun) = &mut self.begun else { return data };
        self.visit.sent(data.len());
        if let Some(tail) = &mut begun.tail {
            tail.push(&data);
        }
        if begun.late.is_some() {
            return data;
        }
        // hyper asks no more of a body that says it is at its end, or has given all that it announced.
        if begun.sent.body.is_end_stream() {
            self.end();
        } else if begun.sent.body.size_hint().exact() == Some(0) {
            self.end_before_its_body();
        }
        data
    }

    /// Cuts the answer, which has failed in this way. A turn later: hyper drops what it has not written yet, which may be
    /// all of it, head included.
    fn refuse(
        &mut self,
        (code, cause): (&str, &str),
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.fail(code, cause.to_owned());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the upstream has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(begun) = &mut self.begun else { return Poll::Ready(()) };
        let idle = begun.idle;
        let silence =
            begun.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        ready!(silence.as_mut().poll(cx));
        let code = if begun.is_of_a_handler() { "handler_timeout" } else { "upstream_timeout" };
        self.fail(code, format!("silent for {idle:?} inside its answer (limits.idle)"));
        Poll::Ready(())
    }

    fn fail(&mut self, code: &str, cause: String) {
        if let Some(begun) = self.begun.take() {
            begun.name(&mut self.visit);
        }
        self.visit.failed(code, cause);
        self.broken = true;
    }

    fn end(&mut self) -> Option<Box<Begun>> {
        let mut begun = self.begun.take()?;
        let tail = begun.tail.take().unwrap_or_default();
        self.visit.counted(tail.tokens());
        if tail.may_end() {
            self.visit.ended();
        } else {
            // The client has it, as it came; whoever looks for the reason finds it here.
            begun.name(&mut self.visit);
            self.visit.failed("upstream_garbled", "the answer ends before its JSON is complete".to_owned());
        }
        begun.permit = None;
        Some(begun)
    }

    /// The client has all of it, and the upstream has still to say that this was all.
    fn end_before_its_body(&mut self) {
        if let Some(begun) = self.end() {
            rest::drain(begun.sent.body, self.visit.tasks());
        }
    }

    pub(super) fn visit(&mut self) -> &mut Visit {
        &mut self.visit
    }

    pub(super) fn is_end(&self) -> bool {
        self.begun.is_none() && !self.broken
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let Some(begun) = &self.begun else { return SizeHint::with_exact(0) };
        let first = begun.first.len() as u64;
        let rest = begun.sent.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(begun) = &self.begun {
            begun.name(&mut self.visit);
        }
    }
}

impl Begun {
    fn is_of_a_handler(&self) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.lease().is_some())
    }

    /// Tells the log what the upstream called the request.
    fn name(&self, visit: &mut Visit) {
        visit.named_by_upstream(self.id.as_ref());
    }
}
