//! `outrider demo`: shows on one screen what Outrider does, without a configuration or a network. Mock providers and
//! a token endpoint run in this process, the real sidecar stands before them, and each step is checked and timed.
//! With `--handlers` the example of a Python handler is among them.

mod mock;
mod python;
mod steps;
mod tokens;
mod world;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Exit;
use crate::app::{self, Running, Start};
use crate::config::{self, Environment, Options};
use crate::observe::Sink;
use crate::server::listen::Address;
use crate::tasks::Tasks;
use world::World;

/// What the demo takes.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// End after the table: 0 if every step went well, else 1
    #[arg(long)]
    once: bool,
    /// Also show a Python handler; without an interpreter that has litellm, one is made once in the user's cache
    #[arg(long)]
    handlers: bool,
    /// The interpreter for the handler
    #[arg(long, value_name = "PYTHON", env = "OUTRIDER_PYTHON")]
    python: Option<String>,
}

/// Shows the demo on stdout; without `once` it then serves until Ctrl-C.
pub(super) fn run(args: &Demo) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    let python = args
        .handlers
        .then(|| python::interpreter(args.python.as_deref(), &Environment::process(), &mut io::stderr()));
    if matches!(python, Some(Ok(_))) {
        // There is nobody left to tell if stderr is gone.
        _ = writeln!(io::stderr(), "Starting Python with litellm for two sidecars: this takes some seconds.");
    }
    let (python, trouble) = python.transpose().map_or_else(|why| (None, Some(why)), |python| (python, None));
    let shown = runtime.block_on(demo(args.once || trouble.is_some(), python.as_deref(), &mut io::stdout()));
    match (shown, trouble) {
        (Err(words), _) => failed(&words),
        (Ok(_), Some(trouble)) => failed(&format!("no handler was shown: {trouble}")),
        (Ok(true), None) => Exit::Done,
        (Ok(false), None) => Exit::Failed,
    }
}

/// The whole demo, written to `out`, with a handler if there is a `python` for it. `true`: every step went well. The
/// error says why it could not be shown.
async fn demo(once: bool, python: Option<&Path>, out: &mut impl Write) -> Result<bool, String> {
    let tasks = Tasks::new();
    let world = World::start(&tasks, python).await?;
    let (running, proxy) = start(world.config())?;
    let egress = world.egress_config().map(start).transpose()?;
    let lines = steps::Lines::new(&world, proxy, egress.as_ref().map(|(_, proxy)| *proxy), &tasks)?;
    let shown = show(&world, proxy, &lines, out).await;
    if shown.is_ok() && !once {
        hints(&world, proxy, running.admin.as_ref(), out).map_err(|e| closed(&e))?;
        tokio::signal::ctrl_c().await.map_err(|e| format!("cannot wait for Ctrl-C: {e}"))?;
    }
    running.stop();
    if let Some((running, _)) = egress {
        running.stop();
    }
    shown
}

/// Starts the real sidecar with this configuration, and nothing of the environment.
fn start(config: PathBuf) -> Result<(Running, SocketAddr), String> {
    let options = Options { file: Some(config), ..Options::default() };
    let loaded = config::load(&options).map_err(|problems| problems.render(false))?;
    // Errors alone: what a handler's interpreter has to complain.
    let (sink, _writer) = Sink::to(io::stderr(), true, Duration::ZERO);
    let start = Start { settings: loaded.settings, sink, source: None, signals: None };
    let running = app::start(start).map_err(|e| e.to_string())?;
    let Some(&Address::Tcp(proxy)) = running.proxy.first() else {
        return Err("the sidecar does not listen where it was told to".to_owned());
    };
    Ok((running, proxy))
}

/// Walks through the steps and writes one line for each as it ends.
async fn show(
    world: &World,
    proxy: SocketAddr,
    lines: &steps::Lines,
    out: &mut impl Write,
) -> Result<bool, String> {
    let (plain, secure, mutual) = (world.plain, world.secure, world.mutual);
    let way = format!("runner -> Outrider http://{proxy} ");
    let (indent, heading) = (way.len(), steps::HEADING);
    write!(
        out,
        "Outrider demo: everything runs in this process, on 127.0.0.1.\n\n\
         {way}-> OpenAI mock http://{plain}\n{0:indent$}-> Anthropic mock https://{secure}, which issues the tokens\n\
         {0:indent$}-> the same       https://{mutual}, which demands a client certificate\n\n\
         {heading}\n",
        ""
    )
    .map_err(|e| closed(&e))?;
    let (mut count, mut well) = (0, 0);
    for step in steps::all(world.has_handler) {
        let row = lines.walk(&step, world).await?;
        writeln!(out, "{row}").and_then(|()| out.flush()).map_err(|e| closed(&e))?;
        count += 1;
        well += usize::from(row.is_well());
    }
    let verdict = if well == count { "all went well" } else { "the rest did not: see above" };
    writeln!(
        out,
        "\n{well} of {count} steps: {verdict}. The token endpoint was asked {} time(s).\n\
         time: median of {} calls, to the last byte; added: how much longer than straight to the mock.",
        world.desk.calls(),
        steps::REPEATS
    )
    .map_err(|e| closed(&e))?;
    Ok(well == count)
}

/// What to try by hand.
fn hints(world: &World, proxy: SocketAddr, admin: Option<&Address>, out: &mut impl Write) -> io::Result<()> {
    let model = mock::ANTHROPIC_MODEL;
    write!(
        out,
        r#"
Try it by hand:

  curl -N http://{proxy}/claude-oauth/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hello"}}]}}'
  curl http://{proxy}/v1/models

  from openai import OpenAI
  client = OpenAI(base_url="http://{proxy}/claude-oauth/v1", api_key="unused")
  print(client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "hello"}}]))

"#
    )?;
    if world.has_handler {
        writeln!(
            out,
            "  curl http://{proxy}/py-handler/v1/chat/completions -H 'content-type: application/json' \\\n    \
             -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n"
        )?;
    }
    if let Some(admin) = admin {
        writeln!(out, "  curl http://{admin}/integrations")?;
    }
    writeln!(out, "\nThe configuration: {}\nCtrl-C ends the demo.", world.config().display())?;
    out.flush()
}

fn failed(words: &str) -> Exit {
    // There is nobody left to tell if stderr is gone.
    _ = writeln!(io::stderr(), "outrider demo: {words}");
    Exit::Failed
}

fn closed(error: &io::Error) -> String {
    format!("cannot write the demo's output: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_step_goes_well_without_a_configuration_or_a_network() {
        let mut out = Vec::new();
        let well = demo(true, None, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(well, "{text}");
        let rows: Vec<_> =
            text.lines().filter(|line| line.contains(" 200 ") || line.contains(" 404 ")).collect();
        assert_eq!(rows.len(), 12, "{text}");
        assert!(
            rows[6].starts_with("claude-oauth") && rows[6].ends_with("  1"),
            "one token is fetched: {text}"
        );
        assert!(rows[7].ends_with("  0") && text.contains("was asked 2 time(s)"), "and used again: {text}");
        assert!(rows[9].starts_with("claude-mtls") && rows[9].contains(" 200 "), "{text}");
        for secret in [mock::KEY.1, tokens::CLIENT.1] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[tokio::test]
    async fn what_to_try_by_hand_names_the_addresses_that_are_served() {
        let world = World::start(&Tasks::new(), Some(Path::new("python3"))).await.unwrap();
        let (mut out, admin) = (Vec::new(), Address::Tcp("127.0.0.1:2".parse().unwrap()));
        hints(&world, "127.0.0.1:1".parse().unwrap(), Some(&admin), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for want in [
            "http://127.0.0.1:1/claude-oauth/v1/chat/completions",
            "http://127.0.0.1:1/py-handler/v1/chat/completions",
            "http://127.0.0.1:2/integrations",
            "config.toml",
        ] {
            assert!(text.contains(want), "{text}");
        }
    }
}
