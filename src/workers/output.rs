//! What workers print, line by line in our log: bounded in length and in number, tracebacks in one piece.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::{SetOnce, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::handed::Handed;
use super::process::Ending;

/// The most of a line, or of a traceback, that is logged.
const MOST: usize = 16 << 10;
/// What stands behind what was cut.
const CUT: &str = " … (cut)";
/// What stands before a traceback's lines.
const INDENT: &str = "\n    ";
/// So many lines may come at once, and so many a second after that.
const BURST: f64 = 200.0;
const RATE: f64 = 50.0;
/// How long a traceback's next line is waited for.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what a dead process has printed is still read: others may hold its pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Whose words they are.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// `None` is an interpreter that no integration has yet.
    pub(super) integration: Option<Arc<str>>,
    pub(super) pid: Arc<SetOnce<u32>>,
    /// Whether it is stderr.
    pub(super) is_error: bool,
    /// What must not be logged; nothing was handed to an interpreter.
    pub(super) handed: Option<Arc<Handed>>,
}

/// Logs what comes out of `pipe` to its end, or until shortly after the process has ended.
pub(super) async fn follow(
    mut pipe: pipe::Receiver,
    label: Label,
    mut ended: watch::Receiver<Option<Ending>>,
) {
    let mut scribe = Scribe { label, lines: Lines::default(), budget: Budget::new(Instant::now()) };
    let over = async {
        Ending::of(&mut ended).await;
        sleep(LAST_WORDS).await;
    };
    tokio::select! {
        () = scribe.read(&mut pipe) => {}
        () = over => {}
    }
    scribe.finish();
}

struct Scribe {
    label: Label,
    lines: Lines,
    budget: Budget,
}

impl Scribe {
    async fn read(&mut self, pipe: &mut pipe::Receiver) {
        let mut block = [0; 8 << 10];
        loop {
            let pause = Instant::now() + PAUSE;
            tokio::select! {
                ready = pipe.readable() => if ready.is_err() { return },
                () = sleep_until(pause), if self.lines.is_in_block() => self.lines.end_block(),
            }
            match pipe.try_read(&mut block) {
                Ok(0) => return,
                Ok(length) => self.lines.push(&block[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            self.write();
            // A process that prints without end must not keep this thread from the others.
            tokio::task::yield_now().await;
        }
    }

    fn finish(mut self) {
        self.lines.end();
        self.write();
        self.tell_lost(self.budget.lost);
    }

    fn write(&mut self) {
        for line in std::mem::take(&mut self.lines.done) {
            let lost = self.budget.lost;
            if self.budget.take(Instant::now()) {
                self.tell_lost(lost);
                self.label.log(&line);
            }
        }
    }

    fn tell_lost(&self, lost: u64) {
        if lost > 0 {
            self.label.log(&format!("{lost} lines were left out: they came faster than {RATE} a second"));
        }
    }
}

impl Label {
    fn log(&self, line: &str) {
        let (pid, integration) = (self.pid.get().copied(), self.integration.as_deref());
        if !self.is_error && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let line = self.clean(line);
        match (self.is_error, integration) {
            (true, Some(integration)) => tracing::warn!(integration, pid, "{line}"),
            (false, Some(integration)) => tracing::debug!(integration, pid, "{line}"),
            (true, None) => tracing::warn!(pid, "python: {line}"),
            (false, None) => tracing::debug!(pid, "python: {line}"),
        }
    }

    /// Without what must not be logged. Where a line was cut its end may be the beginning of that.
    fn clean<'l>(&self, line: &'l str) -> Cow<'l, str> {
        let Some(handed) = &self.handed else { return Cow::Borrowed(line) };
        match line.strip_suffix(CUT) {
            Some(begun) => Cow::Owned(format!("{}{CUT}", handed.clean(begun))),
            None => handed.clean(line),
        }
    }
}

/// Bytes become lines, and the lines of one traceback one.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
    /// The end of an overlong line is still to come, and is left out.
    cut: bool,
    block: Option<Block>,
    done: Vec<String>,
}

#[derive(Debug)]
struct Block {
    text: String,
    /// `Traceback (most recent call last):` ends with the exception, which is not indented.
    has_end: bool,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = MOST - self.partial.len();
            self.cut |= text.len() > room;
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
    }

    fn end(&mut self) {
        if !self.partial.is_empty() {
            self.end_line();
        }
        self.end_block();
    }

    fn end_line(&mut self) {
        let raw = std::mem::take(&mut self.partial);
        let mut line = clean(&String::from_utf8_lossy(&raw)).into_owned();
        if std::mem::take(&mut self.cut) {
            line.push_str(CUT);
        }
        let is_indented = line.starts_with([' ', '\t']);
        if let Some(block) = &mut self.block
            && (is_indented || block.has_end)
            && block.text.len() + INDENT.len() + line.len() <= MOST
        {
            // Indented, so that in a log of plain text no line of it passes for one of ours.
            block.text.push_str(INDENT);
            block.text.push_str(&line);
            if !is_indented {
                self.end_block();
            }
            return;
        }
        self.end_block();
        if line.ends_with("(most recent call last):") || line.ends_with("(most recent call first):") {
            self.block = Some(Block { has_end: line.ends_with("last):"), text: line });
        } else if !line.trim().is_empty() {
            self.done.push(line);
        }
    }

    fn end_block(&mut self) {
        self.done.extend(self.block.take().map(|block| block.text));
    }

    fn is_in_block(&self) -> bool {
        self.block.is_some()
    }
}

/// Without what could move a terminal's cursor or pass for the end of a line.
fn clean(line: &str) -> Cow<'_, str> {
    let line = line.trim_end();
    if !line.contains(|c: char| c.is_control() && c != '\t') {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        if c.is_control() && c != '\t' {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// How many lines may still be logged.
#[derive(Debug)]
struct Budget {
    tokens: f64,
    at: Instant,
    lost: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { tokens: BURST, at: now, lost: 0 }
    }

    /// Whether one more may be logged now; one that may not is counted, and one that may ends the count.
    fn take(&mut self, now: Instant) -> bool {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        // After a loss it waits for more than one: else every other line would speak of lost ones.
        let needs = if self.lost > 0 { RATE } else { 1.0 };
        if self.tokens < needs {
            self.lost += 1;
            return false;
        }
        self.tokens -= 1.0;
        self.lost = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    /// What is logged, as text.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shelf {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_a_worker_prints_is_logged_as_its_own_even_if_others_hold_its_pipe_open() {
        let shelf = Shelf::default();
        let log = shelf.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        let _installed = tracing::subscriber::set_default(subscriber);
        let (ours, mut theirs) = io::pipe().unwrap();
        let _held_by_a_child = theirs.try_clone().unwrap();
        let pid = Arc::new(SetOnce::from(77));
        let label = Label { integration: Some("acme".into()), pid, is_error: true, handed: None };
        let (tell, ended) = watch::channel(None);
        theirs
            .write_all(b"Traceback (most recent call last):\n  File \"h.py\"\nValueError: no\nlast words")
            .unwrap();
        tell.send_replace(Some(Ending::Exited(1)));
        follow(pipe::Receiver::from_owned_fd(ours.into()).unwrap(), label, ended).await;
        let text = String::from_utf8(shelf.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("WARN") && lines[0].contains("Traceback"), "{text}");
        assert_eq!(lines[1..3], ["      File \"h.py\"", "    ValueError: no integration=\"acme\" pid=77"]);
        assert!(lines[3].ends_with("last words integration=\"acme\" pid=77"), "{text}");
    }

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        pieces.iter().for_each(|piece| lines.push(piece));
        lines.end();
        lines.done
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_made_harmless() {
        assert_eq!(
            lines(&[b"on", b"e\ntwo\r\n\n", b"th\x1b[31mree\xff"]),
            ["one", "two", "th\\u{1b}[31mree\u{fffd}"]
        );
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn an_endless_line_is_cut_and_costs_no_more_than_its_bound() {
        let mut one = Lines::default();
        for _ in 0..100 {
            one.push(&[b'x'; 4096]);
            assert!(one.partial.len() <= MOST);
        }
        one.push(b"\nnext\n");
        assert_eq!(one.done[0].len(), MOST + CUT.len());
        assert_eq!(one.done[1], "next");
    }

    #[test]
    fn a_traceback_is_one_entry_and_what_follows_another() {
        let text = b"before\nTraceback (most recent call last):\n  File \"h.py\", line 1\n    boom()\nValueError: no\nafter\n";
        let expected = "Traceback (most recent call last):\n      File \"h.py\", line 1\n        boom()\n    ValueError: no";
        assert_eq!(lines(&[text]), ["before", expected, "after"]);
        let stacks = b"Thread 0x1 (most recent call first):\n  File \"a\"\n  File \"b\"\nThread 0x2 (most recent call first):\n  File \"c\"\n";
        let all = lines(&[stacks]);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].ends_with("File \"b\"") && all[1].ends_with("File \"c\""));
    }

    #[test]
    fn a_traceback_without_end_is_bounded() {
        let mut lines = Lines::default();
        lines.push(b"Traceback (most recent call last):\n");
        for _ in 0..10_000 {
            lines.push(b"  File \"h.py\", line 1\n");
        }
        lines.end();
        assert!(lines.done.iter().all(|entry| entry.len() <= MOST));
    }

    #[test]
    fn more_lines_than_the_budget_are_counted_and_then_told() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let taken = (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!((taken, budget.lost), (200, 800));
        assert!(!budget.take(now + Duration::from_millis(500)));
        assert_eq!(budget.lost, 801);
        assert!(budget.take(now + Duration::from_secs(1)));
        assert_eq!(budget.lost, 0);
    }
}
