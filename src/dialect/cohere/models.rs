//! What Cohere's models allow: the one place to touch when a new model has new rules.
//!
//! Reference: <https://docs.cohere.com/docs/models> and <https://docs.cohere.com/docs/reasoning>. Whatever is wrong
//! here for a model behind a gateway can be overridden with `defaults`, `rename` and `drop`, which act before it.

/// The rules of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether it can think, which it then does unless told otherwise. Others refuse to be told anything about it.
    pub(super) thinks: bool,
}

/// The rules of `model`, by whatever name a vendor or gateway lists it.
pub(super) fn rules(model: &str) -> Rules {
    Rules { thinks: THINKING.iter().any(|part| model.contains(part)) }
}

/// Parts of the names of models that think.
const THINKING: [&str; 3] = ["reasoning", "command-a-plus", "north-mini-code"];

/// How many tokens of an answer must be left when thinking is given a budget, as Cohere advises.
pub(super) const LEFT_FOR_THE_ANSWER: u64 = 1000;

/// What OpenAI's degrees of effort stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// No thinking.
    Off,
    /// At most so many tokens.
    Budget(u64),
    /// As much as it likes.
    Unlimited,
}

/// The meaning of OpenAI's word for a degree; Cohere's own translation of OpenAI's format knows `none` and `high`.
pub(super) fn effort(word: &str) -> Option<Effort> {
    match word {
        "none" => Some(Effort::Off),
        "minimal" => Some(Effort::Budget(1024)),
        "low" => Some(Effort::Budget(2048)),
        "medium" => Some(Effort::Budget(8192)),
        "high" | "xhigh" | "max" => Some(Effort::Unlimited),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_think_are_known_by_every_vendors_name() {
        for (name, thinks) in [
            ("command-a-reasoning-08-2025", true),
            ("cohere.command-a-reasoning-08-2025", true),
            ("command-a-plus-05-2026", true),
            ("north-mini-code-1-0", true),
            ("command-a-03-2025", false),
            ("command-r7b-12-2024", false),
            ("command-r-plus-08-2024", false),
            ("my-own-name", false),
        ] {
            assert_eq!(rules(name).thinks, thinks, "{name}");
        }
    }
}
