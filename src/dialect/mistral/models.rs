//! What Mistral's models take, thinking and sound: the one place to touch when a new model has new rules.
//!
//! Reference: <https://docs.mistral.ai/capabilities/reasoning/>; a model that lacks an effort refuses it. Whatever the
//! table gets wrong for a name can be overridden with `defaults` and `drop`, which act before it.

/// Whether `model` takes sound: those that are made for it, and names that do not tell.
pub(super) fn hears(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    model.contains("voxtral") || !FAMILIES.iter().any(|(family, _)| model.contains(family))
}

/// What a model takes as `reasoning_effort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Nothing: it never thinks, or always.
    Never,
    /// `none` or `high`.
    Switch,
    /// `none`, `low`, `medium` or `high`.
    Levels,
    /// We do not know: the client's word goes on as it is.
    Unknown,
}

impl Effort {
    /// What is sent for the client's `word`.
    pub(super) fn nearest(self, word: &str) -> Option<&'static str> {
        match (self, word) {
            (Self::Never | Self::Unknown, _) => None,
            (_, "none") => Some("none"),
            (_, "high" | "xhigh" | "max") | (Self::Switch, "low" | "medium") => Some("high"),
            (Self::Switch, "minimal") => Some("none"),
            (Self::Levels, "minimal" | "low") => Some("low"),
            (Self::Levels, "medium") => Some("medium"),
            _ => None,
        }
    }
}

/// What `model` takes, by whatever name a gateway lists it.
pub(super) fn effort(model: &str) -> Effort {
    let model = model.to_ascii_lowercase();
    let family = FAMILIES.iter().find_map(|(family, lines)| Some((model.split_once(family)?.1, *lines)));
    let Some((rest, lines)) = family else { return Effort::Unknown };
    let rest = rest.trim_start_matches('-');
    let version = version(rest);
    let holds = |(from, _): &&(u32, Effort)| version.is_some_and(|version| version >= *from);
    match lines.iter().find(holds) {
        Some((_, effort)) => *effort,
        None if rest.starts_with("latest") && lines.len() > 1 && lines[0].0 == LATEST => lines[0].1,
        None => Effort::Never,
    }
}

/// Each family's versions, newest first; a line holds from its version up to the line above.
const FAMILIES: [(&str, &[(u32, Effort)]); 13] = [
    // Small 4, whose names are dates; both `latest` names lead to it.
    (
        "mistral-small",
        &[(LATEST, Effort::Switch), (2603, Effort::Switch), (100, Effort::Never), (40, Effort::Switch)],
    ),
    ("magistral-small", &[(LATEST, Effort::Switch), (2603, Effort::Switch)]),
    // Medium 3.5, also dated 2604.
    ("mistral-medium", &[(2604, Effort::Switch), (100, Effort::Never), (35, Effort::Switch)]),
    ("mistral-large", &[(100, Effort::Never), (40, Effort::Levels)]),
    ("magistral", &[]),
    ("ministral", &[]),
    ("codestral", &[]),
    ("devstral", &[]),
    ("pixtral", &[]),
    ("mixtral", &[]),
    ("voxtral", &[]),
    ("mistral-nemo", &[]),
    ("mistral-tiny", &[]),
];

/// Above all versions: the line that says what `latest` means.
const LATEST: u32 = u32::MAX;

/// A date of four digits (`2603`), or ten times a version (`3-5` is 35, `4` is 40).
fn version(rest: &str) -> Option<u32> {
    let mut numbers = rest.split(['-', '.', '_', '@', ':']).map(str::parse::<u32>);
    match (numbers.next()?.ok()?, numbers.next()) {
        (date, _) if date >= 1000 => Some(date),
        (major, Some(Ok(minor))) if major < 10 && minor < 10 => Some(major * 10 + minor),
        (major, _) if major < 10 => Some(major * 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_takes_is_read_from_its_name() {
        for (model, wanted) in [
            ("mistral-small-latest", Effort::Switch),
            ("mistral-small-2603", Effort::Switch),
            ("mistral-small-2506", Effort::Never),
            ("mistralai/Mistral-Small-4-119B", Effort::Switch),
            ("mistral-small-3.2", Effort::Never),
            ("magistral-small-latest", Effort::Switch),
            ("magistral-small-2507", Effort::Never),
            ("magistral-medium-latest", Effort::Never),
            ("mistral-medium-3-5", Effort::Switch),
            ("mistral-medium-2604", Effort::Switch),
            ("mistral-medium-2508", Effort::Never),
            ("mistral-medium-latest", Effort::Never),
            ("mistral-large-4-0", Effort::Levels),
            ("mistral-large-4", Effort::Levels),
            ("mistral-large-2512", Effort::Never),
            ("mistral-large-latest", Effort::Never),
            ("codestral-latest", Effort::Never),
            ("corp-llm-7", Effort::Unknown),
        ] {
            assert_eq!(effort(model), wanted, "{model}");
        }
    }

    #[test]
    fn only_models_made_for_it_hear() {
        for (model, wanted) in
            [("voxtral-small-2507", true), ("mistral-large-latest", false), ("corp-llm-7", true)]
        {
            assert_eq!(hears(model), wanted, "{model}");
        }
    }

    #[test]
    fn a_word_that_a_model_lacks_becomes_the_nearest() {
        assert_eq!(Effort::Switch.nearest("medium"), Some("high"));
        assert_eq!(Effort::Switch.nearest("minimal"), Some("none"));
        assert_eq!(Effort::Levels.nearest("xhigh"), Some("high"));
        assert_eq!(Effort::Levels.nearest("medium"), Some("medium"));
        assert_eq!(Effort::Levels.nearest("odd"), None);
    }
}
