//! What the client is sent: a success as it came or was translated, a failure as an OpenAI-shaped error.

mod answer;
mod lost;
mod tell;
mod told;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, SET_COOKIE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::ended::Stay;
use super::exchange::Upstream;
use super::failure::Failure;
use super::heard::{self, Heard, REQUEST_ID, UPSTREAM_REQUEST_ID};
use super::pass::Relayed;
use super::relay::{Relay, Stream};
use super::visit::{UPSTREAM_ERROR, Visit};
use super::whole::{Begun, Whole};
use crate::hop::{connection_named, is_hop_by_hop};
use crate::outbound::Report;
use told::Told;

pub use answer::Answer;
pub(super) use tell::tell;

const DROPPED: HeaderName = HeaderName::from_static("x-outrider-dropped");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether a field belongs to one connection alone (RFC 9110 §7.6.1), is the length, which hyper says anew, would
/// make a client act towards the provider, or is a word that only we say.
fn ends_here(name: &HeaderName) -> bool {
    let has_no_use = matches!(
        name.as_str(),
        "alt-svc"
            | "content-length"
            | "proxy-authenticate"
            | "set-cookie"
            | "strict-transport-security"
            | "x-outrider-dropped"
    );
    has_no_use || is_hop_by_hop(name)
}

/// A success, before it has become HTTP.
pub(super) enum Outcome {
    Models(Bytes),
    Passed(Box<Begun>),
    /// The client's JSON, and whose answer it was made of.
    Translated(Bytes, Box<Upstream>),
    Stream(Box<Stream>),
    Relayed(Box<Relayed>),
}

/// Turns a success into HTTP.
pub(super) fn respond(outcome: Outcome, mut visit: Stay) -> Response<Answer> {
    match outcome {
        Outcome::Models(json) => full(StatusCode::OK, json, HeaderMap::new(), visit),
        Outcome::Translated(json, upstream) => {
            visit.used(upstream.decoder.usage().as_ref());
            let mut headers = HeaderMap::new();
            if let Some(id) = heard::id_in(&upstream.sent.head.headers) {
                headers.insert(UPSTREAM_REQUEST_ID, id.clone());
            }
            note_lost(&upstream.report, &mut headers, &visit);
            full(StatusCode::OK, json, headers, visit)
        }
        Outcome::Passed(mut begun) => {
            visit.answered(Heard::of(&begun.sent));
            let (mut headers, id) = relayed(std::mem::take(&mut begun.sent.head.headers), visit.is_errand());
            begun.named(id);
            note_lost(&begun.report, &mut headers, &visit);
            let status = begun.sent.head.status;
            send(status, headers, visit, |visit| Answer::whole(Whole::new(begun, visit)))
        }
        Outcome::Stream(stream) => streamed(*stream, visit),
        Outcome::Relayed(answer) => passed_on(*answer, visit),
    }
}

fn passed_on(answer: Relayed, mut visit: Stay) -> Response<Answer> {
    visit.answered(Heard::of(&answer.sent));
    let Parts { status, headers, .. } = answer.sent.head;
    let (mut headers, id) = relayed(headers, visit.is_errand());
    headers.extend(answer.length.map(|length| (CONTENT_LENGTH, length)));
    if status.is_success() {
        visit.ended();
    } else {
        let words = format!("the upstream answered {} to what was relayed", status.as_u16());
        visit.named_by_upstream(id.as_ref());
        visit.failed(UPSTREAM_ERROR, words);
    }
    send(status, headers, visit, |visit| Answer::full(answer.body, visit))
}

fn streamed(mut stream: Stream, mut visit: Stay) -> Response<Answer> {
    if let Some(heard) = stream.answered {
        visit.answered(heard);
    }
    let mut headers = stream.headers.take().map(|headers| relayed(headers, false).0).unwrap_or_default();
    if let Some(id) = &stream.id {
        headers.insert(UPSTREAM_REQUEST_ID, id.clone());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    note_lost(&stream.report, &mut headers, &visit);
    send(StatusCode::OK, headers, visit, |visit| Answer::stream(Relay::new(stream, visit)))
}

/// Turns a failure into an OpenAI-shaped error.
pub(super) fn refuse(failure: &Failure, mut visit: Stay) -> Response<Answer> {
    visit.place();
    visit.heard_of(failure);
    let told = tell(failure, visit.integration());
    // Who leaves has not failed; only a client that closed one half of its connection still hears this.
    if matches!(failure, Failure::Left) {
        return last_words(&told);
    }
    let mut headers = match failure {
        Failure::Answered(answered) => answered.headers.clone(),
        _ => HeaderMap::new(),
    };
    for (name, value) in &told.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    if let Some(seconds) = told.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if told.hopeless {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(methods) = allowed(failure) {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if told.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(report) = failure.report() {
        note_lost(report, &mut headers, &visit);
    }
    visit.failed(told.label(), told.cause());
    full(told.status, told.json().into(), headers, visit)
}

fn allowed(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::MethodNotAllowed(methods) => Some(methods),
        Failure::Unread(failure) => allowed(failure),
        _ => None,
    }
}

/// The answer to a request whose handling panicked: a 500 that tells nothing.
pub(super) fn crashed() -> Response<Answer> {
    last_words(&tell::internal())
}

/// An answer that nothing is noted of, and that ends its connection.
fn last_words(told: &Told) -> Response<Answer> {
    let mut response = Response::new(Answer::bare(told.json().into()));
    *response.status_mut() = told.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to who has no business here.
pub(super) fn nothing() -> Response<Answer> {
    let mut response = Response::new(Answer::bare(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn full(status: StatusCode, json: Bytes, mut headers: HeaderMap, mut visit: Stay) -> Response<Answer> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    visit.ended();
    send(status, headers, visit, |visit| Answer::full(json, visit))
}

fn send(
    status: StatusCode,
    mut headers: HeaderMap,
    mut visit: Stay,
    body: impl FnOnce(Stay) -> Answer,
) -> Response<Answer> {
    visit.status(status.as_u16());
    // A handler knows its provider's answers by the provider's own id.
    if !(visit.is_errand() && headers.contains_key(REQUEST_ID))
        && let Ok(id) = HeaderValue::from_str(visit.id())
    {
        headers.insert(REQUEST_ID, id);
    }
    let mut response = Response::new(body(visit));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The upstream's headers, less those that end here, and the upstream's own request id. A handler (`errand`) is sent all
/// that is not the connection's: the provider is its own.
fn relayed(mut headers: HeaderMap, errand: bool) -> (HeaderMap, Option<HeaderValue>) {
    headers.remove(CONTENT_LENGTH);
    // One walk, which nearly always finds nothing: looking for each by its name would cost more.
    let (mut doomed, mut has_id, mut has_other) = (Vec::new(), false, false);
    for name in headers.keys() {
        has_id |= *name == REQUEST_ID;
        has_other |= heard::is_other_id(name);
        if *name == CONNECTION {
            doomed.extend(connection_named(&headers).filter_map(|name| name.parse().ok()));
        }
        if ends_here(name) && !(errand && *name == SET_COOKIE) {
            doomed.push(name.clone());
        }
    }
    for name in &doomed {
        headers.remove(name);
    }
    let id = match has_id {
        // Ours takes its place.
        true if !errand => headers.remove(REQUEST_ID),
        true => headers.get(REQUEST_ID).cloned(),
        false if has_other => heard::other_id_in(&headers).cloned(),
        false => None,
    };
    if let Some(id) = id.as_ref().filter(|_| !errand) {
        headers.insert(UPSTREAM_REQUEST_ID, id.clone());
    }
    (headers, id)
}

/// Tells, on the answer and in the metrics, which fields did not reach the provider as the client wrote them.
fn note_lost(report: &Report, headers: &mut HeaderMap, visit: &Visit) {
    report.lost().for_each(|change| visit.lost(&change.field));
    headers.extend(lost::list(report).map(|list| (DROPPED, list)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_end_here_and_the_rest_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "X-Up, keep-alive"),
            ("x-up", "1"),
            ("keep-alive", "timeout=99"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7, 7"),
            ("set-cookie", "a=b"),
            ("proxy-authenticate", "Basic"),
            ("x-outrider-dropped", "theirs"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("x-request-id", "theirs"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let names = |headers: HeaderMap| {
            let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        let (for_client, id) = relayed(headers.clone(), false);
        assert_eq!(id.unwrap(), "theirs");
        let for_client = names(for_client);
        assert_eq!(for_client, ["x-ratelimit-remaining-tokens", "x-upstream-request-id"]);
        let (for_handler, id) = relayed(headers, true);
        assert_eq!(id.unwrap(), "theirs");
        let for_handler = names(for_handler);
        assert_eq!(for_handler, ["set-cookie", "x-ratelimit-remaining-tokens", "x-request-id"]);
    }
}
