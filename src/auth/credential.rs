//! What makes a token request: the one thing in which kinds of tokens differ.

use std::future::Future;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::answer::{Granted, Trouble};
use super::fetch::Flight;
use crate::config::valid::{Proxy, SecretSource};
use crate::secret::Secret;

/// Everything that makes one token differ from another, and how it is asked for. Two integrations whose credentials
/// are equal share one token and one fetch, if they go the same way for it ([`Held`]).
pub(super) trait Credential: Eq + Hash + Send + Sync + 'static {
    /// What requests put on: a header's value, or keys to sign with.
    type Pass: Send + Sync + 'static;

    /// Who is asked, for messages.
    fn issuer(&self) -> Issuer;

    /// Asks once.
    fn ask(&self, flight: &Flight<'_>) -> impl Future<Output = Result<Granted<Self::Pass>, Trouble>> + Send;
}

/// A credential, and the proxies on the way to those who have a part in its token. They tell credentials apart as well: that
/// one of them fails is nothing to who goes another way.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Held<C> {
    pub(super) credential: C,
    pub(super) proxies: Vec<Proxy>,
}

/// Who gives tokens, and what it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    /// The token endpoint's host, with its port if the URL names one.
    pub(super) host: Arc<str>,
    /// What is shown to it.
    pub(super) proof: &'static Proof,
}

/// How a kind of credential is called, and where to look if it is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    /// To be read after "refused our ".
    pub name: &'static str,
    /// To be read after "check ".
    pub check: &'static str,
}

/// The host of `url` for messages, with its port if the URL names one; never with user information.
pub(super) fn host_of(url: &Uri) -> Arc<str> {
    let host = url.host().unwrap_or("the token endpoint");
    match url.port() {
        Some(port) => format!("{host}:{port}").into(),
        None => host.into(),
    }
}

/// The secret that the file at `path`, which `key` of the configuration names, holds now.
pub(super) async fn secret_in(key: &str, path: &Path) -> Result<Secret, Trouble> {
    let source = SecretSource::File(path.to_owned());
    let read = tokio::task::spawn_blocking(move || source.load()).await;
    let read = read.unwrap_or_else(|_| Err("reading was cut off".to_owned()));
    read.map_err(|why| Trouble::unavailable(format!("{key}: {why}")))
}

/// A header's value that ends in `token`, marked sensitive.
pub(super) fn bearer(prefix: &str, token: &str) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::try_from([prefix, token].concat())
        .map_err(|_| Trouble::unavailable("its token cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
