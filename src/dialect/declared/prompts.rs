//! The filters that tell messages in other shapes. What they give is JSON, so that texts go on in the form they came in.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};

use super::message::{List, Message, escaped, refusal};
use super::tree;
use crate::dialect::Untranslatable;

/// One of them with its options.
#[derive(Debug)]
pub(super) enum Telling {
    /// One text.
    Prompt(Prompt),
    /// A list of objects.
    Turns(Turns),
    /// The text of the user's last message.
    LastUser,
    /// The texts of the system, joined by line feeds; nothing if there are none.
    SystemText,
}

impl Telling {
    /// Writes as JSON what it makes of `messages`; false if that is nothing.
    ///
    /// # Errors
    /// `messages` are none, or one cannot be told. Something may have been written by then.
    pub(super) fn write(&self, messages: &Value, out: &mut BytesMut) -> Result<bool, Error> {
        let messages = List::of(messages)?;
        match self {
            Self::Prompt(prompt) => prompt.write(&messages, out)?,
            Self::Turns(turns) => turns.write(&messages, out)?,
            Self::LastUser => last_user(&messages, out)?,
            Self::SystemText => return system_text(&messages, out),
        }
        Ok(true)
    }

    /// The same as a value.
    ///
    /// # Errors
    /// As with [`write`](Self::write).
    pub(super) fn value(&self, messages: &Value) -> Result<Value, Error> {
        let mut out = BytesMut::new();
        if !self.write(messages, &mut out)? {
            return Ok(Value::from(()));
        }
        tree::parse(&out).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    }
}

/// Flattens messages to one text, each between `ROLE=` and `ROLE_end=` and all joined by `separator=`; `end=` is put
/// behind. `ROLE=none` leaves the messages of a role out. Each is kept as the inside of a JSON string.
#[derive(Debug)]
pub(super) struct Prompt {
    frames: [Option<(String, String)>; 4],
    separator: String,
    end: Option<String>,
}

impl Prompt {
    /// Takes the options of the filter.
    ///
    /// # Errors
    /// One is unknown, or neither a text nor `none`.
    pub(super) fn read(options: &Kwargs) -> Result<Self, Error> {
        let (mut separator, mut end) = (None, None);
        let mut frames = Role::ALL.map(|role| (role.in_prompt().map(Cow::Borrowed), None));
        each_option(options, |name, given| {
            match (name, name.strip_suffix("_end")) {
                ("separator", _) => separator = given,
                ("end", _) => end = given,
                (_, Some(role)) => frames[Role::named(role)? as usize].1 = given,
                (role, None) => frames[Role::named(role)? as usize].0 = given,
            }
            Some(())
        })?;
        let frame = |(before, after): (Option<Cow<'_, str>>, Option<Cow<'_, str>>)| {
            before.map(|before| (escaped(&before), escaped(&after.unwrap_or_default())))
        };
        Ok(Self {
            frames: frames.map(frame),
            separator: escaped(&separator.unwrap_or(Cow::Borrowed("\n"))),
            end: end.map(|end| escaped(&end)),
        })
    }

    fn write(&self, messages: &List<'_>, out: &mut BytesMut) -> Result<(), Error> {
        let mut is_first = true;
        let mut separate = |out: &mut BytesMut| {
            if !std::mem::take(&mut is_first) {
                out.extend_from_slice(self.separator.as_bytes());
            }
        };
        out.put_u8(b'"');
        for message in messages.each() {
            if let Some((before, after)) = &self.frames[Role::of(message)? as usize] {
                separate(out);
                out.extend_from_slice(before.as_bytes());
                out.extend_from_slice(message.text()?.as_bytes());
                out.extend_from_slice(after.as_bytes());
            }
        }
        if let Some(end) = &self.end {
            separate(out);
            out.extend_from_slice(end.as_bytes());
        }
        out.put_u8(b'"');
        Ok(())
    }
}

/// The messages as objects with two fields, named by `role=` and `content=`; the words for the roles are given by
/// `user=`, `assistant=` and so on, and `none` leaves a role out.
#[derive(Debug)]
pub(super) struct Turns {
    /// What stands before the text of each role's messages.
    heads: [Option<String>; 4],
}

impl Turns {
    /// Takes the options of the filter.
    ///
    /// # Errors
    /// One is unknown, or neither a text nor `none`.
    pub(super) fn read(options: &Kwargs) -> Result<Self, Error> {
        let (mut role_key, mut content_key) = (None, None);
        let mut words = Role::ALL.map(|role| role.in_turns().map(Cow::Borrowed));
        each_option(options, |name, given| {
            match name {
                "role" => role_key = given,
                "content" => content_key = given,
                role => words[Role::named(role)? as usize] = given,
            }
            Some(())
        })?;
        let role_key = role_key.unwrap_or(Cow::Borrowed("role"));
        let content_key = content_key.unwrap_or(Cow::Borrowed("content"));
        let is_one = role_key == content_key;
        let [role_key, content_key] = [role_key, content_key].map(|key| escaped(&key));
        let head = |word: Option<Cow<'_, str>>| {
            let word = escaped(&word?);
            // An object has each name once.
            let role = if is_one { String::new() } else { format!("\"{role_key}\":\"{word}\",") };
            Some(format!("{{{role}\"{content_key}\":\""))
        };
        Ok(Self { heads: words.map(head) })
    }

    fn write(&self, messages: &List<'_>, out: &mut BytesMut) -> Result<(), Error> {
        let mut open = b'[';
        for message in messages.each() {
            if let Some(head) = &self.heads[Role::of(message)? as usize] {
                out.put_u8(std::mem::replace(&mut open, b','));
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(message.text()?.as_bytes());
                out.extend_from_slice(b"\"}");
            }
        }
        out.extend_from_slice(if open == b'[' { b"[]" } else { b"]" });
        Ok(())
    }
}

fn last_user(messages: &List<'_>, out: &mut BytesMut) -> Result<(), Error> {
    for message in messages.each().rev() {
        if Role::of(message)? == Role::User {
            out.put_u8(b'"');
            out.extend_from_slice(message.text()?.as_bytes());
            out.put_u8(b'"');
            return Ok(());
        }
    }
    Err(refusal(Untranslatable::malformed("messages", "no message of the role `user` is there")))
}

fn system_text(messages: &List<'_>, out: &mut BytesMut) -> Result<bool, Error> {
    let mut is_there = false;
    for message in messages.each() {
        if Role::of(message)? == Role::System {
            out.extend_from_slice(if std::mem::replace(&mut is_there, true) { br"\n" } else { b"\"" });
            out.extend_from_slice(message.text()?.as_bytes());
        }
    }
    if is_there {
        out.put_u8(b'"');
    }
    Ok(is_there)
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

    fn of(message: Message<'_>) -> Result<Self, Error> {
        match &*message.role()? {
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "system" | "developer" => Ok(Self::System),
            "tool" | "function" => Ok(Self::Tool),
            _ => {
                Err(message
                    .refuse("role", "expected one of system, developer, user, assistant, tool, function"))
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
