//! JSON schemas for `responseJsonSchema`: what Gemini does not take is removed, visibly.
//!
//! Reference: <https://ai.google.dev/api/generate-content#generationconfig>.

use serde_json::{Map, Value};

use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::schema::each_inner;
use crate::openai::json::Text;

/// Brings `schema` into the form that is taken; `path` is where it stands in the client's request. A description that
/// stands beside it there moves into it.
///
/// # Errors
/// Only where the integration is strict and something would be lost.
pub(super) fn fit(
    schema: &str,
    description: Option<Text<'_>>,
    path: &str,
    losses: &mut Losses,
) -> Result<Value, Untranslatable> {
    let mut value: Value = serde_json::from_str(schema)
        .map_err(|e| Untranslatable::malformed(path.to_owned(), format!("this is not a JSON schema: {e}")))?;
    fit_value(&mut value, path, losses)?;
    if let (Value::Object(object), Some(words)) = (&mut value, description.and_then(Text::decode)) {
        object.entry("description").or_insert_with(|| words.into());
    }
    Ok(value)
}

fn fit_value(schema: &mut Value, path: &str, losses: &mut Losses) -> Result<(), Untranslatable> {
    let Value::Object(object) = schema else { return Ok(()) };
    reword(object, path, losses)?;
    remove_unknown(object, path, losses)?;
    each_inner(object, path, |inner, path| fit_value(inner, path, losses))?;
    for key in ["oneOf", "prefixItems"] {
        for (index, variant) in
            object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            fit_value(variant, &format!("{path}.{key}[{index}]"), losses)?;
        }
    }
    match object.get_mut("additionalProperties") {
        Some(inner) => fit_value(inner, &format!("{path}.additionalProperties"), losses),
        None => Ok(()),
    }
}

/// Says the same in the words that are taken.
fn reword(object: &mut Map<String, Value>, path: &str, losses: &mut Losses) -> Result<(), Untranslatable> {
    if let Some(members) = object.shift_remove("definitions") {
        add(object, "$defs", members, &format!("{path}.definitions"), losses)?;
    }
    if let Some(Value::String(target)) = object.get_mut("$ref")
        && let Some(name) = target.strip_prefix("#/definitions/")
    {
        *target = format!("#/$defs/{name}");
    }
    if let Some(value @ (Value::String(_) | Value::Number(_))) = object.get("const").cloned()
        && !object.contains_key("enum")
    {
        object.shift_remove("const");
        object.insert("enum".to_owned(), Value::Array(vec![value]));
    }
    let is_lone = |value: &Value| value.as_array().is_some_and(|all| all.len() == 1 && all[0].is_object());
    if object.get("allOf").is_some_and(is_lone)
        && let Some(Value::Array(mut all)) = object.shift_remove("allOf")
        && let Some(Value::Object(one)) = all.pop()
    {
        for (key, value) in one {
            add(object, &key, value, &format!("{path}.allOf[0].{key}"), losses)?;
        }
        return reword(object, path, losses);
    }
    Ok(())
}

/// Adds what stood at `path` to what `object` says under `key`, if it says anything there: member by member where both
/// hold at once.
fn add(
    object: &mut Map<String, Value>,
    key: &str,
    value: Value,
    path: &str,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let why = "it is said twice, and Gemini has one place for it";
    match (object.get_mut(key), value) {
        (None, value) => {
            object.insert(key.to_owned(), value);
        }
        (Some(own), value) if *own == value => {}
        (Some(Value::Object(own)), Value::Object(more)) if key == "properties" || key == "$defs" => {
            for (name, member) in more {
                if *own.entry(name.as_str()).or_insert_with(|| member.clone()) != member {
                    losses.dropped(format!("{path}.{name}"), why)?;
                }
            }
        }
        (Some(Value::Array(own)), Value::Array(more)) if key == "required" => {
            for name in more.into_iter().filter(|name| name.is_string()) {
                if !own.contains(&name) {
                    own.push(name);
                }
            }
        }
        (Some(_), _) => losses.dropped(path.to_owned(), why)?,
    }
    Ok(())
}

fn remove_unknown(
    object: &mut Map<String, Value>,
    path: &str,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let refers = object.contains_key("$ref");
    let is_taken = |key: &str| KEYWORDS.contains(&key) && (!refers || key.starts_with('$'));
    let unknown: Vec<String> = object.keys().filter(|key| !is_taken(key)).cloned().collect();
    for key in unknown {
        object.shift_remove(&key);
        let why = match refers {
            true => "Gemini takes nothing beside a `$ref`",
            false => "Gemini's structured output lacks this schema keyword",
        };
        losses.dropped(format!("{path}.{key}"), why)?;
    }
    Ok(())
}

const KEYWORDS: [&str; 21] = [
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(schema: &str) -> (String, Vec<String>) {
        let mut losses = Losses::new(false);
        let value = fit(schema, None, "s", &mut losses).unwrap();
        let fields = losses.into_report().changes.into_iter().map(|c| c.field.into_owned()).collect();
        (value.to_string(), fields)
    }

    #[test]
    fn a_schema_that_fits_is_not_touched() {
        let schema = r##"{"type":"object","properties":{"pattern":{"type":["integer","null"],"minimum":1},"l":{"type":"array","prefixItems":[{"$ref":"#/$defs/a"}],"minItems":1}},"required":["pattern"],"additionalProperties":false,"$defs":{"a":{"oneOf":[{"type":"string","format":"date"},{"type":"null"}]}}}"##;
        assert_eq!(fitted(schema), (schema.to_owned(), vec![]));
    }

    #[test]
    fn what_can_be_said_in_other_words_is_no_loss() {
        let (text, fields) = fitted(
            r##"{"definitions":{"a":{"const":"x"}},"properties":{"a":{"allOf":[{"$ref":"#/definitions/a"}]}}}"##,
        );
        assert_eq!(text, r##"{"properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"enum":["x"]}}}"##);
        assert_eq!(fields, Vec::<String>::new());
    }

    #[test]
    fn what_a_lone_all_of_says_is_added_and_what_is_said_twice_is_named() {
        let (text, fields) = fitted(
            r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"allOf":[{"type":"object","properties":{"b":{"type":"string"}},"required":["a","b"]}]}"#,
        );
        assert_eq!(
            text,
            r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a","b"]}"#
        );
        assert_eq!(fields, Vec::<String>::new());
        let (text, fields) = fitted(
            r#"{"title":"A","properties":{"a":{"type":"integer"}},"allOf":[{"title":"B","properties":{"a":{"minimum":1}}}]}"#,
        );
        assert_eq!(text, r#"{"title":"A","properties":{"a":{"type":"integer"}}}"#);
        assert_eq!(fields, ["s.allOf[0].title", "s.allOf[0].properties.a"]);
    }

    #[test]
    fn definitions_of_both_names_are_put_together() {
        let (text, fields) = fitted(
            r#"{"$defs":{"a":{"type":"string"},"c":{"minimum":1}},"definitions":{"b":{"type":"null"},"c":{"minimum":2}}}"#,
        );
        assert_eq!(text, r#"{"$defs":{"a":{"type":"string"},"c":{"minimum":1},"b":{"type":"null"}}}"#);
        assert_eq!(fields, ["s.definitions.c"]);
    }

    #[test]
    fn keywords_that_are_not_taken_are_removed_and_named() {
        let schema = r##"{"$schema":"x","type":"object","properties":{"a":{"type":"string","pattern":"x"},"b":{"$ref":"#/$defs/c","description":"d"},"t":{"const":true}},"additionalProperties":{"type":"string","minLength":1},"$defs":{"c":{"oneOf":[{"type":"string","maxLength":1}]}}}"##;
        let (text, fields) = fitted(schema);
        assert_eq!(
            text,
            r##"{"type":"object","properties":{"a":{"type":"string"},"b":{"$ref":"#/$defs/c"},"t":{}},"additionalProperties":{"type":"string"},"$defs":{"c":{"oneOf":[{"type":"string"}]}}}"##
        );
        assert_eq!(
            fields,
            [
                "s.$schema",
                "s.properties.a.pattern",
                "s.properties.b.description",
                "s.properties.t.const",
                "s.$defs.c.oneOf[0].maxLength",
                "s.additionalProperties.minLength"
            ]
        );
    }

    #[test]
    fn a_description_moves_into_a_schema_that_has_none() {
        let mut losses = Losses::new(true);
        let words = Some(Text::Plain("d"));
        assert_eq!(fit("{}", words, "s", &mut losses).unwrap().to_string(), r#"{"description":"d"}"#);
        let kept = r#"{"description":"own"}"#;
        assert_eq!(fit(kept, words, "s", &mut losses).unwrap().to_string(), kept);
    }
}
