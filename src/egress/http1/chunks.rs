//! The chunked transfer coding (RFC 9112 §7.1), taken off as the bytes come.

use bytes::{Buf as _, BytesMut};
use memchr::memchr;

use super::MAX_HEAD;

/// The longest line with the size of a chunk, extensions included, in bytes.
const MAX_LINE: usize = 1 << 10;

/// What is known of a chunked body so far. Its trailers are read and left: nobody here asks for any.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of trailers so far.
    trailers: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum At {
    /// The line with a chunk's size.
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The line's end behind a chunk.
    After,
    /// A trailer, or the empty line that ends the body.
    Trailer,
    End,
}

/// What was found in the bytes that are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Some of the body.
    Data(BytesMut),
    /// Nothing yet: more bytes must come.
    Unfinished,
    /// The end of the body.
    End,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Size, trailers: 0 }
    }

    /// What of the body stands next in `input`, from which it is taken. What cannot be right comes in words.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Found, &'static str> {
        loop {
            match self.at {
                At::Data(left) if input.is_empty() => {
                    debug_assert!(left > 0);
                    return Ok(Found::Unfinished);
                }
                At::Data(left) => {
                    let some = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let left = left - some as u64;
                    self.at = if left == 0 { At::After } else { At::Data(left) };
                    return Ok(Found::Data(input.split_to(some)));
                }
                At::End => return Ok(Found::End),
                At::Size | At::After | At::Trailer => {
                    if !self.line(input)? {
                        return Ok(Found::Unfinished);
                    }
                }
            }
        }
    }

    /// Passes over the line ends that stand at the front; whether that ended the body. Called behind the data of a chunk
    /// it finds the end that came with it, without which one more turn would be needed to see it.
    pub(super) fn is_over(&mut self, input: &mut BytesMut) -> Result<bool, &'static str> {
        while !matches!(self.at, At::Data(_) | At::End) {
            if !self.line(input)? {
                break;
            }
        }
        Ok(self.at == At::End)
    }

    /// Takes one line off `input`; `false` if it is not whole yet.
    fn line(&mut self, input: &mut BytesMut) -> Result<bool, &'static str> {
        if input.is_empty() {
            return Ok(false);
        }
        if self.at == At::After {
            return self.line_end(input);
        }
        let most = if self.at == At::Trailer { MAX_HEAD - self.trailers } else { MAX_LINE };
        let Some(end) = memchr(b'\n', &input[..input.len().min(most)]) else {
            return if input.len() >= most { Err(self.flaw()) } else { Ok(false) };
        };
        let line = input[..end].strip_suffix(b"\r").ok_or_else(|| self.flaw())?;
        match self.at {
            At::Size => {
                self.at = match size(line).ok_or_else(|| self.flaw())? {
                    0 => At::Trailer,
                    size => At::Data(size),
                };
            }
            At::Trailer if line.is_empty() => self.at = At::End,
            At::Trailer => self.trailers += end + 1,
            _ => return Err(self.flaw()),
        }
        input.advance(end + 1);
        Ok(true)
    }

    /// Takes the line's end behind a chunk's data off `input`; `false` if it is not whole yet.
    fn line_end(&mut self, input: &mut BytesMut) -> Result<bool, &'static str> {
        match input[..] {
            [b'\r', b'\n', ..] => {
                input.advance(2);
                self.at = At::Size;
                Ok(true)
            }
            [b'\r'] => Ok(false),
            _ => Err(self.flaw()),
        }
    }

    fn flaw(&self) -> &'static str {
        match self.at {
            At::Size => "the size of a chunk makes no sense",
            At::Trailer => "its trailers are too long or make no sense",
            _ => "a chunk is longer than it says",
        }
    }
}

/// The size that `line` gives; extensions are passed over.
fn size(line: &[u8]) -> Option<u64> {
    let mut size = 0_u64;
    let mut rest = line;
    while let [byte, behind @ ..] = rest
        && let Some(digit) = char::from(*byte).to_digit(16)
    {
        size = size.checked_mul(16)? | u64::from(digit);
        rest = behind;
    }
    let has_digits = rest.len() < line.len();
    let is_whole = !rest.contains(&b'\r') && matches!(rest.trim_ascii_start().first(), None | Some(b';'));
    (has_digits && is_whole).then_some(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of `wire` if it comes in pieces of `step` bytes, and what is left of it behind the end.
    fn read(wire: &[u8], step: usize) -> Result<(Vec<u8>, Option<Vec<u8>>), &'static str> {
        let (mut chunks, mut input, mut body) = (Chunks::new(), BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match chunks.take(&mut input)? {
                    Found::Data(data) => body.extend_from_slice(&data),
                    Found::Unfinished => break,
                    Found::End => break,
                }
            }
        }
        let is_over = chunks.at == At::End;
        Ok((body, is_over.then(|| input.to_vec())))
    }

    #[test]
    fn a_body_is_the_same_however_its_bytes_come() {
        let wire =
            b"5\r\nhello\r\n6;a=b;c=\"d\"\r\n world\r\n00A  \r\n0123456789\r\n0\r\nx: y\r\nz: 1\r\n\r\nrest";
        for step in 1..=wire.len() {
            let (body, rest) = read(wire, step).unwrap();
            assert_eq!(
                (body.as_slice(), rest.as_deref()),
                (b"hello world0123456789".as_slice(), Some(b"rest".as_slice())),
                "{step}"
            );
        }
    }

    #[test]
    fn a_body_without_its_end_is_not_over() {
        for wire in ["", "5", "5\r\n", "5\r\nhello", "5\r\nhello\r\n", "0\r\n", "0\r\nx: y\r\n", "0\r\n\r"] {
            assert_eq!(read(wire.as_bytes(), 1).unwrap().1, None, "{wire:?}");
        }
    }

    #[test]
    fn what_is_badly_framed_is_refused_however_its_bytes_come() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(MAX_LINE));
        let trailers = format!("0\r\n{}\r\n", "x: yyyyyyyyyyyyyy\r\n".repeat(4000));
        for wire in [
            "zz\r\n",
            "\r\n",
            "-1\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5\nhello\n0\n\n",
            "5 5\r\nhello\r\n",
            "5\r\r\nhello\r\n",
            "10000000000000000\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\rX",
            "0\r\nx: y\n\r\n",
            "5;a\rb\r\nhello\r\n",
            &long,
            &trailers,
        ] {
            for step in [1, 3, wire.len()] {
                assert!(read(wire.as_bytes(), step).is_err(), "{wire:.40?} by {step}");
            }
        }
    }

    #[test]
    fn the_end_that_came_with_the_last_data_is_seen_with_it() {
        for (wire, over) in
            [("2\r\nok\r\n0\r\n\r\n", true), ("2\r\nok\r\n0\r\n", false), ("2\r\nok\r\n2\r\nok", false)]
        {
            let (mut chunks, mut input) = (Chunks::new(), BytesMut::from(wire));
            assert_eq!(chunks.take(&mut input), Ok(Found::Data(BytesMut::from("ok"))));
            assert_eq!(chunks.is_over(&mut input), Ok(over), "{wire:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20), step in 1usize..700) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                wire.extend_from_slice(piece);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&wire, step).unwrap(), (pieces.concat(), Some(Vec::new())));
        }

        #[test]
        fn no_bytes_do_any_harm(wire in prop::collection::vec(prop::sample::select(b"0123456789abcdefF\r\n; =x".to_vec()), 0..200), step in 1usize..50) {
            let _ = read(&wire, step);
        }
    }
}
