//! Functions and the choice among them as Gemini writes them.
//!
//! Reference: <https://ai.google.dev/gemini-api/docs/function-calling>.

use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::schema;
use crate::openai::ChatRequest;
use crate::openai::json::Writer;
use crate::openai::tool::{Tool, ToolChoice};

/// Writes `tools` and `toolConfig`, as far as the request needs them.
pub(super) fn write(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if let Some(ToolChoice::Other(kind)) = request.tool_choice {
        let why = format!("Gemini cannot express a choice of type `{}`", kind.decode().unwrap_or_default());
        return Err(Untranslatable::unsupported("tool_choice.type", why));
    }
    if request.parallel_tool_calls == Some(false) && !request.tools.is_empty() {
        losses.dropped("parallel_tool_calls", "Gemini cannot be told to make one call at a time")?;
    }
    if request.tools.is_empty() {
        return match request.tool_choice {
            Some(ToolChoice::Required | ToolChoice::Named(_)) => {
                Err(Untranslatable::malformed("tool_choice", "a call cannot be demanded without `tools`"))
            }
            _ => Ok(()),
        };
    }
    json.key("tools");
    json.list();
    json.object();
    json.key("functionDeclarations");
    json.list();
    for (index, tool) in request.tools.iter().enumerate() {
        let place =
            if request.legacy { format!("functions[{index}]") } else { format!("tools[{index}].function") };
        write_tool(tool, &place, json, losses)?;
    }
    json.end_list();
    json.end_object();
    json.end_list();
    write_choice(request, json);
    Ok(())
}

/// The schema goes on as it is: where Gemini knows more than OpenAPI's subset, it takes JSON Schema.
fn write_tool(
    tool: &Tool<'_>,
    place: &str,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    losses.beyond_tool(tool, None, place, "Gemini's functions have no such field")?;
    json.object();
    json.key("name");
    json.text(tool.name);
    if let Some(description) = tool.description.filter(|text| !text.is_empty()) {
        json.key("description");
        json.text(description);
    }
    if let Some(parameters) = tool.parameters {
        json.key("parametersJsonSchema");
        schema::write_object(parameters, json);
    }
    json.end_object();
    Ok(())
}

/// `VALIDATED` holds a model that may choose to its schemas, which is what `strict` asks for; `ANY` does so by itself.
fn write_choice(request: &ChatRequest<'_>, json: &mut Writer<'_>) {
    let is_strict = request.tools.iter().any(|tool| tool.strict);
    let mode = match request.tool_choice {
        None | Some(ToolChoice::Auto) if is_strict => "VALIDATED",
        None | Some(ToolChoice::Other(_)) => return,
        Some(ToolChoice::Auto) => "AUTO",
        Some(ToolChoice::None) => "NONE",
        Some(ToolChoice::Required | ToolChoice::Named(_)) => "ANY",
    };
    json.key("toolConfig");
    json.object();
    json.key("functionCallingConfig");
    json.object();
    json.tag("mode", mode);
    if let Some(ToolChoice::Named(name)) = request.tool_choice {
        json.key("allowedFunctionNames");
        json.list();
        json.text(name);
        json.end_list();
    }
    json.end_object();
    json.end_object();
}
