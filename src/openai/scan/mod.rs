//! The one scan of a request body: proves it sound and says where its parts stand, so it can be spliced, never written anew.
//!
//! A body is read once, from left to right, without recursion and without a copy. What passes is valid UTF-8 and valid
//! JSON (RFC 8259): one object, whitespace around it and nothing else, at most [`MAX_DEPTH`] levels deep.

use std::fmt;
use std::ops::Range;

pub(super) use self::reader::{BLOCK, Reader, Step, marks};

mod reader;

/// Levels of nesting a body may have, its outermost object counted.
pub const MAX_DEPTH: u32 = 128;

/// Members the outermost object may have: OpenAI knows some fifty, and each costs memory many times its own length.
pub const MAX_MEMBERS: usize = 4096;

/// What one pass over a body found. Spans are byte offsets into that body and always on character boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The object itself, from `{` to just behind `}`.
    pub object: Range<u32>,
    /// Every member of the object in the order of the body. Names other than `model` and `stream` may repeat.
    pub members: Vec<Member>,
    /// What stands under `model`.
    pub model: Model,
    /// The value of `stream` if that is `true` or `false`; `None` if it is absent or something else.
    pub stream: Option<bool>,
}

/// Where one member of the object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name, its quotes included.
    pub key: Range<u32>,
    /// The value, without the whitespace around it.
    pub value: Range<u32>,
}

/// The `model` of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// The body has none.
    Absent,
    /// A string: the span of the value with its quotes, and the text it stands for.
    Text(Range<u32>, String),
    /// Some other value, or a string that stands for no text because a surrogate in it is alone.
    Other(Range<u32>),
}

const MODEL: &str = "model";
const STREAM: &str = "stream";

/// Why a body is refused. Every `at` is the byte offset of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// No JSON can go on like this. At the end of a body that breaks off, `at` is its length.
    NotJson {
        /// The first byte that does not fit.
        at: usize,
        /// What would have fitted, in words.
        expected: &'static str,
    },
    /// The bytes are no text. This is told before any fault of the JSON.
    NotUtf8 {
        /// The first byte that does not fit.
        at: usize,
    },
    /// The body starts like JSON, but with another value than an object.
    NotAnObject {
        /// The first byte of that value.
        at: usize,
    },
    /// There are more than [`MAX_DEPTH`] levels.
    TooDeep {
        /// The bracket that opens the first level too many.
        at: usize,
    },
    /// The outermost object has more than [`MAX_MEMBERS`] members.
    TooManyMembers {
        /// The first key too many.
        at: usize,
    },
    /// `model` or `stream` stands twice, so two readers could understand two different requests.
    Duplicate {
        /// The name, escapes resolved.
        name: &'static str,
        /// The second key.
        at: usize,
    },
    /// The body is too long for the spans.
    TooLarge,
}

impl ScanError {
    /// The byte of the fault, if it is one byte's.
    pub fn at(&self) -> Option<usize> {
        match *self {
            Self::NotJson { at, .. }
            | Self::NotUtf8 { at }
            | Self::NotAnObject { at }
            | Self::TooDeep { at }
            | Self::TooManyMembers { at }
            | Self::Duplicate { at, .. } => Some(at),
            Self::TooLarge => None,
        }
    }
}

/// Scans `body` in time linear in its length. Beyond the list of members it allocates only names it has to decode.
///
/// # Errors
/// The first fault found: of the length, then of UTF-8, then of the JSON from left to right.
pub fn scan(body: &[u8]) -> Result<Scan, ScanError> {
    if u32::try_from(body.len()).is_err() {
        return Err(ScanError::TooLarge);
    }
    let mut reader = Reader::new(body);
    let found = document(&mut reader);
    if_text(&reader, found)
}

/// Checks that `json` is valid UTF-8 and one valid JSON value of any kind, at most [`MAX_DEPTH`] levels deep.
///
/// # Errors
/// The first fault found: of UTF-8, then of the JSON from left to right.
pub fn check(json: &[u8]) -> Result<(), ScanError> {
    let mut reader = Reader::new(json);
    reader.skip_space();
    let read = reader.value().and_then(|_| {
        reader.skip_space();
        match reader.peek() {
            None => Ok(()),
            Some(_) => Err(reader.expected("nothing after the value")),
        }
    });
    if_text(&reader, read)
}

/// What `reader` found in its body, if that is UTF-8: which what it has read to the end and is ASCII must be.
fn if_text<T>(reader: &Reader<'_>, found: Step<T>) -> Result<T, ScanError> {
    if found.is_err() || !reader.is_ascii() {
        let body = reader.body();
        simdutf8::basic::from_utf8(body).map_err(|_| {
            // The quick check does not say where.
            let at = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
            ScanError::NotUtf8 { at }
        })?;
    }
    found.map_err(|error| *error)
}

fn document(reader: &mut Reader<'_>) -> Step<Scan> {
    reader.skip_space();
    let start = reader.at();
    if !reader.take(b'{') {
        return Err(match reader.peek() {
            Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                Box::new(ScanError::NotAnObject { at: start })
            }
            _ => reader.expected("an object"),
        });
    }
    let mut scan = Scan { object: 0..0, members: Vec::with_capacity(16), model: Model::Absent, stream: None };
    reader.skip_space();
    if !reader.take(b'}') {
        members(reader, &mut scan)?;
    }
    scan.object = span(start, reader.at());
    reader.skip_space();
    match reader.peek() {
        None => Ok(scan),
        Some(_) => Err(reader.expected("nothing after the object")),
    }
}

/// The members of the outermost object, from its first key to just behind its `}`.
fn members(reader: &mut Reader<'_>, scan: &mut Scan) -> Step<()> {
    loop {
        let start = reader.at();
        if scan.members.len() == MAX_MEMBERS {
            return Err(Box::new(ScanError::TooManyMembers { at: start }));
        }
        reader.key()?;
        let key = span(start, reader.at());
        reader.colon()?;
        let start = reader.at();
        reader.value()?;
        scan.note(reader.body(), Member { key, value: span(start, reader.at()) })?;
        reader.skip_space();
        if reader.take(b'}') {
            return Ok(());
        }
        if !reader.take(b',') {
            return Err(reader.expected("`,` or `}`"));
        }
        reader.skip_space();
    }
}

/// The whole numbers under `names` in the object at the start of `json`, which may go on behind it: 0 for one that is
/// not there. `None` if that is no sound object, or a number is not whole, negative or beyond `u64`.
#[must_use]
pub fn numbers<const N: usize>(json: &[u8], names: [&str; N]) -> Option<[u64; N]> {
    let (mut reader, mut found) = (Reader::new(json), [0; N]);
    reader.skip_space();
    if !reader.take(b'{') {
        return None;
    }
    reader.skip_space();
    if reader.take(b'}') {
        return Some(found);
    }
    loop {
        let start = reader.at();
        reader.key().ok()?;
        let key = json.get(start + 1..reader.at() - 1)?;
        reader.colon().ok()?;
        let start = reader.at();
        reader.value().ok()?;
        if let Some(at) = names.iter().position(|name| name.as_bytes() == key) {
            found[at] = whole(json.get(start..reader.at())?)?;
        }
        reader.skip_space();
        if reader.take(b'}') {
            return Some(found);
        }
        if !reader.take(b',') {
            return None;
        }
        reader.skip_space();
    }
}

impl Scan {
    /// The first member of that name, escapes in its key resolved. `body` must be the body that was scanned.
    #[must_use]
    pub fn find(&self, body: &[u8], name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.is_named(body, name))
    }

    fn note(&mut self, body: &[u8], member: Member) -> Step<()> {
        if let Some(name) = weighed(bytes(body, &member.key)) {
            if self.find(body, name).is_some() {
                return Err(Box::new(ScanError::Duplicate { name, at: member.key.start as usize }));
            }
            match (name, bytes(body, &member.value)) {
                (MODEL, _) => self.model = Model::read(body, member.value.clone()),
                (_, b"true") => self.stream = Some(true),
                (_, b"false") => self.stream = Some(false),
                _ => {}
            }
        }
        self.members.push(member);
        Ok(())
    }
}

impl Member {
    /// Whether the key is `name`, escapes resolved. `body` must be the body that was scanned.
    #[must_use]
    pub fn is_named(&self, body: &[u8], name: &str) -> bool {
        let key = bytes(body, &self.key);
        let plain = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
        // An escape is longer than what it stands for.
        let may_spell = plain.len() > name.len() && memchr::memchr(b'\\', plain).is_some();
        plain == name.as_bytes() || (may_spell && text(key).is_some_and(|key| key == name))
    }
}

impl Model {
    fn read(body: &[u8], span: Range<u32>) -> Self {
        match text(bytes(body, &span)) {
            Some(name) => Self::Text(span, name),
            None => Self::Other(span),
        }
    }
}

impl std::error::Error for ScanError {}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { at, expected } => write!(f, "not JSON at byte {at}: expected {expected}"),
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::NotAnObject { at } => {
                write!(f, "not a JSON object: another kind of value starts at byte {at}")
            }
            Self::TooDeep { at } => write!(f, "nested more than {MAX_DEPTH} levels deep at byte {at}"),
            Self::TooManyMembers { at } => write!(f, "more than {MAX_MEMBERS} fields at byte {at}"),
            Self::Duplicate { name, at } => write!(f, "`{name}` stands a second time at byte {at}"),
            Self::TooLarge => write!(f, "longer than {} bytes", u32::MAX),
        }
    }
}

/// The bytes of a span; none if it lies outside of `body`.
fn bytes<'a>(body: &'a [u8], span: &Range<u32>) -> &'a [u8] {
    body.get(span.start as usize..span.end as usize).unwrap_or_default()
}

/// Which of the two names that may stand but once this key is.
fn weighed(key: &[u8]) -> Option<&'static str> {
    let plain = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    let spelt = |key: &str| [MODEL, STREAM].into_iter().find(|name| key == *name);
    match plain {
        b"model" => Some(MODEL),
        b"stream" => Some(STREAM),
        _ if memchr::memchr(b'\\', plain).is_some() => text(key).as_deref().and_then(spelt),
        _ => None,
    }
}

/// What a JSON string stands for; `None` if it is no string or stands for no text.
fn text(json: &[u8]) -> Option<String> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        return serde_json::from_slice(json).ok();
    }
    str::from_utf8(inner).ok().map(str::to_owned)
}

/// A whole number, if it is one and not beyond `u64`.
fn whole(json: &[u8]) -> Option<u64> {
    json.iter().try_fold(0_u64, |number, digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit) }
    })
}

/// Offsets as a span: they fit, for the body does.
const fn span(start: usize, end: usize) -> Range<u32> {
    start as u32..end as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    fn text_of<'a>(body: &'a str, span: &Range<u32>) -> &'a str {
        &body[span.start as usize..span.end as usize]
    }

    #[test]
    fn a_body_of_more_fields_than_any_request_has_is_refused() {
        let body = |count: usize| format!("{{{}}}", vec!["\"\":0"; count].join(","));
        assert_eq!(scan(body(MAX_MEMBERS).as_bytes()).unwrap().members.len(), MAX_MEMBERS);
        let at = 1 + MAX_MEMBERS * "\"\":0,".len();
        assert_eq!(scan(body(MAX_MEMBERS + 1).as_bytes()), Err(ScanError::TooManyMembers { at }));
    }

    /// What a careful reader says, by serde_json; it counts no levels here and takes any repeated key.
    fn is_sound(body: &[u8]) -> bool {
        let is_object = body.trim_ascii_start().starts_with(b"{");
        is_object && std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok()
    }

    /// The scan agrees with `serde_json` on whether `body` is sound, and its spans hold what `serde_json` reads.
    fn agrees(body: &[u8]) {
        let found = scan(body);
        let is_value =
            std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok();
        assert_eq!(check(body).is_ok(), is_value, "{}", String::from_utf8_lossy(body));
        if matches!(found, Err(ScanError::Duplicate { .. })) {
            return;
        }
        assert_eq!(found.is_ok(), is_sound(body), "{found:?} of {}", String::from_utf8_lossy(body));
        if let (Ok(found), Ok(Value::Object(whole))) = (found, serde_json::from_slice(body)) {
            let read = |span: &Range<u32>| {
                serde_json::from_slice::<Value>(bytes(body, span)).expect("a span is a value")
            };
            let member = |member: &Member| {
                (text(bytes(body, &member.key)).expect("a key is text"), read(&member.value))
            };
            assert_eq!(found.members.iter().map(member).collect::<serde_json::Map<_, _>>(), whole);
            assert_eq!(Value::Object(whole), read(&found.object));
            let is_tight =
                |member: &Member| bytes(body, &member.value).trim_ascii() == bytes(body, &member.value);
            assert!(found.members.iter().all(is_tight));
        }
    }

    #[test]
    fn tells_where_members_stand() {
        let body = "\n {\"model\" : \"gpt-é\" ,\"stream\":true,\t\"n\":[ {} ] } ";
        let found = scan(body.as_bytes()).expect("a sound body");
        let spans = |member: &Member| {
            (text_of(body, &member.key).to_owned(), text_of(body, &member.value).to_owned())
        };
        let members: Vec<_> = found.members.iter().map(spans).collect();
        let expected = [("\"model\"", "\"gpt-é\""), ("\"stream\"", "true"), ("\"n\"", "[ {} ]")];
        assert_eq!(members, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(text_of(body, &found.object), body.trim());
        assert_eq!((found.model, found.stream), (Model::Text(13..21, "gpt-é".to_owned()), Some(true)));
    }

    #[test]
    fn reads_a_model_behind_escapes() {
        let body = br#"{"n":1,"mod\u0065l":"a\/\u00e9\ud83d\ude00"}"#;
        let found = scan(body).expect("a sound body");
        assert!(matches!(&found.model, Model::Text(_, name) if name == "a/é😀"), "{:?}", found.model);
        assert_eq!(found.find(body, "model"), found.members.get(1));
        assert_eq!(found.find(body, "mod"), None);
    }

    #[test]
    fn tells_a_model_that_is_no_text_from_none() {
        for (body, model) in [
            ("{}", Model::Absent),
            (r#"{"model":null}"#, Model::Other(9..13)),
            (r#"{"model":["a"]}"#, Model::Other(9..14)),
            (r#"{"model":"\ud800"}"#, Model::Other(9..17)),
            (r#"{"model":"\udc00\ud800"}"#, Model::Other(9..23)),
            (r#"{"model":""}"#, Model::Text(9..11, String::new())),
        ] {
            assert_eq!(scan(body.as_bytes()).map(|found| found.model), Ok(model), "{body}");
        }
    }

    #[test]
    fn knows_a_stream_by_its_boolean_only() {
        for (value, stream) in
            [("true", Some(true)), ("false", Some(false)), ("null", None), ("1", None), ("\"true\"", None)]
        {
            assert_eq!(
                scan(format!(r#"{{"stream":{value}}}"#).as_bytes()).map(|found| found.stream),
                Ok(stream),
                "{value}"
            );
        }
    }

    #[test]
    fn a_byte_that_is_no_text_is_found_wherever_in_a_string_it_stands() {
        for (length, blanks) in (1..80).flat_map(|length| [(length, 0), (length, 70)]) {
            let (text, rest) = ("x".repeat(length), " ".repeat(blanks));
            let sound = format!("{{\"{text}\":\"{text}\\n\"{rest}}}").into_bytes();
            for at in (2..2 + length).chain(5 + length..5 + 2 * length) {
                let mut body = sound.clone();
                body[at] = b'\xff';
                let found = (scan(&body).err(), check(&body).err());
                assert_eq!(found, (Some(ScanError::NotUtf8 { at }), Some(ScanError::NotUtf8 { at })));
            }
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (body, fault) in [
            ("", "not JSON at byte 0: expected an object"),
            ("\u{feff}{}", "not JSON at byte 0: expected an object"),
            (" [1]", "not a JSON object: another kind of value starts at byte 1"),
            ("{} {}", "not JSON at byte 3: expected nothing after the object"),
            ("{\"a\":1,}", "not JSON at byte 7: expected a key in double quotes"),
            ("{\"a\"}", "not JSON at byte 4: expected `:` after a key"),
            ("{\"a\":}", "not JSON at byte 5: expected a value"),
            ("{\"a\":tru}", "not JSON at byte 8: expected the rest of `true`, `false` or `null`"),
            ("{\"a\":01}", "not JSON at byte 6: expected `,` or `}`"),
            ("{\"a\":[1 2]}", "not JSON at byte 8: expected `,` or `]`"),
            ("{\"a\":{\"b\":1]}", "not JSON at byte 11: expected `,` or `}`"),
            ("{\"a\":-}", "not JSON at byte 6: expected a digit"),
            ("{\"a\":\"b", "not JSON at byte 7: expected the closing quote of a string"),
            ("{\"a\":\"\n\"}", "not JSON at byte 6: expected an escape in place of a control character"),
            (r#"{"a":"\x"}"#, "not JSON at byte 7: expected an escape such as `\\n` or `\\u00e9`"),
            (r#"{"a":"\u12g4"}"#, "not JSON at byte 10: expected four hexadecimal digits after `\\u`"),
            (r#"{"model":1,"mod\u0065l":"a"}"#, "`model` stands a second time at byte 11"),
            (r#"{"stream":null,"model":"a","stream":true}"#, "`stream` stands a second time at byte 27"),
        ] {
            assert_eq!(
                scan(body.as_bytes()).map_err(|error| error.to_string()),
                Err(fault.to_owned()),
                "{body}"
            );
        }
        assert_eq!(scan(b"{\"a\":\"\xc3\"}"), Err(ScanError::NotUtf8 { at: 6 }));
        assert_eq!(scan(b"no JSON\xff"), Err(ScanError::NotUtf8 { at: 7 }));
    }

    #[test]
    fn goes_128_levels_deep_and_no_deeper() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"b\":", "}]")] {
            let levels = open.matches(['[', '{']).count();
            let nested = |depth: usize| {
                let inner = format!("{}1{}", open.repeat(depth / levels), close.repeat(depth / levels));
                if depth.is_multiple_of(levels) { inner } else { format!("[{inner}]") }
            };
            let body = |depth: usize| format!("{{\"a\":{},\"b\":[]}}", nested(depth - 1));
            assert_eq!(scan(body(128).as_bytes()).map(|found| found.members.len()), Ok(2));
            assert!(matches!(scan(body(129).as_bytes()), Err(ScanError::TooDeep { .. })), "{open}");
        }
        assert_eq!(scan(&b"{\"a\":".repeat(1 << 20)), Err(ScanError::TooDeep { at: 5 * 128 }));
    }

    #[test]
    fn agrees_with_serde_json_on_the_corners_of_the_grammar() {
        let values = "0 -0 -0.0e-0 1E+9 1e999 10 1. .1 -01 +1 1e 1e+ 0x1 NaN nul null nulll truefalse [] [,] [1,] [[],{}] {} {\"\":0} \
            {\"a\":1,\"a\":2} {1:2} {,} 'a' \"\\u0000\" \"\\ud800\" \"\\uD83D\\uDE00\" \"\\u12\" \"\\\" \"\\/\\b\\f\\n\\r\\t\" \"\x7f\u{80}\u{2028}\" \"\x1f\" /**/1";
        for value in values.split(' ') {
            agrees(format!("{{\"a\":{value}}}").as_bytes());
            agrees(format!("\t{{ \"a\" :\r\n{value} , \"b\":[{value},{{\"c\":{value}}}]}}\n").as_bytes());
        }
    }

    #[test]
    fn agrees_with_serde_json_on_every_byte_in_a_string() {
        for byte in 0..=u8::MAX {
            for (before, after) in [("", ""), ("\\", ""), ("", "x"), ("\\", "x"), ("\\u00", "a")] {
                for room in [0, 70] {
                    let room = " ".repeat(room);
                    let start = format!("{{\"a\":\"{room}{before}");
                    agrees(&[start.as_bytes(), &[byte], after.as_bytes(), room.as_bytes(), b"\"}"].concat());
                }
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            "[ -~\\n\\u{1}é世😀\"\\\\]{0,90}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let object = prop::collection::vec(("model|stream|[a-z\"\\\\é]{0,40}", inner.clone()), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(Value::from),
                object.prop_map(|all| all.into_iter().collect())
            ]
        })
    }

    #[test]
    fn numbers_are_read_from_an_object_that_more_may_follow() {
        let read = |json: &str| numbers(json.as_bytes(), ["a", "b"]);
        for json in [
            "{\"a\":1,\"b\":20}",
            " {\"x\":[{\"a\":9}],\"b\": 20 , \"a\" :1 } , \"z\":",
            "{\"b\":20,\"a\":1}}",
        ] {
            assert_eq!(read(json), Some([1, 20]), "{json}");
        }
        assert_eq!(read("{}"), Some([0, 0]));
        assert_eq!(read("{\"b\":18446744073709551615}"), Some([0, u64::MAX]));
        for json in [
            "",
            "[]",
            "null",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":-1}",
            "{\"a\":1.0}",
            "{\"a\":1e2}",
            "{\"a\":null}",
            "{\"a\":\"1\"}",
            "{\"a\":18446744073709551616}",
            "{\"x\":tru}",
            "{\"x\":1 \"a\":2}",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_serde_json_on_spoilt_bodies(
            value in values(), pretty: bool, spoils in prop::collection::vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 0..3),
        ) {
            let whole = serde_json::json!({ "model": value, "stream": true });
            let mut body = if pretty { serde_json::to_vec_pretty(&whole) } else { serde_json::to_vec(&whole) }.expect("JSON");
            agrees(&body);
            for (index, kind, byte) in spoils {
                let at = index.index(body.len());
                let byte = *b"\"\\{}[]:, \nu0-.e\x01\x80".get(usize::from(byte % 24)).unwrap_or(&byte);
                body.splice(at..at + usize::from(kind != 0), (kind != 1).then_some(byte));
                agrees(&body);
            }
        }

        #[test]
        fn agrees_with_serde_json_on_heaps_of_tokens(tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u006dodel\":", "\"a long string, \\\"longer\\\" than a block of bytes\"", "1", "-", "0", ".5", "e7", "true", "null", " ", "\"", "\\",
        ]), 0..9)) {
            agrees(format!("{{\"k\":{}}}", tokens.concat()).as_bytes());
            agrees(format!("{{{}}}", tokens.concat()).as_bytes());
        }
    }
}
