//! The page that `explain` shows: the request as it would go out, and what to know about it.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::layout::laid_out;
use crate::config::valid::Integration;
use crate::egress::Route;
use crate::files;
use crate::outbound::{Change, Done};
use crate::proxy::{Explained, Refusal, Shown};
use crate::tls;

/// What is shown.
pub(super) struct Page<'a> {
    pub(super) explained: &'a Explained,
    pub(super) settings: &'a Integration,
    /// What the request was read from, and its body.
    pub(super) file: &'a str,
    pub(super) body: &'a [u8],
}

/// The body in JSON: as it is, or as text where it is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// The page in JSON; the body stands in it token by token.
#[derive(Serialize)]
struct Sheet<'a> {
    integration: &'a str,
    format: &'a str,
    model: Option<Value>,
    request: Request<'a>,
    changes: Vec<Value>,
    connection: Value,
}

#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<Value>,
    body_bytes: usize,
    body: Body<'a>,
}

impl Page<'_> {
    /// For people.
    pub(super) fn text(&self, exact: bool) -> String {
        match self.explained {
            Explained::Own => "answered by Outrider by itself: nothing is sent\n".to_owned(),
            Explained::Refused(refusal) => self.refusal(refusal),
            Explained::Sent(shown) => self.shown(shown, exact),
        }
    }

    /// For machines.
    pub(super) fn json(&self) -> String {
        let integration = self.settings.name.as_str();
        match self.explained {
            Explained::Own => format!("{:#}\n", json!({"integration": integration, "request": null})),
            Explained::Refused(refusal) => {
                let body: Value = serde_json::from_str(&refusal.body).unwrap_or_default();
                let place = self
                    .place(refusal)
                    .map(|(line, column)| json!({"file": self.file, "line": line, "column": column}));
                let refused = json!({"status": refusal.status, "body": body, "at": place});
                format!("{:#}\n", json!({"integration": integration, "refused": refused}))
            }
            Explained::Sent(shown) => {
                let sheet = serde_json::to_string_pretty(&self.sheet(shown)).unwrap_or_default();
                format!("{sheet}\n")
            }
        }
    }

    fn refusal(&self, refusal: &Refusal) -> String {
        let mut text =
            format!("refused with status {}; nothing is sent\n\n{}\n", refusal.status, refusal.body);
        if let Some((line, column)) = self.place(refusal) {
            let _ = writeln!(text, "\nat {}:{line}:{column}", self.file);
        }
        text
    }

    /// Line and column of the fault in the request, both from 1, the column in characters.
    fn place(&self, refusal: &Refusal) -> Option<(usize, usize)> {
        let before = &self.body[..refusal.at?.min(self.body.len())];
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Some((line, String::from_utf8_lossy(&before[start..]).chars().count() + 1))
    }

    fn shown(&self, shown: &Shown, exact: bool) -> String {
        let mut text = format!("{} {}\n", shown.method, shown.url);
        for header in &shown.headers {
            let from = header.from.as_ref().map_or_else(String::new, |from| format!("   ({from})"));
            let _ = writeln!(text, "{}: {}{from}", header.name, header.value);
        }
        let body = if exact { shown.body.clone() } else { laid_out(&shown.body) };
        let _ = writeln!(text, "\n{body}\n");
        for (label, words) in self.facts(shown) {
            let _ = writeln!(text, "{label:12} {words}");
        }
        text
    }

    /// What to know about the request, line by line.
    fn facts(&self, shown: &Shown) -> Vec<(&'static str, String)> {
        let mut facts = vec![("model", self.model(shown))];
        let change = |change: &Change| (word(change.what), format!("{}: {}", change.field, change.why));
        facts.extend(shown.report.changes.iter().map(change));
        facts.push(("authorized", shown.authorization.to_owned()));
        facts.extend(way(&shown.route, &self.settings.tls));
        facts.push(("sent", "nothing, and no token was fetched".to_owned()));
        facts
    }

    fn model(&self, shown: &Shown) -> String {
        let Some(model) = shown.model.map(|at| &self.settings.models[at]) else {
            return "as the request says: this path is relayed, and its body is not read".to_owned();
        };
        let name = model.name.as_str();
        match &shown.asked {
            None => format!("`{name}`, which is the default: the request names none"),
            Some(asked) if asked == name => format!("`{name}`"),
            Some(asked) => format!("`{asked}` is `{name}` there"),
        }
    }

    fn sheet<'s>(&'s self, shown: &'s Shown) -> Sheet<'s> {
        let settings = self.settings;
        let model = shown.model.map(|at| &settings.models[at]).map(
            |model| json!({"asked": shown.asked, "alias": model.alias.as_str(), "name": model.name.as_str()}),
        );
        let change =
            |change: &Change| json!({"what": word(change.what), "field": change.field, "why": change.why});
        Sheet {
            integration: settings.name.as_str(),
            format: settings.spoken(),
            model,
            request: Request {
                method: &shown.method,
                url: &shown.url,
                headers: shown
                    .headers
                    .iter()
                    .map(|h| json!({"name": h.name, "value": h.value, "from": h.from}))
                    .collect(),
                body_bytes: shown.length,
                body: serde_json::from_str(&shown.body).map_or(Body::Text(&shown.body), Body::Json),
            },
            changes: shown.report.changes.iter().map(change).collect(),
            connection: self.connection(shown),
        }
    }

    fn connection(&self, shown: &Shown) -> Value {
        let (route, profile) = (&shown.route, &self.settings.tls);
        let certificate = |file: &std::path::PathBuf| json!({"file": file, "subject": tls::subject(profile)});
        json!({
            "authorization": shown.authorization,
            "to": route.to,
            "tls": route.tls.as_ref().map(|secure| json!({
                "server_name": secure.server_name,
                "min_version": version(profile),
                "http2": secure.offers_http2,
                "client_certificate": profile.client_cert_file.as_ref().map(certificate),
            })),
            "proxy": route.proxy.as_ref().map(|proxy| json!({
                "url": proxy.url,
                "how": if proxy.forwards { "forward" } else { "connect" },
                "credentials": proxy.has_credentials,
            })),
        })
    }
}

/// Where requests go, line by line, and by which certificate we are known there. Blocks: it reads the certificate.
pub(in crate::cli) fn way(route: &Route, tls: &tls::Profile) -> Vec<(&'static str, String)> {
    let mut words = match &route.tls {
        None => format!("{} without TLS", route.to),
        Some(secure) => {
            format!("{} by TLS {} or later as {}", route.to, version(tls), secure.server_name)
        }
    };
    if route.tls.as_ref().is_some_and(|secure| secure.offers_http2) {
        words += ", over HTTP/2 if the other side takes it (then without `host`)";
    }
    let mut way = vec![("connects to", words)];
    if let Some(proxy) = &route.proxy {
        let how = if proxy.forwards { "which passes the request on" } else { "by CONNECT" };
        let credentials = if proxy.has_credentials { ", with the credentials in its URL" } else { "" };
        way.push(("proxy", format!("{}, {how}{credentials}", proxy.url)));
    }
    if let (Some(_), Some(file)) = (&route.tls, &tls.client_cert_file) {
        let subject = tls::subject(tls).filter(|subject| !subject.is_empty());
        way.push((
            "certificate",
            format!("{} ({})", subject.as_deref().unwrap_or("without a subject"), files::shown(file)),
        ));
    }
    way
}

fn version(profile: &tls::Profile) -> &'static str {
    match profile.min_version {
        tls::Version::Tls12 => "1.2",
        tls::Version::Tls13 => "1.3",
    }
}

fn word(what: Done) -> &'static str {
    match what {
        Done::Dropped => "dropped",
        Done::Renamed => "renamed",
        Done::Changed => "changed",
        Done::Defaulted => "defaulted",
    }
}
