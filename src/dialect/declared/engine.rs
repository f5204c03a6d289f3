//! The expressions: compiled once, run within bounds, and with nothing in reach but what they are given.

use std::fmt;
use std::sync::LazyLock;

use bytes::BytesMut;
use minijinja::{Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};

use super::shortcut::Shortcut;
use super::{filters, tokens, wire};

/// All expressions share it: what they may call, and how far they may run.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// Instructions that one run may take. Expressions have no loops, so that a good one needs some dozens.
const FUEL: u64 = 20_000;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    // An answer's field that is not there must not become a function of the same name.
    for name in ["range", "dict", "debug", "namespace"] {
        environment.remove_global(name);
    }
    filters::add(&mut environment);
    environment
}

/// One compiled expression.
pub(super) struct Code {
    inner: Expression<'static, 'static>,
    names: Vec<String>,
    /// How it is done without the engine, if it is simple: most are.
    shortcut: Option<Box<Shortcut>>,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The longest expression, in bytes: compiling takes stack for what is nested.
const LONGEST: usize = 2000;

/// Why an expression is none, and where in it, in bytes.
#[derive(Debug)]
pub(super) struct Misspelt {
    pub(super) words: String,
    pub(super) at: Option<usize>,
}

impl Code {
    /// Compiles what stands between the braces.
    pub(super) fn compile(source: &str) -> Result<Self, Misspelt> {
        if source.len() > LONGEST {
            return Err(Misspelt { words: format!("it is longer than {LONGEST} bytes"), at: None });
        }
        if let Some(at) = tokens::closed_early(source) {
            return Err(Misspelt { words: "its braces end before the string does".to_owned(), at: Some(at) });
        }
        let inner = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| Misspelt { at: error.range().map(|range| range.start), words: words(&error) })?;
        let mut names: Vec<_> = inner.undeclared_variables(false).into_iter().collect();
        names.sort_unstable();
        let shortcut = Shortcut::find(source, &names, constant).map(Box::new);
        Ok(Self { inner, names, shortcut })
    }

    /// Runs it; the variables are the members of `scope`.
    pub(super) fn run(&self, scope: &Value) -> Result<Value, Error> {
        // What fails is left to the engine, which has the words.
        let quick = self.shortcut.as_ref().and_then(|shortcut| shortcut.value(scope));
        quick.map_or_else(|| self.inner.eval(scope), Ok)
    }

    /// Runs it and writes as JSON what it gives; false if that is nothing.
    ///
    /// # Errors
    /// It fails, or [`wire::write`] does.
    pub(super) fn write(&self, scope: &Value, most: usize, out: &mut BytesMut) -> Result<bool, Wrong> {
        let before = out.len();
        if let Some(is_there) = self.shortcut.as_ref().and_then(|shortcut| shortcut.write(scope, most, out)) {
            return Ok(is_there);
        }
        out.truncate(before);
        let value = self.inner.eval(scope).map_err(Wrong::Failed)?;
        if is_nothing(&value) {
            return Ok(false);
        }
        wire::write(&value, most, out).map_err(Wrong::Unfit)?;
        Ok(true)
    }

    /// The variable that it is, if it is no more than that.
    pub(super) fn variable(&self) -> Option<&str> {
        self.shortcut.as_ref().and_then(|shortcut| shortcut.variable())
    }

    /// Whether it needs no engine.
    #[cfg(test)]
    pub(super) fn is_short(&self) -> bool {
        self.shortcut.is_some()
    }

    /// The same, done by the engine whatever it is.
    #[cfg(test)]
    pub(super) fn by_the_engine(source: &str) -> Self {
        Self { shortcut: None, ..Self::compile(source).expect("a good expression") }
    }

    /// The variables that it uses, in order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

/// Why there is no JSON of what an expression gives.
pub(super) enum Wrong {
    /// There is nothing, since it failed.
    Failed(Error),
    /// It has no form in JSON, or too long a one; in words.
    Unfit(String),
}

/// What a literal is.
fn constant(literal: &str) -> Option<Value> {
    let literal = ENVIRONMENT.compile_expression(literal).ok()?;
    if literal.undeclared_variables(false).is_empty() { literal.eval(()).ok() } else { None }
}

/// Whether there is a filter or a test of that name.
pub(super) fn knows(kind: &'static str, name: &str) -> bool {
    let question = format!("'{name}' is {kind}");
    let answer = ENVIRONMENT.compile_expression(&question).and_then(|asked| asked.eval(()));
    answer.is_ok_and(|known| known.is_true())
}

/// What an error says, without the name of a template that does not exist.
pub(super) fn words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None if error.kind() == ErrorKind::OutOfFuel => "it ran for too long".to_owned(),
        None => error.kind().to_string(),
    }
}

/// Whether a value says nothing: its key is left out.
pub(super) fn is_nothing(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(source: &str) -> Result<Value, Error> {
        Code::compile(source).unwrap().run(&Value::from_serialize(serde_json::json!({ "a": { "b": 1 } })))
    }

    #[test]
    fn undefined_values_chain() {
        assert_eq!(run("a.b").unwrap(), Value::from(1));
        assert!(run("x.y[0].z").unwrap().is_undefined());
        assert!(run("x.y | default(none)").unwrap().is_none());
        assert!(run("{'k': 'v'}[x.y]").unwrap().is_undefined());
    }

    #[test]
    fn nothing_is_in_reach_but_the_variables() {
        for source in ["range(3)", "dict()", "debug()", "namespace()", "env('HOME')", "include('x')"] {
            assert!(run(source).is_err(), "{source}");
        }
        for source in ["range", "debug", "self", "loop"] {
            assert!(run(source).unwrap().is_undefined(), "{source}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_is_just_short_enough_runs() {
        for (repeated, between) in [("1", "~"), ("1", "+"), ("a", "."), ("a", "|d|")] {
            let count = LONGEST / (repeated.len() + between.len());
            let code = Code::compile(&vec![repeated; count].join(between));
            assert!(code.is_err() || code.unwrap().run(&Value::UNDEFINED).is_ok() || between == "|d|");
        }
        for (open, close) in [("(", ")"), ("[", "]"), ("not ", ""), ("-", "")] {
            let count = LONGEST / (open.len() + close.len()) - 1;
            let code = Code::compile(&format!("{}1{}", open.repeat(count), close.repeat(count)));
            assert!(code.is_err() || code.unwrap().run(&Value::UNDEFINED).is_ok());
        }
        assert!(Code::compile(&"1~".repeat(LONGEST)).unwrap_err().words.contains("longer"));
    }

    proptest! {
        #[test]
        fn no_expression_makes_the_compiler_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..12)) {
            for between in ["", " "] {
                if let Ok(code) = Code::compile(&words.join(between)) {
                    let _ = code.run(&Value::from_serialize(serde_json::json!({ "a": { "b": [1, "x"] } })));
                }
            }
        }
    }

    const WORDS: &[&str] = &[
        "a",
        ".b",
        "[0]",
        "[",
        "]",
        "{",
        "}",
        "}}",
        "{{",
        "%}",
        "(",
        ")",
        "|",
        "upper",
        "default",
        "join_prompt",
        "turns",
        "pick",
        "as_list",
        "=",
        "==",
        "'x'",
        "'",
        "\"",
        "1",
        "-1",
        "9223372036854775807",
        "1.5",
        "**",
        "*",
        "//",
        "/",
        "%",
        "+",
        "-",
        "~",
        ",",
        ":",
        "if",
        "else",
        "not",
        "and",
        "is",
        "in",
        "none",
        "true",
        "#",
        "\\",
        "é",
        "\n",
        "<",
        "|length",
        "|tojson",
        "|first",
        "|join",
        "|map",
        "(x=1)",
    ];

    #[test]
    fn a_misspelt_expression_says_where() {
        let misspelt = Code::compile(" a.b | ").unwrap_err();
        assert!(misspelt.at.is_some_and(|at| at >= 5), "{misspelt:?}");
        assert!(knows("filter", "default") && !knows("filter", "defualt") && knows("test", "defined"));
    }
}
