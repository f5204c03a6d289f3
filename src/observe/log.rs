//! The log: lines go into a buffer, one thread writes them to stdout, so that a full pipe never stalls a request.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload::{self, Handle};

use super::clock::Stamper;
use super::event::Json;
use crate::config::valid::{Level, LogFormat};

/// How long access lines are gathered before they are written, when none came for a while.
const GATHER: Duration = Duration::from_millis(50);
/// So many times longer where one batch follows the other: each wakes the writer thread, on a processor whose caches are
/// then another's.
const STEADY: u32 = 5;
/// So many bytes of lines are written at once, whenever they have come together: more would push what requests need
/// out of the processor's cache.
const BATCH: usize = 64 << 10;
/// Above this many bytes of lines that nobody reads, further lines are lost and counted.
const MOST: usize = 4 << 20;
/// How long the end of the process waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Where log lines go. Clones share one buffer.
#[derive(Clone, Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    json: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    ended: Condvar,
    filter: OnceLock<Handle<Targets, Registry>>,
    draw: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The writer thread sleeps until it is called.
    idle: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    lost: u64,
    urgent: bool,
    /// There are lines to be drawn.
    called: bool,
    closed: bool,
    /// The writer thread has written everything.
    ended: bool,
}

/// Ends the writer thread when dropped, after all lines have been written: whoever reads them has half a second to take
/// them, and is left then.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    patience: Duration,
}

impl Sink {
    /// A sink to stdout and the thread that empties it.
    pub fn stdout(format: LogFormat) -> (Self, Writer) {
        let terminal = io::stdout().is_terminal();
        let json = match format {
            LogFormat::Auto => !terminal,
            LogFormat::Json => true,
            LogFormat::Text => false,
        };
        let (sink, writer) = Self::to(io::stdout(), json, if terminal { Duration::ZERO } else { GATHER });
        (sink, writer)
    }

    /// A sink to `output`, which is written to by a thread of its own.
    pub fn to(output: impl Write + Send + 'static, json: bool, gather: Duration) -> (Self, Writer) {
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        // Not joined: it may be stuck in a write for ever.
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || mine.write_to(output, json, gather))
            .expect("a thread can be started before anything else runs");
        (Self { shared: Arc::clone(&shared), json }, Writer { shared, patience: LAST_LINES })
    }

    /// Whether lines are JSON objects.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Appends what `write` writes, one or more whole lines; `urgent` has it written without gathering.
    pub fn append(&self, urgent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.shared.lock();
        if state.lines.len() > MOST {
            state.lost += 1;
            return;
        }
        let was_empty = state.lines.is_empty();
        write(&mut state.lines);
        let due = urgent || state.lines.len() >= BATCH;
        let call = (due && !state.urgent) || (was_empty && self.shared.idle.load(Ordering::SeqCst));
        state.urgent |= due;
        drop(state);
        if call {
            self.shared.wake.notify_one();
        }
    }

    /// Has `draw` append what there is to be said, each time before lines are written. A second one is not heard.
    pub fn draw_from(&self, draw: impl Fn() + Send + Sync + 'static) {
        drop(self.shared.draw.set(Box::new(draw)));
    }

    /// There is something to draw: it is drawn within the time that lines are gathered for.
    pub fn call(&self) {
        if self.shared.idle.load(Ordering::SeqCst) {
            self.shared.lock().called = true;
            self.shared.wake.notify_one();
        }
    }

    /// Sends `tracing` events at or above `level` here, for the whole process. A second call changes nothing.
    pub fn install(&self, level: Level) {
        let (filter, handle) = reload::Layer::new(filter(level));
        let fmt = tracing_subscriber::fmt::layer().with_writer(self.clone()).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        let installed = if self.json {
            registry.with(fmt.event_format(Json::default())).try_init()
        } else {
            registry.with(fmt.with_ansi(false)).try_init()
        };
        match installed {
            Ok(()) => drop(self.shared.filter.set(handle)),
            Err(_) => tracing::debug!("a log was installed before"),
        }
    }

    /// Changes the least level that comes here, if this is the process' log.
    pub fn set_level(&self, level: Level) {
        if let Some(handle) = self.shared.filter.get() {
            // It fails only if the log is gone, and then nobody misses it.
            let _ = handle.reload(filter(level));
        }
    }
}

fn filter(level: Level) -> Targets {
    let ours = match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Libraries may put header values into their own debug lines: only their warnings come through.
    Targets::new().with_target("outrider", ours).with_default(ours.min(LevelFilter::WARN))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut output: impl Write, json: bool, gather: Duration) {
        let _ended = Ended(self);
        let mut lines = Vec::new();
        let mut pause = gather;
        loop {
            // As long as lines come it looks for them by itself: to be called costs whoever calls.
            if !gather.is_zero() {
                drop(self.wake.wait_timeout_while(self.lock(), pause, |s| !s.urgent && !s.closed));
            }
            self.draw();
            let closed = {
                let mut state = self.lock();
                if state.lines.is_empty() && !state.closed {
                    drop(state);
                    self.sleep();
                    pause = gather;
                    continue;
                }
                state.urgent = false;
                std::mem::swap(&mut state.lines, &mut lines);
                if state.lost > 0 {
                    let lost = std::mem::take(&mut state.lost);
                    tell_lost(lost, json, &mut lines);
                }
                state.closed && state.lines.is_empty()
            };
            // A closed stdout must not end the proxy: the lines are lost, the requests are not.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            lines.clear();
            lines.shrink_to(2 * BATCH);
            if closed {
                return;
            }
            pause = gather.saturating_mul(STEADY);
        }
    }
}

impl Shared {
    fn draw(&self) {
        if let Some(draw) = self.draw.get() {
            draw();
        }
    }

    /// Comes back when there is something to write or to draw.
    fn sleep(&self) {
        self.idle.store(true, Ordering::SeqCst);
        // Who came before is found now, and who comes later calls.
        self.draw();
        let is_quiet = |state: &mut State| state.lines.is_empty() && !state.called && !state.closed;
        let state = self.wake.wait_while(self.lock(), is_quiet);
        state.unwrap_or_else(PoisonError::into_inner).called = false;
        self.idle.store(false, Ordering::SeqCst);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

fn tell_lost(lost: u64, json: bool, lines: &mut Vec<u8>) {
    lines.extend_from_slice(if json { b"{\"timestamp\":\"" } else { b"" });
    Stamper::default().write(Duration::ZERO, lines);
    let rest = if json {
        format!("\",\"level\":\"WARN\",\"message\":\"log lines lost\",\"count\":{lost}}}\n")
    } else {
        format!("  WARN log lines lost count={lost}\n")
    };
    lines.extend_from_slice(rest.as_bytes());
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let state = self.shared.lock();
        drop(self.shared.ended.wait_timeout_while(state, self.patience, |state| !state.ended));
    }
}

/// Tells that the writer thread has ended, however it did.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.ended.notify_all();
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: self, bytes: Vec::with_capacity(256) }
    }
}

/// One `tracing` event on its way into the buffer.
#[derive(Debug)]
pub struct Line<'a> {
    sink: &'a Sink,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.sink.append(true, |lines| lines.extend_from_slice(&bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A writer whose bytes the test reads after the writer thread has ended.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<u8>>>);

    impl Write for Shelf {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer that takes nothing before the other end of its channel is dropped.
    struct Stuck(mpsc::Receiver<()>, Shelf);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_the_writer_ends() {
        let shelf = Shelf::default();
        let (sink, mut writer) = Sink::to(shelf.clone(), true, Duration::from_secs(3600));
        writer.patience = Duration::MAX;
        for n in 0..100 {
            sink.append(false, |out| writeln!(out, "line {n}").unwrap());
        }
        drop(writer);
        let text = String::from_utf8(shelf.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert!(text.ends_with("line 99\n"));
    }

    #[test]
    fn what_is_to_be_drawn_is_drawn_at_each_call_whatever_the_writer_does_then() {
        let (told, drawn) = mpsc::channel();
        let pending = Arc::new(AtomicBool::new(false));
        let (sink, _writer) = Sink::to(Shelf::default(), true, Duration::ZERO);
        let mine = Arc::clone(&pending);
        sink.draw_from(move || {
            if mine.swap(false, Ordering::SeqCst) {
                told.send(()).unwrap();
            }
        });
        for n in 0..1000 {
            pending.store(true, Ordering::SeqCst);
            sink.call();
            if n % 3 == 0 {
                sink.append(n % 2 == 0, |out| writeln!(out, "line {n}").unwrap());
            }
            drawn.recv_timeout(Duration::from_secs(20)).expect("it was called and did not draw");
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_does_not_hold_up_the_end() {
        let (held, release) = mpsc::channel();
        let (sink, writer) = Sink::to(Stuck(release, Shelf::default()), true, Duration::ZERO);
        sink.append(true, |out| out.extend_from_slice(b"line\n"));
        // Comes back while the thread is still held.
        drop(writer);
        drop(held);
    }

    #[test]
    fn lines_that_nobody_reads_are_counted_rather_than_kept() {
        let (held, release) = mpsc::channel();
        let shelf = Shelf::default();
        let (sink, mut writer) = Sink::to(Stuck(release, shelf.clone()), true, Duration::ZERO);
        writer.patience = Duration::MAX;
        for _ in 0..10 {
            sink.append(true, |out| out.resize(out.len() + MOST / 2, b'x'));
        }
        drop(held);
        drop(writer);
        let text = String::from_utf8(shelf.0.lock().unwrap().clone()).unwrap();
        let told = text.lines().find(|line| line.contains("log lines lost")).expect("it says so");
        let told: serde_json::Value =
            serde_json::from_str(told.trim_start_matches('x')).expect("it is a line of JSON like all others");
        assert!(
            told["count"].as_u64().is_some_and(|count| count > 0) && told["timestamp"].is_string(),
            "{told}"
        );
        assert!(text.len() < 10 * MOST / 2);
    }
}
