//! TLS settings, and PEM files turned into checked roots and identities; used by egress and by inbound TLS.

mod bundle;
pub mod inbound;
mod key;
mod pem;
mod subject;
#[cfg(test)]
pub(crate) mod testing;
mod validity;
mod waning;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use zeroize::Zeroizing;

pub use bundle::bundle;
pub use inbound::{Inbound, InboundFiles, Renewed};
pub use pem::{Identity, authorities, identity};
pub use validity::{Validity, date};
pub use waning::waning;
pub use words::{explain, explain_renegotiation, is_refusal, is_renegotiation};

use key::{Key, Password};

/// Everything that makes one TLS client differ from another. Two integrations share connections only if their
/// profiles are equal: a pool keyed by host alone would mix client certificates.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Where it is written. It counts in comparing, or the words about one would name the other.
    pub table: Table,
    /// PEM bundles of certificate authorities, besides or instead of the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whether `ca_files` replace the system's roots.
    pub ca_mode: CaMode,
    /// The client certificate chain, PEM, leaf first.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub client_key_file: Option<PathBuf>,
    /// A file with the password of an encrypted key.
    pub client_key_password_file: Option<PathBuf>,
    /// The name to ask for (SNI) and to verify, instead of the URL's host.
    pub server_name: Option<String>,
    /// The lowest version that is spoken.
    pub min_version: Version,
    /// Whether HTTP/2 may be negotiated.
    pub http2: bool,
}

/// Without paths: one may be a key that was written where its file's path belongs.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("ca_files", &self.ca_files.len())
            .field("ca_mode", &self.ca_mode)
            .field("client_cert", &self.client_cert_file.is_some())
            .field("server_name", &self.server_name)
            .field("min_version", &self.min_version)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

/// The table of an integration that a profile stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Table {
    /// `tls`, for the token endpoint too where it has no own.
    #[default]
    Tls,
    /// `token_tls`, which takes nothing from `tls`.
    TokenTls,
}

/// What `ca_file` does to the system's roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaMode {
    /// It is added to them.
    #[default]
    Add,
    /// It replaces them.
    Replace,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.2 or later.
    #[default]
    Tls12,
    /// 1.3 only.
    Tls13,
}

/// A profile with its files as they were read. Two clients may share connections only if these are equal: a
/// certificate that was renewed in place makes another client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Material {
    profile: Profile,
    authorities: Vec<String>,
    certificate: Option<String>,
    key: Option<Key>,
}

/// Everything that a TLS client needs, from `profile` and its files.
///
/// # Errors
///
/// What is wrong in the world, naming the key and the file.
pub fn load(profile: &Profile) -> Result<Arc<ClientConfig>, String> {
    read(profile)?.client()
}

/// The key that names the file with the password of an encrypted key.
const PASSWORD: &str = "client_key_password_file";

/// Reads the files of `profile`; an encrypted key is decrypted, and its password forgotten.
///
/// # Errors
///
/// A file that cannot be read, half of a pair, a client certificate that is not valid now, or something that this
/// version cannot do, naming the key and the file.
pub fn read(profile: &Profile) -> Result<Material, String> {
    let authorities =
        profile.ca_files.iter().map(|path| pem::text("ca_file", path)).collect::<Result<_, _>>()?;
    let (certificate, key) = match (&profile.client_cert_file, &profile.client_key_file) {
        (None, None) => (None, None),
        (Some(_), None) => return Err("`client_cert_file` is set without `client_key_file`".to_owned()),
        (None, Some(_)) => return Err("`client_key_file` is set without `client_cert_file`".to_owned()),
        (Some(certificate), Some(key)) => {
            let sealed = Zeroizing::new(pem::text("client_key_file", key)?);
            let password = profile.client_key_password_file.as_deref();
            let password =
                password.map_or(Password::Unnamed(PASSWORD), |path| Password::File(PASSWORD, path));
            let key = Key::parse("client_key_file", key, &sealed, password)?;
            let text = pem::text("client_cert_file", certificate)?;
            validity::check("client_cert_file", certificate, &text)?;
            (Some(text), Some(key))
        }
    };
    Ok(Material { profile: profile.clone(), authorities, certificate, key })
}

/// Everything that can be seen to be wrong with the files of `profile`: each file that cannot be read and each with a broken
/// authority, or else what `load` says, if there is a client certificate to be put to use, or what `read` does.
pub fn faults(profile: &Profile) -> Vec<String> {
    let files = profile.ca_files.iter().map(|path| ("ca_file", path));
    let files = files.chain(profile.client_cert_file.iter().map(|path| ("client_cert_file", path)));
    let files = files.chain(profile.client_key_file.iter().map(|path| ("client_key_file", path)));
    let mut faults: Vec<_> = files.filter_map(|(key, path)| pem::text(key, path).err()).collect();
    if let Some(path) = &profile.client_key_password_file {
        faults.extend(key::check_password(PASSWORD, path).err());
    }
    for path in &profile.ca_files {
        let text = pem::text("ca_file", path);
        let parsed = text.and_then(|text| authorities("ca_file", path, &text, &mut RootCertStore::empty()));
        faults.extend(parsed.err().filter(|why| !faults.contains(why)));
    }
    if faults.is_empty() {
        let read = read(profile);
        // Whether key and certificate belong together shows only when they are put to use.
        let used = if profile.client_cert_file.is_some() {
            read.and_then(|m| m.client().map(drop))
        } else {
            read.map(drop)
        };
        faults.extend(used.err());
    }
    faults
}

/// When the client certificate of `profile`, or a certificate of its chain, ends first: in seconds since the epoch, from
/// the file as it is now. `None` without one, or if it cannot be read; `read` says why.
pub fn expiry(profile: &Profile) -> Option<u64> {
    let path = profile.client_cert_file.as_deref()?;
    chain_end(path, &pem::text("client_cert_file", path).ok()?)
}

/// Whom the client certificate of `profile` names, from the file as it is now: empty where it names nobody. `None` without
/// one, or if it cannot be read; `read` says why.
pub fn subject(profile: &Profile) -> Option<String> {
    let path = profile.client_cert_file.as_deref()?;
    let chain =
        pem::certificates("client_cert_file", path, &pem::text("client_cert_file", path).ok()?).ok()?;
    subject::of(chain.first()?)
}

fn chain_end(path: &Path, text: &str) -> Option<u64> {
    validity::earliest(&pem::certificates("client_cert_file", path, text).ok()?)
}

impl Material {
    /// The settings that were read.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// When the client certificate, or a certificate of its chain, ends first, in seconds since the epoch.
    pub fn expiry(&self) -> Option<u64> {
        chain_end(self.profile.client_cert_file.as_deref()?, self.certificate.as_ref()?)
    }

    /// The client that these make. It offers HTTP/1.1, and HTTP/2 before that if it may.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, naming the key and the file.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.profile.min_version.and_later())
            .map_err(|error| format!("this build cannot speak `min_version`: {error}"))?
            .with_root_certificates(self.roots()?);
        let mut client = match self.identity(&provider)? {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        let (h2, h1) = (b"h2".to_vec(), b"http/1.1".to_vec());
        client.alpn_protocols = if self.profile.http2 { vec![h2, h1] } else { vec![h1] };
        Ok(Arc::new(client))
    }

    /// The name to ask for and to verify, for an endpoint on `host`.
    ///
    /// # Errors
    ///
    /// A name that is neither a DNS name nor an address.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.profile.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| format!("`{name}` is neither a DNS name nor an IP address: correct it in the URL, or set `server_name`"))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let files = self.profile.ca_files.iter().map(PathBuf::as_path);
        let given = files.zip(&self.authorities).collect::<Vec<(&Path, &String)>>();
        let mut roots = match self.profile.ca_mode {
            CaMode::Replace if given.is_empty() => {
                return Err("`ca_mode = \"replace\"` needs a `ca_file`".to_owned());
            }
            CaMode::Replace => RootCertStore::empty(),
            CaMode::Add => {
                let system = system_roots();
                match system {
                    Ok(roots) if given.is_empty() => return Ok(Arc::clone(roots)),
                    Ok(roots) => RootCertStore::clone(roots),
                    // A minimal image has none: what was given must then do.
                    Err(_) if !given.is_empty() => RootCertStore::empty(),
                    Err(why) => return Err(why.clone()),
                }
            }
        };
        for (path, text) in given {
            authorities("ca_file", path, text, &mut roots)?;
        }
        Ok(Arc::new(roots))
    }

    fn identity(&self, provider: &CryptoProvider) -> Result<Option<Identity>, String> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else { return Ok(None) };
        let (Some(certificate_file), Some(key_file)) =
            (&self.profile.client_cert_file, &self.profile.client_key_file)
        else {
            return Ok(None);
        };
        let certificate = ("client_cert_file", certificate_file.as_path(), certificate.as_str());
        pem::paired(certificate, ("client_key_file", key_file, key), provider).map(Some)
    }
}

impl Version {
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Tls12 => &BOTH,
            Self::Tls13 => &BOTH[..1],
        }
    }
}

/// A client that trusts nobody: it finds out whether TLS is spoken, and needs no authorities for that.
///
/// # Errors
///
/// That this build cannot speak TLS.
pub fn distrustful() -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut client = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}

/// The cryptography that all TLS of ours uses; never installed for the process, since a second library might do so.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// The system's authorities, read at the first use: a start without TLS does not pay for them.
fn system_roots() -> &'static Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!(
                "the system has no certificate authorities{why}: set `ca_file` or SSL_CERT_FILE"
            ));
        }
        Ok(Arc::new(roots))
    })
}

#[cfg(test)]
mod tests {
    use super::testing::Authority;
    use super::*;

    #[test]
    fn a_file_that_changed_in_place_makes_another_client() {
        let authority = Authority::new();
        let profile = authority.trusted_with(&authority.issue_client());
        let first = read(&profile).unwrap();
        assert_eq!(first, read(&profile).unwrap());
        authority.trusted_with(&authority.issue_client());
        assert_ne!(first, read(&profile).unwrap());
        assert!(first.client().is_ok());
        assert!(!format!("{first:?}").contains("PRIVATE KEY"), "a key was printed");
    }

    #[test]
    fn half_of_a_pair_and_what_this_version_cannot_do_are_said_in_words() {
        let authority = Authority::new();
        let whole = authority.trusted_with(&authority.issue_client());
        let cases = [
            (Profile { client_key_file: None, ..whole.clone() }, "without `client_key_file`"),
            (Profile { client_cert_file: None, ..whole.clone() }, "without `client_cert_file`"),
            (Profile { ca_files: vec![], ..whole }, "needs a `ca_file`"),
        ];
        for (profile, words) in cases {
            let error = load(&profile).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn authorities_are_added_to_the_systems_or_replace_them() {
        let authority = Authority::new();
        let roots = |ca_mode| {
            let material = read(&Profile { ca_mode, ..authority.trusted() }).unwrap();
            material.roots().unwrap().len()
        };
        assert_eq!(roots(CaMode::Replace), 1);
        let system = system_roots().as_ref().map_or(0, |roots| roots.len());
        assert_eq!(roots(CaMode::Add), system + 1);
    }

    #[test]
    fn a_name_is_verified_as_it_is_configured() {
        let of = |server_name: Option<&str>| {
            let profile = Profile { server_name: server_name.map(str::to_owned), ..Profile::default() };
            read(&profile).unwrap().server_name("10.0.0.1").map(|name| name.to_str().into_owned())
        };
        assert_eq!(of(None).unwrap(), "10.0.0.1");
        assert_eq!(of(Some("a.example")).unwrap(), "a.example");
        assert!(of(Some("not a name")).unwrap_err().contains("`server_name`"));
    }
}
