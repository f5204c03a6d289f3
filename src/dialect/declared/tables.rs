//! The tables of a declared format, compiled: what a request is made of, and where the parts of an answer are found.

use std::fmt;

use bytes::BytesMut;
use minijinja::Value;
use serde_json::Value as Json;

use super::engine::{self, Code, Misspelt, Wrong};
use super::keys::{COUNTS, FRAMINGS, RESPONSE, STREAM};
use super::{lint, wire};

/// All tables of one integration.
#[derive(Debug)]
pub(super) struct Tables {
    /// The body of a request.
    pub(super) request: Node,
    /// The variables that the request uses, in order, each once.
    pub(super) names: Vec<String>,
    /// Those among them that it does more with than send them on.
    pub(super) values: Vec<String>,
    /// A whole answer.
    pub(super) response: Rules,
    /// A streamed one.
    pub(super) stream: Option<(Framing, Rules)>,
}

/// A piece of the request's body.
#[derive(Debug)]
pub(super) enum Node {
    /// JSON that is always the same.
    Literal(String),
    /// A value, left out if it is nothing.
    Leaf(Leaf),
    /// An object: its keys as JSON.
    Object(Vec<(String, Self)>),
    /// A list.
    List(Vec<Self>),
    /// Nothing.
    Absent,
}

/// How the events of a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON text a line.
    Lines,
    /// The elements of one JSON array.
    Array,
}

/// Where the parts of an answer, or of one event, are found.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) content: Option<Leaf>,
    pub(super) reasoning: Option<Leaf>,
    pub(super) refusal: Option<Leaf>,
    pub(super) tool_calls: Option<Leaf>,
    pub(super) finish_reason: Option<Leaf>,
    pub(super) usage: Usage,
    pub(super) id: Option<Leaf>,
    pub(super) error: Option<Leaf>,
    pub(super) error_status: Option<Leaf>,
    pub(super) done: Option<Leaf>,
}

/// Where the counts of tokens are found.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// All of them as one object of OpenAI's shape.
    pub(super) whole: Option<Leaf>,
    /// Each by itself, in the order of [`COUNTS`].
    pub(super) each: [Option<Leaf>; 5],
}

/// One value of a table.
#[derive(Debug)]
pub(super) enum Leaf {
    /// As it stands.
    Literal(Value),
    /// An expression.
    Code {
        code: Code,
        at: At,
        /// The same with the integration before it, for messages.
        path: String,
    },
}

/// An expression that failed, or gave what cannot stand in its place.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) path: String,
    pub(super) why: String,
    pub(super) error: Option<minijinja::Error>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed: {}", self.path, self.why)
    }
}

impl Leaf {
    /// Its value in `scope`.
    pub(super) fn get(&self, scope: &Value) -> Result<Value, Failed> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Code { code, .. } => code.run(scope).map_err(|error| self.failed(error)),
        }
    }

    /// Writes its value in `scope` as JSON of `most` bytes at the most; false if it is nothing.
    pub(super) fn write(&self, scope: &Value, most: usize, out: &mut BytesMut) -> Result<bool, Failed> {
        match self {
            Self::Literal(value) => {
                wire::write(value, most, out).map_err(|why| self.fails(why))?;
                Ok(true)
            }
            Self::Code { code, .. } => code.write(scope, most, out).map_err(|wrong| match wrong {
                Wrong::Failed(error) => self.failed(error),
                Wrong::Unfit(why) => self.fails(why),
            }),
        }
    }

    /// The variable that it is, if it is no more than that.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Code { code, .. } => code.variable(),
        }
    }

    /// Whether any of the variables that it uses is there.
    pub(super) fn finds(&self, scope: &Value) -> bool {
        let is_there = |name: &String| scope.get_attr(name).is_ok_and(|value| !value.is_undefined());
        match self {
            Self::Literal(_) => true,
            Self::Code { code, .. } => code.names().is_empty() || code.names().iter().any(is_there),
        }
    }

    fn failed(&self, error: minijinja::Error) -> Failed {
        let failed = self.fails(engine::words(&error));
        Failed { error: Some(error), ..failed }
    }

    /// Its value cannot be used, and why.
    pub(super) fn fails(&self, why: impl Into<String>) -> Failed {
        let path = match self {
            Self::Literal(_) => "a literal of the declared format".to_owned(),
            Self::Code { path, .. } => path.clone(),
        };
        Failed { path, why: why.into(), error: None }
    }
}

/// A place in the tables: `response.usage.prompt_tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At(pub Vec<Step>);

/// One step of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a table.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl At {
    fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if n == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Something wrong in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub at: At,
    /// What, as the end of a sentence that begins with the place: "must be …".
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// A word that is not among the known ones, and those.
    pub unknown: Option<(String, &'static [&'static str])>,
    /// Whether the tables can be used all the same.
    pub is_warning: bool,
}

/// Compiles `tables`, an object with `request`, `response` and perhaps `stream`, of the integration `name`; all
/// mistakes at once.
pub(super) fn compile(name: Option<&str>, tables: &Json) -> (Tables, Vec<Mistake>) {
    let root = name.map_or_else(String::new, |name| format!("integrations.{name}."));
    let mut reader = Reader { root, mistakes: Vec::new(), names: Vec::new(), values: Vec::new() };
    let at = At::default();
    let nothing = Json::Object(serde_json::Map::new());
    let request = reader.node(tables.get("request").unwrap_or(&nothing), &at.key("request"));
    let [names, values] = [&mut reader.names, &mut reader.values].map(|all| {
        let mut names = std::mem::take(all);
        names.sort_unstable();
        names.dedup();
        names
    });
    let response =
        reader.rules(tables.get("response").unwrap_or(&nothing), &at.key("response"), RESPONSE, "content");
    let stream = tables.get("stream").map(|table| reader.stream(table, &at.key("stream")));
    (Tables { request, names, values, response, stream }, reader.mistakes)
}

/// What is being compiled, and what was found wrong.
struct Reader {
    root: String,
    mistakes: Vec<Mistake>,
    names: Vec<String>,
    values: Vec<String>,
}

impl Reader {
    fn wrong(&mut self, at: &At, message: impl Into<String>, help: impl Into<String>) -> &mut Mistake {
        let (message, help) = (message.into(), help.into());
        let last = self.mistakes.len();
        self.mistakes.push(Mistake { at: at.clone(), message, help, unknown: None, is_warning: false });
        &mut self.mistakes[last]
    }

    fn node(&mut self, value: &Json, at: &At) -> Node {
        match value {
            Json::Null => Node::Absent,
            Json::Object(members) => {
                let member = |(key, value): (&String, &Json)| {
                    (Json::from(key.as_str()).to_string(), self.node(value, &at.key(key)))
                };
                Node::Object(members.iter().map(member).collect())
            }
            Json::Array(items) => {
                let item = |(index, value)| self.node(value, &at.step(Step::Index(index)));
                Node::List(items.iter().enumerate().map(item).collect())
            }
            Json::String(_) => match self.leaf(value, at) {
                Some(Leaf::Literal(_)) => Node::Literal(value.to_string()),
                Some(leaf) => Node::Leaf(leaf),
                None => Node::Absent,
            },
            Json::Bool(_) | Json::Number(_) => Node::Literal(value.to_string()),
        }
    }

    fn leaf(&mut self, value: &Json, at: &At) -> Option<Leaf> {
        let text = match value {
            Json::Null => return None,
            Json::String(text) => text,
            Json::Bool(_) | Json::Number(_) => return Some(Leaf::Literal(Value::from_serialize(value))),
            Json::Array(_) | Json::Object(_) => {
                self.wrong(at, "must be an expression or a plain value", "write \"{{ … }}\"");
                return None;
            }
        };
        let Some(source) = expression(text) else {
            if text.contains("{{") {
                let why = "is sent as it stands: only a string that is wholly `{{ … }}` is an expression";
                self.wrong(at, why, JOIN).is_warning = true;
            }
            return Some(Leaf::Literal(Value::from(text.as_str())));
        };
        match Code::compile(source) {
            Ok(code) => {
                for found in lint::calls(source) {
                    let help = found.help;
                    self.wrong(at, found.message, help).unknown = found.unknown;
                }
                self.names.extend(code.names().iter().cloned());
                if code.variable().is_none() {
                    self.values.extend(code.names().iter().cloned());
                }
                Some(Leaf::Code { code, path: format!("{}{at}", self.root), at: at.clone() })
            }
            Err(misspelt) => {
                self.misspelt(&misspelt, (text, source), at);
                None
            }
        }
    }

    fn misspelt(&mut self, misspelt: &Misspelt, (text, source): (&str, &str), at: &At) {
        let offset = text.find(source).unwrap_or_default() + misspelt.at.unwrap_or_default();
        let before = text.get(..offset).map_or(0, |before| before.chars().count());
        let place = misspelt.at.map_or_else(String::new, |_| format!(", at character {}", before + 1));
        let help =
            if source.contains("}}") { JOIN } else { "docs/declared.md shows what an expression may be" };
        self.wrong(at, format!("is no expression: {}{place}", misspelt.words), help);
    }

    /// Notes every key of `table` that is not `known`, or that it is no table.
    fn table<'t>(
        &mut self,
        value: &'t Json,
        at: &At,
        known: &'static [&'static str],
    ) -> Option<&'t serde_json::Map<String, Json>> {
        let Json::Object(table) = value else {
            self.wrong(at, "must be a table", "write `{ key = value }`");
            return None;
        };
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let help = format!("known here: {}", known.join(", "));
            self.wrong(&at.key(key), "is an unknown key", help).unknown = Some((key.clone(), known));
        }
        Some(table)
    }

    fn rules(&mut self, value: &Json, at: &At, known: &'static [&'static str], content: &str) -> Rules {
        let Some(table) = self.table(value, at, known) else { return Rules::default() };
        let mut rules = Rules::default();
        for (key, value) in table {
            let place = match key.as_str() {
                "usage" => {
                    rules.usage = self.usage(value, &at.key(key));
                    continue;
                }
                "reasoning" | "reasoning_content" => &mut rules.reasoning,
                "refusal" => &mut rules.refusal,
                "tool_calls" => &mut rules.tool_calls,
                "finish_reason" => &mut rules.finish_reason,
                "id" => &mut rules.id,
                "error" => &mut rules.error,
                "error_status" => &mut rules.error_status,
                "done" if known.contains(&"done") => &mut rules.done,
                key if key == content => &mut rules.content,
                _ => continue,
            };
            let leaf = self.leaf(value, &at.key(key));
            if place.is_some() {
                let message = "stands here under two names, `reasoning` and `reasoning_content`";
                self.wrong(&at.key(key), message, "keep one of them");
            }
            *place = leaf;
        }
        // Calls may be all that an answer has.
        if !table.contains_key(content) && !table.contains_key("tool_calls") {
            let help = format!("say where the text is: {content} = \"{{{{ … }}}}\"");
            self.wrong(at, format!("needs `{content}`"), help);
        }
        rules
    }

    fn usage(&mut self, value: &Json, at: &At) -> Usage {
        if value.is_string() {
            return Usage { whole: self.leaf(value, at), each: Default::default() };
        }
        let Some(table) = self.table(value, at, COUNTS) else { return Usage::default() };
        let mut usage = Usage::default();
        for (place, name) in usage.each.iter_mut().zip(COUNTS) {
            *place = table.get(*name).and_then(|value| self.leaf(value, &at.key(name)));
        }
        usage
    }

    fn stream(&mut self, value: &Json, at: &At) -> (Framing, Rules) {
        let rules = self.rules(value, at, STREAM, "delta");
        let framing = self.framing(value, at);
        let told = |key: &str| value.get(key).is_some();
        if framing == Framing::Lines && value.is_object() && !told("finish_reason") && !told("done") {
            let help = "say when a stream is complete: one that only stops might have been cut off";
            self.wrong(at, "needs `finish_reason` or `done`", help);
        }
        for (key, leaf) in [("finish_reason", &rules.finish_reason), ("done", &rules.done)] {
            if matches!(leaf, Some(Leaf::Literal(_))) {
                let help = "write an expression that is none until the last event";
                self.wrong(&at.key(key), "would make every event the last one", help);
            }
        }
        (framing, rules)
    }

    fn framing(&mut self, table: &Json, at: &At) -> Framing {
        match table.get("framing") {
            Some(Json::String(word)) if word == "sse" => Framing::Sse,
            Some(Json::String(word)) if word == "ndjson" => Framing::Lines,
            Some(Json::String(word)) if word == "json_array" => Framing::Array,
            Some(other) => {
                let message = "must be one of \"sse\", \"ndjson\", \"json_array\"";
                let word = other.as_str().map(|word| (word.to_owned(), FRAMINGS));
                self.wrong(
                    &at.key("framing"),
                    message,
                    "it says how the events of a stream are told apart",
                )
                .unknown = word;
                Framing::Sse
            }
            None if table.is_object() => {
                self.wrong(at, "needs `framing`", "set it to \"sse\", \"ndjson\" or \"json_array\"");
                Framing::Sse
            }
            None => Framing::Sse,
        }
    }
}

const JOIN: &str =
    "an expression must be the whole string: join texts inside it with `~`, as in \"{{ 'Say: ' ~ text }}\"";

/// What stands between the braces, if the whole string is one pair of them.
fn expression(text: &str) -> Option<&str> {
    text.trim().strip_prefix("{{")?.strip_suffix("}}")
}
