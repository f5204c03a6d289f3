//! The messages of a request as expressions see them, each knowing its place and which of its fields were used.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, BytesMut};
use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, Value};

use super::engine::is_nothing;
use super::tree::{self, Json};
use super::wire;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;
use crate::openai::json::{self, Cursor};

/// One message.
#[derive(Debug)]
pub(super) struct Turn {
    index: usize,
    /// Names, which are texts, and what stands under them.
    fields: Vec<(Value, Said)>,
    /// One bit for each of the first 64 fields.
    used: AtomicU64,
    /// Paths of fields inside the content that its text does not carry.
    lost: Mutex<Vec<String>>,
}

/// What stands in a field.
#[derive(Debug)]
enum Said {
    /// As the client wrote it.
    Written(Json),
    /// As an expression made it.
    Made(Value),
}

/// More fields than any message has: each is looked for among all of them.
const MOST_FIELDS: usize = 256;

/// All messages, and the list that expressions see.
#[derive(Debug)]
pub(super) struct Turns {
    all: Vec<Arc<Turn>>,
}

impl Turns {
    /// Reads the list, which must have been scanned.
    ///
    /// # Errors
    /// It is no list of objects, one has too many fields, or serde_json would refuse it; in words.
    pub(super) fn read(list: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let (shared, mut cursor) = (Json::from(list), Cursor::new(list));
        let mut all = Vec::with_capacity(8);
        cursor.enter_list()?;
        while cursor.item()? {
            all.push(Arc::new(Turn::new(all.len(), fields(&shared, &mut cursor)?)));
        }
        if json::spells_surrogates(list) {
            tree::parse_text(list)?;
        }
        Ok(Self { all })
    }

    /// The list.
    pub(super) fn value(&self) -> Value {
        self.all.iter().map(|turn| Value::from_dyn_object(Arc::clone(turn))).collect()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Refuses what is said and was not used; what is only a hint is noted as dropped.
    pub(super) fn account(&self, losses: &mut Losses) -> Result<(), Untranslatable> {
        self.all.iter().try_for_each(|turn| turn.account(losses))
    }
}

/// Reads the fields of the message that comes next in `list`.
fn fields(list: &Json, cursor: &mut Cursor<'_>) -> Result<Vec<(Value, Said)>, Box<dyn std::error::Error>> {
    let mut fields = Vec::with_capacity(4);
    cursor.enter_object()?;
    while let Some(name) = cursor.member()? {
        if fields.len() == MOST_FIELDS {
            return Err(format!("a message of more than {MOST_FIELDS} fields").into());
        }
        let start = cursor.at();
        let raw = cursor.value()?.get();
        // A text has been looked at, and a word spells nothing else.
        if !raw.starts_with(['"', 'n', 't', 'f']) {
            tree::check(raw)?;
        }
        fields.push((Value::from(name), Said::Written(list.part(start..cursor.at()))));
    }
    Ok(fields)
}

impl Turn {
    fn new(index: usize, fields: Vec<(Value, Said)>) -> Self {
        Self { index, fields, used: AtomicU64::new(0), lost: Mutex::default() }
    }

    /// The message that `value` is: one of the request's, or at the place `index` one that an expression made.
    pub(super) fn of(index: usize, value: &Value) -> Arc<Self> {
        value.downcast_object::<Self>().unwrap_or_else(|| {
            let keys = value.try_iter().into_iter().flatten();
            let made =
                |key: Value| Some((Value::from(key.as_str()?), Said::Made(value.get_item(&key).ok()?)));
            Arc::new(Self::new(index, keys.filter_map(made).collect()))
        })
    }

    /// Who speaks, in OpenAI's word.
    pub(super) fn role(&self) -> Result<Cow<'_, str>, Error> {
        let role = self.find("role").and_then(|(_, said)| said.text());
        role.ok_or_else(|| self.refuse("role", "expected one of system, developer, user, assistant, tool"))
    }

    /// What is said, as one text: the text parts of a list are joined by line feeds.
    pub(super) fn text(&self) -> Result<Cow<'_, str>, Error> {
        let content = self.use_field("content");
        if let Some(text) = content.and_then(Said::text) {
            return Ok(text);
        }
        let content = content.map(Said::value).unwrap_or_default();
        if is_nothing(&content) {
            return Ok(self.use_field("refusal").and_then(Said::text).unwrap_or_default());
        }
        let parts =
            content.try_iter().map_err(|_| self.refuse("content", "expected a string or a list of parts"))?;
        let mut whole = String::new();
        for (place, part) in parts.enumerate() {
            if place > 0 {
                whole.push('\n');
            }
            whole.push_str(&self.part(place, &part)?);
        }
        Ok(Cow::Owned(whole))
    }

    fn part(&self, place: usize, part: &Value) -> Result<String, Error> {
        let kind = part.get_attr("type").unwrap_or_default();
        let field = match kind.as_str() {
            Some(kind @ ("text" | "refusal")) => kind,
            Some(kind) => {
                let kind: String = kind.chars().take(40).collect();
                let why = format!("this integration takes text only, and this part is of type `{kind}`");
                return Err(refusal(Untranslatable::unsupported(
                    self.path(&format!("content[{place}]")),
                    why,
                )));
            }
            None => return Err(self.refuse(&format!("content[{place}].type"), "this field is required")),
        };
        let keys = part.try_iter().into_iter().flatten();
        for key in keys.filter(|key| !matches!(key.as_str(), Some(name) if name == "type" || name == field)) {
            if part.get_item(&key).is_ok_and(|value| !says_nothing(&value)) {
                let path = self.path(&format!("content[{place}].{key}"));
                self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(path);
            }
        }
        let text = part.get_attr(field).unwrap_or_default();
        let text = text.as_str().map(str::to_owned);
        text.ok_or_else(|| self.refuse(&format!("content[{place}].{field}"), "expected a string"))
    }

    /// The error that refuses a field of it as malformed.
    pub(super) fn refuse(&self, field: &str, why: &str) -> Error {
        refusal(Untranslatable::malformed(self.path(field), why))
    }

    fn path(&self, field: &str) -> String {
        format!("messages[{}].{field}", self.index)
    }

    /// Writes it; every field is used by that.
    pub(super) fn write(&self, most: usize, out: &mut BytesMut) -> Result<(), String> {
        let mut open = b'{';
        for (key, _) in &self.fields {
            let name = key.as_str().unwrap_or_default();
            out.put_u8(std::mem::replace(&mut open, b','));
            json::quote(name, out);
            out.put_u8(b':');
            match self.use_field(name) {
                Some(Said::Written(json)) => out.extend_from_slice(json.text().as_bytes()),
                Some(Said::Made(value)) => wire::write(value, most, out)?,
                None => {}
            }
        }
        out.extend_from_slice(if open == b'{' { b"{}" } else { b"}" });
        Ok(())
    }

    /// A field and its place; the last one where it stands twice.
    fn find(&self, name: &str) -> Option<(usize, &Said)> {
        let at = self.fields.iter().rposition(|(field, _)| field.as_str() == Some(name))?;
        Some((at, &self.fields[at].1))
    }

    /// A field, which is used by that.
    fn use_field(&self, name: &str) -> Option<&Said> {
        let (at, said) = self.find(name)?;
        if let Ok(at @ 0..64) = u32::try_from(at) {
            self.used.fetch_or(1 << at, Ordering::Relaxed);
        }
        Some(said)
    }

    fn account(&self, losses: &mut Losses) -> Result<(), Untranslatable> {
        let used = self.used.load(Ordering::Relaxed);
        for (at, (key, said)) in self.fields.iter().enumerate() {
            let name = key.as_str().unwrap_or_default();
            let is_used = at < 64 && used & (1 << at) != 0;
            if is_used || name == "role" || says_nothing(&said.value()) {
                continue;
            }
            if ESSENTIAL.contains(&name) {
                let role = self.role().unwrap_or(Cow::Borrowed("?"));
                let why =
                    format!("no expression of `request` takes the `{name}` of this message (role {role})");
                return Err(Untranslatable::unsupported(self.path(name), why));
            }
            losses.dropped(self.path(name), UNUSED)?;
        }
        let lost = std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner));
        lost.into_iter().try_for_each(|path| losses.dropped(path, "only the text of a part is sent"))
    }
}

/// Why a field is dropped.
pub(super) const UNUSED: &str = "no expression of `request` uses it";

/// What a message says, and so what cannot be left out.
const ESSENTIAL: [&str; 5] = ["content", "tool_calls", "function_call", "refusal", "audio"];

impl Said {
    fn value(&self) -> Value {
        match self {
            Self::Written(json) => json.value(),
            Self::Made(value) => value.clone(),
        }
    }

    /// What it spells, if that is a text.
    fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Written(json) => json.as_text(),
            Self::Made(value) => value.as_str().map(Cow::Borrowed),
        }
    }
}

fn says_nothing(value: &Value) -> bool {
    is_nothing(value) || (value.len() == Some(0))
}

impl Object for Turn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.use_field(key).map(Said::value)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.iter().map(|(name, _)| name.clone()).collect())
    }
}

/// A request that a filter cannot express: the cause of the error with which its expression fails.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Untranslatable);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.0.param, self.0.message)
    }
}

impl std::error::Error for Refused {}

/// The error that refuses a request.
pub(super) fn refusal(why: Untranslatable) -> Error {
    let words = format!("`{}`: {}", why.param, why.message);
    Error::new(ErrorKind::InvalidOperation, words).with_source(Refused(why))
}
