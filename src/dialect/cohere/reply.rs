//! Cohere's whole answer as a completion; its counts, log probabilities and finish reasons serve the stream too.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Broken;
use crate::dialect::answer::Reply;
use crate::openai::completion::{
    Choice, FinishReason, Function, Logprobs, Message, PromptDetails, TokenLogprob,
};
use crate::openai::{Fault, Usage};

/// Reads the body of a 200; with `legacy` a call becomes a `function_call`.
pub(super) fn read(body: &[u8], legacy: bool) -> Result<Reply, Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| garbled(&e, body))?;
    let (Some(said), Some(reason)) = (wire.message, wire.finish_reason) else {
        let why = "the upstream's answer is none of Cohere's: it has no message or no finish_reason";
        return Err(Fault::inside(body)
            .map_or_else(|| Broken::Garbled(why.to_owned()), |fault| Broken::Upstream(Box::new(fault))));
    };
    let said: WireMessage<'_> = serde_json::from_str(said.get()).map_err(|e| garbled(&e, body))?;
    let finish_reason = finish_reason(&reason, None, legacy)?;
    let message = message(said, legacy)?;
    let finish_reason = finish_reason.having(message.calls(), legacy);
    let logprobs = wire.logprobs.map(|items| logprobs(items.into_iter()));
    let choice = Choice { index: 0, message, finish_reason, logprobs };
    Ok(Reply::one(wire.id.map(Cow::into_owned), choice, wire.usage.and_then(|usage| usage.usage())))
}

fn message(said: WireMessage<'_>, legacy: bool) -> Result<Message, Broken> {
    let mut message = Message::default();
    if let Some(plan) = said.tool_plan.filter(|plan| !plan.is_empty()) {
        message.think(&plan);
    }
    for block in said.content.into_iter().flatten() {
        block.thinking.into_iter().for_each(|text| message.think(&text));
        block.text.into_iter().for_each(|text| message.say(&text));
    }
    for call in said.tool_calls.into_iter().flatten() {
        let function = call.function.unwrap_or_default();
        let (Some(id), Some(name)) = (call.id, function.name) else {
            return Err(Broken::Garbled("the upstream made a tool call without its id or name".to_owned()));
        };
        let arguments = function.arguments.filter(|text| !text.trim().is_empty());
        let arguments = arguments.map_or_else(|| "{}".to_owned(), Cow::into_owned);
        message.call(legacy, id.into_owned(), Function { name: name.into_owned(), arguments });
    }
    Ok(message)
}

/// OpenAI's word for a finish reason; with `legacy` for a client of `functions`. An answer that failed is an error,
/// in the words `told` if there are any. Behind calls it may be `COMPLETE` too, so it counts only together with
/// [`FinishReason::having`].
pub(super) fn finish_reason(reason: &str, told: Option<&str>, legacy: bool) -> Result<FinishReason, Broken> {
    let (status, words) = match reason {
        "MAX_TOKENS" | "ERROR_LIMIT" => return Ok(FinishReason::Length),
        "TOOL_CALL" if legacy => return Ok(FinishReason::FunctionCall),
        "TOOL_CALL" => return Ok(FinishReason::ToolCalls),
        "ERROR_TOXIC" => return Ok(FinishReason::ContentFilter),
        "TIMEOUT" => (504, "the model took longer than the provider allows (finish_reason TIMEOUT)"),
        "ERROR" => (502, "the model failed inside its answer (finish_reason ERROR)"),
        "USER_CANCEL" => (502, "the answer was cancelled (finish_reason USER_CANCEL)"),
        _ => return Ok(FinishReason::Stop),
    };
    let message = told.filter(|told| !told.trim().is_empty()).unwrap_or(words).to_owned();
    Err(Broken::Upstream(Box::new(Fault { status, message, ..Fault::default() })))
}

/// What makes no sense, with its first characters.
pub(super) fn garbled(error: &serde_json::Error, data: &[u8]) -> Broken {
    Broken::nonsense("Cohere", error, data)
}

/// Cohere's log probabilities as OpenAI's.
///
/// A text of several tokens (a character of several bytes) stands with the first of them; the others have their
/// numbers and no text, so that the texts still add up to the answer and no number is lost.
pub(super) fn logprobs<'a>(items: impl Iterator<Item = WireLogprob<'a>>) -> Logprobs {
    let mut content = Vec::new();
    for item in items {
        let mut text = item.text.unwrap_or_default();
        for logprob in item.logprobs.unwrap_or_default() {
            let token = std::mem::take(&mut text).into_owned();
            let bytes = Some(token.as_bytes().to_vec());
            content.push(TokenLogprob { token, bytes, logprob, top_logprobs: Vec::new() });
        }
    }
    Logprobs { content: Some(content), refusal: None }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    /// An object, or the words of an error.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    logprobs: Option<Vec<WireLogprob<'a>>>,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    content: Option<Vec<WireBlock<'a>>>,
    #[serde(borrow)]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<WireCall<'a>>>,
}

#[derive(Deserialize)]
struct WireBlock<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<WireFunction<'a>>,
}

#[derive(Default, Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Cow<'a, str>>,
}

/// How likely the tokens of one text were.
#[derive(Debug, Deserialize)]
pub(super) struct WireLogprob<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    logprobs: Option<Vec<f64>>,
}

/// Cohere's counts. What is billed leaves out what Cohere puts around the messages itself; what OpenAI counts, and
/// what fills the model's context, is all that was read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    tokens: Option<WireCounts>,
    billed_units: Option<WireCounts>,
    cached_tokens: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct WireCounts {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

impl WireUsage {
    /// The same as OpenAI counts, if anything was counted.
    pub(super) fn usage(&self) -> Option<Usage> {
        let count = |of: fn(&WireCounts) -> Option<f64>| {
            self.tokens.as_ref().and_then(of).or_else(|| self.billed_units.as_ref().and_then(of))
        };
        let (prompt, completion) =
            (count(|counts| counts.input_tokens), count(|counts| counts.output_tokens));
        prompt.or(completion)?;
        let (prompt_tokens, completion_tokens) = (whole(prompt), whole(completion));
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: self
                .cached_tokens
                .map(|cached| PromptDetails::cached(whole(Some(cached)))),
            completion_tokens_details: None,
        })
    }
}

/// Cohere counts in floating-point numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
fn whole(count: Option<f64>) -> u64 {
    count.unwrap_or_default() as u64
}
