//! TLS of our own listeners: certificate, key and the authorities of callers, renewed without touching what is open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, Error, RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use super::key::{Key, Password};
use super::{Version, pem, provider, validity};

/// The files that inbound TLS is made of.
#[derive(Clone, PartialEq, Eq)]
pub struct InboundFiles {
    /// The chain, PEM, leaf first.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Demands client certificates that are signed by one of these.
    pub client_ca_file: Option<PathBuf>,
}

impl InboundFiles {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert_file, &self.key_file].into_iter().chain(&self.client_ca_file)
    }

    /// Everything that can be seen to be wrong with them: each that cannot be read, or else what [`Inbound::load`] says.
    pub fn faults(&self) -> Vec<String> {
        let files = [("cert_file", &self.cert_file), ("key_file", &self.key_file)];
        let files = files.into_iter().chain(self.client_ca_file.iter().map(|path| ("client_ca_file", path)));
        let faults: Vec<_> = files.filter_map(|(key, path)| pem::text(key, path).err()).collect();
        if faults.is_empty() { Inbound::load(self.clone()).err().into_iter().collect() } else { faults }
    }
}

/// Without paths: one may be a key that was written where its file's path belongs.
impl fmt::Debug for InboundFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let demands = self.client_ca_file.is_some();
        f.debug_struct("InboundFiles").field("client_ca", &demands).finish_non_exhaustive()
    }
}

/// The TLS that our listeners speak: 1.2 and 1.3, and HTTP/1.1 alone.
#[derive(Debug)]
pub struct Inbound {
    files: InboundFiles,
    current: ArcSwap<Current>,
}

/// What was read, and what it makes.
#[derive(Debug)]
struct Current {
    texts: Texts,
    config: Arc<ServerConfig>,
    expiry: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Texts {
    certificate: String,
    key: Key,
    authorities: Option<String>,
}

impl Inbound {
    /// Reads and checks `files`. Blocks.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is broken, or a key of another certificate: key, file and what to do.
    pub fn load(files: InboundFiles) -> Result<Self, String> {
        let texts = Texts::read(&files)?;
        let current = ArcSwap::from_pointee(Current::of(texts, &files)?);
        Ok(Self { files, current })
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// When the certificate, or one of its chain, ends first, in seconds since the epoch.
    pub fn expiry(&self) -> Option<u64> {
        self.current.load().expiry
    }

    /// The files, for watching.
    pub fn files(&self) -> &InboundFiles {
        &self.files
    }

    /// Reads the files again, and changes nothing yet; `None` if their content is what is in use. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the new files, at each call until it is right.
    pub fn prepare(&self) -> Result<Option<Renewed>, String> {
        let texts = Texts::read(&self.files)?;
        if texts == self.current.load().texts {
            return Ok(None);
        }
        Current::of(texts, &self.files).map(|current| Some(Renewed(current)))
    }

    /// Has new connections use what [`Inbound::prepare`] read. Open connections go on with what they began with; none is
    /// resumed across a change.
    pub fn take(&self, renewed: Renewed) {
        self.current.store(Arc::new(renewed.0));
    }
}

/// New content of the files, checked and not in use yet.
#[derive(Debug)]
pub struct Renewed(Current);

impl Texts {
    fn read(files: &InboundFiles) -> Result<Self, String> {
        let sealed = Zeroizing::new(pem::text("key_file", &files.key_file)?);
        let authorities = files.client_ca_file.as_ref().map(|path| pem::text("client_ca_file", path));
        Ok(Self {
            certificate: pem::text("cert_file", &files.cert_file)?,
            key: Key::parse("key_file", &files.key_file, &sealed, Password::Unknown)?,
            authorities: authorities.transpose()?,
        })
    }
}

impl Current {
    fn of(texts: Texts, files: &InboundFiles) -> Result<Self, String> {
        let provider = provider();
        validity::check("cert_file", &files.cert_file, &texts.certificate)?;
        let certificate = ("cert_file", files.cert_file.as_path(), texts.certificate.as_str());
        let identity = pem::paired(certificate, ("key_file", &files.key_file, &texts.key), &provider)?;
        let expiry = identity.not_after();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(Version::Tls12.and_later())
            .map_err(|error| format!("this build cannot speak TLS: {error}"))?;
        let builder = match (&files.client_ca_file, &texts.authorities) {
            (Some(path), Some(text)) => {
                let roots = Arc::new(roots(path, text)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let verifier = verifier.map_err(|error| {
                    format!("`client_ca_file` {} is of no use: {error}", crate::files::shown(path))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(identity.server());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { texts, config: Arc::new(config), expiry })
    }
}

fn roots(path: &Path, text: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    pem::authorities("client_ca_file", path, text, &mut roots)?;
    Ok(roots)
}

/// What a failed handshake with a caller means, in words that say what to do.
pub fn explain_caller(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            "the caller presented no certificate, and `client_ca_file` demands one".to_owned()
        }
        Error::InvalidCertificate(flaw) => format!("the caller's certificate {}", judge(flaw)),
        Error::AlertReceived(alert) => refusal(*alert),
        Error::InvalidMessage(_) => "the caller does not speak TLS".to_owned(),
        other => other.to_string(),
    }
}

fn judge(flaw: &CertificateError) -> String {
    match flaw {
        // The signature is wrong where two authorities bear one name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not signed by an authority of `client_ca_file`".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: its owner must renew it".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: are both clocks right?".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for clients: its extended key usage lacks clientAuth".to_owned()
        }
        other => format!("is refused: {other}"),
    }
}

fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => {
            format!(
                "the caller does not trust our certificate ({alert:?}): it needs the authority that signed `cert_file`"
            )
        }
        AlertDescription::CertificateExpired => "the caller says that our certificate has expired".to_owned(),
        other => format!("the caller broke the handshake off with {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, Pair};
    use super::*;

    fn files(authority: &Authority, pair: &Pair) -> InboundFiles {
        InboundFiles {
            cert_file: authority.file("tls.crt", &pair.certificate),
            key_file: authority.file("tls.key", &pair.key),
            client_ca_file: Some(authority.file("clients.pem", &authority.pem)),
        }
    }

    #[test]
    fn a_changed_pair_is_taken_and_an_unchanged_one_is_not() {
        let authority = Authority::new();
        let inbound = Inbound::load(files(&authority, &authority.issue(&["a"], |_| {}))).unwrap();
        let first = inbound.config();
        assert!(inbound.prepare().unwrap().is_none());
        files(&authority, &authority.issue(&["b"], |_| {}));
        let renewed = inbound.prepare().unwrap().expect("it has changed");
        assert!(Arc::ptr_eq(&first, &inbound.config()), "it is only prepared");
        inbound.take(renewed);
        assert!(!Arc::ptr_eq(&first, &inbound.config()));
        assert_eq!(inbound.config().alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn a_broken_or_half_written_pair_keeps_the_old_one_and_says_why() {
        let authority = Authority::new();
        let pair = authority.issue(&["a"], |_| {});
        let inbound = Inbound::load(files(&authority, &pair)).unwrap();
        let first = inbound.config();
        let other = authority.issue(&["b"], |_| {});
        files(&authority, &Pair { certificate: other.certificate.clone(), key: pair.key.clone() });
        let why = inbound.prepare().unwrap_err();
        assert!(why.starts_with("`key_file` ") && why.contains("is not the key of"), "{why}");
        assert!(Arc::ptr_eq(&first, &inbound.config()));
        std::fs::remove_file(&inbound.files().cert_file).unwrap();
        assert!(inbound.prepare().unwrap_err().contains("`cert_file`"));
        files(&authority, &other);
        assert!(inbound.prepare().unwrap().is_some());
    }

    #[test]
    fn what_is_wrong_at_the_start_is_said_with_its_key_and_file() {
        let authority = Authority::new();
        let good = files(&authority, &authority.issue(&["a"], |_| {}));
        let missing = |edit: fn(&mut InboundFiles)| {
            let mut files = good.clone();
            edit(&mut files);
            Inbound::load(files).unwrap_err()
        };
        assert!(missing(|f| f.cert_file = "/nowhere/c".into()).starts_with("`cert_file` /… cannot"));
        assert!(missing(|f| f.key_file = "/nowhere/k".into()).starts_with("`key_file` /… cannot"));
        assert!(missing(|f| f.client_ca_file = Some("/nowhere/a".into())).starts_with("`client_ca_file` "));
        assert!(missing(|f| f.client_ca_file = Some(f.key_file.clone())).contains("but no certificate"));
        assert!(Inbound::load(good.clone()).unwrap().expiry().is_some());
        let absent = InboundFiles {
            cert_file: "/nowhere/c".into(),
            key_file: "/nowhere/k".into(),
            client_ca_file: Some("/nowhere/a".into()),
        };
        let all = absent.faults();
        let keys: Vec<_> = all.iter().filter_map(|why| why.split('`').nth(1)).collect();
        assert_eq!(keys, ["cert_file", "key_file", "client_ca_file"]);
        assert!(good.faults().is_empty());
        let past = authority.issue(&["a"], |params| params.not_after = rcgen::date_time_ymd(2000, 1, 1));
        let why = Inbound::load(files(&authority, &past)).unwrap_err();
        assert!(why.starts_with("`cert_file` ") && why.contains("expired on"), "{why}");
    }
}
