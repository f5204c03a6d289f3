//! An OpenAI chat request as Converse's: written straight into one buffer, with every loss noted.

use bytes::BytesMut;

use super::block::{self, Conversation, Converse, Pen};
use super::cache;
use super::extras::{self, Told};
use super::form::{self, Form};
use super::models::{self, Family};
use super::tools::{self, Kit};
use crate::dialect::claude::Sampled;
use crate::dialect::claude::thinking::Setting;
use crate::dialect::loss::Losses;
use crate::dialect::turns::{Block, Vendor};
use crate::dialect::{Context, Untranslatable, tier};
use crate::openai::ChatRequest;
use crate::openai::json::{Text, Writer};
use crate::openai::message::{Content, Message, Role};

/// A request as it is sent.
#[derive(Debug)]
pub(super) struct Written {
    /// The body.
    pub(super) body: BytesMut,
    /// Whether the answer's text comes as a call of [`form::TOOL`].
    pub(super) by_tool: bool,
}

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<Written, Untranslatable> {
    refuse(request)?;
    note(&request.messages, losses)?;
    let family = models::family(context.provider_model);
    let mut conversation = Conversation::arrange::<Converse>(&request.messages, losses)?;
    put_text_beside_documents(&mut conversation, losses)?;
    if conversation.marked {
        cache::fit(&mut conversation, &family, losses)?;
    }
    let form = Form::of(request, &family, losses)?;
    let kit = Kit::of(request, &conversation, losses)?;
    let mut setting = Setting::of(request, &conversation);
    setting.forced |= form.is_called();
    let told = Told::of(request, &family, setting, losses)?;
    let sampled = family.sampling.of(request, Converse::NAME, losses)?;

    let mut body = BytesMut::with_capacity(request.length + 1024);
    let mut json = Writer::new(&mut body);
    json.object();
    Pen::new(&mut json).messages(&conversation);
    form::write_system(&conversation, &form, kit.is_unwanted(&form), &mut json);
    write_inference(request, &family, (sampled, told), &mut json, losses)?;
    tools::write(request, &conversation, (kit, &form, &family), &mut json, losses)?;
    extras::write(request, &family, (told, sampled.top_k), &mut json, losses)?;
    form::write_output(&form, told.effort(), &mut json);
    write_tier(request, &mut json, losses)?;
    write_as_sent(request, &mut json)?;
    json.end_object();
    for name in request.beyond(&HANDLED).filter(|name| !family.own.contains(name)) {
        losses.dropped(name.to_owned(), "Bedrock's format has no such field")?;
    }
    Ok(Written { body, by_tool: form.is_called() })
}

/// What is written here, or answered by the decoder; everything else is dropped by name.
const HANDLED: [&str; 24] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "parallel_tool_calls",
    "response_format",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "reasoning_effort",
    "thinking",
    "service_tier",
    extras::OWN,
    AS_SENT[0],
    AS_SENT[1],
    AS_SENT[2],
];

/// Converse's own fields, which a client or `defaults` may set: each is an object and goes on as it came.
const AS_SENT: [&str; 3] = ["guardrailConfig", "performanceConfig", "requestMetadata"];

/// What changes the answer so much that leaving it out would be a lie.
fn refuse(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    if request.n.is_some_and(|n| n != 1) {
        let why = "Bedrock gives one answer a request: ask several times";
        return Err(Untranslatable::unsupported("n", why));
    }
    for name in ["audio", "web_search_options"] {
        if request.other(name).is_some() {
            return Err(Untranslatable::unsupported(name, "Bedrock's format cannot express this"));
        }
    }
    if request.other("modalities").is_some_and(|raw| raw.get().contains("audio")) {
        return Err(Untranslatable::unsupported("modalities", "Bedrock's chat models answer in text only"));
    }
    Ok(())
}

/// Notes what Converse refuses and is therefore mended: results that say nothing, and names that no tool can have.
fn note(messages: &[Message<'_>], losses: &mut Losses) -> Result<(), Untranslatable> {
    for (index, message) in messages.iter().enumerate() {
        let answers = matches!(message.role, Role::Tool | Role::Function);
        if answers && says_nothing(&message.content) {
            let why = format!("Bedrock refuses results that say nothing, so `{}` was sent", block::NOTHING);
            losses.changed(format!("messages[{index}].content"), why)?;
        }
        for (place, call) in message.calls.iter().enumerate() {
            let name = call.name.decode().unwrap_or_default();
            if block::callable(&name) != name {
                let field = match call.id {
                    Some(_) => format!("messages[{index}].tool_calls[{place}].function.name"),
                    None => format!("messages[{index}].function_call.name"),
                };
                losses.changed(field, "Bedrock takes letters, digits, `_` and `-`, at most 64")?;
            }
        }
    }
    Ok(())
}

fn says_nothing(content: &Content<'_>) -> bool {
    match content {
        Content::Absent => true,
        Content::Text(text) => text.is_blank(),
        Content::Parts(parts) => parts.is_empty(),
    }
}

fn put_text_beside_documents(
    conversation: &mut Conversation<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    for turn in &mut conversation.turns {
        let has = |found: fn(&Block<'_, block::Media<'_>>) -> bool| turn.blocks.iter().any(found);
        let lonely = has(|block| matches!(block, Block::Media(media) if media.is_document()))
            && !has(|block| matches!(block, Block::Text(_) | Block::Trimmed(_)));
        if lonely {
            let why = "Bedrock takes a document only beside some text, so a text `.` was put there";
            losses.changed("messages", why)?;
            turn.blocks.push(Block::Text(Text::Plain(".")));
        }
    }
    Ok(())
}

fn write_inference(
    request: &ChatRequest<'_>,
    family: &Family,
    (sampled, told): (Sampled, Told<'_>),
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let max_tokens = limit(request, told, losses)?;
    let stop = stops(request, family, losses)?;
    let Sampled { temperature, top_p, .. } = sampled;
    if max_tokens.is_none() && temperature.is_none() && top_p.is_none() && stop.is_empty() {
        return Ok(());
    }
    json.key("inferenceConfig");
    json.object();
    if let Some(max_tokens) = max_tokens {
        json.key("maxTokens");
        json.value(&max_tokens);
    }
    for (name, value) in [("temperature", temperature), ("topP", top_p)] {
        if let Some(value) = value {
            json.key(name);
            json.value(&value);
        }
    }
    if !stop.is_empty() {
        json.key("stopSequences");
        json.list();
        stop.iter().for_each(|text| json.text(*text));
        json.end_list();
    }
    json.end_object();
    Ok(())
}

fn limit(
    request: &ChatRequest<'_>,
    told: Told<'_>,
    losses: &mut Losses,
) -> Result<Option<u64>, Untranslatable> {
    if request.max_completion_tokens.is_some_and(|new| request.max_tokens.is_some_and(|old| old != new)) {
        losses.dropped("max_tokens", "max_completion_tokens was given too, and it is the newer name")?;
    }
    let Some(needed) = told.needs_limit().filter(|_| request.token_limit().is_none()) else {
        return Ok(request.token_limit());
    };
    losses.defaulted("max_tokens", format!("thinking needs a limit; {needed} for this model"));
    Ok(Some(needed))
}

fn stops<'a>(
    request: &ChatRequest<'a>,
    family: &Family,
    losses: &mut Losses,
) -> Result<Vec<Text<'a>>, Untranslatable> {
    let blank = |text: &Text<'a>| if family.is_claude() { text.is_blank() } else { text.is_empty() };
    // An empty one asks for nothing.
    if request.stop.iter().any(|text| blank(text) && !text.is_empty()) {
        let why = "Claude refuses stop sequences of nothing but white space; the others were kept";
        losses.dropped("stop", why)?;
    }
    Ok(request.stop.iter().filter(|text| !blank(text)).copied().collect())
}

/// OpenAI's tiers that Bedrock has too, by the same names.
fn write_tier(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let names = [("default", "default"), ("flex", "flex"), ("priority", "priority")];
    if let Some(tier) = tier::asked(request, &names, "Bedrock has no such tier", losses)? {
        json.key("serviceTier");
        json.object();
        json.tag("type", tier);
        json.end_object();
    }
    Ok(())
}

fn write_as_sent(request: &ChatRequest<'_>, json: &mut Writer<'_>) -> Result<(), Untranslatable> {
    for name in AS_SENT {
        let Some(raw) = request.other(name) else { continue };
        if !raw.get().starts_with('{') {
            return Err(Untranslatable::malformed(name, "this must be an object, as Converse wants it"));
        }
        json.key(name);
        json.raw(raw.get());
    }
    Ok(())
}
