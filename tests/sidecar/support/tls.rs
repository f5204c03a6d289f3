//! A certificate authority of the test's own, and servers with certificates that it signed.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are good"))
    }

    /// Its certificate, as `ca_file` wants it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// TLS settings of a server that is `name` (a host name or an address).
    pub(crate) fn server(&self, name: &str) -> ServerConfig {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("the name is good");
        let key = KeyPair::generate().expect("a key can be made");
        let leaf = params.signed_by(&key, &self.0).expect("the authority can sign");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key is PKCS #8");
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("the key belongs to the certificate")
    }
}
