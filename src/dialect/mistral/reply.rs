//! Mistral's whole answer as completions; its wire types, counts and stop reasons serve the stream too.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ids;
use crate::dialect::answer::Reply;
use crate::dialect::{Broken, Head};
use crate::openai::completion::{
    Choice, CompletionDetails, FinishReason, Function, Logprobs, Message, PromptDetails, TokenLogprob,
    TopLogprob,
};
use crate::openai::json::Text;
use crate::openai::{Fault, Usage};

/// Reads the body of a 200; `id` is for an answer without its own, with `legacy` a call becomes a `function_call`.
pub(super) fn read(body: &[u8], id: &str, legacy: bool) -> Result<Reply, Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| nonsense(&e, body))?;
    if wire.is_error() {
        return Err(upstream(body));
    }
    let choices = wire.choices.filter(|choices| !choices.is_empty()).ok_or_else(|| {
        Broken::Garbled("the upstream's answer is no completion of Mistral's: it has no choices".to_owned())
    })?;
    let id = wire.id.filter(|id| !id.is_empty()).map_or_else(|| id.to_owned(), Cow::into_owned);
    let choices = choices.into_iter().enumerate().map(|(place, wire)| choice(wire, place, &id, legacy));
    let choices = choices.collect::<Result<_, _>>()?;
    Ok(Reply { id: Some(id), choices, usage: wire.usage.and_then(WireUsage::usage) })
}

fn choice(wire: WireChoice<'_>, place: usize, id: &str, legacy: bool) -> Result<Choice, Broken> {
    let (Some(said), Some(reason)) = (wire.message, wire.finish_reason) else {
        let why = "the upstream's answer is no completion of Mistral's: a choice has no message or no finish_reason";
        return Err(Broken::Garbled(why.to_owned()));
    };
    let mut message = Message::default();
    if let Some(content) = said.content {
        each_piece(content, |piece| match piece {
            Piece::Said(text) => message.say(&text.decode().unwrap_or_default()),
            Piece::Thought(text) => message.think(&text.decode().unwrap_or_default()),
        })?;
    }
    for (number, call) in said.tool_calls.into_iter().flatten().enumerate() {
        let arguments = call.arguments().filter(|text| !text.is_blank()).unwrap_or(Text::Plain("{}"));
        let function = Function { name: decoded(call.name()?), arguments: decoded(arguments) };
        let made = || ids::made_of(id, (place * 1000 + number) as u64);
        message.call(legacy, call.id().map_or_else(made, decoded), function);
    }
    let index = wire.index.unwrap_or_else(|| u32::try_from(place).unwrap_or(u32::MAX));
    let finish_reason = finish_reason(&reason, message.calls(), legacy)?;
    Ok(Choice { index, message, finish_reason, logprobs: wire.logprobs.map(WireLogprobs::logprobs) })
}

fn decoded(text: Text<'_>) -> String {
    text.decode().unwrap_or_default().into_owned()
}

/// OpenAI's word for a finish reason; with `legacy` for a client of `functions`.
pub(super) fn finish_reason(reason: &str, called: bool, legacy: bool) -> Result<FinishReason, Broken> {
    Ok(match reason {
        "length" | "model_length" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        "error" => {
            return Err(Broken::Upstream(Box::new(Fault {
                status: 502,
                message: "the model ended its answer in an error (finish_reason `error`)".to_owned(),
                ..Fault::default()
            })));
        }
        _ => FinishReason::Stop.having(called, legacy),
    })
}

/// The error that came as JSON inside a 200 or a stream.
pub(super) fn upstream(json: &[u8]) -> Broken {
    match Broken::told(json) {
        Broken::Upstream(fault) => Broken::Upstream(Box::new(readable(*fault))),
        garbled @ Broken::Garbled(_) => garbled,
    }
}

/// Reads a refusal.
pub(super) fn fault(head: Head<'_>, body: &[u8]) -> Fault {
    readable(Fault::read(head.status, head.headers, body))
}

/// Some of Mistral's gateways write the list of what is wrong as text of JSON into the message.
fn readable(fault: Fault) -> Fault {
    if !fault.message.starts_with('{') {
        return fault;
    }
    match Fault::inside(fault.message.as_bytes()) {
        Some(inner) => Fault { message: inner.message, ..fault },
        None => fault,
    }
}

/// What makes no sense as an answer.
pub(super) fn nonsense(error: &serde_json::Error, data: &[u8]) -> Broken {
    Broken::nonsense("Mistral", error, data)
}

/// One piece of what the model says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// For the client.
    Said(Text<'a>),
    /// To itself.
    Thought(Text<'a>),
}

/// Takes `content` apart: a text, or a list of chunks of which those that OpenAI has no place for say nothing.
pub(super) fn each_piece<'a>(content: &'a RawValue, mut take: impl FnMut(Piece<'a>)) -> Result<(), Broken> {
    if let Some(text) = Text::read(content) {
        take(Piece::Said(text));
        return Ok(());
    }
    for chunk in parse::<Vec<WireChunk<'a>>>(content)? {
        match (chunk.kind.as_deref(), chunk.text, chunk.thinking) {
            (Some("thinking"), _, Some(thinking)) => each_thought(thinking, &mut take)?,
            (None | Some("text"), Some(text), _) => take(Piece::Said(text)),
            _ => {}
        }
    }
    Ok(())
}

fn each_thought<'a>(thinking: &'a RawValue, take: &mut impl FnMut(Piece<'a>)) -> Result<(), Broken> {
    if let Some(text) = Text::read(thinking) {
        take(Piece::Thought(text));
        return Ok(());
    }
    let texts = parse::<Vec<WireChunk<'a>>>(thinking)?;
    texts.into_iter().filter_map(|chunk| chunk.text).for_each(|text| take(Piece::Thought(text)));
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Broken> {
    serde_json::from_str(raw.get()).map_err(|e| nonsense(&e, raw.get().as_bytes()))
}

#[derive(Deserialize)]
struct Wire<'a> {
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

impl Wire<'_> {
    fn is_error(&self) -> bool {
        self.error.is_some()
            || self.object.as_deref().is_some_and(|object| object.eq_ignore_ascii_case("error"))
    }
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    index: Option<u32>,
    #[serde(borrow)]
    message: Option<WireMessage<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    logprobs: Option<WireLogprobs<'a>>,
}

/// What a model said, or what a chunk adds to it.
#[derive(Deserialize)]
pub(super) struct WireMessage<'a> {
    /// A text or a list of chunks.
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    /// The calls that it wants made.
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<WireCall<'a>>>,
}

#[derive(Deserialize)]
struct WireChunk<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
}

/// A call, or the part of one.
#[derive(Deserialize)]
pub(super) struct WireCall<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    /// Its number in the message.
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    function: Option<WireFunction<'a>>,
}

#[derive(Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl<'a> WireCall<'a> {
    /// Its id, if it has one: Mistral's own word for none is `null`, as a text.
    pub(super) fn id(&self) -> Option<Text<'a>> {
        self.id.filter(|id| !id.is_empty() && !id.is("null"))
    }

    /// What is called, in the first part.
    pub(super) fn named(&self) -> Option<Text<'a>> {
        self.function.as_ref()?.name.filter(|name| !name.is_empty())
    }

    fn name(&self) -> Result<Text<'a>, Broken> {
        self.named().ok_or_else(|| Broken::Garbled("the upstream made a tool call without a name".to_owned()))
    }

    /// With what, as JSON text: it may come as text or as an object.
    pub(super) fn arguments(&self) -> Option<Text<'a>> {
        let raw = self.function.as_ref()?.arguments?;
        Some(Text::read(raw).unwrap_or_else(|| Text::Plain(raw.get())))
    }
}

/// Mistral's counts.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct WireUsage<'a> {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
}

impl WireUsage<'_> {
    /// The same in OpenAI's form, if anything was counted.
    pub(super) fn usage(self) -> Option<Usage> {
        if self.prompt_tokens.is_none() && self.completion_tokens.is_none() {
            return None;
        }
        let (prompt_tokens, completion_tokens) =
            (self.prompt_tokens.unwrap_or_default(), self.completion_tokens.unwrap_or_default());
        // Beyond Mistral's documentation: of another shape, they say nothing.
        let prompt =
            self.prompt_tokens_details.and_then(|raw| serde_json::from_str::<PromptDetails>(raw.get()).ok());
        let completion = self
            .completion_tokens_details
            .and_then(|raw| serde_json::from_str::<CompletionDetails>(raw.get()).ok());
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: prompt,
            completion_tokens_details: completion,
        })
    }
}

/// How likely the tokens were.
#[derive(Deserialize)]
pub(super) struct WireLogprobs<'a> {
    #[serde(borrow)]
    content: Option<Vec<WireToken<'a>>>,
}

#[derive(Deserialize)]
struct WireToken<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    logprob: f64,
    bytes: Option<Vec<u8>>,
    #[serde(borrow)]
    top_logprobs: Option<Vec<WireTop<'a>>>,
}

#[derive(Deserialize)]
struct WireTop<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    logprob: f64,
    bytes: Option<Vec<u8>>,
}

impl WireLogprobs<'_> {
    /// The same in OpenAI's form.
    pub(super) fn logprobs(self) -> Logprobs {
        let top = |top: WireTop<'_>| TopLogprob {
            token: top.token.into_owned(),
            bytes: top.bytes,
            logprob: top.logprob,
        };
        let token = |token: WireToken<'_>| TokenLogprob {
            token: token.token.into_owned(),
            bytes: token.bytes,
            logprob: token.logprob,
            top_logprobs: token.top_logprobs.unwrap_or_default().into_iter().map(top).collect(),
        };
        Logprobs { content: self.content.map(|all| all.into_iter().map(token).collect()), refusal: None }
    }
}
