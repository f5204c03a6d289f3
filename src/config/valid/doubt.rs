//! Secrets that can be sent and will hardly let anybody in: what people write by mistake where a secret belongs.

use std::fmt;
use std::path::Path;

use http::HeaderName;

use super::{Authorization, SecretSource, Settings, is_suspect};
use crate::config::expand;
use crate::config::places::At;

/// Words that stand before a key in a header, in small letters.
const SCHEMES: [&str; 5] = ["bearer", "basic", "token", "apikey", "api-key"];

/// Headers that carry the bare key wherever a vendor documents them.
const BARE: [&str; 3] = ["api-key", "x-api-key", "x-goog-api-key"];

/// How placeholders begin, their letters and digits alone.
const STAND_INS: [&str; 6] =
    ["changeme", "changeit", "replaceme", "replacewith", "placeholder", "insertyour"];

/// What nothing but a template that went wrong writes, or one who means to come back.
const LEFTOVERS: [&str; 5] = ["todo", "tbd", "fixme", "null", "undefined"];

/// What is doubtful. It prints as words to be read after the secret's name, and never holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Doubt {
    /// `"sk-1"`, quotes included.
    Quoted,
    /// `API_KEY=sk-1`, or `Authorization: Bearer sk-1`.
    Named,
    /// `{"api_key": "sk-1"}`.
    Json,
    /// `$KEY`, `{{ KEY }}`.
    Unfilled,
    /// `changeme`, `<your key>`, `sk-...`.
    Placeholder,
    /// A blank before or behind it, or something that nobody sees.
    Spaced,
    /// `Bearer Bearer sk-1`.
    TwoSchemes,
    /// The path of a file that exists.
    Path,
    /// A bare key in `Authorization`.
    NoScheme,
    /// `Bearer sk-1` in a header that is known for bare keys, or where only the key is compared.
    Scheme,
}

impl Doubt {
    /// What to do about the secret that stands in the key `key`.
    pub(in crate::config) fn help(self, key: &str) -> String {
        match self {
            Self::Quoted => "leave the quotes out: nothing takes them off",
            Self::Named => "keep what stands behind the name alone",
            Self::Json => "let it be the secret alone; JSON with client_id and client_secret is for `token`",
            Self::Unfilled => {
                "write ${NAME}, which is filled in; other forms are not, and in a secret's file none is"
            }
            Self::Placeholder => {
                "put the real one there; if it is the default of a ${NAME:-…}, set that variable"
            }
            Self::Spaced => "leave it out: it is part of what is used",
            Self::TwoSchemes => "write the scheme once: a variable or a file may hold it already",
            Self::Path => return format!("`{key}_file` is the key for a file"),
            Self::NoScheme => "write `Bearer ` before it, unless the provider takes the bare key there",
            Self::Scheme => "leave `Bearer ` out, unless it is really part of the key there",
        }
        .to_owned()
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quoted => "is in quotes, which are used as part of it",
            Self::Named => "has a name before it (`NAME=…` or `Name: …`), which is used as part of it",
            Self::Json => "is JSON, all of which is used",
            Self::Unfilled => "looks like a variable of a template that nothing filled in",
            Self::Placeholder => "looks like a placeholder",
            Self::Spaced => "begins or ends with a blank or with what cannot be seen",
            Self::TwoSchemes => "has two schemes before it",
            Self::Path => "is the path of a file that exists, and the path itself is used",
            Self::NoScheme => "has no scheme before it, which this header mostly carries",
            Self::Scheme => "has a scheme before it, where mostly the bare key stands",
        })
    }
}

/// What is doubtful in the secret `text`, which passed [`super::credential::check`].
pub(in crate::config) fn doubt(text: &str) -> Option<Doubt> {
    let (bare, has_scheme) = without_scheme(text.trim());
    let doubts = [
        (Doubt::Json, is_json(text)),
        (Doubt::Quoted, is_quoted(bare) || is_quoted(text.trim())),
        (Doubt::Named, has_name(text.trim())),
        (Doubt::Unfilled, is_unfilled(bare)),
        (Doubt::Placeholder, is_placeholder(bare)),
        (Doubt::TwoSchemes, has_scheme && without_scheme(bare).1),
        (Doubt::Spaced, text.trim_matches(is_unseen) != text),
    ];
    doubts.into_iter().find_map(|(doubt, holds)| holds.then_some(doubt))
}

/// Likewise, of `text` as the value of the header `header`.
pub(in crate::config) fn doubt_in_header(header: &HeaderName, text: &str) -> Option<Doubt> {
    let (bare, has_scheme) = without_scheme(text);
    // `key=…` and the like are schemes of their own.
    let is_plain = !bare.contains(char::is_whitespace) && !bare.trim_end_matches('=').contains('=');
    if header == http::header::AUTHORIZATION && !has_scheme && is_plain {
        return Some(Doubt::NoScheme);
    }
    (BARE.contains(&header.as_str()) && has_scheme).then_some(Doubt::Scheme)
}

/// Likewise, of `text` as the key that callers present: it is compared with what follows their `Bearer`.
pub(in crate::config) fn doubt_of_caller(text: &str) -> Option<Doubt> {
    without_scheme(text).1.then_some(Doubt::Scheme)
}

/// Whether `text` is the path of a file, seen from `dir`.
pub(in crate::config) fn is_path(dir: &Path, text: &str) -> bool {
    let (bare, _) = without_scheme(text);
    let path = bare.strip_prefix("file://").unwrap_or(bare);
    !path.is_empty() && dir.join(path).is_file()
}

/// The doubts about what the files of `settings` hold, each with the key that names the file. A file that cannot be
/// read is left to who needs it. Blocks.
pub(in crate::config) fn of_files(settings: &Settings) -> Vec<(At, Doubt)> {
    let mut found = Vec::new();
    if let Some(source) = settings.server.api_key.as_ref().filter(|source| source.file().is_some())
        && let Ok(secret) = source.load()
        && let Some(doubt) = doubt(secret.expose()).or_else(|| doubt_of_caller(secret.expose()))
    {
        found.push((At::root().key("server").key(&source.key("api_key")), doubt));
    }
    for one in settings.integrations.values() {
        let header = match &one.authorization {
            Authorization::ApiKey { header, .. } => Some(header),
            _ => None,
        };
        let secrets = one.authorization.secrets(&At::integration(one.name.as_str()));
        for (at, source) in secrets.into_iter().filter(|(_, source)| source.file().is_some()) {
            let Ok(secret) = source.load() else { continue };
            let text = secret.expose();
            let doubt = doubt(text).or_else(|| header.and_then(|header| doubt_in_header(header, text)));
            found.extend(doubt.map(|doubt| (at, doubt)));
        }
    }
    found
}

impl Authorization {
    /// Its secrets, each with the key that it was written in; `at` is the integration's table.
    pub(in crate::config) fn secrets(&self, at: &At) -> Vec<(At, &SecretSource)> {
        let named = |at: &At, key, source: &'_ SecretSource| at.key(&source.key(key));
        match self {
            Self::None | Self::Later(_) | Self::Gcp(_) => Vec::new(),
            Self::ApiKey { value, .. } => vec![(named(at, "api_key_value", value), value)],
            Self::OAuth2(oauth2) => {
                let secret = &oauth2.client_secret;
                let table = at.key("oauth2");
                let at = if matches!(secret, SecretSource::Token { .. }) { at } else { &table };
                vec![(named(at, "client_secret", secret), secret)]
            }
            Self::SigV4(aws) => match &aws.keys {
                super::AwsKeys::Fixed { id, secret, session } => {
                    let all = [("access_key_id", id), ("secret_access_key", secret)];
                    let all = all.into_iter().chain(session.iter().map(|session| ("session_token", session)));
                    all.map(|(key, source)| (named(&at.key("aws"), key, source), source)).collect()
                }
                // What its file holds is shown to token endpoints alone, and never configured.
                super::AwsKeys::WebIdentity(_) => Vec::new(),
            },
        }
    }
}

/// `text` behind its scheme, and whether it has one.
fn without_scheme(text: &str) -> (&str, bool) {
    match text.split_once(' ') {
        Some((word, rest)) if SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) => {
            (rest.trim_start(), true)
        }
        _ => (text, false),
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
        && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

fn is_quoted(text: &str) -> bool {
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”')]
        .iter()
        .any(|(open, close)| text.chars().count() > 1 && text.starts_with(*open) && text.ends_with(*close))
}

/// `API_KEY=…`, `export token=…`, `Authorization: …`.
fn has_name(text: &str) -> bool {
    let (text, is_exported) = match text.strip_prefix("export ") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let Some(at) = text.find(['=', ':']) else { return false };
    let (name, rest) = (&text[..at], &text[at + 1..]);
    let is_word = |with: char| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == with);
    if text[at..].starts_with(':') {
        return is_word('-') && is_suspect(name, "") && rest.starts_with(' ');
    }
    // Headers have names in them too (`Signature=…`), and what ends in `=` is padded.
    let is_variable = is_exported || name.contains('_') || !name.contains(|c: char| c.is_ascii_lowercase());
    let is_value = !rest.is_empty() && !rest.starts_with('=');
    is_word('_') && is_suspect(name, "") && is_variable && is_value
}

fn is_unfilled(text: &str) -> bool {
    let within =
        |open: &str, close: &str| text.find(open).is_some_and(|at| text[at + open.len()..].contains(close));
    let is_variable = |name: &str| {
        name.len() > 1
            && expand::is_name(name)
            && (!name.contains(|c: char| c.is_ascii_lowercase()) || is_suspect(name, ""))
    };
    let percents = text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%'));
    text.starts_with("${")
        || within("${", "}")
        || within("{{", "}}")
        || within("<%", "%>")
        || text.starts_with("$(") && text.ends_with(')')
        || text.strip_prefix('$').is_some_and(is_variable)
        || percents.is_some_and(is_variable)
}

fn is_placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    let letters: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    let last = lower.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    text.len() > 2 && text.starts_with('<') && text.ends_with('>')
        || ["...", "…", "***"].iter().any(|cut| text.contains(cut))
        || last.len() > 2 && last.bytes().all(|b| b == b'x')
        || STAND_INS.iter().any(|word| letters.starts_with(word))
        || LEFTOVERS.contains(&lower.as_str())
        || letters.contains("your") && is_suspect(&letters, "")
}

/// Blanks, and what editors put into a file without showing it.
fn is_unseen(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_told_from_the_others() {
        for (texts, expected) in [
            (&["\"sk-1\"", "'sk-1'", "Bearer \"sk-1\"", "“sk-1”"][..], Doubt::Quoted),
            (
                &[
                    "API_KEY=sk-1",
                    "export api_key=sk-1",
                    "Authorization: Bearer sk-1",
                    "api_key: sk-1",
                    "KEY=a=",
                ],
                Doubt::Named,
            ),
            (&["{\"api_key\": \"sk-1\"}"], Doubt::Json),
            (
                &[
                    "$KEY",
                    "$api_key",
                    "${KEY",
                    "${KEY}",
                    "Bearer ${KEY}",
                    "{{ KEY }}",
                    "<%= key %>",
                    "%API_KEY%",
                ],
                Doubt::Unfilled,
            ),
            (
                &[
                    "changeme",
                    "CHANGE_ME",
                    "Bearer replace-me",
                    "<your key>",
                    "sk-...",
                    "sk-…",
                    "xxx",
                    "sk-xxxxxxxx",
                    "your-client-secret",
                    "YOUR_API_KEY",
                    "sk-***1234",
                    "TODO",
                    "Bearer null",
                ],
                Doubt::Placeholder,
            ),
            (&["sk-1 ", " Bearer sk-1", "\u{feff}sk-1"], Doubt::Spaced),
            (&["Bearer Bearer sk-1", "bearer Basic dTpw"], Doubt::TwoSchemes),
        ] {
            for text in texts {
                assert_eq!(doubt(text), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn what_providers_hand_out_and_local_ones_are_given_is_not_doubted() {
        for text in [
            "sk-proj-4fQ8xY_zT3",
            "Bearer sk-1",
            "Basic dXNlcjpwYXNz",
            "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln",
            "abc8Q~x_yz.A=1",
            "dGhpcyBpcyBhIGtleQ==",
            "Signature=abc",
            "Token token=abc",
            "key=AIzaSy",
            "EMPTY",
            "none",
            "dummy",
            "ollama",
            "KEY",
            "p$ssword",
            "$ecret",
            "100%",
            "a{b}c",
            "user:password",
            "s3cret",
            "correct horse battery staple",
        ] {
            assert_eq!(doubt(text), None, "{text}");
        }
    }

    #[test]
    fn a_scheme_is_missed_where_it_belongs_and_noticed_where_it_does_not() {
        for (header, text, expected) in [
            ("authorization", "sk-1", Some(Doubt::NoScheme)),
            ("authorization", "dGhpcw==", Some(Doubt::NoScheme)),
            ("authorization", "Bearer sk-1", None),
            ("authorization", "key=AIzaSy", None),
            ("authorization", "AWS4-HMAC-SHA256 Credential=a", None),
            ("x-corp-key", "sk-1", None),
            ("x-corp-key", "Bearer sk-1", None),
            ("x-api-key", "Bearer sk-1", Some(Doubt::Scheme)),
        ] {
            let header: HeaderName = header.parse().unwrap();
            assert_eq!(doubt_in_header(&header, text), expected, "{header}: {text}");
        }
    }
}
