//! Expressions that need no engine: a path, perhaps as a key of an object of literals, and behind it perhaps filters
//! whose options are literals.
//!
//! Most are no more than that: `choices[0].text`, `{'END': 'stop'}[reason]`, `messages | join_prompt(user='User: ')`. What is found here is what the engine would find; where it would fail there is nothing,
//! and the engine is asked for the words.

use bytes::BytesMut;
use minijinja::Value;
use minijinja::value::Kwargs;

use super::engine::is_nothing;
use super::filters::{self, Pick};
use super::messages::Messages;
use super::prompts::{Prompt, Telling, Turns};
use super::tokens::{Token, tokens};
use super::wire;

/// One of them.
#[derive(Debug)]
pub(super) struct Shortcut {
    /// The variable.
    first: String,
    /// The steps from there.
    path: Vec<Step>,
    /// In what the value there is a key, if in anything.
    words: Option<Value>,
    /// What is done with what is found, in order.
    filters: Vec<Filter>,
}

/// One step of a path.
#[derive(Debug)]
enum Step {
    Name(String),
    Index(usize),
}

/// A filter and its options.
#[derive(Debug)]
enum Filter {
    /// Something that stands in for what is not there.
    Default(Value),
    /// All items.
    List,
    /// The items that have something true under a name.
    With(String),
    AsList,
    FromJson,
    Pick(Pick),
    Telling(Box<Telling>),
}

impl Shortcut {
    /// The one of a source that the engine has compiled and found to use these variables. `constant` is to tell what a
    /// literal is.
    pub(super) fn find(
        source: &str,
        names: &[String],
        constant: impl Fn(&str) -> Option<Value>,
    ) -> Option<Self> {
        let tokens = tokens(source);
        let mut pieces = tokens.split(|token| *token == Token::Sign('|'));
        let (words, place) = words(pieces.next()?, &constant)?;
        let (first, path) = path(place)?;
        // Words of the language (`none`) are no variables.
        if names != [first] {
            return None;
        }
        let filters = pieces.map(|piece| Filter::find(piece, &constant)).collect::<Option<_>>()?;
        Some(Self { first: first.to_owned(), path, words, filters })
    }

    /// The variable that it is, if it is no more than that.
    pub(super) fn variable(&self) -> Option<&str> {
        let is_bare = self.path.is_empty() && self.words.is_none() && self.filters.is_empty();
        is_bare.then_some(&*self.first)
    }

    /// What it gives, with the members of `scope` as the variables; `None` if it fails.
    pub(super) fn value(&self, scope: &Value) -> Option<Value> {
        self.filters.iter().try_fold(self.found(scope), |value, filter| filter.value(value))
    }

    /// Writes the same as JSON, of `most` bytes at the most; false if it is nothing. `None` if it fails, and then
    /// something may have been written.
    pub(super) fn write(&self, scope: &Value, most: usize, out: &mut BytesMut) -> Option<bool> {
        let (last, before) = self.filters.split_last().unzip();
        let found =
            before.into_iter().flatten().try_fold(self.found(scope), |value, filter| filter.value(value))?;
        match last {
            Some(Filter::Telling(telling)) => {
                let is_there = telling.write(&found, out).ok()?;
                wire::bound(most, out).ok().map(|()| is_there)
            }
            Some(Filter::Pick(pick)) => pick.write(&found, most, out).ok(),
            last => {
                let value = last.map_or_else(|| Some(found.clone()), |filter| filter.value(found.clone()))?;
                if is_nothing(&value) {
                    return Some(false);
                }
                wire::write(&value, most, out).ok().map(|()| true)
            }
        }
    }

    /// What the filters are given. As in the engine, what is not there is undefined, and so is all that would be in it.
    fn found(&self, scope: &Value) -> Value {
        let first = scope.get_attr(&self.first).unwrap_or_default();
        let found = self.path.iter().fold(first, |found, step| {
            match step {
                Step::Name(name) => found.get_attr(name),
                Step::Index(index) => found.get_item_by_index(*index),
            }
            .unwrap_or_default()
        });
        match &self.words {
            Some(words) => words.get_item(&found).unwrap_or_default(),
            None => found,
        }
    }
}

/// An object of literals that begins, if one does, and the tokens of its key; or all of them.
fn words<'t, 's>(
    tokens: &'t [Token<'s>],
    constant: &impl Fn(&str) -> Option<Value>,
) -> Option<(Option<Value>, &'t [Token<'s>])> {
    let [Token::Sign('{'), rest @ ..] = tokens else { return Some((None, tokens)) };
    let end = rest.iter().position(|token| *token == Token::Sign('}'))?;
    let [Token::Sign('['), key @ .., Token::Sign(']')] = &rest[end + 1..] else { return None };
    let member = |member: &[Token<'_>]| {
        let [name, Token::Sign(':'), value] = member else { return None };
        Some((constant(spelt(*name)?)?, constant(spelt(*value)?)?))
    };
    let members = rest[..end].split(|token| *token == Token::Sign(',')).map(member);
    let members = members.collect::<Option<Vec<_>>>()?;
    Some((Some(members.into_iter().collect()), key))
}

/// The variable that a path begins with, and its steps.
fn path<'s>(tokens: &[Token<'s>]) -> Option<(&'s str, Vec<Step>)> {
    let [Token::Name(first), rest @ ..] = tokens else { return None };
    let (mut steps, mut rest) = (Vec::new(), rest);
    loop {
        match rest {
            [] => return Some((first, steps)),
            [Token::Sign('.'), Token::Name(name), behind @ ..] => {
                steps.push(Step::Name((*name).to_owned()));
                rest = behind;
            }
            [Token::Sign('['), Token::Value(index), Token::Sign(']'), behind @ ..] => {
                let is_index = index.bytes().all(|byte| byte.is_ascii_digit());
                steps.push(Step::Index(is_index.then(|| index.parse().ok())??));
                rest = behind;
            }
            _ => return None,
        }
    }
}

impl Filter {
    /// The filter that stands there, if it is one of those that most expressions use, and sound.
    fn find(tokens: &[Token<'_>], constant: &impl Fn(&str) -> Option<Value>) -> Option<Self> {
        let (name, options) = match tokens {
            [Token::Name(name)] => (*name, [].as_slice()),
            [Token::Name(name), Token::Sign('('), options @ .., Token::Sign(')')] => (*name, options),
            _ => return None,
        };
        match (name, options) {
            ("default", [literal]) => Some(Self::Default(constant(spelt(*literal)?)?)),
            ("list", []) => Some(Self::List),
            ("selectattr", [literal]) => {
                let name = constant(spelt(*literal)?)?;
                // The engine takes dots and numbers for paths.
                let name = name.as_str().filter(|name| !name.contains('.') && name.parse::<usize>().is_err());
                name.map(|name| Self::With(name.to_owned()))
            }
            ("as_list", []) => Some(Self::AsList),
            ("fromjson", []) => Some(Self::FromJson),
            ("last_user", []) => Some(Self::Telling(Box::new(Telling::LastUser))),
            ("system_text", []) => Some(Self::Telling(Box::new(Telling::SystemText))),
            ("join_prompt" | "turns" | "pick", options) => {
                let options = keywords(options, constant)?;
                let telling = match name {
                    "join_prompt" => Prompt::read(&options).map(Telling::Prompt),
                    "turns" => Turns::read(&options).map(Telling::Turns),
                    _ => return Pick::read(&options).ok().map(Self::Pick),
                };
                telling.ok().map(Box::new).map(Self::Telling)
            }
            _ => None,
        }
    }

    /// What it makes of `value`; `None` if it fails.
    fn value(&self, value: Value) -> Option<Value> {
        match self {
            Self::Default(other) => Some(if value.is_undefined() { other.clone() } else { value }),
            Self::List if value.downcast_object_ref::<Vec<Value>>().is_some() => Some(value),
            Self::List => value.try_iter().ok().map(|items| Value::from(items.collect::<Vec<_>>())),
            Self::With(name) => with(&value, name).map(Value::from),
            Self::AsList => Some(filters::as_list(&value)),
            Self::FromJson => filters::fromjson(&value).ok(),
            Self::Pick(pick) => pick.value(&value).ok(),
            Self::Telling(telling) => telling.value(&value).ok(),
        }
    }
}

/// The items of a list that have something true under `name`.
fn with(list: &Value, name: &str) -> Option<Vec<Value>> {
    if let Some(messages) = list.downcast_object::<Messages>() {
        return Some(messages.with(name));
    }
    let mut found = Vec::new();
    for item in list.try_iter().ok()? {
        if item.get_attr(name).ok()?.is_true() {
            found.push(item);
        }
    }
    Some(found)
}

/// Options that all have names, each its own, and literals for values.
fn keywords(tokens: &[Token<'_>], constant: &impl Fn(&str) -> Option<Value>) -> Option<Kwargs> {
    let mut options: Vec<(&str, Value)> = Vec::new();
    for option in tokens.split(|token| *token == Token::Sign(',')).filter(|_| !tokens.is_empty()) {
        let [Token::Name(name), Token::Sign('='), literal] = option else { return None };
        if options.iter().any(|(known, _)| known == name) {
            return None;
        }
        options.push((name, constant(spelt(*literal)?)?));
    }
    Some(options.into_iter().collect())
}

/// What may be a literal.
fn spelt(token: Token<'_>) -> Option<&str> {
    match token {
        Token::Name(spelt) | Token::Value(spelt) => Some(spelt),
        Token::Sign(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;

    use super::*;
    use crate::dialect::declared::engine::{Code, Wrong, words};
    use crate::dialect::declared::tree;
    use crate::dialect::loss::Losses;
    use crate::dialect::testing::json_of;

    // No keys of 0 and 1: to the engine these equal false and true, but seldom lie where those are looked for.
    const PATHS: &[&str] = &[
        "x",
        "x.a",
        "x.a.b",
        " x . role ",
        "x[0]",
        "x[1].a",
        "x.b[0].content",
        "x[9].a[0]",
        "x[00]",
        "{'a': 'stop', 'b': none, 'a': \"\\u00e9\", 2: 1, true: 'true', 3: 'one', none: 'no'}[x.role]",
        "{'some text': 'text', 'user': 'u'} [ x ]",
        "{'': 0, 'c': 5}[x.b[0].content]",
        "x.true",
    ];

    const FILTERS: &[&str] = &[
        "default(none)",
        "default('it\\'s \\n \\u00e9')",
        "default(12)",
        "default( true )",
        "list",
        "list()",
        "selectattr('a')",
        "selectattr(\"tool_calls\")",
        "as_list",
        "fromjson",
        "pick(k='a', l='b.a', m='0', n='content')",
        "pick(k='', l='1.a.0')",
        "pick()",
        "pick(k=1)",
        "last_user",
        "system_text()",
        "join_prompt",
        "join_prompt(user=5)",
        "join_prompt(user='\"U\": ', user_end='\\n', tool='', system=none, separator='\\t\\u00e9', end='|')",
        "turns",
        "turns(role='who', content='text', user='\"U\"', system=none)",
        "turns(role='one', content='one')",
    ];

    /// What comes of an expression: its value (how it looks, what it is, as JSON), or words; then what is written, and
    /// what messages were not used.
    type Found =
        (Result<(String, String, String), String>, Result<Option<serde_json::Value>, String>, String);

    fn found(code: &Code, json: &str) -> Found {
        let messages = Messages::read(json).ok().map(Arc::new);
        let scope = || {
            let json = tree::parse_text(json).unwrap();
            let x = messages.clone().map_or(json, Value::from_dyn_object);
            Value::from_iter([("x", x)])
        };
        let value = code.run(&scope()).map_err(|error| format!("{:?} {}", error.kind(), words(&error)));
        let value = value.map(|value| {
            let json = serde_json::to_string(&value).unwrap_or_else(|error| error.to_string());
            (value.to_string(), format!("{:?} {}", value.kind(), is_nothing(&value)), json)
        });
        let mut losses = Losses::new(false);
        let account = messages.as_ref().map(|messages| messages.account(&mut losses));
        let report = format!("{account:?} {:?}", losses.into_report());
        let mut out = BytesMut::from("before");
        let written = code.write(&scope(), 100_000, &mut out).map_err(|wrong| match wrong {
            Wrong::Failed(error) => words(&error),
            Wrong::Unfit(why) => why,
        });
        let written = written.map(|is_there| {
            is_there.then(|| serde_json::from_slice(out.strip_prefix(b"before").unwrap()).unwrap())
        });
        let mut losses = Losses::new(false);
        let account = messages.as_ref().map(|messages| messages.account(&mut losses));
        (value, written, format!("{report}, then {account:?} {:?}", losses.into_report()))
    }

    fn sources() -> impl Iterator<Item = String> {
        let one = FILTERS.iter().map(|filter| format!("|{filter}"));
        let two = FILTERS
            .iter()
            .flat_map(|first| FILTERS.iter().map(move |second| format!(" | {first} | {second}")));
        let rows: Vec<_> = std::iter::once(String::new()).chain(one).collect();
        let all = PATHS
            .iter()
            .flat_map(move |path| rows.clone().into_iter().map(move |row| format!("{path}{row}")));
        all.chain(two.map(|row| format!("x{row}")))
    }

    /// Each expression, as it is and by the engine alone.
    static CODES: LazyLock<Vec<(String, Code, Code)>> = LazyLock::new(|| {
        let both = |source: String| {
            let (quick, slow) = (Code::compile(&source).unwrap(), Code::by_the_engine(&source));
            (source, quick, slow)
        };
        sources().map(both).collect()
    });

    fn agrees(json: &str) {
        for (source, quick, slow) in CODES.iter() {
            assert_eq!(found(quick, json), found(slow, json), "{source} of {json}");
        }
    }

    #[test]
    fn what_needs_no_engine_finds_what_the_engine_finds() {
        for (source, quick, _) in CODES.iter() {
            assert!(quick.is_short(), "{source}");
        }
        for json in [
            "null",
            "true",
            "0",
            "1.5",
            "\"\"",
            "\"some text\"",
            r#""[{\"a\":1},2]""#,
            "[]",
            "{}",
            "[1,null,\"x\",[],{}]",
            r#"{"a":{"b":[1,{"a":null}]},"b":[{"content":"c"}],"role":"user","true":0,"1":"one"}"#,
            r#"[{"a":1,"b":{"a":"\u00e9\n"}},{"a":0},{"b":[7]},{"a":{},"b":{"a":[]}}]"#,
            r#"[[1,[2]],{"0":"zero","content":""},{"a":"","tool_calls":[1]}]"#,
            r#"[{"role":"system","content":"Be \"brief\".\n"},{"role":"developer","content":"\u00e9\ud83d\ude00"},{"role":"user","content":"Hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"a"}],"name":"n"},{"role":"tool","tool_call_id":"a","content":"cold"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"a\\b"},{"type":"refusal","refusal":"no","x":1}],"a":5},{"role":"assistant","content":[ ],"refusal":"\"no\"","a":[]}]"#,
            r#"[{"role":"us\u0065r","content":"x","content":"y","a":0,"tool_calls":[ ],"audio":{"id":"a"}},{"role":"function","content":""}]"#,
            r#"[{"role":"user","content":[{"type":"image_url"}]}]"#,
            r#"[{"role":"nobody","content":"x"}]"#,
            r#"[{"role":"assistant","content":7}]"#,
            r#"[{"content":"x"},{}]"#,
        ] {
            agrees(json);
        }
    }

    #[test]
    fn what_is_not_simple_is_left_to_the_engine() {
        for source in [
            "none",
            "true",
            "x[-1]",
            "x[1:]",
            "x['a']",
            "x.a()",
            "x | upper",
            "x | default",
            "x | default(y)",
            "x | default(none, true)",
            "x | default(-1)",
            "x | selectattr('a.b')",
            "x | selectattr('0')",
            "x | selectattr('a', 'none')",
            "x | list | first",
            "x | pick(k=x)",
            "x | pick(k='a', k='b')",
            "x | pick(**{'k': 'a'})",
            "x | join_prompt(nobody='')",
            "x | turns('user')",
            "x | as_list if x else 1",
            "{'a': 'b'}",
            "{}[x]",
            "{'a': 'b',}[x]",
            "{'a': -1}[x]",
            "{'a': x}[x]",
            "{'a': {'b': 'c'}}[x]",
            "{'a': 'b'}[x][0]",
            "{'a': 'b'}['a']",
            "{'a': 'b'}.a",
            "x == 1",
            "not x",
            "-x",
            "(x)",
            "'x' | list",
            "x | default('a' 'b')",
            "x | default('a' ~ 'b')",
            "x | default('a').b",
        ] {
            assert!(!Code::compile(source).is_ok_and(|code| code.is_short()), "{source}");
        }
    }

    #[test]
    fn what_would_be_too_long_is_refused_in_the_same_words() {
        let list = tree::parse_text(r#"{"x":[{"a":"some text"}]}"#).unwrap();
        let messages = Messages::read(r#"[{"role":"user","content":"some text"}]"#).unwrap();
        let messages = Value::from_iter([("x", Value::from_object(messages))]);
        for (source, scope) in [
            ("x", &list),
            ("x | pick(k='a')", &list),
            ("x | join_prompt", &messages),
            ("x | turns", &messages),
        ] {
            let wrong = Code::compile(source).unwrap().write(scope, 8, &mut BytesMut::new());
            assert!(matches!(wrong, Err(Wrong::Unfit(why)) if why.contains("more than 8 bytes")), "{source}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
        #[test]
        fn any_json_is_the_same_to_the_engine(
            json in json_of(&["a", "b", "role", "content", "user", "system", "type", "text", "tool_calls", "é\n", "0"]),
        ) {
            let message = serde_json::json!([{ "role": "user", "content": json, "a": json }]);
            agrees(&json.to_string());
            agrees(&message.to_string());
        }
    }
}
