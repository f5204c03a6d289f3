//! Tools and the choice among them as Converse writes them.

use super::block::{self, Conversation, Converse};
use super::cache::{self, Caching};
use super::form::{self, Form};
use super::models::{Family, Schema};
use crate::dialect::Untranslatable;
use crate::dialect::claude::schema::Arguments;
use crate::dialect::loss::Losses;
use crate::dialect::marks;
use crate::dialect::schema;
use crate::dialect::turns::Vendor;
use crate::openai::ChatRequest;
use crate::openai::json::{Text, Writer};
use crate::openai::tool::{Tool, ToolChoice};

/// Which tools a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kit {
    /// None.
    Nothing,
    /// The client's.
    Offered,
    /// The client's, although it wants none called: Converse wants them beside the calls of the history.
    Forbidden,
    /// Those that the history calls, for the same reason.
    Remembered,
}

impl Kit {
    /// What `request` needs.
    pub(super) fn of(
        request: &ChatRequest<'_>,
        conversation: &Conversation<'_>,
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        if let Some(ToolChoice::Other(kind)) = request.tool_choice {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Bedrock cannot express a choice of type `{kind}`");
            return Err(Untranslatable::unsupported("tool_choice.type", why));
        }
        let in_history = !conversation.called.is_empty();
        let none = matches!(request.tool_choice, Some(ToolChoice::None));
        match (request.tools.is_empty(), none, in_history) {
            (false, false, _) => {
                if request.parallel_tool_calls == Some(false) {
                    let why = "Bedrock cannot hold a model to one call at a time";
                    losses.dropped("parallel_tool_calls", why)?;
                }
                Ok(Self::Offered)
            }
            (false, true, false) => {
                losses.changed("tools", "they were left out, since tool_choice is `none`")?;
                Ok(Self::Nothing)
            }
            (false, true, true) => {
                let why = "Bedrock has no such choice and wants the tools beside the calls of the history, so the \
                           system text asks not to call them";
                losses.changed("tool_choice", why)?;
                Ok(Self::Forbidden)
            }
            (true, ..) => Self::without(request, in_history, losses),
        }
    }

    fn without(
        request: &ChatRequest<'_>,
        in_history: bool,
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        if let Some(ToolChoice::Required | ToolChoice::Named(_)) = request.tool_choice {
            let why = "a call cannot be demanded without `tools`";
            return Err(Untranslatable::malformed("tool_choice", why));
        }
        if !in_history {
            return Ok(Self::Nothing);
        }
        let why = "Bedrock requires them with tool calls in the history; they are not to be called";
        losses.defaulted("tools", why);
        Ok(Self::Remembered)
    }

    /// Whether the system text must ask for no call; a call that is the answer's form is one.
    pub(super) fn is_unwanted(self, form: &Form<'_>) -> bool {
        matches!(self, Self::Forbidden | Self::Remembered) && !form.is_called()
    }
}

/// Writes `toolConfig`, if there is anything to say.
pub(super) fn write(
    request: &ChatRequest<'_>,
    conversation: &Conversation<'_>,
    (kit, form, family): (Kit, &Form<'_>, &Family),
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if kit == Kit::Nothing && !form.is_called() {
        return Ok(());
    }
    json.key("toolConfig");
    json.object();
    json.key("tools");
    json.list();
    match kit {
        Kit::Nothing => {}
        Kit::Offered | Kit::Forbidden => {
            for (index, tool) in request.tools.iter().enumerate() {
                let list = if request.legacy { "functions" } else { "tools" };
                let end = if request.legacy { "" } else { ".function" };
                write_tool(tool, &format!("{list}[{index}]{end}"), family, json, losses)?;
            }
        }
        Kit::Remembered => {
            for name in &conversation.called {
                let name = name.decode().unwrap_or_default();
                open(Text::Plain(&block::callable(&name)), None, json);
                json.raw(schema::ANYTHING);
                close(None, json);
            }
        }
    }
    if let Form::Called { schema, description } = form {
        let description = description.filter(|text| !text.is_blank());
        open(Text::Plain(form::TOOL), description.or(Some(Text::Plain(ANSWER))), json);
        schema::write_object(*schema, json);
        close(None, json);
    }
    json.end_list();
    if form.is_called() {
        write_choice(Some(ToolChoice::Named(Text::Plain(form::TOOL))), json);
    } else if kit == Kit::Offered {
        write_choice(request.tool_choice, json);
    }
    json.end_object();
    Ok(())
}

const ANSWER: &str = "Gives the answer. Call it once, with all of the answer as its input.";

fn write_tool(
    tool: &Tool<'_>,
    place: &str,
    family: &Family,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let mark = marks::of_tool(tool).filter(|_| matches!(family.caching, Caching::All { .. }));
    losses.beyond_tool(tool, mark.map(|(name, _)| name), place, "Bedrock's tools have no such field")?;
    let holds = family.schema == Schema::Native;
    let arguments = Arguments::of(tool, holds, place, Converse::NAME, losses)?;
    open(tool.name, tool.description.filter(|text| !text.is_blank()), json);
    arguments.write(json);
    close(arguments.strict.then_some(true), json);
    if let Some((name, mark)) = mark {
        let item = place.strip_suffix(".function").unwrap_or(place);
        let long = cache::lives_long(mark, family, || format!("{item}.{name}"), losses)?;
        json.object();
        cache::write(long, json);
        json.end_object();
    }
    Ok(())
}

/// Writes a tool up to its schema.
fn open(name: Text<'_>, description: Option<Text<'_>>, json: &mut Writer<'_>) {
    json.object();
    json.key("toolSpec");
    json.object();
    json.key("name");
    json.text(name);
    if let Some(description) = description {
        json.key("description");
        json.text(description);
    }
    json.key("inputSchema");
    json.object();
    json.key("json");
}

/// Writes a tool from its schema on.
fn close(strict: Option<bool>, json: &mut Writer<'_>) {
    json.end_object();
    if let Some(strict) = strict {
        json.key("strict");
        json.value(&strict);
    }
    json.end_object();
    json.end_object();
}

fn write_choice(choice: Option<ToolChoice<'_>>, json: &mut Writer<'_>) {
    let (kind, name) = match choice {
        None | Some(ToolChoice::None | ToolChoice::Other(_)) => return,
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
    };
    json.key("toolChoice");
    json.object();
    json.key(kind);
    json.object();
    if let Some(name) = name {
        json.key("name");
        json.text(name);
    }
    json.end_object();
    json.end_object();
}
