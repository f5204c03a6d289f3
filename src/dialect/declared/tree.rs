//! JSON as expressions see it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use minijinja::value::{DynObject, Enumerator, Object, ObjectExt, ObjectRepr};

use crate::openai::json::{self, Cursor, Text};

/// The value that `json` spells: minijinja's own, but that small objects are plain lists of their members, and that what
/// stands deep in it is read when an expression looks there.
///
/// # Errors
/// Those of serde_json.
pub(super) fn parse(json: &[u8]) -> Result<Value, serde_json::Error> {
    simdutf8::basic::from_utf8(json).map_or_else(|_| serde_json::from_slice(json), parse_text)
}

/// The same of what is known to be text.
///
/// # Errors
/// Those of serde_json.
pub(super) fn parse_text(json: &str) -> Result<Value, serde_json::Error> {
    // What is not read here is refused there, which has the words.
    whole(json).map_or_else(|| serde_json::from_str(json), Ok)
}

fn whole(json: &str) -> Option<Value> {
    let mut cursor = Cursor::new(json);
    let value = read(&mut cursor, LEVELS)?;
    cursor.end().ok().map(|()| value)
}

/// How many levels are read at once: a tool's name is that deep, and the schema of its arguments is deeper.
const LEVELS: usize = 3;

/// Reads a value, so many levels of it at once.
fn read(cursor: &mut Cursor<'_>, levels: usize) -> Option<Value> {
    match cursor.peek()? {
        b'{' if levels > 0 => {
            let mut members = Vec::with_capacity(4);
            cursor.enter_object().ok()?;
            while let Some(name) = cursor.member().ok()? {
                add(&mut members, Value::from(name), read(cursor, levels - 1)?);
            }
            Some(object(members))
        }
        b'[' if levels > 0 => {
            let mut items = Vec::with_capacity(4);
            cursor.enter_list().ok()?;
            while cursor.item().ok()? {
                items.push(read(cursor, levels - 1)?);
            }
            Some(Value::from(items))
        }
        b'"' => Text::read(cursor.value().ok()?)?.decode().map(Value::from),
        _ => unquoted(cursor.value().ok()?.get()),
    }
}

/// Adds a member, in the place of one that has its name.
fn add(members: &mut Vec<(Value, Value)>, name: Value, value: Value) {
    // What is found by its hash needs no search for a name that stands twice.
    let twice = if members.len() > FEW { None } else { members.iter_mut().find(|(known, _)| *known == name) };
    match twice {
        Some((_, old)) => *old = value,
        None => members.push((name, value)),
    }
}

/// A value that has been scanned and is no string, read at once or not yet.
fn unquoted(json: &str) -> Option<Value> {
    match json.as_bytes().first()? {
        b'{' | b'[' => check(json).ok().map(|()| Json::from(json).value()),
        b't' => Some(Value::from(true)),
        b'f' => Some(Value::from(false)),
        b'n' => Some(Value::from(())),
        b'0'..=b'9' => json.parse().map_or_else(|_| serde_json::from_str(json).ok(), |n: u64| Some(n.into())),
        _ => serde_json::from_str(json).ok(),
    }
}

/// Refuses what [`parse`] would in JSON that has been scanned.
///
/// # Errors
/// Those of serde_json.
pub(super) fn check(json: &str) -> Result<(), serde_json::Error> {
    /// More brackets than this may be too many levels.
    const MANY: usize = 100;
    /// A number of more digits may be too big.
    const LONG: usize = 300;
    let bytes = json.as_bytes();
    let has_many = || memchr::memchr2_iter(b'[', b'{', bytes).count() > MANY;
    let is_long = || bytes.len() > LONG && !json.starts_with(['"', '[', '{']);
    // Half a character, a number beyond all bounds, or too many levels.
    let is_dubious = json::spells_surrogates(json)
        || has_exponent(bytes)
        || is_long()
        || (bytes.len() > 2 * MANY && has_many());
    if is_dubious { serde_json::from_str::<Value>(json).map(drop) } else { Ok(()) }
}

/// Whether JSON that has been scanned spells nothing: `null`, or what has no character, item or member.
pub(super) fn says_nothing(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'"' | b'[' | b'{') => is_true(json) == Some(false),
        first => first == Some(&b'n'),
    }
}

/// Whether expressions take it for true; `None` if only its value tells.
pub(super) fn is_true(json: &str) -> Option<bool> {
    match json.as_bytes().first()? {
        b'"' => Some(json.len() > 2),
        // Whether there is anything between the brackets tells it unread.
        b'[' | b'{' => Some(!json[1..json.len() - 1].trim_ascii().is_empty()),
        b't' => Some(true),
        b'f' | b'n' => Some(false),
        _ => None,
    }
}

/// Whether an `e` stands behind a digit.
fn has_exponent(bytes: &[u8]) -> bool {
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    // None is a reason to stop: so the processor compares many at once.
    pairs.fold(false, |found, (digit, e)| found | (digit.is_ascii_digit() & (e | 0x20 == b'e')))
}

/// One JSON value that has been scanned and [checked](check), without white space around it; the text is shared with
/// what holds it.
#[derive(Clone, Debug)]
pub(super) struct Json {
    whole: Arc<str>,
    at: Range<usize>,
    /// Whether it is known to be a string without an escape.
    is_plain: bool,
}

impl From<&str> for Json {
    fn from(json: &str) -> Self {
        Self { whole: json.into(), at: 0..json.len(), is_plain: false }
    }
}

impl Json {
    /// The part of it that stands there; with `is_plain` it is a string without an escape.
    pub(super) fn part(&self, at: Range<usize>, is_plain: bool) -> Self {
        let at = self.at.start + at.start..self.at.start + at.end;
        Self { whole: Arc::clone(&self.whole), at, is_plain }
    }

    /// The JSON.
    pub(super) fn text(&self) -> &str {
        &self.whole[self.at.clone()]
    }

    /// What it spells, if that is a string.
    fn as_text(&self) -> Option<Cow<'_, str>> {
        let json = self.text();
        if self.is_plain {
            return json.get(1..json.len() - 1).map(Cow::Borrowed);
        }
        Some(json).filter(|json| json.starts_with('"')).and_then(json::unquote)
    }

    /// What it spells.
    pub(super) fn value(&self) -> Value {
        match self.text().as_bytes().first() {
            Some(b'{' | b'[') => Value::from_object(Nested { json: self.clone(), value: OnceLock::new() }),
            Some(b'"') => self.as_text().map(Value::from).unwrap_or_default(),
            _ => unquoted(self.text()).unwrap_or_default(),
        }
    }
}

/// The members of a small object, each name once.
#[derive(Debug)]
pub(super) struct Members(Vec<(Value, Value)>);

/// How many members are looked for one by one.
const FEW: usize = 32;

/// The object of these members, whose names are texts and differ while they are few.
pub(super) fn object(members: Vec<(Value, Value)>) -> Value {
    if members.len() > FEW { Value::from_iter(members) } else { Value::from_object(Members(members)) }
}

impl Members {
    /// Them, in order; each key is a text.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str().unwrap_or_default(), value))
    }
}

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.each().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_rev_enumerator(|this| Box::new(this.0.iter().map(|(key, _)| key.clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
}

/// An object or a list that is read when an expression looks into it.
#[derive(Debug)]
pub(super) struct Nested {
    json: Json,
    value: OnceLock<Value>,
}

impl Nested {
    /// It as it came.
    pub(super) fn json(&self) -> &str {
        self.json.text()
    }

    fn value(&self) -> Option<&DynObject> {
        // It has been checked.
        self.value.get_or_init(|| whole(self.json()).unwrap_or_default()).as_object()
    }
}

impl Object for Nested {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.json().starts_with('{') { ObjectRepr::Map } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.value()?.get_value(key)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.value()?.get_value_by_str(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.value().map_or(Enumerator::Empty, DynObject::enumerate)
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        self.value().and_then(DynObject::enumerator_len)
    }

    fn is_true(self: &Arc<Self>) -> bool {
        is_true(self.json()) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::declared::engine::Code;
    use crate::dialect::declared::wire;
    use crate::dialect::testing::json_of;

    /// What an expression makes of `json`, read here and by minijinja.
    fn both(source: &str, json: &str) -> [Result<(Value, String, String), String>; 2] {
        let code = Code::compile(source).unwrap();
        let by_minijinja: Value = serde_json::from_str(json).unwrap();
        [parse(json.as_bytes()).unwrap(), by_minijinja].map(|value| {
            let scope = Value::from_iter([("x", value)]);
            let found = code.run(&scope).map_err(|error| error.to_string())?;
            let json = serde_json::to_string(&found).map_err(|error| error.to_string())?;
            let mut out = BytesMut::new();
            wire::write(&found, 10_000, &mut out)?;
            let written: Result<serde_json::Value, _> = serde_json::from_slice(&out);
            assert_eq!(written.ok(), serde_json::from_str(&json).ok(), "{source}");
            let shown = found.to_string();
            Ok((found, json, shown))
        })
    }

    const SOURCES: &[&str] = &[
        "x",
        "x.a",
        "x.a.b",
        "x.a.b.a[0].a[1].b",
        "x.a.a.a | items",
        "x.a.a.a == {'a': 1}",
        "x.b[0][0] | list | string",
        "x[0][0][0] | sort | last",
        "x[0][0] | unique",
        "x[0]",
        "x[-1]",
        "x[1:]",
        "x['a']",
        "x | length",
        "x | list",
        "x | items",
        "x | dictsort",
        "x | first",
        "x | last",
        "x | string",
        "x | tojson",
        "x | unique",
        "x | sort",
        "x | map(attribute='a') | list",
        "x | selectattr('a') | list",
        "x | as_list",
        "x | pick(k='a', l='b.a', m='0')",
        "'a' in x",
        "1 in x",
        "x is mapping",
        "x is sequence",
        "x is iterable",
        "x is string",
        "x == {'a': 1}",
        "x == [1]",
        "x == x.a",
        "x ~ '!'",
        "not x",
        "not x.a.a.a",
        "x.a.a.a and 1",
        "x[0][0][0] or 2",
        "{'a': 5}[x]",
        "x + x",
        "x | reverse",
        "x | max",
        "x | join(',')",
    ];

    fn agrees(json: &str) {
        for source in SOURCES {
            let [found, expected] = both(source, json);
            assert_eq!(found, expected, "{source} of {json}");
        }
    }

    #[test]
    fn an_expression_finds_what_it_would_find_in_minijinjas_own_values() {
        let many: Vec<_> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        for json in [
            "{}",
            "[]",
            "null",
            r#"{"a":{"b":{"a":[{"a":[1,{"b":2}]},{},[],"x",1.5]}},"b":[[[[3,[4]],{"a":{"c":"d"}}]]]}"#,
            r#"[[[[1,2],[0]],[[1,2]]]]"#,
            r#"{"a":{"a":{"a":{"a":1}}}}"#,
            r#"{"a":{"a":{"a":{ }}}}"#,
            "[[[[\n]]]]",
            " [ 1 , {\"a\" : 2} ] ",
            r#"{"a":{"b":[1,{"a":null}]},"b":{"a":"x"}}"#,
            r#"{"a":1,"a":2,"\u0061":3}"#,
            r#"[{"a":1},{"a":0},{"b":"\u00e9\n"}]"#,
            r#"{"a":12345678901234567890,"b":-1,"c":0.5,"d":123456789012345678901234567890}"#,
            "[3,1,2,1]",
            "\"\\ud83d\\ude00\"",
            "1e3",
            &format!("{{{},\"k1\":\"again\",\"a\":7}}", many.join(",")),
        ] {
            agrees(json);
        }
    }

    #[test]
    fn what_json_says_unread_is_what_its_value_says() {
        for json in [
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "7",
            r#""""#,
            r#"" ""#,
            "[]",
            "[ ]",
            "[0]",
            "{}",
            "{\n}",
            r#"{"":0}"#,
        ] {
            let value = parse_text(json).unwrap();
            assert_eq!(is_true(json).unwrap_or_else(|| value.is_true()), value.is_true(), "{json}");
            assert_eq!(says_nothing(json), value.is_none() || value.len() == Some(0), "{json}");
        }
    }

    #[test]
    fn what_serde_json_refuses_is_refused_in_its_words() {
        for json in ["", "{", "[1,]", "1 2", "\"\\ud800\"", "{\"a\":[\"\\uDC00\"]}", "[1e999]", "nul"] {
            let words = serde_json::from_str::<Value>(json).map_err(|error| error.to_string()).unwrap_err();
            assert_eq!(parse(json.as_bytes()).unwrap_err().to_string(), words);
            if json::list(json).is_ok() || json::Object::read(json).is_ok() {
                assert_eq!(check(json).unwrap_err().to_string(), words);
            }
        }
        assert!(check(&"1".repeat(400)).is_err() && check(&"1".repeat(250)).is_ok());
        assert!(parse(b"\"\xff\"").is_err());
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(deep(127).as_bytes()).is_ok());
        for json in [
            &*deep(128 + LEVELS),
            r#"[[[["\ud800"]]]]"#,
            "[[[{\"a\":1e999}]]]",
            "[[[1e999]]]",
            "[[[[1,]]]]",
            "[[[[}]]]",
        ] {
            assert!(
                serde_json::from_str::<Value>(json).is_err() && parse(json.as_bytes()).is_err(),
                "{json}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_json_is_the_same_to_every_expression(json in json_of(&["a", "b", "", "é", "\n", "\u{1F600}", "0"])) {
            agrees(&json.to_string());
        }
    }
}
