//! Converse's whole answer as a completion; its counts and stop reasons serve the stream too.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Telling, form};
use crate::dialect::Broken;
use crate::dialect::answer::Reply;
use crate::dialect::calls;
use crate::openai::completion::{Choice, FinishReason, Function, Message, PromptDetails};
use crate::openai::{Fault, Usage};

/// Reads the body of a 200.
pub(super) fn read(body: &[u8], telling: Telling) -> Result<Reply, Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| garbled(&e, body))?;
    let (Some(output), Some(reason)) = (wire.output, wire.stop_reason) else {
        return Err(match Fault::inside(body) {
            Some(fault) => Broken::Upstream(Box::new(fault)),
            None => {
                let why = "the upstream's answer is none of Converse's: it has no output or no stopReason";
                Broken::Garbled(why.to_owned())
            }
        });
    };
    let mut message = Message::default();
    let mut answered = false;
    for block in output.message.map(|message| message.content).unwrap_or_default() {
        add(block, telling, &mut answered, &mut message)?;
    }
    let finish_reason = finish_reason(&reason, telling, message.calls(), answered)?;
    let choice = Choice { index: 0, message, finish_reason, logprobs: None };
    Ok(Reply::one(None, choice, wire.usage.and_then(WireUsage::usage)))
}

/// Adds a block; `answered` tells whether the call that is the answer's text has come.
fn add(
    block: WireBlock<'_>,
    telling: Telling,
    answered: &mut bool,
    message: &mut Message,
) -> Result<(), Broken> {
    if block.image.or(block.audio).or(block.video).is_some() {
        return Err(Broken::homeless(MEDIA));
    }
    if let Some(text) = block.text {
        message.say(&text);
    }
    if let Some(thought) = block.reasoning.and_then(|reasoning| reasoning.text).and_then(|text| text.text) {
        message.think(&thought);
    }
    for cited in block.citations.map(|citations| citations.content).unwrap_or_default() {
        message.say(&cited.text.unwrap_or_default());
    }
    let Some(call) = block.tool_use.filter(|call| !call.is_theirs()) else { return Ok(()) };
    let arguments = calls::input(call.input)?;
    if telling.is_answer(&call.name) {
        // A model that is made to call may do so twice; two JSON texts in a row are none.
        if !std::mem::replace(answered, true) {
            message.say(arguments);
        }
        return Ok(());
    }
    let function = Function { name: call.name.into_owned(), arguments: arguments.to_owned() };
    message.call(telling.legacy, call.id.into_owned(), function);
    Ok(())
}

/// What models that draw or speak answer with.
pub(super) const MEDIA: &str = "an image, a sound or a film";

impl Telling {
    /// Whether the call of `name` is the answer's text.
    pub(super) fn is_answer(self, name: &str) -> bool {
        self.by_tool && name == form::TOOL
    }
}

/// OpenAI's word for a stop reason. `called`: the client is told of calls; `answered`: the answer's text was one.
pub(super) fn finish_reason(
    reason: &str,
    telling: Telling,
    called: bool,
    answered: bool,
) -> Result<FinishReason, Broken> {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Ok(FinishReason::Length),
        "guardrail_intervened" | "content_filtered" => Ok(FinishReason::ContentFilter),
        "malformed_model_output" | "malformed_tool_use" => Err(Broken::Upstream(Box::new(Fault {
            status: 502,
            message: format!("the model's answer could not be read ({reason}): ask again"),
            code: Some(reason.to_owned()),
            ..Fault::default()
        }))),
        "tool_use" if answered && !called => Ok(FinishReason::Stop),
        "tool_use" => Ok(FinishReason::Stop.having(true, telling.legacy)),
        // Some models say `end_turn` although they want a call.
        _ => Ok(FinishReason::Stop.having(called, telling.legacy)),
    }
}

/// What makes no sense, with its first characters.
pub(super) fn garbled(error: &serde_json::Error, data: &[u8]) -> Broken {
    Broken::nonsense("Bedrock", error, data)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    output: Option<WireOutput<'a>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct WireOutput<'a> {
    #[serde(borrow)]
    message: Option<WireMessage<'a>>,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    content: Vec<WireBlock<'a>>,
}

/// A union: one of its members is there, or one that is too new to be known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBlock<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_use: Option<WireCall<'a>>,
    #[serde(borrow, rename = "reasoningContent")]
    reasoning: Option<WireReasoning<'a>>,
    #[serde(borrow, rename = "citationsContent")]
    citations: Option<WireCitations<'a>>,
    image: Option<IgnoredAny>,
    audio: Option<IgnoredAny>,
    video: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow, rename = "toolUseId")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

impl WireCall<'_> {
    /// Whether Bedrock runs the tool by itself.
    fn is_theirs(&self) -> bool {
        self.kind.as_deref() == Some(THEIRS)
    }
}

/// The type of a call that Bedrock makes by itself: nothing for the client.
pub(super) const THEIRS: &str = "server_tool_use";

#[derive(Deserialize)]
struct WireReasoning<'a> {
    #[serde(borrow, rename = "reasoningText")]
    text: Option<WireText<'a>>,
}

#[derive(Deserialize)]
struct WireCitations<'a> {
    #[serde(borrow, default)]
    content: Vec<WireText<'a>>,
}

#[derive(Deserialize)]
struct WireText<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// Converse's counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    #[serde(rename = "inputTokens")]
    fresh: Option<u64>,
    #[serde(rename = "outputTokens")]
    answered: Option<u64>,
    #[serde(rename = "cacheReadInputTokens")]
    cached: Option<u64>,
    #[serde(rename = "cacheWriteInputTokens")]
    written: Option<u64>,
}

impl WireUsage {
    /// The same as OpenAI counts, if anything was counted: the prompt is everything that was read, from the cache or not.
    pub(super) fn usage(self) -> Option<Usage> {
        if [self.fresh, self.cached, self.written, self.answered].iter().all(Option::is_none) {
            return None;
        }
        let [fresh, cached_tokens, written, completion_tokens] =
            [self.fresh, self.cached, self.written, self.answered].map(Option::unwrap_or_default);
        let prompt_tokens = fresh.saturating_add(written).saturating_add(cached_tokens);
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: Some(PromptDetails { cached_tokens, cache_write_tokens: self.written }),
            completion_tokens_details: None,
        })
    }
}
