//! OpenAI's own format and everything compatible with it: the body leaves as it came, the answer goes on as it comes.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/chat>.

mod alike;
mod stream;

use std::borrow::Cow;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

pub(super) use self::stream::Passing;
use super::{Context, Dialect, Prepared, Untranslatable};
use crate::openai::{Envelope, Operation};
use crate::outbound::{Report, Unsigned};

/// The pass-through.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let tail = match context.operation {
            Operation::Chat => CHAT,
            Operation::Embeddings => EMBEDDINGS,
            Operation::Relay => {
                return Err(Untranslatable::unsupported("", "a relayed path has no chat request in it"));
            }
        };
        let unsigned = Unsigned::new(Method::POST, tail, headers(request.stream()), request.body());
        let decoder = Box::new(Passing::new(context.max_event));
        Ok(Prepared { unsigned, report: Report::default(), decoder })
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        vec![CHAT.into(), EMBEDDINGS.into()]
    }

    fn is_openai_compatible(&self) -> bool {
        true
    }
}

const CHAT: &str = "/chat/completions";
const EMBEDDINGS: &str = "/embeddings";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The headers of a request for a whole answer or a stream.
pub(super) fn headers(stream: bool) -> HeaderMap {
    // Room for these, `accept-encoding`, a key and two more; for a larger table the allocator has none at hand.
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, if stream { STREAM } else { JSON });
    headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn prepare(body: &'static str, operation: Operation) -> Prepared {
        let mut envelope = Envelope::read(Bytes::from_static(body.as_bytes())).unwrap();
        envelope.set_model("real");
        let context = Context {
            operation,
            provider_model: "real",
            client_model: "alias",
            id: "chatcmpl-1",
            created: 1,
            strict: true,
            max_event: 1000,
        };
        OpenAi.prepare(&envelope, &context).unwrap()
    }

    #[test]
    fn the_body_leaves_byte_for_byte_but_for_the_model() {
        let body =
            "{\"big\": 12345678901234567890, \"model\":\"alias\",\"new_field\" : [ 1e2 ], \"stream\":true}";
        let prepared = prepare(body, Operation::Chat);
        assert_eq!(prepared.unsigned.body.joined(), body.replace("alias", "real"));
        assert_eq!(prepared.unsigned.tail, "/chat/completions");
        assert_eq!(prepared.unsigned.headers["accept"], "text/event-stream");
        assert_eq!(prepared.report, Report::default());
        assert!(prepared.decoder.passes_whole());
    }

    #[test]
    fn embeddings_have_their_own_path() {
        let prepared = prepare("{\"model\":\"alias\",\"input\":\"x\"}", Operation::Embeddings);
        assert_eq!(prepared.unsigned.tail, "/embeddings");
        assert_eq!(prepared.unsigned.headers["accept"], "application/json");
    }
}
