//! JSON schemas for Claude's structured outputs, and for all of Bedrock's, which share their limits: what the grammar compiler does not take is removed, visibly.
//!
//! Reference: <https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs> (JSON schema limitations).

use serde_json::{Map, Value};

use super::closing;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::schema::{ANYTHING, NOTHING, each_inner, write_object};
use crate::openai::json::{Raw, Writer};
use crate::openai::tool::Tool;

/// Brings `schema` into the form that `vendor` takes; `path` is where it stands in the client's request.
///
/// # Errors
/// Where an object cannot be closed, for the model could only answer something else then; and where the integration is
/// strict and something would be lost.
pub(in crate::dialect) fn fit(
    schema: &str,
    path: &str,
    vendor: &str,
    losses: &mut Losses,
) -> Result<Value, Untranslatable> {
    let (mut value, lost) = read(schema, path)?;
    closing::check(&mut value, path, vendor)?;
    Fitting { vendor, losses }.whole(&mut value, path, lost)?;
    Ok(value)
}

/// What the calls of a tool may say, and whether they are held to it.
pub(in crate::dialect) struct Arguments<'a> {
    given: Option<Raw<'a>>,
    fitted: Option<Value>,
    /// Whether they are held to it.
    pub(in crate::dialect) strict: bool,
}

impl<'a> Arguments<'a> {
    /// Those of the tool at `place`, for a model that can hold its calls to a schema, or cannot.
    ///
    /// # Errors
    /// Its schema is none, or the integration is strict and something would be lost.
    pub(in crate::dialect) fn of(
        tool: &Tool<'a>,
        holds: bool,
        place: &str,
        vendor: &str,
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        if tool.strict && !holds {
            losses.dropped(format!("{place}.strict"), "this model cannot hold its calls to a schema")?;
        }
        let (given, mut strict) = (tool.parameters, tool.strict && holds);
        let mut fitted = None;
        if let Some(schema) = given.filter(|_| strict) {
            fitted = fit_parameters(schema.get(), place, vendor, losses)?;
            strict = fitted.is_some();
        }
        Ok(Self { given, fitted, strict })
    }

    /// Writes their schema.
    pub(in crate::dialect) fn write(&self, json: &mut Writer<'_>) {
        match (self.given, &self.fitted) {
            (_, Some(fitted)) => json.value(fitted),
            (Some(schema), None) => write_object(schema, json),
            (None, None) if self.strict => json.raw(NOTHING),
            (None, None) => json.raw(ANYTHING),
        }
    }
}

/// The parameters of the function at `place` in the form to which `vendor` can hold a call, a closed object; `None`
/// where they cannot be closed, so that the calls are held to nothing, visibly.
fn fit_parameters(
    schema: &str,
    place: &str,
    vendor: &str,
    losses: &mut Losses,
) -> Result<Option<Value>, Untranslatable> {
    let path = format!("{place}.parameters");
    let (mut value, lost) = read(schema, &path)?;
    let open = match closing::check(&mut value, &path, vendor) {
        Ok(()) if closing::is_closable(&value) => None,
        Ok(()) => {
            Some(format!("{vendor} holds calls only to an object whose properties are named, in {path}"))
        }
        Err(refused) => Some(format!("{} (`{}`)", refused.message, refused.param)),
    };
    if let Some(why) = open {
        losses.dropped(format!("{place}.strict"), why)?;
        return Ok(None);
    }
    Fitting { vendor, losses }.whole(&mut value, &path, lost)?;
    if let Some(object) = value.as_object_mut() {
        object.entry("type").or_insert_with(|| "object".into());
    }
    Ok(Some(value))
}

/// Reads a schema, each of its objects in one place as far as that can be, and what was lost by that.
fn read(schema: &str, path: &str) -> Result<(Value, Vec<String>), Untranslatable> {
    let mut value = serde_json::from_str(schema)
        .map_err(|e| Untranslatable::malformed(path.to_owned(), format!("this is not a JSON schema: {e}")))?;
    let mut lost = Vec::new();
    closing::gather(&mut value, path, &mut lost)?;
    Ok((value, lost))
}

struct Fitting<'v, 'l> {
    vendor: &'v str,
    losses: &'l mut Losses,
}

impl Fitting<'_, '_> {
    fn whole(mut self, schema: &mut Value, path: &str, lost: Vec<String>) -> Result<(), Untranslatable> {
        for field in lost {
            self.losses.dropped(field, "the members of `allOf` were made one object, which has its own")?;
        }
        self.value(schema, path)
    }

    fn value(&mut self, schema: &mut Value, path: &str) -> Result<(), Untranslatable> {
        let Value::Object(object) = schema else { return Ok(()) };
        if let Some(variants) = object.remove("oneOf") {
            self.losses.changed(format!("{path}.oneOf"), format!("{} knows anyOf only", self.vendor))?;
            object.entry("anyOf").or_insert(variants);
        }
        self.remove_unknown(object, path)?;
        each_inner(object, path, |inner, path| self.value(inner, path))?;
        self.close(object, path)
    }

    fn remove_unknown(&mut self, object: &mut Map<String, Value>, path: &str) -> Result<(), Untranslatable> {
        let taken = |key: &str, value: &Value| match key {
            "minItems" => matches!(value.as_u64(), Some(0 | 1)),
            "format" => value.as_str().is_some_and(|format| FORMATS.contains(&format)),
            _ => KEYWORDS.contains(&key),
        };
        let unknown: Vec<String> =
            object.iter().filter(|(k, v)| !taken(k, v)).map(|(k, _)| k.clone()).collect();
        for key in unknown {
            object.shift_remove(&key);
            let why = format!("{}'s structured outputs lack this schema keyword", self.vendor);
            self.losses.dropped(format!("{path}.{key}"), why)?;
        }
        Ok(())
    }

    /// Every object must be closed.
    fn close(&mut self, object: &mut Map<String, Value>, path: &str) -> Result<(), Untranslatable> {
        let is_object = match object.get("type") {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            _ => object.contains_key("properties"),
        };
        if !is_object || object.get("additionalProperties") == Some(&Value::Bool(false)) {
            return Ok(());
        }
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
        let why = format!("{}'s structured outputs want it to be false", self.vendor);
        self.losses.changed(format!("{path}.additionalProperties"), why)
    }
}

const KEYWORDS: [&str; 17] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "minItems",
    "format",
];

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(schema: &str) -> (String, Vec<String>) {
        let mut losses = Losses::new(false);
        let value = fit(schema, "s", "Acme", &mut losses).unwrap();
        let fields = losses.into_report().changes.into_iter().map(|c| c.field.into_owned()).collect();
        (value.to_string(), fields)
    }

    #[test]
    fn a_schema_that_fits_is_not_touched() {
        let schema = r#"{"type":"object","properties":{"minimum":{"type":"integer"},"l":{"type":"array","items":{"type":"string","format":"date"},"minItems":1}},"required":["minimum"],"additionalProperties":false}"#;
        assert_eq!(fitted(schema), (schema.to_owned(), vec![]));
    }

    #[test]
    fn keywords_that_are_not_taken_are_removed_and_named() {
        let schema = r#"{"type":"object","$schema":"x","properties":{"a":{"type":"integer","minimum":1},"b":{"oneOf":[{"type":"string","pattern":"x"},{"type":"null"}]}}}"#;
        let (text, fields) = fitted(schema);
        assert_eq!(
            text,
            r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"anyOf":[{"type":"string"},{"type":"null"}]}},"additionalProperties":false}"#
        );
        assert_eq!(
            fields,
            [
                "s.$schema",
                "s.properties.a.minimum",
                "s.properties.b.oneOf",
                "s.properties.b.anyOf[0].pattern",
                "s.additionalProperties"
            ]
        );
    }
}
