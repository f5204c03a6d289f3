//! Google's credentials file: each of its forms, checked whole, with errors that name the field and never its value.

use std::path::Path;

use http::{HeaderName, HeaderValue, Uri};
use serde_json::{Map, Value};

use super::key::SigningKey;
use super::{Account, External, Impersonated, Kind, Subject};
use crate::files;
use crate::secret::Secret;
use crate::tls;

/// Where users' refresh tokens are taken.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// How long an impersonated token lives where the file does not say it, in seconds.
const HOUR: u64 = 3600;
/// The most of a file that is read.
const MOST: u64 = 1 << 20;

/// The account in the file at `path`.
pub(super) fn read(path: &Path, scope: Option<String>, tls: tls::Profile) -> Result<Account, String> {
    let in_file = |why: String| format!("{}: {why}", files::shown(path));
    let text = text(path)?;
    let whole: Map<String, Value> =
        serde_json::from_str(&text).map_err(|_| in_file("it is not a JSON object".to_owned()))?;
    let table = Table { fields: &whole, path: "", dir: path.parent().unwrap_or_else(|| Path::new("")) };
    let (kind, impersonated) = account(&table).map_err(in_file)?;
    let quota_project = table.optional("quota_project_id").map_err(in_file)?;
    Ok(Account { kind, impersonated, scope, quota_project, tls })
}

/// The text of a small file; the error shows its path as far as it exists.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let in_file = |why: &dyn std::fmt::Display| format!("{}: {why}", files::shown(path));
    // A device would never end.
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(in_file(&"it is not a file")),
        Ok(found) if found.len() > MOST => return Err(in_file(&"it is longer than 1 MiB")),
        Ok(_) => {}
        Err(error) => return Err(in_file(&crate::config::plain(&error))),
    }
    std::fs::read_to_string(path).map_err(|error| in_file(&crate::config::plain(&error)))
}

fn account(table: &Table<'_>) -> Result<(Kind, Option<Impersonated>), String> {
    match table.text("type")?.as_str() {
        "external_account" => {
            let url = table.optional_url("service_account_impersonation_url")?;
            let asked = table.optional_table("service_account_impersonation")?;
            let seconds = asked.map(|asked| asked.optional_number("token_lifetime_seconds")).transpose()?;
            let seconds = seconds.flatten().unwrap_or(HOUR);
            let impersonated = url.map(|url| Impersonated { url, delegates: Vec::new(), seconds });
            Ok((Kind::External(Box::new(external(table)?)), impersonated))
        }
        "impersonated_service_account" => {
            let url = table.url("service_account_impersonation_url")?;
            let (kind, twice) = account(&table.table("source_credentials")?)?;
            if twice.is_some() {
                return Err(
                    "its `source_credentials` impersonate another account themselves; that is not supported"
                        .to_owned(),
                );
            }
            let delegates = table.texts("delegates")?;
            Ok((kind, Some(Impersonated { url, delegates, seconds: HOUR })))
        }
        _ => Ok((plain(table)?, None)),
    }
}

/// An account that speaks for itself alone.
fn plain(table: &Table<'_>) -> Result<Kind, String> {
    match table.text("type")?.as_str() {
        "service_account" => {
            let (id, pem) = (table.optional("private_key_id")?, Secret::new(table.text("private_key")?));
            let key = SigningKey::parse(id, pem).map_err(|why| table.wrong("private_key", why))?;
            Ok(Kind::Service { email: table.text("client_email")?, key, url: table.url("token_uri")? })
        }
        "authorized_user" => Ok(Kind::User {
            id: table.text("client_id")?,
            secret: Secret::new(table.text("client_secret")?),
            refresh: Secret::new(table.text("refresh_token")?),
            url: table.optional_url("token_uri")?.unwrap_or_else(|| Uri::from_static(TOKEN_URL)),
        }),
        _ => Err(table.wrong(
            "type",
            "must be service_account, authorized_user, external_account or impersonated_service_account",
        )),
    }
}

fn external(table: &Table<'_>) -> Result<External, String> {
    let source = table.table("credential_source")?;
    for (key, what) in [
        ("environment_id", "AWS as the other platform"),
        ("executable", "a program that makes the token"),
        ("certificate", "a certificate instead of a token"),
    ] {
        if source.fields.contains_key(key) {
            return Err(
                source.wrong(key, &format!("asks for {what}, which is not supported: use a file or a url"))
            );
        }
    }
    let subject = match (source.optional("file")?, source.optional_url("url")?) {
        (Some(file), _) => Subject::File(table.dir.join(file)),
        (None, Some(url)) => Subject::Url(url, source.headers("headers")?),
        (None, None) => {
            return Err(format!("its `{}credential_source` has neither `file` nor `url`", table.path));
        }
    };
    let format = source.optional_table("format")?;
    let kind = format.as_ref().map(|format| format.optional("type")).transpose()?.flatten();
    let in_json = match (kind.as_deref(), &format) {
        (None | Some("text"), _) => None,
        (Some("json"), Some(format)) => Some(format.text("subject_token_field_name")?),
        _ => return Err("its `credential_source.format.type` must be text or json".to_owned()),
    };
    let client = match (table.optional("client_id")?, table.optional("client_secret")?) {
        (Some(id), Some(secret)) => Some((id, Secret::new(secret))),
        _ => None,
    };
    Ok(External {
        url: table.url("token_url")?,
        audience: table.text("audience")?,
        subject_type: table.text("subject_token_type")?,
        subject,
        in_json,
        client,
        project: table.optional("workforce_pool_user_project")?,
    })
}

/// A JSON object with where it stands in the file.
struct Table<'a> {
    fields: &'a Map<String, Value>,
    /// What stands before the names of its fields.
    path: &'a str,
    /// Where the file is.
    dir: &'a Path,
}

impl<'a> Table<'a> {
    fn wrong(&self, key: &str, what: &str) -> String {
        format!("its `{}{key}` {what}", self.path)
    }

    fn text(&self, key: &str) -> Result<String, String> {
        self.optional(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn optional(&self, key: &str) -> Result<Option<String>, String> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Err(self.wrong(key, "is empty")),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(key, "is not text")),
        }
    }

    fn optional_number(&self, key: &str) -> Result<Option<u64>, String> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(key, "is not a whole number")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                let texts: Option<_> = values.iter().map(text).collect();
                texts.ok_or_else(|| self.wrong(key, "is not a list of texts"))
            }
            Some(_) => Err(self.wrong(key, "is not a list of texts")),
        }
    }

    fn url(&self, key: &str) -> Result<Uri, String> {
        self.optional_url(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn optional_url(&self, key: &str) -> Result<Option<Uri>, String> {
        let Some(text) = self.optional(key)? else { return Ok(None) };
        let is_sound = |url: &Uri| {
            let host = url.authority().map_or("", |authority| authority.as_str());
            matches!(url.scheme_str(), Some("http" | "https")) && !host.is_empty() && !host.contains('@')
        };
        let url = text.parse().ok().filter(is_sound);
        url.map(Some).ok_or_else(|| self.wrong(key, "is not an http:// or https:// URL"))
    }

    fn table(&self, key: &'static str) -> Result<Self, String> {
        self.optional_table(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn optional_table(&self, key: &'static str) -> Result<Option<Self>, String> {
        let path = match key {
            "credential_source" => "credential_source.",
            "source_credentials" => "source_credentials.",
            "format" => "credential_source.format.",
            _ => "service_account_impersonation.",
        };
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self { fields, path, dir: self.dir })),
            Some(_) => Err(self.wrong(key, "is not an object")),
        }
    }

    fn headers(&self, key: &'static str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let fields = match self.fields.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(self.wrong(key, "is not an object")),
        };
        let header = |(name, value): (&String, &Value)| {
            let mut value = HeaderValue::from_str(value.as_str()?).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name.as_str()).ok()?, value))
        };
        let headers: Option<_> = fields.iter().map(header).collect();
        headers.ok_or_else(|| self.wrong(key, "holds what is no header"))
    }
}
