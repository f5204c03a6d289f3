//! Tools and the choice among them as Anthropic writes them.

use super::block::{Conversation, Messages};
use crate::dialect::claude::Rules;
use crate::dialect::claude::schema::Arguments;
use crate::dialect::loss::Losses;
use crate::dialect::marks;
use crate::dialect::turns::Vendor;
use crate::dialect::{Untranslatable, schema as shape};
use crate::openai::ChatRequest;
use crate::openai::json::Writer;
use crate::openai::tool::{Tool, ToolChoice};

/// Writes `tools` and `tool_choice`, as far as the request needs them.
pub(super) fn write(
    request: &ChatRequest<'_>,
    conversation: &Conversation<'_>,
    rules: Rules,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if let Some(ToolChoice::Other(kind)) = request.tool_choice {
        let why =
            format!("Anthropic cannot express a choice of type `{}`", kind.decode().unwrap_or_default());
        return Err(Untranslatable::unsupported("tool_choice.type", why));
    }
    if request.tools.is_empty() {
        return write_without(request, conversation, json, losses);
    }
    json.key("tools");
    json.list();
    for (index, tool) in request.tools.iter().enumerate() {
        let place =
            if request.legacy { format!("functions[{index}]") } else { format!("tools[{index}].function") };
        write_tool(tool, &place, rules, json, losses)?;
    }
    json.end_list();
    // A client of `functions` can take one call only.
    let single = request.legacy || request.parallel_tool_calls == Some(false);
    write_choice(request.tool_choice, single, json);
    Ok(())
}

/// A history with calls needs `tools`, even where the client offers none any more.
fn write_without(
    request: &ChatRequest<'_>,
    conversation: &Conversation<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if let Some(ToolChoice::Required | ToolChoice::Named(_)) = request.tool_choice {
        return Err(Untranslatable::malformed("tool_choice", "a call cannot be demanded without `tools`"));
    }
    if conversation.called.is_empty() {
        return Ok(());
    }
    losses
        .defaulted("tools", "Anthropic requires them with tool calls in the history; they may not be called");
    json.key("tools");
    json.list();
    for name in &conversation.called {
        json.object();
        json.key("name");
        json.text(*name);
        json.key("input_schema");
        json.raw(shape::ANYTHING);
        json.end_object();
    }
    json.end_list();
    write_choice(Some(ToolChoice::None), false, json);
    Ok(())
}

fn write_tool(
    tool: &Tool<'_>,
    place: &str,
    rules: Rules,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let mark = marks::of_tool(tool);
    losses.beyond_tool(tool, mark.map(|(name, _)| name), place, "Anthropic's tools have no such field")?;
    let arguments = Arguments::of(tool, rules.structured, place, Messages::NAME, losses)?;
    json.object();
    json.key("name");
    json.text(tool.name);
    if let Some(description) = tool.description.filter(|text| !text.is_blank()) {
        json.key("description");
        json.text(description);
    }
    json.key("input_schema");
    arguments.write(json);
    if arguments.strict {
        json.key("strict");
        json.value(&true);
    }
    if let Some((_, mark)) = mark {
        json.key(marks::FIELD);
        json.raw(mark.get());
    }
    json.end_object();
    Ok(())
}

fn write_choice(choice: Option<ToolChoice<'_>>, single: bool, json: &mut Writer<'_>) {
    let kind = match choice {
        None | Some(ToolChoice::Other(_)) if !single => return,
        None | Some(ToolChoice::Auto | ToolChoice::Other(_)) => "auto",
        Some(ToolChoice::None) => "none",
        Some(ToolChoice::Required) => "any",
        Some(ToolChoice::Named(_)) => "tool",
    };
    json.key("tool_choice");
    json.object();
    json.tag("type", kind);
    if let Some(ToolChoice::Named(name)) = choice {
        json.key("name");
        json.text(name);
    }
    if single && kind != "none" {
        json.key("disable_parallel_tool_use");
        json.value(&true);
    }
    json.end_object();
}
