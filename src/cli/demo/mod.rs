//! `outrider demo`: shows on one screen what Outrider does, without a configuration or a network. Mock providers and
//! a token endpoint run in this process, the real sidecar stands before them, and each step is checked and timed.

mod mock;
mod steps;
mod tokens;
mod world;

use std::any::Any;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tasks::Tasks;
use world::World;

/// A sidecar that was started for the demo.
pub struct Started {
    /// Where it proxies.
    pub proxy: SocketAddr,
    /// Where its admin listener is.
    pub admin: Option<SocketAddr>,
    /// Whatever keeps it running: held to the end of the demo.
    pub running: Box<dyn Any + Send>,
}

/// Starts the mocks and, by `start`, the sidecar with the configuration file that `start` is given; walks through the
/// steps and writes what happened to `out`. Without `once` it then serves until Ctrl-C. `true`: every step went well.
///
/// # Errors
///
/// The demo itself could not run: no port, no temporary directory, a sidecar that does not start, a closed `out`.
pub async fn run<S>(once: bool, tasks: &Tasks, out: &mut (dyn Write + Send), start: S) -> Result<bool, String>
where
    S: AsyncFnOnce(PathBuf) -> Result<Started, String>,
{
    let world = World::start(tasks).await?;
    let sidecar = start(world.config()).await?;
    let well = show(&world, &sidecar, tasks, out).await?;
    if !once {
        hints(&world, &sidecar, out).map_err(closed)?;
        tokio::signal::ctrl_c().await.map_err(|e| format!("cannot wait for Ctrl-C: {e}"))?;
    }
    Ok(well)
}

/// Walks through the steps and writes one line for each as it ends.
async fn show(
    world: &World,
    sidecar: &Started,
    tasks: &Tasks,
    out: &mut (dyn Write + Send),
) -> Result<bool, String> {
    let (plain, secure) = (world.plain, world.secure);
    write!(
        out,
        "Outrider demo: everything runs in this process, on 127.0.0.1.\n\
         runner -> Outrider http://{} -> OpenAI mock http://{plain}\n                                       \
         -> Anthropic mock https://{secure}, tokens from the same\n\n{}\n",
        sidecar.proxy,
        steps::HEADING
    )
    .map_err(closed)?;
    let lines = steps::Lines::new(world, sidecar.proxy, tasks)?;
    let (mut count, mut well) = (0, 0);
    for step in steps::all() {
        let row = lines.walk(&step, world).await?;
        writeln!(out, "{row}").and_then(|()| out.flush()).map_err(closed)?;
        count += 1;
        well += usize::from(row.is_well());
    }
    let verdict = if well == count { "all went well" } else { "the rest did not: see above" };
    writeln!(
        out,
        "\n{well} of {count} steps: {verdict}. The time is the median of {} calls over one connection, to the last \
         byte;\n`added` is what the same call took longer than straight to the mock. One token served them all.",
        steps::REPEATS
    )
    .map_err(closed)?;
    Ok(well == count)
}

/// What to try by hand.
fn hints(world: &World, sidecar: &Started, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    let (proxy, config) = (sidecar.proxy, world.config());
    let model = mock::ANTHROPIC_MODEL;
    write!(
        out,
        r#"
Try it by hand:

  curl -N http://{proxy}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hello"}}]}}'
  curl http://{proxy}/v1/models

  from openai import OpenAI
  client = OpenAI(base_url="http://{proxy}/claude-oauth/v1", api_key="unused")
  print(client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "hello"}}]))

"#
    )?;
    if let Some(admin) = sidecar.admin {
        writeln!(out, "  curl http://{admin}/integrations")?;
    }
    writeln!(out, "The configuration: {}\nCtrl-C ends the demo.", config.display())?;
    out.flush()
}

fn closed(error: std::io::Error) -> String {
    format!("cannot write the demo's output: {error}")
}
