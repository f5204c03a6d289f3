//! What a request would become, told by the steps of the real journey, without sending anything.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::exchange::Order;
use super::failure::Failure;
use super::intake::{Door, door};
use super::{models, pass, reply, wanted_model, worker};
use crate::auth::Put;
use crate::config::Veil;
use crate::config::valid::{self, STARS};
use crate::egress::Route;
use crate::integration::{Entry, Registry};
use crate::observe::clock;
use crate::openai::Envelope;
use crate::outbound::{Report, Unsigned};
use crate::tasks::Seat;

/// A request of a client of ours.
#[derive(Debug)]
pub struct Question<'a> {
    /// The integration that its path names.
    pub integration: &'a str,
    /// Its head: a POST to `/INTEGRATION/v1/…`.
    pub head: Parts,
    /// Its body.
    pub body: Bytes,
    /// The longest body that is taken (`server.max_body`).
    pub max_body: usize,
}

/// What would come of it.
#[derive(Debug)]
pub enum Explained {
    /// This would be sent.
    Sent(Box<Shown>),
    /// The client would be refused.
    Refused(Refusal),
    /// It is answered without asking anyone.
    Own,
}

/// What would be sent. No text in it holds a secret of the integration.
#[derive(Debug)]
pub struct Shown {
    /// Its model, by place in the integration; `None` where the path leaves it to the provider.
    pub model: Option<usize>,
    /// What the client called it, if it did.
    pub asked: Option<String>,
    /// `POST`.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// All headers over HTTP/1.1, in order.
    pub headers: Vec<Header>,
    /// The body; bytes that are no text are replaced.
    pub body: String,
    /// How long the body really is, in bytes.
    pub length: usize,
    /// What was dropped, renamed, changed or defaulted.
    pub report: Report,
    /// The kind of its authorization.
    pub authorization: &'static str,
    /// Where it would go.
    pub route: Route,
}

/// One header as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, with stars in place of what is secret.
    pub value: String,
    /// Where a value that is not shown comes from.
    pub from: Option<String>,
}

/// How the client would be refused.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The body, of OpenAI's shape.
    pub body: String,
    /// The byte of the request's body that is at fault, where one is.
    pub at: Option<usize>,
    /// Whether the integration itself cannot serve, whatever is asked.
    pub unavailable: bool,
}

/// Goes the way of a request up to where it would be sent. `veil` is that of the integration.
pub fn explain(question: Question<'_>, registry: &Registry, veil: &Veil) -> Explained {
    let name = question.integration.to_owned();
    let body = question.body.clone();
    match walk(question, registry, veil) {
        Ok(Some(shown)) => Explained::Sent(Box::new(shown)),
        Ok(None) => Explained::Own,
        Err(failure) => {
            let told = reply::tell(&failure, Some(&name));
            let is_broken = matches!(failure, Failure::InvalidBody { param: None, .. });
            Explained::Refused(Refusal {
                status: told.status(),
                body: veil.cover(&String::from_utf8_lossy(&told.json())),
                at: Envelope::read(body).err().filter(|_| is_broken).and_then(|error| error.at()),
                unavailable: matches!(failure, Failure::Unavailable { .. }),
            })
        }
    }
}

fn walk(question: Question<'_>, registry: &Registry, veil: &Veil) -> Result<Option<Shown>, Failure> {
    let Question { integration: name, head, body, max_body } = question;
    let door = door(head.uri.path())?;
    if body.len() > max_body {
        return Err(Failure::BodyTooLarge(max_body));
    }
    let operation = match door {
        Door::Models { .. } | Door::Model { .. } => return Ok(None),
        Door::Relay { rest, .. } if models::known(registry, name, &rest, &head.method).is_some() => {
            return Ok(None);
        }
        Door::Ask { operation, .. } => operation,
        Door::Relay { rest, .. } => {
            let entry = registry.integration(name)?;
            let Ok(ready) = &entry.state else { return Err(Failure::unavailable(entry)) };
            pass::check(ready, &rest)?;
            return Shown::of(pass::dress(ready, &rest, &head, body)?, entry, veil).map(Some);
        }
    };
    let mut envelope = Envelope::read(body)?;
    let asked = wanted_model(&envelope)?.map(str::to_owned);
    let found = registry.find(Some(name), asked.as_deref())?;
    let Ok(integration) = &found.entry.state else {
        return Err(Failure::unavailable(found.entry));
    };
    integration.check_media(&envelope)?;
    let mut report = Report::default();
    integration.edit(&mut envelope, found.model(), &mut report)?;
    let called = asked.as_deref().unwrap_or_else(|| found.model().alias.as_str());
    let order = Order {
        entry: Arc::clone(found.entry),
        model: found.index,
        client_model: called.into(),
        id: "chatcmpl-explained".into(),
        created: clock::unix_seconds(),
        operation,
        envelope,
        report: Report::default(),
        headers: head.headers,
        seat: Seat(0),
        patience: None,
    };
    let prepared = order.prepare()?;
    report.changes.extend(prepared.report.changes);
    let mut shown = Shown::of(prepared.unsigned, found.entry, veil)?;
    for change in &mut report.changes {
        change.why = veil.cover(&change.why).into();
    }
    (shown.model, shown.asked, shown.report) = (Some(found.index), asked, report);
    Ok(Some(shown))
}

impl Shown {
    fn of(mut unsigned: Box<Unsigned>, entry: &Entry, veil: &Veil) -> Result<Self, Failure> {
        let integration = entry.state.as_ref().map_err(|_| Failure::unavailable(entry))?;
        let handler = entry.settings.handler.as_ref();
        if let Some(handler) = handler {
            worker::tell_deadline(handler.common.request_timeout, &mut unsigned);
        }
        let puts = integration.entrance().preview(&mut unsigned);
        let (method, url) = (unsigned.method.to_string(), unsigned.uri.clone());
        let body = unsigned.body.joined();
        let mut headers = integration.egress.preview(&unsigned, STARS);
        if handler.is_some() {
            headers.insert(HOST, HeaderValue::from_static("handler"));
        }
        let cover = Cover { settings: &entry.settings, veil, puts: &puts };
        Ok(Self {
            model: None,
            asked: None,
            method,
            url: cover.url(&url),
            headers: headers.iter().map(|(name, value)| cover.header(name, value)).collect(),
            length: body.len(),
            body: veil.cover(&String::from_utf8_lossy(&body)),
            report: Report::default(),
            authorization: integration.entrance().status().kind,
            route: handler.map_or_else(|| integration.egress.route(), worker::route),
        })
    }
}

/// What is known of the secrets in one request.
struct Cover<'a> {
    settings: &'a valid::Integration,
    veil: &'a Veil,
    puts: &'a [Put],
}

impl Cover<'_> {
    fn header(&self, name: &HeaderName, value: &HeaderValue) -> Header {
        let shown = |value: String, from| Header { name: name.to_string(), value, from };
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if let Some(put) = self.puts.iter().find(|put| put.header == *name) {
            return shown(self.veil.cover(&text), Some(self.veil.cover(&put.from)));
        }
        if name == http::header::PROXY_AUTHORIZATION {
            return shown(text, Some("the credentials in the proxy's URL".to_owned()));
        }
        let configured = self.settings.headers.iter().find(|(own, given)| own == name && given == value);
        match configured {
            Some((_, given)) if self.veil.hides_header(name, given) => {
                shown(STARS.to_owned(), Some("`headers` of the integration".to_owned()))
            }
            // Ours, and known to be harmless: a secret that is in it by chance is in every request of ours.
            None if [HOST, http::header::USER_AGENT].contains(name) => shown(text, None),
            Some(_) | None => shown(self.veil.cover(&text), None),
        }
    }

    fn url(&self, uri: &Uri) -> String {
        let mut url = String::new();
        if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
            url = format!("{scheme}://{authority}");
        }
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        url.push_str(&self.veil.cover(path));
        if let Some(query) = uri.query() {
            url.push('?');
            let pairs: Vec<String> = query.split('&').map(|pair| self.pair(pair)).collect();
            url.push_str(&pairs.join("&"));
        }
        url
    }

    /// One parameter of the URL's query.
    fn pair(&self, pair: &str) -> String {
        let Some((key, value)) = pair.split_once('=') else { return self.veil.cover(pair) };
        let plain = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let (name, text) = (plain(key), plain(value));
        let is_configured = self.settings.query.iter().any(|(own, given)| *own == name && *given == text);
        if is_configured && self.veil.hides_query(&name, &text) {
            return format!("{key}={STARS}");
        }
        self.veil.cover(pair)
    }
}
