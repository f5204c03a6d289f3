//! The little world of `outrider demo`: the mocks on loopback, plain and behind TLS with an authority made for the
//! occasion, and a temporary directory with the configuration that leads to them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::mock::{self, ACME_MODEL, ANTHROPIC_MODEL, KEY, OPENAI_MODEL};
use super::tokens::{CLIENT, TokenDesk};
use crate::tasks::Tasks;
use crate::tls;

/// Everything that the sidecar is shown. Dropping it removes the directory.
pub(super) struct World {
    /// Where the mocks listen without TLS.
    pub(super) plain: SocketAddr,
    /// Where they listen with TLS.
    pub(super) secure: SocketAddr,
    /// Where they listen with TLS and demand a client certificate of the authority.
    pub(super) mutual: SocketAddr,
    /// The token endpoint.
    pub(super) desk: Arc<TokenDesk>,
    /// Whether the configuration has a handler.
    pub(super) has_handler: bool,
    directory: tempfile::TempDir,
}

impl World {
    /// Starts the mocks and writes the configuration; with `python` the example handler and an integration for it.
    pub(super) async fn start(tasks: &Tasks, python: Option<&Path>) -> Result<Self, String> {
        let Certificates { authority, server, strict, client, client_key } =
            certificates().map_err(|e| format!("the mocks' certificates: {e}"))?;
        let desk = Arc::new(TokenDesk::default());
        let listening = |e| format!("no port on 127.0.0.1 for the mocks: {e}");
        let plain = listen(tasks, &desk, None).await.map_err(listening)?;
        let secure = listen(tasks, &desk, Some(TlsAcceptor::from(server))).await.map_err(listening)?;
        let mutual = listen(tasks, &desk, Some(TlsAcceptor::from(strict))).await.map_err(listening)?;
        let directory = tempfile::Builder::new().prefix("outrider-demo-").tempdir();
        let directory = directory.map_err(|e| format!("no temporary directory: {e}"))?;
        let world = Self { plain, secure, mutual, desk, has_handler: python.is_some(), directory };
        let handlers = python.map_or_else(String::new, |python| world.handlers(python));
        let egress = python.map_or_else(String::new, |python| world.egress(python));
        let files = [
            ("ca.pem", authority),
            ("client.pem", client),
            ("client-key.pem", client_key),
            ("client-secret", CLIENT.1.to_owned()),
            ("config.toml", world.settings() + &handlers),
            ("egress.toml", egress),
            (HANDLER, EXAMPLE.to_owned()),
        ];
        for (name, text) in files {
            let path = world.path(name);
            std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        Ok(world)
    }

    /// The configuration that leads to the mocks.
    pub(super) fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// The configuration of a second sidecar, through which the handler's own requests leave; `None` without a handler.
    pub(super) fn egress_config(&self) -> Option<PathBuf> {
        self.has_handler.then(|| self.path("egress.toml"))
    }

    /// A file of the temporary directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The example handler before its provider, by itself.
    fn handlers(&self, python: &Path) -> String {
        let (plain, client) = (self.plain, CLIENT.0);
        let python = toml::Value::String(python.display().to_string());
        format!(
            r#"
[handlers]
enabled = true
directory = "."
python = {python}

[integrations.py-handler]
endpoint = "http://{plain}/acme"
authentication_type = "oauth2"
oauth2_token_url = "http://{plain}/oauth2/token"
authentication_scope = "inference"
oauth2 = {{ client_id = "{client}", client_secret_file = "client-secret" }}
models = ["{ACME_MODEL}"]
custom_llm_config = {{ file_name = "{HANDLER}", class_name = "ExampleHandler" }}
"#
        )
    }

    /// The same handler, whose requests leave through the sidecar: a configuration of its own, since that is said once
    /// for all handlers.
    fn egress(&self, python: &Path) -> String {
        let (mutual, client) = (self.mutual, CLIENT.0);
        let python = toml::Value::String(python.display().to_string());
        format!(
            r#"# Written by `outrider demo`.
[server]
listen = "127.0.0.1:0"
start = "strict"

[admin]
listen = "off"

[log]
level = "error"
access = false

[handlers]
enabled = true
directory = "."
python = {python}
egress = true

[integrations.py-egress]
endpoint = "https://{mutual}/acme"
authentication_type = "oauth2"
oauth2_token_url = "https://{mutual}/oauth2/token"
authentication_scope = "inference"
oauth2 = {{ client_id = "{client}", client_secret_file = "client-secret" }}
tls = {{ ca_file = "ca.pem", client_cert_file = "client.pem", client_key_file = "client-key.pem" }}
proxy = "none"
models = ["{ACME_MODEL}"]
custom_llm_config = {{ file_name = "{HANDLER}", class_name = "ExampleHandler" }}
"#
        )
    }

    fn settings(&self) -> String {
        let (plain, secure, mutual) = (self.plain, self.secure, self.mutual);
        let (header, key) = KEY;
        let client = CLIENT.0;
        // Strict, the start waits for handlers: importing litellm takes seconds, which would be in the figures.
        let start = if self.has_handler { "strict" } else { "degrade" };
        format!(
            r#"# Written by `outrider demo`.
[server]
listen = "127.0.0.1:0"
start = "{start}"

[admin]
listen = "127.0.0.1:0"

[log]
level = "error"
access = false

[integrations.openai-key]
format = "openai"
endpoint = "http://{plain}/v1"
authentication_type = "api_key"
api_key_header = "{header}"
api_key_value = "{key}"
models = ["{OPENAI_MODEL}"]

[integrations.openai-open]
format = "openai"
endpoint = "http://{plain}/open/v1"
authentication_type = "none"
models = ["{OPENAI_MODEL}"]

[integrations.claude-oauth]
format = "anthropic"
endpoint = "https://{secure}"
authentication_type = "oauth2"
oauth2_token_url = "https://{secure}/oauth2/token"
authentication_scope = "inference"
oauth2 = {{ client_id = "{client}", client_secret_file = "client-secret", client_auth = "basic" }}
tls = {{ ca_file = "ca.pem" }}
proxy = "none"
models = ["{ANTHROPIC_MODEL}"]

[integrations.claude-mtls]
format = "anthropic"
endpoint = "https://{mutual}"
authentication_type = "oauth2"
oauth2_token_url = "https://{mutual}/oauth2/token"
authentication_scope = "inference"
oauth2 = {{ client_id = "{client}", client_secret_file = "client-secret" }}
tls = {{ ca_file = "ca.pem", client_cert_file = "client.pem", client_key_file = "client-key.pem" }}
proxy = "none"
models = ["{ANTHROPIC_MODEL}"]
"#
        )
    }
}

const HANDLER: &str = "example_handler.py";
const EXAMPLE: &str = include_str!("../../../handlers/example_handler.py");

/// What is made afresh for each demo.
struct Certificates {
    /// The authority, PEM.
    authority: String,
    /// A server that it vouches for.
    server: Arc<ServerConfig>,
    /// The same, which demands a client certificate of the authority.
    strict: Arc<ServerConfig>,
    /// Such a certificate, PEM, and its key.
    client: String,
    client_key: String,
}

fn certificates() -> Result<Certificates, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Outrider demo authority");
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder =
        || ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let chain = || vec![leaf.der().clone()];
    let server = builder()?.with_no_client_auth().with_single_cert(chain(), key.clone_key())?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider()).build()?;
    let strict = builder()?.with_client_cert_verifier(clients).with_single_cert(chain(), key)?;
    let client_key = KeyPair::generate()?;
    let mut client = CertificateParams::new(vec!["outrider-demo".to_owned()])?;
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(Certificates {
        authority: authority.pem(),
        server: Arc::new(server),
        strict: Arc::new(strict),
        client: client.signed_by(&client_key, &issuer)?.pem(),
        client_key: client_key.serialize_pem(),
    })
}

/// Serves the mocks on a free port, until the process ends.
async fn listen(
    tasks: &Tasks,
    desk: &Arc<TokenDesk>,
    tls: Option<TlsAcceptor>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (tasks, desk) = (tasks.clone(), Arc::clone(desk));
    drop(tasks.clone().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(tasks.spawn(serve(stream, Arc::clone(&desk), tls.clone())));
        }
    }));
    Ok(address)
}

async fn serve(stream: TcpStream, desk: Arc<TokenDesk>, tls: Option<TlsAcceptor>) {
    // Without it, Nagle's algorithm would be part of every figure in the table.
    _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, desk).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                speak(stream, desk).await;
            }
        }
    }
}

/// HTTP on one connection; a client that breaks it is its own affair.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Arc<TokenDesk>) {
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(mock::answer(request, &desk).await) }
    });
    _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
