//! What a definition must have to be read although its secrets are missing: exports come without, and variables that hold
//! them need not be set where a definition is imported.

use serde_json::{Map, Value, json};

use super::hide;
use super::page::kind;
use crate::config::environment::Environment;

/// Stands where a secret is missing. It is never written.
pub(super) const MISSING: &str = "missing";

/// What Galileo's `token` holds.
pub(super) struct Credentials {
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
    /// The names of what else is in it.
    pub(super) others: Vec<String>,
}

impl Credentials {
    /// What is in `token`; nothing if it is no JSON, as where it is a reference.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let Ok(Value::Object(fields)) = serde_json::from_str(token) else { return None };
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let is_other = |key: &&String| !["client_id", "client_secret"].contains(&key.as_str());
        let others = fields.keys().filter(is_other).cloned().collect();
        Some(Self { client_id: text("client_id"), client_secret: text("client_secret"), others })
    }
}

/// Puts [`MISSING`] where `json` lacks a secret of its authorization; the keys where it did.
pub(super) fn fill(json: &mut Map<String, Value>) -> Vec<&'static str> {
    let missing = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => is_missing(text),
        Some(_) => false,
    };
    match kind(json).as_str() {
        "api_key" if missing(json.get("api_key_value")) && missing(json.get("api_key_value_file")) => {
            json.insert("api_key_value".to_owned(), Value::from(MISSING));
            vec!["api_key_value"]
        }
        "oauth2" if missing(json.get("token_file")) && is_meant(json) => fill_token(json),
        _ => Vec::new(),
    }
}

/// Whether OAuth2 was said, and is not only the default where nothing is said.
fn is_meant(json: &Map<String, Value>) -> bool {
    let is_given =
        |key: &str| json.get(key).is_some_and(|value| !value.is_null() && value.as_str() != Some(""));
    ["authentication_type", "oauth2_token_url", "token", "oauth2"].into_iter().any(is_given)
}

fn fill_token(json: &mut Map<String, Value>) -> Vec<&'static str> {
    let is_text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| !is_missing(text));
    let oauth2 = json.get("oauth2").cloned().unwrap_or_default();
    let has_other_proof =
        oauth2["client_auth"].as_str().is_some_and(|word| !["post", "basic"].contains(&word));
    let has_secret = ["client_secret", "client_secret_file"].iter().any(|key| is_text(oauth2.get(key)));
    let mut fields = match json.get("token") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::String(text)) if is_missing(text) => Map::new(),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields,
            // A reference, or a mistake that the reader tells.
            _ => return Vec::new(),
        },
        Some(_) => return Vec::new(),
    };
    let mut filled = Vec::new();
    let can_fill = |value: Option<&Value>| value.is_none_or(|value| value.is_null() || value.is_string());
    for (key, is_given) in
        [("client_id", is_text(oauth2.get("client_id"))), ("client_secret", has_secret || has_other_proof)]
    {
        if !is_given && !is_text(fields.get(key)) && can_fill(fields.get(key)) {
            fields.insert(key.to_owned(), Value::from(MISSING));
            filled.push(key);
        }
    }
    if !filled.is_empty() {
        json.insert("token".to_owned(), Value::from(Value::Object(fields).to_string()));
    }
    filled
}

/// Whether it is nothing, or stars.
fn is_missing(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '*' | '•'))
}

/// The variables that secrets refer to and that `env` lacks, with something to read in their place.
pub(super) fn stand_ins(json: &Map<String, Value>, env: &Environment) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in json {
        walk(&[key], value, &mut found);
    }
    found.retain(|(name, _)| env.get(name).is_none_or(str::is_empty));
    found
}

fn walk(path: &[&str], value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table) => {
            table.iter().for_each(|(key, value)| walk(&[path, &[key.as_str()]].concat(), value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(path, value, found)),
        Value::String(text) if hide::may_be_secret(path) => {
            let is_token = path == ["token"] && Credentials::parse(text).is_none();
            let whole = json!({ "client_id": MISSING, "client_secret": MISSING }).to_string();
            let stand_in = if is_token { whole } else { MISSING.to_owned() };
            found.extend(hide::variables(text).into_iter().map(|name| (name, stand_in.clone())));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
