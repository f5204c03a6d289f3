//! A key or a table that is written twice: which it is, and where it stood first.

use toml::de::{DeTable, DeValue};

use super::mask;
use super::places::{At, Inside, Layer, line_and_column, shown_key};
use super::problem::{Problem, Severity, Snippet};
use super::text::{self, Twice};

/// What stands twice.
pub(super) struct Again {
    /// Its path.
    pub(super) at: At,
    /// The line that it stood in first, from 1.
    pub(super) first: usize,
    /// The line of a table's name, to be shown: names are no secrets.
    pub(super) snippet: Option<Snippet>,
}

impl Again {
    /// What the parser calls a duplicate key at byte `at`; nothing where it stood first cannot be told.
    pub(super) fn find(layer: &Layer, at: usize) -> Option<Self> {
        let whole = &layer.text;
        let start = whole.get(..at)?.rfind('\n').map_or(0, |n| n + 1);
        let line = whole[start..].lines().next()?;
        let above = &whole[..start];
        let (keys, snippet) = match header(line) {
            Some(keys) => (keys.clone(), Some(shown(line, &keys))),
            None => {
                let mut keys = above.lines().rev().find_map(header).unwrap_or_default();
                keys.extend(names(&format!("{}= 0", line.split('=').next()?))?);
                (keys, None)
            }
        };
        let root = text::toml_so_far(above);
        let mut node = &root;
        for key in &keys {
            let Inside::Table(table) = &node.inside else { return None };
            node = table.get(key)?;
        }
        let first = line_and_column(whole, node.mark.start).0;
        let at = keys.iter().fold(At::root(), |at, key| at.key(key));
        Some(Self { at, first, snippet })
    }
}

/// What to say of a key that stands twice in one object of JSON.
pub(super) fn in_json(layer: &Layer, twice: &Twice) -> Problem {
    let Twice { at, mark, first: (line, column) } = twice;
    Problem {
        key: Some(at.to_string()),
        integration: at.integration_name().map(str::to_owned),
        place: Some(layer.place_in_text(mark, mask::line(layer, mark))),
        ..Problem::nowhere(Severity::Error, format!("`{at}` stands twice in one object"))
    }
    .with_help(format!("it stands in line {line}, column {column} already: keep one of them"))
}

/// The keys of the table that `line` begins.
pub(super) fn header(line: &str) -> Option<Vec<String>> {
    if line.trim_start().starts_with('[') { names(line) } else { None }
}

/// The keys that `line`, which is a line of TOML by itself, leads to.
fn names(line: &str) -> Option<Vec<String>> {
    let parsed = DeTable::parse(line).ok()?;
    let (mut keys, mut table) = (Vec::new(), parsed.get_ref());
    while let Some((key, value)) = table.iter().next() {
        keys.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    (!keys.is_empty()).then_some(keys)
}

/// The header of the table `keys`, its last key underlined.
fn shown(line: &str, keys: &[String]) -> Snippet {
    let is_bare = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*'));
    let written = |key: &String| {
        let shown = shown_key(key);
        if is_bare(shown) { shown.to_owned() } else { format!("{shown:?}") }
    };
    let all: Vec<_> = keys.iter().map(written).collect();
    let indent = line.len() - line.trim_start().len();
    let text = format!("{}[{}]", " ".repeat(indent), all.join("."));
    let width = all.last().map_or(1, |key| key.chars().count());
    Snippet { from: text.chars().count() - 1 - width, text, width }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_told_from_a_line_of_an_array() {
        assert_eq!(
            header("[integrations.\"a.b\".limits] # old"),
            Some(vec!["integrations".to_owned(), "a.b".to_owned(), "limits".to_owned()])
        );
        assert_eq!(header("[1, 2],"), None);
        assert_eq!(header("a = 1"), None);
        assert_eq!(names("a.b = 0"), Some(vec!["a".to_owned(), "b".to_owned()]));
    }
}
