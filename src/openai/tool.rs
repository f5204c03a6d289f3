//! The tools of a chat request and the client's wish which of them to call.

use std::borrow::Cow;

use super::chat::{ShapeError, field, is_object, object_of, objects, required, text_of};
use super::json::{Object, Raw, Text};

/// A function that the model may call.
#[derive(Debug)]
pub struct Tool<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// What it does.
    pub description: Option<Text<'a>>,
    /// The JSON schema of its arguments, an object; absent for a function that takes none.
    pub parameters: Option<Raw<'a>>,
    /// Whether the arguments must follow the schema exactly.
    pub strict: bool,
    /// Other fields that are there and say something.
    pub others: Vec<Cow<'a, str>>,
}

/// Which tools the model should call.
#[derive(Clone, Copy, Debug)]
pub enum ToolChoice<'a> {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(Text<'a>),
    /// Another kind of wish (`allowed_tools`, `custom`); its name.
    Other(Text<'a>),
}

/// Takes `tools` or the legacy `functions`; true with the latter.
pub(super) fn read_all<'a>(fields: &mut Object<'a>) -> Result<(Vec<Tool<'a>>, bool), ShapeError> {
    let tools = field(fields, "tools", |raw| objects(raw, read))?.unwrap_or_default();
    let functions = field(fields, "functions", |raw| objects(raw, read_function))?.unwrap_or_default();
    match (tools.is_empty(), functions.is_empty()) {
        (_, true) => Ok((tools, false)),
        (true, false) => Ok((functions, true)),
        (false, false) => {
            Err(ShapeError::new("send either `tools` or `functions`, not both").at("functions"))
        }
    }
}

/// Takes `tool_choice`, or else the legacy `function_call`.
pub(super) fn read_choice<'a>(fields: &mut Object<'a>) -> Result<Option<ToolChoice<'a>>, ShapeError> {
    let choice = field(fields, "tool_choice", choice)?;
    let legacy = field(fields, "function_call", choice_of_function)?;
    Ok(choice.or(legacy))
}

fn read(mut tool: Object<'_>) -> Result<Tool<'_>, ShapeError> {
    let kind = required(&mut tool, "type", text_of)?;
    if !kind.is("function") {
        return Err(ShapeError::unsupported("only tools of type function can be translated").at("type"));
    }
    let mut function = required(&mut tool, "function", |raw| read_function(object_of(raw)?))?;
    function.others.extend(tool.into_rest().map(|(name, _)| name));
    Ok(function)
}

fn read_function(mut function: Object<'_>) -> Result<Tool<'_>, ShapeError> {
    Ok(Tool {
        name: required(&mut function, "name", text_of)?,
        description: field(&mut function, "description", text_of)?,
        parameters: field(&mut function, "parameters", is_object)?,
        strict: function.take("strict").is_some_and(|raw| raw.get() == "true"),
        others: function.into_names(),
    })
}

fn choice(raw: Raw<'_>) -> Result<ToolChoice<'_>, ShapeError> {
    if let Some(word) = Text::read(raw) {
        return match word.decode().as_deref() {
            Some("auto") => Ok(ToolChoice::Auto),
            Some("none") => Ok(ToolChoice::None),
            Some("required") => Ok(ToolChoice::Required),
            _ => Err(ShapeError::new("expected auto, none, required or an object that names a function")),
        };
    }
    let mut choice = object_of(raw)?;
    let kind = required(&mut choice, "type", text_of)?;
    if kind.is("function") { required(&mut choice, "function", named) } else { Ok(ToolChoice::Other(kind)) }
}

fn choice_of_function(raw: Raw<'_>) -> Result<ToolChoice<'_>, ShapeError> {
    if raw.get().starts_with('"') { choice(raw) } else { named(raw) }
}

fn named(raw: Raw<'_>) -> Result<ToolChoice<'_>, ShapeError> {
    required(&mut object_of(raw)?, "name", text_of).map(ToolChoice::Named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(json: &str) -> Result<(Vec<Tool<'_>>, bool), ShapeError> {
        read_all(&mut Object::read(json).unwrap())
    }

    #[test]
    fn functions_are_tools_of_old() {
        let (tools, legacy) =
            tools(r#"{"functions":[{"name":"f","parameters":{"type":"object"}}]}"#).unwrap();
        assert!(legacy && tools[0].name.is("f") && tools[0].parameters.is_some() && !tools[0].strict);
    }

    #[test]
    fn a_tool_that_is_no_function_is_refused_by_its_path() {
        let error = tools(r#"{"tools":[{"type":"custom","custom":{"name":"x"}}]}"#).unwrap_err();
        assert_eq!(error.path, "tools[0].type");
    }

    #[test]
    fn every_form_of_choice_is_read() {
        let choice = |json: &str| format!("{:?}", read_choice(&mut Object::read(json).unwrap()).unwrap());
        assert_eq!(choice(r#"{"tool_choice":"required"}"#), "Some(Required)");
        assert_eq!(choice(r#"{"tool_choice":null,"function_call":"none"}"#), "Some(None)");
        assert!(choice(r#"{"tool_choice":{"type":"function","function":{"name":"f"}}}"#).contains("Named"));
        assert!(choice(r#"{"function_call":{"name":"f"}}"#).contains("Named"));
        assert!(choice(r#"{"tool_choice":{"type":"allowed_tools"}}"#).contains("Other"));
    }
}
