//! An OpenAI chat request as Mistral's: written straight into one buffer, with every loss noted.

use bytes::BytesMut;

use super::models::{self, Effort};
use super::tools;
use super::turns;
use crate::dialect::loss::Losses;
use crate::dialect::{Context, Untranslatable, tier};
use crate::openai::ChatRequest;
use crate::openai::chat::ResponseFormat;
use crate::openai::json::{Object, Text, Writer};
use crate::openai::message::{Body, Content};

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    refuse(request)?;
    if !models::hears(context.provider_model) {
        refuse_sound(request)?;
    }
    let mut out = BytesMut::with_capacity(request.length + 1024);
    let mut json = Writer::new(&mut out);
    json.object();
    json.member("model", context.provider_model);
    json.key("messages");
    turns::write(&request.messages, &mut json, losses)?;
    tools::write(request, &mut json, losses)?;
    write_format(request, &mut json)?;
    write_limits(request, &mut json, losses)?;
    write_sampling(request, &mut json, losses)?;
    write_effort(request, context, &mut json, losses)?;
    write_prediction(request, &mut json, losses)?;
    write_tier(request, &mut json, losses)?;
    for name in OWN {
        if let Some(raw) = request.other(name) {
            json.key(name);
            json.raw(raw.get());
        }
    }
    if request.stream {
        json.key("stream");
        json.value(&true);
    }
    json.end_object();
    for name in request.beyond(&HANDLED).filter(|name| !OWN.contains(name)) {
        losses.dropped(name.to_owned(), "Mistral's format has no such field")?;
    }
    Ok(out)
}

/// What Mistral takes under the same name and in the same form.
const OWN: [&str; 7] = [
    "guardrails",
    "metadata",
    "min_tokens",
    "prompt_cache_key",
    "prompt_mode",
    "repetition_penalty",
    "safe_prompt",
];

/// What is written here, or answered by the decoder; everything else is dropped by name.
const HANDLED: [&str; 25] = [
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
    "prediction",
    "service_tier",
];

/// What changes the answer so much that leaving it out would be a lie.
fn refuse(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    for name in ["audio", "web_search_options"] {
        if request.other(name).is_some() {
            return Err(Untranslatable::unsupported(name, "Mistral's format cannot express this"));
        }
    }
    if request.other("modalities").is_some_and(|raw| raw.get().contains("audio")) {
        return Err(Untranslatable::unsupported("modalities", "Mistral's models answer in text only"));
    }
    Ok(())
}

/// A model that does not hear would refuse it too, but not by its path.
fn refuse_sound(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    for (at, message) in request.messages.iter().enumerate() {
        let Content::Parts(parts) = &message.content else { continue };
        if let Some(place) = parts.iter().position(|part| matches!(part.body, Body::Audio { .. })) {
            let field = format!("messages[{at}].content[{place}].input_audio");
            return Err(Untranslatable::unsupported(
                field,
                "this model takes no sound: Mistral's Voxtral does",
            ));
        }
    }
    Ok(())
}

fn write_format(request: &ChatRequest<'_>, json: &mut Writer<'_>) -> Result<(), Untranslatable> {
    match request.response_format {
        None | Some(ResponseFormat::Text) => return Ok(()),
        Some(ResponseFormat::Other(kind)) => {
            let why =
                format!("Mistral's format has no response format `{}`", kind.decode().unwrap_or_default());
            return Err(Untranslatable::unsupported("response_format.type", why));
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }) => {}
    }
    json.key("response_format");
    json.object();
    if let Some(ResponseFormat::JsonSchema { schema, description, .. }) = request.response_format {
        json.tag("type", "json_schema");
        json.key("json_schema");
        json.object();
        json.key("name");
        json.text(request.schema_name.filter(|name| !name.is_blank()).unwrap_or(Text::Plain("answer")));
        if let Some(description) = description {
            json.key("description");
            json.text(description);
        }
        json.key("schema");
        json.raw(schema.get());
        if request.schema_strict {
            json.key("strict");
            json.value(&true);
        }
        json.end_object();
    } else {
        json.tag("type", "json_object");
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
    number("max_tokens", request.token_limit(), json);
    if request.stop.iter().any(|text| text.is_empty()) {
        losses.dropped("stop", "a stop sequence without a character stops nothing; the others were kept")?;
    }
    let mut kept = request.stop.iter().filter(|text| !text.is_empty()).peekable();
    if kept.peek().is_some() {
        json.key("stop");
        json.list();
        kept.for_each(|text| json.text(*text));
        json.end_list();
    }
    number("n", request.n.filter(|n| *n != 1), json);
    Ok(())
}

fn write_sampling(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if request.temperature.is_some_and(|temperature| temperature > HOTTEST) {
        losses.changed("temperature", "Mistral's temperature ends at 1.5")?;
    }
    number("temperature", request.temperature.map(|temperature| temperature.min(HOTTEST)), json);
    number("top_p", request.top_p, json);
    number("top_k", request.top_k, json);
    number("presence_penalty", request.presence_penalty, json);
    number("frequency_penalty", request.frequency_penalty, json);
    if request.seed.is_some_and(|seed| seed < 0) {
        losses.dropped("seed", "Mistral's seeds begin at 0")?;
    }
    number("random_seed", request.seed.filter(|seed| *seed >= 0), json);
    number("logprobs", request.logprobs.filter(|wanted| *wanted), json);
    number("top_logprobs", request.top_logprobs, json);
    Ok(())
}

const HOTTEST: f64 = 1.5;

fn number<T: serde::Serialize>(name: &'static str, value: Option<T>, json: &mut Writer<'_>) {
    if let Some(value) = value {
        json.key(name);
        json.value(&value);
    }
}

fn write_effort(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let Some(wanted) = request.reasoning_effort.filter(|word| !word.is_empty()) else { return Ok(()) };
    let effort = models::effort(context.provider_model);
    let said = wanted.decode().unwrap_or_default();
    match effort.nearest(&said) {
        Some(word) => {
            if word != said {
                losses
                    .changed("reasoning_effort", format!("the nearest that this model takes is `{word}`"))?;
            }
            json.tag("reasoning_effort", word);
        }
        None if effort == Effort::Unknown => {
            json.key("reasoning_effort");
            json.text(wanted);
        }
        None => losses.dropped("reasoning_effort", "this model's thinking cannot be set so")?,
    }
    Ok(())
}

/// OpenAI's prediction may come in parts, Mistral's is one text.
fn write_prediction(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let Some(raw) = request.other("prediction") else { return Ok(()) };
    let mut prediction = Object::read(raw.get()).unwrap_or_default();
    prediction.take("type");
    let Some(text) = prediction.take("content").and_then(Text::read) else {
        return losses.dropped("prediction", "Mistral takes a prediction as one text only");
    };
    for (name, _) in prediction.into_rest() {
        losses.dropped(format!("prediction.{name}"), "Mistral's predictions have no such field")?;
    }
    json.key("prediction");
    json.object();
    json.tag("type", "content");
    json.key("content");
    json.text(text);
    json.end_object();
    Ok(())
}

fn write_tier(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let why = "Mistral has the tiers `auto` and `default` only";
    let names = [("default", "standard_only"), ("standard_only", "standard_only")];
    if let Some(tier) = tier::asked(request, &names, why, losses)? {
        json.tag("service_tier", tier);
    }
    Ok(())
}
