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
    // What cannot be read member by member goes on as it is, and not as nothing.
    let Ok(mut object) = Object::read(schema.get()) else { return json.raw(schema.get()) };
    if object.take("type").is_some() {
        return json.raw(schema.get());
    }
    json.object();
    json.tag("type", "object");
    for (name, value) in object.members().filter(|(name, _)| *name != "type") {
        json.name(name);
        json.raw(value.get());
    }
    json.end_object();
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn a_schema_becomes_one_of_an_object_and_keeps_all_else_as_it_was_written() {
        let written = |schema: &str| {
            let raw: &serde_json::value::RawValue = serde_json::from_str(schema).unwrap();
            let mut out = BytesMut::new();
            write_object(raw.into(), &mut Writer::new(&mut out));
            String::from_utf8(out.to_vec()).unwrap()
        };
        for (schema, wanted) in [
            ("{}", ANYTHING),
            (r#"{ "type": "object" }"#, r#"{ "type": "object" }"#),
            (r#"{"type":null,"title":"t"}"#, r#"{"type":"object","title":"t"}"#),
            (
                r#"{"enum":[12345678901234567890123, 1e2],"properties":{"\ud800":{}}}"#,
                r#"{"type":"object","enum":[12345678901234567890123, 1e2],"properties":{"\ud800":{}}}"#,
            ),
            (r#"{"\ud800":1,"title":"t"}"#, r#"{"\ud800":1,"title":"t"}"#),
        ] {
            assert_eq!(written(schema), wanted, "{schema}");
        }
    }
}
