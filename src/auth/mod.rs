//! Puts the right to enter on a request: nothing, an API key, or a cached OAuth2 bearer.
//!
//! Tokens by OAuth2 client credentials (RFC 6749 §4.4) are fetched once for all who need them, refreshed behind the
//! requests that use them, and survive reloads and outages of their endpoint. `state` says when what is done,
//! `source` does it, `fetch` and `answer` speak to the endpoint.

mod answer;
mod credential;
mod error;
mod fetch;
mod preview;
mod source;
mod state;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use moka::future::Cache;

pub use error::AuthError;
pub use preview::Put;

use crate::config::valid::{Authorization, OAuth2, SecretSource};
use crate::egress::Egress;
use crate::outbound::{Signed, Stamp, Unsigned};
use crate::tasks::{Seat, Tasks};
use crate::tls;
use credential::Credential;
use fetch::Way;
use source::{Source, States};

/// How many credentials are remembered at most.
const MAX_CREDENTIALS: u64 = 10_000;
/// How long the state of a credential that nobody has is remembered: longer than any token is believed to live.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 24 * 3600);

/// How the requests of one integration get their right to enter. Built once, used for every request.
pub enum Authorizer {
    /// Nothing is added.
    None,
    /// One header, set verbatim.
    ApiKey(ApiKey),
    /// A bearer by OAuth2 client credentials.
    OAuth2(Bearer),
}

/// A header that never changes.
pub struct ApiKey {
    header: HeaderName,
    value: HeaderValue,
}

/// A header whose value is a token.
pub struct Bearer {
    header: HeaderName,
    source: Arc<Source>,
    way: Way,
}

impl Authorizer {
    /// Puts the right to enter on `unsigned`. With a live token, a key or nothing it does not wait.
    ///
    /// # Errors
    ///
    /// There is no live token and none can be had: at once while the token endpoint rests after a failure, else
    /// within the limit of one token request.
    pub async fn sign(&self, seat: Seat, mut unsigned: Unsigned) -> Result<Signed, AuthError> {
        let stamp = match self {
            Self::None => Stamp(0),
            Self::ApiKey(key) => {
                unsigned.headers.insert(key.header.clone(), key.value.clone());
                Stamp(0)
            }
            Self::OAuth2(bearer) => {
                let put = |token: &state::Token| {
                    unsigned.headers.insert(bearer.header.clone(), token.value.clone());
                    token.stamp
                };
                bearer.source.with_token(seat, &bearer.way, put).await?
            }
        };
        Ok(unsigned.seal(stamp))
    }

    /// The upstream answered 401 to a request with `stamp`. `true`: there is another token, send once more; `false`:
    /// pass the 401 on. A token is replaced only if it is still the one in use, and at most every 30 s.
    ///
    /// # Errors
    ///
    /// The token is dropped and no other can be had.
    pub async fn refused(&self, seat: Seat, stamp: Stamp) -> Result<bool, AuthError> {
        match self {
            Self::OAuth2(bearer) => bearer.source.refused(seat, &bearer.way, stamp).await,
            Self::None | Self::ApiKey(_) => Ok(false),
        }
    }

    /// What there is to know, without a secret. Integrations with the same credential share its numbers.
    pub fn status(&self) -> AuthStatus {
        match self {
            Self::None => AuthStatus { kind: "none", oauth2: None },
            Self::ApiKey(_) => AuthStatus { kind: "api_key", oauth2: None },
            Self::OAuth2(bearer) => {
                AuthStatus { kind: "oauth2", oauth2: Some(TokenStatus::of(&bearer.source)) }
            }
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status().kind)
    }
}

/// The state of an authorization, for people and metrics.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AuthStatus {
    /// `none`, `api_key` or `oauth2`.
    pub kind: &'static str,
    /// What is known of the token.
    #[serde(flatten)]
    pub oauth2: Option<TokenStatus>,
}

/// What is known of one credential's token. Numbers count from the start of the process or of the credential's use.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TokenStatus {
    /// The token endpoint's host.
    pub token_host: String,
    /// Whether there is a token that may be used.
    pub token_live: bool,
    /// How long ago it was asked for.
    pub token_age_seconds: Option<f64>,
    /// When it ends.
    pub token_ends_in_seconds: Option<f64>,
    /// Token requests that were made.
    pub token_fetches: u64,
    /// Those of them that gave no token.
    pub token_failures: u64,
    /// Requests that wait for a token now.
    pub token_waiting: usize,
    /// What the last failure said; it stays after a success.
    pub token_last_error: Option<String>,
}

impl TokenStatus {
    fn of(source: &Source) -> Self {
        let (held, numbers) = (source.held(), source.numbers());
        Self {
            token_host: source.host().to_string(),
            token_live: held.is_some(),
            token_age_seconds: held.map(|(age, _)| age.as_secs_f64()),
            token_ends_in_seconds: held.map(|(_, left)| left.as_secs_f64()),
            token_fetches: numbers.fetches.load(Ordering::Relaxed),
            token_failures: numbers.failures.load(Ordering::Relaxed),
            token_waiting: numbers.waiting.load(Ordering::Relaxed),
            token_last_error: numbers.last_error.load().as_deref().cloned(),
        }
    }
}

/// The tokens of the process, by credential. It outlives every configuration, so that a reload keeps them.
pub struct Tokens {
    tasks: Tasks,
    states: States,
    serial: Arc<AtomicU64>,
    sources: Mutex<HashMap<Arc<Credential>, Weak<Source>>>,
}

impl Tokens {
    /// No tokens yet; fetches run as tasks of `tasks`.
    pub fn new(tasks: Tasks) -> Self {
        let states = Cache::builder().max_capacity(MAX_CREDENTIALS).time_to_idle(FORGET_AFTER).build();
        Self { tasks, states, serial: Arc::default(), sources: Mutex::default() }
    }

    /// The authorizer for one integration. `egress` leads to the token endpoint, `tls` is what that egress speaks
    /// (it tells credentials apart), and `limit` bounds one whole token request. Only OAuth2 uses these three.
    ///
    /// # Errors
    ///
    /// What is wrong in the world, in words that name the key or file: a secret that cannot be read or is empty, one
    /// that cannot stand in a header, a kind that this version has not yet.
    pub fn authorizer(
        &self,
        settings: &Authorization,
        egress: Option<Arc<Egress>>,
        tls: &tls::Profile,
        limit: Duration,
    ) -> Result<Authorizer, String> {
        match settings {
            Authorization::None => Ok(Authorizer::None),
            Authorization::ApiKey { header, value } => api_key(header, value).map(Authorizer::ApiKey),
            Authorization::OAuth2(settings) => {
                let egress = egress.ok_or("there is no way to the token endpoint")?;
                let source = self.source(settings, tls)?;
                let way = Way { egress, limit };
                Ok(Authorizer::OAuth2(Bearer { header: settings.header.clone(), source, way }))
            }
            Authorization::Later(word) => {
                Err(format!("authentication_type {word} is not in this version yet"))
            }
        }
    }

    /// The one source of a credential, for as long as an integration has it.
    fn source(&self, settings: &OAuth2, tls: &tls::Profile) -> Result<Arc<Source>, String> {
        let credential = Arc::new(Credential::read(settings, tls)?);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = sources.get(&credential).and_then(Weak::upgrade) {
            return Ok(source);
        }
        let (states, serial) = (self.states.clone(), Arc::clone(&self.serial));
        let source = Arc::new(Source::new(Arc::clone(&credential), states, serial, self.tasks.clone()));
        sources.insert(credential, Arc::downgrade(&source));
        Ok(source)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("credentials", &self.states.entry_count()).finish_non_exhaustive()
    }
}

fn api_key(header: &HeaderName, value: &SecretSource) -> Result<ApiKey, String> {
    let secret = value.load().map_err(|why| format!("api_key_value: {why}"))?;
    let mut value = HeaderValue::from_bytes(secret.expose().as_bytes())
        .map_err(|_| "api_key_value holds characters that cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(ApiKey { header: header.clone(), value })
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::testing::*;
    use super::*;
    use crate::secret::Secret;

    fn key(value: &str) -> Result<Authorizer, String> {
        let value = SecretSource::Inline(Secret::new(value));
        let settings = Authorization::ApiKey { header: HeaderName::from_static("x-key"), value };
        Tokens::new(Tasks::new()).authorizer(&settings, None, &tls::Profile::default(), LIMIT)
    }

    #[tokio::test]
    async fn an_api_key_is_set_verbatim_over_what_was_there_and_is_sensitive() {
        let authorizer = key("Bearer  sk-é 1").unwrap();
        let mut unsigned = request();
        unsigned.headers.append("x-key", HeaderValue::from_static("the caller's"));
        unsigned.headers.append("x-key", HeaderValue::from_static("own"));
        let signed = authorizer.sign(SEAT, unsigned).await.unwrap();
        let values: Vec<_> = signed.headers.get_all("x-key").iter().collect();
        assert_eq!((values.len(), values[0].as_bytes()), (1, "Bearer  sk-é 1".as_bytes()));
        assert!(values[0].is_sensitive());
        assert_eq!(authorizer.refused(SEAT, signed.stamp).await, Ok(false), "a key cannot be renewed");
        assert_eq!(serde_json::to_string(&authorizer.status()).unwrap(), "{\"kind\":\"api_key\"}");
    }

    #[test]
    fn a_key_that_is_empty_or_splits_the_header_is_refused_without_showing_it() {
        for bad in ["", "sk-1\r\nx-smug: 1", "sk-1\n", "sk-1\0"] {
            let words = key(bad).err().unwrap();
            assert!(words.starts_with("api_key_value") && !words.contains("sk-1"), "{words}");
        }
    }

    #[tokio::test]
    async fn nothing_is_added_where_no_authorization_is_set() {
        let authorizer = Tokens::new(Tasks::new())
            .authorizer(&Authorization::None, None, &tls::Profile::default(), LIMIT)
            .unwrap();
        let signed = authorizer.sign(SEAT, request()).await.unwrap();
        assert!(signed.headers.is_empty() && signed.stamp == Stamp(0));
        assert_eq!(authorizer.refused(SEAT, Stamp(0)).await, Ok(false));
    }

    #[test]
    fn what_this_version_has_not_yet_is_said_by_its_word() {
        let later = Authorization::Later("aws_sigv4");
        let words = Tokens::new(Tasks::new()).authorizer(&later, None, &tls::Profile::default(), LIMIT).err();
        assert!(words.unwrap().contains("aws_sigv4"));
    }

    #[tokio::test]
    async fn two_integrations_with_one_credential_share_one_token() {
        let (endpoint, tokens) = (Endpoint::granting().await, Tokens::new(Tasks::new()));
        let one = endpoint.authorizer(&tokens);
        let header = HeaderName::from_static("x-token");
        let settings = OAuth2 { header: header.clone(), ..endpoint.settings() };
        let two = authorizer(&tokens, &settings, endpoint.egress(), LIMIT);
        let (one, two) = tokio::join!(sign_as(&one, &AUTHORIZATION), sign_as(&two, &header));
        let value = one.unwrap().0.unwrap();
        assert!(value == "Bearer tok-1" && value.is_sensitive());
        assert_eq!(two.unwrap().0.unwrap(), value);
        assert_eq!(endpoint.calls(), 1);
        let other = OAuth2 { scope: Some("more".into()), ..endpoint.settings() };
        let other = authorizer(&tokens, &other, endpoint.egress(), LIMIT);
        assert_eq!(sign(&other).await.unwrap().0, "Bearer tok-2");
    }

    #[tokio::test]
    async fn a_token_outlives_the_integration_that_fetched_it() {
        let (endpoint, tokens) = (Endpoint::granting().await, Tokens::new(Tasks::new()));
        let first = sign(&endpoint.authorizer(&tokens)).await.unwrap();
        let built_anew = endpoint.authorizer(&tokens);
        assert_eq!(sign(&built_anew).await.unwrap(), first);
        assert_eq!(sign(&built_anew).await.unwrap(), first);
        assert_eq!(endpoint.calls(), 1);
        assert!(built_anew.status().oauth2.unwrap().token_live);
    }

    #[tokio::test]
    async fn another_prefix_is_put_before_the_token() {
        let (endpoint, tokens) = (Endpoint::granting().await, Tokens::new(Tasks::new()));
        let settings = OAuth2 { prefix: String::new(), ..endpoint.settings() };
        let bare = authorizer(&tokens, &settings, endpoint.egress(), LIMIT);
        assert_eq!(sign(&bare).await.unwrap().0, "tok-1");
    }

    #[test]
    fn an_empty_secret_or_id_fails_the_integration() {
        let (id, secret) = (settings("http://idp.test/"), settings("http://idp.test/"));
        let id = OAuth2 { client_id: String::new(), ..id };
        let secret = OAuth2 { client_secret: SecretSource::Inline(Secret::new("")), ..secret };
        for (settings, want) in [(id, "client_id"), (secret, "client_secret")] {
            let words = Credential::read(&settings, &tls::Profile::default()).err().unwrap();
            assert!(words.contains(want), "{words}");
        }
    }
}
