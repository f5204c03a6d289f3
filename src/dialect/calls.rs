//! The calls of tools: those of a conversation, found again by their results, and those of a stream, told as they come.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::BytesMut;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Broken;
use super::chunks::Chunks;
use crate::openai::json::Text;
use crate::openai::message::{Call, Message, Role};

/// The arguments of a call as one JSON object; `{}` where there are none, which some models spell `null`.
pub(super) fn arguments(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let text = trim(text);
    if matches!(&*text, "" | "null") {
        return Some(Cow::Borrowed("{}"));
    }
    let is_object = text.starts_with('{') && serde_json::from_str::<IgnoredAny>(&text).is_ok();
    is_object.then_some(text)
}

/// The same without white space around it: what is white space to others need not be so in JSON.
fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// The arguments of a call that a provider gives as JSON of its own: `{}` where there are none, which some models spell
/// `null` or `""`.
///
/// # Errors
/// They are no object, which no client could take for arguments.
pub(super) fn input(raw: Option<&RawValue>) -> Result<&str, Broken> {
    match raw.map_or("null", RawValue::get) {
        "null" | "\"\"" => Ok("{}"),
        json if json.starts_with('{') => Ok(json),
        json => {
            Err(Broken::Garbled(format!("the upstream made a call whose arguments are no object: {json}")))
        }
    }
}

/// The calls that a conversation has made so far.
#[derive(Debug, Default)]
pub(super) struct Calls<'a> {
    names: Vec<Text<'a>>,
    /// By the client's id; a legacy call (`true`) by its name.
    numbers: HashMap<(bool, Cow<'a, str>), Same>,
}

/// The calls that are called alike, in order.
#[derive(Debug, Default)]
struct Same {
    made: Vec<usize>,
    answered: usize,
}

impl<'a> Calls<'a> {
    /// Takes a call; its number, from 0.
    pub(super) fn make(&mut self, call: &Call<'a>) -> usize {
        let number = self.names.len();
        self.names.push(call.name);
        // A text that holds half a character is nobody's id.
        if let Some(word) = call.id.unwrap_or(call.name).decode() {
            let same = self.numbers.entry((call.id.is_none(), word)).or_default();
            same.made.push(number);
        }
        number
    }

    /// The number of the call that the result `message` answers: the first of those that still wait for one, else the
    /// last of them.
    pub(super) fn answer(&mut self, message: &Message<'a>) -> Option<usize> {
        let by_name = message.role == Role::Function;
        let wanted = if by_name { message.name } else { message.tool_call_id }?.decode()?;
        let same = self.numbers.get_mut(&(by_name, wanted))?;
        let number = same.made.get(same.answered).or_else(|| same.made.last()).copied();
        same.answered += 1;
        number
    }

    /// What the call of this number calls.
    pub(super) fn name(&self, number: usize) -> Option<Text<'a>> {
        self.names.get(number).copied()
    }
}

/// More calls than any model makes in one answer: each is looked for among all that have begun.
const MOST_CALLS: usize = 1024;

/// Refuses a stream that begins one more call than `begun`, if those are as many as are believed.
pub(super) fn check_room(begun: usize) -> Result<(), Broken> {
    if begun < MOST_CALLS {
        return Ok(());
    }
    Err(Broken::Garbled("the upstream sent more calls than any model makes".to_owned()))
}

/// The calls that a stream has begun.
#[derive(Debug)]
pub(super) struct Calling {
    legacy: bool,
    begun: Vec<Begun>,
}

/// A call whose arguments may still come.
#[derive(Debug)]
struct Begun {
    /// The provider's number of it, or of the block that it is.
    key: u64,
    open: bool,
    has_arguments: bool,
    /// What its arguments are if none come.
    supposed: Option<Box<str>>,
}

impl Calling {
    /// None yet; with `legacy` the client knows one `function_call` only.
    pub(super) fn new(legacy: bool) -> Self {
        Self { legacy, begun: Vec::new() }
    }

    /// Whether there has been none.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// A call begins.
    pub(super) fn begin(
        &mut self,
        key: u64,
        head: (Text<'_>, Text<'_>),
        chunks: &mut Chunks,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        check_room(self.begun.len())?;
        self.begun.push(Begun { key, open: true, has_arguments: false, supposed: None });
        chunks.call(self.legacy, self.begun.len() - 1, Some(head), Text::Plain(""), out);
        Ok(())
    }

    /// What the arguments of the call `key` are if none come piece by piece.
    pub(super) fn suppose(&mut self, key: u64, json: &str) {
        if let Some(call) = self.begun.iter_mut().rfind(|call| call.key == key && call.open) {
            call.supposed = Some(json.into());
        }
    }

    /// More of the arguments of the call `key`, if it is still open.
    pub(super) fn add(&mut self, key: u64, json: Text<'_>, chunks: &mut Chunks, out: &mut BytesMut) {
        let Some(at) = self.begun.iter().rposition(|call| call.key == key && call.open) else { return };
        self.begun[at].has_arguments = true;
        chunks.call(self.legacy, at, None, json, out);
    }

    /// The call `key` is complete.
    pub(super) fn end(&mut self, key: u64, chunks: &mut Chunks, out: &mut BytesMut) {
        self.end_where(|call| call.key == key, chunks, out);
    }

    /// All calls are complete.
    pub(super) fn end_all(&mut self, chunks: &mut Chunks, out: &mut BytesMut) {
        self.end_where(|_| true, chunks, out);
    }

    /// A call that comes whole.
    pub(super) fn whole(
        &mut self,
        head: (Text<'_>, Text<'_>),
        json: Text<'_>,
        chunks: &mut Chunks,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        check_room(self.begun.len())?;
        let key = self.begun.len() as u64;
        self.begun.push(Begun { key, open: false, has_arguments: true, supposed: None });
        chunks.call(self.legacy, self.begun.len() - 1, Some(head), json, out);
        Ok(())
    }

    /// Ends calls; one that got no arguments has none, which is `{}` and not an empty text.
    fn end_where(&mut self, which: impl Fn(&Begun) -> bool, chunks: &mut Chunks, out: &mut BytesMut) {
        for (at, call) in self.begun.iter_mut().enumerate() {
            if !call.open || !which(call) {
                continue;
            }
            call.open = false;
            if !call.has_arguments {
                let json = call.supposed.take();
                chunks.call(self.legacy, at, None, Text::Plain(json.as_deref().unwrap_or("{}")), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::ChatRequest;

    #[test]
    fn arguments_are_one_object_or_nothing() {
        let arguments = |text: &'static str| arguments(Cow::Borrowed(text)).map(Cow::into_owned);
        assert_eq!(arguments("").as_deref(), Some("{}"));
        assert_eq!(arguments(" \n").as_deref(), Some("{}"));
        assert_eq!(arguments(" null").as_deref(), Some("{}"));
        assert_eq!(arguments("{\"a\": 1}").as_deref(), Some("{\"a\": 1}"));
        assert_eq!(arguments("\u{a0}{\"a\": 1}\u{2028}\n").as_deref(), Some("{\"a\": 1}"));
        for wrong in ["[]", "\"x\"", "1", "nul", "{", "{} {}", "not json"] {
            assert_eq!(arguments(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_input_of_a_call_is_an_object_or_nothing_and_all_else_is_refused() {
        let read = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            input(Some(&raw)).map(str::to_owned)
        };
        assert_eq!(input(None), Ok("{}"));
        for (json, want) in [("null", "{}"), ("\"\"", "{}"), ("{}", "{}"), ("{\"a\": 1}", "{\"a\": 1}")] {
            assert_eq!(read(json).as_deref(), Ok(want), "{json}");
        }
        for json in ["5", "[1]", "\"x\"", "true"] {
            assert!(matches!(read(json), Err(Broken::Garbled(words)) if words.ends_with(json)), "{json}");
        }
    }

    #[test]
    fn a_result_finds_its_call_in_any_order_and_in_either_form() {
        let body = br#"{"messages":[
            {"role":"assistant","tool_calls":[
                {"id":"a","type":"function","function":{"name":"f","arguments":""}},
                {"id":"b","type":"function","function":{"name":"g","arguments":""}}]},
            {"role":"assistant","content":null,"function_call":{"name":"h","arguments":"{}"}},
            {"role":"tool","tool_call_id":"b","content":""},
            {"role":"tool","tool_call_id":"a","content":""},
            {"role":"function","name":"h","content":""},
            {"role":"tool","tool_call_id":"b","content":"again"},
            {"role":"tool","tool_call_id":"c","content":""},
            {"role":"function","name":"f","content":""},
            {"role":"tool","content":""}]}"#;
        let request = ChatRequest::read(body).unwrap();
        let mut calls = Calls::default();
        let numbers: Vec<_> = request
            .messages
            .iter()
            .filter_map(|message| {
                for call in &message.calls {
                    calls.make(call);
                }
                message.calls.is_empty().then(|| calls.answer(message))
            })
            .collect();
        assert_eq!(numbers, [Some(1), Some(0), Some(2), Some(1), None, None, None]);
        assert!(calls.name(2).unwrap().is("h") && calls.name(3).is_none());
    }
}
