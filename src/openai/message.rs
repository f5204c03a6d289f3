//! The messages of a chat request: who speaks, what is said in which parts, and which tools were called.

use std::borrow::Cow;

use super::chat::{ShapeError, field, items, object_of, objects, put_rest, required, text_of};
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
    /// Fields that are there and say something beyond that, as paths seen from the part (`image_url.format`).
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
        /// Its media type, which some clients give beside the URL; unless that says the same, it is among the part's
        /// others too.
        format: Option<Text<'a>>,
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
        /// Its media type, as with images.
        format: Option<Text<'a>>,
    },
    /// A part of another type.
    Other(Text<'a>),
}

impl Body<'_> {
    /// Whether a media type was given beside it.
    pub fn has_format(&self) -> bool {
        matches!(self, Self::Image { format: Some(_), .. } | Self::File { format: Some(_), .. })
    }
}

/// One call of a tool.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its id; `None` for a legacy `function_call`.
    pub id: Option<Text<'a>>,
    /// What was called.
    pub name: Text<'a>,
    /// With what: JSON text, perhaps empty.
    pub arguments: Text<'a>,
    /// Fields that are there and say something beyond that, by their paths seen from the call (`function.x`).
    pub others: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl Message<'_> {
    /// Puts what only messages of another role can say among the others: nobody looks for it here.
    fn leave_to_their_roles(&mut self) {
        let others = &mut self.others;
        if self.role != Role::Assistant {
            let refused = self.refusal.take().filter(|text| !text.is_empty());
            others.extend(refused.map(|_| Cow::Borrowed("refusal")));
            let calls = std::mem::take(&mut self.calls);
            let has = |legacy: bool| calls.iter().any(|call| call.id.is_none() == legacy);
            others.extend(has(false).then_some(Cow::Borrowed("tool_calls")));
            others.extend(has(true).then_some(Cow::Borrowed("function_call")));
        }
        if !matches!(self.role, Role::Tool | Role::Function) {
            let answered = self.tool_call_id.take().filter(|id| !id.is_empty());
            others.extend(answered.map(|_| Cow::Borrowed("tool_call_id")));
        }
    }

    /// The fields that are there, say something and are not among those above: paths seen from the message.
    pub fn beyond(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let own = self.others.iter().map(|name| Cow::Borrowed(&**name));
        own.chain(self.calls.iter().enumerate().flat_map(|(place, call)| {
            call.others.iter().map(move |(name, _)| Cow::Owned(format!("{}.{name}", call.path(place))))
        }))
    }
}

impl Call<'_> {
    /// Where it stands in its message, as the call number `place`.
    pub fn path(&self, place: usize) -> String {
        match self.id {
            Some(_) => format!("tool_calls[{place}]"),
            None => "function_call".to_owned(),
        }
    }
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
    if let Some(call) = field(&mut fields, "function_call", |raw| read_function(None, object_of(raw)?))? {
        calls.push(call);
    }
    let mut message = Message {
        role,
        content,
        calls,
        refusal: field(&mut fields, "refusal", text_of)?,
        name: field(&mut fields, "name", text_of)?.filter(|name| !name.is_empty()),
        tool_call_id: field(&mut fields, "tool_call_id", text_of)?,
        others: fields.into_names(),
    };
    message.leave_to_their_roles();
    Ok(message)
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
    // What is left in the object inside.
    let mut inside = Vec::new();
    let body = match kind.decode().as_deref() {
        Some("text") => Body::Text(required(&mut fields, "text", text_of)?),
        Some("refusal") => Body::Refusal(required(&mut fields, "refusal", text_of)?),
        Some("image_url") => required(&mut fields, "image_url", |raw| read_image(raw, &mut inside))?,
        Some("file") => required(&mut fields, "file", |raw| read_file(raw, &mut inside))?,
        Some("input_audio") => required(&mut fields, "input_audio", |raw| read_audio(raw, &mut inside))?,
        _ => return Ok(Part { body: Body::Other(kind), raw, others: Vec::new() }),
    };
    let mut others = fields.into_names();
    others.append(&mut inside);
    Ok(Part { body, raw, others })
}

/// The names of fields that are left.
type Names<'a> = Vec<Cow<'a, str>>;

fn read_image<'a>(raw: Raw<'a>, rest: &mut Names<'a>) -> Result<Body<'a>, ShapeError> {
    if let Some(url) = Text::read(raw) {
        return Ok(Body::Image { url, detail: None, format: None });
    }
    let mut image = object_of(raw)?;
    let url = required(&mut image, "url", text_of)?;
    let detail = field(&mut image, "detail", text_of)?;
    let format = read_format(&mut image, url, "image_url.format", rest);
    put_rest("image_url", image, rest);
    Ok(Body::Image { url, detail, format })
}

fn read_audio<'a>(raw: Raw<'a>, rest: &mut Names<'a>) -> Result<Body<'a>, ShapeError> {
    let mut audio = object_of(raw)?;
    let data = required(&mut audio, "data", text_of)?;
    let format = required(&mut audio, "format", text_of)?;
    put_rest("input_audio", audio, rest);
    Ok(Body::Audio { data, format })
}

fn read_file<'a>(raw: Raw<'a>, rest: &mut Names<'a>) -> Result<Body<'a>, ShapeError> {
    let mut file = object_of(raw)?;
    let data = field(&mut file, "file_data", text_of)?;
    let name = field(&mut file, "filename", text_of)?;
    let format = data.and_then(|data| read_format(&mut file, data, "file.format", rest));
    // Without content it is the file itself.
    if data.is_none() {
        file.take("file_id");
    }
    put_rest("file", file, rest);
    Ok(Body::File { data, name, format })
}

/// A media type beside a URL, if it is one; unless the URL says the same, `path` goes to `rest`.
fn read_format<'a>(
    fields: &mut Object<'a>,
    url: Text<'a>,
    path: &'static str,
    rest: &mut Names<'a>,
) -> Option<Text<'a>> {
    let raw = fields.take("format")?;
    let format = Text::read(raw).filter(|text| text.decode().is_some_and(|kind| kind.contains('/')));
    let says_it = |kind: &str| {
        let url = url.decode().unwrap_or_default();
        url.strip_prefix("data:")
            .and_then(|rest| rest.strip_prefix(kind))
            .is_some_and(|r| r.starts_with([';', ',']))
    };
    if !format.and_then(Text::decode).is_some_and(|kind| says_it(&kind)) {
        rest.push(Cow::Borrowed(path));
    }
    format
}

fn read_call(mut call: Object<'_>) -> Result<Call<'_>, ShapeError> {
    let id = required(&mut call, "id", text_of)?;
    if field(&mut call, "type", text_of)?.is_some_and(|kind| !kind.is("function")) {
        return Err(ShapeError::unsupported("only calls of type function can be translated").at("type"));
    }
    let mut read = required(&mut call, "function", |raw| read_function(Some(id), object_of(raw)?))?;
    for (name, _) in &mut read.others {
        *name = Cow::Owned(format!("function.{name}"));
    }
    // Clients that put a stream together leave the number of the call in it, which its place says too.
    let is_number = |raw: Raw<'_>| raw.get().bytes().all(|b| b.is_ascii_digit());
    read.others.extend(call.into_rest().filter(|(name, raw)| name != "index" || !is_number(*raw)));
    Ok(read)
}

fn read_function<'a>(id: Option<Text<'a>>, mut function: Object<'a>) -> Result<Call<'a>, ShapeError> {
    let name = required(&mut function, "name", text_of)?;
    let arguments = field(&mut function, "arguments", text_of)?.unwrap_or(Text::Plain(""));
    let mut others = Vec::new();
    others.extend(function.into_rest());
    Ok(Call { id, name, arguments, others })
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

    #[test]
    fn what_only_another_role_can_say_is_named_and_not_read() {
        let all = r#""refusal":"no","tool_call_id":"a","tool_calls":[{"id":"a","function":{"name":"f"}}],"function_call":{"name":"g"}"#;
        for (role, left) in [
            ("user", &["refusal", "tool_calls", "function_call", "tool_call_id"][..]),
            ("system", &["refusal", "tool_calls", "function_call", "tool_call_id"]),
            ("tool", &["refusal", "tool_calls", "function_call"]),
            ("assistant", &["tool_call_id"]),
        ] {
            let json = format!(r#"{{"role":"{role}","content":"x",{all}}}"#);
            let message = message(&json);
            assert_eq!(message.others, left, "{role}");
            assert_eq!(message.calls.len(), if role == "assistant" { 2 } else { 0 });
        }
        let nothing = r#"{"role":"user","content":"x","refusal":"","tool_call_id":"","tool_calls":[]}"#;
        assert!(message(nothing).others.is_empty());
    }

    #[test]
    fn fields_inside_of_others_are_named_by_their_paths() {
        let message = message(
            r#"{"role":"assistant","w":1,"tool_calls":[
                {"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"","x":1,"n":null}},
                {"index":"1","id":"b","function":{"name":"f"},"extra_content":{"google":{}},"e":{}}],
                "function_call":{"name":"g","arguments":"{}","y":2}}"#,
        );
        let found: Vec<_> = message.beyond().collect();
        assert_eq!(
            found,
            [
                "w",
                "tool_calls[0].function.x",
                "tool_calls[1].index",
                "tool_calls[1].extra_content",
                "function_call.y"
            ]
        );
    }

    fn part(json: &str) -> (Option<String>, Vec<String>) {
        let json = format!(r#"{{"role":"user","content":[{json}]}}"#);
        let message = message(&json);
        let Content::Parts(parts) = &message.content else { panic!("no parts") };
        let format = match parts[0].body {
            Body::Image { format, .. } | Body::File { format, .. } => format,
            _ => None,
        };
        let others = parts[0].others.iter().map(|name| name.clone().into_owned()).collect();
        (format.map(|text| text.decode().unwrap().into_owned()), others)
    }

    #[test]
    fn what_a_part_holds_is_looked_through_too() {
        for (json, format, others) in [
            (
                r#"{"type":"image_url","image_url":{"url":"https://x/y","format":"image/webp","x":1},"y":2}"#,
                Some("image/webp"),
                &["y", "image_url.format", "image_url.x"][..],
            ),
            (
                r#"{"type":"image_url","image_url":{"url":"data:image\/png;base64,QUI=","format":"image/png"}}"#,
                Some("image/png"),
                &[],
            ),
            (
                r#"{"type":"image_url","image_url":{"url":"data:image/pngx;base64,QUI=","format":"image/png"}}"#,
                Some("image/png"),
                &["image_url.format"],
            ),
            (r#"{"type":"image_url","image_url":{"url":"u","format":"png"}}"#, None, &["image_url.format"]),
            (r#"{"type":"image_url","image_url":{"url":"u","format":null}}"#, None, &[]),
            (
                r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,QUI=","file_id":"f"}}"#,
                None,
                &["file.file_id"],
            ),
            (r#"{"type":"file","file":{"file_id":"f","x":1}}"#, None, &["file.x"]),
            (
                r#"{"type":"input_audio","input_audio":{"data":"QUI=","format":"wav","x":[1]}}"#,
                None,
                &["input_audio.x"],
            ),
        ] {
            let (found, left) = part(json);
            assert_eq!(
                (found.as_deref(), left),
                (format, others.iter().map(|o| (*o).to_owned()).collect()),
                "{json}"
            );
        }
    }
}
