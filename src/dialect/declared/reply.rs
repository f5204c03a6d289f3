//! A whole answer, as the rules of `response` find its parts.

use std::borrow::Cow;

use minijinja::Value;

use super::tables::{Leaf, Rules};
use super::tree;
use super::values::{self, Tokens};
use crate::dialect::Broken;
use crate::openai::completion::{CallKind, Choice, Message, ToolCall};
use crate::openai::excerpt;

/// What an answer says.
#[derive(Debug)]
pub(super) struct Reply {
    /// The provider's id, if there is one.
    pub(super) id: Option<String>,
    /// The answer.
    pub(super) choice: Choice,
    /// What it cost, as far as that is told.
    pub(super) tokens: Tokens,
}

/// Reads the body of a 200 to the request that is called `id`; with `legacy` a call becomes a `function_call`.
pub(super) fn read(rules: &Rules, body: &[u8], id: &str, legacy: bool) -> Result<Reply, Broken> {
    let scope = values::scope(parse(body)?, b"");
    if let Some(fault) = values::error(rules, &scope, body)? {
        return Err(Broken::Upstream(Box::new(fault)));
    }
    let words = |leaf: &Option<Leaf>| -> Result<Option<String>, Broken> {
        let (Some(leaf), Some(value)) = (leaf, values::get(leaf.as_ref(), &scope)?) else { return Ok(None) };
        Ok(Some(values::text(leaf, &value).map(Cow::into_owned)?))
    };
    let mut message = Message {
        content: words(&rules.content)?,
        reasoning_content: words(&rules.reasoning)?,
        refusal: words(&rules.refusal)?,
        ..Message::default()
    };
    let has_calls = add_calls(rules, &scope, (id, legacy), &mut message)?;
    let reason = match (&rules.finish_reason, values::get(rules.finish_reason.as_ref(), &scope)?) {
        (Some(leaf), Some(value)) => Some(values::finish_reason(leaf, &value)?),
        _ => None,
    };
    // A filter may make an empty text of a field that is not there.
    let is_found =
        |text: &String| !text.is_empty() || rules.content.as_ref().is_none_or(|leaf| leaf.finds(&scope));
    let thinks = message.reasoning_content.as_ref().is_some_and(|text| !text.is_empty());
    let says = message.content.as_ref().is_some_and(is_found) || message.refusal.is_some() || has_calls;
    if !says && !thinks && !values::explains_silence(reason) {
        return Err(nothing_said(rules, body));
    }
    let mut tokens = Tokens::default();
    tokens.read(rules, &scope)?;
    let finish_reason = values::fitting(reason, has_calls, legacy);
    let choice = Choice { index: 0, message, finish_reason, logprobs: None };
    Ok(Reply { id: words(&rules.id)?.filter(|id| !id.is_empty()), choice, tokens })
}

/// The value that JSON spells.
pub(super) fn parse(json: &[u8]) -> Result<Value, Broken> {
    tree::parse(json).map_err(|error| {
        let what = if error.is_eof() { "ends in the middle of its JSON" } else { "is no JSON" };
        Broken::Garbled(format!("what the upstream sent {what} ({error}): {}", excerpt(json)))
    })
}

fn add_calls(
    rules: &Rules,
    scope: &Value,
    (id, legacy): (&str, bool),
    message: &mut Message,
) -> Result<bool, Broken> {
    let (Some(leaf), Some(value)) = (&rules.tool_calls, values::get(rules.tool_calls.as_ref(), scope)?)
    else {
        return Ok(false);
    };
    for (number, call) in values::calls(leaf, &value)?.into_iter().enumerate() {
        if legacy {
            message.function_call.get_or_insert_with(|| call.into_function());
        } else {
            let id = call.id.clone().unwrap_or_else(|| values::call_id(id, number));
            message.tool_calls.push(ToolCall {
                id,
                kind: CallKind::Function,
                function: call.into_function(),
            });
        }
    }
    Ok(message.function_call.is_some() || !message.tool_calls.is_empty())
}

/// An answer in which the rules find no text is not what they were written for: it must not pass as an empty one.
fn nothing_said(rules: &Rules, body: &[u8]) -> Broken {
    let why = format!("it found nothing in the upstream's answer: {}", excerpt(body));
    match rules.content.as_ref().or(rules.tool_calls.as_ref()) {
        Some(leaf) => leaf.fails(why).into(),
        None => Broken::Garbled(why),
    }
}
