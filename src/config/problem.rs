//! A mistake and how it is shown: as text in the manner of rustc, or as JSON.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but perhaps not as it was meant.
    Warning,
}

impl Severity {
    /// The word that is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake. None of its texts holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The path of the key (`integrations.acme.endpoint`).
    pub key: Option<String>,
    /// The integration that it concerns.
    pub integration: Option<String>,
    /// Where it stands.
    pub place: Option<Place>,
}

/// Where a mistake stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user would write it.
    pub file: Option<String>,
    /// Or the environment variable.
    pub variable: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    pub column: Option<usize>,
    /// The line to show.
    pub snippet: Option<Snippet>,
}

/// One line of a file with its secrets masked, and what to underline in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The line.
    pub text: String,
    /// The first character underlined, from 0.
    pub from: usize,
    /// How many are, at least 1.
    pub width: usize,
}

impl Problem {
    /// A mistake that stands nowhere in particular.
    pub fn nowhere(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), help: None, key: None, integration: None, place: None }
    }

    /// Says what to do.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Places it at the environment variable `name`, which gave what the files do not say.
    pub fn of_variable(&mut self, name: &str) -> &mut Self {
        self.place = Some(Place::variable(name));
        self
    }

    /// The same with what to do.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn order(&self) -> (bool, Option<&str>, Option<usize>, Option<usize>, Option<&str>) {
        let place = self.place.as_ref();
        let name = place.and_then(|p| p.file.as_deref().or(p.variable.as_deref()));
        (place.is_none(), name, place.and_then(|p| p.line), place.and_then(|p| p.column), self.key.as_deref())
    }

    fn to_json(&self) -> Value {
        let place = self.place.as_ref();
        json!({
            "severity": self.severity.word(),
            "message": self.message,
            "help": self.help,
            "file": place.and_then(|p| p.file.as_deref()),
            "variable": place.and_then(|p| p.variable.as_deref()),
            "line": place.and_then(|p| p.line),
            "column": place.and_then(|p| p.column),
            "key": self.key,
            "integration": self.integration,
        })
    }

    fn write(&self, out: &mut String, paint: Paint) -> fmt::Result {
        let (strong, blue, off) = (paint.of(self.severity), paint.blue(), paint.off());
        writeln!(
            out,
            "{strong}{}{off}{}: {}{off}",
            self.severity.word(),
            paint.bold(),
            shown(&self.message)
        )?;
        let line = self.place.as_ref().and_then(|p| p.line).map(|l| l.to_string()).unwrap_or_default();
        let gutter = " ".repeat(line.len().max(1));
        if let Some(place) = &self.place {
            writeln!(out, "{gutter}{blue}-->{off} {}", shown(&place.to_string()))?;
            if let Some(snippet) = &place.snippet {
                let (space, carets) = (" ".repeat(snippet.from), "^".repeat(snippet.width.max(1)));
                writeln!(out, "{gutter} {blue}|{off}")?;
                writeln!(out, "{blue}{line} |{off} {}", shown(&snippet.text))?;
                writeln!(out, "{gutter} {blue}|{off} {space}{strong}{carets}{off}")?;
            }
        }
        if let Some(help) = &self.help {
            writeln!(out, "{gutter} {blue}={off} help: {}", shown(help))?;
        }
        Ok(())
    }
}

/// `text` without what a terminal would obey: names of keys may hold anything.
fn shown(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

impl Place {
    /// The environment variable `name`.
    pub(super) fn variable(name: &str) -> Self {
        Self { file: None, variable: Some(name.to_owned()), line: None, column: None, snippet: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.variable) {
            (Some(file), _) => f.write_str(file)?,
            (None, Some(name)) => write!(f, "environment variable {name}")?,
            (None, None) => f.write_str("?")?,
        }
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        Ok(())
    }
}

/// All mistakes of one run, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) -> &mut Problem {
        let last = self.0.len();
        self.0.push(problem);
        &mut self.0[last]
    }

    /// The one added last.
    pub(super) fn last(&mut self) -> Option<&mut Problem> {
        self.0.last_mut()
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Keeps those that `wanted` accepts.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Problem) -> bool) {
        self.0.retain(wanted);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error)
    }

    /// Puts them in the order of the files, each once.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        self.0.dedup();
    }

    /// As text, with colours if `colour`; ends with a count.
    pub fn render(&self, colour: bool) -> String {
        let (mut out, paint) = (String::new(), Paint(colour));
        for problem in &self.0 {
            problem.write(&mut out, paint).expect("a String takes everything");
            out.push('\n');
        }
        out.push_str(&self.count());
        out
    }

    /// As a JSON array.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(Problem::to_json).collect()
    }

    /// `2 errors, 1 warning`, and a line's end; nothing if there are none.
    fn count(&self) -> String {
        let of = |severity| self.0.iter().filter(|p| p.severity == severity).count();
        let worded = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        match (of(Severity::Error), of(Severity::Warning)) {
            (0, 0) => String::new(),
            (errors, 0) => worded(errors, "error") + "\n",
            (0, warnings) => worded(warnings, "warning") + "\n",
            (errors, warnings) => format!("{}, {}\n", worded(errors, "error"), worded(warnings, "warning")),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// ANSI colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn of(self, severity: Severity) -> &'static str {
        match (self.0, severity) {
            (false, _) => "",
            (true, Severity::Error) => "\u{1b}[1;31m",
            (true, Severity::Warning) => "\u{1b}[1;33m",
        }
    }

    fn blue(self) -> &'static str {
        if self.0 { "\u{1b}[1;34m" } else { "" }
    }

    fn bold(self) -> &'static str {
        if self.0 { "\u{1b}[1m" } else { "" }
    }

    fn off(self) -> &'static str {
        if self.0 { "\u{1b}[0m" } else { "" }
    }
}
