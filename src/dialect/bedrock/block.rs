//! Converse's content blocks: text, images, documents, tool calls and their results.

use std::borrow::Cow;

use super::cache;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::media::{self, Source};
use crate::dialect::turns::{self, Answered, Vendor};
use crate::openai::json::{Text, Writer};
use crate::openai::message::Body;

/// A conversation for Converse.
pub(super) type Conversation<'a> = turns::Conversation<'a, Media<'a>>;

/// One content block.
pub(super) type Block<'a> = turns::Block<'a, Media<'a>>;

/// Converse's wishes for a conversation.
#[derive(Debug)]
pub(super) struct Converse;

/// An image or a document.
#[derive(Debug)]
pub(super) struct Media<'a> {
    /// Its kind: the name of its block.
    kind: &'static str,
    /// Its format, as Converse calls it.
    format: &'static str,
    /// A document's name.
    name: Option<Cow<'a, str>>,
    /// Where it is.
    place: Place<'a>,
}

#[derive(Debug)]
enum Place<'a> {
    Base64(Cow<'a, str>),
    S3(Cow<'a, str>),
}

impl Media<'_> {
    /// Whether it is a document, which Converse takes only beside some text.
    pub(super) fn is_document(&self) -> bool {
        self.name.is_some()
    }
}

impl<'a> Vendor<'a> for Converse {
    const NAME: &'static str = "Bedrock";
    const LONGEST_ID: usize = 64;
    type Media = Media<'a>;

    fn takes_in_id(character: char) -> bool {
        character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | ':' | '-')
    }

    fn media(
        body: Body<'a>,
        path: impl Fn() -> String,
        losses: &mut Losses,
    ) -> Result<Media<'a>, Untranslatable> {
        match body {
            Body::Image { url, detail, .. } => {
                if detail.is_some_and(|detail| !detail.is("auto")) {
                    losses.dropped(
                        format!("{}.image_url.detail", path()),
                        "Bedrock has no setting for detail",
                    )?;
                }
                image(url, || format!("{}.image_url.url", path()))
            }
            Body::File { data: Some(data), name, .. } => {
                file(data, name, || format!("{}.file", path()), losses)
            }
            Body::File { data: None, .. } => {
                let why = "a file must be sent in `file_data`: files stored at OpenAI cannot be reached";
                Err(Untranslatable::unsupported(format!("{}.file", path()), why))
            }
            Body::Audio { .. } => Err(Untranslatable::unsupported(
                format!("{}.input_audio", path()),
                "audio is not translated for Bedrock, most of whose models take none: send what was said",
            )),
            Body::Text(_) | Body::Refusal(_) => Err(Untranslatable::malformed(path(), "this is text")),
            Body::Other(kind) => {
                let kind = kind.decode().unwrap_or_default();
                let why = format!("Bedrock's format has no part of type `{kind}`");
                Err(Untranslatable::unsupported(format!("{}.type", path()), why))
            }
        }
    }
}

fn image<'a>(url: Text<'a>, path: impl Fn() -> String) -> Result<Media<'a>, Untranslatable> {
    let url = url.decode().ok_or_else(|| Untranslatable::malformed(path(), "this is not valid text"))?;
    let image = |format, place| Media { kind: "image", format, name: None, place };
    if url.starts_with(S3) {
        let format = IMAGES.iter().find(|(_, end, _)| ends(&url, end)).map(|(.., format)| *format);
        let why = "the name in S3 must end in .png, .jpg, .jpeg, .gif or .webp";
        let format = format.ok_or_else(|| Untranslatable::unsupported(path(), why))?;
        return Ok(image(format, Place::S3(url)));
    }
    match media::read(url).map_err(|why| Untranslatable::malformed(path(), why))? {
        Source::Web(_) => Err(Untranslatable::unsupported(
            path(),
            "Bedrock fetches no images from the web: send it as a data URL, or name its place in S3 (s3://…)",
        )),
        Source::Data { kind, base64 } => {
            let format = IMAGES.iter().find(|(mime, ..)| *mime == kind).map(|(.., format)| *format);
            let why = || format!("Bedrock takes images as png, jpeg, gif or webp, not `{kind}`");
            let format = format.ok_or_else(|| Untranslatable::unsupported(path(), why()))?;
            Ok(image(format, Place::Base64(base64)))
        }
    }
}

const S3: &str = "s3://";

/// Media type, the end of a name, and Converse's word.
type Kind = (&'static str, &'static str, &'static str);

const IMAGES: [Kind; 5] = [
    ("image/png", ".png", "png"),
    ("image/jpeg", ".jpg", "jpeg"),
    ("image/jpg", ".jpeg", "jpeg"),
    ("image/gif", ".gif", "gif"),
    ("image/webp", ".webp", "webp"),
];

const DOCUMENTS: [Kind; 10] = [
    ("application/pdf", ".pdf", "pdf"),
    ("text/csv", ".csv", "csv"),
    ("application/msword", ".doc", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx", "docx"),
    ("application/vnd.ms-excel", ".xls", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx", "xlsx"),
    ("text/html", ".html", "html"),
    ("text/plain", ".txt", "txt"),
    ("text/markdown", ".md", "md"),
    ("text/x-markdown", ".markdown", "md"),
];

fn ends(name: &str, end: &str) -> bool {
    let from = name.len().saturating_sub(end.len());
    name.get(from..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

fn file<'a>(
    data: Text<'a>,
    name: Option<Text<'a>>,
    path: impl Fn() -> String,
    losses: &mut Losses,
) -> Result<Media<'a>, Untranslatable> {
    let field = || format!("{}.file_data", path());
    let malformed = |why| Untranslatable::malformed(field(), why);
    let text = data.decode().ok_or_else(|| malformed("this is not valid text"))?;
    let name = name.and_then(Text::decode).unwrap_or_default();
    let by_name = |name: &str| DOCUMENTS.iter().find(|(_, end, _)| ends(name, end));
    let (format, place) = if text.starts_with("JVBERi") {
        // Some clients send the bare base64; every PDF begins with `%PDF-`.
        (Some("pdf"), Place::Base64(media::base64(text).map_err(malformed)?))
    } else if text.starts_with(S3) {
        (by_name(&text).map(|(.., format)| *format), Place::S3(text))
    } else {
        match media::read(text).map_err(malformed)? {
            Source::Web(_) => return Err(malformed("`file_data` must be a data URL")),
            Source::Data { kind, base64 } => {
                let by_kind = DOCUMENTS.iter().find(|(mime, ..)| *mime == kind);
                (by_kind.or_else(|| by_name(&name)).map(|(.., format)| *format), Place::Base64(base64))
            }
        }
    };
    let why = "Bedrock takes files as pdf, csv, doc, docx, xls, xlsx, html, txt or md";
    let format = format.ok_or_else(|| Untranslatable::unsupported(field(), why))?;
    let plain = by_name(&name).map_or(name.len(), |(_, end, _)| name.len() - end.len());
    let tidy = tidy(&name[..plain]);
    if tidy != name[..plain] && !name.trim().is_empty() {
        let why = "Bedrock takes letters, digits, hyphens, brackets and single spaces in names of files";
        losses.changed(format!("{}.filename", path()), why)?;
    }
    Ok(Media { kind: "document", format, name: Some(tidy.into()), place })
}

/// A name that Converse takes: at most 200 letters, digits, hyphens, brackets, and spaces that stand alone.
fn tidy(name: &str) -> String {
    let mut tidy = String::with_capacity(name.len());
    for character in name.trim().chars() {
        match character {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') => tidy.push(c),
            c if c.is_whitespace() => {
                if !tidy.ends_with(' ') {
                    tidy.push(' ');
                }
            }
            _ => tidy.push('-'),
        }
    }
    // Room is left for a number.
    tidy.truncate(190);
    let kept = tidy.trim_end().len();
    tidy.truncate(kept);
    if tidy.is_empty() { "document".to_owned() } else { tidy }
}

/// A name that Converse takes for a tool that a model has called: models make names up.
pub(super) fn callable(name: &str) -> Cow<'_, str> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(good) {
        return Cow::Borrowed(name);
    }
    let mended: String = name.chars().map(|c| if good(c) { c } else { '_' }).take(64).collect();
    if mended.is_empty() { Cow::Borrowed("tool") } else { Cow::Owned(mended) }
}

/// Writes blocks; documents of one request must not share a name.
#[derive(Debug)]
pub(super) struct Pen<'w, 'o> {
    json: &'w mut Writer<'o>,
    names: Vec<String>,
}

impl<'w, 'o> Pen<'w, 'o> {
    /// A pen for all blocks of one request.
    pub(super) fn new(json: &'w mut Writer<'o>) -> Self {
        Self { json, names: Vec::new() }
    }

    /// Writes the list of messages.
    pub(super) fn messages(&mut self, conversation: &Conversation<'_>) {
        self.json.key("messages");
        self.json.list();
        for turn in &conversation.turns {
            self.json.object();
            self.json.tag("role", if turn.assistant { "assistant" } else { "user" });
            self.json.key("content");
            self.all(turn.results.iter().chain(&turn.blocks));
            self.json.end_object();
        }
        self.json.end_list();
    }

    /// Writes a list of blocks.
    pub(super) fn all<'b, 'a: 'b>(&mut self, blocks: impl Iterator<Item = &'b Block<'a>>) {
        self.json.list();
        for block in blocks {
            self.json.object();
            self.block(block);
            self.json.end_object();
        }
        self.json.end_list();
    }

    fn block(&mut self, block: &Block<'_>) {
        match block {
            Block::Text(text) => {
                self.json.key("text");
                self.json.text(*text);
            }
            Block::Trimmed(text) => self.json.member("text", text),
            Block::Media(media) => self.media(media),
            Block::Mark(mark) => cache::write(mark.long, self.json),
            Block::Call { id, name, input } => {
                self.json.key("toolUse");
                self.json.object();
                self.json.member("toolUseId", id);
                self.json.member("name", &callable(name));
                self.json.key("input");
                self.json.raw(input);
                self.json.end_object();
            }
            Block::Answer { id, content } => {
                self.json.key("toolResult");
                self.json.object();
                self.json.member("toolUseId", id);
                self.json.key("content");
                self.result(content);
                self.json.end_object();
            }
        }
    }

    fn result(&mut self, content: &Answered<'_, Media<'_>>) {
        match content {
            Answered::Parts(blocks) if !blocks.is_empty() => self.all(blocks.iter()),
            Answered::Text(text) if !text.is_blank() => self.all([Block::Text(*text)].iter()),
            Answered::Text(_) | Answered::Parts(_) => {
                self.all([Block::Text(Text::Plain(NOTHING))].iter());
            }
        }
    }

    fn media(&mut self, media: &Media<'_>) {
        self.json.key(media.kind);
        self.json.object();
        self.json.tag("format", media.format);
        if let Some(name) = &media.name {
            let name = self.unique(name);
            self.json.member("name", &name);
        }
        self.json.key("source");
        self.json.object();
        match &media.place {
            Place::Base64(base64) => {
                self.json.key("bytes");
                self.json.plain(base64);
            }
            Place::S3(uri) => {
                self.json.key("s3Location");
                self.json.object();
                self.json.member("uri", uri);
                self.json.end_object();
            }
        }
        self.json.end_object();
        self.json.end_object();
    }

    fn unique(&mut self, name: &str) -> String {
        let (mut unique, mut number) = (name.to_owned(), 2);
        while self.names.contains(&unique) {
            unique = format!("{name} {number}");
            number += 1;
        }
        self.names.push(unique.clone());
        unique
    }
}

/// What stands for a result that says nothing, which Converse refuses.
pub(super) const NOTHING: &str = "(empty)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_tidied() {
        for (given, wanted) in [
            ("report", "report"),
            (" Q3  report [v2] (final) ", "Q3 report [v2] (final)"),
            ("a_b.c/d", "a-b-c-d"),
            ("é", "-"),
            ("", "document"),
            (" \t", "document"),
        ] {
            assert_eq!(tidy(given), wanted, "{given:?}");
        }
        assert_eq!(tidy(&"x".repeat(300)).len(), 190);
        assert_eq!(tidy(&format!("{} y", "x".repeat(189))).len(), 189);
    }

    #[test]
    fn names_of_tools_that_a_model_made_up_are_mended() {
        assert_eq!(callable("get_weather-2"), "get_weather-2");
        assert_eq!(callable("$READ.file"), "_READ_file");
        assert_eq!(callable(""), "tool");
        assert_eq!(callable(&"é".repeat(80)).len(), 64);
    }

    #[test]
    fn an_end_is_found_in_any_case_and_inside_no_character() {
        assert!(ends("a.PDF", ".pdf") && !ends("pdf", ".pdf") && !ends("é", ".pdf") && !ends("aéé", ".md"));
    }
}
