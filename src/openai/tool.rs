//! The tools of a chat request and the client's wish which of them to call.

use std::borrow::Cow;

use super::chat::{ShapeError, field, is_object, object_of, objects, put_rest, required, text_of};
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
    /// Other fields that are there and say something, by their paths seen from the item of `tools` (`function.x`) or
    /// `functions`.
    pub others: Vec<(Cow<'a, str>, Raw<'a>)>,
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

/// Takes `tool_choice`, or else the legacy `function_call`; the paths of what is left in them go to `rest`.
pub(super) fn read_choice<'a>(
    fields: &mut Object<'a>,
    rest: &mut Vec<Cow<'a, str>>,
) -> Result<Option<ToolChoice<'a>>, ShapeError> {
    let choice = field(fields, "tool_choice", |raw| choice(raw, rest))?;
    let legacy = field(fields, "function_call", |raw| choice_of_function(raw, rest))?;
    Ok(choice.or(legacy))
}

fn read(mut tool: Object<'_>) -> Result<Tool<'_>, ShapeError> {
    let kind = required(&mut tool, "type", text_of)?;
    if !kind.is("function") {
        return Err(ShapeError::unsupported("only tools of type function can be translated").at("type"));
    }
    let mut function = required(&mut tool, "function", |raw| read_function(object_of(raw)?))?;
    for (name, _) in &mut function.others {
        *name = Cow::Owned(format!("function.{name}"));
    }
    function.others.extend(tool.into_rest());
    Ok(function)
}

fn read_function(mut function: Object<'_>) -> Result<Tool<'_>, ShapeError> {
    let mut read = Tool {
        name: required(&mut function, "name", text_of)?,
        description: field(&mut function, "description", text_of)?,
        parameters: field(&mut function, "parameters", is_object)?,
        strict: function.take("strict").is_some_and(|raw| raw.get() == "true"),
        others: Vec::new(),
    };
    read.others.extend(function.into_rest());
    Ok(read)
}

fn choice<'a>(raw: Raw<'a>, rest: &mut Vec<Cow<'a, str>>) -> Result<ToolChoice<'a>, ShapeError> {
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
    if !kind.is("function") {
        return Ok(ToolChoice::Other(kind));
    }
    let named = required(&mut choice, "function", |raw| named(raw, "tool_choice.function", rest))?;
    put_rest("tool_choice", choice, rest);
    Ok(named)
}

fn choice_of_function<'a>(raw: Raw<'a>, rest: &mut Vec<Cow<'a, str>>) -> Result<ToolChoice<'a>, ShapeError> {
    if raw.get().starts_with('"') { choice(raw, rest) } else { named(raw, "function_call", rest) }
}

fn named<'a>(
    raw: Raw<'a>,
    path: &'static str,
    rest: &mut Vec<Cow<'a, str>>,
) -> Result<ToolChoice<'a>, ShapeError> {
    let mut function = object_of(raw)?;
    let name = required(&mut function, "name", text_of)?;
    put_rest(path, function, rest);
    Ok(ToolChoice::Named(name))
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
        let choice = |json: &str| {
            let mut rest = Vec::new();
            let choice = read_choice(&mut Object::read(json).unwrap(), &mut rest).unwrap();
            assert!(rest.is_empty());
            format!("{choice:?}")
        };
        assert_eq!(choice(r#"{"tool_choice":"required"}"#), "Some(Required)");
        assert_eq!(choice(r#"{"tool_choice":null,"function_call":"none"}"#), "Some(None)");
        assert!(choice(r#"{"tool_choice":{"type":"function","function":{"name":"f"}}}"#).contains("Named"));
        assert!(choice(r#"{"function_call":{"name":"f"}}"#).contains("Named"));
        assert!(choice(r#"{"tool_choice":{"type":"allowed_tools"}}"#).contains("Other"));
    }

    #[test]
    fn what_is_left_is_named_by_its_path() {
        let (tools, _) =
            tools(r#"{"tools":[{"type":"function","function":{"name":"f","x":1},"y":2}]}"#).unwrap();
        let names: Vec<_> = tools[0].others.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["function.x", "y"]);
        for (json, left) in [
            (
                r#"{"tool_choice":{"type":"function","function":{"name":"f","x":1},"y":2}}"#,
                &["tool_choice.function.x", "tool_choice.y"][..],
            ),
            (r#"{"function_call":{"name":"f","x":1}}"#, &["function_call.x"]),
        ] {
            let mut rest = Vec::new();
            read_choice(&mut Object::read(json).unwrap(), &mut rest).unwrap();
            assert_eq!(rest, left);
        }
    }
}
