//! AWS's signature, version 4: what really leaves is signed, with keys that are given or fetched.

mod sts;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_lc_rs::digest;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) use sts::WebIdentity;

use super::error::AuthError;
use super::preview::{self, Put, STARS};
use super::source::{Source, User};
use crate::config::valid::{Aws, SecretSource, shown};
use crate::observe::clock;
use crate::outbound::{Segments, Stamp, Unsigned};
use crate::secret::Secret;
use crate::tasks::Seat;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Where AWS says what kind of error it is.
const ERROR: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// Headers of AWS's own begin so: all of them are signed.
const OWN: &str = "x-amz-";

/// Signs the requests of one integration.
pub(super) struct Signer {
    region: String,
    service: String,
    host: HeaderValue,
    keyring: Keyring,
}

/// Where the keys come from.
pub(super) enum Keyring {
    /// They were given.
    Fixed(Keys),
    /// They are fetched, and end.
    Temporary(Arc<Source<WebIdentity>>, User),
}

/// What a signature is made with. Not `Debug`.
pub(super) struct Keys(Identity);

impl Keys {
    /// Reads what was given. The error says what is wrong in the world.
    pub(super) fn read(
        id: &SecretSource,
        secret: &SecretSource,
        session: Option<&SecretSource>,
    ) -> Result<Self, String> {
        let load = |key: &str, source: &SecretSource| {
            source.load().map_err(|why| format!("aws: {}: {why}", source.key(key)))
        };
        let session = session.map(|session| load("session_token", session)).transpose()?;
        let keys = (load("access_key_id", id)?, load("secret_access_key", secret)?);
        Self::new(&keys.0, &keys.1, session.as_ref()).map_err(|what| format!("aws: {what}"))
    }

    /// The error is to be read after the name of the place that the keys come from.
    fn new(id: &Secret, secret: &Secret, session: Option<&Secret>) -> Result<Self, String> {
        for (key, text) in [("access_key_id", Some(id)), ("session_token", session)] {
            if text.is_some_and(|text| HeaderValue::from_str(text.expose()).is_err()) {
                return Err(format!("{key} holds characters that cannot stand in a header"));
            }
        }
        let session = session.map(|session| session.expose().to_owned());
        let keys = Credentials::new(id.expose(), secret.expose(), session, None, "outrider");
        Ok(Self(keys.into()))
    }
}

impl Keys {
    fn has_session(&self) -> bool {
        self.0.data::<Credentials>().is_some_and(|keys| keys.session_token().is_some())
    }
}

impl Signer {
    /// Signs for the region and the service of `settings` and for this `host`.
    pub(super) fn new(settings: &Aws, host: HeaderValue, keyring: Keyring) -> Self {
        Self { region: settings.region.clone(), service: settings.service.clone(), host, keyring }
    }

    /// Where the keys come from.
    pub(super) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Signs `on`, whose URL, headers and body must not change any more.
    pub(super) async fn put(&self, seat: Seat, on: &mut Unsigned) -> Result<Stamp, AuthError> {
        match &self.keyring {
            Keyring::Fixed(keys) => self.sign(keys, on, now()).map(|()| Stamp(0)),
            Keyring::Temporary(source, user) => {
                let put = |token: &super::state::Token<Keys>| {
                    self.sign(&token.pass, on, now()).map(|()| token.stamp)
                };
                source.with_token(seat, user, put).await?
            }
        }
    }

    /// Puts on what [`Signer::put`] would, with stars in place of what is secret. The keys are not used.
    pub(super) fn preview(&self, on: &mut Unsigned) -> Vec<Put> {
        let (has_session, from) = match &self.keyring {
            Keyring::Fixed(keys) => (keys.has_session(), "signed with the given keys".to_owned()),
            Keyring::Temporary(source, _) => {
                (true, format!("signed with keys from {}", shown(source.credential().url(), &[])))
            }
        };
        let stars = Secret::new(STARS);
        let keys = Keys::new(&stars, &stars, has_session.then_some(&stars));
        let signed = keys.map(|keys| self.sign(&keys, on, now()));
        if !matches!(signed, Ok(Ok(()))) {
            return vec![preview::put(on, &AUTHORIZATION, STARS, from)];
        }
        let mut puts = Vec::new();
        for name in [DATE, AUTHORIZATION, SESSION] {
            let Some(value) = on.headers.get(&name) else { continue };
            let text = value.to_str().unwrap_or(STARS);
            let shown = match text.split_once("Signature=") {
                Some((before, _)) => format!("{before}Signature={STARS}"),
                None => text.to_owned(),
            };
            puts.push(preview::put(on, &name, &shown, from.clone()));
        }
        puts
    }

    /// Signed are the host, the content type and what is AWS's own: other headers may be changed by whatever stands in
    /// between.
    fn sign(&self, keys: &Keys, on: &mut Unsigned, now: SystemTime) -> Result<(), AuthError> {
        for name in [AUTHORIZATION, DATE, SESSION] {
            on.headers.remove(name);
        }
        let headers: Vec<_> = signed_headers(&self.host, &on.headers).collect();
        let body = SignableBody::Precomputed(sha256(&on.body));
        let params = v4::SigningParams::builder()
            .identity(&keys.0)
            .region(&self.region)
            .name(&self.service)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|why| AuthError::Unsignable(why.to_string()))?
            .into();
        let uri = on.uri.to_string();
        let request = SignableRequest::new(on.method.as_str(), uri, headers.into_iter(), body);
        let signed = request.and_then(|request| sign(request, &params));
        let (signature, _) = signed.map_err(|why| AuthError::Unsignable(why.to_string()))?.into_parts();
        for header in signature.into_parts().0 {
            let mut value = HeaderValue::from_str(header.value())
                .map_err(|_| AuthError::Unsignable("the signature cannot stand in a header".to_owned()))?;
            value.set_sensitive(header.name() != DATE.as_str());
            on.headers.insert(HeaderName::from_static(header.name()), value);
        }
        Ok(())
    }
}

/// Whether an answer says that the keys it was signed with have ended.
pub(super) fn says_expired(headers: &HeaderMap) -> bool {
    headers.get(ERROR).is_some_and(|kind| kind.as_bytes().starts_with(b"ExpiredToken"))
}

fn signed_headers<'a>(
    host: &'a HeaderValue,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let is_signed = |name: &HeaderName| name == CONTENT_TYPE || name.as_str().starts_with(OWN);
    let own = headers.iter().filter(move |(name, _)| is_signed(name));
    // What is no text goes out unsigned.
    own.chain([(&HOST, host)]).filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(clock::unix_seconds())
}

/// The hash of a body as hexadecimal digits; its pieces are not joined.
fn sha256(body: &Segments) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut context = digest::Context::new(&digest::SHA256);
    body.pieces().iter().for_each(|piece| context.update(piece));
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    context.finish().as_ref().iter().flat_map(digits).map(char::from).collect()
}

#[cfg(test)]
mod tests;
