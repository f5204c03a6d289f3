//! What Google's models allow, by family and version: the one place to touch when a new model has new rules.
//!
//! Reference: <https://ai.google.dev/gemini-api/docs/thinking> and
//! <https://ai.google.dev/gemini-api/docs/thought-signatures>. Whatever the table gets wrong for a model behind a gateway
//! can be overridden with `defaults`, `rename` and `drop`, which act before it.

/// The rules of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// How it is told to think.
    pub(super) thinking: Thinking,
    /// Whether calls carry ids and must carry signatures, and results may hold media: since the third generation.
    pub(super) signs_calls: bool,
    /// Whether it takes system text, which the Gemma models did not before their fourth generation.
    pub(super) takes_system: bool,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It cannot, or we do not know.
    Never,
    /// By a number of tokens between these two; whether 0, no thinking, may be said too.
    Budget { least: u64, most: u64, off: bool },
    /// By a level from the least one up to `HIGH`; whether `MEDIUM` is among them.
    Level { least: &'static str, medium: bool },
}

/// The rules of `model`, by whatever name a vendor or gateway lists it.
pub(super) fn rules(model: &str) -> Rules {
    if let Some(generation) = gemma(model) {
        return Rules { takes_system: generation >= 4, ..UNKNOWN };
    }
    let Some((family, version)) = read(model) else { return UNKNOWN };
    let is_it = |(f, from, _): &&(Family, Version, Thinking)| *f == family && version >= *from;
    let thinking = TABLE.iter().find(is_it).map_or(Thinking::Never, |(_, _, thinking)| *thinking);
    Rules { thinking, signs_calls: version >= (3, 0), takes_system: true }
}

/// Whether Vertex AI embeds with `model` by the methods of Gemini's own API, rather than by `predict`.
pub(super) fn embeds_content(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.contains("gemini")
}

type Version = (u8, u8);

/// The families, which differ in how they think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Pro,
    Flash,
    FlashLite,
    /// Those that draw or speak.
    Other,
}

/// Newest first within a family: each line holds from its version up to the line above.
const TABLE: [(Family, Version, Thinking); 8] = [
    (Family::Pro, (3, 1), Thinking::Level { least: "LOW", medium: true }),
    (Family::Pro, (3, 0), Thinking::Level { least: "LOW", medium: false }),
    (Family::Pro, (2, 5), Thinking::Budget { least: 128, most: 32_768, off: false }),
    (Family::Flash, (3, 6), Thinking::Level { least: "LOW", medium: true }),
    (Family::Flash, (3, 0), Thinking::Level { least: "MINIMAL", medium: true }),
    (Family::Flash, (2, 5), Thinking::Budget { least: 1, most: 24_576, off: true }),
    (Family::FlashLite, (3, 0), Thinking::Level { least: "MINIMAL", medium: true }),
    (Family::FlashLite, (2, 5), Thinking::Budget { least: 512, most: 24_576, off: true }),
];

/// A name that does not tell: nothing is held back but what cannot be guessed.
const UNKNOWN: Rules = Rules { thinking: Thinking::Never, signs_calls: false, takes_system: true };

/// The generation of a Gemma: `gemma-3n-e4b-it` is of the third. The first had no number, only a size (`gemma-7b-it`).
fn gemma(model: &str) -> Option<u8> {
    let (_, rest) = model.rsplit_once("gemma-")?;
    let first = rest.split('-').next().unwrap_or(rest);
    let digits = first.bytes().take_while(u8::is_ascii_digit).count();
    let is_size = first[digits..].starts_with('b');
    Some(if is_size { 1 } else { first[..digits].parse().unwrap_or(1) })
}

/// The family and version in a name: `gemini-2.5-flash-lite` and `google/gemini-3-pro-preview` tell them, and
/// `gemini-flash-latest` is taken for the newest.
fn read(model: &str) -> Option<(Family, Version)> {
    let (_, rest) = model.rsplit_once("gemini-")?;
    let (first, kind) = rest.split_once('-').unwrap_or((rest, ""));
    let (major, minor) = first.split_once('.').unwrap_or((first, "0"));
    let version = match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (major, minor),
        _ if rest.ends_with("-latest") => (u8::MAX, 0),
        _ => return None,
    };
    let kind = if version == (u8::MAX, 0) { rest } else { kind };
    let has = |word: &str| kind.split('-').any(|piece| piece == word);
    let family = match () {
        () if ["image", "tts", "audio", "live"].into_iter().any(has) => Family::Other,
        () if has("lite") => Family::FlashLite,
        () if has("flash") => Family::Flash,
        () => Family::Pro,
    };
    Some((family, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_and_version_are_read_from_every_name() {
        for (name, wanted) in [
            ("gemini-2.5-flash", Some((Family::Flash, (2, 5)))),
            ("gemini-2.5-flash-lite-preview-09-2025", Some((Family::FlashLite, (2, 5)))),
            ("models/gemini-2.5-pro", Some((Family::Pro, (2, 5)))),
            ("google/gemini-3-pro-preview", Some((Family::Pro, (3, 0)))),
            ("gemini-3.1-pro-preview", Some((Family::Pro, (3, 1)))),
            ("gemini-3.8-flash", Some((Family::Flash, (3, 8)))),
            ("gemini-2.5-flash-image", Some((Family::Other, (2, 5)))),
            ("gemini-2.5-flash-preview-tts", Some((Family::Other, (2, 5)))),
            ("gemini-2.0-flash-001", Some((Family::Flash, (2, 0)))),
            ("gemini-flash-latest", Some((Family::Flash, (255, 0)))),
            ("gemini-flash-lite-latest", Some((Family::FlashLite, (255, 0)))),
            ("gemini-exp-1206", None),
            ("gemma-3-27b-it", None),
            ("corp-llm", None),
        ] {
            assert_eq!(read(name), wanted, "{name}");
        }
    }

    #[test]
    fn levels_come_with_the_third_generation() {
        assert_eq!(rules("gemini-2.0-flash").thinking, Thinking::Never);
        assert_eq!(rules("gemini-2.5-flash-image").thinking, Thinking::Never);
        assert!(matches!(rules("gemini-2.5-pro").thinking, Thinking::Budget { off: false, .. }));
        assert_eq!(
            rules("gemini-3-flash-preview").thinking,
            Thinking::Level { least: "MINIMAL", medium: true }
        );
        assert_eq!(rules("gemini-pro-latest").thinking, Thinking::Level { least: "LOW", medium: true });
        assert!(rules("gemini-3-pro-preview").signs_calls && !rules("gemini-2.5-pro").signs_calls);
        assert_eq!(rules("my-own-name"), UNKNOWN);
    }

    #[test]
    fn gemma_takes_system_text_from_the_fourth_generation_on() {
        for (name, wanted) in [
            ("gemma-3-27b-it", false),
            ("models/gemma-3n-e4b-it", false),
            ("gemma-2-9b-it", false),
            ("gemma-7b-it", false),
            ("gemma-1.1-7b-it", false),
            ("gemma-", false),
            ("gemma-é", false),
            ("gemma-4-31b-it", true),
            ("gemini-2.5-flash", true),
        ] {
            assert_eq!(rules(name).takes_system, wanted, "{name}");
        }
    }

    #[test]
    fn only_embedding_models_of_old_are_asked_to_predict() {
        assert!(embeds_content("gemini-embedding-001") && embeds_content("google/gemini-embedding-2"));
        assert!(!embeds_content("text-embedding-005"));
    }
}
