//! The chunks of a translated stream: one id for all of them, the role in the first only, the usage last if asked for.

use bytes::{BufMut, BytesMut};

use super::Context;
use crate::framing::sse;
use crate::openai::completion::{Assistant, Chunk, ChunkChoice, Delta, FinishReason};
use crate::openai::{Fault, Usage};

/// Writes the chunks of one stream.
#[derive(Debug)]
pub(super) struct Chunks {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    begun: bool,
}

impl Chunks {
    /// Chunks under the id of `context`, unless the provider gives one in time.
    pub(super) fn new(context: &Context<'_>, include_usage: bool) -> Self {
        let (id, model) = (context.id.to_owned(), context.client_model.to_owned());
        Self { id, created: context.created, model, include_usage, begun: false }
    }

    /// Takes the provider's own id, if no chunk has been written yet.
    pub(super) fn name(&mut self, id: &str) {
        if !self.begun && !id.is_empty() {
            id.clone_into(&mut self.id);
        }
    }

    /// Writes what was added to the answer.
    pub(super) fn delta(&mut self, delta: Delta<'_>, out: &mut BytesMut) {
        self.choice(delta, None, out);
    }

    /// Writes why the answer ended, its usage if the client asked for it, and that this was all.
    pub(super) fn finish(&mut self, reason: FinishReason, usage: Usage, out: &mut BytesMut) {
        self.choice(Delta::default(), Some(reason), out);
        if self.include_usage {
            self.write(&[], Some(usage), out);
        }
        sse::done(out);
    }

    fn choice(&mut self, mut delta: Delta<'_>, finish_reason: Option<FinishReason>, out: &mut BytesMut) {
        if !self.begun {
            self.begun = true;
            delta.role = Some(Assistant::Assistant);
        }
        self.write(&[ChunkChoice { index: 0, delta, finish_reason }], None, out);
    }

    fn write(&self, choices: &[ChunkChoice<'_>], usage: Option<Usage>, out: &mut BytesMut) {
        let object = "chat.completion.chunk";
        let chunk = Chunk { id: &self.id, object, created: self.created, model: &self.model, choices, usage };
        sse::event(out, |out| {
            serde_json::to_writer(out.writer(), &chunk).expect("a buffer takes whatever has text keys");
        });
    }
}

/// Writes that the answer broke off; nothing may follow.
pub(super) fn fail(fault: &Fault, out: &mut BytesMut) {
    sse::event(out, |out| {
        serde_json::to_writer(out.writer(), &fault.body()).expect("a buffer takes any text");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Operation;
    use crate::openai::json::Text;

    #[test]
    fn the_role_comes_once_and_the_id_never_changes() {
        let context = Context {
            operation: Operation::Chat,
            provider_model: "p",
            client_model: "c",
            id: "chatcmpl-1",
            created: 7,
            strict: false,
            max_event: 100,
        };
        let (mut chunks, mut out) = (Chunks::new(&context, true), BytesMut::new());
        chunks.name("msg_1");
        chunks.delta(Delta { content: Some(Text::Plain("a\n")), ..Delta::default() }, &mut out);
        chunks.name("msg_2");
        chunks.finish(FinishReason::Stop, Usage::default(), &mut out);
        let head =
            r#"data: {"id":"msg_1","object":"chat.completion.chunk","created":7,"model":"c","choices":["#;
        let wanted = format!(
            "{head}{first}]}}\n\n{head}{last}]}}\n\n{head}],\"usage\":{usage}}}\n\ndata: [DONE]\n\n",
            first = r#"{"index":0,"delta":{"role":"assistant","content":"a\n"},"finish_reason":null}"#,
            last = r#"{"index":0,"delta":{},"finish_reason":"stop"}"#,
            usage = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#,
        );
        assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
    }
}
