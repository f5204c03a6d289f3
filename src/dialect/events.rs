//! The events of a stream, whatever frames them: handed on one by one, up to the last that somebody waits for.

use std::fmt;

use bytes::BytesMut;

use super::Broken;
use crate::framing::{TooLong, eventstream, ndjson, sse};

/// Finds the events in bytes that are cut anywhere.
pub(super) trait Framing: fmt::Debug + Send {
    /// One event.
    type Event<'a>;

    /// Whether `bytes` are the first of such events and of nothing else; `None` while they are too few to know.
    fn begins(_bytes: &[u8]) -> Option<bool> {
        Some(false)
    }

    /// Takes the next bytes and hands every event that is now complete to `each`, up to that of which `each` says that
    /// it was the last.
    ///
    /// # Errors
    /// The first of `each`, or [`Broken::Garbled`] where no more events can be found.
    fn feed(
        &mut self,
        input: &[u8],
        each: impl FnMut(Self::Event<'_>) -> Result<bool, Broken>,
    ) -> Result<(), Broken>;

    /// Hands out what the end of the stream completes; how that went, and what there was of it that may be no event.
    fn end(
        &mut self,
        each: impl FnMut(Self::Event<'_>) -> Result<bool, Broken>,
    ) -> (Result<(), Broken>, BytesMut);
}

impl Framing for sse::Splitter {
    type Event<'a> = sse::Event<'a>;

    fn begins(bytes: &[u8]) -> Option<bool> {
        sse::begins(bytes)
    }

    fn feed(
        &mut self,
        input: &[u8],
        each: impl FnMut(sse::Event<'_>) -> Result<bool, Broken>,
    ) -> Result<(), Broken> {
        to_the_last(sse::Events::new(&self.push(input)?), but_for_bare(each))
    }

    fn end(
        &mut self,
        each: impl FnMut(sse::Event<'_>) -> Result<bool, Broken>,
    ) -> (Result<(), Broken>, BytesMut) {
        let rest = self.rest();
        (to_the_last(sse::Events::new(&rest), but_for_bare(each)), rest)
    }
}

impl Framing for ndjson::Splitter {
    type Event<'a> = &'a [u8];

    fn feed(&mut self, input: &[u8], each: impl FnMut(&[u8]) -> Result<bool, Broken>) -> Result<(), Broken> {
        to_the_last(ndjson::lines(&self.push(input)?), each)
    }

    fn end(&mut self, each: impl FnMut(&[u8]) -> Result<bool, Broken>) -> (Result<(), Broken>, BytesMut) {
        let rest = self.rest();
        (to_the_last(ndjson::lines(&rest), each), rest)
    }
}

impl Framing for eventstream::Reader {
    type Event<'a> = eventstream::Message<'a>;

    /// What comes behind the last event is for nobody, but it must be frames.
    fn feed(
        &mut self,
        input: &[u8],
        mut each: impl FnMut(eventstream::Message<'_>) -> Result<bool, Broken>,
    ) -> Result<(), Broken> {
        let mut is_over = false;
        self.read(input, |message| {
            is_over = is_over || each(message)?;
            Ok(())
        })
    }

    fn end(
        &mut self,
        _: impl FnMut(eventstream::Message<'_>) -> Result<bool, Broken>,
    ) -> (Result<(), Broken>, BytesMut) {
        let read = match self.is_inside_a_frame() {
            true => Err(Broken::Garbled("the upstream's stream ended inside of a frame".to_owned())),
            false => Ok(()),
        };
        (read, BytesMut::new())
    }
}

fn but_for_bare(
    mut each: impl FnMut(sse::Event<'_>) -> Result<bool, Broken>,
) -> impl FnMut(sse::Event<'_>) -> Result<bool, Broken> {
    move |event| match event.is_bare {
        false => each(event),
        true => Broken::bare(&event.data).map(|()| false),
    }
}

fn to_the_last<E>(
    events: impl Iterator<Item = E>,
    mut each: impl FnMut(E) -> Result<bool, Broken>,
) -> Result<(), Broken> {
    for event in events {
        if each(event)? {
            break;
        }
    }
    Ok(())
}

impl From<TooLong> for Broken {
    fn from(error: TooLong) -> Self {
        Self::Garbled(error.to_string())
    }
}

impl From<eventstream::Bad> for Broken {
    fn from(bad: eventstream::Bad) -> Self {
        Self::Garbled(bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are handed out, up to the one that says `last`.
    fn lines(splitter: &mut ndjson::Splitter, input: &[u8]) -> Result<Vec<String>, Broken> {
        let mut found = Vec::new();
        splitter.feed(input, |line| {
            found.push(String::from_utf8_lossy(line).into_owned());
            Ok(line == b"last")
        })?;
        Ok(found)
    }

    #[test]
    fn events_are_handed_out_up_to_the_last() {
        let mut splitter = ndjson::Splitter::new(10);
        assert_eq!(lines(&mut splitter, b"a\nb\nla"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(lines(&mut splitter, b"st\nc\n"), Ok(vec!["last".to_owned()]));
        let mut seen = 0;
        let read = sse::Splitter::new(100).feed(b"data: a\n\ndata: b\n\ndata: c\n\n", |event| {
            seen += 1;
            Ok(&*event.data == b"b")
        });
        assert_eq!((read, seen), (Ok(()), 2));
    }

    #[test]
    fn the_first_error_ends_the_reading() {
        let mut seen = 0;
        let read = sse::Splitter::new(100).feed(b"data: a\n\ndata: b\n\n", |_| {
            seen += 1;
            Err(Broken::Garbled("no".to_owned()))
        });
        assert_eq!((read, seen), (Err(Broken::Garbled("no".to_owned())), 1));
    }

    #[test]
    fn what_is_too_long_is_garbled() {
        let mut splitter = ndjson::Splitter::new(3);
        let Err(Broken::Garbled(words)) = lines(&mut splitter, b"abcd") else { panic!("it was read") };
        assert!(words.contains("max_event"), "{words}");
    }

    #[test]
    fn the_end_completes_an_event_but_never_a_frame() {
        let mut seen = Vec::new();
        let mut splitter = sse::Splitter::new(100);
        assert_eq!(splitter.feed(b"data: a", |_| Ok(true)), Ok(()));
        let (read, rest) = splitter.end(|event| {
            seen.extend_from_slice(&event.data);
            Ok(false)
        });
        assert_eq!((read, &*rest, &*seen), (Ok(()), &b"data: a\n\n"[..], &b"a"[..]));
        let mut reader = eventstream::Reader::new(100);
        assert_eq!(reader.end(|_| Ok(false)), (Ok(()), BytesMut::new()));
        assert_eq!(reader.feed(b"\0\0", |_| Ok(false)), Ok(()));
        assert!(matches!(reader.end(|_| Ok(false)), (Err(Broken::Garbled(_)), _)));
    }
}
