//! Tools and the choice among them as Cohere writes them.

use super::schema;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::schema::write_object;
use crate::openai::ChatRequest;
use crate::openai::json::{Object, Text, Writer};
use crate::openai::tool::{Tool, ToolChoice};

/// Writes `tools`, `strict_tools` and `tool_choice`, as far as the request needs them.
pub(super) fn write(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if request.parallel_tool_calls == Some(false) && !request.tools.is_empty() {
        let why = "Cohere decides by itself how many calls it makes at once";
        losses.dropped("parallel_tool_calls", why)?;
    }
    if request.tools.is_empty() {
        return match request.tool_choice {
            Some(ToolChoice::Required | ToolChoice::Named(_)) => {
                Err(Untranslatable::malformed("tool_choice", "a call cannot be demanded without `tools`"))
            }
            _ => Ok(()),
        };
    }
    let choice = choose(request, losses)?;
    let tools: Vec<(usize, &Tool<'_>)> = request.tools.iter().enumerate().collect();
    let tools = match choice {
        Choice::Only(index) => &tools[index..=index],
        Choice::Any | Choice::Word(_) => &tools[..],
    };
    let strict = is_strict(request, tools, losses)?;
    json.key("tools");
    json.list();
    for (index, tool) in tools {
        write_tool(tool, &place(request, *index), strict, json, losses)?;
    }
    json.end_list();
    if strict {
        json.key("strict_tools");
        json.value(&true);
    } else if let Some(raw) = request.other("strict_tools") {
        json.key("strict_tools");
        json.raw(raw.get());
    }
    match choice {
        Choice::Any => {}
        Choice::Word(word) => json.tag("tool_choice", word),
        Choice::Only(_) => json.tag("tool_choice", REQUIRED),
    }
    Ok(())
}

const REQUIRED: &str = "REQUIRED";

/// What the model may call.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// What it likes, or nothing.
    Any,
    /// As Cohere's word says.
    Word(&'static str),
    /// This one tool, and it must.
    Only(usize),
}

/// A named tool is one that is sent alone and must be called: Cohere knows no names here.
fn choose(request: &ChatRequest<'_>, losses: &mut Losses) -> Result<Choice, Untranslatable> {
    match request.tool_choice {
        None | Some(ToolChoice::Auto) => Ok(Choice::Any),
        Some(ToolChoice::None) => Ok(Choice::Word("NONE")),
        Some(ToolChoice::Required) => Ok(Choice::Word(REQUIRED)),
        Some(ToolChoice::Other(kind)) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Cohere cannot express a choice of type `{kind}`");
            Err(Untranslatable::unsupported("tool_choice.type", why))
        }
        Some(ToolChoice::Named(name)) => {
            let wanted = name.decode().unwrap_or_default();
            let Some(index) = request.tools.iter().position(|tool| tool.name.is(&wanted)) else {
                let why = format!("there is no tool of the name `{wanted}`");
                return Err(Untranslatable::malformed("tool_choice", why));
            };
            if request.tools.len() > 1 {
                let why = "Cohere cannot be told which tool to call, so the chosen one was sent alone, to be called";
                losses.changed(if request.legacy { "functions" } else { "tools" }, why)?;
            }
            Ok(Choice::Only(index))
        }
    }
}

/// Whether all calls are held to their schemas: Cohere does that for all tools or for none, and only where each has a
/// required parameter.
fn is_strict(
    request: &ChatRequest<'_>,
    tools: &[(usize, &Tool<'_>)],
    losses: &mut Losses,
) -> Result<bool, Untranslatable> {
    let Some((index, _)) = tools.iter().find(|(_, tool)| tool.strict) else { return Ok(false) };
    if tools.iter().any(|(_, tool)| !requires_any(tool)) {
        let why = "Cohere holds calls to their schemas only where every tool has a required parameter";
        losses.dropped(format!("{}.strict", place(request, *index)), why)?;
        return Ok(false);
    }
    if let Some((index, _)) = tools.iter().find(|(_, tool)| !tool.strict) {
        let why = "Cohere holds the calls of all tools to their schemas, or of none";
        losses.changed(format!("{}.strict", place(request, *index)), why)?;
    }
    Ok(true)
}

fn requires_any(tool: &Tool<'_>) -> bool {
    let required = tool.parameters.and_then(|schema| Object::read(schema.get()).ok()?.take("required"));
    required
        .is_some_and(|list| serde_json::from_str::<Vec<Text<'_>>>(list.get()).is_ok_and(|l| !l.is_empty()))
}

fn write_tool(
    tool: &Tool<'_>,
    place: &str,
    strict: bool,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    losses.beyond_tool(tool, None, place, "Cohere's tools have no such field")?;
    json.object();
    json.tag("type", "function");
    json.key("function");
    json.object();
    json.key("name");
    json.text(tool.name);
    if let Some(description) = tool.description.filter(|text| !text.is_blank()) {
        json.key("description");
        json.text(description);
    }
    json.key("parameters");
    match tool.parameters {
        None => json.raw(NOTHING),
        Some(schema) if strict => {
            json.value(&schema::fit(schema.get(), &format!("{place}.parameters"), losses)?);
        }
        Some(schema) => write_object(schema, json),
    }
    json.end_object();
    json.end_object();
    Ok(())
}

/// The schema of a tool without parameters, which Cohere requires.
const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

fn place(request: &ChatRequest<'_>, index: usize) -> String {
    if request.legacy { format!("functions[{index}]") } else { format!("tools[{index}].function") }
}
