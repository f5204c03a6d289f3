//! Keeps the configuration and the files that it names up to date: reload, watch, rotation and healing.
//!
//! Everything that can fail is done first, then one pointer is swapped. What is wrong in the text refuses a reload as
//! a whole; what is wrong in the world fails one integration, or leaves it as it is where nobody asked for a change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::live;
use super::renew::{Change, Refusals, Renewal, renew};
use crate::config::valid::Settings;
use crate::config::{At, Loaded, Problems, Severity, Texts};
use crate::files::{self, Print, Prints};
use crate::integration::{Entry, Integration, Registry, Workshop};
use crate::observe::{List, Sink, Status};
use crate::proxy::House;
use crate::tls::{Inbound, Renewed};

/// Reads the configuration anew: from its files, or from these texts with only what they refer to read anew. Tells
/// what it read, also where it fails.
pub type Reread = Box<dyn Fn(Option<&Texts>, &mut Prints) -> Result<Loaded, Problems> + Send>;

/// Where the configuration came from, and how to read it anew.
pub struct Source {
    reread: Reread,
    /// The texts of the configuration that runs.
    texts: Texts,
    /// What the last try read, as it was.
    files: Prints,
}

impl Source {
    /// The source of `loaded`, which `reread` reads anew.
    pub fn new(loaded: &Loaded, reread: Reread) -> Self {
        Self { reread, texts: loaded.texts.clone(), files: loaded.files.clone() }
    }

    /// None at all: nothing is ever read anew.
    pub(super) fn none() -> Self {
        let reread: Reread = Box::new(|_, _| Err(Problems::default()));
        Self { reread, texts: Texts::default(), files: Prints::new() }
    }

    /// The configuration's file.
    pub(super) fn file(&self) -> PathBuf {
        self.texts.file().to_owned()
    }
}

/// Why the configuration is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Somebody asked for it.
    Signal,
    /// `watch = true`, and a file changed.
    Watch,
    /// A file changed that the configuration refers to (`${file:…}`, `token_file`).
    Rotation,
}

/// The configuration that runs, and what keeps it so.
pub(super) struct Keeper {
    pub(super) house: Arc<House>,
    pub(super) workshop: Arc<Workshop>,
    pub(super) sink: Sink,
    /// As they run: keys that need a restart are those of the start.
    pub(super) settings: Settings,
    pub(super) source: Source,
    /// The TLS of our own listeners.
    inbound: Option<Arc<Inbound>>,
    /// What its files held when they were last looked at.
    inbound_seen: Prints,
    /// What the handlers' files held when they were last looked at.
    handlers_seen: Prints,
    /// What the caller key's file held when it was last looked at.
    key: Option<Print>,
    refusals: Refusals,
}

/// How long the parts of a stop may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) linger: Duration,
    pub(super) drain_timeout: Duration,
}

impl Keeper {
    pub(super) fn new(
        house: Arc<House>,
        workshop: Arc<Workshop>,
        sink: Sink,
        settings: Settings,
        source: Source,
    ) -> Self {
        // The first look compares contents: the files may have changed since they were read.
        let (key, inbound_seen, handlers_seen) = (None, Prints::new(), Prints::new());
        let refusals = Refusals::default();
        let inbound = None;
        Self { house, workshop, sink, settings, source, inbound, inbound_seen, handlers_seen, key, refusals }
    }

    /// Keeps the listeners' certificate up to date, too.
    pub(super) fn with(self, inbound: Option<Arc<Inbound>>) -> Self {
        Self { inbound, ..self }
    }

    /// What must be looked at, and how often.
    pub(super) fn watched(&self) -> (BTreeSet<PathBuf>, Duration) {
        let registry = self.house.registry.load();
        let files = registry.entries().iter().flat_map(|entry| entry.files.iter());
        let paths = files.map(|file| file.path.clone()).chain(self.source.files.keys().cloned());
        let paths = paths.chain(key_file(&self.settings)).chain(self.inbound_files());
        let paths = paths.chain(self.watched_crews(&registry).flat_map(files_of));
        (paths.collect(), self.settings.server.rotation_interval)
    }

    /// How long a stop may take.
    pub(super) fn times(&self) -> Times {
        let server = &self.settings.server;
        Times { linger: server.linger, drain_timeout: server.drain_timeout }
    }

    /// SIGHUP.
    pub(super) fn reload(&mut self) {
        self.reread(Cause::Signal, &Prints::new());
    }

    /// The files are so now.
    pub(super) fn looked(&mut self, now: &Prints) {
        let seen = self.inbound_files().into_iter().filter_map(|path| Some((path.clone(), *now.get(&path)?)));
        let seen: Prints = seen.collect();
        if seen != self.inbound_seen {
            self.inbound_seen = seen;
            self.renew_inbound();
        }
        self.look_at_handlers(now);
        let differs = |(path, print): &(&PathBuf, &Print)| now.get(*path).is_some_and(|seen| seen != *print);
        let mut changed = self.source.files.iter().filter(differs).map(|(path, _)| path);
        if self.settings.server.watch && changed.next().is_some() {
            return self.reread(Cause::Watch, now);
        }
        // Without `watch` an edit waits for its signal; only what it refers to is read anew.
        if changed.any(|path| !self.source.texts.hold(path)) {
            return self.reread(Cause::Rotation, now);
        }
        self.renew_key(now);
        let registry = self.house.registry.load_full();
        if registry.entries().iter().any(|entry| entry.files.differ(now)) || self.refusals.differ(now) {
            let settings = self.settings.clone();
            let renewal = renew(&registry, &settings, &self.workshop, &mut self.refusals, true);
            self.install(&renewal);
            self.announce(&renewal, None);
        }
    }

    /// `now` is what the watcher saw: what is written anew since then is left for its next look.
    fn reread(&mut self, cause: Cause, now: &Prints) {
        let mut read = Prints::new();
        let texts = (cause == Cause::Rotation).then_some(&self.source.texts);
        let loaded = (self.source.reread)(texts, &mut read);
        if read.iter().any(|(path, print)| now.get(path).is_some_and(|seen| seen != print)) {
            return;
        }
        let loaded =
            loaded.and_then(|loaded| self.meant(loaded)).and_then(|loaded| self.with_doors(loaded, cause));
        let edited = std::mem::take(&mut self.source.files);
        self.source.files = read;
        if cause == Cause::Rotation {
            // What waits for a signal is still to be seen as it was.
            let waiting = edited.into_iter().filter(|(path, _)| self.source.texts.hold(path));
            self.source.files.extend(waiting);
        }
        match loaded {
            Ok(loaded) => self.take(loaded, cause),
            Err(problems) => self.refuse(&problems, cause),
        }
    }

    /// `loaded`, unless its file was emptied: whoever writes a file anew in its place does so first, and perhaps for long.
    fn meant(&self, loaded: Loaded) -> Result<Loaded, Problems> {
        if self.source.texts.is_blank() || !loaded.texts.is_blank() {
            return Ok(loaded);
        }
        let why = "the file is empty (is it being written?): with a comment in it, it would be taken";
        Err(loaded.places.problem(Severity::Error, &At::root(), why).into())
    }

    fn refuse(&self, problems: &Problems, cause: Cause) {
        let count = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let text = problems.render(false);
        // Before it is logged: whoever reads the line may look here next.
        self.status(|status| status.refuse(count, text.clone()));
        if cause == Cause::Rotation {
            tracing::error!(
                problems = count,
                "a file that the configuration refers to is refused, the old value stays:\n{text}"
            );
        } else {
            tracing::error!(problems = count, "reload refused, the running configuration stays:\n{text}");
        }
    }

    fn take(&mut self, loaded: Loaded, cause: Cause) {
        let same_text = loaded.texts == self.source.texts;
        let quiet = cause == Cause::Rotation || (cause == Cause::Watch && same_text);
        let restart = live::needs_restart(&self.settings, &loaded.settings);
        let registry = self.house.registry.load_full();
        let renewal = renew(&registry, &loaded.settings, &self.workshop, &mut self.refusals, same_text);
        let was_good = self.house.status.load().is_good();
        self.settings = live::running(&self.settings, loaded.settings);
        // A file that was cut short may have lost the word by which its rest would be seen.
        self.settings.server.watch |= cause == Cause::Watch;
        self.source.texts = loaded.texts;
        self.sink.set_level(self.settings.log.level);
        if !loaded.warnings.is_empty() && !same_text {
            tracing::warn!("{}", loaded.warnings.render(false));
        }
        self.install(&renewal);
        // Before the reload is told to be over: whoever waits for it sees whose handlers are still to show how they do.
        if cause != Cause::Rotation {
            self.renew_handlers();
        }
        self.announce(&renewal, (!quiet || !was_good).then_some(restart.as_slice()));
    }

    /// Handlers take their files anew, each by itself: what has changed starts beside what serves.
    fn renew_handlers(&self) {
        for integration in self.house.registry.load().entries().iter().flat_map(|entry| &entry.state) {
            integration.renew_handler();
        }
    }

    /// Those whose handlers' files are taken anew without being asked for: all with `watch`, else those that do not
    /// serve and that an edit may heal.
    fn watched_crews<'r>(&self, registry: &'r Registry) -> impl Iterator<Item = &'r Integration> {
        let watch = self.settings.server.watch;
        let is_watched = move |entry: &&'r Arc<Entry>| watch || entry.trouble().is_some();
        let entries = registry.entries().iter().filter(is_watched);
        entries.flat_map(|entry| &entry.state).filter(|integration| integration.crew.is_some())
    }

    fn look_at_handlers(&mut self, now: &Prints) {
        let registry = self.house.registry.load_full();
        let mut seen = Prints::new();
        for integration in self.watched_crews(&registry) {
            let prints: Prints = files_of(integration)
                .into_iter()
                .filter_map(|path| Some((path.clone(), *now.get(&path)?)))
                .collect();
            if prints.iter().any(|(path, print)| self.handlers_seen.get(path) != Some(print)) {
                integration.renew_handler();
            }
            seen.extend(prints);
        }
        self.handlers_seen = seen;
    }

    /// The swap itself.
    fn install(&self, renewal: &Renewal) {
        if renewal.has_news() {
            self.house.registry.store(Arc::clone(&renewal.registry));
            // Not before: what is only built changes nothing of what runs.
            for integration in renewal.registry.entries().iter().flat_map(|entry| &entry.state) {
                integration.rule();
            }
        }
    }

    /// What is told of a swap that is done: who reads a line may rely on it. `restart` are the keys that need one, where
    /// this was a reload.
    fn announce(&self, renewal: &Renewal, restart: Option<&[&'static str]>) {
        self.status(|status| {
            status.stale = self.refusals.reasons();
            if let Some(restart) = restart {
                status.take(restart);
            }
        });
        tell(renewal, restart.is_some());
        if let Some(restart_needed_for) = restart {
            let status = self.house.status.load();
            let (generation, stale) = (status.generation, status.stale.keys().collect::<Vec<_>>());
            let changed: Vec<_> = renewal.changed.iter().map(Change::name).collect();
            let entries = renewal.registry.entries().iter().filter(|entry| entry.state.is_err());
            let failed: Vec<_> = entries.map(|entry| entry.settings.name.as_str()).collect();
            let Renewal { added, removed, unchanged, .. } = renewal;
            tracing::info!(
                generation,
                added = ?List(added),
                changed = ?List(&changed),
                removed = ?List(removed),
                unchanged,
                failed = ?List(&failed),
                stale = ?List(&stale),
                restart_needed_for = ?List(restart_needed_for),
                "configuration reloaded"
            );
        }
    }

    fn status(&self, change: impl FnOnce(&mut Status)) {
        let mut status = Status::clone(&self.house.status.load());
        change(&mut status);
        self.house.status.store(Arc::new(status));
    }

    /// Takes over what the listeners need of `loaded`, or refuses the whole: their certificate, where somebody asked for a
    /// reload, and the caller key.
    fn with_doors(&mut self, loaded: Loaded, cause: Cause) -> Result<Loaded, Problems> {
        let renewed = self.prepare_inbound(&loaded, cause)?;
        let loaded = self.with_key(loaded, cause)?;
        if let Some(renewed) = renewed {
            self.take_inbound(renewed);
        }
        Ok(loaded)
    }

    /// Other files than those that run wait for a restart, and then it does not matter how these are.
    fn prepare_inbound(&self, loaded: &Loaded, cause: Cause) -> Result<Option<Renewed>, Problems> {
        let runs_on = loaded.settings.server.tls == self.settings.server.tls;
        let inbound = self.inbound.as_ref().filter(|_| cause == Cause::Signal && runs_on);
        let renewed = inbound.map_or(Ok(None), |inbound| inbound.prepare());
        renewed.map_err(|why| {
            let at = At::root().key("server").key("tls");
            loaded.places.problem(Severity::Error, &at, format!("server.tls: {why}")).into()
        })
    }

    /// Takes the caller key of `loaded` over together with the other rules, or refuses the whole.
    fn with_key(&mut self, loaded: Loaded, cause: Cause) -> Result<Loaded, Problems> {
        let server = &loaded.settings.server;
        let print = key_file(&loaded.settings).map(|path| files::print(&path));
        let rules = match live::rules(server) {
            Ok(rules) => rules,
            // It is a rotation gone wrong: what holds stays. Who asks for a reload is told that it is not as it should be.
            Err(why) if cause != Cause::Signal && server.api_key == self.settings.server.api_key => {
                if print != self.key {
                    self.house.strays.rotated(false);
                    tracing::error!("{why}; the old key stays in use");
                }
                let caller_key = self.house.rules.load().caller_key.clone();
                live::rules_with(server, caller_key)
            }
            Err(why) => {
                let at = At::root().key("server").key("api_key_file");
                return Err(loaded.places.problem(Severity::Error, &at, why).into());
            }
        };
        self.key = print;
        let is_rotation = server.api_key == self.settings.server.api_key;
        if is_rotation && rules.caller_key != self.house.rules.load().caller_key {
            self.house.strays.rotated(true);
        }
        self.house.rules.store(Arc::new(rules));
        Ok(loaded)
    }

    fn inbound_files(&self) -> Vec<PathBuf> {
        let Some(inbound) = &self.inbound else { return Vec::new() };
        inbound.files().paths().cloned().collect()
    }

    /// A broken certificate changes nothing.
    fn renew_inbound(&self) {
        match self.inbound.as_ref().map(|inbound| inbound.prepare()) {
            Some(Ok(Some(renewed))) => self.take_inbound(renewed),
            Some(Err(why)) => {
                self.house.strays.rotated(false);
                tracing::error!("server.tls: {why}; the old certificate stays in use");
            }
            Some(Ok(None)) | None => {}
        }
    }

    /// New connections get the new certificate.
    fn take_inbound(&self, renewed: Renewed) {
        if let Some(inbound) = &self.inbound {
            inbound.take(renewed);
            self.house.strays.rotated(true);
            tracing::info!("server.tls renewed: new connections use it");
        }
    }

    /// The caller key, if its file changed.
    fn renew_key(&mut self, now: &Prints) {
        let print = key_file(&self.settings).and_then(|path| now.get(&path).copied());
        if print.is_none() || print == self.key {
            return;
        }
        self.key = print;
        match live::rules(&self.settings.server) {
            Ok(rules) if rules.caller_key == self.house.rules.load().caller_key => {}
            Ok(rules) => {
                self.house.rules.store(Arc::new(rules));
                self.house.strays.rotated(true);
                tracing::info!("the new server.api_key_file is in use");
            }
            Err(why) => {
                self.house.strays.rotated(false);
                tracing::error!("{why}; the old key stays in use");
            }
        }
    }
}

/// What happened to each integration: failures, files that are refused, and files that are taken.
fn tell(renewal: &Renewal, is_reload: bool) {
    for failure in renewal.failures() {
        tracing::error!("{failure}");
    }
    for (entry, why) in &renewal.kept {
        entry.metrics.rotated(false);
        let integration = entry.settings.name.as_str();
        tracing::error!(integration, "new files are refused, the old ones stay in use: {why}");
    }
    for change in renewal.changed.iter().filter(|change| change.new.state.is_ok()) {
        let integration = change.name();
        let is_rotation = change.new.settings == change.old.settings || !is_reload;
        if change.old.state.is_err() {
            tracing::info!(integration, "the integration can serve again");
        } else if is_rotation {
            change.new.metrics.rotated(true);
            let files = change.new.files.changed_from(&change.old.files);
            tracing::info!(integration, files = ?List(&files), "new files are in use");
        }
    }
}

fn files_of(integration: &Integration) -> Vec<PathBuf> {
    integration.crew.as_ref().map(|crew| crew.watched()).unwrap_or_default()
}

fn key_file(settings: &Settings) -> Option<PathBuf> {
    settings.server.api_key.as_ref()?.file().cloned()
}
