//! The filters beyond minijinja's own: what turns OpenAI's messages and lists into the shapes of other providers.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::engine::is_nothing;
use super::prompts::{Prompt, Telling, Turns};
use super::{tree, wire};
use crate::openai::json;

/// Their names.
pub(super) const NAMES: [&str; 7] =
    ["join_prompt", "turns", "last_user", "system_text", "as_list", "pick", "fromjson"];

/// Adds them.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("join_prompt", join_prompt);
    environment.add_filter("turns", turns);
    environment.add_filter("last_user", last_user);
    environment.add_filter("system_text", system_text);
    environment.add_filter("as_list", as_list);
    environment.add_filter("pick", pick);
    environment.add_filter("fromjson", fromjson);
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over by value")]
fn join_prompt(messages: &Value, options: Kwargs) -> Result<Value, Error> {
    Telling::Prompt(Prompt::read(&options)?).value(messages)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over by value")]
fn turns(messages: &Value, options: Kwargs) -> Result<Value, Error> {
    Telling::Turns(Turns::read(&options)?).value(messages)
}

fn last_user(messages: &Value) -> Result<Value, Error> {
    Telling::LastUser.value(messages)
}

fn system_text(messages: &Value) -> Result<Value, Error> {
    Telling::SystemText.value(messages)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over by value")]
fn pick(items: &Value, options: Kwargs) -> Result<Value, Error> {
    if is_nothing(items) {
        return Ok(Value::from(()));
    }
    Pick::read(&options)?.value(items)
}

/// A list as it is, one value as a list of it, nothing as nothing.
pub(super) fn as_list(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Seq => value.clone(),
        _ if is_nothing(value) => Value::from(()),
        _ => Value::from(vec![value.clone()]),
    }
}

/// The value that a JSON text spells; nothing as nothing.
///
/// # Errors
/// It is no JSON in a text.
pub(super) fn fromjson(text: &Value) -> Result<Value, Error> {
    if is_nothing(text) {
        return Ok(Value::from(()));
    }
    let spelt = text.as_str().and_then(|text| tree::parse_text(text).ok());
    spelt.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "fromjson: this is not JSON in a text"))
}

/// Each item as an object of its own: `NAME='path.in.the.item'`; nothing as nothing.
#[derive(Debug)]
pub(super) struct Pick(Vec<Picked>);

/// One member of those objects.
#[derive(Debug)]
struct Picked {
    name: Value,
    /// The steps to it, each with the index that it may be.
    path: Vec<(String, Option<usize>)>,
}

impl Pick {
    /// Takes the options of the filter.
    ///
    /// # Errors
    /// One is no text.
    pub(super) fn read(options: &Kwargs) -> Result<Self, Error> {
        let one = |name| {
            let path: Cow<'_, str> = options.peek(name)?;
            let path = path.split('.').map(|step| (step.to_owned(), step.parse().ok())).collect();
            Ok(Picked { name: Value::from(name), path })
        };
        options.args().map(one).collect::<Result<_, Error>>().map(Self)
    }

    /// The objects; nothing as nothing.
    ///
    /// # Errors
    /// `items` has none.
    pub(super) fn value(&self, items: &Value) -> Result<Value, Error> {
        if is_nothing(items) {
            return Ok(Value::from(()));
        }
        let one = |item: Value| {
            tree::object(self.members(&item).map(|(name, value)| (name.clone(), value)).collect())
        };
        Ok(items.try_iter()?.map(one).collect())
    }

    /// Writes the same as JSON; false if it is nothing.
    ///
    /// # Errors
    /// As with [`value`](Self::value), or as [`wire::write`] has them; in words.
    pub(super) fn write(&self, items: &Value, most: usize, out: &mut BytesMut) -> Result<bool, String> {
        if is_nothing(items) {
            return Ok(false);
        }
        let mut open = b'[';
        for item in items.try_iter().map_err(|error| error.to_string())? {
            out.put_u8(std::mem::replace(&mut open, b','));
            let mut open = b'{';
            for (name, value) in self.members(&item) {
                out.put_u8(std::mem::replace(&mut open, b','));
                json::quote(name.as_str().unwrap_or_default(), out);
                out.put_u8(b':');
                wire::write(&value, most, out)?;
            }
            out.extend_from_slice(if open == b'{' { b"{}" } else { b"}" });
            wire::bound(most, out)?;
        }
        out.extend_from_slice(if open == b'[' { b"[]" } else { b"]" });
        Ok(true)
    }

    /// The members that say something of the object that `item` becomes.
    fn members(&self, item: &Value) -> impl Iterator<Item = (&Value, Value)> {
        let members = self.0.iter().map(|picked| (&picked.name, picked.of(item)));
        members.filter(|(_, value)| !is_nothing(value))
    }
}

impl Picked {
    fn of(&self, item: &Value) -> Value {
        self.path.iter().fold(item.clone(), |value, (key, index)| {
            match index {
                Some(index) if value.kind() == ValueKind::Seq => value.get_item_by_index(*index),
                _ => value.get_attr(key),
            }
            .unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Code, words};
    use super::*;

    #[test]
    fn an_option_that_no_filter_knows_is_refused_and_never_lost() {
        let scope = Value::from_serialize(serde_json::json!({ "m": [{ "role": "user", "content": "Hi" }] }));
        let run = |source: &str| Code::compile(source).unwrap().run(&scope).map_err(|error| words(&error));
        assert_eq!(
            run("m | join_prompt(user='U: ', user_end='.', end=none)").unwrap(),
            Value::from("U: Hi.")
        );
        for (source, why) in [
            ("m | join_prompt(user='', users='')", "unknown keyword argument 'users'"),
            ("m | join_prompt(user_end_end='')", "unknown keyword argument 'user_end_end'"),
            ("m | turns(user_end='')", "unknown keyword argument 'user_end'"),
            ("m | turns(**{1: 'x'})", "non string keys passed to kwargs"),
        ] {
            assert_eq!(run(source).unwrap_err(), why, "{source}");
        }
    }
}
