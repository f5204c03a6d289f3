//! The escapes of JSON strings: written where they must be, and resolved.

use bytes::{BufMut, BytesMut};

use crate::openai::scan::{BLOCK, backslashes, marks};

/// Characters that are put together before they go on: many short pieces cost more where they may have to grow.
struct Piece {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Piece {
    const ROOM: usize = 16 * BLOCK;

    /// The most that one block becomes, in bytes, and what is copied behind its end.
    const MOST: usize = 7 * BLOCK;

    /// The longest escape and a little more, in bytes: as much as is copied at once.
    const LONGEST: usize = 8;

    const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], length: 0 }
    }

    /// Adds the first `count` bytes of a block: to copy all of it is quicker than to ask how many they are.
    fn put(&mut self, block: &[u8; BLOCK], count: usize) {
        self.bytes[self.length..self.length + BLOCK].copy_from_slice(block);
        self.length += count;
    }

    fn put_escape(&mut self, byte: u8) {
        let (escape, length) = &ESCAPES[usize::from(byte)];
        self.bytes[self.length..self.length + Self::LONGEST].copy_from_slice(escape);
        self.length += length;
    }

    /// Writes what has been put; nothing then.
    fn flush(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.bytes[..std::mem::take(&mut self.length)]);
    }
}

/// Writes `text` as a JSON string, with no more escapes than it must have.
pub fn quote(text: &str, out: &mut BytesMut) {
    out.reserve(text.len() + 2);
    out.put_u8(b'"');
    escape(text, out);
    out.put_u8(b'"');
}

/// Writes `text` as the inside of a JSON string: the same without the quotes.
pub fn escape(text: &str, out: &mut BytesMut) {
    let mut rest = quote_blocks(text.as_bytes(), out);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        let (escape, length) = &ESCAPES[usize::from(rest[at])];
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&escape[..*length]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes what fills blocks; what is left to be written.
fn quote_blocks<'t>(mut rest: &'t [u8], out: &mut BytesMut) -> &'t [u8] {
    if rest.len() < 2 * BLOCK {
        return rest;
    }
    let mut piece = Piece::new();
    // One block is read, and what is behind it may be copied with it.
    while let (Some(block), true) = (rest.first_chunk(), rest.len() >= 2 * BLOCK) {
        if piece.length > Piece::ROOM - Piece::MOST {
            piece.flush(out);
        }
        let mut marks = marks(block);
        let mut from = 0;
        while marks != 0 {
            let at = marks.trailing_zeros() as usize;
            marks &= marks - 1;
            if let Some(plain) = rest[from..].first_chunk() {
                piece.put(plain, at - from);
            }
            piece.put_escape(rest[at]);
            from = at + 1;
        }
        if let Some(plain) = rest[from..].first_chunk() {
            piece.put(plain, BLOCK - from);
        }
        rest = &rest[BLOCK..];
    }
    piece.flush(out);
    rest
}

/// The escape of each byte, and its length.
static ESCAPES: [([u8; Piece::LONGEST], usize); 256] = {
    let (mut table, mut byte) = ([([0; Piece::LONGEST], 0); 256], 0);
    while byte < table.len() {
        table[byte] = escape_of(byte as u8);
        byte += 1;
    }
    table
};

/// The escape of a byte that cannot stand in a string, and its length.
const fn escape_of(byte: u8) -> ([u8; Piece::LONGEST], usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        8 => b'b',
        9 => b't',
        10 => b'n',
        12 => b'f',
        13 => b'r',
        _ => {
            let (high, low) = (DIGITS[(byte >> 4) as usize & 15], DIGITS[byte as usize & 15]);
            return ([b'\\', b'u', b'0', b'0', high, low, 0, 0], 6);
        }
    };
    ([b'\\', short, 0, 0, 0, 0, 0, 0], 2)
}

/// The text that `inner`, the inside of a sound JSON string, spells; `first` is its first backslash. `None` if an escape
/// spells half a surrogate pair.
pub(super) fn resolve(inner: &str, first: usize) -> Option<String> {
    let bytes = inner.as_bytes();
    // No escape is shorter than what it spells, and whole blocks are copied before it is known how much of them is plain.
    let mut out = Vec::with_capacity(bytes.len() + BLOCK);
    out.extend_from_slice(&bytes[..first]);
    out.resize(bytes.len() + BLOCK, 0);
    let (mut at, mut to) = (first, first);
    while at < bytes.len() {
        let block = ahead(&bytes[at..]);
        out[to..to + BLOCK].copy_from_slice(&block);
        let plain = backslashes(&block).trailing_zeros() as usize;
        (at, to) = (at + plain, to + plain);
        if plain == BLOCK || at == bytes.len() {
            continue;
        }
        match bytes.get(at + 1)? {
            b'u' => {
                let (spelt, end) = numbered(bytes, at)?;
                (at, to) = (end, to + spelt.encode_utf8(&mut out[to..]).len());
            }
            escaped => {
                out[to] = SPELT[usize::from(*escaped)];
                (at, to) = (at + 2, to + 1);
            }
        }
    }
    out.truncate(to);
    String::from_utf8(out).ok()
}

/// The block that `rest` begins with; backslashes follow its end.
fn ahead(rest: &[u8]) -> [u8; BLOCK] {
    rest.first_chunk().copied().unwrap_or_else(|| {
        let mut block = [b'\\'; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        block
    })
}

/// What each byte behind a backslash spells, but for `u`.
const SPELT: [u8; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < table.len() {
        table[byte] = match byte as u8 {
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            plain => plain,
        };
        byte += 1;
    }
    table
};

/// What the escape by number at `at` spells, with the one behind it if it takes two; and where it ends.
fn numbered(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(br"\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(at)?;
    match char::from_u32(u32::from(first)) {
        Some(spelt) => Some((spelt, at + 6)),
        None => Some((char::decode_utf16([first, unit(at + 6)?]).next()?.ok()?, at + 12)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees(text: &str) {
        let mut out = BytesMut::new();
        quote(text, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), serde_json::to_string(text).unwrap());
        let mut inside = BytesMut::new();
        escape(text, &mut inside);
        assert_eq!(inside, out[1..out.len() - 1]);
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

    /// The text that a string spells is that which serde_json reads in it.
    fn resolves(quoted: &str) {
        let expected = serde_json::from_str::<String>(quoted).ok();
        let inner = &quoted[1..quoted.len() - 1];
        if let Some(first) = inner.find('\\') {
            assert_eq!(resolve(inner, first), expected, "{quoted}");
        }
    }

    #[test]
    fn every_escape_is_resolved_as_serde_json_does_wherever_it_stands() {
        for escape in [
            r#"\""#,
            r"\\",
            r"\/",
            r"\b",
            r"\f",
            r"\n",
            r"\r",
            r"\t",
            r"\u0000",
            r"\u00e9",
            r"\u00E9",
            r"\u4e16",
            r"\ud83d\ude00",
            r"\ud83d",
            r"\ude00",
            r"\ud83d\u0041",
            r"\ud83dx",
            r"\ud83d\n",
            r"\ude00\ud83d",
            r"\\ud83d",
            r"\uffff",
            r"\ud83d\ud83d\ude00",
        ] {
            for before in [0, 1, 26, 30, 31, 32, 33, 60, 63, 64, 100] {
                for after in [0, 1, 25, 31, 32, 33, 70] {
                    resolves(&format!("\"{}{escape}{}\"", "x".repeat(before), "é".repeat(after)));
                    resolves(&format!("\"{}{escape}{escape}{}\"", escape.repeat(before), "y".repeat(after)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_string_is_resolved_as_serde_json_does(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "x", "some words", "é", "世", "😀", r#"\""#, r"\\", r"\n", r"\u00e9", r"\ud83d\ude00", r"\ud83d", r"\udE00", r"\u0041",
            ]), 0..40),
        ) {
            resolves(&format!("\"{}\"", pieces.concat()));
        }

        #[test]
        fn any_text_is_quoted_as_serde_json_quotes_it(text in "[ -~\\n\\t\u{1}\u{1f}\u{7f}é世😀\"\\\\]{0,120}") {
            agrees(&text);
        }
    }
}
