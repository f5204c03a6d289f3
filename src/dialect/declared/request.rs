//! A request as its table declares it, and an account of everything in it that no expression used.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use minijinja::Value;
use serde::Deserialize;
use serde_json::Value as Json;

use super::message::Refused;
use super::messages::{Messages, UNUSED};
use super::tables::{Failed, Node, Tables};
use super::tree;
use crate::dialect::loss::Losses;
use crate::dialect::{Context, Untranslatable};
use crate::openai::Envelope;
use crate::openai::chat::{self, ChatRequest};
use crate::openai::json;

/// The top-level fields of a request, in order: their names, and their values as JSON.
struct Fields<'r>(Vec<(Cow<'r, str>, &'r str)>);

impl<'r> Fields<'r> {
    fn of(request: &'r Envelope) -> Self {
        let mut fields = Vec::with_capacity(16);
        fields.extend(request.members());
        Self(fields)
    }

    /// The value of a field; the last one where it stands twice.
    fn last(&self, name: &str) -> Option<&'r str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, json)| *json)
    }

    /// The same, if it is not `null`.
    fn given(&self, name: &str) -> Option<&'r str> {
        self.last(name).filter(|json| *json != "null")
    }

    /// What the client gave as `name`. OpenAI's two names for the limit of tokens stand for each other where the table
    /// uses only one of them.
    fn variable(&self, names: &[String], name: &str) -> Option<&'r str> {
        if LIMITS.contains(&name) && !LIMITS.iter().all(|limit| uses(names, limit)) {
            return LIMITS.iter().find_map(|limit| self.given(limit));
        }
        self.given(name)
    }
}

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    tables: &Tables,
    request: &Envelope,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    let fields = Fields::of(request);
    let json = fields.given("messages");
    let json = json.ok_or_else(|| Untranslatable::malformed("messages", "this field is required"))?;
    let messages = Messages::read(json).map_err(|error| {
        shape(request).unwrap_or_else(|| Untranslatable::malformed("messages", error.to_string()))
    })?;
    if messages.len() == 0 {
        return Err(Untranslatable::malformed("messages", "no message is there"));
    }
    let messages = Arc::new(messages);
    let source = Source {
        names: &tables.names,
        fields: &fields,
        messages: &messages,
        model: context.provider_model,
        streams: request.stream() && tables.stream.is_some(),
    };
    let scope = source.scope(&tables.values)?;
    let mut out = BytesMut::with_capacity(json.len() + 1024);
    let is_there = source.render(&tables.request, &scope, &mut out);
    if !is_there.map_err(|failed| cause(&failed, request))? {
        out.extend_from_slice(b"{}");
    }
    messages.account(losses)?;
    account(&tables.names, &fields, losses)?;
    Ok(out)
}

/// Where the variables come from.
struct Source<'r> {
    /// All that are used.
    names: &'r [String],
    fields: &'r Fields<'r>,
    messages: &'r Arc<Messages>,
    model: &'r str,
    streams: bool,
}

impl Source<'_> {
    /// The variables `values`, as expressions see them. All others that are used are looked at as well, since they are
    /// sent as they came.
    fn scope(&self, values: &[String]) -> Result<Value, Untranslatable> {
        let mut members = Vec::with_capacity(values.len());
        for name in self.names {
            let value = match (name.as_str(), uses(values, name)) {
                ("messages", true) => Value::from_dyn_object(Arc::clone(self.messages)),
                ("model", true) => Value::from(self.model),
                ("stream", true) => Value::from(self.streams),
                ("messages" | "model" | "stream", false) => continue,
                (name, is_value) => match self.fields.variable(self.names, name) {
                    Some(json) if is_value => read(name, json)?,
                    Some(json) => {
                        look_at(name, json)?;
                        continue;
                    }
                    None => continue,
                },
            };
            members.push((Value::from(name), value));
        }
        Ok(tree::object(members))
    }

    /// Writes what `node` is in `scope`; false if it is nothing.
    fn render(&self, node: &Node, scope: &Value, out: &mut BytesMut) -> Result<bool, Failed> {
        match node {
            Node::Absent => return Ok(false),
            Node::Literal(json) => out.extend_from_slice(json.as_bytes()),
            Node::Leaf(leaf) => {
                return match leaf.variable() {
                    Some(name) => Ok(self.send_on(name, out)),
                    None => leaf.write(scope, MOST, out),
                };
            }
            Node::Object(members) => {
                let mut comma = b'{';
                for (key, node) in members {
                    let before = out.len();
                    out.put_u8(comma);
                    out.extend_from_slice(key.as_bytes());
                    out.put_u8(b':');
                    if self.render(node, scope, out)? {
                        comma = b',';
                    } else {
                        out.truncate(before);
                    }
                }
                close(comma == b'{', b"{}", out);
            }
            Node::List(items) => {
                let mut comma = b'[';
                for node in items {
                    let before = out.len();
                    out.put_u8(comma);
                    if self.render(node, scope, out)? {
                        comma = b',';
                    } else {
                        out.truncate(before);
                    }
                }
                close(comma == b'[', b"[]", out);
            }
        }
        Ok(true)
    }

    /// Writes a variable as it came; false if there is none.
    fn send_on(&self, name: &str, out: &mut BytesMut) -> bool {
        match name {
            "messages" => self.messages.write(out),
            "model" => json::quote(self.model, out),
            "stream" => out.extend_from_slice(if self.streams { b"true" } else { b"false" }),
            name => match self.fields.variable(self.names, name) {
                Some(json) => out.extend_from_slice(json.as_bytes()),
                None => return false,
            },
        }
        true
    }
}

fn close(is_empty: bool, brackets: &[u8; 2], out: &mut BytesMut) {
    out.extend_from_slice(if is_empty { brackets } else { &brackets[1..] });
}

/// A field's value.
fn read(name: &str, json: &str) -> Result<Value, Untranslatable> {
    check_number(name, json)?;
    tree::parse_text(json).map_err(|error| garbled(name, &error))
}

/// Refuses what [`read`] would.
fn look_at(name: &str, json: &str) -> Result<(), Untranslatable> {
    check_number(name, json)?;
    tree::check(json).map_err(|error| garbled(name, &error))
}

/// What OpenAI documents as a number must be one: expressions calculate with it.
fn check_number(name: &str, json: &str) -> Result<(), Untranslatable> {
    if !NUMBERS.contains(&name) || json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Ok(());
    }
    let value = tree::parse_text(json).map_err(|error| garbled(name, &error))?;
    Err(Untranslatable::malformed(name, format!("expected a number, found a {}", value.kind())))
}

const NUMBERS: [&str; 10] = [
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
];

/// The newer name wins.
const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

fn uses(names: &[String], name: &str) -> bool {
    names.iter().any(|used| used == name)
}

fn garbled(name: &str, error: &serde_json::Error) -> Untranslatable {
    Untranslatable::malformed(name, error.to_string())
}

/// Where the request has not the shape that OpenAI documents.
fn shape(request: &Envelope) -> Option<Untranslatable> {
    ChatRequest::read(&request.body().joined()).err().map(Untranslatable::from)
}

/// Whose fault a failed expression is: the client's, if a filter refused what it said or if its request has not
/// OpenAI's shape; else that of the declared format.
fn cause(failed: &Failed, request: &Envelope) -> Untranslatable {
    let mut source = failed.error.as_ref().and_then(std::error::Error::source);
    while let Some(error) = source {
        if let Some(Refused(refused)) = error.downcast_ref::<Refused>() {
            return refused.clone();
        }
        source = error.source();
    }
    shape(request).unwrap_or_else(|| Untranslatable::failed(&failed.path, failed.to_string()))
}

/// The longest body that expressions may make, in bytes: a list that is multiplied has no end of its own.
const MOST: usize = 256 << 20;

/// Refuses or drops every field that says something and that no expression uses.
fn account(names: &[String], fields: &Fields<'_>, losses: &mut Losses) -> Result<(), Untranslatable> {
    for (at, (name, _)) in fields.0.iter().enumerate() {
        let name = &**name;
        let is_used = ANSWERED.contains(&name) || uses(names, name);
        if is_used || fields.0[..at].iter().any(|(seen, _)| seen == name) {
            continue;
        }
        let json = fields.last(name).unwrap_or("null");
        if chat::is_default(name, json) || changes_nothing(name, json, fields) {
            continue;
        }
        if ESSENTIAL.contains(&name) {
            let why = format!(
                "no expression of `request` uses `{name}`, and the answer would not be what was asked for"
            );
            return Err(Untranslatable::unsupported(name, why));
        }
        let stands_in = LIMITS.contains(&name) && LIMITS.iter().any(|limit| uses(names, limit));
        if !stands_in {
            losses.dropped(name.to_owned(), UNUSED)?;
        }
    }
    let is_alone = LIMITS.iter().filter(|limit| uses(names, limit)).count() == 1;
    let [newer, older] = LIMITS.map(|limit| fields.given(limit));
    if is_alone && newer.is_some() && older.is_some() && newer != older {
        losses.dropped("max_tokens", "max_completion_tokens was given too, and it is the newer name")?;
    }
    Ok(())
}

/// What is answered here, whether or not an expression uses it.
const ANSWERED: [&str; 4] = ["model", "messages", "stream", "stream_options"];

/// What changes the answer so much that leaving it out would be a lie.
const ESSENTIAL: [&str; 9] = [
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "n",
    "response_format",
    "audio",
    "modalities",
    "web_search_options",
];

/// Whether the field asks for no more than what happens without it.
fn changes_nothing(name: &str, json: &str, fields: &Fields<'_>) -> bool {
    let has_tools = fields.given("tools").is_some() || fields.given("functions").is_some();
    match (name, serde_json::from_str::<Json>(json)) {
        ("tool_choice" | "function_call", Ok(Json::String(word))) => {
            word == "auto" || (word == "none" && !has_tools)
        }
        ("response_format", Ok(format)) => format["type"] == "text",
        _ => false,
    }
}

/// Whether the client wants the count of tokens at the end of a stream.
pub(super) fn includes_usage(request: &Envelope) -> Result<bool, Untranslatable> {
    #[derive(Deserialize)]
    struct Options {
        include_usage: Option<bool>,
    }

    let Some(json) = request.raw("stream_options") else { return Ok(false) };
    let options: Option<Options> = serde_json::from_slice(json).map_err(|e| garbled("stream_options", &e))?;
    Ok(options.and_then(|options| options.include_usage).unwrap_or(false))
}
