//! What a handler's worker is asked: OpenAI's own words at one fixed path, answered in OpenAI's own words.

use std::borrow::Cow;

use http::Method;

use super::openai::{self, Passing};
use super::{Context, Dialect, Prepared, Untranslatable};
use crate::openai::{Envelope, Operation};
use crate::outbound::{Report, Unsigned};

/// The only path of a worker's socket that is asked.
const CHAT: &str = "/v1/chat/completions";

/// Speaks to a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handler;

impl Dialect for Handler {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        if context.operation != Operation::Chat {
            return Err(Untranslatable::unsupported(
                "input",
                "a handler answers chat completions, and nothing else is asked of it",
            ));
        }
        let headers = openai::headers(request.stream());
        let unsigned = Unsigned::new(Method::POST, CHAT, headers, request.body());
        let decoder = Box::new(Passing::new(context.max_event));
        Ok(Prepared { unsigned, report: Report::default(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![CHAT.into()]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn prepare(operation: Operation) -> Result<Prepared, Untranslatable> {
        let envelope = Envelope::read(Bytes::from_static(b"{\"model\":\"m\", \"own\":1e2}")).unwrap();
        let context = Context {
            operation,
            provider_model: "m",
            client_model: "m",
            id: "chatcmpl-1",
            created: 1,
            strict: false,
            max_event: 1000,
        };
        Handler.prepare(&envelope, &context)
    }

    #[test]
    fn the_body_goes_to_a_worker_as_it_came() {
        let prepared = prepare(Operation::Chat).unwrap();
        assert_eq!(prepared.unsigned.body.joined(), "{\"model\":\"m\", \"own\":1e2}");
        assert_eq!(prepared.unsigned.tail, "/v1/chat/completions");
        assert!(prepared.decoder.passes_whole());
    }

    #[test]
    fn embeddings_are_refused_in_words() {
        let refused = prepare(Operation::Embeddings).unwrap_err();
        assert!(refused.message.contains("chat completions"), "{refused:?}");
    }
}
