//! What Gemini answers, whole or in pieces of a stream: the same shape, read once for both.
//!
//! Reference: <https://ai.google.dev/api/generate-content#generatecontentresponse>. New members and kinds of parts may
//! come at any time and are passed over.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::signature;
use crate::dialect::{Broken, Context, calls};
use crate::openai::completion::{
    CompletionDetails, FinishReason, Logprobs, PromptDetails, TokenLogprob, TopLogprob,
};
use crate::openai::json::Text;
use crate::openai::{Fault, Usage};

/// One answer, or one event of a stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    pub(super) usage_metadata: Option<Counts>,
    #[serde(borrow)]
    pub(super) response_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Reads `json`; an error that stands there instead is told.
    pub(super) fn read(json: &'a [u8]) -> Result<Self, Broken> {
        let answer: Self = serde_json::from_slice(json).map_err(|e| Broken::nonsense("Gemini", &e, json))?;
        if answer.error.is_some() {
            return Err(Broken::told(json));
        }
        Ok(answer)
    }

    /// Why the prompt was not even answered, in words.
    pub(super) fn blocked(&self) -> Option<String> {
        let feedback = self.prompt_feedback.as_ref()?;
        let reason = feedback.block_reason.as_ref()?;
        Some(match &feedback.block_reason_message {
            Some(words) => words.clone().into_owned(),
            None => format!("the prompt was blocked: {reason}"),
        })
    }
}

/// What was found in the prompt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    block_reason_message: Option<Cow<'a, str>>,
}

/// One of the answers, or news of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) finish_message: Option<Cow<'a, str>>,
    logprobs_result: Option<LogprobsResult>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    thought: Option<bool>,
    #[serde(borrow)]
    thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function_call: Option<FunctionCall<'a>>,
    #[serde(borrow)]
    inline_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

/// What one part says.
pub(super) enum Said<'a> {
    /// Some of the text.
    Text(Text<'a>),
    /// Some of the thoughts, which are no part of the answer.
    Thought(Text<'a>),
    /// A call, whole.
    Call { id: String, name: Text<'a>, arguments: Cow<'a, str> },
}

impl<'a> Candidate<'a> {
    /// What its parts say, in order.
    pub(super) fn said(&mut self, ids: &mut Ids) -> Result<Vec<Said<'a>>, Broken> {
        let parts = self.content.take().and_then(|content| content.parts).unwrap_or_default();
        let mut said = Vec::with_capacity(parts.len());
        for part in parts {
            if let Some(call) = part.function_call {
                let Some(name) = call.name else {
                    return Err(Broken::Garbled("the upstream made a call without a name".to_owned()));
                };
                let id = ids.id(call.id.as_deref(), part.thought_signature.as_deref());
                said.push(Said::Call { id, name, arguments: compact(calls::input(call.args)?) });
            } else if part.inline_data.is_some() {
                return Err(Broken::homeless("an image or sound"));
            } else if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                said.push(if part.thought == Some(true) { Said::Thought(text) } else { Said::Text(text) });
            }
        }
        Ok(said)
    }

    /// How likely its tokens were, if it says.
    pub(super) fn logprobs(&mut self) -> Option<Logprobs> {
        self.logprobs_result.take().and_then(LogprobsResult::read)
    }

    /// OpenAI's word for why it ended; `calls` tells whether it made any, `legacy` whether by `functions`.
    ///
    /// # Errors
    /// Where the model produced nothing that could be used, for it is no end that a client could take for an answer.
    pub(super) fn reason(&self, calls: bool, legacy: bool) -> Result<Option<FinishReason>, Broken> {
        let Some(word) = self.finish_reason.as_deref() else { return Ok(None) };
        Ok(Some(match word {
            "STOP" | "FINISH_REASON_UNSPECIFIED" => FinishReason::Stop.having(calls, legacy),
            "MAX_TOKENS" | "CONTINUATION" => FinishReason::Length,
            "MALFORMED_FUNCTION_CALL"
            | "UNEXPECTED_TOOL_CALL"
            | "TOO_MANY_TOOL_CALLS"
            | "MALFORMED_RESPONSE" => return Err(self.failed(word, 502)),
            // It is the history that lacks one, and will lack it the next time.
            "MISSING_THOUGHT_SIGNATURE" => return Err(self.failed(word, 400)),
            // SAFETY, RECITATION, BLOCKLIST, PROHIBITED_CONTENT, SPII, LANGUAGE and those to come.
            _ => FinishReason::ContentFilter,
        }))
    }

    /// That no answer came of it, for the reason `word`.
    fn failed(&self, word: &str, status: u16) -> Broken {
        let words = self.finish_message.as_deref().unwrap_or("the model failed to produce an answer");
        let (message, code) = (format!("{word}: {words}"), Some(word.to_owned()));
        Broken::Upstream(Box::new(Fault { status, message, code, ..Fault::default() }))
    }
}

/// The ids of one answer's calls: none twice, and none that another answer of this conversation has.
#[derive(Debug)]
pub(super) struct Ids {
    own: String,
    made: usize,
    seen: HashSet<String>,
}

impl Ids {
    /// None yet.
    pub(super) fn new(context: &Context<'_>) -> Self {
        let own = context.id.split_once('-').map_or(context.id, |(_, own)| own).to_owned();
        Self { own, made: 0, seen: HashSet::new() }
    }

    /// The id of the next call: the provider's, or else one of ours, with the signature that comes with it.
    fn id(&mut self, given: Option<&str>, signature: Option<&str>) -> String {
        let number = self.made;
        self.made += 1;
        let is_good = |id: &&str| !id.is_empty() && !signature::is_signed(id) && !self.seen.contains(*id);
        let id = match given.filter(is_good) {
            Some(id) => id.to_owned(),
            None => format!("call_{}_{number}", self.own),
        };
        self.seen.insert(id.clone());
        signature.map_or_else(|| id.clone(), |signature| signature::sign(&id, signature))
    }
}

/// JSON without the white space between its tokens: Gemini's whole answers are indented.
fn compact(json: &str) -> Cow<'_, str> {
    if !json.bytes().any(|b| b.is_ascii_whitespace()) {
        return Cow::Borrowed(json);
    }
    let (mut out, mut in_text, mut escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if in_text {
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_text = c == '"';
        }
        out.push(c);
    }
    Cow::Owned(out)
}

/// Gemini's counts as they stand in one answer or event.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    total_token_count: Option<u64>,
}

impl Counts {
    /// What was read, where nothing was written.
    pub(super) fn prompt_tokens(&self) -> u64 {
        self.prompt_token_count.unwrap_or(0)
    }

    /// The same as OpenAI counts, if anything was counted: thoughts are part of what was written, and cached tokens of
    /// what was read.
    pub(super) fn usage(&self) -> Option<Usage> {
        let read = self.prompt_token_count.or(self.tool_use_prompt_token_count);
        read.or(self.candidates_token_count).or(self.thoughts_token_count)?;
        let told = |count: Option<u64>| count.unwrap_or(0);
        let prompt_tokens =
            told(self.prompt_token_count).saturating_add(told(self.tool_use_prompt_token_count));
        let answer = told(self.candidates_token_count);
        let thoughts = told(self.thoughts_token_count);
        // Some versions on Vertex AI count the thoughts among the answer's tokens already.
        let is_inclusive =
            thoughts <= answer && self.total_token_count == Some(prompt_tokens.saturating_add(answer));
        let completion_tokens = if is_inclusive { answer } else { answer.saturating_add(thoughts) };
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: self.cached_content_token_count.map(PromptDetails::cached),
            completion_tokens_details: self
                .thoughts_token_count
                .map(|reasoning_tokens| CompletionDetails { reasoning_tokens }),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogprobsResult {
    chosen_candidates: Option<Vec<Likely>>,
    top_candidates: Option<Vec<Top>>,
}

#[derive(Deserialize)]
struct Top {
    candidates: Option<Vec<Likely>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Likely {
    token: Option<String>,
    log_probability: Option<Value>,
}

impl Likely {
    fn read(self) -> TopLogprob {
        let token = self.token.unwrap_or_default();
        let logprob = match self.log_probability {
            // A number that is 0, a certainty, is left out of Google's JSON; infinity is a text there.
            None => 0.0,
            Some(value) => value.as_f64().unwrap_or(UNLIKELY),
        };
        TopLogprob { bytes: Some(token.as_bytes().to_vec()), token, logprob }
    }
}

/// OpenAI's number for what is too unlikely for one.
const UNLIKELY: f64 = -9999.0;

impl LogprobsResult {
    fn read(self) -> Option<Logprobs> {
        let mut tops = self.top_candidates.unwrap_or_default().into_iter();
        let token = |chosen: Likely| {
            let top = tops.next().and_then(|top| top.candidates).unwrap_or_default();
            let TopLogprob { token, bytes, logprob } = chosen.read();
            let top_logprobs = top.into_iter().map(Likely::read).collect();
            TokenLogprob { token, bytes, logprob, top_logprobs }
        };
        let content: Vec<_> = self.chosen_candidates?.into_iter().map(token).collect();
        Some(Logprobs { content: Some(content), refusal: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(word: &str, calls: bool, legacy: bool) -> Result<Option<FinishReason>, Broken> {
        let json = format!(r#"{{"finishReason":"{word}"}}"#);
        serde_json::from_str::<Candidate<'_>>(&json).unwrap().reason(calls, legacy)
    }

    #[test]
    fn every_finish_reason_has_its_word() {
        for (word, wanted) in [
            ("STOP", FinishReason::Stop),
            ("MAX_TOKENS", FinishReason::Length),
            ("SAFETY", FinishReason::ContentFilter),
            ("RECITATION", FinishReason::ContentFilter),
            ("PROHIBITED_CONTENT", FinishReason::ContentFilter),
            ("BLOCKLIST", FinishReason::ContentFilter),
            ("SPII", FinishReason::ContentFilter),
            ("SOMETHING_NEW", FinishReason::ContentFilter),
        ] {
            assert_eq!(reason(word, false, false), Ok(Some(wanted)), "{word}");
        }
        assert_eq!(reason("STOP", true, false), Ok(Some(FinishReason::ToolCalls)));
        assert_eq!(reason("STOP", true, true), Ok(Some(FinishReason::FunctionCall)));
        assert_eq!(reason("MAX_TOKENS", true, false), Ok(Some(FinishReason::Length)));
        for (word, status) in [("MALFORMED_FUNCTION_CALL", 502), ("MISSING_THOUGHT_SIGNATURE", 400)] {
            let Err(Broken::Upstream(fault)) = reason(word, false, false) else { panic!("{word}") };
            assert_eq!((fault.status, fault.code.as_deref()), (status, Some(word)));
        }
    }

    #[test]
    fn thoughts_are_counted_once() {
        let usage = |json: &str| {
            let usage = serde_json::from_str::<Counts>(json).unwrap().usage().unwrap();
            (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
        };
        let apart =
            r#"{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":22}"#;
        assert_eq!(usage(apart), (10, 12, 22));
        let within = r#"{"promptTokenCount":10,"candidatesTokenCount":12,"thoughtsTokenCount":7,"totalTokenCount":22}"#;
        assert_eq!(usage(within), (10, 12, 22));
        let tools = r#"{"promptTokenCount":10,"toolUsePromptTokenCount":3,"cachedContentTokenCount":9}"#;
        assert_eq!(usage(tools), (13, 0, 13));
    }

    #[test]
    fn only_white_space_between_tokens_goes() {
        assert_eq!(
            compact("{\n \"a b\": \"c \\\" d\\\\\" ,\"e\" : [ 1, 2 ]\n}"),
            r#"{"a b":"c \" d\\","e":[1,2]}"#
        );
        assert!(matches!(compact("{}"), Cow::Borrowed("{}")));
    }

    #[test]
    fn ids_are_distinct_whatever_the_upstream_gives() {
        let mut ids = Ids { own: "7".to_owned(), made: 0, seen: HashSet::new() };
        let made = [None, Some("a"), Some("a"), Some(""), Some("x-sig-y")].map(|given| ids.id(given, None));
        assert_eq!(made, ["call_7_0", "a", "call_7_2", "call_7_3", "call_7_4"]);
        assert_eq!(ids.id(Some("b"), Some("AA==")), "b-sig-AA");
    }
}
