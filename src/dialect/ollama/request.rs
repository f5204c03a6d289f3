//! An OpenAI chat request as Ollama's: written straight into one buffer, with every loss noted.

use bytes::BytesMut;

use super::{messages, models};
use crate::dialect::loss::Losses;
use crate::dialect::schema::write_object;
use crate::dialect::{Context, Untranslatable};
use crate::openai::ChatRequest;
use crate::openai::chat::ResponseFormat;
use crate::openai::json::{Object, Raw, Writer};
use crate::openai::tool::{Tool, ToolChoice};

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
    // Left out, it means a stream.
    json.key("stream");
    json.value(&request.stream);
    messages::write(&request.messages, &mut json, losses)?;
    write_tools(request, &mut json, losses)?;
    write_format(request, &mut json, losses)?;
    write_options(request, &mut json, losses)?;
    write_thinking(request, context, &mut json, losses)?;
    if request.logprobs == Some(true) {
        json.key("logprobs");
        json.value(&true);
    }
    if let Some(top) = request.top_logprobs {
        json.key("top_logprobs");
        json.value(&top);
    }
    for name in OWN {
        if let Some(raw) = request.other(name) {
            json.key(name);
            json.raw(raw.get());
        }
    }
    json.end_object();
    for name in request.beyond(&HANDLED) {
        losses.dropped(name.to_owned(), "Ollama's format has no such field")?;
    }
    Ok(out)
}

/// Ollama's own fields, which go on as they came.
const OWN: [&str; 3] = ["keep_alive", "truncate", "shift"];

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
    OPTIONS,
    THINK,
    FORMAT,
    OWN[0],
    OWN[1],
    OWN[2],
];

const OPTIONS: &str = "options";
const THINK: &str = "think";
const FORMAT: &str = "format";

/// What changes the answer so much that leaving it out would be a lie.
fn refuse(request: &ChatRequest<'_>) -> Result<(), Untranslatable> {
    if request.n.is_some_and(|n| n != 1) {
        return Err(Untranslatable::unsupported("n", "Ollama gives one answer a request: ask several times"));
    }
    for name in ["audio", "web_search_options"] {
        if request.other(name).is_some() {
            return Err(Untranslatable::unsupported(name, "Ollama's format cannot express this"));
        }
    }
    if request.other("modalities").is_some_and(|raw| raw.get().contains("audio")) {
        return Err(Untranslatable::unsupported("modalities", "Ollama's models answer in text only"));
    }
    Ok(())
}

/// Ollama lets its models choose: a call cannot be demanded, and none is made where no tools are sent.
fn write_tools(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let field = if request.legacy { "function_call" } else { "tool_choice" };
    if request.parallel_tool_calls == Some(false) && !request.tools.is_empty() {
        let why = "Ollama's models decide by themselves how many calls they make at once";
        losses.dropped("parallel_tool_calls", why)?;
    }
    match request.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        Some(ToolChoice::None) if request.tools.is_empty() => {}
        Some(ToolChoice::None) => {
            let why = "no call may be made, which Ollama can only be told by sending no tools";
            return losses.changed(if request.legacy { "functions" } else { "tools" }, why);
        }
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            losses.dropped(
                field,
                "Ollama has no way to demand a call: whether one is made is the model's choice",
            )?;
        }
        Some(ToolChoice::Other(kind)) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Ollama cannot express a choice of type `{kind}`");
            return Err(Untranslatable::unsupported("tool_choice.type", why));
        }
    }
    if request.tools.is_empty() {
        return Ok(());
    }
    json.key("tools");
    json.list();
    for (index, tool) in request.tools.iter().enumerate() {
        let place =
            if request.legacy { format!("functions[{index}]") } else { format!("tools[{index}].function") };
        write_tool(tool, &place, json, losses)?;
    }
    json.end_list();
    Ok(())
}

fn write_tool(
    tool: &Tool<'_>,
    place: &str,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    losses.beyond_tool(tool, None, place, "Ollama's tools have no such field")?;
    if tool.strict {
        losses.dropped(format!("{place}.strict"), "Ollama cannot hold calls to a schema")?;
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
        // The templates of many models walk through the properties, whether there are any or not.
        None => json.raw(r#"{"type":"object","properties":{}}"#),
        Some(schema) => write_object(schema, json),
    }
    json.end_object();
    json.end_object();
    Ok(())
}

fn write_format(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let own = request.other(FORMAT);
    let format = match request.response_format {
        None | Some(ResponseFormat::Text) => own.map(|raw| raw.get()),
        Some(ResponseFormat::JsonObject) => Some("\"json\""),
        Some(ResponseFormat::JsonSchema { schema, description, .. }) => {
            if description.is_some() {
                let field = "response_format.json_schema.description";
                losses.dropped(field, "Ollama's format has no place for it")?;
            }
            Some(schema.get())
        }
        Some(ResponseFormat::Other(kind)) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Ollama's format has no response format `{kind}`");
            return Err(Untranslatable::unsupported("response_format.type", why));
        }
    };
    if own.is_some_and(|own| format != Some(own.get())) {
        losses.dropped(FORMAT, "response_format was given too")?;
    }
    if let Some(format) = format {
        json.key(FORMAT);
        json.raw(format);
    }
    Ok(())
}

/// Writes `options`: the client's own of Ollama's (`num_ctx` …), and over them what OpenAI has a name for.
fn write_options(
    request: &ChatRequest<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if request.max_completion_tokens.is_some_and(|new| request.max_tokens.is_some_and(|old| old != new)) {
        losses.dropped("max_tokens", "max_completion_tokens was given too, and it is the newer name")?;
    }
    if request.stop.iter().any(|text| text.is_empty()) {
        losses.dropped("stop", "a stop sequence without a character stops nothing; the others were kept")?;
    }
    let stop: Vec<_> = request.stop.iter().filter(|text| !text.is_empty()).collect();
    let floats = [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("presence_penalty", request.presence_penalty),
        ("frequency_penalty", request.frequency_penalty),
    ];
    let counts = [("num_predict", request.token_limit()), ("top_k", request.top_k)];
    let given = |name: &str| match name {
        "stop" => !stop.is_empty(),
        "seed" => request.seed.is_some(),
        _ => {
            floats.iter().any(|(n, value)| *n == name && value.is_some())
                || counts.iter().any(|(n, value)| *n == name && value.is_some())
        }
    };
    let own = own_options(request)?;
    let any = floats.iter().any(|(name, _)| given(name)) || counts.iter().any(|(name, _)| given(name));
    if own.is_none() && !any && !given("stop") && !given("seed") {
        return Ok(());
    }
    json.key(OPTIONS);
    json.object();
    for (name, value) in own.iter().flat_map(Object::members) {
        if given(name) {
            losses.dropped(format!("{OPTIONS}.{name}"), "OpenAI's name for it was given too")?;
        } else {
            json.name(name);
            json.raw(value.get());
        }
    }
    for (name, value) in floats.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        json.key(name);
        json.value(&value);
    }
    for (name, value) in counts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        json.key(name);
        json.value(&value);
    }
    if let Some(seed) = request.seed {
        json.key("seed");
        json.value(&seed);
    }
    if !stop.is_empty() {
        json.key("stop");
        json.list();
        stop.into_iter().for_each(|text| json.text(*text));
        json.end_list();
    }
    json.end_object();
    Ok(())
}

fn own_options<'a>(request: &ChatRequest<'a>) -> Result<Option<Object<'a>>, Untranslatable> {
    let read = |raw: Raw<'a>| Object::read(raw.get());
    let own = request.other(OPTIONS).map(read).transpose();
    own.map_err(|_| Untranslatable::malformed(OPTIONS, "Ollama's options are an object"))
}

fn write_thinking(
    request: &ChatRequest<'_>,
    context: &Context<'_>,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    const FIELD: &str = "reasoning_effort";
    if let Some(raw) = request.other(THINK) {
        if request.reasoning_effort.is_some() {
            losses.dropped(FIELD, "Ollama's own `think` was given too")?;
        }
        json.key(THINK);
        json.raw(raw.get());
        return Ok(());
    }
    let Some(effort) = request.reasoning_effort else { return Ok(()) };
    let thinking = models::thinking(context.provider_model);
    let Some((think, changed)) = models::think(thinking, &effort.decode().unwrap_or_default()) else {
        let why = match thinking {
            models::Thinking::Never => {
                "this model is not known to think; Ollama's own `think` goes on as it comes"
            }
            _ => "Ollama has no such degree of effort",
        };
        return losses.dropped(FIELD, why);
    };
    if changed {
        losses.changed(FIELD, format!("{think} is the nearest that this model knows"))?;
    }
    json.key(THINK);
    json.raw(think);
    Ok(())
}
