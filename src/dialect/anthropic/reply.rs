//! Anthropic's whole answer as a completion; its counts and stop reasons serve the stream too.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Broken;
use crate::dialect::answer::Reply;
use crate::dialect::calls;
use crate::openai::Usage;
use crate::openai::completion::{Choice, CompletionDetails, FinishReason, Function, Message, PromptDetails};

/// Reads the body of a 200; with `legacy` a call becomes a `function_call`.
pub(super) fn read(body: &[u8], legacy: bool) -> Result<Reply, Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| garbled(&e, body))?;
    if wire.error.is_some() || wire.kind.as_deref() == Some("error") {
        return Err(Broken::told(body));
    }
    let (Some(content), Some(reason)) = (wire.content, wire.stop_reason) else {
        let why = "the upstream's answer is no message of Anthropic's: it has no content or no stop_reason";
        return Err(Broken::Garbled(why.to_owned()));
    };
    let mut message = Message::default();
    for block in content {
        add(&block, legacy, &mut message)?;
    }
    message.refusal = wire.stop_details.and_then(|details| details.explanation).map(Cow::into_owned);
    let finish_reason = finish_reason(&reason, legacy).having(message.calls(), legacy);
    let choice = Choice { index: 0, message, finish_reason, logprobs: None };
    let mut tokens = Tokens::default();
    tokens.add(wire.usage);
    Ok(Reply::one(wire.id.map(Cow::into_owned), choice, tokens.usage()))
}

fn add(block: &WireBlock<'_>, legacy: bool, message: &mut Message) -> Result<(), Broken> {
    match &*block.kind {
        "text" => message.say(&text(block.text)?),
        "thinking" => message.think(&text(block.thinking)?),
        "tool_use" => {
            let (id, name) = called(block.id, block.name)?;
            let function = Function { name, arguments: calls::input(block.input)?.to_owned() };
            message.call(legacy, id, function);
        }
        _ => {}
    }
    Ok(())
}

/// The id and the name of a call, neither of which a client can do without.
pub(super) fn called<'a, T: Deserialize<'a>>(
    id: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
) -> Result<(T, T), Broken> {
    match (parse(id)?, parse(name)?) {
        (Some(id), Some(name)) => Ok((id, name)),
        _ => Err(Broken::Garbled("the upstream began a tool call without its id or name".to_owned())),
    }
}

/// Reads what an answer or an event holds.
pub(super) fn parse<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<T, Broken> {
    let json = raw.map_or("null", RawValue::get);
    serde_json::from_str(json).map_err(|e| garbled(&e, json.as_bytes()))
}

fn text(raw: Option<&RawValue>) -> Result<String, Broken> {
    Ok(parse::<Option<String>>(raw)?.unwrap_or_default())
}

/// OpenAI's word for a stop reason; with `legacy` for a client of `functions`. Servers that speak Anthropic's format say
/// `end_turn` behind calls too, so it counts only together with [`FinishReason::having`].
pub(super) fn finish_reason(reason: &str, legacy: bool) -> FinishReason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" if legacy => FinishReason::FunctionCall,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}

/// What makes no sense, with its first characters.
pub(super) fn garbled(error: &serde_json::Error, data: &[u8]) -> Broken {
    Broken::nonsense("Anthropic", error, data)
}

/// Anthropic's counts, as far as they have been told; each event of a stream may tell more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tokens {
    told: bool,
    fresh: u64,
    cache_written: Option<u64>,
    cache_read: u64,
    output: u64,
    thought: Option<u64>,
}

impl Tokens {
    /// Takes what `usage` tells now; what is not told stays. What is no count tells nothing: an answer is worth more than
    /// what it cost.
    pub(super) fn add(&mut self, usage: Option<&RawValue>) {
        let Some(wire) = usage.and_then(|raw| serde_json::from_str::<WireUsage<'_>>(raw.get()).ok()) else {
            return;
        };
        let count = |raw: Option<&RawValue>| raw?.get().parse().ok();
        let told = &mut self.told;
        let mut set = |place: &mut u64, count: Option<u64>| {
            *told |= count.is_some();
            *place = count.unwrap_or(*place);
        };
        set(&mut self.fresh, count(wire.input_tokens));
        set(&mut self.cache_read, count(wire.cache_read_input_tokens));
        set(&mut self.output, count(wire.output_tokens));
        let written = count(wire.cache_creation_input_tokens);
        *told |= written.is_some();
        self.cache_written = written.or(self.cache_written);
        let details = wire.output_tokens_details.map(|raw| serde_json::from_str::<WireOutput>(raw.get()));
        self.thought = details.and_then(Result::ok).and_then(|d| d.thinking_tokens).or(self.thought);
    }

    /// The same as OpenAI counts, if anything was counted: the prompt is everything that was read, from the cache or not.
    pub(super) fn usage(&self) -> Option<Usage> {
        if !self.told {
            return None;
        }
        let written = self.cache_written.unwrap_or_default();
        let prompt_tokens = self.fresh.saturating_add(written).saturating_add(self.cache_read);
        Some(Usage {
            prompt_tokens,
            completion_tokens: self.output,
            total_tokens: prompt_tokens.saturating_add(self.output),
            prompt_tokens_details: Some(PromptDetails {
                cached_tokens: self.cache_read,
                cache_write_tokens: self.cache_written,
            }),
            completion_tokens_details: self
                .thought
                .map(|reasoning_tokens| CompletionDetails { reasoning_tokens }),
        })
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<Vec<WireBlock<'a>>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_details: Option<WireDetails<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Any block: what is not needed for its kind is not read, so that new kinds may hold what they like.
#[derive(Deserialize)]
struct WireBlock<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// Why an answer was refused.
#[derive(Deserialize)]
pub(super) struct WireDetails<'a> {
    /// In words.
    #[serde(borrow)]
    pub(super) explanation: Option<Cow<'a, str>>,
}

/// Anthropic's counts as they stand in one answer or event.
#[derive(Deserialize)]
struct WireUsage<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireOutput {
    thinking_tokens: Option<u64>,
}
