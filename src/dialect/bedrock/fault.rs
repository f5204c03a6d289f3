//! Errors in AWS' words: the type in a header, in the body, or in the frame of a stream.

use serde::Deserialize;

use crate::dialect::Head;
use crate::openai::Fault;

/// Reads an answer of status 400 or above.
pub(super) fn read(head: Head<'_>, body: &[u8]) -> Fault {
    let mut fault = Fault::read(head.status, head.headers, body);
    let header = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    if let Some(kind) = header.map(str::to_owned).or_else(|| kind_inside(body)) {
        fault.code = Some(bare(&kind).to_owned());
    }
    fault
}

/// The error that an exception frame tells of: `kind` names it, `payload` holds its words.
pub(super) fn exception(kind: &str, payload: &[u8]) -> Fault {
    let mut fault = Fault::inside(payload).unwrap_or_else(|| Fault {
        message: format!("the upstream broke off with `{kind}` and no words"),
        ..Fault::default()
    });
    fault.status = status(kind);
    fault.kind = None;
    fault.code = Some(kind.to_owned());
    fault
}

/// The error that a frame tells of whose service has not modelled it.
pub(super) fn error(code: &str, message: &str) -> Fault {
    let mut fault = exception(code, b"");
    if !message.trim().is_empty() {
        fault.message = message.to_owned();
    }
    fault
}

/// The status that AWS gives to an exception outside of streams.
fn status(kind: &str) -> u16 {
    let kind = kind.strip_suffix("Exception").unwrap_or(kind);
    let is = |word: &str| kind.eq_ignore_ascii_case(word);
    match () {
        () if is("Validation") => 400,
        () if is("AccessDenied") => 403,
        () if is("ResourceNotFound") => 404,
        () if is("Throttling") || is("ModelNotReady") || is("ServiceQuotaExceeded") => 429,
        () if is("InternalServer") => 500,
        () if is("ServiceUnavailable") => 503,
        () if is("ModelTimeout") => 504,
        () => 502,
    }
}

/// `ThrottlingException` out of `ThrottlingException:http://…` and `com.amazon.coral#ThrottlingException`.
fn bare(kind: &str) -> &str {
    let kind = kind.split([':', ';', ',']).next().unwrap_or(kind);
    kind.rsplit('#').next().unwrap_or(kind).trim()
}

fn kind_inside(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "__type")]
        kind: Option<String>,
    }
    serde_json::from_slice::<Wire>(body).ok()?.kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_found_in_the_header_or_the_body() {
        let mut headers = http::HeaderMap::new();
        let read = |headers: &http::HeaderMap| {
            let body = br#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#;
            read(Head { status: 403, headers }, body)
        };
        let fault = read(&headers);
        assert_eq!((fault.code.as_deref(), &*fault.message), (Some("AccessDeniedException"), "no"));
        headers.insert("x-amzn-errortype", "ThrottlingException:http://x/".parse().unwrap());
        assert_eq!(read(&headers).code.as_deref(), Some("ThrottlingException"));
    }

    #[test]
    fn exceptions_get_the_status_that_they_have_outside_of_streams() {
        for (kind, wanted) in [
            ("validationException", 400),
            ("throttlingException", 429),
            ("internalServerException", 500),
            ("serviceUnavailableException", 503),
            ("modelStreamErrorException", 502),
            ("brandNewException", 502),
        ] {
            let fault = exception(kind, br#"{"message":"m"}"#);
            assert_eq!((fault.status, &*fault.message), (wanted, "m"), "{kind}");
        }
        assert!(exception("x", b"not json").message.contains("`x`"));
        assert_eq!(error("InternalError", "broken").message, "broken");
        assert!(!error("", " ").message.is_empty());
    }
}
