//! `outrider [serve]`: load, start, serve until a signal.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::Exit;
use super::check::world;
use crate::app::{self, Caught, Reread, Running, Source, Start, StartError};
use crate::config::valid::Settings;
use crate::config::{self, Loaded, Options, Problems};
use crate::observe::Sink;
use crate::server::listen::Address;

/// Serves until it is told to stop.
pub(super) fn run(file: Option<PathBuf>) -> Exit {
    shield();
    let mut signals = match Caught::new() {
        Ok(signals) => signals,
        Err(error) => return cannot("signals cannot be caught", &error),
    };
    let options = Options::process(file);
    let read = options.clone();
    // A file system may hang: whoever gives up on it is heard.
    let loaded = match signals.unless_stopped(move || load(&read)) {
        Ok(Some(Ok(loaded))) => loaded,
        Ok(Some(Err(problems))) => {
            complain(&problems.render(io::stderr().is_terminal()));
            return Exit::Config;
        }
        Ok(None) => return Exit::Done,
        Err(error) => return cannot("the configuration cannot be read", &error),
    };
    let reread: Reread = Box::new(move |texts, files| {
        let options = Options { texts: texts.cloned(), ..options.clone() };
        config::load_watched(&options, files)
    });
    let source = Some(Source::new(&loaded, reread));
    let settings = loaded.settings;
    let connections = settings.server.max_connections;
    if let Some(more) = open_files(getrlimit(Resource::Nofile), connections) {
        let _ = setrlimit(Resource::Nofile, more);
    }
    let (sink, _writer) = Sink::stdout(settings.log.format);
    sink.install(settings.log.level);
    log_panics();
    if !loaded.warnings.is_empty() {
        tracing::warn!("{}", loaded.warnings.render(false));
    }
    let welcome = (!sink.is_json()).then(|| settings.clone());
    match app::start(Start { settings, sink, source, signals: Some(signals) }) {
        Ok(running) => {
            announce(&running, welcome.as_ref());
            match running.wait() {
                Ok(()) => Exit::Done,
                Err(error) => {
                    tell(&error.to_string());
                    Exit::Failed
                }
            }
        }
        Err(stopped @ StartError::Stopped) => {
            tracing::info!("{stopped}");
            Exit::Done
        }
        Err(error) => {
            tell(&error.to_string());
            if matches!(error, StartError::Cannot(_)) { Exit::Failed } else { Exit::Config }
        }
    }
}

/// The configuration, and where all of it must hold from the start, what it names in the world.
fn load(options: &Options) -> Result<Loaded, Problems> {
    let loaded = config::load(options)?;
    if loaded.settings.server.strict_start {
        let problems = world::problems(&loaded);
        if problems.has_errors() {
            return Err(problems);
        }
    }
    Ok(loaded)
}

fn cannot(what: &str, error: &io::Error) -> Exit {
    complain(&format!("error: {what}: {error}\n"));
    Exit::Failed
}

/// Secrets are in our memory: it goes into no core dump, and no other process of the same user may read it, such as a
/// handler. What the system does not allow is not worth failing for.
pub(super) fn shield() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Open files besides the two that each client's request takes.
const OWN_FILES: u64 = 1024;

/// The limit of open files that `connections` clients need, where `limit` is lower and may be raised: many systems let a
/// program begin with 1024, and allow far more.
fn open_files(limit: Rlimit, connections: usize) -> Option<Rlimit> {
    let need = (connections as u64).saturating_mul(2).saturating_add(OWN_FILES);
    let wanted = limit.maximum.map_or(need, |most| need.min(most));
    limit.current.is_some_and(|now| now < wanted).then_some(Rlimit { current: Some(wanted), ..limit })
}

fn announce(running: &Running, welcome: Option<&Settings>) {
    let proxy: Vec<String> = running.proxy.iter().map(Address::to_string).collect();
    let admin = running.admin.as_ref().map(Address::to_string);
    tracing::info!(
        proxy = proxy.join(","),
        admin = admin.as_deref().unwrap_or("off"),
        metrics = running.metrics.as_ref().map(Address::to_string),
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let Some(settings) = welcome else { return };
    let mut text = String::from("\n");
    for one in settings.integrations.values() {
        text += &format!("  {:20} {:10} {} model(s)\n", one.name, one.spoken(), one.models.len());
    }
    if let Some(Address::Tcp(address)) = running.proxy.first() {
        let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
        text += &format!("\n  export OPENAI_BASE_URL={scheme}://{address}/v1\n");
    }
    tracing::info!("{text}");
}

/// Says where a panic was, never what it said: that may hold a client's words.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        tracing::error!(place, "a panic; this is a bug in Outrider");
    }));
}

/// Says why it ends: in the log, and where that is off (`log.level`), on stderr.
fn tell(why: &str) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{why}");
    } else {
        complain(&format!("error: {why}\n"));
    }
}

fn complain(text: &str) {
    let mut err = io::stderr().lock();
    // There is nobody left to tell if stderr is gone.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_where_it_is_too_low_and_may_be() {
        let limit = |current, maximum| Rlimit { current, maximum };
        for (now, most, connections, want) in [
            (Some(1024), Some(524_288), 16_384, Some(33_792)),
            (Some(1024), None, 1, Some(1026)),
            (Some(1024), Some(4096), 16_384, Some(4096)),
            (Some(4096), Some(4096), 16_384, None),
            (Some(1_048_576), Some(1_048_576), 16_384, None),
            (None, None, 16_384, None),
            (Some(1024), None, usize::MAX, Some(u64::MAX)),
        ] {
            let raised = open_files(limit(now, most), connections);
            assert_eq!(raised.and_then(|limit| limit.current), want, "{now:?} {most:?} {connections}");
            assert!(raised.is_none_or(|limit| limit.maximum == most));
        }
    }
}
