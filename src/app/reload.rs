//! A reload: everything that can fail is done first, then one pointer is swapped. What is unchanged is kept as it
//! is, with its tokens, connections and running streams.

use std::sync::Arc;

use crate::config::valid::Settings;
use crate::integration::{Entry, Registry, Workshop};
use crate::observe::clock;

/// What a reload did, by names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) added: Vec<String>,
    pub(super) changed: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) unchanged: usize,
    /// Keys that only a restart changes.
    pub(super) restart: Vec<&'static str>,
}

/// The registry of `new`, with every entry of `old` that is ready and whose settings are the same.
pub(super) fn prepare(old: &Registry, new: &Settings, workshop: &Workshop) -> (Registry, Difference) {
    let mut difference = Difference::default();
    let mut entries = Vec::with_capacity(new.integrations.len());
    for (name, settings) in &new.integrations {
        match old.integration(name.as_str()) {
            Ok(entry) if *entry.settings == *settings && entry.state.is_ok() => {
                difference.unchanged += 1;
                entries.push(Arc::clone(entry));
                continue;
            }
            Ok(_) => difference.changed.push(name.to_string()),
            Err(_) => difference.added.push(name.to_string()),
        }
        entries.push(Arc::new(Entry::build(settings.clone(), workshop)));
    }
    let gone = |entry: &&Arc<Entry>| !new.integrations.contains_key(&entry.settings.name);
    let removed = old.entries().iter().filter(gone).map(|entry| entry.settings.name.to_string());
    difference.removed = removed.collect();
    (Registry::new(entries, clock::unix_seconds()), difference)
}

/// The tables that a running process does not take over.
pub(super) fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let tables = [
        ("[server]", old.server != new.server),
        ("[admin]", old.admin != new.admin),
        ("[log]", old.log != new.log),
    ];
    tables.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// What is wrong with a failed entry, in one line.
pub(super) fn failure(entry: &Arc<Entry>) -> Option<String> {
    let remedy = entry.state.as_ref().err()?;
    Some(format!("integration `{}` ({}) cannot serve: {remedy}", entry.settings.name, entry.settings.origin))
}
