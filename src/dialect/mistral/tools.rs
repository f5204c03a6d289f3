//! Tools and the choice among them as Mistral writes them.

use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::schema;
use crate::openai::ChatRequest;
use crate::openai::json::Writer;
use crate::openai::tool::{Tool, ToolChoice};

/// Writes `tools`, `tool_choice` and `parallel_tool_calls`, as far as the request needs them.
pub(super) fn write(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if let Some(ToolChoice::Other(kind)) = request.tool_choice {
        let why = format!("Mistral cannot express a choice of type `{}`", kind.decode().unwrap_or_default());
        return Err(Untranslatable::unsupported("tool_choice.type", why));
    }
    if request.tools.is_empty() {
        if let Some(ToolChoice::Required | ToolChoice::Named(_)) = request.tool_choice {
            return Err(Untranslatable::malformed(
                "tool_choice",
                "a call cannot be demanded without `tools`",
            ));
        }
        return Ok(());
    }
    json.key("tools");
    json.list();
    for (index, tool) in request.tools.iter().enumerate() {
        write_tool(tool, (request.legacy, index), json, losses)?;
    }
    json.end_list();
    if let Some(choice) = request.tool_choice {
        write_choice(choice, json);
    }
    // A client of `functions` can take one call only.
    if let Some(several) = if request.legacy { Some(false) } else { request.parallel_tool_calls } {
        json.key("parallel_tool_calls");
        json.value(&several);
    }
    Ok(())
}

fn write_tool(
    tool: &Tool<'_>,
    (legacy, index): (bool, usize),
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if !tool.others.is_empty() {
        let place = if legacy { format!("functions[{index}]") } else { format!("tools[{index}]") };
        losses.beyond_tool(tool, None, &place, "Mistral's tools have no such field")?;
    }
    json.object();
    json.tag("type", "function");
    json.key("function");
    json.object();
    json.key("name");
    json.text(tool.name);
    if let Some(description) = tool.description {
        json.key("description");
        json.text(description);
    }
    json.key("parameters");
    match tool.parameters {
        None => json.raw(NO_PARAMETERS),
        Some(schema) => schema::write_object(schema, json),
    }
    if tool.strict {
        json.key("strict");
        json.value(&true);
    }
    json.end_object();
    json.end_object();
    Ok(())
}

/// What a function takes that takes nothing: Mistral wants a schema of every one.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

fn write_choice(choice: ToolChoice<'_>, json: &mut Writer<'_>) {
    json.key("tool_choice");
    match choice {
        ToolChoice::Auto | ToolChoice::Other(_) => json.plain("auto"),
        ToolChoice::None => json.plain("none"),
        ToolChoice::Required => json.plain("any"),
        ToolChoice::Named(name) => {
            json.object();
            json.tag("type", "function");
            json.key("function");
            json.object();
            json.key("name");
            json.text(name);
            json.end_object();
            json.end_object();
        }
    }
}
