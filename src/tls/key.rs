//! Private keys in each form that a PEM file may have (PKCS#8, SEC1, PKCS#1, encrypted PKCS#8), as bytes that are wiped.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::{EncryptedPrivateKeyInfoRef, Error};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use zeroize::{Zeroize as _, Zeroizing};

use super::pem::{flaw, says};
use crate::files;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// What converts a key that only OpenSSL reads.
const CONVERT: &str = "convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`";

/// A private key. It prints as `***` and is wiped when its last copy is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(Arc<Zeroizing<Vec<u8>>>);

/// Where the password of an encrypted key is.
#[derive(Clone, Copy)]
pub(super) enum Password<'a> {
    /// In this file, which a key of the configuration names.
    File(&'a str, &'a Path),
    /// This key of the configuration could name a file.
    Unnamed(&'a str),
    /// There is no place for one.
    Unknown,
}

impl Key {
    /// The key in `text`, the file `path` that `key` of the configuration names.
    ///
    /// # Errors
    ///
    /// A file without a key, a broken one, or one that cannot be decrypted; never what it holds.
    pub(super) fn parse(key: &str, path: &Path, text: &str, password: Password<'_>) -> Result<Self, String> {
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            let what = format_args!("is encrypted in OpenSSL's own old way: {CONVERT}");
            return Err(says(key, path, what));
        }
        if text.contains(BEGIN) {
            let sealed = sealed(text).map_err(|flaw| says(key, path, flaw))?;
            return decrypt(key, path, &sealed, password);
        }
        let mut found = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
            PemError::NoItemsFound if has_certificate(text) => {
                says(key, path, "holds a certificate but no private key")
            }
            PemError::NoItemsFound => says(key, path, "holds no private key"),
            error => says(key, path, flaw(&error)),
        })?;
        let copy = Self::new(found.secret_der().to_vec());
        found.zeroize();
        Ok(copy)
    }

    /// The key for rustls; `None` if its form is unknown.
    pub(super) fn der(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::try_from(self.0.to_vec()).ok()
    }

    fn new(der: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(der)))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The bytes of the encrypted key in `text`.
fn sealed(text: &str) -> Result<Vec<u8>, &'static str> {
    let body = text.split_once(BEGIN).map_or("", |(_, rest)| rest);
    let (body, _) = body.split_once(END).ok_or("is cut off: a section has no `-----END …-----` line")?;
    let digits: String = body.split_whitespace().collect();
    STANDARD.decode(digits).map_err(|_| "is broken: a section is not base64")
}

fn decrypt(key: &str, path: &Path, sealed: &[u8], password: Password<'_>) -> Result<Key, String> {
    let (name, file) = match password {
        Password::File(name, file) => (name, file),
        Password::Unnamed(name) => {
            return Err(says(
                key,
                path,
                format_args!("is encrypted: name the file with its password as `{name}`"),
            ));
        }
        Password::Unknown => {
            return Err(says(
                key,
                path,
                "is encrypted, and here it must not be: decrypt it with `openssl pkey`",
            ));
        }
    };
    let strange =
        || says(key, path, format_args!("is encrypted in a way that this version cannot read: {CONVERT}"));
    let sealed = EncryptedPrivateKeyInfoRef::try_from(sealed).map_err(|_| strange())?;
    let password = read_password(name, file)?;
    match sealed.decrypt(trimmed(&password)) {
        Ok(opened) => Ok(Key::new(opened.as_bytes().to_vec())),
        // Now and then a wrong password looks right, and yields nonsense.
        Err(Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed) | Error::Asn1(_)) => {
            let file = files::shown(file);
            Err(says(
                key,
                path,
                format_args!(
                    "cannot be decrypted with the password in `{name}` {file}: is it the right one?"
                ),
            ))
        }
        Err(_) => Err(strange()),
    }
}

fn read_password(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = files::check_pipe(path).and_then(|()| std::fs::read(path)).map(Zeroizing::new);
    let bytes =
        bytes.map_err(|error| says(key, path, format_args!("cannot be read: {}", files::plain(&error))))?;
    if trimmed(&bytes).is_empty() { Err(says(key, path, "is empty")) } else { Ok(bytes) }
}

/// Whether the file `path`, which `key` of the configuration names, holds a password.
pub(super) fn check_password(key: &str, path: &Path) -> Result<(), String> {
    read_password(key, path).map(drop)
}

/// Without the end of the line, which editors and `echo` put there.
fn trimmed(mut password: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = password {
        password = rest;
    }
    password
}

fn has_certificate(text: &str) -> bool {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).flatten();
    sections.any(|(kind, _)| kind == SectionKind::Certificate)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair};

    use super::super::testing::{Authority, Pair};
    use super::super::{Profile, load};
    use super::*;

    /// Keys of nobody, made with OpenSSL for these tests: one in each form.
    macro_rules! test_key {
        ($name:literal) => {
            include_str!(concat!("test_keys/", $name, ".pem"))
        };
    }

    const PLAIN: &str = test_key!("ec-pkcs8");
    const SEC1: &str = test_key!("ec-sec1");
    const RSA: &str = test_key!("rsa-pkcs1");
    const SEALED: [&str; 4] = [
        test_key!("ec-aes256-sha256"),
        test_key!("ec-aes128-sha1"),
        test_key!("ec-des3"),
        test_key!("ec-scrypt"),
    ];
    const PASSWORD: &str = "correct-horse";

    fn parse(text: &str, password: Password<'_>) -> Result<Key, String> {
        Key::parse("client_key_file", Path::new("client.key"), text, password)
    }

    fn opened(text: &str, file: &Path) -> Result<Key, String> {
        parse(text, Password::File("client_key_password_file", file))
    }

    /// A profile with a certificate for `key` under `authority`, the key as it stands in `text`.
    fn profile(authority: &Authority, key: &Key, text: &str) -> Profile {
        let pair = KeyPair::try_from(&key.der().unwrap()).unwrap();
        let params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&pair, authority.issuer()).unwrap().pem();
        authority.trusted_with(&Pair { certificate, key: text.to_owned() })
    }

    #[test]
    fn a_key_is_used_in_each_form_that_a_pem_file_may_have() {
        let authority = Authority::new();
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        for text in
            [PLAIN, SEC1, RSA, &format!("{parameters}{SEC1}"), &format!("Bag Attributes\n  x: y\n{PLAIN}")]
        {
            let key = parse(text, Password::Unknown).unwrap();
            load(&profile(&authority, &key, text)).unwrap();
            assert_eq!(format!("{key:?}"), "***");
        }
    }

    #[test]
    fn an_encrypted_key_is_opened_by_the_password_in_its_file() {
        let authority = Authority::new();
        let plain = parse(PLAIN, Password::Unknown).unwrap();
        for (text, end) in SEALED.iter().zip(["", "\n", "\r\n", "\n"]) {
            let file = authority.file("password", format!("{PASSWORD}{end}"));
            assert_eq!(opened(text, &file), Ok(plain.clone()));
            let mut profile = profile(&authority, &plain, text);
            let error = load(&profile).unwrap_err();
            assert!(
                error
                    .ends_with("is encrypted: name the file with its password as `client_key_password_file`"),
                "{error}"
            );
            profile.client_key_password_file = Some(file);
            load(&profile).unwrap();
        }
    }

    #[test]
    fn a_key_that_cannot_be_opened_has_its_words_and_none_prints_a_secret() {
        let authority = Authority::new();
        let right = authority.file("password", PASSWORD);
        let wrong = authority.file("wrong", "battery-staple");
        let empty = authority.file("empty", "\r\n");
        let missing = PathBuf::from("/nowhere/password");
        let cut = &SEALED[0][..SEALED[0].len() - 40];
        let broken = SEALED[0].replacen("MIH", "!!!", 1);
        for (text, file, words) in [
            (SEALED[0], &wrong, "cannot be decrypted with the password in `client_key_password_file`"),
            (SEALED[3], &wrong, "is it the right one?"),
            (SEALED[0], &empty, "`client_key_password_file`"),
            (SEALED[0], &empty, "is empty"),
            (SEALED[0], &missing, "`client_key_password_file` /… cannot be read: No such file"),
            (cut, &right, "is cut off"),
            (&broken, &right, "is not base64"),
            (test_key!("ec-pbes1"), &right, "convert it with `openssl pkcs8 -topk8"),
            (test_key!("ec-traditional"), &right, "old way: convert it with `openssl pkcs8 -topk8"),
        ] {
            let error = opened(text, file).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("horse") && !error.contains("battery"), "{error}");
            assert!(text.lines().skip(1).all(|line| line.len() < 30 || !error.contains(line)), "{error}");
        }
        assert!(parse(SEALED[0], Password::Unknown).unwrap_err().contains("`openssl pkey`"));
    }

    #[test]
    fn a_password_for_a_key_that_needs_none_does_no_harm() {
        assert_eq!(opened(PLAIN, Path::new("/nowhere")), parse(PLAIN, Password::Unknown));
    }
}
