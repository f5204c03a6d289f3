//! The conversation as Anthropic wants it: system texts apart, roles in turn, the user first, and every tool call
//! answered at the head of the next user turn.

use std::borrow::Cow;
use std::collections::HashSet;

use super::block::{self, Block};
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::openai::json::Text;
use crate::openai::message::{Body, Call, Content, Message, Role};

/// A conversation ready to be written.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    /// What sets the rules, in order.
    pub(super) system: Vec<Text<'a>>,
    /// Who says what, user and assistant in turn.
    pub(super) turns: Vec<Turn<'a>>,
    /// The names of all tools that were called, each once.
    pub(super) called: Vec<Text<'a>>,
}

/// What one side says until the other speaks.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Whether it is the model.
    pub(super) assistant: bool,
    /// The answers to tool calls, which must come first.
    pub(super) results: Vec<Block<'a>>,
    /// Everything else, in order.
    pub(super) blocks: Vec<Block<'a>>,
}

impl<'a> Conversation<'a> {
    /// Arranges `messages`.
    pub(super) fn arrange(messages: &[Message<'a>], losses: &mut Losses) -> Result<Self, Untranslatable> {
        let mut builder = Builder { done: Self::default(), open: Vec::new(), ids: HashSet::new(), losses };
        for (index, message) in messages.iter().enumerate() {
            builder.add(index, message)?;
        }
        builder.no_open_calls()?;
        builder.finish()
    }

    /// Whether the last word is the model's, which it is asked to go on with.
    pub(super) fn is_prefill(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.assistant)
    }

    /// Whether the model is in the middle of using tools: its calls have just been answered.
    pub(super) fn is_in_tool_loop(&self) -> bool {
        self.turns.last().is_some_and(|turn| !turn.results.is_empty())
    }
}

struct Builder<'a, 'l> {
    done: Conversation<'a>,
    open: Vec<Open<'a>>,
    ids: HashSet<Cow<'a, str>>,
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

impl<'a> Builder<'a, '_> {
    fn add(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        self.note_others(index, message)?;
        match message.role {
            Role::System | Role::Developer => self.system(index, &message.content),
            Role::User => {
                let blocks = self.blocks(index, &message.content)?;
                self.say(false, blocks);
                Ok(())
            }
            Role::Assistant => self.assistant(index, message),
            Role::Tool | Role::Function => self.result(index, message),
        }
    }

    fn note_others(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        if message.name.is_some() && message.role != Role::Function {
            self.losses.dropped(format!("messages[{index}].name"), "Anthropic's messages carry no names")?;
        }
        for name in &message.others {
            let field = format!("messages[{index}].{name}");
            if name == "audio" {
                return Err(Untranslatable::unsupported(field, "Anthropic cannot take up spoken answers"));
            }
            self.losses.dropped(field, "Anthropic's messages have no such field")?;
        }
        Ok(())
    }

    fn system(&mut self, index: usize, content: &Content<'a>) -> Result<(), Untranslatable> {
        let before = self.done.system.len();
        match content {
            Content::Absent => {}
            Content::Text(text) => {
                whole(*text, || format!("messages[{index}].content"))?;
                self.done.system.push(*text);
            }
            Content::Parts(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let Body::Text(text) = part.body else {
                        let field = format!("messages[{index}].content[{place}].type");
                        return Err(Untranslatable::unsupported(
                            field,
                            "a system message can hold text only",
                        ));
                    };
                    self.done.system.push(text);
                }
            }
        }
        self.done.system.retain(|text| !text.is_blank());
        if self.done.system.len() > before && !self.done.turns.is_empty() {
            let why = "Anthropic takes system text at the beginning only, so it was moved there";
            self.losses.changed(format!("messages[{index}].role"), why)?;
        }
        Ok(())
    }

    fn assistant(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let mut blocks = self.blocks(index, &message.content)?;
        blocks.extend(message.refusal.filter(|text| !text.is_blank()).map(Block::Text));
        if blocks.is_empty() && message.calls.is_empty() {
            return Ok(());
        }
        if self.done.turns.last().is_some_and(|turn| !turn.assistant) {
            self.no_open_calls()?;
        }
        for (place, call) in message.calls.iter().enumerate() {
            blocks.push(self.call(index, place, call)?);
        }
        self.say(true, blocks);
        Ok(())
    }

    fn call(&mut self, index: usize, place: usize, call: &Call<'a>) -> Result<Block<'a>, Untranslatable> {
        let path = |field: &str| match call.id {
            Some(_) => format!("messages[{index}].tool_calls[{place}].{field}"),
            None => format!("messages[{index}].function_call.{field}"),
        };
        let decode = |text: Text<'a>, field: &str| {
            text.decode().ok_or_else(|| Untranslatable::malformed(path(field), "this is not valid text"))
        };
        let name = decode(call.name, "function.name")?;
        let id = call.id.map(|id| decode(id, "id")).transpose()?;
        let wire = self.wire_id(id.as_ref().unwrap_or(&name));
        let input = block::input(decode(call.arguments, "function.arguments")?).ok_or_else(|| {
            let why = "the arguments of a call must be one JSON object, written as a string";
            Untranslatable::malformed(path("function.arguments"), why)
        })?;
        if !self.done.called.iter().any(|text| text.is(&name)) {
            self.done.called.push(call.name);
        }
        self.open.push(Open { message: index, place, id, name, wire: wire.clone() });
        Ok(Block::ToolUse { id: wire, name: call.name, input })
    }

    /// An id that Anthropic takes (`[a-zA-Z0-9_-]+`) and that no other call of the conversation has.
    fn wire_id(&mut self, id: &Cow<'a, str>) -> Cow<'a, str> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let base = match id {
            Cow::Borrowed(id) if !id.is_empty() && id.chars().all(good) => Cow::Borrowed(*id),
            _ if id.is_empty() => Cow::Borrowed("call"),
            _ => Cow::Owned(id.chars().map(|c| if good(c) { c } else { '_' }).collect()),
        };
        let mut wire = base.clone();
        let mut number = 2;
        while !self.ids.insert(wire.clone()) {
            wire = Cow::Owned(format!("{base}_{number}"));
            number += 1;
        }
        wire
    }

    fn result(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let (field, wanted) = match message.role {
            Role::Function => ("name", message.name),
            _ => ("tool_call_id", message.tool_call_id),
        };
        let path = format!("messages[{index}].{field}");
        let wanted = wanted.and_then(Text::decode).ok_or_else(|| {
            Untranslatable::malformed(path.clone(), "this field is required, to tell which call is answered")
        })?;
        let answers = |open: &Open<'a>| match message.role {
            Role::Function => open.id.is_none() && open.name == wanted,
            _ => open.id.as_ref() == Some(&wanted),
        };
        let Some(at) = self.open.iter().position(answers) else {
            let why = format!("no call before this message is still waiting for the result of `{wanted}`");
            return Err(Untranslatable::malformed(path, why));
        };
        let id = self.open.remove(at).wire;
        let content = match &message.content {
            Content::Absent => block::Result::Parts(Vec::new()),
            Content::Text(text) => {
                whole(*text, || format!("messages[{index}].content"))?;
                block::Result::Text(*text)
            }
            parts @ Content::Parts(_) => block::Result::Parts(self.blocks(index, parts)?),
        };
        self.turn(false).results.push(Block::ToolResult { id, content });
        Ok(())
    }

    fn blocks(&mut self, index: usize, content: &Content<'a>) -> Result<Vec<Block<'a>>, Untranslatable> {
        let mut blocks = Vec::new();
        match content {
            Content::Absent => {}
            Content::Text(text) => self.text(*text, || format!("messages[{index}].content"), &mut blocks)?,
            Content::Parts(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let path = || format!("messages[{index}].content[{place}]");
                    for name in &part.others {
                        self.losses
                            .dropped(format!("{}.{name}", path()), "Anthropic has no such field here")?;
                    }
                    match part.body {
                        Body::Text(text) | Body::Refusal(text) => self.text(text, path, &mut blocks)?,
                        other => blocks.push(block::media(other, path, self.losses)?),
                    }
                }
            }
        }
        Ok(blocks)
    }

    /// Anthropic refuses texts of white space; one without a character is nothing that could be lost.
    fn text(
        &mut self,
        text: Text<'a>,
        path: impl Fn() -> String,
        blocks: &mut Vec<Block<'a>>,
    ) -> Result<(), Untranslatable> {
        whole(text, &path)?;
        if !text.is_blank() {
            blocks.push(Block::Text(text));
        } else if !text.is_empty() {
            self.losses.dropped(path(), "Anthropic refuses texts of nothing but white space")?;
        }
        Ok(())
    }

    fn say(&mut self, assistant: bool, blocks: Vec<Block<'a>>) {
        if !blocks.is_empty() {
            self.turn(assistant).blocks.extend(blocks);
        }
    }

    /// The turn that this side has, or now gets.
    fn turn(&mut self, assistant: bool) -> &mut Turn<'a> {
        if self.done.turns.last().is_none_or(|turn| turn.assistant != assistant) {
            self.done.turns.push(Turn { assistant, results: Vec::new(), blocks: Vec::new() });
        }
        self.done.turns.last_mut().expect("a turn was just pushed")
    }

    fn no_open_calls(&self) -> Result<(), Untranslatable> {
        let Some(open) = self.open.first() else { return Ok(()) };
        let field = match open.id {
            Some(_) => format!("messages[{}].tool_calls[{}].id", open.message, open.place),
            None => format!("messages[{}].function_call.name", open.message),
        };
        Err(Untranslatable::malformed(field, "this call has no result: a message with it must follow"))
    }

    /// The user speaks first, and someone must speak; the model's last word may not end in white space.
    fn finish(self) -> Result<Conversation<'a>, Untranslatable> {
        let Self { mut done, losses, .. } = self;
        if done.turns.is_empty() {
            if done.system.is_empty() {
                return Err(Untranslatable::malformed("messages", "no message holds anything to answer"));
            }
            losses.changed(
                "messages",
                "Anthropic needs a user's message, so the system text was sent as one",
            )?;
            let blocks = std::mem::take(&mut done.system).into_iter().map(Block::Text).collect();
            done.turns.push(Turn { assistant: false, results: Vec::new(), blocks });
        }
        if done.turns[0].assistant {
            losses.changed(
                "messages",
                "Anthropic wants the user to speak first, so a message `.` was put before",
            )?;
            let blocks = vec![Block::Text(Text::Plain("."))];
            done.turns.insert(0, Turn { assistant: false, results: Vec::new(), blocks });
        }
        if let Some(Block::Text(text)) =
            done.turns.last_mut().filter(|t| t.assistant).and_then(|t| t.blocks.last_mut())
            && let Some(words) = text.decode()
            && words.trim_end() != words
        {
            losses
                .changed("messages", "Anthropic refuses a last assistant message that ends in white space")?;
            let trimmed = Block::Trimmed(words.trim_end().to_owned());
            if let Some(last) = done.turns.last_mut().and_then(|turn| turn.blocks.last_mut()) {
                *last = trimmed;
            }
        }
        Ok(done)
    }
}

fn whole(text: Text<'_>, path: impl Fn() -> String) -> Result<(), Untranslatable> {
    if text.is_torn() {
        return Err(Untranslatable::malformed(path(), "an escape in this text spells half a character"));
    }
    Ok(())
}
