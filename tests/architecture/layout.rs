//! The layout of the binary (`.cargo/journey.ld`) names what is there: a name of our own that stands for nothing is lost
//! without a word, and what it named lies anywhere again.

use std::path::{Path, PathBuf};

const SCRIPT: &str = include_str!("../../.cargo/journey.ld");

/// The paths of our own that the layout names, each as its parts behind the crate's name.
fn named(script: &str) -> Vec<Vec<&str>> {
    let patterns =
        script.lines().filter_map(|line| line.trim().strip_prefix("*(.text.*")?.strip_suffix("*)"));
    patterns.filter_map(|it| mangled(it).or_else(|| written(it))).collect()
}

/// `8outrider5proxy7journey`: each part with its length before it. What is written otherwise is one part, and not there.
fn mangled(name: &str) -> Option<Vec<&str>> {
    let mut rest = name.strip_prefix("8outrider")?;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, behind) = first(rest).unwrap_or((rest, ""));
        parts.push(part);
        rest = behind;
    }
    Some(parts)
}

fn first(name: &str) -> Option<(&str, &str)> {
    let length = name.find(|c: char| !c.is_ascii_digit())?;
    let (digits, name) = name.split_at(length);
    name.split_at_checked(digits.parse().ok()?)
}

/// `outrider..proxy..journey`.
fn written(name: &str) -> Option<Vec<&str>> {
    Some(name.strip_prefix("outrider..")?.split("..").collect())
}

/// Whether `parts` lead from `src` to a module, or to what a module declares.
fn is_there(src: &Path, parts: &[&str]) -> bool {
    let (mut folder, mut text) = (PathBuf::from(src), String::new());
    for part in parts {
        let below = [folder.join(part).join("mod.rs"), folder.join(format!("{part}.rs"))];
        if let Some(module) = below.into_iter().find(|file| file.is_file()) {
            text = std::fs::read_to_string(module).expect("Rust sources are UTF-8");
            folder.push(part);
        } else if !["fn", "struct", "enum", "trait"].iter().any(|word| declares(&text, word, part)) {
            return false;
        }
    }
    !parts.is_empty()
}

fn declares(text: &str, word: &str, name: &str) -> bool {
    let declared = format!("{word} {name}");
    text.match_indices(&declared).any(|(at, _)| {
        let next = text[at + declared.len()..].chars().next();
        next.is_some_and(|c| !c.is_alphanumeric() && c != '_')
    })
}

#[test]
fn the_layout_names_what_is_there() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = named(SCRIPT);
    assert!(named.len() > 40, "only {} of our own names were found in the layout", named.len());
    let gone: Vec<_> = named.iter().filter(|parts| !is_there(&src, parts)).collect();
    assert!(gone.is_empty(), ".cargo/journey.ld names what is not there: {gone:?}");
}

#[test]
fn a_name_that_stands_for_nothing_is_found() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (name, there) in [
        ("8outrider5proxy7journey", true),
        ("8outrider6egress6Egress4send", true),
        ("outrider..proxy..visit", true),
        ("8outrider5proxy7journal", false),
        ("8outrider6egress6Egress4sen", false),
        ("outrider..proxies", false),
    ] {
        let script = format!("    *(.text.*{name}*)\n");
        assert!(named(&script).iter().all(|parts| is_there(&src, parts)) == there, "{name}");
    }
}
