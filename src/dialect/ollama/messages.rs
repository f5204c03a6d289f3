//! The conversation as Ollama writes it: one text a message, images beside it, arguments as objects, and the results of
//! calls in the order of the calls, since models tell them apart by that.

use std::borrow::Cow;

use crate::dialect::Untranslatable;
use crate::dialect::calls::{self, Calls};
use crate::dialect::loss::Losses;
use crate::dialect::media::Source;
use crate::dialect::parts::{Reader, What, join, refusal};
use crate::openai::json::Writer;
use crate::openai::message::{Call, Message, Role};

/// Writes `messages`.
pub(super) fn write(
    messages: &[Message<'_>],
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    if messages.is_empty() {
        return Err(Untranslatable::malformed("messages", "there is no message to answer"));
    }
    let reader = Reader { whose: "Ollama", losses };
    let mut conversation = Conversation { calls: Calls::default(), results: Vec::new(), reader, json };
    conversation.json.key("messages");
    conversation.json.list();
    for (index, message) in messages.iter().enumerate() {
        conversation.add(index, message)?;
    }
    conversation.write_results()?;
    conversation.json.end_list();
    Ok(())
}

struct Conversation<'m, 'a, 'j, 'o, 'l> {
    calls: Calls<'a>,
    /// Results that follow one another: the number of the call that each answers, if there is one, and its place.
    results: Vec<(Option<usize>, usize, &'m Message<'a>)>,
    reader: Reader<'l>,
    json: &'j mut Writer<'o>,
}

impl<'m, 'a> Conversation<'m, 'a, '_, '_, '_> {
    fn add(&mut self, index: usize, message: &'m Message<'a>) -> Result<(), Untranslatable> {
        self.reader.note_others(index, message)?;
        let role = match message.role {
            Role::Tool | Role::Function => {
                let number = self.calls.answer(message);
                let called = number.and_then(|number| self.calls.name(number));
                self.reader.note_name(index, message, called)?;
                self.results.push((number, index, message));
                return Ok(());
            }
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        self.write_results()?;
        self.json.object();
        self.json.tag("role", role);
        self.content(index, message, role == "user")?;
        if !message.calls.is_empty() {
            self.json.key("tool_calls");
            self.json.list();
            for (place, call) in message.calls.iter().enumerate() {
                self.call(index, place, call)?;
            }
            self.json.end_list();
        }
        self.json.end_object();
        Ok(())
    }

    /// Writes the results that have been gathered, in the order of their calls; those of no call come last.
    fn write_results(&mut self) -> Result<(), Untranslatable> {
        let mut results = std::mem::take(&mut self.results);
        results.sort_by_key(|(number, ..)| number.unwrap_or(usize::MAX));
        for (number, index, message) in results.drain(..) {
            self.json.object();
            self.json.tag("role", "tool");
            self.content(index, message, true)?;
            let called = number.and_then(|number| self.calls.name(number));
            let legacy = message.name.filter(|_| message.role == Role::Function);
            if let Some(name) = called.or(legacy) {
                self.json.key("tool_name");
                self.json.text(name);
            }
            if let Some(id) = message.tool_call_id {
                self.json.key("tool_call_id");
                self.json.text(id);
            }
            self.json.end_object();
        }
        self.results = results;
        Ok(())
    }

    /// Writes `content`, and `images` where they may stand.
    fn content(&mut self, index: usize, message: &Message<'a>, may_show: bool) -> Result<(), Untranslatable> {
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for piece in self.reader.pieces(index, &message.content)? {
            match &piece.body {
                What::Text(text) => texts.push(*text),
                What::Image { .. } if !may_show => {
                    return Err(piece.refuse(index, "a message of this role can hold text only"));
                }
                What::Image { source, detail } => {
                    if detail.is_some_and(|detail| !detail.is("auto")) {
                        let field = format!("{}.image_url.detail", piece.path(index));
                        self.reader.losses.dropped(field, "Ollama has no setting for detail")?;
                    }
                    images.push(image(source).map_err(|why| piece.refuse(index, why))?);
                }
            }
        }
        texts.extend(refusal(index, message)?);
        self.json.key("content");
        self.json.text(join(&texts).text());
        if !images.is_empty() {
            self.json.key("images");
            self.json.list();
            images.iter().for_each(|base64| self.json.plain(base64));
            self.json.end_list();
        }
        Ok(())
    }

    fn call(&mut self, index: usize, place: usize, call: &Call<'a>) -> Result<(), Untranslatable> {
        self.calls.make(call);
        let arguments = call.arguments.decode().and_then(calls::arguments).ok_or_else(|| {
            let field = match call.id {
                Some(_) => format!("messages[{index}].tool_calls[{place}].function.arguments"),
                None => format!("messages[{index}].function_call.arguments"),
            };
            let why = "the arguments of a call must be one JSON object, written as a string";
            Untranslatable::malformed(field, why)
        })?;
        self.json.object();
        if let Some(id) = call.id {
            self.json.key("id");
            self.json.text(id);
        }
        self.json.key("function");
        self.json.object();
        self.json.key("name");
        self.json.text(call.name);
        self.json.key("arguments");
        self.json.raw(&arguments);
        self.json.end_object();
        self.json.end_object();
        Ok(())
    }
}

/// The base64 of an image; what is wrong with it otherwise.
fn image(source: &Source<'_>) -> Result<String, Cow<'static, str>> {
    match source {
        Source::Data { kind, base64 } => match &**kind {
            "" | "image/jpeg" | "image/jpg" | "image/png" | "image/webp" => Ok(base64.clone().into_owned()),
            other => Err(format!("Ollama takes images as jpeg, png or webp, not `{other}`").into()),
        },
        Source::Web(_) => Err("Ollama fetches no images: send it as a data URL in base64".into()),
    }
}
