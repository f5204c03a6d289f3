//! JSON written straight into a buffer.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::Text;
use crate::openai::scan::{BLOCK, marks};

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

/// Writes `text` as a JSON string, with no more escapes than it must have.
pub fn quote(text: &str, out: &mut BytesMut) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.put_u8(b'"');
    while let Some((block, behind)) = rest.split_first_chunk() {
        match marks(block) {
            0 => out.extend_from_slice(block),
            marks => escape(block, marks, out),
        }
        rest = behind;
    }
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    escape(&last[..rest.len()], marks(&last), out);
    out.put_u8(b'"');
}

/// Writes a block with an escape for each byte that is marked.
fn escape(block: &[u8], mut marks: u32, out: &mut BytesMut) {
    // Many short pieces cost more in the buffer, which may have to grow for each of them.
    let (mut piece, mut length, mut from) = ([0; 6 * BLOCK], 0, 0);
    let mut put = |bytes: &[u8]| {
        piece[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    while marks != 0 {
        let at = marks.trailing_zeros() as usize;
        marks &= marks - 1;
        put(&block[from..at]);
        from = at + 1;
        match block[at] {
            plain @ (b'"' | b'\\') => put(&[b'\\', plain]),
            8 => put(br"\b"),
            9 => put(br"\t"),
            10 => put(br"\n"),
            12 => put(br"\f"),
            13 => put(br"\r"),
            control => {
                let digit = |four: u8| b"0123456789abcdef"[usize::from(four & 15)];
                put(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control)]);
            }
        }
    }
    put(&block[from..]);
    out.extend_from_slice(&piece[..length]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees(text: &str) {
        let mut out = BytesMut::new();
        quote(text, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), serde_json::to_string(text).unwrap());
    }

    #[test]
    fn every_character_is_quoted_as_serde_json_quotes_it_wherever_it_stands() {
        for c in ('\0'..='\u{a0}').chain(['é', '\u{2028}', '世', '😀']) {
            for before in [0, 1, 30, 31, 32, 63, 64] {
                agrees(&format!("{}{c}", "x".repeat(before)));
                agrees(&format!("{}{c}{c}{}", "\n".repeat(before), "y".repeat(40)));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_quoted_as_serde_json_quotes_it(text in "[ -~\\n\\t\u{1}\u{1f}\u{7f}é世😀\"\\\\]{0,120}") {
            agrees(&text);
        }
    }

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
