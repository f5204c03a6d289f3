//! Puts the right to enter on a request: nothing, an API key, a cached bearer, or a signature.
//!
//! What is fetched (tokens by OAuth2 client credentials, Google's tokens, AWS's temporary keys) is fetched once for all who need it,
//! refreshed behind the requests that use it, and survives reloads and outages of its endpoint. A `credential` is what
//! makes such a request: `client` OAuth2's, `aws` a web identity's, `google` an account's. `state` says when what is done, `source` does it,
//! `stock` keeps one source for each credential, `fetch` and `answer` speak to the endpoint.

mod answer;
mod aws;
mod client;
mod credential;
mod error;
mod fetch;
mod google;
mod preview;
mod source;
mod state;
mod stock;
#[cfg(test)]
mod testing;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

pub use credential::Proof;
pub use error::AuthError;
pub use preview::Put;

use crate::config::valid::{Authorization, Aws, AwsKeys, Gcp, Proxy, SecretSource};
use crate::egress::Egress;
use crate::outbound::{Signed, Stamp, Unsigned};
use crate::tasks::{Seat, Tasks};
use crate::tls;
use aws::{Keyring, Signer};
use client::Client;
use credential::{Credential, Held};
use fetch::Way;
use google::Account;
use source::{Source, User};
use stock::Stock;

/// How the requests of one integration get their right to enter. Built once, used for every request.
pub struct Authorizer(Kind);

enum Kind {
    /// Nothing is added.
    None,
    /// One header, set verbatim.
    ApiKey(ApiKey),
    /// A bearer by OAuth2 client credentials.
    OAuth2(Bearer<Client>),
    /// AWS's signature, version 4.
    SigV4(Box<Signer>),
    /// A bearer of Google's.
    Gcp(Bearer<Account>),
}

/// A header that never changes.
struct ApiKey {
    header: HeaderName,
    value: HeaderValue,
}

/// A header whose value is a token.
struct Bearer<C: Credential> {
    header: HeaderName,
    /// What goes out beside it, unless something stands there.
    beside: Option<(HeaderName, HeaderValue)>,
    source: Arc<Source<C>>,
    user: User,
}

impl<C: Credential<Pass = HeaderValue>> Bearer<C> {
    async fn put(&self, seat: Seat, on: &mut Unsigned) -> Result<Stamp, AuthError> {
        if let Some((name, value)) = &self.beside {
            on.headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let put = |token: &state::Token<HeaderValue>| {
            on.headers.insert(self.header.clone(), token.pass.clone());
            token.stamp
        };
        self.source.with_token(seat, &self.user, put).await
    }
}

impl Authorizer {
    /// One that adds nothing.
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// Puts the right to enter on `unsigned`. With a live token, a key or nothing it does not wait.
    ///
    /// # Errors
    ///
    /// There is no live token and none can be had: at once while the token endpoint rests after a failure, else
    /// within the limit of one token request.
    pub async fn sign(&self, seat: Seat, mut unsigned: Box<Unsigned>) -> Result<Signed, AuthError> {
        let stamp = match &self.0 {
            Kind::None => Stamp(0),
            Kind::ApiKey(key) => {
                unsigned.headers.insert(key.header.clone(), key.value.clone());
                Stamp(0)
            }
            Kind::OAuth2(bearer) => bearer.put(seat, &mut unsigned).await?,
            Kind::Gcp(bearer) => bearer.put(seat, &mut unsigned).await?,
            Kind::SigV4(signer) => signer.put(seat, &mut unsigned).await?,
        };
        Ok(unsigned.seal(stamp))
    }

    /// Whether an upstream's answer with this head blames what was put on, rather than the request: a 401, and AWS's
    /// 403 that says by its name that temporary keys have ended.
    pub fn is_blamed(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        match &self.0 {
            Kind::SigV4(_) if status == StatusCode::FORBIDDEN => aws::says_expired(headers),
            Kind::None | Kind::ApiKey(_) | Kind::OAuth2(_) | Kind::SigV4(_) | Kind::Gcp(_) => {
                status == StatusCode::UNAUTHORIZED
            }
        }
    }

    /// An upstream's answer to a request with `stamp` blames what was put on. `true`: there is another, send once more;
    /// `false`: pass the answer on. A token is replaced only if it is still the one in use, and at most every 30 s. Until
    /// there is another, it goes on to be used for those who have it too and whose upstream takes it.
    ///
    /// # Errors
    ///
    /// The token is dropped and no other can be had.
    pub async fn refused(&self, seat: Seat, stamp: Stamp) -> Result<bool, AuthError> {
        match &self.0 {
            Kind::OAuth2(bearer) => bearer.source.refused(seat, &bearer.user, stamp).await,
            Kind::Gcp(bearer) => bearer.source.refused(seat, &bearer.user, stamp).await,
            Kind::SigV4(signer) => match signer.keyring() {
                Keyring::Fixed(_) => Ok(false),
                Keyring::Temporary(source, user) => source.refused(seat, user, stamp).await,
            },
            Kind::None | Kind::ApiKey(_) => Ok(false),
        }
    }

    /// The ways to those who have a part in its token, the token endpoint first; none where nothing is fetched.
    pub fn stops(&self) -> &[Egress] {
        match &self.0 {
            Kind::None | Kind::ApiKey(_) => &[],
            Kind::OAuth2(bearer) => &bearer.user.way.stops,
            Kind::Gcp(bearer) => &bearer.user.way.stops,
            Kind::SigV4(signer) => match signer.keyring() {
                Keyring::Fixed(_) => &[],
                Keyring::Temporary(_, user) => &user.way.stops,
            },
        }
    }

    /// What there is to know, without a secret. Integrations with the same credential share its numbers.
    pub fn status(&self) -> AuthStatus {
        let (kind, token) = match &self.0 {
            Kind::None => ("none", None),
            Kind::ApiKey(_) => ("api_key", None),
            Kind::OAuth2(bearer) => ("oauth2", Some(TokenStatus::of(&bearer.source, &bearer.user))),
            Kind::Gcp(bearer) => ("gcp", Some(TokenStatus::of(&bearer.source, &bearer.user))),
            Kind::SigV4(signer) => match signer.keyring() {
                Keyring::Fixed(_) => ("aws_sigv4", None),
                Keyring::Temporary(source, user) => ("aws_sigv4", Some(TokenStatus::of(source, user))),
            },
        };
        AuthStatus { kind, token }
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
    /// The word of `authentication_type`.
    pub kind: &'static str,
    /// What is known of the token, or of the temporary keys, if they are fetched.
    #[serde(flatten)]
    pub token: Option<TokenStatus>,
}

/// What is known of one credential's token. Numbers count from the start of the process or of the credential's use.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TokenStatus {
    /// The token endpoint's host.
    pub token_host: String,
    /// Whether there is a token that may be used here.
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
    fn of<C: Credential>(source: &Source<C>, user: &User) -> Self {
        let (held, numbers) = (source.held(user), source.numbers());
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
    serial: Arc<AtomicU64>,
    clients: Stock<Client>,
    web_identities: Stock<aws::WebIdentity>,
    accounts: Stock<Account>,
}

/// What an authorizer is built from besides its settings.
pub struct Site<'a> {
    /// The integration that it is for, by its name.
    pub integration: &'a str,
    /// What the requests will say as `host`.
    pub host: &'a HeaderValue,
    /// What is spoken to token endpoints: it tells credentials apart.
    pub tls: &'a tls::Profile,
    /// The proxy on the way to a token endpoint, which tells them apart too.
    pub proxy: &'a dyn Fn(&Uri) -> Proxy,
    /// Bounds one whole token request.
    pub limit: Duration,
    /// Makes a way to a token endpoint, of whose URL only scheme and authority count.
    pub way: &'a dyn Fn(&Uri) -> Result<Egress, String>,
}

impl Site<'_> {
    fn proxies(&self, urls: &[&Uri]) -> Vec<Proxy> {
        urls.iter().map(|url| (self.proxy)(url)).collect()
    }

    fn way_to(&self, urls: &[&Uri]) -> Result<Way, String> {
        let stop = |url: &&Uri| (self.way)(url).map_err(|words| format!("token endpoint: {words}"));
        let stops = urls.iter().map(stop).collect::<Result<_, _>>()?;
        Ok(Way { integration: self.integration.into(), stops, limit: self.limit })
    }
}

impl Tokens {
    /// No tokens yet; fetches run as tasks of `tasks`.
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            serial: Arc::default(),
            clients: Stock::default(),
            web_identities: Stock::default(),
            accounts: Stock::default(),
        }
    }

    /// The authorizer for one integration.
    ///
    /// # Errors
    ///
    /// What is wrong in the world, in words that name the key or file: a secret that cannot be read or is empty, one
    /// that cannot stand in a header, a kind that this version has not yet.
    pub fn authorizer(&self, settings: &Authorization, site: &Site<'_>) -> Result<Authorizer, String> {
        let kind = match settings {
            Authorization::None => Kind::None,
            Authorization::ApiKey { header, value } => Kind::ApiKey(api_key(header, value)?),
            Authorization::OAuth2(settings) => {
                let (client, urls) = (Client::read(settings, site.tls)?, [&settings.token_url]);
                let source = self.source(&self.clients, client, site.proxies(&urls));
                let user = User::new(site.way_to(&urls)?);
                Kind::OAuth2(Bearer { header: settings.header.clone(), beside: None, source, user })
            }
            Authorization::SigV4(settings) => Kind::SigV4(Box::new(self.signer(settings, site)?)),
            Authorization::Gcp(settings) => {
                let account = Account::read(settings, site.tls).map_err(|why| format!("gcp: {why}"))?;
                let (user, beside) = (User::new(site.way_to(&account.urls())?), account.beside());
                let proxies = site.proxies(&account.urls());
                let source = self.source(&self.accounts, account, proxies);
                Kind::Gcp(Bearer { header: AUTHORIZATION, beside, source, user })
            }
            Authorization::Later(word) => {
                return Err(format!("authentication_type {word} is not in this version yet"));
            }
        };
        Ok(Authorizer(kind))
    }

    fn signer(&self, settings: &Aws, site: &Site<'_>) -> Result<Signer, String> {
        let keyring = match &settings.keys {
            AwsKeys::Fixed { id, secret, session } => {
                Keyring::Fixed(aws::Keys::read(id, secret, session.as_ref())?)
            }
            AwsKeys::WebIdentity(identity) => {
                let credential = aws::WebIdentity::new(identity, site.tls);
                let urls = [&identity.sts_endpoint];
                let source = self.source(&self.web_identities, credential, site.proxies(&urls));
                Keyring::Temporary(source, User::new(site.way_to(&urls)?))
            }
        };
        Ok(Signer::new(settings, site.host.clone(), keyring))
    }

    fn source<C: Credential>(&self, stock: &Stock<C>, credential: C, proxies: Vec<Proxy>) -> Arc<Source<C>> {
        stock.source(Held { credential, proxies }, &self.serial, &self.tasks)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.clients.count() + self.web_identities.count() + self.accounts.count();
        f.debug_struct("Tokens").field("credentials", &known).finish_non_exhaustive()
    }
}

/// What is wrong with Google's credentials as they are now, the token of another platform included. Blocks: it reads
/// files.
pub fn check_gcp(settings: &Gcp) -> Result<(), String> {
    Account::read(settings, &tls::Profile::default())?.check_subject()
}

fn api_key(header: &HeaderName, value: &SecretSource) -> Result<ApiKey, String> {
    let secret = value.load().map_err(|why| format!("{}: {why}", value.key("api_key_value")))?;
    let mut value = HeaderValue::from_bytes(secret.expose().as_bytes())
        .map_err(|_| "api_key_value holds characters that cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(ApiKey { header: header.clone(), value })
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::config::valid::OAuth2;
    use crate::secret::Secret;

    fn key(value: &str) -> Result<Authorizer, String> {
        let value = SecretSource::Inline(Secret::new(value));
        let settings = Authorization::ApiKey { header: HeaderName::from_static("x-key"), value };
        build(&Tokens::new(Tasks::new()), &settings)
    }

    #[tokio::test]
    async fn an_api_key_is_set_verbatim_over_what_was_there_and_is_sensitive() {
        let authorizer = key("Bearer  sk-é 1").unwrap();
        let mut unsigned = request();
        unsigned.headers.append("x-key", HeaderValue::from_static("the caller's"));
        unsigned.headers.append("x-key", HeaderValue::from_static("own"));
        let signed = authorizer.sign(SEAT, unsigned).await.unwrap();
        let values: Vec<_> = signed.request.headers.get_all("x-key").iter().collect();
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
        let authorizer = build(&Tokens::new(Tasks::new()), &Authorization::None).unwrap();
        let signed = authorizer.sign(SEAT, request()).await.unwrap();
        assert!(signed.request.headers.is_empty() && signed.stamp == Stamp(0));
        assert_eq!(authorizer.refused(SEAT, Stamp(0)).await, Ok(false));
    }

    #[test]
    fn what_this_version_has_not_yet_is_said_by_its_word() {
        let later = Authorization::Later("signature");
        let words = build(&Tokens::new(Tasks::new()), &later).err();
        assert!(words.unwrap().contains("signature"));
    }

    #[tokio::test]
    async fn two_integrations_with_one_credential_share_one_token() {
        let (endpoint, tokens) = (Endpoint::granting().await, Tokens::new(Tasks::new()));
        let one = endpoint.authorizer(&tokens);
        let header = HeaderName::from_static("x-token");
        let settings = OAuth2 { header: header.clone(), ..endpoint.settings() };
        let two = authorizer(&tokens, &settings, &endpoint.egress(), LIMIT);
        let (one, two) = tokio::join!(sign_as(&one, &AUTHORIZATION), sign_as(&two, &header));
        let value = one.unwrap().0.unwrap();
        assert!(value == "Bearer tok-1" && value.is_sensitive());
        assert_eq!(two.unwrap().0.unwrap(), value);
        assert_eq!(endpoint.calls(), 1);
        let other = OAuth2 { scope: Some("more".into()), ..endpoint.settings() };
        let other = authorizer(&tokens, &other, &endpoint.egress(), LIMIT);
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
        assert!(built_anew.status().token.unwrap().token_live);
    }

    #[tokio::test]
    async fn another_prefix_is_put_before_the_token() {
        let (endpoint, tokens) = (Endpoint::granting().await, Tokens::new(Tasks::new()));
        let settings = OAuth2 { prefix: String::new(), ..endpoint.settings() };
        let bare = authorizer(&tokens, &settings, &endpoint.egress(), LIMIT);
        assert_eq!(sign(&bare).await.unwrap().0, "tok-1");
    }

    #[test]
    fn an_empty_secret_or_id_fails_the_integration() {
        let (id, secret) = (settings("http://idp.test/"), settings("http://idp.test/"));
        let id = OAuth2 { client_id: String::new(), ..id };
        let secret = OAuth2 { client_secret: SecretSource::Inline(Secret::new("")), ..secret };
        for (settings, want) in [(id, "client_id"), (secret, "client_secret")] {
            let words = Client::read(&settings, &tls::Profile::default()).err().unwrap();
            assert!(words.contains(want), "{words}");
        }
    }
}
