//! What a client of OpenAI reads: the whole answer, the chunk of a stream, and the count of tokens.
//!
//! The fields are those of OpenAI's own SDK types, which are strict: what stands here as `Option` may be left out.

use serde::{Deserialize, Serialize};

use super::json::Text;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// `chatcmpl-…`, or the provider's own id.
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// The model as the client called it.
    pub model: String,
    /// One for each of the `n` that the client asked for.
    pub choices: Vec<Choice>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Completion {
    /// An answer with its one choice.
    pub fn new(id: impl Into<String>, created: u64, model: impl Into<String>, choice: Choice) -> Self {
        let object = "chat.completion".to_owned();
        Self { id: id.into(), object, created, model: model.into(), choices: vec![choice], usage: None }
    }
}

/// One of the answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Its place among them, from 0.
    pub index: u32,
    /// What the model said.
    pub message: Message,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// How likely its tokens were, if the client asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Logprobs>,
}

/// How likely the tokens of an answer were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Logprobs {
    /// Of its text.
    pub content: Option<Vec<TokenLogprob>>,
    /// Of its refusal.
    #[serde(default)]
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// One token and what else might have stood in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token.
    pub token: String,
    /// Its bytes in UTF-8.
    pub bytes: Option<Vec<u8>>,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest ones, itself perhaps among them.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

/// One token that might have stood in a place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The token.
    pub token: String,
    /// Its bytes in UTF-8.
    pub bytes: Option<Vec<u8>>,
    /// The natural logarithm of its probability.
    pub logprob: f64,
}

/// What the model said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Assistant,
    /// The text; `null` where there is none, which is only beside a refusal or calls ([`Message::settle`]).
    pub content: Option<String>,
    /// The words of a refusal.
    pub refusal: Option<String>,
    /// What the model thought, where the provider shows it. Not OpenAI's, but the name that clients know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The calls that it wants made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that it wants made, for a client that sent `functions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_call: Option<Function>,
}

impl Message {
    /// Adds a call; a client of the legacy `functions` can be told of the first one only.
    pub fn call(&mut self, legacy: bool, id: String, function: Function) {
        if legacy {
            self.function_call.get_or_insert(function);
        } else {
            self.tool_calls.push(ToolCall { id, kind: CallKind::Function, function });
        }
    }

    /// Adds to the text.
    pub fn say(&mut self, text: &str) {
        self.content.get_or_insert_default().push_str(text);
    }

    /// Adds to the thoughts.
    pub fn think(&mut self, text: &str) {
        self.reasoning_content.get_or_insert_default().push_str(text);
    }

    /// Makes it an empty text where the model said nothing, neither refused nor called: clients read `null` as one of these.
    pub fn settle(&mut self) {
        if self.refusal.is_none() && !self.calls() {
            self.content.get_or_insert_default();
        }
    }

    /// Whether it wants anything called.
    pub fn calls(&self) -> bool {
        !self.tool_calls.is_empty() || self.function_call.is_some()
    }
}

/// The only role that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assistant {
    /// `assistant`.
    #[default]
    #[serde(rename = "assistant")]
    Assistant,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the result must name.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: CallKind,
    /// What is called.
    pub function: Function,
}

/// The only kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallKind {
    /// `function`.
    #[default]
    #[serde(rename = "function")]
    Function,
}

/// A function's name and its arguments as JSON text, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `{}` where there are none.
    pub arguments: String,
}

/// Why a model stopped, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done, or met a stop sequence.
    Stop,
    /// The limit of tokens.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// It was kept from answering.
    ContentFilter,
    /// It wants a function called (legacy `functions`).
    FunctionCall,
}

impl FinishReason {
    /// The same of an answer that has `called`: its end is the calls, even where the provider says that it was done.
    #[must_use]
    pub fn having(self, called: bool, legacy: bool) -> Self {
        match self {
            Self::Stop if called && legacy => Self::FunctionCall,
            Self::Stop if called => Self::ToolCalls,
            told => told,
        }
    }
}

/// The count of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All that was read, cached or not.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// All that was written, thoughts included.
    #[serde(default)]
    pub completion_tokens: u64,
    /// The sum of both.
    #[serde(default)]
    pub total_tokens: u64,
    /// What of the prompt came from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptDetails>,
    /// What of the answer was thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionDetails>,
}

/// Where the prompt's tokens came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptDetails {
    /// Read from the cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Written to the cache, where that is told: some providers charge more for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
}

impl PromptDetails {
    /// Of a provider that tells only what was read from the cache.
    pub fn cached(cached_tokens: u64) -> Self {
        Self { cached_tokens, cache_write_tokens: None }
    }
}

/// What the answer's tokens were spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionDetails {
    /// Spent on thinking.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

/// One event of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk<'a> {
    /// The same in all chunks of one stream.
    pub id: &'a str,
    /// Always `chat.completion.chunk`.
    pub object: &'static str,
    /// The same in all chunks of one stream.
    pub created: u64,
    /// The model as the client called it.
    pub model: &'a str,
    /// One, or none in the last chunk with the usage.
    pub choices: &'a [ChunkChoice<'a>],
    /// Only in the last chunk, and only if the client asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// The news of one choice.
#[derive(Clone, Debug, Serialize)]
pub struct ChunkChoice<'a> {
    /// Its place, from 0.
    pub index: u32,
    /// What was added.
    pub delta: Delta<'a>,
    /// Why it stopped, in its last chunk.
    pub finish_reason: Option<FinishReason>,
    /// How likely the tokens of this chunk were, if the client asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<&'a Logprobs>,
}

/// What a chunk adds to a message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Delta<'a> {
    /// In the first chunk only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Assistant>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Text<'a>>,
    /// More of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Text<'a>>,
    /// More thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<Text<'a>>,
    /// A call that begins, or more of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<[ToolCallDelta<'a>; 1]>,
    /// The same for a client that sent `functions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionDelta<'a>>,
}

impl Delta<'_> {
    /// Whether it adds to what a message must not be without: text, a refusal or a call.
    pub fn says(&self) -> bool {
        self.content.is_some()
            || self.refusal.is_some()
            || self.tool_calls.is_some()
            || self.function_call.is_some()
    }
}

/// News of a call.
#[derive(Clone, Debug, Serialize)]
pub struct ToolCallDelta<'a> {
    /// Which call, from 0.
    pub index: u32,
    /// With the first news only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Text<'a>>,
    /// With the first news only.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CallKind>,
    /// What is called.
    pub function: FunctionDelta<'a>,
}

/// News of a function's name and arguments.
#[derive(Clone, Debug, Serialize)]
pub struct FunctionDelta<'a> {
    /// With the first news only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    /// More of the JSON text.
    pub arguments: Text<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_done_with_calls_ends_by_them_and_one_that_was_cut_stays_so() {
        for (told, legacy, wanted) in [
            (FinishReason::Stop, false, FinishReason::ToolCalls),
            (FinishReason::Stop, true, FinishReason::FunctionCall),
            (FinishReason::ToolCalls, false, FinishReason::ToolCalls),
            (FinishReason::Length, false, FinishReason::Length),
            (FinishReason::ContentFilter, false, FinishReason::ContentFilter),
        ] {
            assert_eq!(told.having(true, legacy), wanted);
            assert_eq!(told.having(false, legacy), told);
        }
    }
}
