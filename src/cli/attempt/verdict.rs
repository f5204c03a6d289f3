//! What a failure means to who tries: at which step it was, whose fault it is, what to do next, and the exit code. The
//! code of the access line decides, since it is always a word of ours.

use std::borrow::Cow;

use http::uri::Scheme;

use super::blame;
use crate::cli::Exit;
use crate::config::valid::Integration;

/// What is to be said of a failure besides its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// At which step of the way it was.
    pub(super) step: &'static str,
    /// Whose fault it is.
    pub(super) fault: Cow<'static, str>,
    /// What to do.
    pub(super) next: Cow<'static, str>,
    /// How the command ends.
    pub(super) exit: Exit,
}

/// What is known of a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// Our code.
    pub(super) code: &'a str,
    /// The status that a client sees, or would have seen.
    pub(super) status: u16,
    /// What a client is told.
    pub(super) message: &'a str,
    /// The integration.
    pub(super) settings: &'a Integration,
    /// The model as the upstream knows it, and the URL that was asked.
    pub(super) asked: Option<(&'a str, &'a str)>,
    /// Whether the upstream gave its request an id.
    pub(super) has_id: bool,
}

impl Case<'_> {
    /// Whether the endpoint is spoken to without TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.settings.endpoint.scheme() == Some(&Scheme::HTTP)
    }
}

impl Verdict {
    /// That of `case`.
    pub(super) fn of(case: &Case<'_>) -> Self {
        blame::of(case).or_else(|| row(case.code).cloned()).unwrap_or(UNKNOWN)
    }
}

/// What is always to be said of `code`.
pub(super) fn row(code: &str) -> Option<&'static Verdict> {
    TABLE.iter().find(|(known, _)| *known == code).map(|(_, verdict)| verdict)
}

const fn verdict(step: &'static str, fault: &'static str, next: &'static str, exit: Exit) -> Verdict {
    Verdict { step, fault: Cow::Borrowed(fault), next: Cow::Borrowed(next), exit }
}

const UPSTREAM: &str = "the upstream's";
const REACH: &str = "the network's, the upstream's, or a wrong `endpoint` in the configuration";
const CONFIG: &str = "the configuration's, or that of the files that it names";
const REQUEST: &str = "the request's: it was refused before anything was sent";
const OURS: &str = "Outrider's";
const HANDLER: &str = "the handler's";

const UNKNOWN: Verdict = verdict("answer", "unknown", "please report it with the words above", Exit::Failed);

/// One row for each code that the README lists.
static TABLE: [(&str, Verdict); 32] = [
    (
        "upstream_error",
        verdict(
            "answer",
            UPSTREAM,
            "try again; if it stays, give the upstream's request id to those who run it",
            Exit::Failed,
        ),
    ),
    (
        "handler_error",
        verdict("answer", HANDLER, "read its message; the log on stderr has the traceback", Exit::Failed),
    ),
    (
        "token_refused",
        verdict(
            "token",
            "the credentials': the token endpoint does not take them",
            "check client id, secret, scope and `client_auth` with those who run the token endpoint",
            Exit::Refused,
        ),
    ),
    (
        "token_unavailable",
        verdict(
            "token",
            "the token endpoint's, the network's, or a wrong `oauth2_token_url`",
            "`outrider check --online` connects to it; its TLS and proxy are those of `token_tls` and `proxy`",
            Exit::Unreachable,
        ),
    ),
    (
        "upstream_unreachable",
        verdict(
            "connection",
            REACH,
            "`outrider check --online` tries it step by step, here and in the runner's pod",
            Exit::Unreachable,
        ),
    ),
    (
        "upstream_tls",
        verdict(
            "connection",
            "the TLS settings', ours or the upstream's, or a proxy's that breaks TLS open",
            "do what the message says: mostly it is `ca_file`, `server_name` or `client_cert_file` in `tls`",
            Exit::Unreachable,
        ),
    ),
    (
        "proxy_refused",
        verdict(
            "connection",
            "the proxy's on the way out",
            "check `proxy`, its credentials and `no_proxy`; \"none\" goes straight",
            Exit::Unreachable,
        ),
    ),
    (
        "upstream_timeout",
        verdict(
            "answer",
            "the upstream's or the network's: it took too long",
            "the message names the limit (`limits`); raise it if the model is only slow",
            Exit::Unreachable,
        ),
    ),
    (
        "upstream_redirect",
        verdict(
            "answer",
            "the configuration's: `endpoint`",
            "set `endpoint` to where it leads",
            Exit::Failed,
        ),
    ),
    (
        "upstream_garbled",
        verdict(
            "answer",
            "the upstream's, or a wrong `format` or `endpoint`",
            "is `format` what the upstream speaks? does `endpoint` lead to a login page?",
            Exit::Failed,
        ),
    ),
    (
        "translation_failed",
        verdict(
            "request",
            "the configuration's: the declared format",
            "correct the key that the message names",
            Exit::Failed,
        ),
    ),
    (
        "integration_unavailable",
        verdict(
            "configuration",
            CONFIG,
            "do what the message says; `outrider check` shows everything at once",
            Exit::Config,
        ),
    ),
    (
        "handler_unavailable",
        verdict(
            "handler",
            "the handler's, or that of its interpreter (handlers.python)",
            "do what the message says; `outrider check --online` loads every handler",
            Exit::Config,
        ),
    ),
    ("handler_crashed", verdict("handler", HANDLER, "the log on stderr has what it last said", Exit::Failed)),
    (
        "handler_garbled",
        verdict("handler", HANDLER, "it must return what litellm's CustomLLM returns", Exit::Failed),
    ),
    (
        "handler_timeout",
        verdict(
            "handler",
            "the handler's, or that of what it calls",
            "is its provider slow? does it block its event loop? (handlers.request_timeout)",
            Exit::Failed,
        ),
    ),
    ("model_not_found", verdict("request", REQUEST, "leave --model out", Exit::Usage)),
    ("model_missing", verdict("request", REQUEST, "name a model with --model", Exit::Usage)),
    ("model_ambiguous", verdict("request", REQUEST, "name a model with --model", Exit::Usage)),
    ("invalid_body", verdict("request", REQUEST, "check the `defaults` of the integration", Exit::Failed)),
    (
        "unsupported_parameter",
        verdict(
            "request",
            REQUEST,
            "the format has no such field: see `defaults` and `strict` of the integration",
            Exit::Failed,
        ),
    ),
    ("media_limit", verdict("request", REQUEST, "see `multi_modal_config`", Exit::Failed)),
    (
        "body_too_large",
        verdict("request", REQUEST, "shorten --prompt, or raise server.max_body", Exit::Failed),
    ),
    ("head_too_large", verdict("request", REQUEST, "raise server.max_header_bytes", Exit::Failed)),
    ("overloaded", verdict("request", CONFIG, "see limits.max_concurrent and `handlers`", Exit::Failed)),
    ("bad_request", verdict("request", OURS, "please report it", Exit::Failed)),
    ("not_found", verdict("request", OURS, "please report it", Exit::Failed)),
    ("method_not_allowed", verdict("request", OURS, "please report it", Exit::Failed)),
    ("unsupported_media_type", verdict("request", OURS, "please report it", Exit::Failed)),
    ("caller_unauthorized", verdict("request", OURS, "please report it", Exit::Failed)),
    ("draining", verdict("request", OURS, "please report it", Exit::Failed)),
    ("internal", verdict("answer", OURS, "please report it with the cause above", Exit::Failed)),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Never come to who asks over plain HTTP and sends all of the body.
    const ELSEWHERE: [&str; 2] = ["tls_required", "body_timeout"];

    #[test]
    fn every_code_of_the_readme_has_its_row() {
        let readme = include_str!("../../../README.md");
        let (_, errors) = readme.split_once("\n## Errors\n").unwrap();
        let errors = errors.split_once("\n## ").map_or(errors, |(errors, _)| errors);
        let codes = errors.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let codes: Vec<_> = codes.filter(|code| !ELSEWHERE.contains(code)).collect();
        assert!(codes.len() > 20, "{codes:?}");
        for code in &codes {
            let verdict = row(code);
            assert!(verdict.is_some_and(|it| !it.next.is_empty() && !it.fault.is_empty()), "{code}");
        }
        assert_eq!(codes.len(), TABLE.len());
    }
}
