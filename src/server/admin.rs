//! The admin side: probes, metrics, and the state of each integration; it changes nothing and shows no secret.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::clock::{Clock, Clocked, Wait};
use super::listen::{Bound, Door, Stream};
use super::stop::Stop;
use crate::auth::AuthStatus;
use crate::integration::Entry;
use crate::observe::Status;
use crate::proxy::House;
use crate::tasks::Tasks;
use crate::tasks::bell::Bell;
use crate::workers::{CrewState, CrewStatus, WorkerStatus};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a listener of the admin side shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// `/livez`, `/readyz` and `/metrics`: for scrapers outside the pod.
    Outside,
}

/// What clients of the admin side may take of us.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at once. Above it the oldest is asked to leave.
    most: usize,
    /// How long until the next oldest is asked, too.
    ask: Duration,
    /// From the first byte of a head to its last.
    header: Duration,
    /// Between two requests on one connection.
    idle: Duration,
    /// How long a client may take nothing of its answer.
    stuck: Duration,
}

/// Scrapers come each 15 to 60 s, on one connection each.
const LIMITS: Limits = Limits {
    most: 64,
    ask: Duration::from_millis(100),
    header: Duration::from_secs(10),
    idle: Duration::from_secs(120),
    stuck: Duration::from_secs(10),
};

/// Serves `door` until everything else has ended.
pub async fn run(
    door: Bound,
    scope: Scope,
    house: Arc<House>,
    tasks: Tasks,
    stop: Stop,
) -> std::io::Result<()> {
    let desk = Desk { scope, house, limits: LIMITS, crowded: Arc::default() };
    desk.serve(&door.into_async()?, &tasks, stop).await;
    Ok(())
}

/// What connections of one listener share.
#[derive(Clone, Debug)]
struct Desk {
    scope: Scope,
    house: Arc<House>,
    limits: Limits,
    /// Asks the oldest connection to leave.
    crowded: Arc<Notify>,
}

impl Desk {
    async fn serve(&self, door: &Door, tasks: &Tasks, mut stop: Stop) {
        let room = Arc::new(Semaphore::new(self.limits.most));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.over() => return,
                accepted = async { Ok::<_, std::io::Error>((door.accept().await?, self.place(&room).await)) } => accepted,
            };
            let Ok((stream, place)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let (desk, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                desk.talk(stream, stop).await;
                drop(place);
            });
        }
    }

    /// A place for one more connection. Others may hold theirs for long without a word, and a probe cannot wait for that.
    async fn place(&self, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(room).try_acquire_owned() {
                return Some(place);
            }
            self.crowded.notify_one();
            if let Ok(place) = timeout(self.limits.ask, Arc::clone(room).acquire_owned()).await {
                return place.ok();
            }
        }
    }

    /// One connection, to its end or its limit.
    async fn talk(&self, stream: Stream, mut stop: Stop) {
        let Limits { header, idle, stuck, .. } = self.limits;
        let clock = Clock::new(stuck, Bell::default());
        let service = service_fn(|request| {
            let response = answer(&request, self.scope, &self.house);
            // It is all there: from now on we wait for the client alone.
            clock.set(Wait::Idle);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Ours tells an idle connection from a slow head; hyper's would close both alike.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(Clocked::new(stream, Arc::clone(&clock))), service);
        let (mut connection, mut crowded) = (pin!(connection), pin!(self.crowded.notified()));
        let mut leaves = false;
        loop {
            let look = clock.deadline(header, idle).max(Instant::now() + Duration::from_millis(1));
            tokio::select! {
                biased;
                () = stop.over() => return,
                _ = connection.as_mut() => return,
                () = crowded.as_mut(), if !leaves => {
                    leaves = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(look) => if clock.is_over(header, idle) {
                    return;
                },
            }
        }
    }
}

fn answer<B>(request: &Request<B>, scope: Scope, house: &House) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let told = match scope {
            Scope::All => {
                "only GET is served here: this is `admin.listen`, and models answer at `server.listen`\n"
            }
            Scope::Outside => {
                "only GET is served here: this is `admin.metrics_listen`, and models answer at `server.listen`\n"
            }
        };
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, told);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match (request.uri().path(), scope) {
        ("/livez", _) => text(StatusCode::OK, "ok\n"),
        ("/readyz", _) if house.is_unready() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        ("/readyz", _) => text(StatusCode::OK, "ok\n"),
        ("/metrics", _) => {
            house.ended.settle_all();
            typed(StatusCode::OK, OPEN_METRICS, house.metrics.text())
        }
        ("/integrations", Scope::All) => integrations(house),
        ("/", Scope::All) => text(StatusCode::OK, "/livez\n/readyz\n/metrics\n/integrations\n"),
        (_, Scope::All) => {
            text(StatusCode::NOT_FOUND, "there is nothing here; try /livez /readyz /metrics /integrations\n")
        }
        (_, Scope::Outside) => {
            text(StatusCode::NOT_FOUND, "there is nothing here; try /livez /readyz /metrics\n")
        }
    }
}

#[derive(Serialize)]
struct Integration<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// Why new files or values of it are not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<&'a str>,
    /// When client certificates end, in seconds since the epoch.
    #[serde(rename = "cert_expiry", skip_serializing_if = "BTreeMap::is_empty")]
    expiries: BTreeMap<&'static str, u64>,
    origin: String,
    format: &'static str,
    endpoint: String,
    models: Vec<&'a str>,
    in_flight: i64,
    queued: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization: Option<AuthStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<Value>,
}

fn integrations(house: &House) -> Response<Full<Bytes>> {
    house.ended.settle_all();
    let (registry, status) = (house.registry.load(), house.status.load());
    let show = |entry| show(entry, &status);
    let shown: Vec<Integration<'_>> = registry.entries().iter().map(|entry| show(entry)).collect();
    let whole = json!({
        "pid": std::process::id(),
        "generation": status.generation,
        "config": configuration(&status),
        "integrations": shown,
    });
    typed(StatusCode::OK, "application/json", whole.to_string())
}

/// Times are seconds since the epoch. What a mistake is called never holds a secret.
fn configuration(status: &Status) -> Value {
    let last = status.last.as_ref().map(|last| {
        let problems = last.refused.as_ref().map_or(0, |(count, _)| *count);
        let text = last.refused.as_ref().map(|(_, text)| text);
        json!({
            "ok": last.refused.is_none(),
            "at": last.at,
            "problems": problems,
            "text": text,
            "restart_needed_for": last.restart_needed_for,
        })
    });
    json!({
        "file": status.file.as_ref().map(|file| file.display().to_string()),
        "loaded_at": status.loaded_at,
        "reloads_taken": status.taken,
        "reloads_refused": status.refused,
        "last_reload": last,
    })
}

fn show<'a>(entry: &'a Entry, status: &'a Status) -> Integration<'a> {
    let settings = &entry.settings;
    let (ready, trouble) = (entry.state.as_ref(), entry.trouble());
    let crew = ready.ok().and_then(|integration| integration.crew.as_ref()).map(|crew| crew.status());
    Integration {
        name: settings.name.as_str(),
        state: match &crew {
            _ if trouble.is_some() => "failed",
            Some(crew) if crew.state == CrewState::Starting => "starting",
            Some(_) | None => "ready",
        },
        remedy: trouble,
        stale: status.stale.get(settings.name.as_str()).map(String::as_str),
        expiries: entry.expiries.iter().copied().collect(),
        origin: settings.origin.to_string(),
        format: settings.spoken(),
        endpoint: settings.shown_endpoint(),
        models: settings.models.iter().map(|m| m.alias.as_str()).collect(),
        in_flight: entry.metrics.in_flight.get(),
        queued: entry.metrics.queued.get(),
        authorization: ready.ok().map(|integration| integration.authorizer.status()),
        handler: crew.map(|crew| handler(&crew)),
    }
}

fn handler(crew: &CrewStatus) -> Value {
    let worker = |worker: &WorkerStatus| {
        json!({
            "pid": worker.pid,
            "state": worker.state.word(),
            "in_flight": worker.in_flight,
            "calls": worker.calls,
            "memory": worker.memory,
        })
    };
    let restarts: BTreeMap<_, _> = crew.restarts.into_iter().collect();
    json!({
        "class": crew.loaded.as_ref().map(|loaded| &loaded.class),
        "methods": crew.loaded.as_ref().map(|loaded| &loaded.methods),
        "call_style": crew.loaded.as_ref().map(|loaded| &loaded.style),
        "warnings": crew.loaded.as_ref().map(|loaded| &loaded.warnings),
        "python": crew.loaded.as_ref().map(|loaded| &loaded.python),
        "litellm": crew.loaded.as_ref().map(|loaded| &loaded.litellm),
        "generation": crew.generation,
        "stale": crew.stale,
        "settling": crew.settling,
        "trouble": crew.trouble,
        "files": crew.files,
        "workers": crew.workers.iter().map(worker).collect::<Vec<_>>(),
        "restarts": restarts,
        "calls": crew.calls,
        "in_flight": crew.in_flight,
        "waiting": crew.waiting,
    })
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::super::stop::Stopper;
    use super::super::tests::{house, soon};
    use super::*;
    use crate::config::valid::Listen;
    use crate::config::{Environment, Options, load};

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";

    /// An admin listener with these limits, which lasts as long as the stopper.
    fn listener(limits: Limits) -> (std::net::SocketAddr, Stopper) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), "[server]\n").unwrap();
        let options =
            Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
        let settings = load(&options).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let to = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = Bound::bind(&to, &settings.server.unix).unwrap();
        let super::super::listen::Address::Tcp(address) = bound.address() else { panic!("it is TCP") };
        let house = house(&settings, address);
        let tasks = house.tasks.clone();
        let desk = Desk { scope: Scope::Outside, house, limits, crowded: Arc::default() };
        let (stopper, stop) = Stopper::new();
        tasks.clone().spawn(async move {
            desk.serve(&bound.into_async().unwrap(), &tasks, stop).await;
        });
        (address, stopper)
    }

    /// Asks, and reads the whole answer.
    async fn scrape(client: &mut TcpStream) {
        client.write_all(GET).await.unwrap();
        let (mut read, mut end) = (Vec::new(), false);
        while !end {
            assert!(soon(client.read_buf(&mut read)).await.unwrap() > 0, "closed before the answer's end");
            end = read.ends_with(b"# EOF\n");
        }
        assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }

    async fn closed(client: &mut TcpStream) {
        assert_eq!(soon(client.read(&mut [0; 64])).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answers_is_cut() {
        let quick = Limits { stuck: Duration::from_millis(100), header: Duration::from_millis(50), ..LIMITS };
        let (address, _stopper) = listener(quick);
        let mut client = TcpStream::connect(address).await.unwrap();
        soon(async { while client.write_all(GET).await.is_ok() {} }).await;
    }

    #[tokio::test]
    async fn a_scraper_may_come_back_on_its_connection_long_after_a_heads_limit() {
        let (address, _stopper) = listener(Limits { header: Duration::from_millis(50), ..LIMITS });
        let mut scraper = TcpStream::connect(address).await.unwrap();
        scrape(&mut scraper).await;
        // Another one shows that the limit has passed.
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /me").await.unwrap();
        closed(&mut half).await;
        scrape(&mut scraper).await;
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_at_its_limit() {
        let (address, _stopper) = listener(Limits { idle: Duration::from_millis(50), ..LIMITS });
        let (mut used, mut fresh) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        closed(&mut fresh).await;
        used.write_all(GET).await.ok();
        soon(async { while used.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} }).await;
    }

    #[tokio::test]
    async fn one_more_than_there_is_room_for_is_served_and_the_oldest_leaves() {
        let (address, _stopper) = listener(Limits { most: 2, ask: LIMITS.idle, ..LIMITS });
        let mut oldest = TcpStream::connect(address).await.unwrap();
        scrape(&mut oldest).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        scrape(&mut next).await;
        closed(&mut oldest).await;
        let mut last = TcpStream::connect(address).await.unwrap();
        scrape(&mut last).await;
        closed(&mut silent).await;
        scrape(&mut next).await;
    }
}
