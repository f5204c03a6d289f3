//! What the expressions of an answer gave, as the parts of an OpenAI answer.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ValueKind};

use super::engine::is_nothing;
use super::keys::COUNTS;
use super::tables::{Failed, Leaf, Rules};
use crate::dialect::Broken;
use crate::openai::completion::{CompletionDetails, FinishReason, Function, PromptDetails};
use crate::openai::{Fault, Usage, excerpt};

/// The variables of a whole answer or of one event: its own fields, and `body`, which is all of it.
#[derive(Debug)]
struct Answer {
    body: Value,
    event: Value,
}

impl Object for Answer {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "body" => Some(self.body.clone()),
            "sse_event" => Some(self.event.clone()),
            _ => self.body.get_attr(key).ok().filter(|value| !value.is_undefined()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.body.try_iter().into_iter().flatten().collect())
    }
}

/// The scope of an answer, or of an event that is called `event` (in bytes that may be no text).
pub(super) fn scope(body: Value, event: &[u8]) -> Value {
    let event = if event.is_empty() { Value::UNDEFINED } else { Value::from(String::from_utf8_lossy(event)) };
    Value::from_object(Answer { body, event })
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Self {
        Self::Garbled(failed.to_string())
    }
}

/// The value of a leaf that may be left out.
pub(super) fn get(leaf: Option<&Leaf>, scope: &Value) -> Result<Option<Value>, Failed> {
    let Some(leaf) = leaf else { return Ok(None) };
    leaf.get(scope).map(|value| Some(value).filter(|value| !is_nothing(value)))
}

/// The error that `rules` find in `scope`, whose JSON is `json`.
pub(super) fn error(rules: &Rules, scope: &Value, json: &[u8]) -> Result<Option<Fault>, Failed> {
    let Some(leaf) = &rules.error else { return Ok(None) };
    let found = leaf.get(scope)?;
    if !found.is_true() {
        return Ok(None);
    }
    let fault = Fault::inside(json).unwrap_or_else(|| Fault { status: 502, ..Fault::default() });
    let words = match found.kind() {
        ValueKind::Map => {
            let wrapped = serde_json::json!({ "error": &found });
            Fault::inside(wrapped.to_string().as_bytes()).map(|fault| fault.message)
        }
        _ => None,
    };
    let words = words.unwrap_or_else(|| found.to_string());
    let words = if words.trim().is_empty() || matches!(found.kind(), ValueKind::Bool) {
        "the upstream reported an error without words".to_owned()
    } else {
        words
    };
    let status = get(rules.error_status.as_ref(), scope)?.and_then(|status| count(&status));
    let status =
        status.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    let mut fault = fault.reworded(&words);
    fault.status = status.unwrap_or(fault.status);
    Ok(Some(fault))
}

/// A text; numbers and flags as they are written.
pub(super) fn text<'v>(leaf: &Leaf, value: &'v Value) -> Result<Cow<'v, str>, Failed> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    match value.kind() {
        ValueKind::Number | ValueKind::Bool => Ok(Cow::Owned(value.to_string())),
        kind => Err(leaf.fails(format!("it gave a {kind} where a text must stand"))),
    }
}

/// OpenAI's word for why the answer ended.
pub(super) fn finish_reason(leaf: &Leaf, value: &Value) -> Result<FinishReason, Failed> {
    let word = text(leaf, value)?;
    match word.to_ascii_lowercase().as_str() {
        "stop" | "stop_sequence" | "eos" | "eos_token" | "complete" | "completed" | "finished" => {
            Ok(FinishReason::Stop)
        }
        "length" | "max_length" | "max_tokens" => Ok(FinishReason::Length),
        "tool_calls" | "tool_call" => Ok(FinishReason::ToolCalls),
        "function_call" => Ok(FinishReason::FunctionCall),
        "content_filter" => Ok(FinishReason::ContentFilter),
        _ => {
            let word = excerpt(word.as_bytes());
            let help = "map it to stop, length, tool_calls or content_filter";
            Err(leaf.fails(format!("it gave `{word}`: {help}, as in {{'{word}': 'stop'}}[…]")))
        }
    }
}

/// Whether an answer that ended so may well hold no word. A rule may say `stop` of whatever it does not find.
pub(super) fn explains_silence(reason: Option<FinishReason>) -> bool {
    matches!(reason, Some(FinishReason::Length | FinishReason::ContentFilter))
}

/// A reason that fits an answer with calls: providers without a word of their own for them say that they stopped.
pub(super) fn fitting(reason: Option<FinishReason>, has_calls: bool, legacy: bool) -> FinishReason {
    match reason {
        None | Some(FinishReason::Stop | FinishReason::ToolCalls | FinishReason::FunctionCall)
            if has_calls =>
        {
            if legacy {
                FinishReason::FunctionCall
            } else {
                FinishReason::ToolCalls
            }
        }
        Some(reason) => reason,
        None => FinishReason::Stop,
    }
}

/// The counts of tokens, as far as they have been told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tokens([Option<u64>; 5]);

impl Tokens {
    /// Takes what `rules` find in `scope`; what is not told stays.
    pub(super) fn read(&mut self, rules: &Rules, scope: &Value) -> Result<(), Failed> {
        if let Some(leaf) = &rules.usage.whole
            && let Some(found) = get(Some(leaf), scope)?
        {
            let details =
                |details: &str, name: &str| found.get_attr(details).and_then(|d| d.get_attr(name)).ok();
            for (place, name) in self.0.iter_mut().zip(COUNTS) {
                let value = match *name {
                    "cached_tokens" => details("prompt_tokens_details", name),
                    "reasoning_tokens" => details("completion_tokens_details", name),
                    _ => found.get_attr(name).ok(),
                };
                *place = one(leaf, value.filter(|value| !is_nothing(value)))?.or(*place);
            }
        }
        for (place, leaf) in self.0.iter_mut().zip(&rules.usage.each) {
            if let Some(leaf) = leaf {
                *place = one(leaf, get(Some(leaf), scope)?)?.or(*place);
            }
        }
        Ok(())
    }

    /// The same as OpenAI counts; nothing if nothing was told.
    pub(super) fn usage(&self) -> Option<Usage> {
        let [prompt, completion, total, cached, reasoning] = self.0;
        if prompt.is_none() && completion.is_none() && total.is_none() {
            return None;
        }
        let known = total.unwrap_or_default();
        let prompt_tokens = prompt.unwrap_or_else(|| known.saturating_sub(completion.unwrap_or(known)));
        let completion_tokens = completion.unwrap_or_else(|| known.saturating_sub(prompt_tokens));
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: total.unwrap_or_else(|| prompt_tokens.saturating_add(completion_tokens)),
            prompt_tokens_details: cached.map(PromptDetails::cached),
            completion_tokens_details: reasoning
                .map(|reasoning_tokens| CompletionDetails { reasoning_tokens }),
        })
    }
}

fn one(leaf: &Leaf, value: Option<Value>) -> Result<Option<u64>, Failed> {
    let Some(value) = value else { return Ok(None) };
    count(&value)
        .map(Some)
        .ok_or_else(|| leaf.fails(format!("it gave a {} where a count must stand", value.kind())))
}

/// A number of 0 or more, perhaps written as a text.
fn count(value: &Value) -> Option<u64> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => u64::try_from(value.clone()).ok(),
    }
}

/// One call, or what an event adds to one.
#[derive(Debug)]
pub(super) struct Calling {
    /// The provider's own number for it.
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// JSON text, or a piece of it; empty if there is none.
    pub(super) arguments: String,
}

impl Calling {
    /// The function that is called, with `{}` where there are no arguments.
    pub(super) fn into_function(self) -> Function {
        let arguments = if self.arguments.trim().is_empty() { "{}".to_owned() } else { self.arguments };
        Function { name: self.name.unwrap_or_default(), arguments }
    }
}

/// The calls that a value lists, in OpenAI's shape or flat: `{id, name, arguments}`.
pub(super) fn calls(leaf: &Leaf, value: &Value) -> Result<Vec<Calling>, Failed> {
    let items: Vec<Value> = match value.kind() {
        ValueKind::Map => vec![value.clone()],
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().into_iter().flatten().take(MOST_CALLS).collect()
        }
        kind => return Err(leaf.fails(format!("it gave a {kind} where a list of calls must stand"))),
    };
    items.into_iter().map(|item| call(leaf, &item)).collect()
}

/// More calls than any model makes: a list that is multiplied has no end of its own.
const MOST_CALLS: usize = 1024;

fn call(leaf: &Leaf, item: &Value) -> Result<Calling, Failed> {
    let member = |of: &Value, name: &str| of.get_attr(name).ok().filter(|value| !is_nothing(value));
    let function = member(item, "function").filter(|inner| inner.kind() == ValueKind::Map);
    let function = function.as_ref().unwrap_or(item);
    let words = |value: Option<Value>| value.map(|value| text(leaf, &value).map(Cow::into_owned)).transpose();
    let arguments = match member(function, "arguments") {
        None => String::new(),
        Some(arguments) => match arguments.as_str() {
            Some(text) => text.to_owned(),
            None => serde_json::to_string(&arguments).map_err(|error| leaf.fails(error.to_string()))?,
        },
    };
    let index = member(item, "index").and_then(|index| count(&index));
    let (id, name) = (words(member(item, "id"))?, words(member(function, "name"))?);
    if name.is_none() && index.is_none() {
        return Err(
            leaf.fails("a call in it has no `name`: pick(name='…', arguments='…') gives it the right fields")
        );
    }
    Ok(Calling { index, id, name, arguments })
}

/// An id for the call number `number`, where the provider gives none.
pub(super) fn call_id(answer: &str, number: usize) -> String {
    format!("call_{}_{number}", answer.strip_prefix("chatcmpl-").unwrap_or(answer))
}
