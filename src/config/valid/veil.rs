//! The secrets of one integration, taken out of what is shown of its requests.

use std::fmt;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::plain::is_suspect_parameter;
use super::{Authorization, Integration, OAuth2, Proxy};
use crate::config::places::At;
use crate::secret::Secret;

/// What stands in place of a secret.
pub const STARS: &str = "***";

/// Shorter than this, a secret would be found in ordinary words.
const LEAST: usize = 6;

/// What stays as it is in a URL (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Pieces of the names under which secrets commonly go.
const SUSPECT: [&str; 16] = [
    "auth",
    "bearer",
    "cert",
    "cookie",
    "cred",
    "jwt",
    "key",
    "pass",
    "pwd",
    "sas",
    "secret",
    "session",
    "sig",
    "token",
    "private",
    "assertion",
];

/// How values begin that are secrets, in small letters.
const BEGINNINGS: [&str; 6] = ["bearer ", "basic ", "token ", "apikey ", "sk-", "eyj"];

/// A run of so many letters and digits is no word.
const WORD: usize = 16;

/// What is not to be shown of the requests of one integration: its secrets, and what came from elsewhere than the
/// configuration's files (the environment, `${…}`), in any form in which a request may hold them.
#[derive(Clone)]
pub struct Veil {
    keys: Vec<Vec<String>>,
    /// The longest first: one may be in another.
    forms: Vec<Secret>,
}

impl Veil {
    /// That of `settings`, where the values of `keys` (paths within the integration, in small letters) came from
    /// elsewhere and are made of `texts`. Blocks: it reads the files of secrets.
    pub(in crate::config) fn new(
        settings: &Integration,
        keys: Vec<Vec<String>>,
        mut texts: Vec<Secret>,
    ) -> Self {
        let secrets = settings.authorization.secrets(&At::integration(settings.name.as_str()));
        texts.extend(secrets.into_iter().filter_map(|(_, source)| source.load().ok()));
        if let Proxy::Through { url, .. } = &settings.proxy {
            texts.extend(password(url));
        }
        if let Authorization::OAuth2(oauth2) = &settings.authorization {
            texts.extend(extras(oauth2));
            texts.extend(oauth2.hidden_path.iter().cloned());
        }
        let mut veil = Self { keys, forms: Vec::new() };
        for (name, json) in &settings.edits.defaults {
            let Ok(value) = serde_json::from_str(json) else { continue };
            if veil.is_foreign("defaults", name) {
                strings(&value, &mut texts);
            }
            suspects(name, &value, &mut texts);
        }
        if let Some(request) = settings.declared.as_ref().and_then(|tables| tables.get("request")) {
            suspects("", request, &mut texts);
        }
        for (name, value) in &settings.headers {
            if veil.hides_header(name, value) {
                texts.extend(value.to_str().ok().map(Secret::new));
            }
        }
        texts.extend(settings.hidden_in_urls().map(Secret::new));
        veil.hide(&texts);
        veil
    }

    /// Hides these, too, from now on.
    pub fn hide(&mut self, texts: &[Secret]) {
        self.forms.extend(texts.iter().flat_map(forms).map(Secret::new));
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
    }

    /// Whether the configured header `name` may hold a secret: its value came from elsewhere, or looks like one.
    pub fn hides_header(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        self.is_foreign("headers", name.as_str())
            || value.to_str().map_or(true, |text| is_suspect(name.as_str(), text))
    }

    /// Likewise, for a parameter of the configured `query`.
    pub fn hides_query(&self, name: &str, value: &str) -> bool {
        self.is_foreign("query", name) || is_suspect_parameter(name, value)
    }

    /// `text` without any secret.
    pub fn cover(&self, text: &str) -> String {
        let mut covered = text.to_owned();
        for form in self.forms.iter().filter(|form| form.expose().len() >= LEAST) {
            if covered.contains(form.expose()) {
                covered = covered.replace(form.expose(), STARS);
            }
        }
        covered
    }

    /// From where on the end of `text` may be the beginning of a secret; the length of `text` if it is of none. For a
    /// text that comes in pieces: what stands before may be shown once it is covered.
    pub fn unsure_from(&self, text: &str) -> usize {
        let longest = self.forms.first().map_or(0, |form| form.expose().len());
        let starts = text.char_indices().map(|(at, _)| at).filter(|at| text.len() - at < longest);
        let begins = |rest: &str| {
            self.forms.iter().any(|form| form.expose().len() > rest.len() && form.expose().starts_with(rest))
        };
        starts.into_iter().find(|at| begins(&text[*at..])).unwrap_or(text.len())
    }

    fn is_foreign(&self, table: &str, name: &str) -> bool {
        let path = [table, &name.to_lowercase()];
        self.keys.iter().any(|key| key.iter().zip(path).all(|(own, other)| own == other))
    }
}

impl fmt::Debug for Veil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Veil").field("secrets", &self.forms.len()).finish_non_exhaustive()
    }
}

/// What a token request carries besides the client's own proof, where it may be a secret too.
fn extras(oauth2: &OAuth2) -> impl Iterator<Item = Secret> {
    let headers = oauth2.extra_headers.iter().filter_map(|(_, value)| value.to_str().ok());
    let params = oauth2.extra_params.iter().filter(|(name, value)| is_suspect(name, value));
    headers.chain(params.map(|(_, value)| value.as_str())).map(Secret::new)
}

/// The password in a proxy's URL.
fn password(url: &Secret) -> Option<Secret> {
    let (_, rest) = url.expose().split_once("://")?;
    let (credentials, _) = rest.rsplit_once('@')?;
    let (_, password) = credentials.split_once(':')?;
    Some(Secret::new(percent_encoding::percent_decode_str(password).decode_utf8_lossy()))
}

fn strings(value: &serde_json::Value, into: &mut Vec<Secret>) {
    match value {
        serde_json::Value::String(text) => into.push(Secret::new(text.as_str())),
        serde_json::Value::Array(values) => values.iter().for_each(|value| strings(value, into)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| strings(value, into)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// The texts in the value at `name` that look like secrets. An expression is none.
fn suspects(name: &str, value: &serde_json::Value, into: &mut Vec<Secret>) {
    match value {
        serde_json::Value::String(text) if is_suspect(name, text) && !text.trim().starts_with("{{") => {
            into.push(Secret::new(text.as_str()));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| suspects(name, value, into)),
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| suspects(name, value, into));
        }
        serde_json::Value::String(_)
        | serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_) => {}
    }
}

/// Whether `text`, which stands where no secret belongs, holds what looks like one: a credential, its scheme, or JSON with
/// one in it.
pub fn holds_credential(text: &str) -> bool {
    let lower = text.to_lowercase();
    let holds_one = lower.contains('{') && SUSPECT.iter().any(|piece| lower.contains(piece));
    let begins = |word: &str| BEGINNINGS.iter().any(|with| word.starts_with(with));
    let starts = lower.char_indices().map(|(at, _)| at);
    let mut words = starts.filter(|at| !lower[..*at].ends_with(|c: char| c.is_ascii_alphanumeric()));
    holds_one || words.any(|at| begins(&lower[at..]))
}

/// Whether a piece of `text` is a key, a digest or a UUID rather than words.
pub fn is_random(text: &str) -> bool {
    let is_long = |run: &str| {
        run.len() >= WORD
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let runs = |keep: fn(char) -> bool| text.split(move |c: char| !(c.is_ascii_alphanumeric() || keep(c)));
    let is_uuid = |run: &str| {
        let parts: Vec<_> = run.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && run.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
    };
    runs(|c| matches!(c, '+' | '=' | '_')).any(is_long) || runs(|c| c == '-').any(is_uuid)
}

/// Whether `value` is an address with a password in it.
fn has_password(value: &str) -> bool {
    let Some((_, address)) = value.split_once("://") else { return false };
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

/// Whether one of the `name=value` in `value` goes by the name of a secret, as in a connection string.
fn names_secret(value: &str) -> bool {
    value
        .split([';', '&', '?', ',', ' '])
        .filter_map(|pair| pair.split_once('='))
        .any(|(name, value)| !value.is_empty() && SUSPECT.iter().any(|piece| name.contains(piece)))
}

/// Whether the value that goes by `name` looks like a secret, or holds one.
pub fn is_suspect(name: &str, value: &str) -> bool {
    let (name, value) = (name.to_lowercase(), value.to_lowercase());
    SUSPECT.iter().any(|piece| name.contains(piece))
        || BEGINNINGS.iter().any(|with| value.starts_with(with))
        || has_password(&value)
        || names_secret(&value)
}

/// The forms in which a request may hold `secret`: with and without its scheme, and encoded.
fn forms(secret: &Secret) -> Vec<String> {
    let whole = secret.expose();
    let bare = whole.rsplit(' ').next().unwrap_or(whole);
    let mut forms = Vec::new();
    for text in [whole, bare] {
        let quoted = serde_json::Value::from(text).to_string();
        forms.extend([
            text.to_owned(),
            quoted[1..quoted.len() - 1].to_owned(),
            utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
            utf8_percent_encode(text, UNRESERVED).to_string(),
            form_urlencoded::byte_serialize(text.as_bytes()).collect(),
            BASE64_STANDARD_NO_PAD.encode(text),
            BASE64_URL_SAFE_NO_PAD.encode(text),
        ]);
    }
    forms.retain(|form| form.len() >= LEAST);
    forms.sort();
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Options, load};

    fn veil(toml: &str, env: &[(&str, &str)]) -> (Veil, Integration) {
        let dir = tempfile::tempdir().unwrap();
        let text =
            format!("[integrations.acme]\nendpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\n{toml}\n");
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        std::fs::write(dir.path().join("key"), "file-s3cret\n").unwrap();
        let env = Environment::of(env.iter().copied());
        let options = Options { env, dir: dir.path().to_owned(), ..Options::default() };
        let loaded = load(&options).unwrap_or_else(|problems| panic!("{problems}"));
        let integration = loaded.settings.integrations.values().next().unwrap().clone();
        (loaded.veil(&integration), integration)
    }

    fn hidden(veil: &Veil, settings: &Integration) -> Vec<String> {
        let hides = |(name, value): &&(HeaderName, HeaderValue)| veil.hides_header(name, value);
        settings.headers.iter().filter(hides).map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn a_header_is_hidden_if_it_came_from_elsewhere_or_looks_like_a_secret() {
        let toml = "authentication_type = \"none\"\n\
                    headers = { X-Team = \"ml\", X-From-Env = \"${A}\", x-file = \"${file:key}\", x-api-key = \"plain\", x-auto = \"Bearer t\" }";
        let (veil, settings) = veil(toml, &[("A", "ab")]);
        assert_eq!(hidden(&veil, &settings), ["x-from-env", "x-file", "x-api-key", "x-auto"]);
        assert_eq!(veil.cover("a file-s3cret ml ab"), "a *** ml ab", "what is short is not searched for");
    }

    #[test]
    fn what_the_environment_sets_is_hidden() {
        let toml =
            "authentication_type = \"none\"\nheaders = { x-team = \"ml\" }\nquery = { v = \"1\", w = \"2\" }";
        let env = [
            ("OUTRIDER_INTEGRATIONS__ACME__HEADERS", "{ x-team = \"red\" }"),
            ("OUTRIDER_INTEGRATIONS__ACME__QUERY__V", "2"),
            ("OUTRIDER_INTEGRATIONS__ACME__DEFAULTS", "{ user = \"default-user\" }"),
        ];
        let (veil, settings) = veil(toml, &env);
        assert_eq!(hidden(&veil, &settings), ["x-team"]);
        assert!(veil.hides_query("v", "2") && !veil.hides_query("w", "2"));
        assert_eq!(settings.hidden_query, ["v"]);
        assert_eq!(veil.cover("default-user"), STARS);
    }

    #[test]
    fn a_query_value_put_together_from_elsewhere_is_known_as_such() {
        let toml = "authentication_type = \"none\"\n\
                    query = { Code = \"${A}\", f = \"x-${file:key}\", api-version = \"2024-10-21\" }";
        let (_, mut settings) = veil(toml, &[("A", "from-env-1")]);
        settings.hidden_query.sort();
        assert_eq!(settings.hidden_query, ["Code", "f"]);
    }

    #[test]
    fn what_looks_like_a_secret_in_the_body_is_hidden_though_it_stands_in_the_file() {
        let toml = "authentication_type = \"none\"\nformat = \"declared\"\n\
                    defaults = { api_token = \"default-s3cret\", user = \"somebody\" }\n\
                    request = { p = \"{{ messages | join_prompt }}\", max_tokens = \"{{ max_tokens }}\", \
                    in = [{ apikey = \"request-s3cret\", mode = \"sk-live-1\", team = \"red-team\" }] }\n\
                    response = { content = \"{{ x }}\" }";
        let (veil, _) = veil(toml, &[]);
        assert_eq!(veil.cover("default-s3cret request-s3cret sk-live-1"), "*** *** ***");
        let shown = "somebody red-team {{ max_tokens }}";
        assert_eq!(veil.cover(shown), shown);
    }

    #[test]
    fn a_secret_is_covered_in_every_form() {
        let toml = "authentication_type = \"api_key\"\napi_key_header = \"authorization\"\napi_key_value = \"Bearer sk+live/1\"\n\
                    proxy = \"http://me:p%40ssw0rd@proxy.example:1\"";
        let (veil, _) = veil(toml, &[]);
        let secret = "sk+live/1";
        for form in [
            secret.to_owned(),
            format!("Bearer {secret}"),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            base64::prelude::BASE64_STANDARD.encode(secret),
            "p@ssw0rd".to_owned(),
        ] {
            let covered = veil.cover(&format!("<{form}>"));
            assert!(covered.starts_with("<***") && covered.len() < 12, "{form}: {covered}");
        }
        assert!(!format!("{veil:?}").contains("live"));
    }

    #[test]
    fn an_address_or_a_models_name_from_the_environment_is_no_secret() {
        let toml = "authentication_type = \"none\"\ndefault_model = \"${MODEL}\"";
        let env = [("MODEL", "m"), ("OUTRIDER_INTEGRATIONS__ACME__ENDPOINT", "https://b.example/v2")];
        let (veil, _) = veil(toml, &env);
        assert_eq!(veil.cover("https://b.example/v2"), "https://b.example/v2");
        assert!(veil.forms.is_empty());
    }
}
