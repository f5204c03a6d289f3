//! What each type of field looks like when it is written, as JSON Schema: the other side of `read`.
//!
//! A string with `${…}` may stand wherever `read` takes what comes out of it. It is said within one schema (`type` and
//! `pattern`), not as a choice, and nothing is shared by `$ref`: that is what editors show completions for.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::number::Size;
use super::read::{Many, Pairs, Scalar};

/// A string that holds `${…}`.
const FORM: &str = r"\$\{";

/// As `units` reads them.
const DURATION: &str = r"^\s*[0-9]+\s*(ms|s|m|h)\s*$|\$\{";
const SIZE: &str = r"^\s*[0-9]+\s*(B|KiB|MiB|GiB)?\s*$|\$\{";

/// A type that a field may have.
pub(super) trait Shape {
    /// What may be written for it.
    fn shape() -> Value;
}

impl Shape for String {
    fn shape() -> Value {
        json!({ "type": "string" })
    }
}

impl Shape for bool {
    fn shape() -> Value {
        json!({ "type": ["boolean", "string"], "pattern": FORM })
    }
}

impl Shape for usize {
    fn shape() -> Value {
        json!({ "type": ["integer", "string"], "minimum": 0, "pattern": FORM })
    }
}

impl Shape for Duration {
    fn shape() -> Value {
        json!({ "type": "string", "pattern": DURATION })
    }
}

impl Shape for Size {
    fn shape() -> Value {
        json!({ "type": ["string", "integer"], "pattern": SIZE, "minimum": 0 })
    }
}

impl Shape for PathBuf {
    fn shape() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The user's own: anything.
impl Shape for Value {
    fn shape() -> Value {
        json!({})
    }
}

impl Shape for Scalar {
    fn shape() -> Value {
        json!({ "type": ["string", "number", "boolean"] })
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shape() -> Value {
        json!({ "type": ["array", "string"], "items": T::shape(), "pattern": FORM })
    }
}

impl Shape for Many<String> {
    fn shape() -> Value {
        json!({ "type": ["string", "array"], "items": String::shape() })
    }
}

impl<T: Shape> Shape for Pairs<T> {
    fn shape() -> Value {
        json!({ "type": ["object", "string"], "pattern": FORM, "additionalProperties": T::shape() })
    }
}

/// One of `words`.
pub(super) fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> Value {
    let words: Vec<_> = words.collect();
    json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": FORM }] })
}

/// A table whose keys are being listed.
#[derive(Default)]
pub(super) struct Table(Map<String, Value>);

impl Table {
    /// Adds a key: the lines that say what it is for, what may be written for it, and what holds where it is not.
    pub(super) fn key(&mut self, name: &str, doc: &[&str], shape: Value, default: Option<Value>) {
        let doc: Vec<_> = doc.iter().map(|line| line.trim()).collect();
        let mut described = Map::from_iter([("description".to_owned(), Value::from(doc.join(" ")))]);
        if let Value::Object(shape) = shape {
            described.extend(shape);
        }
        described.extend(default.map(|value| ("default".to_owned(), value)));
        self.0.insert(name.to_owned(), Value::Object(described));
    }

    /// Adds a secret and its twin.
    pub(super) fn secret(&mut self, name: &str, doc: &[&str]) {
        self.key(name, doc, String::shape(), None);
        let twin = format!("The file that holds `{name}`, which it replaces; read again when it changes.");
        self.key(&format!("{name}_file"), &[&twin], PathBuf::shape(), None);
    }

    /// Adds a key that has no effect.
    pub(super) fn ignored(&mut self, name: &str) {
        self.key(name, &["Accepted and ignored: Galileo writes it into what it returns."], json!({}), None);
    }

    /// The table, which has no other keys.
    pub(super) fn close(self) -> Value {
        json!({ "type": ["object", "string"], "pattern": FORM, "properties": self.0, "additionalProperties": false })
    }
}
