//! A request body as it came, with the spans that one scan found, and the edits to be spliced into it.
//!
//! Whatever an edit does not touch leaves byte for byte: order, white space, unknown fields, 64-bit numbers.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::scan::{self, Model, Scan, ScanError};
use crate::outbound::Segments;

/// One scanned request body and the edits made to its top level.
#[derive(Clone, Debug)]
pub struct Envelope {
    bytes: Bytes,
    model: Model,
    stream: bool,
    object: Range<usize>,
    members: Vec<Entry>,
    added: Vec<(Bytes, Bytes)>,
    edited: bool,
}

/// One top-level member: where it stands, and what takes its place.
#[derive(Clone, Debug)]
struct Entry {
    key: Range<usize>,
    value: Range<usize>,
    new_key: Option<Bytes>,
    new_value: Option<Bytes>,
    dropped: bool,
}

impl Envelope {
    /// Scans `bytes` once: one JSON object in UTF-8, no deeper than 128 levels, `model` and `stream` at most once.
    pub fn read(bytes: Bytes) -> Result<Self, ScanError> {
        let Scan { object, members, model, stream } = scan::scan(&bytes)?;
        let object = object.start as usize..object.end as usize;
        let entry = |m: scan::Member| Entry {
            key: m.key.start as usize..m.key.end as usize,
            value: m.value.start as usize..m.value.end as usize,
            new_key: None,
            new_value: None,
            dropped: false,
        };
        let members = members.into_iter().map(entry).collect();
        Ok(Self {
            bytes,
            model,
            stream: stream == Some(true),
            object,
            members,
            added: Vec::new(),
            edited: false,
        })
    }

    /// What the client wrote as `model`.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether the client asked for a stream.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The value of a top-level field as JSON text, after the edits; the last one where it stands twice.
    pub fn raw(&self, key: &str) -> Option<&[u8]> {
        let quoted = |k: &Bytes| serde_json::from_slice::<Cow<'_, str>>(k).is_ok_and(|k| k == key);
        if let Some((_, value)) = self.added.iter().rev().find(|(k, _)| quoted(k)) {
            return Some(value);
        }
        let entry = self.members.iter().rev().find(|e| self.is_named(e, key))?;
        Some(entry.new_value.as_deref().unwrap_or_else(|| &self.bytes[entry.value.clone()]))
    }

    /// Whether a top-level field is there and is not `null`, after the edits.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|v| v != b"null")
    }

    /// The names of all top-level fields, after the edits, in order.
    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let kept = self.members.iter().filter(|e| !e.dropped).map(|e| self.name_of(e));
        kept.chain(self.added.iter().map(|(k, _)| decode(k)))
    }

    /// Sets a top-level field to `json`, which must be one JSON value: in its place, or at the end.
    pub fn set(&mut self, key: &str, json: impl Into<Bytes>) {
        self.edited = true;
        let json = json.into();
        let place = self.members.iter().rposition(|e| self.is_named(e, key));
        match place {
            Some(at) => self.members[at].new_value = Some(json),
            None => {
                self.added.retain(|(k, _)| decode(k) != key);
                self.added.push((quote(key), json));
            }
        }
    }

    /// Sets `model` to `name`.
    pub fn set_model(&mut self, name: &str) {
        if !matches!(&self.model, Model::Text(_, text) if text == name) {
            self.set("model", quote(name));
        }
    }

    /// Renames a top-level field; false if there is none, or if `to` is there already.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        if !self.has(from) || self.has(to) {
            return false;
        }
        self.drop_field(to);
        self.edited = true;
        if let Some(at) = self.added.iter().rposition(|(k, _)| decode(k) == from) {
            self.added[at].0 = quote(to);
        }
        for at in 0..self.members.len() {
            if self.is_named(&self.members[at], from) {
                self.members[at].new_key = Some(quote(to));
            }
        }
        true
    }

    /// Leaves a top-level field out; false if there is none.
    pub fn drop_field(&mut self, key: &str) -> bool {
        let before = self.added.len();
        self.added.retain(|(k, _)| decode(k) != key);
        let mut found = self.added.len() != before;
        for at in 0..self.members.len() {
            if self.is_named(&self.members[at], key) {
                self.members[at].dropped = true;
                found = true;
            }
        }
        self.edited |= found;
        found
    }

    /// The body with all edits spliced in; the bytes as they came where there are none.
    pub fn body(&self) -> Segments {
        if !self.edited {
            return Segments::one(self.bytes.clone());
        }
        let mut splice = Splice::new(&self.bytes);
        let open = self.object.start + 1;
        splice.keep(0..open);
        let (mut previous_end, mut first) = (open, true);
        for entry in &self.members {
            let gap = previous_end..entry.key.start;
            previous_end = entry.value.end;
            if entry.dropped {
                continue;
            }
            splice.keep(if first { after_comma(&self.bytes, gap) } else { gap });
            first = false;
            splice.place(entry.key.clone(), entry.new_key.as_ref());
            splice.keep(entry.key.end..entry.value.start);
            splice.place(entry.value.clone(), entry.new_value.as_ref());
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

    fn is_named(&self, entry: &Entry, key: &str) -> bool {
        !entry.dropped && self.name_of(entry) == key
    }

    fn name_of<'a>(&'a self, entry: &'a Entry) -> Cow<'a, str> {
        decode(entry.new_key.as_deref().unwrap_or_else(|| &self.bytes[entry.key.clone()]))
    }
}

/// A quoted key as text. The scan has checked that it is a JSON string in UTF-8.
fn decode(quoted: &[u8]) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return String::from_utf8_lossy(inner);
    }
    serde_json::from_slice::<String>(quoted).map_or_else(|_| String::from_utf8_lossy(inner), Cow::Owned)
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
    fn a_rename_does_not_overwrite_what_the_client_gave() {
        let mut envelope = read("{\"max_tokens\":1,\"max_completion_tokens\":2}");
        assert!(!envelope.rename("max_tokens", "max_completion_tokens"));
        let mut envelope = read("{\"max_tokens\":1,\"max_completion_tokens\":null}");
        assert!(envelope.rename("max_tokens", "max_completion_tokens"));
        assert_eq!(text(&envelope), "{\"max_completion_tokens\":1}");
    }

    #[test]
    fn a_default_can_be_added_to_an_empty_object() {
        let mut envelope = read("{ }");
        envelope.set("model", "\"m\"");
        assert_eq!(text(&envelope), "{\"model\":\"m\" }");
    }
}
