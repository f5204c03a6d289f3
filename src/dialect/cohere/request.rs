//! An OpenAI chat request as Cohere's: written straight into one buffer, with every loss noted.

use bytes::BytesMut;

use super::messages;
use super::models::{Effort, LEFT_FOR_THE_ANSWER, effort, rules};
use super::schema;
use super::tools;
use crate::dialect::loss::Losses;
use crate::dialect::{Context, Untranslatable};
use crate::openai::ChatRequest;
use crate::openai::chat::ResponseFormat;
use crate::openai::json::Writer;

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    refuse(request)?;
    let mut out = BytesMut::with_capacity(request.length + 1024);
    let mut json = Writer::new(&mut out);
    json.object();
    json.member("model", context.provider_model);
    if request.stream {
        json.key("stream");
        json.value(&true);
    }
    messages::write(&request.messages, &mut json, losses)?;
    tools::write(request, &mut json, losses)?;
    write_format(request, &mut json, losses)?;
    write_limits(request, &mut json, losses)?;
    write_sampling(request, &mut json, losses)?;
    write_thinking(request, context, &mut json, losses)?;
    if request.logprobs == Some(true) {
        json.key("logprobs");
        json.value(&true);
    }
    for name in OWN {
        if let Some(raw) = request.other(name) {
            json.key(name);
            json.raw(raw.get());
        }
    }
    json.end_object();
    for name in request.beyond(&HANDLED) {
        losses.dropped(name.to_owned(), "Cohere's format has no such field")?;
    }
    Ok(out)
}

/// Cohere's own fields, which go on as they came.
const OWN: [&str; 3] = ["safety_mode", "citation_options", "priority"];

/// What is written here, or answered by the decoder; everything else is dropped by name.
const HANDLED: [&str; 27] = [
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
    "reasoning_effort",
    "thinking",
    OWN[0],
    OWN[1],
    OWN[2],
    "strict_tools",
];

/// What changes the answer so much that leaving it out would be a lie.
fn refuse(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    if request.n.is_some_and(|n| n != 1) {
        return Err(Untranslatable::unsupported("n", "Cohere gives one answer a request: ask several times"));
    }
    if request.other("documents").is_some() {
        let why = "what Cohere cites of them has no place in OpenAI's answer: put them into a message";
        return Err(Untranslatable::unsupported("documents", why));
    }
    for name in ["audio", "web_search_options"] {
        if request.other(name).is_some() {
            return Err(Untranslatable::unsupported(name, "Cohere's format cannot express this"));
        }
    }
    if request.other("modalities").is_some_and(|raw| raw.get().contains("audio")) {
        return Err(Untranslatable::unsupported("modalities", "Cohere's models answer in text only"));
    }
    Ok(())
}

/// Both of OpenAI's JSON modes are one mode of Cohere's, with or without a schema.
fn write_format(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let schema = match request.response_format {
        None | Some(ResponseFormat::Text) => return Ok(()),
        Some(ResponseFormat::JsonObject) => None,
        Some(ResponseFormat::JsonSchema { schema, description, path }) => {
            if description.is_some() {
                let field = "response_format.json_schema.description";
                losses.dropped(field, "Cohere's response format has no description")?;
            }
            Some(schema::fit(schema.get(), path, losses)?)
        }
        Some(ResponseFormat::Other(kind)) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Cohere's format has no response format `{kind}`");
            return Err(Untranslatable::unsupported("response_format.type", why));
        }
    };
    json.key("response_format");
    json.object();
    json.tag("type", "json_object");
    if let Some(schema) = schema {
        json.key("json_schema");
        json.value(&schema);
    }
    json.end_object();
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
        json.key("max_tokens");
        json.value(&limit);
    }
    if request.stop.iter().any(|text| text.is_empty()) {
        losses.dropped("stop", "a stop sequence without a character stops nothing; the others were kept")?;
    }
    let mut kept = request.stop.iter().filter(|text| !text.is_empty()).peekable();
    if kept.peek().is_some() {
        json.key("stop_sequences");
        json.list();
        kept.for_each(|text| json.text(*text));
        json.end_list();
    }
    Ok(())
}

fn write_sampling(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let numbers = [
        ("temperature", "temperature", request.temperature, (0.0, 1.0)),
        ("top_p", "p", request.top_p, (0.01, 0.99)),
        ("frequency_penalty", "frequency_penalty", request.frequency_penalty, (0.0, 1.0)),
        ("presence_penalty", "presence_penalty", request.presence_penalty, (0.0, 1.0)),
    ];
    for (field, name, value, (least, most)) in numbers {
        let Some(value) = value else { continue };
        if !(least..=most).contains(&value) {
            losses.changed(field, format!("Cohere takes it from {least} to {most}"))?;
        }
        json.key(name);
        json.value(&value.clamp(least, most));
    }
    if let Some(top_k) = request.top_k {
        if top_k > MOST_K {
            losses.changed("top_k", format!("Cohere takes it up to {MOST_K}"))?;
        }
        json.key("k");
        json.value(&top_k.min(MOST_K));
    }
    match request.seed {
        Some(seed) if seed < 0 => losses.dropped("seed", "Cohere's seeds are not below 0")?,
        Some(seed) => {
            json.key("seed");
            json.value(&seed);
        }
        None => {}
    }
    Ok(())
}

const MOST_K: u64 = 500;

fn write_thinking(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    const FIELD: &str = "reasoning_effort";
    if let Some(raw) = request.other("thinking") {
        if request.reasoning_effort.is_some() {
            losses.dropped(FIELD, "Cohere's own `thinking` was given too")?;
        }
        json.key("thinking");
        json.raw(raw.get());
        return Ok(());
    }
    let Some(word) = request.reasoning_effort else { return Ok(()) };
    let Some(effort) = effort(&word.decode().unwrap_or_default()) else {
        return losses.dropped(FIELD, "Cohere has no such degree of effort");
    };
    let budget = match (rules(context.provider_model).thinks, effort) {
        // A model that cannot think does what was asked for.
        (false, Effort::Off) => return Ok(()),
        (false, _) => return losses.dropped(FIELD, "this model is not known to think"),
        (true, Effort::Off | Effort::Unlimited) => None,
        (true, Effort::Budget(budget)) => {
            let room =
                request.token_limit().map_or(budget, |limit| limit.saturating_sub(LEFT_FOR_THE_ANSWER));
            if room == 0 {
                let why = format!(
                    "max_tokens leaves no room for thinking and {LEFT_FOR_THE_ANSWER} tokens of answer"
                );
                return losses.dropped(FIELD, why);
            }
            Some(budget.min(room))
        }
    };
    json.key("thinking");
    json.object();
    json.tag("type", if effort == Effort::Off { "disabled" } else { "enabled" });
    if let Some(budget) = budget {
        json.key("token_budget");
        json.value(&budget);
    }
    json.end_object();
    Ok(())
}
