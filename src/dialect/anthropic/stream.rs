//! Anthropic's stream as OpenAI's chunks.
//!
//! Reference: <https://docs.anthropic.com/en/docs/build-with-claude/streaming>. New kinds of events, blocks and deltas
//! may come at any time and are passed over; what counts as an end is only `message_stop`.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::reply::{self, Tokens, WireDetails, parse};
use crate::dialect::answer::{Answer, Reply, Teller, too_early};
use crate::dialect::calls::{self, Calling};
use crate::dialect::chunks::Chunks;
use crate::dialect::{Broken, Context};
use crate::framing::sse::{Event, Splitter};
use crate::openai::completion::{Delta, FinishReason};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Chunks,
    legacy: bool,
    tokens: Tokens,
    calls: Calling,
    reason: Option<FinishReason>,
}

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(chat: &ChatRequest<'_>, context: &Context<'_>) -> Answer<Self> {
        let teller = Self {
            chunks: Chunks::new(context, chat.include_usage),
            legacy: chat.legacy,
            tokens: Tokens::default(),
            calls: Calling::new(chat.legacy),
            reason: None,
        };
        Answer::new(Splitter::new(context.max_event), teller)
    }
}

impl Teller for Stream {
    type Framing = Splitter;

    fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken> {
        reply::read(body, self.legacy)
    }

    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        let (data, name, is_mute) = (&*event.data, event.name, event.is_done() || event.data.is_empty());
        let event: WireEvent<'_> = match serde_json::from_slice(data) {
            Ok(event) => event,
            Err(_) if name == b"error" => return Err(Broken::said(data)),
            Err(_) if is_mute || is_strange(name) => return Ok(()),
            Err(error) => return Err(reply::garbled(&error, data)),
        };
        match event.kind.as_deref() {
            Some("content_block_delta") => self.delta(event.index()?, &parse(event.delta)?, out),
            Some("content_block_start") => self.start(event.index()?, &parse(event.content_block)?, out),
            Some("content_block_stop") => {
                self.calls.end(event.index()?, &mut self.chunks, out);
                Ok(())
            }
            Some("message_start") => {
                let message: WireMessage<'_> = parse(event.message)?;
                self.chunks.name(&message.id.unwrap_or_default());
                self.tokens.add(message.usage);
                Ok(())
            }
            Some("message_delta") => self.message_delta(parse(event.delta)?, event.usage, out),
            Some("message_stop") => match self.reason {
                Some(reason) => {
                    self.close(reason, out);
                    Ok(())
                }
                None => Err(Broken::Garbled("it stopped without a stop_reason".to_owned())),
            },
            Some("error") => Err(Broken::told(data)),
            None if event.error.is_some() => Err(Broken::told(data)),
            None if is_strange(name) => Ok(()),
            None => Err(Broken::Garbled("the upstream sent an event without a type".to_owned())),
            Some(_) => Ok(()),
        }
    }

    /// All but the last event may have come.
    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], out: &mut BytesMut) -> Result<(), Box<Fault>> {
        match self.reason {
            Some(reason) if read.is_ok() => {
                self.close(reason, out);
                Ok(())
            }
            _ => Err(too_early(read, rest, "no message_stop came")),
        }
    }

    fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.tokens.usage()
    }
}

impl Stream {
    fn start(&mut self, index: u64, block: &WireBlock<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        match block.kind.as_deref() {
            Some("tool_use") => {
                let (called, input) = (reply::called(block.id, block.name)?, calls::input(block.input)?);
                self.calls.begin(index, called, &mut self.chunks, out)?;
                // Most servers begin with `{}`; what comes piece by piece counts more.
                if !says_nothing(input) {
                    self.calls.suppose(index, input);
                }
            }
            Some("text") => {
                self.say(parse(block.text)?, |text| Delta { content: Some(text), ..Delta::default() }, out)
            }
            Some("thinking") => self.think(parse(block.thinking)?, out),
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &WireDelta<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        match delta.kind.as_deref() {
            Some("text_delta") => {
                self.say(parse(delta.text)?, |text| Delta { content: Some(text), ..Delta::default() }, out)
            }
            Some("input_json_delta") => {
                let json: Option<Text<'_>> = parse(delta.partial_json)?;
                if let Some(json) = json.filter(|json| !json.is_empty()) {
                    self.calls.add(index, json, &mut self.chunks, out);
                }
            }
            Some("thinking_delta") => self.think(parse(delta.thinking)?, out),
            _ => {}
        }
        Ok(())
    }

    fn message_delta(
        &mut self,
        delta: WireDelta<'_>,
        usage: Option<&RawValue>,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        self.tokens.add(usage);
        if let Some(words) = delta.stop_details.and_then(|details| details.explanation) {
            self.chunks.delta(Delta { refusal: Some(Text::Plain(&words)), ..Delta::default() }, out);
        }
        self.reason =
            delta.stop_reason.map(|reason| reply::finish_reason(&reason, self.legacy)).or(self.reason);
        Ok(())
    }

    fn say<'t>(
        &mut self,
        text: Option<Text<'t>>,
        delta: impl FnOnce(Text<'t>) -> Delta<'t>,
        out: &mut BytesMut,
    ) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.chunks.delta(delta(text), out);
        }
    }

    fn think(&mut self, text: Option<Text<'_>>, out: &mut BytesMut) {
        self.say(text, |text| Delta { reasoning_content: Some(text), ..Delta::default() }, out);
    }

    fn close(&mut self, reason: FinishReason, out: &mut BytesMut) {
        self.calls.end_all(&mut self.chunks, out);
        let reason = reason.having(!self.calls.is_empty(), self.legacy);
        self.chunks.finish(reason, self.tokens.usage(), out);
    }
}

/// Whether an event of this name is none of an answer's, such as `ping`: Anthropic's own clients go by the name, and pass
/// over what they do not know.
fn is_strange(name: &[u8]) -> bool {
    !KNOWN.contains(&name)
}

/// The names of events that say something; the first two are those of an event that has none.
const KNOWN: [&[u8]; 9] = [
    b"",
    b"message",
    b"message_start",
    b"message_delta",
    b"message_stop",
    b"content_block_start",
    b"content_block_delta",
    b"content_block_stop",
    b"error",
];

fn says_nothing(input: &str) -> bool {
    let spaces: &[char] = &[' ', '\t', '\r', '\n'];
    let object = input.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    object.is_some_and(|inside| inside.trim_matches(spaces).is_empty())
}

/// Any event: what is not needed for its kind is not read, so that new kinds may hold what they like.
#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl WireEvent<'_> {
    fn index(&self) -> Result<u64, Broken> {
        parse(self.index)
    }
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireBlock<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireDelta<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_details: Option<WireDetails<'a>>,
}
