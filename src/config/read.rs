//! Reading one field after the other out of the merged tree, so that one run shows every mistake.
//!
//! serde stops at the first mistake of a table; here each field is read by itself, and what is wrong becomes
//! [`Field::Bad`], about which nobody complains a second time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Dict, Num, Value};

use super::environment::Environment;
use super::expand::{Expander, Failure};
use super::number::{self, whole};
use super::places::{At, Origin, Places};
use super::problem::{Problem, Problems, Severity};
use super::valid::SecretSource;
use super::valid::credential::{self, Flaw};
use super::valid::doubt::{self, Doubt};
use super::veil::Foreign;
use super::{mask, text, units};
use crate::files::Prints;
use crate::secret::Secret;

/// A field as it was found.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    /// Not written, or `null` in Galileo's JSON.
    Absent,
    /// Written and wrong; the mistake is already noted.
    Bad,
    /// Written.
    Given(T),
}

impl<T> Field<T> {
    pub(super) fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Bad => Field::Bad,
            Self::Given(value) => Field::Given(change(value)),
        }
    }

    pub(super) fn get(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    /// The value, or `default` where there is none or a wrong one.
    pub(super) fn or(self, default: T) -> T {
        self.given().unwrap_or(default)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Bad)
    }

    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

/// A type that a field may have.
pub(super) trait Read: Sized {
    /// Reads `value`, which stands at `at`.
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self>;
}

/// What is known while reading, and what was found wrong.
pub(super) struct Reading<'a> {
    pub(super) env: &'a Environment,
    pub(super) places: &'a Places,
    pub(super) problems: Problems,
    /// Files that `${file:…}` named.
    pub(super) files: Prints,
    /// The same files, by the keys whose values hold the forms.
    pub(super) referred: Vec<(At, PathBuf)>,
    /// What is wrong in the world, by integration.
    pub(super) world: Vec<(String, String)>,
    /// Values that could not be expanded.
    failed: BTreeSet<At>,
    /// Keys that a misspelt one probably meant: nobody misses them.
    pub(super) meant: BTreeSet<At>,
    /// Values that were: they are text, whatever the field wants.
    expanded: BTreeSet<At>,
    /// What came from elsewhere than the files themselves.
    pub(super) foreign: Foreign,
}

impl<'a> Reading<'a> {
    pub(super) fn new(env: &'a Environment, places: &'a Places) -> Self {
        Self {
            env,
            places,
            problems: Problems::default(),
            files: Prints::new(),
            referred: Vec::new(),
            world: Vec::new(),
            failed: BTreeSet::new(),
            meant: BTreeSet::new(),
            expanded: BTreeSet::new(),
            foreign: Foreign::default(),
        }
    }

    /// Notes an error at `at`.
    pub(super) fn error(&mut self, at: &At, message: impl Into<String>) -> &mut Problem {
        let problem = self.places.problem(Severity::Error, at, message);
        self.problems.push(problem)
    }

    /// Notes a warning at `at`.
    pub(super) fn warning(&mut self, at: &At, message: impl Into<String>) -> &mut Problem {
        let problem = self.places.problem(Severity::Warning, at, message);
        self.problems.push(problem)
    }

    /// Notes something that is wrong in Galileo's JSON, which may be newer than we are: an error elsewhere, but
    /// there a warning.
    pub(super) fn error_unless_galileo(&mut self, at: &At, message: impl Into<String>) -> &mut Problem {
        if self.is_galileo(at) { self.warning(at, message) } else { self.error(at, message) }
    }

    /// Whether the value at `at` comes from Galileo's JSON.
    pub(super) fn is_galileo(&self, at: &At) -> bool {
        self.places.layer_of(at).is_some_and(|layer| layer.origin == Origin::Galileo)
    }

    /// Expands the forms in every string of `value`. `token` is left for later: it holds JSON of its own.
    pub(super) fn expand(&mut self, value: &mut Value, at: &At) {
        match value {
            Value::Dict(_, dict) => dict.iter_mut().for_each(|(key, value)| self.expand(value, &at.key(key))),
            Value::Array(_, values) => {
                values.iter_mut().enumerate().for_each(|(n, value)| self.expand(value, &at.index(n)));
            }
            Value::String(_, text) if text.contains("${") && !is_token(at) => {
                if let Some(expanded) = self.expand_text(text, at) {
                    *text = expanded;
                }
                self.expanded.insert(at.clone());
                self.note_environment(text, at);
            }
            Value::String(_, text) => self.note_environment(text, at),
            Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {}
        }
    }

    /// Expands the forms in `text`, or notes what is wrong with them.
    pub(super) fn expand_text(&mut self, text: &str, at: &At) -> Option<String> {
        let (env, dir) = (self.env, self.places.dir_of(at));
        let mut expander =
            Expander { env, dir, files: &mut self.files, given: Vec::new(), asked: Vec::new() };
        let result = expander.expand(text);
        let Expander { given, asked, .. } = expander;
        self.referred.extend(asked.into_iter().map(|path| (at.clone(), path)));
        let failure = match result {
            Ok(expanded) => {
                for given in given {
                    self.foreign.note(at, &given);
                }
                return Some(expanded.into_owned());
            }
            Err(failure) => failure,
        };
        self.failed.insert(at.clone());
        match failure {
            Failure::Text { message, help } => {
                self.error(at, message).help(help);
            }
            Failure::World(why) => self.world_is_wrong(at, why),
        }
        None
    }

    /// Notes that the text at `at` comes from the environment, if it does.
    fn note_environment(&mut self, text: &str, at: &At) {
        if self.places.layer_of(at).is_some_and(|layer| layer.origin == Origin::Environment) {
            self.foreign.note(at, text);
        }
    }

    /// Notes what fails one integration alone; outside of integrations it is an error.
    pub(super) fn world_is_wrong(&mut self, at: &At, why: String) {
        match at.integration_name() {
            Some(name) => self.world.push((name.to_owned(), format!("{at}: {why}"))),
            None => {
                self.error(at, why);
            }
        }
    }

    /// The field `key` of `dict`, which stands at `at`.
    pub(super) fn field<T: Read>(&mut self, dict: &Dict, at: &At, key: &str) -> Field<T> {
        let at = at.key(key);
        match dict.get(key) {
            None if self.meant.contains(&at) => Field::Bad,
            None => Field::Absent,
            Some(Value::Empty(..)) if !is_argument(&at) => Field::Absent,
            Some(_) if self.failed.contains(&at) => Field::Bad,
            Some(value) if self.is_unfilled(value, &at) => Field::Absent,
            Some(value) => T::read(value, &at, self),
        }
    }

    /// Whether it is an empty text in Galileo's JSON, where that is what nobody filled in. In tables whose keys are the
    /// user's own it means itself.
    fn is_unfilled(&self, value: &Value, at: &At) -> bool {
        let is_galileos = match at.keys().as_slice() {
            ["integrations", _, _] => true,
            ["integrations", _, table, _] => ["model_properties", "custom_header_mapping"].contains(table),
            _ => false,
        };
        let is_empty = value.as_str().is_some_and(str::is_empty) && !self.expanded.contains(at);
        is_galileos && is_empty && self.is_galileo(at)
    }

    /// The secret `key` of `dict`, or the file that its twin names.
    pub(super) fn secret(&mut self, dict: &Dict, at: &At, key: &str) -> Field<SecretSource> {
        let twin = format!("{key}_file");
        let inline = self.field::<String>(dict, at, key);
        if matches!(dict.get(key), Some(Value::Dict(..))) && is_token(&at.key(key)) {
            self.help_token(&at.key(key));
        }
        let file = self.field::<PathBuf>(dict, at, &twin);
        match (inline, file) {
            (Field::Absent, Field::Absent) => Field::Absent,
            (Field::Absent, Field::Given(path)) => Field::Given(SecretSource::File(path)),
            (Field::Given(text), Field::Absent) => self.inline(text, &at.key(key)),
            (Field::Given(_), Field::Given(_)) => {
                let message = format!("both `{key}` and `{twin}` are given");
                self.error(&at.key(&twin), message).help("keep one of them");
                Field::Bad
            }
            _ => Field::Bad,
        }
    }

    /// Says how the object that was written for the token at `at`, which was noted last, is written as a string.
    fn help_token(&mut self, at: &At) {
        let form = match self.is_galileo(at) {
            true => {
                r#"write it as Galileo does, the JSON in a string: "token": "{\"client_id\": \"…\", \"client_secret\": \"…\"}""#
            }
            false => {
                r#"write it as a string, token = '{"client_id": "…", "client_secret": "…"}', or set both in `oauth2 = { … }`"#
            }
        };
        self.help_last(form);
    }

    fn inline(&mut self, text: String, at: &At) -> Field<SecretSource> {
        if is_judged_where_used(at) || self.judge(&text, at) {
            Field::Given(SecretSource::Inline(Secret::new(text)))
        } else {
            Field::Bad
        }
    }

    /// Whether the secret at `at` may be used; if not, that is noted.
    pub(super) fn judge(&mut self, text: &str, at: &At) -> bool {
        match credential::check(text) {
            Ok(()) => {
                self.doubt(text, at);
                true
            }
            Err(flaw) => {
                self.flaw(flaw, at);
                false
            }
        }
    }

    /// Notes what is wrong with the secret at `at`.
    pub(super) fn flaw(&mut self, flaw: Flaw, at: &At) {
        self.error(at, format!("`{at}` {flaw}")).help(flaw.help());
    }

    /// Warns of a secret that is probably not what was meant.
    fn doubt(&mut self, text: &str, at: &At) {
        let is_path = doubt::is_path(self.places.dir_of(at), text);
        let is_caller_key = at.keys() == ["server", "api_key"];
        let doubt = is_path
            .then_some(Doubt::Path)
            .or_else(|| doubt::doubt(text))
            .or_else(|| is_caller_key.then(|| doubt::doubt_of_caller(text)).flatten());
        if let Some(doubt) = doubt {
            let key = at.keys().last().copied().unwrap_or_default().to_owned();
            self.warning(at, format!("`{at}` {doubt}")).help(doubt.help(&key));
        }
    }

    /// The table at `at`, or a note that it is none.
    pub(super) fn table(&mut self, value: &Value, at: &At) -> Option<Dict> {
        match value {
            Value::Dict(_, dict) => Some(dict.clone()),
            Value::String(_, written) if self.is_loose(at) => match text::toml_value(written) {
                Some(Value::Dict(_, dict)) => Some(dict),
                _ => self.mismatch(value, at, "a table, `{ key = value }`"),
            },
            _ => self.mismatch(value, at, "a table, `{ key = value }`"),
        }
    }

    /// Notes that `value` is not what was expected. The value is quoted only where it is known to be harmless.
    pub(super) fn mismatch<T>(&mut self, value: &Value, at: &At, expected: &str) -> Option<T> {
        let found = match value {
            Value::String(_, text) if self.may_show(at, text) => format!("{text:?}"),
            Value::Num(_, number) if self.may_show(at, "") => self.shown_number(*number, at),
            Value::Bool(_, flag) if self.may_show(at, "") => flag.to_string(),
            Value::String(..) | Value::Char(..) => "a string".to_owned(),
            Value::Num(..) => "a number".to_owned(),
            Value::Bool(..) => "true or false".to_owned(),
            Value::Empty(..) => "null".to_owned(),
            Value::Dict(..) => "a table".to_owned(),
            Value::Array(..) => "a list".to_owned(),
        };
        self.error(at, format!("`{at}` must be {expected}, found {found}"));
        None
    }

    /// The number at `at` as it is written: 1.0 is not 1, and what is too long for us not infinite.
    fn shown_number(&self, number: Num, at: &At) -> String {
        self.places.number(at).map_or_else(|| number::shown(number), str::to_owned)
    }

    /// Says to leave the quotes out, where the text at `at` `is_good` without them.
    pub(super) fn help_unquoted(&mut self, value: &Value, at: &At, is_good: fn(&str) -> bool) {
        if let Some(text) = value.as_str().filter(|text| is_good(text) && !self.is_loose(at)) {
            self.help_last(&format!("leave the quotes out: {text}"));
        }
    }

    /// Says what to do about the mistake that was noted last.
    fn help_last(&mut self, help: &str) {
        if let Some(problem) = self.problems.last() {
            problem.help(help);
        }
    }

    /// Notes that the path `path` begins with `~`, if it does.
    pub(super) fn refuse_home(&mut self, path: &str, at: &At) -> bool {
        let is_home = is_home(path);
        if is_home {
            self.error(at, format!("`{at}` begins with `~`, which only a shell fills in")).help(HOME_HELP);
        }
        is_home
    }

    /// Whether the value at `at` may be quoted: its key is harmless, its `text` is, and it was not put together from variables.
    pub(super) fn may_show(&self, at: &At, text: &str) -> bool {
        mask::is_harmless(at) && !mask::may_be_secret(text) && !self.expanded.contains(at)
    }

    /// Whether the value at `at` was put together from variables or files.
    pub(super) fn is_expanded(&self, at: &At) -> bool {
        self.expanded.contains(at)
    }

    /// Whether the value at `at` is text only because where it comes from knows nothing else.
    fn is_loose(&self, at: &At) -> bool {
        self.expanded.contains(at)
            || self.places.layer_of(at).is_some_and(|l| l.origin == Origin::Environment)
    }

    /// The text at `at` if it may stand for another type.
    pub(super) fn loose<'v>(&self, value: &'v Value, at: &At) -> Option<&'v str> {
        value.as_str().filter(|_| self.is_loose(at))
    }
}

/// The one of `known` that was probably meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = word.to_lowercase().replace('-', "_");
    let far = |near: &str| strsim::damerau_levenshtein(&lower, near);
    let best = known.into_iter().map(|near| (far(near), near)).min_by_key(|(distance, _)| *distance)?;
    (best.0 <= (lower.chars().count() / 3).max(1)).then_some(best.1)
}

/// What to do about `~`.
pub(super) const HOME_HELP: &str = "write the whole path, or \"${HOME}/…\"";

/// Whether `path` begins with the shell's word for a home.
pub(super) fn is_home(path: &str) -> bool {
    path == "~" || path.starts_with("~/")
}

/// Whether it is an argument of a handler's constructor, for which `None` is a value as any other.
fn is_argument(at: &At) -> bool {
    matches!(at.keys().as_slice(), ["integrations", _, "custom_llm_config", "init_kwargs", _])
}

/// A token is looked at where it is known what of it is used, and a key where it is known that it is: Galileo's exports
/// hold starred ones of another `authentication_type`.
fn is_judged_where_used(at: &At) -> bool {
    is_token(at) || matches!(at.keys().as_slice(), ["integrations", _, "api_key_value"])
}

fn is_token(at: &At) -> bool {
    matches!(at.keys().as_slice(), ["integrations", _, "token"])
}

impl Read for String {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        match value {
            Value::String(_, text) => Field::Given(text.clone()),
            Value::Char(_, c) => Field::Given(c.to_string()),
            _ => reading.mismatch(value, at, "a string").map_or(Field::Bad, Field::Given),
        }
    }
}

impl Read for bool {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let loose = reading.loose(value, at).and_then(units::flag);
        match value.to_bool().or(loose) {
            Some(flag) => Field::Given(flag),
            None => {
                reading.mismatch::<Self>(value, at, "true or false");
                reading.help_unquoted(value, at, |text| matches!(text, "true" | "false"));
                Field::Bad
            }
        }
    }
}

impl Read for Duration {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        if let Some(duration) = value.as_str().and_then(units::duration) {
            return Field::Given(duration);
        }
        let expected = match value.as_str().is_some_and(units::is_too_long) {
            true => &format!("a duration of at most {:?}, a year", units::MOST),
            false => "a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\"",
        };
        reading.mismatch::<Self>(value, at, expected);
        if let Some(number) = whole(value) {
            reading.help_last(&format!("give it a unit: \"{number}s\""));
        }
        Field::Bad
    }
}

impl Read for PathBuf {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        match String::read(value, at, reading) {
            Field::Given(path) if path.is_empty() => {
                reading.error(at, format!("`{at}` is empty")).help("name a file, or leave the key out");
                Field::Bad
            }
            Field::Given(path) if reading.refuse_home(&path, at) => Field::Bad,
            path => path.map(|path| reading.places.dir_of(at).join(path)),
        }
    }
}

/// A JSON value of the user's own shape. What a form gave stays text: it must not become anything else by what is in it.
impl Read for serde_json::Value {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let loose = reading.loose(value, at).filter(|_| !reading.expanded.contains(at));
        let loose = loose.and_then(text::toml_value);
        let value = loose.as_ref().unwrap_or(value);
        if has_no_json(value) {
            reading
                .error(at, format!("`{at}` holds a number that JSON has not"))
                .help("write it as a string");
            return Field::Bad;
        }
        Field::Given(text::to_json(value))
    }
}

/// Whether a number in `value` is infinite, none, or too long.
fn has_no_json(value: &Value) -> bool {
    match value {
        Value::Num(_, number) => {
            text::to_json(value).is_null() || number.to_f64().is_some_and(|number| !number.is_finite())
        }
        Value::Dict(_, dict) => dict.values().any(has_no_json),
        Value::Array(_, values) => values.iter().any(has_no_json),
        _ => false,
    }
}

/// Text, or a number or flag that stands for it.
#[derive(Clone, Debug)]
pub(super) struct Scalar(pub(super) String);

impl Read for Scalar {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        match (value, value.to_num()) {
            (Value::Bool(_, flag), _) => Field::Given(Self(flag.to_string())),
            // The version 1.10 is another than 1.1.
            (_, Some(number)) => {
                let written = reading.places.decimal(at).map(str::to_owned);
                Field::Given(Self(written.unwrap_or_else(|| number::shown(number))))
            }
            _ => String::read(value, at, reading).map(Self),
        }
    }
}

/// A list; in the environment `a,b` or `["a", "b"]`. Elements that are wrong are left out.
impl<T: Read> Read for Vec<T> {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let parsed = reading.loose(value, at).and_then(loose_list);
        let ((Value::Array(_, values), _) | (_, Some(values))) = (value, &parsed) else {
            return reading.mismatch(value, at, "a list, `[\"…\"]`").map_or(Field::Bad, Field::Given);
        };
        let mut read = Self::new();
        for (n, value) in values.iter().enumerate() {
            let at = at.index(n);
            if reading.failed.contains(&at) {
                continue;
            }
            read.extend(T::read(value, &at, reading).given());
        }
        if read.is_empty() && !values.is_empty() {
            return Field::Bad;
        }
        Field::Given(read)
    }
}

/// The list that `text` stands for; nothing if it begins as one of TOML's and is none.
fn loose_list(text: &str) -> Option<Vec<Value>> {
    match text::toml_value(text.trim()) {
        Some(Value::Array(_, values)) => return Some(values),
        _ if text.trim_start().starts_with('[') => return None,
        _ => {}
    }
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Some(words.map(|word| Value::from(word.to_owned())).collect())
}

/// One, or a list of them.
#[derive(Clone, Debug)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<T: Read> Read for Many<T> {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let list = match value {
            Value::Array(..) => Vec::read(value, at, reading),
            Value::String(..) if reading.is_loose(at) => Vec::read(value, at, reading),
            _ => T::read(value, at, reading).map(|one| vec![one]),
        };
        list.map(Self)
    }
}

/// A table whose keys are the user's own, in the order they were written. Entries that are wrong are left out.
#[derive(Clone, Debug)]
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<T: Read> Read for Pairs<T> {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let Some(dict) = reading.table(value, at) else { return Field::Bad };
        let mut keys: Vec<_> = dict.keys().collect();
        keys.sort_by_key(|key| reading.places.position(&at.key(key)));
        let mut pairs = Vec::new();
        for key in keys {
            if let Field::Given(value) = reading.field(&dict, at, key) {
                pairs.push((key.clone(), value));
            }
        }
        Field::Given(Self(pairs))
    }
}
