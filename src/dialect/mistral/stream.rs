//! Mistral's stream as OpenAI's chunks: pieces of content taken apart, calls with their ids, one id for the whole.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ids;
use super::reply::{self, Piece, WireCall, WireLogprobs, WireMessage, WireUsage};
use crate::dialect::answer::{Answer, Reply, Teller, too_early};
use crate::dialect::calls::check_room;
use crate::dialect::chunks::Chunks;
use crate::dialect::{Broken, Context, Head};
use crate::framing::sse::{Event, Splitter};
use crate::openai::completion::{CallKind, Delta, FunctionDelta, Logprobs, ToolCallDelta};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// More choices than any model gives: each is looked for among all that have begun.
const MOST_CHOICES: usize = 128;

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Chunks,
    /// What the ids of calls are made of that have none.
    id: String,
    legacy: bool,
    usage: Option<Usage>,
    choices: Vec<Choosing>,
}

/// One of the answers that are coming.
#[derive(Debug)]
struct Choosing {
    index: u32,
    finished: bool,
    calls: Vec<Calling>,
}

/// A call whose arguments may still come.
#[derive(Debug)]
struct Calling {
    /// Its number upstream, which may be the same for all of a message.
    number: u64,
    id: Option<String>,
    has_arguments: bool,
}

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(chat: &ChatRequest<'_>, context: &Context<'_>) -> Answer<Self> {
        let teller = Self {
            chunks: Chunks::new(context, chat.include_usage),
            id: context.id.to_owned(),
            legacy: chat.legacy,
            usage: None,
            choices: Vec::new(),
        };
        Answer::new(Splitter::new(context.max_event), teller)
    }
}

impl Teller for Stream {
    type Framing = Splitter;

    fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken> {
        reply::read(body, &self.id, self.legacy)
    }

    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        if event.is_done() {
            if !self.is_finished() {
                let why = "the upstream's stream was called done without a finish_reason";
                return Err(Broken::Garbled(why.to_owned()));
            }
            self.close(out);
            return Ok(());
        }
        let data = &*event.data;
        let wire: WireEvent<'_> = match serde_json::from_slice(data) {
            Ok(wire) => wire,
            Err(_) if event.name == b"error" => return Err(Broken::said(data)),
            Err(error) => return Err(reply::nonsense(&error, data)),
        };
        if wire.error.is_some() || event.name == b"error" || wire.is_error() {
            return Err(reply::upstream(data));
        }
        let Some(choices) = wire.choices else {
            let why = "the upstream sent an event that is no chunk: it has no choices";
            return Err(Broken::Garbled(why.to_owned()));
        };
        if let Some(id) = wire.id.filter(|id| !id.is_empty()) {
            self.chunks.name(&id);
        }
        self.usage = wire.usage.and_then(WireUsage::usage).or(self.usage);
        choices.into_iter().try_for_each(|choice| self.choice(choice, out))
    }

    /// All but the last event may have come.
    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], out: &mut BytesMut) -> Result<(), Box<Fault>> {
        if read.is_ok() && self.is_finished() {
            self.close(out);
            return Ok(());
        }
        Err(too_early(read, rest, "neither a finish_reason nor [DONE] came"))
    }

    fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        reply::fault(head, body)
    }
}

impl Stream {
    /// Whether there is an answer and each has ended.
    fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished)
    }

    fn choice(&mut self, wire: WireChoice<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        let at = self.place(wire.index.unwrap_or_default())?;
        if self.choices[at].finished {
            return Ok(());
        }
        let mut logprobs = wire.logprobs.map(WireLogprobs::logprobs);
        if let Some(delta) = wire.delta {
            if let Some(content) = delta.content {
                self.content(at, content, &mut logprobs, out)?;
            }
            for call in delta.tool_calls.unwrap_or_default() {
                self.call(at, &call, out)?;
            }
        }
        if let Some(logprobs) = logprobs {
            self.chunks.choice(self.choices[at].index, Delta::default(), Some(&logprobs), out);
        }
        if let Some(reason) = wire.finish_reason {
            let choice = &mut self.choices[at];
            let reason = reply::finish_reason(&reason, !choice.calls.is_empty(), self.legacy)?;
            choice.finished = true;
            let index = choice.index;
            self.complete_calls(at, out);
            self.chunks.reason(index, reason, out);
        }
        Ok(())
    }

    fn place(&mut self, index: u32) -> Result<usize, Broken> {
        if let Some(known) = self.choices.iter().position(|choice| choice.index == index) {
            return Ok(known);
        }
        if self.choices.len() == MOST_CHOICES {
            return Err(Broken::Garbled("the upstream sent more choices than any model gives".to_owned()));
        }
        self.choices.push(Choosing { index, finished: false, calls: Vec::new() });
        Ok(self.choices.len() - 1)
    }

    /// Writes what is said; the first piece takes the probabilities along.
    fn content(
        &mut self,
        at: usize,
        content: &RawValue,
        logprobs: &mut Option<Logprobs>,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        let (index, chunks) = (self.choices[at].index, &mut self.chunks);
        reply::each_piece(content, |piece| {
            let (delta, probabilities) = match piece {
                Piece::Said(text) | Piece::Thought(text) if text.is_empty() => return,
                Piece::Said(text) => (Delta { content: Some(text), ..Delta::default() }, logprobs.take()),
                Piece::Thought(text) => (Delta { reasoning_content: Some(text), ..Delta::default() }, None),
            };
            chunks.choice(index, delta, probabilities.as_ref(), out);
        })
    }

    /// A call that begins, whole or not, or more of its arguments.
    fn call(&mut self, at: usize, call: &WireCall<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        let number = call.index.unwrap_or_default();
        let id = call.id().and_then(Text::decode);
        let calls = &mut self.choices[at].calls;
        let goes_on = |known: &Calling| match (&id, &known.id) {
            (Some(id), Some(known)) => id == known,
            (Some(_), None) => false,
            (None, _) => known.number == number,
        };
        let arguments = call.arguments().filter(|text| !text.is_empty());
        // Without an id, a name that comes again begins the next call.
        let begins_anew = id.is_none() && call.named().is_some();
        if let Some(place) = calls.iter().rposition(goes_on).filter(|_| !begins_anew) {
            let Some(text) = arguments else { return Ok(()) };
            calls[place].has_arguments = true;
            self.tell(at, place, None, text, out);
            return Ok(());
        }
        let Some(name) = call.named() else {
            return Err(Broken::Garbled("the upstream began a tool call without its name".to_owned()));
        };
        let place = calls.len();
        check_room(place)?;
        calls.push(Calling {
            number,
            id: id.as_deref().map(str::to_owned),
            has_arguments: arguments.is_some(),
        });
        let made = id.is_none().then(|| ids::made_of(&self.id, (at * 1000 + place) as u64));
        let id = made.as_deref().map(Text::Plain).or_else(|| call.id()).unwrap_or(Text::Plain(""));
        self.tell(at, place, Some((id, name)), arguments.unwrap_or(Text::Plain("")), out);
        Ok(())
    }

    /// A call that got no arguments has none, which is `{}` and not an empty text.
    fn complete_calls(&mut self, at: usize, out: &mut BytesMut) {
        for place in 0..self.choices[at].calls.len() {
            if !std::mem::replace(&mut self.choices[at].calls[place].has_arguments, true) {
                self.tell(at, place, None, Text::Plain("{}"), out);
            }
        }
    }

    fn tell(
        &mut self,
        at: usize,
        place: usize,
        head: Option<(Text<'_>, Text<'_>)>,
        arguments: Text<'_>,
        out: &mut BytesMut,
    ) {
        let function = FunctionDelta { name: head.map(|(_, name)| name), arguments };
        let delta = if self.legacy {
            if place > 0 {
                return;
            }
            Delta { function_call: Some(function), ..Delta::default() }
        } else {
            let index = u32::try_from(place).unwrap_or(u32::MAX);
            let (id, kind) = (head.map(|(id, _)| id), head.map(|_| CallKind::Function));
            Delta { tool_calls: Some([ToolCallDelta { index, id, kind, function }]), ..Delta::default() }
        };
        self.chunks.choice(self.choices[at].index, delta, None, out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        self.chunks.end(self.usage, out);
    }
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
    #[serde(borrow)]
    choices: Option<Vec<WireChoice<'a>>>,
    #[serde(borrow)]
    usage: Option<WireUsage<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl WireEvent<'_> {
    fn is_error(&self) -> bool {
        self.object.as_deref().is_some_and(|object| object.eq_ignore_ascii_case("error"))
    }
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    index: Option<u32>,
    #[serde(borrow)]
    delta: Option<WireMessage<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    logprobs: Option<WireLogprobs<'a>>,
}
