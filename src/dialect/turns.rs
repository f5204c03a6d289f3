//! A conversation for vendors that take it in turns: system texts apart, roles in turn, the user first, and every tool
//! call answered at the head of the next user turn.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Debug;

use super::Untranslatable;
use super::calls::arguments;
use super::loss::Losses;
use super::marks::{self, Mark};
use super::parts::whole;
use crate::openai::json::Text;
use crate::openai::message::{Body, Call, Content, Message, Part, Role};

/// What a vendor wants of a conversation.
pub(super) trait Vendor<'a> {
    /// Its name, for the words of refusals and losses.
    const NAME: &'static str;
    /// The most characters that the id of a call may have.
    const LONGEST_ID: usize;
    /// What is neither text nor a call nor a result: images, documents.
    type Media: Debug;

    /// Whether the id of a call may hold `character`, which is ASCII.
    fn takes_in_id(character: char) -> bool;

    /// The block for a part of `path` that is not text.
    fn media(
        body: Body<'a>,
        path: impl Fn() -> String,
        losses: &mut Losses,
    ) -> Result<Self::Media, Untranslatable>;
}

/// A conversation ready to be written.
#[derive(Debug)]
pub(super) struct Conversation<'a, M> {
    /// What sets the rules, in order: texts, and the marks on them.
    pub(super) system: Vec<Block<'a, M>>,
    /// Who says what, user and assistant in turn.
    pub(super) turns: Vec<Turn<'a, M>>,
    /// The names of all tools that were called, each once.
    pub(super) called: Vec<Text<'a>>,
    /// Whether there is a mark anywhere.
    pub(super) marked: bool,
}

/// What one side says until the other speaks.
#[derive(Debug)]
pub(super) struct Turn<'a, M> {
    /// Whether it is the model.
    pub(super) assistant: bool,
    /// The answers to tool calls, which must come first.
    pub(super) results: Vec<Block<'a, M>>,
    /// Everything else, in order.
    pub(super) blocks: Vec<Block<'a, M>>,
}

/// One piece of what is said.
#[derive(Debug)]
pub(super) enum Block<'a, M> {
    /// Text as the client wrote it, never blank.
    Text(Text<'a>),
    /// Text without the white space at its end.
    Trimmed(String),
    /// Anything that only the vendor's folder can write.
    Media(M),
    /// A call of a tool; its input is one JSON object.
    Call { id: Cow<'a, str>, name: Cow<'a, str>, input: Cow<'a, str> },
    /// A mark on the block before it.
    Mark(Mark<'a>),
    /// The answer to a call.
    Answer { id: Cow<'a, str>, content: Answered<'a, M> },
}

/// What a tool answered.
#[derive(Debug)]
pub(super) enum Answered<'a, M> {
    /// One text, perhaps empty.
    Text(Text<'a>),
    /// Blocks, perhaps none.
    Parts(Vec<Block<'a, M>>),
}

impl<'a, M: Debug> Conversation<'a, M> {
    /// Arranges `messages` as the vendor `V` wants it.
    pub(super) fn arrange<V: Vendor<'a, Media = M>>(
        messages: &[Message<'a>],
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        let turns = Vec::with_capacity(messages.len());
        let done = Self { system: Vec::new(), turns, called: Vec::new(), marked: false };
        let ids = HashSet::new();
        let mut builder = Builder::<V> { done, open: Vec::new(), ids, asks: false, losses };
        let speaks = |message: &Message<'_>| !matches!(message.role, Role::System | Role::Developer);
        let spoken = messages.iter().rposition(speaks).map_or(0, |last| last + 1);
        for (index, message) in messages.iter().enumerate() {
            if index == spoken {
                builder.asks = builder.done.is_prefill();
            }
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

struct Builder<'a, 'l, V: Vendor<'a>> {
    done: Conversation<'a, V::Media>,
    open: Vec<Open<'a>>,
    ids: HashSet<Cow<'a, str>>,
    /// Whether system messages alone follow the model's last words: moved away, they would leave it to go on with these.
    asks: bool,
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

impl<'a, V: Vendor<'a>> Builder<'a, '_, V> {
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
        if message.name.is_some() && !matches!(message.role, Role::Tool | Role::Function) {
            self.losses.dropped(
                format!("messages[{index}].name"),
                format!("{}'s messages carry no names", V::NAME),
            )?;
        }
        for name in message.beyond() {
            let field = format!("messages[{index}].{name}");
            if name == "audio" {
                return Err(Untranslatable::unsupported(
                    field,
                    format!("{} cannot take up spoken answers", V::NAME),
                ));
            }
            self.losses.dropped(field, format!("{}'s messages have no such field", V::NAME))?;
        }
        Ok(())
    }

    fn system(&mut self, index: usize, content: &Content<'a>) -> Result<(), Untranslatable> {
        let mut blocks = Vec::new();
        match content {
            Content::Absent => {}
            Content::Text(text) => self.text(*text, || format!("messages[{index}].content"), &mut blocks)?,
            Content::Parts(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let Body::Text(text) = part.body else {
                        let field = format!("messages[{index}].content[{place}].type");
                        return Err(Untranslatable::unsupported(
                            field,
                            "a system message can hold text only",
                        ));
                    };
                    let mark = self.note_part(index, place, part)?;
                    let before = blocks.len();
                    self.text(text, || format!("messages[{index}].content[{place}]"), &mut blocks)?;
                    blocks.extend(self.set(mark, blocks.len() > before)?);
                }
            }
        }
        if !blocks.is_empty() && !self.done.turns.is_empty() {
            let place = if self.asks { "sent as the user's, to be answered" } else { "moved there" };
            let why = format!("{} takes system text at the beginning only, so it was {place}", V::NAME);
            self.losses.changed(format!("messages[{index}].role"), why)?;
        }
        if self.asks {
            self.say(false, blocks);
        } else {
            self.done.system.extend(blocks);
        }
        Ok(())
    }

    fn assistant(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let mut blocks = self.blocks(index, &message.content)?;
        if let Some(refusal) = message.refusal {
            self.text(refusal, || format!("messages[{index}].refusal"), &mut blocks)?;
        }
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

    fn call(
        &mut self,
        index: usize,
        place: usize,
        call: &Call<'a>,
    ) -> Result<Block<'a, V::Media>, Untranslatable> {
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
        let input = arguments(decode(call.arguments, "function.arguments")?).ok_or_else(|| {
            let why = "the arguments of a call must be one JSON object, written as a string";
            Untranslatable::malformed(path("function.arguments"), why)
        })?;
        if !self.done.called.iter().any(|text| text.is(&name)) {
            self.done.called.push(call.name);
        }
        self.open.push(Open { message: index, place, id, name: name.clone(), wire: wire.clone() });
        Ok(Block::Call { id: wire, name, input })
    }

    /// An id that the vendor takes and that no other call of the conversation has.
    fn wire_id(&mut self, id: &Cow<'a, str>) -> Cow<'a, str> {
        let good = |c: char| c.is_ascii() && V::takes_in_id(c);
        let base = match id {
            Cow::Borrowed(id) if fits(id, V::LONGEST_ID) && id.chars().all(good) => Cow::Borrowed(*id),
            _ if id.is_empty() => Cow::Borrowed("call"),
            _ => {
                let mended = id.chars().map(|c| if good(c) { c } else { '_' });
                Cow::Owned(mended.take(V::LONGEST_ID).collect())
            }
        };
        let mut wire = base.clone();
        let mut number = 2;
        while !self.ids.insert(wire.clone()) {
            let end = format!("_{number}");
            // All of it is ASCII by now.
            let kept = base.len().min(V::LONGEST_ID - end.len());
            wire = Cow::Owned(format!("{}{end}", &base[..kept]));
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
        let Open { wire: id, name, .. } = self.open.remove(at);
        if message.role == Role::Tool && message.name.is_some_and(|given| !given.is(&name)) {
            let why = "the result goes to the call of its id, which is one of another function";
            self.losses.dropped(format!("messages[{index}].name"), why)?;
        }
        let mut mark = None;
        let content = match &message.content {
            Content::Absent => Answered::Parts(Vec::new()),
            Content::Text(text) => {
                self.text(*text, || format!("messages[{index}].content"), &mut Vec::new())?;
                Answered::Text(*text)
            }
            parts @ Content::Parts(_) => {
                let mut blocks = self.blocks(index, parts)?;
                if self.done.marked {
                    mark = self.take_marks(&mut blocks)?;
                }
                Answered::Parts(blocks)
            }
        };
        let results = &mut self.turn(false).results;
        results.push(Block::Answer { id, content });
        results.extend(mark.map(Block::Mark));
        Ok(())
    }

    fn blocks(
        &mut self,
        index: usize,
        content: &Content<'a>,
    ) -> Result<Vec<Block<'a, V::Media>>, Untranslatable> {
        let mut blocks = Vec::new();
        match content {
            Content::Absent => {}
            Content::Text(text) => self.text(*text, || format!("messages[{index}].content"), &mut blocks)?,
            Content::Parts(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let path = || format!("messages[{index}].content[{place}]");
                    let mark = self.note_part(index, place, part)?;
                    let before = blocks.len();
                    match part.body {
                        Body::Text(text) | Body::Refusal(text) => self.text(text, path, &mut blocks)?,
                        other => blocks.push(Block::Media(V::media(other, path, self.losses)?)),
                    }
                    blocks.extend(self.set(mark, blocks.len() > before)?);
                }
            }
        }
        Ok(blocks)
    }

    /// Notes what is left out of a part, but for a mark on it.
    fn note_part(
        &mut self,
        index: usize,
        place: usize,
        part: &Part<'a>,
    ) -> Result<Option<Mark<'a>>, Untranslatable> {
        let mut mark = None;
        for name in &part.others {
            if name == marks::FIELD {
                mark = Mark::of(part.raw, index, place);
            }
            if name != marks::FIELD || mark.is_none() {
                let why = format!("{} has no such field here", V::NAME);
                self.losses.dropped(format!("messages[{index}].content[{place}].{name}"), why)?;
            }
        }
        Ok(mark)
    }

    /// The block for a mark, if its part has become one.
    fn set(
        &mut self,
        mark: Option<Mark<'a>>,
        has_block: bool,
    ) -> Result<Option<Block<'a, V::Media>>, Untranslatable> {
        let Some(mark) = mark else { return Ok(None) };
        if !has_block {
            self.losses.dropped(mark.path(), "the text that it marks is blank, and was left out")?;
            return Ok(None);
        }
        self.done.marked = true;
        Ok(Some(Block::Mark(mark)))
    }

    /// Takes the marks out of what a tool answered: the answer is marked as a whole, and once.
    fn take_marks(
        &mut self,
        blocks: &mut Vec<Block<'a, V::Media>>,
    ) -> Result<Option<Mark<'a>>, Untranslatable> {
        let mut last: Option<Mark<'a>> = None;
        for block in &*blocks {
            let Block::Mark(mark) = block else { continue };
            if let Some(before) = last.replace(*mark) {
                self.losses
                    .dropped(before.path(), "a tool's answer is kept as a whole, up to the last mark")?;
            }
        }
        blocks.retain(|block| !matches!(block, Block::Mark(_)));
        Ok(last)
    }

    /// Texts of white space are refused; one without a character is nothing that could be lost.
    fn text(
        &mut self,
        text: Text<'a>,
        path: impl Fn() -> String,
        blocks: &mut Vec<Block<'a, V::Media>>,
    ) -> Result<(), Untranslatable> {
        whole(text, &path)?;
        if !text.is_blank() {
            blocks.push(Block::Text(text));
        } else if !text.is_empty() {
            let why = format!("{} refuses texts of nothing but white space", V::NAME);
            self.losses.dropped(path(), why)?;
        }
        Ok(())
    }

    fn say(&mut self, assistant: bool, blocks: Vec<Block<'a, V::Media>>) {
        if blocks.is_empty() {
            return;
        }
        let turn = self.turn(assistant);
        if turn.blocks.is_empty() {
            turn.blocks = blocks;
        } else {
            turn.blocks.extend(blocks);
        }
    }

    /// The turn that this side has, or now gets.
    fn turn(&mut self, assistant: bool) -> &mut Turn<'a, V::Media> {
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
    fn finish(self) -> Result<Conversation<'a, V::Media>, Untranslatable> {
        let Self { mut done, losses, .. } = self;
        if done.turns.is_empty() {
            if done.system.is_empty() {
                return Err(Untranslatable::malformed("messages", "no message holds anything to answer"));
            }
            losses.changed(
                "messages",
                format!("{} needs a user's message, so the system text was sent as one", V::NAME),
            )?;
            let blocks = std::mem::take(&mut done.system);
            done.turns.push(Turn { assistant: false, results: Vec::new(), blocks });
        }
        if done.turns[0].assistant {
            losses.changed(
                "messages",
                format!("{} wants the user to speak first, so a message `.` was put before", V::NAME),
            )?;
            let blocks = vec![Block::Text(Text::Plain("."))];
            done.turns.insert(0, Turn { assistant: false, results: Vec::new(), blocks });
        }
        let last = done.turns.last_mut().filter(|turn| turn.assistant);
        let last =
            last.and_then(|turn| turn.blocks.iter_mut().rfind(|block| !matches!(block, Block::Mark(_))));
        if let Some(block) = last
            && let Block::Text(text) = *block
            && let Some(words) = text.decode()
            && words.trim_end() != words
        {
            let why = format!("{} refuses a last assistant message that ends in white space", V::NAME);
            losses.changed("messages", why)?;
            *block = Block::Trimmed(words.trim_end().to_owned());
        }
        Ok(done)
    }
}

fn fits(id: &str, longest: usize) -> bool {
    !id.is_empty() && id.len() <= longest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vendor of short ids.
    struct Short;

    impl Vendor<'_> for Short {
        const NAME: &'static str = "Short";
        const LONGEST_ID: usize = 6;
        type Media = ();

        fn takes_in_id(character: char) -> bool {
            character.is_ascii_alphanumeric() || character == '_'
        }

        fn media(_: Body<'_>, path: impl Fn() -> String, _: &mut Losses) -> Result<(), Untranslatable> {
            Err(Untranslatable::unsupported(path(), "no media"))
        }
    }

    #[test]
    fn ids_are_brought_into_the_vendors_form_and_stay_apart() {
        let mut losses = Losses::new(true);
        let done = Conversation { system: Vec::new(), turns: Vec::new(), called: Vec::new(), marked: false };
        let mut builder = Builder::<Short> {
            done,
            open: Vec::new(),
            ids: HashSet::new(),
            asks: false,
            losses: &mut losses,
        };
        let mut wire = |id: &'static str| builder.wire_id(&Cow::Borrowed(id)).into_owned();
        assert_eq!(wire("call1"), "call1");
        assert_eq!(wire("call1"), "call_2");
        assert_eq!(wire("call1é"), "call1_");
        assert_eq!(wire("call1234"), "call12");
        assert_eq!(wire("call1235"), "call_3");
        assert_eq!(wire(""), "call");
    }
}
