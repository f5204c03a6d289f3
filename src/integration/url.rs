//! The URL of a request: endpoint, the tail that the format appends (or the configured `path`), and `query`.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::valid;
use crate::dialect::Dialect;

/// What stays as it is in any path segment: RFC 3986 §2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same and what model names commonly hold.
const SEGMENT: &AsciiSet = &UNRESERVED.remove(b':').remove(b'@');

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
    /// The names of the parameters in it.
    asked: Vec<String>,
    endpoint: Uri,
}

impl Urls {
    pub(super) fn new(settings: &valid::Integration, dialect: &dyn Dialect) -> Self {
        let kept = if dialect.keeps_only_unreserved() { UNRESERVED } else { SEGMENT };
        let endpoint = settings.endpoint.clone();
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&settings.query).finish();
        let base = endpoint.to_string().trim_end_matches('/').to_owned();
        let encode = |model: &valid::Model| utf8_percent_encode(model.name.as_str(), kept).to_string();
        let models = settings.models.iter().map(encode).collect();
        let path = settings.path.clone();
        let asked = settings.query.iter().map(|(name, _)| name.clone()).collect();
        let mut urls = Self { ready: Vec::new(), models, base, path, query, asked, endpoint };
        let of_all = |tail: &Cow<'static, str>| urls.models.iter().map(|m| urls.build(tail, m)).collect();
        urls.ready = dialect.tails().into_iter().map(|tail| (tail.clone(), of_all(&tail))).collect();
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
        // Where nothing is appended the endpoint is the whole URL, and a slash at its end means something.
        let base = if path.is_empty() { &self.endpoint.to_string() } else { &self.base };
        let text = self.ask(format!("{base}{slash}{path}"), tail_query);
        // The parts were checked with the settings; should they not fit together, the endpoint alone is called.
        text.parse().unwrap_or_else(|_| self.endpoint.clone())
    }

    /// The URL for a relayed `tail`, which no configured path replaces, with the client's query before ours; `None` if
    /// they do not make one. What we ask for overrides what the client asks for: servers differ in which of two they take.
    pub(super) fn relayed(&self, tail: &str, query: Option<&str>) -> Option<Uri> {
        let mut query = Cow::Borrowed(query.unwrap_or_default());
        if !self.asked.is_empty() {
            let kept: Vec<&str> = query.split('&').filter(|pair| !self.asks(pair)).collect();
            query = Cow::Owned(kept.join("&"));
        }
        self.ask(format!("{}{tail}", self.base), &query).parse().ok()
    }

    /// Whether `pair` of a query sets one of our own parameters.
    fn asks(&self, pair: &str) -> bool {
        form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| self.asked.iter().any(|own| *own == name))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Context, Prepared, Untranslatable, bedrock};
    use crate::integration::registry::tests::integration;
    use crate::openai::Envelope;

    /// A dialect of two tails.
    #[derive(Debug)]
    struct Two;

    impl Dialect for Two {
        fn prepare(&self, _: &Envelope, _: &Context<'_>) -> Result<Prepared, Untranslatable> {
            Err(Untranslatable::unsupported("", "only its tails are asked for"))
        }

        fn tails(&self) -> Vec<Cow<'static, str>> {
            vec!["/chat/completions".into(), "/models/{model}:go?alt=sse".into()]
        }
    }

    fn urls(endpoint: &str, path: Option<&str>, query: &[(&str, &str)]) -> Urls {
        let mut settings = integration("acme", &["m", "a/b c:1"]);
        settings.endpoint = endpoint.parse().unwrap();
        settings.path = path.map(str::to_owned);
        settings.query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Urls::new(&settings, &Two)
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
    fn an_empty_tail_leaves_the_endpoint_as_it_is() {
        for endpoint in
            ["https://h.example/generate", "https://h.example/generate/", "https://h.example/g?v=1"]
        {
            assert_eq!(urls(endpoint, None, &[]).of("", 0), endpoint);
        }
        assert_eq!(
            urls("https://h.example/g?v=1", None, &[("k", "2")]).of("", 0),
            "https://h.example/g?v=1&k=2"
        );
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
    fn a_signed_path_keeps_no_colon_of_a_model() {
        let urls = Urls::new(&integration("acme", &["a.b-v1:0", "arn:aws:x/y"]), &bedrock::Bedrock);
        let path = |model| urls.of("/model/{model}/converse", model).path().to_owned();
        assert!(path(0).ends_with("/model/a.b-v1%3A0/converse"), "{}", path(0));
        assert!(path(1).ends_with("/model/arn%3Aaws%3Ax%2Fy/converse"), "{}", path(1));
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
