//! The parts of messages as Mistral's chunks: text, images, documents and sound.

use std::borrow::Cow;

use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::dialect::media::{self, Source};
use crate::dialect::parts::whole;
use crate::openai::json::{Object, Text, Writer};
use crate::openai::message::{Body, Part, Role};

/// Writes one part of a message of `role`; a text without a character says nothing and is left out.
pub(super) fn write(
    part: &Part<'_>,
    role: Role,
    path: &dyn Fn() -> String,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    for name in &part.others {
        losses.dropped(format!("{}.{name}", path()), "Mistral has no such field here")?;
    }
    match part.body {
        Body::Text(text) | Body::Refusal(text) => {
            whole(text, path)?;
            if !text.is_empty() {
                write_text(text, json);
            }
            Ok(())
        }
        _ if matches!(role, Role::System | Role::Developer | Role::Assistant) => {
            let why = "Mistral takes nothing but text in a message of this role";
            Err(Untranslatable::unsupported(format!("{}.type", path()), why))
        }
        Body::Image { url, detail, .. } => image(url, detail, path, json, losses),
        Body::Audio { data, .. } => sound(data, path, json),
        Body::File { .. } => file(part, path, json),
        Body::Other(kind) if kind.is("document_url") => document(part, path, json, losses),
        Body::Other(kind) => {
            let why = format!("Mistral's format has no part of type `{}`", kind.decode().unwrap_or_default());
            Err(Untranslatable::unsupported(format!("{}.type", path()), why))
        }
    }
}

/// Writes a text.
pub(super) fn write_text(text: Text<'_>, json: &mut Writer<'_>) {
    json.object();
    json.tag("type", "text");
    json.key("text");
    json.text(text);
    json.end_object();
}

fn image(
    url: Text<'_>,
    detail: Option<Text<'_>>,
    path: &dyn Fn() -> String,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let place = || format!("{}.image_url.url", path());
    let source = url.decode().ok_or("this is not valid text").and_then(media::read);
    let url = match source.map_err(|why| Untranslatable::malformed(place(), why))? {
        Source::Web(url) => url,
        Source::Data { kind, base64 } if kind.starts_with("image/") => data_url(&kind, &base64),
        Source::Data { kind, .. } => {
            let why = format!("an image was expected here, not `{kind}`: documents are parts of type `file`");
            return Err(Untranslatable::unsupported(place(), why));
        }
    };
    json.object();
    json.tag("type", "image_url");
    json.key("image_url");
    json.object();
    json.member("url", &url);
    if let Some(detail) = detail {
        if ["auto", "low", "high"].iter().any(|word| detail.is(word)) {
            json.key("detail");
            json.text(detail);
        } else {
            let why = "Mistral's levels of detail are auto, low and high";
            losses.dropped(format!("{}.image_url.detail", path()), why)?;
        }
    }
    json.end_object();
    json.end_object();
    Ok(())
}

/// Mistral hears by itself in what form the sound is, and takes no word for it.
fn sound(data: Text<'_>, path: &dyn Fn() -> String, json: &mut Writer<'_>) -> Result<(), Untranslatable> {
    let base64 = data.decode().ok_or("this is not valid text").and_then(media::base64);
    let wrong = |why| Untranslatable::malformed(format!("{}.input_audio.data", path()), why);
    json.object();
    json.tag("type", "input_audio");
    json.key("input_audio");
    json.plain(&base64.map_err(wrong)?);
    json.end_object();
    Ok(())
}

fn file(part: &Part<'_>, path: &dyn Fn() -> String, json: &mut Writer<'_>) -> Result<(), Untranslatable> {
    let place = || format!("{}.file.file_data", path());
    let mut inner = member(part, "file").ok_or_else(|| Untranslatable::malformed(path(), "no `file`"))?;
    let mut text = |name: &str| inner.take(name).and_then(Text::read);
    let (data, id, name) = (text("file_data"), text("file_id"), text("filename"));
    let Some(data) = data else {
        let id = id.ok_or_else(|| Untranslatable::malformed(place(), "this field is required"))?;
        json.object();
        json.tag("type", "file");
        json.key("file_id");
        json.text(id);
        json.end_object();
        return Ok(());
    };
    let data = data.decode().ok_or("this is not valid text").and_then(|data| {
        // Some clients send the bare base64; every PDF begins with `%PDF-`.
        if data.starts_with("JVBERi") {
            return media::base64(data).map(|base64| data_url("application/pdf", &base64));
        }
        match media::read(data)? {
            Source::Data { kind, base64 } => Ok(data_url(&kind, &base64)),
            Source::Web(_) => Err("`file_data` must be a data URL"),
        }
    });
    let url = data.map_err(|why| Untranslatable::malformed(place(), why))?;
    write_document(Text::Plain(&url), name, json);
    Ok(())
}

/// A part that is Mistral's own already.
fn document(
    part: &Part<'_>,
    path: &dyn Fn() -> String,
    json: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Untranslatable> {
    let place = format!("{}.document_url", path());
    let mut fields = Object::read(part.raw.get())
        .map_err(|_| Untranslatable::malformed(path(), "this is not an object"))?;
    fields.take("type");
    let url = fields.take("document_url").and_then(Text::read);
    let url = url.ok_or_else(|| Untranslatable::malformed(place, "this must be a URL, as a string"))?;
    let name = fields.take("document_name").and_then(Text::read);
    write_document(url, name, json);
    for (name, _) in fields.into_rest() {
        losses.dropped(format!("{}.{name}", path()), "Mistral has no such field here")?;
    }
    Ok(())
}

fn write_document(url: Text<'_>, name: Option<Text<'_>>, json: &mut Writer<'_>) {
    json.object();
    json.tag("type", "document_url");
    json.key("document_url");
    json.text(url);
    if let Some(name) = name.filter(|name| !name.is_blank()) {
        json.key("document_name");
        json.text(name);
    }
    json.end_object();
}

fn member<'a>(part: &Part<'a>, name: &str) -> Option<Object<'a>> {
    let mut fields = Object::read(part.raw.get()).ok()?;
    Object::read(fields.take(name)?.get()).ok()
}

fn data_url<'a>(kind: &str, base64: &str) -> Cow<'a, str> {
    Cow::Owned(format!("data:{kind};base64,{base64}"))
}
