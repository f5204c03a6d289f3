//! A chat request read into types, for the dialects that must translate it.
//!
//! Texts are borrowed in the form they came in; nothing is lost on the way: every field that is there and says
//! something is listed in [`ChatRequest::present`], so that a dialect can name what it leaves out. Reference:
//! <https://platform.openai.com/docs/api-reference/chat/create>.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::Envelope;
use super::form;
use super::json::{self, Object, Raw, Text};
use super::message::{self, Message};
use super::tool::{self, Tool, ToolChoice};

/// A chat request.
#[derive(Debug)]
pub struct ChatRequest<'a> {
    /// The conversation, in order.
    pub messages: Vec<Message<'a>>,
    /// `tools`, or the legacy `functions`.
    pub tools: Vec<Tool<'a>>,
    /// Whether the client speaks the legacy `functions`, and so expects a `function_call`.
    pub legacy: bool,
    /// `tool_choice`, or the legacy `function_call`.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// `parallel_tool_calls`.
    pub parallel_tool_calls: Option<bool>,
    /// `response_format`.
    pub response_format: Option<ResponseFormat<'a>>,
    /// The name of its schema.
    pub schema_name: Option<Text<'a>>,
    /// Whether its schema must be followed exactly.
    pub schema_strict: bool,
    /// `stop`, one or several.
    pub stop: Vec<Text<'a>>,
    /// `max_tokens`.
    pub max_tokens: Option<u64>,
    /// `max_completion_tokens`, which wins over `max_tokens`.
    pub max_completion_tokens: Option<u64>,
    /// `temperature`.
    pub temperature: Option<f64>,
    /// `top_p`.
    pub top_p: Option<f64>,
    /// `top_k`: not OpenAI's, but sent by many.
    pub top_k: Option<u64>,
    /// `presence_penalty`.
    pub presence_penalty: Option<f64>,
    /// `frequency_penalty`.
    pub frequency_penalty: Option<f64>,
    /// `seed`.
    pub seed: Option<i64>,
    /// `n`.
    pub n: Option<u64>,
    /// `logprobs`.
    pub logprobs: Option<bool>,
    /// `top_logprobs`.
    pub top_logprobs: Option<u64>,
    /// `reasoning_effort`.
    pub reasoning_effort: Option<Text<'a>>,
    /// `user`.
    pub user: Option<Text<'a>>,
    /// `safety_identifier`, the newer of OpenAI's names for who asks.
    pub safety_identifier: Option<Text<'a>>,
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Fields that only some providers know, as they came (`logit_bias`, `modalities`, `metadata`, unknown ones).
    pub others: Vec<(Cow<'a, str>, Raw<'a>)>,
    /// The names of all fields but `messages` that are there and say something else than OpenAI's default, and behind
    /// them the paths of what nobody reads inside of these (`response_format.x`).
    pub present: Vec<Cow<'a, str>>,
    /// How long the body is, in bytes: a translation is seldom much longer.
    pub length: usize,
}

/// What form the answer must have.
#[derive(Clone, Copy, Debug)]
pub enum ResponseFormat<'a> {
    /// Any text: OpenAI's default.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema {
        /// The schema, an object.
        schema: Raw<'a>,
        /// What it is for.
        description: Option<Text<'a>>,
        /// Where the schema stands: clients have several places for it.
        path: &'static str,
    },
    /// Some other form; its name.
    Other(Text<'a>),
}

impl<'a> ChatRequest<'a> {
    /// Reads `body`, one JSON object in UTF-8.
    ///
    /// # Errors
    /// [`ShapeError`] with the path of the first field that has not the shape that OpenAI documents.
    pub fn read(body: &'a [u8]) -> Result<Self, ShapeError> {
        let text = std::str::from_utf8(body).map_err(|e| ShapeError::new(e.to_string()))?;
        Self::read_fields(object(text)?, text.len())
    }

    /// Reads the body that `envelope` has become by its edits, without putting it together.
    ///
    /// # Errors
    /// As [`ChatRequest::read`].
    pub fn of(envelope: &'a Envelope) -> Result<Self, ShapeError> {
        Self::read_fields(envelope.fields().ok_or_else(nameless)?, envelope.length())
    }

    fn read_fields(mut fields: Object<'a>, length: usize) -> Result<Self, ShapeError> {
        let messages = required(&mut fields, "messages", read_messages)?;
        let mut present = present(&fields);
        let (tools, legacy) = tool::read_all(&mut fields)?;
        let include_usage = field(&mut fields, "stream_options", |raw| read_stream(raw, &mut present))?;
        let form = field(&mut fields, "response_format", |raw| form::read(raw, &mut present))?;
        let search = fields.take(SEARCH).map(|raw| (Cow::Borrowed(SEARCH), raw));
        let request = Self {
            messages,
            tools,
            legacy,
            tool_choice: tool::read_choice(&mut fields, &mut present)?,
            parallel_tool_calls: plain(&mut fields, "parallel_tool_calls", "a boolean")?,
            response_format: form.as_ref().map(|form| form.format),
            schema_name: form.as_ref().and_then(|form| form.name),
            schema_strict: form.is_some_and(|form| form.strict),
            stop: field(&mut fields, "stop", read_stop)?.unwrap_or_default(),
            max_tokens: plain(&mut fields, "max_tokens", COUNT)?,
            max_completion_tokens: plain(&mut fields, "max_completion_tokens", COUNT)?,
            temperature: plain(&mut fields, "temperature", "a number")?,
            top_p: plain(&mut fields, "top_p", "a number")?,
            top_k: plain(&mut fields, "top_k", COUNT)?,
            presence_penalty: plain(&mut fields, "presence_penalty", "a number")?,
            frequency_penalty: plain(&mut fields, "frequency_penalty", "a number")?,
            seed: plain(&mut fields, "seed", "an integer")?,
            n: plain(&mut fields, "n", COUNT)?,
            logprobs: plain(&mut fields, "logprobs", "a boolean")?,
            top_logprobs: plain(&mut fields, "top_logprobs", COUNT)?,
            reasoning_effort: field(&mut fields, "reasoning_effort", text_of)?,
            user: field(&mut fields, "user", text_of)?,
            safety_identifier: field(&mut fields, "safety_identifier", text_of)?,
            stream: plain(&mut fields, "stream", "a boolean")?.unwrap_or(false),
            include_usage: include_usage.unwrap_or(false),
            present,
            length,
            others: fields.into_rest().chain(search).collect(),
        };
        Ok(request)
    }

    /// The fields of [`ChatRequest::present`] that are not among `handled`, in order.
    pub fn beyond<'s>(&'s self, handled: &'s [&str]) -> impl Iterator<Item = &'s str> {
        self.present.iter().map(|name| &**name).filter(|name| !handled.contains(name))
    }

    /// One of [`ChatRequest::others`].
    pub fn other(&self, name: &str) -> Option<Raw<'a>> {
        self.others.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// How many tokens the answer may have, if the client says.
    pub fn token_limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }
}

/// Reads the messages in one pass: they are nearly all of a body.
fn read_messages(raw: Raw<'_>) -> Result<Vec<Message<'_>>, ShapeError> {
    // Once more, slower, to say where the shape is wrong.
    let list = Object::read_list(raw.get()).or_else(|_| items(raw, object_of))?;
    each(list, message::read)
}

/// The one field that says something by being there, even as `{}`.
const SEARCH: &str = "web_search_options";

const COUNT: &str = "an integer, not below 0";

fn present<'a>(fields: &Object<'a>) -> Vec<Cow<'a, str>> {
    let mut present = Vec::with_capacity(fields.len());
    let says = |name: &str, value: Raw<'_>| name != "messages" && !is_default(name, value.get());
    present.extend(fields.members().filter(|(name, value)| says(name, *value)).map(|(name, _)| name.clone()));
    present
}

/// Whether leaving the field out changes nothing: it is empty, or has the value that OpenAI gives to an absent one.
pub fn is_default(name: &str, json: &str) -> bool {
    // Options of nothing still ask for a search: with the usual ones.
    let is_empty = matches!(json, "null" | "[]" | "\"\"") || (json == "{}" && name != SEARCH);
    if is_empty {
        return true;
    }
    let default = match name {
        "frequency_penalty" | "presence_penalty" => Value::from(0.0),
        "logprobs" | "store" => Value::from(false),
        "n" => Value::from(1),
        "service_tier" => Value::from("auto"),
        "modalities" => serde_json::json!(["text"]),
        _ => return false,
    };
    match serde_json::from_str::<Value>(json) {
        Ok(Value::Number(number)) => number.as_f64() == default.as_f64(),
        Ok(value) => value == default,
        Err(_) => false,
    }
}

/// Whether the usage is asked for.
fn read_stream<'a>(raw: Raw<'a>, rest: &mut Vec<Cow<'a, str>>) -> Result<bool, ShapeError> {
    let mut options = object_of(raw)?;
    let usage = plain(&mut options, "include_usage", "a boolean")?.unwrap_or(false);
    // Nobody pads a translated stream: not to want it is to have it.
    let wants = |(name, raw): &(Cow<'a, str>, Raw<'a>)| name != "include_obfuscation" || raw.get() != "false";
    rest.extend(
        options.into_rest().filter(wants).map(|(name, _)| Cow::Owned(format!("stream_options.{name}"))),
    );
    Ok(usage)
}

fn read_stop(raw: Raw<'_>) -> Result<Vec<Text<'_>>, ShapeError> {
    if raw.get().starts_with('[') { items(raw, text_of) } else { text_of(raw).map(|text| vec![text]) }
}

/// A request that has not the shape that OpenAI documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// Where, as OpenAI writes paths: `messages[2].content[0].type`.
    pub path: String,
    /// What was expected there.
    pub message: String,
    /// Whether OpenAI knows the shape, and only we have no way to translate it.
    pub unsupported: bool,
}

impl ShapeError {
    /// An error at the place that is just being read.
    pub fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into(), unsupported: false }
    }

    /// An error about something that OpenAI takes and we cannot translate.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { unsupported: true, ..Self::new(message) }
    }

    /// The error of a field that must be there.
    pub fn missing() -> Self {
        Self::new("this field is required")
    }

    /// The same error, seen from the object that holds `name`.
    #[must_use]
    pub fn at(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }

    /// The same error, seen from the list whose item `index` holds it.
    #[must_use]
    pub fn at_index(self, index: usize) -> Self {
        self.at(&format!("[{index}]"))
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.message)
    }
}

impl std::error::Error for ShapeError {}

/// What is wrong with an object in which a name spells half a surrogate pair.
pub(super) fn nameless() -> ShapeError {
    ShapeError::new("the name of a field spells half a character")
}

/// `json` as an object.
pub(super) fn object(json: &str) -> Result<Object<'_>, ShapeError> {
    // The body has been scanned: of an object only a name can be wrong.
    Object::read(json)
        .map_err(|_| if json.starts_with('{') { nameless() } else { expected("an object", json) })
}

/// `raw` as an object.
pub(super) fn object_of(raw: Raw<'_>) -> Result<Object<'_>, ShapeError> {
    object(raw.get())
}

/// `raw` as a text.
pub(super) fn text_of(raw: Raw<'_>) -> Result<Text<'_>, ShapeError> {
    Text::read(raw).ok_or_else(|| expected("a string", raw.get()))
}

/// Takes a field and reads it, if it is there.
pub(super) fn field<'a, T>(
    fields: &mut Object<'a>,
    name: &str,
    read: impl FnOnce(Raw<'a>) -> Result<T, ShapeError>,
) -> Result<Option<T>, ShapeError> {
    fields.take(name).map(|raw| read(raw).map_err(|e| e.at(name))).transpose()
}

/// Takes a field that must be there and reads it.
pub(super) fn required<'a, T>(
    fields: &mut Object<'a>,
    name: &str,
    read: impl FnOnce(Raw<'a>) -> Result<T, ShapeError>,
) -> Result<T, ShapeError> {
    field(fields, name, read)?.ok_or_else(|| ShapeError::missing().at(name))
}

/// Puts what nobody took of the object at `path`, and says something, to `rest`.
pub(super) fn put_rest<'a>(path: &str, object: Object<'a>, rest: &mut Vec<Cow<'a, str>>) {
    rest.extend(object.into_rest().map(|(name, _)| Cow::Owned(format!("{path}.{name}"))));
}

/// Reads each item of a list.
pub(super) fn items<'a, T>(
    raw: Raw<'a>,
    read: impl FnMut(Raw<'a>) -> Result<T, ShapeError>,
) -> Result<Vec<T>, ShapeError> {
    each(json::list(raw.get()).map_err(|_| expected("a list", raw.get()))?, read)
}

/// Reads each of `list`.
fn each<I, T>(list: Vec<I>, mut read: impl FnMut(I) -> Result<T, ShapeError>) -> Result<Vec<T>, ShapeError> {
    // To collect results is to guess their number.
    let mut all = Vec::with_capacity(list.len());
    for (index, item) in list.into_iter().enumerate() {
        all.push(read(item).map_err(|error| error.at_index(index))?);
    }
    Ok(all)
}

/// Reads each object of a list, all of them in one pass.
pub(super) fn objects<'a, T>(
    raw: Raw<'a>,
    mut read: impl FnMut(Object<'a>) -> Result<T, ShapeError>,
) -> Result<Vec<T>, ShapeError> {
    match Object::read_list(raw.get()) {
        Ok(list) => each(list, read),
        // Once more, slower, to say where the shape is wrong.
        Err(_) => items(raw, |raw| read(object_of(raw)?)),
    }
}

/// `raw` itself, if it is an object.
pub(super) fn is_object(raw: Raw<'_>) -> Result<Raw<'_>, ShapeError> {
    if raw.get().starts_with('{') { Ok(raw) } else { Err(expected("an object", raw.get())) }
}

/// Takes a field that is a plain value, if it is there.
pub(super) fn plain<'a, T: Deserialize<'a>>(
    fields: &mut Object<'a>,
    name: &str,
    wanted: &'static str,
) -> Result<Option<T>, ShapeError> {
    field(fields, name, |raw| serde_json::from_str(raw.get()).map_err(|_| expected(wanted, raw.get())))
}

fn expected(wanted: &str, found: &str) -> ShapeError {
    let found = match found.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => found,
    };
    ShapeError::new(format!("expected {wanted}, found {found}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &str) -> (String, String) {
        let error = ChatRequest::read(body.as_bytes()).unwrap_err();
        (error.path, error.message)
    }

    #[test]
    fn a_wrong_shape_is_named_by_its_path() {
        for (body, path) in [
            ("[]", ""),
            ("{}", "messages"),
            (r#"{"messages":{}}"#, "messages"),
            (r#"{"messages":[1]}"#, "messages[0]"),
            (r#"{"messages":[{"role":"user","content":"x"},{"role":"bot"}]}"#, "messages[1].role"),
            (r#"{"messages":[{"role":"user","content":7}]}"#, "messages[0].content"),
            (r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#, "messages[0].content[0].type"),
            (r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "messages[0].content[0].text"),
            (r#"{"messages":[],"temperature":"hot"}"#, "temperature"),
            (r#"{"messages":[],"max_tokens":-1}"#, "max_tokens"),
            (r#"{"messages":[],"stop":[1]}"#, "stop[0]"),
            (r#"{"messages":[],"stream_options":{"include_usage":1}}"#, "stream_options.include_usage"),
            (r#"{"messages":[],"response_format":{"type":"json_schema"}}"#, "response_format.json_schema"),
            (r#"{"messages":[],"tools":[{"type":"function","function":{}}]}"#, "tools[0].function.name"),
            (r#"{"messages":[],"tool_choice":"always"}"#, "tool_choice"),
        ] {
            assert_eq!(refused(body).0, path, "{body}");
        }
        assert_eq!(refused(r#"{"messages":[],"seed":"x"}"#).1, "expected an integer, found a string");
    }

    #[test]
    fn an_object_with_a_name_that_is_no_text_is_told_as_that() {
        for (body, path) in [
            (r#"{"messages":[],"\ud800":1}"#, ""),
            (r#"{"messages":[{"\ud800":1}]}"#, "messages[0]"),
            (r#"{"messages":[{"role":"user","content":[{"\ud800":1}]}]}"#, "messages[0].content[0]"),
            (r#"{"messages":[],"tools":[{"\ud800":1}]}"#, "tools[0]"),
        ] {
            let why = "the name of a field spells half a character";
            assert_eq!(refused(body), (path.to_owned(), why.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_says_nothing_is_not_present() {
        let body = r#"{"model":"m","messages":[],"n":1,"presence_penalty":0,"logprobs":false,"tools":[],"stop":null,
            "modalities":["text"],"service_tier":"auto","x":{"y":1},"seed":0,"store":true,"metadata":{}}"#;
        let request = ChatRequest::read(body.as_bytes()).unwrap();
        assert_eq!(request.beyond(&["model", "messages"]).collect::<Vec<_>>(), ["x", "seed", "store"]);
        assert_eq!(request.other("x").unwrap().get(), r#"{"y":1}"#);
    }

    #[test]
    fn a_search_with_no_options_is_still_a_search() {
        let body = br#"{"messages":[],"web_search_options":{}}"#;
        let request = ChatRequest::read(body).unwrap();
        assert_eq!(request.other("web_search_options").map(Raw::get), Some("{}"));
        assert_eq!(request.beyond(&["messages"]).collect::<Vec<_>>(), ["web_search_options"]);
        let request = ChatRequest::read(br#"{"messages":[],"web_search_options":null}"#).unwrap();
        assert!(request.other("web_search_options").is_none() && request.present.is_empty());
    }

    #[test]
    fn the_newer_token_limit_wins() {
        let request =
            ChatRequest::read(br#"{"messages":[],"max_tokens":1,"max_completion_tokens":2}"#).unwrap();
        assert_eq!(request.token_limit(), Some(2));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = ChatRequest::read(&body);
        }

        #[test]
        fn no_json_makes_it_panic(content in "(\\{\"(type|role|text|content|url)\":){0,3}(\"x\"|1|null|\\[\\])\\}{0,3}") {
            let body = format!(r#"{{"messages":[{{"role":"user","content":[{content}]}}],"tools":[{content}]}}"#);
            let _ = ChatRequest::read(body.as_bytes());
        }
    }
}
