//! Why a request got no answer: causes, not HTTP statuses.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::time::Duration;

/// Why an answer has no head, or its body no end.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It makes no sense as HTTP; in words.
    #[error("{0}")]
    Garbled(String),
    /// The connection was closed where an answer should begin.
    #[error("the connection was closed")]
    Closed,
    /// The connection was closed inside the body.
    #[error("the connection was closed before its end")]
    Cut,
    /// The connection broke.
    #[error("{}", words(.0))]
    Io(#[from] io::Error),
    /// Over HTTP/2 the peer did not say within this time that it is still there, and the connection was given up.
    #[error("a ping of HTTP/2 was not answered within {0:?}")]
    Unanswered(Duration),
    /// What hyper says of HTTP/2.
    #[error("{0}")]
    Http2(hyper::Error),
}

impl LineError {
    /// What the system or TLS says, where one of them does.
    pub(super) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io(io) => Some(io),
            Self::Http2(error) => cause(error),
            Self::Garbled(_) | Self::Closed | Self::Cut | Self::Unanswered(_) => None,
        }
    }
}

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
    /// The answer makes no sense as HTTP: bad framing, an unasked 101, a head without end.
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

    /// What `error` means; `unsent`: no byte of the request was written.
    pub(super) fn of(host: &str, error: &LineError, unsent: bool) -> Self {
        if unsent {
            return Self::Connect(format!("{host} closed the connection before the request was sent"));
        }
        if let LineError::Garbled(why) = error {
            return Self::garbled(host, why);
        }
        if let LineError::Unanswered(_) = error {
            return Self::Closed(format!(
                "{host} fell silent before it answered, and the connection was given up: {error}"
            ));
        }
        if let LineError::Http2(error) = error
            && let Some(h2) = cause::<h2::Error>(error).filter(|h2| !h2.is_io())
        {
            return Self::Closed(format!("{host} ended the request before it answered: {h2}"));
        }
        Self::Closed(match error.io() {
            Some(io) => format!("{host} broke the connection before it answered: {}", words(io)),
            None => format!("{host} closed the connection before it answered"),
        })
    }
}

/// What the system or TLS says, but for the page of rustls' manual that it names: it is written for those who program it.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::UnexpectedEof if text.contains("close_notify") => {
            "the connection was closed without TLS' goodbye (close_notify)".to_owned()
        }
        _ => text,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_tls_goodbye_is_told_in_words_of_ours() {
        let text =
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/#unexpected-eof";
        let error = LineError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        for told in [error.to_string(), SendError::of("a.example", &error, false).to_string()] {
            assert!(told.contains("TLS' goodbye (close_notify)") && !told.contains("docs.rs"), "{told}");
        }
        let reset = LineError::Io(io::ErrorKind::ConnectionReset.into());
        assert_eq!(reset.to_string(), "connection reset");
    }
}
