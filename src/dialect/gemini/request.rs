//! An OpenAI chat request as Gemini's: written straight into one buffer, with every loss noted.

use bytes::BytesMut;

use super::Flavour;
use super::models::rules;
use super::part::{self, Part};
use super::schema;
use super::thinking::{self, Plan};
use super::tools;
use super::turns::Conversation;
use crate::dialect::loss::Losses;
use crate::dialect::{Context, Untranslatable, tier};
use crate::openai::ChatRequest;
use crate::openai::chat::ResponseFormat;
use crate::openai::json::Writer;

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    flavour: Flavour,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    refuse(request)?;
    let rules = rules(context.provider_model);
    let conversation = Conversation::arrange(&request.messages, flavour, rules, losses)?;
    let mut out = BytesMut::with_capacity(request.length + 1024);
    let mut json = Writer::new(&mut out);
    json.object();
    write_system(&conversation, &mut json);
    write_turns(&conversation, &mut json);
    tools::write(request, &mut json, losses)?;
    let plan = thinking::plan(request, rules.thinking, losses)?;
    write_settings(request, plan, &mut json, losses)?;
    write_tier(request, &mut json, losses)?;
    for (name, wire) in OWN {
        if let Some(raw) = request.other(name) {
            json.key(wire);
            json.raw(raw.get());
        }
    }
    json.end_object();
    for name in request.beyond(&HANDLED) {
        losses.dropped(name.to_owned(), "Gemini's format has no such field")?;
    }
    Ok(out)
}

/// Gemini's own fields that a client or `defaults` may set beside OpenAI's, as they are.
const OWN: [(&str, &str); 2] = [("safety_settings", "safetySettings"), ("cached_content", "cachedContent")];

/// What is written here, or answered by the decoder; everything else is dropped by name.
const HANDLED: [&str; 29] = [
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
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "n",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "thinking_config",
    "safety_settings",
    "cached_content",
    "modalities",
    "audio",
    "service_tier",
];

/// What changes the answer so much that leaving it out would be a lie.
fn refuse(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    match request.n {
        Some(0) => return Err(Untranslatable::malformed("n", "expected an integer, not below 1")),
        Some(9..) => {
            return Err(Untranslatable::unsupported("n", "Gemini gives at most 8 answers a request"));
        }
        _ => {}
    }
    if request.stop.len() > MOST_STOPS {
        return Err(Untranslatable::unsupported("stop", "Gemini takes at most 5 stop sequences"));
    }
    for name in ["audio", "web_search_options"] {
        if request.other(name).is_some() {
            return Err(Untranslatable::unsupported(name, "this cannot be expressed in Gemini's format"));
        }
    }
    if request.present.iter().any(|name| name == "modalities") {
        return Err(Untranslatable::unsupported(
            "modalities",
            "only text can be answered through this format",
        ));
    }
    Ok(())
}

const MOST_STOPS: usize = 5;

fn write_system(conversation: &Conversation<'_>, json: &mut Writer<'_>) {
    if conversation.system.is_empty() {
        return;
    }
    json.key("systemInstruction");
    json.object();
    json.key("parts");
    let parts: Vec<_> = conversation.system.iter().map(|text| Part::Text(*text)).collect();
    part::write_all(parts.iter(), json);
    json.end_object();
}

fn write_turns(conversation: &Conversation<'_>, json: &mut Writer<'_>) {
    json.key("contents");
    json.list();
    for turn in &conversation.turns {
        json.object();
        json.tag("role", if turn.model { "model" } else { "user" });
        json.key("parts");
        part::write_all(turn.parts(), json);
        json.end_object();
    }
    json.end_list();
}

/// OpenAI's tiers, of which Google calls one by another name.
fn write_tier(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let names =
        [("default", "standard"), ("standard", "standard"), ("flex", "flex"), ("priority", "priority")];
    if let Some(tier) = tier::asked(request, &names, "Gemini has no such tier", losses)? {
        json.tag("serviceTier", tier);
    }
    Ok(())
}

/// Writes `generationConfig`, if there is anything to set.
fn write_settings(
    request: &ChatRequest<'_>,
    plan: Plan<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let mut settings = BytesMut::with_capacity(256);
    let mut inner = Writer::new(&mut settings);
    inner.object();
    write_limits(request, &mut inner, losses)?;
    write_sampling(request, &mut inner, losses)?;
    write_form(request, &mut inner, losses)?;
    thinking::write(plan, &mut inner);
    inner.end_object();
    let settings = String::from_utf8_lossy(&settings);
    if settings != "{}" {
        json.key("generationConfig");
        json.raw(&settings);
    }
    Ok(())
}

fn write_limits(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if request.max_completion_tokens.is_some_and(|new| request.max_tokens.is_some_and(|old| old != new)) {
        losses.dropped("max_tokens", "max_completion_tokens was given too, and it is the newer name")?;
    }
    if let Some(limit) = request.token_limit() {
        json.key("maxOutputTokens");
        json.value(&limit);
    }
    if request.stop.iter().any(|text| text.is_empty()) {
        losses.dropped("stop", "a stop sequence without a character stops nothing; the others were kept")?;
    }
    let mut kept = request.stop.iter().filter(|text| !text.is_empty()).peekable();
    if kept.peek().is_some() {
        json.key("stopSequences");
        json.list();
        kept.for_each(|text| json.text(*text));
        json.end_list();
    }
    if let Some(n) = request.n.filter(|n| *n > 1) {
        json.key("candidateCount");
        json.value(&n);
    }
    Ok(())
}

fn write_sampling(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    for (wire, value) in [
        ("temperature", request.temperature),
        ("topP", request.top_p),
        ("presencePenalty", request.presence_penalty),
        ("frequencyPenalty", request.frequency_penalty),
    ] {
        if let Some(value) = value {
            json.key(wire);
            json.value(&value);
        }
    }
    if let Some(top_k) = request.top_k {
        json.key("topK");
        json.value(&top_k);
    }
    match request.seed.map(i32::try_from) {
        Some(Ok(seed)) => {
            json.key("seed");
            json.value(&seed);
        }
        Some(Err(_)) => losses.dropped("seed", "Gemini's seed has 32 bits, and this one needs more")?,
        None => {}
    }
    match (request.logprobs, request.top_logprobs) {
        (Some(true), top) => {
            json.key("responseLogprobs");
            json.value(&true);
            if let Some(top) = top.filter(|top| *top > 0) {
                json.key("logprobs");
                json.value(&top);
            }
        }
        (_, Some(_)) => losses.dropped("top_logprobs", "it says nothing without `logprobs`")?,
        (_, None) => {}
    }
    Ok(())
}

fn write_form(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    match request.response_format {
        None | Some(ResponseFormat::Text) => {}
        Some(ResponseFormat::JsonObject) => json.tag("responseMimeType", "application/json"),
        Some(ResponseFormat::JsonSchema { schema, description, path }) => {
            json.tag("responseMimeType", "application/json");
            json.key("responseJsonSchema");
            json.value(&schema::fit(schema.get(), description, path, losses)?);
        }
        Some(ResponseFormat::Other(kind)) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Gemini's format has no response format `{kind}`");
            return Err(Untranslatable::unsupported("response_format.type", why));
        }
    }
    Ok(())
}
