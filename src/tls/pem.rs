//! PEM files, checked: each failure names the key, the file and what to do, and never what a key file holds.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};

use super::key::{Key, Password};
use super::validity::earliest;
use crate::files;

/// A certificate chain with its key; they belong together.
#[derive(Debug)]
pub struct Identity(CertifiedKey);

impl Identity {
    /// When the first of its certificates ends, in seconds since the epoch.
    pub fn not_after(&self) -> Option<u64> {
        earliest(&self.0.cert)
    }

    /// Presents it whenever a server asks.
    pub fn resolver(self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(self.0))
    }

    /// Presents it to every client.
    pub(super) fn server(self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.0))
    }
}

/// The text of the PEM file at `path`, which `key` of the configuration names.
pub(super) fn text(key: &str, path: &Path) -> Result<String, String> {
    let bytes = files::check_pipe(path)
        .and_then(|()| std::fs::read(path))
        .map_err(|error| says(key, path, format_args!("cannot be read: {}", files::plain(&error))))?;
    if bytes.trim_ascii().is_empty() {
        return Err(says(key, path, "is empty"));
    }
    if is_pkcs12(&bytes) {
        let what = "is PKCS#12 (.p12, .pfx), not PEM: `openssl pkcs12 -in FILE -nodes` writes its certificates and its key";
        return Err(says(key, path, what));
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

/// Whether it is a SEQUENCE that begins with the INTEGER 3, its version (RFC 7292 §4): a certificate begins with another
/// SEQUENCE, a key with 0 or 1.
fn is_pkcs12(bytes: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = bytes else { return false };
    // A length of 0x80 and more says how many bytes of length follow.
    let content = rest.get(usize::from(length.saturating_sub(0x80))..);
    content.is_some_and(|content| content.starts_with(&[0x02, 0x01, 0x03]))
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
    let private = Key::parse(key.0, key.1, key.2, Password::Unknown)?;
    paired(certificate, (key.0, key.1, &private), provider)
}

/// The same with a key that has been read.
pub(super) fn paired(
    certificate: (&str, &Path, &str),
    key: (&str, &Path, &Key),
    provider: &CryptoProvider,
) -> Result<Identity, String> {
    let chain = certificates(certificate.0, certificate.1, certificate.2)?;
    let unusable = || {
        says(key.0, key.1, "holds a key that cannot be used: RSA (2048 bits or more), ECDSA or Ed25519 can")
    };
    let private = key.2.der().ok_or_else(unusable)?;
    let identity = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let (other, path) = (certificate.0, files::shown(certificate.1));
            says(key.0, key.1, format_args!("is not the key of the first certificate in `{other}` {path}"))
        }
        TlsError::InvalidCertificate(_) => {
            says(certificate.0, certificate.1, "has a first certificate that is broken")
        }
        _ => unusable(),
    })?;
    Ok(Identity(identity))
}

pub(super) fn certificates(
    key: &str,
    path: &Path,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
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

/// rustls' own words would quote the file.
pub(super) fn flaw(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "is cut off: a section has no `-----END …-----` line",
        PemError::Base64Decode(_) => "is broken: a section is not base64",
        _ => "is broken: a `-----BEGIN …-----` line is malformed",
    }
}

pub(super) fn says(key: &str, path: &Path, what: impl std::fmt::Display) -> String {
    // Authorities are public, and where they are is harmless.
    let shown = if key.ends_with("ca_file") { path.display().to_string() } else { files::shown(path) };
    format!("`{key}` {shown} {what}")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, Pair};
    use super::super::{Profile, load};

    #[test]
    fn each_flaw_of_an_authority_file_has_its_words() {
        let authority = Authority::new();
        let whole = authority.pem.as_str();
        let key = authority.issue_client().key;
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let cases: [(&[u8], &str); 12] = [
            (b" \n", "is empty"),
            (&[0x30, 0x82, 1], "is DER, not PEM"),
            (&[0x30, 0x82, 9, 0xb6, 2, 1, 3, 0x30], "is PKCS#12 (.p12, .pfx), not PEM"),
            (&[0x30, 0x80, 2, 1, 3, 0x30, 0x80], "`openssl pkcs12 -in FILE -nodes`"),
            (&[0x30, 0x82, 4, 0xa4, 2, 1, 0, 2], "is DER, not PEM"),
            (b"hello", "is not PEM"),
            (&[0xff, 0xfe], "is not PEM"),
            (key.as_bytes(), "holds a private key but no certificate"),
            (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds no certificate"),
            (&whole.as_bytes()[..whole.len() - 30], "is cut off"),
            (&format!("{begin}!!!!\n-----END CERTIFICATE-----\n").into_bytes(), "is not base64"),
            (
                &format!("{whole}{begin}AAAA\n-----END CERTIFICATE-----\n").into_bytes(),
                "(number 2) that is broken",
            ),
        ];
        for (bytes, words) in cases {
            let path = authority.file("bad.pem", bytes);
            let error = load(&Profile { ca_files: vec![path.clone()], ..authority.trusted() }).unwrap_err();
            assert!(error.starts_with(&format!("`ca_file` {} ", path.display())), "{error}");
            assert!(error.contains(words), "{error}");
        }
        let missing = Profile { ca_files: vec!["/nowhere/ca.pem".into()], ..authority.trusted() };
        assert!(
            load(&missing).unwrap_err().contains("`ca_file` /nowhere/ca.pem cannot be read: No such file")
        );
    }

    #[test]
    fn each_flaw_of_a_client_certificate_has_its_words_and_none_prints_the_key() {
        let authority = Authority::new();
        let (pair, other) = (authority.issue_client(), authority.issue_client());
        let encrypted = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let ours: String = pair.key.lines().nth(1).unwrap().to_owned();
        let unusable = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cases = [
            (pair.certificate.as_str(), other.key.as_str(), "is not the key of the first certificate"),
            (pair.certificate.as_str(), encrypted.as_str(), "name the file with its password"),
            (pair.certificate.as_str(), pair.certificate.as_str(), "holds a certificate but no private key"),
            (pair.certificate.as_str(), unusable, "holds a key that cannot be used"),
            (pair.certificate.as_str(), &pair.key[..pair.key.len() - 30], "is cut off"),
            (pair.key.as_str(), pair.key.as_str(), "holds a private key but no certificate"),
        ];
        for (certificate, key, words) in cases {
            let pair = Pair { certificate: certificate.into(), key: key.into() };
            let error = load(&authority.trusted_with(&pair)).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains(&ours), "{error}");
        }
        assert!(load(&authority.trusted_with(&pair)).is_ok());
    }
}
