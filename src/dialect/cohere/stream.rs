//! Cohere's stream as OpenAI's chunks.
//!
//! Reference: <https://docs.cohere.com/docs/streaming>. New kinds of events may come at any time and are passed over, as
//! citations are, which OpenAI's chunks have no place for; what counts as an end is only `message-end`.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::reply::{self, WireLogprob, WireUsage};
use crate::dialect::answer::{Answer, Reply, Teller, too_early};
use crate::dialect::calls::Calling;
use crate::dialect::chunks::Chunks;
use crate::dialect::{Broken, Context};
use crate::framing::sse::{Event, Splitter};
use crate::openai::completion::{Delta, Logprobs};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Chunks,
    legacy: bool,
    calls: Calling,
    usage: Option<Usage>,
}

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(chat: &ChatRequest<'_>, context: &Context<'_>) -> Answer<Self> {
        let teller = Self {
            chunks: Chunks::new(context, chat.include_usage),
            legacy: chat.legacy,
            calls: Calling::new(chat.legacy),
            usage: None,
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
        if event.is_done() {
            return Err(Broken::Garbled("the upstream's stream stopped without a message-end".to_owned()));
        }
        let data = &*event.data;
        let wire: WireEvent<'_> = serde_json::from_slice(data).map_err(|e| reply::garbled(&e, data))?;
        match wire.kind.as_deref() {
            Some("content-delta" | "content-start") => self.content(&wire, out),
            Some("tool-plan-delta") => {
                let message: Option<WirePlan<'_>> = message(wire.delta)?;
                self.think(message.and_then(|message| message.tool_plan), None, out);
                Ok(())
            }
            Some("tool-call-start") => self.begin_call(&wire, out),
            Some("tool-call-delta") => {
                let key = wire.index()?;
                let message: Option<WireCalls<'_>> = message(wire.delta)?;
                let call = message.and_then(|message| message.tool_calls);
                self.add_arguments(key, call.and_then(|call| call.function?.arguments), out);
                Ok(())
            }
            Some("tool-call-end") => {
                self.calls.end(wire.index()?, &mut self.chunks, out);
                Ok(())
            }
            Some("message-start") => {
                self.chunks.name(&wire.id.unwrap_or_default());
                Ok(())
            }
            Some("message-end") => {
                let delta: Option<WireEnd<'_>> = parse(wire.delta)?;
                self.finish_message(&delta.unwrap_or_default(), out)
            }
            Some(_) => Ok(()),
            None if wire.message.is_some() || wire.error.is_some() => Err(Broken::told(data)),
            None => Err(Broken::Garbled("the upstream sent an event without a type".to_owned())),
        }
    }

    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], _: &mut BytesMut) -> Result<(), Box<Fault>> {
        Err(too_early(read, rest, "no message-end came"))
    }

    fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

impl Stream {
    fn content(&mut self, wire: &WireEvent<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        let message: Option<WireContents<'_>> = message(wire.delta)?;
        let Some(content) = message.and_then(|message| message.content) else { return Ok(()) };
        let logprobs = match wire.logprobs {
            None => None,
            Some(raw) => Some(reply::logprobs(std::iter::once(parse::<WireLogprob<'_>>(Some(raw))?))),
        };
        self.think(content.thinking, logprobs.as_ref(), out);
        let delta = |text| Delta { content: Some(text), ..Delta::default() };
        self.say(content.text, delta, logprobs.as_ref(), out);
        Ok(())
    }

    fn begin_call(&mut self, wire: &WireEvent<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        let key = wire.index()?;
        let message: Option<WireCalls<'_>> = message(wire.delta)?;
        let call = message.and_then(|message| message.tool_calls);
        let head = call.as_ref().and_then(|call| Some((call.id?, call.function.as_ref()?.name?)));
        let Some(head) = head else {
            let why = "the upstream began a tool call without its id or name";
            return Err(Broken::Garbled(why.to_owned()));
        };
        self.calls.begin(key, head, &mut self.chunks, out)?;
        self.add_arguments(key, call.and_then(|call| call.function?.arguments), out);
        Ok(())
    }

    fn add_arguments(&mut self, key: u64, json: Option<Text<'_>>, out: &mut BytesMut) {
        if let Some(json) = json.filter(|json| !json.is_empty()) {
            self.calls.add(key, json, &mut self.chunks, out);
        }
    }

    fn think(&mut self, text: Option<Text<'_>>, logprobs: Option<&Logprobs>, out: &mut BytesMut) {
        self.say(text, |text| Delta { reasoning_content: Some(text), ..Delta::default() }, logprobs, out);
    }

    fn say<'t>(
        &mut self,
        text: Option<Text<'t>>,
        delta: impl FnOnce(Text<'t>) -> Delta<'t>,
        logprobs: Option<&Logprobs>,
        out: &mut BytesMut,
    ) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.chunks.choice(0, delta(text), logprobs, out);
        }
    }

    fn finish_message(&mut self, delta: &WireEnd<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        self.usage = delta.usage.and_then(|usage| usage.usage());
        let Some(reason) = &delta.finish_reason else {
            let why = "the upstream's message ended without a finish_reason";
            return Err(match delta.error.as_deref().filter(|words| !words.trim().is_empty()) {
                None => Broken::Garbled(why.to_owned()),
                Some(words) => Broken::Upstream(Box::new(Fault {
                    status: 502,
                    message: words.to_owned(),
                    ..Fault::default()
                })),
            });
        };
        let reason = reply::finish_reason(reason, delta.error.as_deref(), self.legacy)?;
        self.calls.end_all(&mut self.chunks, out);
        let reason = reason.having(!self.calls.is_empty(), self.legacy);
        self.chunks.finish(reason, self.usage, out);
        Ok(())
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<T, Broken> {
    let json = raw.map_or("null", RawValue::get);
    serde_json::from_str(json).map_err(|e| reply::garbled(&e, json.as_bytes()))
}

/// The message that a delta adds to, if it says anything.
fn message<'a, T: Deserialize<'a>>(delta: Option<&'a RawValue>) -> Result<Option<T>, Broken> {
    let delta: Option<WireDelta<T>> = parse(delta)?;
    Ok(delta.and_then(|delta| delta.message))
}

/// Any event: what is not needed for its kind is not read, so that new kinds may hold what they like.
#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl WireEvent<'_> {
    fn index(&self) -> Result<u64, Broken> {
        parse(self.index)
    }
}

#[derive(Deserialize)]
struct WireDelta<T> {
    message: Option<T>,
}

#[derive(Deserialize)]
struct WireContents<'a> {
    #[serde(borrow)]
    content: Option<WireContent<'a>>,
}

#[derive(Deserialize)]
struct WireContent<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WirePlan<'a> {
    #[serde(borrow)]
    tool_plan: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireCalls<'a> {
    #[serde(borrow)]
    tool_calls: Option<WireCall<'a>>,
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    function: Option<WireFunction<'a>>,
}

#[derive(Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct WireEnd<'a> {
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    usage: Option<WireUsage>,
}
