//! Data URLs (RFC 2397) as clients of OpenAI send them: images and documents in base64.

use std::borrow::Cow;

/// What stands in a part's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// The content itself.
    Data {
        /// Its media type, in lower case and without parameters.
        kind: Cow<'a, str>,
        /// Valid, padded base64 without line breaks.
        base64: Cow<'a, str>,
    },
    /// A URL to be fetched by someone else.
    Web(Cow<'a, str>),
}

/// Reads a URL. The error says what is wrong with it.
pub(super) fn read(url: Cow<'_, str>) -> Result<Source<'_>, &'static str> {
    if starts_with(&url, "https://") || starts_with(&url, "http://") {
        return Ok(Source::Web(url));
    }
    if !starts_with(&url, "data:") {
        return Err("the URL must begin with https://, http:// or data:");
    }
    let (head, _) = url.split_once(',').ok_or("a data URL needs a comma before its content")?;
    let head_only = &head["data:".len()..];
    let (kind, parameters) = head_only.split_once(';').unwrap_or((head_only, ""));
    if !parameters.rsplit(';').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("base64")) {
        return Err("only data URLs in base64 can be sent on");
    }
    let kind = kind.trim().to_ascii_lowercase();
    let content = head.len() + 1;
    Ok(Source::Data { kind: kind.into(), base64: base64(tail(url, content))? })
}

/// Checks base64 and brings it into the one form that every provider takes.
pub(super) fn base64(text: Cow<'_, str>) -> Result<Cow<'_, str>, &'static str> {
    const WRONG: &str = "this is not valid base64";
    let text = if text.bytes().any(|b| b.is_ascii_whitespace()) {
        Cow::Owned(text.split_ascii_whitespace().collect())
    } else {
        text
    };
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if body.is_empty() || padding > 2 || !body.bytes().all(alphabet) {
        return Err(WRONG);
    }
    match (body.len() % 4, padding) {
        (0, 0) | (2, 2) | (3, 1) => Ok(text),
        (2, 0) => Ok(Cow::Owned(format!("{text}=="))),
        (3, 0) => Ok(Cow::Owned(format!("{text}="))),
        _ => Err(WRONG),
    }
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn tail(text: Cow<'_, str>, from: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[from..]),
        Cow::Owned(text) => Cow::Owned(text[from..].to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(url: &str) -> Option<(String, String)> {
        match read(Cow::Borrowed(url)) {
            Ok(Source::Data { kind, base64 }) => Some((kind.into_owned(), base64.into_owned())),
            _ => None,
        }
    }

    #[test]
    fn parameters_line_breaks_and_missing_padding_are_mended() {
        let wanted = Some(("image/jpeg".to_owned(), "QUI=".to_owned()));
        for url in [
            "data:image/jpeg;base64,QUI=",
            "data:image/jpeg;charset=utf-8;base64,QUI=",
            "DATA:Image/JPEG;Base64,QUI",
            "data:image/jpeg;base64,QU\r\nI=",
        ] {
            assert_eq!(data(url), wanted, "{url}");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for url in [
            "data:image/png;base64,@@no@@",
            "data:image/png;base64,",
            "data:image/png,abc",
            "data:x",
            "data:image/png;base64,QUJD=",
            "data:image/png;base64,A",
            "data:image/png;base64,Q_-D",
            "file:///etc/passwd",
            "é",
        ] {
            assert!(read(Cow::Borrowed(url)).is_err(), "{url}");
        }
    }

    #[test]
    fn web_addresses_are_left_to_the_provider() {
        let url = "https://example.com/a.png";
        assert_eq!(read(Cow::Borrowed(url)), Ok(Source::Web(Cow::Borrowed(url))));
    }
}
