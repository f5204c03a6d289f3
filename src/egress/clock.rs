//! The one limit over all steps of connecting.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::error::SendError;

/// The one limit over all steps of connecting; it runs from the moment it is made.
pub(super) struct Clock<'a> {
    shown: &'a str,
    limit: Duration,
    end: Instant,
}

impl<'a> Clock<'a> {
    /// Over a connection to `shown`.
    pub(super) fn start(shown: &'a str, limit: Duration) -> Self {
        Self { shown, limit, end: Instant::now() + limit }
    }

    /// What comes of `work`, unless the limit is reached before; `step` names it in words.
    pub(super) async fn bound<T>(
        &self,
        step: impl Display,
        work: impl Future<Output = T>,
    ) -> Result<T, SendError> {
        tokio::time::timeout_at(self.end, work).await.map_err(|_| {
            let Self { shown, limit, .. } = self;
            SendError::ConnectTimeout(format!(
                "no connection to {shown} within {limit:?} (connect): {step} took too long"
            ))
        })
    }
}
