//! TLS towards one name: the handshake, and what its failures mean.

use std::{fmt, io};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Address;
use super::preview::TlsRoute;
use crate::tls;

/// TLS towards one host.
pub(super) struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
    profile: tls::Profile,
    /// As the endpoint's URL names it.
    host: String,
    /// With its port.
    shown: String,
}

impl Secure {
    /// TLS towards `address` with what was read for it.
    pub(super) fn new(address: &Address, material: &tls::Material) -> Result<Self, String> {
        Ok(Self {
            name: material.server_name(address.host())?,
            connector: TlsConnector::from(material.client()?),
            profile: material.profile().clone(),
            host: address.host().to_owned(),
            shown: address.shown().to_owned(),
        })
    }

    /// What it asks for.
    pub(super) fn route(&self) -> TlsRoute {
        TlsRoute { server_name: self.name.to_str().into_owned(), offers_http2: self.profile.http2 }
    }

    /// Whether it lets the server choose HTTP/2.
    pub(super) fn offers_http2(&self) -> bool {
        self.profile.http2
    }

    /// The handshake over `io`; what went wrong comes in words.
    pub(super) async fn shake_hands<S>(&self, io: S) -> Result<Box<TlsStream<S>>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(self.name.clone(), io).await.map(Box::new).map_err(|io| {
            match rustls_error(&io) {
                Some(error) => tls::explain(error, &self.host, &self.profile),
                None => format!(
                    "{} closed the connection during the TLS handshake ({io}): does it speak TLS on this port?",
                    self.shown
                ),
            }
        })
    }

    /// What `refusal`, met on a connection, has to do with the handshake, if it has. On a `fresh` one it may be its end;
    /// on a `renegotiable` one (TLS 1.2) our refusal to begin another.
    pub(super) fn late_refusal(
        &self,
        refusal: &rustls::Error,
        fresh: bool,
        renegotiable: bool,
    ) -> Option<String> {
        if renegotiable && tls::is_renegotiation(refusal) {
            return Some(tls::explain_renegotiation(&self.host));
        }
        let is_ours = fresh && tls::is_refusal(refusal);
        is_ours.then(|| tls::explain(refusal, &self.host, &self.profile))
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure")
            .field("name", &self.name)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// What rustls says inside `io`.
pub(super) fn rustls_error(io: &io::Error) -> Option<&rustls::Error> {
    io.get_ref().and_then(|inner| inner.downcast_ref())
}
