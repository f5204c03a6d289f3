//! One object of Ollama's: a whole answer as a completion, or one line of a stream.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Broken;
use crate::dialect::answer::Reply;
use crate::openai::Usage;
use crate::openai::completion::{
    Choice, FinishReason, Function, Logprobs, Message, TokenLogprob, TopLogprob,
};
use crate::openai::json::Text;

/// Reads the body of a 200; with `legacy` a call becomes a `function_call`.
pub(super) fn read(body: &[u8], ids: &mut Ids, legacy: bool) -> Result<Reply, Broken> {
    let wire = parse(body)?;
    let (Some(said), true) = (&wire.message, wire.done) else {
        let why = "the upstream's answer is none of Ollama's: it has no message or is not done";
        return Err(Broken::Garbled(why.to_owned()));
    };
    let mut message = Message::default();
    if let Some(thoughts) = said.thinking.filter(|text| !text.is_empty()) {
        message.think(&decode(thoughts)?);
    }
    if let Some(text) = said.content.filter(|text| !text.is_empty()) {
        message.say(&decode(text)?);
    }
    for call in said.tool_calls.iter().flatten() {
        let function = Function {
            name: decode(call.function.name)?.into_owned(),
            arguments: decode(call.arguments())?.into_owned(),
        };
        let id = ids.of(call).into_owned();
        message.call(legacy, id, function);
    }
    let finish_reason = wire.finish_reason(message.calls(), legacy);
    let choice = Choice { index: 0, message, finish_reason, logprobs: wire.logprobs() };
    Ok(Reply::one(None, choice, wire.usage()))
}

/// One object, unless it tells of an error.
pub(super) fn parse(json: &[u8]) -> Result<Wire<'_>, Broken> {
    let wire: Wire<'_> = serde_json::from_slice(json).map_err(|e| Broken::nonsense("Ollama", &e, json))?;
    if wire.error.is_some() { Err(Broken::told(json)) } else { Ok(wire) }
}

fn decode(text: Text<'_>) -> Result<Cow<'_, str>, Broken> {
    let torn = || Broken::Garbled("an escape in the upstream's answer spells half a character".to_owned());
    text.decode().ok_or_else(torn)
}

/// Hands out the ids of the calls of one answer: Ollama's where it gives one that is new, else one of ours. All are
/// distinct, those of other answers too.
#[derive(Debug)]
pub(super) struct Ids {
    stem: String,
    given: HashSet<String>,
}

impl Ids {
    /// None given yet, for the completion of this id.
    pub(super) fn new(completion: &str) -> Self {
        Self { stem: completion.trim_start_matches("chatcmpl-").to_owned(), given: HashSet::new() }
    }

    /// The id of the next call.
    pub(super) fn of<'a>(&mut self, call: &WireCall<'a>) -> Cow<'a, str> {
        let is_new = |id: &Cow<'_, str>| !id.is_empty() && !self.given.contains(&**id);
        let told = call.id.and_then(Text::decode).filter(is_new);
        let id = told.unwrap_or_else(|| self.ours().into());
        self.given.insert(id.clone().into_owned());
        id
    }

    fn ours(&self) -> String {
        let mut number = self.given.len();
        loop {
            let id = format!("call_{}_{number}", self.stem);
            if !self.given.contains(&id) {
                return id;
            }
            number += 1;
        }
    }
}

/// A whole answer, or a line of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Wire<'a> {
    /// What is said, or added.
    #[serde(borrow)]
    pub(super) message: Option<WireMessage<'a>>,
    /// Whether this is all.
    #[serde(default)]
    pub(super) done: bool,
    #[serde(borrow)]
    done_reason: Option<Cow<'a, str>>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    #[serde(borrow)]
    logprobs: Option<Vec<WireLogprob<'a>>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Wire<'_> {
    /// Why the model stopped. Ollama has no word of its own for calls; `load` is the answer to nothing asked.
    pub(super) fn finish_reason(&self, calls: bool, legacy: bool) -> FinishReason {
        match self.done_reason.as_deref() {
            Some("length") => FinishReason::Length,
            _ => FinishReason::Stop.having(calls, legacy),
        }
    }

    /// What the answer cost, if this says anything about it. What is not counted is 0: a prompt that was cached.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.prompt_eval_count.is_none() && self.eval_count.is_none() {
            return None;
        }
        let prompt_tokens = self.prompt_eval_count.unwrap_or_default();
        let completion_tokens = self.eval_count.unwrap_or_default();
        let total_tokens = prompt_tokens.saturating_add(completion_tokens);
        Some(Usage { prompt_tokens, completion_tokens, total_tokens, ..Usage::default() })
    }

    /// How likely its tokens were, if it says.
    pub(super) fn logprobs(&self) -> Option<Logprobs> {
        let tokens = self.logprobs.as_ref().filter(|tokens| !tokens.is_empty())?;
        let content = tokens.iter().map(WireLogprob::token).collect();
        Some(Logprobs { content: Some(content), refusal: None })
    }
}

/// What is said.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage<'a> {
    /// In the open.
    #[serde(borrow)]
    pub(super) content: Option<Text<'a>>,
    /// In thought.
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    /// What is to be called, each call whole.
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<WireCall<'a>>>,
}

/// A call.
#[derive(Debug, Deserialize)]
pub(super) struct WireCall<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    /// Of what.
    #[serde(borrow)]
    pub(super) function: WireFunction<'a>,
}

/// What is called.
#[derive(Debug, Deserialize)]
pub(super) struct WireFunction<'a> {
    /// Its name.
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl<'a> WireCall<'a> {
    /// The arguments as JSON text.
    pub(super) fn arguments(&self) -> Text<'a> {
        match self.function.arguments {
            None => Text::Plain("{}"),
            Some(raw) => Text::read(raw).unwrap_or_else(|| Text::Plain(raw.get())),
        }
    }
}

#[derive(Debug, Deserialize)]
struct WireLogprob<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    logprob: f64,
    bytes: Option<Vec<u8>>,
    #[serde(borrow)]
    top_logprobs: Option<Vec<WireTop<'a>>>,
}

#[derive(Debug, Deserialize)]
struct WireTop<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    logprob: f64,
    bytes: Option<Vec<u8>>,
}

impl WireLogprob<'_> {
    fn token(&self) -> TokenLogprob {
        let top = |top: &WireTop<'_>| TopLogprob {
            token: top.token.to_string(),
            bytes: Some(top.bytes.clone().unwrap_or_else(|| top.token.as_bytes().to_vec())),
            logprob: top.logprob,
        };
        TokenLogprob {
            token: self.token.to_string(),
            bytes: Some(self.bytes.clone().unwrap_or_else(|| self.token.as_bytes().to_vec())),
            logprob: self.logprob,
            top_logprobs: self.top_logprobs.iter().flatten().map(top).collect(),
        }
    }
}
