//! Server-sent events (WHATWG HTML, section 9.2): bytes cut anywhere become events, and events become bytes.
//!
//! This is the only place that knows the text of an SSE line. [`Splitter`] finds where events end and keeps what is
//! not complete; [`Events`] reads what it hands out; the functions at the end write what a client of OpenAI reads.

use std::borrow::Cow;

use bytes::BytesMut;
use memchr::{memchr, memchr2};

use super::{Complete, TooLong};
use crate::openai::json::{MARK, unmarked};

/// A comment that keeps a silent stream alive; every client skips it.
pub const PING: &[u8] = b": ping\n\n";

/// The same once an event has had an `id`: OpenAI's SDK for Python keeps that, takes each blank line behind it for the end
/// of an event, and dies of one without data.
pub const PING_AFTER_ID: &[u8] = b": ping\n";

/// Cuts a stream of bytes behind its events, wherever the network has cut it.
#[derive(Debug)]
pub struct Splitter {
    held: BytesMut,
    search: Search,
    max_event: usize,
}

impl Splitter {
    /// A splitter that refuses an event of more than `max_event` bytes, its blank line included.
    pub fn new(max_event: usize) -> Self {
        Self { held: BytesMut::new(), search: Search::default(), max_event }
    }

    /// Takes the next bytes; returns the events that are now complete and keeps the rest.
    ///
    /// # Errors
    /// [`TooLong`] when an event exceeds the limit, complete or not; nothing can be read after that.
    pub fn push<'i>(&mut self, input: &'i [u8]) -> Result<Complete<'i>, TooLong> {
        let most = self.max_event;
        let complete = if self.held.is_empty() {
            let end = self.search.run(input, most)?;
            self.held.extend_from_slice(&input[end..]);
            self.search.forget(end);
            Complete::Input(&input[..end])
        } else {
            self.held.extend_from_slice(input);
            let end = self.search.run(&self.held, most)?;
            self.search.forget(end);
            Complete::Joined(self.held.split_to(end))
        };
        if self.held.len() > most { Err(TooLong(most)) } else { Ok(complete) }
    }

    /// Whether one event of `length` bytes that comes next, whole, would be handed out as it came.
    pub fn would_take_whole(&self, length: usize) -> bool {
        self.held.is_empty() && length <= self.max_event
    }

    /// What was not complete when the stream ended, closed as if its blank line had come; empty if there is nothing.
    pub fn rest(&mut self) -> BytesMut {
        let mut rest = std::mem::take(&mut self.held);
        self.search = Search::default();
        if !rest.is_empty() {
            rest.extend_from_slice(b"\n\n");
        }
        rest
    }
}

/// How far the search for the end of an event has come, so that no byte is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    line: usize,
    scanned: usize,
}

impl Search {
    /// The end of the last complete event in `bytes`, which begin with an event; 0 if there is none.
    ///
    /// # Errors
    /// [`TooLong`] when a complete one has more than `most` bytes.
    fn run(&mut self, bytes: &[u8], most: usize) -> Result<usize, TooLong> {
        let mut end = 0;
        while let Some(found) = memchr2(b'\n', b'\r', &bytes[self.scanned..]) {
            let at = self.scanned + found;
            let blank = at == self.line;
            let next = after_line(bytes, at);
            // A CR at the cut may be half a CRLF; where lines end in a CR alone it is not.
            if bytes[at..] == *b"\r" && !(blank && bytes[..at].ends_with(b"\r")) {
                self.scanned = at;
                return Ok(end);
            }
            (self.line, self.scanned) = (next, next);
            if blank {
                if next - end > most {
                    // Its offsets are of these bytes, which are not kept.
                    *self = Self::default();
                    return Err(TooLong(most));
                }
                end = next;
            }
        }
        self.scanned = bytes.len();
        Ok(end)
    }

    /// The first `taken` bytes are gone.
    fn forget(&mut self, taken: usize) {
        self.line -= taken;
        self.scanned -= taken;
    }
}

fn after_line(bytes: &[u8], at: usize) -> usize {
    match bytes[at..] {
        [b'\r', b'\n', ..] => at + 2,
        _ => at + 1,
    }
}

/// One event: its name, its data and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field, empty if there is none.
    pub name: &'a [u8],
    /// The `data` fields, joined by line feeds.
    pub data: Cow<'a, [u8]>,
    /// The data stands there by itself, without the field's name: no client would read it.
    pub is_bare: bool,
    /// The offset behind its blank line, from the beginning of what [`Events`] was given.
    pub end: usize,
}

impl Event<'_> {
    /// Whether this is OpenAI's last event.
    pub fn is_done(&self) -> bool {
        self.data.trim_ascii() == b"[DONE]"
    }
}

/// The events in bytes that end where an event ends; comments, unknown fields and events without data are skipped, but
/// for JSON that stands there bare: some gateways tell so of an error.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    bytes: &'a [u8],
    at: usize,
    has_id: bool,
}

impl<'a> Events<'a> {
    /// Reads `bytes`, which come from a [`Splitter`]; a byte order mark at their beginning is skipped.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: bytes.len() - unmarked(bytes).len(), has_id: false }
    }

    /// Whether an `id` stood in what was read so far, with data or without.
    pub fn has_id(&self) -> bool {
        self.has_id
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = memchr2(b'\n', b'\r', rest)?;
        self.at = after_line(self.bytes, self.at + length);
        Some(&rest[..length])
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let (mut name, mut data, mut bare) = (&b""[..], None, None);
        loop {
            let start = self.at;
            let line = self.line()?;
            if line.is_empty() {
                let end = self.at;
                if let Some(data) = data {
                    return Some(Event { name, data, is_bare: false, end });
                }
                if let Some(from) = bare {
                    let data = Cow::Borrowed(&self.bytes[from..start]);
                    return Some(Event { name, data, is_bare: true, end });
                }
                (name, data) = (b"", None);
                continue;
            }
            if line[0] == b'{' {
                bare.get_or_insert(start);
            }
            match field(line) {
                (b"data", value) => data = Some(joined(data, value)),
                (b"event", value) => name = value,
                (b"id", _) => self.has_id = true,
                _ => {}
            }
        }
    }
}

/// A line's field and its value; a comment is the field without a name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr(b':', line) else { return (line, b"") };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

fn joined<'a>(data: Option<Cow<'a, [u8]>>, line: &'a [u8]) -> Cow<'a, [u8]> {
    let Some(data) = data else { return Cow::Borrowed(line) };
    let mut data = data.into_owned();
    data.push(b'\n');
    data.extend_from_slice(line);
    Cow::Owned(data)
}

/// Whether `bytes` begin a stream of events, whatever they are said to be; `None` while they are too few to know.
pub fn begins(bytes: &[u8]) -> Option<bool> {
    if MARK.starts_with(bytes) {
        return None;
    }
    let mut line = unmarked(bytes);
    while let [b'\r' | b'\n', rest @ ..] = line {
        line = rest;
    }
    let fields = ["data:", "event:", "id:", "retry:", ":"].map(str::as_bytes);
    match fields.iter().any(|field| line.starts_with(field)) {
        true => Some(true),
        false if fields.iter().any(|field| field.starts_with(line)) => None,
        false => Some(false),
    }
}

/// Writes one event whose data is what `write` puts down: JSON without line breaks.
pub fn event(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.extend_from_slice(b"data: ");
    write(out);
    out.extend_from_slice(b"\n\n");
}

/// Writes the event that tells a client of OpenAI that the stream is complete.
pub fn done(out: &mut BytesMut) {
    event(out, |out| out.extend_from_slice(b"[DONE]"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All events as (name, data), fed in pieces of `step` bytes.
    fn read(stream: &[u8], step: usize) -> Vec<(String, String)> {
        let mut splitter = Splitter::new(1 << 20);
        let mut events = Vec::new();
        let mut take = |bytes: &[u8]| {
            for event in Events::new(bytes) {
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                events.push((text(event.name), text(&event.data)));
            }
        };
        for piece in stream.chunks(step.max(1)) {
            take(&splitter.push(piece).unwrap());
        }
        take(&splitter.rest());
        events
    }

    #[test]
    fn a_stream_is_known_by_its_first_field_as_soon_as_it_can_be() {
        for text in ["data:{}", "event: x", "id:1", "retry: 5", ": hi", "\u{feff}\r\n\n\rdata: {}", "\n:"] {
            let known = text.find(':').unwrap();
            for end in 0..=text.len() {
                let want = (end > known).then_some(true);
                assert_eq!(begins(&text.as_bytes()[..end]), want, "{text:?} to {end}");
            }
        }
        for text in
            ["{\"data\":1}", "<html>", "[", " data:", "data {", "dates:", "\u{feff}{", "\n\n<", "\u{fefe}"]
        {
            assert_eq!(begins(text.as_bytes()), Some(false), "{text:?}");
        }
    }

    fn pair(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn every_line_ending_and_every_kind_of_line_is_read() {
        let wanted = vec![pair("", "a"), pair("x", "b\nc"), pair("", ""), pair("", " d")];
        for end in ["\n", "\r\n", "\r"] {
            let text =
                "data: a||: note|event: x|id: 7|data:b|data: c||retry: 5||event: lost||data||data:  d||";
            let stream = text.replace('|', end);
            for step in 1..stream.len() + 1 {
                assert_eq!(read(stream.as_bytes(), step), wanted, "{end:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn bare_json_is_handed_out_as_such_unless_it_stands_beside_data() {
        let stream = b": a\n\n{\"error\":\n 1}\n\n{\"b\": 2}\ndata: c\n\nretry: 5\n\n{\"d\"";
        let events = Events::new(&stream[..stream.len() - 4]).map(|e| (e.is_bare, e.data.into_owned()));
        let wanted = [(true, b"{\"error\":\n 1}\n".to_vec()), (false, b"c".to_vec())];
        assert_eq!(events.collect::<Vec<_>>(), wanted);
        for step in 1..stream.len() {
            assert_eq!(read(stream, step), read(stream, stream.len()), "in steps of {step}");
        }
        assert_eq!(read(stream, 1).last(), Some(&pair("", "{\"d\"\n")));
    }

    #[test]
    fn an_id_is_noticed_with_data_or_without() {
        for (bytes, has_id) in [
            ("data: a\n\n", false),
            ("data: id: 1\n: id: 2\nids: 3\n\n", false),
            ("data: a\nid: 1\n\n", true),
            ("data: a\n\nid:1\n\n", true),
        ] {
            let mut events = Events::new(bytes.as_bytes());
            assert_eq!((events.by_ref().count(), events.has_id()), (1, has_id), "{bytes:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_even_when_it_is_cut() {
        for step in [1, 2, 100] {
            assert_eq!(read(b"\xEF\xBB\xBFdata: a\n\n", step), [pair("", "a")]);
        }
    }

    #[test]
    fn whole_events_are_not_copied() {
        let mut splitter = Splitter::new(100);
        let input = b"data: a\n\ndata: b\r\n\r\n";
        let Ok(Complete::Input(through)) = splitter.push(input) else { panic!("copied") };
        assert_eq!((through.as_ptr(), through.len()), (input.as_ptr(), input.len()));
        assert!(splitter.rest().is_empty());
    }

    #[test]
    fn an_event_ends_with_its_blank_line_and_not_with_the_next_event() {
        let mut splitter = Splitter::new(100);
        assert_eq!(&*splitter.push(b"data: a\n").unwrap(), b"");
        assert_eq!(&*splitter.push(b"\n").unwrap(), b"data: a\n\n");
        assert_eq!(&*splitter.push(b"data: b\r").unwrap(), b"");
        assert_eq!(&*splitter.push(b"\n\r").unwrap(), b"");
        assert_eq!(&*splitter.push(b"\ndata: c\r").unwrap(), b"data: b\r\n\r\n");
        assert_eq!(&*splitter.push(b"\r").unwrap(), b"data: c\r\r");
    }

    #[test]
    fn an_event_over_the_limit_is_refused_while_it_grows() {
        let mut splitter = Splitter::new(10);
        assert!(splitter.push(b"data: 123").is_ok());
        assert_eq!(splitter.push(b"45"), Err(TooLong(10)));
    }

    #[test]
    fn an_event_over_the_limit_is_refused_however_it_is_cut() {
        let stream = b"data: 1\n\n: ping\r\n\r\ndata: 1234\n\ndata: 2\n\n";
        for step in 1..=stream.len() {
            let read = |most| {
                let mut splitter = Splitter::new(most);
                stream.chunks(step).try_for_each(|piece| splitter.push(piece).map(drop))
            };
            assert_eq!(read(12), Ok(()), "in steps of {step}");
            assert_eq!(read(11), Err(TooLong(11)), "in steps of {step}");
        }
    }

    #[test]
    fn whoever_asks_again_after_the_limit_gets_no_panic() {
        let mut splitter = Splitter::new(8);
        assert_eq!(splitter.push(b"data: 1234567\n\ndata: 1"), Err(TooLong(8)));
        assert_eq!(&*splitter.push(b"\n\n").unwrap(), b"\n\n");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = BytesMut::new();
        event(&mut out, |out| out.extend_from_slice(b"{\"a\":1}"));
        out.extend_from_slice(PING);
        done(&mut out);
        let events: Vec<_> = Events::new(&out).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(&*events[0].data, b"{\"a\":1}");
        assert!(events[1].is_done() && !events[0].is_done());
        assert_eq!(events[1].end, out.len());
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere_give_the_same_events(
            stream in proptest::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), any::<u8>()], 0..80),
            step in 1_usize..9,
        ) {
            prop_assert_eq!(read(&stream, step), read(&stream, stream.len()));
        }
    }
}
