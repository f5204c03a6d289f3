//! The filters beyond minijinja's own: what turns OpenAI's messages and lists into the shapes of other providers.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::engine::is_nothing;
use super::messages::{Turn, refusal};
use super::tree;
use crate::dialect::Untranslatable;

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

/// Flattens messages to one text, each between `ROLE=` and `ROLE_end=` and all joined by `separator=`; `end=` is put
/// behind. `ROLE=none` leaves the messages of a role out.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over by value")]
fn join_prompt(messages: &Value, options: Kwargs) -> Result<String, Error> {
    let (mut separator, mut end) = (None, None);
    let mut frames = Role::ALL.map(|role| (role.in_prompt().map(Cow::Borrowed), None));
    each_option(&options, |name, given| {
        match (name, name.strip_suffix("_end")) {
            ("separator", _) => separator = given,
            ("end", _) => end = given,
            (_, Some(role)) => frames[Role::named(role)? as usize].1 = given,
            (role, None) => frames[Role::named(role)? as usize].0 = given,
        }
        Some(())
    })?;
    let separator = separator.unwrap_or(Cow::Borrowed("\n"));
    let (mut prompt, mut is_first) = (String::new(), true);
    let mut separate = |prompt: &mut String| {
        if !std::mem::take(&mut is_first) {
            prompt.push_str(&separator);
        }
    };
    for turn in all(messages)? {
        if let (Some(before), after) = &frames[Role::of(&turn)? as usize] {
            separate(&mut prompt);
            prompt.push_str(before);
            prompt.push_str(&turn.text()?);
            prompt.push_str(after.as_deref().unwrap_or_default());
        }
    }
    if let Some(end) = end {
        separate(&mut prompt);
        prompt.push_str(&end);
    }
    Ok(prompt)
}

/// The messages as objects with two fields, named by `role=` and `content=`; the words for the roles are given by
/// `user=`, `assistant=` and so on, and `none` leaves a role out.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over by value")]
fn turns(messages: &Value, options: Kwargs) -> Result<Value, Error> {
    let (mut role_key, mut content_key) = (None, None);
    let mut words = Role::ALL.map(|role| role.in_turns().map(Cow::Borrowed));
    each_option(&options, |name, given| {
        match name {
            "role" => role_key = given,
            "content" => content_key = given,
            role => words[Role::named(role)? as usize] = given,
        }
        Some(())
    })?;
    let role_key = role_key.unwrap_or(Cow::Borrowed("role"));
    let content_key = content_key.unwrap_or(Cow::Borrowed("content"));
    let mut list = Vec::new();
    for turn in all(messages)? {
        if let Some(word) = &words[Role::of(&turn)? as usize] {
            let members = [(&*role_key, Cow::Borrowed(&**word)), (&*content_key, turn.text()?)];
            list.push(Value::from_iter(members));
        }
    }
    Ok(Value::from(list))
}

/// The text of the user's last message.
fn last_user(messages: &Value) -> Result<String, Error> {
    for turn in all(messages)?.iter().rev() {
        if Role::of(turn)? == Role::User {
            return turn.text().map(Cow::into_owned);
        }
    }
    Err(refusal(Untranslatable::malformed("messages", "no message of the role `user` is there")))
}

/// The texts of the system, joined by line feeds; nothing if there are none.
fn system_text(messages: &Value) -> Result<Value, Error> {
    let mut texts = Vec::new();
    for turn in all(messages)? {
        if Role::of(&turn)? == Role::System {
            texts.push(turn.text()?.into_owned());
        }
    }
    Ok(if texts.is_empty() { Value::from(()) } else { Value::from(texts.join("\n")) })
}

/// A list as it is, one value as a list of it, nothing as nothing.
fn as_list(value: &Value) -> Value {
    match value.kind() {
        minijinja::value::ValueKind::Seq => value.clone(),
        _ if is_nothing(value) => Value::from(()),
        _ => Value::from(vec![value.clone()]),
    }
}

/// Each item as an object of its own: `NAME='path.in.the.item'`; nothing as nothing.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over by value")]
fn pick(items: &Value, options: Kwargs) -> Result<Value, Error> {
    if is_nothing(items) {
        return Ok(Value::from(()));
    }
    let path = |name| Ok((Value::from(name), options.peek(name)?));
    let paths: Vec<(Value, Cow<'_, str>)> = options.args().map(path).collect::<Result<_, Error>>()?;
    let one = |item: Value| -> Value {
        let found = paths.iter().map(|(name, path)| (name.clone(), at_path(&item, path)));
        tree::object(found.filter(|(_, value)| !is_nothing(value)).collect())
    };
    Ok(items.try_iter()?.map(one).collect())
}

fn at_path(item: &Value, path: &str) -> Value {
    let step = |value: Value, key: &str| match key.parse::<usize>() {
        Ok(index) if value.kind() == minijinja::value::ValueKind::Seq => {
            value.get_item_by_index(index).unwrap_or_default()
        }
        _ => value.get_attr(key).unwrap_or_default(),
    };
    path.split('.').fold(item.clone(), step)
}

/// The value that a JSON text spells; nothing as nothing.
fn fromjson(text: &Value) -> Result<Value, Error> {
    if is_nothing(text) {
        return Ok(Value::from(()));
    }
    let spelt = text.as_str().and_then(|text| tree::parse_text(text).ok());
    spelt.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "fromjson: this is not JSON in a text"))
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    User,
    Assistant,
    System,
    Tool,
}

impl Role {
    const ALL: [Self; 4] = [Self::User, Self::Assistant, Self::System, Self::Tool];

    fn of(turn: &Turn) -> Result<Self, Error> {
        match &*turn.role()? {
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "system" | "developer" => Ok(Self::System),
            "tool" | "function" => Ok(Self::Tool),
            _ => {
                Err(turn.refuse("role", "expected one of system, developer, user, assistant, tool, function"))
            }
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Tool => "tool",
        }
    }

    /// The role that options mean by `word`.
    fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// What stands before its texts in a prompt unless told otherwise. A tool's answer has no place there by itself.
    fn in_prompt(self) -> Option<&'static str> {
        (self != Self::Tool).then_some("")
    }

    fn in_turns(self) -> Option<&'static str> {
        (self != Self::Tool).then(|| self.word())
    }
}

/// The messages, which must be a list.
fn all(messages: &Value) -> Result<Vec<Arc<Turn>>, Error> {
    let items = match messages.kind() {
        minijinja::value::ValueKind::Seq | minijinja::value::ValueKind::Iterable => messages.try_iter()?,
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "this filter wants `messages`, or some of them",
            ));
        }
    };
    Ok(items.enumerate().map(|(index, item)| Turn::of(index, &item)).collect())
}

/// Hands over every option, which is `none` or a text, by its name. `take` gives nothing where it knows no such option.
fn each_option<'k>(
    options: &'k Kwargs,
    mut take: impl FnMut(&'k str, Option<Cow<'k, str>>) -> Option<()>,
) -> Result<(), Error> {
    let mut count = 0;
    for name in options.args() {
        let unknown =
            || Error::new(ErrorKind::TooManyArguments, format!("unknown keyword argument '{name}'"));
        take(name, options.peek(name)?).ok_or_else(unknown)?;
        count += 1;
    }
    if Value::from(options.clone()).len() != Some(count) {
        return Err(Error::new(ErrorKind::InvalidOperation, "non string keys passed to kwargs"));
    }
    Ok(())
}
