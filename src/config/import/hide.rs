//! Which values of a definition are secrets, and what stands for each in the TOML.
//!
//! A secret is never written: its key is `x_file` where there is such a twin, and else its value is `${NAME}`. A value
//! that is only a reference already, such as `Bearer ${KEY}`, stays as it is.

use std::path::Path;

use serde_json::Value;

use crate::config::expand::is_name;
use crate::config::valid::{is_random, is_suspect};

/// What stands before a credential in a header.
const SCHEMES: [&str; 5] = ["bearer", "basic", "token", "apikey", "api-key"];

/// Names of numbers that are secrets.
const NUMBERS: [&str; 4] = ["pass", "pwd", "secret", "cred"];

/// Whether the value at `path`, keys within the integration, may not be written. Lists have no step of their own.
pub(super) fn is_secret(path: &[&str], value: &Value, dir: &Path) -> bool {
    let name = path.last().copied().unwrap_or_default();
    let text = match value {
        Value::String(text) => own_text(text),
        Value::Number(_) => {
            return is_users(path) && NUMBERS.iter().any(|word| name.to_lowercase().contains(word));
        }
        _ => return false,
    };
    if is_nothing(&text) {
        return false;
    }
    match path {
        ["proxy"] => text.contains('@'),
        // Where the name of a header is to stand, and a key was put.
        ["api_key_header"] | ["custom_header_mapping", _] => is_random(&text),
        ["endpoint" | "oauth2_token_url"] => text.split_once('?').is_some_and(|(_, query)| has_secret(query)),
        ["headers" | "query", _] | ["oauth2", "extra_headers" | "extra_params", _] => {
            looks_secret(name, &text)
        }
        // An expression is judged by its own words, not by the name of the field that it gives.
        ["request" | "response" | "stream", ..] if text.trim().starts_with("{{") => looks_secret("", &text),
        _ if is_users(path) => looks_secret(name, &text),
        _ if name.ends_with("_file") => is_pasted(&text) && !dir.join(&text).exists(),
        _ => false,
    }
}

/// Whether the tables there have keys of the user's own.
fn is_users(path: &[&str]) -> bool {
    matches!(
        path,
        ["headers" | "query" | "defaults" | "request" | "response" | "stream", _, ..]
            | ["oauth2", "extra_headers" | "extra_params", _]
            | ["custom_llm_config", "init_kwargs", _, ..]
    )
}

/// The scheme that a secret of a header begins with, such as `Bearer`.
pub(super) fn scheme(secret: &str) -> Option<&str> {
    let (scheme, _) = secret.trim_start().split_once(' ')?;
    SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()).then_some(scheme)
}

/// Whether what stands at `path` may be a secret, whatever it is.
pub(super) fn may_be_secret(path: &[&str]) -> bool {
    let is_own = matches!(path, ["api_key_value" | "token" | "proxy"]);
    is_own || matches!(path, ["oauth2", "client_id" | "client_secret"] | ["aws", _]) || is_users(path)
}

/// Whether `text` only refers to variables and files, but for a scheme before them.
pub(super) fn is_reference(text: &str) -> bool {
    text.contains("${") && is_nothing(&own_text(text))
}

/// The variables that the forms in `text` name and that must be set.
pub(super) fn variables(text: &str) -> Vec<String> {
    let name = |piece: Piece<'_>| match piece {
        Piece::Form(form) if !form.contains(":-") && !form.starts_with("file:") => {
            Some(form.split(':').next().unwrap_or_default().to_owned())
        }
        Piece::Form(_) | Piece::Text(_) => None,
    };
    pieces(text).into_iter().filter_map(name).filter(|name| is_name(name)).collect()
}

/// A part of a string.
#[derive(Debug, PartialEq)]
enum Piece<'t> {
    Text(&'t str),
    /// What stands between `${` and `}`.
    Form(&'t str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find("${") {
        let is_literal = rest[..start].ends_with('$');
        let end = rest[start..].find('}').filter(|_| !is_literal);
        let (before, after) = match end {
            Some(end) => (start, start + end + 1),
            None => (start + 2, start + 2),
        };
        pieces.push(Piece::Text(&rest[..before]));
        if end.is_some() {
            pieces.push(Piece::Form(&rest[start + 2..after - 1]));
        }
        rest = &rest[after..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// What `text` itself says: all but its references. A default is said by it.
fn own_text(text: &str) -> String {
    let own = |piece: Piece<'_>| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Form(form) if form.starts_with("file:") => String::new(),
        Piece::Form(form) => form.split_once(":-").map(|(_, default)| default.to_owned()).unwrap_or_default(),
    };
    pieces(text).into_iter().map(own).collect()
}

fn is_nothing(text: &str) -> bool {
    let word = text.trim().to_ascii_lowercase();
    word.is_empty() || SCHEMES.contains(&word.as_str())
}

fn has_secret(query: &str) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        looks_secret(name, value)
    })
}

/// Whether the value that goes by `name` looks like a secret: by the words for such, or because it is no word.
fn looks_secret(name: &str, text: &str) -> bool {
    is_suspect(name, text) || is_random(text)
}

/// Whether what stands where the path of a file belongs is what should be in the file.
fn is_pasted(text: &str) -> bool {
    text.contains(['\n', ' ']) || looks_secret("", text.rsplit('/').next().unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(path: &[&str], value: impl Into<Value>) -> bool {
        is_secret(path, &value.into(), Path::new("/no/such/directory"))
    }

    #[test]
    fn what_looks_like_a_secret_by_name_or_by_value_is_hidden_in_the_users_own_tables() {
        for (path, value) in [
            (&["headers", "x-api-key"][..], "plain"),
            (&["headers", "Authorization"], "Basic dXNlcjpwYXNz"),
            (&["headers", "x-corp"], "0123456789abcdef0123"),
            (&["headers", "x-tenant"], "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
            (&["query", "sig"], "x"),
            (&["oauth2", "extra_params", "password"], "x"),
            (&["oauth2", "extra_headers", "x"], "Bearer abc"),
            (&["custom_llm_config", "init_kwargs", "api_key"], "x"),
            (&["custom_llm_config", "init_kwargs", "client", "secret"], "x"),
            (&["custom_llm_config", "init_kwargs", "url"], "${URL:-https://h/?k=abcdefghijk0123456789}"),
            (&["defaults", "user_token"], "x"),
            (&["request", "apikey"], "x"),
            (&["request", "a"], "{{ 'abcdefghijklmnop0123' }}"),
            (&["proxy"], "http://me:pw@proxy:3128"),
            (&["oauth2_token_url"], "https://l.example/token?code=abc&sig=x"),
            (&["tls", "client_key_file"], "-----BEGIN PRIVATE KEY-----\nMII"),
            (&["api_key_value_file"], "sk-live-1234"),
        ] {
            assert!(hidden(path, value), "{path:?} = {value} would be printed");
        }
        assert!(hidden(&["custom_llm_config", "init_kwargs", "password"], 1234));
    }

    #[test]
    fn what_does_not_is_not() {
        for (path, value) in [
            (&["headers", "x-team"][..], "evaluation"),
            (&["headers", "x-api-key"], "${KEY}"),
            (&["headers", "Authorization"], "Bearer ${file:/run/key}"),
            (&["headers", "x-api-key"], "${KEY:?the key of the gateway}"),
            (&["query", "api-version"], "2024-10-21"),
            (&["custom_llm_config", "init_kwargs", "url"], "https://gateway2.corp.example/v1"),
            (&["request", "max_tokens"], "{{ max_tokens }}"),
            (&["oauth2", "prefix"], "Bearer "),
            (&["oauth2", "token_field"], "access_token"),
            (&["oauth2", "client_id"], "0123456789abcdef0123"),
            (&["proxy"], "http://proxy:3128"),
            (&["oauth2_token_url"], "https://l.example/token?p=B2C_1"),
            (&["models"], "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            (&["tls", "client_key_file"], "/etc/outrider/client.key"),
        ] {
            assert!(!hidden(path, value), "{path:?} = {value} would be hidden");
        }
        assert!(!hidden(&["defaults", "max_tokens"], 1024));
    }

    #[test]
    fn the_variables_of_a_text_are_those_without_a_default() {
        assert_eq!(variables("a${A}b${B:?x}c${C:-d}$${D}${file:/e}${F"), ["A", "B"]);
        assert_eq!(own_text("a${A}b${C:-d}$${D}${file:/e}"), "abd$${D}");
        assert!(is_reference("Bearer ${A}") && is_reference("${file:k}"));
        assert!(!is_reference("Bearer abc") && !is_reference("x${A}") && !is_reference("${A:-sk}"));
    }
}
