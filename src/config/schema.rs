//! The JSON Schema of the configuration's file: what `raw` declares, and what only the whole can say.
//!
//! It is of draft 7, which every TOML editor's validator takes.

use serde_json::{Map, Value, json};

use super::raw::Root;
use super::shape::{Shape as _, one_of};
use crate::dialect::declared;

/// What an integration may be called, as `IntegrationName` reads it.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

/// The schema of `config.toml`. What it refuses, [`super::load`] refuses; what takes more than a look at one key, such
/// as a key that needs another, only [`super::load`] sees.
pub fn schema() -> Value {
    let mut root = Root::shape();
    let integrations = &mut root["properties"]["integrations"];
    integrations["propertyNames"] = json!({ "pattern": NAME });
    let integration = &mut integrations["additionalProperties"];
    let fields = &mut integration["properties"];
    // What an integration does not limit itself, `[limits]` does.
    for limit in members(&mut fields["limits"]["properties"]) {
        limit.remove("default");
    }
    describe_declared(fields);
    // The tables of a declared format have no effect, and no mistakes, in other formats.
    integration["if"] =
        json!({ "properties": { "format": { "const": "declared" } }, "required": ["format"] });
    integration["then"] = json!({ "properties": {
        "response": known(declared::RESPONSE),
        "stream": known(declared::STREAM),
    }});
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Outrider's configuration",
        "description": "config.toml of Outrider. Any string may hold ${VAR}, ${VAR:-default}, ${VAR:?message} or ${file:/path}. \
                        Durations: \"250ms\", \"5s\", \"2m\", \"1h\". Sizes: \"64KiB\", \"32MiB\", \"1GiB\" or a number of bytes. \
                        Relative paths are relative to the file.",
        // The file itself is no string.
        "type": "object",
        "properties": root["properties"],
        "additionalProperties": root["additionalProperties"],
    })
}

/// Says what may stand in `request`, `response` and `stream`, whose keys the format reads itself.
fn describe_declared(fields: &mut Value) {
    for (table, keys) in
        [("request", &[][..]), ("response", declared::RESPONSE), ("stream", declared::STREAM)]
    {
        let Some(field) = fields[table].as_object_mut() else { continue };
        field.insert("type".to_owned(), json!(["object", "string"]));
        field.insert("pattern".to_owned(), json!(r"\$\{"));
        if keys.is_empty() {
            continue;
        }
        let described = keys.iter().map(|key| ((*key).to_owned(), declared_key(key)));
        field.insert("properties".to_owned(), Value::Object(described.collect()));
    }
}

fn declared_key(key: &str) -> Value {
    let mut shape = match key {
        "framing" => one_of(declared::FRAMINGS.iter().copied()),
        "usage" => {
            let count = |name: &&str| ((*name).to_owned(), json!({ "description": declared::meaning(name) }));
            json!({ "properties": declared::COUNTS.iter().map(count).collect::<Map<_, _>>() })
        }
        _ => json!({}),
    };
    shape["description"] = Value::from(declared::meaning(key));
    shape
}

/// A table with these keys alone, whose `usage` has the counts alone.
fn known(keys: &[&str]) -> Value {
    json!({
        "propertyNames": { "enum": keys },
        "properties": { "usage": { "type": ["object", "string"], "propertyNames": { "enum": declared::COUNTS } } },
    })
}

fn members(table: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    table.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut)
}
