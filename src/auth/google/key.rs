//! A service account's private key, and the assertion that it signs (RFC 7523 §3, RS256).

use std::hash::{Hash, Hasher};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Uri;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use zeroize::Zeroize as _;

use crate::auth::answer::Trouble;
use crate::secret::Secret;

/// How long an assertion holds, in seconds: the most that Google takes.
const HOLDS: u64 = 3600;

/// An RSA key and its id. Two are equal if their texts are. Not `Debug`.
pub(super) struct SigningKey {
    id: Option<String>,
    pem: Secret,
    pair: KeyPair,
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.pem) == (&other.id, &other.pem)
    }
}

impl Eq for SigningKey {}

impl Hash for SigningKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.id, &self.pem).hash(state);
    }
}

impl SigningKey {
    /// The key in `pem`; `id` is what Google calls it. The error is to be read after the field's name.
    pub(super) fn parse(id: Option<String>, pem: Secret) -> Result<Self, &'static str> {
        let mut der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
            .map_err(|_| "is not a private key in PEM form: is it whole, its line ends included?")?;
        let pair = match &der {
            PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err("is not an RSA key"),
        };
        der.zeroize();
        let pair = pair.map_err(|_| "is not a whole RSA key of at least 2048 bits")?;
        Ok(Self { id, pem, pair })
    }

    /// The assertion of `email` for the token endpoint at `audience`, made at `now`, in seconds since the epoch.
    pub(super) fn assertion(
        &self,
        email: &str,
        audience: &Uri,
        scope: &str,
        now: u64,
    ) -> Result<Secret, Trouble> {
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        let audience = audience.to_string();
        let claims = json!({ "iss": email, "scope": scope, "aud": audience, "iat": now, "exp": now + HOLDS });
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let text = [header, claims].map(|part| encode(part.to_string().as_bytes())).join(".");
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| Trouble::unavailable("the private key does not sign"))?;
        Ok(Secret::new(format!("{text}.{}", encode(&signature))))
    }
}
