//! JSON as expressions see it: each level is read when an expression looks into it, and what is only passed on is
//! written as it came.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr};

use crate::openai::json::{self, Raw};

/// One sound JSON value without white space around it; the text is shared with what holds it.
#[derive(Clone, Debug)]
pub(super) struct Json(Bytes);

/// The value that `json` spells.
///
/// # Errors
/// Those of serde_json.
pub(super) fn parse(json: &[u8]) -> Result<Value, serde_json::Error> {
    let Some(text) = json::sound(json) else { return serde_json::from_slice(json) };
    check(text)?;
    Ok(Json(Bytes::copy_from_slice(text.as_bytes())).value())
}

/// Refuses what serde_json would in JSON that is sound.
///
/// # Errors
/// Those of serde_json.
pub(super) fn check(json: &str) -> Result<(), serde_json::Error> {
    if is_dubious(json) { serde_json::from_str::<Value>(json).map(drop) } else { Ok(()) }
}

/// Whether serde_json might refuse `json` though it is sound: for half a character, or for a number beyond all bounds.
pub(super) fn is_dubious(json: &str) -> bool {
    let bytes = json.as_bytes();
    let is_exponent = |at: usize| bytes[..at].last().is_some_and(u8::is_ascii_digit);
    json::spells_surrogates(json) || memchr::memchr2_iter(b'e', b'E', bytes).any(is_exponent)
}

impl Json {
    /// The value that `json` is, which must have been scanned and [checked](check).
    pub(super) fn scanned(json: Bytes) -> Self {
        Self(json)
    }

    /// A part of it.
    pub(super) fn part(&self, raw: Raw<'_>) -> Self {
        Self(self.0.slice_ref(raw.get().as_bytes()))
    }

    /// The JSON.
    pub(super) fn text(&self) -> &str {
        simdutf8::basic::from_utf8(&self.0).unwrap_or("null")
    }

    /// What it spells, if that is a string.
    pub(super) fn as_text(&self) -> Option<Cow<'_, str>> {
        self.0.first().filter(|first| **first == b'"').and_then(|_| json::unquote(self.text()))
    }

    /// What it spells.
    pub(super) fn value(&self) -> Value {
        match self.0.first() {
            Some(b'{' | b'[') => Value::from_object(Nested { json: self.clone(), level: OnceLock::new() }),
            Some(b'"') => self.as_text().map(Value::from).unwrap_or_default(),
            _ => serde_json::from_str(self.text()).unwrap_or_default(),
        }
    }
}

/// An object or a list.
#[derive(Debug)]
pub(super) struct Nested {
    json: Json,
    level: OnceLock<Level>,
}

/// What has been read of one.
#[derive(Debug)]
enum Level {
    List(Vec<Value>),
    /// Each name once.
    Few(Vec<(String, Value)>),
    /// The same with more members than are quickly found one by one.
    Many(Value),
}

/// How many members are looked for one by one.
const FEW: usize = 32;

impl Nested {
    /// It as it came.
    pub(super) fn json(&self) -> &str {
        self.json.text()
    }

    fn level(&self) -> &Level {
        self.level.get_or_init(|| self.read())
    }

    fn read(&self) -> Level {
        let value = |raw: Raw<'_>| self.json.part(raw).value();
        let Ok(object) = json::Object::read(self.json()) else {
            return Level::List(json::list(self.json()).unwrap_or_default().into_iter().map(value).collect());
        };
        if object.len() > FEW {
            return Level::Many(object.members().map(|(name, raw)| (&**name, value(raw))).collect());
        }
        let mut few: Vec<(String, Value)> = Vec::with_capacity(object.len());
        for (name, raw) in object.members() {
            match few.iter_mut().find(|(other, _)| *other == **name) {
                Some((_, other)) => *other = value(raw),
                None => few.push((name.clone().into_owned(), value(raw))),
            }
        }
        Level::Few(few)
    }
}

impl Object for Nested {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.json.0.first() == Some(&b'{') { ObjectRepr::Map } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.level() {
            Level::List(items) => items.get(key.as_usize()?).cloned(),
            Level::Few(_) => self.get_value_by_str(key.as_str()?),
            Level::Many(members) => members.as_object()?.get_value(key),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.level() {
            Level::List(_) => None,
            Level::Few(members) => {
                members.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
            }
            Level::Many(members) => members.as_object()?.get_value_by_str(key),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.level() {
            Level::List(items) => Enumerator::Seq(items.len()),
            Level::Few(_) => self.mapped_rev_enumerator(|this| match this.level() {
                Level::Few(members) => Box::new(members.iter().map(|(name, _)| Value::from(name.as_str()))),
                Level::List(_) | Level::Many(_) => Box::new(std::iter::empty()),
            }),
            Level::Many(members) => {
                members.as_object().map_or(Enumerator::Empty, |members| members.enumerate())
            }
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match self.level() {
            Level::List(items) => Some(items.len()),
            Level::Few(members) => Some(members.len()),
            Level::Many(members) => members.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::declared::engine::Code;
    use crate::dialect::testing::json_of;

    /// What an expression makes of `json`, read lazily and at once.
    fn both(source: &str, json: &str) -> [Result<(Value, String, String), String>; 2] {
        let code = Code::compile(source).unwrap();
        let eager: Value = serde_json::from_str(json).unwrap();
        [parse(json.as_bytes()).unwrap(), eager].map(|value| {
            let scope = Value::from_iter([("x", value)]);
            let found = code.run(&scope).map_err(|error| error.to_string())?;
            let json = serde_json::to_string(&found).map_err(|error| error.to_string())?;
            let shown = found.to_string();
            Ok((found, json, shown))
        })
    }

    const SOURCES: &[&str] = &[
        "x",
        "x.a",
        "x.a.b",
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
        "{'a': 5}[x]",
        "x + x",
        "x | reverse",
        "x | max",
        "x | join(',')",
    ];

    fn agrees(json: &str) {
        for source in SOURCES {
            let [lazy, eager] = both(source, json);
            assert_eq!(lazy, eager, "{source} of {json}");
        }
    }

    #[test]
    fn an_expression_finds_what_it_would_find_in_values_read_at_once() {
        let many: Vec<_> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        for json in [
            "{}",
            "[]",
            "null",
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
    fn what_serde_json_refuses_is_refused_in_its_words() {
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        for json in ["", "{", "[1,]", "1 2", "\"\\ud800\"", "{\"a\":[\"\\uDC00\"]}", "[1e999]", "nul", &deep]
        {
            let words = serde_json::from_str::<Value>(json).map_err(|error| error.to_string()).unwrap_err();
            assert_eq!(parse(json.as_bytes()).unwrap_err().to_string(), words);
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(format!("{}{}", "[".repeat(127), "]".repeat(127)).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_json_is_the_same_read_lazily(json in json_of(&["a", "b", "", "é", "\n", "\u{1F600}", "0"])) {
            agrees(&json.to_string());
        }
    }
}
