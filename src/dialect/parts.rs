//! The parts of messages, for formats that take texts and images and nothing else.

use std::borrow::Cow;

use super::Untranslatable;
use super::loss::Losses;
use super::media::{self, Source};
use crate::openai::json::Text;
use crate::openai::message::{Body, Content, Message, Part, Role};

/// What one part says.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// Its place among the message's parts; `None` where the content is one text.
    place: Option<usize>,
    /// What it is.
    pub(super) body: What<'a>,
}

/// What a part is.
#[derive(Debug)]
pub(super) enum What<'a> {
    /// Text, at least one character.
    Text(Text<'a>),
    /// An image.
    Image {
        /// Its content or its address.
        source: Source<'a>,
        /// How closely to look, if the client says.
        detail: Option<Text<'a>>,
    },
}

impl Piece<'_> {
    /// Where it stands: `messages[2].content[0]`.
    pub(super) fn path(&self, message: usize) -> String {
        path(message, self.place)
    }

    /// A refusal of this piece because of what it is.
    pub(super) fn refuse(&self, message: usize, why: impl Into<String>) -> Untranslatable {
        let field = match self.body {
            What::Text(_) => "text",
            What::Image { .. } => "image_url",
        };
        Untranslatable::unsupported(format!("{}.{field}", self.path(message)), why)
    }
}

/// Reads messages for the vendor `whose`, and notes what its format has no place for.
#[derive(Debug)]
pub(super) struct Reader<'l> {
    /// The vendor's name, for the notes.
    pub(super) whose: &'static str,
    /// Where they go.
    pub(super) losses: &'l mut Losses,
}

impl Reader<'_> {
    /// Notes the fields of a message that neither these formats nor their folders look at.
    pub(super) fn note_others(&mut self, index: usize, message: &Message<'_>) -> Result<(), Untranslatable> {
        let whose = self.whose;
        if message.name.is_some() && !matches!(message.role, Role::Tool | Role::Function) {
            self.losses
                .dropped(format!("messages[{index}].name"), format!("{whose}'s messages carry no names"))?;
        }
        for name in message.beyond() {
            let field = format!("messages[{index}].{name}");
            if name == "audio" {
                let why = format!("{whose}'s format cannot take up spoken answers");
                return Err(Untranslatable::unsupported(field, why));
            }
            self.losses.dropped(field, format!("{whose}'s messages have no such field"))?;
        }
        Ok(())
    }

    /// Notes the name that a tool's message gives, unless it is that of the function `called`, which loses nothing.
    pub(super) fn note_name(
        &mut self,
        index: usize,
        message: &Message<'_>,
        called: Option<Text<'_>>,
    ) -> Result<(), Untranslatable> {
        let Some(name) = message.name.filter(|_| message.role == Role::Tool) else { return Ok(()) };
        if called.and_then(Text::decode).is_some_and(|called| name.is(&called)) {
            return Ok(());
        }
        let why =
            format!("{}'s messages carry no names, and the call that it answers has another", self.whose);
        self.losses.dropped(format!("messages[{index}].name"), why)
    }

    /// What a content says, in order; texts without a character say nothing.
    pub(super) fn pieces<'a>(
        &mut self,
        index: usize,
        content: &Content<'a>,
    ) -> Result<Vec<Piece<'a>>, Untranslatable> {
        match content {
            Content::Absent => Ok(Vec::new()),
            Content::Text(text) => {
                whole(*text, || path(index, None))?;
                let piece = Piece { place: None, body: What::Text(*text) };
                Ok(if text.is_empty() { Vec::new() } else { vec![piece] })
            }
            Content::Parts(parts) => {
                let mut pieces = Vec::with_capacity(parts.len());
                for (place, part) in parts.iter().enumerate() {
                    let body = self.piece(part, &|| path(index, Some(place)))?;
                    pieces.extend(body.map(|body| Piece { place: Some(place), body }));
                }
                Ok(pieces)
            }
        }
    }

    /// The texts of a content that may hold nothing else.
    pub(super) fn texts<'a>(
        &mut self,
        index: usize,
        content: &Content<'a>,
    ) -> Result<Vec<Text<'a>>, Untranslatable> {
        let text = |piece: Piece<'a>| match piece.body {
            What::Text(text) => Ok(text),
            What::Image { .. } => Err(piece.refuse(index, "a message of this role can hold text only")),
        };
        self.pieces(index, content)?.into_iter().map(text).collect()
    }

    fn piece<'a>(
        &mut self,
        part: &Part<'a>,
        path: &dyn Fn() -> String,
    ) -> Result<Option<What<'a>>, Untranslatable> {
        let whose = self.whose;
        for name in &part.others {
            let why = format!("{whose}'s format has no such field here");
            self.losses.dropped(format!("{}.{name}", path()), why)?;
        }
        match part.body {
            Body::Text(text) | Body::Refusal(text) => {
                whole(text, path)?;
                Ok((!text.is_empty()).then_some(What::Text(text)))
            }
            Body::Image { url, detail, .. } => {
                let source = url.decode().ok_or("this is not valid text").and_then(media::read);
                let wrong = |why| Untranslatable::malformed(format!("{}.image_url.url", path()), why);
                Ok(Some(What::Image { source: source.map_err(wrong)?, detail }))
            }
            Body::Audio { .. } => {
                let why = format!("{whose}'s format has no place for audio");
                Err(Untranslatable::unsupported(format!("{}.input_audio", path()), why))
            }
            Body::File { .. } => {
                let why = format!("{whose}'s format has no place for files: send their text");
                Err(Untranslatable::unsupported(format!("{}.file", path()), why))
            }
            Body::Other(kind) => {
                let kind = kind.decode().unwrap_or_default();
                let why = format!("{whose}'s format has no part of type `{kind}`");
                Err(Untranslatable::unsupported(format!("{}.type", path()), why))
            }
        }
    }
}

/// The refusal that a message tells of, which is text to models that know no other.
pub(super) fn refusal<'a>(index: usize, message: &Message<'a>) -> Result<Option<Text<'a>>, Untranslatable> {
    let refusal = message.refusal.filter(|text| !text.is_empty());
    refusal.map(|text| whole(text, || format!("messages[{index}].refusal")).map(|()| text)).transpose()
}

/// Refuses a text that no provider could read.
pub(super) fn whole(text: Text<'_>, path: impl Fn() -> String) -> Result<(), Untranslatable> {
    if text.is_torn() {
        return Err(Untranslatable::malformed(path(), "an escape in this text spells half a character"));
    }
    Ok(())
}

/// Several texts as one, each on its own line; a single one stays as it came.
pub(super) fn join<'a>(texts: &[Text<'a>]) -> Joined<'a> {
    match texts {
        [] => Joined::One(Text::Plain("")),
        [one] => Joined::One(*one),
        many => {
            let texts: Vec<Cow<'_, str>> = many.iter().filter_map(|text| text.decode()).collect();
            Joined::Many(texts.join("\n"))
        }
    }
}

/// What [`join`] made.
#[derive(Debug)]
pub(super) enum Joined<'a> {
    /// One text as it came.
    One(Text<'a>),
    /// Several, put together.
    Many(String),
}

impl Joined<'_> {
    /// To be written.
    pub(super) fn text(&self) -> Text<'_> {
        match self {
            Self::One(text) => *text,
            Self::Many(text) => Text::Plain(text),
        }
    }
}

fn path(message: usize, place: Option<usize>) -> String {
    match place {
        None => format!("messages[{message}].content"),
        Some(place) => format!("messages[{message}].content[{place}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::ChatRequest;

    fn read(content: &str) -> Result<String, (String, bool)> {
        let body = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let request = ChatRequest::read(body.as_bytes()).unwrap();
        let mut losses = Losses::new(false);
        let mut reader = Reader { whose: "Acme", losses: &mut losses };
        match reader.texts(0, &request.messages[0].content) {
            Ok(texts) => Ok(join(&texts).text().decode().unwrap().into_owned()),
            Err(refused) => Err((refused.param, refused.malformed)),
        }
    }

    #[test]
    fn texts_are_put_together_line_by_line_and_empty_ones_say_nothing() {
        assert_eq!(read(r#""a\tb""#).unwrap(), "a\tb");
        let parts = r#"[{"type":"text","text":"a"},{"type":"text","text":""},{"type":"text","text":"b"}]"#;
        assert_eq!(read(parts).unwrap(), "a\nb");
        assert_eq!(read("null").unwrap(), "");
    }

    #[test]
    fn what_has_no_place_is_refused_by_its_path() {
        for (content, path, malformed) in [
            (r#""\ud800""#, "messages[0].content", true),
            (r#"[{"type":"text","text":"\ud800"}]"#, "messages[0].content[0]", true),
            (
                r#"[{"type":"text","text":"a"},{"type":"input_audio","input_audio":{"data":"QUI=","format":"wav"}}]"#,
                "messages[0].content[1].input_audio",
                false,
            ),
            (r#"[{"type":"file","file":{"file_id":"x"}}]"#, "messages[0].content[0].file", false),
            (r#"[{"type":"video_url","video_url":{}}]"#, "messages[0].content[0].type", false),
            (
                r#"[{"type":"image_url","image_url":"https://x/y"}]"#,
                "messages[0].content[0].image_url",
                false,
            ),
            (
                r#"[{"type":"image_url","image_url":"data:image/png;base64,@"}]"#,
                "messages[0].content[0].image_url.url",
                true,
            ),
        ] {
            assert_eq!(read(content), Err((path.to_owned(), malformed)), "{content}");
        }
    }
}
