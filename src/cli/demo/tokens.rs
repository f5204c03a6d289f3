//! A mock token endpoint for `outrider demo`: OAuth2 client credentials (RFC 6749 §4.4), in the form or as Basic.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use form_urlencoded::{byte_serialize, parse};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::mock::{Answer, reply};

/// The client that may have tokens, and its secret.
pub(super) const CLIENT: (&str, &str) = ("demo-client", "demo secret: of/no&value");

/// Issues tokens and remembers them.
#[derive(Default)]
pub(super) struct TokenDesk {
    issued: Mutex<HashSet<String>>,
    calls: AtomicU64,
}

impl TokenDesk {
    /// Answers one token request.
    pub(super) fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let refused = |status, error: &str| reply(status, &json!({"error": error}));
        if field(body, "grant_type").as_deref() != Some("client_credentials") {
            return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type");
        }
        if !is_our_client(headers, body) {
            return refused(StatusCode::UNAUTHORIZED, "invalid_client");
        }
        let token = self.issue();
        reply(StatusCode::OK, &json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
    }

    /// A token without a request for it.
    pub(super) fn issue(&self) -> String {
        let token = format!("demo-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone());
        token
    }

    /// Whether `token` was issued here.
    pub(super) fn has_issued(&self, token: Option<&str>) -> bool {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        token.is_some_and(|token| issued.contains(token))
    }

    /// How many token requests came in.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

fn is_our_client(headers: &HeaderMap, body: &[u8]) -> bool {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let basic = BASE64_STANDARD.encode(format!("{}:{}", encode(CLIENT.0), encode(CLIENT.1)));
    match headers.get(AUTHORIZATION) {
        Some(given) => given.as_bytes() == format!("Basic {basic}").as_bytes(),
        None => {
            field(body, "client_id").as_deref() == Some(CLIENT.0)
                && field(body, "client_secret").as_deref() == Some(CLIENT.1)
        }
    }
}

fn field(body: &[u8], name: &str) -> Option<String> {
    parse(body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(desk: &TokenDesk, authorization: Option<&str>, body: &str) -> u16 {
        let headers = authorization.map(|value| (AUTHORIZATION, value.parse().unwrap()));
        desk.answer(&headers.into_iter().collect(), body.as_bytes()).status().as_u16()
    }

    #[test]
    fn only_our_client_gets_tokens_by_form_or_by_basic() {
        let desk = TokenDesk::default();
        let grant = "grant_type=client_credentials";
        let form = "client_id=demo-client&client_secret=demo+secret%3A+of%2Fno%26value";
        let basic = "Basic ZGVtby1jbGllbnQ6ZGVtbytzZWNyZXQlM0Erb2YlMkZubyUyNnZhbHVl";
        assert_eq!(status(&desk, None, &format!("{grant}&{form}")), 200);
        assert_eq!(status(&desk, Some(basic), grant), 200);
        assert_eq!(status(&desk, None, grant), 401);
        assert_eq!(status(&desk, None, &format!("{grant}&{form}x")), 401);
        assert_eq!(status(&desk, Some("Basic eDp4"), grant), 401);
        assert_eq!(status(&desk, None, form), 400);
        assert_eq!(desk.calls(), 6);
        assert!(
            desk.has_issued(Some(&desk.issue()))
                && !desk.has_issued(Some("demo-1"))
                && !desk.has_issued(None)
        );
    }
}
