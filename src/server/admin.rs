//! The admin side: probes, metrics, and the state of each integration; it changes nothing and shows no secret.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::{Value, json};

use super::listen::Bound;
use super::stop::Stop;
use crate::auth::AuthStatus;
use crate::integration::Entry;
use crate::observe::Status;
use crate::proxy::House;
use crate::tasks::Tasks;
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

/// Serves `door` until everything else has ended.
pub async fn run(
    door: Bound,
    scope: Scope,
    house: Arc<House>,
    tasks: Tasks,
    mut stop: Stop,
) -> std::io::Result<()> {
    let door = door.into_async()?;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.over() => return Ok(()),
            accepted = door.accept() => accepted,
        };
        let Ok(stream) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let (house, mut stop) = (Arc::clone(&house), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, scope, &house);
                async move { Ok::<_, Infallible>(response) }
            });
            // hyper's own head timeout closes idle scrapers too: they come back.
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                biased;
                () = stop.over() => {}
                _ = connection => {}
            }
        });
    }
}

fn answer<B>(request: &Request<B>, scope: Scope, house: &House) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is served here: this is `admin.listen`, and models answer at `server.listen`\n",
        );
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match (request.uri().path(), scope) {
        ("/livez", _) => text(StatusCode::OK, "ok\n"),
        ("/readyz", _) if house.is_unready() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        ("/readyz", _) => text(StatusCode::OK, "ok\n"),
        ("/metrics", _) => typed(StatusCode::OK, OPEN_METRICS, house.metrics.text()),
        ("/integrations", Scope::All) => integrations(house),
        ("/", Scope::All) => text(StatusCode::OK, "/livez\n/readyz\n/metrics\n/integrations\n"),
        _ => {
            text(StatusCode::NOT_FOUND, "there is nothing here; try /livez /readyz /metrics /integrations\n")
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
    origin: &'a str,
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
        origin: &settings.origin,
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
