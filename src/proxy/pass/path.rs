//! What a relayed path may be: nothing that another server might read as leading somewhere else.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

const DOTS: &str = "this path holds `.` or `..`, which could lead out of the integration's endpoint";
const EMPTY: &str = "this path holds an empty segment (`//`)";
const ODD: &str = "this path holds a backslash or a control character";
const UNICODE: &str = "this path holds `%u` and four hexadecimal digits, which only some servers decode";
const NO_TEXT: &str = "this path does not spell text in UTF-8";
const TWICE: &str = "this path is percent-encoded more than twice";
const SPELT: &str =
    "this path is served under its plain spelling only: /chat/completions, /embeddings, /models";
const V1_TWICE: &str = "this path has `/v1/` twice: `base_url` must end in one `/v1`";
const TAIL_TWICE: &str =
    "this path says twice what is asked for: `base_url` must end in `/v1`, and the client adds the rest";

/// What is served, edited and translated elsewhere.
const SERVED: [&str; 2] = ["chat/completions", "embeddings"];

/// Checks what stands behind `/v1/`, as the client wrote it; the error says what is wrong.
pub(super) fn check(rest: &str) -> Result<(), &'static str> {
    let text = plain(rest, check_segments)?;
    let plain = text.split('/').map(name).collect::<Vec<_>>().join("/").to_ascii_lowercase();
    let plain = plain.trim_end_matches('/');
    let is_served = |served: &str| {
        plain.strip_suffix(served).is_some_and(|before| before.is_empty() || before.ends_with('/'))
    };
    if !matches!(plain, "models" | "v1/models") && !SERVED.iter().any(|served| is_served(served)) {
        return Ok(());
    }
    Err(twice(&format!("v1/{plain}")).unwrap_or(SPELT))
}

/// What is wrong with the `base_url` of a client that has made `path` of it, if something stands twice in that.
pub(in crate::proxy) fn twice(path: &str) -> Option<&'static str> {
    if path.contains("v1/v1/") {
        return Some(V1_TWICE);
    }
    let is_twice = |tail: &&str| path.matches(*tail).count() > 1;
    SERVED.iter().chain(&["models"]).any(is_twice).then_some(TAIL_TWICE)
}

/// Checks only that `path`, which begins with a slash or is empty, stays below the endpoint; the error says what is wrong.
pub(super) fn check_below(path: &str) -> Result<(), &'static str> {
    plain(path, |text| {
        check_characters(text)?;
        if text.split('/').any(|segment| matches!(name(segment), "." | "..")) { Err(DOTS) } else { Ok(()) }
    })
    .map(drop)
}

/// What `rest` spells; `check` is asked of each spelling on the way.
fn plain(rest: &str, check: impl Fn(&str) -> Result<(), &'static str>) -> Result<Cow<'_, str>, &'static str> {
    let mut text = Cow::Borrowed(rest);
    check(&text)?;
    // Servers decode what they route by, and some decode it once more.
    for _ in 0..2 {
        let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| NO_TEXT)?;
        if decoded == text {
            break;
        }
        text = Cow::Owned(decoded.into_owned());
        check(&text)?;
    }
    if percent_decode_str(&text).decode_utf8().map_err(|_| NO_TEXT)? != text {
        return Err(TWICE);
    }
    Ok(text)
}

fn check_characters(text: &str) -> Result<(), &'static str> {
    if text.contains(|c: char| c == '\\' || c.is_control()) {
        Err(ODD)
    } else if holds_unicode(text) {
        Err(UNICODE)
    } else {
        Ok(())
    }
}

/// Whether a character stands there as `%u002e` does for a dot: no standard has that, and Windows' HTTP server takes it.
fn holds_unicode(text: &str) -> bool {
    let mut after = text.split('%').skip(1).filter_map(|rest| rest.strip_prefix(['u', 'U']));
    after.any(|rest| rest.len() >= 4 && rest.bytes().take(4).all(|b| b.is_ascii_hexdigit()))
}

fn check_segments(text: &str) -> Result<(), &'static str> {
    check_characters(text)?;
    let mut segments = text.split('/').peekable();
    while let Some(segment) = segments.next() {
        if matches!(name(segment), "." | "..") {
            return Err(DOTS);
        }
        // One slash at the end is the provider's business.
        if name(segment).is_empty() && (segments.peek().is_some() || !segment.is_empty()) {
            return Err(EMPTY);
        }
    }
    Ok(())
}

/// A segment without its parameters (RFC 3986 §3.3), which some servers take off before they route.
fn name(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_providers_serve_is_let_through_as_it_is() {
        for path in [
            "responses",
            "files/file-abc123/content",
            "files/",
            "models/gpt-4o",
            "models/ft:gpt-4o:org::id",
            "models/org%2Fname",
            "audio/transcriptions",
            "vector_stores/vs_1/files",
            "files/report%20of%20May.pdf",
            "files/a..b/.hidden",
            "files/100%25upper",
            "completions",
            "chat/completions/chatcmpl-1/messages",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_could_lead_out_of_the_endpoint_is_refused() {
        for (path, why) in [
            ("..", DOTS),
            ("../admin", DOTS),
            ("files/../../admin", DOTS),
            ("files/./x", DOTS),
            ("files/%2e%2e/admin", DOTS),
            ("files/.%2E/admin", DOTS),
            ("files/%252e%252e/admin", DOTS),
            ("files/..%2f..%2fadmin", DOTS),
            ("files/..;/admin", DOTS),
            ("files/..;x=1/admin", DOTS),
            ("files//x", EMPTY),
            ("/files", EMPTY),
            ("files/%2Fx", EMPTY),
            ("files/;x/y", EMPTY),
            ("files/..%5cadmin", ODD),
            ("files/a%0d%0ab", ODD),
            ("files/%00", ODD),
            ("files/%ff", NO_TEXT),
            ("files/%25252e", TWICE),
            ("files/%u002e%u002e/admin", UNICODE),
            ("files/%25U002E%25U002E/admin", UNICODE),
        ] {
            assert_eq!(check(path), Err(why), "{path}");
        }
    }

    #[test]
    fn what_a_handler_asks_for_may_be_anything_below_the_endpoint() {
        for path in ["", "/", "/generate", "//generate/", "/v1/chat/completions", "/files/%2Fx", "/a..b/.c"] {
            assert_eq!(check_below(path), Ok(()), "{path}");
        }
        for (path, why) in [
            ("/..", DOTS),
            ("/a/%2e%2E/b", DOTS),
            ("/a/..;x/b", DOTS),
            ("/%252e%252e", DOTS),
            ("/a%5c..", ODD),
            ("/a%0ab", ODD),
            ("/%u002e%u002e/b", UNICODE),
            ("/%25252e", TWICE),
        ] {
            assert_eq!(check_below(path), Err(why), "{path}");
        }
    }

    #[test]
    fn a_base_url_that_says_too_much_is_told_from_other_spellings() {
        for (path, why) in [
            ("v1/chat/completions", V1_TWICE),
            ("v1/models", V1_TWICE),
            ("chat/completions/chat/completions", TAIL_TWICE),
            ("embeddings/embeddings", TAIL_TWICE),
        ] {
            assert_eq!(check(path).err().or_else(|| twice(path)), Some(why), "{path}");
        }
        assert_eq!(twice("/v1/v1/chat/completions"), Some(V1_TWICE));
        assert_eq!(twice("/acme/v1/models"), None);
    }

    #[test]
    fn what_is_served_elsewhere_cannot_be_reached_by_spelling_it_otherwise() {
        for path in [
            "chat/completions/",
            "chat%2Fcompletions",
            "chat/completion%73",
            "Chat/Completions",
            "chat/completions;x=1",
            "%65mbeddings",
            "embeddings/",
            "models/",
        ] {
            assert_eq!(check(path), Err(SPELT), "{path}");
        }
    }
}
