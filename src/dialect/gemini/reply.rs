//! Gemini's whole answer as a completion.

use std::borrow::Cow;

use super::answer::{Answer, Candidate, Ids, Said};
use crate::dialect::Broken;
use crate::dialect::answer::Reply;
use crate::openai::completion::{Choice, FinishReason, Function, Message};

/// Reads the body of a 200; with `legacy` a call becomes a `function_call`.
pub(super) fn read(body: &[u8], legacy: bool, ids: &mut Ids) -> Result<Reply, Broken> {
    let mut answer = Answer::read(body)?;
    let candidates = answer.candidates.take().unwrap_or_default();
    let mut choices = Vec::with_capacity(candidates.len());
    for (place, candidate) in (0..).zip(candidates) {
        choices.push(choice(candidate, place, legacy, ids)?);
    }
    if choices.is_empty() {
        let Some(words) = answer.blocked() else {
            return Err(Broken::Garbled("the upstream's answer holds no candidates".to_owned()));
        };
        let message = Message { refusal: Some(words), ..Message::default() };
        let finish_reason = FinishReason::ContentFilter;
        choices.push(Choice { index: 0, message, finish_reason, logprobs: None });
    }
    choices.sort_by_key(|choice| choice.index);
    let usage = answer.usage_metadata.and_then(|counts| counts.usage());
    Ok(Reply { id: answer.response_id.map(Cow::into_owned), choices, usage })
}

fn choice(mut candidate: Candidate<'_>, place: u32, legacy: bool, ids: &mut Ids) -> Result<Choice, Broken> {
    let mut message = Message::default();
    for said in candidate.said(ids)? {
        match said {
            Said::Text(text) => message.say(&text.decode().ok_or_else(torn)?),
            Said::Thought(text) => message.think(&text.decode().ok_or_else(torn)?),
            Said::Call { id, name, arguments } => {
                let name = name.decode().ok_or_else(torn)?.into_owned();
                message.call(legacy, id, Function { name, arguments: arguments.into_owned() });
            }
        }
    }
    let Some(finish_reason) = candidate.reason(message.calls(), legacy)? else {
        return Err(Broken::Garbled("the upstream's answer has no finishReason".to_owned()));
    };
    if finish_reason == FinishReason::ContentFilter {
        message.refusal = candidate.finish_message.take().map(Into::into);
    }
    let logprobs = candidate.logprobs();
    Ok(Choice { index: candidate.index.unwrap_or(place), message, finish_reason, logprobs })
}

fn torn() -> Broken {
    Broken::Garbled("the upstream's answer holds an escape that spells half a character".to_owned())
}
