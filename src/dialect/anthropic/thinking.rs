//! `reasoning_effort` as thinking: only where all of Anthropic's conditions hold, and never at the cost of what the
//! client said about tokens, temperature or tools.
//!
//! Reference: <https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking>.

use super::models::{Rules, Sampling, Thinking};
use super::turns::Conversation;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::openai::ChatRequest;
use crate::openai::tool::ToolChoice;

/// What is said about thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan<'a> {
    /// Nothing.
    Nothing,
    /// What the client sent as Anthropic's own `thinking`.
    AsSent(&'a str),
    /// A number of tokens.
    Budget(u64),
    /// A degree, and whether to think at all.
    Effort { word: &'static str, think: bool },
}

/// The smallest budget that Anthropic takes.
const LEAST: u64 = 1024;

/// Decides how the client's effort is carried over, or notes why it is not.
pub(super) fn plan<'a>(
    request: &ChatRequest<'a>,
    conversation: &Conversation<'_>,
    rules: Rules,
    max_tokens: u64,
    losses: &mut Losses,
) -> Result<Plan<'a>, Untranslatable> {
    let effort = request.reasoning_effort;
    if let Some(raw) = request.other("thinking") {
        if effort.is_some() {
            losses.dropped(FIELD, "Anthropic's own `thinking` was given too")?;
        }
        return Ok(Plan::AsSent(raw.get()));
    }
    let Some(effort) = effort else { return Ok(Plan::Nothing) };
    let Some((degree, budget)) = degree(&effort.decode().unwrap_or_default()) else {
        losses.dropped(FIELD, "Anthropic has no such degree of effort")?;
        return Ok(Plan::Nothing);
    };
    let obstacle = obstacle(request, conversation, rules);
    match rules.thinking {
        Thinking::Never => {
            losses.dropped(FIELD, "this model is not known to think")?;
            Ok(Plan::Nothing)
        }
        // Without `thinking` such a model does not think, which is what was asked for.
        Thinking::Budget if degree == "none" => Ok(Plan::Nothing),
        Thinking::Budget => match (obstacle, budget.min(max_tokens / 2)) {
            (Some(why), _) => losses.dropped(FIELD, why).map(|()| Plan::Nothing),
            (None, room) if room < LEAST => {
                losses.dropped(
                    FIELD,
                    "max_tokens leaves no room for thinking, which needs 1024 tokens and an answer",
                )?;
                Ok(Plan::Nothing)
            }
            (None, tokens) => Ok(Plan::Budget(tokens)),
        },
        Thinking::Effort { xhigh } => effort_of(degree, xhigh, obstacle.is_none(), losses),
    }
}

const FIELD: &str = "reasoning_effort";

fn effort_of(
    degree: &'static str,
    xhigh: bool,
    think: bool,
    losses: &mut Losses,
) -> Result<Plan<'static>, Untranslatable> {
    let (word, think) = match degree {
        "none" => ("low", false),
        "minimal" => ("low", think),
        "xhigh" if !xhigh => ("high", think),
        same => (same, think),
    };
    if word != degree {
        losses.changed(FIELD, format!("`{word}` is the nearest that this model knows"))?;
    }
    Ok(Plan::Effort { word, think })
}

/// OpenAI's degrees, and the budget that each stands for.
fn degree(effort: &str) -> Option<(&'static str, u64)> {
    match effort {
        "none" => Some(("none", 0)),
        "minimal" => Some(("minimal", LEAST)),
        "low" => Some(("low", 2048)),
        "medium" => Some(("medium", 8192)),
        "high" => Some(("high", 16_384)),
        "xhigh" => Some(("xhigh", 32_768)),
        "max" => Some(("max", 65_536)),
        _ => None,
    }
}

/// Why this request may not ask for thinking.
fn obstacle(
    request: &ChatRequest<'_>,
    conversation: &Conversation<'_>,
    rules: Rules,
) -> Option<&'static str> {
    let samples = rules.sampling != Sampling::Nothing;
    if samples && request.temperature.is_some_and(|t| t < 1.0) {
        return Some("thinking needs temperature 1, and the client's temperature was kept");
    }
    if samples && (request.top_k.is_some() || request.top_p.is_some_and(|p| p < 0.95)) {
        return Some("thinking does not go with top_k, or with top_p below 0.95");
    }
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if forced && !request.tools.is_empty() {
        return Some("thinking does not go with a tool_choice that forces a call");
    }
    if conversation.is_prefill() {
        return Some("thinking does not go with a last message of the assistant");
    }
    // Models that are told an effort accept calls without the thoughts that led to them.
    if rules.thinking == Thinking::Budget && conversation.is_in_tool_loop() {
        return Some(
            "the calls just answered came without their thoughts, which OpenAI's format cannot carry",
        );
    }
    None
}
