//! `config.toml.example` holds every key, loads as it is, and loads with each of its examples switched on.

use super::House;
use crate::config::{Loaded, raw};

const EXAMPLE: &str = include_str!("../../../config.toml.example");

/// The examples that are switched off: runs of lines that begin with `#` and no space, as ranges of lines.
pub(super) fn blocks() -> Vec<std::ops::Range<usize>> {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    let off = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let mut blocks: Vec<std::ops::Range<usize>> = Vec::new();
    for (n, _) in lines.iter().enumerate().filter(|(_, line)| off(line)) {
        match blocks.last_mut() {
            // A table is one example; single keys are one each, since they may be alternatives.
            Some(last) if last.end == n && lines[last.start].starts_with("#[") => last.end = n + 1,
            _ => blocks.push(n..n + 1),
        }
    }
    blocks
}

/// The example with the lines of `block` switched on; a key that stands there already is switched off.
pub(super) fn switched_on(block: &std::ops::Range<usize>) -> String {
    let first = EXAMPLE.lines().nth(block.start).unwrap();
    let key = first[1..].split(" =").next().unwrap();
    let is_same = |n: usize, line: &str| n + 1 == block.start && line.starts_with(&format!("{key} ="));
    let line = |(n, line): (usize, &str)| match line {
        line if block.contains(&n) => line[1..].to_owned(),
        line if is_same(n, line) => format!("#{line}"),
        line => line.to_owned(),
    };
    EXAMPLE.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// Loads `text` where every variable is set that it gives a placeholder as default.
fn filled(text: &str) -> Loaded {
    let names = text.split("${").skip(1).filter_map(|form| form.split_once(":-replace-me}"));
    House::new(text).env(names.map(|(name, _)| (name, "s3cret"))).loaded()
}

#[test]
fn the_example_loads_as_it_is_and_is_warned_of_its_placeholders_alone() {
    let warnings = House::new(EXAMPLE).loaded().warnings;
    assert!(!warnings.is_empty());
    for warning in warnings.iter() {
        assert!(warning.message.ends_with("looks like a placeholder"), "{warnings}");
    }
    let loaded = filled(EXAMPLE);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.settings.integrations.len(), 2);
}

#[test]
fn what_the_example_says_is_the_default() {
    let (example, empty) = (House::new(EXAMPLE).loaded().settings, House::new("").loaded().settings);
    assert_eq!((example.server, example.admin, example.log), (empty.server, empty.admin, empty.log));
    assert_eq!(example.handlers, empty.handlers);
    let bare = House::new(&super::acme("")).loaded().settings.integrations["acme"].limits;
    assert_eq!(example.integrations["together"].limits, bare);
}

#[test]
fn each_example_that_is_switched_on_loads() {
    let blocks = blocks();
    assert!(blocks.len() >= 20, "only {} examples were found", blocks.len());
    for block in blocks {
        let text = switched_on(&block);
        let loaded = filled(&text);
        assert!(loaded.warnings.is_empty(), "line {}: {}", block.start + 1, loaded.warnings);
    }
}

#[test]
fn the_example_holds_every_key() {
    let written = |key: &str| {
        EXAMPLE.match_indices(key).any(|(n, _)| {
            let before = EXAMPLE[..n].chars().next_back().unwrap_or('\n');
            let after = EXAMPLE[n + key.len()..].chars().next().unwrap_or('\n');
            !before.is_alphanumeric() && before != '_' && !after.is_alphanumeric() && after != '_'
        })
    };
    let missing: Vec<_> = raw::all_keys().filter(|key| !written(key) && !key.ends_with("_file")).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
