//! Why a request could not be answered: causes with their facts, to be turned into HTTP by the reply room alone.

use std::time::Duration;

use super::heard::Answered;
use super::hide::Masked;
use crate::auth::AuthError;
use crate::dialect::Untranslatable;
use crate::egress::SendError;
use crate::integration::{Busy, Entry, NotFound, Refused, TooMuch};
use crate::openai::Fault;
use crate::openai::scan::ScanError;
use crate::outbound::Report;
use crate::workers::{Absent, HandlerFailure};

/// Why a request could not be answered.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The body is not what an OpenAI client sends.
    InvalidBody {
        message: String,
        param: Option<String>,
    },
    /// The head is not fit for HTTP/1.1 as served here; the connection is closed.
    BadRequest(&'static str),
    /// The client left before all of its request's body had come.
    Left,
    CallerUnauthorized,
    NotFound(String),
    /// The integration does not speak OpenAI's format, so that nothing but what is translated can be asked of it.
    NotRelayed {
        integration: String,
        format: &'static str,
        embeds: bool,
    },
    /// The methods that are allowed.
    MethodNotAllowed(&'static str),
    UnsupportedMedia(&'static str),
    BodyTooSlow(Duration),
    /// The limit, in bytes.
    HeadTooLarge(usize),
    /// The limit, in bytes.
    BodyTooLarge(usize),
    Routing(Box<NotFound>),
    /// A field that the integration cannot take.
    Unsupported {
        message: String,
        param: String,
    },
    /// The integration's own settings failed to translate a good request.
    Untranslated {
        message: String,
        param: String,
    },
    MediaLimit(TooMuch),
    /// The integration is failed by the world: the remedy.
    Unavailable {
        integration: String,
        remedy: String,
    },
    Busy(Busy),
    Draining,
    Token(Box<AuthError>),
    Send(SendError),
    /// No worker of a handler can be had.
    Absent(Absent),
    /// A worker gave no answer.
    Handler(HandlerFailure),
    /// A handler's own refusal, and what kind of one.
    Raised(Box<Refusal>, &'static str),
    /// The upstream's own refusal.
    Upstream(Box<Refusal>),
    /// The upstream's answer makes no sense; how, in words of ours alone.
    Garbled(String),
    /// The same, in words that hold some of the upstream's: not for the log.
    Nonsense(Masked<String>),
    /// A stream was asked for, and something whole came: in such words too.
    Unstreamed(Masked<String>),
    /// A whole answer was asked for, and a stream of events came.
    Streamed,
    /// An answer of another format than the integration's.
    Foreign {
        format: &'static str,
        own: &'static str,
    },
    /// The upstream's answer is longer than it may be, which is so many bytes (`limits.max_answer`).
    TooLong(usize),
    /// The upstream compressed its answer, which was not asked for: in such words too.
    Compressed(Masked<String>),
    /// The upstream answered with this redirect status.
    Redirect(u16),
    /// The upstream fell silent inside its answer.
    Silent(Duration),
    /// The client's own patience, which is so long, was about to end.
    Patience(Duration, Awaited),
    /// Any of them, before a body that was not read to its end: the connection cannot be used again.
    Unread(Box<Self>),
    /// Any of them, after the upstream's head had come.
    Answered(Box<Answered>),
    /// Our own fault; the words are for the log alone.
    Internal(&'static str),
}

/// What a client was waiting for when its patience ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A place among the requests that are served at once.
    Turn,
    /// A token.
    Token,
    /// The answer.
    Answer,
}

/// What an upstream said that it does not do, and what of the request it never saw: often the one explains the other.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) fault: Masked<Fault>,
    pub(super) report: Report,
}

impl Failure {
    /// Whether the connection ends with the answer anyway.
    pub(super) fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::BodyTooSlow(_)
                | Self::Left
                | Self::HeadTooLarge(_)
                | Self::BodyTooLarge(_)
                | Self::Draining
                | Self::Unread(_)
        )
    }

    /// What did not reach the upstream that refused.
    pub(super) fn report(&self) -> Option<&Report> {
        match self {
            Self::Upstream(refusal) | Self::Raised(refusal, _) => Some(&refusal.report),
            Self::Answered(answered) => answered.failure.report(),
            _ => None,
        }
    }

    /// The integration cannot serve because of the world outside.
    pub(super) fn unavailable(entry: &Entry) -> Self {
        let remedy = entry.state.as_ref().err().cloned().unwrap_or_default();
        Self::Unavailable { integration: entry.settings.name.to_string(), remedy }
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        Self::InvalidBody { message: error.to_string(), param: None }
    }
}

impl From<NotFound> for Failure {
    fn from(not_found: NotFound) -> Self {
        Self::Routing(Box::new(not_found))
    }
}

impl From<TooMuch> for Failure {
    fn from(too_much: TooMuch) -> Self {
        Self::MediaLimit(too_much)
    }
}

impl From<Busy> for Failure {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let Refused { param, message, unsupported } = refused;
        if unsupported {
            Self::Unsupported { message, param }
        } else {
            Self::InvalidBody { message, param: Some(param) }
        }
    }
}

impl From<Untranslatable> for Failure {
    fn from(untranslatable: Untranslatable) -> Self {
        let Untranslatable { param, message, malformed, failed } = untranslatable;
        if failed {
            Self::Untranslated { message, param }
        } else if malformed {
            Self::InvalidBody { message, param: Some(param) }
        } else {
            Self::Unsupported { message, param }
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Self::Token(Box::new(error))
    }
}

impl From<Absent> for Failure {
    fn from(absent: Absent) -> Self {
        Self::Absent(absent)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}
