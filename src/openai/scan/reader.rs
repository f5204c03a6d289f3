//! Steps over JSON without keeping any of it: a reader that knows the grammar and where it stands, and nothing of requests.

use fearless_simd::{Level, Simd, dispatch};

use super::blocks::{BLOCK, STRETCH, Stretches, beyond_ascii, marks};
use super::{MAX_DEPTH, ScanError};

/// What a control character in a string should have been.
const NO_CONTROL: &str = "an escape in place of a control character";

/// Reads a body from left to right; `at` is the next byte, never behind the end.
///
/// Speed here comes from letting the processor guess: `at` moves behind branches, not by arithmetic on what was read. Only
/// where in a long text the escapes stand cannot be guessed, so there it is arithmetic.
pub(in crate::openai) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    /// Not 0 if a byte beyond ASCII was met, and nowhere but in a string may one be.
    beyond: u64,
    /// The instructions that this processor has.
    level: Level,
}

/// The error is boxed so that results travel in registers.
pub(in crate::openai) type Step<T> = Result<T, Box<ScanError>>;

impl<'a> Reader<'a> {
    /// At the start of `body`. Whether that is UTF-8 is for others to say.
    pub(in crate::openai) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, beyond: 0, level: Level::new() }
    }

    /// Whether no byte beyond ASCII was met: of what was read none is then.
    pub(super) const fn is_ascii(&self) -> bool {
        self.beyond == 0
    }

    /// The whole body.
    pub(super) const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The offset of the next byte.
    pub(in crate::openai) const fn at(&self) -> usize {
        self.at
    }

    /// A string that is a key, with its quotes; whether it is plain: without an escape.
    pub(in crate::openai) fn key(&mut self) -> Step<bool> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        self.string()
    }

    /// The colon behind a key, to the first byte of the value.
    pub(in crate::openai) fn colon(&mut self) -> Step<()> {
        self.skip_space();
        if !self.take(b':') {
            return Err(self.expected("`:` after a key"));
        }
        self.skip_space();
        Ok(())
    }

    /// The value of a member of the outermost object, with all that is nested in it; whether it is a plain string.
    pub(in crate::openai) fn value(&mut self) -> Step<bool> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        let mut open = Levels { objects: 1, depth: 1 };
        loop {
            let inside = match self.peek() {
                Some(b'"') => self.string().map(|_| false)?,
                Some(b'{') => self.open(&mut open, true)?,
                Some(b'[') => self.open(&mut open, false)?,
                _ => self.scalar().map(|()| false)?,
            };
            if !inside && !self.next(&mut open)? {
                return Ok(false);
            }
        }
    }

    /// Steps into an array or object; whether a value follows in it. An empty one is left again at once.
    fn open(&mut self, open: &mut Levels, object: bool) -> Step<bool> {
        if open.depth == MAX_DEPTH {
            return Err(Box::new(ScanError::TooDeep { at: self.at }));
        }
        self.at += 1;
        self.skip_space();
        let empty = if object { self.take(b'}') } else { self.take(b']') };
        if empty {
            return Ok(false);
        }
        open.push(object);
        if object {
            self.key()?;
            self.colon()?;
        }
        Ok(true)
    }

    /// After a value: closes the levels that end here; whether another value follows before the outermost object goes on.
    fn next(&mut self, open: &mut Levels) -> Step<bool> {
        while open.depth > 1 {
            self.skip_space();
            let object = open.in_object();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_space();
                    if object {
                        self.key()?;
                        self.colon()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if object => self.at += 1,
                Some(b']') if !object => self.at += 1,
                _ => return Err(self.expected(if object { "`,` or `}`" } else { "`,` or `]`" })),
            }
            open.pop();
        }
        Ok(false)
    }

    fn scalar(&mut self) -> Step<()> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.expected("a value")),
        }
    }

    fn word(&mut self, word: &[u8]) -> Step<()> {
        for byte in word {
            if !self.take(*byte) {
                return Err(self.expected("the rest of `true`, `false` or `null`"));
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Step<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Step<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// A string, from its opening quote to just behind the closing one; whether it is plain.
    fn string(&mut self) -> Step<bool> {
        self.at += 1;
        // Keys and other short strings end in the first words, for less than a block costs.
        for _ in 0..2 {
            if !self.plain_word() {
                if self.take(b'"') {
                    return Ok(true);
                }
                break;
            }
        }
        if let Some(block) = self.ahead::<BLOCK>() {
            self.beyond |= beyond_ascii(block);
            self.at += marks(block).trailing_zeros() as usize;
            if self.take(b'"') {
                return Ok(true);
            }
        }
        self.long_string()
    }

    /// Steps over the next eight bytes of a string, or to the first of them that is not plain; whether there are eight and
    /// all of them are.
    #[inline(always)]
    fn plain_word(&mut self) -> bool {
        let Some(word) = self.ahead() else { return false };
        let word = u64::from_le_bytes(*word);
        self.beyond |= word & HIGH_BITS;
        let plain = plain_bytes(word);
        self.at += plain;
        plain == 8
    }

    /// The rest of a string that is longer, or has an escape. Not part of `string`, which short ones would pay for.
    #[inline(never)]
    fn long_string(&mut self) -> Step<bool> {
        let mut is_plain = true;
        if dispatch!(self.level, simd => self.stretches(Stretches::new(simd), &mut is_plain))? {
            return Ok(is_plain);
        }
        self.string_tail(is_plain)
    }

    /// Whether the string ended in one of the stretches; the tail of the body has none.
    #[inline(always)]
    fn stretches<S: Simd>(&mut self, mut text: Stretches<S>, is_plain: &mut bool) -> Step<bool> {
        let (mut at, mut backslashes) = (self.at, 0);
        let mut stop = None;
        while let (Some(bytes), None) = (self.body[at..].first_chunk(), stop) {
            let stretch = text.look(bytes);
            if stretch.stops | stretch.rare == 0 {
                backslashes |= stretch.backslashes;
                at += STRETCH;
                continue;
            }
            let first = stretch.stops & stretch.stops.wrapping_neg();
            let inside = first.wrapping_sub(1);
            backslashes |= stretch.backslashes & inside;
            self.rare_escapes(at, stretch.rare & inside)?;
            match first {
                0 => at += STRETCH,
                _ => stop = Some(at + first.trailing_zeros() as usize),
            }
        }
        *is_plain = backslashes == 0;
        self.beyond |= text.beyond_ascii();
        match stop {
            Some(stop) => {
                self.at = stop;
                if self.take(b'"') { Ok(true) } else { Err(self.expected(NO_CONTROL)) }
            }
            None => {
                self.at = at - usize::from(text.is_cut());
                Ok(false)
            }
        }
    }

    /// Checks escapes of a stretch that begins at `start`: `rare` has a bit for each escaped byte to be looked at.
    #[inline(never)]
    fn rare_escapes(&mut self, start: usize, mut rare: u64) -> Step<()> {
        while rare != 0 {
            self.at = start + rare.trailing_zeros() as usize - 1;
            self.escape()?;
            rare &= rare - 1;
        }
        Ok(())
    }

    /// The rest of a string that reaches into the last bytes of the body, and was plain or not so far.
    fn string_tail(&mut self, mut is_plain: bool) -> Step<bool> {
        loop {
            while self.plain_word() {}
            match self.peek() {
                None => return Err(self.expected("the closing quote of a string")),
                Some(b'"') => break,
                Some(b'\\' | ..b' ') => {
                    is_plain = false;
                    self.escape()?;
                }
                Some(byte) => {
                    self.beyond |= u64::from(byte) & HIGH_BITS;
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Ok(is_plain)
    }

    /// An escape; nothing else may stand where plain text ends and no quote is.
    fn escape(&mut self) -> Step<()> {
        if !self.take(b'\\') {
            return Err(self.expected(NO_CONTROL));
        }
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.expected("four hexadecimal digits after `\\u`"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.expected("an escape such as `\\n` or `\\u00e9`")),
        }
        Ok(())
    }

    pub(in crate::openai) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Steps over the next byte if it is this one.
    pub(in crate::openai) fn take(&mut self, byte: u8) -> bool {
        if self.peek() != Some(byte) {
            return false;
        }
        self.at += 1;
        true
    }

    pub(in crate::openai) fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    /// The next `N` bytes, if there are so many.
    fn ahead<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.body.get(self.at..)?.first_chunk()
    }

    #[cold]
    pub(in crate::openai) fn expected(&self, expected: &'static str) -> Box<ScanError> {
        Box::new(ScanError::NotJson { at: self.at, expected })
    }
}

/// The open arrays and objects: one bit a level, the innermost lowest, set for an object.
struct Levels {
    objects: u128,
    depth: u32,
}

impl Levels {
    fn push(&mut self, object: bool) {
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
    }

    const fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    const fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
/// The bits that are set in bytes beyond ASCII.
const HIGH_BITS: u64 = ONES << 7;

/// How many bytes of a word, the first one lowest, stand before its first quote, backslash or control character: 8 if it has none.
const fn plain_bytes(word: u64) -> usize {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    // A borrow may mark bytes behind the first mark, never one before it.
    let marks = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * b' ' as u64) & !word);
    ((marks & HIGH_BITS).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The instructions of this processor, and those of lesser ones.
    fn levels() -> Vec<Level> {
        let found = Level::new();
        let mut levels = vec![Level::baseline(), found];
        #[cfg(target_arch = "x86_64")]
        levels.extend(
            [found.as_sse4_2().map(Level::Sse4_2), found.as_avx2().map(Level::Avx2)].into_iter().flatten(),
        );
        levels
    }

    #[test]
    fn finds_the_first_byte_of_a_word_that_is_not_plain() {
        for byte in 0..=u8::MAX {
            for other in [b'a', b'"', 0x80, 0xff, 0x1f, 0x21] {
                for place in 0..8 {
                    let word: [u8; 8] = std::array::from_fn(|at| if at == place { byte } else { other });
                    let plain = word.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')).count();
                    assert_eq!(plain_bytes(u64::from_le_bytes(word)), plain, "{word:?}");
                }
            }
        }
    }

    #[test]
    fn ends_a_string_at_its_quote_whatever_its_length() {
        for escape in ["", "\\\"", "\\\\", "\\u0022", "é", "\\n\\n\\n", "\\t", "\\\\\\\\\\\\\\\\\\\""] {
            for (before, after, rest) in
                (0..140).flat_map(|n| [(n, 0, 0), (n, 40, 0), (n, 3, 60), (n, 3, 90), (0, n, 9)])
            {
                let string = format!("\"{}{escape}{}\"", "x".repeat(before), "y".repeat(after));
                let body = format!("{string}{}", "\"".repeat(rest));
                for level in levels() {
                    let mut reader = Reader { level, ..Reader::new(body.as_bytes()) };
                    assert_eq!(reader.key(), Ok(!escape.starts_with('\\')), "{body}");
                    assert_eq!(reader.at(), string.len(), "{body}");
                    assert_eq!(reader.is_ascii(), escape != "é", "{body}");
                }
            }
        }
    }

    /// The end of the string in `text`, which begins behind its opening quote, and whether it is plain; or its first fault.
    fn byte_by_byte(text: &[u8]) -> Result<(usize, bool), usize> {
        let (mut at, mut is_plain) = (0, true);
        loop {
            match text.get(at) {
                Some(b'"') => return Ok((at + 1, is_plain)),
                Some(b'\\') => is_plain = false,
                None | Some(..b' ') => return Err(at),
                Some(_) => {
                    at += 1;
                    continue;
                }
            }
            let digits = text[at + 1..].iter().skip(1).take_while(|byte| byte.is_ascii_hexdigit()).count();
            at += match text.get(at + 1) {
                Some(b'u') if digits >= 4 => 6,
                Some(b'u') => return Err(at + 2 + digits),
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                _ => return Err(at + 1),
            };
        }
    }

    /// Pieces of a string, sound but for few.
    fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
        let sound = prop::sample::select(vec![
            "x",
            "twelve bytes",
            "some thirty bytes that are plain",
            "é",
            "世",
            r#"\""#,
            r"\\",
            r"\n",
            r"\t",
            r"\/",
            r"\u00e9",
            r"\ud83d",
            "\u{7f}",
        ]);
        let faulty =
            prop::sample::select(vec![r"\u00g9", r"\u12", r"\x", "\\", "\u{1}", "\u{1f}", "\\\u{1}", "\""]);
        prop::collection::vec(prop_oneof![30 => sound, 1 => faulty], 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_string_is_read_by_stretches_as_it_is_byte_by_byte_and_refused_for_the_same_fault(
            before in 0_usize..70,
            pieces in pieces(),
            behind in 0_usize..40,
        ) {
            let text = format!("{}{}\"{}", "x".repeat(before), pieces.concat(), " \\\"\u{2}".repeat(behind));
            let expected = byte_by_byte(text.as_bytes());
            for level in levels() {
                let mut reader = Reader { level, ..Reader::new(text.as_bytes()) };
                let read = reader.long_string();
                let read = read.map(|is_plain| (reader.at(), is_plain)).map_err(|fault| fault.at().unwrap());
                prop_assert_eq!(&read, &expected);
                if let Ok((end, _)) = read {
                    prop_assert!(!reader.is_ascii() || text[..end].is_ascii());
                }
            }
        }
    }
}
