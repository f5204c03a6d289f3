//! Whose fault a failure is where its code alone does not tell: by its status, its words, and what the configuration says.

use super::verdict::{Case, Verdict, row};
use crate::cli::Exit;
use crate::config::valid::{Authorization, Proxy};

/// Words of ours in messages of a port that is spoken to in the wrong way (`egress`, `tls::explain`).
const WITH_TLS: &str = "speaks TLS on this port";
const WITHOUT_TLS: &str = "does not speak TLS on this port";
/// Words of ours for what was not even connected (`egress::clock`).
const CONNECTING: &str = "(connect)";
/// Words of ours for an answer that is not whole.
const CUT: [&str; 5] = [
    "broke off",
    "ended early",
    "before its end",
    // One message says that it ends there, another that it was closed.
    "before its JSON",
    "closed the connection before",
];
/// Words of ours for an answer of another format than the integration's (`proxy::reply`).
const FOREIGN: &str = "it is one of format ";
/// Words of ours for an answer that is more than words (`dialect`).
const PICTURE: &str = "which OpenAI's chat format cannot carry";

/// What is to be said of `case`; `None` where its code says it all.
pub(super) fn of(case: &Case<'_>) -> Option<Verdict> {
    match case.code {
        "upstream_error" if case.message.contains(PICTURE) => Some(verdict(
            "answer",
            "the model's choice: it answers with what OpenAI's chat format has no place for",
            "name a model that answers in words, or tell this one to",
            Exit::Failed,
        )),
        "upstream_error" => Some(upstream(case)),
        "handler_error" => handler(case.status),
        "upstream_tls" if case.message.contains(WITHOUT_TLS) => {
            let next = "begin `endpoint` with http:// if no TLS is meant there, else correct its port";
            Some(verdict(
                "connection",
                "the configuration's: `endpoint`, its scheme or its port",
                next,
                Exit::Unreachable,
            ))
        }
        "upstream_garbled" if case.message.contains(WITH_TLS) => Some(lacks_tls()),
        "upstream_garbled" if case.message.contains(FOREIGN) => Some(verdict(
            "answer",
            "the configuration's: `format`, or `endpoint`",
            "set `format` to the one that came, or `endpoint` to where the configured one is spoken; `outrider explain` shows the whole URL",
            Exit::Failed,
        )),
        "upstream_garbled" if CUT.iter().any(|words| case.message.contains(words)) => Some(verdict(
            "answer",
            "the upstream's, or that of what stands between (a proxy, a load balancer): the answer was cut",
            "try again; if it stays, does something on the way end an answer that takes so long?",
            Exit::Failed,
        )),
        "token_unavailable" | "token_refused" => token(case),
        "upstream_timeout" if case.message.contains(CONNECTING) => Some(connecting(case)),
        "proxy_refused" if is_behind_proxy(case) => Some(verdict(
            "connection",
            "the network's behind the proxy, or a wrong host in `endpoint`: the proxy cannot reach it",
            "is the host in `endpoint` right, and known where the proxy stands? else ask those who run the proxy, or, if it is reached straight, list the host in `no_proxy`; a `proxy` of the integration's own heeds only \"none\"",
            Exit::Unreachable,
        )),
        _ => None,
    }
}

/// Whether a proxy says that it could not reach what stands behind it.
fn is_behind_proxy(case: &Case<'_>) -> bool {
    ["it answered 502 ", "it answered 503 ", "it answered 504 "]
        .iter()
        .any(|words| case.message.contains(words))
}

/// An upstream's own refusal.
fn upstream(case: &Case<'_>) -> Verdict {
    match case.status {
        403 | 502..=504 if forwards(case).is_some() => forwarded(case),
        401 | 403 => entry(case),
        // nginx, Go and others say so; none of them reads the request.
        400 if case.is_plain() && case.message.to_ascii_uppercase().contains("HTTPS") => lacks_tls(),
        404 | 405 | 410 => Verdict {
            next: place(case).into(),
            ..verdict(
                "answer",
                "the configuration's, most likely: the path in `endpoint`, or the model's `name`",
                "",
                Exit::Failed,
            )
        },
        408 => verdict(
            "answer",
            "the network's, or the upstream's: it did not get the request, or was not done with it, in the time that it gives",
            "try again; if it stays, give these words and the time to those who run the upstream",
            Exit::Failed,
        ),
        402 | 429 => verdict(
            "answer",
            "that of your account with the upstream: its quota, or its limit of requests",
            "the provider counts what you ask of it: wait, or ask it for more",
            Exit::Failed,
        ),
        400..=499 => verdict(
            "answer",
            "the request's, as it was sent: the upstream does not take it",
            "do what its words say: `outrider explain` shows the exact request, and `defaults`, `rename`, `drop` and `supported_parameters` change it",
            Exit::Failed,
        ),
        _ => Verdict { next: again(case).into(), ..fallback(case.code) },
    }
}

/// The proxy that passes requests on and could have answered in the upstream's place.
fn forwards<'a>(case: &Case<'a>) -> Option<&'a str> {
    match &case.settings.proxy {
        Proxy::Through { shown, .. } if case.is_plain() => Some(shown),
        Proxy::Through { .. } | Proxy::Direct => None,
    }
}

/// An answer that may be the upstream's, or that of the proxy before it: nothing tells them apart.
fn forwarded(case: &Case<'_>) -> Verdict {
    let proxy = forwards(case).unwrap_or_default();
    let own = match case.settings.authorization {
        Authorization::None => "the configuration's, which puts no credentials on requests",
        _ => "the credentials', which the upstream does not take",
    };
    let (fault, next) = if case.status == 403 {
        (
            format!(
                "{own}, or that of the proxy {proxy}, which may forbid the host: an http:// endpoint is asked through it, and its own refusal looks the same"
            ),
            "do the words above sound like the proxy's? then have it let the host in `endpoint` pass, or list that in `no_proxy`; else check the credentials and what they may do",
        )
    } else {
        (
            format!(
                "the upstream's, or that of the proxy {proxy}, which may not reach the host in `endpoint`: an http:// endpoint is asked through it, and its own error looks the same"
            ),
            "is the host in `endpoint` right, and known where the proxy stands? `proxy = \"none\"` or `no_proxy` goes straight; else give these words and the time to those who run both",
        )
    };
    let exit = if case.status == 403 { Exit::Refused } else { Exit::Failed };
    Verdict { step: "answer", fault: fault.into(), next: next.into(), exit }
}

/// Nobody took the connection in time: no model was slow.
fn connecting(case: &Case<'_>) -> Verdict {
    let is_secure =
        matches!(&case.settings.proxy, Proxy::Through { shown, .. } if shown.starts_with("https://"));
    if is_secure && case.message.contains("TLS handshake with the proxy") {
        return verdict(
            "connection",
            "the configuration's, most likely: `proxy` begins with https://, and the proxy does not answer in TLS",
            "begin `proxy` with http:// if the proxy speaks no TLS itself: most do not, and what goes through to an https:// endpoint is encrypted all the same",
            Exit::Unreachable,
        );
    }
    verdict(
        "connection",
        "the network's, or a wrong host or port in `endpoint` or `proxy`: nothing answered while connecting",
        "`outrider check --online` tries it step by step; does a firewall drop it? is a proxy missing?",
        Exit::Unreachable,
    )
}

/// Who is known and may not enter, or is not known.
fn entry(case: &Case<'_>) -> Verdict {
    if case.settings.authorization == Authorization::None {
        return verdict(
            "authorization",
            "the configuration's: it puts no credentials on requests (`authentication_type = \"none\"`), and the upstream wants some",
            "set `authentication_type`, and what belongs to it",
            Exit::Refused,
        );
    }
    verdict(
        "authorization",
        "the credentials': the upstream does not take them",
        "check the credentials and what they may do; `outrider explain` shows in which header they go, and with which scheme",
        Exit::Refused,
    )
}

/// What to look at where there is nothing at a URL, or no such model.
fn place(case: &Case<'_>) -> String {
    match case.asked {
        Some((model, url)) => format!(
            "is {url} the right URL (`endpoint` begins it), and does the upstream know a model `{model}`?"
        ),
        None => {
            "check the model's `name` and the `endpoint`: `outrider explain` shows the whole URL".to_owned()
        }
    }
}

fn again(case: &Case<'_>) -> &'static str {
    match case.has_id {
        true => "try again; if it stays, give the request id above to those who run the upstream",
        false => "try again; if it stays, give these words and the time to those who run the upstream",
    }
}

fn lacks_tls() -> Verdict {
    let fault = "the configuration's: `endpoint` begins with http://, and the port speaks TLS";
    verdict("connection", fault, "begin `endpoint` with https://", Exit::Unreachable)
}

/// An error that a handler raised with a status of its own; `None`: it is one like any other.
fn handler(status: u16) -> Option<Verdict> {
    let (step, fault, next, exit) = match status {
        401 | 403 => (
            "authorization",
            "the credentials': what the handler calls does not take them",
            "check the credentials and what the handler does with `api_key` and `headers`",
            Exit::Refused,
        ),
        402 | 429 => (
            "answer",
            "that of your account with what the handler calls: its quota, or its limit of requests",
            "wait, or ask that provider for more",
            Exit::Failed,
        ),
        404 | 405 | 410 => (
            "answer",
            "the configuration's or the handler's, most likely: the URL or the model that it asks for",
            "check what the handler makes of `api_base` (it is `endpoint`) and of `model`",
            Exit::Failed,
        ),
        400..=499 => (
            "answer",
            "the request's, or that of what the handler makes of it: it raised an error that blames the request",
            "do what its message says; below status 500 there is no traceback",
            Exit::Failed,
        ),
        _ => return None,
    };
    Some(verdict(step, fault, next, exit))
}

/// Where a token comes from decides which keys there are to look at.
fn token(case: &Case<'_>) -> Option<Verdict> {
    let is_refused = case.code == "token_refused";
    if !is_refused && let Some(known) = on_the_way(case) {
        return Some(known);
    }
    let (fault, next) = match (&case.settings.authorization, is_refused) {
        (Authorization::OAuth2(oauth2), _) if oauth2.is_endpoint => (
            "the configuration's, most likely: no `oauth2_token_url` is set, so `endpoint` itself was asked for the token",
            "set `oauth2_token_url` to the URL of the token endpoint; if `endpoint` is what gives tokens, check client id, secret, scope and `client_auth`, and with `outrider check --online` whether it can be reached",
        ),
        (Authorization::Gcp(_), true) => (
            "that of the Google credentials in `gcp`: they are not taken",
            "do what the message says; the account in `gcp.credentials_file` must be active and may need a role",
        ),
        (Authorization::Gcp(_), false) => (
            "the network's, Google's, or that of `gcp`: without `gcp.credentials_file` the machine's own metadata server is asked, which only Google's machines have",
            "set `gcp.credentials_file`, if this is no machine of Google's; `outrider check --online` connects to where the token comes from",
        ),
        (Authorization::SigV4(_), true) => (
            "that of the web identity in `aws`: AWS does not take it",
            "check `aws.role_arn`, the role's trust policy, and the token in `aws.web_identity_token_file`",
        ),
        (Authorization::SigV4(_), false) => (
            "the network's, AWS's, or that of a wrong region in `aws`",
            "`outrider check --online` connects to it; its TLS and proxy are those of `token_tls` and `proxy`",
        ),
        (_, false) if ["it answered ", "its answer"].iter().any(|words| case.message.contains(words)) => (
            "the token endpoint's, or a wrong `oauth2_token_url`: it was reached, and gives no token that can be used",
            "is `oauth2_token_url` right, to its path? if it is, give these words and the time to those who run the token endpoint",
        ),
        _ => return None,
    };
    let known = fallback(case.code);
    Some(Verdict { fault: fault.into(), next: next.into(), ..known })
}

/// A token request that did not reach the endpoint because of a proxy or TLS, whatever the token is for.
fn on_the_way(case: &Case<'_>) -> Option<Verdict> {
    let said = |words: &str| case.message.contains(words);
    let (fault, next) = if said(": the proxy ") {
        match is_behind_proxy(case) {
            true => (
                "the network's behind the proxy, or a wrong host in the token URL: the proxy cannot reach it",
                "is the host of the token endpoint right, and known where the proxy stands? else ask those who run the proxy, or, if it is reached straight, list the host in `no_proxy`; a `proxy` of the integration's own heeds only \"none\"",
            ),
            false => (
                "the proxy's on the way to the token endpoint",
                "do what the message says; else check `proxy`, its credentials and `no_proxy`; \"none\" goes straight",
            ),
        }
    } else if said(WITHOUT_TLS) || said(WITH_TLS) {
        (
            "the configuration's: the token URL, its scheme or its port",
            "begin it with https:// where TLS is spoken, with http:// where none is meant; else correct its port",
        )
    } else if [": the certificate of ", " client certificate"].iter().any(|words| said(words)) {
        (
            "the TLS settings', ours or the token endpoint's, or a proxy's that breaks TLS open",
            "do what the message says: mostly it is `ca_file`, `server_name` or `client_cert_file` in `token_tls`, or in `tls` where there is no `token_tls`",
        )
    } else {
        return None;
    };
    let known = fallback(case.code);
    Some(Verdict { fault: fault.into(), next: next.into(), ..known })
}

fn fallback(code: &str) -> Verdict {
    row(code).cloned().unwrap_or_else(|| verdict("answer", "unknown", "please report it", Exit::Failed))
}

fn verdict(step: &'static str, fault: &'static str, next: &'static str, exit: Exit) -> Verdict {
    Verdict { step, fault: fault.into(), next: next.into(), exit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::valid::Integration;
    use crate::config::{Environment, Options, load};

    fn settings(lines: &str) -> Integration {
        let dir = tempfile::tempdir().unwrap();
        let text =
            format!("[integrations.acme]\nendpoint = \"http://a.example/v1\"\nmodels = [\"m\"]\n{lines}\n");
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let options =
            Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
        let loaded = load(&options).unwrap_or_else(|problems| panic!("{problems}"));
        loaded.settings.integrations.into_values().next().unwrap()
    }

    const KEY: &str = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"k\"";
    const GCP: &str = "authentication_type = \"gcp\"";

    fn told(lines: &str, code: &str, status: u16, message: &str) -> Verdict {
        let settings = settings(lines);
        let asked = Some(("m", "http://a.example/v1/chat/completions"));
        Verdict::of(&Case { code, status, message, settings: &settings, asked, has_id: false })
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
            let verdict = told(KEY, code, status, "");
            assert_eq!(verdict.exit, exit, "{code} {status}");
            assert!(!verdict.next.is_empty() && !verdict.fault.is_empty(), "{code} {status}");
        }
    }

    /// Lines of the configuration, code, status and message; what is in the words on the fault, and on what is next.
    type Row = (&'static str, &'static str, u16, &'static str, &'static str, &'static str);

    const ROWS: [Row; 22] = [
        (
            KEY,
            "upstream_error",
            502,
            "the upstream answered with an image or sound, which OpenAI's chat format cannot carry",
            "the model's choice",
            "in words",
        ),
        (
            KEY,
            "upstream_garbled",
            502,
            "it is one of format \"openai\", and the integration has",
            "`format`, or `endpoint`",
            "set `format` to the one that came",
        ),
        (
            KEY,
            "upstream_error",
            404,
            "",
            "the path in `endpoint`, or the model's `name`",
            "is http://a.example/v1/chat/completions the right URL",
        ),
        (KEY, "upstream_error", 405, "", "the path in `endpoint`", "a model `m`?"),
        (KEY, "upstream_error", 400, "n is too large", "the request's", "`outrider explain`"),
        (
            KEY,
            "upstream_error",
            400,
            "The plain HTTP request was sent to HTTPS port",
            "begins with http://",
            "with https://",
        ),
        (KEY, "upstream_error", 422, "", "the request's", "`defaults`"),
        (KEY, "upstream_error", 429, "", "your account", "wait"),
        (KEY, "upstream_error", 503, "", "the upstream's", "these words and the time"),
        (KEY, "upstream_error", 401, "", "the credentials'", "in which header"),
        (
            "authentication_type = \"none\"",
            "upstream_error",
            401,
            "",
            "puts no credentials",
            "`authentication_type`",
        ),
        (KEY, "handler_error", 400, "", "blames the request", "no traceback"),
        (KEY, "handler_error", 429, "", "your account", "wait"),
        (KEY, "handler_error", 404, "", "the URL or the model", "`api_base`"),
        (KEY, "handler_error", 500, "", "the handler's", "traceback"),
        (
            KEY,
            "upstream_garbled",
            502,
            "a speaks TLS on this port: should",
            "begins with http://",
            "https://",
        ),
        (KEY, "upstream_tls", 502, "a does not speak TLS on this port", "its scheme or its port", "http://"),
        (
            KEY,
            "upstream_garbled",
            502,
            "the upstream's stream ended early",
            "the answer was cut",
            "try again",
        ),
        (KEY, "upstream_garbled", 502, "it is not a JSON object", "wrong `format`", "login page"),
        (GCP, "token_unavailable", 503, "", "metadata server", "`gcp.credentials_file`"),
        (GCP, "token_refused", 502, "", "in `gcp`", "`gcp.credentials_file`"),
        (KEY, "token_unavailable", 503, "", "`oauth2_token_url`", "`token_tls`"),
    ];

    #[test]
    fn blame_goes_by_status_words_and_configuration() {
        for (lines, code, status, message, fault, next) in ROWS {
            let verdict = told(lines, code, status, message);
            assert!(verdict.fault.contains(fault), "{code} {status} {message}: {}", verdict.fault);
            assert!(verdict.next.contains(next), "{code} {status} {message}: {}", verdict.next);
        }
    }
}
