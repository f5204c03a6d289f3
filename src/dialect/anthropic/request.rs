//! An OpenAI chat request as Anthropic's: written straight into one buffer, with every loss noted.

use bytes::BytesMut;

use super::block::{self, Block, Conversation, Messages};
use super::tools;
use crate::dialect::claude::thinking::{self, Plan, Setting};
use crate::dialect::claude::{Rules, rules, schema};
use crate::dialect::loss::Losses;
use crate::dialect::turns::Vendor;
use crate::dialect::{Context, Untranslatable, tier};
use crate::openai::ChatRequest;
use crate::openai::chat::ResponseFormat;
use crate::openai::json::{Text, Writer};

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    refuse(request)?;
    let rules = rules(context.provider_model);
    let conversation = Conversation::arrange::<Messages>(&request.messages, losses)?;
    let mut out = BytesMut::with_capacity(request.length + 1024);
    let mut json = Writer::new(&mut out);
    json.object();
    json.member("model", context.provider_model);
    let max_tokens = write_limit(request, rules, &mut json, losses)?;
    write_system(&conversation, request, &mut json, losses)?;
    write_turns(&conversation, &mut json);
    tools::write(request, &conversation, rules, &mut json, losses)?;
    write_stop(request, &mut json, losses)?;
    write_sampling(request, rules, &mut json, losses)?;
    let plan = thinking::plan(request, Setting::of(request, &conversation), rules, max_tokens, losses)?;
    plan.write(&mut json);
    write_output(request, rules, plan, &mut json, losses)?;
    write_user(request, &mut json, losses)?;
    write_tier(request, &mut json, losses)?;
    if request.stream {
        json.key("stream");
        json.value(&true);
    }
    json.end_object();
    for name in request.beyond(&HANDLED) {
        losses.dropped(name.to_owned(), "Anthropic's format has no such field")?;
    }
    Ok(out)
}

/// What is written here, or answered by the decoder; everything else is dropped by name.
const HANDLED: [&str; 22] = [
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
    "user",
    "safety_identifier",
    "reasoning_effort",
    "thinking",
    "service_tier",
];

/// What changes the answer so much that leaving it out would be a lie.
fn refuse(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    if request.n.is_some_and(|n| n != 1) {
        return Err(Untranslatable::unsupported(
            "n",
            "Anthropic gives one answer a request: ask several times",
        ));
    }
    for name in ["audio", "web_search_options"] {
        if request.other(name).is_some() {
            return Err(Untranslatable::unsupported(name, "Anthropic's format cannot express this"));
        }
    }
    if request.other("modalities").is_some_and(|raw| raw.get().contains("audio")) {
        return Err(Untranslatable::unsupported("modalities", "Anthropic's models answer in text only"));
    }
    Ok(())
}

/// The room that is left for an answer behind a client's own budget of thoughts, in tokens.
const ANSWER: u64 = 4096;

fn write_limit(
    request: &ChatRequest<'_>,
    rules: Rules,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<u64, Untranslatable> {
    if request.max_completion_tokens.is_some_and(|new| request.max_tokens.is_some_and(|old| old != new)) {
        losses.dropped("max_tokens", "max_completion_tokens was given too, and it is the newer name")?;
    }
    let limit = request.token_limit().unwrap_or_else(|| {
        let usual = rules.default_max_tokens;
        let (limit, why) = match thinking::asked_budget(request) {
            Some(budget) if budget >= usual => {
                let limit = budget.saturating_add(ANSWER);
                (limit, format!("Anthropic requires it, above `thinking.budget_tokens`; {limit}"))
            }
            _ => (usual, format!("Anthropic requires it; {usual} for this model")),
        };
        losses.defaulted("max_tokens", why);
        limit
    });
    json.key("max_tokens");
    json.value(&limit);
    Ok(limit)
}

fn write_system(
    conversation: &Conversation<'_>,
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let mut asked = None;
    if let Some(ResponseFormat::JsonObject) = request.response_format {
        let why = "Anthropic has no such mode, so the system text asks for one JSON object";
        losses.changed("response_format", why)?;
        asked = Some(Block::Text(Text::Plain(ASK_FOR_JSON)));
    }
    if conversation.system.is_empty() && asked.is_none() {
        return Ok(());
    }
    json.key("system");
    block::write_all(conversation.system.iter().chain(&asked), json);
    Ok(())
}

const ASK_FOR_JSON: &str =
    "Answer with exactly one valid JSON object and nothing else: no words around it, no code fences.";

fn write_turns(conversation: &Conversation<'_>, json: &mut Writer<'_>) {
    json.key("messages");
    json.list();
    for turn in &conversation.turns {
        json.object();
        json.tag("role", if turn.assistant { "assistant" } else { "user" });
        json.key("content");
        block::write_all(turn.results.iter().chain(&turn.blocks), json);
        json.end_object();
    }
    json.end_list();
}

fn write_stop(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    // An empty one asks for nothing.
    if request.stop.iter().any(|text| text.is_blank() && !text.is_empty()) {
        losses.dropped(
            "stop",
            "Anthropic refuses stop sequences of nothing but white space; the others were kept",
        )?;
    }
    let mut kept = request.stop.iter().filter(|text| !text.is_blank()).peekable();
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
    rules: Rules,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let sampled = rules.sampling.of(request, Messages::NAME, losses)?;
    if let Some(temperature) = sampled.temperature {
        json.key("temperature");
        json.value(&temperature);
    }
    if let Some(top_p) = sampled.top_p {
        json.key("top_p");
        json.value(&top_p);
    }
    if let Some(top_k) = sampled.top_k {
        json.key("top_k");
        json.value(&top_k);
    }
    Ok(())
}

/// Who asks. Anthropic has one field for it, to find abuse by, which is what the newer of OpenAI's two is for.
fn write_user(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let user = request.user.filter(|id| !id.is_blank());
    let newer = request.safety_identifier.filter(|id| !id.is_blank());
    if user.is_some() && newer.is_some() {
        losses.dropped("user", "Anthropic takes one id, and `safety_identifier` is given too")?;
    }
    let Some(id) = newer.or(user) else { return Ok(()) };
    json.key("metadata");
    json.object();
    json.key("user_id");
    json.text(id);
    json.end_object();
    Ok(())
}

/// Whether the request may use capacity that was bought ahead, which Anthropic does unasked.
fn write_tier(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let why = "Anthropic has the tiers `auto` and `default` only";
    let names = [("default", "standard_only"), ("standard_only", "standard_only")];
    if let Some(tier) = tier::asked(request, &names, why, losses)? {
        json.tag("service_tier", tier);
    }
    Ok(())
}

/// The effort and the form of the answer share one field.
fn write_output(
    request: &ChatRequest<'_>,
    rules: Rules,
    plan: Plan<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let schema = match request.response_format {
        Some(ResponseFormat::JsonSchema { schema, description, path }) => {
            if !rules.structured {
                let why = "this model cannot hold its answer to a schema: use a newer one, or a tool";
                return Err(Untranslatable::unsupported("response_format", why));
            }
            if description.is_some() {
                let field = "response_format.json_schema.description";
                losses.dropped(field, "Anthropic's output format has no description")?;
            }
            Some(schema::fit(schema.get(), path, Messages::NAME, losses)?)
        }
        Some(ResponseFormat::Other(kind)) => {
            let why =
                format!("Anthropic's format has no response format `{}`", kind.decode().unwrap_or_default());
            return Err(Untranslatable::unsupported("response_format.type", why));
        }
        Some(ResponseFormat::Text | ResponseFormat::JsonObject) | None => None,
    };
    let effort = plan.effort();
    if schema.is_none() && effort.is_none() {
        return Ok(());
    }
    json.key("output_config");
    json.object();
    if let Some(word) = effort {
        json.tag("effort", word);
    }
    if let Some(schema) = schema {
        json.key("format");
        json.object();
        json.tag("type", "json_schema");
        json.key("schema");
        json.value(&schema);
        json.end_object();
    }
    json.end_object();
    Ok(())
}
