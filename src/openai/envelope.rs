//! A request body as it came, with the spans that one scan found, and the edits to be spliced into it.
//!
//! Whatever an edit does not touch leaves byte for byte: order, white space, unknown fields, 64-bit numbers.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::json::{self, Object, Raw};
use super::scan::{self, Model, Scan, ScanError};
use crate::outbound::Segments;

/// One scanned request body and the edits made to its top level.
#[derive(Clone, Debug)]
pub struct Envelope {
    bytes: Bytes,
    scan: Scan,
    /// What takes the place of members, by their place in the scan.
    edits: Vec<(usize, Edit)>,
    added: Vec<(Bytes, Bytes)>,
    /// The names of what was set because the client gave none.
    defaults: Vec<String>,
}

/// What takes the place of one member.
#[derive(Clone, Debug, Default)]
struct Edit {
    key: Option<Bytes>,
    value: Option<Bytes>,
    dropped: bool,
}

impl Envelope {
    /// Scans `bytes` once: one JSON object in UTF-8, no deeper than 128 levels, `model` and `stream` at most once.
    pub fn read(bytes: Bytes) -> Result<Self, ScanError> {
        let scan = scan::scan(&bytes)?;
        Ok(Self { bytes, scan, edits: Vec::new(), added: Vec::new(), defaults: Vec::new() })
    }

    /// What the client wrote as `model`.
    pub fn model(&self) -> &Model {
        &self.scan.model
    }

    /// Whether the client asked for a stream.
    pub fn stream(&self) -> bool {
        self.scan.stream == Some(true)
    }

    /// The value of a top-level field as JSON text, after the edits; the last one where it stands twice.
    pub fn raw(&self, key: &str) -> Option<&[u8]> {
        if let Some((_, value)) = self.added.iter().rev().find(|(k, _)| spells(k, key)) {
            return Some(value);
        }
        let at = self.find(key)?;
        let new = self.edit(at).and_then(|edit| edit.value.as_deref());
        Some(new.unwrap_or_else(|| &self.bytes[span(&self.scan.members[at].value)]))
    }

    /// The value of a top-level field as the client sent it, whatever the edits have made of it.
    pub fn sent(&self, key: &str) -> Option<&[u8]> {
        let named = self.scan.members.iter().rev().find(|member| spells(&self.bytes[span(&member.key)], key));
        named.map(|member| &self.bytes[span(&member.value)])
    }

    /// Whether a top-level field is there and is not `null`, after the edits.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|v| v != b"null")
    }

    /// The names of all top-level fields after the edits, in order, each with its value as JSON text. A name that spells
    /// half a surrogate pair stays as it was written.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
        self.texts().flatten().map(|(key, value)| (spelt(key), value))
    }

    /// All top-level fields after the edits, in order; `None` if a name spells half a surrogate pair.
    pub fn fields(&self) -> Option<Object<'_>> {
        let mut fields = Object::with_capacity(self.scan.members.len() + self.added.len());
        for member in self.texts() {
            let (key, value) = member?;
            fields.push(json::unquote(key)?, Raw::scanned(value));
        }
        Some(fields)
    }

    /// How long the body was before the edits, in bytes.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Sets a top-level field to `json`, which must be one JSON value: in its place, or at the end.
    pub fn set(&mut self, key: &str, json: impl Into<Bytes>) {
        let json = json.into();
        match self.find(key) {
            Some(at) => self.edit_mut(at).value = Some(json),
            None => {
                self.added.retain(|(k, _)| !spells(k, key));
                self.added.push((quote(key), json));
            }
        }
    }

    /// Sets a top-level field that the client gave none of, and remembers that it is not the client's.
    pub fn set_default(&mut self, key: &str, json: impl Into<Bytes>) {
        self.set(key, json);
        self.defaults.push(key.to_owned());
    }

    /// The names of the fields that [`Envelope::set_default`] has set, as they are called by now.
    pub fn defaults(&self) -> &[String] {
        &self.defaults
    }

    /// Whether a top-level field is one of those that the client gave none of.
    pub fn is_default(&self, key: &str) -> bool {
        self.defaults.iter().any(|name| name == key)
    }

    /// Sets `model` to `name`.
    pub fn set_model(&mut self, name: &str) {
        if !matches!(self.model(), Model::Text(_, text) if text == name) {
            self.set("model", quote(name));
        }
    }

    /// Renames a top-level field; false if there is none, or if `to` is there already.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        if !self.has(from) || self.has(to) {
            return false;
        }
        self.drop_field(to);
        if let Some(at) = self.added.iter().rposition(|(k, _)| spells(k, from)) {
            self.added[at].0 = quote(to);
        }
        for at in 0..self.scan.members.len() {
            if self.is_named(at, from) {
                self.edit_mut(at).key = Some(quote(to));
            }
        }
        for name in self.defaults.iter_mut().filter(|name| *name == from) {
            to.clone_into(name);
        }
        true
    }

    /// Leaves a top-level field out; false if there is none.
    pub fn drop_field(&mut self, key: &str) -> bool {
        let before = self.added.len();
        self.added.retain(|(k, _)| !spells(k, key));
        self.defaults.retain(|name| name != key);
        let mut found = self.added.len() != before;
        for at in 0..self.scan.members.len() {
            if self.is_named(at, key) {
                self.edit_mut(at).dropped = true;
                found = true;
            }
        }
        found
    }

    /// The body with all edits spliced in; the bytes as they came where there are none.
    pub fn body(&self) -> Segments {
        if self.edits.is_empty() && self.added.is_empty() {
            return Segments::one(self.bytes.clone());
        }
        let mut splice = Splice::new(&self.bytes);
        let open = self.scan.object.start as usize + 1;
        splice.keep(0..open);
        let (mut previous_end, mut first) = (open, true);
        for (at, member) in self.scan.members.iter().enumerate() {
            let (key, value) = (span(&member.key), span(&member.value));
            let gap = previous_end..key.start;
            previous_end = value.end;
            let edit = self.edit(at);
            if edit.is_some_and(|edit| edit.dropped) {
                continue;
            }
            splice.keep(if first { after_comma(&self.bytes, gap) } else { gap });
            first = false;
            let between = key.end..value.start;
            splice.place(key, edit.and_then(|edit| edit.key.as_ref()));
            splice.keep(between);
            splice.place(value, edit.and_then(|edit| edit.value.as_ref()));
        }
        for (key, value) in &self.added {
            if !first {
                splice.put(Bytes::from_static(b","));
            }
            first = false;
            splice.put(key.clone());
            splice.put(Bytes::from_static(b":"));
            splice.put(value.clone());
        }
        splice.keep(previous_end..self.bytes.len());
        Segments::many(splice.done())
    }

    /// The quoted names and the values after the edits, in order; each is `None` if an edit is no text.
    fn texts(&self) -> impl Iterator<Item = Option<(&str, &str)>> {
        let whole = simdutf8::basic::from_utf8(&self.bytes).unwrap_or_default();
        let kept = self.scan.members.iter().enumerate().filter_map(move |(at, member)| {
            let (key, value) = (whole.get(span(&member.key)), whole.get(span(&member.value)));
            let Some(edit) = self.edit(at) else { return Some(key.zip(value)) };
            let (new_key, new_value) = (edit.key.as_ref().map(text), edit.value.as_ref().map(text));
            (!edit.dropped).then(|| new_key.unwrap_or(key).zip(new_value.unwrap_or(value)))
        });
        kept.chain(self.added.iter().map(|(key, value)| text(key).zip(text(value))))
    }

    /// The last member of that name, after the edits.
    fn find(&self, key: &str) -> Option<usize> {
        (0..self.scan.members.len()).rev().find(|at| self.is_named(*at, key))
    }

    fn is_named(&self, at: usize, key: &str) -> bool {
        self.key(at).is_some_and(|quoted| spells(quoted, key))
    }

    /// The name of a member in its quotes, after the edits; `None` if it is left out.
    fn key(&self, at: usize) -> Option<&[u8]> {
        let original = || &self.bytes[span(&self.scan.members[at].key)];
        match self.edit(at) {
            None => Some(original()),
            Some(edit) if edit.dropped => None,
            Some(edit) => Some(edit.key.as_deref().unwrap_or_else(original)),
        }
    }

    /// Edits are few: configuration makes them, not the client.
    fn edit(&self, at: usize) -> Option<&Edit> {
        self.edits.iter().find(|(edited, _)| *edited == at).map(|(_, edit)| edit)
    }

    fn edit_mut(&mut self, at: usize) -> &mut Edit {
        let place = self.edits.iter().position(|(edited, _)| *edited == at).unwrap_or_else(|| {
            self.edits.push((at, Edit::default()));
            self.edits.len() - 1
        });
        &mut self.edits[place].1
    }
}

fn text(bytes: &Bytes) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn span(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Whether a quoted key is `name`, escapes resolved.
fn spells(quoted: &[u8], name: &str) -> bool {
    let inner = &quoted[1..quoted.len() - 1];
    // An escape is longer than what it stands for.
    let may_spell = inner.len() > name.len() && memchr::memchr(b'\\', inner).is_some();
    inner == name.as_bytes()
        || (may_spell && std::str::from_utf8(quoted).is_ok_and(|quoted| spelt(quoted) == name))
}

/// The same key as text; as it is written if it spells half a surrogate pair.
fn spelt(quoted: &str) -> Cow<'_, str> {
    json::unquote(quoted).unwrap_or_else(|| Cow::Borrowed(&quoted[1..quoted.len() - 1]))
}

fn quote(text: &str) -> Bytes {
    serde_json::Value::from(text).to_string().into()
}

/// What remains of the text between two members when the first of them is gone.
fn after_comma(bytes: &[u8], gap: Range<usize>) -> Range<usize> {
    let comma = memchr::memchr(b',', &bytes[gap.clone()]).map_or(gap.start, |at| gap.start + at + 1);
    comma..gap.end
}

/// Collects pieces; neighbouring originals become one slice.
struct Splice<'a> {
    original: &'a Bytes,
    pieces: Vec<Bytes>,
    open: Range<usize>,
}

impl<'a> Splice<'a> {
    fn new(original: &'a Bytes) -> Self {
        Self { original, pieces: Vec::with_capacity(4), open: 0..0 }
    }

    fn keep(&mut self, range: Range<usize>) {
        if range.start == self.open.end {
            self.open.end = range.end;
        } else {
            self.flush();
            self.open = range;
        }
    }

    fn place(&mut self, range: Range<usize>, new: Option<&Bytes>) {
        match new {
            Some(new) => self.put(new.clone()),
            None => self.keep(range),
        }
    }

    fn put(&mut self, new: Bytes) {
        self.flush();
        self.pieces.push(new);
    }

    fn flush(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(self.original.slice(self.open.clone()));
        }
        self.open = self.open.end..self.open.end;
    }

    fn done(mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Envelope {
        Envelope::read(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn text(envelope: &Envelope) -> String {
        String::from_utf8(envelope.body().joined().to_vec()).unwrap()
    }

    #[test]
    fn a_body_without_edits_leaves_as_the_same_bytes() {
        let body = Bytes::from_static(b" {\"model\" : \"m\",\"x\":12345678901234567890}\n");
        let envelope = Envelope::read(body.clone()).unwrap();
        assert_eq!(envelope.body().pieces()[0].as_ptr(), body.as_ptr());
        assert_eq!(envelope.body().joined(), body);
    }

    #[test]
    fn only_the_model_is_replaced_and_nothing_is_copied() {
        let mut envelope = read("{\"a\": 1.0, \"model\" : \"alias\" , \"z\":[ 1 ]}");
        envelope.set_model("real/\"name\"");
        assert_eq!(text(&envelope), "{\"a\": 1.0, \"model\" : \"real/\\\"name\\\"\" , \"z\":[ 1 ]}");
        assert_eq!(envelope.body().pieces().len(), 3);
    }

    #[test]
    fn setting_the_model_to_what_it_is_edits_nothing() {
        let mut envelope = read("{\"model\":\"m\"}");
        envelope.set_model("m");
        assert_eq!(envelope.body().pieces().len(), 1);
    }

    #[test]
    fn dropping_keeps_commas_right_wherever_the_field_stands() {
        for (drop, want) in
            [("a", "{ \"b\": 2 , \"c\":3 }"), ("b", "{\"a\":1 , \"c\":3 }"), ("c", "{\"a\":1, \"b\": 2 }")]
        {
            let mut envelope = read("{\"a\":1, \"b\": 2 , \"c\":3 }");
            assert!(envelope.drop_field(drop));
            assert_eq!(text(&envelope), want);
        }
        let mut envelope = read("{\"a\":1, \"b\": 2}");
        envelope.drop_field("a");
        envelope.drop_field("b");
        assert_eq!(text(&envelope), "{}");
        envelope.set("d", "4");
        assert_eq!(text(&envelope), "{\"d\":4}");
    }

    #[test]
    fn an_escaped_key_is_the_field_it_spells() {
        let mut envelope = read("{\"us\\u0065r\":\"x\",\"model\":\"m\"}");
        assert!(envelope.has("user"));
        assert!(envelope.drop_field("user"));
        assert_eq!(text(&envelope), "{\"model\":\"m\"}");
    }

    #[test]
    fn the_members_are_those_that_leave() {
        let mut envelope = read(r#"{"model":"m", "us\u0065r" : "x","\ud800":1,"gone":2,"user":[ ]}"#);
        envelope.drop_field("gone");
        envelope.set_model("real");
        envelope.set("new", "true");
        let members: Vec<_> = envelope.members().collect();
        let members: Vec<_> = members.iter().map(|(name, json)| (&**name, *json)).collect();
        let expected =
            [("model", "\"real\""), ("user", "\"x\""), (r"\ud800", "1"), ("user", "[ ]"), ("new", "true")];
        assert_eq!(members, expected);
        assert!(envelope.fields().is_none());
    }

    #[test]
    fn a_rename_does_not_overwrite_what_the_client_gave() {
        let mut envelope = read("{\"max_tokens\":1,\"max_completion_tokens\":2}");
        assert!(!envelope.rename("max_tokens", "max_completion_tokens"));
        let mut envelope = read("{\"max_tokens\":1,\"max_completion_tokens\":null}");
        assert!(envelope.rename("max_tokens", "max_completion_tokens"));
        assert_eq!(text(&envelope), "{\"max_completion_tokens\":1}");
    }

    #[test]
    fn what_the_client_gave_none_of_is_remembered_under_the_name_that_it_leaves_by() {
        let mut envelope = read("{\"a\":null,\"b\":1}");
        envelope.set_default("a", "2");
        envelope.set_default("c", "3");
        assert!(envelope.is_default("a") && envelope.is_default("c") && !envelope.is_default("b"));
        assert!(envelope.rename("a", "d") && envelope.drop_field("c"));
        assert_eq!(text(&envelope), "{\"d\":2,\"b\":1}");
        assert_eq!(envelope.defaults(), ["d"]);
    }

    #[test]
    fn a_default_can_be_added_to_an_empty_object() {
        let mut envelope = read("{ }");
        envelope.set("model", "\"m\"");
        assert_eq!(text(&envelope), "{\"model\":\"m\" }");
    }
}
