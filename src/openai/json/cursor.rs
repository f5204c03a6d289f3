//! JSON read part by part in one pass, as deep as the caller goes.

use std::borrow::Cow;

use super::Raw;
use crate::openai::scan::{Reader, Step};

/// A place in a JSON text: before a value, or behind one.
///
/// Whoever enters an object or a list must go through all of it.
pub struct Cursor<'a> {
    json: &'a str,
    reader: Reader<'a>,
    /// Whether the last step was over an opening bracket.
    entered: bool,
}

impl<'a> Cursor<'a> {
    /// Before the value that `json` is.
    pub fn new(json: &'a str) -> Self {
        let mut reader = Reader::new(json.as_bytes());
        reader.skip_space();
        Self { json, reader, entered: false }
    }

    /// Where it is, in bytes.
    pub fn at(&self) -> usize {
        self.reader.at()
    }

    /// The first byte of the value that comes next.
    pub fn peek(&self) -> Option<u8> {
        self.reader.peek()
    }

    /// Enters the object that comes next.
    pub fn enter_object(&mut self) -> Step<()> {
        self.enter(b'{', "an object")
    }

    /// Enters the list that comes next.
    pub fn enter_list(&mut self) -> Step<()> {
        self.enter(b'[', "a list")
    }

    /// Steps to the next value of the object: its name, or `None` and out of the object. The name must be text.
    pub fn member(&mut self) -> Step<Option<Cow<'a, str>>> {
        if !self.goes_on(b'}', "`,` or `}`")? {
            return Ok(None);
        }
        let start = self.reader.at();
        let is_plain = self.reader.key()?;
        let name = Raw::spelt(&self.json[start..self.reader.at()], is_plain).characters();
        let name = name.ok_or_else(|| self.reader.expected("a name that is text"))?;
        self.reader.colon()?;
        Ok(Some(name))
    }

    /// Steps to the next item of the list: whether there is one; if not, out of the list.
    pub fn item(&mut self) -> Step<bool> {
        self.goes_on(b']', "`,` or `]`")
    }

    /// Steps over a value with all that is nested in it.
    pub fn value(&mut self) -> Step<Raw<'a>> {
        let start = self.reader.at();
        let is_plain = self.reader.value()?;
        Ok(Raw::spelt(&self.json[start..self.reader.at()], is_plain))
    }

    /// Checks that nothing follows.
    pub fn end(mut self) -> Step<()> {
        self.reader.skip_space();
        self.reader.peek().map_or(Ok(()), |_| Err(self.reader.expected("nothing after the value")))
    }

    fn enter(&mut self, bracket: u8, expected: &'static str) -> Step<()> {
        if !self.reader.take(bracket) {
            return Err(self.reader.expected(expected));
        }
        self.entered = true;
        Ok(())
    }

    fn goes_on(&mut self, close: u8, expected: &'static str) -> Step<bool> {
        self.reader.skip_space();
        let is_first = std::mem::take(&mut self.entered);
        if self.reader.take(close) {
            return Ok(false);
        }
        if !is_first {
            if !self.reader.take(b',') {
                return Err(self.reader.expected(expected));
            }
            self.reader.skip_space();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::openai::scan::ScanError;

    /// Reads it all, so many levels of it by steps.
    fn read(cursor: &mut Cursor<'_>, levels: usize) -> Option<Value> {
        match cursor.peek() {
            Some(b'{') if levels > 0 => {
                let mut members = serde_json::Map::new();
                cursor.enter_object().ok()?;
                while let Some(name) = cursor.member().ok()? {
                    members.insert(name.into_owned(), read(cursor, levels - 1)?);
                }
                Some(members.into())
            }
            Some(b'[') if levels > 0 => {
                let mut items = Vec::new();
                cursor.enter_list().ok()?;
                while cursor.item().ok()? {
                    items.push(read(cursor, levels - 1)?);
                }
                Some(items.into())
            }
            _ => serde_json::from_str(cursor.value().ok()?.get()).ok(),
        }
    }

    fn agrees(json: &str) {
        for levels in 0..4 {
            let mut cursor = Cursor::new(json);
            let found = read(&mut cursor, levels).filter(|_| cursor.end().is_ok());
            assert_eq!(found, serde_json::from_str(json).ok(), "{json}");
        }
    }

    #[test]
    fn says_what_it_expected() {
        let words = |error: Box<ScanError>| error.to_string();
        assert!(words(Cursor::new("1").enter_list().unwrap_err()).contains("a list"));
        assert!(words(Cursor::new("[]").enter_object().unwrap_err()).contains("an object"));
        let mut cursor = Cursor::new(r#" { "\ud800":1}"#);
        cursor.enter_object().unwrap();
        assert!(words(cursor.member().unwrap_err()).contains("a name that is text"));
        assert!(words(Cursor::new("1 2").end().unwrap_err()).contains("nothing after the value"));
    }

    proptest! {
        #[test]
        fn whatever_is_read_by_steps_is_what_serde_json_reads(tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "{}", "[ ]", "\"a\"", "\"\\u0061\":", "\"b\" : ", "{\"a\":1}", "1", "null", " ", "\"",
        ]), 0..9)) {
            agrees(&tokens.concat());
            agrees(&format!("{{\"x\":{}}}", tokens.concat()));
            agrees(&format!(" [{} ]", tokens.concat()));
        }
    }
}
