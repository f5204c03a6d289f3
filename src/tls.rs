//! TLS settings, and PEM files turned into checked roots and identities; used by egress and by inbound TLS.

use std::path::PathBuf;

/// Everything that makes one TLS client differ from another. Two integrations share connections only if their
/// profiles are equal: a pool keyed by host alone would mix client certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Profile {
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
