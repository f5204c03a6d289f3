//! Credentials that an upstream may send back to us in its headers or inside an error: they end here.
//!
//! Words are cut behind this and nowhere before: what is left of a credential that is cut would be found no more. So
//! nobody but this module makes the [`Masked`] words that a client may be told.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::HeaderMap;

use crate::echo::{Needles, Trace};
use crate::egress::Egress;
use crate::integration::Entry;
use crate::openai::Fault;

/// The values that were put on one request and are marked sensitive.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    headers: Vec<HeaderValue>,
    /// In whose URLs something may stand that must not come back, if in any.
    asked: Option<Arc<Entry>>,
}

/// Words of an upstream without our credentials in them, and cut to what is told.
#[derive(Clone, Debug)]
pub(super) struct Masked<T>(T);

impl<T> Deref for Masked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Masked<Fault> {
    /// Puts `words` of ours before the message.
    pub(super) fn begin_with(&mut self, words: &str) {
        self.0.message.insert_str(0, words);
    }

    /// The message alone.
    pub(super) fn words(self) -> Masked<String> {
        Masked(self.0.message)
    }
}

impl Hidden {
    /// Those of a request of `entry` with `headers` that goes by `way`.
    pub(super) fn of(headers: &HeaderMap, way: &Egress, entry: &Arc<Entry>) -> Self {
        let has_any = !entry.settings.query.is_empty() || !entry.settings.hidden_path.is_empty();
        let asked = has_any.then(|| Arc::clone(entry));
        let mut headers = sensitive(headers);
        headers.extend(way.proxy_authorization().cloned());
        Self { headers, asked }
    }

    /// Takes them out of an upstream's words, and then cuts these.
    pub(super) fn strip(&self, mut fault: Fault) -> Masked<Fault> {
        let needles = self.needles();
        let Fault { message, kind, param, code, innererror, headers, .. } = &mut fault;
        let others = [kind, param, code, innererror].into_iter().flatten();
        for text in std::iter::once(message).chain(others).chain(headers.iter_mut().map(|(_, text)| text)) {
            if let Some(clean) = needles.clean_text(text) {
                *text = clean;
            }
        }
        fault.shorten();
        Masked(fault)
    }

    /// Takes them out of a body that goes on as it came.
    pub(super) fn strip_bytes(&self, body: Bytes) -> Bytes {
        self.needles().clean(&body).map_or(body, Bytes::from)
    }

    /// Takes them out of the headers of an answer. They stand in hardly any, and looking for them costs next to nothing.
    pub(super) fn strip_headers(&self, headers: &mut HeaderMap) {
        let mut needles = None;
        for trace in self.values().filter_map(Trace::of) {
            for value in headers.values_mut().filter(|value| trace.may_be_in(value.as_bytes())) {
                // Nobody cuts a header, and a short one (`application/json`) may well begin like one of ours.
                let needles = needles.get_or_insert_with(|| self.needles().whole());
                if let Some(clean) = needles.clean(value.as_bytes()) {
                    *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("***"));
                }
            }
        }
    }

    /// Takes them out of words that hold some of the upstream's, and then cuts these.
    pub(super) fn strip_text(&self, text: String) -> Masked<String> {
        self.strip(Fault { message: text, is_page: true, ..Fault::default() }).words()
    }

    fn needles(&self) -> Needles {
        Needles::of(self.values())
    }

    fn values(&self) -> impl Iterator<Item = &[u8]> {
        let headers = self.headers.iter().map(HeaderValue::as_bytes);
        let asked = self.asked.iter().flat_map(|entry| entry.settings.hidden_in_urls());
        headers.chain(asked.map(str::as_bytes))
    }
}

fn sensitive(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.values().filter(|value| value.is_sensitive()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least that is hidden, and what is enough of a beginning.
    const LEAST: usize = 6;
    const ENOUGH: usize = 24;

    fn hidden(values: &[&str]) -> Hidden {
        let mut headers = HeaderMap::new();
        for value in values {
            let mut value = HeaderValue::from_str(value).unwrap();
            value.set_sensitive(true);
            headers.append("x-key", value);
        }
        headers.append("x-team", HeaderValue::from_static("red-team"));
        Hidden { headers: sensitive(&headers), asked: None }
    }

    /// What is told of `said` where `values` are hidden.
    fn told(values: &[&str], said: &str) -> String {
        hidden(values).strip(Fault { message: said.to_owned(), ..Fault::default() }).message.clone()
    }

    #[test]
    fn a_credential_is_hidden_with_and_without_its_scheme() {
        let said = "TOKEN-1 of red-team is bad: Bearer TOKEN-1".to_owned();
        let hidden = hidden(&["Bearer TOKEN-1", "a"]);
        assert_eq!(hidden.strip_bytes(said.clone().into()), "*** of red-team is bad: ***");
        assert_eq!(*hidden.strip_text(said), "*** of red-team is bad: ***");
        assert_eq!(told(&["Bearer TOKEN-1"], "it must begin with Bearer"), "it must begin with Bearer");
    }

    #[test]
    fn a_credential_with_blanks_at_its_ends_is_hidden_without_them_too() {
        for value in ["Bearer TOKEN-1 ", "Bearer TOKEN-1\t ", " TOKEN-1", "TOKEN-1  "] {
            assert_eq!(told(&[value], "bad key TOKEN-1"), "bad key ***", "{value:?}");
        }
    }

    #[test]
    fn wherever_words_are_cut_nothing_is_left_of_a_credential() {
        let key = format!("sk-live-{}", "0123456789abcdef".repeat(60));
        for at in 1..2500 {
            let said = format!("{}{key} was refused", "x".repeat(at));
            for is_page in [false, true] {
                let fault = Fault { message: said.clone(), is_page, ..Fault::default() };
                let told = hidden(&[&format!("Bearer {key}")]).strip(fault).message.clone();
                assert!(!told.contains('s') || !told.contains("sk") && told.contains("***"), "{at}: {told}");
            }
        }
    }

    #[test]
    fn what_others_left_of_a_credential_is_hidden_too() {
        let key = "sk-live-0123456789abcdef0123456789abcdef";
        for length in LEAST..key.len() {
            assert_eq!(told(&[key], &format!("the key {}", &key[..length])), "the key ***", "{length}");
        }
        for length in ENOUGH..key.len() {
            assert_eq!(
                told(&[key], &format!("`{}…` is no key", &key[..length])),
                "`***…` is no key",
                "{length}"
            );
        }
        let elided = "the key sk-live-0123...cdef is none";
        assert_eq!(told(&[key], elided), elided);
    }

    #[test]
    fn an_escaped_credential_is_hidden() {
        let secret = r#"ab/c+d="e\f&g%h-i"#;
        for spelled in [
            secret,
            r#"ab\/c+d=\"e\\f&g%h-i"#,
            r"ab\u002fc\u002Bd\u003d\u0022e\u005cf\u0026g\u0025h-i",
            r"ab\x2fc\x2Bd\x3d\x22e\x5cf\x26g\x25h-i",
            "ab%2Fc%2bd%3D%22e%5Cf%26g%25h-i",
            "ab/c&#43;d=&quot;e\\f&amp;g%h-i",
            "ab&#x2F;c&#x2B;d&#x3D;&#34;e&#92;f&#38;g&#37;h&#45;i",
        ] {
            assert_eq!(told(&[secret], &format!("<{spelled}>")), "<***>");
            assert_eq!(hidden(&[secret]).strip_bytes(format!("<{spelled}>").into()), "<***>");
        }
        let near = r"ab\u002fc\u002Bd\u003d\u0022e\u005cf\u0026g\u0025h-j";
        assert_eq!(told(&[secret], near), near);
        assert_eq!(told(&["two words of it"], "so: two+words%20of it."), "so: ***.");
        for torn in ["ab\\", "ab\\u00", "ab%2", "ab&", "ab&#", "ab&#x2f", "ab&#999;", "ab\\u12345", "ab%zz"] {
            assert_eq!(told(&[secret], torn), torn);
        }
    }

    #[test]
    fn what_a_scheme_makes_of_a_credential_is_hidden() {
        let signed = "AWS4-HMAC-SHA256 Credential=AKIA/2026/bedrock/aws4_request, SignedHeaders=host, Signature=0a1b2c3d4e5f";
        assert_eq!(
            told(&[signed], "we calculated ff, you gave 0a1b2c3d4e5f."),
            "we calculated ff, you gave ***."
        );
        assert_eq!(told(&["Token token=\"t0k3n-1\""], "no t0k3n-1 here"), "no *** here");
        // `user:pa55word`
        let basic = "Basic dXNlcjpwYTU1d29yZA==";
        assert_eq!(told(&[basic], "pa55word, dXNlcjpwYTU1d29yZA=="), "***, ***");
        for odd in ["Basic ", "Basic dXNlcg==", "Basic %%%%%%", "x-padded==", "="] {
            assert_eq!(told(&[odd], "ordinary words"), "ordinary words");
        }
    }

    #[test]
    fn every_word_of_a_fault_is_cleaned() {
        let word = |text: &str| Some(text.to_owned());
        let fault = Fault {
            message: "m TOKEN-1".to_owned(),
            kind: word("k TOKEN-1"),
            param: word("p TOKEN-1"),
            code: word("c TOKEN-1"),
            innererror: word(r#"{"i":"TOKEN\u002d1"}"#),
            headers: vec![("retry-after", "TOKEN-1".to_owned())],
            ..Fault::default()
        };
        let fault = hidden(&["Bearer TOKEN-1"]).strip(fault);
        let words =
            [&fault.kind, &fault.param, &fault.code, &fault.innererror].map(|word| word.as_deref().unwrap());
        assert_eq!((&*fault.message, words), ("m ***", ["k ***", "p ***", "c ***", r#"{"i":"***"}"#]));
        assert_eq!(fault.headers, [("retry-after", "***".to_owned())]);
    }

    #[test]
    fn headers_are_cleaned_of_whole_credentials_alone() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("x-said", HeaderValue::from_static("no TOKEN-1"));
        hidden(&["application/json; v=2", "Bearer TOKEN-1"]).strip_headers(&mut headers);
        assert_eq!(
            (&headers["content-type"], &headers["x-said"]),
            (&HeaderValue::from_static("application/json"), &HeaderValue::from_static("no ***"))
        );
    }
}
