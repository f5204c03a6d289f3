//! The form that an answer must have, in every way that clients ask for it.
//!
//! OpenAI has one place for a schema. Vendors whose interfaces are compatible with it have others, and their clients use
//! them: `schema` beside `"type": "json_object"` (llama.cpp, Together, Fireworks, Anyscale) or beside `"json_schema"`
//! (llama.cpp), and a bare schema as `json_schema` (Cohere).

use std::borrow::Cow;

use super::chat::{ResponseFormat, ShapeError, field, is_object, object_of, put_rest, required, text_of};
use super::json::{Object, Raw, Text};

/// `response_format` with what is said of its schema.
#[derive(Debug)]
pub(super) struct Form<'a> {
    /// The form.
    pub(super) format: ResponseFormat<'a>,
    /// What the schema is called.
    pub(super) name: Option<Text<'a>>,
    /// Whether it binds.
    pub(super) strict: bool,
}

/// Reads `response_format`; the paths of what is left in it go to `rest`.
pub(super) fn read<'a>(raw: Raw<'a>, rest: &mut Vec<Cow<'a, str>>) -> Result<Form<'a>, ShapeError> {
    let mut fields = object_of(raw)?;
    let kind = required(&mut fields, "type", text_of)?;
    let plain = |format| Form { format, name: None, strict: false };
    let form = match kind.decode().as_deref() {
        Some("text") => plain(ResponseFormat::Text),
        Some("json_object") => {
            read_schema(&mut fields, true, rest)?.unwrap_or_else(|| plain(ResponseFormat::JsonObject))
        }
        Some("json_schema") => {
            read_schema(&mut fields, false, rest)?.ok_or_else(|| ShapeError::missing().at("json_schema"))?
        }
        _ => return Ok(plain(ResponseFormat::Other(kind))),
    };
    put_rest("response_format", fields, rest);
    Ok(form)
}

/// The schema, wherever it stands, unless there is none, or one that says nothing; where `may_be_bare`, it may be all of
/// `json_schema`.
fn read_schema<'a>(
    fields: &mut Object<'a>,
    may_be_bare: bool,
    rest: &mut Vec<Cow<'a, str>>,
) -> Result<Option<Form<'a>>, ShapeError> {
    if let Some(raw) = fields.take(WRAPPER) {
        return read_wrapper(raw, may_be_bare, rest).map_err(|error| error.at(WRAPPER));
    }
    let schema = field(fields, "schema", is_object)?.filter(|schema| schema.get() != "{}");
    let Some(schema) = schema else { return Ok(None) };
    Ok(Some(label(fields, schema, "response_format.schema")))
}

fn read_wrapper<'a>(
    raw: Raw<'a>,
    may_be_bare: bool,
    rest: &mut Vec<Cow<'a, str>>,
) -> Result<Option<Form<'a>>, ShapeError> {
    let mut wrapper = object_of(raw)?;
    let is_schema = |value: Raw<'_>| value.get().starts_with('{');
    let is_label = |(name, value): (&Cow<'_, str>, Raw<'_>)| match &**name {
        "name" | "description" | "strict" => true,
        "schema" => is_schema(value),
        _ => false,
    };
    if may_be_bare
        && !(wrapper.members().any(|(name, _)| name == "schema") && wrapper.members().all(is_label))
    {
        let format = ResponseFormat::JsonSchema {
            schema: raw,
            description: None,
            path: "response_format.json_schema",
        };
        return Ok((!wrapper.is_empty()).then_some(Form { format, name: None, strict: false }));
    }
    let description = field(&mut wrapper, "description", text_of)?;
    let schema = required(&mut wrapper, "schema", is_object)?;
    let mut form = label(&mut wrapper, schema, "response_format.json_schema.schema");
    if let ResponseFormat::JsonSchema { description: place, .. } = &mut form.format {
        *place = description;
    }
    put_rest("response_format.json_schema", wrapper, rest);
    Ok(Some(form))
}

const WRAPPER: &str = "json_schema";

/// The form of `schema` with the label that `fields` give it: what has not the right shape there says nothing.
fn label<'a>(fields: &mut Object<'a>, schema: Raw<'a>, path: &'static str) -> Form<'a> {
    Form {
        format: ResponseFormat::JsonSchema { schema, description: None, path },
        name: fields.take("name").and_then(Text::read),
        strict: fields.take("strict").is_some_and(|raw| raw.get() == "true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema, where it stands, its name, and what is left.
    fn form(json: &str) -> Result<(String, &'static str, bool, Vec<String>), String> {
        let raw: &serde_json::value::RawValue = serde_json::from_str(json).unwrap();
        let mut rest = Vec::new();
        let form = read(raw.into(), &mut rest).map_err(|error| error.path)?;
        let rest = rest.into_iter().map(Cow::into_owned).collect();
        match form.format {
            ResponseFormat::JsonSchema { schema, path, .. } => {
                Ok((schema.get().to_owned(), path, form.name.is_some() && form.strict, rest))
            }
            other => Ok((format!("{other:?}"), "", false, rest)),
        }
    }

    #[test]
    fn a_schema_is_found_wherever_clients_put_it() {
        const S: &str = r#"{"type":"object","required":["a"]}"#;
        for (json, path, labelled) in [
            (
                r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":S}}"#,
                "response_format.json_schema.schema",
                true,
            ),
            (
                r#"{"type":"json_object","json_schema":{"name":"n","strict":true,"schema":S}}"#,
                "response_format.json_schema.schema",
                true,
            ),
            (r#"{"type":"json_object","json_schema":S}"#, "response_format.json_schema", false),
            (r#"{"type":"json_object","schema":S}"#, "response_format.schema", false),
            (r#"{"type":"json_schema","schema":S,"name":"n","strict":true}"#, "response_format.schema", true),
        ] {
            assert_eq!(form(&json.replace('S', S)), Ok((S.to_owned(), path, labelled, vec![])), "{json}");
        }
    }

    #[test]
    fn a_bare_schema_may_have_words_of_a_wrapper() {
        let bare = r#"{"name":"n","schema":true,"description":"d"}"#;
        let found = form(&format!(r#"{{"type":"json_object","json_schema":{bare}}}"#)).unwrap();
        assert_eq!((&*found.0, found.1), (bare, "response_format.json_schema"));
    }

    #[test]
    fn a_schema_that_says_nothing_is_any_object() {
        for json in [
            r#"{"type":"json_object"}"#,
            r#"{"type":"json_object","schema":{}}"#,
            r#"{"type":"json_object","json_schema":{}}"#,
        ] {
            assert_eq!(form(json).unwrap().0, "JsonObject", "{json}");
        }
    }

    #[test]
    fn what_is_wrong_or_left_is_named_by_its_path() {
        assert_eq!(form(r#"{"type":"json_schema"}"#), Err("json_schema".to_owned()));
        assert_eq!(
            form(r#"{"type":"json_schema","json_schema":{"name":"n"}}"#),
            Err("json_schema.schema".to_owned())
        );
        assert_eq!(form(r#"{"type":"json_object","schema":"x"}"#), Err("schema".to_owned()));
        let left = form(r#"{"type":"json_schema","a":1,"json_schema":{"schema":{},"b":1}}"#).unwrap().3;
        assert_eq!(left, ["response_format.json_schema.b", "response_format.a"]);
        assert_eq!(form(r#"{"type":"text","schema":{"x":1}}"#).unwrap().3, ["response_format.schema"]);
    }
}
