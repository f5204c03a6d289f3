//! JSON schemas for Cohere's structured outputs: what they lack is removed, visibly.
//!
//! Reference: <https://docs.cohere.com/docs/structured-outputs> (unsupported schema features).

use serde_json::{Map, Value};

use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::schema::each_inner;

/// Brings `schema` into the form that is taken; `path` is where it stands in the client's request.
///
/// # Errors
/// Only where the integration is strict and something would be lost.
pub(super) fn fit(schema: &str, path: &str, losses: &mut Losses) -> Result<Value, Untranslatable> {
    let mut value = serde_json::from_str(schema)
        .map_err(|e| Untranslatable::malformed(path.to_owned(), format!("this is not a JSON schema: {e}")))?;
    fit_value(&mut value, path, losses)?;
    Ok(value)
}

fn fit_value(schema: &mut Value, path: &str, losses: &mut Losses) -> Result<(), Untranslatable> {
    let Value::Object(object) = schema else { return Ok(()) };
    compose(object, path, losses)?;
    let lacks = |key: &str, value: &Value| match key {
        "format" => !value.as_str().is_some_and(|format| FORMATS.contains(&format)),
        "pattern" => value.as_str().is_some_and(|regex| ASSERTIONS.iter().any(|part| regex.contains(part))),
        _ => LACKING.contains(&key),
    };
    let gone: Vec<String> = object.iter().filter(|(k, v)| lacks(k, v)).map(|(k, _)| k.clone()).collect();
    for key in gone {
        object.shift_remove(&key);
        losses.dropped(format!("{path}.{key}"), "Cohere's structured outputs lack this schema keyword")?;
    }
    each_inner(object, path, |inner, path| fit_value(inner, path, losses))
}

/// `oneOf`, and `allOf` of one schema, can be said with `anyOf`.
fn compose(object: &mut Map<String, Value>, path: &str, losses: &mut Losses) -> Result<(), Untranslatable> {
    for key in ["oneOf", "allOf"] {
        let is_single = object.get(key).and_then(Value::as_array).is_some_and(|list| list.len() == 1);
        if object.contains_key("anyOf") || (key == "allOf" && !is_single) {
            continue;
        }
        if let Some(variants) = object.shift_remove(key) {
            object.insert("anyOf".to_owned(), variants);
            losses.changed(format!("{path}.{key}"), "Cohere's structured outputs know anyOf only")?;
        }
    }
    Ok(())
}

const LACKING: [&str; 12] = [
    "oneOf",
    "allOf",
    "not",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "uniqueItems",
];

const FORMATS: [&str; 4] = ["date-time", "uuid", "date", "time"];

/// What a pattern may not hold.
const ASSERTIONS: [&str; 4] = ["^", "$", "?=", "?!"];

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(schema: &str) -> (String, Vec<String>) {
        let mut losses = Losses::new(false);
        let value = fit(schema, "s", &mut losses).unwrap();
        let fields = losses.into_report().changes.into_iter().map(|c| c.field.into_owned()).collect();
        (value.to_string(), fields)
    }

    #[test]
    fn a_schema_that_fits_is_not_touched() {
        let schema = r##"{"type":"object","properties":{"minimum":{"type":"integer"},"l":{"type":"array","items":{"$ref":"#/$defs/d"}}},"required":["minimum"],"additionalProperties":false,"$defs":{"d":{"type":"string","format":"date","pattern":"[0-9]+"}}}"##;
        assert_eq!(fitted(schema), (schema.to_owned(), vec![]));
    }

    #[test]
    fn keywords_that_are_lacking_are_removed_and_named() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1},"b":{"oneOf":[{"type":"string","pattern":"^x$"},{"type":"null"}]},"c":{"allOf":[{"type":"string","format":"email"}]},"d":{"type":"array","items":{"type":"string","maxLength":3},"minItems":1}}}"#;
        let (fitted, fields) = fitted(schema);
        assert_eq!(
            fitted,
            r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"anyOf":[{"type":"string"},{"type":"null"}]},"c":{"anyOf":[{"type":"string"}]},"d":{"type":"array","items":{"type":"string"}}}}"#
        );
        assert_eq!(
            fields,
            [
                "s.properties.a.minimum",
                "s.properties.b.oneOf",
                "s.properties.b.anyOf[0].pattern",
                "s.properties.c.allOf",
                "s.properties.c.anyOf[0].format",
                "s.properties.d.minItems",
                "s.properties.d.items.maxLength",
            ]
        );
    }

    #[test]
    fn a_schema_may_be_true_and_properties_may_have_any_name() {
        let schema = r#"{"properties":{"not":true,"allOf":{"type":"string"}},"allOf":[{"type":"object"},{"required":["x"]}]}"#;
        let (fitted, fields) = fitted(schema);
        assert_eq!(fitted, r#"{"properties":{"not":true,"allOf":{"type":"string"}}}"#);
        assert_eq!(fields, ["s.allOf"]);
    }
}
