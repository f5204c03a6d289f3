//! Ollama's stream as OpenAI's chunks: one object a line, complete with the line that says `done`.

use bytes::BytesMut;

use super::reply::{self, Ids};
use crate::dialect::answer::{Answer, Reply, Teller, too_early};
use crate::dialect::calls::Calling;
use crate::dialect::chunks::Chunks;
use crate::dialect::{Broken, Context};
use crate::framing::ndjson::Splitter;
use crate::openai::completion::{Delta, Logprobs};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Chunks,
    legacy: bool,
    calls: Calling,
    ids: Ids,
    usage: Option<Usage>,
}

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(chat: &ChatRequest<'_>, context: &Context<'_>) -> Answer<Self> {
        let teller = Self {
            chunks: Chunks::new(context, chat.include_usage),
            legacy: chat.legacy,
            calls: Calling::new(chat.legacy),
            ids: Ids::new(context.id),
            usage: None,
        };
        Answer::new(Splitter::new(context.max_event), teller)
    }
}

impl Teller for Stream {
    type Framing = Splitter;

    fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken> {
        reply::read(body, &mut self.ids, self.legacy)
    }

    fn event(&mut self, line: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        let wire = reply::parse(line)?;
        let mut logprobs = wire.logprobs();
        if let Some(message) = &wire.message {
            let thoughts = |text| Delta { reasoning_content: Some(text), ..Delta::default() };
            let words = |text| Delta { content: Some(text), ..Delta::default() };
            self.say(message.thinking, thoughts, &mut logprobs, out);
            self.say(message.content, words, &mut logprobs, out);
            for call in message.tool_calls.iter().flatten() {
                let id = self.ids.of(call);
                let head = (Text::Plain(&id), call.function.name);
                self.calls.whole(head, call.arguments(), &mut self.chunks, out)?;
            }
        }
        // Ollama may know how likely tokens were before it shows them.
        if let Some(logprobs) = &logprobs {
            let nothing = Delta { content: Some(Text::Plain("")), ..Delta::default() };
            self.chunks.choice(0, nothing, Some(logprobs), out);
        }
        if wire.done {
            self.usage = wire.usage();
            let reason = wire.finish_reason(!self.calls.is_empty(), self.legacy);
            self.chunks.finish(reason, self.usage, out);
        }
        Ok(())
    }

    fn end(&mut self, read: Result<(), Broken>, _: &[u8], _: &mut BytesMut) -> Result<(), Box<Fault>> {
        // A last line that tells of an error was read as one.
        Err(too_early(read, b"", "no line said that it was done"))
    }

    fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

impl Stream {
    /// Writes a text with the log probabilities of its line, which are then gone.
    fn say<'t>(
        &mut self,
        text: Option<Text<'t>>,
        delta: impl FnOnce(Text<'t>) -> Delta<'t>,
        logprobs: &mut Option<Logprobs>,
        out: &mut BytesMut,
    ) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.chunks.choice(0, delta(text), logprobs.take().as_ref(), out);
        }
    }
}
