//! The form that an answer must have: Converse's own field for a schema, a tool that must be called, or words.

use serde_json::Value;

use super::block::{Block, Conversation, Converse, Pen};
use super::models::{Family, Schema};
use crate::dialect::Untranslatable;
use crate::dialect::claude::schema;
use crate::dialect::loss::Losses;
use crate::dialect::turns::Vendor;
use crate::openai::ChatRequest;
use crate::openai::chat::ResponseFormat;
use crate::openai::json::{Raw, Text, Writer};
use crate::openai::tool::ToolChoice;

/// The form of an answer.
#[derive(Debug)]
pub(super) enum Form<'a> {
    /// Any.
    Free,
    /// One JSON object, asked for in words.
    Asked,
    /// Held to a schema by Converse's own field.
    Held {
        /// The schema.
        schema: Value,
        /// What it is for.
        description: Option<Text<'a>>,
    },
    /// The input of a call that must be made.
    Called {
        /// The schema of the input.
        schema: Raw<'a>,
        /// What it is for.
        description: Option<Text<'a>>,
    },
}

/// The tool whose call is an answer.
pub(super) const TOOL: &str = "json_answer";

impl<'a> Form<'a> {
    /// The form that `request` wants of a model of `family`.
    pub(super) fn of(
        request: &ChatRequest<'a>,
        family: &Family,
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        match request.response_format {
            None | Some(ResponseFormat::Text) => Ok(Self::Free),
            Some(ResponseFormat::JsonObject) => {
                let why = "Bedrock has no such mode, so the system text asks for one JSON object";
                losses.changed(FIELD, why)?;
                Ok(Self::Asked)
            }
            Some(ResponseFormat::JsonSchema { schema, description, path }) => match family.schema {
                Schema::Native => {
                    let schema = schema::fit(schema.get(), path, Converse::NAME, losses)?;
                    Ok(Self::Held { schema, description })
                }
                Schema::Tool => called(request, schema, description, losses),
                Schema::Never => {
                    let why =
                        "this model cannot hold its answer to a schema: use another one, or ask in words";
                    Err(Untranslatable::unsupported(FIELD, why))
                }
            },
            Some(ResponseFormat::Other(kind)) => {
                let kind = kind.decode().unwrap_or_default();
                let why = format!("Bedrock's format has no response format `{kind}`");
                Err(Untranslatable::unsupported("response_format.type", why))
            }
        }
    }

    /// Whether the answer comes as a call.
    pub(super) fn is_called(&self) -> bool {
        matches!(self, Self::Called { .. })
    }
}

const FIELD: &str = "response_format";

fn called<'a>(
    request: &ChatRequest<'a>,
    schema: Raw<'a>,
    description: Option<Text<'a>>,
    losses: &mut Losses,
) -> Result<Form<'a>, Untranslatable> {
    if !request.tools.is_empty() && !matches!(request.tool_choice, Some(ToolChoice::None)) {
        let why = "this model holds an answer to a schema only by a call, which does not go with tools";
        return Err(Untranslatable::unsupported(FIELD, why));
    }
    losses.changed(FIELD, "this model has no such mode, so it is made to call a tool of this schema")?;
    Ok(Form::Called { schema, description })
}

/// Writes the system texts, with what the form and the tools ask for in words.
pub(super) fn write_system(
    conversation: &Conversation<'_>,
    form: &Form<'_>,
    calls_unwanted: bool,
    json: &mut Writer<'_>,
) {
    let asked = matches!(form, Form::Asked).then_some(Block::Text(Text::Plain(ASK_FOR_JSON)));
    let unwanted = calls_unwanted.then_some(Block::Text(Text::Plain(ASK_FOR_NO_CALL)));
    if conversation.system.is_empty() && asked.is_none() && unwanted.is_none() {
        return;
    }
    json.key("system");
    Pen::new(json).all(conversation.system.iter().chain(&asked).chain(&unwanted));
}

const ASK_FOR_JSON: &str =
    "Answer with exactly one valid JSON object and nothing else: no words around it, no code fences.";
const ASK_FOR_NO_CALL: &str = "Answer in words. Do not call any tool.";

/// Writes Converse's `outputConfig`, if there is anything to say; the effort and the form share it.
pub(super) fn write_output(form: &Form<'_>, effort: Option<&str>, json: &mut Writer<'_>) {
    let held = if let Form::Held { schema, description } = form { Some((schema, description)) } else { None };
    if held.is_none() && effort.is_none() {
        return;
    }
    json.key("outputConfig");
    json.object();
    if let Some((schema, description)) = held {
        json.key("textFormat");
        json.object();
        json.tag("type", "json_schema");
        json.key("structure");
        json.object();
        json.key("jsonSchema");
        json.object();
        // A text that holds JSON.
        json.member("schema", &schema.to_string());
        if let Some(description) = description.filter(|text| !text.is_blank()) {
            json.key("description");
            json.text(description);
        }
        json.end_object();
        json.end_object();
        json.end_object();
    }
    if let Some(word) = effort {
        json.member("effort", word);
    }
    json.end_object();
}
