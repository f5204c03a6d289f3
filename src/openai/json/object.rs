//! Objects and lists read level by level: what is nested stays JSON until someone asks for it.

use std::borrow::Cow;

use super::{Cursor, Raw};
use crate::openai::scan::{ScanError, Step};

/// One JSON object as its members, the values not yet read.
#[derive(Debug, Default)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    value: Raw<'a>,
    taken: bool,
}

impl<'a> Object<'a> {
    /// The object that `json` is.
    ///
    /// # Errors
    /// It is no object, or no JSON, or a name in it is no text.
    pub fn read(json: &'a str) -> Result<Self, ScanError> {
        whole(json, members)
    }

    /// The objects that the list `json` holds, in one pass.
    ///
    /// # Errors
    /// It is no list of objects, or no JSON, or a name in it is no text.
    pub fn read_list(json: &'a str) -> Result<Vec<Self>, ScanError> {
        whole(json, |cursor| items(cursor, members))
    }

    /// An object without members yet, with room for so many.
    pub(in crate::openai) fn with_capacity(members: usize) -> Self {
        Self { members: Vec::with_capacity(members) }
    }

    /// Adds a member at the end.
    pub(in crate::openai) fn push(&mut self, name: Cow<'a, str>, value: Raw<'a>) {
        self.members.push(Member { name, value, taken: false });
    }

    /// How many members there are, repeated ones too.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a member out; `None` if it is not there or `null`. The last one counts where it stands twice.
    pub fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let mut found = None;
        for member in self.members.iter_mut().filter(|m| m.name == name) {
            member.taken = true;
            found = Some(member.value);
        }
        found.filter(|value| value.get() != "null")
    }

    /// All members, taken or not.
    pub fn members(&self) -> impl Iterator<Item = (&Cow<'a, str>, Raw<'a>)> {
        self.members.iter().map(|m| (&m.name, m.value))
    }

    /// The members that nobody has taken and that say something: not `null`, not an empty list, object or text.
    pub fn into_rest(self) -> impl Iterator<Item = (Cow<'a, str>, Raw<'a>)> {
        let says = |m: &Member<'_>| !m.taken && !matches!(m.value.get(), "null" | "[]" | "{}" | "\"\"");
        self.members.into_iter().filter(says).map(|m| (m.name, m.value))
    }

    /// The names of those members. Mostly there are none, and then nothing is allocated.
    pub fn into_names(self) -> Vec<Cow<'a, str>> {
        // To collect would keep the members' memory and shrink it.
        let mut names = Vec::new();
        names.extend(self.into_rest().map(|(name, _)| name));
        names
    }
}

/// The items of the list that `json` is.
///
/// # Errors
/// It is no list, or no JSON.
pub fn list(json: &str) -> Result<Vec<Raw<'_>>, ScanError> {
    whole(json, |cursor| items(cursor, Cursor::value))
}

/// Reads `json` to its end.
fn whole<'a, T>(json: &'a str, read: impl FnOnce(&mut Cursor<'a>) -> Step<T>) -> Result<T, ScanError> {
    let mut cursor = Cursor::new(json);
    let found = read(&mut cursor).map_err(|error| *error)?;
    cursor.end().map(|()| found).map_err(|error| *error)
}

fn members<'a>(cursor: &mut Cursor<'a>) -> Step<Object<'a>> {
    cursor.enter_object()?;
    let mut object = Object::with_capacity(4);
    while let Some(name) = cursor.member()? {
        object.push(name, cursor.value()?);
    }
    Ok(object)
}

fn items<'a, T>(cursor: &mut Cursor<'a>, mut read: impl FnMut(&mut Cursor<'a>) -> Step<T>) -> Step<Vec<T>> {
    let mut items = Vec::new();
    cursor.enter_list()?;
    while cursor.item()? {
        if items.is_empty() {
            items.reserve(8);
        }
        items.push(read(cursor)?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::{Deserializer as _, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn what_nobody_took_is_left_unless_it_says_nothing() {
        let mut object = Object::read(r#"{"x":1,"\u0079":2,"z":null,"x":3,"e":[],"n":null}"#).unwrap();
        assert_eq!(object.take("x").unwrap().get(), "3");
        assert!(object.take("n").is_none());
        let rest: Vec<_> = object.into_rest().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(rest, ["y"]);
    }

    /// The members of an object as serde_json reads them, in order and repeated ones too.
    fn by_serde(json: &str) -> Option<Vec<(String, &RawValue)>> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        let mut reader = serde_json::Deserializer::from_str(json);
        let members = reader.deserialize_map(Members).ok()?;
        reader.end().ok().map(|()| members)
    }

    fn shown<'a>(members: impl Iterator<Item = (&'a Cow<'a, str>, Raw<'a>)>) -> Vec<(String, &'a str)> {
        members.map(|(name, value)| (name.clone().into_owned(), value.get())).collect()
    }

    /// What is read here is what serde_json reads, and what is refused is what it refuses.
    fn agrees(json: &str) {
        let object = Object::read(json).ok();
        let expected = by_serde(json);
        let expected = expected.map(|all| all.into_iter().map(|(name, raw)| (name, raw.get())).collect());
        assert_eq!(object.as_ref().map(|object| shown(object.members())), expected, "{json}");
        let items = list(json).ok().map(|items| items.into_iter().map(Raw::get).collect::<Vec<_>>());
        let expected = serde_json::from_str::<Vec<&RawValue>>(json).ok();
        let expected = expected.map(|items| items.into_iter().map(RawValue::get).collect::<Vec<_>>());
        assert_eq!(items, expected, "{json}");
        let objects = items.and_then(|items| items.into_iter().map(by_serde).collect::<Option<Vec<_>>>());
        let objects = objects.map(|all| all.iter().map(Vec::len).collect::<Vec<_>>());
        let found = Object::read_list(json).ok();
        assert_eq!(found.map(|all| all.iter().map(|o| o.members.len()).collect()), objects, "{json}");
    }

    #[test]
    fn objects_and_lists_are_what_serde_json_takes_for_such() {
        for json in [
            "{}",
            " { } ",
            "[]",
            "[ ]",
            "",
            "null",
            "1",
            "\"{}\"",
            "{} x",
            "{\"a\":1,}",
            "{,}",
            "[,]",
            "[1,]",
            "[1 2]",
            "{\"a\" : [ {} , 1 ] , \"a\":\"}\" }",
            "[{},{\"a\":{}}]",
            "[{} , { \"b\" : 2 } ]",
            "[{},1]",
            "[{}",
            "{\"a\":}",
            "{\"\\u0061\":1,\"\\n\":2}",
            "{\"\\ud800\":1}",
            "{\"a\":\"\\ud800\"}",
            "{\"é\":\"é\"}",
            "{1:2}",
            "[[]]",
            "{\"a\":1}]",
        ] {
            agrees(json);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_heaps_of_tokens(tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "{}", "\"a\"", "\"\\u0061\":", "\"b\":1", "{\"a\":1}", "\"\\ud83d\\ude00\"", "1", "-", "null", " ", "\"",
        ]), 0..9)) {
            agrees(&tokens.concat());
            agrees(&format!("{{{}}}", tokens.concat()));
            agrees(&format!("[{}]", tokens.concat()));
        }
    }
}
