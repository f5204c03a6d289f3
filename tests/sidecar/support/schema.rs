//! The schema of the configuration, against which every configuration is held that the program takes in these tests.

use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::draft7::new(&outrider::config::schema()).expect("`outrider schema` prints a schema")
});

/// What the schema has against the TOML `text`.
pub(crate) fn refusals(text: &str) -> Vec<String> {
    let document = json(toml::from_str(text).expect("it is TOML"));
    VALIDATOR.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Fails if the schema refuses the configuration at `path`, which the program takes.
pub(crate) fn holds(path: &Path) {
    // It may come from a directory or a link that changes while it is used.
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let refusals = refusals(&text);
    assert!(refusals.is_empty(), "the schema refuses what the program takes: {refusals:#?}\n{text}");
}

/// As editors see it: dates are texts.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(flag) => Value::from(flag),
        toml::Value::Datetime(date) => Value::from(date.to_string()),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
    }
}
