//! Credentials that an upstream may send back to us inside an error: they end here.

use bytes::Bytes;
use http::HeaderValue;
use http::header::HeaderMap;
use memchr::memmem::Finder;

use crate::openai::Fault;

/// What stands in place of a credential.
const STARS: &str = "***";

/// Shorter than this, a credential is no secret and would be found in ordinary words.
const LEAST: usize = 6;

/// The values that were put on one request and are marked sensitive.
#[derive(Debug, Default)]
pub(super) struct Hidden(Vec<HeaderValue>);

impl Hidden {
    /// Those of `headers`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.values().filter(|value| value.is_sensitive()).cloned().collect())
    }

    /// Takes them out of an upstream's words.
    pub(super) fn strip(&self, mut fault: Fault) -> Fault {
        for secret in self.secrets() {
            hide(&mut fault.message, secret);
            for text in [&mut fault.kind, &mut fault.param, &mut fault.code, &mut fault.innererror]
                .into_iter()
                .flatten()
            {
                hide(text, secret);
            }
            for (_, text) in &mut fault.headers {
                hide(text, secret);
            }
        }
        fault
    }

    /// Takes them out of a body that goes on as it came.
    pub(super) fn strip_bytes(&self, mut body: Bytes) -> Bytes {
        for secret in self.secrets() {
            let finder = Finder::new(secret);
            if finder.find(&body).is_none() {
                continue;
            }
            let (mut clean, mut from) = (Vec::with_capacity(body.len()), 0);
            for at in finder.find_iter(&body) {
                clean.extend_from_slice(&body[from..at]);
                clean.extend_from_slice(STARS.as_bytes());
                from = at + secret.len();
            }
            clean.extend_from_slice(&body[from..]);
            body = clean.into();
        }
        body
    }

    /// Takes them out of the headers of an answer that goes on as it came.
    pub(super) fn strip_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let clean = self.strip_bytes(Bytes::copy_from_slice(value.as_bytes()));
            if clean != value.as_bytes() {
                *value = HeaderValue::from_maybe_shared(clean).unwrap_or(HeaderValue::from_static(STARS));
            }
        }
    }

    /// Each with and without the scheme before it: `Bearer …`.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let texts = self.0.iter().filter_map(|value| value.to_str().ok());
        let forms = texts.flat_map(|whole| [whole, whole.rsplit(' ').next().unwrap_or(whole)]);
        forms.filter(|secret| secret.len() >= LEAST)
    }

    /// Takes them out of words that hold some of the upstream's.
    pub(super) fn strip_text(&self, text: String) -> String {
        self.strip(Fault { message: text, ..Fault::default() }).message
    }
}

fn hide(text: &mut String, secret: &str) {
    if text.contains(secret) {
        *text = text.replace(secret, STARS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_hidden_with_and_without_its_scheme() {
        let mut headers = HeaderMap::new();
        for (name, text, sensitive) in
            [("authorization", "Bearer TOKEN-1", true), ("x-team", "red-team", false), ("x-short", "a", true)]
        {
            let mut value = HeaderValue::from_static(text);
            value.set_sensitive(sensitive);
            headers.insert(name, value);
        }
        let said = "TOKEN-1 of red-team is bad: Bearer TOKEN-1".to_owned();
        assert_eq!(Hidden::of(&headers).strip_bytes(said.clone().into()), "*** of red-team is bad: ***");
        assert_eq!(Hidden::of(&headers).strip_text(said), "*** of red-team is bad: ***");
    }
}
