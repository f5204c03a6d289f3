//! Why a request got no answer: causes, not HTTP statuses.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use super::pool::MAX_HEAD;
use super::wire::Flood;

/// Why a request got no answer. Each holds the words for the client: they name the upstream host and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host's name has no address.
    #[error("{0}")]
    Resolve(String),
    /// No connection: refused, unreachable, or closed before the request was handed over.
    #[error("{0}")]
    Connect(String),
    /// DNS, TCP and TLS took longer than the connect limit.
    #[error("{0}")]
    ConnectTimeout(String),
    /// TLS failed, before a byte of the request was read.
    #[error("{0}")]
    Tls(String),
    /// The proxy refused or failed.
    #[error("{0}")]
    Proxy(String),
    /// The proxy wants other credentials than it was given (407): asking it again cannot help.
    #[error("{0}")]
    ProxyAuth(String),
    /// No response head within the limit.
    #[error("{0}")]
    FirstByteTimeout(String),
    /// The upstream reset or closed the connection before it had answered.
    #[error("{0}")]
    Closed(String),
    /// The answer makes no sense as HTTP/1.1: bad framing, an unasked 101, a head without end.
    #[error("{0}")]
    Garbled(String),
}

impl SendError {
    /// Whether the upstream may have read a byte of the request. A POST for which this is true is never sent again.
    pub fn reached_upstream(&self) -> bool {
        match self {
            Self::Resolve(_)
            | Self::Connect(_)
            | Self::ConnectTimeout(_)
            | Self::Tls(_)
            | Self::Proxy(_)
            | Self::ProxyAuth(_) => false,
            Self::FirstByteTimeout(_) | Self::Closed(_) | Self::Garbled(_) => true,
        }
    }

    pub(super) fn silent(host: &str, limit: Duration) -> Self {
        Self::FirstByteTimeout(format!("{host} did not begin to answer within {limit:?} (first_byte)"))
    }

    pub(super) fn garbled(host: &str, why: impl Display) -> Self {
        Self::Garbled(format!("the answer of {host} cannot be used: {why}"))
    }

    /// What a failure of hyper's means; `unsent`: no byte of the request was written.
    pub(super) fn from_hyper(host: &str, error: &hyper::Error, unsent: bool) -> Self {
        if unsent
            && cause::<hyper::Error>(error)
                .is_some_and(|inner| inner.to_string().contains("unexpected message"))
        {
            return Self::Connect(format!("{host} spoke before it was asked: is it an HTTP server?"));
        }
        if unsent {
            return Self::Connect(format!("{host} closed the connection before the request was sent"));
        }
        if error.is_parse() {
            let mut why = error.to_string();
            if why.contains("too large") {
                why = format!("its head has more than {} KiB or 100 fields", MAX_HEAD >> 10);
            }
            return Self::garbled(host, why);
        }
        if let Some(h2) = cause::<h2::Error>(error).filter(|h2| !h2.is_io()) {
            return Self::Closed(format!("{host} ended the request before it answered: {h2}"));
        }
        match cause::<io::Error>(error) {
            Some(io) if io.get_ref().is_some_and(|inner| inner.is::<Flood>()) => Self::garbled(host, io),
            Some(io) => Self::Closed(format!("{host} broke the connection before it answered: {io}")),
            None => Self::Closed(format!("{host} closed the connection before it answered")),
        }
    }
}

/// The first cause of `error` that is a `T`.
pub(super) fn cause<T: Error + 'static>(error: &hyper::Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(inner) = next {
        match inner.downcast_ref() {
            Some(found) => return Some(found),
            None => next = inner.source(),
        }
    }
    None
}
