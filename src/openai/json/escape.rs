//! The escapes of JSON strings: written where they must be, and resolved.

use bytes::{BufMut, BytesMut};

use crate::openai::scan::{BLOCK, marks};

/// A few characters that are put together before they go on: many short pieces cost more where they may have to grow.
struct Piece {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Piece {
    const ROOM: usize = 8 * BLOCK;

    /// The longest escape, or what one spells, in bytes.
    const LONGEST: usize = 8;

    const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], length: 0 }
    }

    /// Adds the first `count` bytes of a block: to copy all of it is quicker than to ask how many they are.
    fn put(&mut self, block: &[u8; BLOCK], count: usize) {
        self.bytes[self.length..self.length + BLOCK].copy_from_slice(block);
        self.length += count;
    }

    fn put_short(&mut self, (bytes, count): ([u8; Self::LONGEST], usize)) {
        self.bytes[self.length..self.length + Self::LONGEST].copy_from_slice(&bytes);
        self.length += count;
    }

    /// What has been put; nothing then.
    fn take(&mut self) -> &[u8] {
        &self.bytes[..std::mem::take(&mut self.length)]
    }
}

/// Writes `text` as a JSON string, with no more escapes than it must have.
pub fn quote(text: &str, out: &mut BytesMut) {
    out.reserve(text.len() + 2);
    out.put_u8(b'"');
    let mut rest = quote_blocks(text.as_bytes(), out);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        let (escape, length) = escape(rest[at]);
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&escape[..length]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.put_u8(b'"');
}

/// Writes what fills blocks; what is left to be written.
fn quote_blocks<'t>(mut rest: &'t [u8], out: &mut BytesMut) -> &'t [u8] {
    if rest.len() < 2 * BLOCK {
        return rest;
    }
    let mut piece = Piece::new();
    // One block is read, and what is behind it may be copied with it.
    while let (Some(block), true) = (rest.first_chunk(), rest.len() >= 2 * BLOCK) {
        let mut marks = marks(block);
        if marks == 0 {
            out.extend_from_slice(block);
            rest = &rest[BLOCK..];
            continue;
        }
        let mut from = 0;
        while marks != 0 {
            let at = marks.trailing_zeros() as usize;
            marks &= marks - 1;
            if let Some(plain) = rest[from..].first_chunk() {
                piece.put(plain, at - from);
            }
            piece.put_short(escape(rest[at]));
            from = at + 1;
        }
        if let Some(plain) = rest[from..].first_chunk() {
            piece.put(plain, BLOCK - from);
        }
        out.extend_from_slice(piece.take());
        rest = &rest[BLOCK..];
    }
    rest
}

/// The escape of a byte that cannot stand in a string, and its length.
const fn escape(byte: u8) -> ([u8; Piece::LONGEST], usize) {
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
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(bytes.get(..first)?);
    let (mut at, mut piece) = (first, Piece::new());
    loop {
        // As far as blocks reach: between two escapes nothing is marked.
        while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let plain = marks(block).trailing_zeros() as usize;
            piece.put(block, plain.min(BLOCK));
            at += plain.min(BLOCK);
            if plain < BLOCK {
                at = step(bytes, at, &mut piece)?;
            }
            if piece.length > Piece::ROOM - BLOCK - Piece::LONGEST {
                out.extend_from_slice(piece.take());
            }
        }
        out.extend_from_slice(piece.take());
        let rest = bytes.get(at..)?;
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        if plain == rest.len() {
            return String::from_utf8(out).ok();
        }
        at = step(bytes, at + plain, &mut piece)?;
    }
}

/// Resolves the escape at `at`; where it ends.
fn step(bytes: &[u8], at: usize, piece: &mut Piece) -> Option<usize> {
    let byte = match bytes.get(at + 1)? {
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'f' => 12,
        b'r' => b'\r',
        b'u' => return numbered(bytes, at, piece),
        plain => *plain,
    };
    piece.put_short(([byte, 0, 0, 0, 0, 0, 0, 0], 1));
    Some(at + 2)
}

fn numbered(bytes: &[u8], at: usize, piece: &mut Piece) -> Option<usize> {
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(br"\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(at)?;
    let (spelt, end) = match char::from_u32(u32::from(first)) {
        Some(spelt) => (spelt, at + 6),
        None => (char::decode_utf16([first, unit(at + 6)?]).next()?.ok()?, at + 12),
    };
    let mut utf8 = [0; Piece::LONGEST];
    let length = spelt.encode_utf8(&mut utf8).len();
    piece.put_short((utf8, length));
    Some(end)
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
