//! Where each value stands: the layers as they were read, and the way from a key's path to its file, line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem, Severity, Snippet};
use super::valid::{STARS, holds_credential};
use super::{again, mask};

/// The path of one value in the merged configuration (`integrations.acme.model_properties[0].alias`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl At {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of the table of one integration.
    pub fn integration(name: &str) -> Self {
        Self::root().key("integrations").key(name)
    }

    /// One key further.
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }

    /// One element further.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The keys, elements left out.
    pub(super) fn keys(&self) -> Vec<&str> {
        let key = |step: &'_ Step| matches!(step, Step::Key(_));
        self.0
            .iter()
            .filter(|s| key(s))
            .map(|s| match s {
                Step::Key(k) => k.as_str(),
                Step::Index(_) => "",
            })
            .collect()
    }

    /// What is around it, the nearest first and the root last.
    pub(super) fn around(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.0.len()).rev().map(|length| Self(self.0[..length].to_vec()))
    }

    /// What follows the integration's name, in small letters as headers are compared.
    pub(super) fn within_integration(&self) -> Vec<String> {
        self.keys().iter().skip(2).map(|key| key.to_lowercase()).collect()
    }

    /// The integration that this path lies in.
    pub(super) fn integration_name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Step::Key(first), Step::Key(name), ..] if first == "integrations" => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if n == 0 => f.write_str(shown_key(key))?,
                Step::Key(key) => write!(f, ".{}", shown_key(key))?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A key as it may be shown: some paste a whole header where its name belongs.
pub(super) fn shown_key(key: &str) -> &str {
    if holds_credential(key) { STARS } else { key }
}

/// What one layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Galileo's JSON for one integration.
    Galileo,
    /// The TOML file.
    Toml,
    /// The environment.
    Environment,
}

/// A value's position in its text: what to underline, what it spans, and the same of what is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// The key, or the value where it has none; in the environment layer the variable's number.
    pub(super) mark: Range<usize>,
    /// The value.
    pub(super) span: Range<usize>,
    pub(super) inside: Inside,
}

/// What is in a value.
#[derive(Clone, Debug, Default)]
pub(super) enum Inside {
    #[default]
    Nothing,
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    /// The node `step` further, if there is one.
    fn step(&self, step: &Step) -> Option<&Self> {
        match (&self.inside, step) {
            (Inside::Table(table), Step::Key(key)) => table.get(key),
            (Inside::Array(array), Step::Index(index)) => array.get(*index),
            _ => None,
        }
    }
}

/// One layer of the configuration, with the text that it came from.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    /// How messages call it: a file's path, or nothing for the environment.
    pub(super) shown: String,
    /// What relative paths in it are relative to.
    pub(super) dir: PathBuf,
    /// Where its root stands in the whole.
    pub(super) at: At,
    pub(super) text: String,
    pub(super) root: Node,
    /// The environment's names, by the number that nodes carry.
    pub(super) variables: Vec<String>,
}

impl Layer {
    /// The node at `at` or the nearest above it, and how many steps of `at` it matches.
    fn nearest(&self, at: &At) -> (usize, &Node) {
        let own = self.at.0.len();
        let common = self.at.0.iter().zip(&at.0).take_while(|(a, b)| a == b).count();
        if common < own {
            return (common, &self.root);
        }
        let (mut depth, mut node) = (own, &self.root);
        while let Some(next) = at.0.get(depth).and_then(|step| node.step(step)) {
            (depth, node) = (depth + 1, next);
        }
        (depth, node)
    }

    /// Whether it replaces what the layers below have at `at`: all but tables replace what is below them as a whole.
    fn replaces(&self, at: &At) -> bool {
        let Some(steps) = at.0.strip_prefix(self.at.0.as_slice()) else { return false };
        let mut node = &self.root;
        for step in steps {
            match node.step(step) {
                Some(next) if matches!(next.inside, Inside::Table(_)) => node = next,
                Some(_) => return true,
                None => return false,
            }
        }
        false
    }

    /// Where `mark` is, for a message about `at`.
    fn place(&self, mark: &Range<usize>) -> Place {
        if self.origin == Origin::Environment {
            return Place::variable(self.variables.get(mark.start).map_or("", String::as_str));
        }
        self.place_in_text(mark, mask::line(self, mark))
    }

    /// Where `mark` is in the text, with `snippet` as the line to show.
    pub(super) fn place_in_text(&self, mark: &Range<usize>, snippet: Option<Snippet>) -> Place {
        let (line, column) = line_and_column(&self.text, mark.start);
        let file = Some(self.shown.clone());
        Place { file, variable: None, line: Some(line), column: Some(column), snippet }
    }
}

/// All layers, the lowest first: what stands later wins.
#[derive(Clone, Default)]
pub struct Places {
    pub(super) layers: Vec<Layer>,
}

impl Places {
    /// A problem with the value at `at`.
    pub fn problem(&self, severity: Severity, at: &At, message: impl Into<String>) -> Problem {
        Problem {
            severity,
            message: message.into(),
            help: None,
            key: Some(at.to_string()).filter(|k| !k.is_empty()),
            integration: at.integration_name().map(str::to_owned),
            place: self.find(at).map(|(layer, node)| layer.place(&node.mark)),
        }
    }

    /// Where the integration `name` is defined, for messages: `config.toml:12` or `acme.json`.
    pub(super) fn origin_of(&self, name: &str) -> String {
        let at = At::integration(name);
        let named = self.layers.iter().filter_map(|layer| {
            let (depth, node) = layer.nearest(&at);
            (depth == 2).then(|| match layer.origin {
                Origin::Galileo => layer.shown.clone(),
                Origin::Toml => {
                    format!("{}:{}", layer.shown, line_and_column(&layer.text, node.mark.start).0)
                }
                Origin::Environment => "environment".to_owned(),
            })
        });
        named.collect::<Vec<_>>().join(", ")
    }

    /// The layer that a value comes from: the highest of those that have it, or its nearest parent, whole.
    pub(super) fn layer_of(&self, at: &At) -> Option<&Layer> {
        self.find(at).map(|(layer, _)| layer)
    }

    /// The line of the header `[table]` that begins the table at `at`, and the header; nothing where it has none.
    pub(super) fn header_of(&self, at: &At) -> Option<(usize, String)> {
        let (layer, node) = self.find(at).filter(|(layer, _)| layer.origin == Origin::Toml)?;
        let text = &layer.text;
        let start = text[..floor(text, node.mark.start)].rfind('\n').map_or(0, |n| n + 1);
        let line = text[start..].lines().next()?;
        if again::header(line)? != at.keys() {
            return None;
        }
        let name = At(at.0.iter().filter(|step| matches!(step, Step::Key(_))).cloned().collect());
        let header =
            if line.trim_start().starts_with("[[") { format!("[[{name}]]") } else { format!("[{name}]") };
        Some((line_and_column(text, start).0, header))
    }

    /// Whether any layer gives the key at `at`.
    pub fn gives(&self, at: &At) -> bool {
        self.layers.iter().any(|layer| layer.nearest(at).0 == at.0.len())
    }

    /// Whether one layer gives all of the keys `all`, and no other gives any of them.
    pub(super) fn share_a_layer(&self, all: &[At]) -> bool {
        let givers = |at: &At| {
            let layers = self.layers.iter().enumerate();
            layers.filter(|(_, layer)| layer.nearest(at).0 == at.0.len()).map(|(n, _)| n).collect::<Vec<_>>()
        };
        let mut all = all.iter().map(givers);
        all.next().is_some_and(|first| first.len() == 1 && all.all(|other| other == first))
    }

    /// The number at `at` as it is written.
    pub(super) fn number(&self, at: &At) -> Option<&str> {
        let (layer, node) = self.find(at).filter(|(layer, _)| layer.nearest(at).0 == at.0.len())?;
        let text = layer.text.get(node.span.clone())?;
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b));
        (!text.is_empty() && is_number(text)).then_some(text)
    }

    /// The same if it is one like 1.10: a number itself has no zeros at its end.
    pub(super) fn decimal(&self, at: &At) -> Option<&str> {
        let is_plain =
            |text: &&str| text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        self.number(at).filter(is_plain)
    }

    /// The directory that a relative path at `at` is relative to.
    pub(super) fn dir_of(&self, at: &At) -> &Path {
        self.layer_of(at).map_or_else(|| Path::new(""), |layer| &layer.dir)
    }

    /// Orders the keys of a table as they were written.
    pub(super) fn position(&self, at: &At) -> (usize, usize) {
        let of = |(n, layer): (usize, &Layer)| {
            let (depth, node) = layer.nearest(at);
            (depth == at.0.len()).then_some((n, node.mark.start))
        };
        self.layers.iter().enumerate().rev().find_map(of).unwrap_or_default()
    }

    fn find(&self, at: &At) -> Option<(&Layer, &Node)> {
        let mut best: Option<(usize, (&Layer, &Node))> = None;
        for layer in self.layers.iter().rev() {
            let (depth, node) = layer.nearest(at);
            // The environment has no place for what stands in none of its variables.
            if depth == 0 && layer.origin == Origin::Environment {
                continue;
            }
            if best.is_none_or(|(deepest, _)| depth > deepest) {
                best = Some((depth, (layer, node)));
            }
            if depth == at.0.len() || layer.replaces(at) {
                break;
            }
        }
        best.map(|(_, found)| found)
    }
}

/// Line and column of byte `at`, both from 1, the column in characters.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..floor(text, at)];
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// The nearest character boundary at or below `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
