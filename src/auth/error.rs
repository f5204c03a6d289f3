//! Why a request got no right to enter, in words that a client may read: they name the token endpoint's host and
//! never a secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::credential::Proof;

/// No token could be had. All who waited for one fetch get the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The token endpoint refused what it was shown: sending the request again cannot help.
    Refused {
        /// The token endpoint's host, with its port if the URL names one.
        host: Arc<str>,
        /// What it was shown.
        proof: &'static Proof,
        /// Its HTTP status; 200 when the refusal stood in a 200.
        status: u16,
        /// Its `error` (RFC 6749 §5.2), cleaned and shortened.
        error: Option<String>,
        /// Its `error_description`, cleaned and shortened.
        description: Option<String>,
    },
    /// The token endpoint is down, slow, or answers nonsense.
    Unavailable {
        /// The token endpoint's host, with its port if the URL names one.
        host: Arc<str>,
        /// What happened, to be read after "no token from HOST: ".
        words: String,
        /// The same without the token endpoint's own words.
        ours: String,
        /// When the next try is made.
        retry_after: Duration,
        /// It fails as long as nobody changes something: TLS, or a proxy that refuses our credentials.
        hopeless: bool,
    },
    /// The request cannot be signed as it is.
    Unsignable(String),
}

impl AuthError {
    /// When a client may try again; `None` if that cannot help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { .. } | Self::Unsignable(_) => None,
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
        }
    }

    /// The same in words of ours alone: without those of the token endpoint.
    pub fn in_our_words(&self) -> String {
        match self {
            Self::Refused { host, proof, status, .. } => {
                format!("the token endpoint {host} refused our {} with status {status}", proof.name)
            }
            Self::Unavailable { host, ours, retry_after, .. } => {
                format!("no token from {host}: {ours}; next try in {:.1} s", retry_after.as_secs_f64())
            }
            Self::Unsignable(why) => format!("the request cannot be signed: {why}"),
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { host, proof, status, error, description } => {
                write!(f, "the token endpoint {host} refused our {} with status {status}", proof.name)?;
                for words in [error, description].into_iter().flatten() {
                    write!(f, ": {words}")?;
                }
                write!(f, "; check {}", proof.check)
            }
            Self::Unavailable { host, words, retry_after, .. } => {
                write!(f, "no token from {host}: {words}; next try in {:.1} s", retry_after.as_secs_f64())
            }
            Self::Unsignable(why) => write!(f, "the request cannot be signed: {why}"),
        }
    }
}

impl std::error::Error for AuthError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_refused_with_what_words_and_what_to_check() {
        const PROOF: Proof = Proof { name: "client credentials", check: "client_id and the scope" };
        let error = AuthError::Refused {
            host: "idp.example:8443".into(),
            proof: &PROOF,
            status: 401,
            error: Some("invalid_client".into()),
            description: Some("unknown client".into()),
        };
        assert_eq!(
            error.to_string(),
            "the token endpoint idp.example:8443 refused our client credentials with status 401: invalid_client: \
             unknown client; check client_id and the scope"
        );
        assert_eq!(error.retry_after(), None);
    }

    #[test]
    fn an_outage_says_when_the_next_try_is() {
        let error = AuthError::Unavailable {
            host: "idp.example".into(),
            words: "it answered 503 (down: for now)".into(),
            ours: "it answered 503".into(),
            retry_after: Duration::from_millis(1900),
            hopeless: false,
        };
        let all = "no token from idp.example: it answered 503 (down: for now); next try in 1.9 s";
        assert_eq!(error.to_string(), all);
        let ours = "no token from idp.example: it answered 503; next try in 1.9 s";
        assert_eq!(error.in_our_words(), ours);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1900)));
    }
}
