//! The environment's variables. Nobody else reads those of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// The environment's variables, taken once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    set: BTreeMap<String, String>,
    /// Those that are set to something else than UTF-8.
    unreadable: BTreeSet<String>,
}

impl Environment {
    /// The process' own.
    pub fn process() -> Self {
        Self::read(std::env::vars_os())
    }

    fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut read = Self::default();
        // A name that is not UTF-8 is nobody's that we know.
        for (name, value) in variables.into_iter().filter_map(|(k, v)| Some((k.into_string().ok()?, v))) {
            match value.into_string() {
                Ok(value) => drop(read.set.insert(name, value)),
                Err(_) => drop(read.unreadable.insert(name)),
            }
        }
        read
    }

    /// One for tests.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::read(pairs.into_iter().map(|(k, v)| (k.into(), v.into())))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(String::as_str)
    }

    /// Whether `name` is set to something that is not UTF-8, which is no value.
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.contains(name)
    }

    /// All of those.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }

    /// All variables that have a value, in order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The names of these.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all().map(|(name, _)| name)
    }

    /// The variables whose names `wanted` accepts, in order of their names.
    pub fn those(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let wanted = self.all().filter(|(name, _)| wanted(name));
        wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The same without the variables that `unwanted` names, and with `more`.
    pub(super) fn changed(
        &self,
        unwanted: impl Fn(&str) -> bool,
        more: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut changed = self.clone();
        changed.set.retain(|name, _| !unwanted(name));
        changed.unreadable.retain(|name| !unwanted(name));
        changed.set.extend(more);
        changed
    }

    /// The first of `names` that is set and not empty, with its name.
    pub fn first<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a str)> {
        names.iter().find_map(|name| Some((*name, self.get(name).filter(|v| !v.is_empty())?)))
    }
}

#[cfg(test)]
impl Environment {
    /// The same with `name` set to what is not UTF-8.
    pub(super) fn with_unreadable(mut self, name: &str) -> Self {
        self.unreadable.insert(name.to_owned());
        self
    }
}
