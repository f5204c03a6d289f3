//! The journey of one request, on one screen: [`answer`].

mod activity;
mod ended;
mod exchange;
mod explain;
mod failure;
mod head;
mod heard;
mod hide;
mod intake;
mod models;
mod opening;
mod pass;
mod relay;
mod reply;
mod rest;
mod tail;
mod visit;
mod whole;
mod worker;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::integration::{HandlersDoor, Permit, Registry};
use crate::observe::{Access, IntegrationMetrics, Metrics, Status, clock};
use crate::openai::scan::Model;
use crate::openai::{Envelope, Operation};
use crate::outbound::Report;
use crate::secret::Secret;
use crate::tasks::{Seat, Tasks};
use ended::Stay;
use exchange::{Order, Upstream};
use failure::{Awaited, Failure};
use head::Fields;
use heard::Heard;
use intake::Door;
use pass::Errand;
use reply::Outcome;
use visit::Visit;
use whole::Begun;

pub use activity::Activity;
pub use ended::Ended;
pub use explain::{Explained, Header, Question, Refusal, Shown, explain};
pub use reply::Answer;

/// How long a stream's client may hear nothing before it is sent a comment, which commits the 200. Earlier, if it says
/// that it bears less, but never more often than ten times a second.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_LEAST: Duration = Duration::from_millis(100);

/// What all requests share.
#[derive(Debug)]
pub struct House {
    /// The integrations; each request holds the snapshot that it began with.
    pub registry: ArcSwap<Registry>,
    /// Access lines, if wanted.
    pub access: Option<Access>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The metrics of requests that found no integration, and of the server's own files.
    pub strays: IntegrationMetrics,
    /// For work that outlives its request: draining a finished stream's tail.
    pub tasks: Tasks,
    /// The longest request head, in bytes.
    pub max_head: usize,
    /// The way of handlers to their providers through us, where there is one.
    pub door: Option<Arc<HandlersDoor>>,
    /// The keys of `[server]` that a reload changes.
    pub rules: ArcSwap<Rules>,
    /// The state of the configuration.
    pub status: ArcSwap<Status>,
    /// Set once the process is to stop: it may still serve, but is ready for nobody new.
    pub unready: AtomicBool,
    /// Set once new requests are refused.
    pub draining: AtomicBool,
    /// Set once what is still open is cut: answers end in words, as soon as their connections' tasks look.
    pub cut: AtomicBool,
    /// Whether anyone is being served.
    pub activity: Activity,
    /// The visits that are over and not yet told.
    pub ended: Arc<Ended>,
}

/// What holds for every request, and may change while we run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What every caller must present as Bearer.
    pub caller_key: Option<Secret>,
    /// The longest request body, in bytes.
    pub max_body: usize,
    /// The longest silence while a request body is read.
    pub body_timeout: Duration,
}

/// Answers one request. Never fails: whatever goes wrong becomes an OpenAI-shaped error.
pub async fn answer(request: Box<Request<Incoming>>, house: Arc<House>, seat: Seat) -> Response<Answer> {
    let (mut visit, admitted) = receive(&request, &house, seat);
    let answered = match admitted {
        // By reference: moved, it would have room twice in every request's future.
        Ok(ref admitted) => {
            let journey = pin!(journey(request, admitted, &house, seat, &mut visit));
            until_cut(&house, journey).await
        }
        // Boxed: what is refused should not make room in every request's future.
        Err(failure) => Err(Box::pin(intake::unread(failure, *request)).await),
    };
    conclude(answered, visit)
}

fn receive(request: &Request<Incoming>, house: &Arc<House>, seat: Seat) -> (Stay, Result<Admitted, Failure>) {
    let fields = Fields::of(request);
    let visit = Visit::begin(house, seat, request.uri().path(), &fields);
    let door = intake::admit(request, &fields, house);
    (visit, door.map(|door| (door, patience(&fields))))
}

/// Where a request wants to go, and how long its client bears silence.
type Admitted = (Door, Option<Duration>);

/// Answers one request that came through the handlers' door: sends it to the provider of the integration whose key its
/// path begins with. Never fails; without such a key it is answered 404, and nothing else is told.
pub async fn run_errand(request: Box<Request<Incoming>>, house: Arc<House>, seat: Seat) -> Response<Answer> {
    let Some(errand) = Errand::of(&request, &house) else {
        tracing::debug!("a request at the handlers' door showed no key");
        return reply::nothing();
    };
    let mut visit = Visit::errand(&house, seat, errand.tail(), &Fields::of(&request));
    let answered = {
        let errand = pin!(errand.run(request, &house, seat, &mut visit));
        until_cut(&house, errand).await
    };
    conclude(answered, visit)
}

fn conclude(answered: Result<Outcome, Failure>, visit: Stay) -> Response<Answer> {
    match answered {
        Ok(outcome) => reply::respond(outcome, visit),
        Err(failure) => reply::refuse(&failure, visit),
    }
}

/// `work`, given up when the house cuts what is open. Nothing is registered for that: it costs a look at each step.
fn until_cut<T>(
    house: &House,
    mut work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> impl Future<Output = Result<T, Failure>> {
    poll_fn(
        move |cx| if house.is_cut() { Poll::Ready(Err(Failure::Draining)) } else { work.as_mut().poll(cx) },
    )
}

/// The answer to a request whose handling panicked.
pub fn crashed() -> Response<Answer> {
    reply::crashed()
}

async fn journey(
    request: Box<Request<Incoming>>,
    admitted: &Admitted,
    house: &Arc<House>,
    seat: Seat,
    visit: &mut Visit,
) -> Result<Outcome, Failure> {
    let (door, patience) = admitted;
    let asked = match door {
        Door::Ask { operation, integration } => (*operation, integration.as_deref(), *patience),
        Door::Models { integration } => return models::list(&house.registry.load(), integration.as_deref()),
        Door::Model { model } => return models::one(&house.registry.load(), None, model),
        Door::Relay { integration, rest } => {
            if let Some(known) = models::known(&house.registry.load(), integration, rest, request.method()) {
                return Ok(known);
            }
            // Boxed: it is rare, and would make room in every request's future.
            let to = (&**integration, &**rest, *patience);
            return Box::pin(pass::relay(request, to, house, seat, visit)).await;
        }
    };
    // By reference, here and below: moved, they would be copied, and have room twice.
    let (order, permit, patience) = {
        let taking = pin!(take_in(request, asked, house, seat, visit));
        taking.await?
    };
    if order.envelope.stream() {
        let opening = pin!(relay::open(order, permit, patience));
        return Ok(Outcome::Stream(opening.await?));
    }
    let answer = pin!(take_whole(order, permit, patience, visit));
    answer.await
}

/// Asks for a whole answer.
async fn take_whole(
    order: Box<Order>,
    mut permit: Permit,
    patience: Option<Patience>,
    visit: &mut Visit,
) -> Result<Outcome, Failure> {
    let mut heard = Hearing { visit, upstream: None };
    let taken = {
        let answer = pin!(async {
            let upstream = heard.upstream.insert(exchange::send(order).await?);
            heard.visit.answered(Heard::of(&upstream.sent));
            exchange::is_success(upstream).await?;
            match upstream.decoder.passes_whole() {
                true => whole::begin(upstream, &mut permit, patience).await,
                false => exchange::translate(upstream).await,
            }
        });
        within(patience, Awaited::Answer, answer).await
    };
    match (taken, heard.upstream.take()) {
        (Ok(first), Some(upstream)) if upstream.decoder.passes_whole() => {
            Ok(Outcome::Passed(Begun::of(*upstream, first, permit)))
        }
        (Ok(json), Some(upstream)) => Ok(Outcome::Translated(json, upstream)),
        (Ok(_), None) => Err(Failure::Internal("an answer came from nowhere")),
        (Err(failure), Some(upstream)) => Err(failure.after(&upstream.sent)),
        (Err(failure), None) => Err(failure),
    }
}

/// An answer whose head has come. Whatever fails behind that, or if the client leaves, something of it is told.
struct Hearing<'a> {
    visit: &'a mut Visit,
    upstream: Option<Box<Upstream>>,
}

impl Drop for Hearing<'_> {
    fn drop(&mut self) {
        let Some(upstream) = &self.upstream else { return };
        self.visit.named_by_upstream(heard::id_in(&upstream.sent.head.headers));
    }
}

/// Reads the body, finds whom it is for, waits for a slot there, and makes the configured edits.
///
/// A future of its own: what it keeps takes no room any more while the answer is waited for.
async fn take_in(
    request: Box<Request<Incoming>>,
    (operation, path, patience): (Operation, Option<&str>, Option<Duration>),
    house: &House,
    seat: Seat,
    visit: &mut Visit,
) -> Result<(Box<Order>, Permit, Option<Patience>), Failure> {
    let registry = house.registry.load_full();
    if let Some(Err(unknown)) = path.map(|name| registry.integration(name)) {
        return Err(Box::pin(intake::unread(unknown.into(), *request)).await);
    }
    let (Parts { headers, .. }, body) = request.into_parts();
    let bytes = intake::body(body, house, visit).await?;
    let patience = patience.and_then(Patience::begin);
    let mut envelope = Envelope::read(bytes)?;

    let wanted = wanted_model(&envelope)?;
    let found = registry.find(path, wanted)?;
    let alias = found.model().alias.shared();
    let called = wanted.filter(|wanted| **wanted != **alias).map_or_else(|| Arc::clone(alias), Arc::from);
    visit.found(found.entry, called, envelope.stream());
    let Ok(integration) = &found.entry.state else {
        return Err(Failure::unavailable(found.entry));
    };
    integration.check_media(&envelope)?;
    let permit = pin!(async { Ok(integration.permit(&found.entry.metrics).await?) });
    let permit = within(patience, Awaited::Turn, permit).await?;

    let mut report = Report::default();
    integration.edit(&mut envelope, found.model(), &mut report)?;
    // A stream's client is kept patient.
    let silent = patience.filter(|_| !envelope.stream());
    // Boxed: it is handed on from step to step, and most of it is large.
    let order = Box::new(Order {
        entry: Arc::clone(found.entry),
        model: found.index,
        client_model: Arc::clone(visit.model()),
        id: Arc::clone(visit.completion_id()),
        created: clock::unix_seconds(),
        operation,
        envelope,
        report,
        headers,
        seat,
        patience: silent,
    });
    Ok((order, permit, patience))
}

fn wanted_model(envelope: &Envelope) -> Result<Option<&str>, Failure> {
    match envelope.model() {
        Model::Text(_, text) => Ok(Some(text)),
        Model::Absent => Ok(None),
        Model::Other(_) if envelope.raw("model") == Some(b"null") => Ok(None),
        Model::Other(_) => Err(Failure::InvalidBody {
            message: "`model` must be a string".into(),
            param: Some("model".into()),
        }),
    }
}

/// How long the client bears silence: `x-stainless-read-timeout`, seconds, less what an answer needs to arrive.
fn patience(fields: &Fields<'_>) -> Option<Duration> {
    let seconds: f64 = head::text(fields.read_timeout)?.parse().ok()?;
    let limit = Duration::try_from_secs_f64(seconds).ok()?;
    Some(limit.saturating_sub((limit / 10).min(Duration::from_secs(1))))
}

/// How long the client bears silence, and when that ends for a request whose body has come.
#[derive(Clone, Copy, Debug)]
struct Patience {
    limit: Duration,
    end: Instant,
}

impl Patience {
    /// From now on.
    fn begin(limit: Duration) -> Option<Self> {
        Some(Self { limit, end: Instant::now().checked_add(limit)? })
    }
}

/// A 504 that arrives is worth more than a connection that the client gives up on; what was `awaited` tells who is to
/// blame. The work is borrowed: a future taken by value would stand in this one three times. Most is done without waiting,
/// and needs no timer.
fn within<T>(
    patience: Option<Patience>,
    awaited: Awaited,
    mut work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> impl Future<Output = Result<T, Failure>> {
    let mut timer = None;
    poll_fn(move |cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        let Some(Patience { limit, end }) = patience else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        timer.as_mut().poll(cx).map(|()| Err(Failure::Patience(limit, awaited)))
    })
}

impl House {
    /// Whether the process is to stop.
    pub fn is_unready(&self) -> bool {
        self.unready.load(Ordering::Relaxed)
    }

    /// Whether what is still open is cut.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether new requests are refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl House {
    /// One without integrations, for so many worker threads, that counts in `metrics` and whose log nobody reads.
    pub(crate) fn bare(seats: usize, metrics: Arc<Metrics>) -> Self {
        let (log, _) = crate::observe::Sink::to(std::io::sink(), true, Duration::ZERO);
        let rules = Rules { caller_key: None, max_body: 0, body_timeout: Duration::ZERO };
        Self {
            registry: ArcSwap::from_pointee(Registry::new(Vec::new(), 0)),
            access: None,
            strays: metrics.integration(""),
            metrics,
            tasks: Tasks::new(),
            max_head: 0,
            door: None,
            rules: ArcSwap::from_pointee(rules),
            status: ArcSwap::from_pointee(Status::new(None)),
            unready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            activity: Activity::default(),
            ended: Ended::new(seats, log),
        }
    }
}
