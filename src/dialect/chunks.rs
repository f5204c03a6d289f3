//! What a translated answer is written with: one id for all of it, whole or in chunks; of these the role is in the
//! first only, the usage last if asked for.

use bytes::{BufMut, BytesMut};

use super::Context;
use crate::framing::sse;
use crate::openai::completion::{
    Assistant, CallKind, Choice, Chunk, ChunkChoice, Completion, Delta, FinishReason, FunctionDelta,
    Logprobs, ToolCallDelta,
};
use crate::openai::json::Text;
use crate::openai::{Fault, Usage};

/// Writes the chunks of one stream.
#[derive(Debug)]
pub(super) struct Chunks {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    /// The choices that have had their first chunk, each with whether anything was said or called in it since.
    begun: Vec<(u32, bool)>,
    done: bool,
}

impl Chunks {
    /// Chunks under the id of `context`, unless the provider gives one in time.
    pub(super) fn new(context: &Context<'_>, include_usage: bool) -> Self {
        let (id, model) = (context.id.to_owned(), context.client_model.to_owned());
        Self { id, created: context.created, model, include_usage, begun: Vec::new(), done: false }
    }

    /// A whole answer, under the provider's own `id` if it gives one.
    pub(super) fn completion(
        &self,
        id: Option<String>,
        choices: Vec<Choice>,
        usage: Option<Usage>,
    ) -> Completion {
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| self.id.clone());
        let object = "chat.completion".to_owned();
        Completion { id, object, created: self.created, model: self.model.clone(), choices, usage }
    }

    /// Whether the client has been told that this was all.
    pub(super) fn are_done(&self) -> bool {
        self.done
    }

    /// Takes the provider's own id, if no chunk has been written yet.
    pub(super) fn name(&mut self, id: &str) {
        if self.begun.is_empty() && !id.is_empty() {
            id.clone_into(&mut self.id);
        }
    }

    /// Writes what was added to the answer's only choice.
    pub(super) fn delta(&mut self, delta: Delta<'_>, out: &mut BytesMut) {
        self.choice(0, delta, None, out);
    }

    /// Writes news of the call number `at`, with its id and name in `head` where it begins. A client of the legacy
    /// `functions` can be told of the first call only.
    pub(super) fn call(
        &mut self,
        legacy: bool,
        at: usize,
        head: Option<(Text<'_>, Text<'_>)>,
        arguments: Text<'_>,
        out: &mut BytesMut,
    ) {
        let delta = call(legacy, at, head, arguments);
        if !legacy || at == 0 {
            self.delta(delta, out);
        }
    }

    /// Writes what was added to the choice `index`.
    pub(super) fn choice(
        &mut self,
        index: u32,
        delta: Delta<'_>,
        logprobs: Option<&Logprobs>,
        out: &mut BytesMut,
    ) {
        self.one(ChunkChoice { index, delta, finish_reason: None, logprobs }, out);
    }

    /// Writes why the choice `index` ended.
    pub(super) fn reason(&mut self, index: u32, reason: FinishReason, out: &mut BytesMut) {
        let delta = Delta::default();
        self.one(ChunkChoice { index, delta, finish_reason: Some(reason), logprobs: None }, out);
    }

    /// Writes the usage if the client asked for it and the provider told it, and that this was all.
    pub(super) fn end(&mut self, usage: Option<Usage>, out: &mut BytesMut) {
        if self.include_usage && usage.is_some() {
            self.write(&[], usage, out);
        }
        sse::done(out);
        self.done = true;
    }

    /// Writes why the answer's only choice ended, and its end.
    pub(super) fn finish(&mut self, reason: FinishReason, usage: Option<Usage>, out: &mut BytesMut) {
        self.reason(0, reason, out);
        self.end(usage, out);
    }

    fn one(&mut self, mut choice: ChunkChoice<'_>, out: &mut BytesMut) {
        let says = choice.delta.says();
        let has_said = match self.begun.iter_mut().find(|(index, _)| *index == choice.index) {
            Some((_, has_said)) => {
                *has_said |= says;
                *has_said
            }
            None => {
                self.begun.push((choice.index, says));
                choice.delta.role = Some(Assistant::Assistant);
                says
            }
        };
        // Put together, the chunks are to say what a whole answer does (`Message::settle`).
        if choice.finish_reason.is_some() && !has_said {
            choice.delta.content = Some(Text::Plain(""));
        }
        self.write(&[choice], None, out);
    }

    fn write(&self, choices: &[ChunkChoice<'_>], usage: Option<Usage>, out: &mut BytesMut) {
        let object = "chat.completion.chunk";
        let chunk = Chunk { id: &self.id, object, created: self.created, model: &self.model, choices, usage };
        sse::event(out, |out| {
            serde_json::to_writer(out.writer(), &chunk).expect("a buffer takes whatever has text keys");
        });
    }
}

/// News of the call number `at` as a client of tools, or of the legacy `functions`, reads them.
pub(super) fn call<'t>(
    legacy: bool,
    at: usize,
    head: Option<(Text<'t>, Text<'t>)>,
    arguments: Text<'t>,
) -> Delta<'t> {
    let function = FunctionDelta { name: head.map(|(_, name)| name), arguments };
    if legacy {
        return Delta { function_call: Some(function), ..Delta::default() };
    }
    let index = u32::try_from(at).unwrap_or(u32::MAX);
    let (id, kind) = (head.map(|(id, _)| id), head.map(|_| CallKind::Function));
    Delta { tool_calls: Some([ToolCallDelta { index, id, kind, function }]), ..Delta::default() }
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

    fn chunks() -> (Chunks, BytesMut) {
        let context = Context {
            operation: Operation::Chat,
            provider_model: "p",
            client_model: "c",
            id: "chatcmpl-1",
            created: 7,
            strict: false,
            max_event: 100,
        };
        (Chunks::new(&context, true), BytesMut::new())
    }

    #[test]
    fn the_role_comes_once_and_the_id_never_changes() {
        let (mut chunks, mut out) = chunks();
        chunks.name("msg_1");
        chunks.delta(Delta { content: Some(Text::Plain("a\n")), ..Delta::default() }, &mut out);
        chunks.name("msg_2");
        chunks.finish(FinishReason::Stop, Some(Usage::default()), &mut out);
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
    #[test]
    fn a_choice_in_which_nothing_was_said_or_called_ends_with_an_empty_text() {
        let thought = Delta { reasoning_content: Some(Text::Plain("hm")), ..Delta::default() };
        let refused = Delta { refusal: Some(Text::Plain("no")), ..Delta::default() };
        let called = call(false, 0, Some((Text::Plain("1"), Text::Plain("f"))), Text::Plain("{}"));
        let called_of_old = call(true, 0, Some((Text::Plain("1"), Text::Plain("f"))), Text::Plain("{}"));
        for (index, delta, end) in [
            (0, None, r#"{"role":"assistant","content":""}"#),
            (1, Some(thought), r#"{"content":""}"#),
            (2, Some(refused), "{}"),
            (3, Some(called), "{}"),
            (4, Some(called_of_old), "{}"),
            (5, Some(Delta { content: Some(Text::Plain("a")), ..Delta::default() }), "{}"),
        ] {
            let (mut chunks, mut out) = chunks();
            // What another choice says is no word of this one.
            chunks.choice(9, Delta { content: Some(Text::Plain("b")), ..Delta::default() }, None, &mut out);
            if let Some(delta) = delta {
                chunks.choice(index, delta, None, &mut out);
            }
            out.clear();
            chunks.reason(index, FinishReason::Stop, &mut out);
            let wanted = format!(r#""choices":[{{"index":{index},"delta":{end},"finish_reason":"stop"}}]"#);
            let told = std::str::from_utf8(&out).unwrap();
            assert!(told.contains(&wanted), "{told}");
        }
    }
}
