//! One visit of a client, from its request's head to the last byte of the answer: what is logged and counted at its
//! end, however it ends.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::House;
use super::ended::Stay;
use super::failure::Failure;
use super::head::{self, Fields};
use super::heard::{Heard, UPSTREAM_REQUEST_ID};
use super::intake;
use crate::integration::Entry;
use crate::observe::access::Record;
use crate::observe::{Ending, IntegrationMetrics};
use crate::openai::Usage;
use crate::tasks::{Seat, Tasks};

/// What stands before the request's own id in the id of a completion.
const COMPLETION: &str = "chatcmpl-";

/// The code of an answer that is the provider's own refusal.
pub(super) const UPSTREAM_ERROR: &str = "upstream_error";

/// The code of an answer that its client does not take: for the log alone, since nobody can be told.
const STALLED: &str = "client_stalled";

/// Our code and words for the log: the upstream's own may hold a prompt, and its codes have no end.
pub(super) type Logged = (&'static str, &'static str);

/// Of an answer that this process cuts because it ends.
pub(super) const CUT: Logged =
    ("draining", "this server is stopping, and cuts what it cannot finish in time");

/// How much of a path is kept for the log, in bytes: enough for any that is served.
const LONGEST_PATH: usize = 512;

/// Where nearly all requests go.
const USUAL_PATH: &str = "/v1/chat/completions";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The request's id in that of its completion.
pub(super) fn request_id_in(completion: &str) -> &str {
    completion.strip_prefix(COMPLETION).unwrap_or(completion)
}

/// One visit. Left before it has [`Visit::ended`], its client has gone away.
#[derive(Debug)]
pub(super) struct Visit {
    house: Arc<House>,
    seat: Seat,
    /// Whether it is no client's but a handler's, on the way to its provider: a part of another visit, and counted apart.
    errand: bool,
    started: Instant,
    total: Duration,
    /// `chatcmpl-` and the request id.
    id: Arc<str>,
    /// A copy: a part of the head would keep all of the head's buffer while a stream lasts.
    path: Cow<'static, str>,
    retry: Option<u32>,
    entry: Option<Arc<Entry>>,
    /// Whether it counts among the integration's requests in flight.
    served: bool,
    model: Arc<str>,
    stream: bool,
    status: u16,
    code: Option<String>,
    cause: Option<String>,
    first_byte: Option<Duration>,
    connected: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
    tokens: Option<(u64, u64)>,
    upstream_id: Option<Box<str>>,
    ending: Option<Ending>,
}

impl Visit {
    pub(super) fn begin(house: &Arc<House>, seat: Seat, path: &str, fields: &Fields<'_>) -> Stay {
        Self::of(house, seat, path, fields, false)
    }

    /// A handler's request to its provider, at `path` below the endpoint: the whole path of the request holds its key.
    pub(super) fn errand(house: &Arc<House>, seat: Seat, path: &str, fields: &Fields<'_>) -> Stay {
        Self::of(house, seat, path, fields, true)
    }

    fn of(house: &Arc<House>, seat: Seat, path: &str, fields: &Fields<'_>, errand: bool) -> Stay {
        house.activity.begin();
        // Boxed: it is handed on a good many times.
        Stay::new(Box::new(Self {
            house: Arc::clone(house),
            seat,
            errand,
            started: Instant::now(),
            total: Duration::ZERO,
            id: request_id(fields.request_id),
            path: kept(path),
            retry: head::text(fields.retry_count).and_then(|count| count.parse().ok()),
            entry: None,
            served: false,
            model: Arc::default(),
            stream: false,
            status: 0,
            code: None,
            cause: None,
            first_byte: None,
            connected: None,
            bytes_in: 0,
            bytes_out: 0,
            tokens: None,
            upstream_id: None,
            ending: None,
        }))
    }

    /// Whose visit it is.
    pub(super) fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// On which worker's thread it is served.
    pub(super) fn seat(&self) -> Seat {
        self.seat
    }

    /// Whether the house cuts what is open.
    pub(super) fn is_cut(&self) -> bool {
        self.house.is_cut()
    }

    /// Where what outlives the visit runs.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.house.tasks
    }

    /// Whether a handler's request to its provider is answered.
    pub(super) fn is_errand(&self) -> bool {
        self.errand
    }

    /// The request's id: the client's own where it sent a sane one.
    pub(super) fn id(&self) -> &str {
        &self.id[COMPLETION.len()..]
    }

    /// An id for a completion, with the request's id in it.
    pub(super) fn completion_id(&self) -> &Arc<str> {
        &self.id
    }

    /// The model as the client wrote it.
    pub(super) fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// The integration's name, once it is known.
    pub(super) fn integration(&self) -> Option<&str> {
        self.entry.as_ref().map(|e| e.settings.name.as_str())
    }

    /// How much of the request's body has come.
    pub(super) fn took_in(&mut self, bytes: usize) {
        self.bytes_in = bytes as u64;
    }

    pub(super) fn found(&mut self, entry: &Arc<Entry>, model: Arc<str>, stream: bool) {
        if !self.errand {
            entry.metrics.in_flight.inc();
            self.served = true;
        }
        self.entry = Some(Arc::clone(entry));
        self.model = model;
        self.stream = stream;
    }

    /// Makes it the visit of the integration that its path names, if it ends before it was found otherwise.
    pub(super) fn place(&mut self) {
        if self.errand || self.entry.is_some() {
            return;
        }
        let Some(name) = intake::named(&self.path) else { return };
        let registry = self.house.registry.load();
        self.entry = registry.integration(&name).ok().map(Arc::clone);
    }

    /// The upstream has answered. Only the first word of it counts.
    pub(super) fn answered(&mut self, heard: Heard) {
        if self.first_byte.is_some() {
            return;
        }
        let Heard { at, connected } = heard;
        let first_byte = at.saturating_duration_since(self.started);
        self.first_byte = Some(first_byte);
        self.connected = connected;
        if let Some(entry) = &self.entry {
            if !self.errand {
                entry.metrics.answered(first_byte);
            }
            heard.count(entry);
        }
    }

    /// Notes what of the upstream's answer came before the failure.
    pub(super) fn heard_of(&mut self, failure: &Failure) {
        if let Failure::Answered(answered) = failure {
            self.answered(answered.heard);
            self.named_by_upstream(answered.headers.get(UPSTREAM_REQUEST_ID));
        }
    }

    /// Notes the upstream's own id of a request that failed or was left, if it is a sane one.
    pub(super) fn named_by_upstream(&mut self, id: Option<&HeaderValue>) {
        self.upstream_id = head::text(id).filter(|id| is_sane(id)).map(Box::from);
    }

    pub(super) fn status(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    pub(super) fn used(&mut self, usage: Option<&Usage>) {
        self.counted(usage.map(|u| (u.prompt_tokens, u.completion_tokens)));
    }

    /// The tokens of prompt and completion, if the answer told them.
    pub(super) fn counted(&mut self, tokens: Option<(u64, u64)>) {
        self.tokens = tokens.or(self.tokens);
    }

    /// Notes why it failed: our code, and the cause in words for the log.
    pub(super) fn failed(&mut self, code: &str, cause: String) {
        self.code = Some(code.to_owned());
        self.cause = Some(cause);
        self.ending = Some(Ending::Failed);
    }

    /// Notes that the client is given up, unless it failed before: it took nothing of its answer for `patience`.
    pub(super) fn stalled(&mut self, patience: Duration) {
        if self.ending != Some(Ending::Failed) {
            self.failed(STALLED, format!("the client took nothing of its answer for {patience:?}"));
        }
    }

    /// Counts a field that did not reach the provider as the client wrote it.
    pub(super) fn lost(&self, field: &str) {
        self.metrics().lost(field);
    }

    /// The answer is complete, unless it failed before.
    pub(super) fn ended(&mut self) {
        self.ending.get_or_insert(Ending::Complete);
    }

    /// Counts it, and says in the log what became of it: loudly only where it failed by what is ours to explain.
    fn tell_errand(&self, status: u16, total: Duration) {
        if let Some(entry) = &self.entry {
            entry.metrics.ran_errand(status);
        }
        let (integration, path) = (self.integration().unwrap_or_default(), &*self.path);
        let (ms, code) = (total.as_millis() as u64, self.code.as_deref().unwrap_or_default());
        match self.cause.as_deref().filter(|_| code != UPSTREAM_ERROR) {
            Some(cause) => {
                tracing::warn!(
                    integration,
                    path,
                    status,
                    code,
                    cause,
                    ms,
                    "a handler's request to its provider failed"
                );
            }
            None => {
                let bytes = self.bytes_out;
                tracing::debug!(integration, path, status, bytes, ms, "a handler's request to its provider");
            }
        }
    }

    /// It is over, with what was noted until now.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.ending.is_none() && self.status != 0 && self.is_cut() {
            let (code, words) = CUT;
            self.failed(code, words.to_owned());
        }
        self.total = now - self.started;
    }

    /// Counts it, and writes its line into the log.
    pub(super) fn tell(&mut self, now: Instant) {
        let end = self.started + self.total;
        self.house.activity.end(end);
        let ending = self.ending.unwrap_or(Ending::Cancelled);
        // nginx's word for a client that left before it was sent a status.
        let status = if self.status == 0 { 499 } else { self.status };
        if self.errand {
            return self.tell_errand(status, self.total);
        }
        self.place();
        let metrics = self.metrics();
        metrics.ended(status, self.code.as_deref(), ending, self.total);
        if let Some((prompt, completion)) = self.tokens {
            metrics.used(prompt, completion);
        }
        if self.served {
            metrics.in_flight.dec();
        }
        if let Some(access) = &self.house.access {
            let record = Record {
                request_id: self.id(),
                path: &self.path,
                integration: self.integration(),
                model: Some(&*self.model).filter(|m| !m.is_empty()),
                status,
                code: self.code.as_deref(),
                cause: self.cause.as_deref(),
                upstream_id: self.upstream_id.as_deref(),
                stream: self.stream,
                total: self.total,
                ago: now.saturating_duration_since(end),
                first_byte: self.first_byte,
                connected: self.connected,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                tokens: self.tokens,
                retry: self.retry,
            };
            access.write(&record, ending);
        }
    }
    fn metrics(&self) -> &IntegrationMetrics {
        self.entry.as_ref().map_or(&self.house.strays, |e| &e.metrics)
    }
}

fn kept(path: &str) -> Cow<'static, str> {
    match path {
        USUAL_PATH => Cow::Borrowed(USUAL_PATH),
        path => Cow::Owned(path[..path.floor_char_boundary(LONGEST_PATH)].to_owned()),
    }
}

fn request_id(given: Option<&HeaderValue>) -> Arc<str> {
    if let Some(given) = head::text(given).filter(|v| is_sane(v)) {
        return [COMPLETION, given].concat().into();
    }
    let mut id = [0; COMPLETION.len() + 32];
    id[..COMPLETION.len()].copy_from_slice(COMPLETION.as_bytes());
    for (pair, byte) in id[COMPLETION.len()..].chunks_exact_mut(2).zip(fastrand::u128(..).to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    str::from_utf8(&id).expect("hexadecimal digits are text").into()
}

fn is_sane(id: &str) -> bool {
    !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_own_request_id_is_kept_if_it_is_sane() {
        let id = |value| request_id(Some(&HeaderValue::from_static(value)))[COMPLETION.len()..].to_owned();
        assert_eq!(id("job-7/step-2"), "job-7/step-2");
        for odd in ["", "two words"] {
            let made = id(odd);
            assert_eq!(made.len(), 32);
            assert!(made.bytes().all(|b| b.is_ascii_hexdigit()));
        }
        assert_ne!(request_id(None), request_id(None));
    }
}
