//! Google's access tokens: for a service account, a user, an external account, or what the machine itself is.

mod file;
mod key;

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use form_urlencoded::Serializer;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Map, Value, json};

use super::answer::{self, Fields, Granted, Trouble};
use super::credential::{Credential, Issuer, Proof, bearer, host_of};
use super::fetch::{self, Flight};
use crate::config::valid::{Gcp, GcpSource};
use crate::echo::Needles;
use crate::files;
use crate::observe::clock;
use crate::outbound::{Segments, Unsigned};
use crate::secret::Secret;
use crate::tls;
use key::SigningKey;

/// What is asked for where nothing else is said.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Who pays, for those whose credential belongs to no project.
const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");
/// Without it the metadata server does not answer.
const FLAVOR: (HeaderName, HeaderValue) =
    (HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"));

const SERVICE: Proof = Proof {
    name: "service account key",
    check: "that the key in gcp.credentials_file is active, and gcp.scope",
};
const USER: Proof = Proof {
    name: "user credentials",
    check: "gcp.credentials_file; `gcloud auth application-default login` makes it anew",
};
const EXTERNAL: Proof = Proof {
    name: "external account",
    check: "the workload identity pool, its provider, and the account in gcp.credentials_file",
};
const MACHINE: Proof = Proof {
    name: "request for the machine's own token",
    check: "that a service account is attached to it, or set gcp.credentials_file",
};

/// Everything that makes one of Google's tokens differ from another. Not `Debug`.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Account {
    kind: Kind,
    impersonated: Option<Impersonated>,
    /// What was asked for in the configuration.
    scope: Option<String>,
    quota_project: Option<String>,
    tls: tls::Profile,
}

#[derive(PartialEq, Eq, Hash)]
enum Kind {
    /// A signed assertion (RFC 7523 §2.1).
    Service { email: String, key: SigningKey, url: Uri },
    /// A refresh token (RFC 6749 §6).
    User { id: String, secret: Secret, refresh: Secret, url: Uri },
    /// The token of another platform is exchanged (RFC 8693).
    External(Box<External>),
    /// The metadata server, which asks for nothing.
    Machine(Uri),
}

#[derive(PartialEq, Eq, Hash)]
struct External {
    url: Uri,
    audience: String,
    subject_type: String,
    subject: Subject,
    in_json: Option<String>,
    client: Option<(String, Secret)>,
    project: Option<String>,
}

/// Where the token of the other platform is.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    File(PathBuf),
    Url(Uri, Vec<(HeaderName, HeaderValue)>),
}

/// A service account that another account speaks for.
#[derive(PartialEq, Eq, Hash)]
struct Impersonated {
    url: Uri,
    delegates: Vec<String>,
    seconds: u64,
}

impl Account {
    /// Reads the credentials. The error says what is wrong in the world, and never what a file holds.
    pub(super) fn read(settings: &Gcp, tls: &tls::Profile) -> Result<Self, String> {
        let (scope, tls) = (settings.scope.clone(), tls.clone());
        match &settings.source {
            GcpSource::File(path) => file::read(path, scope, tls),
            GcpSource::Metadata(url) => {
                let (kind, impersonated, quota_project) = (Kind::Machine(url.clone()), None, None);
                Ok(Self { kind, impersonated, scope, quota_project, tls })
            }
        }
    }

    /// Whose token is asked for where: the token endpoint first, in the order of the stops of a way.
    pub(super) fn urls(&self) -> Vec<&Uri> {
        let subject = match &self.kind {
            Kind::External(external) => external.subject.url(),
            Kind::Service { .. } | Kind::User { .. } | Kind::Machine(_) => None,
        };
        let impersonated = self.impersonated.as_ref().map(|impersonated| &impersonated.url);
        [Some(self.url()), subject, impersonated].into_iter().flatten().collect()
    }

    /// What is put on each request beside the token.
    pub(super) fn beside(&self) -> Option<(HeaderName, HeaderValue)> {
        let project = HeaderValue::from_str(self.quota_project.as_deref()?).ok()?;
        Some((QUOTA_PROJECT, project))
    }

    /// Whether the token of the other platform is where it should be, if a file holds it.
    pub(super) fn check_subject(&self) -> Result<(), String> {
        match &self.kind {
            Kind::External(external) => match &external.subject {
                Subject::File(path) => {
                    let text = file::text(path)?;
                    external.token_in(&text).map(drop).map_err(|why| format!("{}: {why}", files::shown(path)))
                }
                Subject::Url(..) => Ok(()),
            },
            Kind::Service { .. } | Kind::User { .. } | Kind::Machine(_) => Ok(()),
        }
    }

    fn url(&self) -> &Uri {
        match &self.kind {
            Kind::Service { url, .. } | Kind::User { url, .. } | Kind::Machine(url) => url,
            Kind::External(external) => &external.url,
        }
    }

    /// The scope of the first token: one that speaks for another account needs to be able to.
    fn scope(&self) -> &str {
        match (&self.impersonated, &self.scope) {
            (None, Some(scope)) => scope,
            _ => SCOPE,
        }
    }

    /// The token of the account itself.
    async fn own(&self, flight: &Flight<'_>) -> Result<Granted<String>, Trouble> {
        let (request, secrets) = match &self.kind {
            Kind::Service { email, key, url } => {
                let signed = key.assertion(email, url, self.scope(), clock::unix_seconds())?;
                (assertion(url, &signed), vec![signed])
            }
            Kind::User { id, secret, refresh, url } => {
                let scope = self.scope.as_ref().filter(|_| self.impersonated.is_none());
                (refreshing(url, id, (secret, refresh), scope), vec![secret.clone(), refresh.clone()])
            }
            Kind::External(external) => {
                let subject = external.subject_token(flight).await?;
                let secret = external.client.as_ref().map(|(_, secret)| secret.clone());
                let secrets = secret.into_iter().chain([subject.clone()]).collect();
                (external.exchange(&subject, self.scope()), secrets)
            }
            Kind::Machine(url) => (of_the_machine(url, self.scope.as_deref()), Vec::new()),
        };
        let (status, body) = flight.exchange(0, request).await?;
        let hide = |text: &str| hidden(text, &secrets);
        let url = match &self.kind {
            Kind::Machine(_) => "that a service account is attached to the machine",
            Kind::Service { .. } | Kind::User { .. } => "token_uri in gcp.credentials_file",
            Kind::External(_) => "token_url in gcp.credentials_file",
        };
        let fields = Fields { token: "access_token", expires: "expires_in", help: "", url, hide: &hide };
        answer::read(status, &body, &fields)
    }
}

impl Credential for Account {
    type Pass = HeaderValue;

    fn issuer(&self) -> Issuer {
        let proof = match &self.kind {
            Kind::Service { .. } => &SERVICE,
            Kind::User { .. } => &USER,
            Kind::External(_) => &EXTERNAL,
            Kind::Machine(_) => &MACHINE,
        };
        Issuer { host: host_of(self.url()), proof }
    }

    async fn ask(&self, flight: &Flight<'_>) -> Result<Granted<HeaderValue>, Trouble> {
        let own = self.own(flight).await?;
        let granted = match &self.impersonated {
            None => own,
            Some(impersonated) => {
                let stop = self.urls().len() - 1;
                let scope = self.scope.as_deref().unwrap_or(SCOPE);
                impersonated.ask(flight, stop, &Secret::new(own.pass), scope).await?
            }
        };
        granted.with(|token| bearer("Bearer ", &token))
    }
}

impl Subject {
    fn url(&self) -> Option<&Uri> {
        match self {
            Self::File(_) => None,
            Self::Url(url, _) => Some(url),
        }
    }
}

impl External {
    /// The token of the other platform, as it is now.
    async fn subject_token(&self, flight: &Flight<'_>) -> Result<Secret, Trouble> {
        let (text, from) = match &self.subject {
            Subject::File(path) => {
                let reading = path.clone();
                let read = tokio::task::spawn_blocking(move || file::text(&reading)).await;
                let text = read.unwrap_or_else(|_| Err("reading was cut off".to_owned()));
                (text.map_err(Trouble::unavailable)?, files::shown(path))
            }
            Subject::Url(url, headers) => {
                let mut request = fetch::get(url);
                request.headers.extend(headers.iter().cloned());
                let (status, body) = flight.exchange(1, request).await?;
                if !(200..300).contains(&status) {
                    let words = format!("the subject token's URL at {} answered {status}", host_of(url));
                    return Err(Trouble::unavailable(words));
                }
                (String::from_utf8_lossy(&body).into_owned(), host_of(url).to_string())
            }
        };
        self.token_in(&text).map_err(|why| Trouble::unavailable(format!("{from}: {why}")))
    }

    /// The token in what was read; the error is to be read after where that was.
    fn token_in(&self, text: &str) -> Result<Secret, String> {
        let token = match &self.in_json {
            None => text.trim().to_owned(),
            Some(field) => {
                let whole: Map<String, Value> =
                    serde_json::from_str(text).map_err(|_| "it is not a JSON object".to_owned())?;
                let token = whole.get(field).and_then(Value::as_str);
                token.ok_or_else(|| format!("its `{field}` is no text"))?.trim().to_owned()
            }
        };
        if token.is_empty() { Err("the subject token is empty".to_owned()) } else { Ok(Secret::new(token)) }
    }

    fn exchange(&self, subject: &Secret, scope: &str) -> Box<Unsigned> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("audience", &self.audience)
            .append_pair("scope", scope)
            .append_pair("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
            .append_pair("subject_token", subject.expose())
            .append_pair("subject_token_type", &self.subject_type);
        if let Some(project) = self.project.as_ref().filter(|_| self.client.is_none()) {
            form.append_pair("options", &json!({ "userProject": project }).to_string());
        }
        let mut request = fetch::post(&self.url, form.finish());
        if let Some((id, secret)) = &self.client {
            let pair = BASE64_STANDARD.encode(format!("{id}:{}", secret.expose()));
            let mut value =
                HeaderValue::from_str(&format!("Basic {pair}")).expect("base64 can stand in a header");
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
        request
    }
}

impl Impersonated {
    /// The token of the account that `own` may speak for.
    async fn ask(
        &self,
        flight: &Flight<'_>,
        stop: usize,
        own: &Secret,
        scope: &str,
    ) -> Result<Granted<String>, Trouble> {
        let scopes: Vec<&str> = scope.split_whitespace().collect();
        let mut body = json!({ "scope": scopes, "lifetime": format!("{}s", self.seconds) });
        if !self.delegates.is_empty() {
            body["delegates"] = json!(self.delegates);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, bearer("Bearer ", own.expose())?);
        let mut request = Unsigned::new(Method::POST, "", headers, Segments::one(body.to_string().into()));
        request.uri = self.url.clone();
        let (status, body) = flight.exchange(stop, request).await?;
        let hide = |text: &str| hidden(text, std::slice::from_ref(own));
        let url = "service_account_impersonation_url in gcp.credentials_file";
        let fields = Fields { token: "accessToken", expires: "", help: "", url, hide: &hide };
        let json = answer::object(status, &body, &fields).map_err(|trouble| self.told(trouble))?;
        let pass = answer::token(&json, &fields).map_err(|trouble| self.told(trouble))?;
        let ends = json.get("expireTime").and_then(Value::as_str).and_then(clock::parse);
        let left = ends.map(|at| at.saturating_sub(clock::unix_seconds()));
        Ok(Granted {
            pass,
            lifetime: left.map_or(answer::DEFAULT_LIFETIME, |left| answer::within(left as f64)),
        })
    }

    /// Says at whom it failed, since that is not the token endpoint.
    fn told(&self, trouble: Trouble) -> Trouble {
        let at = format!("impersonation at {}", host_of(&self.url));
        match trouble {
            Trouble::Refused { status, error, description } => {
                let said = [error, description].into_iter().flatten().collect::<Vec<_>>().join(": ");
                let description = Some(said).filter(|said| !said.is_empty());
                Trouble::Refused { status, error: Some(at), description }
            }
            Trouble::Unavailable { words, ours, hopeless } => Trouble::Unavailable {
                words: format!("{at}: {words}"),
                ours: format!("{at}: {ours}"),
                hopeless,
            },
        }
    }
}

fn assertion(url: &Uri, signed: &Secret) -> Box<Unsigned> {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .append_pair("assertion", signed.expose());
    fetch::post(url, form.finish())
}

fn refreshing(
    url: &Uri,
    id: &str,
    (secret, refresh): (&Secret, &Secret),
    scope: Option<&String>,
) -> Box<Unsigned> {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token")
        .append_pair("client_id", id)
        .append_pair("client_secret", secret.expose())
        .append_pair("refresh_token", refresh.expose());
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    fetch::post(url, form.finish())
}

/// Without a scope of its own the machine's token has what was given to the machine.
fn of_the_machine(url: &Uri, scope: Option<&str>) -> Box<Unsigned> {
    let mut request = fetch::get(url);
    if let Some(scope) = scope {
        let scopes = scope.split_whitespace().collect::<Vec<_>>().join(",");
        let query = Serializer::new(String::new()).append_pair("scopes", &scopes).finish();
        request.uri = format!("{url}?{query}").parse().unwrap_or_else(|_| url.clone());
    }
    request.headers.insert(FLAVOR.0, FLAVOR.1);
    request
}

fn hidden(text: &str, secrets: &[Secret]) -> String {
    let needles =
        secrets.iter().fold(Needles::default(), |needles, secret| needles.and_secret(secret.expose()));
    needles.clean_text(text).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests;
