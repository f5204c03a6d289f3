//! Whether each handler loads: its class is constructed by the interpreter that would serve it, and asked for nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::terminal;
use crate::config::valid::{Handlers, Integration, Settings};
use crate::integration::{Entry, Stable, Workshop};
use crate::workers::{Loaded, Workers};

/// How long the processes have to end.
const END: Duration = Duration::from_secs(2);

/// One handler that was loaded, or was not.
#[derive(Debug)]
pub(super) struct Tried {
    integration: String,
    outcome: Result<Loaded, String>,
}

impl Tried {
    pub(super) fn is_fine(&self) -> bool {
        self.outcome.is_ok()
    }

    pub(super) fn to_json(&self) -> Value {
        let loaded = self.outcome.as_ref().ok();
        json!({
            "integration": self.integration,
            "class": loaded.map(|loaded| &loaded.class),
            "methods": loaded.map(|loaded| &loaded.methods),
            "call_style": loaded.map(|loaded| &loaded.style),
            "warnings": loaded.map(|loaded| &loaded.warnings),
            "python": loaded.map(|loaded| &loaded.python),
            "litellm": loaded.map(|loaded| &loaded.litellm),
            "error": self.outcome.as_ref().err(),
        })
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.integration;
        match &self.outcome {
            Err(why) => write!(f, "{name:24} handler: does not load: {}", terminal::line(why)),
            Ok(loaded) => {
                let Loaded { class, methods, style, warnings, python, litellm } = loaded;
                let methods = methods.join(", ");
                write!(
                    f,
                    "{name:24} handler: {class} loads: {methods}; called {style} style; Python {python}, litellm {litellm}"
                )?;
                warnings
                    .iter()
                    .map(|warning| terminal::line(warning))
                    .try_for_each(|warning| write!(f, "\n{name:24} handler: warning: {warning}"))
            }
        }
    }
}

/// Loads the handler of each integration that could be built, all at once, each in one process.
pub(super) fn load(settings: &Settings, built: &[Arc<Entry>]) -> Vec<Tried> {
    let with_handlers: Vec<Integration> = built
        .iter()
        .filter(|entry| entry.state.is_ok() && entry.settings.handler.is_some())
        .map(|entry| alone(Integration::clone(&entry.settings)))
        .collect();
    if with_handlers.is_empty() {
        return Vec::new();
    }
    let mut workshop = Workshop::dry();
    let workers = Workers::new(Arc::clone(&workshop.clients));
    workshop.stable = Some(Stable { workers, door: None });
    let entries: Vec<Entry> = with_handlers.into_iter().map(|one| Entry::build(one, &workshop)).collect();
    let tried = entries.iter().map(|entry| Tried {
        integration: entry.settings.name.to_string(),
        outcome: loaded(entry, &settings.handlers),
    });
    let tried = tried.collect();
    drop(entries);
    end(&workshop);
    tried
}

/// The same with a single process, which sends nothing through us.
fn alone(mut integration: Integration) -> Integration {
    if let Some(handler) = &mut integration.handler {
        let common = Handlers::clone(&handler.common);
        handler.common = Arc::new(Handlers { workers: 1, egress: false, ..common });
    }
    integration
}

fn loaded(entry: &Entry, handlers: &Handlers) -> Result<Loaded, String> {
    let integration = entry.state.as_ref().map_err(String::clone)?;
    let crew = integration.crew.as_ref().ok_or("it has no workers")?;
    // The interpreter starts first, and then each worker; one that fails is tried again.
    crew.wait_settled(handlers.start_timeout.saturating_mul(4))?;
    crew.status().loaded.ok_or_else(|| "it said nothing of itself".to_owned())
}

fn end(workshop: &Workshop) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let (Ok(runtime), Some(stable)) = (runtime, &workshop.stable) {
        runtime.block_on(stable.workers.stop(END));
    }
}
