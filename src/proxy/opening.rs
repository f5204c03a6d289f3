//! How a whole answer begins that is passed on unread: like one, like an error with status 200, or like neither.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::Fault;
use crate::openai::json::{MARK, unmarked};

/// What the first bytes of an answer begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A JSON object whose first member is no error.
    Answer,
    /// A JSON object whose first member is `error`, and not `null`.
    Error,
    /// Something else.
    Nonsense,
    /// There are too few of them to know.
    Short,
}

/// What `bytes` begin; it costs a few comparisons.
pub(super) fn of(bytes: &[u8]) -> Opening {
    let inside = match unmarked(bytes).trim_ascii_start() {
        [] => return Opening::Short,
        [b'{', inside @ ..] => inside.trim_ascii_start(),
        _ if MARK.starts_with(bytes) => return Opening::Short,
        _ => return Opening::Nonsense,
    };
    let Some(behind) = inside.strip_prefix(NAME) else {
        return if NAME.starts_with(inside) { Opening::Short } else { Opening::Answer };
    };
    match behind.trim_ascii_start() {
        [] => Opening::Short,
        [b':', value @ ..] => match value.trim_ascii_start() {
            [] => Opening::Short,
            [b'{' | b'"', ..] => Opening::Error,
            _ => Opening::Answer,
        },
        _ => Opening::Answer,
    }
}

const NAME: &[u8] = b"\"error\"";

/// How much is kept of a body that has not begun to say anything, in bytes.
pub(super) const MOST_SPACES: usize = 64 << 10;

/// The error that a whole body with [`Opening::Error`] tells of; nothing if it has an answer in it all the same, or no
/// words.
pub(super) fn error(body: &[u8]) -> Option<Fault> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        choices: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let answer: Answer<'_> = serde_json::from_slice(unmarked(body)).ok()?;
    let lists = [answer.choices, answer.data].into_iter().flatten();
    let mut items = lists.filter_map(|list| list.get().strip_prefix('['));
    if items.any(|items| !items.trim_start().starts_with(']')) {
        return None;
    }
    Fault::inside(body)
}

/// What has come of an answer's beginning behind white space that went on to its client.
#[derive(Debug, Default)]
pub(super) struct Late(BytesMut);

/// What becomes of a piece of such an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So much goes on.
    Pass(Bytes),
    /// It is kept until more of it has come.
    Wait,
    /// It is no answer: a code for the log, and why.
    Refuse((&'static str, &'static str)),
}

impl Late {
    /// That nothing has come but white space.
    pub(super) const ENDED: (&str, &str) = (
        "upstream_garbled",
        "the answer ended before its JSON was complete, behind white space that had gone on",
    );

    const ENDLESS: (&str, &str) =
        ("upstream_garbled", "it begins with too much white space, and some had gone on: the answer was cut");

    /// What becomes of `data`, for an answer that is `late` or, once it has begun, is not any more.
    pub(super) fn next(late: &mut Option<Self>, data: Bytes) -> Next {
        let Some(Self(begun)) = late else { return Next::Pass(data) };
        if begun.is_empty() && data.trim_ascii().is_empty() {
            return Next::Pass(data);
        }
        begun.extend_from_slice(&data);
        match of(begun) {
            Opening::Short if begun.len() > MOST_SPACES => Next::Refuse(Self::ENDLESS),
            Opening::Short => Next::Wait,
            Opening::Answer => Next::Pass(late.take().map(|late| late.0.freeze()).unwrap_or_default()),
            Opening::Error => Next::Refuse((
                "upstream_error",
                "an error came in a 200, behind white space that had gone on: the answer was cut",
            )),
            Opening::Nonsense => Next::Refuse((
                "upstream_garbled",
                "what came behind white space that had gone on is not a JSON object: the answer was cut",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_known_as_soon_as_it_can_be() {
        let spaced = "\r\n\t { \"error\" : { \"message\":\"m\"}}";
        for spaced in [spaced, &format!("\u{feff}{spaced}")] {
            let known = spaced.find(": {").unwrap() + ": {".len();
            for end in 0..=spaced.len() {
                let want = if end < known { Opening::Short } else { Opening::Error };
                assert_eq!(of(&spaced.as_bytes()[..end]), want, "{spaced:?} to {end}");
            }
        }
        for (text, want) in [
            (r#"{"error":"m""#, Opening::Error),
            (r#"{"error":null,"#, Opening::Answer),
            (r#"{"error":false"#, Opening::Answer),
            (r#"{"error":[]"#, Opening::Answer),
            (r#"{"error" x"#, Opening::Answer),
            (r#"{"errors":{"#, Opening::Answer),
            (r#"{"id":"error""#, Opening::Answer),
            ("{}", Opening::Answer),
            ("\u{feff}{\"id\"", Opening::Answer),
            ("\u{feff}<html>", Opening::Nonsense),
            (" \u{feff}{", Opening::Nonsense),
            ("\u{fefe}{", Opening::Nonsense),
            ("<html>", Opening::Nonsense),
            ("[{\"error\":", Opening::Nonsense),
        ] {
            assert_eq!(of(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn an_error_is_one_that_has_words_and_no_answer_beside_it() {
        let status = |body: &str| error(body.as_bytes()).map(|fault| fault.status);
        assert_eq!(status(r#"{"error":{"message":"m","code":502},"user_id":"u"}"#), Some(502));
        assert_eq!(status(r#"{"error":{"message":"m","code":429},"choices":null}"#), Some(429));
        assert_eq!(status(r#"{"error":"m","data":[ ]}"#), Some(502));
        assert_eq!(status("\u{feff}{\"error\":{\"message\":\"m\",\"code\":429}}"), Some(429));
        for answer in [
            r#"{"error":{"message":"m"},"choices":[{}]}"#,
            r#"{"error":{"message":"m"},"data":[ {}]}"#,
            r#"{"error":{},"choices":[]}"#,
            r#"{"error":""}"#,
            r#"{"error":{"message":"m"}"#,
        ] {
            assert_eq!(status(answer), None, "{answer}");
        }
    }

    #[test]
    fn behind_white_space_that_went_on_an_answer_goes_on_once_it_is_known_to_be_one() {
        let take = |pieces: &[&'static str]| {
            let mut late = Some(Late::default());
            let next = |piece: &&'static str| Late::next(&mut late, Bytes::from_static(piece.as_bytes()));
            let taken: Vec<_> = pieces.iter().map(next).collect();
            (taken, late.is_some())
        };
        let pass = |text: &'static str| Next::Pass(Bytes::from_static(text.as_bytes()));
        let pieces = [" ", "\n{ ", "\"er", "rors\":", " "];
        let taken = vec![pass(" "), Next::Wait, Next::Wait, pass("\n{ \"errors\":"), pass(" ")];
        assert_eq!(take(&pieces), (taken, false));
        assert_eq!(take(&["", " ", "\r\n"]), (vec![pass(""), pass(" "), pass("\r\n")], true));
        let spaces: &str = Box::leak(" ".repeat(MOST_SPACES).into());
        let endless = vec![Next::Wait, Next::Refuse(Late::ENDLESS)];
        assert_eq!(take(&["{", spaces]), (endless, true));
        for (refused, code) in [("{\"error\":{", "upstream_error"), ("[", "upstream_garbled")] {
            let (taken, _) = take(&[refused]);
            assert!(matches!(taken[..], [Next::Refuse((told, _))] if told == code), "{taken:?}");
        }
    }
}
