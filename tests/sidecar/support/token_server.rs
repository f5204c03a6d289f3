//! A token server on a real socket: it issues `token-1`, `token-2`, … or answers as its script says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::upstream::{Request, Turn, Upstream};

/// A fake identity provider.
pub(crate) struct TokenServer(Upstream);

impl TokenServer {
    /// Issues a new token at each call, each good for an hour.
    pub(crate) fn issuing() -> Self {
        Self::start(|turn, number| issue(turn, number, 3600))
    }

    /// Runs `script` with each call and its number, counted from 1.
    pub(crate) fn start(script: impl Fn(&mut Turn, usize) + Send + Sync + 'static) -> Self {
        let calls = AtomicUsize::new(0);
        Self(Upstream::start(move |turn| script(turn, calls.fetch_add(1, Ordering::SeqCst) + 1)))
    }

    /// Its token endpoint.
    pub(crate) fn url(&self) -> String {
        self.0.url("/oauth2/token")
    }

    /// How many calls have come so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.count()
    }

    /// The first `count` calls, once they are there.
    pub(crate) fn requests(&self, count: usize) -> Vec<Arc<Request>> {
        self.0.requests(count)
    }
}

/// Answers with the token `token-NUMBER`, good for `seconds`.
pub(crate) fn issue(turn: &mut Turn, number: usize, seconds: u64) {
    let body =
        json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": seconds});
    turn.answer(200, body.to_string());
}
