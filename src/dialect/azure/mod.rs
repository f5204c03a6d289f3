//! Azure OpenAI by deployment: OpenAI's bodies, which pass as they are, under Azure's own paths.
//!
//! Reference: <https://learn.microsoft.com/azure/ai-foundry/openai/reference>. A deployment stands in the path under its
//! own name, and the version of the API in the query. Azure's newer v1 API (`…/openai/v1`) needs neither: an integration
//! of format `openai` speaks it, and the paths that are relayed here lead there.

use std::borrow::Cow;

use http::Method;

use super::openai::{self, Passing};
use super::{Context, Dialect, Prepared, Untranslatable};
use crate::openai::{Envelope, Operation};
use crate::outbound::{Report, Unsigned};

/// The pass-through to deployments.
#[derive(Clone, Debug)]
pub struct Azure {
    chat: String,
    embeddings: String,
}

impl Azure {
    /// Deployments behind `api_version`; without one it must stand in the integration's own query.
    pub fn new(api_version: Option<&str>) -> Self {
        let query = api_version.map_or_else(String::new, |version| {
            let version: String = form_urlencoded::byte_serialize(version.as_bytes()).collect();
            format!("?api-version={version}")
        });
        let tail = |path: &str| format!("/openai/deployments/{{model}}{path}{query}");
        Self { chat: tail("/chat/completions"), embeddings: tail("/embeddings") }
    }
}

impl Dialect for Azure {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let tail = match context.operation {
            Operation::Chat => &self.chat,
            Operation::Embeddings => &self.embeddings,
            Operation::Relay => {
                return Err(Untranslatable::unsupported("", "a relayed path has no chat request in it"));
            }
        };
        let headers = openai::headers(request.stream());
        let unsigned = Unsigned::new(Method::POST, tail.clone(), headers, request.body());
        let decoder = Box::new(Passing::new(context.max_event));
        Ok(Prepared { unsigned, report: Report::default(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![self.chat.clone().into(), self.embeddings.clone().into()]
    }

    fn is_openai_compatible(&self) -> bool {
        true
    }

    fn relays_below(&self) -> &'static str {
        "/openai/v1"
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn prepare(azure: &Azure, operation: Operation) -> Prepared {
        let body = "{\"big\": 12345678901234567890,\"model\":\"m\", \"stream\":true}";
        let envelope = Envelope::read(Bytes::from_static(body.as_bytes())).unwrap();
        let context = Context {
            operation,
            provider_model: "m",
            client_model: "m",
            id: "chatcmpl-1",
            created: 1,
            strict: true,
            max_event: 1000,
        };
        let prepared = azure.prepare(&envelope, &context).unwrap();
        assert_eq!(prepared.unsigned.body.joined(), body);
        prepared
    }

    #[test]
    fn the_version_stands_in_the_query_and_what_is_prepared_was_announced() {
        let azure = Azure::new(Some("2024-10-21"));
        let prepared = prepare(&azure, Operation::Chat);
        let tail = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21";
        assert_eq!(prepared.unsigned.tail, tail);
        assert_eq!(prepared.unsigned.headers["accept"], "text/event-stream");
        assert!(prepared.decoder.passes_whole());
        let embeddings = prepare(&azure, Operation::Embeddings).unsigned.tail;
        assert_eq!(azure.tails(), [prepared.unsigned.tail, embeddings]);
    }

    #[test]
    fn a_version_may_be_missing_and_cannot_break_out_of_the_query() {
        let tail = prepare(&Azure::new(None), Operation::Embeddings).unsigned.tail;
        assert_eq!(tail, "/openai/deployments/{model}/embeddings");
        assert!(prepare(&Azure::new(Some("a&b#c")), Operation::Chat).unsigned.tail.ends_with("=a%26b%23c"));
    }
}
