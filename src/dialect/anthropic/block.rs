//! Anthropic's content blocks: text, images, documents, tool calls and their results.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::marks;
use crate::dialect::media::{self, Source};
use crate::dialect::turns::{self, Answered, Vendor};
use crate::openai::json::{Text, Writer};
use crate::openai::message::Body;

/// One content block.
pub(super) type Block<'a> = turns::Block<'a, Media<'a>>;

/// A conversation for Anthropic.
pub(super) type Conversation<'a> = turns::Conversation<'a, Media<'a>>;

/// Anthropic's wishes for a conversation.
#[derive(Debug)]
pub(super) struct Messages;

/// An image or a document.
#[derive(Debug)]
pub(super) enum Media<'a> {
    /// An image or a PDF in base64.
    Base64 { kind: &'static str, media_type: &'static str, data: Cow<'a, str>, title: Option<Text<'a>> },
    /// An image that Anthropic fetches.
    Url(Cow<'a, str>),
    /// A document of plain text.
    Document { text: String, title: Option<Text<'a>> },
}

impl<'a> Vendor<'a> for Messages {
    const NAME: &'static str = "Anthropic";
    const LONGEST_ID: usize = usize::MAX;
    type Media = Media<'a>;

    fn takes_in_id(character: char) -> bool {
        character.is_ascii_alphanumeric() || character == '_' || character == '-'
    }

    fn media(
        body: Body<'a>,
        path: impl Fn() -> String,
        losses: &mut Losses,
    ) -> Result<Media<'a>, Untranslatable> {
        media(body, path, losses)
    }
}

/// The block for a part that is not text.
fn media<'a>(
    body: Body<'a>,
    path: impl Fn() -> String,
    losses: &mut Losses,
) -> Result<Media<'a>, Untranslatable> {
    match body {
        Body::Image { url, detail, .. } => {
            if detail.is_some_and(|detail| !detail.is("auto")) {
                losses
                    .dropped(format!("{}.image_url.detail", path()), "Anthropic has no setting for detail")?;
            }
            image(url, || format!("{}.image_url.url", path()))
        }
        Body::File { data: Some(data), name, .. } => {
            file(data, name, || format!("{}.file.file_data", path()))
        }
        Body::File { data: None, .. } => {
            let why = "a file must be sent in `file_data`: files stored at OpenAI cannot be reached";
            Err(Untranslatable::unsupported(format!("{}.file", path()), why))
        }
        Body::Audio { .. } => Err(Untranslatable::unsupported(
            format!("{}.input_audio", path()),
            "Anthropic's models take no audio",
        )),
        Body::Text(_) | Body::Refusal(_) => Err(Untranslatable::malformed(path(), "this is text")),
        Body::Other(kind) => {
            let kind = kind.decode().unwrap_or_default();
            let why = format!("Anthropic's format has no part of type `{kind}`");
            Err(Untranslatable::unsupported(format!("{}.type", path()), why))
        }
    }
}

fn image<'a>(url: Text<'a>, path: impl Fn() -> String) -> Result<Media<'a>, Untranslatable> {
    let source = url.decode().ok_or("this is not valid text").and_then(media::read);
    match source.map_err(|why| Untranslatable::malformed(path(), why))? {
        Source::Web(url) => Ok(Media::Url(url)),
        Source::Data { kind, base64 } => {
            let media_type = match &*kind {
                "image/jpeg" | "image/jpg" => "image/jpeg",
                "image/png" => "image/png",
                "image/gif" => "image/gif",
                "image/webp" => "image/webp",
                _ => {
                    let why = format!("Anthropic takes images as jpeg, png, gif or webp, not `{kind}`");
                    return Err(Untranslatable::unsupported(path(), why));
                }
            };
            Ok(Media::Base64 { kind: "image", media_type, data: base64, title: None })
        }
    }
}

fn file<'a>(
    data: Text<'a>,
    title: Option<Text<'a>>,
    path: impl Fn() -> String,
) -> Result<Media<'a>, Untranslatable> {
    const PDF: &str = "application/pdf";
    let malformed = |why| Untranslatable::malformed(path(), why);
    let text = data.decode().ok_or_else(|| malformed("this is not valid text"))?;
    let document = |data| Media::Base64 { kind: "document", media_type: PDF, data, title };
    // Some clients send the bare base64; every PDF begins with `%PDF-`.
    if text.starts_with("JVBERi") {
        return media::base64(text).map(document).map_err(malformed);
    }
    match media::read(text).map_err(malformed)? {
        Source::Data { kind, base64 } if kind == PDF => Ok(document(base64)),
        Source::Data { kind, base64 } if kind == "text/plain" => {
            let bytes = TEXT.decode(&*base64).map_err(|_| malformed("this is not valid base64"))?;
            let text = String::from_utf8(bytes).map_err(|_| malformed("this text file is not UTF-8"))?;
            Ok(Media::Document { text, title })
        }
        Source::Data { kind, .. } => {
            let why = format!("Anthropic takes files as PDF or plain text, not `{kind}`");
            Err(Untranslatable::unsupported(path(), why))
        }
        Source::Web(_) => Err(malformed("`file_data` must be a data URL")),
    }
}

/// Bits behind the last byte say nothing: to most decoders they are no mistake.
const TEXT: GeneralPurpose = GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// Writes a list of blocks, a mark as a member of the block before it.
pub(super) fn write_all<'b, 'a: 'b>(blocks: impl Iterator<Item = &'b Block<'a>>, json: &mut Writer<'_>) {
    json.list();
    let mut blocks = blocks.peekable();
    while let Some(block) = blocks.next() {
        json.object();
        write(block, json);
        while let Some(Block::Mark(mark)) = blocks.peek() {
            json.key(marks::FIELD);
            json.raw(mark.raw.get());
            blocks.next();
        }
        json.end_object();
    }
    json.end_list();
}

fn write(block: &Block<'_>, json: &mut Writer<'_>) {
    match block {
        Block::Text(text) => write_text(*text, json),
        Block::Trimmed(text) => write_text(Text::Plain(text), json),
        Block::Media(media) => write_media(media, json),
        // Never the first of a list.
        Block::Mark(_) => {}
        Block::Call { id, name, input } => {
            json.tag("type", "tool_use");
            json.member("id", id);
            json.member("name", name);
            json.key("input");
            json.raw(input);
        }
        Block::Answer { id, content } => {
            json.tag("type", "tool_result");
            json.member("tool_use_id", id);
            write_result(content, json);
        }
    }
}

fn write_media(media: &Media<'_>, json: &mut Writer<'_>) {
    match media {
        Media::Base64 { kind, media_type, data, title } => {
            json.tag("type", kind);
            json.key("source");
            json.object();
            json.tag("type", "base64");
            json.tag("media_type", media_type);
            json.key("data");
            json.plain(data);
            json.end_object();
            write_title(*title, json);
        }
        Media::Url(url) => {
            json.tag("type", "image");
            json.key("source");
            json.object();
            json.tag("type", "url");
            json.member("url", url);
            json.end_object();
        }
        Media::Document { text, title } => {
            json.tag("type", "document");
            json.key("source");
            json.object();
            json.tag("type", "text");
            json.tag("media_type", "text/plain");
            json.member("data", text);
            json.end_object();
            write_title(*title, json);
        }
    }
}

fn write_text(text: Text<'_>, json: &mut Writer<'_>) {
    json.tag("type", "text");
    json.key("text");
    json.text(text);
}

fn write_title(title: Option<Text<'_>>, json: &mut Writer<'_>) {
    if let Some(title) = title.filter(|title| !title.is_blank()) {
        json.key("title");
        json.text(title);
    }
}

fn write_result(content: &Answered<'_, Media<'_>>, json: &mut Writer<'_>) {
    match content {
        Answered::Text(text) if !text.is_blank() => {
            json.key("content");
            json.text(*text);
        }
        Answered::Parts(blocks) if !blocks.is_empty() => {
            json.key("content");
            write_all(blocks.iter(), json);
        }
        Answered::Text(_) | Answered::Parts(_) => {}
    }
}
