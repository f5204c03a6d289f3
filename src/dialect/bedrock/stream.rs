//! Converse's stream of frames as OpenAI's chunks.
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>. New kinds of
//! events and blocks may come at any time and are passed over. `messageStop` says why the model stopped, `metadata`
//! with the counts comes after it and is the end.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::reply::{self, MEDIA, THEIRS, WireUsage};
use super::{Telling, fault};
use crate::dialect::answer::{Answer, Reply, Teller, too_early};
use crate::dialect::calls::Calling;
use crate::dialect::chunks::Chunks;
use crate::dialect::{Broken, Context, Head};
use crate::framing::eventstream::{Message, Reader};
use crate::openai::completion::{Delta, FinishReason};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Chunks,
    calls: Calling,
    telling: Telling,
    /// The block whose input is the answer's text, and whether any has come.
    answer: Option<(u64, bool)>,
    usage: Option<Usage>,
    reason: Option<FinishReason>,
}

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(chat: &ChatRequest<'_>, telling: Telling, context: &Context<'_>) -> Answer<Self> {
        let teller = Self {
            chunks: Chunks::new(context, chat.include_usage),
            calls: Calling::new(telling.legacy),
            telling,
            answer: None,
            usage: None,
            reason: None,
        };
        Answer::new(Reader::new(context.max_event), teller)
    }
}

impl Teller for Stream {
    type Framing = Reader;

    fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken> {
        reply::read(body, self.telling)
    }

    fn event(&mut self, message: Message<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        match message {
            Message::Event { kind, payload } => self.news(kind, payload, out),
            Message::Exception { kind, payload } => {
                Err(Broken::Upstream(Box::new(fault::exception(kind, payload))))
            }
            Message::Error { code, message } => Err(Broken::Upstream(Box::new(fault::error(code, message)))),
        }
    }

    /// All but the counts may have come.
    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], out: &mut BytesMut) -> Result<(), Box<Fault>> {
        match (read, self.reason) {
            (Ok(()), Some(reason)) => {
                self.close(reason, out);
                Ok(())
            }
            (Err(Broken::Garbled(words)), _) => Err(Box::new(Fault::garbled(words))),
            (read, _) => Err(too_early(read, rest, "no messageStop came")),
        }
    }

    fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        fault::read(head, body)
    }
}

impl Stream {
    fn news(&mut self, kind: &str, payload: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        match kind {
            "contentBlockDelta" => {
                let WireDelta { index, delta } = parse(payload)?;
                if delta.image.is_some() {
                    return Err(Broken::homeless(MEDIA));
                }
                self.delta(index, &delta, out);
            }
            "contentBlockStart" => {
                let WireStart { index, start } = parse(payload)?;
                if let Some(call) = start.and_then(|start| start.tool_use) {
                    self.call(index, &call, out)?;
                }
            }
            "contentBlockStop" => {
                let WireStop { index } = parse(payload)?;
                self.calls.end(index, &mut self.chunks, out);
                self.end_answer(index, out);
            }
            "messageStop" => {
                let WireEnd { reason } = parse(payload)?;
                let called = !self.calls.is_empty();
                let reason = reply::finish_reason(&reason, self.telling, called, self.answer.is_some())?;
                self.reason = Some(reason);
                if self.usage.is_some() {
                    self.close(reason, out);
                }
            }
            "metadata" => {
                let WireMetadata { usage } = parse(payload)?;
                self.usage = usage.and_then(WireUsage::usage).or(self.usage);
                if let Some(reason) = self.reason {
                    self.close(reason, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn call(&mut self, index: u64, call: &WireCall<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        if call.kind.is_some_and(|kind| kind.is(THEIRS)) {
            return Ok(());
        }
        if call.name.decode().is_some_and(|name| self.telling.is_answer(&name)) {
            // Only the first: two JSON texts in a row are none.
            self.answer.get_or_insert((index, false));
        } else {
            self.calls.begin(index, (call.id, call.name), &mut self.chunks, out)?;
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &Union<'_>, out: &mut BytesMut) {
        if let Some(text) = filled(delta.text) {
            self.say(text, out);
        }
        if let Some(text) = delta.reasoning.as_ref().and_then(|reasoning| filled(reasoning.text)) {
            self.chunks.delta(Delta { reasoning_content: Some(text), ..Delta::default() }, out);
        }
        let Some(input) = delta.tool_use.as_ref().and_then(|call| filled(call.input)) else { return };
        if self.answer.is_some_and(|(answer, _)| answer == index) {
            self.answer = Some((index, true));
            self.say(input, out);
        } else {
            self.calls.add(index, input, &mut self.chunks, out);
        }
    }

    fn say(&mut self, text: Text<'_>, out: &mut BytesMut) {
        self.chunks.delta(Delta { content: Some(text), ..Delta::default() }, out);
    }

    /// A call without arguments has none, which is `{}`.
    fn end_answer(&mut self, index: u64, out: &mut BytesMut) {
        if self.answer == Some((index, false)) {
            self.answer = Some((index, true));
            self.say(Text::Plain("{}"), out);
        }
    }

    fn close(&mut self, reason: FinishReason, out: &mut BytesMut) {
        self.calls.end_all(&mut self.chunks, out);
        if let Some((index, _)) = self.answer {
            self.end_answer(index, out);
        }
        self.chunks.finish(reason, self.usage, out);
    }
}

fn filled(text: Option<Text<'_>>) -> Option<Text<'_>> {
    text.filter(|text| !text.is_empty())
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Broken> {
    serde_json::from_slice(payload).map_err(|e| reply::garbled(&e, payload))
}

#[derive(Deserialize)]
struct WireDelta<'a> {
    #[serde(rename = "contentBlockIndex", default)]
    index: u64,
    #[serde(borrow)]
    delta: Union<'a>,
}

#[derive(Deserialize)]
struct WireStart<'a> {
    #[serde(rename = "contentBlockIndex", default)]
    index: u64,
    #[serde(borrow)]
    start: Option<WireBegin<'a>>,
}

#[derive(Deserialize)]
struct WireBegin<'a> {
    #[serde(borrow, rename = "toolUse")]
    tool_use: Option<WireCall<'a>>,
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow, rename = "toolUseId")]
    id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireStop {
    #[serde(rename = "contentBlockIndex", default)]
    index: u64,
}

#[derive(Deserialize)]
struct WireEnd<'a> {
    #[serde(borrow, rename = "stopReason")]
    reason: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WireMetadata {
    usage: Option<WireUsage>,
}

/// One of its members is there, or one that is too new to be known.
#[derive(Deserialize)]
struct Union<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow, rename = "toolUse")]
    tool_use: Option<WireInput<'a>>,
    #[serde(borrow, rename = "reasoningContent")]
    reasoning: Option<WireThought<'a>>,
    image: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WireInput<'a> {
    #[serde(borrow)]
    input: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireThought<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
}
