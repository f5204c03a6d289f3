//! Ollama's stream as OpenAI's chunks: one object a line, complete with the line that says `done`.

use std::borrow::Cow;

use bytes::BytesMut;

use super::reply::{self, Ids, Wire};
use crate::dialect::calls::Calling;
use crate::dialect::chunks::{self, Chunks};
use crate::dialect::{Broken, Context, End, Outcome};
use crate::framing::ndjson::{Splitter, lines};
use crate::openai::completion::{Delta, Logprobs};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// One stream that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    splitter: Splitter,
    chunks: Chunks,
    legacy: bool,
    calls: Calling,
    ids: Ids,
    usage: Option<Usage>,
    end: Option<Outcome>,
}

impl Stream {
    pub(super) fn new(chat: &ChatRequest<'_>, context: &Context<'_>) -> Self {
        Self {
            splitter: Splitter::new(context.max_event),
            chunks: Chunks::new(context, chat.include_usage),
            legacy: chat.legacy,
            calls: Calling::new(chat.legacy),
            ids: Ids::new(context.id),
            usage: None,
            end: None,
        }
    }

    pub(super) fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        if self.end.is_some() {
            return Ok(());
        }
        let complete = self.splitter.push(input).map_err(|e| Broken::Garbled(e.to_string()))?;
        self.read(&complete, out)
    }

    pub(super) fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        if let Some(outcome) = &self.end {
            return outcome.clone();
        }
        let fault = match end {
            End::Broken(fault) => Cow::Borrowed(fault),
            End::Clean => match self.finish_cleanly(out) {
                Ok(()) => return Outcome::Complete,
                Err(fault) => return Outcome::Unfinished(fault),
            },
        };
        chunks::fail(&fault, out);
        let outcome = Outcome::Failed(fault.message.clone());
        self.end = Some(outcome.clone());
        outcome
    }

    pub(super) fn is_done(&self) -> bool {
        self.end == Some(Outcome::Complete)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The upstream closed: complete if its last line lacked only the line feed.
    fn finish_cleanly(&mut self, out: &mut BytesMut) -> Result<(), Box<Fault>> {
        let rest = self.splitter.rest();
        let read = self.read(&rest, out);
        if self.end.is_some() {
            return Ok(());
        }
        Err(match read {
            Err(Broken::Upstream(fault)) => fault,
            // Half a line: that the stream ended early says it all.
            Ok(()) | Err(Broken::Garbled(_)) => {
                Box::new(Fault::garbled("the upstream's stream ended early: no line said that it was done"))
            }
        })
    }

    fn read(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        for line in lines(bytes) {
            self.line(&reply::parse(line)?, out)?;
            if self.end.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn line(&mut self, wire: &Wire<'_>, out: &mut BytesMut) -> Result<(), Broken> {
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
            self.chunks.finish(reason, self.usage.unwrap_or_default(), out);
            self.end = Some(Outcome::Complete);
        }
        Ok(())
    }

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
