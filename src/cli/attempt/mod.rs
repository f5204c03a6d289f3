//! `outrider try`: one real chat completion through an integration, by the very code that serves, told step by step to
//! the person who looks for what is wrong.
//!
//! `alone` is the sidecar that serves this one request, `ask` its client, `answer` reads what comes back, `verdict`
//! and `blame` know whose fault a failure is and what to do, and `page` prints without secrets.

mod alone;
mod answer;
mod ask;
mod blame;
mod page;
mod story;
mod verdict;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use self::alone::Alone;
use self::page::Page;
use self::story::Story;
use super::{Exit, console, serve, terminal};
use crate::config::valid::Integration;
use crate::config::{self, Loaded, Options};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub(super) struct Try {
    /// The integration
    integration: String,
    /// The model as clients call it; default: the integration's default_model, else its first
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// What the model is asked
    #[arg(long, value_name = "TEXT", default_value = "Say hello in one short sentence.")]
    prompt: String,
    /// Ask for a stream, and show the answer as it arrives
    #[arg(long)]
    stream: bool,
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Asks once and tells on stdout what happened; ends at once by Ctrl-C or SIGTERM.
pub(super) fn run(args: &Try) -> Exit {
    serve::shield();
    let options = Options::process(args.config.clone());
    let loaded = match config::load(&options) {
        Ok(loaded) => loaded,
        Err(problems) => return complain(Exit::Config, &problems.render(io::stderr().is_terminal())),
    };
    let Some(settings) = loaded.settings.integrations.get(args.integration.as_str()) else {
        return complain(Exit::Usage, &console::unknown(&args.integration, &loaded.settings));
    };
    let default = settings.default_model.as_ref().map(|model| model.as_str());
    let Some(model) = args.model.as_deref().or(default) else {
        return complain(Exit::Config, &without_model(settings));
    };
    attempt(args, &loaded, settings, model)
}

fn attempt(args: &Try, loaded: &Loaded, settings: &Integration, model: &str) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, &format!("no runtime: {error}\n")),
    };
    let mut page = Page::new(io::stdout(), loaded.veil(settings));
    page.fact("configuration", &terminal::typed(&read(loaded), &args.integration, args.config.as_deref()));
    let mut alone = match Alone::start(&loaded.settings, settings) {
        Ok(alone) => alone,
        Err(why) => return complain(Exit::Failed, &format!("{why}\n")),
    };
    let is_default = args.model.is_none();
    let story = Story { settings, model, is_default, config: args.config.as_deref(), page: &mut page };
    let exit = runtime.block_on(async {
        tokio::select! {
            exit = story.tell(&mut alone, ask::body(model, &args.prompt, args.stream)) => exit,
            name = interrupted() => complain(Exit::Failed, &format!("\nended by {name}\n")),
        }
    });
    alone.stop();
    // A handler that is still being waited for must not hold the end up.
    runtime.shutdown_background();
    exit
}

/// Returns the signal that asks for the end. They are caught, since the first process of a container ends by no other.
async fn interrupted() -> &'static str {
    let caught = |kind| signal(kind).map_err(drop);
    let (Ok(mut int), Ok(mut term)) = (caught(SignalKind::interrupt()), caught(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => "SIGINT",
        _ = term.recv() => "SIGTERM",
    }
}

/// What was read, and how much of it `check` warns of.
fn read(loaded: &Loaded) -> String {
    let file = loaded.texts.file().display();
    match loaded.warnings.iter().count() {
        0 => file.to_string(),
        count => format!("{file}, with {count} warning(s): `outrider check` shows them"),
    }
}

fn without_model(settings: &Integration) -> String {
    let (name, origin) = (&settings.name, &settings.origin);
    format!("integration `{name}` ({origin}) has no model: set its `models`, or name one with --model\n")
}

fn complain(exit: Exit, text: &str) -> Exit {
    // There is nobody left to tell if stderr is gone; the exit code still says it.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    exit
}
