//! The conversation as Cohere writes it: OpenAI's roles, each content one text or a list of texts and images.

use std::borrow::Cow;

use crate::dialect::Untranslatable;
use crate::dialect::calls::Calls;
use crate::dialect::loss::Losses;
use crate::dialect::media::Source;
use crate::dialect::parts::{Piece, Reader, What, refusal};
use crate::openai::json::{Text, Writer};
use crate::openai::message::{Call, Message, Role};

/// Writes `messages`.
pub(super) fn write(
    messages: &[Message<'_>],
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let is_system = |message: &Message<'_>| matches!(message.role, Role::System | Role::Developer);
    let only_system = messages.iter().all(is_system);
    let mut conversation = Conversation {
        calls: Calls::default(),
        reader: Reader { whose: "Cohere", losses },
        json,
        is_empty: true,
    };
    conversation.json.key("messages");
    conversation.json.list();
    for (index, message) in messages.iter().enumerate() {
        let asks = only_system && index + 1 == messages.len();
        conversation.add(index, message, asks)?;
    }
    conversation.json.end_list();
    if conversation.is_empty {
        return Err(Untranslatable::malformed("messages", "no message holds anything to answer"));
    }
    Ok(())
}

struct Conversation<'a, 'j, 'o, 'l> {
    calls: Calls<'a>,
    reader: Reader<'l>,
    json: &'j mut Writer<'o>,
    is_empty: bool,
}

impl<'a> Conversation<'a, '_, '_, '_> {
    /// Adds a message; a system message that `asks` is sent as the user's.
    fn add(&mut self, index: usize, message: &Message<'a>, asks: bool) -> Result<(), Untranslatable> {
        self.reader.note_others(index, message)?;
        match message.role {
            Role::System | Role::Developer => self.system(index, message, asks),
            Role::User => {
                let pieces = self.reader.pieces(index, &message.content)?;
                if !pieces.is_empty() {
                    self.begin("user");
                    self.content(index, &pieces)?;
                    self.json.end_object();
                }
                Ok(())
            }
            Role::Assistant => self.assistant(index, message),
            Role::Tool | Role::Function => self.result(index, message),
        }
    }

    fn begin(&mut self, role: &'static str) {
        self.is_empty = false;
        self.json.object();
        self.json.tag("role", role);
    }

    fn system(&mut self, index: usize, message: &Message<'a>, asks: bool) -> Result<(), Untranslatable> {
        let texts = self.reader.texts(index, &message.content)?;
        if texts.is_empty() {
            return Ok(());
        }
        if asks {
            let why = "Cohere wants to be asked by a user, so the last system text was sent as the user's";
            self.reader.losses.changed(format!("messages[{index}].role"), why)?;
        }
        self.begin(if asks { "user" } else { "system" });
        self.texts(&texts);
        self.json.end_object();
        Ok(())
    }

    fn assistant(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let mut texts = self.reader.texts(index, &message.content)?;
        texts.extend(refusal(index, message)?);
        if texts.is_empty() && message.calls.is_empty() {
            return Ok(());
        }
        self.begin("assistant");
        if !texts.is_empty() {
            self.texts(&texts);
        }
        if !message.calls.is_empty() {
            self.json.key("tool_calls");
            self.json.list();
            for call in &message.calls {
                self.call(call);
            }
            self.json.end_list();
        }
        self.json.end_object();
        Ok(())
    }

    fn call(&mut self, call: &Call<'a>) {
        let number = self.calls.make(call);
        self.json.object();
        self.id("id", call.id.ok_or(number));
        self.json.tag("type", "function");
        self.json.key("function");
        self.json.object();
        self.json.key("name");
        self.json.text(call.name);
        self.json.key("arguments");
        self.json.text(if call.arguments.is_blank() { Text::Plain("{}") } else { call.arguments });
        self.json.end_object();
        self.json.end_object();
    }

    fn result(&mut self, index: usize, message: &Message<'a>) -> Result<(), Untranslatable> {
        let answered = self.calls.answer(message);
        let called = answered.and_then(|number| self.calls.name(number));
        self.reader.note_name(index, message, called)?;
        let id = match (message.role, message.tool_call_id, answered) {
            (Role::Function, _, Some(number)) => Err(number),
            (Role::Function, _, None) => {
                let why = "no call before this message is one of this function";
                return Err(Untranslatable::malformed(format!("messages[{index}].name"), why));
            }
            (_, Some(id), _) => Ok(id),
            (_, None, _) => {
                let why = "this field is required, to tell which call is answered";
                return Err(Untranslatable::malformed(format!("messages[{index}].tool_call_id"), why));
            }
        };
        let texts = self.reader.texts(index, &message.content)?;
        self.begin("tool");
        self.id("tool_call_id", id);
        self.texts(&texts);
        self.json.end_object();
        Ok(())
    }

    /// Writes the client's id of a call; one for the legacy call of a number, which has none.
    fn id(&mut self, name: &'static str, id: Result<Text<'_>, usize>) {
        self.json.key(name);
        match id {
            Ok(id) => self.json.text(id),
            Err(number) => self.json.value(&format!("function_call_{number}")),
        }
    }

    /// Writes `content` of texts.
    fn texts(&mut self, texts: &[Text<'_>]) {
        self.json.key("content");
        match texts {
            [] => self.json.plain(""),
            [one] => self.json.text(*one),
            many => {
                self.json.list();
                many.iter().for_each(|text| self.text(*text));
                self.json.end_list();
            }
        }
    }

    fn text(&mut self, text: Text<'_>) {
        self.json.object();
        self.json.tag("type", "text");
        self.json.key("text");
        self.json.text(text);
        self.json.end_object();
    }

    /// Writes `content` of texts and images.
    fn content(&mut self, index: usize, pieces: &[Piece<'_>]) -> Result<(), Untranslatable> {
        if let [Piece { body: What::Text(text), .. }] = pieces {
            self.texts(&[*text]);
            return Ok(());
        }
        self.json.key("content");
        self.json.list();
        for piece in pieces {
            match &piece.body {
                What::Text(text) => self.text(*text),
                What::Image { source, detail } => self.image(index, piece, source, *detail)?,
            }
        }
        self.json.end_list();
        Ok(())
    }

    fn image(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        source: &Source<'_>,
        detail: Option<Text<'_>>,
    ) -> Result<(), Untranslatable> {
        let url: Cow<'_, str> = match source {
            Source::Web(url) => Cow::Borrowed(url),
            Source::Data { kind, base64 } => {
                let kind = match &**kind {
                    "image/jpg" => "image/jpeg",
                    kind @ ("image/jpeg" | "image/png" | "image/gif" | "image/webp") => kind,
                    other => {
                        let why = format!("Cohere takes images as jpeg, png, gif or webp, not `{other}`");
                        return Err(piece.refuse(index, why));
                    }
                };
                Cow::Owned(format!("data:{kind};base64,{base64}"))
            }
        };
        let known = detail.filter(|detail| ["auto", "low", "high"].iter().any(|word| detail.is(word)));
        if detail.is_some() && known.is_none() {
            let field = format!("{}.image_url.detail", piece.path(index));
            self.reader.losses.dropped(field, "Cohere knows auto, low and high only")?;
        }
        self.json.object();
        self.json.tag("type", "image_url");
        self.json.key("image_url");
        self.json.object();
        self.json.member("url", &url);
        if let Some(detail) = known {
            self.json.key("detail");
            self.json.text(detail);
        }
        self.json.end_object();
        self.json.end_object();
        Ok(())
    }
}
