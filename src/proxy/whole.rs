//! A whole answer that goes on byte for byte: only its beginning is looked at, since a gateway's login page with status
//! 200 is no answer, and neither is an error.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::Version;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::response::Parts;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use tokio::time::{Instant, Sleep};

use super::exchange::{self, Upstream};
use super::failure::{Failure, Refusal};
use super::opening::{self, Opening};
use super::tail::Tail;
use super::visit::Visit;
use super::worker;
use crate::config::valid::Limits;
use crate::egress::{Body, Sent};
use crate::integration::{Entry, Permit};
use crate::outbound::Report;

/// An answer whose first bytes have come.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) sent: Box<Sent>,
    pub(super) report: Report,
    first: Bytes,
    idle: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    permit: Option<Permit>,
    /// Where the usage is, if it is looked for.
    tail: Option<Tail>,
}

/// Waits for the first bytes and checks that they can begin a JSON object that is no error.
pub(super) async fn begin(mut upstream: Box<Upstream>, mut permit: Permit) -> Result<Box<Begun>, Failure> {
    permit.hold(upstream.lease.take());
    let idle = upstream.entry.settings.limits.idle;
    // What is there already needs no timer.
    let frame = match upstream.sent.body.frame().now_or_never() {
        Some(frame) => frame,
        // Boxed, as whatever here is rare: it would make room in every request's future.
        None => match Box::pin(tokio::time::timeout(idle, upstream.sent.body.frame())).await {
            Ok(frame) => frame,
            Err(_) if permit.lease().is_some() => return Err(worker::silent(idle)),
            Err(_) => return Err(Failure::Silent(idle)),
        },
    };
    let first = match frame {
        None => return Err(Failure::Garbled("its body is empty".into())),
        Some(Err(_)) => {
            return Err(match permit.lease() {
                Some(lease) => Box::pin(worker::ended(lease)).await,
                None => Failure::Garbled("its body broke off before its end".into()),
            });
        }
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
    };
    let is_plain = opening::of(&first) == Opening::Answer && !ends_with_its_connection(&upstream.sent.head);
    let first = match is_plain {
        true => first,
        false => match Box::pin(look_into(first, &mut upstream, &permit)).await {
            Ok(first) => first,
            Err(failure) => return Err(failure.after(&upstream.sent, &upstream.hidden)),
        },
    };
    let Upstream { sent, report, .. } = *upstream;
    let tail = Some(Tail::default());
    Ok(Box::new(Begun { sent, report, first, idle, silence: None, permit: Some(permit), tail }))
}

/// What may go on of an answer that begins with `first`, once it is clear that it is one; often all of it.
async fn look_into(first: Bytes, upstream: &mut Upstream, permit: &Permit) -> Result<Bytes, Failure> {
    let limits = upstream.entry.settings.limits;
    let (sent, mut first) = (&mut upstream.sent, BytesMut::from(first));
    let mut opening = opening::of(&first);
    // Some upstreams send spaces until they know what to say, and some of those say then that they failed.
    while opening == Opening::Short && first.len() <= MOST_SPACES {
        let frame = tokio::time::timeout(limits.idle, sent.body.frame());
        match frame.await.map_err(|_| Failure::Silent(limits.idle))? {
            None => break,
            Some(Err(_)) => return Err(Failure::Garbled("its body broke off before its end".into())),
            Some(Ok(frame)) => first.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
        }
        opening = opening::of(&first);
    }
    if opening == Opening::Nonsense {
        let kind = sent.head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let kind = kind.unwrap_or("of no content type");
        let how = format!("it is not a JSON object ({kind})");
        return Err(Failure::Nonsense(upstream.hidden.strip_text(how)));
    }
    if opening != Opening::Error && !ends_with_its_connection(&sent.head) {
        return Ok(first.freeze());
    }
    let whole = rest_of(first, &mut sent.body, limits).await?;
    match opening::error(&whole).filter(|_| opening == Opening::Error) {
        None => Ok(whole),
        Some(mut fault) => {
            fault.in_success = true;
            let (fault, report) = (upstream.hidden.strip(fault), std::mem::take(&mut upstream.report));
            let refusal = Box::new(Refusal { fault, report });
            Err(match permit.lease() {
                Some(_) => Failure::Raised(refusal, worker::kind(&sent.head.headers)),
                None => Failure::Upstream(refusal),
            })
        }
    }
}

/// How much is read of a body that has not begun to say anything.
const MOST_SPACES: usize = 64 << 10;

/// An answer of any kind, nothing of which is looked at.
pub(super) fn untouched(sent: Box<Sent>, entry: &Entry, permit: Option<Permit>) -> Box<Begun> {
    let (report, idle, first) = (Report::default(), entry.settings.limits.idle, Bytes::new());
    let (silence, tail) = (None, None);
    Box::new(Begun { sent, report, first, idle, silence, permit, tail })
}

/// Whether nothing but the closing of the connection says where the body ends (RFC 9112 §6.3, rule 8): cut, it would
/// look complete.
pub(super) fn ends_with_its_connection(parts: &Parts) -> bool {
    parts.version < Version::HTTP_2
        && !parts.headers.contains_key(CONTENT_LENGTH)
        && !parts.headers.contains_key(TRANSFER_ENCODING)
}

/// The whole of a body that begins with `whole`, if it is one JSON value.
async fn rest_of(mut whole: BytesMut, body: &mut Body, limits: Limits) -> Result<Bytes, Failure> {
    exchange::read_whole(&mut whole, body, limits).await?;
    check_complete(&whole).map(|()| whole.freeze())
}

/// Checks that a body that ended with its connection is one whole JSON value.
pub(super) fn check_complete(body: &[u8]) -> Result<(), Failure> {
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(IgnoredAny) => Ok(()),
        Err(_) => Err(Failure::Garbled("its connection was closed before its JSON was complete".into())),
    }
}

/// The body of such an answer on its way to the client.
#[derive(Debug)]
pub(super) struct Whole {
    begun: Box<Begun>,
    visit: Box<Visit>,
    broken: bool,
}

/// The upstream broke off: the connection to the client is cut, since the answer must not look complete.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke off inside its answer")]
pub struct Cut;

impl Whole {
    pub(super) fn new(begun: Box<Begun>, visit: Box<Visit>) -> Self {
        Self { begun, visit, broken: false }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.begun.first.is_empty() {
            let first = std::mem::take(&mut self.begun.first);
            self.sent(&first);
            if self.begun.sent.body.is_end_stream() {
                self.end();
            }
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.broken {
            return Poll::Ready(Some(Err(Cut)));
        }
        match Pin::new(&mut self.begun.sent.body).poll_frame(cx) {
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.begun.silence = None;
                if let Some(data) = frame.data_ref() {
                    self.sent(data);
                }
                // hyper asks no more of a body that says it is at its end.
                if self.begun.sent.body.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let code = if self.is_of_a_handler() { "handler_crashed" } else { "upstream_garbled" };
                self.visit.failed(code, format!("the answer broke off: {error}"));
                // A turn later: hyper drops what it has not written yet, which may be all of it, head included.
                self.broken = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => self.poll_silence(cx),
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let idle = self.begun.idle;
        let silence = self
            .begun
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        if silence.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let code = if self.is_of_a_handler() { "handler_timeout" } else { "upstream_timeout" };
        self.visit.failed(code, format!("silent for {idle:?} inside its answer (limits.idle)"));
        Poll::Ready(Some(Err(Cut)))
    }

    fn is_of_a_handler(&self) -> bool {
        self.begun.permit.as_ref().is_some_and(|permit| permit.lease().is_some())
    }

    fn sent(&mut self, data: &Bytes) {
        self.visit.sent(data.len());
        if let Some(tail) = &mut self.begun.tail {
            tail.push(data);
        }
    }

    fn end(&mut self) {
        if let Some(tail) = self.begun.tail.take() {
            self.visit.counted(tail.tokens());
        }
        self.visit.ended();
        self.begun.permit = None;
    }

    pub(super) fn visit(&mut self) -> &mut Visit {
        &mut self.visit
    }

    pub(super) fn is_end(&self) -> bool {
        self.begun.first.is_empty() && self.begun.sent.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let first = self.begun.first.len() as u64;
        let rest = self.begun.sent.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}
