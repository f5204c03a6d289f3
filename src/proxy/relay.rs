//! A stream on its way from the upstream to the client: event by event, with back-pressure, and with a proper end
//! whatever happens.
//!
//! Nothing is read from the upstream before the client has taken what came before. Dropping a relay closes the
//! upstream at once, but for a stream that is already complete: its tail is drained so that the connection can be
//! used again (OpenAI's SDK hangs up right at `[DONE]`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use tokio::time::{Instant, Sleep};

use super::ended::Stay;
use super::exchange::{self, Order, Upstream};
use super::failure::Failure;
use super::heard::{self, Heard};
use super::hide::Hidden;
use super::reply;
use super::rest;
use super::visit::{CUT, Logged, Visit};
use super::{House, PING_AFTER, PING_LEAST, Patience};
use crate::dialect::{Broken, Decoder, End, Fed, Outcome};
use crate::egress::{Body, LineError, Sent};
use crate::framing::sse;
use crate::integration::Permit;
use crate::openai::Fault;
use crate::outbound::Report;
use crate::tasks::bell::Bell;

const ERROR: Logged =
    ("upstream_error", "the upstream told of an error in its stream (the client has its words)");
const RAISED: Logged =
    ("handler_error", "the handler raised an error in its stream (its own log has it, the client its words)");
const EARLY: Logged = ("upstream_garbled", "the upstream's stream ended early");
const BROKEN: Logged = ("upstream_garbled", "the upstream's stream broke off before its end");
const CRASHED: Logged = ("handler_crashed", "the handler's process ended before its stream did");
const SILENT: Logged = ("upstream_timeout", "the upstream was silent for longer than limits.idle");
const HANDLER_SILENT: Logged = ("handler_timeout", "the handler was silent for longer than limits.idle");

type Opening = Pin<Box<dyn Future<Output = Result<Box<Upstream>, Failure>> + Send>>;

/// A stream that is about to be answered: its head is known, or the client has waited long enough for one.
pub(super) struct Stream {
    source: Source,
    permit: Permit,
    idle: Duration,
    /// How long the client may hear nothing.
    ping: Duration,
    hidden: Hidden,
    /// What was read of it already.
    first: Bytes,
    /// The upstream's headers, where they go on to the client.
    pub(super) headers: Option<HeaderMap>,
    /// The upstream's own request id.
    pub(super) id: Option<HeaderValue>,
    pub(super) report: Report,
    /// When the upstream has answered, if it has.
    pub(super) answered: Option<Heard>,
}

enum Source {
    /// The upstream has not answered yet; the client is kept patient.
    Opening(Opening),
    Open(Body, Box<dyn Decoder>),
    Ended,
}

/// Waits for the upstream's head, but no longer than a client should go without hearing anything.
pub(super) async fn open(
    order: Box<Order>,
    permit: Permit,
    patience: Option<Patience>,
) -> Result<Box<Stream>, Failure> {
    let idle = order.entry.settings.limits.idle;
    let ping = patience.map_or(PING_AFTER, |it| it.limit.clamp(PING_LEAST, PING_AFTER));
    let first_ping = Instant::now() + PING_AFTER;
    let first_ping = patience.map_or(first_ping, |it| it.end.min(first_ping));
    let mut opening: Opening = Box::pin(exchange::open(order));
    let stream = |source| Stream {
        source,
        permit,
        idle,
        ping,
        hidden: Hidden::default(),
        first: Bytes::new(),
        headers: None,
        id: None,
        report: Report::default(),
        answered: None,
    };
    match tokio::time::timeout_at(first_ping, &mut opening).await {
        Err(_) => Ok(Box::new(stream(Source::Opening(opening)))),
        Ok(opened) => {
            let Upstream { sent, decoder, first, report, hidden, lease, .. } = *opened?;
            let heard = Heard::of(&sent);
            let Sent { head, body, .. } = *sent;
            let id = heard::id_apart(&head.headers);
            let headers = decoder.passes_whole().then_some(head.headers);
            let stream = stream(Source::Open(body, decoder));
            let answered = Some(heard);
            let mut stream = Box::new(Stream { hidden, first, headers, id, report, answered, ..stream });
            stream.permit.hold(lease);
            Ok(stream)
        }
    }
}

/// The body of a streamed answer. What each event touches stands side by side: with hundreds of streams, the processor's
/// caches have lost it by the next one.
#[repr(C)]
pub(super) struct Relay {
    source: Source,
    /// Events that wait to be sent.
    out: BytesMut,
    /// How many bytes the client was sent that the visit has not been told of.
    sent: usize,
    /// Since when the upstream has had nothing for us; `None` while it talks.
    silent: Option<Instant>,
    /// Since when the client has heard nothing, as last looked at.
    quiet: Instant,
    /// Whether it has heard something since then.
    spoke: bool,
    house: Arc<House>,
    /// Tells when the timer is over.
    bell: Bell,
    /// When the timer is over; `None` if it is.
    rings: Option<Instant>,
    idle: Duration,
    ping: Duration,
    visit: Stay,
    timer: Pin<Box<Sleep>>,
    permit: Option<Permit>,
    /// What must not come back in the upstream's words.
    hidden: Hidden,
    /// The upstream's own request id, for the log if the stream fails.
    id: Option<HeaderValue>,
}

impl Relay {
    pub(super) fn new(stream: Stream, visit: Stay) -> Self {
        let Stream { source, permit, idle, ping, hidden, first, id, .. } = stream;
        let now = Instant::now();
        let mut out = BytesMut::new();
        if matches!(source, Source::Opening(_)) {
            out.extend_from_slice(sse::PING);
        }
        let rings = now + ping.min(idle);
        let mut relay = Self {
            source,
            out,
            sent: 0,
            silent: None,
            quiet: now,
            spoke: false,
            house: Arc::clone(visit.house()),
            bell: Bell::default(),
            rings: Some(rings),
            idle,
            ping,
            visit,
            timer: Box::pin(tokio::time::sleep_until(rings)),
            permit: Some(permit),
            hidden,
            id,
        };
        relay.begin(first);
        relay
    }

    /// Takes what was read of a stream before it was known for one.
    fn begin(&mut self, first: Bytes) {
        if first.is_empty() {
            return;
        }
        if let Some(through) = self.took(Some(Ok(Frame::data(first)))) {
            self.out.extend_from_slice(&through);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.house.is_cut() {
            self.cut();
        }
        loop {
            if !self.out.is_empty() {
                let bytes = self.out.split().freeze();
                return self.send(bytes);
            }
            let step = match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::Opening(opening) => opening.as_mut().poll(cx).map(Step::Opened),
                Source::Open(body, _) => Pin::new(body).poll_frame(cx).map(Step::Frame),
            };
            match step {
                Poll::Pending if self.is_done() => self.finish_done(),
                // The client has been told; what the upstream may still say is for nobody.
                Poll::Pending if self.has_failed() => self.finish(End::Clean, None),
                Poll::Pending => {
                    if self.poll_silence(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Step::Opened(opened)) => self.opened(opened),
                Poll::Ready(Step::Frame(frame)) => {
                    self.silent = None;
                    if let Some(through) = self.took(frame) {
                        return self.send(through);
                    }
                }
            }
        }
    }

    /// Its quiet things call the task that drives it by `bell`.
    pub(super) fn call_by(&mut self, bell: Bell) {
        self.bell = bell;
    }

    pub(super) fn visit(&mut self) -> &mut Visit {
        &mut self.visit
    }

    fn send(&mut self, bytes: Bytes) -> Poll<Option<Frame<Bytes>>> {
        self.sent += bytes.len();
        self.spoke = true;
        Poll::Ready(Some(Frame::data(bytes)))
    }

    fn is_done(&self) -> bool {
        matches!(&self.source, Source::Open(_, decoder) if decoder.is_done())
    }

    fn has_failed(&self) -> bool {
        matches!(&self.source, Source::Open(_, decoder) if decoder.has_failed())
    }

    fn is_of_a_handler(&self) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.lease().is_some())
    }

    /// Takes one frame of the upstream; gives back bytes that go on untouched.
    fn took(&mut self, frame: Option<Result<Frame<Bytes>, LineError>>) -> Option<Bytes> {
        let Source::Open(_, decoder) = &mut self.source else { return None };
        let data = match frame {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            None => {
                self.finish(End::Clean, None);
                return None;
            }
            Some(Err(_)) if decoder.is_done() => {
                self.finish(End::Clean, None);
                return None;
            }
            Some(Err(error)) => {
                let (code, words) = if self.is_of_a_handler() { CRASHED } else { BROKEN };
                let how = if let LineError::Garbled(how) = error { Some(how) } else { None };
                self.break_off(code, 502, words, how);
                return None;
            }
        };
        match decoder.feed(&data, &mut self.out) {
            Ok(Fed::Through) => Some(data).filter(|d| !d.is_empty()),
            Ok(Fed::Rewritten) => None,
            Err(Broken::Upstream(fault)) => {
                let logged = if self.is_of_a_handler() { RAISED } else { ERROR };
                self.fail(*fault, logged);
                None
            }
            Err(Broken::Garbled(how)) => {
                self.break_off("upstream_garbled", 502, "the upstream's stream makes no sense", Some(how));
                None
            }
        }
    }

    fn opened(&mut self, opened: Result<Box<Upstream>, Failure>) {
        match opened {
            Ok(upstream) => {
                self.visit.answered(Heard::of(&upstream.sent));
                // The head is gone: of what was lost only the metrics can still tell.
                upstream.report.lost().for_each(|change| self.visit.lost(&change.field));
                self.hidden = upstream.hidden;
                self.id = heard::id_apart(&upstream.sent.head.headers);
                if let Some(permit) = &mut self.permit {
                    permit.hold(upstream.lease);
                }
                self.source = Source::Open(upstream.sent.body, upstream.decoder);
                // The wait for the head has its own limit, and what the timer was set for may be later than what comes now.
                (self.silent, self.rings) = (None, None);
                self.begin(upstream.first);
            }
            Err(failure) => {
                let told = reply::tell(&failure, self.visit.integration());
                let lost = failure.report().into_iter().flat_map(Report::lost);
                lost.for_each(|change| self.visit.lost(&change.field));
                sse::event(&mut self.out, |out| out.extend_from_slice(&told.json()));
                self.visit.heard_of(&failure);
                self.visit.failed(told.label(), told.cause());
                self.close();
            }
        }
    }

    /// Ends the stream because this process ends.
    fn cut(&mut self) {
        match self.source {
            Source::Ended => {}
            Source::Opening(_) => self.opened(Err(Failure::Draining)),
            Source::Open(..) if self.is_done() => self.finish_done(),
            Source::Open(..) => {
                let fault = Fault {
                    status: 503,
                    message: CUT.1.to_owned(),
                    kind: Some("unavailable_error".into()),
                    code: Some(CUT.0.into()),
                    ..Fault::default()
                };
                self.finish(End::Broken(&fault), Some(CUT));
            }
        }
    }

    /// Ends the stream in an error of our own finding. `how` holds words of the upstream, for the client alone.
    fn break_off(&mut self, code: &'static str, status: u16, words: &'static str, how: Option<String>) {
        let fault = Fault {
            status,
            message: how.map_or_else(|| words.to_owned(), |how| format!("{words}: {how}")),
            kind: Some("upstream_error".into()),
            code: Some(code.into()),
            ..Fault::default()
        };
        self.fail(fault, (code, words));
    }

    /// Ends the stream in an error event that names the integration.
    fn fail(&mut self, mut fault: Fault, logged: Logged) {
        fault.code.get_or_insert_with(|| logged.0.to_owned());
        let mut fault = self.hidden.strip(fault);
        if let Some(name) = self.visit.integration() {
            fault.begin_with(&format!("integration `{name}`: "));
        }
        self.finish(End::Broken(&fault), Some(logged));
    }

    fn finish(&mut self, end: End<'_>, logged: Option<Logged>) {
        let Source::Open(_, decoder) = &mut self.source else { return self.close() };
        let outcome = decoder.finish(end, &mut self.out);
        self.visit.used(decoder.usage().as_ref());
        match outcome {
            Outcome::Unfinished(fault) => {
                let early = fault.code.as_deref() == Some(EARLY.0);
                return self.fail(*fault, if early { EARLY } else { ERROR });
            }
            Outcome::Complete => self.visit.ended(),
            Outcome::Failed(_) => {
                let (code, words) = logged.unwrap_or(ERROR);
                self.name();
                self.visit.failed(code, words.to_owned());
            }
        }
        self.close();
    }

    /// Tells the log what the upstream called the request.
    fn name(&mut self) {
        self.visit.named_by_upstream(self.id.take().as_ref());
    }

    /// The client has all of it and the upstream's last bytes are still to come: nobody waits for them.
    fn finish_done(&mut self) {
        self.drain();
        self.close();
    }

    fn close(&mut self) {
        self.source = Source::Ended;
        self.permit = None;
    }

    fn drain(&mut self) {
        let Source::Open(body, mut decoder) = std::mem::replace(&mut self.source, Source::Ended) else {
            return;
        };
        decoder.finish(End::Clean, &mut BytesMut::new());
        self.visit.used(decoder.usage().as_ref());
        self.visit.ended();
        rest::drain(body, &self.house.tasks);
    }

    /// Ready if something was written or the stream has ended; pending until the next moment that matters.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let rang = self.bell.rang(cx);
        let is_over =
            rang.is_some_and(|waker| self.timer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if is_over {
            self.rings = None;
        } else if self.silent.is_some() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let silent = *self.silent.get_or_insert(now);
        // An upstream may talk without a word for the client: pings of its own, half an event.
        if std::mem::take(&mut self.spoke) {
            self.quiet = now;
        }
        // Waking too early costs less than moving the timer for each event; it never wakes too late, since what it was
        // set for has only been put off.
        if self.rings.is_some() {
            return Poll::Pending;
        }
        let cut = match self.source {
            Source::Open(..) => Some(silent + self.idle),
            Source::Opening(_) | Source::Ended => None,
        };
        if cut.is_some_and(|at| at <= now) {
            let how = format!("{:?}", self.idle);
            let (code, words) = if self.is_of_a_handler() { HANDLER_SILENT } else { SILENT };
            self.break_off(code, 504, words, Some(how));
            return Poll::Ready(());
        }
        let ping = self.quiet + self.ping;
        if ping <= now {
            let comment = match &self.source {
                Source::Open(_, decoder) => decoder.ping(),
                Source::Opening(_) | Source::Ended => sse::PING,
            };
            self.out.extend_from_slice(comment);
            // The timer is set anew once it has been sent.
            self.bell.ring();
            return Poll::Ready(());
        }
        let next = cut.map_or(ping, |cut| cut.min(ping));
        self.timer.as_mut().reset(next);
        self.rings = Some(next);
        self.bell.ring();
        self.poll_silence(cx)
    }
}

enum Step {
    Opened(Result<Box<Upstream>, Failure>),
    Frame(Option<Result<Frame<Bytes>, LineError>>),
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.is_done() {
            self.drain();
        } else if matches!(self.source, Source::Open(..)) {
            self.name();
        }
        self.visit.sent(self.sent);
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("waiting", &self.out.len()).finish_non_exhaustive()
    }
}
