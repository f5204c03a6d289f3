//! The attempt from its beginning to its end, told as it happens: the integration and where it leads, the request, and
//! what came of it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::task::spawn_blocking;

use super::alone::{Alone, Record};
use super::answer::{Said, Wrong};
use super::ask::Asked;
use super::page::Page;
use super::verdict::Verdict;
use crate::cli::{Exit, explain};
use crate::config::valid::{self, Handlers};
use crate::framing::sse::{Events, Splitter};
use crate::integration::{Entry, Integration};
use crate::outbound::{Segments, Unsigned};
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
    pub(super) page: &'a mut Page<W>,
}

/// How the request ended.
enum End {
    /// With an answer.
    Answered(Said),
    /// With an error of OpenAI's shape.
    Refused(Wrong),
    /// With what is neither; how.
    Strange(&'static str),
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
        match end {
            End::Answered(said) => self.success(&said, &record),
            End::Refused(wrong) => self.failure(&wrong, &record, (!is_success).then_some((status, &headers))),
            End::Strange(how) => self.strange(how, &record),
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
            (Ok(Err(_)), _) => "does not load".to_owned(),
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
        for (label, name) in [
            ("request id", "x-upstream-request-id"),
            ("dropped", "x-outrider-dropped"),
            ("retry after", "retry-after"),
        ] {
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
                End::Answered(said)
            }
            None => {
                // Whoever reads this wants to see what else it was.
                self.page.excerpt(&String::from_utf8_lossy(&body));
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
        if done { End::Answered(said) } else { End::Strange("the stream broke off") }
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

    /// `refused`: status and headers of the answer, where it was not a stream that had begun.
    fn failure(&mut self, wrong: &Wrong, record: &Record, refused: Option<(u16, &HeaderMap)>) -> Exit {
        let code = record.code.as_deref().or(wrong.code.as_deref()).unwrap_or_default();
        let status = refused.map_or_else(|| status_of(&wrong.kind), |(status, _)| status);
        let verdict = Verdict::of(code, status);
        if let Some((status, headers)) = refused {
            let from = match code {
                "upstream_error" => ", the upstream's own",
                "handler_error" => ", the handler's own",
                _ => ", which is Outrider's own",
            };
            self.page.fact("status", &format!("{status}{from}"));
            self.headers(headers);
        }
        self.page.fact("failed", &format!("{}: {}", verdict.step, wrong.message));
        if let Some(cause) = record.cause.as_deref().filter(|_| TOLD_LESS.contains(&code)) {
            self.page.fact("cause", cause);
        }
        let word = wrong.code.as_deref().unwrap_or("none");
        self.page.fact("error", &format!("clients see type `{}` and code `{word}`", wrong.kind));
        self.page.fact("whose fault", verdict.fault);
        self.page.fact("next", &self.remedy(code, verdict.next));
        self.times(record);
        verdict.exit
    }

    fn remedy(&self, code: &str, next: &str) -> String {
        if code != "model_not_found" {
            return next.to_owned();
        }
        let models = self.settings.models.iter().map(|model| format!("`{}`", model.alias));
        format!("leave --model out, or name one of {}", models.collect::<Vec<_>>().join(", "))
    }

    fn strange(&mut self, how: &str, record: &Record) -> Exit {
        let verdict = Verdict::of(record.code.as_deref().unwrap_or("upstream_garbled"), 200);
        let how = record.cause.as_deref().unwrap_or(how);
        self.page.fact("failed", &format!("{}: {how}", verdict.step));
        self.page.fact("whose fault", verdict.fault);
        self.page.fact("next", verdict.next);
        self.times(record);
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

/// The codes of which clients are told no cause.
const TOLD_LESS: [&str; 2] = ["internal", "handler_unavailable"];

/// The interpreter starts first, and then the worker; one that fails is tried again.
fn settling(handlers: &Handlers) -> Duration {
    handlers.start_timeout.saturating_mul(4)
}

fn duration(milliseconds: f64) -> String {
    if milliseconds < 1e3 { format!("{milliseconds:.1} ms") } else { format!("{:.2} s", milliseconds / 1e3) }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
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
