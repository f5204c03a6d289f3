//! The steps of `outrider demo`: what is asked of the sidecar, what must come back, and what it cost.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::mock::{ACME_MODEL, ANTHROPIC_MODEL, KEY, OPENAI_MODEL, TOO_MUCH, echo};
use super::world::World;
use crate::auth::Authorizer;
use crate::config::valid::Proxy;
use crate::egress::{Clients, Egress, EgressLimits};
use crate::outbound::{Segments, Unsigned};
use crate::tasks::{Seat, Tasks};
use crate::tls::Profile;

const SEAT: Seat = Seat(0);
/// No answer of the demo takes longer, and no connection has to live longer.
const LIMIT: Duration = Duration::from_secs(60);

/// How often a step is timed.
pub(super) const REPEATS: usize = 25;
/// The columns.
pub(super) const HEADING: &str = "integration   format     authorization  request      status  answer                    time      added  tokens fetched";

const QUESTION: &str = "How does a request find its way?";

/// An integration of the demo's configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Integration {
    OpenAiKey,
    OpenAiOpen,
    ClaudeOAuth,
    ClaudeMtls,
    Handler,
    HandlerEgress,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Whole,
    Streamed,
    WrongModel,
    TooMuch,
}

/// One line of the table, before it is walked.
pub(super) struct Step(Integration, Ask);

/// The steps, in order; those of the handler only where one runs.
pub(super) fn all(with_handler: bool) -> impl Iterator<Item = Step> {
    let integrations =
        [Integration::OpenAiKey, Integration::OpenAiOpen, Integration::ClaudeOAuth, Integration::ClaudeMtls];
    let asks = [Ask::Whole, Ask::Streamed, Ask::WrongModel];
    let steps = integrations.into_iter().flat_map(move |integration| asks.map(|ask| Step(integration, ask)));
    let handlers = with_handler.then_some([Integration::Handler, Integration::HandlerEgress]);
    let asks = [Ask::Whole, Ask::Streamed, Ask::TooMuch];
    let of_handlers = handlers.into_iter().flatten().flat_map(move |one| asks.map(|ask| Step(one, ask)));
    steps.chain(of_handlers)
}

/// One line of the table.
pub(super) struct Row {
    step: Step,
    status: StatusCode,
    answer: Result<String, String>,
    time: Duration,
    added: Option<f64>,
    fetched: Option<u64>,
}

/// The connections that are timed: one to the sidecar, and one to each mock for comparison. They are Outrider's own
/// way out, which keeps its connections.
pub(super) struct Lines {
    sidecar: Egress,
    /// The sidecar through which a handler's own requests leave.
    second: Option<Egress>,
    plain: Egress,
    secure: Egress,
    mutual: Egress,
}

impl Lines {
    /// Ready to connect to all.
    pub(super) fn new(
        world: &World,
        sidecar: SocketAddr,
        second: Option<SocketAddr>,
        tasks: &Tasks,
    ) -> Result<Self, String> {
        let clients = Clients::new(1, tasks.clone());
        let limits =
            EgressLimits { connect: LIMIT, first_byte: LIMIT, pool_idle: LIMIT, max_connection_age: LIMIT };
        let tls = Profile {
            ca_files: vec![world.path("ca.pem")],
            client_cert_file: Some(world.path("client.pem")),
            client_key_file: Some(world.path("client-key.pem")),
            ..Profile::default()
        };
        let egress = |url: String| {
            let url = url.parse::<Uri>().map_err(|e| e.to_string())?;
            clients.egress(&url, &tls, &Proxy::Direct, &limits)
        };
        Ok(Self {
            sidecar: egress(format!("http://{sidecar}"))?,
            second: second.map(|second| egress(format!("http://{second}"))).transpose()?,
            plain: egress(format!("http://{}", world.plain))?,
            secure: egress(format!("https://{}", world.secure))?,
            mutual: egress(format!("https://{}", world.mutual))?,
        })
    }

    /// Asks the sidecar and the mock in turn, checks the first answer and takes the medians.
    pub(super) async fn walk(&self, step: &Step, world: &World) -> Result<Row, String> {
        let Step(integration, ask) = *step;
        let fetched_before = world.desk.calls();
        let (path, body) = (format!("/{}/v1/chat/completions", integration.name()), ask.openai(integration));
        let to = match (&self.second, integration) {
            (Some(second), Integration::HandlerEgress) => second,
            _ => &self.sidecar,
        };
        let first = post(to, &path, &[], &body).await?;
        let (mut through, mut direct) = (Vec::new(), Vec::new());
        let bearer = format!("Bearer {}", world.desk.issue());
        let answer = ask.check(&first);
        let repeats = if answer.is_ok() { REPEATS } else { 0 };
        for _ in 0..repeats {
            through.push(post(to, &path, &[], &body).await?.took);
            if matches!(ask, Ask::Whole | Ask::Streamed) {
                direct.push(self.direct(integration, ask, &bearer).await?);
            }
        }
        let time = median(&mut through);
        let added = (!direct.is_empty()).then(|| time.as_secs_f64() - median(&mut direct).as_secs_f64());
        let fetched = world.desk.calls() - fetched_before;
        let fetched = integration.has_token().then_some(fetched);
        Ok(Row { step: Step(integration, ask), status: first.status, answer, time, added, fetched })
    }

    /// The same question straight to the mock, in its own format.
    async fn direct(&self, integration: Integration, ask: Ask, bearer: &str) -> Result<Duration, String> {
        let openai = ask.openai(integration);
        let heard = match integration {
            Integration::OpenAiKey => post(&self.plain, "/v1/chat/completions", &[KEY], &openai).await?,
            Integration::OpenAiOpen => post(&self.plain, "/open/v1/chat/completions", &[], &openai).await?,
            Integration::ClaudeOAuth | Integration::ClaudeMtls => {
                let headers = [("authorization", bearer), ("anthropic-version", "2023-06-01")];
                let to = if integration == Integration::ClaudeMtls { &self.mutual } else { &self.secure };
                post(to, "/v1/messages", &headers, &ask.anthropic()).await?
            }
            Integration::Handler | Integration::HandlerEgress => {
                let to = if integration == Integration::Handler { &self.plain } else { &self.mutual };
                post(to, "/acme/generate", &[("authorization", bearer)], &ask.acme()).await?
            }
        };
        match heard.status {
            StatusCode::OK => Ok(heard.took),
            status => Err(format!("the mock itself answered {status}: this is a fault of the demo")),
        }
    }
}

/// A whole answer and how long it took, to its last byte.
struct Heard {
    status: StatusCode,
    body: Bytes,
    took: Duration,
}

impl Heard {
    /// The code of the refusal that was due, or what came in its place.
    fn refusal(&self, status: StatusCode, code: &str) -> Result<String, String> {
        let error = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        match error["error"]["code"].as_str() {
            Some(came) if came == code && self.status == status => Ok(code.to_owned()),
            came => Err(format!(
                "{} {code} was due, not {}",
                status.as_u16(),
                came.unwrap_or("an answer without a code")
            )),
        }
    }
}

async fn post(
    to: &Egress,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &Bytes,
) -> Result<Heard, String> {
    let words = |e: &dyn fmt::Display| format!("{path}: {e}");
    let mut fields = HeaderMap::new();
    for (name, value) in [("content-type", "application/json")].iter().chain(headers) {
        fields.insert(*name, HeaderValue::from_str(value).map_err(|e| words(&e))?);
    }
    let mut request = Unsigned::new(Method::POST, "", fields, Segments::one(body.clone()));
    request.uri = path.parse().map_err(|e: http::uri::InvalidUri| words(&e))?;
    let request = Authorizer::none().sign(SEAT, request).await.map_err(|e| words(&e))?;
    let began = Instant::now();
    let sent = to.send(SEAT, request).await.map_err(|e| words(&e))?;
    let status = sent.head.status;
    let body = sent.body.collect().await.map_err(|e| words(&e))?.to_bytes();
    Ok(Heard { status, body, took: began.elapsed() })
}

impl Integration {
    /// Its name in the configuration, its format and its authorization.
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::OpenAiKey => ["openai-key", "openai", "api_key"],
            Self::OpenAiOpen => ["openai-open", "openai", "none"],
            Self::ClaudeOAuth => ["claude-oauth", "anthropic", "oauth2"],
            Self::ClaudeMtls => ["claude-mtls", "anthropic", "oauth2 + mTLS"],
            Self::Handler => ["py-handler", "handler", "oauth2"],
            Self::HandlerEgress => ["py-egress", "handler", "oauth2 + mTLS"],
        }
    }

    fn name(self) -> &'static str {
        self.words()[0]
    }

    fn has_token(self) -> bool {
        !matches!(self, Self::OpenAiKey | Self::OpenAiOpen)
    }
}

impl Ask {
    fn words(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Streamed => "streamed",
            Self::WrongModel => "wrong model",
            Self::TooMuch => "too much",
        }
    }

    /// The question as every client of the sidecar asks it.
    fn openai(self, integration: Integration) -> Bytes {
        let model = match (self, integration) {
            (Self::WrongModel, _) => "demo-gtp",
            (_, Integration::ClaudeOAuth | Integration::ClaudeMtls) => ANTHROPIC_MODEL,
            (_, Integration::OpenAiKey | Integration::OpenAiOpen) => OPENAI_MODEL,
            (_, Integration::Handler | Integration::HandlerEgress) => ACME_MODEL,
        };
        self.question(model)
    }

    /// The question as Anthropic's own clients ask it.
    fn anthropic(self) -> Bytes {
        self.question(ANTHROPIC_MODEL)
    }

    /// The question in the words of the example handler's provider.
    fn acme(self) -> Bytes {
        let turns = json!([{"author": "user", "text": QUESTION}]);
        json!({"engine": ACME_MODEL, "limit": 100, "live": self == Self::Streamed, "turns": turns})
            .to_string()
            .into()
    }

    fn question(self, model: &str) -> Bytes {
        let text = if self == Self::TooMuch { TOO_MUCH } else { QUESTION };
        let messages = json!([{"role": "user", "content": text}]);
        let stream = self == Self::Streamed;
        json!({"model": model, "max_tokens": 100, "stream": stream, "messages": messages}).to_string().into()
    }

    /// What came back in short, or what is wrong with it.
    fn check(self, heard: &Heard) -> Result<String, String> {
        let json = || serde_json::from_slice::<Value>(&heard.body).unwrap_or_default();
        match self {
            Self::WrongModel => heard.refusal(StatusCode::NOT_FOUND, "model_not_found"),
            Self::TooMuch => heard.refusal(StatusCode::TOO_MANY_REQUESTS, "handler_error"),
            _ if heard.status != StatusCode::OK => {
                let message = json()["error"]["message"].as_str().unwrap_or("no message").to_owned();
                Err(message)
            }
            Self::Whole => {
                let json = json();
                let tokens = json["usage"]["completion_tokens"].as_u64().unwrap_or_default();
                said(json["choices"][0]["message"]["content"].as_str(), format!("{tokens} tokens"))
            }
            Self::Streamed => streamed(&heard.body),
        }
    }
}

/// A stream that says all, chunk by chunk, and ends properly.
fn streamed(body: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(body);
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let Some(("[DONE]", chunks)) = lines.split_last().map(|(last, chunks)| (*last, chunks)) else {
        return Err("the stream did not end in [DONE]".to_owned());
    };
    let chunks = chunks.iter().map(|chunk| serde_json::from_str::<Value>(chunk).unwrap_or_default());
    let words = chunks.filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()));
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    said(Some(&words.concat()), format!("{} chunks, [DONE]", words.len()))
}

fn said(content: Option<&str>, short: String) -> Result<String, String> {
    match content {
        Some(content) if content == echo(QUESTION) => Ok(short),
        other => Err(format!("the answer is not the mock's: {:?}", other.unwrap_or_default())),
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Row {
    /// Whether the right answer came.
    pub(super) fn is_well(&self) -> bool {
        self.answer.is_ok()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step(integration, ask) = self.step;
        let [name, format, authorization] = integration.words();
        let (request, status) = (ask.words(), self.status.as_u16());
        write!(f, "{name:<13} {format:<10} {authorization:<14} {request:<12} {status:<7} ")?;
        let answer = match &self.answer {
            Ok(short) => short,
            Err(wrong) => return write!(f, "FAILED: {wrong}"),
        };
        let time = format!("{:.2} ms", self.time.as_secs_f64() * 1e3);
        let added = self.added.map_or_else(|| "-".to_owned(), |added| format!("{:+.0} µs", added * 1e6));
        let fetched = self.fetched.map_or_else(|| "-".to_owned(), |fetched| fetched.to_string());
        write!(f, "{answer:<20} {time:>9} {added:>10}  {fetched}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_mocks_refuse_who_cannot_prove_himself() {
        let tasks = Tasks::new();
        let world = World::start(&tasks, None).await.unwrap();
        let lines = Lines::new(&world, world.plain, None, &tasks).unwrap();
        let (openai, anthropic) = (Ask::Whole.openai(Integration::OpenAiKey), Ask::Whole.anthropic());
        let status = async |to, path, headers: &[(&'static str, &str)], body| {
            post(to, path, headers, body).await.unwrap().status.as_u16()
        };
        let chat = "/v1/chat/completions";
        assert_eq!(status(&lines.plain, chat, &[], &openai).await, 401);
        assert_eq!(status(&lines.plain, chat, &[("api-key", "other")], &openai).await, 401);
        assert_eq!(status(&lines.plain, chat, &[KEY], &openai).await, 200);
        let bearer = format!("Bearer {}", world.desk.issue());
        let (bearer, version) = (("authorization", bearer.as_str()), ("anthropic-version", "2023-06-01"));
        assert_eq!(status(&lines.secure, "/v1/messages", &[version], &anthropic).await, 401);
        assert_eq!(status(&lines.secure, "/v1/messages", &[bearer], &anthropic).await, 400);
        assert_eq!(status(&lines.secure, "/v1/messages", &[bearer, version], &anthropic).await, 200);
    }

    #[test]
    fn a_stream_that_breaks_off_or_says_something_else_is_no_success() {
        let event = |word: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": word}}]}));
        let whole = event(&echo(QUESTION));
        assert_eq!(
            streamed(format!("{whole}data: [DONE]\n\n").as_bytes()),
            Ok("1 chunks, [DONE]".to_owned())
        );
        assert!(streamed(whole.as_bytes()).unwrap_err().contains("[DONE]"));
        assert!(streamed(format!("{}data: [DONE]\n\n", event("You")).as_bytes()).is_err());
        assert!(streamed(b"").is_err());
    }
}
