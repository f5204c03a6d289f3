//! The stop: asked for once, then over when the last answer is out or the drain has lasted long enough.

use tokio::sync::watch;

/// Brings a stop about.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Phase>);

/// Tells of a stop; clones hear of the same one.
#[derive(Clone, Debug)]
pub struct Stop {
    phase: watch::Receiver<Phase>,
    /// When it has begun for this listener.
    begins: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Over,
}

impl Stopper {
    /// Both ends.
    pub fn new() -> (Self, Stop) {
        let (stopper, stop) = watch::channel(Phase::Serving);
        (Self(stopper), Stop::new(stop))
    }

    /// Another listener for this stop.
    pub fn listen(&self) -> Stop {
        Stop::new(self.0.subscribe())
    }

    /// No new connections; idle ones are closed, answers go on to their end.
    pub fn begin(&self) {
        self.0.send_modify(|phase| *phase = (*phase).max(Phase::Draining));
    }

    /// What is still open is cut.
    pub fn end(&self) {
        self.0.send_modify(|phase| *phase = Phase::Over);
    }
}

impl Stop {
    fn new(phase: watch::Receiver<Phase>) -> Self {
        Self { phase, begins: Phase::Draining }
    }

    /// The same stop for who serves those that drain: it begins only when it is over for them.
    pub fn late(self) -> Self {
        Self { begins: Phase::Over, ..self }
    }

    /// Resolves once a stop has begun. A stopper that is gone has ended everything.
    pub async fn begun(&mut self) {
        self.reached(self.begins).await;
    }

    /// Resolves once what is still open is to be cut.
    pub async fn over(&mut self) {
        self.reached(Phase::Over).await;
    }

    /// [`Stop::begun`], or [`Stop::over`] for who has seen it begin.
    pub async fn after(&mut self, begun: bool) {
        self.reached(if begun { Phase::Over } else { self.begins }).await;
    }

    async fn reached(&mut self, phase: Phase) {
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}
