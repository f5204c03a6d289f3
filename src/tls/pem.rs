//! PEM files, checked: each failure names the key, the file and what to do, and never what a key file holds.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};

/// A certificate chain with its key; they belong together.
#[derive(Debug)]
pub struct Identity(CertifiedKey);

impl Identity {
    /// Presents it whenever a server asks.
    pub fn resolver(self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(self.0))
    }
}

/// The text of the PEM file at `path`, which `key` of the configuration names.
pub(super) fn text(key: &str, path: &Path) -> Result<String, String> {
    let bytes =
        std::fs::read(path).map_err(|error| says(key, path, format_args!("cannot be read: {error}")))?;
    if bytes.trim_ascii().is_empty() {
        return Err(says(key, path, "is empty"));
    }
    // ASN.1 begins with a SEQUENCE.
    if bytes.starts_with(&[0x30]) {
        return Err(says(
            key,
            path,
            "is DER, not PEM: convert it with `openssl x509 -inform der` or `openssl pkey`",
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.contains("-----BEGIN ") => Ok(text),
        _ => Err(says(key, path, "is not PEM: it has no `-----BEGIN …-----` line")),
    }
}

/// Adds every certificate of a bundle to `roots`.
///
/// # Errors
///
/// A bundle without a certificate, or with one that is broken.
pub fn authorities(key: &str, path: &Path, text: &str, roots: &mut RootCertStore) -> Result<(), String> {
    for (index, certificate) in certificates(key, path, text)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|_| {
            says(key, path, format_args!("has a certificate (number {}) that is broken", index + 1))
        })?;
    }
    Ok(())
}

/// A chain (leaf first) and its key, each as (configuration key, path, text); PKCS#8, SEC1 and PKCS#1 are read.
///
/// # Errors
///
/// A file without what it should hold, an encrypted key, or a key of another certificate.
pub fn identity(
    certificate: (&str, &Path, &str),
    key: (&str, &Path, &str),
    provider: &CryptoProvider,
) -> Result<Identity, String> {
    let chain = certificates(certificate.0, certificate.1, certificate.2)?;
    let private = private_key(key)?;
    let identity = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let (other, path) = (certificate.0, certificate.1.display());
            says(key.0, key.1, format_args!("is not the key of the first certificate in `{other}` {path}"))
        }
        TlsError::InvalidCertificate(_) => {
            says(certificate.0, certificate.1, "has a first certificate that is broken")
        }
        _ => says(
            key.0,
            key.1,
            "holds a key that cannot be used: RSA (2048 bits or more), ECDSA or Ed25519 can",
        ),
    })?;
    Ok(Identity(identity))
}

fn certificates(key: &str, path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(text.as_bytes()) {
        found.push(item.map_err(|error| says(key, path, flaw(&error)))?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let has_key = text.contains("PRIVATE KEY-----");
    Err(says(
        key,
        path,
        if has_key { "holds a private key but no certificate" } else { "holds no certificate" },
    ))
}

fn private_key((key, path, text): (&str, &Path, &str)) -> Result<PrivateKeyDer<'static>, String> {
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(says(key, path, "is encrypted: encrypted keys are not in this version"));
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        PemError::NoItemsFound if has_section(text, SectionKind::Certificate) => {
            says(key, path, "holds a certificate but no private key")
        }
        PemError::NoItemsFound => says(key, path, "holds no private key"),
        error => says(key, path, flaw(&error)),
    })
}

fn has_section(text: &str, wanted: SectionKind) -> bool {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).flatten().any(|(kind, _)| kind == wanted)
}

/// rustls' own words would quote the file.
fn flaw(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "is cut off: a section has no `-----END …-----` line",
        PemError::Base64Decode(_) => "is broken: a section is not base64",
        _ => "is broken: a `-----BEGIN …-----` line is malformed",
    }
}

fn says(key: &str, path: &Path, what: impl std::fmt::Display) -> String {
    format!("`{key}` {} {what}", path.display())
}
