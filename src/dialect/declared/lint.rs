//! What a compiler of expressions lets pass: names of filters and tests that do not exist, in branches that a sample
//! may never reach.

use super::engine;
use super::filters;
use super::tokens::{Token, tokens};

/// A call of something that does not exist.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) message: String,
    pub(super) help: &'static str,
    pub(super) unknown: Option<(String, &'static [&'static str])>,
}

/// minijinja's own filters, for suggestions.
const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
    filters::NAMES[0],
    filters::NAMES[1],
    filters::NAMES[2],
    filters::NAMES[3],
    filters::NAMES[4],
    filters::NAMES[5],
    filters::NAMES[6],
];

/// minijinja's tests, for suggestions.
const TESTS: &[&str] = &[
    "defined",
    "undefined",
    "none",
    "true",
    "false",
    "boolean",
    "number",
    "integer",
    "float",
    "string",
    "sequence",
    "mapping",
    "iterable",
    "odd",
    "even",
    "in",
    "startingwith",
    "endingwith",
    "divisibleby",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "sameas",
];

const KEYWORDS: [&str; 7] = ["and", "or", "not", "in", "is", "if", "else"];

/// Every filter and test in `source` that does not exist, and every call of a function or method: there are none.
pub(super) fn calls(source: &str) -> Vec<Found> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Name(name) = token else { continue };
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let is_called = tokens.get(at + 1) == Some(&Token::Sign('('));
        match before {
            Some(Token::Sign('|')) if engine::knows("filter", name) => {}
            Some(Token::Sign('|')) => {
                found.push(unknown("filter", name, FILTERS, "docs/declared.md lists the filters"));
            }
            _ if is_test(&tokens, at) && engine::knows("test", name) => {}
            _ if is_test(&tokens, at) => {
                found.push(unknown("test", name, TESTS, "such as `is defined`, `is none`, `is string`"));
            }
            Some(Token::Sign('.')) if is_called => found.push(Found {
                message: format!("calls a method, `{name}`, and values have none"),
                help: "take a member as value.name, and use filters: `value | name`",
                unknown: None,
            }),
            _ if is_called && !KEYWORDS.contains(name) => found.push(Found {
                message: format!("calls a function, `{name}`, and there are none"),
                help: "use a filter: `value | name`",
                unknown: None,
            }),
            _ => {}
        }
    }
    found
}

fn unknown(kind: &str, name: &str, known: &'static [&'static str], help: &'static str) -> Found {
    let message = format!("uses an unknown {kind}, `{name}`");
    Found { message, help, unknown: Some((name.to_owned(), known)) }
}

/// Whether the name at `at` follows `is` or `is not`.
fn is_test(tokens: &[Token<'_>], at: usize) -> bool {
    let name = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    let is = Some(&Token::Name("is"));
    tokens[at] != Token::Name("not")
        && (name(1) == is || (name(1) == Some(&Token::Name("not")) && name(2) == is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_exist_is_found_wherever_it_stands() {
        for (source, wanted) in [
            ("a | upper | join_prompt(user='x | y')", ""),
            ("'b' if a is not defined else (c | uper)", "filter, `uper`"),
            ("a is strng", "test, `strng`"),
            ("a is not (none)", ""),
            ("not (a) and (b) or c in (d)", ""),
            ("a.get('b')", "method, `get`"),
            ("env('HOME')", "function, `env`"),
            ("\"it's | odd\" ~ 1.5", ""),
        ] {
            let found = calls(source);
            let words = found.first().map_or("", |found| &found.message);
            assert!(
                if wanted.is_empty() { words.is_empty() } else { words.contains(wanted) },
                "{source}: {words}"
            );
        }
    }

    #[test]
    fn every_suggestion_exists() {
        assert!(FILTERS.iter().all(|name| engine::knows("filter", name)));
        assert!(TESTS.iter().all(|name| engine::knows("test", name)));
    }
}
