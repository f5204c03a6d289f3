//! Knows again an event that differs from an earlier one in one text alone: of a stream's events nearly all do, and what
//! was found in the first of them holds for the others.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::openai::scan;

/// How many events in a row may be unlike the one before: a stream that varies in another place gains nothing here.
const PATIENCE: u8 = 8;

/// The longest event that is learned, in bytes: it is kept as long as its stream.
const LONGEST: usize = 4 << 10;

/// What stands around the text of an event, from its first line to its blank one, whose data is valid JSON and says nothing
/// else.
#[derive(Debug, Default)]
pub(super) struct Alike {
    /// Up to the text, its first quote included; and from the text's last quote on. Empty while nothing is known.
    around: Vec<u8>,
    /// How long the first part is.
    head: usize,
    strangers: u8,
}

impl Alike {
    /// Whether `event` is the known one with another text: then it has the same lines and no more, its data is valid JSON
    /// too, and has the same members with the same values but for that text.
    pub(super) fn knows(&mut self, event: &[u8]) -> bool {
        let (head, tail) = self.around.split_at(self.head);
        let known = !tail.is_empty()
            && event.len() >= head.len() + tail.len()
            && event.starts_with(head)
            && event.ends_with(tail)
            && is_text(&event[head.len() - 1..=event.len() - tail.len()]);
        if known && self.strangers != 0 {
            self.strangers = 0;
        }
        known
    }

    /// Takes `event`, whose data is valid JSON, as the known one, if it has a text of the kind that varies.
    pub(super) fn learn(&mut self, event: &[u8]) {
        if self.strangers >= PATIENCE || event.len() > LONGEST {
            return;
        }
        self.strangers += 1;
        let text = text(event, &CONTENT).or_else(|| text(event, &ARGUMENTS));
        // What stands in a comment need not be a text, and might reach over the line's end.
        if let Some((start, end)) = text.filter(|(start, end)| is_text(&event[start - 1..=*end])) {
            self.around.clear();
            self.around.extend_from_slice(&event[..start]);
            self.around.extend_from_slice(&event[end..]);
            self.head = start;
        }
    }
}

/// Whether `quoted`, which begins and ends with a quote, is one text in JSON: a quote inside would end it early.
fn is_text(quoted: &[u8]) -> bool {
    // Nearly all are a few letters, for which the scan has too many steps.
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let inside = quoted.get(1..quoted.len() - 1);
    inside.is_some_and(|inside| inside.iter().all(is_plain)) || scan::check(quoted).is_ok()
}

// Built once: building a finder costs more than looking through a chunk with it.
static CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"content\""));
static ARGUMENTS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"arguments\""));

/// Where the text of the first member of that name begins and ends, its quotes outside. In valid JSON a quoted word
/// before a colon is a name, or the end of one: what stands behind the colon is a value all the same.
fn text(json: &[u8], name: &Finder<'_>) -> Option<(usize, usize)> {
    let value = json[name.find(json)? + name.needle().len()..].trim_ascii_start().strip_prefix(b":")?;
    let inside = value.trim_ascii_start().strip_prefix(b"\"")?;
    let start = json.len() - inside.len();
    let mut at = start;
    loop {
        match *json.get(at)? {
            b'"' => return Some((start, at)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With spaces as Python writes them, and with a member whose name ends in another's.
    const KNOWN: &str =
        r#"{"id": "1", "x\"content": "a", "choices": [{"delta": {"content" : "Hel\"lo"}}], "y": "é"}"#;

    fn knowing(event: &str) -> Alike {
        let mut alike = Alike::default();
        assert!(scan::check(event.as_bytes()).is_ok() && !alike.knows(event.as_bytes()));
        alike.learn(event.as_bytes());
        alike
    }

    #[test]
    fn what_is_known_again_is_valid_and_what_is_valid_with_another_text_is_known_again() {
        let mut alike = knowing(&KNOWN.replace(r#"x\"content"#, "x"));
        let around = String::from_utf8(alike.around.clone()).unwrap();
        let (head, tail) = around.split_at(alike.head);
        assert!(head.ends_with("{\"content\" : \"") && tail.starts_with("\"}}]"));
        for text in [
            "",
            "x",
            "\\\"",
            "\\\\",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\ud800",
            "é",
            "error",
            "usage",
            "{\\\"a\\\":1}",
            "\u{7f}",
            "\"",
            "x\",\"error\":{\"message\":\"no\"},\"y\":\"",
            "\\",
            "\\x",
            "\\u12g4",
            "\n",
            "\u{1}",
            "\" ",
            "x\\\"\"",
        ] {
            let event = format!("{head}{text}{tail}");
            let bytes = event.as_bytes();
            let told = alike.knows(bytes);
            assert!(!told || scan::check(bytes).is_ok(), "{event}");
            // One text, whatever it is: parsed, the event has the members of the known one.
            let same = serde_json::from_str::<serde_json::Value>(&event).is_ok_and(|mut value| {
                value["choices"][0]["delta"]["content"] = "".into();
                value == serde_json::from_str::<serde_json::Value>(&format!("{head}{tail}")).unwrap()
            });
            assert_eq!(told, same || text == "\\ud800", "{event}");
        }
        assert!(!alike.knows(format!("{head}a\u{e9}{tail}").replace('é', "\u{0}").as_bytes()));
        assert!(!alike.knows(&[head.as_bytes(), b"\xff", tail.as_bytes()].concat()));
        assert!(!alike.knows(format!("{head}x{tail} ").as_bytes()));
        // Its quotes are not one and the same.
        assert!(!alike.knows(&[head.as_bytes(), &tail.as_bytes()[1..]].concat()));
    }

    #[test]
    fn a_name_that_ends_in_another_stands_before_a_text_as_well() {
        let mut alike = knowing(KNOWN);
        assert!(alike.knows(KNOWN.replacen("\"a\"", "\"b\"", 1).as_bytes()));
        assert!(!alike.knows(KNOWN.replacen("Hel", "hel", 1).as_bytes()));
    }

    #[test]
    fn the_arguments_of_a_tool_are_a_text_too_and_an_event_without_one_is_not_learned() {
        let mut alike =
            knowing(r#"{"delta":{"content":null,"tool_calls":[{"function":{"arguments":"{"}}]}}"#);
        assert!(
            alike.knows(br#"{"delta":{"content":null,"tool_calls":[{"function":{"arguments":"\"a\""}}]}}"#)
        );
        assert!(
            !alike.knows(br#"{"delta":{"content":"x","tool_calls":[{"function":{"arguments":"\"a\""}}]}}"#)
        );
        let event = br#"{"delta":{"content":null}}"#;
        let mut alike = Alike::default();
        alike.learn(event);
        assert!(!alike.knows(event));
    }

    #[test]
    fn what_a_comment_says_is_no_text_that_reaches_into_the_event() {
        let mut alike = Alike::default();
        alike.learn(b": \"content\":\"\ndata: {\"x\":1}\n\n");
        assert!(!alike.knows(b": \"content\":\"\"x\":1}\n\n"));
    }

    #[test]
    fn a_stream_that_varies_elsewhere_is_given_up() {
        let event = |number: usize| format!(r#"{{"n":"{number}","content":"x"}}"#);
        let mut alike = Alike::default();
        for number in 0..20 {
            assert!(!alike.knows(event(number).as_bytes()));
            alike.learn(event(number).as_bytes());
        }
        assert!(alike.knows(event(usize::from(PATIENCE) - 1).as_bytes()));
    }
}
