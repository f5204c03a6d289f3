//! JSON written straight into a buffer.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::{Text, quote};

/// Writes JSON straight into a buffer and minds the commas.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut BytesMut,
    comma: bool,
}

impl<'o> Writer<'o> {
    /// A writer that adds to `out`.
    pub fn new(out: &'o mut BytesMut) -> Self {
        Self { out, comma: false }
    }

    /// Begins an object.
    pub fn object(&mut self) {
        self.open(b'{');
    }

    /// Ends an object.
    pub fn end_object(&mut self) {
        self.close(b'}');
    }

    /// Begins a list.
    pub fn list(&mut self) {
        self.open(b'[');
    }

    /// Ends a list.
    pub fn end_list(&mut self) {
        self.close(b']');
    }

    /// Writes a member's name, which must need no escapes.
    pub fn key(&mut self, name: &'static str) {
        self.separate();
        self.out.put_u8(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.comma = false;
    }

    /// Writes a member's name of any kind.
    pub fn name(&mut self, name: &str) {
        self.separate();
        quote(name, self.out);
        self.out.put_u8(b':');
        self.comma = false;
    }

    /// Writes a text that is known to need no escapes.
    pub fn plain(&mut self, text: &str) {
        self.separate();
        self.out.put_u8(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.put_u8(b'"');
    }

    /// Writes a value that is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Writes a text.
    pub fn text(&mut self, text: Text<'_>) {
        match text {
            Text::Raw(raw) => self.raw(raw.get()),
            Text::Plain(text) => {
                self.separate();
                quote(text, self.out);
            }
        }
    }

    /// Writes any other value.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.separate();
        serde_json::to_writer((&mut *self.out).writer(), value)
            .expect("a buffer takes whatever has text keys");
    }

    /// Writes a member whose name and value need no escapes.
    pub fn tag(&mut self, name: &'static str, value: &'static str) {
        self.key(name);
        self.plain(value);
    }

    /// Writes a member whose value is plain text.
    pub fn member(&mut self, name: &'static str, value: &str) {
        self.key(name);
        self.text(Text::Plain(value));
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.put_u8(b',');
        }
        self.comma = true;
    }

    fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.put_u8(bracket);
        self.comma = false;
    }

    fn close(&mut self, bracket: u8) {
        self.out.put_u8(bracket);
        self.comma = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_where_they_must() {
        let mut out = BytesMut::new();
        let mut json = Writer::new(&mut out);
        json.object();
        json.member("a", "\"");
        json.key("b");
        json.list();
        json.raw("1");
        json.object();
        json.end_object();
        json.text(Text::Plain("é"));
        json.end_list();
        json.key("c");
        json.value(&0.5);
        json.end_object();
        assert_eq!(&out[..], r#"{"a":"\"","b":[1,{},"é"],"c":0.5}"#.as_bytes());
    }
}
