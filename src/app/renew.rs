//! A new registry from an old one: what is unchanged in settings and files is kept as it is, with its tokens,
//! connections and running streams; the rest is built anew, before anything is swapped.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::valid::{self, Settings};
use crate::files::Prints;
use crate::integration::{Entry, Files, Registry, Workshop};
use crate::observe::clock;

/// What was done, by names.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The integrations as they are now.
    pub(super) registry: Arc<Registry>,
    pub(super) added: Vec<String>,
    /// Built anew: their settings or files changed.
    pub(super) changed: Vec<Change>,
    pub(super) removed: Vec<String>,
    pub(super) unchanged: usize,
    /// Ready ones that stay as they are, since what is new cannot be used; with the reason.
    pub(super) kept: Vec<(Arc<Entry>, String)>,
}

/// One integration that was built anew.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) old: Arc<Entry>,
    pub(super) new: Arc<Entry>,
}

/// What could not be used in place of a ready integration: it is not tried again before it changes.
#[derive(Debug)]
struct Refusal {
    settings: valid::Integration,
    files: Files,
    why: String,
}

/// The refusals by the name of the integration.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, Refusal>);

impl Refusals {
    /// The reasons, by the name of the integration.
    pub(super) fn reasons(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, refusal)| (name.clone(), refusal.why.clone())).collect()
    }

    /// Whether files that were refused are otherwise `now`: perhaps again as those in use, which differ from nothing.
    pub(super) fn differ(&self, now: &Prints) -> bool {
        self.0.values().any(|refusal| refusal.files.differ(now))
    }

    fn is_known(&self, settings: &valid::Integration, files: &Files) -> bool {
        let refusal = self.0.get(settings.name.as_str());
        refusal.is_some_and(|refusal| refusal.settings == *settings && refusal.files == *files)
    }
}

/// Builds what `new` has and `old` has not. Where a ready integration would be failed by the world, it is kept if
/// its settings are the same or `same_text` says that the whole configuration is: then nobody asked for a change.
pub(super) fn renew(
    old: &Registry,
    new: &Settings,
    workshop: &Workshop,
    refusals: &mut Refusals,
    same_text: bool,
) -> Renewal {
    let mut renewal = Renewal::new(old, new);
    let mut entries = Vec::with_capacity(new.integrations.len());
    refusals.0.retain(|name, _| new.integrations.keys().any(|known| known.as_str() == name));
    for (name, settings) in &new.integrations {
        let Ok(entry) = old.integration(name.as_str()) else {
            renewal.added.push(name.to_string());
            entries.push(Arc::new(Entry::build(settings.clone(), workshop)));
            continue;
        };
        let (files, same) = (Files::of(settings), *entry.settings == *settings);
        let unchanged = same && entry.files == files;
        if unchanged {
            refusals.0.remove(name.as_str());
        }
        if unchanged || refusals.is_known(settings, &files) {
            entry.settings.origin.follow(&settings.origin);
            renewal.unchanged += 1;
            entries.push(Arc::clone(entry));
            continue;
        }
        let built = Arc::new(Entry::build(settings.clone(), workshop));
        match &built.state {
            Err(why) if entry.state.is_ok() && (same || same_text) => {
                let refusal = Refusal { settings: settings.clone(), files, why: why.clone() };
                refusals.0.insert(name.to_string(), refusal);
                renewal.kept.push((Arc::clone(entry), why.clone()));
                entries.push(Arc::clone(entry));
            }
            Ok(_) | Err(_) => {
                refusals.0.remove(name.as_str());
                renewal.changed.push(Change { old: Arc::clone(entry), new: Arc::clone(&built) });
                entries.push(built);
            }
        }
    }
    renewal.registry = Arc::new(Registry::new(entries, clock::unix_seconds()));
    renewal
}

impl Renewal {
    fn new(old: &Registry, new: &Settings) -> Self {
        let gone = |entry: &&Arc<Entry>| !new.integrations.contains_key(&entry.settings.name);
        Self {
            registry: Arc::default(),
            added: Vec::new(),
            changed: Vec::new(),
            removed: old.entries().iter().filter(gone).map(|entry| entry.settings.name.to_string()).collect(),
            unchanged: 0,
            kept: Vec::new(),
        }
    }

    /// Whether the registry differs from the old one.
    pub(super) fn has_news(&self) -> bool {
        !(self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty())
    }

    /// What is wrong with each integration that was built and cannot serve, a line each.
    pub(super) fn failures(&self) -> Vec<String> {
        let added = self.added.iter().filter_map(|name| self.registry.integration(name).ok());
        added.chain(self.changed.iter().map(|change| &change.new)).filter_map(failure).collect()
    }
}

impl Change {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.new.settings.name.as_str()
    }
}

/// What is wrong with a failed entry, in one line.
pub(super) fn failure(entry: &Arc<Entry>) -> Option<String> {
    let remedy = entry.state.as_ref().err()?;
    Some(format!("integration `{}` ({}) cannot serve: {remedy}", entry.settings.name, entry.settings.origin))
}
