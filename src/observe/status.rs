//! The configuration that runs: where it came from, how the last reload ended, and what is used past its replacement.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::clock;

/// The state of the configuration. Replaced as a whole by the control thread; holds no secret.
#[derive(Clone, Debug)]
pub struct Status {
    /// The configuration's file, where there is one.
    pub file: Option<PathBuf>,
    /// 1 at the start, and one more for each reload that was taken.
    pub generation: u64,
    /// When the configuration that runs was read, in seconds since the epoch.
    pub loaded_at: u64,
    /// Reloads that were taken.
    pub taken: u64,
    /// Reloads that were refused.
    pub refused: u64,
    /// How the last reload ended.
    pub last: Option<Reload>,
    /// Integrations whose new files or `${file:…}` values cannot be used, so that the old ones are, with the reason.
    pub stale: BTreeMap<String, String>,
}

/// How a reload ended.
#[derive(Clone, Debug)]
pub struct Reload {
    /// When, in seconds since the epoch.
    pub at: u64,
    /// The mistakes as text, and their number; `None` if it was taken.
    pub refused: Option<(usize, String)>,
    /// The keys whose new values only a restart takes over.
    pub restart_needed_for: Vec<&'static str>,
}

impl Status {
    /// At the start, with a configuration from `file`.
    pub fn new(file: Option<PathBuf>) -> Self {
        let (loaded_at, stale) = (clock::unix_seconds(), BTreeMap::new());
        Self { file, generation: 1, loaded_at, taken: 0, refused: 0, last: None, stale }
    }

    /// Whether the last reload was taken, or there was none.
    pub fn is_good(&self) -> bool {
        self.last.as_ref().is_none_or(|last| last.refused.is_none())
    }

    /// A reload was taken, but for the keys in `restart_needed_for`.
    pub fn take(&mut self, restart_needed_for: &[&'static str]) {
        let at = clock::unix_seconds();
        self.generation += 1;
        self.taken += 1;
        self.loaded_at = at;
        self.last = Some(Reload { at, refused: None, restart_needed_for: restart_needed_for.to_vec() });
    }

    /// A reload was refused because of so many `problems`, which `text` tells.
    pub fn refuse(&mut self, problems: usize, text: String) {
        self.refused += 1;
        let refused = Some((problems, text));
        self.last = Some(Reload { at: clock::unix_seconds(), refused, restart_needed_for: Vec::new() });
    }
}
