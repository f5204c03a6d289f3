//! The end of an answer that goes on unread: there stands what it cost.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::openai::scan;

/// How far from the end the usage is looked for, in bytes: little stands behind it.
const WINDOW: usize = 4 << 10;

/// The last of what went by. Nothing is copied unless it comes in small pieces.
#[derive(Debug, Default)]
pub(super) struct Tail {
    before: Bytes,
    last: Bytes,
}

impl Tail {
    /// Takes what goes by next.
    pub(super) fn push(&mut self, piece: &Bytes) {
        let piece = end_of(piece);
        if self.last.is_empty() {
            self.last = piece;
        } else if self.last.len() + piece.len() <= WINDOW {
            self.last = [&self.last[..], &piece[..]].concat().into();
        } else {
            self.before = std::mem::replace(&mut self.last, piece);
        }
    }

    /// The tokens of prompt and completion, if the end of an answer tells them.
    pub(super) fn tokens(&self) -> Option<(u64, u64)> {
        read(&self.last).or_else(|| {
            let joined = (!self.before.is_empty()).then(|| [&self.before[..], &self.last[..]].concat());
            joined.and_then(|joined| read(&joined))
        })
    }

    /// Whether what went by may end an object: what does not was cut off inside of one, though all has come that was
    /// announced.
    pub(super) fn may_end(&self) -> bool {
        let last = [&self.last, &self.before].into_iter().find_map(|piece| piece.trim_ascii_end().last());
        last.is_none_or(|byte| *byte == b'}')
    }
}

fn end_of(piece: &Bytes) -> Bytes {
    piece.slice(piece.len().saturating_sub(WINDOW)..)
}

/// Built once: building a finder costs more than looking with it.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));

/// The last member of that name whose value counts tokens. In a text the quotes would be escaped.
fn read(json: &[u8]) -> Option<(u64, u64)> {
    let tokens = |at| {
        let value = json[at + USAGE.needle().len()..].trim_ascii_start().strip_prefix(b":")?;
        scan::numbers(value, ["prompt_tokens", "completion_tokens"])
    };
    USAGE.find_iter(json).filter_map(tokens).last().map(|[prompt, completion]| (prompt, completion))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"id":"1","choices":[{"message":{"content":"say \"usage\":{\"prompt_tokens\":9}"}}],"usage" : {"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1,"audio_tokens":0}},"service_tier":"default"}"#;

    fn usage(text: &str, step: usize) -> Option<(u64, u64)> {
        let mut tail = Tail::default();
        for piece in text.as_bytes().chunks(step) {
            tail.push(&Bytes::copy_from_slice(piece));
        }
        tail.tokens()
    }

    #[test]
    fn the_usage_is_found_however_the_answer_is_cut() {
        let long = CHAT.replace("say", &"x".repeat(20_000));
        for text in [CHAT, &long] {
            for step in [1, 7, 100, 1000, 5000, text.len()] {
                assert_eq!(usage(text, step), Some((3, 2)), "in steps of {step}");
            }
        }
        let embeddings =
            r#"{"data":[{"embedding":[0.1]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        assert_eq!(usage(embeddings, 1000), Some((8, 0)));
    }

    #[test]
    fn what_ends_in_no_brace_ends_no_object() {
        let tail = |pieces: &[&'static str]| {
            let mut tail = Tail::default();
            pieces.iter().for_each(|piece| tail.push(&Bytes::from_static(piece.as_bytes())));
            tail.may_end()
        };
        let spaces: &str = Box::leak(" \n".repeat(WINDOW).into());
        assert!(tail(&["{}"]) && tail(&["{}\r\n"]) && tail(&["{\"a\":", "1}", " "]) && tail(&["{}", spaces]));
        assert!(!tail(&["{\"a\":\"}\""]) && !tail(&["{\"a\":[1", spaces]) && !tail(&["{", "\"a\":"]));
    }

    #[test]
    fn what_counts_no_tokens_is_none() {
        for text in [
            "",
            "{}",
            r#"{"usage":null}"#,
            r#"{"usage":{"prompt_tok"#,
            r#"{"a":"usage"}"#,
            r#"{"usage":"x"}"#,
        ] {
            assert_eq!(usage(text, 1000), None, "{text}");
        }
    }
}
