//! What an answer says: a completion or the events of a stream, as a client of OpenAI reads them. Whatever else it is
//! becomes words, and no shape that a provider may invent is a failure of ours.

use serde_json::Value;

use crate::openai::json::unmarked;

/// What is known of an answer besides its text.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Why it ended.
    pub(super) finish_reason: Option<String>,
    /// What it cost, where it says so: tokens of the prompt, of the answer, of both.
    pub(super) usage: Option<[u64; 3]>,
    /// The functions that it wants called.
    pub(super) calls: Vec<String>,
    /// How many characters of its thoughts came.
    pub(super) thoughts: usize,
    /// Whether any of it was a completion, or a part of one.
    begun: bool,
}

/// An error of OpenAI's shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What happened and what to do.
    pub(super) message: String,
    /// Its family.
    pub(super) kind: String,
    /// The word that programs look at.
    pub(super) code: Option<String>,
}

impl Said {
    /// Reads a whole answer; the text of it. `None`: it is no completion.
    pub(super) fn whole(&mut self, body: &[u8]) -> Option<String> {
        let answer: Value = serde_json::from_slice(unmarked(body)).ok()?;
        let text = self.take(&answer, "message");
        let content = &answer["choices"][0]["message"]["content"];
        let has_none = matches!(content, Value::Bool(_) | Value::Number(_) | Value::Object(_));
        (self.begun && !(has_none && self.calls.is_empty())).then_some(text)
    }

    /// What is wrong with all that was read, if it is no answer.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        if !self.begun {
            return Some("no part of a chat completion came in the stream");
        }
        let failed = self.finish_reason.as_deref() == Some("error");
        failed.then_some("the model ended its answer in an error (finish_reason `error`)")
    }

    /// Reads the data of one event of a stream; the text that it adds, or the error that it tells of.
    pub(super) fn event(&mut self, data: &[u8]) -> Result<String, Wrong> {
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return Ok(String::new()) };
        match Wrong::inside(&event) {
            Some(wrong) => Err(wrong),
            None => Ok(self.take(&event, "delta")),
        }
    }

    /// What `answer` has in its first choice under `part`.
    fn take(&mut self, answer: &Value, part: &str) -> String {
        let choice = &answer["choices"][0];
        let said = &choice[part];
        self.begun |= said.is_object();
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        let usage = &answer["usage"];
        if usage.is_object() {
            let count = |key: &str| usage[key].as_u64().unwrap_or_default();
            self.usage = Some(["prompt_tokens", "completion_tokens", "total_tokens"].map(count));
        }
        let thoughts = said["reasoning_content"].as_str().or_else(|| said["reasoning"].as_str());
        self.thoughts += thoughts.map_or(0, |text| text.chars().count());
        let calls = said["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
        let names = calls.chain([&said["function_call"]]).filter_map(|call| call["name"].as_str());
        self.calls.extend(names.map(str::to_owned));
        [&said["content"], &said["refusal"]].map(text).concat()
    }
}

/// The text of `content`, which some providers give in parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(|part| text(&part["text"])).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

impl Wrong {
    /// Reads the body of a refusal; what has another shape is told as it is.
    pub(super) fn read(body: &[u8]) -> Self {
        Self::of(body).unwrap_or_else(|| Self {
            message: String::from_utf8_lossy(body).into_owned(),
            ..Self::default()
        })
    }

    /// The error that `body` is, if it is one.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        Self::inside(&serde_json::from_slice(unmarked(body)).ok()?)
    }

    fn inside(body: &Value) -> Option<Self> {
        let error = body.get("error").filter(|error| error.is_object())?;
        let word = |key: &str| error[key].as_str().map(str::to_owned);
        Some(Self {
            message: word("message").unwrap_or_default(),
            kind: word("type").unwrap_or_default(),
            code: word("code"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_gives_its_text_its_end_and_its_cost() {
        let mut said = Said::default();
        let body = r#"{"choices":[{"message":{"content":"hé","reasoning_content":"hm"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
        assert_eq!(said.whole(body.as_bytes()).as_deref(), Some("hé"));
        assert_eq!(
            (said.finish_reason.as_deref(), said.usage, said.thoughts),
            (Some("stop"), Some([3, 2, 5]), 2)
        );
        let parts = r#"{"choices":[{"message":{"content":[{"text":"a"},{"image":1},{"text":"b"}]}}]}"#;
        assert_eq!(Said::default().whole(parts.as_bytes()).as_deref(), Some("ab"));
        let call = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"f"}}]}}]}"#;
        assert_eq!(said.whole(call.as_bytes()).as_deref(), Some(""));
        assert_eq!(said.calls, ["f"]);
    }

    #[test]
    fn what_is_no_completion_is_none() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"choices":[]}"#,
            r#"{"choices":[{}]}"#,
            "\"choices\"",
            r#"{"choices":[{"message":null}]}"#,
            r#"{"choices":[{"message":"hi"}]}"#,
            r#"{"choices":[{"message":{"content":5}}]}"#,
        ] {
            assert_eq!(Said::default().whole(body.as_bytes()), None, "{body}");
        }
        let call = r#"{"choices":[{"message":{"content":5,"tool_calls":[{"function":{"name":"f"}}]}}]}"#;
        assert_eq!(Said::default().whole(call.as_bytes()).as_deref(), Some(""));
        let marked = "\u{feff}{\"choices\":[{\"message\":{\"content\":\"a\"}}]}";
        assert_eq!(Said::default().whole(marked.as_bytes()).as_deref(), Some("a"));
    }

    #[test]
    fn events_without_a_part_of_a_completion_or_with_a_failed_one_are_no_answer() {
        let wrong = |events: &[&str]| {
            let mut said = Said::default();
            events.iter().for_each(|event| assert_eq!(said.event(event.as_bytes()).as_deref(), Ok("")));
            said.wrong()
        };
        for none in [&[][..], &["null"], &["[1]"], &[r#"{"completion":"hello"}"#], &[r#"{"choices":[]}"#]] {
            assert!(wrong(none).is_some_and(|words| words.starts_with("no part")), "{none:?}");
        }
        assert_eq!(wrong(&[r#"{"choices":[{"delta":{}}]}"#]), None);
        let failed = [r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#];
        assert!(wrong(&failed).is_some_and(|words| words.contains("`error`")));
    }

    #[test]
    fn events_add_up_and_an_error_among_them_is_one() {
        let mut said = Said::default();
        let texts = [
            r#"{"choices":[{"delta":{"role":"assistant","content":"a"}}]}"#,
            "no JSON",
            r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
        ]
        .map(|data| said.event(data.as_bytes()).unwrap());
        assert_eq!(texts.concat(), "a");
        assert_eq!((said.finish_reason.as_deref(), said.usage), (Some("length"), Some([1, 1, 2])));
        let wrong =
            said.event(br#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#).unwrap_err();
        assert_eq!(wrong, Wrong { message: "m".into(), kind: "t".into(), code: Some("c".into()) });
    }

    #[test]
    fn a_refusal_of_no_known_shape_is_told_as_it_is() {
        assert_eq!(Wrong::read(b"bad gateway").message, "bad gateway");
        assert_eq!(Wrong::read(br#"{"error":"text"}"#).message, r#"{"error":"text"}"#);
    }
}
