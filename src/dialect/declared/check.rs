//! Whether the tables of a declared format can work: everything compiled, and run on samples.

use minijinja::{ErrorKind, Value};
use serde_json::{Value as Json, json};

use super::messages::Messages;
use super::tables::{self, At, Leaf, Mistake, Node, Rules, Tables};
use super::{tree, values};

/// Everything that is wrong in `tables`, an object with `request`, `response` and perhaps `stream`. `given` are the
/// fields that every request has, since the integration sets them.
pub fn check(tables: &Json, given: &[&str]) -> Vec<Mistake> {
    let (compiled, mut mistakes) = tables::compile(None, tables);
    // A run would say the same again, in other words.
    let is_sound = |at: &At, mistakes: &[Mistake]| {
        mistakes.iter().all(|mistake| mistake.at != *at || mistake.is_warning)
    };
    let mut found = Vec::new();
    if tables.get("request").is_some_and(Json::is_object) {
        names(&compiled, &mut found);
        requests(&compiled, given, &mut found);
    }
    answers("response", &compiled.response, &mut found);
    if let Some((_, rules)) = &compiled.stream {
        answers("stream", rules, &mut found);
    }
    found.retain(|mistake| is_sound(&mistake.at, &mistakes));
    mistakes.extend(found);
    mistakes
}

/// The fields of an OpenAI request, and a value for each in the sample.
fn sample() -> Json {
    json!({
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "Hello" }] },
            { "role": "assistant", "content": "Hi" },
            { "role": "user", "content": "How are you?" },
        ],
        "model": "model", "stream": false, "stream_options": { "include_usage": true },
        "max_tokens": 100, "max_completion_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1,
        "n": 1, "stop": ["END"], "seed": 1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1,
        "logit_bias": { "1": 1 }, "logprobs": true, "top_logprobs": 2, "user": "user", "metadata": { "job_id": "1" },
        "reasoning_effort": "low", "verbosity": "low", "service_tier": "auto", "store": false, "modalities": ["text"],
        "audio": { "voice": "alloy", "format": "mp3" }, "prediction": { "type": "content", "content": "Fine" },
        "parallel_tool_calls": true, "response_format": { "type": "json_object" }, "web_search_options": {},
        "tools": [{ "type": "function", "function": { "name": "f", "description": "d", "parameters": { "type": "object" } } }],
        "tool_choice": "auto", "functions": [{ "name": "f", "parameters": { "type": "object" } }], "function_call": "auto",
        "safety_identifier": "user", "prompt_cache_key": "key",
    })
}

/// Names that are nearly those of known fields, for the suggestion alone.
const FIELDS: &[&str] = &[
    "messages",
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "user",
    "metadata",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "store",
    "modalities",
    "audio",
    "prediction",
    "parallel_tool_calls",
    "response_format",
    "web_search_options",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "safety_identifier",
    "prompt_cache_key",
];

/// A request that never uses the messages asks nothing; a variable that is nearly a known field is misspelt.
fn names(compiled: &Tables, found: &mut Vec<Mistake>) {
    let at = At(vec![tables::Step::Key("request".to_owned())]);
    if !compiled.names.iter().any(|name| name == "messages") {
        let help =
            "put them somewhere: prompt = \"{{ messages | join_prompt }}\", or messages = \"{{ messages }}\"";
        let message = "uses `messages` nowhere: what the client says would reach nobody";
        found.push(Mistake {
            at,
            message: message.to_owned(),
            help: help.to_owned(),
            unknown: None,
            is_warning: false,
        });
    }
    each_leaf(&compiled.request, &mut |leaf| {
        let Leaf::Code { code, at, .. } = leaf else { return };
        for name in code.names().iter().filter(|name| !FIELDS.contains(&name.as_str())) {
            found.push(Mistake {
                at: at.clone(),
                message: format!("uses `{name}`, which is no field of an OpenAI request"),
                help: String::new(),
                unknown: Some((name.clone(), FIELDS)),
                is_warning: true,
            });
        }
    });
}

/// Runs the request on a client that says everything, and on one that says only what it must.
fn requests(compiled: &Tables, given: &[&str], found: &mut Vec<Mistake>) {
    let full = sample();
    let must = |name: &str| ["messages", "model", "stream"].contains(&name) || given.contains(&name);
    let mut least = full.clone();
    if let Some(least) = least.as_object_mut() {
        least.retain(|name, _| must(name));
    }
    each_leaf(&compiled.request, &mut |leaf| {
        let Leaf::Code { code, at, .. } = leaf else { return };
        let run = |sample: &Json| match leaf.get(&variables(sample)) {
            Ok(value) => serde_json::to_string(&value).map_err(|error| error.to_string()),
            Err(failed) => Err(failed.why),
        };
        let wrong = |message, help: &str, is_warning| Mistake {
            at: at.clone(),
            message,
            help: help.to_owned(),
            unknown: None,
            is_warning,
        };
        // A field of the provider's own may be sent by every client: nobody knows here.
        let is_known = code.names().iter().all(|name| full.get(name).is_some());
        if let Err(why) = run(&full) {
            let message = format!("fails on a sample request: {why}");
            found.push(wrong(message, "try it on the values that an OpenAI client sends", !is_known));
        } else if let Err(why) = run(&least) {
            let missing: Vec<_> =
                code.names().iter().filter(|name| least.get(name).is_none()).cloned().collect();
            let message = format!("fails where a request has no `{}`: {why}", missing.join("` or `"));
            let help = format!(
                "leave it out there: `… if {} is defined else none`",
                missing.join(" is defined and ")
            );
            found.push(wrong(message, &help, !is_known));
        }
    });
}

/// The variables of a sample.
fn variables(sample: &Json) -> Value {
    let members = sample.as_object().into_iter().flatten().map(|(name, value)| {
        let messages = (name == "messages").then(|| Messages::read(&value.to_string()).ok()).flatten();
        let value = messages.map_or_else(|| Value::from_serialize(value), Value::from_object);
        (Value::from(name), value)
    });
    tree::object(members.collect())
}

/// Runs the rules on an answer that has none of their fields. Most may fail there, since a good answer has them; but
/// what is called in a wrong way is wrong in any, and no good answer has an error.
fn answers(table: &str, rules: &Rules, found: &mut Vec<Mistake>) {
    let scope = values::scope(Value::from_serialize(json!({})), b"");
    for leaf in leaves(rules) {
        let Leaf::Code { at, .. } = leaf else { continue };
        let is_error = rules.error.as_ref().is_some_and(|error| std::ptr::eq(error, leaf));
        let is_reason = rules.finish_reason.as_ref().is_some_and(|reason| std::ptr::eq(reason, leaf));
        let mut wrong = |message: String, help: &str, is_warning| {
            found.push(Mistake { at: at.clone(), message, help: help.to_owned(), unknown: None, is_warning });
        };
        match leaf.get(&scope) {
            Err(failed) => {
                let kind = failed.error.as_ref().map(minijinja::Error::kind);
                let surely = matches!(
                    kind,
                    Some(ErrorKind::MissingArgument | ErrorKind::TooManyArguments | ErrorKind::OutOfFuel)
                );
                if is_error || surely {
                    let message = format!("fails on an answer without an error: {}", failed.why);
                    let message =
                        if is_error { message } else { format!("fails on any answer: {}", failed.why) };
                    wrong(message, "give it a default: `… | default(none)`", false);
                }
            }
            Ok(value) if is_error && value.is_true() => {
                let message = "gives an error where an answer has none: every answer would be one";
                wrong(
                    message.to_owned(),
                    "let it be none where there is no error: `error.message | default(none)`",
                    false,
                );
            }
            Ok(value) if is_reason && table == "stream" && value.is_true() => {
                let message =
                    "gives a reason on events that have none: a stream that is cut off would look complete";
                wrong(message.to_owned(), "let it be none until the end: `… if … else none`", true);
            }
            Ok(_) => {}
        }
    }
}

fn leaves(rules: &Rules) -> impl Iterator<Item = &Leaf> {
    let Rules {
        content,
        reasoning,
        refusal,
        tool_calls,
        finish_reason,
        usage,
        id,
        error,
        error_status,
        done,
    } = rules;
    [content, reasoning, refusal, tool_calls, finish_reason, &usage.whole, id, error, error_status, done]
        .into_iter()
        .chain(&usage.each)
        .flatten()
}

fn each_leaf<'n>(node: &'n Node, see: &mut impl FnMut(&'n Leaf)) {
    match node {
        Node::Leaf(leaf) => see(leaf),
        Node::Object(members) => members.iter().for_each(|(_, node)| each_leaf(node, see)),
        Node::List(items) => items.iter().for_each(|node| each_leaf(node, see)),
        Node::Literal(_) | Node::Absent => {}
    }
}
