//! `reasoning_effort` as the budget or level of thoughts that the model takes.
//!
//! Reference: <https://ai.google.dev/gemini-api/docs/thinking>; which effort is how much is Google's own mapping of
//! <https://ai.google.dev/gemini-api/docs/openai#thinking>.

use super::models::Thinking;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::openai::ChatRequest;
use crate::openai::json::Writer;

/// What is said about thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan<'a> {
    /// Nothing.
    Nothing,
    /// What the client sent as Gemini's own `thinking_config`.
    AsSent(&'a str),
    /// A number of tokens; 0 for none.
    Budget(u64),
    /// A level.
    Level(&'static str),
}

const FIELD: &str = "reasoning_effort";

/// Decides how the client's effort is carried over, or notes why it is not.
pub(super) fn plan<'a>(
    request: &ChatRequest<'a>,
    thinking: Thinking,
    losses: &mut Losses,
) -> Result<Plan<'a>, Untranslatable> {
    if let Some(raw) = request.other("thinking_config") {
        if request.reasoning_effort.is_some() {
            losses.dropped(FIELD, "Gemini's own `thinking_config` was given too")?;
        }
        return Ok(Plan::AsSent(raw.get()));
    }
    let Some(effort) = request.reasoning_effort.and_then(|text| text.decode()) else {
        return Ok(Plan::Nothing);
    };
    if !EFFORTS.contains(&&*effort) {
        losses.dropped(FIELD, "Gemini has no such degree of effort")?;
        return Ok(Plan::Nothing);
    }
    match thinking {
        Thinking::Never => {
            losses.dropped(FIELD, "this model is not known to think")?;
            Ok(Plan::Nothing)
        }
        Thinking::Budget { off: true, .. } if effort == "none" => Ok(Plan::Budget(0)),
        Thinking::Budget { least, most, .. } => {
            if effort == "none" {
                losses.changed(FIELD, "this model always thinks, so it got the least budget")?;
            }
            let wanted = tokens(&effort).clamp(least, most);
            // Thoughts and answer share the limit: half of it is left to the answer.
            let room = request.token_limit().map_or(most, |limit| limit / 2);
            if room < least {
                losses.dropped(FIELD, "the limit of tokens leaves no room for thoughts and an answer")?;
                return Ok(Plan::Nothing);
            }
            Ok(Plan::Budget(wanted.min(room)))
        }
        Thinking::Level { least, medium } => level(&effort, least, medium, losses).map(Plan::Level),
    }
}

/// OpenAI's degrees.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

fn tokens(effort: &str) -> u64 {
    match effort {
        "none" => 0,
        "minimal" | "low" => 1024,
        "medium" => 8192,
        "high" => 24_576,
        _ => u64::MAX,
    }
}

fn level(
    effort: &str,
    least: &'static str,
    medium: bool,
    losses: &mut Losses,
) -> Result<&'static str, Untranslatable> {
    let (level, is_same) = match effort {
        "none" => (least, false),
        "minimal" => (least, least == "MINIMAL"),
        "low" => ("LOW", true),
        "medium" if medium => ("MEDIUM", true),
        "high" => ("HIGH", true),
        _ => ("HIGH", false),
    };
    if !is_same {
        losses.changed(FIELD, format!("`{level}` is the nearest that this model knows"))?;
    }
    Ok(level)
}

/// Writes the plan as a member of the generation's settings. Thoughts that were asked for are shown.
pub(super) fn write(plan: Plan<'_>, json: &mut Writer<'_>) {
    if plan == Plan::Nothing {
        return;
    }
    json.key("thinkingConfig");
    if let Plan::AsSent(raw) = plan {
        return json.raw(raw);
    }
    json.object();
    match plan {
        Plan::Budget(tokens) => {
            json.key("thinkingBudget");
            json.value(&tokens);
        }
        Plan::Level(level) => json.tag("thinkingLevel", level),
        Plan::Nothing | Plan::AsSent(_) => {}
    }
    if plan != Plan::Budget(0) {
        json.key("includeThoughts");
        json.value(&true);
    }
    json.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(thinking: Thinking, body: &str) -> (String, usize) {
        let body = format!(r#"{{"messages":[],{body}}}"#);
        let request = ChatRequest::read(body.as_bytes()).unwrap();
        let mut losses = Losses::new(false);
        let plan = plan(&request, thinking, &mut losses).unwrap();
        (format!("{plan:?}"), losses.into_report().changes.len())
    }

    #[test]
    fn a_budget_leaves_half_of_the_limit_to_the_answer() {
        let flash = Thinking::Budget { least: 1, most: 24_576, off: true };
        let pro = Thinking::Budget { least: 128, most: 32_768, off: false };
        for (thinking, body, wanted) in [
            (flash, r#""reasoning_effort":"none""#, ("Budget(0)", 0)),
            (flash, r#""reasoning_effort":"low""#, ("Budget(1024)", 0)),
            (flash, r#""reasoning_effort":"high","max_tokens":100"#, ("Budget(50)", 0)),
            (flash, r#""reasoning_effort":"max""#, ("Budget(24576)", 0)),
            (pro, r#""reasoning_effort":"none""#, ("Budget(128)", 1)),
            (pro, r#""reasoning_effort":"high","max_tokens":100"#, ("Nothing", 1)),
            (pro, r#""reasoning_effort":"lots""#, ("Nothing", 1)),
            (pro, r#""reasoning_effort":"low","thinking_config":{"x":1}"#, (r#"AsSent("{\"x\":1}")"#, 1)),
            (Thinking::Never, r#""reasoning_effort":"low""#, ("Nothing", 1)),
            (pro, r#""seed":1"#, ("Nothing", 0)),
        ] {
            assert_eq!(planned(thinking, body), (wanted.0.to_owned(), wanted.1), "{body}");
        }
    }

    #[test]
    fn what_is_no_level_becomes_the_nearest_visibly() {
        let first = Thinking::Level { least: "LOW", medium: false };
        let flash = Thinking::Level { least: "MINIMAL", medium: true };
        for (thinking, effort, wanted) in [
            (first, "none", ("LOW", 1)),
            (first, "minimal", ("LOW", 1)),
            (first, "medium", ("HIGH", 1)),
            (first, "high", ("HIGH", 0)),
            (flash, "none", ("MINIMAL", 1)),
            (flash, "minimal", ("MINIMAL", 0)),
            (flash, "medium", ("MEDIUM", 0)),
            (flash, "xhigh", ("HIGH", 1)),
        ] {
            let wanted = (format!("Level(\"{}\")", wanted.0), wanted.1);
            assert_eq!(planned(thinking, &format!(r#""reasoning_effort":"{effort}""#)), wanted, "{effort}");
        }
    }
}
