//! Which of its waits a client's connection is in, and since when: idle, sending a head, or being answered.
//!
//! hyper's own head timeout also runs on idle keep-alives; here the two are told apart. Nothing is armed for each
//! request: the connection's one timer wakes now and then and reads this.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::remainder::Remainder;
use crate::tasks::bell::Bell;

/// What each event of a stream touches stands first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Clock {
    /// In this turn of the connection's task the answer's body has said that it must wait.
    waits: AtomicBool,
    /// Whether the last answer may come before all of its request has been read.
    early: AtomicBool,
    /// Whether the connection's end has begun, which tells the client that nothing more comes.
    leaves: AtomicBool,
    lingers: AtomicBool,
    /// Since when the client has taken nothing of what is to be written, in milliseconds since `born`; 0 while it does.
    stuck: AtomicU64,
    /// The low two bits hold the wait, the rest the milliseconds since `born`.
    state: AtomicU64,
    born: Instant,
    /// How long the client may take nothing.
    patience: Duration,
    bell: Bell,
}

/// How long a client may take nothing of its answer: as long as with nginx (`send_timeout`). One that stalls longer
/// would hold its slot and the upstream for as long as it likes.
pub(super) const STUCK: Duration = Duration::from_secs(60);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first byte of a head.
    Idle = 0,
    /// The rest of a head.
    Head = 1,
    /// Nothing of ours: a request is being answered.
    Answer = 2,
}

impl Clock {
    /// That of a connection whose client may take nothing of its answer for `patience`; `bell` is its task's.
    pub(super) fn new(patience: Duration, bell: Bell) -> Arc<Self> {
        let (state, stuck) = (AtomicU64::new(Wait::Idle as u64), AtomicU64::new(0));
        let (early, leaves, lingers, waits) = Default::default();
        Arc::new(Self { born: Instant::now(), state, stuck, patience, early, leaves, lingers, waits, bell })
    }

    /// A bell of the connection's task.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn set(&self, wait: Wait) {
        let since = match wait {
            Wait::Idle | Wait::Head => self.born.elapsed().as_millis() as u64,
            // Nobody asks since when, and reading a clock costs.
            Wait::Answer => 0,
        };
        self.state.store(since << 2 | wait as u64, Ordering::Relaxed);
    }

    /// Notes that the connection's task has its turn; whether the answer's body had to wait in the last one.
    pub(super) fn begin_turn(&self) -> bool {
        let waited = self.waits.load(Ordering::Relaxed);
        self.waits.store(false, Ordering::Relaxed);
        waited
    }

    /// Asks the answer's body what comes next, unless it has said in this turn that it must wait: it calls for another
    /// turn then. hyper asks once more behind each flush, which for a stream is once more for each event.
    pub(super) fn ask<T>(&self, body: impl FnOnce() -> Poll<T>) -> Poll<T> {
        if self.waits.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let said = body();
        self.waits.store(said.is_pending(), Ordering::Relaxed);
        said
    }

    /// Notes that the connection ends with an answer before which its request may not have been read to its end.
    pub(super) fn answers_early(&self) {
        self.early.store(true, Ordering::Relaxed);
    }

    /// Whether something may come that nobody reads, once the connection ends. hyper itself refuses a head that makes no
    /// sense, and reads no more.
    fn leaves_unread(&self) -> bool {
        self.early.load(Ordering::Relaxed) || self.is_reading_a_head()
    }

    /// Whether the client has been told that nothing more comes, or is about to be.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// Whether all has been said, and what the client still sends is thrown away.
    pub(super) fn is_lingering(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    fn get(&self) -> (Wait, Instant) {
        let state = self.state.load(Ordering::Relaxed);
        let wait = match state & 3 {
            0 => Wait::Idle,
            1 => Wait::Head,
            _ => Wait::Answer,
        };
        (wait, self.born + Duration::from_millis(state >> 2))
    }

    /// Notes whether the client took what was to be written.
    fn wrote(&self, taken: bool) {
        let stuck = self.stuck.load(Ordering::Relaxed);
        if taken && stuck != 0 {
            self.stuck.store(0, Ordering::Relaxed);
            // The end of an answer goes out after hyper is done with its body: the idle time begins behind it.
            if self.get().0 == Wait::Idle {
                self.set(Wait::Idle);
            }
        } else if !taken && stuck == 0 {
            self.stuck.store((self.born.elapsed().as_millis() as u64).max(1), Ordering::Relaxed);
        }
    }

    /// Whether something is to be written that the client has not taken yet.
    fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) != 0
    }

    /// When the present wait is over, or when to look again.
    pub(super) fn deadline(&self, header: Duration, idle: Duration) -> Instant {
        match self.get() {
            (Wait::Idle, _) if self.is_stuck() => Instant::now() + header.min(idle),
            // A head may begin at any moment of an idle time, and must then be noticed in time.
            (Wait::Idle, since) => (since + idle).min(Instant::now() + header),
            (Wait::Head, since) => since + header,
            (Wait::Answer, _) => Instant::now() + header.min(idle),
        }
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_reading_a_head(&self) -> bool {
        self.get().0 == Wait::Head
    }

    /// For how long the client may take nothing of its answer, if it has taken nothing for that long.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let stuck = self.stuck.load(Ordering::Relaxed);
        let is_over = stuck != 0 && (self.born + Duration::from_millis(stuck)).elapsed() >= self.patience;
        is_over.then_some(self.patience)
    }

    /// Whether the present wait has lasted too long, or the client has taken nothing of its answer for too long.
    pub(super) fn is_over(&self, header: Duration, idle: Duration) -> bool {
        if self.stalled().is_some() {
            return true;
        }
        match self.get() {
            (Wait::Idle, since) => !self.is_stuck() && since.elapsed() >= idle,
            (Wait::Head, since) => since.elapsed() >= header,
            (Wait::Answer, _) => false,
        }
    }
}

/// A connection whose first byte after an idle time starts the wait for a head.
#[derive(Debug)]
pub(super) struct Clocked<T> {
    stream: T,
    clock: Arc<Clock>,
    /// What comes behind the last answer; made when that is out, and kept if something has come or may.
    remainder: Option<Box<Remainder>>,
}

impl<T> Clocked<T> {
    pub(super) fn new(stream: T, clock: Arc<Clock>) -> Self {
        Self { stream, clock, remainder: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Clocked<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.clock.get().0 == Wait::Idle {
            self.clock.set(Wait::Head);
        }
        polled
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Clocked<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.clock.wrote(polled.is_ready());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, clock, remainder } = &mut *self;
        clock.leaves.store(true, Ordering::Relaxed);
        if remainder.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let begins = remainder.is_none();
        let remainder = remainder.get_or_insert_default();
        let is_over = remainder.poll(stream, cx).is_ready();
        if is_over || begins && remainder.is_empty() && !clock.leaves_unread() {
            return Poll::Ready(Ok(()));
        }
        clock.lingers.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.clock.wrote(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_head_and_an_idle_time_have_limits_of_their_own() {
        let clock = Clock::new(STUCK, Bell::default());
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Clocked::new(server, Arc::clone(&clock));
        tokio::time::advance(HEADER * 2).await;
        assert!(!clock.is_over(HEADER, IDLE));

        client.write_all(b"P").await.unwrap();
        server.read_u8().await.unwrap();
        tokio::time::advance(HEADER - Duration::from_millis(2)).await;
        // A byte now and then does not buy time.
        client.write_all(b"O").await.unwrap();
        server.read_u8().await.unwrap();
        assert!(!clock.is_over(HEADER, IDLE));
        tokio::time::advance(Duration::from_millis(3)).await;
        assert!(clock.is_over(HEADER, IDLE));

        clock.set(Wait::Answer);
        tokio::time::advance(IDLE * 10).await;
        assert!(!clock.is_over(HEADER, IDLE));
        clock.set(Wait::Idle);
        tokio::time::advance(IDLE).await;
        assert!(clock.is_over(HEADER, IDLE));
    }

    #[test]
    fn a_body_that_must_wait_is_asked_once_a_turn() {
        let clock = Clock::new(STUCK, Bell::default());
        let asked = std::cell::Cell::new(0);
        let ask = |said| {
            clock.ask(|| {
                asked.set(asked.get() + 1);
                said
            })
        };
        for turn in 1..=2 {
            assert_eq!(clock.begin_turn(), turn > 1);
            assert_eq!(ask(Poll::Ready("more")), Poll::Ready("more"));
            assert_eq!(ask(Poll::Pending), Poll::Pending);
            assert_eq!(ask(Poll::Ready("unheard")), Poll::Pending);
            assert_eq!(asked.get(), 2 * turn);
        }
    }

    #[tokio::test]
    async fn what_a_client_sent_ahead_is_read_before_a_close_which_would_be_a_reset() {
        let (mut client, server) = tokio::net::UnixStream::pair().unwrap();
        let clock = Clock::new(STUCK, Bell::default());
        let mut server = Clocked::new(server, Arc::clone(&clock));
        client.write_all(b"Pmore").await.unwrap();
        server.read_u8().await.unwrap();
        clock.set(Wait::Idle);
        let closing = async move {
            server.write_all(b"end").await.unwrap();
            server.shutdown().await.unwrap();
        };
        let reading = async move {
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.map(|_| said)
        };
        let ((), said) = tokio::join!(closing, reading);
        assert_eq!(said.unwrap(), b"end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
        let clock = Clock::new(STUCK, Bell::default());
        clock.set(Wait::Answer);
        let (mut client, server) = tokio::io::duplex(4);
        let mut server = Clocked::new(server, Arc::clone(&clock));
        tokio::time::advance(STUCK * 2).await;
        server.write_all(b"four").await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(server.write(b"more"))).is_pending());
        tokio::time::advance(STUCK - Duration::from_millis(2)).await;
        assert!(!clock.is_over(HEADER, IDLE));
        // One byte taken is a sign of life.
        client.read_u8().await.unwrap();
        server.write_all(b"m").await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(server.write(b"ore"))).is_pending());
        tokio::time::advance(STUCK - Duration::from_millis(2)).await;
        assert!(!clock.is_over(HEADER, IDLE));
        tokio::time::advance(Duration::from_millis(4)).await;
        assert!(clock.is_over(HEADER, IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_begins_when_the_client_has_taken_the_end_of_its_answer() {
        let clock = Clock::new(STUCK, Bell::default());
        let (mut client, server) = tokio::io::duplex(4);
        let mut server = Clocked::new(server, Arc::clone(&clock));
        clock.set(Wait::Idle);
        server.write_all(b"four").await.unwrap();
        for _ in 0..10 {
            assert!(futures_util::poll!(std::pin::pin!(server.write(b"m"))).is_pending());
            tokio::time::advance(STUCK / 2).await;
            assert!(!clock.is_over(HEADER, IDLE));
            assert!(clock.deadline(HEADER, IDLE) > Instant::now());
            client.read_u8().await.unwrap();
            server.write_all(b"m").await.unwrap();
        }
        tokio::time::advance(IDLE - Duration::from_millis(2)).await;
        assert!(!clock.is_over(HEADER, IDLE));
        tokio::time::advance(Duration::from_millis(4)).await;
        assert!(clock.is_over(HEADER, IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_late_in_an_idle_time_is_noticed_in_time() {
        let clock = Clock::new(STUCK, Bell::default());
        assert_eq!(clock.deadline(HEADER, IDLE), Instant::now() + HEADER);
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        assert_eq!(clock.deadline(HEADER, IDLE), Instant::now() + Duration::from_secs(1));
    }
}
