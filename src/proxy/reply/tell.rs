//! The words for each failure: its status, OpenAI's four error fields, and whether a retry can help.
//!
//! Blame decides: the client's fault is told in detail, the upstream's with its own words, ours without any.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use super::told::Told;
use crate::auth::AuthError;
use crate::egress::SendError;
use crate::integration::NotFound;
use crate::observe::metrics::known_field;
use crate::openai::Fault;
use crate::proxy::failure::{Awaited, Failure};
use crate::proxy::heard::Answered;
use crate::proxy::pass;
use crate::workers::{Absent, HandlerFailure};

/// Puts `failure` into words for the client of `integration`.
pub(in crate::proxy) fn tell(failure: &Failure, integration: Option<&str>) -> Told {
    let at = &*place(integration);
    match failure {
        Failure::Answered(answered) => behind_a_head(answered, integration),
        Failure::Unread(failure) => tell(failure, integration).closing(),
        Failure::Token(error) => token(error, at),
        Failure::Send(error) => sending(error, at),
        Failure::Upstream(refusal) => upstream(&refusal.fault, at),
        Failure::Raised(refusal, code) => raised(&refusal.fault, code, at),
        Failure::Handler(failure) => handler(failure, at),
        Failure::Absent(absent) => absent_worker(absent, at),
        Failure::Routing(not_found) => routing(not_found),
        Failure::Garbled(how) => unusable(how, at),
        Failure::Nonsense(how) => senseless(how, at),
        // Who gives no streams will give none the next time.
        Failure::Unstreamed(how) => senseless(how, at).hopeless(),
        Failure::Streamed => streamed(at),
        Failure::Foreign { format, own } => foreign(format, own, at),
        Failure::TooLong(most) => too_long(*most, at),
        // It would compress the next one too.
        Failure::Compressed(how) => {
            let ours = unusable("it is compressed although `identity` was asked for", at).message;
            unusable(how, at).logged(ours).hopeless()
        }
        Failure::Untranslated { message, param } => untranslated(message, param, at),
        Failure::Redirect(status) => redirected(*status, at),
        Failure::Silent(idle) => {
            timeout(format!("{at}the upstream was silent for {idle:?} inside its answer (limits.idle)"))
        }
        Failure::Patience(patience, awaited) => impatient(*patience, *awaited, at),
        Failure::Unavailable { integration, remedy } => unavailable(
            "integration_unavailable",
            format!("integration `{integration}` cannot serve: {remedy}"),
        )
        .hopeless(),
        Failure::Busy(busy) => overloaded(busy.most, at),
        Failure::Draining => {
            let message = format!("{at}this Outrider is stopping: send the request again in a moment");
            unavailable("draining", message).after(SOON).closing()
        }
        Failure::Internal(why) => internal().logged(*why),
        Failure::InvalidBody { message, param } => invalid_body(message, param.as_deref(), at),
        Failure::Unsupported { message, param } => unsupported(message, param, at),
        Failure::MediaLimit(limit) => {
            bad("media_limit", format!("{at}{} (multi_modal_config)", limit.message))
                .param(Some(limit.param.clone()))
        }
        Failure::BadRequest(why) => bad("bad_request", (*why).to_owned()).closing(),
        Failure::Left => bad("bad_request", "the request body broke off".to_owned()).closing(),
        Failure::CallerUnauthorized => unauthorized(),
        Failure::NotFound(path) => nothing_at(path),
        Failure::NotRelayed { integration, format, embeds } => not_relayed(integration, format, *embeds),
        Failure::MethodNotAllowed(methods) => not_allowed(methods),
        Failure::UnsupportedMedia(why) => {
            Told::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", (*why).to_owned())
        }
        Failure::BodyTooSlow(silence) => too_slow(*silence),
        Failure::HeadTooLarge(most) => head_too_large(*most),
        Failure::BodyTooLarge(most) => body_too_large(*most),
    }
}

fn place(integration: Option<&str>) -> String {
    integration.map_or_else(String::new, |name| format!("integration `{name}`: "))
}

/// When to come again where that may be at once.
const SOON: Duration = Duration::from_secs(1);

fn unusable(how: &str, at: &str) -> Told {
    garbled(format!("{at}the upstream's answer cannot be used: {how}"))
}

/// The same in words that hold some of the upstream's.
fn senseless(how: &str, at: &str) -> Told {
    unusable(how, at).logged(format!("{at}the upstream's answer makes no sense (the client was told how)"))
}

/// Who streams unasked will do so the next time, and be paid for it each time.
fn streamed(at: &str) -> Told {
    let how = "it is not a JSON object but a stream of events, although a whole answer was asked for";
    unusable(how, at).hopeless()
}

/// Who speaks another format will do so the next time.
fn foreign(format: &str, own: &str, at: &str) -> Told {
    let how = format!(
        "it is one of format \"{format}\", and the integration has `format = \"{own}\"`: set the one that the upstream speaks at this `endpoint`"
    );
    unusable(&how, at).hopeless()
}

/// What made it so long is likely to do so again; each try is paid for.
fn too_long(most: usize, at: &str) -> Told {
    unusable(&format!("it is longer than {most} bytes (limits.max_answer)"), at).hopeless()
}

fn untranslated(message: &str, param: &str, at: &str) -> Told {
    let message = format!("{at}the request could not be translated: {message}");
    Told::new(StatusCode::BAD_GATEWAY, "translation_failed", message)
        .logged(format!("{at}`{param}` failed (the client was told how)"))
        .hopeless()
}

fn redirected(status: u16, at: &str) -> Told {
    let message = format!(
        "{at}the upstream answered with a redirect ({status}), which is not followed: set `endpoint` to where it leads"
    );
    Told::new(StatusCode::BAD_GATEWAY, "upstream_redirect", message).hopeless()
}

fn overloaded(most: usize, at: &str) -> Told {
    let message = format!(
        "{at}{most} requests are being served already (limits.max_concurrent) and none ended within limits.queue_timeout"
    );
    unavailable("overloaded", message).after(SOON)
}

fn impatient(patience: Duration, awaited: Awaited, at: &str) -> Told {
    let end = format!("within {patience:?}, after which this client would give up");
    match awaited {
        Awaited::Answer => timeout(format!("{at}no answer {end}")),
        Awaited::Token => unavailable("token_unavailable", format!("{at}no token came {end}")).after(SOON),
        Awaited::Turn => {
            let message =
                format!("{at}as many requests as may be are being served already, and none finished {end}");
            unavailable("overloaded", message).after(SOON)
        }
    }
}

fn unavailable(code: &'static str, message: String) -> Told {
    Told::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
}

fn bad(code: &'static str, message: String) -> Told {
    Told::new(StatusCode::BAD_REQUEST, code, message)
}

fn invalid_body(message: &str, param: Option<&str>, at: &str) -> Told {
    // What is wrong with the body as a whole has no field to blame.
    let Some(param) = param.filter(|path| !path.is_empty()) else {
        return bad("invalid_body", format!("{at}{message}"));
    };
    let words = format!("{at}{} is malformed (the client was told how)", field(param));
    bad("invalid_body", format!("{at}{}", naming(param, message))).param(Some(param.to_owned())).logged(words)
}

fn unsupported(message: &str, param: &str, at: &str) -> Told {
    // What is asked for as a whole has no field to blame.
    if param.is_empty() {
        return bad("unsupported_parameter", format!("{at}{message}"));
    }
    let words = format!("{at}{} cannot be sent (the client was told why)", field(param));
    bad("unsupported_parameter", format!("{at}{}", naming(param, message)))
        .param(Some(param.to_owned()))
        .logged(words)
}

fn unauthorized() -> Told {
    Told::new(
        StatusCode::UNAUTHORIZED,
        "caller_unauthorized",
        "this server wants its own key (server.api_key) as `Authorization: Bearer …`".into(),
    )
}

fn nothing_at(path: &str) -> Told {
    let advice = pass::twice(path)
        .unwrap_or("try /v1/chat/completions, /v1/models, or either under /INTEGRATION/v1/…");
    let message = format!("there is nothing at `{path}`: {advice}");
    Told::new(StatusCode::NOT_FOUND, "not_found", message).logged("there is nothing at this path")
}

fn not_allowed(methods: &str) -> Told {
    let message = format!("only {methods} is served here");
    Told::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

fn head_too_large(most: usize) -> Told {
    let message = format!("the request's head is longer than {most} bytes (server.max_header_bytes)");
    Told::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", message).closing()
}

fn body_too_large(most: usize) -> Told {
    let message = format!("the request body is longer than {most} bytes (server.max_body)");
    Told::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message).closing()
}

fn too_slow(silence: Duration) -> Told {
    Told::new(
        StatusCode::REQUEST_TIMEOUT,
        "body_timeout",
        format!("nothing of the request body came for {silence:?} (server.body_timeout)"),
    )
    .closing()
}

/// The top-level field of a path, for the log: what stands below may be a name of the client's.
fn field(param: &str) -> String {
    known_field(param).map_or_else(|| "a field".to_owned(), |name| format!("`{name}`"))
}

/// `message` with the field's path before it, unless it names the field itself: the message is all that many a client
/// shows.
fn naming(param: &str, message: &str) -> String {
    let path = short(param);
    let names_it = param.is_empty()
        || message.contains(&format!("`{path}`"))
        || message.strip_prefix(param).is_some_and(|rest| rest.starts_with(' '));
    if names_it { message.to_owned() } else { format!("`{path}`: {message}") }
}

fn not_relayed(integration: &str, format: &str, embeds: bool) -> Told {
    let served =
        if embeds { "/chat/completions, /embeddings and /models" } else { "/chat/completions and /models" };
    let message = format!(
        "integration `{integration}` speaks format `{format}`, to which no other path of OpenAI's can be relayed: it serves {served}"
    );
    Told::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// Ours: nothing but that it happened; the request id leads to the log.
pub(super) fn internal() -> Told {
    Told::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "an internal error; the log has its cause under this request id".into(),
    )
}

fn routing(not_found: &NotFound) -> Told {
    match not_found {
        NotFound::Integration(name, near) => Told::new(
            StatusCode::NOT_FOUND,
            "model_not_found",
            format!("there is no integration `{}`; {}", short(name), meant(near, "/v1/models")),
        )
        .logged("there is no integration of the name in the path (the client was told which are near)"),
        NotFound::Model { model, integration, near } => {
            let (within, list) = match integration {
                Some(name) => (format!("integration `{name}` has"), format!("/{name}/v1/models")),
                None => ("there is".to_owned(), "/v1/models".to_owned()),
            };
            let message = format!("{within} no model `{}`; {}", short(model), meant(near, &list));
            Told::new(StatusCode::NOT_FOUND, "model_not_found", message)
                .param(Some("model".into()))
                .logged(format!("{within} no such model (the client was told which are near)"))
        }
        NotFound::Ambiguous(model, forms) => Told::new(
            StatusCode::BAD_REQUEST,
            "model_ambiguous",
            format!(
                "model `{}` stands in several integrations; use {}the path /INTEGRATION/v1/…",
                short(model),
                if forms.is_empty() {
                    String::new()
                } else {
                    format!("one of `{}`, or ", forms.join("`, `"))
                }
            ),
        )
        .param(Some("model".into())),
        NotFound::Missing(forms) => Told::new(
            StatusCode::BAD_REQUEST,
            "model_missing",
            match forms.as_slice() {
                [] => "the request names no `model`, and no default_model is set".to_owned(),
                some => format!(
                    "the request names no `model`, and no default applies; for example `{}`",
                    some.join("`, `")
                ),
            },
        )
        .param(Some("model".into())),
    }
}

/// The nearest names, or where all of them are listed.
fn meant(near: &[String], list: &str) -> String {
    match near {
        [] => format!("GET {list} lists what there is"),
        some => format!("did you mean `{}`?", some.join("`, `")),
    }
}

fn token(error: &AuthError, at: &str) -> Told {
    let told = match error {
        AuthError::Refused { .. } => {
            Told::new(StatusCode::BAD_GATEWAY, "token_refused", format!("{at}{error}")).hopeless()
        }
        AuthError::Unavailable { retry_after, hopeless, .. } => {
            let told =
                Told::new(StatusCode::SERVICE_UNAVAILABLE, "token_unavailable", format!("{at}{error}"))
                    .after(*retry_after);
            if *hopeless { told.hopeless() } else { told }
        }
        AuthError::Unsignable(_) => {
            Told::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{at}{error}")).hopeless()
        }
    };
    // The endpoint's own words stand in the log once for each time that it was asked, not once for each request.
    told.logged(format!("{at}{}", error.in_our_words()))
}

fn sending(error: &SendError, at: &str) -> Told {
    let gateway = |code| Told::new(StatusCode::BAD_GATEWAY, code, format!("{at}{error}"));
    match error {
        SendError::Resolve(_) | SendError::Connect(_) | SendError::Closed(_) => {
            gateway("upstream_unreachable")
        }
        SendError::Tls(_) => gateway("upstream_tls").hopeless(),
        SendError::Proxy(_) => gateway("proxy_refused"),
        SendError::ProxyAuth(_) => gateway("proxy_refused").hopeless(),
        SendError::Garbled(_) => gateway("upstream_garbled"),
        SendError::ConnectTimeout(_) | SendError::FirstByteTimeout(_) => timeout(format!("{at}{error}")),
    }
}

/// A refusal's own status may be none of HTTP's: its client is told another one, and the log that one.
fn behind_a_head(heard: &Answered, integration: Option<&str>) -> Told {
    let told = tell(&heard.failure, integration);
    match &heard.failure {
        Failure::Upstream(refusal) if !refusal.fault.in_success => {
            told.logged(answered(heard.status.as_u16(), &place(integration)))
        }
        _ => told,
    }
}

fn answered(status: u16, at: &str) -> String {
    format!("{at}the upstream answered {status} (the client was told its words)")
}

/// The upstream's refusal: its status, its words, its advice on retries.
fn upstream(fault: &Fault, at: &str) -> Told {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let words = match fault.in_success {
        true => {
            format!("{at}the upstream put an error into an answer of success (the client was told its words)")
        }
        false => answered(fault.status, at),
    };
    let mut told = Told::new(status, "upstream_error", format!("{at}{}", fault.message)).logged(words);
    told.ours = Some("upstream_error");
    told.kind = fault.body().error.kind.to_owned().into();
    told.code = fault.code.clone().map_or(told.code, Cow::Owned);
    told.param.clone_from(&fault.param);
    told.innererror.clone_from(&fault.innererror);
    told.headers.clone_from(&fault.headers);
    told
}

/// A handler's own refusal, or its worker's word of why there is no answer: its status and its words.
fn raised(fault: &Fault, code: &'static str, at: &str) -> Told {
    let what = match code {
        "handler_timeout" => "the handler did not answer within handlers.request_timeout".to_owned(),
        "handler_garbled" => "the handler's answer cannot be understood".to_owned(),
        _ => format!("the handler answered {}", fault.status),
    };
    let mut told = upstream(fault, at).logged(format!("{at}{what} (the client was told its words)"));
    told.ours = Some(code);
    if fault.code.is_none() {
        told.code = code.into();
    }
    told
}

fn handler(failure: &HandlerFailure, at: &str) -> Told {
    let gateway = |code| Told::new(StatusCode::BAD_GATEWAY, code, format!("{at}{failure}"));
    match failure {
        HandlerFailure::Crashed(_) | HandlerFailure::Unreachable(_) => gateway("handler_crashed"),
        HandlerFailure::Garbled(_) => gateway("handler_garbled"),
        HandlerFailure::TimedOut(_) => {
            Told::new(StatusCode::GATEWAY_TIMEOUT, "handler_timeout", format!("{at}{failure}"))
        }
    }
}

/// What is wrong with a handler names paths and holds words of the customer's code: the client is told where to look.
fn absent_worker(absent: &Absent, at: &str) -> Told {
    match absent {
        Absent::Failed(why) => unavailable(
            "handler_unavailable",
            format!(
                "{at}the handler does not load: Outrider's log and its /integrations (admin side) say why"
            ),
        )
        .logged(format!("{at}the handler does not load: {why}"))
        .hopeless(),
        Absent::Starting => {
            let message = format!("{at}{absent} (handlers.start_wait)");
            unavailable("handler_unavailable", message).after(SOON)
        }
        Absent::Busy { .. } => {
            let message = format!(
                "{at}{absent} (handlers.workers × handlers.max_in_flight), and none came free within limits.queue_timeout"
            );
            unavailable("overloaded", message).after(SOON)
        }
        Absent::Stopping => unavailable("draining", format!("{at}{absent}")).after(SOON),
    }
}

fn garbled(message: String) -> Told {
    Told::new(StatusCode::BAD_GATEWAY, "upstream_garbled", message)
}

fn timeout(message: String) -> Told {
    Told::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message)
}

/// A client's words, cut so that an error stays readable.
fn short(text: &str) -> String {
    let cut: String = text.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tokio::time::Instant;

    use super::*;
    use crate::outbound::Report;
    use crate::proxy::failure::Refusal;
    use crate::proxy::heard::Heard;
    use crate::proxy::hide::Hidden;

    #[test]
    fn every_error_has_openais_four_fields() {
        let told = tell(&Failure::BodyTooLarge(10), None);
        let json: serde_json::Value = serde_json::from_slice(&told.json()).unwrap();
        let mut keys: Vec<&str> = json["error"].as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "message", "param", "type"]);
    }

    #[test]
    fn an_upstreams_refusal_keeps_its_status_and_its_words() {
        let fault = Fault {
            status: 429,
            message: "slow down".into(),
            headers: vec![("retry-after", "7".into())],
            ..Fault::default()
        };
        let refusal = Refusal { fault: Hidden::default().strip(fault), report: Report::default() };
        let told = tell(&Failure::Upstream(Box::new(refusal)), Some("acme"));
        assert_eq!(told.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(told.message, "integration `acme`: slow down");
        assert_eq!(told.headers, [("retry-after", "7".to_owned())]);
    }

    #[test]
    fn a_status_that_http_does_not_know_stands_in_the_log_as_it_came() {
        let status = StatusCode::from_u16(999).unwrap();
        let fault = Fault::read(999, &HeaderMap::new(), b"no");
        let refusal = Refusal { fault: Hidden::default().strip(fault), report: Report::default() };
        let failure = Failure::Upstream(Box::new(refusal));
        let heard = Heard { at: Instant::now(), connected: None };
        let answered = Box::new(Answered { failure, heard, status, headers: HeaderMap::new() });
        let told = tell(&Failure::Answered(answered), Some("acme"));
        assert_eq!(told.status, StatusCode::BAD_GATEWAY);
        let cause = "integration `acme`: the upstream answered 999 (the client was told its words)";
        assert_eq!(told.cause(), cause);
    }

    #[test]
    fn of_a_handler_that_gave_no_answer_the_log_does_not_say_that_it_did() {
        for (code, cause) in [
            ("handler_timeout", "the handler did not answer within handlers.request_timeout"),
            ("handler_garbled", "the handler's answer cannot be understood"),
            ("handler_error", "the handler answered 504"),
        ] {
            let fault = Hidden::default().strip(Fault { status: 504, ..Fault::default() });
            let refusal = Box::new(Refusal { fault, report: Report::default() });
            let told = tell(&Failure::Raised(refusal, code), Some("acme"));
            assert_eq!(told.cause(), format!("integration `acme`: {cause} (the client was told its words)"));
        }
    }

    #[test]
    fn our_own_fault_says_nothing_of_its_cause() {
        let told = tell(&Failure::Internal("a stream was opened for a whole answer"), Some("acme"));
        assert!(!told.message.contains("stream"));
        assert!(told.cause().contains("stream"));
    }

    #[test]
    fn nobody_is_told_to_come_back_too_early() {
        for (milliseconds, seconds) in [(0, 1), (200, 1), (1000, 1), (1001, 2), (3800, 4)] {
            let told = unavailable("draining", String::new()).after(Duration::from_millis(milliseconds));
            assert_eq!(told.retry_after, Some(seconds), "{milliseconds} ms");
        }
    }

    #[test]
    fn a_clients_long_model_name_is_cut() {
        let told = tell(
            &Failure::Routing(Box::new(NotFound::Model {
                model: "x".repeat(5000),
                integration: None,
                near: vec![],
            })),
            None,
        );
        assert!(told.message.len() < 300);
    }

    #[test]
    fn a_refused_body_names_the_integration_and_the_field_once() {
        let said = |failure: &Failure| tell(failure, Some("acme")).message;
        let invalid = |message: &str, param: Option<&str>| Failure::InvalidBody {
            message: message.into(),
            param: param.map(Into::into),
        };
        let lacking = |message: &str, param: &str| Failure::Unsupported {
            message: message.into(),
            param: param.into(),
        };
        for (failure, wanted) in [
            (invalid("this field is required", Some("messages")), "`messages`: this field is required"),
            (invalid("`model` must be a string", Some("model")), "`model` must be a string"),
            (invalid("metadata.a goes into a header", Some("metadata.a")), "metadata.a goes into a header"),
            (invalid("metadata.ab is odd", Some("metadata.a")), "`metadata.a`: metadata.ab is odd"),
            (invalid("not JSON at byte 1", None), "not JSON at byte 1"),
            (invalid("a name is odd", Some("")), "a name is odd"),
            (lacking("one answer a request", "n"), "`n`: one answer a request"),
            (lacking("chat only", ""), "chat only"),
        ] {
            assert_eq!(said(&failure), format!("integration `acme`: {wanted}"));
        }
        for failure in [lacking("chat only", ""), invalid("a name is odd", Some(""))] {
            assert_eq!(tell(&failure, None).param, None);
        }
    }
}
