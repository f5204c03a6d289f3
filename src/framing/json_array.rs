//! The elements of one JSON array that comes bit by bit: bytes cut anywhere become elements.

use bytes::{Buf, BytesMut};
use memchr::memchr2;

use super::TooLong;
use crate::openai::json::MARK;

/// Cuts a stream of bytes into the elements of its array, wherever the network has cut it.
///
/// Whether an element is JSON is for its reader to find out. A body that is one bare object instead of an array is
/// handed out as the only element ([`Splitter::is_bare`]): that is how some providers tell of an error.
#[derive(Debug)]
pub struct Splitter {
    held: BytesMut,
    /// How much of `held` belongs to the element that is being read.
    scanned: usize,
    place: Place,
    bare: bool,
    max_element: usize,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    Between,
    Inside { depth: usize, text: bool, escaped: bool },
    Behind,
}

/// Why no element can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    /// An element is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The body is neither an array nor an object.
    #[error("the upstream's stream is not a JSON array")]
    NoArray,
}

impl Splitter {
    /// A splitter that refuses an element of more than `max_element` bytes.
    pub fn new(max_element: usize) -> Self {
        Self { held: BytesMut::new(), scanned: 0, place: Place::Before, bare: false, max_element }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, input: &[u8]) {
        if self.place != Place::Behind {
            self.held.extend_from_slice(input);
        }
    }

    /// The next element that is complete.
    ///
    /// # Errors
    /// Nothing can be read after one.
    pub fn pop(&mut self) -> Result<Option<BytesMut>, ArrayError> {
        loop {
            let Some(byte) = self.held.get(self.scanned).copied() else {
                let too_long = self.held.len() > self.max_element;
                return if too_long { Err(TooLong(self.max_element).into()) } else { Ok(None) };
            };
            match self.place {
                Place::Behind => {
                    self.held.clear();
                    return Ok(None);
                }
                Place::Before if byte == b'[' => self.skip(Place::Between),
                Place::Before if byte == b'{' => {
                    self.bare = true;
                    self.place = INSIDE;
                }
                Place::Before if byte.is_ascii_whitespace() || MARK.contains(&byte) => {
                    self.skip(Place::Before)
                }
                Place::Before => return Err(ArrayError::NoArray),
                Place::Between if byte == b']' => self.skip(Place::Behind),
                Place::Between if byte == b',' || byte.is_ascii_whitespace() => self.skip(Place::Between),
                Place::Between => self.place = INSIDE,
                Place::Inside { depth, text, escaped } => {
                    if let Some(element) = self.inside(byte, (depth, text, escaped)) {
                        let too_long = element.len() > self.max_element;
                        return if too_long {
                            Err(TooLong(self.max_element).into())
                        } else {
                            Ok(Some(element))
                        };
                    }
                }
            }
        }
    }

    /// Whether the array has been closed.
    pub fn is_closed(&self) -> bool {
        self.place == Place::Behind
    }

    /// Whether the body was one object and no array.
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    fn skip(&mut self, next: Place) {
        self.held.advance(1);
        self.place = next;
    }

    /// Looks at one byte of an element (of a text, at all up to the next that matters).
    fn inside(&mut self, byte: u8, (depth, text, escaped): (usize, bool, bool)) -> Option<BytesMut> {
        if text && !escaped && byte != b'"' && byte != b'\\' {
            let rest = &self.held[self.scanned..];
            self.scanned += memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            return None;
        }
        let ends_before =
            depth == 0 && !text && (matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace());
        if ends_before {
            return Some(self.cut(self.scanned));
        }
        self.scanned += 1;
        let (depth, text, escaped) = match byte {
            _ if escaped => (depth, text, false),
            b'\\' if text => (depth, text, true),
            b'"' => (depth, !text, false),
            b'{' | b'[' if !text => (depth + 1, text, false),
            b'}' | b']' if !text => (depth - 1, text, false),
            _ => (depth, text, false),
        };
        self.place = Place::Inside { depth, text, escaped };
        let is_complete = depth == 0 && !text && matches!(byte, b'}' | b']' | b'"');
        is_complete.then(|| self.cut(self.scanned))
    }

    fn cut(&mut self, length: usize) -> BytesMut {
        self.scanned = 0;
        self.place = if self.bare { Place::Behind } else { Place::Between };
        // A byte that can begin no element must not be looked at for ever.
        self.held.split_to(length.max(1))
    }
}

const INSIDE: Place = Place::Inside { depth: 0, text: false, escaped: false };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All elements of a stream that is fed in pieces of `step` bytes, and whether the array was closed.
    fn read(stream: &[u8], step: usize) -> Result<(Vec<String>, bool), ArrayError> {
        let (mut splitter, mut found) = (Splitter::new(1 << 10), Vec::new());
        for piece in stream.chunks(step) {
            splitter.push(piece);
            while let Some(element) = splitter.pop()? {
                found.push(String::from_utf8_lossy(&element).into_owned());
            }
        }
        Ok((found, splitter.is_closed()))
    }

    #[test]
    fn elements_are_found_however_the_stream_is_cut() {
        let stream = "\u{feff} [ {\"a\":\"]}\\\"é\"},\r\n[1,[2]] ,3, \"x,\\\\\" , null]\n".as_bytes();
        for step in 1..=stream.len() {
            let (found, closed) = read(stream, step).unwrap();
            assert_eq!(found, [r#"{"a":"]}\"é"}"#, "[1,[2]]", "3", r#""x,\\""#, "null"], "{step}");
            assert!(closed);
        }
    }

    #[test]
    fn what_is_cut_off_is_not_closed() {
        for stream in ["[", "[{\"a\":1}", "[{\"a\":1},", "[{\"a\":", "", " "] {
            assert!(!read(stream.as_bytes(), 3).unwrap().1, "{stream}");
        }
    }

    #[test]
    fn a_bare_object_is_the_only_element_and_anything_else_is_no_array() {
        let mut splitter = Splitter::new(100);
        splitter.push(b"{\"error\":[1]} trailing");
        assert_eq!(&splitter.pop().unwrap().unwrap()[..], b"{\"error\":[1]}");
        assert!(splitter.is_bare() && splitter.pop() == Ok(None));
        assert_eq!(read(b"data: {}", 100), Err(ArrayError::NoArray));
    }

    #[test]
    fn an_element_over_the_limit_is_refused_while_it_grows() {
        let mut splitter = Splitter::new(4);
        splitter.push(b"[\"1234567");
        assert_eq!(splitter.pop(), Err(ArrayError::TooLong(TooLong(4))));
    }

    #[test]
    fn an_element_over_the_limit_is_refused_however_it_is_cut() {
        let stream = b"[\"1\", \"1234\" ,5]";
        for step in 1..=stream.len() {
            let read = |most| {
                let (mut splitter, mut found) = (Splitter::new(most), 0);
                for piece in stream.chunks(step) {
                    splitter.push(piece);
                    while splitter.pop()?.is_some() {
                        found += 1;
                    }
                }
                Ok(found)
            };
            assert_eq!(read(6), Ok(3), "in steps of {step}");
            assert_eq!(read(5), Err(ArrayError::TooLong(TooLong(5))), "in steps of {step}");
        }
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same(stream in "[\\[\\]{},\"\\\\ 1a]{0,40}", step in 1_usize..9) {
            prop_assert_eq!(read(stream.as_bytes(), step), read(stream.as_bytes(), stream.len().max(1)));
        }
    }
}
