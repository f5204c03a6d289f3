//! The expressions: compiled once, run within bounds, and with nothing in reach but what they are given.

use std::fmt;
use std::sync::LazyLock;

use minijinja::{Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};

use super::{filters, lint};

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
    /// Where it leads, if it is no more than a path (`choices[0].text`): most are, and need no engine.
    path: Option<Vec<Step>>,
}

/// One step of a path.
#[derive(Debug)]
enum Step {
    Name(String),
    Index(usize),
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
        if let Some(at) = lint::closed_early(source) {
            return Err(Misspelt { words: "its braces end before the string does".to_owned(), at: Some(at) });
        }
        let inner = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| Misspelt { at: error.range().map(|range| range.start), words: words(&error) })?;
        let mut names: Vec<_> = inner.undeclared_variables(false).into_iter().collect();
        names.sort_unstable();
        let path = path(source.trim()).filter(|path| {
            // Words of the language (`none`) are no variables.
            matches!((path.first(), names.as_slice()), (Some(Step::Name(first)), [name]) if first == name)
        });
        Ok(Self { inner, names, path })
    }

    /// Runs it; the variables are the members of `scope`.
    pub(super) fn run(&self, scope: &Value) -> Result<Value, Error> {
        let Some(path) = &self.path else { return self.inner.eval(scope) };
        let mut found = scope.clone();
        for step in path {
            // As in the engine: what is not there is undefined, and so is all that would be in it.
            found = match step {
                Step::Name(name) => found.get_attr(name),
                Step::Index(index) => found.get_item_by_index(*index),
            }
            .unwrap_or_default();
        }
        Ok(found)
    }

    /// The variables that it uses, in order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

/// The steps of a source that is a path and no more.
fn path(source: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = source;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (index, behind) = inside.split_once(']')?;
            let is_number = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
            steps.push(Step::Index(is_number.then(|| index.parse().ok())??));
            rest = behind;
        } else {
            rest = if steps.is_empty() { rest } else { rest.strip_prefix('.')? };
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            let is_name = !name.is_empty() && !name.as_bytes()[0].is_ascii_digit();
            steps.push(Step::Name(is_name.then(|| name.to_owned())?));
            rest = behind;
        }
    }
    Some(steps)
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

    #[test]
    fn a_path_leads_where_the_engine_would_go() {
        let scope = Value::from_serialize(serde_json::json!({
            "a": { "b": [1, { "c": "x" }], "n": null, "true": 5, "s": "text" }, "l": [[7]], "none": 1,
        }));
        let mut paths = 0;
        for source in [
            "a",
            "a.b",
            "a.b[1].c",
            "a.b[0]",
            "a.b[9].c",
            "a.n.x",
            "a.s[0]",
            "a.s.x",
            "a.true",
            "l[0][0]",
            "l.x",
            "z[0].y",
            "none",
            "true",
            " a.b ",
            "a . b",
            "a[0]",
            "a.b[-1]",
            "self",
            "a.s[1:]",
            "a.b[1]['c']",
        ] {
            let code = Code::compile(source).unwrap();
            paths += usize::from(code.path.is_some());
            let (quick, slow) = (code.run(&scope).unwrap(), code.inner.eval(&scope).unwrap());
            assert_eq!((quick.is_undefined(), &quick), (slow.is_undefined(), &slow), "{source}");
        }
        assert_eq!(paths, 15);
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
