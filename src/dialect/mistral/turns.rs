//! The conversation as Mistral wants it: every call answered at once, no user straight after a tool, no system text in
//! the middle of an exchange, and a last word of the model's marked as the beginning of its answer.

use std::borrow::Cow;

use super::ids::Ids;
use super::parts;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::parts::whole;
use crate::openai::json::{Text, Writer};
use crate::openai::message::{Body, Call, Content, Message, Role};

/// Writes the list of messages.
pub(super) fn write(
    messages: &[Message<'_>],
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    for (at, message) in messages.iter().enumerate().filter(|(_, message)| !says(message)) {
        note_others(at, message, None, losses)?;
    }
    let order = order(messages, losses)?;
    let Some(last) = order.last() else {
        return Err(Untranslatable::malformed("messages", "no message holds anything to answer"));
    };
    let mut turns = Turns { ids: Ids::default(), open: Vec::new(), before: None, last: *last, json, losses };
    turns.json.list();
    for at in &order {
        turns.add(*at, &messages[*at])?;
    }
    turns.json.end_list();
    turns.no_open_calls()
}

/// The messages that say something, in the order in which they are sent: system text that stands behind an assistant's
/// or a tool's message cannot stay there, and follows what opens the conversation.
fn order(messages: &[Message<'_>], losses: &mut Losses) -> Result<Vec<usize>, Untranslatable> {
    let is_system = |message: &Message<'_>| matches!(message.role, Role::System | Role::Developer);
    let opening = messages.iter().take_while(|message| is_system(message)).count();
    let (mut first, mut then): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::with_capacity(messages.len()));
    let mut before = Role::System;
    for (at, message) in messages.iter().enumerate().filter(|(_, message)| says(message)) {
        if at < opening {
            first.push(at);
        } else if is_system(message) && matches!(before, Role::Assistant | Role::Tool | Role::Function) {
            let why = "Mistral takes no system text behind an assistant's or a tool's message, so it was moved to the beginning";
            losses.changed(format!("messages[{at}].role"), why)?;
            first.push(at);
        } else {
            before = message.role;
            then.push(at);
        }
    }
    first.append(&mut then);
    Ok(first)
}

/// Whether a message holds anything: an assistant's or a system's without a word is refused, and no loss.
fn says(message: &Message<'_>) -> bool {
    match message.role {
        Role::User | Role::Tool | Role::Function => true,
        Role::System | Role::Developer => !is_empty(&message.content),
        Role::Assistant => {
            !is_empty(&message.content) || !message.calls.is_empty() || refusal(message).is_some()
        }
    }
}

fn is_empty(content: &Content<'_>) -> bool {
    match content {
        Content::Absent => true,
        Content::Text(text) => text.is_empty(),
        Content::Parts(parts) => parts.iter().all(|part| match part.body {
            Body::Text(text) | Body::Refusal(text) => text.is_empty(),
            _ => false,
        }),
    }
}

fn refusal<'a>(message: &Message<'a>) -> Option<Text<'a>> {
    message.refusal.filter(|text| !text.is_empty())
}

/// Notes the fields that are left out, but for `known`.
fn note_others(
    at: usize,
    message: &Message<'_>,
    known: Option<&str>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if message.name.is_some() && !matches!(message.role, Role::Tool | Role::Function) {
        losses.dropped(format!("messages[{at}].name"), "Mistral's messages carry no names")?;
    }
    for name in message.beyond().filter(|name| known != Some(&**name)) {
        let field = format!("messages[{at}].{name}");
        if name == "audio" {
            return Err(Untranslatable::unsupported(field, "Mistral cannot take up spoken answers"));
        }
        losses.dropped(field, "Mistral's messages have no such field")?;
    }
    Ok(())
}

/// Writes one message after the other.
struct Turns<'a, 'j, 'o, 'l> {
    ids: Ids<'a>,
    open: Vec<Open<'a>>,
    before: Option<Role>,
    last: usize,
    json: &'j mut Writer<'o>,
    losses: &'l mut Losses,
}

/// A call that has no result yet.
struct Open<'a> {
    message: usize,
    place: usize,
    /// The client's id; `None` for a legacy call, which is found by its name.
    id: Option<Cow<'a, str>>,
    name: Cow<'a, str>,
    wire: Cow<'a, str>,
}

impl<'a> Turns<'a, '_, '_, '_> {
    fn add(&mut self, at: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        match message.role {
            Role::System | Role::Developer => {
                note_others(at, message, None, self.losses)?;
                self.begin("system");
                self.content(at, message)?;
            }
            Role::User => {
                note_others(at, message, None, self.losses)?;
                self.no_open_calls()?;
                self.between(at)?;
                self.begin("user");
                self.content(at, message)?;
            }
            Role::Assistant => self.assistant(at, message)?,
            Role::Tool | Role::Function => self.result(at, message)?,
        }
        self.json.end_object();
        self.before = Some(message.role);
        Ok(())
    }

    fn begin(&mut self, role: &'static str) {
        self.json.object();
        self.json.tag("role", role);
    }

    /// A user's message straight behind a tool's is refused: the model must have spoken.
    fn between(&mut self, at: usize) -> Result<(), Untranslatable> {
        if !matches!(self.before, Some(Role::Tool | Role::Function)) {
            return Ok(());
        }
        let why =
            "Mistral wants the model to speak between a tool and the user, so a message `.` was put before";
        self.losses.changed(format!("messages[{at}]"), why)?;
        self.begin("assistant");
        self.json.tag("content", ".");
        self.json.end_object();
        Ok(())
    }

    fn assistant(&mut self, at: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let is_last = at == self.last;
        note_others(at, message, is_last.then_some("prefix"), self.losses)?;
        self.no_open_calls()?;
        self.begin("assistant");
        if !is_empty(&message.content) || refusal(message).is_some() {
            self.content(at, message)?;
        }
        if !message.calls.is_empty() {
            self.json.key("tool_calls");
            self.json.list();
            for (place, call) in message.calls.iter().enumerate() {
                self.call(at, place, call)?;
            }
            self.json.end_list();
        } else if is_last {
            self.json.key("prefix");
            self.json.value(&true);
            self.losses
                .defaulted("messages", "Mistral goes on with a last assistant message only as a `prefix`");
        }
        Ok(())
    }

    fn call(&mut self, at: usize, place: usize, call: &Call<'a>) -> Result<(), Untranslatable> {
        let path = |field: &str| match call.id {
            Some(_) => format!("messages[{at}].tool_calls[{place}].{field}"),
            None => format!("messages[{at}].function_call.{field}"),
        };
        let decode = |text: Text<'a>, field: &str| {
            text.decode().ok_or_else(|| Untranslatable::malformed(path(field), "this is not valid text"))
        };
        let name = decode(call.name, "function.name")?;
        let id = call.id.map(|id| decode(id, "id")).transpose()?;
        let wire = self.ids.give(id.as_ref().unwrap_or(&name));
        let arguments = decode(call.arguments, "function.arguments")?;
        // Mistral's field is a string too: what a model cut short, or garbled, can stand in it as it was.
        let arguments = if arguments.trim().is_empty() { "{}" } else { &*arguments };
        self.json.object();
        self.json.member("id", &wire);
        self.json.tag("type", "function");
        self.json.key("function");
        self.json.object();
        self.json.key("name");
        self.json.text(call.name);
        self.json.member("arguments", arguments);
        self.json.end_object();
        self.json.end_object();
        self.open.push(Open { message: at, place, id, name, wire });
        Ok(())
    }

    fn result(&mut self, at: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        note_others(at, message, None, self.losses)?;
        let (field, wanted) = match message.role {
            Role::Function => ("name", message.name),
            _ => ("tool_call_id", message.tool_call_id),
        };
        let path = format!("messages[{at}].{field}");
        let wanted = wanted.and_then(Text::decode).ok_or_else(|| {
            Untranslatable::malformed(path.clone(), "this field is required, to tell which call is answered")
        })?;
        let answers = |open: &Open<'a>| match message.role {
            Role::Function => open.id.is_none() && open.name == wanted,
            _ => open.id.as_ref() == Some(&wanted),
        };
        let Some(found) = self.open.iter().position(answers) else {
            let why = format!("no call before this message is still waiting for the result of `{wanted}`");
            return Err(Untranslatable::malformed(path, why));
        };
        let open = self.open.remove(found);
        if message.role == Role::Tool && message.name.is_some_and(|name| !name.is(&open.name)) {
            let why = "the result goes to the call of its id, which is one of another function";
            self.losses.changed(format!("messages[{at}].name"), why)?;
        }
        self.begin("tool");
        self.json.member("tool_call_id", &open.wire);
        self.json.member("name", &open.name);
        self.content(at, message)
    }

    /// Writes what a message says; a refusal in the history is text like any other.
    fn content(&mut self, at: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        self.json.key("content");
        let refusal = refusal(message);
        if let Some(refusal) = refusal {
            whole(refusal, || format!("messages[{at}].refusal"))?;
        }
        match (&message.content, refusal) {
            (content, refusal) if is_empty(content) => self.json.text(refusal.unwrap_or(Text::Plain(""))),
            (Content::Absent, _) => {}
            (Content::Text(text), None) => {
                whole(*text, || format!("messages[{at}].content"))?;
                self.json.text(*text);
            }
            (Content::Text(text), Some(refusal)) => {
                whole(*text, || format!("messages[{at}].content"))?;
                self.json.list();
                for text in [*text, refusal] {
                    parts::write_text(text, self.json);
                }
                self.json.end_list();
            }
            (Content::Parts(list), refusal) => {
                self.json.list();
                for (place, part) in list.iter().enumerate() {
                    let path = || format!("messages[{at}].content[{place}]");
                    parts::write(part, message.role, &path, self.json, self.losses)?;
                }
                if let Some(refusal) = refusal {
                    parts::write_text(refusal, self.json);
                }
                self.json.end_list();
            }
        }
        Ok(())
    }

    fn no_open_calls(&self) -> Result<(), Untranslatable> {
        let Some(open) = self.open.first() else { return Ok(()) };
        let field = match open.id {
            Some(_) => format!("messages[{}].tool_calls[{}].id", open.message, open.place),
            None => format!("messages[{}].function_call.name", open.message),
        };
        Err(Untranslatable::malformed(field, "this call has no result: a message with it must follow"))
    }
}
