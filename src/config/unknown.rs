//! Keys that are not known where they stand: what was probably meant, and where it belongs.

use std::collections::BTreeSet;

use figment::value::{Dict, Value};

use super::places::{At, Origin, shown_key};
use super::read::{Reading, nearest};
use super::{borrowed, keys};
use crate::names::IntegrationName;

/// So many keys of a table are listed where an unknown one is like none of them.
const FEW: usize = 16;

/// Tables that take any key, and what a key is in them.
const OPEN: [(&str, &str); 3] =
    [("headers", "a header"), ("query", "a parameter of the URL"), ("defaults", "a field of the request")];

/// Keys of an integration that may well be meant as one of these too.
const COMMON: [&str; 4] = ["format", "path", "query", "token"];

/// Keys by which a table is known as an integration.
const WHOLE: [&str; 4] = ["endpoint", "authentication_type", "models", "model_properties"];

impl Reading<'_> {
    /// Notes every key of `dict` that is not `known`. `elsewhere` are keys that are often put into the wrong table, and
    /// their own.
    pub(super) fn refuse_unknown(
        &mut self,
        dict: &Dict,
        at: &At,
        known: &[&str],
        elsewhere: &[(&str, &str)],
    ) {
        self.look_below(dict, at, known);
        for key in dict.keys().filter(|key| !known.contains(&key.as_str())) {
            let own = at.key(key);
            let help = if let Some(name) = self.name_in_parts(dict, at, key, known) {
                for key in WHOLE {
                    self.note_meant(&own, Some(at.key(key)));
                }
                format!("a dot parts a name, unless it stands in quotes: [integrations.\"{name}\"]")
            } else if let Some(table) = above(at, key) {
                self.move_to(at, &table)
            } else if let Some(borrowed::Meant { key, help }) = borrowed::meant(at, key) {
                self.note_meant(&own, key.map(|key| at.key(key)));
                help
            } else if let Some(near) = nearest(key, known.iter().copied()) {
                self.note_meant(&own, Some(at.key(near)));
                format!("did you mean `{near}`?")
            } else if let Some((_, table)) = elsewhere.iter().find(|(other, _)| other == key) {
                format!("`{key}` belongs in [{table}]")
            } else if self.is_galileo(&own) {
                "it is ignored".to_owned()
            } else if known.len() > FEW {
                "config.toml.example shows every key".to_owned()
            } else {
                format!("known here: {}", known.join(", "))
            };
            let message = match at.keys().last() {
                Some(table) if above(at, key).is_some() => {
                    format!("unknown key `{}` in `{}`", shown_key(key), shown_key(table))
                }
                _ => format!("unknown key `{}`", shown_key(key)),
            };
            self.error_unless_galileo(&own, message).help(help);
        }
    }

    /// The name of the integration that was written without quotes, where the unknown `key` of the one at `at` is the rest
    /// of it: `[integrations.gpt-4.1]` is the table `1` of `gpt-4`.
    fn name_in_parts(&self, dict: &Dict, at: &At, key: &str, known: &[&str]) -> Option<String> {
        let keys = at.keys();
        let (["integrations", first], Origin::Toml) =
            (keys.as_slice(), self.places.layer_of(&at.key(key))?.origin)
        else {
            return None;
        };
        let is_whole = |table: &Dict| WHOLE.iter().any(|key| table.contains_key(*key));
        // What is one without it may as well have a table whose name is only misspelt.
        let is_near = || borrowed::meant(at, key).is_some() || nearest(key, known.iter().copied()).is_some();
        if is_whole(dict) && is_near() {
            return None;
        }
        let mut name = format!("{first}.{key}");
        let mut table = dict.get(key)?.as_dict()?;
        while !is_whole(table) {
            let (next, inner) = table.iter().next()?;
            name = format!("{name}.{next}");
            table = inner.as_dict()?;
        }
        name.parse::<IntegrationName>().is_ok().then_some(name)
    }

    /// Notes what the unknown key `own` stood for. Where it is only a warning, that is missed.
    fn note_meant(&mut self, own: &At, meant: Option<At>) {
        if !self.is_galileo(own) {
            self.meant.extend(meant);
        }
    }

    /// Looks for keys of this table in the tables that are in it: in TOML all that follows `[a.b]` belongs to that.
    fn look_below(&mut self, dict: &Dict, at: &At, known: &[&str]) {
        let missing: BTreeSet<_> = known.iter().copied().filter(|key| !dict.contains_key(*key)).collect();
        for (name, value) in dict.iter().filter(|(name, _)| known.contains(&name.as_str())) {
            let table = at.key(name);
            let Some(inner) = last_table(value) else { continue };
            let strays = inner.keys().filter(|key| missing.contains(key.as_str()));
            match (keys::of(&table), OPEN.iter().find(|(open, _)| open == name)) {
                (Some(own), _) => {
                    for key in strays.filter(|key| !own.contains(&key.as_str())) {
                        // It is refused there: nobody complains a second time that it is missing here.
                        if !self.is_galileo(&table.key(key)) && above(&table, key).is_some() {
                            self.meant.insert(at.key(key));
                        }
                    }
                }
                // Braces say themselves where a table ends.
                (None, Some((_, kind)))
                    if at.integration_name().is_some() && self.places.header_of(&table).is_some() =>
                {
                    for key in strays.filter(|key| !COMMON.contains(&key.as_str())) {
                        let own = table.key(key);
                        let help = self.move_to(&table, at);
                        self.warning(&own, format!("`{key}` is {kind} here, and no key of [{at}]"))
                            .help(help);
                    }
                }
                _ => {}
            }
        }
    }

    /// How a key gets out of the table at `from` into that at `to`.
    fn move_to(&self, from: &At, to: &At) -> String {
        let Some((line, header)) = self.places.header_of(from) else {
            return format!("it belongs to [{to}]");
        };
        let way = match self.places.header_of(to) {
            _ if to.keys().is_empty() => "move the key to the top, before any table".to_owned(),
            Some((line, table)) => format!("move the key up to line {line}, {table}"),
            None => format!("move the key above line {line}, below a line [{to}]"),
        };
        format!("what follows {header} belongs to that table: {way}")
    }
}

/// The table around `at` that has a key `key`.
fn above(at: &At, key: &str) -> Option<At> {
    // The keys of the root are tables, which stand where they like.
    let may_be_in = |table: &At| !table.keys().is_empty() || key == "integrations_dir";
    at.around().find(|table| may_be_in(table) && keys::of(table).is_some_and(|known| known.contains(&key)))
}

/// `value` if it is a table, or the last table in it: what is written next goes there.
fn last_table(value: &Value) -> Option<&Dict> {
    match value {
        Value::Dict(_, dict) => Some(dict),
        Value::Array(_, values) => values.last().and_then(Value::as_dict),
        _ => None,
    }
}
