//! A streamed answer, event by event, as the rules of `stream` find its parts; and a whole one as a stream, where a
//! provider has none.

use std::sync::Arc;

use bytes::BytesMut;
use minijinja::Value;

use super::reply::{self, Reply};
use super::source::{Event, Source};
use super::tables::{Framing, Leaf, Tables};
use super::values::{self, Calling, Tokens};
use crate::dialect::answer::{self, Answer, Teller};
use crate::dialect::calls;
use crate::dialect::chunks::Chunks;
use crate::dialect::{Broken, Context, Head};
use crate::openai::completion::{CallKind, Delta, FinishReason, FunctionDelta, Message, ToolCallDelta};
use crate::openai::json::Text;
use crate::openai::{Fault, Usage};

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    tables: Arc<Tables>,
    state: State,
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
}

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(
        tables: Arc<Tables>,
        context: &Context<'_>,
        include_usage: bool,
        legacy: bool,
    ) -> Answer<Self> {
        let state = State {
            chunks: Chunks::new(context, include_usage),
            id: context.id.to_owned(),
            legacy,
            tokens: Tokens::default(),
            calls: Vec::new(),
            reason: None,
            found: false,
        };
        let framing = tables.stream.as_ref().map(|(framing, _)| *framing);
        Answer::new(Source::new(framing, context.max_event), Self { tables, state })
    }
}

impl Teller for Stream {
    type Framing = Source;

    fn whole(&mut self, body: &[u8]) -> Result<answer::Reply, Broken> {
        let Reply { id, choice, tokens } =
            reply::read(&self.tables.response, body, &self.state.id, self.state.legacy)?;
        Ok(answer::Reply::one(id, choice, tokens.usage()))
    }

    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        let Self { tables, state } = self;
        match event {
            Event::Json { json, name } => state.event(tables, json, name, out),
            Event::Done => state.close(tables, out),
            Event::Closed => {
                let rules = tables.stream.as_ref().map(|(_, rules)| rules);
                if !rules.is_some_and(|rules| rules.finish_reason.is_some() || rules.done.is_some()) {
                    state.reason.get_or_insert(FinishReason::Stop);
                }
                Ok(())
            }
            Event::Whole(body) => state.whole(tables, body, out),
        }
    }

    /// Complete if a reason was told, or where the end of its framing is all that tells it.
    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], out: &mut BytesMut) -> Result<(), Box<Fault>> {
        let Self { tables, state } = self;
        match read {
            Ok(()) if state.reason.is_some() => state.close(tables, out).map_err(told),
            Err(Broken::Upstream(fault)) => Err(fault),
            Ok(()) => Err(bare_error(tables, rest, EARLY)),
            Err(Broken::Garbled(words)) => Err(bare_error(tables, rest, &words)),
        }
    }

    fn chunks(&self) -> &Chunks {
        &self.state.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.state.tokens.usage()
    }

    /// Lines and arrays are JSON, and so is the whole answer of a provider that does not stream.
    fn may_stream_as(&self, kind: &str) -> bool {
        let is_sse = matches!(self.tables.stream, Some((Framing::Sse, _)));
        !is_sse && matches!(kind, "application/json" | "text/plain")
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        let fault = Fault::read(head.status, head.headers, body);
        let Ok(value) = reply::parse(body) else { return fault };
        let scope = values::scope(value, b"");
        match values::error(&self.tables.response, &scope, body) {
            Ok(Some(told)) => fault.reworded(&told.message),
            // What does not find its words must not hide that there was an error.
            Ok(None) | Err(_) => fault,
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
        let is_blank = !self.found && self.calls.is_empty() && !values::explains_silence(self.reason);
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
        // Counts that nobody told are not made up.
        self.chunks.end(self.tokens.usage(), out);
        Ok(())
    }
}
