//! The attempt from its beginning to its end, told as it happens: the integration and where it leads, the request, and
//! what came of it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use tokio::task::spawn_blocking;

use super::alone::{Alone, Record};
use super::answer::{Said, Wrong};
use super::ask::Asked;
use super::page::Page;
use super::verdict::{Case, Verdict};
use crate::cli::{Exit, explain, terminal};
use crate::config::valid::{self, Handlers};
use crate::framing::sse::{Events, Splitter};
use crate::integration::{Entry, Integration, Registry};
use crate::outbound::{Segments, Unsigned};
use crate::proxy::{self, Explained, Question};
use crate::secret::Secret;
use crate::tasks::Seat;

/// How much of a refusal is read: more than is ever written of one.
const MOST_REFUSAL: usize = 1 << 20;

/// What is told.
pub(super) struct Story<'a, W> {
    pub(super) settings: &'a valid::Integration,
    /// The model as a client names it, and whether nobody chose it.
    pub(super) model: &'a str,
    pub(super) is_default: bool,
    /// The configuration, where the command line named it.
    pub(super) config: Option<&'a Path>,
    pub(super) page: &'a mut Page<W>,
}

/// What is known once a request has ended.
struct Ended {
    record: Record,
    headers: HeaderMap,
    /// The status, where the answer was no success.
    refused: Option<u16>,
    /// The URL that was asked.
    url: Option<String>,
}

/// How the request ended.
enum End {
    /// With an answer.
    Answered(Said),
    /// With an error of OpenAI's shape.
    Refused(Wrong),
    /// With an error in an answer of success, which went through unread.
    Inside(Wrong),
    /// With what is neither; how.
    Strange(&'static str),
}

impl End {
    /// That of an answer that is complete.
    fn of(said: Said) -> Self {
        said.wrong().map_or(Self::Answered(said), Self::Strange)
    }
}

impl<W: Write> Story<'_, W> {
    /// Sends `body` and tells everything; how the command ends.
    pub(super) async fn tell(mut self, alone: &mut Alone, body: Bytes) -> Exit {
        let Some(entry) = alone.entry() else {
            self.page.fact("failed", "this process has lost the integration");
            return Exit::Failed;
        };
        self.plan();
        if let Ok(integration) = &entry.state {
            self.handler(&entry).await;
            self.way(integration);
        }
        let url = self.url(&entry, &body);
        let mut asked = match Asked::of(alone, self.settings.name.as_str(), body).await {
            Ok(asked) => asked,
            Err(why) => {
                self.page.fact("failed", &format!("this process did not answer itself: {why}"));
                return Exit::Failed;
            }
        };
        if let Ok(integration) = &entry.state {
            self.token(integration);
            self.page.hide(&shown_to_upstream(integration).await);
        }
        let status = asked.head.status.as_u16();
        let is_success = asked.head.status.is_success();
        if is_success {
            self.page.fact("status", &status.to_string());
            self.headers(&asked.head.headers);
        }
        let end = match (is_success, is_stream(&asked.head.headers)) {
            (false, _) => End::Refused(Wrong::read(&asked.whole(MOST_REFUSAL).await)),
            (true, false) => self.whole(&mut asked).await,
            (true, true) => self.stream(&mut asked).await,
        };
        let headers = std::mem::take(&mut asked.head.headers);
        // The line is written once nothing of the answer is held any more.
        drop(asked);
        let record = alone.record().await;
        let ended = Ended { record, headers, refused: (!is_success).then_some(status), url };
        let verdict = match end {
            End::Answered(said) => return self.success(&said, &ended.record),
            End::Refused(wrong) => self.failure(&wrong, &ended),
            End::Inside(wrong) => self.inside(&wrong, &ended),
            End::Strange(how) => self.strange(how, &ended),
        };
        let verdict = self.behind_handler(&entry, verdict, &ended).await;
        self.conclude(&verdict, &ended)
    }

    /// The URL that a request with `body` is sent to; `None` where a handler gets it, or nobody.
    fn url(&self, entry: &Arc<Entry>, body: &Bytes) -> Option<String> {
        let name = self.settings.name.as_str();
        let head =
            Request::post(format!("/{name}/v1/chat/completions")).header(CONTENT_TYPE, "application/json");
        let head = head.body(()).ok()?.into_parts().0;
        let registry = Registry::new(vec![Arc::clone(entry)], 0);
        let question = Question { integration: name, head, body: body.clone(), max_body: usize::MAX };
        match proxy::explain(question, &registry, self.page.veil()) {
            Explained::Sent(shown) if self.settings.handler.is_none() => Some(shown.url),
            Explained::Sent(_) | Explained::Refused(_) | Explained::Own => None,
        }
    }

    /// What is configured.
    fn plan(&mut self) {
        let Self { settings, page, .. } = self;
        let speaks = match &settings.handler {
            None => format!("format {}", settings.format.word()),
            Some(handler) => format!("handler {}, class {}", handler.file_name, handler.class_name),
        };
        page.fact("integration", &format!("`{}` ({}), {speaks}", settings.name, settings.origin));
        let mut words = format!("`{}`", self.model);
        if self.is_default {
            words += ", the default";
        }
        let found = settings.models.iter().find(|model| model.alias.as_str() == self.model);
        if let Some(model) = found.filter(|model| model.name.as_str() != self.model) {
            words += &format!(", which is `{}` there", model.name);
        }
        page.fact("model", &words);
    }

    /// What is put on the request, and where it goes.
    fn way(&mut self, integration: &Integration) {
        let mut unsigned = Unsigned::new(Method::POST, "", HeaderMap::new(), Segments::default());
        unsigned.uri = self.settings.endpoint.clone();
        let puts = integration.authorizer.preview(&mut unsigned);
        let puts: Vec<_> =
            puts.iter().map(|put| format!("; header `{}`: {}", put.header, put.from)).collect();
        self.page.fact("authorization", &(integration.authorizer.status().kind.to_owned() + &puts.concat()));
        let through_us = self.settings.handler.as_ref().is_none_or(|handler| handler.common.egress);
        if through_us {
            for (label, words) in explain::way(&integration.egress.route(), &self.settings.tls) {
                self.page.fact(label, &words);
            }
        } else {
            let endpoint = self.settings.shown_endpoint();
            let shown = endpoint.split('?').next().unwrap_or_default();
            self.page.fact("endpoint", &format!("{shown}: the handler connects by itself"));
        }
    }

    /// Waits until the handler has loaded, or has failed to: a request that waits for it says less.
    async fn handler(&mut self, entry: &Arc<Entry>) {
        let Some(handler) = &self.settings.handler else { return };
        let (most, held) = (settling(&handler.common), Arc::clone(entry));
        let crew = |entry: &Entry| entry.state.as_ref().ok().and_then(|integration| integration.crew.clone());
        let Some(crew) = crew(&held) else { return };
        let waiting = Arc::clone(&crew);
        let settled = spawn_blocking(move || waiting.wait_settled(most)).await;
        let words = match (settled, crew.status().loaded) {
            // It is told as what failed, with its cause.
            (Ok(Err(_)), _) => return,
            (_, Some(loaded)) => format!(
                "{} loads: {}; called {} style; Python {}, litellm {}",
                loaded.class,
                loaded.methods.join(", "),
                loaded.style,
                loaded.python,
                loaded.litellm
            ),
            (_, None) => "it said nothing of itself".to_owned(),
        };
        self.page.fact("handler", &words);
    }

    /// The token that is used from now on, if one is.
    fn token(&mut self, integration: &Integration) {
        let Some(token) = integration.authorizer.status().token else { return };
        let Some(seconds) = token.token_ends_in_seconds.filter(|_| token.token_live) else { return };
        let mut words = format!("fetched from {}; it ends in {seconds:.0} s", token.token_host);
        if token.token_fetches > token.token_failures + 1 {
            words += "; it is the second: the upstream did not take the first";
        }
        self.page.fact("token", &words);
    }

    /// The headers of an answer that help to find the request again, or say what was not sent.
    fn headers(&mut self, headers: &HeaderMap) {
        for (label, name) in
            [("request id", UPSTREAM_ID), ("dropped", "x-outrider-dropped"), ("retry after", "retry-after")]
        {
            if let Some(value) = headers.get(name) {
                self.page.fact(label, &format!("{} ({name})", String::from_utf8_lossy(value.as_bytes())));
            }
        }
    }

    async fn whole(&mut self, asked: &mut Asked) -> End {
        let most = self.settings.limits.max_answer;
        let body = asked.whole(most).await;
        let mut said = Said::default();
        match said.whole(&body) {
            Some(text) => {
                self.page.say(&text);
                self.page.said("it has no text");
                End::of(said)
            }
            None => {
                // Whoever reads this wants to see what else it was.
                self.page.excerpt(&String::from_utf8_lossy(&body));
                if let Some(wrong) = Wrong::of(&body) {
                    return End::Inside(wrong);
                }
                End::Strange(match body.len() < most {
                    true => "the answer is no chat completion",
                    false => "the answer is longer than limits.max_answer",
                })
            }
        }
    }

    async fn stream(&mut self, asked: &mut Asked) -> End {
        let mut splitter = Splitter::new(self.settings.limits.max_event.saturating_mul(2));
        let (mut said, mut done) = (Said::default(), false);
        while let Some(bytes) = asked.next().await {
            let Ok(complete) = splitter.push(&bytes) else { return End::Strange("an event is too long") };
            for event in Events::new(&complete) {
                if event.is_done() {
                    done = true;
                    continue;
                }
                match said.event(&event.data) {
                    Ok(text) => self.page.say(&text),
                    Err(wrong) => {
                        self.page.said("none came");
                        return End::Refused(wrong);
                    }
                }
            }
        }
        self.page.said("it has no text");
        if done { End::of(said) } else { End::Strange("the stream broke off") }
    }

    fn success(&mut self, said: &Said, record: &Record) -> Exit {
        if !said.calls.is_empty() {
            self.page.fact("calls", &said.calls.join(", "));
        }
        if said.thoughts > 0 {
            self.page.fact("thoughts", &format!("{} characters, not shown", said.thoughts));
        }
        self.page.fact("finish_reason", said.finish_reason.as_deref().unwrap_or("none was given"));
        let usage = said.usage.map_or_else(
            || "none was told".to_owned(),
            |[prompt, answer, all]| format!("{prompt} prompt + {answer} completion = {all} tokens"),
        );
        self.page.fact("usage", &usage);
        self.times(record);
        self.page.fact("ok", "");
        Exit::Done
    }

    fn failure(&mut self, wrong: &Wrong, ended: &Ended) -> Verdict {
        let record = &ended.record;
        let code = record.code.as_deref().or(wrong.code.as_deref()).unwrap_or_default();
        let status = ended.refused.unwrap_or_else(|| status_of(&wrong.kind));
        let verdict = self.judge(code, status, &wrong.message, ended);
        if ended.refused.is_some() {
            let from = whose(code, status, record.cause.as_deref().unwrap_or_default());
            self.page.fact("status", &format!("{status}, {from}"));
            self.headers(&ended.headers);
        }
        // Clients are told less of what is wrong on our side.
        let cause = record.cause.as_deref();
        let words = cause.filter(|_| code == "handler_unavailable").unwrap_or(&wrong.message);
        self.page.fact("failed", &format!("{}: {words}", verdict.step));
        if let Some(cause) = cause.filter(|_| code == "internal") {
            self.page.fact("cause", cause);
        }
        let word = wrong.code.as_deref().unwrap_or("none");
        self.page.fact("error", &format!("clients see type `{}` and code `{word}`", wrong.kind));
        if code == "model_not_found" {
            let models = self.settings.models.iter().map(|model| format!("`{}`", model.alias));
            let next = format!("leave --model out, or name one of {}", models.collect::<Vec<_>>().join(", "));
            return Verdict { next: next.into(), ..verdict };
        }
        match (code, &record.cause) {
            // Its visit was lost, and with it the line that would tell the cause.
            ("internal", None) => {
                Verdict { next: "please report it with what stands on stderr".into(), ..verdict }
            }
            _ => verdict,
        }
    }

    fn inside(&mut self, wrong: &Wrong, ended: &Ended) -> Verdict {
        let code = if self.settings.handler.is_some() { "handler_error" } else { "upstream_error" };
        let verdict = self.judge(code, status_of(&wrong.kind), &wrong.message, ended);
        let (step, message) = (verdict.step, &wrong.message);
        self.page.fact("failed", &format!("{step}: an error inside of an answer of success: {message}"));
        self.page.fact("error", "clients get this answer as it is, with status 200");
        verdict
    }

    fn strange(&mut self, how: &str, ended: &Ended) -> Verdict {
        let how = ended.record.cause.as_deref().unwrap_or(how);
        let code = ended.record.code.as_deref().unwrap_or("upstream_garbled");
        let verdict = self.judge(code, 200, how, ended);
        self.page.fact("failed", &format!("{}: {how}", verdict.step));
        verdict
    }

    fn judge(&self, code: &str, status: u16, message: &str, ended: &Ended) -> Verdict {
        let model = self.settings.models.iter().find(|model| model.alias.as_str() == self.model);
        let model = model.map_or(self.model, |model| model.name.as_str());
        let asked = ended.url.as_deref().map(|url| (model, url));
        let has_id = ended.headers.contains_key(UPSTREAM_ID);
        Verdict::of(&Case { code, status, message, settings: self.settings, asked, has_id })
    }

    /// What a handler says of a provider that it reaches through us is little: whether it can be reached, and whether
    /// there is a token for it, is known here.
    async fn behind_handler(&mut self, entry: &Entry, verdict: Verdict, ended: &Ended) -> Verdict {
        let is_handlers = matches!(ended.record.code.as_deref(), Some("handler_error" | "handler_timeout"));
        let through_us = self.settings.handler.as_ref().is_some_and(|handler| handler.common.egress);
        let Some(integration) = entry.state.as_ref().ok().filter(|_| is_handlers && through_us) else {
            return verdict;
        };
        let token = integration.authorizer.status().token.filter(|token| !token.token_live);
        let (fact, code) = if let Some(why) = token.and_then(|token| token.token_last_error) {
            let code = if why.contains("refused our") { "token_refused" } else { "token_unavailable" };
            (format!("gets no request, for there is no token: {why}"), code)
        } else if let Err(why) = integration.egress.reach().await {
            (format!("cannot be reached: {why}"), "upstream_unreachable")
        } else {
            return verdict;
        };
        self.page.fact("provider", &fact);
        self.judge(code, 502, &fact, ended)
    }

    fn conclude(&mut self, verdict: &Verdict, ended: &Ended) -> Exit {
        self.page.fact("whose fault", &verdict.fault);
        self.page.fact("next", &terminal::typed(&verdict.next, self.settings.name.as_str(), self.config));
        self.times(&ended.record);
        verdict.exit
    }

    fn times(&mut self, record: &Record) {
        let [connected, first, all] = record.times.map(|time| time.map(duration));
        let mut words = Vec::new();
        words.extend(connected.map(|time| format!("connected in {time}")));
        words.extend(first.map(|time| format!("first byte after {time}")));
        words.extend(all.map(|time| format!("all after {time}")));
        if !words.is_empty() {
            self.page.fact("time", &words.join(", "));
        }
    }
}

/// Where a refusal's status is from, by what the log says of it.
fn whose(code: &str, status: u16, cause: &str) -> String {
    let answered = cause.split_once("the upstream answered ").and_then(|(_, rest)| rest.get(..3));
    match (code, answered) {
        ("upstream_error", _) if cause.contains("into an answer of success") => {
            "for an error that the upstream put into an answer of success".to_owned()
        }
        ("upstream_error", Some(other)) if other != status.to_string() => {
            format!("for the upstream's {other}, which is no status of HTTP")
        }
        ("upstream_error", _) => "the upstream's own".to_owned(),
        ("handler_error", _) => "the handler's own".to_owned(),
        _ => "which is Outrider's own".to_owned(),
    }
}

/// What an error in a stream would have had as its status, by its type.
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "permission_error" => 403,
        "rate_limit_error" => 429,
        _ => 500,
    }
}

/// The upstream's own request id.
const UPSTREAM_ID: &str = "x-upstream-request-id";

/// The interpreter starts first, and then the worker; one that fails is tried again.
fn settling(handlers: &Handlers) -> Duration {
    handlers.start_timeout.saturating_mul(4)
}

fn duration(milliseconds: f64) -> String {
    if milliseconds < 1e3 { format!("{milliseconds:.1} ms") } else { format!("{:.2} s", milliseconds / 1e3) }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// What the authorization puts on requests now: the upstream knows it, and might repeat it. Nothing is fetched for it.
async fn shown_to_upstream(integration: &Integration) -> Vec<Secret> {
    let authorizer = &integration.authorizer;
    if authorizer.status().token.is_some_and(|token| !token.token_live) {
        return Vec::new();
    }
    let mut unsigned = Unsigned::new(Method::POST, "", HeaderMap::new(), Segments::default());
    unsigned.uri = integration.settings().endpoint.clone();
    let Ok(signed) = authorizer.sign(Seat(0), unsigned).await else { return Vec::new() };
    let secret = signed.request.headers.values().filter(|value| value.is_sensitive());
    secret.filter_map(|value| value.to_str().ok()).map(Secret::new).collect()
}
