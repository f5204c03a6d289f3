//! AWS event streams (`application/vnd.amazon.eventstream`): bytes cut anywhere become checked messages.
//!
//! A frame is a prelude (its length, that of its headers, a CRC of both), headers, a payload, and a CRC of all of it.
//! Reference: <https://smithy.io/2.0/aws/amazon-eventstream.html>.

use bytes::BytesMut;

use super::TooLong;

/// What makes a stream unreadable; nothing can be read after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A frame longer than the limit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The CRC of a frame's prelude does not match: these are no frames, or they were damaged.
    #[error("the CRC of a frame's prelude is wrong")]
    Prelude,
    /// The CRC of a whole frame does not match: it was damaged.
    #[error("the CRC of a frame is wrong")]
    Message,
    /// A frame whose inside makes no sense although nothing was damaged.
    #[error("a frame makes no sense: {0}")]
    Shape(&'static str),
}

/// What one frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// News.
    Event {
        /// Which kind.
        kind: &'a str,
        /// Mostly JSON.
        payload: &'a [u8],
    },
    /// An error that the service has modelled; the last frame of its stream.
    Exception {
        /// Which one.
        kind: &'a str,
        /// Mostly JSON.
        payload: &'a [u8],
    },
    /// Any other error; the last frame of its stream.
    Error {
        /// The service's word for it.
        code: &'a str,
        /// In words.
        message: &'a str,
    },
}

/// Reads frames, wherever the network has cut them.
#[derive(Debug)]
pub struct Reader {
    /// The beginning of a frame.
    held: BytesMut,
    max_frame: usize,
}

impl Reader {
    /// A reader that refuses frames of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self { held: BytesMut::new(), max_frame }
    }

    /// Takes the next bytes and hands every frame that is now complete to `each`; keeps the rest.
    ///
    /// # Errors
    /// [`Bad`], after all frames before it have been handed out; or the first error of `each`. Nothing can be read
    /// after either.
    pub fn read<E: From<Bad>>(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.held.is_empty() {
            let Some(length) = self.fill(&mut input)? else { return Ok(()) };
            each(message(&self.held[..length])?)?;
            self.held.clear();
        }
        while let Some(length) = self.length(input)? {
            let Some(frame) = input.get(..length) else { break };
            each(message(frame)?)?;
            input = &input[length..];
        }
        self.held.extend_from_slice(input);
        Ok(())
    }

    /// Whether the stream has ended inside a frame, if this is its end.
    pub fn is_inside_a_frame(&self) -> bool {
        !self.held.is_empty()
    }

    /// Moves what the held frame lacks out of `input`; its length, once it is complete.
    fn fill(&mut self, input: &mut &[u8]) -> Result<Option<usize>, Bad> {
        self.take(PRELUDE, input);
        let Some(length) = self.length(&self.held)? else { return Ok(None) };
        self.take(length, input);
        Ok((self.held.len() == length).then_some(length))
    }

    /// Moves bytes out of `input` until `length` are held.
    fn take(&mut self, length: usize, input: &mut &[u8]) {
        let (now, later) = input.split_at(length.saturating_sub(self.held.len()).min(input.len()));
        self.held.extend_from_slice(now);
        *input = later;
    }

    /// The length of the frame that `bytes` begin with; `None` until its prelude is complete.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Bad> {
        let Some((prelude, _)) = bytes.split_at_checked(PRELUDE) else { return Ok(None) };
        if crc32fast::hash(&prelude[..8]) != number(&prelude[8..]) {
            return Err(Bad::Prelude);
        }
        let (length, headers) = (size(&prelude[..4]), size(&prelude[4..8]));
        if length > self.max_frame {
            return Err(Bad::TooLong(TooLong(self.max_frame)));
        }
        if length < headers.saturating_add(PRELUDE + CRC) {
            return Err(Bad::Shape("it is shorter than its headers"));
        }
        Ok(Some(length))
    }
}

const PRELUDE: usize = 12;
const CRC: usize = 4;

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn size(bytes: &[u8]) -> usize {
    usize::try_from(number(bytes)).unwrap_or(usize::MAX)
}

/// What a whole frame says, whose prelude has been checked.
fn message(frame: &[u8]) -> Result<Message<'_>, Bad> {
    let (body, crc) = frame.split_at(frame.len() - CRC);
    if crc32fast::hash(body) != number(crc) {
        return Err(Bad::Message);
    }
    let (headers, payload) = body[PRELUDE..].split_at(size(&body[4..8]));
    let headers = Headers::read(headers)?;
    let named = |name: Option<_>| name.ok_or(Bad::Shape("it does not say its type"));
    match headers.message {
        Some("event") => Ok(Message::Event { kind: named(headers.event)?, payload }),
        Some("exception") => Ok(Message::Exception { kind: named(headers.exception)?, payload }),
        Some("error") => {
            let (code, message) = (headers.code.unwrap_or_default(), headers.words.unwrap_or_default());
            Ok(Message::Error { code, message })
        }
        _ => Err(Bad::Shape("it is neither an event nor an exception nor an error")),
    }
}

/// The headers that say what a frame is.
#[derive(Default)]
struct Headers<'a> {
    message: Option<&'a str>,
    event: Option<&'a str>,
    exception: Option<&'a str>,
    code: Option<&'a str>,
    words: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Self, Bad> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let (name, value) =
                header(&mut bytes).ok_or(Bad::Shape("a header is cut or of no known type"))?;
            let place = match name {
                b":message-type" => &mut headers.message,
                b":event-type" => &mut headers.event,
                b":exception-type" => &mut headers.exception,
                b":error-code" => &mut headers.code,
                b":error-message" => &mut headers.words,
                _ => continue,
            };
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            *place = Some(text.ok_or(Bad::Shape("a header that should be text is none"))?);
        }
        Ok(headers)
    }
}

/// Takes one header off `bytes`: its name, and its value if that is a text.
fn header<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let length = take(bytes, 1)?[0];
    let name = take(bytes, usize::from(length))?;
    let length = match take(bytes, 1)?[0] {
        // True and false.
        0 | 1 => 0,
        // A byte, a short, an integer, a long, and below a time and a UUID.
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        9 => 16,
        kind @ (BYTES | TEXT) => {
            let length = size(take(bytes, 2)?);
            let value = take(bytes, length)?;
            return Some((name, (kind == TEXT).then_some(value)));
        }
        _ => return None,
    };
    take(bytes, length)?;
    Some((name, None))
}

const BYTES: u8 = 6;
const TEXT: u8 = 7;

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of text headers.
    fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        for (name, value) in headers {
            raw.push(u8::try_from(name.len()).unwrap());
            raw.extend_from_slice(name.as_bytes());
            raw.push(TEXT);
            raw.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            raw.extend_from_slice(value.as_bytes());
        }
        sealed(&raw, payload)
    }

    fn sealed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame.extend_from_slice(headers);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame
    }

    fn event(payload: &str) -> Vec<u8> {
        frame(&[(":event-type", "chunk"), (":message-type", "event")], payload.as_bytes())
    }

    /// What is read of `stream` in pieces of `step` bytes: the payloads, and how it ended.
    fn read(stream: &[u8], step: usize) -> (Vec<String>, Result<bool, Bad>) {
        let (mut reader, mut found) = (Reader::new(1 << 10), Vec::new());
        for piece in stream.chunks(step.max(1)) {
            let read = reader.read(piece, |message| {
                found.push(match message {
                    Message::Event { kind, payload } => {
                        format!("{kind}:{}", String::from_utf8_lossy(payload))
                    }
                    other => format!("{other:?}"),
                });
                Ok::<_, Bad>(())
            });
            if let Err(bad) = read {
                return (found, Err(bad));
            }
        }
        let inside = reader.is_inside_a_frame();
        (found, Ok(inside))
    }

    #[test]
    fn a_frame_of_the_reference_is_read() {
        // From the test vectors of AWS: no headers, and a payload that no service of ours would send.
        let vector = b"\0\0\0\x1d\0\0\0\0\xfd\x52\x8c\x5a{'foo':'bar'}\xc3\x65\x39\x36";
        assert_eq!(sealed(b"", b"{'foo':'bar'}"), vector);
        let wanted = Bad::Shape("it is neither an event nor an exception nor an error");
        assert_eq!(read(vector, 5).1, Err(wanted));
    }

    #[test]
    fn every_kind_of_header_is_passed_over() {
        let mut headers = Vec::new();
        for (kind, length) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            headers.extend_from_slice(&[1, b'x', kind]);
            headers.extend_from_slice(&vec![7; length]);
        }
        headers.extend_from_slice(&[1, b'x', BYTES, 0, 2, 0xff, 0xff]);
        let told = frame(&[(":message-type", "event"), (":event-type", "e")], b"");
        headers.extend_from_slice(&told[PRELUDE..told.len() - CRC]);
        assert_eq!(read(&sealed(&headers, b"p"), 3), (vec!["e:p".to_owned()], Ok(false)));
        let unknown = [&headers[..], &[1, b'x', 10]].concat();
        assert!(matches!(read(&sealed(&unknown, b"p"), 100).1, Err(Bad::Shape(_))));
        let cut = &headers[..headers.len() - 1];
        assert!(matches!(read(&sealed(cut, b"p"), 100).1, Err(Bad::Shape(_))));
    }

    #[test]
    fn frames_are_found_however_they_are_cut_and_a_cut_end_is_seen() {
        let exception = frame(&[(":message-type", "exception"), (":exception-type", "late")], b"{}");
        let error = frame(&[(":message-type", "error"), (":error-code", "c"), (":error-message", "w")], b"");
        let stream = [event("a"), event(""), exception, error].concat();
        let wanted = vec![
            "chunk:a".to_owned(),
            "chunk:".to_owned(),
            "Exception { kind: \"late\", payload: [123, 125] }".to_owned(),
            "Error { code: \"c\", message: \"w\" }".to_owned(),
        ];
        for step in 1..=stream.len() {
            assert_eq!(read(&stream, step), (wanted.clone(), Ok(false)), "{step}");
            assert_eq!(read(&stream[..stream.len() - 1], step), (wanted[..3].to_vec(), Ok(true)), "{step}");
        }
    }

    #[test]
    fn damage_is_an_error_behind_the_frames_before_it() {
        let (first, second) = (event("a"), event("b"));
        for at in 0..second.len() {
            let mut damaged = [first.clone(), second.clone()].concat();
            damaged[first.len() + at] ^= 1;
            let wanted = if at < PRELUDE { Bad::Prelude } else { Bad::Message };
            for step in [1, 7, damaged.len()] {
                assert_eq!(read(&damaged, step), (vec!["chunk:a".to_owned()], Err(wanted)), "{at}");
            }
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_as_soon_as_its_length_is_known() {
        let frame = event(&"x".repeat(1 << 10));
        let mut reader = Reader::new(1 << 10);
        let read = reader.read(&frame[..PRELUDE], |_| Ok::<_, Bad>(()));
        assert_eq!(read, Err(Bad::TooLong(TooLong(1 << 10))));
    }

    #[test]
    fn a_length_that_cannot_hold_the_headers_is_refused() {
        for (length, headers) in [(15_u32, 0_u32), (0, 0), (20, 5), (1000, u32::MAX)] {
            let mut prelude = [length.to_be_bytes(), headers.to_be_bytes()].concat();
            prelude.extend_from_slice(&crc32fast::hash(&prelude).to_be_bytes());
            assert!(matches!(read(&prelude, 5).1, Err(Bad::Shape(_))), "{length}");
        }
    }

    #[test]
    fn an_error_of_the_taker_ends_the_reading() {
        let (mut reader, mut taken) = (Reader::new(1 << 10), 0);
        let stream = [event("a"), event("b")].concat();
        let read = reader.read(&stream, |_| {
            taken += 1;
            Err(Bad::Shape("enough"))
        });
        assert_eq!((read, taken), (Err(Bad::Shape("enough")), 1));
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere_give_the_same(
            headers in proptest::collection::vec(any::<u8>(), 0..30),
            garbage in proptest::collection::vec(any::<u8>(), 0..40),
            step in 1_usize..9,
        ) {
            let stream = [event("a"), sealed(&headers, b"p"), garbage].concat();
            prop_assert_eq!(read(&stream, step), read(&stream, stream.len()));
        }
    }
}
