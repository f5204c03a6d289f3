//! JSON that is read once and written once: texts stay in the form they came in, objects are a list of members.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON string: as it stood in the input, escapes and all, or plain text of ours.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// With its quotes and escapes, ready to be written again.
    Raw(&'a RawValue),
    /// To be escaped when written.
    Plain(&'a str),
}

impl<'a> Text<'a> {
    /// `raw` as a text, if it is a string.
    pub fn read(raw: &'a RawValue) -> Option<Self> {
        raw.get().starts_with('"').then_some(Self::Raw(raw))
    }

    /// The characters; `None` if an escape spells half a surrogate pair, which no text can hold.
    pub fn decode(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Plain(text) => Some(Cow::Borrowed(text)),
            Self::Raw(raw) => {
                let inner = inner(raw);
                if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
                    return Some(Cow::Borrowed(inner));
                }
                serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned)
            }
        }
    }

    /// Whether there is not one character.
    pub fn is_empty(self) -> bool {
        match self {
            Self::Plain(text) => text.is_empty(),
            Self::Raw(raw) => inner(raw).is_empty(),
        }
    }

    /// Whether there is nothing but white space.
    pub fn is_blank(self) -> bool {
        let text = match self {
            Self::Plain(text) => text,
            Self::Raw(raw) => inner(raw),
        };
        match text.as_bytes().first() {
            None => true,
            Some(first) if first.is_ascii_graphic() && *first != b'\\' => false,
            Some(_) => self.decode().is_some_and(|text| text.trim().is_empty()),
        }
    }

    /// Whether it holds an escape that spells half a surrogate pair.
    pub fn is_torn(self) -> bool {
        let Self::Raw(raw) = self else { return false };
        let bytes = raw.get().as_bytes();
        let surrogate = |at: usize| matches!(bytes.get(at + 1..at + 3), Some([b'u', b'd' | b'D']));
        memchr::memchr_iter(b'\\', bytes).any(surrogate) && self.decode().is_none()
    }

    /// Whether it spells `word`.
    pub fn is(self, word: &str) -> bool {
        self.decode().is_some_and(|text| text == word)
    }
}

fn inner(raw: &RawValue) -> &str {
    let quoted = raw.get();
    &quoted[1..quoted.len() - 1]
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw(raw) => raw.serialize(serializer),
            Self::Plain(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        Self::read(raw).ok_or_else(|| de::Error::custom("expected a string"))
    }
}

/// One JSON object as its members, the values not yet read.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    value: &'a RawValue,
    taken: bool,
}

impl<'a> Object<'a> {
    /// The object that `json` is.
    pub fn read(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The object that `json` is, but with the member `list` apart and read as a list of objects.
    pub fn read_with_list(json: &'a str, list: &str) -> Result<(Self, Option<Vec<Self>>), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let found = Members { list: Some(list) }.deserialize(&mut reader)?;
        reader.end().map(|()| found)
    }

    /// Takes a member out; `None` if it is not there or `null`. The last one counts where it stands twice.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let mut found = None;
        for member in self.members.iter_mut().filter(|m| m.name == name) {
            member.taken = true;
            found = Some(member.value);
        }
        found.filter(|value| value.get() != "null")
    }

    /// All members, taken or not.
    pub fn members(&self) -> impl Iterator<Item = (&Cow<'a, str>, &'a RawValue)> {
        self.members.iter().map(|m| (&m.name, m.value))
    }

    /// The members that nobody has taken and that say something: not `null`, not an empty list, object or text.
    pub fn into_rest(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        let says = |m: &Member<'_>| !m.taken && !matches!(m.value.get(), "null" | "[]" | "{}" | "\"\"");
        self.members.into_iter().filter(says).map(|m| (m.name, m.value))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Members { list: None }.deserialize(deserializer).map(|(object, _)| object)
    }
}

/// Reads the members of one object, that of the name `list` as a list of objects.
struct Members<'n> {
    list: Option<&'n str>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = (Object<'de>, Option<Vec<Object<'de>>>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = (Object<'de>, Option<Vec<Object<'de>>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut list) = (Vec::with_capacity(8), None);
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if self.list == Some(&name) {
                list = Some(map.next_value()?);
            } else {
                members.push(Member { name, value: map.next_value::<&'de RawValue>()?, taken: false });
            }
        }
        Ok((Object { members }, list))
    }
}

/// A member's name, borrowed unless it holds escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Writes JSON straight into a buffer and minds the commas.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut BytesMut,
    comma: bool,
}

impl<'o> Writer<'o> {
    /// A writer that adds to `out`.
    pub fn new(out: &'o mut BytesMut) -> Self {
        Self { out, comma: false }
    }

    /// Begins an object.
    pub fn object(&mut self) {
        self.open(b'{');
    }

    /// Ends an object.
    pub fn end_object(&mut self) {
        self.close(b'}');
    }

    /// Begins a list.
    pub fn list(&mut self) {
        self.open(b'[');
    }

    /// Ends a list.
    pub fn end_list(&mut self) {
        self.close(b']');
    }

    /// Writes a member's name, which must need no escapes.
    pub fn key(&mut self, name: &'static str) {
        self.separate();
        self.out.put_u8(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.comma = false;
    }

    /// Writes a member's name of any kind.
    pub fn name(&mut self, name: &str) {
        self.value(name);
        self.out.put_u8(b':');
        self.comma = false;
    }

    /// Writes a text that is known to need no escapes.
    pub fn plain(&mut self, text: &str) {
        self.separate();
        self.out.put_u8(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.put_u8(b'"');
    }

    /// Writes a value that is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Writes a text.
    pub fn text(&mut self, text: Text<'_>) {
        match text {
            Text::Raw(raw) => self.raw(raw.get()),
            Text::Plain(text) => self.value(text),
        }
    }

    /// Writes any other value.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.separate();
        serde_json::to_writer((&mut *self.out).writer(), value)
            .expect("a buffer takes whatever has text keys");
    }

    /// Writes a member whose name and value need no escapes.
    pub fn tag(&mut self, name: &'static str, value: &'static str) {
        self.key(name);
        self.plain(value);
    }

    /// Writes a member whose value is plain text.
    pub fn member(&mut self, name: &'static str, value: &str) {
        self.key(name);
        self.value(value);
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.put_u8(b',');
        }
        self.comma = true;
    }

    fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.put_u8(bracket);
        self.comma = false;
    }

    fn close(&mut self, bracket: u8) {
        self.out.put_u8(bracket);
        self.comma = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_as_it_came_and_can_be_read() {
        let json = r#"{"a":"\u00e9\/x","b":"plain","c":" \n\u00a0","d":"","e":"\ud800"}"#;
        let mut object = Object::read(json).unwrap();
        let mut text = |name: &str| Text::read(object.take(name).unwrap()).unwrap();
        let (a, b, c, d, e) = (text("a"), text("b"), text("c"), text("d"), text("e"));
        assert_eq!(serde_json::to_string(&a).unwrap(), r#""\u00e9\/x""#);
        assert_eq!(a.decode().unwrap(), "é/x");
        assert!(matches!(b.decode(), Some(Cow::Borrowed("plain"))));
        assert!(c.is_blank() && !c.is_empty() && d.is_blank() && d.is_empty() && !a.is_blank());
        assert!(e.decode().is_none() && !e.is_blank() && e.is_torn() && !a.is_torn());
    }

    #[test]
    fn what_nobody_took_is_left_unless_it_says_nothing() {
        let mut object = Object::read(r#"{"x":1,"\u0079":2,"z":null,"x":3,"e":[],"n":null}"#).unwrap();
        assert_eq!(object.take("x").unwrap().get(), "3");
        assert!(object.take("n").is_none());
        let rest: Vec<_> = object.into_rest().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(rest, ["y"]);
    }

    #[test]
    fn commas_stand_where_they_must() {
        let mut out = BytesMut::new();
        let mut json = Writer::new(&mut out);
        json.object();
        json.member("a", "\"");
        json.key("b");
        json.list();
        json.raw("1");
        json.object();
        json.end_object();
        json.text(Text::Plain("é"));
        json.end_list();
        json.key("c");
        json.value(&0.5);
        json.end_object();
        assert_eq!(&out[..], r#"{"a":"\"","b":[1,{},"é"],"c":0.5}"#.as_bytes());
    }
}
