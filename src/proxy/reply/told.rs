//! A failure as its client is told it, and as the log has it.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

/// A failure as the client is told it.
#[derive(Debug)]
pub(in crate::proxy) struct Told {
    pub(super) status: StatusCode,
    /// OpenAI's `code`: ours, stable; for the upstream's own refusals its word if it gave one.
    pub(in crate::proxy) code: Cow<'static, str>,
    pub(super) kind: Cow<'static, str>,
    pub(super) message: String,
    /// The words for the log, where the client is told less.
    pub(super) inner: Option<Cow<'static, str>>,
    /// The code for log and metrics, where the client's is the upstream's own word: those have no end.
    pub(super) ours: Option<&'static str>,
    pub(super) param: Option<String>,
    /// What some providers say beyond OpenAI's fields, as JSON.
    pub(super) innererror: Option<String>,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
    /// Whether a retry cannot help.
    pub(super) hopeless: bool,
    /// Whether the connection ends with this answer.
    pub(super) close: bool,
    /// The upstream's own headers that steer retries.
    pub(super) headers: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    innererror: Option<&'a RawValue>,
}

impl Told {
    /// `{"error":{"message","type","param","code"}}`.
    pub(in crate::proxy) fn json(&self) -> Vec<u8> {
        let error = Error {
            message: &self.message,
            kind: &self.kind,
            param: self.param.as_deref(),
            code: &self.code,
            innererror: self.innererror.as_deref().and_then(|json| serde_json::from_str(json).ok()),
        };
        serde_json::to_vec(&Envelope { error }).unwrap_or_default()
    }

    /// The status.
    pub(in crate::proxy) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The words for the log.
    pub(in crate::proxy) fn cause(&self) -> String {
        self.inner.as_deref().unwrap_or(&self.message).to_owned()
    }

    /// The code for log and metrics.
    pub(in crate::proxy) fn label(&self) -> &str {
        self.ours.unwrap_or(&self.code)
    }

    /// What the log says instead: the message holds words of the client or the upstream, and so perhaps a prompt.
    pub(super) fn logged(mut self, words: impl Into<Cow<'static, str>>) -> Self {
        self.inner = Some(words.into());
        self
    }

    pub(super) fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::NOT_FOUND => "not_found_error",
            s if s.is_client_error() => "invalid_request_error",
            StatusCode::INTERNAL_SERVER_ERROR => "server_error",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable_error",
            _ => "upstream_error",
        };
        Self {
            status,
            code: code.into(),
            kind: kind.into(),
            message,
            inner: None,
            ours: None,
            param: None,
            innererror: None,
            retry_after: None,
            hopeless: false,
            close: false,
            headers: Vec::new(),
        }
    }

    pub(super) fn param(mut self, param: Option<String>) -> Self {
        self.param = param;
        self
    }

    pub(super) fn after(mut self, wait: Duration) -> Self {
        // Whole seconds, and no time at which the next try would be too early.
        self.retry_after = Some(wait.as_secs_f64().ceil().max(1.0) as u64);
        self
    }

    pub(super) fn hopeless(mut self) -> Self {
        self.hopeless = true;
        self
    }

    pub(super) fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}
