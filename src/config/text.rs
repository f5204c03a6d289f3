//! TOML and JSON texts turned into values, with the position of each.

use std::collections::BTreeMap;
use std::ops::Range;

use figment::value::{Dict, Empty, Tag, Value};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::places::{At, Inside, Node, line_and_column};

/// A text that is not what it should be: what is wrong and at which byte. The message never quotes the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled {
    pub(super) message: String,
    pub(super) at: usize,
}

/// Reads a TOML file; all its syntax errors at once.
pub(super) fn toml(text: &str) -> Result<(Dict, Node), Vec<Garbled>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(toml_table(table.get_ref(), Node::default()));
    }
    let garbled = |e: &toml::de::Error| Garbled {
        message: e.message().to_owned(),
        at: e.span().map_or(text.len(), |span| span.start),
    };
    Err(errors.iter().map(garbled).collect())
}

/// Where everything stands in the beginning of a TOML file, as far as it can be read.
pub(super) fn toml_so_far(text: &str) -> Node {
    let (table, _) = DeTable::parse_recoverable(text);
    toml_table(table.get_ref(), Node::default()).1
}

/// Reads one TOML value, as an environment variable may hold it.
pub(super) fn toml_value(text: &str) -> Option<Value> {
    DeValue::parse(text).ok().map(|value| toml_leaf(value.get_ref()).0)
}

fn toml_table(table: &DeTable<'_>, mut node: Node) -> (Dict, Node) {
    let (mut dict, mut nodes) = (Dict::new(), BTreeMap::new());
    for (key, value) in table {
        let (read, inside) = toml_leaf(value.get_ref());
        let name = key.get_ref().to_string();
        nodes.insert(name.clone(), Node { mark: key.span(), span: value.span(), inside });
        dict.insert(name, read);
    }
    node.inside = Inside::Table(nodes);
    (dict, node)
}

fn toml_leaf(value: &DeValue<'_>) -> (Value, Inside) {
    match value {
        DeValue::String(text) => (Value::from(text.to_string()), Inside::Nothing),
        DeValue::Integer(number) => (integer(number), Inside::Nothing),
        DeValue::Float(number) => (Value::from(number.as_str().parse().unwrap_or(f64::NAN)), Inside::Nothing),
        DeValue::Boolean(flag) => (Value::from(*flag), Inside::Nothing),
        // An unquoted date is nearly always an `api_version` that was meant as text.
        DeValue::Datetime(date) => (Value::from(date.to_string()), Inside::Nothing),
        DeValue::Array(array) => {
            let element = |value: &Spanned<DeValue<'_>>| {
                let (read, inside) = toml_leaf(value.get_ref());
                (read, Node { mark: value.span(), span: value.span(), inside })
            };
            let (values, nodes): (Vec<_>, Vec<_>) = array.iter().map(element).unzip();
            (Value::Array(Tag::Default, values), Inside::Array(nodes))
        }
        DeValue::Table(table) => {
            let (dict, node) = toml_table(table, Node::default());
            (Value::Dict(Tag::Default, dict), node.inside)
        }
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    let (text, radix) = (number.as_str(), number.radix());
    match (i64::from_str_radix(text, radix), u64::from_str_radix(text, radix)) {
        (Ok(n), _) => Value::from(n),
        (_, Ok(n)) => Value::from(n),
        // Too large for any setting of ours: it fails there, as a number that is not whole.
        _ => Value::from(f64::INFINITY),
    }
}

/// A JSON text whose root is an object, as it was read.
pub(super) struct Json {
    pub(super) dict: Dict,
    pub(super) root: Node,
    /// The first key that its object has had before: serde_json, like most readers, would take the last of them.
    pub(super) twice: Option<Twice>,
}

/// A key that stands twice in one object.
pub(super) struct Twice {
    /// Its path, from where the text's root stands.
    pub(super) at: At,
    /// Where it stands again.
    pub(super) mark: Range<usize>,
    /// Line and column of where it stood first, from 1.
    pub(super) first: (usize, usize),
}

/// Reads a JSON text whose root is an object and stands at `at`.
pub(super) fn json(text: &str, at: &At) -> Result<Json, Garbled> {
    let parsed: serde_json::Value = serde_json::from_str(text).map_err(|e| Garbled {
        message: without_position(&e.to_string()),
        at: byte_of(text, e.line(), e.column()),
    })?;
    let mut walker = Walker { text, at: 0, twice: None };
    let mut root = walker.value(at);
    root.mark.end = root.mark.start + 1;
    match from_json(parsed) {
        Value::Dict(_, dict) => Ok(Json { dict, root, twice: walker.twice }),
        _ => Err(Garbled { message: "expected an object, `{…}`".to_owned(), at: root.span.start }),
    }
}

/// serde_json's messages end in a position, which we show in our own way.
fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// A JSON value as one of the configuration.
pub(super) fn from_json(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Empty(Tag::Default, Empty::None),
        Json::Bool(flag) => Value::from(flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Value::from(n),
            (_, Some(n)) => Value::from(n),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(values) => Value::Array(Tag::Default, values.into_iter().map(from_json).collect()),
        Json::Object(map) => {
            Value::Dict(Tag::Default, map.into_iter().map(|(k, v)| (k, from_json(v))).collect())
        }
    }
}

/// A value as JSON: for the settings whose shape is the user's own.
pub(super) fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::String(_, text) => Json::from(text.as_str()),
        Value::Char(_, c) => Json::from(c.to_string()),
        Value::Bool(_, flag) => Json::from(*flag),
        Value::Num(_, number) => match (number.to_u128(), number.to_i128(), number.to_f64()) {
            (Some(n), _, _) => u64::try_from(n).map_or(Json::Null, Json::from),
            (_, Some(n), _) => i64::try_from(n).map_or(Json::Null, Json::from),
            (_, _, n) => n.map_or(Json::Null, Json::from),
        },
        Value::Empty(..) => Json::Null,
        Value::Dict(_, dict) => Json::Object(dict.iter().map(|(k, v)| (k.clone(), to_json(v))).collect()),
        Value::Array(_, values) => values.iter().map(to_json).collect(),
    }
}

/// Walks a JSON text that is known to be valid and notes where everything stands.
struct Walker<'a> {
    text: &'a str,
    at: usize,
    twice: Option<Twice>,
}

impl Walker<'_> {
    fn value(&mut self, path: &At) -> Node {
        self.skip_space();
        let start = self.at;
        let inside = match self.peek() {
            b'{' => self.object(path),
            b'[' => self.array(path),
            b'"' => {
                self.string();
                Inside::Nothing
            }
            _ => {
                let rest = &self.text[start..];
                self.at += rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
                Inside::Nothing
            }
        };
        Node { mark: start..self.at, span: start..self.at, inside }
    }

    fn object(&mut self, path: &At) -> Inside {
        let mut nodes = BTreeMap::new();
        while self.goes_on(b'}') {
            let mark = self.string();
            self.skip_space();
            self.at += 1;
            let name: String = serde_json::from_str(&self.text[mark.clone()]).unwrap_or_default();
            let at = path.key(&name);
            let node = Node { mark: mark.clone(), ..self.value(&at) };
            if let Some(before) = nodes.insert(name.clone(), node) {
                let first = before.mark.start;
                let text = self.text;
                self.twice.get_or_insert_with(|| Twice { at, mark, first: line_and_column(text, first) });
                // It stays under a name that no harmless key has: its value is masked where its line is shown.
                nodes.insert(format!("{name}\0{first}"), before);
            }
        }
        Inside::Table(nodes)
    }

    fn array(&mut self, path: &At) -> Inside {
        let mut nodes = Vec::new();
        while self.goes_on(b']') {
            nodes.push(self.value(&path.index(nodes.len())));
        }
        Inside::Array(nodes)
    }

    /// Steps over `{`, `[` or `,` to the next member; at `end` steps over it and says no.
    fn goes_on(&mut self, end: u8) -> bool {
        self.skip_space();
        let ended = self.peek() == end;
        self.at += 1;
        self.skip_space();
        if !ended && self.peek() == end {
            self.at += 1;
            return false;
        }
        !ended && self.at < self.text.len()
    }

    fn string(&mut self) -> Range<usize> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        self.at += 1;
        while self.at < bytes.len() && bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + 1).min(bytes.len());
        start..self.at
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    /// The byte here; 0 at the end.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }
}
