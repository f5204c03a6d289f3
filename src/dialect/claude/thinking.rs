//! `reasoning_effort` as Claude's thinking: only where all of its conditions hold, and never at the cost of what the
//! client said about tokens, temperature or tools.
//!
//! Reference: <https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking>.

use super::{Rules, Sampling, Thinking};
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::turns::Conversation;
use crate::openai::ChatRequest;
use crate::openai::json::{Object, Writer};
use crate::openai::tool::ToolChoice;

/// What is said about thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Plan<'a> {
    /// Nothing.
    Nothing,
    /// What the client sent as Claude's own `thinking`.
    AsSent(&'a str),
    /// A number of tokens.
    Budget(u64),
    /// A degree, and whether to think at all.
    Effort { word: &'static str, think: bool },
}

impl Plan<'_> {
    /// Writes the member `thinking`, if there is anything to say.
    pub(in crate::dialect) fn write(self, json: &mut Writer<'_>) {
        match self {
            Self::Nothing | Self::Effort { think: false, .. } => {}
            Self::AsSent(raw) => {
                json.key("thinking");
                json.raw(raw);
            }
            Self::Budget(tokens) => {
                json.key("thinking");
                json.object();
                json.tag("type", "enabled");
                json.key("budget_tokens");
                json.value(&tokens);
                json.end_object();
            }
            Self::Effort { think: true, .. } => {
                json.key("thinking");
                json.object();
                json.tag("type", "adaptive");
                json.end_object();
            }
        }
    }

    /// The degree of effort, where it is told by a word.
    pub(in crate::dialect) fn effort(self) -> Option<&'static str> {
        if let Self::Effort { word, .. } = self { Some(word) } else { None }
    }
}

/// What of a conversation stands in the way of thinking.
#[derive(Clone, Copy, Debug)]
pub(in crate::dialect) struct Setting {
    /// A call is demanded.
    pub(in crate::dialect) forced: bool,
    /// The model is asked to go on with its own words.
    pub(in crate::dialect) prefill: bool,
    /// The model's calls have just been answered.
    pub(in crate::dialect) in_tool_loop: bool,
}

impl Setting {
    /// The setting of a request.
    pub(in crate::dialect) fn of<M: std::fmt::Debug>(
        request: &ChatRequest<'_>,
        conversation: &Conversation<'_, M>,
    ) -> Self {
        let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
        Self {
            forced: forced && !request.tools.is_empty(),
            prefill: conversation.is_prefill(),
            in_tool_loop: conversation.is_in_tool_loop(),
        }
    }
}

/// The smallest budget that Claude takes.
const LEAST: u64 = 1024;

/// The budget in Claude's own `thinking`, where the client sends it.
pub(in crate::dialect) fn asked_budget(request: &ChatRequest<'_>) -> Option<u64> {
    let asked = Object::read(request.other("thinking")?.get()).ok()?.take("budget_tokens")?;
    asked.get().parse().ok()
}

/// Decides how the client's effort is carried over, or notes why it is not.
pub(in crate::dialect) fn plan<'a>(
    request: &ChatRequest<'a>,
    setting: Setting,
    rules: Rules,
    max_tokens: u64,
    losses: &mut Losses,
) -> Result<Plan<'a>, Untranslatable> {
    let effort = request.reasoning_effort;
    if let Some(raw) = request.other("thinking") {
        if effort.is_some() {
            losses.dropped(FIELD, "Claude's own `thinking` was given too")?;
        }
        return Ok(Plan::AsSent(raw.get()));
    }
    let Some(effort) = effort else { return Ok(Plan::Nothing) };
    let Some((degree, budget)) = degree(&effort.decode().unwrap_or_default()) else {
        losses.dropped(FIELD, "Claude has no such degree of effort")?;
        return Ok(Plan::Nothing);
    };
    let obstacle = obstacle(request, setting, rules);
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
fn obstacle(request: &ChatRequest<'_>, setting: Setting, rules: Rules) -> Option<&'static str> {
    let samples = rules.sampling != Sampling::Nothing;
    if samples && request.temperature.is_some_and(|t| t < 1.0) {
        return Some("thinking needs temperature 1, and the client's temperature was kept");
    }
    if samples && (request.top_k.is_some() || request.top_p.is_some_and(|p| p < 0.95)) {
        return Some("thinking does not go with top_k, or with top_p below 0.95");
    }
    if setting.forced {
        return Some("thinking does not go with a tool_choice that forces a call");
    }
    if setting.prefill {
        return Some("thinking does not go with a last message of the assistant");
    }
    // Models that are told an effort accept calls without the thoughts that led to them.
    if rules.thinking == Thinking::Budget && setting.in_tool_loop {
        return Some(
            "the calls just answered came without their thoughts, which OpenAI's format cannot carry",
        );
    }
    None
}
