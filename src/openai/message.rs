//! The messages of a chat request: who speaks, what is said in which parts, and which tools were called.

use std::borrow::Cow;

use super::chat::{ShapeError, field, items, object_of, objects, required, text_of};
use super::json::{Object, Raw, Text};

/// One message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content<'a>,
    /// A refusal that the model gave before.
    pub refusal: Option<Text<'a>>,
    /// The speaker's name, or for [`Role::Function`] the function's.
    pub name: Option<Text<'a>>,
    /// The calls that an assistant made; the legacy `function_call` is one without an id.
    pub calls: Vec<Call<'a>>,
    /// Which call a tool's message answers.
    pub tool_call_id: Option<Text<'a>>,
    /// Other fields that are there and say something.
    pub others: Vec<Cow<'a, str>>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one who sets the rules.
    System,
    /// The same under its newer name.
    Developer,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that answers a call.
    Tool,
    /// A function that answers a call (legacy).
    Function,
}

/// What is said.
#[derive(Debug)]
pub enum Content<'a> {
    /// Nothing.
    Absent,
    /// One text.
    Text(Text<'a>),
    /// Several parts.
    Parts(Vec<Part<'a>>),
}

/// One part of a message.
#[derive(Debug)]
pub struct Part<'a> {
    /// What it holds.
    pub body: Body<'a>,
    /// The part as it came, for what only some providers know.
    pub raw: Raw<'a>,
    /// Fields of the part that are there and say something beyond that.
    pub others: Vec<Cow<'a, str>>,
}

/// What a part holds.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// `text`.
    Text(Text<'a>),
    /// `refusal`.
    Refusal(Text<'a>),
    /// `image_url`: a URL or a data URL.
    Image {
        /// Where it is.
        url: Text<'a>,
        /// How closely to look.
        detail: Option<Text<'a>>,
    },
    /// `input_audio`.
    Audio {
        /// Its content in base64.
        data: Text<'a>,
        /// `wav`, `mp3` or what else the provider may know.
        format: Text<'a>,
    },
    /// `file`.
    File {
        /// Its content as a data URL.
        data: Option<Text<'a>>,
        /// Its name.
        name: Option<Text<'a>>,
    },
    /// A part of another type.
    Other(Text<'a>),
}

/// One call of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its id; `None` for a legacy `function_call`.
    pub id: Option<Text<'a>>,
    /// What was called.
    pub name: Text<'a>,
    /// With what: JSON text, perhaps empty.
    pub arguments: Text<'a>,
}

/// How many calls one message may make: results are matched with them one by one.
const MOST_CALLS: usize = 1024;

/// Reads one message.
pub(super) fn read(mut fields: Object<'_>) -> Result<Message<'_>, ShapeError> {
    let role = required(&mut fields, "role", read_role)?;
    let content = field(&mut fields, "content", read_content)?.unwrap_or(Content::Absent);
    let mut calls = field(&mut fields, "tool_calls", |raw| objects(raw, read_call))?.unwrap_or_default();
    if calls.len() > MOST_CALLS {
        let why = format!("more than {MOST_CALLS} calls in one message cannot be translated");
        return Err(ShapeError::unsupported(why).at("tool_calls"));
    }
    if let Some(call) = field(&mut fields, "function_call", |raw| read_function(None, raw))? {
        calls.push(call);
    }
    Ok(Message {
        role,
        content,
        calls,
        refusal: field(&mut fields, "refusal", text_of)?,
        name: field(&mut fields, "name", text_of)?,
        tool_call_id: field(&mut fields, "tool_call_id", text_of)?,
        others: fields.into_names(),
    })
}

fn read_role(raw: Raw<'_>) -> Result<Role, ShapeError> {
    match text_of(raw)?.decode().as_deref() {
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("system") => Ok(Role::System),
        Some("developer") => Ok(Role::Developer),
        Some("tool") => Ok(Role::Tool),
        Some("function") => Ok(Role::Function),
        _ => Err(ShapeError::new("expected one of system, developer, user, assistant, tool, function")),
    }
}

fn read_content(raw: Raw<'_>) -> Result<Content<'_>, ShapeError> {
    match raw.get().as_bytes().first() {
        Some(b'"') => text_of(raw).map(Content::Text),
        Some(b'[') => items(raw, read_part).map(Content::Parts),
        _ => Err(ShapeError::new("expected a string or a list of parts")),
    }
}

fn read_part(raw: Raw<'_>) -> Result<Part<'_>, ShapeError> {
    let mut fields = object_of(raw)?;
    let kind = required(&mut fields, "type", text_of)?;
    let body = match kind.decode().as_deref() {
        Some("text") => Body::Text(required(&mut fields, "text", text_of)?),
        Some("refusal") => Body::Refusal(required(&mut fields, "refusal", text_of)?),
        Some("image_url") => required(&mut fields, "image_url", read_image)?,
        Some("file") => required(&mut fields, "file", read_file)?,
        Some("input_audio") => required(&mut fields, "input_audio", read_audio)?,
        _ => return Ok(Part { body: Body::Other(kind), raw, others: Vec::new() }),
    };
    Ok(Part { body, raw, others: fields.into_names() })
}

fn read_image(raw: Raw<'_>) -> Result<Body<'_>, ShapeError> {
    if let Some(url) = Text::read(raw) {
        return Ok(Body::Image { url, detail: None });
    }
    let mut image = object_of(raw)?;
    let url = required(&mut image, "url", text_of)?;
    Ok(Body::Image { url, detail: field(&mut image, "detail", text_of)? })
}

fn read_audio(raw: Raw<'_>) -> Result<Body<'_>, ShapeError> {
    let mut audio = object_of(raw)?;
    let data = required(&mut audio, "data", text_of)?;
    Ok(Body::Audio { data, format: required(&mut audio, "format", text_of)? })
}

fn read_file(raw: Raw<'_>) -> Result<Body<'_>, ShapeError> {
    let mut file = object_of(raw)?;
    let data = field(&mut file, "file_data", text_of)?;
    Ok(Body::File { data, name: field(&mut file, "filename", text_of)? })
}

fn read_call(mut call: Object<'_>) -> Result<Call<'_>, ShapeError> {
    let id = required(&mut call, "id", text_of)?;
    if field(&mut call, "type", text_of)?.is_some_and(|kind| !kind.is("function")) {
        return Err(ShapeError::unsupported("only calls of type function can be translated").at("type"));
    }
    required(&mut call, "function", |raw| read_function(Some(id), raw))
}

fn read_function<'a>(id: Option<Text<'a>>, raw: Raw<'a>) -> Result<Call<'a>, ShapeError> {
    let mut function = object_of(raw)?;
    let name = required(&mut function, "name", text_of)?;
    let arguments = field(&mut function, "arguments", text_of)?.unwrap_or(Text::Plain(""));
    Ok(Call { id, name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Message<'_> {
        read(Object::read(json).unwrap()).unwrap()
    }

    #[test]
    fn the_legacy_function_call_is_a_call_without_an_id() {
        let message =
            message(r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#);
        assert!(matches!(message.content, Content::Absent));
        assert!(message.calls[0].id.is_none() && message.calls[0].name.is("f"));
    }

    #[test]
    fn a_message_of_more_calls_than_anyone_makes_is_refused() {
        let call = r#"{"id":"a","function":{"name":"f"}}"#;
        let read = |count| {
            let calls = vec![call; count].join(",");
            let json = format!(r#"{{"role":"assistant","tool_calls":[{calls}]}}"#);
            read(Object::read(&json).unwrap()).map(|message| message.calls.len()).map_err(|error| error.path)
        };
        assert_eq!(read(MOST_CALLS), Ok(MOST_CALLS));
        assert_eq!(read(MOST_CALLS + 1), Err("tool_calls".to_owned()));
    }

    #[test]
    fn an_image_may_be_an_object_or_a_string() {
        for image in [r#"{"url":"u","detail":"low"}"#, r#""u""#] {
            let json = format!(r#"{{"role":"user","content":[{{"type":"image_url","image_url":{image}}}]}}"#);
            let message = message(&json);
            let Content::Parts(parts) = &message.content else { panic!("no parts") };
            assert!(matches!(parts[0].body, Body::Image { url, .. } if url.is("u")));
        }
    }

    #[test]
    fn fields_that_nobody_reads_are_named() {
        let message = message(
            r#"{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"e"}}],"weight":1,"audio":null}"#,
        );
        assert_eq!(message.others, ["weight"]);
        let Content::Parts(parts) = &message.content else { panic!("no parts") };
        assert_eq!(parts[0].others, ["cache_control"]);
    }
}
