//! Which of Ollama's models think, and how they are told to: the one place to touch when a new model has new rules.
//!
//! Reference: <https://docs.ollama.com/capabilities/thinking>. Ollama refuses a request that wants a model to think that
//! cannot. What is wrong here for a model can be overridden with Ollama's own `think`, sent or set in `defaults`.

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It cannot, or we do not know.
    Never,
    /// To a degree, or not at all.
    Degrees,
    /// To a degree from `low` to `high`, and always.
    Always,
}

/// How `model` is told to think, by whatever name a registry lists it.
pub(super) fn thinking(model: &str) -> Thinking {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    if OTHERS.iter().any(|part| name.contains(part)) {
        return Thinking::Never;
    }
    TABLE.iter().find(|(family, _)| name.starts_with(family)).map_or(Thinking::Never, |(_, how)| *how)
}

const TABLE: [(&str, Thinking); 9] = [
    ("gpt-oss", Thinking::Always),
    ("qwen3", Thinking::Degrees),
    ("deepseek-r1", Thinking::Degrees),
    ("deepseek-v3.", Thinking::Degrees),
    ("magistral", Thinking::Degrees),
    ("glm-4.", Thinking::Degrees),
    ("kimi-k2-thinking", Thinking::Degrees),
    ("minimax-m2", Thinking::Degrees),
    ("nemotron-3", Thinking::Degrees),
];

/// Parts of the names of a family's members that do not think.
const OTHERS: [&str; 4] = ["coder", "instruct", "embed", "rerank"];

/// What `think` becomes for a degree of effort, and whether that is not quite what was asked for; `None` where the
/// model has nothing near it.
pub(super) fn think(thinking: Thinking, effort: &str) -> Option<(&'static str, bool)> {
    const NO: &str = "false";
    Some(match (thinking, effort) {
        // Every model takes it when it is told not to.
        (Thinking::Never | Thinking::Degrees, "none") => (NO, false),
        (Thinking::Never, _) => return None,
        (Thinking::Always, "none") | (_, "minimal") => ("\"low\"", true),
        (_, "low") => ("\"low\"", false),
        (_, "medium") => ("\"medium\"", false),
        (_, "high") => ("\"high\"", false),
        (Thinking::Degrees, "max") => ("\"max\"", false),
        (Thinking::Degrees, "xhigh") => ("\"max\"", true),
        (Thinking::Always, "xhigh" | "max") => ("\"high\"", true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_every_registrys_name() {
        for (name, wanted) in [
            ("gpt-oss:20b", Thinking::Always),
            ("qwen3:8b", Thinking::Degrees),
            ("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", Thinking::Degrees),
            ("qwen3-coder:30b", Thinking::Never),
            ("qwen3:4b-instruct", Thinking::Never),
            ("deepseek-r1:7b", Thinking::Degrees),
            ("deepseek-v3.1:671b-cloud", Thinking::Degrees),
            ("llama3.1", Thinking::Never),
            ("my-own-name", Thinking::Never),
        ] {
            assert_eq!(thinking(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_degree_is_the_nearest_that_the_model_has() {
        assert_eq!(think(Thinking::Never, "none"), Some(("false", false)));
        assert_eq!(think(Thinking::Never, "high"), None);
        assert_eq!(think(Thinking::Degrees, "xhigh"), Some(("\"max\"", true)));
        assert_eq!(think(Thinking::Always, "none"), Some(("\"low\"", true)));
        assert_eq!(think(Thinking::Always, "high"), Some(("\"high\"", false)));
        assert_eq!(think(Thinking::Degrees, "enormous"), None);
    }
}
