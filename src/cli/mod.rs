//! The command line: one file a command; `main` calls [`run`] and turns its [`Exit`] into the process's exit code.

mod attempt;
mod check;
mod console;
mod demo;
mod explain;
mod healthcheck;
mod import;
mod output;
mod reload;
mod schema;
mod serve;
mod terminal;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// As asked.
    Done = 0,
    /// It failed while running.
    Failed = 1,
    /// The command line made no sense.
    Usage = 2,
    /// A reload was taken, and an integration cannot serve, or not what is new of it.
    Partly = 3,
    /// An upstream cannot be reached.
    Unreachable = 69,
    /// Credentials were refused.
    Refused = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// Lets a Galileo runner call any LLM as if it were OpenAI.
#[derive(Debug, Parser)]
#[command(name = "outrider", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Serve(Serve),
    /// Show what Outrider does, with mock providers and the real sidecar in this process
    Demo(demo::Demo),
    /// Show every mistake of a configuration, and what is wrong in the world
    Check(check::Check),
    /// Show the exact request that a provider would get, and what was changed on the way; send nothing
    Explain(explain::Explain),
    /// Send one request through an integration and tell step by step what happens; needs no running sidecar
    Try(attempt::Try),
    /// Print the JSON to paste into Galileo, so that its runners call Outrider
    Console(console::Console),
    /// Print Galileo's JSON as the TOML that means the same, without its secrets
    Import(import::Import),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Ask the running process to read its configuration again
    Reload(reload::Reload),
    /// Ask the running sidecar whether it lives (exit code 0 or 1), for images without curl
    Healthcheck(healthcheck::Healthcheck),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// What serving takes.
#[derive(Debug, clap::Args)]
struct Serve {
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Whether `word` is the name of a configuration rather than a command's.
fn is_file(word: &str) -> bool {
    word.ends_with(".toml") || word.contains('/') || std::path::Path::new(word).exists()
}

/// Runs the command line `args`, the program's name first.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> Exit {
    let args: Vec<_> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nothing can be said to someone whose terminal is gone.
            let _ = error.print();
            if error.kind() == ErrorKind::InvalidSubcommand
                && let Some(file) = args.get(1).and_then(|word| word.to_str()).filter(|word| is_file(word))
            {
                let _ = writeln!(
                    io::stderr(),
                    "\n  tip: to serve with that configuration: outrider --config {file}"
                );
            }
            return exit;
        }
    };
    match cli.command {
        None => serve::run(cli.serve.config),
        Some(Command::Serve(serve)) => serve::run(serve.config),
        Some(Command::Demo(demo)) => demo::run(&demo),
        Some(Command::Check(check)) => check::run(&check),
        Some(Command::Explain(explain)) => explain::run(&explain),
        Some(Command::Try(args)) => attempt::run(&args),
        Some(Command::Console(console)) => console::run(&console),
        Some(Command::Import(import)) => import::run(&import),
        Some(Command::Schema) => schema::run(),
        Some(Command::Reload(reload)) => reload::run(&reload),
        Some(Command::Healthcheck(check)) => healthcheck::run(&check),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "outrider", &mut script);
            output::print(Exit::Done, &String::from_utf8_lossy(&script), "")
        }
    }
}
