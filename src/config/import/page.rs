//! The table of one integration as TOML: the keys of its JSON that have an effect, and references in place of secrets.

use std::path::Path;

use serde_json::{Map, Value};

use super::hide;
use super::token::Credentials;
use super::toml;
use crate::config::expand::is_name;
use crate::config::raw::{self, Root};
use crate::config::shape::Shape as _;
use crate::config::valid::models::parameter;

/// Where a secret is to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The key within the integration, as it stood in the JSON.
    pub key: String,
    /// What to do, to be read after the key. It holds no secret.
    pub what: String,
}

/// What was made of a definition.
#[derive(Default)]
pub(super) struct Page {
    /// The table.
    pub(super) toml: String,
    pub(super) references: Vec<Reference>,
    /// The variables that references name, with what the JSON has in their place.
    pub(super) variables: Vec<(String, Value)>,
    /// The keys that are left out because they have no effect.
    pub(super) ignored: Vec<String>,
    /// What the table cannot say.
    pub(super) losses: Vec<String>,
    /// Whether it means something else than the JSON by intention.
    pub(super) differs: bool,
    /// Keys whose comment is this.
    comments: Vec<(String, String)>,
}

/// Keys of one kind of authorization each.
const AUTHORIZATIONS: [(&str, &[&str]); 4] = [
    ("api_key", &["api_key_header", "api_key_value", "api_key_value_file"]),
    ("oauth2", &["oauth2_token_url", "authentication_scope", "token", "token_file", "oauth2"]),
    ("aws_sigv4", &["aws"]),
    ("gcp", &["gcp"]),
];

/// What comes first, in this order; then the rest as the JSON has it.
const FIRST: [&str; 14] = [
    "format",
    "endpoint",
    "authentication_type",
    "api_key_header",
    "api_key_value",
    "api_key_value_file",
    "oauth2_token_url",
    "authentication_scope",
    "token",
    "token_file",
    "oauth2",
    "models",
    "model_properties",
    "default_model",
];

/// Secrets below the integration itself: their table and key.
const SECRETS: [(&str, &str); 4] = [
    ("oauth2", "client_secret"),
    ("aws", "access_key_id"),
    ("aws", "secret_access_key"),
    ("aws", "session_token"),
];

/// Makes the table of the integration `name`, whose JSON is `json` and stands in `dir`; of its credentials those in
/// `missing` stand in for what it lacks.
pub(super) fn page(name: &str, json: &Map<String, Value>, dir: &Path, missing: &[&str]) -> Page {
    let mut writer = Writer { name, dir, missing, page: Page::default() };
    let kind = kind(json);
    let fields = writer.fields(json, &kind);
    writer.explain(&fields, &kind);
    let mut page = writer.page;
    page.references.sort_by_key(|reference| rank(reference.key.split('.').next().unwrap_or_default()));
    let comment = |key: &str| -> String {
        let own = page.comments.iter().filter(|(of, _)| of == key);
        own.map(|(_, words)| format!("# {words}\n")).collect()
    };
    let path = format!("integrations.{}", toml::key(name));
    page.toml = format!("[{path}]\n{}", toml::table(&path, &fields, &comment));
    page
}

/// What `authentication_type` says; Galileo's default.
pub(super) fn kind(json: &Map<String, Value>) -> String {
    let said = json.get("authentication_type").and_then(Value::as_str).filter(|word| !word.is_empty());
    said.unwrap_or("oauth2").to_owned()
}

struct Writer<'a> {
    name: &'a str,
    dir: &'a Path,
    missing: &'a [&'a str],
    page: Page,
}

impl Writer<'_> {
    /// The keys as they are to be written.
    fn fields(&mut self, json: &Map<String, Value>, kind: &str) -> Map<String, Value> {
        let root = Root::shape();
        let shape = &root["properties"]["integrations"]["additionalProperties"];
        let mut fields = Map::new();
        if kind == "oauth2" {
            fields.insert("authentication_type".to_owned(), Value::from(kind));
        }
        for (key, value) in json {
            let is_empty = is_unfilled(value) || value.as_array().is_some_and(Vec::is_empty);
            let is_empty = is_empty || value.as_object().is_some_and(Map::is_empty);
            if key == "name" {
                // It named the table, or gave way to another name.
            } else if raw::Integration::IGNORED.contains(&key.as_str()) {
                self.page.ignored.push(key.clone());
            } else if is_empty || !raw::Integration::KEYS.contains(&key.as_str()) {
                // An empty one means nothing, and of an unknown one the reader has warned.
            } else if is_unused(key, json, kind) {
                self.page.ignored.push(key.clone());
            } else if let Some(value) = self.cleaned(&[key], value, &shape["properties"][key]) {
                fields.insert(key.clone(), value);
            }
        }
        self.refer(&mut fields);
        let mut sorted: Vec<_> = fields.into_iter().collect();
        sorted.sort_by_key(|(key, _)| rank(key));
        sorted
            .into_iter()
            .filter(|(_, value)| value.as_object().is_none_or(|table| !table.is_empty()))
            .collect()
    }

    /// `value`, which stands at `path` and is of the shape `shape`: what TOML or the reader has not is left out, and
    /// what may not be shown is a reference.
    fn cleaned(&mut self, path: &[&str], value: &Value, shape: &Value) -> Option<Value> {
        let is_galileos = matches!(path, [_] | ["model_properties" | "custom_header_mapping", _]);
        if value.is_null() || is_galileos && is_unfilled(value) {
            return None;
        }
        if is_own_secret(path) {
            return Some(value.clone());
        }
        if hide::is_secret(path, value, self.dir) {
            return Some(self.reference(path, value));
        }
        match value {
            Value::Object(table) => {
                let is_open = shape["additionalProperties"] != Value::Bool(false);
                let mut kept = Map::new();
                for (key, value) in table {
                    let below =
                        if is_open { &shape["additionalProperties"] } else { &shape["properties"][key] };
                    let path = [path, &[key.as_str()]].concat();
                    if !is_open && below.is_null() {
                        continue;
                    }
                    // Elsewhere a null directly in a table is what nobody filled in, to the reader too.
                    let is_argument = path[..path.len() - 1] == ["custom_llm_config", "init_kwargs"];
                    if value.is_null() && (is_argument || is_free(shape)) {
                        self.lose_null(&path);
                    }
                    kept.extend(self.cleaned(&path, value, below).map(|value| (key.clone(), value)));
                }
                Some(Value::Object(kept))
            }
            Value::Array(_) if path == ["model_properties", "supported_parameters"] => self.parameters(value),
            Value::Array(values) => {
                if values.iter().any(Value::is_null) && is_free(&shape["items"]) {
                    self.lose_null(path);
                }
                let one = |value| self.cleaned(path, value, &shape["items"]);
                Some(Value::Array(values.iter().filter_map(one).collect()))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.clone()),
        }
    }

    /// The parameters that we know: the others, which the reader has warned of, are never filtered.
    fn parameters(&mut self, list: &Value) -> Option<Value> {
        let listed = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let known = listed.iter().filter_map(|one| parameter(one.as_str()?));
        let kept: Vec<_> = known.map(Value::from).collect();
        if kept.is_empty() && !listed.is_empty() {
            let loss = "`supported_parameters` lists only parameters that Outrider does not know. In TOML there is no list \
                        that lets none of the others through: it is left out, and all pass";
            self.lose(loss.to_owned());
        }
        (!kept.is_empty()).then_some(Value::Array(kept))
    }

    fn lose_null(&mut self, path: &[&str]) {
        self.lose(format!("`{}` holds a null, which TOML has not: it is left out", path.join(".")));
    }

    fn lose(&mut self, loss: String) {
        self.page.losses.push(loss);
        self.page.differs = true;
    }

    /// Puts references in place of the secrets that have a key of their own.
    fn refer(&mut self, fields: &mut Map<String, Value>) {
        if let Some(token) = fields.get("token").and_then(Value::as_str).map(str::to_owned) {
            self.take_token(&token, fields);
            // JSON only once its variables are filled in, and perhaps with a secret among them.
            let references = self.page.references.len();
            self.refer_one(fields, "token", "token", "token_file");
            self.page.differs |= fields.contains_key("token_file") && self.page.references.len() > references;
        }
        self.refer_one(fields, "api_key_value", "api_key_value", "api_key_value");
        for (table, key) in SECRETS {
            if let Some(Value::Object(inner)) = fields.get_mut(table) {
                self.refer_one(inner, key, &format!("{table}.{key}"), table);
            }
        }
    }

    /// Galileo's `token` as `oauth2 = { … }`, which wins over it where both speak. One that is a reference stays.
    fn take_token(&mut self, token: &str, fields: &mut Map<String, Value>) {
        let Some(credentials) = Credentials::parse(token) else { return };
        fields.remove("token");
        for key in credentials.others {
            self.page.ignored.push(format!("token.{key}"));
        }
        let oauth2 = fields.entry("oauth2").or_insert_with(|| Value::Object(Map::new()));
        let Some(oauth2) = oauth2.as_object_mut() else { return };
        let mut own = Map::new();
        if !oauth2.contains_key("client_id") {
            let mut id = credentials.client_id.map(Value::from);
            if self.missing.contains(&"client_id") {
                id = id.map(|id| self.reference(&["oauth2", "client_id"], &id));
                if let Some(told) = self.page.references.last_mut() {
                    *told = Reference {
                        key: "token".to_owned(),
                        what: told.what.replace("put it", "put its client_id"),
                    };
                }
            }
            own.extend(id.map(|id| ("client_id".to_owned(), id)));
        }
        let has_secret = oauth2.contains_key("client_secret") || oauth2.contains_key("client_secret_file");
        if let Some(secret) = credentials.client_secret.filter(|_| !has_secret) {
            own.insert("client_secret".to_owned(), Value::from(secret));
            self.refer_one(&mut own, "client_secret", "token", "oauth2");
        }
        own.extend(std::mem::take(oauth2));
        *oauth2 = own;
    }

    /// Puts the twin `key_file` in place of the secret `key` of `table`, unless it is a reference already. The JSON calls it
    /// `told`; a comment stands above the key `line`.
    fn refer_one(&mut self, table: &mut Map<String, Value>, key: &str, told: &str, line: &str) {
        let Some(Value::String(secret)) = table.get(key) else { return };
        if hide::is_reference(secret) {
            return;
        }
        let whole = self.whole(key, secret);
        let short = key.strip_suffix("_value").unwrap_or(key).replace('_', "-");
        let file = format!("{}-{short}", self.name);
        let it = if told == "token" && key == "client_secret" { "its client_secret" } else { "it" };
        let what = format!("put {it} into the file `{file}` beside config.toml{whole}");
        let line = if line == "api_key_value" { "api_key_value_file" } else { line };
        self.page
            .comments
            .push((line.to_owned(), format!("The file `{file}` is to hold the {}{whole}.", words(key))));
        self.page.references.push(Reference { key: told.to_owned(), what });
        let renamed = |(name, value): (String, Value)| {
            if name == key { (format!("{key}_file"), Value::from(file.as_str())) } else { (name, value) }
        };
        *table = std::mem::take(table).into_iter().map(renamed).collect();
    }

    /// How much of a secret is meant, where that is not plain.
    fn whole(&self, key: &str, secret: &str) -> String {
        match hide::scheme(secret) {
            _ if key != "api_key_value" => String::new(),
            Some(scheme) => format!(", `{scheme} ` included"),
            None if self.missing.contains(&key) => ", `Bearer ` included if it is sent so".to_owned(),
            None => String::new(),
        }
    }

    /// What stands for a secret in a table of the user's own, or in a key that has no twin.
    fn reference(&mut self, path: &[&str], value: &Value) -> Value {
        let key = path.join(".");
        let last = path.last().copied().unwrap_or_default();
        if last.ends_with("_file") {
            let short = last.trim_end_matches("_file").trim_end_matches("_value").replace('_', "-");
            let file = format!("{}-{short}", self.name);
            let what = format!(
                "it looks like the secret itself, where the path of its file belongs: put it into the file `{file}` beside config.toml"
            );
            self.page.references.push(Reference { key, what });
            self.page.differs = true;
            return Value::from(file);
        }
        let variable = self.variable(path);
        let what = format!("put it into the environment variable `{variable}`");
        if value.is_number() && !matches!(path, ["query", _] | ["oauth2", "extra_params", _]) {
            self.lose(format!("`{key}` is a number, and what comes from the environment is text there"));
        }
        self.page.variables.push((variable.clone(), value.clone()));
        self.page
            .comments
            .push((path[0].to_owned(), format!("`${{{variable}}}` is to hold {}.", toml::key(last))));
        self.page.references.push(Reference { key, what });
        Value::from(format!("${{{variable}}}"))
    }

    /// A variable for the value at `path`, which no other has.
    fn variable(&self, path: &[&str]) -> String {
        let mut words: Vec<String> = Vec::new();
        for part in std::iter::once(self.name).chain(path.iter().copied()) {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { ' ' };
            words.extend(part.chars().map(plain).collect::<String>().split_whitespace().map(str::to_owned));
        }
        let base = words.join("_");
        let base = if is_name(&base) { base } else { format!("KEY_{base}") };
        let taken = |name: &str| self.page.variables.iter().any(|(other, _)| other == name);
        let numbered = |n: usize| if n == 1 { base.clone() } else { format!("{base}_{n}") };
        (1..).map(numbered).find(|name| !taken(name)).unwrap_or_else(|| base.clone())
    }

    /// Comments where the user decides.
    fn explain(&mut self, fields: &Map<String, Value>, kind: &str) {
        let mut say = |key: &str, words: &str| self.page.comments.push((key.to_owned(), words.to_owned()));
        if kind == "oauth2" && !fields.contains_key("oauth2_token_url") {
            say(
                "authentication_type",
                "Tokens are asked for at the endpoint: set oauth2_token_url if they are elsewhere.",
            );
        }
        if fields.contains_key("custom_llm_config") {
            say(
                "custom_llm_config",
                "It runs if [handlers] has `enabled = true`; its file lies in the `directory` of [handlers].",
            );
        }
        for (key, value) in fields {
            let mut paths = Vec::new();
            relative_paths(&[key], value, &mut paths);
            let placed =
                |path: &String| self.page.references.iter().any(|r| r.what.contains(&format!("`{path}`")));
            if paths.iter().any(|path| !placed(path)) {
                let words = "A relative path was relative to the JSON, and is relative to config.toml here.";
                self.page.comments.push((key.clone(), words.to_owned()));
            }
        }
    }
}

/// Where the key stands among those that come first.
fn rank(key: &str) -> usize {
    FIRST.iter().position(|one| *one == key).unwrap_or(FIRST.len())
}

/// The secret `key` in words.
fn words(key: &str) -> &'static str {
    match key {
        "api_key_value" => "value of that header",
        "client_secret" => "client's secret",
        "token" => "JSON of `token` with its variables filled in",
        "access_key_id" => "access key's id",
        "secret_access_key" => "access key",
        _ => "session token",
    }
}

/// Whether it is a secret that [`Writer::refer`] looks after.
fn is_own_secret(path: &[&str]) -> bool {
    matches!(path, ["api_key_value" | "token"]) || SECRETS.iter().any(|(table, key)| path == [*table, *key])
}

/// Whether it is what nobody filled in.
fn is_unfilled(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Whether anything may stand there, `null` included.
fn is_free(shape: &Value) -> bool {
    shape["type"].is_null() && shape["anyOf"].is_null()
}

/// Whether the key belongs to another authorization or format than the integration's.
fn is_unused(key: &str, json: &Map<String, Value>, kind: &str) -> bool {
    let owner = AUTHORIZATIONS.iter().find(|(_, keys)| keys.contains(&key));
    if let Some((owner, _)) = owner {
        return !kind.contains("${") && *owner != kind;
    }
    let format = json.get("format").and_then(Value::as_str).unwrap_or_default();
    ["request", "response", "stream"].contains(&key) && format != "declared" && !format.contains("${")
}

/// The relative paths in the value at `path`.
fn relative_paths(path: &[&str], value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            table
                .iter()
                .for_each(|(key, value)| relative_paths(&[path, &[key.as_str()]].concat(), value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| relative_paths(path, value, found)),
        Value::String(text) => {
            let is_path = path.last().is_some_and(|key| key.ends_with("_file")) && !text.contains("${");
            if is_path && Path::new(text).is_relative() {
                found.push(text.clone());
            }
            let forms = text.split("${file:").skip(1).filter_map(|rest| rest.split('}').next());
            found.extend(forms.filter(|path| Path::new(path).is_relative()).map(str::to_owned));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
