//! `multi_modal_config`: how many images and files one request may hold, and how large each may be.

use std::borrow::Cow;

use serde::Deserialize;

use crate::config::valid::MediaLimits;
use crate::openai::Envelope;

/// Which part is too much, and why: a 400 before the body leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// The path of the part: `messages[1].content[2]`.
    pub param: String,
    /// Why, for the client.
    pub message: String,
}

/// Checks `request`; costs nothing where no limit is set.
pub(super) fn check(limits: &MediaLimits, request: &Envelope) -> Result<(), TooMuch> {
    if limits.max_files.is_none() && limits.max_file_size_bytes.is_none() {
        return Ok(());
    }
    // A shape that does not read as messages is the provider's to judge.
    let messages: Vec<Message<'_>> =
        request.raw("messages").and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
    let mut count = 0;
    for (at, message) in messages.iter().enumerate() {
        let Some(Content::Parts(parts)) = &message.content else { continue };
        for (index, part) in parts.iter().enumerate() {
            let Some(size) = part.size() else { continue };
            count += 1;
            let param = || format!("messages[{at}].content[{index}]");
            if limits.max_files.is_some_and(|most| count > most) {
                let most = limits.max_files.unwrap_or_default();
                return Err(TooMuch {
                    param: param(),
                    message: format!(
                        "{} is file or image number {count}; this integration takes at most {most}",
                        param()
                    ),
                });
            }
            if let Some(most) = limits.max_file_size_bytes.filter(|most| size > *most) {
                return Err(TooMuch {
                    param: param(),
                    message: format!("{} holds {size} bytes; this integration takes at most {most}", param()),
                });
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    #[serde(borrow)]
    Parts(Vec<Part<'a>>),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    image_url: Option<Image<'a>>,
    #[serde(borrow)]
    file: Option<File<'a>>,
    #[serde(borrow)]
    input_audio: Option<Audio<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Image<'a> {
    #[serde(borrow)]
    Plain(Cow<'a, str>),
    Object {
        #[serde(borrow)]
        url: Cow<'a, str>,
    },
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    file_data: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
}

impl Part<'_> {
    /// Decoded bytes of a file or image part, 0 where only the vendor can know; `None` for any other part.
    fn size(&self) -> Option<u64> {
        let data = match (&*self.kind, &self.image_url, &self.file, &self.input_audio) {
            ("image_url", Some(Image::Plain(url) | Image::Object { url }), ..) => url,
            ("file", _, Some(File { file_data: Some(data) }), _) => data,
            ("input_audio", .., Some(Audio { data: Some(data) })) => return Some(decoded(data)),
            ("image_url" | "file" | "input_audio", ..) => return Some(0),
            _ => return None,
        };
        match data.split_once(";base64,") {
            Some((head, body)) if head.starts_with("data:") => Some(decoded(body)),
            _ if data.starts_with("http://") || data.starts_with("https://") => Some(0),
            _ => Some(decoded(data)),
        }
    }
}

/// How many bytes base64 text stands for.
fn decoded(text: &str) -> u64 {
    let text = text.trim_end_matches('=');
    text.len() as u64 * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn check_body(limits: MediaLimits, body: &str) -> Result<(), TooMuch> {
        check(&limits, &Envelope::read(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    const TWO: &str = r#"{"messages":[{"role":"user","content":"hi"},{"role":"user","content":[
        {"type":"text","text":"x"},
        {"type":"image_url","image_url":{"url":"data:image/png;base64,QUJDRA=="}},
        {"type":"file","file":{"file_data":"data:application/pdf;base64,QUJDREVG"}}]}]}"#;

    #[test]
    fn one_file_too_many_is_named_by_its_place() {
        let limits = MediaLimits { max_files: Some(1), max_file_size_bytes: None };
        assert_eq!(check_body(limits, TWO).unwrap_err().param, "messages[1].content[2]");
        assert!(check_body(MediaLimits { max_files: Some(2), ..limits }, TWO).is_ok());
    }

    #[test]
    fn a_file_is_measured_by_its_decoded_size() {
        let limits = |most| MediaLimits { max_files: None, max_file_size_bytes: Some(most) };
        assert_eq!(check_body(limits(4), TWO).unwrap_err().param, "messages[1].content[2]");
        assert_eq!(check_body(limits(3), TWO).unwrap_err().param, "messages[1].content[1]");
        assert!(check_body(limits(6), TWO).is_ok());
    }

    #[test]
    fn a_url_counts_as_a_file_of_unknown_size() {
        let body =
            r#"{"messages":[{"content":[{"type":"image_url","image_url":"https://h.example/a.png"}]}]}"#;
        assert!(check_body(MediaLimits { max_files: Some(1), max_file_size_bytes: Some(1) }, body).is_ok());
        let two =
            body.replace("}]}]}", "},{\"type\":\"image_url\",\"image_url\":\"https://h.example/b\"}]}]}");
        assert!(check_body(MediaLimits { max_files: Some(1), max_file_size_bytes: None }, &two).is_err());
    }
}
