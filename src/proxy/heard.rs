//! What is kept of an upstream's head: when it came, for the log, also where the answer turns out to be a failure.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use crate::egress::Sent;

/// When an upstream's head came, and what connecting took if that was needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) connected: Option<Duration>,
}

impl Heard {
    /// That of what was sent.
    pub(super) fn of(sent: &Sent) -> Self {
        Self { at: sent.heard, connected: sent.connected }
    }
}

/// A failure that came after the upstream's head.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) failure: Failure,
    pub(super) heard: Heard,
}

impl Failure {
    /// The same, with what is kept of the head of what was sent.
    pub(super) fn after(self, sent: &Sent) -> Self {
        Self::Answered(Box::new(Answered { failure: self, heard: Heard::of(sent) }))
    }
}
