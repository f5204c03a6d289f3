//! What a failure means to who tries: at which step it was, whose fault it is, what to do next, and the exit code. The
//! code of the access line decides, since it is always a word of ours.

use crate::cli::Exit;

/// What is to be said of a failure besides its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// At which step of the way it was.
    pub(super) step: &'static str,
    /// Whose fault it is.
    pub(super) fault: &'static str,
    /// What to do.
    pub(super) next: &'static str,
    /// How the command ends.
    pub(super) exit: Exit,
}

impl Verdict {
    /// That of a failure with `code`, and `status` on the answer.
    pub(super) fn of(code: &str, status: u16) -> Self {
        let refused = (status == 401 || status == 403) && matches!(code, "upstream_error" | "handler_error");
        let row = if refused { REFUSED.get(usize::from(code != "upstream_error")) } else { row(code) };
        match (row, code) {
            (Some((_, verdict)), "upstream_error") if !refused => Self { next: advice(status), ..*verdict },
            (Some((_, verdict)), _) => *verdict,
            (None, _) => UNKNOWN,
        }
    }
}

/// What to do where the upstream answered with `status`, which is neither 401 nor 403.
fn advice(status: u16) -> &'static str {
    match status {
        404 => "check the model's `name` and the `endpoint`: `outrider explain` shows the whole URL",
        402 | 429 => "the provider counts what you ask of it: wait, or ask it for more",
        400..=499 => "`outrider explain` shows the exact request that it refused",
        _ => "try again; if it stays, give the upstream's request id to those who run it",
    }
}

fn row(code: &str) -> Option<&'static (&'static str, Verdict)> {
    TABLE.iter().find(|(known, _)| *known == code)
}

const fn verdict(step: &'static str, fault: &'static str, next: &'static str, exit: Exit) -> Verdict {
    Verdict { step, fault, next, exit }
}

const UPSTREAM: &str = "the upstream's";
const REACH: &str = "the network's, the upstream's, or a wrong `endpoint` in the configuration";
const CONFIG: &str = "the configuration's, or that of the files that it names";
const REQUEST: &str = "the request's: it was refused before anything was sent";
const OURS: &str = "Outrider's";
const HANDLER: &str = "the handler's";

const UNKNOWN: Verdict = verdict("answer", "unknown", "please report it with the words above", Exit::Failed);

/// Who is known and may not enter, or is not known: by the upstream, and by what a handler calls.
const REFUSED: [(&str, Verdict); 2] = [
    (
        "upstream_error",
        verdict(
            "authorization",
            "the credentials': the upstream does not take them",
            "check the credentials and what they may do; `outrider explain` shows in which header they go, and with which scheme",
            Exit::Refused,
        ),
    ),
    (
        "handler_error",
        verdict(
            "authorization",
            "the credentials': what the handler calls does not take them",
            "check the credentials and what the handler does with `api_key` and `headers`",
            Exit::Refused,
        ),
    ),
];

/// One row for each code that the README lists.
const TABLE: [(&str, Verdict); 32] = [
    ("upstream_error", verdict("answer", UPSTREAM, "", Exit::Failed)),
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
            "`outrider check --online` tries name and port, here and in the runner's pod",
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
            "do what the cause says; `outrider check --online` loads every handler",
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
            assert!(row(code).is_some(), "{code}");
        }
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn the_exit_code_tells_whom_to_call() {
        for (code, status, exit) in [
            ("upstream_error", 401, Exit::Refused),
            ("upstream_error", 403, Exit::Refused),
            ("handler_error", 401, Exit::Refused),
            ("token_refused", 502, Exit::Refused),
            ("upstream_error", 500, Exit::Failed),
            ("upstream_error", 429, Exit::Failed),
            ("upstream_tls", 502, Exit::Unreachable),
            ("upstream_timeout", 504, Exit::Unreachable),
            ("token_unavailable", 503, Exit::Unreachable),
            ("integration_unavailable", 503, Exit::Config),
            ("model_not_found", 404, Exit::Usage),
            ("caller_unauthorized", 401, Exit::Failed),
            ("a code of tomorrow", 500, Exit::Failed),
        ] {
            let verdict = Verdict::of(code, status);
            assert_eq!(verdict.exit, exit, "{code} {status}");
            assert!(!verdict.next.is_empty() && !verdict.fault.is_empty(), "{code} {status}");
        }
    }
}
