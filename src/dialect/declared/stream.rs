//! A streamed answer, event by event, as the rules of `stream` find its parts; and a whole one as a stream, where a
//! provider has none.

use std::sync::Arc;

use bytes::BytesMut;
use minijinja::Value;

use super::reply;
use super::tables::{Framing, Leaf, Tables};
use super::values::{self, Calling, Tokens};
use crate::dialect::calls;
use crate::dialect::chunks::{self, Chunks};
use crate::dialect::{Broken, Context, End, Outcome};
use crate::framing::{json_array, ndjson, sse};
use crate::openai::completion::{CallKind, Delta, FinishReason, FunctionDelta, Message, ToolCallDelta};
use crate::openai::json::Text;
use crate::openai::{Fault, Usage};

/// One stream that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    tables: Arc<Tables>,
    source: Source,
    state: State,
}

/// Where events end.
#[derive(Debug)]
enum Source {
    Sse(sse::Splitter),
    Lines(ndjson::Splitter),
    Array(json_array::Splitter),
    /// The provider answers whole: nothing is told before all of it is there.
    Whole {
        body: BytesMut,
        most: usize,
    },
}

/// What has come so far.
#[derive(Debug)]
struct State {
    chunks: Chunks,
    id: String,
    legacy: bool,
    tokens: Tokens,
    /// The provider's own number of each call, and whether it has got arguments.
    calls: Vec<(Option<u64>, bool)>,
    reason: Option<FinishReason>,
    /// Whether an event had anything that the rules look for.
    found: bool,
    end: Option<Outcome>,
}

impl Stream {
    pub(super) fn new(tables: Arc<Tables>, context: &Context<'_>, include_usage: bool, legacy: bool) -> Self {
        let most = context.max_event;
        let source = match tables.stream {
            Some((Framing::Sse, _)) => Source::Sse(sse::Splitter::new(most)),
            Some((Framing::Lines, _)) => Source::Lines(ndjson::Splitter::new(most)),
            Some((Framing::Array, _)) => Source::Array(json_array::Splitter::new(most)),
            None => Source::Whole { body: BytesMut::new(), most },
        };
        let state = State {
            chunks: Chunks::new(context, include_usage),
            id: context.id.to_owned(),
            legacy,
            tokens: Tokens::default(),
            calls: Vec::new(),
            reason: None,
            found: false,
            end: None,
        };
        Self { tables, source, state }
    }

    pub(super) fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        if self.state.end.is_some() {
            return Ok(());
        }
        let Self { tables, source, state } = self;
        let too_long = |error: crate::framing::TooLong| Broken::Garbled(error.to_string());
        match source {
            Source::Sse(splitter) => {
                let complete = splitter.push(input).map_err(too_long)?;
                state.events(tables, &complete, out)
            }
            Source::Lines(splitter) => {
                let complete = splitter.push(input).map_err(too_long)?;
                state.lines(tables, &complete, out)
            }
            Source::Array(splitter) => {
                splitter.push(input);
                state.elements(tables, splitter, out)
            }
            Source::Whole { body, most } => {
                if body.len() + input.len() > *most {
                    return Err(too_long(crate::framing::TooLong(*most)));
                }
                body.extend_from_slice(input);
                Ok(())
            }
        }
    }

    pub(super) fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        if let Some(outcome) = &self.state.end {
            return outcome.clone();
        }
        let outcome = match end {
            End::Broken(fault) => {
                chunks::fail(fault, out);
                Outcome::Failed(fault.message.clone())
            }
            End::Clean => match self.finish_cleanly(out) {
                Ok(()) => Outcome::Complete,
                Err(fault) => return Outcome::Unfinished(fault),
            },
        };
        self.state.end = Some(outcome.clone());
        outcome
    }

    pub(super) fn is_done(&self) -> bool {
        self.state.end == Some(Outcome::Complete)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.state.tokens.usage()
    }

    /// The upstream closed: complete if a reason was told, or where the end of its framing is all that tells it.
    fn finish_cleanly(&mut self, out: &mut BytesMut) -> Result<(), Box<Fault>> {
        let Self { tables, source, state } = self;
        let (rest, read) = match source {
            Source::Sse(splitter) => {
                let rest = splitter.rest();
                let read = state.events(tables, &rest, out);
                (rest, read)
            }
            Source::Lines(splitter) => {
                let rest = splitter.rest();
                let read = state.lines(tables, &rest, out);
                (rest, read)
            }
            Source::Array(splitter) => {
                let tells = tables
                    .stream
                    .as_ref()
                    .is_some_and(|(_, r)| r.finish_reason.is_some() || r.done.is_some());
                if splitter.is_closed() && !splitter.is_bare() && !tells {
                    state.reason.get_or_insert(FinishReason::Stop);
                }
                (BytesMut::new(), Ok(()))
            }
            Source::Whole { body, .. } => {
                let body = std::mem::take(body);
                return state.whole(tables, &body, out).map_err(told);
            }
        };
        if state.end.is_some() {
            return Ok(());
        }
        match read {
            Ok(()) if state.reason.is_some() => state.close(tables, out).map_err(told),
            Err(Broken::Upstream(fault)) => Err(fault),
            Ok(()) => Err(bare_error(tables, &rest, EARLY)),
            Err(Broken::Garbled(words)) => Err(bare_error(tables, &rest, &words)),
        }
    }
}

/// Why a stream ended early: some gateways answer a request for a stream with an error's bare JSON.
fn bare_error(tables: &Tables, rest: &[u8], otherwise: &str) -> Box<Fault> {
    let rest = rest.trim_ascii();
    let scope = reply::parse(rest).map(|body| values::scope(body, b""));
    let declared = scope.ok().and_then(|scope| {
        let stream = tables.stream.iter().map(|(_, rules)| rules);
        stream.chain([&tables.response]).find_map(|rules| values::error(rules, &scope, rest).ok().flatten())
    });
    Box::new(declared.or_else(|| Fault::inside(rest)).unwrap_or_else(|| Fault::garbled(otherwise)))
}

const EARLY: &str = "the upstream's stream ended early: nothing had told of its end";

fn told(broken: Broken) -> Box<Fault> {
    match broken {
        Broken::Upstream(fault) => fault,
        Broken::Garbled(words) => Box::new(Fault::garbled(words)),
    }
}

impl State {
    fn events(&mut self, tables: &Tables, bytes: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        for event in sse::Events::new(bytes) {
            if event.is_done() {
                self.close(tables, out)?;
            } else if !event.data.trim_ascii().is_empty() {
                self.event(tables, &event.data, event.name, out)?;
            }
            if self.end.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn lines(&mut self, tables: &Tables, bytes: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        for line in ndjson::lines(bytes) {
            self.event(tables, line, b"", out)?;
            if self.end.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn elements(
        &mut self,
        tables: &Tables,
        splitter: &mut json_array::Splitter,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        while let Some(element) = splitter.pop().map_err(|error| Broken::Garbled(error.to_string()))? {
            self.event(tables, &element, b"", out)?;
            if self.end.is_some() {
                break;
            }
            if splitter.is_bare() {
                let shown = reply::shown(&element);
                return Err(Broken::Garbled(format!(
                    "the upstream sent an object where an array was due: {shown}"
                )));
            }
        }
        Ok(())
    }

    fn event(&mut self, tables: &Tables, json: &[u8], name: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        let Some((_, rules)) = &tables.stream else { return Ok(()) };
        let scope = values::scope(reply::parse(json)?, name);
        let errors = if rules.error.is_some() { rules } else { &tables.response };
        if let Some(fault) = values::error(errors, &scope, json)? {
            return Err(Broken::Upstream(Box::new(fault)));
        }
        if let (Some(leaf), Some(id)) = (&rules.id, values::get(rules.id.as_ref(), &scope)?) {
            self.chunks.name(&values::text(leaf, &id)?);
        }
        self.say(
            &rules.reasoning,
            &scope,
            |text| Delta { reasoning_content: Some(text), ..Delta::default() },
            out,
        )?;
        self.say(&rules.content, &scope, |text| Delta { content: Some(text), ..Delta::default() }, out)?;
        self.say(&rules.refusal, &scope, |text| Delta { refusal: Some(text), ..Delta::default() }, out)?;
        if let (Some(leaf), Some(value)) =
            (&rules.tool_calls, values::get(rules.tool_calls.as_ref(), &scope)?)
        {
            for call in values::calls(leaf, &value)? {
                self.call(call, out)?;
            }
        }
        self.tokens.read(rules, &scope)?;
        if let (Some(leaf), Some(value)) =
            (&rules.finish_reason, values::get(rules.finish_reason.as_ref(), &scope)?)
        {
            self.reason = Some(values::finish_reason(leaf, &value)?);
        }
        if values::get(rules.done.as_ref(), &scope)?.is_some_and(|done| done.is_true()) {
            self.close(tables, out)?;
        }
        Ok(())
    }

    fn say(
        &mut self,
        leaf: &Option<Leaf>,
        scope: &Value,
        delta: impl FnOnce(Text<'_>) -> Delta<'_>,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        self.found = self.found || leaf.as_ref().is_some_and(|leaf| leaf.finds(scope));
        if let (Some(leaf), Some(value)) = (leaf, values::get(leaf.as_ref(), scope)?) {
            let text = values::text(leaf, &value)?;
            if !text.is_empty() {
                self.chunks.delta(delta(Text::Plain(&text)), out);
            }
        }
        Ok(())
    }

    /// Tells of a call, or what is new of it: calls that carry a number of the provider's own come in pieces.
    fn call(&mut self, call: Calling, out: &mut BytesMut) -> Result<(), Broken> {
        let known = call.index.and_then(|index| self.calls.iter().position(|(own, _)| *own == Some(index)));
        let at = known.unwrap_or(self.calls.len());
        let is_new = known.is_none();
        if is_new {
            calls::check_room(self.calls.len())?;
            self.calls.push((call.index, false));
        }
        self.calls[at].1 |= !call.arguments.trim().is_empty();
        let id = is_new.then(|| call.id.unwrap_or_else(|| values::call_id(&self.id, at)));
        let name = is_new.then(|| call.name.unwrap_or_default());
        if is_new || !call.arguments.is_empty() {
            self.piece(at, id.as_deref().zip(name.as_deref()), &call.arguments, out);
        }
        Ok(())
    }

    fn piece(&mut self, at: usize, head: Option<(&str, &str)>, arguments: &str, out: &mut BytesMut) {
        let name = head.map(|(_, name)| Text::Plain(name));
        let function = FunctionDelta { name, arguments: Text::Plain(arguments) };
        let delta = if self.legacy {
            Delta { function_call: Some(function), ..Delta::default() }
        } else {
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            let (id, kind) = (head.map(|(id, _)| Text::Plain(id)), head.map(|_| CallKind::Function));
            Delta { tool_calls: Some([ToolCallDelta { index, id, kind, function }]), ..Delta::default() }
        };
        self.chunks.delta(delta, out);
    }

    /// A whole answer, told as a stream that has all of it in a few chunks.
    fn whole(&mut self, tables: &Tables, body: &[u8], out: &mut BytesMut) -> Result<(), Broken> {
        let reply = reply::read(&tables.response, body, &self.id, self.legacy)?;
        let Message { content, refusal, reasoning_content, tool_calls, function_call, .. } =
            reply.choice.message;
        if let Some(id) = &reply.id {
            self.chunks.name(id);
        }
        let mut say = |text: Option<String>, delta: fn(Text<'_>) -> Delta<'_>| {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.chunks.delta(delta(Text::Plain(&text)), out);
            }
        };
        say(reasoning_content, |text| Delta { reasoning_content: Some(text), ..Delta::default() });
        say(content, |text| Delta { content: Some(text), ..Delta::default() });
        say(refusal, |text| Delta { refusal: Some(text), ..Delta::default() });
        for (at, call) in tool_calls.iter().enumerate() {
            self.piece(at, Some((&call.id, &call.function.name)), &call.function.arguments, out);
        }
        if let Some(function) = &function_call {
            self.piece(0, Some(("", &function.name)), &function.arguments, out);
        }
        self.reason = Some(reply.choice.finish_reason);
        self.tokens = reply.tokens;
        self.found = true;
        self.close(tables, out)
    }

    /// Ends the stream well. One in which the rules found nothing is not what they were written for: it must not pass
    /// as an empty answer.
    fn close(&mut self, tables: &Tables, out: &mut BytesMut) -> Result<(), Broken> {
        let is_blank =
            !self.found && self.calls.is_empty() && self.reason != Some(FinishReason::ContentFilter);
        if let Some(leaf) =
            tables.stream.as_ref().and_then(|(_, rules)| rules.content.as_ref()).filter(|_| is_blank)
        {
            return Err(leaf.fails("it found nothing in any event of the upstream's stream").into());
        }
        for at in 0..self.calls.len() {
            if !self.calls[at].1 {
                self.piece(at, None, "{}", out);
            }
        }
        let reason = values::fitting(self.reason, !self.calls.is_empty(), self.legacy);
        self.chunks.reason(0, reason, out);
        match self.tokens.usage() {
            Some(usage) => self.chunks.end(usage, out),
            // Counts that nobody told are not made up.
            None => sse::done(out),
        }
        self.end = Some(Outcome::Complete);
        Ok(())
    }
}
