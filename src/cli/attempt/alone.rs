//! The sidecar that serves one attempt: built and started as any other from the same settings, but with this one
//! integration, and on a free port of the loopback interface where it takes no caller but us.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::app::{self, Running, Start};
use crate::config::valid::{Handlers, Integration, Level, Listen, SecretSource, Settings};
use crate::integration::Entry;
use crate::observe::Sink;
use crate::observe::log::Writer;
use crate::secret::Secret;
use crate::server::listen::Address;
use crate::tls;

/// How long the line of the access log may take, once the answer is there.
const LINE: Duration = Duration::from_secs(5);

/// A running sidecar with one integration.
pub(super) struct Alone {
    running: Running,
    /// Where it listens.
    pub(super) to: SocketAddr,
    /// What it wants to be shown.
    pub(super) bearer: HeaderValue,
    lines: UnboundedReceiver<Vec<u8>>,
    /// They write what is logged; dropped last.
    _writers: (Writer, Option<Writer>),
}

/// What the access line told of the request: in our own words and codes.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The code, where it failed.
    pub(super) code: Option<String>,
    /// The cause for the log alone.
    pub(super) cause: Option<String>,
    /// Milliseconds: setting up a connection, if one was; until the upstream's head; all of it.
    pub(super) times: [Option<f64>; 3],
}

impl Alone {
    /// Starts it. Blocks: it reads the files of secrets and certificates.
    pub(super) fn start(settings: &Settings, integration: &Integration) -> Result<Self, String> {
        let key = caller_key()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|e| e.to_string())?;
        let (ear, lines) = unbounded_channel();
        let (sink, writer) = Sink::to(Ear(ear), true, Duration::ZERO);
        let log = integration.handler.is_some().then(|| handlers_log(settings.log.level));
        let start = Start {
            settings: private(settings.clone(), integration, &key),
            sink,
            source: None,
            signals: None,
        };
        let running = app::start(start).map_err(|error| error.to_string())?;
        let Some(&Address::Tcp(to)) = running.proxy.first() else {
            return Err("it cannot be told where this listens".to_owned());
        };
        Ok(Self { running, to, bearer, lines, _writers: (writer, log) })
    }

    /// The integration, as it was built.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        self.running.registry()?.entries().first().cloned()
    }

    /// What was logged of the request, which must have been answered.
    pub(super) async fn record(&mut self) -> Record {
        let line = timeout(LINE, self.lines.recv()).await.ok().flatten().unwrap_or_default();
        let line: Value = serde_json::from_slice(&line).unwrap_or_default();
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        let times = ["connect_ms", "first_byte_ms", "total_ms"].map(|key| line[key].as_f64());
        Record { code: text("code"), cause: text("cause"), times }
    }

    /// Ends it at once.
    pub(super) fn stop(self) {
        self.running.stop();
    }
}

/// The same settings for one integration and one caller, who knows `key`.
fn private(mut settings: Settings, integration: &Integration, key: &str) -> Settings {
    settings.server.listen = vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))];
    settings.server.tls = None;
    settings.server.api_key = Some(SecretSource::Inline(Secret::new(key)));
    settings.server.strict_start = false;
    settings.server.workers = 1;
    settings.admin.listen = None;
    settings.admin.metrics_listen = None;
    settings.log.access = true;
    let mut one = integration.clone();
    if let Some(handler) = &mut one.handler {
        let common = Handlers::clone(&handler.common);
        handler.common = Arc::new(Handlers { workers: 1, ..common });
        settings.handlers = Arc::clone(&handler.common);
    }
    settings.integrations = [(one.name.clone(), one)].into();
    settings
}

/// So long that nobody guesses it while this runs.
fn caller_key() -> Result<String, String> {
    let mut bytes = [0; 32];
    let filled = tls::provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What handlers write and raise stands in the log alone: it goes to stderr, with no more of ours than warnings where
/// nobody asked for more.
fn handlers_log(level: Level) -> Writer {
    let (log, writer) = Sink::to(io::stderr(), false, Duration::ZERO);
    log.install(if level == Level::Info { Level::Warn } else { level });
    writer
}

/// Hands on what is logged.
struct Ear(UnboundedSender<Vec<u8>>);

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            // Nobody listens any more once the attempt is over.
            let _ = self.0.send(bytes.to_vec());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
