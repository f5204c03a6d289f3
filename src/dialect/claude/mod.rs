//! What Claude's models allow, by version and whoever serves them: the one place to touch when a new model has new
//! rules.
//!
//! Reference: <https://docs.anthropic.com/en/docs/about-claude/models/overview> and its migration guide. Whatever the
//! table gets wrong for a model behind a gateway can be overridden with `defaults`, `rename` and `drop`, which act
//! before it.

mod closing;
pub(super) mod schema;
pub(super) mod thinking;

use super::Untranslatable;
use super::loss::Losses;
use crate::openai::ChatRequest;

/// The rules of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `max_tokens` when the client gives none: the field is required.
    pub(super) default_max_tokens: u64,
    /// Which sampling parameters are taken.
    pub(super) sampling: Sampling,
    /// How the model is told to think.
    pub(super) thinking: Thinking,
    /// Whether answers and tool calls can be held to a schema.
    pub(super) structured: bool,
}

/// Which of `temperature`, `top_p` and `top_k` a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampling {
    /// All.
    All,
    /// `temperature` or `top_p`, but not both.
    Either,
    /// None: each is a 400.
    Nothing,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It cannot, or we do not know.
    Never,
    /// By a number of tokens below `max_tokens`.
    Budget,
    /// By an effort, from `low` to `max`; with `xhigh` where the flag says so.
    Effort { xhigh: bool },
}

/// What of the sampling parameters goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sampled {
    /// From 0 to 1.
    pub(super) temperature: Option<f64>,
    /// As the client gave it.
    pub(super) top_p: Option<f64>,
    /// As the client gave it.
    pub(super) top_k: Option<u64>,
}

impl Sampling {
    /// What of the client's sampling goes on to a model of `vendor`, whose temperature ends at 1.
    pub(super) fn of(
        self,
        request: &ChatRequest<'_>,
        vendor: &str,
        losses: &mut Losses,
    ) -> Result<Sampled, Untranslatable> {
        if self == Self::Nothing {
            let given = [says(request.temperature), says(request.top_p), request.top_k.is_some()];
            let names = ["temperature", "top_p", "top_k"].into_iter().zip(given);
            for (name, _) in names.filter(|(_, given)| *given) {
                losses.dropped(name, "this model takes no sampling parameters")?;
            }
            return Ok(Sampled::default());
        }
        if request.temperature.is_some_and(|temperature| temperature > 1.0) {
            losses.changed("temperature", format!("{vendor}'s temperature ends at 1"))?;
        }
        let mut temperature = request.temperature.map(|temperature| temperature.min(1.0));
        let mut top_p = request.top_p;
        if top_p.is_some() && temperature.is_some() && self == Self::Either {
            match (says(request.temperature), says(top_p)) {
                (false, true) => temperature = None,
                (_, false) => top_p = None,
                (true, true) => {
                    losses.dropped("top_p", "this model takes either temperature or top_p, not both")?;
                    top_p = None;
                }
            }
        }
        Ok(Sampled { temperature, top_p, top_k: request.top_k })
    }
}

/// Whether a temperature or a top_p is another than 1, which both mean where they are not given, to OpenAI and to Claude.
fn says(value: Option<f64>) -> bool {
    value.is_some_and(|value| value != 1.0)
}

/// The rules of `model`, by whatever name a vendor or gateway lists it.
pub(super) fn rules(model: &str) -> Rules {
    match version(model) {
        Some(version) => TABLE.iter().find(|(from, _)| version >= *from).map_or(UNKNOWN, |(_, rules)| *rules),
        None => UNKNOWN,
    }
}

/// Newest first: each line holds from its version up to the line above.
const TABLE: [((u8, u8), Rules); 8] = [
    ((4, 7), line(32_000, Sampling::Nothing, Thinking::Effort { xhigh: true }, true)),
    ((4, 6), line(32_000, Sampling::Either, Thinking::Effort { xhigh: false }, true)),
    ((4, 5), line(32_000, Sampling::Either, Thinking::Budget, true)),
    ((4, 1), line(16_000, Sampling::Either, Thinking::Budget, true)),
    ((4, 0), line(16_000, Sampling::All, Thinking::Budget, false)),
    ((3, 7), line(16_000, Sampling::All, Thinking::Budget, false)),
    ((3, 5), line(8_192, Sampling::All, Thinking::Never, false)),
    ((0, 0), line(4_096, Sampling::All, Thinking::Never, false)),
];

/// A name that does not tell: nothing is held back but what cannot be guessed.
const UNKNOWN: Rules = line(8_192, Sampling::All, Thinking::Never, true);

const fn line(default_max_tokens: u64, sampling: Sampling, thinking: Thinking, structured: bool) -> Rules {
    Rules { default_max_tokens, sampling, thinking, structured }
}

/// The version in a name: `claude-3-5-sonnet-20240620` is 3.5, `claude-opus-4@20250514` is 4.0, and a Claude without a
/// number is taken for the newest.
pub(super) fn version(model: &str) -> Option<(u8, u8)> {
    let (_, rest) = model.split_once("claude")?;
    let mut numbers = [None; 2];
    let mut found = 0;
    for token in rest.split(['-', '.', '@', ':', '_', '/']) {
        if found == numbers.len() || token.len() > 2 && token.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        if let Ok(number) = token.parse::<u8>() {
            numbers[found] = Some(number);
            found += 1;
        } else if found > 0 && token.starts_with('v') {
            break;
        }
    }
    let newest = (u8::MAX, 0);
    Some(numbers[0].map_or(newest, |major| (major, numbers[1].unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_every_vendors_name() {
        for (name, wanted) in [
            ("claude-sonnet-4-5", Some((4, 5))),
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", Some((3, 5))),
            ("us.anthropic.claude-opus-4-20250514-v1:0", Some((4, 0))),
            ("claude-opus-4@20250514", Some((4, 0))),
            ("claude-opus-4-1@20250805", Some((4, 1))),
            ("claude-4-opus-20250514", Some((4, 0))),
            ("anthropic/claude-sonnet-4.5", Some((4, 5))),
            ("claude-3-haiku-20240307", Some((3, 0))),
            ("claude-2.1", Some((2, 1))),
            ("claude-haiku-5-5", Some((5, 5))),
            ("claude-mythos-preview", Some((255, 0))),
            ("corp-llm-7", None),
        ] {
            assert_eq!(version(name), wanted, "{name}");
        }
    }

    #[test]
    fn newer_models_lose_sampling_and_gain_effort() {
        assert_eq!(rules("claude-3-haiku-20240307").default_max_tokens, 4096);
        assert_eq!(rules("claude-sonnet-4-20250514").sampling, Sampling::All);
        assert_eq!(rules("claude-sonnet-4-5").sampling, Sampling::Either);
        assert_eq!(rules("claude-sonnet-4-5").thinking, Thinking::Budget);
        assert_eq!(rules("claude-opus-4-6").thinking, Thinking::Effort { xhigh: false });
        assert_eq!(rules("claude-opus-5").sampling, Sampling::Nothing);
        assert_eq!(rules("my-own-name"), UNKNOWN);
    }
}
