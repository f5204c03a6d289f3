//! One token request: out through the egress, its answer read within its limits of time and size.

use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::answer::{self, Granted, Trouble};
use super::credential::Credential;
use crate::outbound::Stamp;
use crate::tasks::Seat;

/// The longest answer of a token endpoint that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// How a caller reaches the token endpoint, and how long it gives it.
#[derive(Clone)]
pub(super) struct Way {
    /// Towards the token endpoint.
    pub(super) egress: Arc<Egress>,
    /// The whole token request: connecting, the head and the body.
    pub(super) limit: Duration,
}

impl Way {
    /// Asks once for a token.
    pub(super) async fn ask(&self, seat: Seat, credential: &Credential) -> Result<Granted, Trouble> {
        let asked = timeout(self.limit, self.exchange(seat, credential)).await;
        asked.unwrap_or_else(|_| {
            Err(Trouble::Unavailable(format!("it did not answer within {:?} (limits.token)", self.limit)))
        })
    }

    async fn exchange(&self, seat: Seat, credential: &Credential) -> Result<Granted, Trouble> {
        let request = credential.request().seal(Stamp(0));
        let sent = self.egress.send(seat, request).await.map_err(|why| broken(credential, &why))?;
        let (head, body) = sent.response.into_parts();
        let body = whole(body, credential).await?;
        answer::read(head.status.as_u16(), &body, credential)
    }
}
