//! The messages of a request as expressions see them, each knowing its place and which of its fields were used.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::engine::is_nothing;
use crate::dialect::Untranslatable;
use crate::dialect::loss::Losses;

/// One message.
#[derive(Debug)]
pub(super) struct Turn {
    index: usize,
    fields: Fields,
    /// One bit for each of the first 64 fields.
    used: AtomicU64,
    /// Paths of fields inside the content that its text does not carry.
    lost: Mutex<Vec<String>>,
}

/// The members of one object, in order.
#[derive(Debug)]
struct Fields(Vec<(String, Value)>);

/// More fields than any message has: each is looked for among all of them.
const MOST_FIELDS: usize = 256;

/// All messages, and the list that expressions see.
#[derive(Debug)]
pub(super) struct Turns {
    all: Vec<Arc<Turn>>,
}

impl Turns {
    /// Reads the list.
    pub(super) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        let all: Vec<Fields> = serde_json::from_slice(json)?;
        let turn = |(index, fields)| Arc::new(Turn::new(index, fields));
        Ok(Self { all: all.into_iter().enumerate().map(turn).collect() })
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

impl Turn {
    fn new(index: usize, fields: Fields) -> Self {
        Self { index, fields, used: AtomicU64::new(0), lost: Mutex::default() }
    }

    /// The message that `value` is: one of the request's, or at the place `index` one that an expression made.
    pub(super) fn of(index: usize, value: &Value) -> Arc<Self> {
        value.downcast_object::<Self>().unwrap_or_else(|| {
            let keys = value.try_iter().into_iter().flatten();
            let fields = keys.filter_map(|key| Some((key.as_str()?.to_owned(), value.get_item(&key).ok()?)));
            Arc::new(Self::new(index, Fields(fields.collect())))
        })
    }

    /// Who speaks, in OpenAI's word.
    pub(super) fn role(&self) -> Result<&str, Error> {
        let role = self.find("role").and_then(|(_, value)| value.as_str());
        role.ok_or_else(|| self.refuse("role", "expected one of system, developer, user, assistant, tool"))
    }

    /// What is said, as one text: the text parts of a list are joined by line feeds.
    pub(super) fn text(&self) -> Result<String, Error> {
        let content = self.take("content").unwrap_or_default();
        if let Some(text) = content.as_str() {
            return Ok(text.to_owned());
        }
        if is_nothing(&content) {
            let refusal = self.take("refusal").unwrap_or_default();
            return Ok(refusal.as_str().unwrap_or_default().to_owned());
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
        Ok(whole)
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

    /// A field and its place; the last one where it stands twice.
    fn find(&self, name: &str) -> Option<(usize, &Value)> {
        let at = self.fields.0.iter().rposition(|(field, _)| field == name)?;
        Some((at, &self.fields.0[at].1))
    }

    /// A field, which is used by that.
    fn take(&self, name: &str) -> Option<Value> {
        let (at, value) = self.find(name)?;
        if let Ok(at @ 0..64) = u32::try_from(at) {
            self.used.fetch_or(1 << at, Ordering::Relaxed);
        }
        Some(value.clone())
    }

    fn account(&self, losses: &mut Losses) -> Result<(), Untranslatable> {
        let used = self.used.load(Ordering::Relaxed);
        for (at, (name, value)) in self.fields.0.iter().enumerate() {
            let is_used = at < 64 && used & (1 << at) != 0;
            if is_used || name == "role" || says_nothing(value) {
                continue;
            }
            if ESSENTIAL.contains(&name.as_str()) {
                let role = self.role().unwrap_or("?");
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

fn says_nothing(value: &Value) -> bool {
    is_nothing(value) || (value.len() == Some(0))
}

impl Object for Turn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.take(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.take(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.0.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::with_capacity(4);
                while let Some(member) = map.next_entry()? {
                    if fields.len() == MOST_FIELDS {
                        let words = format!("a message of more than {MOST_FIELDS} fields");
                        return Err(serde::de::Error::custom(words));
                    }
                    fields.push(member);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Members)
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
