//! Gemini's parts: text, media by content or by address, calls of functions and their responses.
//!
//! Reference: <https://ai.google.dev/api/caching#Part> and
//! <https://ai.google.dev/gemini-api/docs/file-input-methods>.

use std::borrow::Cow;

use super::Flavour;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::media::{self, Source};
use crate::dialect::parts;
use crate::openai::json::{Text, Writer};
use crate::openai::message::Body;

/// One part of a turn.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// Text as the client wrote it, not empty.
    Text(Text<'a>),
    /// Content in base64.
    Inline { kind: Cow<'a, str>, data: Cow<'a, str> },
    /// Content that Google fetches.
    Address { kind: Option<Cow<'a, str>>, uri: Cow<'a, str> },
    /// A call of a function; its arguments are one JSON object.
    Call(Call<'a>),
    /// What a function answered.
    Response(Response<'a>),
}

/// A call of a function.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// Where the model takes ids.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Text<'a>,
    pub(super) arguments: Cow<'a, str>,
    /// What the thoughts before it were signed with.
    pub(super) signature: Option<Cow<'a, str>>,
}

/// What a function answered.
#[derive(Debug)]
pub(super) struct Response<'a> {
    /// Where the model takes ids.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Text<'a>,
    pub(super) texts: Vec<Text<'a>>,
    pub(super) media: Vec<Part<'a>>,
}

/// The part for what is not text.
pub(super) fn media<'a>(
    body: Body<'a>,
    path: impl Fn() -> String,
    flavour: Flavour,
    losses: &mut Losses,
) -> Result<Part<'a>, Untranslatable> {
    match body {
        Body::Image { url, detail, format } => {
            if detail.is_some_and(|detail| !detail.is("auto")) {
                let why = "Gemini sets the resolution of all media at once";
                losses.dropped(format!("{}.image_url.detail", path()), why)?;
            }
            content((url, format), || format!("{}.image_url.url", path()), flavour)
        }
        Body::File { data: Some(data), name, format } => {
            if name.is_some_and(|name| !name.is_blank()) {
                let why = "Gemini's media carry no file names";
                losses.dropped(format!("{}.file.filename", path()), why)?;
            }
            content((data, format), || format!("{}.file.file_data", path()), flavour)
        }
        Body::File { data: None, .. } => {
            let why = "a file must be sent in `file_data`: files stored at OpenAI cannot be reached";
            Err(Untranslatable::unsupported(format!("{}.file", path()), why))
        }
        Body::Audio { data, format } => audio(data, format, || format!("{}.input_audio", path())),
        Body::Text(text) | Body::Refusal(text) => Ok(Part::Text(text)),
        Body::Other(kind) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Gemini's format has no part of type `{kind}`");
            Err(Untranslatable::unsupported(format!("{}.type", path()), why))
        }
    }
}

/// The fields of parts that say the media type of what they hold, which some clients give.
pub(super) const FORMATS: [&str; 2] = ["image_url.format", "file.format"];

/// Content as a data URL, or the address of one that Google fetches; with its media type, where the client says it
/// beside. Which kinds a model takes is for it to say.
fn content<'a>(
    (url, format): (Text<'a>, Option<Text<'a>>),
    path: impl Fn() -> String,
    flavour: Flavour,
) -> Result<Part<'a>, Untranslatable> {
    let malformed = |why: &str| Untranslatable::malformed(path(), why);
    let url = url.decode().ok_or_else(|| malformed("this is not valid text"))?;
    let begins =
        |prefix: &str| url.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let said = format.and_then(Text::decode);
    if begins("gs://") || begins("https://") {
        return address(url, said, path, flavour);
    }
    if begins("http://") {
        let why =
            "Google fetches from https:// and gs:// only: send an https URL, or the content as a data URL";
        return Err(Untranslatable::unsupported(path(), why));
    }
    // Some clients send the bare base64; every PDF begins with `%PDF-`.
    if url.starts_with("JVBERi") {
        let data = media::base64(url).map_err(malformed)?;
        return Ok(Part::Inline { kind: said.unwrap_or(Cow::Borrowed("application/pdf")), data });
    }
    match media::read(url).map_err(malformed)? {
        Source::Data { base64: data, .. } if said.is_some() => {
            Ok(Part::Inline { kind: said.unwrap_or_default(), data })
        }
        Source::Data { kind, .. } if !kind.contains('/') => {
            Err(malformed("a data URL must say the media type of its content, `data:image/png;base64,…`"))
        }
        Source::Data { kind, base64: data } => {
            let kind = if kind == "image/jpg" { Cow::Borrowed("image/jpeg") } else { kind };
            Ok(Part::Inline { kind, data })
        }
        Source::Web(url) => address(url, said, path, flavour),
    }
}

fn address<'a>(
    uri: Cow<'a, str>,
    said: Option<Cow<'a, str>>,
    path: impl Fn() -> String,
    flavour: Flavour,
) -> Result<Part<'a>, Untranslatable> {
    let kind = said.or_else(|| kind_by_name(&uri).map(Cow::Borrowed));
    if kind.is_none() && flavour == Flavour::Vertex {
        let why = "Vertex AI must be told the media type, and this URL does not end in one that is known (.png, .pdf …): \
                   send the content as a data URL";
        return Err(Untranslatable::unsupported(path(), why));
    }
    Ok(Part::Address { kind, uri })
}

/// The media type that the end of a URL's path tells.
fn kind_by_name(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    KINDS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
}

const KINDS: [(&str, &str); 24] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("gif", "image/gif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("md", "text/markdown"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("aac", "audio/aac"),
    ("aiff", "audio/aiff"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mov", "video/mov"),
    ("webm", "video/webm"),
    ("avi", "video/avi"),
    ("wmv", "video/wmv"),
];

fn audio<'a>(
    data: Text<'a>,
    format: Text<'a>,
    path: impl Fn() -> String,
) -> Result<Part<'a>, Untranslatable> {
    let malformed = |field: &str, why: &str| Untranslatable::malformed(format!("{}.{field}", path()), why);
    let format = format.decode().unwrap_or_default();
    if format.is_empty() || !format.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(malformed("format", "this is no format of audio, such as wav or mp3"));
    }
    let data = data.decode().ok_or("this is not valid text").and_then(media::base64);
    let data = data.map_err(|why| malformed("data", why))?;
    Ok(Part::Inline { kind: format!("audio/{}", format.to_ascii_lowercase()).into(), data })
}

/// Writes a list of parts.
pub(super) fn write_all<'p, 'a: 'p>(parts: impl Iterator<Item = &'p Part<'a>>, json: &mut Writer<'_>) {
    json.list();
    for part in parts {
        write(part, json);
    }
    json.end_list();
}

fn write(part: &Part<'_>, json: &mut Writer<'_>) {
    json.object();
    match part {
        Part::Text(text) => {
            json.key("text");
            json.text(*text);
        }
        Part::Inline { kind, data } => {
            json.key("inlineData");
            json.object();
            json.member("mimeType", kind);
            json.key("data");
            json.plain(data);
            json.end_object();
        }
        Part::Address { kind, uri } => {
            json.key("fileData");
            json.object();
            if let Some(kind) = kind {
                json.member("mimeType", kind);
            }
            json.member("fileUri", uri);
            json.end_object();
        }
        Part::Call(call) => write_call(call, json),
        Part::Response(response) => write_response(response, json),
    }
    json.end_object();
}

fn write_call(call: &Call<'_>, json: &mut Writer<'_>) {
    json.key("functionCall");
    json.object();
    if let Some(id) = &call.id {
        json.member("id", id);
    }
    json.key("name");
    json.text(call.name);
    json.key("args");
    json.raw(&call.arguments);
    json.end_object();
    if let Some(signature) = &call.signature {
        json.member("thoughtSignature", signature);
    }
}

/// What the function said stands under `output`, word for word: that is the member that Gemini takes for it.
fn write_response(response: &Response<'_>, json: &mut Writer<'_>) {
    json.key("functionResponse");
    json.object();
    if let Some(id) = &response.id {
        json.member("id", id);
    }
    json.key("name");
    json.text(response.name);
    json.key("response");
    json.object();
    json.key("output");
    json.text(parts::join(&response.texts).text());
    json.end_object();
    if !response.media.is_empty() {
        json.key("parts");
        write_all(response.media.iter(), json);
    }
    json.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(url: &str, flavour: Flavour) -> Result<String, (String, bool)> {
        let json = serde_json::to_string(url).unwrap();
        let raw: &serde_json::value::RawValue = serde_json::from_str(&json).unwrap();
        match content((Text::Raw(raw.into()), None), || "p".to_owned(), flavour) {
            Ok(part) => Ok(format!("{part:?}")),
            Err(refused) => Err((refused.message, refused.malformed)),
        }
    }

    #[test]
    fn the_media_type_of_an_address_is_read_from_its_path() {
        for (uri, wanted) in [
            ("https://h.example/a.PNG?sig=x.y", Some("image/png")),
            ("gs://bucket/dir.v1/doc.pdf", Some("application/pdf")),
            ("https://h.example/a.b/c", None),
            ("https://h.example", None),
            ("", None),
        ] {
            assert_eq!(kind_by_name(uri), wanted, "{uri}");
        }
    }

    #[test]
    fn what_google_fetches_is_an_address_and_the_rest_must_come_along() {
        let unknown = "https://h.example/image";
        assert!(part(unknown, Flavour::Studio).unwrap().contains("kind: None"));
        assert!(!part(unknown, Flavour::Vertex).unwrap_err().1);
        assert!(part("gs://b/x.png", Flavour::Vertex).unwrap().contains("image/png"));
        assert!(!part("http://h.example/a.png", Flavour::Studio).unwrap_err().1);
        assert!(part("data:image/jpg;x=y;base64,QUJD", Flavour::Studio).unwrap().contains("image/jpeg"));
        for wrong in ["data:;base64,QUJD", "data:image/png;base64,@@", "ftp://x", "", "é"] {
            assert!(part(wrong, Flavour::Studio).unwrap_err().1, "{wrong}");
        }
    }
}
