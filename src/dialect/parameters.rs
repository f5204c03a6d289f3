//! A function's parameters for vendors that want a schema of type object, whatever the client gave.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::openai::json::{Object, Writer};

/// Writes the client's schema as it is, but always of type object; for a function without one, one that takes anything.
pub(super) fn write(schema: Option<&RawValue>, json: &mut Writer<'_>) {
    let Some(schema) = schema else { return json.raw(ANYTHING) };
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

const ANYTHING: &str = r#"{"type":"object"}"#;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn a_schema_is_of_type_object_whatever_came() {
        for (given, wanted) in [
            (None, r#"{"type":"object"}"#),
            (Some(r#"{"type": "object"}"#), r#"{"type": "object"}"#),
            (Some(r#"{"properties":{"a":{}}}"#), r#"{"type":"object","properties":{"a":{}}}"#),
            (Some(r#"{"type":null,"x":1}"#), r#"{"type":"object","x":1}"#),
        ] {
            let raw: Option<Box<RawValue>> = given.map(|json| serde_json::from_str(json).unwrap());
            let mut out = BytesMut::new();
            write(raw.as_deref(), &mut Writer::new(&mut out));
            assert_eq!(out, wanted);
        }
    }
}
