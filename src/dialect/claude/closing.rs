//! Which objects of a schema can be closed, as structured outputs want every one: not those that are to hold what nobody
//! named, which could only be empty then, and not those put together of several, each of which would forbid the others.

use serde_json::{Map, Value};

use crate::dialect::Untranslatable;
use crate::dialect::schema::each_inner;

type Object = Map<String, Value>;

/// Puts what `allOf` says of one object into that object, and leaves the type of an object that is one of several to
/// these: the same in words that can be closed. Paths of titles and descriptions that found no place go to `lost`.
pub(super) fn gather(schema: &mut Value, path: &str, lost: &mut Vec<String>) -> Result<(), Untranslatable> {
    let Value::Object(object) = schema else { return Ok(()) };
    hand_down(object);
    each_part(object, path, |inner, path| gather(inner, path, lost))?;
    if can_merge(object) {
        merge(object, path, lost);
    }
    Ok(())
}

/// Checks that every object may be closed.
///
/// # Errors
/// The path of the first that may not, with the reason.
pub(super) fn check(schema: &mut Value, path: &str, vendor: &str) -> Result<(), Untranslatable> {
    let Value::Object(object) = schema else { return Ok(()) };
    let refused = |key: &str, why: &str| {
        let why = format!("{vendor}'s structured outputs want every object closed, {why}");
        Err(Untranslatable::unsupported(format!("{path}{key}"), why))
    };
    if sources(object) > 1 {
        return refused("", "so that one put together of several schemas could not satisfy them");
    }
    if let Some(key) = open(object) {
        return refused(key, "and this one is to hold what no `properties` name");
    }
    each_part(object, path, |inner, path| check(inner, path, vendor))
}

/// Whether the arguments of a call that `schema` describes can be closed at the outside.
pub(super) fn is_closable(schema: &Value) -> bool {
    schema.as_object().is_none_or(|object| object.contains_key("properties") || is_closed(object))
}

/// What keeps `object` from being closed, as the end of its path.
fn open(object: &Object) -> Option<&'static str> {
    let filled =
        |key: &str| object.get(key).and_then(Value::as_object).is_some_and(|inner| !inner.is_empty());
    let is_object = match object.get("type") {
        Some(kind) => is_word(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is_word)),
        None => {
            object.contains_key("properties") || filled("patternProperties") || filled("additionalProperties")
        }
    };
    if !is_object || is_closed(object) && !filled("patternProperties") {
        return None;
    }
    match object.get("additionalProperties") {
        _ if filled("patternProperties") => Some(".patternProperties"),
        Some(_) if filled("additionalProperties") || !filled("properties") => Some(".additionalProperties"),
        None if sources(object) == 0 && !object.contains_key("properties") => Some(""),
        _ if sources(object) > 0 && !filled("properties") => Some(""),
        _ => None,
    }
}

/// How many schemas say which properties `object` has.
fn sources(object: &Object) -> usize {
    let list = |key: &str| object.get(key).and_then(Value::as_array).into_iter().flatten();
    let any = |key: &str| usize::from(list(key).any(is_source));
    usize::from(has_own(object))
        + usize::from(object.contains_key("$ref"))
        + any("anyOf")
        + any("oneOf")
        + list("allOf").filter(|member| is_source(member)).count()
}

fn is_source(schema: &Value) -> bool {
    schema.as_object().is_some_and(|object| sources(object) > 0)
}

fn has_own(object: &Object) -> bool {
    object.get("properties").and_then(Value::as_object).is_some_and(|own| !own.is_empty())
}

fn is_closed(object: &Object) -> bool {
    object.get("additionalProperties") == Some(&Value::Bool(false))
}

fn is_word(kind: &Value) -> bool {
    kind == "object"
}

/// An object that has no properties but those of its variants is each of them: it need not be closed itself.
fn hand_down(object: &mut Object) {
    let is_plain = object.get("type").is_some_and(is_word) && !has_own(object) && !is_closed(object);
    let is_schema = |value: &Value| value.as_object().is_some_and(|inner| !inner.is_empty());
    if !is_plain || sources(object) == 0 || object.get("additionalProperties").is_some_and(is_schema) {
        return;
    }
    for key in ["type", "properties", "additionalProperties"] {
        object.shift_remove(key);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for variant in object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(variant) = variant else { continue };
            if !variant.contains_key("$ref") && (key != "allOf" || variant.contains_key("properties")) {
                variant.entry("type").or_insert_with(|| "object".into());
            }
        }
    }
}

/// Whether all that `allOf` says is which properties the object has, and nothing of it twice in different words.
fn can_merge(object: &Object) -> bool {
    let Some(members) = object.get("allOf").and_then(Value::as_array) else { return false };
    let Some(members) = members.iter().map(Value::as_object).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let mut named = Object::new();
    let mut agrees = |one: &Object| {
        let own = one.get("properties").and_then(Value::as_object);
        own.into_iter().flatten().all(|(name, schema)| named.entry(name).or_insert(schema.clone()) == schema)
    };
    agrees(object)
        && object.get("type").is_none_or(is_word)
        && members
            .iter()
            .all(|member| member.iter().all(|(key, value)| is_plain(key, value)) && agrees(member))
        && !named.is_empty()
}

fn is_plain(key: &str, value: &Value) -> bool {
    match key {
        "type" => is_word(value),
        "properties" => value.is_object(),
        "required" => value.is_array(),
        "additionalProperties" => value.is_boolean(),
        _ => ["title", "description"].contains(&key),
    }
}

fn merge(object: &mut Object, path: &str, lost: &mut Vec<String>) {
    let Some(Value::Array(members)) = object.shift_remove("allOf") else { return };
    object.entry("type").or_insert_with(|| "object".into());
    for (index, member) in members.into_iter().enumerate() {
        let Value::Object(member) = member else { continue };
        for (key, value) in member {
            match (object.get_mut(&key), value) {
                (Some(Value::Object(own)), Value::Object(more)) => own.extend(more),
                (Some(Value::Array(own)), Value::Array(more)) => {
                    for name in more {
                        if !own.contains(&name) {
                            own.push(name);
                        }
                    }
                }
                (Some(Value::Bool(own)), Value::Bool(more)) => *own &= more,
                (Some(own), value) if *own != value => lost.push(format!("{path}.allOf[{index}].{key}")),
                (Some(_), _) => {}
                (None, value) => {
                    object.insert(key, value);
                }
            }
        }
    }
}

/// [`each_inner`], and the variants of `oneOf`.
fn each_part(
    object: &mut Object,
    path: &str,
    mut visit: impl FnMut(&mut Value, &str) -> Result<(), Untranslatable>,
) -> Result<(), Untranslatable> {
    each_inner(object, path, &mut visit)?;
    let variants = object.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten();
    for (index, variant) in variants.enumerate() {
        visit(variant, &format!("{path}.oneOf[{index}]"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of `schema`, or where it is refused.
    fn closable(schema: &str) -> Result<String, String> {
        let mut value = serde_json::from_str(schema).unwrap();
        let mut lost = Vec::new();
        gather(&mut value, "s", &mut lost).unwrap();
        check(&mut value, "s", "Acme").map_err(|refused| refused.param)?;
        assert_eq!(lost, Vec::<String>::new());
        Ok(value.to_string())
    }

    #[test]
    fn an_object_that_is_to_hold_what_nobody_named_is_refused_by_its_path() {
        for (schema, place) in [
            (r#"{"type":"object"}"#, "s"),
            (r#"{"type":["object","null"]}"#, "s"),
            (r#"{"type":"object","additionalProperties":true}"#, "s.additionalProperties"),
            (r#"{"type":"object","properties":{},"additionalProperties":true}"#, "s.additionalProperties"),
            (r#"{"additionalProperties":{"type":"integer"}}"#, "s.additionalProperties"),
            (
                r#"{"properties":{"a":{}},"additionalProperties":{"type":"integer"}}"#,
                "s.additionalProperties",
            ),
            (
                r#"{"type":"object","patternProperties":{"^a":{}},"additionalProperties":false}"#,
                "s.patternProperties",
            ),
            (r#"{"properties":{"a":{"items":{"type":"object"}}}}"#, "s.properties.a.items"),
            (r#"{"oneOf":[{"type":"null"},{"type":"object"}]}"#, "s.oneOf[1]"),
            (r#"{"type":"object","anyOf":[{"properties":{"a":{}}},{"required":["b"]}]}"#, "s.anyOf[1]"),
        ] {
            assert_eq!(closable(schema), Err(place.to_owned()), "{schema}");
        }
    }

    #[test]
    fn an_object_that_names_its_properties_may_be_closed() {
        for schema in [
            r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":true}"#,
            r#"{"type":"object","properties":{}}"#,
            r#"{"type":"object","additionalProperties":false}"#,
            r##"{"properties":{"a":{"allOf":[{"$ref":"#/$defs/a"}],"title":"A"},"b":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}}}"##,
            r#"{"type":"object","properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["b"]}]}"#,
            r#"{"properties":{"any":{},"n":{"type":"integer","allOf":[{"minimum":1},{"maximum":3}]}}}"#,
        ] {
            assert_eq!(closable(schema), Ok(schema.to_owned()));
        }
    }

    #[test]
    fn what_all_of_says_of_one_object_is_put_together() {
        let schema = r#"{"allOf":[{"type":"object","properties":{"a":{}},"required":["a"]},{"title":"T","properties":{"a":{},"b":{}},"required":["a","b"]}]}"#;
        let wanted = r#"{"type":"object","properties":{"a":{},"b":{}},"required":["a","b"],"title":"T"}"#;
        assert_eq!(closable(schema).as_deref(), Ok(wanted));
        let beside = r#"{"type":"object","properties":{"a":{}},"allOf":[{"allOf":[{"properties":{"b":{}}}]},{"required":["b"],"additionalProperties":false}]}"#;
        let wanted =
            r#"{"type":"object","properties":{"a":{},"b":{}},"required":["b"],"additionalProperties":false}"#;
        assert_eq!(closable(beside).as_deref(), Ok(wanted));
        let mut twice =
            serde_json::json!({ "title": "A", "properties": { "a": {} }, "allOf": [{ "title": "B" }] });
        let mut lost = Vec::new();
        gather(&mut twice, "s", &mut lost).unwrap();
        assert_eq!(lost, ["s.allOf[0].title"]);
    }

    #[test]
    fn an_object_put_together_of_what_cannot_be_one_is_refused() {
        for schema in [
            r##"{"type":"object","properties":{"a":{}},"allOf":[{"$ref":"#/$defs/b"}]}"##,
            r##"{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}]}"##,
            r#"{"properties":{"a":{"type":"string"}},"allOf":[{"properties":{"a":{"type":"null"}}}]}"#,
            r#"{"type":"object","properties":{"a":{}},"anyOf":[{"properties":{"b":{}}}]}"#,
            r##"{"properties":{"a":{}},"$ref":"#/$defs/b"}"##,
        ] {
            assert_eq!(closable(schema), Err("s".to_owned()), "{schema}");
        }
    }

    #[test]
    fn variants_of_an_object_without_its_own_properties_are_closed_in_its_place() {
        let schema = r#"{"type":"object","additionalProperties":true,"anyOf":[{"properties":{"a":{}}},{"type":"object","properties":{"b":{}}}]}"#;
        let wanted =
            r#"{"anyOf":[{"properties":{"a":{}},"type":"object"},{"type":"object","properties":{"b":{}}}]}"#;
        assert_eq!(closable(schema).as_deref(), Ok(wanted));
        let named = r##"{"type":"object","$ref":"#/$defs/a"}"##;
        assert_eq!(closable(named).as_deref(), Ok(r##"{"$ref":"#/$defs/a"}"##));
    }
}
