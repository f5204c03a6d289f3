//! A certificate authority of the test's own, and servers with certificates that it signed.

use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// The certificate as it is shown, DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it is PEM").to_vec()
    }
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed that has its issuer's name.
        params.distinguished_name.push(DnType::CommonName, "The authority of a test");
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are good"))
    }

    /// Its certificate, as `ca_file` wants it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` (a host name or an address) and its key.
    fn leaf(&self, name: &str) -> (Certificate, KeyPair) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("the name is good");
        let key = KeyPair::generate().expect("a key can be made");
        let leaf = params.signed_by(&key, &self.0).expect("the authority can sign");
        (leaf, key)
    }

    /// A client's certificate and its key, both PEM.
    pub(crate) fn client(&self) -> (String, String) {
        let (leaf, key) = self.leaf("client.example");
        (leaf.pem(), key.serialize_pem())
    }

    /// A certificate for `name`, and its key.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        let (leaf, key) = self.leaf(name);
        Pair { certificate: leaf.pem(), key: key.serialize_pem() }
    }

    /// TLS settings of a client that trusts this authority, and presents `pair` if it is asked.
    pub(crate) fn caller(&self, pair: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("the authority is good");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(roots);
        let Some(pair) = pair else { return builder.with_no_client_auth() };
        let chain = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("it is PEM");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("it is PEM");
        builder.with_client_auth_cert(vec![chain], key).expect("the key belongs to the certificate")
    }

    /// The certificate of a client whose private key is `key` (PEM), changed by `edit`.
    pub(crate) fn client_of(&self, key: &str, edit: impl FnOnce(&mut CertificateParams)) -> String {
        let key = KeyPair::from_pem(key).expect("the key is PKCS #8");
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).expect("the name is good");
        edit(&mut params);
        params.signed_by(&key, &self.0).expect("the authority can sign").pem()
    }

    /// A client's certificate that ended years ago, and its key, both PEM.
    pub(crate) fn expired_client(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key can be made").serialize_pem();
        let ended = |params: &mut CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        };
        (self.client_of(&key, ended), key)
    }

    /// TLS settings of a server that is `name`.
    pub(crate) fn server(&self, name: &str) -> ServerConfig {
        self.server_with(name, None)
    }

    /// Likewise, but every client must show a certificate that this authority signed.
    pub(crate) fn strict_server(&self, name: &str) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("the authority's certificate is good");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        self.server_with(name, Some(verifier.build().expect("there is a root")))
    }

    fn server_with(&self, name: &str, clients: Option<Arc<dyn ClientCertVerifier>>) -> ServerConfig {
        let (leaf, key) = self.leaf(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key is PKCS #8");
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        builder.with_single_cert(vec![leaf.der().clone()], key).expect("the key belongs to the certificate")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
