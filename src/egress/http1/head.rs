//! The head of an answer: read, and what it says of the body behind it (RFC 9112 §4, §6, §9.3).

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};
use memchr::memchr_iter;

use super::MAX_HEAD;
use super::chunks::Chunks;

/// The most fields of a head.
const MOST_FIELDS: usize = 100;

/// Bytes of interim answers (1xx) that are passed over: more is a flood.
const MOST_INTERIM: usize = 1 << 20;

/// How the body behind a head is framed.
#[derive(Debug)]
pub(super) enum Rest {
    /// There is nothing more.
    Nothing,
    /// So many bytes, never 0.
    Length(u64),
    Chunked(Chunks),
    /// Whatever comes before the connection ends.
    Close,
}

/// A final answer's head, and how to go on behind it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) rest: Rest,
    /// The connection may be used again.
    pub(super) keeps: bool,
}

/// Reads one head as its bytes come.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Bytes at the front that hold no end of a head.
    looked: usize,
    /// Bytes of interim answers so far.
    interim: usize,
}

impl Reader {
    /// The head of the answer to a request with `method` that stands at the front of `input`, from which it is taken;
    /// `None` if it is not whole yet. Interim answers are passed over. What cannot be right comes in words.
    pub(super) fn take(&mut self, input: &mut BytesMut, method: &Method) -> Result<Option<Head>, String> {
        if matches!(input[..], [b'\r' | b'\n', ..]) {
            // Each of many would look like the end of a head, which would be parsed again and again.
            return Err("it begins with an empty line".to_owned());
        }
        while self.may_be_whole(input) {
            let Some((mut parts, length)) = parse(input)? else { break };
            input.advance(length);
            self.looked = 0;
            if parts.status.is_informational() && parts.status != StatusCode::SWITCHING_PROTOCOLS {
                self.interim += length;
                if self.interim > MOST_INTERIM {
                    return Err(format!("more than {} KiB came without a response head", MOST_INTERIM >> 10));
                }
                continue;
            }
            if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err("it answered 101 Switching Protocols, which nobody asked for".to_owned());
            }
            let said = Said::of(&parts)?;
            if let Some(length) = said.length.filter(|_| said.repeats) {
                parts.headers.insert(CONTENT_LENGTH, length.into());
            }
            let rest = said.rest(parts.status, method);
            let keeps = said.keeps && !matches!(rest, Rest::Close);
            return Ok(Some(Head { parts, rest, keeps }));
        }
        if input.len() > MAX_HEAD { Err(too_long()) } else { Ok(None) }
    }

    /// Whether `input` may hold a whole head: one that comes byte by byte is not parsed at each byte.
    fn may_be_whole(&mut self, input: &[u8]) -> bool {
        let from = self.looked.saturating_sub(2);
        let is_first = std::mem::replace(&mut self.looked, input.len()) == 0;
        let ends = |end| matches!(&input[end + 1..], [b'\n', ..] | [b'\r', b'\n', ..]);
        is_first && !input.is_empty() || memchr_iter(b'\n', &input[from..]).any(|end| ends(from + end))
    }
}

fn too_long() -> String {
    format!("its head has more than {} KiB or {MOST_FIELDS} fields", MAX_HEAD >> 10)
}

/// The head at the front of `input` and its length; `None` if it is not whole.
fn parse(input: &[u8]) -> Result<Option<(Parts, usize)>, String> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_FIELDS];
    let mut read = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut read, input, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => return Err(too_long()),
        Ok(Status::Partial) => return Ok(None),
        Err(flaw) => return Err(flaw.to_string()),
    };
    // One copy for all values, so that the buffer is the body's alone.
    let text = Bytes::copy_from_slice(&input[..length]);
    let mut headers = HeaderMap::with_capacity(read.headers.len());
    for field in read.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|flaw| flaw.to_string())?;
        let from = field.value.as_ptr().addr() - input.as_ptr().addr();
        let value = HeaderValue::from_maybe_shared(text.slice(from..from + field.value.len()));
        headers.append(name, value.map_err(|_| "invalid header value".to_owned())?);
    }
    let mut parts = Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(read.code.unwrap_or_default()).map_err(|flaw| flaw.to_string())?;
    parts.version = if read.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.headers = headers;
    Ok(Some((parts, length)))
}

/// What a head says of the body behind it, and of the connection. Whatever could be read in two ways is refused: who
/// guesses lets one answer be smuggled into the next.
struct Said {
    chunked: bool,
    length: Option<u64>,
    /// The length is given more than once: once is what may be handed on (RFC 9110 §8.6).
    repeats: bool,
    keeps: bool,
}

impl Said {
    /// One walk over the fields: looking for each by its name would cost more, and most heads have none of them but one.
    fn of(parts: &Parts) -> Result<Self, &'static str> {
        let is_old = parts.version == Version::HTTP_10;
        let (mut codings, mut chunked, mut length) = (0, false, None);
        let (mut close, mut persists, mut repeats) = (false, false, false);
        for (name, value) in &parts.headers {
            if name == CONTENT_LENGTH {
                repeats = length.is_some() || value.as_bytes().contains(&b',');
                length = Some(content_length(length, value));
            } else if name == TRANSFER_ENCODING {
                codings += 1;
                chunked = value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            } else if name == CONNECTION {
                for word in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    close |= word.eq_ignore_ascii_case(b"close");
                    persists |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        match (codings, length) {
            (0, _) => {}
            (_, Some(_)) => return Err("its answer has both Content-Length and Transfer-Encoding"),
            (1, None) if chunked && is_old => return Err("its answer of HTTP/1.0 has a transfer-encoding"),
            (1, None) if chunked => {}
            _ => return Err("its answer has a Transfer-Encoding other than `chunked`"),
        }
        Ok(Self { chunked, length: length.transpose()?, repeats, keeps: !close && (!is_old || persists) })
    }

    /// What follows (RFC 9112 §6.3).
    fn rest(&self, status: StatusCode, method: &Method) -> Rest {
        let is_bare = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        match self.length {
            _ if is_bare || *method == Method::HEAD => Rest::Nothing,
            _ if self.chunked => Rest::Chunked(Chunks::new()),
            Some(0) => Rest::Nothing,
            Some(length) => Rest::Length(length),
            None => Rest::Close,
        }
    }
}

/// The one length that the fields so far (`known`) and `field` give (RFC 9110 §8.6).
fn content_length(
    known: Option<Result<u64, &'static str>>,
    field: &HeaderValue,
) -> Result<u64, &'static str> {
    let mut length = known.transpose()?;
    for text in field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let digits = std::str::from_utf8(text).ok().filter(|_| text.iter().all(u8::is_ascii_digit));
        let this = digits.and_then(|digits| digits.parse().ok()).ok_or("its content-length is no length")?;
        if length.replace(this).is_some_and(|other| other != this) {
            return Err("it has more than one content-length");
        }
    }
    length.ok_or("its content-length is no length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The head of `wire` if it comes in pieces of `step` bytes, and what is left behind it.
    fn read(wire: &[u8], method: &Method, step: usize) -> Result<Option<(Head, Vec<u8>)>, String> {
        let (mut reader, mut input) = (Reader::default(), BytesMut::new());
        let mut pieces = wire.chunks(step);
        for piece in &mut pieces {
            input.extend_from_slice(piece);
            if let Some(head) = reader.take(&mut input, method)? {
                let rest = pieces.flatten().copied();
                return Ok(Some((head, input.iter().copied().chain(rest).collect())));
            }
        }
        Ok(None)
    }

    fn told(head: &Head) -> String {
        format!("{:?} {:?} {}", head.parts.status.as_u16(), head.rest, head.keeps)
    }

    #[test]
    fn the_framing_is_that_of_the_rfc() {
        let (get, head) = (Method::POST, Method::HEAD);
        let chunks = "Chunked(Chunks { at: Size, trailers: 0 })";
        for (method, wire, expected) in [
            (&get, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "200 Length(5) true".to_owned()),
            (
                &get,
                "HTTP/1.1 200\r\nContent-Length: 5, 5\r\ncontent-length:5\r\n\r\n",
                "200 Length(5) true".to_owned(),
            ),
            (&get, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200 Nothing true".to_owned()),
            (&get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", format!("200 {chunks} true")),
            (&get, "HTTP/1.1 200 OK\r\n\r\n", "200 Close false".to_owned()),
            (&get, "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", "204 Nothing true".to_owned()),
            (&get, "HTTP/1.1 304 No\r\n\r\n", "304 Nothing true".to_owned()),
            (&head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "200 Nothing true".to_owned()),
            (
                &get,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: x, Close\r\n\r\n",
                "200 Length(5) false".to_owned(),
            ),
            (&get, "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", "200 Length(5) false".to_owned()),
            (
                &get,
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
                "200 Length(5) true".to_owned(),
            ),
            (
                &get,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 418 Tea\r\ncontent-length: 1\r\n\r\n",
                "418 Length(1) true".to_owned(),
            ),
        ] {
            for step in [1, 2, 7, wire.len()] {
                let with_body = format!("{wire}body");
                let (head, rest) = read(with_body.as_bytes(), method, step).unwrap().unwrap();
                assert_eq!(
                    (told(&head), rest.as_slice()),
                    (expected.clone(), b"body".as_slice()),
                    "{wire:?} by {step}"
                );
            }
            for cut in 0..wire.len() {
                assert!(read(&wire.as_bytes()[..cut], method, 3).unwrap().is_none(), "{wire:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn framing_that_could_be_read_in_two_ways_is_refused() {
        for (fields, why) in [
            ("content-length: 5\r\ntransfer-encoding: chunked", "both"),
            ("transfer-encoding: chunked\r\ncontent-length: x", "both"),
            ("transfer-encoding: gzip, chunked", "other than"),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "other than"),
            ("transfer-encoding: ", "other than"),
            ("content-length: 5\r\ncontent-length: 6", "more than one"),
            ("content-length: 5, 6", "more than one"),
            ("content-length: 5\r\ncontent-length: x", "no length"),
            ("content-length: x\r\ncontent-length: 5", "no length"),
            ("content-length: +5", "no length"),
            ("content-length: ", "no length"),
            ("content-length: 5,", "no length"),
            ("content-length: 18446744073709551616", "no length"),
        ] {
            let said = read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes(), &Method::GET, 7);
            assert!(said.as_ref().is_err_and(|it| it.contains(why)), "{fields:?}: {said:?}");
        }
        let old = read(b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &Method::GET, 7);
        assert!(old.as_ref().is_err_and(|it| it.contains("HTTP/1.0")), "{old:?}");
        let switched = read(b"HTTP/1.1 101 On\r\n\r\n", &Method::GET, 7);
        assert!(switched.as_ref().is_err_and(|it| it.contains("101")), "{switched:?}");
    }

    #[test]
    fn fields_come_as_they_are_and_in_order() {
        let wire = b"HTTP/1.1 200 OK\r\nX-Two:  a b \r\nset-cookie: 1\r\nSet-Cookie: \xff2\r\nempty:\r\ncontent-length: 0\r\n\r\n";
        let (head, _) = read(wire, &Method::GET, 9).unwrap().unwrap();
        let fields: Vec<_> =
            head.parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 5] = [
            ("x-two", b"a b"),
            ("set-cookie", b"1"),
            ("set-cookie", b"\xff2"),
            ("empty", b""),
            ("content-length", b"0"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_length_that_is_given_twice_is_handed_on_once() {
        for fields in ["content-length: 5, 5", "content-length: 5\r\nContent-Length: 5"] {
            for method in [Method::GET, Method::HEAD] {
                let wire = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
                let (head, _) = read(wire.as_bytes(), &method, wire.len()).unwrap().unwrap();
                let lengths: Vec<_> = head.parts.headers.get_all(CONTENT_LENGTH).iter().collect();
                assert_eq!(lengths, ["5"], "{fields}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_head_is_refused_at_its_first_bytes() {
        for wire in [
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "\n",
            "SSH-2.0-OpenSSH_9.9\r\n",
            "\x15\x03\x01\0\x02\x02",
            "{\"error\":",
        ] {
            assert!(read(wire.as_bytes(), &Method::GET, wire.len()).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_head_that_is_too_large_is_refused_before_its_end() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(MAX_HEAD));
        let many = format!("HTTP/1.1 200 OK\r\n{}", "x: 1\r\n".repeat(MOST_FIELDS + 1));
        for wire in [long, many] {
            assert_eq!(read(wire.as_bytes(), &Method::GET, 4096).unwrap_err(), too_long());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_any_harm(wire in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            let _ = read(&wire, &Method::GET, step);
            let _ = read(&[b"HTTP/1.1 200 OK\r\n", wire.as_slice()].concat(), &Method::GET, step);
        }
    }
}
