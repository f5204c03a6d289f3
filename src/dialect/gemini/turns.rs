//! The conversation as Gemini wants it: system texts apart, roles in turn, and the calls of a turn answered together, in
//! their own order, at the head of the next one.

use std::borrow::Cow;

use super::Flavour;
use super::models::Rules;
use super::part::{self, Call, Part, Response};
use super::signature;
use crate::dialect::Untranslatable;
use crate::dialect::calls::arguments;
use crate::dialect::loss::Losses;
use crate::dialect::parts;
use crate::openai::json::Text;
use crate::openai::message::{self, Body, Content, Message, Role};

/// A conversation ready to be written.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    /// What sets the rules, in order.
    pub(super) system: Vec<Text<'a>>,
    /// Who says what, user and model in turn.
    pub(super) turns: Vec<Turn<'a>>,
}

/// What one side says until the other speaks.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Whether it is the model.
    pub(super) model: bool,
    /// The responses to calls, which must come first, each with the number of its call.
    responses: Vec<(usize, Part<'a>)>,
    /// Everything else, in order.
    others: Vec<Part<'a>>,
}

impl<'a> Turn<'a> {
    /// All parts, in the order that they are sent in.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part<'a>> {
        self.responses.iter().map(|(_, part)| part).chain(&self.others)
    }
}

impl<'a> Conversation<'a> {
    /// Arranges `messages` for a model of these rules.
    pub(super) fn arrange(
        messages: &[Message<'a>],
        flavour: Flavour,
        rules: Rules,
        losses: &mut Losses,
    ) -> Result<Self, Untranslatable> {
        let mut builder =
            Builder { done: Self::default(), open: Vec::new(), calls: 0, flavour, rules, losses };
        for (index, message) in messages.iter().enumerate() {
            builder.add(index, message)?;
        }
        builder.no_open_calls()?;
        builder.finish()
    }
}

struct Builder<'a, 'l> {
    done: Conversation<'a>,
    open: Vec<Open<'a>>,
    /// How many there have been.
    calls: usize,
    flavour: Flavour,
    rules: Rules,
    losses: &'l mut Losses,
}

/// A call that has no response yet.
struct Open<'a> {
    message: usize,
    place: usize,
    number: usize,
    /// The client's id; `None` for a legacy call, which is found by its name.
    id: Option<Cow<'a, str>>,
    name: Text<'a>,
    wire: Option<Cow<'a, str>>,
}

impl<'a> Builder<'a, '_> {
    fn add(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        self.note_others(index, message)?;
        match message.role {
            Role::System | Role::Developer => self.system(index, &message.content),
            Role::User => {
                let parts = self.parts(index, &message.content)?;
                self.say(false, parts);
                Ok(())
            }
            Role::Assistant => self.model(index, message),
            Role::Tool | Role::Function => self.response(index, message),
        }
    }

    fn note_others(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        if message.name.is_some() && !matches!(message.role, Role::Tool | Role::Function) {
            self.losses.dropped(format!("messages[{index}].name"), "Gemini's turns carry no names")?;
        }
        for name in &message.others {
            let field = format!("messages[{index}].{name}");
            if name == "audio" {
                return Err(Untranslatable::unsupported(field, "Gemini cannot take up spoken answers"));
            }
            self.losses.dropped(field, "Gemini's turns have no such field")?;
        }
        Ok(())
    }

    fn system(&mut self, index: usize, content: &Content<'a>) -> Result<(), Untranslatable> {
        let before = self.done.system.len();
        for part in self.parts(index, content)? {
            let Part::Text(text) = part else {
                let field = format!("messages[{index}].content");
                return Err(Untranslatable::unsupported(field, "a system message can hold text only"));
            };
            self.done.system.push(text);
        }
        let why = match self.rules.takes_system {
            false => "this model takes no system text, so it was put before the user's first words",
            true if self.done.turns.is_empty() => return Ok(()),
            true => "Gemini takes system text at the beginning only, so it was moved there",
        };
        if self.done.system.len() > before {
            self.losses.changed(format!("messages[{index}].role"), why)?;
        }
        Ok(())
    }

    fn model(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let mut parts = self.parts(index, &message.content)?;
        if let Some(refusal) = message.refusal {
            text(refusal, || format!("messages[{index}].refusal"), &mut parts)?;
        }
        if parts.is_empty() && message.calls.is_empty() {
            return Ok(());
        }
        if self.done.turns.last().is_some_and(|turn| !turn.model) {
            self.no_open_calls()?;
        }
        for (place, call) in message.calls.iter().enumerate() {
            parts.push(self.call(index, place, call)?);
        }
        self.say(true, parts);
        Ok(())
    }

    fn call(
        &mut self,
        index: usize,
        place: usize,
        call: &message::Call<'a>,
    ) -> Result<Part<'a>, Untranslatable> {
        let path = |field: &str| match call.id {
            Some(_) => format!("messages[{index}].tool_calls[{place}].{field}"),
            None => format!("messages[{index}].function_call.{field}"),
        };
        let decode = |text: Text<'a>, field: &str| {
            text.decode().ok_or_else(|| Untranslatable::malformed(path(field), "this is not valid text"))
        };
        decode(call.name, "function.name")?;
        let id = call.id.map(|id| decode(id, "id")).transpose()?;
        let arguments = arguments(decode(call.arguments, "function.arguments")?).ok_or_else(|| {
            let why = "the arguments of a call must be one JSON object, written as a string";
            Untranslatable::malformed(path("function.arguments"), why)
        })?;
        let (bare, carried) = id.as_ref().map_or((Cow::Borrowed(""), None), signature::split);
        let told = self.told_signature(index, place, call)?;
        let signature = told.or_else(|| carried.map(Cow::Owned));
        let wire = Some(bare).filter(|bare| self.rules.signs_calls && !bare.is_empty());
        let (number, name) = (self.calls, call.name);
        self.calls += 1;
        self.open.push(Open { message: index, place, number, id, name, wire: wire.clone() });
        Ok(Part::Call(Call { id: wire, name, arguments, signature }))
    }

    /// The signature that a client gives beside a call; notes what else stands there.
    fn told_signature(
        &mut self,
        index: usize,
        place: usize,
        call: &message::Call<'a>,
    ) -> Result<Option<Cow<'a, str>>, Untranslatable> {
        if call.others.is_empty() {
            return Ok(None);
        }
        let (told, beyond) = signature::told(&call.others);
        for name in beyond {
            let field = format!("messages[{index}].{}.{name}", call.path(place));
            self.losses.dropped(field, "Gemini's calls have no such field")?;
        }
        Ok(told)
    }

    fn response(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let (field, wanted) = match message.role {
            Role::Function => ("name", message.name),
            _ => ("tool_call_id", message.tool_call_id),
        };
        let path = format!("messages[{index}].{field}");
        let wanted = wanted.and_then(Text::decode).ok_or_else(|| {
            Untranslatable::malformed(path.clone(), "this field is required, to tell which call is answered")
        })?;
        let answers = |open: &Open<'a>| match message.role {
            Role::Function => open.id.is_none() && open.name.is(&wanted),
            _ => open.id.as_ref() == Some(&wanted),
        };
        let Some(at) = self.open.iter().position(answers) else {
            let why = format!("no call before this message is still waiting for the result of `{wanted}`");
            return Err(Untranslatable::malformed(path, why));
        };
        let Open { number, name, wire, .. } = self.open.remove(at);
        let called = || name.decode().unwrap_or_default();
        if message.role == Role::Tool && message.name.is_some_and(|given| !given.is(&called())) {
            let why = "the result goes to the call of its id, which is one of another function";
            self.losses.changed(format!("messages[{index}].name"), why)?;
        }
        let mut response = Response { id: wire, name, texts: Vec::new(), media: Vec::new() };
        for part in self.parts(index, &message.content)? {
            match part {
                Part::Text(text) => response.texts.push(text),
                media => response.media.push(media),
            }
        }
        if !response.media.is_empty() && !self.rules.signs_calls {
            let why = "with this model the result of a tool can hold text only";
            return Err(Untranslatable::unsupported(format!("messages[{index}].content"), why));
        }
        let turn = self.turn(false);
        let place = turn.responses.partition_point(|(before, _)| *before < number);
        turn.responses.insert(place, (number, Part::Response(response)));
        Ok(())
    }

    fn parts(&mut self, index: usize, content: &Content<'a>) -> Result<Vec<Part<'a>>, Untranslatable> {
        let mut parts = Vec::new();
        match content {
            Content::Absent => {}
            Content::Text(words) => text(*words, || format!("messages[{index}].content"), &mut parts)?,
            Content::Parts(all) => {
                for (place, one) in all.iter().enumerate() {
                    let path = || format!("messages[{index}].content[{place}]");
                    let is_format =
                        |name: &Cow<'_, str>| part::FORMATS.contains(&&**name) && one.body.has_format();
                    for name in one.others.iter().filter(|name| !is_format(name)) {
                        self.losses.dropped(format!("{}.{name}", path()), "Gemini has no such field here")?;
                    }
                    match one.body {
                        Body::Text(words) | Body::Refusal(words) => text(words, path, &mut parts)?,
                        other => parts.push(part::media(other, path, self.flavour, self.losses)?),
                    }
                }
            }
        }
        Ok(parts)
    }

    fn say(&mut self, model: bool, parts: Vec<Part<'a>>) {
        if !parts.is_empty() {
            self.turn(model).others.extend(parts);
        }
    }

    /// The turn that this side has, or now gets.
    fn turn(&mut self, model: bool) -> &mut Turn<'a> {
        if self.done.turns.last().is_none_or(|turn| turn.model != model) {
            self.done.turns.push(Turn { model, responses: Vec::new(), others: Vec::new() });
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

    /// Someone must speak, and a call must follow a turn of the user.
    fn finish(self) -> Result<Conversation<'a>, Untranslatable> {
        let Self { mut done, losses, rules, .. } = self;
        let user = |part| Turn { model: false, responses: Vec::new(), others: vec![part] };
        if done.turns.is_empty() {
            if done.system.is_empty() {
                return Err(Untranslatable::malformed("messages", "no message holds anything to answer"));
            }
            let why = "Gemini needs a user's message, so the system text was sent as one";
            losses.changed("messages", why)?;
            let others = std::mem::take(&mut done.system).into_iter().map(Part::Text).collect();
            done.turns.push(Turn { model: false, responses: Vec::new(), others });
        }
        if !rules.takes_system {
            let first = done.turns.iter_mut().find(|turn| !turn.model);
            let system = std::mem::take(&mut done.system).into_iter().map(Part::Text);
            match first {
                Some(turn) => drop(turn.others.splice(..0, system)),
                None => done
                    .turns
                    .insert(0, Turn { model: false, responses: Vec::new(), others: system.collect() }),
            }
        }
        let calls = |turn: &Turn<'a>| turn.others.iter().any(|part| matches!(part, Part::Call(_)));
        if done.turns[0].model && calls(&done.turns[0]) {
            let why = "Gemini wants a user's turn before a call, so a message `.` was put before";
            losses.changed("messages", why)?;
            done.turns.insert(0, user(Part::Text(Text::Plain("."))));
        }
        if rules.signs_calls {
            sign_foreign(&mut done.turns, losses);
        }
        Ok(done)
    }
}

/// The first call of each turn must be signed; one that another model made says so instead.
fn sign_foreign(turns: &mut [Turn<'_>], losses: &mut Losses) {
    let first_call = |turn: &mut Turn<'_>| {
        turn.others.iter_mut().find_map(|part| match part {
            Part::Call(call) => Some(call.signature.is_none().then(|| {
                call.signature = Some(Cow::Borrowed(signature::FOREIGN));
            })),
            _ => None,
        })
    };
    let marked = turns.iter_mut().filter_map(first_call).flatten().count();
    if marked > 0 {
        losses.defaulted(
            "messages",
            "calls that came without the signature of this model are marked as foreign",
        );
    }
}

fn text<'a>(
    text: Text<'a>,
    path: impl Fn() -> String,
    into: &mut Vec<Part<'a>>,
) -> Result<(), Untranslatable> {
    parts::whole(text, path)?;
    if !text.is_empty() {
        into.push(Part::Text(text));
    }
    Ok(())
}
