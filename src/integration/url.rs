//! The URL of a request: endpoint, the tail that the format appends (or the configured `path`), and `query`.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::valid;

/// What stays as it is in a path segment: RFC 3986 §2.3 and what model names commonly hold.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');

/// The URLs of one integration; those that do not depend on the model are built once.
#[derive(Debug)]
pub(super) struct Urls {
    ready: Vec<(&'static str, Uri)>,
    base: String,
    path: Option<String>,
    query: String,
    endpoint: Uri,
}

impl Urls {
    pub(super) fn new(settings: &valid::Integration, tails: &[&'static str]) -> Self {
        let endpoint = settings.endpoint.clone();
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&settings.query).finish();
        let base = endpoint.to_string().trim_end_matches('/').to_owned();
        let mut urls = Self { ready: Vec::new(), base, path: settings.path.clone(), query, endpoint };
        let fixed = urls.path.as_ref().is_none_or(|p| !p.contains("{model}"));
        if fixed {
            urls.ready = tails.iter().map(|tail| (*tail, urls.build(tail, ""))).collect();
        }
        urls
    }

    /// The URL for `tail`, with `{model}` filled in.
    pub(super) fn of(&self, tail: &str, model: &str) -> Uri {
        match self.ready.iter().find(|(ready, _)| *ready == tail) {
            Some((_, uri)) => uri.clone(),
            None => self.build(tail, model),
        }
    }

    fn build(&self, tail: &str, model: &str) -> Uri {
        let (tail, tail_query) = tail.split_once('?').unwrap_or((tail, ""));
        let path = match &self.path {
            Some(path) => path.replace("{model}", &utf8_percent_encode(model, SEGMENT).to_string()),
            None => tail.to_owned(),
        };
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        let mut text = format!("{}{slash}{path}", self.base);
        for query in [tail_query, &self.query] {
            if !query.is_empty() {
                text.push(if text.contains('?') { '&' } else { '?' });
                text.push_str(query);
            }
        }
        // The parts were checked with the settings; should they not fit together, the endpoint alone is called.
        text.parse().unwrap_or_else(|_| self.endpoint.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integration::registry::tests::integration;

    fn urls(endpoint: &str, path: Option<&str>, query: &[(&str, &str)]) -> Urls {
        let mut settings = integration("acme", &["m"]);
        settings.endpoint = endpoint.parse().unwrap();
        settings.path = path.map(str::to_owned);
        settings.query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Urls::new(&settings, &["/chat/completions"])
    }

    #[test]
    fn the_tail_is_appended_to_the_endpoint_whether_or_not_it_ends_in_a_slash() {
        for endpoint in ["https://h.example/v1", "https://h.example/v1/"] {
            let url = urls(endpoint, None, &[]).of("/chat/completions", "m");
            assert_eq!(url, "https://h.example/v1/chat/completions");
        }
        assert_eq!(urls("http://h:1", None, &[]).of("/v1/messages", "m"), "http://h:1/v1/messages");
    }

    #[test]
    fn a_configured_path_replaces_the_tail_and_names_the_model() {
        let url =
            urls("https://h.example/base", Some("/run/{model}/go"), &[]).of("/chat/completions", "a/b c:1");
        assert_eq!(url, "https://h.example/base/run/a%2Fb%20c:1/go");
    }

    #[test]
    fn queries_are_encoded_and_joined() {
        let urls = urls("https://h.example", None, &[("api-version", "2024-10-21"), ("q", "a&b")]);
        assert_eq!(urls.of("/x?alt=sse", "m"), "https://h.example/x?alt=sse&api-version=2024-10-21&q=a%26b");
    }
}
