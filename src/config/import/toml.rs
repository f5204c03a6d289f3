//! TOML as it is written: keys, strings, values in one line, and tables that are too wide for one.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A table that would be wider in one line gets a section of its own, and a list one line for each element.
const WIDTH: usize = 100;

/// A key: bare if it may be.
pub(super) fn key(text: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !text.is_empty() && text.bytes().all(is_bare) { text.to_owned() } else { basic(text) }
}

/// A value in one line. A `null`, which TOML has not, is left out.
pub(super) fn value(json: &Value) -> String {
    match json {
        Value::Null => String::new(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().filter(|one| !one.is_null()).map(value).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(table) => {
            let pairs = table.iter().filter(|(_, one)| !one.is_null());
            let pairs: Vec<_> = pairs.map(|(name, one)| format!("{} = {}", key(name), value(one))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
    }
}

/// What stands in the table of an integration, a line or more for each key, and below it the tables in it that are too wide
/// for one line. `path` is the table's own, as it is written in its header; `comment` gives the lines above a key.
pub(super) fn table(path: &str, table: &Map<String, Value>, comment: &dyn Fn(&str) -> String) -> String {
    let (mut lines, mut below) = (String::new(), String::new());
    for (name, value) in table {
        match value {
            Value::Object(inner) if is_wide(name, value) => {
                let path = format!("{path}.{}", key(name));
                below.push_str(&format!("\n{}[{path}]\n{}", comment(name), section(&path, inner)));
            }
            _ => lines.push_str(&format!("{}{}", comment(name), entry(name, value))),
        }
    }
    lines + &below
}

/// Likewise for a table in it, whose order may count: only what is last in it may have a section of its own.
fn section(path: &str, table: &Map<String, Value>) -> String {
    let has_own = |(name, value): &(&String, &Value)| value.is_object() && is_wide(name, value);
    let own = table.iter().rev().take_while(has_own).count();
    let mut lines: String =
        table.iter().take(table.len() - own).map(|(name, value)| entry(name, value)).collect();
    for (name, value) in table.iter().skip(table.len() - own) {
        let (path, empty) = (format!("{path}.{}", key(name)), Map::new());
        lines.push_str(&format!("\n[{path}]\n{}", section(&path, value.as_object().unwrap_or(&empty))));
    }
    lines
}

/// A key and its value, a list on several lines if it is wide.
fn entry(name: &str, one: &Value) -> String {
    match one {
        Value::Array(values) if is_wide(name, one) => {
            let values = values.iter().filter(|one| !one.is_null());
            let lines: String = values.map(|one| format!("    {},\n", value(one))).collect();
            format!("{} = [\n{lines}]\n", key(name))
        }
        _ => format!("{} = {}\n", key(name), value(one)),
    }
}

fn is_wide(name: &str, one: &Value) -> bool {
    key(name).chars().count() + " = ".len() + value(one).chars().count() > WIDTH
}

/// A string: literal where a basic one would be full of backslashes.
fn string(text: &str) -> String {
    let needs_escapes = text.contains(['"', '\\']);
    let may_be_literal = !text.contains('\'') && !text.chars().any(char::is_control);
    if needs_escapes && may_be_literal { format!("'{text}'") } else { basic(text) }
}

fn basic(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("a String takes everything"),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(toml: &str) -> Value {
        let (dict, _) = text::toml(toml).unwrap_or_else(|garbled| panic!("{garbled:?}: {toml}"));
        text::to_json(&figment::value::Value::from(dict))
    }

    fn written(json: &Value) -> String {
        table("t", json.as_object().unwrap(), &|_| String::new())
    }

    /// JSON without `null`.
    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ -~]{0,60}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_as_it_was(pairs in prop::collection::vec((any::<String>(), tree()), 0..6)) {
            let json = json!({ "t": Value::Object(pairs.into_iter().collect()) });
            let toml = format!("[t]\n{}", written(&json["t"]));
            prop_assert_eq!(read(&toml), json, "{}", toml);
        }
    }

    #[test]
    fn what_is_wide_is_laid_out() {
        let long = "x".repeat(60);
        let json = json!({ "a b": 1, "wide": { "one": long, "two": "a \"quoted\" word", "three": [long, long] }, "z": "\u{7f}\n" });
        let toml = written(&json).replace(&long, "LONG");
        assert_eq!(
            toml,
            "\"a b\" = 1\nz = \"\\u007F\\n\"\n\n[t.wide]\none = \"LONG\"\ntwo = 'a \"quoted\" word'\nthree = [\n    \"LONG\",\n    \"LONG\",\n]\n"
        );
    }
}
