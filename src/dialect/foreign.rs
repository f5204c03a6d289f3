//! Whose an answer is that its own format cannot read: that of another format tells that the wrong one is configured.

use bytes::Bytes;
use http::HeaderMap;

use super::{Context, Format, Head, build};
use crate::openai::{Envelope, Operation};

/// The format whose whole answer to a chat `body` is, if it is none of format `own`.
///
/// A declared format may be anybody's, so it is neither found nor told from others.
pub fn format_of(body: &[u8], own: Format) -> Option<Format> {
    // One that reads it, asked as plainly as here, has met a slip of its model's.
    if own == Format::Declared || body.len() > MOST || reads(own, body) {
        return None;
    }
    // Those that look the same differ in how strictly they are read.
    let is_other =
        |format: &Format| *format != Format::Declared && format.answers_like() != own.answers_like();
    let others = Format::ALL.into_iter().map(|(_, format)| format);
    let found = others.filter(is_other).find(|format| reads(*format, body));
    found.map(Format::answers_like)
}

/// What is looked at, in bytes: every format reads it until one can.
const MOST: usize = 1 << 20;

/// Whether `body` answers the plainest of requests in `format`.
fn reads(format: Format, body: &[u8]) -> bool {
    let context = Context {
        operation: Operation::Chat,
        provider_model: "m",
        client_model: "m",
        id: "chatcmpl-0",
        created: 0,
        strict: false,
        max_event: 0,
    };
    let decoder = || {
        let request = Envelope::read(Bytes::from_static(REQUEST)).ok()?;
        Some(build(format.into()).ok()?.prepare(&request, &context).ok()?.decoder)
    };
    let head = Head { status: 200, headers: &HeaderMap::new() };
    decoder().is_some_and(|mut decoder| decoder.whole(head, body).is_ok())
}

const REQUEST: &[u8] = br#"{"messages":[{"role":"user","content":"Hi"}]}"#;

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [(Format, &str); 6] = [
        (
            Format::OpenAi,
            r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#,
        ),
        (
            Format::Anthropic,
            r#"{"id":"c","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn"}"#,
        ),
        (
            Format::Gemini,
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}"#,
        ),
        (
            Format::Bedrock,
            r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hi"}]}},"stopReason":"end_turn"}"#,
        ),
        (
            Format::Cohere,
            r#"{"id":"c","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]},"finish_reason":"COMPLETE"}"#,
        ),
        (
            Format::Ollama,
            r#"{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true,"done_reason":"stop"}"#,
        ),
    ];

    #[test]
    fn an_answer_is_known_for_that_of_its_own_format_and_never_for_anothers() {
        for (own, _) in ANSWERS {
            for (format, body) in ANSWERS {
                let wanted = (own != format).then_some(format);
                assert_eq!(format_of(body.as_bytes(), own), wanted, "{own:?} {format:?}");
            }
        }
    }

    #[test]
    fn openais_answer_is_known_by_whatever_server_it_is_given() {
        for body in [
            r#"{"choices":[{"message":{"content":"Hi","tool_calls":null,"function_call":null},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"index":0,"message":{"content":[{"type":"text","text":"Hi"}]},"finish_reason":"eos"}]}"#,
        ] {
            assert_eq!(format_of(body.as_bytes(), Format::Cohere), Some(Format::OpenAi), "{body}");
            assert_eq!(format_of(body.as_bytes(), Format::Mistral), None, "{body}");
        }
    }

    #[test]
    fn what_a_format_shares_with_another_is_not_anothers() {
        let gemini = ANSWERS[2].1.as_bytes();
        assert_eq!([Format::Gemini, Format::Vertex].map(|own| format_of(gemini, own)), [None, None]);
        // Mistral's reader refuses it, and OpenAI's would not.
        let openai = ANSWERS[0].1;
        let empty = openai.replace(&openai[openai.find('[').unwrap()..=openai.rfind(']').unwrap()], "[]");
        assert_eq!(format_of(empty.as_bytes(), Format::Mistral), None, "{empty}");
    }

    #[test]
    fn slips_and_errors_are_nobodys_answers_and_a_declared_format_may_be_anybodys() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "<html>",
            r#"{"content":7}"#,
            r#"{"choices":[]}"#,
            r#"{"error":{"message":"no"}}"#,
            r#"{"type":"message","content":[]}"#,
        ] {
            assert_eq!(format_of(body.as_bytes(), Format::Anthropic), None, "{body}");
        }
        assert_eq!(format_of(ANSWERS[0].1.as_bytes(), Format::Declared), None);
    }
}
