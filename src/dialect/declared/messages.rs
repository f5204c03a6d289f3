//! The messages of a request as expressions see them, each knowing its place and which of its fields were used.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, BytesMut};
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::message::Message;
use super::tree::{self, Json};
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::openai::json::{self, Cursor};

/// All messages of a request: the list that expressions see.
#[derive(Debug)]
pub(super) struct Messages {
    json: Json,
    /// The fields of all of them, one message after the other.
    fields: Vec<Field>,
    each: Vec<Head>,
    /// Fields inside contents that the texts do not carry: the places of the message and of the part, and the path.
    lost: Mutex<BTreeSet<(usize, usize, String)>>,
}

/// What is known of one message.
#[derive(Debug)]
struct Head {
    /// Where its fields end.
    end: usize,
    /// One bit for each of the first 64 fields.
    used: AtomicU64,
}

/// One field, as the client wrote it.
#[derive(Debug)]
pub(super) struct Field {
    /// A text.
    name: Value,
    /// Where its value stands.
    at: Range<usize>,
    /// Whether that is a string without an escape.
    is_plain: bool,
}

/// More fields than any message has: each is looked for among all of them.
const MOST_FIELDS: usize = 256;

impl Messages {
    /// Reads the list, which must have been scanned.
    ///
    /// # Errors
    /// It is no list of objects, one has too many fields, or serde_json would refuse it; in words.
    pub(super) fn read(list: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut cursor = Cursor::new(list);
        let (mut fields, mut each) = (Vec::with_capacity(32), Vec::with_capacity(16));
        cursor.enter_list()?;
        while cursor.item()? {
            read_fields(&mut cursor, &mut fields)?;
            each.push(Head { end: fields.len(), used: AtomicU64::new(0) });
        }
        if json::spells_surrogates(list) {
            tree::parse_text(list)?;
        }
        Ok(Self { json: Json::from(list), fields, each, lost: Mutex::default() })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    /// Refuses what is said and was not used; what is only a hint is noted as dropped.
    pub(super) fn account(&self, losses: &mut Losses) -> Result<(), Untranslatable> {
        let lost = std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lost = lost.into_iter().peekable();
        for index in 0..self.len() {
            self.account_one(index, losses)?;
            while let Some((.., path)) = lost.next_if(|(of, ..)| *of == index) {
                losses.dropped(path, "only the text of a part is sent")?;
            }
        }
        Ok(())
    }

    fn account_one(&self, index: usize, losses: &mut Losses) -> Result<(), Untranslatable> {
        let used = self.each[index].used.load(Ordering::Relaxed);
        for (at, field) in self.fields_of(index).iter().enumerate() {
            let name = field.name();
            let is_used = at < 64 && used & (1 << at) != 0;
            if is_used || name == "role" || tree::says_nothing(self.json_of(field)) {
                continue;
            }
            let message = Message::Sent(self, index);
            if ESSENTIAL.contains(&name) {
                let role = message.role().unwrap_or(Cow::Borrowed("?"));
                let why =
                    format!("no expression of `request` takes the `{name}` of this message (role {role})");
                return Err(Untranslatable::unsupported(message.path(name), why));
            }
            losses.dropped(message.path(name), UNUSED)?;
        }
        Ok(())
    }

    /// Writes them as they came; all of them are used by that.
    pub(super) fn write(&self, out: &mut BytesMut) {
        self.each.iter().for_each(|head| head.used.store(u64::MAX, Ordering::Relaxed));
        out.extend_from_slice(self.json.text().as_bytes());
    }

    /// Those whose field `name` is true.
    pub(super) fn with(self: &Arc<Self>, name: &str) -> Vec<Value> {
        let says = |index: &usize| self.use_field(*index, name).is_some_and(|field| self.is_so(field));
        (0..self.len()).filter(says).map(|index| self.turn(index)).collect()
    }

    /// Notes that `path`, a field of the part at `place` of a message's content, is not carried over.
    pub(super) fn lose(&self, index: usize, place: usize, path: String) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert((index, place, path));
    }

    fn turn(self: &Arc<Self>, index: usize) -> Value {
        Value::from_object(Turn { all: Arc::clone(self), index })
    }

    fn fields_of(&self, index: usize) -> &[Field] {
        let start = index.checked_sub(1).map_or(0, |before| self.each[before].end);
        &self.fields[start..self.each[index].end]
    }

    /// A field of a message and its place; the last one where it stands twice.
    pub(super) fn find(&self, index: usize, name: &str) -> Option<(usize, &Field)> {
        self.fields_of(index).iter().enumerate().rfind(|(_, field)| field.name() == name)
    }

    /// A field of a message, which is used by that.
    pub(super) fn use_field(&self, index: usize, name: &str) -> Option<&Field> {
        let (at, field) = self.find(index, name)?;
        if let Ok(at @ 0..64) = u32::try_from(at) {
            self.each[index].used.fetch_or(1 << at, Ordering::Relaxed);
        }
        Some(field)
    }

    fn json_of(&self, field: &Field) -> &str {
        &self.json.text()[field.at.clone()]
    }

    /// What a field spells.
    pub(super) fn value_of(&self, field: &Field) -> Value {
        self.json.part(field.at.clone(), field.is_plain).value()
    }

    fn is_so(&self, field: &Field) -> bool {
        tree::is_true(self.json_of(field)).unwrap_or_else(|| self.value_of(field).is_true())
    }

    /// The text that a field spells, if it is a string.
    pub(super) fn text_of(&self, field: &Field) -> Option<Cow<'_, str>> {
        let inside = self.inside_of(field)?;
        if field.is_plain { Some(Cow::Borrowed(inside)) } else { json::unquote(self.json_of(field)) }
    }

    /// The inside of the JSON string that a field is, if it is one.
    pub(super) fn inside_of(&self, field: &Field) -> Option<&str> {
        self.json_of(field).strip_prefix('"')?.strip_suffix('"')
    }
}

/// Why a field is dropped.
pub(super) const UNUSED: &str = "no expression of `request` uses it";

/// What a message says, and so what cannot be left out.
const ESSENTIAL: [&str; 5] = ["content", "tool_calls", "function_call", "refusal", "audio"];

/// Reads the fields of the message that comes next.
fn read_fields(cursor: &mut Cursor<'_>, fields: &mut Vec<Field>) -> Result<(), Box<dyn std::error::Error>> {
    let first = fields.len();
    cursor.enter_object()?;
    while let Some(name) = cursor.member()? {
        if fields.len() - first == MOST_FIELDS {
            return Err(format!("a message of more than {MOST_FIELDS} fields").into());
        }
        let start = cursor.at();
        let raw = cursor.value()?;
        // A text has been looked at, and a word spells nothing else.
        if !raw.get().starts_with(['"', 'n', 't', 'f']) {
            tree::check(raw.get())?;
        }
        fields.push(Field { name: Value::from(name), at: start..cursor.at(), is_plain: raw.is_plain() });
    }
    Ok(())
}

impl Field {
    fn name(&self) -> &str {
        self.name.as_str().unwrap_or_default()
    }
}

impl Object for Messages {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        key.as_usize().filter(|index| *index < self.len()).map(|index| self.turn(index))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.len())
    }
}

/// One of them by itself.
#[derive(Debug)]
pub(super) struct Turn {
    /// Those it is one of.
    pub(super) all: Arc<Messages>,
    /// Its place among them.
    pub(super) index: usize,
}

impl Turn {
    /// Writes it; every field is used by that.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let mut open = b'{';
        for field in self.all.fields_of(self.index) {
            out.put_u8(std::mem::replace(&mut open, b','));
            json::quote(field.name(), out);
            out.put_u8(b':');
            let last = self.all.use_field(self.index, field.name()).unwrap_or(field);
            out.extend_from_slice(self.all.json_of(last).as_bytes());
        }
        out.extend_from_slice(if open == b'{' { b"{}" } else { b"}" });
    }
}

impl Object for Turn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.all.use_field(self.index, key).map(|field| self.all.value_of(field))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.all.fields_of(self.index).iter().map(|field| field.name.clone()).collect())
    }
}
