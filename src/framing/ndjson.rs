//! JSON texts one a line (NDJSON): bytes cut anywhere become lines.

use bytes::BytesMut;
use memchr::{memchr, memrchr};

use super::{Complete, TooLong};

/// Cuts a stream of bytes behind its lines, wherever the network has cut it.
#[derive(Debug)]
pub struct Splitter {
    held: BytesMut,
    max_line: usize,
}

impl Splitter {
    /// A splitter that refuses a line of more than `max_line` bytes, its line feed not included.
    pub fn new(max_line: usize) -> Self {
        Self { held: BytesMut::new(), max_line }
    }

    /// Takes the next bytes; returns the lines that are now complete and keeps the rest.
    ///
    /// # Errors
    /// [`TooLong`] when a line exceeds the limit, complete or not; nothing can be read after that.
    pub fn push<'i>(&mut self, input: &'i [u8]) -> Result<Complete<'i>, TooLong> {
        // What is held has no line feed: only what is new is looked at.
        let end = memrchr(b'\n', input).map_or(0, |at| at + 1);
        let complete = if self.held.is_empty() {
            Complete::Input(&input[..end])
        } else if end == 0 {
            Complete::Input(&[])
        } else {
            self.held.extend_from_slice(&input[..end]);
            Complete::Joined(self.held.split())
        };
        self.held.extend_from_slice(&input[end..]);
        if self.held.len() > self.max_line || self.has_too_long(&complete) {
            return Err(TooLong(self.max_line));
        }
        Ok(complete)
    }

    fn has_too_long(&self, complete: &[u8]) -> bool {
        complete.len() > self.max_line
            && complete.split(|byte| *byte == b'\n').any(|line| line.len() > self.max_line)
    }

    /// What was not complete when the stream ended: its last line, if that lacks only the line feed.
    pub fn rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.held)
    }
}

/// The lines in `bytes` that hold more than white space, without it at their ends.
pub fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes).unwrap_or(bytes.len());
            let line = bytes[..end].trim_ascii();
            bytes = bytes.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of a stream that is fed in pieces of `step` bytes.
    fn read(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut splitter, mut found) = (Splitter::new(1 << 10), Vec::new());
        for piece in stream.chunks(step) {
            found.extend(lines(&splitter.push(piece).unwrap()).map(<[u8]>::to_vec));
        }
        found.extend(lines(&splitter.rest()).map(<[u8]>::to_vec));
        found
    }

    #[test]
    fn lines_are_found_however_the_stream_is_cut() {
        let stream = b"{\"a\":1}\r\n\n  \n{\"b\":2}\n{\"c\":3}";
        for step in 1..=stream.len() {
            assert_eq!(read(stream, step), [&b"{\"a\":1}"[..], b"{\"b\":2}", b"{\"c\":3}"], "{step}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut splitter = Splitter::new(4);
        assert!(splitter.push(b"1234").is_ok());
        assert_eq!(splitter.push(b"5").unwrap_err(), TooLong(4));
    }

    #[test]
    fn a_line_over_the_limit_is_refused_however_it_is_cut() {
        let stream = b"1\n12\n12345\r\n1\n";
        for step in 1..=stream.len() {
            let read = |most| {
                let mut splitter = Splitter::new(most);
                stream.chunks(step).try_for_each(|piece| splitter.push(piece).map(drop))
            };
            assert_eq!(read(6), Ok(()), "in steps of {step}");
            assert_eq!(read(5), Err(TooLong(5)), "in steps of {step}");
        }
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same(stream in "[a\n\r ]{0,40}", step in 1_usize..9) {
            prop_assert_eq!(read(stream.as_bytes(), step), read(stream.as_bytes(), 100));
        }
    }
}
