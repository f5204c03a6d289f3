//! JSON schemas, as far as several providers treat them alike.

use serde_json::{Map, Value};

use super::Untranslatable;
use crate::openai::json::{Object, Raw, Writer};

/// Calls `fit` with every schema that stands directly in `schema`, and with its path.
pub(super) fn each_inner(
    schema: &mut Map<String, Value>,
    path: &str,
    mut fit: impl FnMut(&mut Value, &str) -> Result<(), Untranslatable>,
) -> Result<(), Untranslatable> {
    for (key, value) in schema.iter_mut() {
        let path = format!("{path}.{key}");
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(members)) => {
                for (name, member) in members.iter_mut() {
                    fit(member, &format!("{path}.{name}"))?;
                }
            }
            ("anyOf" | "allOf", Value::Array(variants)) => {
                for (index, variant) in variants.iter_mut().enumerate() {
                    fit(variant, &format!("{path}[{index}]"))?;
                }
            }
            ("items", value) => fit(value, &path)?,
            _ => {}
        }
    }
    Ok(())
}

/// The schema of no arguments, as the strict ones must be: closed.
pub(super) const NOTHING: &str = r#"{"type":"object","properties":{},"additionalProperties":false}"#;

/// The schema of whatever arguments.
pub(super) const ANYTHING: &str = r#"{"type":"object"}"#;

/// Writes the schema of a tool's arguments as it is, but always of type object.
pub(super) fn write_object(schema: Raw<'_>, json: &mut Writer<'_>) {
    let has_type = Object::read(schema.get()).is_ok_and(|mut object| object.take("type").is_some());
    if has_type {
        return json.raw(schema.get());
    }
    let members: Map<String, Value> = serde_json::from_str(schema.get()).unwrap_or_default();
    json.object();
    json.tag("type", "object");
    for (name, value) in members.iter().filter(|(name, _)| *name != "type") {
        json.name(name);
        json.value(value);
    }
    json.end_object();
}
