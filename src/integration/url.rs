//! The URL of a request: endpoint, the tail that the format appends (or the configured `path`), and `query`.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::valid;

/// What stays as it is in a path segment: RFC 3986 §2.3 and what model names commonly hold.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');

/// Where the model's name stands in a tail or a configured path.
const MODEL: &str = "{model}";

/// The URLs of one integration: what a dialect announces is built once, for each model.
#[derive(Debug)]
pub(super) struct Urls {
    ready: Vec<(Cow<'static, str>, Vec<Uri>)>,
    models: Vec<String>,
    base: String,
    path: Option<String>,
    query: String,
    endpoint: Uri,
}

impl Urls {
    pub(super) fn new(settings: &valid::Integration, tails: &[Cow<'static, str>]) -> Self {
        let endpoint = settings.endpoint.clone();
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&settings.query).finish();
        let base = endpoint.to_string().trim_end_matches('/').to_owned();
        let models = settings.models.iter().map(|model| encode(model.name.as_str())).collect();
        let path = settings.path.clone();
        let mut urls = Self { ready: Vec::new(), models, base, path, query, endpoint };
        let of_all = |tail: &Cow<'static, str>| urls.models.iter().map(|m| urls.build(tail, m)).collect();
        urls.ready = tails.iter().map(|tail| (tail.clone(), of_all(tail))).collect();
        urls
    }

    /// The URL for `tail` and the integration's model at `model`, with `{model}` filled in.
    pub(super) fn of(&self, tail: &str, model: usize) -> Uri {
        let ready = self.ready.iter().find(|(ready, _)| *ready == tail);
        match ready.and_then(|(_, uris)| uris.get(model)) {
            Some(uri) => uri.clone(),
            None => self.build(tail, self.models.get(model).map_or("", String::as_str)),
        }
    }

    fn build(&self, tail: &str, model: &str) -> Uri {
        let (tail, tail_query) = tail.split_once('?').unwrap_or((tail, ""));
        let path = self.path.as_deref().unwrap_or(tail).replace(MODEL, model);
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        let text = self.ask(format!("{}{slash}{path}", self.base), tail_query);
        // The parts were checked with the settings; should they not fit together, the endpoint alone is called.
        text.parse().unwrap_or_else(|_| self.endpoint.clone())
    }

    /// The URL for a relayed `tail`, which no configured path replaces, with the client's query before ours; `None` if
    /// they do not make one.
    pub(super) fn relayed(&self, tail: &str, query: Option<&str>) -> Option<Uri> {
        self.ask(format!("{}{tail}", self.base), query.unwrap_or_default()).parse().ok()
    }

    /// Adds `query` and the integration's own to a URL.
    fn ask(&self, mut text: String, query: &str) -> String {
        for query in [query, &self.query] {
            if !query.is_empty() {
                text.push(if text.contains('?') { '&' } else { '?' });
                text.push_str(query);
            }
        }
        text
    }
}

fn encode(model: &str) -> String {
    utf8_percent_encode(model, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integration::registry::tests::integration;

    fn urls(endpoint: &str, path: Option<&str>, query: &[(&str, &str)]) -> Urls {
        let mut settings = integration("acme", &["m", "a/b c:1"]);
        settings.endpoint = endpoint.parse().unwrap();
        settings.path = path.map(str::to_owned);
        settings.query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Urls::new(&settings, &["/chat/completions".into(), "/models/{model}:go?alt=sse".into()])
    }

    #[test]
    fn the_tail_is_appended_to_the_endpoint_whether_or_not_it_ends_in_a_slash() {
        for endpoint in ["https://h.example/v1", "https://h.example/v1/"] {
            let url = urls(endpoint, None, &[]).of("/chat/completions", 0);
            assert_eq!(url, "https://h.example/v1/chat/completions");
        }
        assert_eq!(urls("http://h:1", None, &[]).of("/v1/messages", 0), "http://h:1/v1/messages");
    }

    #[test]
    fn the_model_is_filled_into_a_tail_announced_or_not() {
        let urls = urls("https://h.example", None, &[]);
        assert_eq!(
            urls.of("/models/{model}:go?alt=sse", 1),
            "https://h.example/models/a%2Fb%20c:1:go?alt=sse"
        );
        assert_eq!(urls.of("/models/{model}:stop", 1), "https://h.example/models/a%2Fb%20c:1:stop");
    }

    #[test]
    fn a_configured_path_replaces_the_tail_and_names_the_model() {
        let url = urls("https://h.example/base", Some("/run/{model}/go"), &[]).of("/chat/completions", 1);
        assert_eq!(url, "https://h.example/base/run/a%2Fb%20c:1/go");
    }

    #[test]
    fn queries_are_encoded_and_joined() {
        let urls = urls("https://h.example", None, &[("api-version", "2024-10-21"), ("q", "a&b")]);
        assert_eq!(urls.of("/x?alt=sse", 0), "https://h.example/x?alt=sse&api-version=2024-10-21&q=a%26b");
    }
}
