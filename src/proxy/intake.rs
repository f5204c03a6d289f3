//! What stands at the door: path, method, host, caller key, content type; then the body, bounded in size and time.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::EXPECT;
use http::{HeaderValue, Method, Request, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::House;
use super::failure::Failure;
use super::head::{Fields, essence};
use super::pass;
use super::visit::Visit;
use crate::openai::Operation;
use crate::tasks::hush;

/// The most room that is made for a body at once, in bytes.
const STEP: usize = 1 << 20;

/// How much of a body is read that nobody wants, in bytes, and for how long.
const SMALL: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// What a request asks for, by its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// `GET …/v1/models`.
    Models {
        /// The integration that the path names.
        integration: Option<String>,
    },
    /// `GET /v1/models/{model}`.
    Model {
        /// What a client would send as `model`.
        model: String,
    },
    /// A request for a model.
    Ask {
        /// What is asked.
        operation: Operation,
        /// The integration that the path names.
        integration: Option<String>,
    },
    /// Any other path of an integration's provider.
    Relay {
        /// The integration that the path names.
        integration: String,
        /// What stands behind `/v1/`, as it came.
        rest: String,
    },
}

/// Checks everything that can be known from the head alone.
pub(super) fn admit<B>(request: &Request<B>, fields: &Fields<'_>, house: &House) -> Result<Door, Failure> {
    check_head(request, fields, house.max_head)?;
    if house.is_draining() {
        return Err(Failure::Draining);
    }
    check_caller(fields, house)?;
    let door = door(request.uri().path())?;
    match &door {
        Door::Models { .. } | Door::Model { .. } if !is_read(request.method()) => {
            Err(Failure::MethodNotAllowed("GET, HEAD"))
        }
        Door::Ask { .. } if request.method() != Method::POST => Err(Failure::MethodNotAllowed("POST")),
        Door::Models { .. } | Door::Model { .. } => Ok(door),
        Door::Relay { .. } => pass::check_method(request.method()).map(|()| door),
        Door::Ask { .. } => check_type(fields).map(|()| door),
    }
}

/// Whether `method` asks for what is there, and changes nothing.
pub(super) fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Checks what a head of at most `most` bytes must be, whoever sent it.
pub(super) fn check_head<B>(request: &Request<B>, fields: &Fields<'_>, most: usize) -> Result<(), Failure> {
    check_host(request, fields)?;
    // hyper bounds only what it buffers, which is more than a head may have: a body is to come in one piece.
    let line = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    if line + fields.size > most { Err(Failure::HeadTooLarge(most)) } else { Ok(()) }
}

/// RFC 9112 §3.2: exactly one Host; and nothing that would turn the connection into something else.
fn check_host<B>(request: &Request<B>, fields: &Fields<'_>) -> Result<(), Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::BadRequest("CONNECT is not served here"));
    }
    if fields.upgrade {
        return Err(Failure::BadRequest("this server does not upgrade connections"));
    }
    // RFC 9112 §6.1 allows more, but nobody sends it and readers differ in how they take it.
    let is_chunked = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"chunked");
    if fields.transfer_encodings > 1 || fields.transfer_encoding.is_some_and(|v| !is_chunked(v)) {
        return Err(Failure::BadRequest("Transfer-Encoding other than `chunked` is not taken"));
    }
    if fields.hosts > 1 || (fields.hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Failure::BadRequest("exactly one Host header is needed"));
    }
    Ok(())
}

fn check_caller(fields: &Fields<'_>, house: &House) -> Result<(), Failure> {
    let rules = house.rules.load();
    let Some(key) = &rules.caller_key else { return Ok(()) };
    let given = fields.authorization.map(HeaderValue::as_bytes).unwrap_or_default();
    let bearer = match given.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest,
        Some(_) | None => b"",
    };
    if key.matches(bearer) { Ok(()) } else { Err(Failure::CallerUnauthorized) }
}

/// `/v1/…` or `/{integration}/v1/…`.
pub(super) fn door(path: &str) -> Result<Door, Failure> {
    let unknown = || Failure::NotFound(path.chars().take(200).collect());
    let (integration, rest) = match path.strip_prefix("/v1/") {
        Some(rest) => (None, rest),
        None => {
            let (name, rest) = path[1.min(path.len())..].split_once("/v1/").ok_or_else(unknown)?;
            if name.is_empty() || name.contains('/') {
                return Err(unknown());
            }
            (Some(percent_decode_str(name).decode_utf8_lossy().into_owned()), rest)
        }
    };
    match rest {
        "chat/completions" => Ok(Door::Ask { operation: Operation::Chat, integration }),
        "embeddings" => Ok(Door::Ask { operation: Operation::Embeddings, integration }),
        "models" => Ok(Door::Models { integration }),
        "" => Err(unknown()),
        rest => match integration {
            Some(integration) => Ok(Door::Relay { integration, rest: rest.to_owned() }),
            None => model(rest).map(|model| Door::Model { model }).ok_or_else(unknown),
        },
    }
}

/// The model that `rest`, behind `/v1/`, asks to be told of. Its name may hold slashes, which some clients encode.
pub(super) fn model(rest: &str) -> Option<String> {
    let model = rest.strip_prefix("models/").filter(|model| !model.is_empty())?;
    Some(percent_decode_str(model).decode_utf8_lossy().into_owned())
}

/// The integration that a path names, whether there is one or not.
pub(super) fn named(path: &str) -> Option<String> {
    match door(path).ok()? {
        Door::Models { integration } | Door::Ask { integration, .. } => integration,
        Door::Model { .. } => None,
        Door::Relay { integration, .. } => Some(integration),
    }
}

fn check_type(fields: &Fields<'_>) -> Result<(), Failure> {
    if fields.content_encoding.is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Failure::UnsupportedMedia("a compressed request body (content-encoding) is not taken"));
    }
    let Some(given) = fields.content_type else { return Ok(()) };
    if essence(given).eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    Err(Failure::UnsupportedMedia("the content type must be application/json"))
}

/// Reads the body, and tells `visit` how much of it has come. A body of one frame is handed on as it came.
pub(super) async fn body(mut body: Incoming, house: &House, visit: &mut Visit) -> Result<Bytes, Failure> {
    let (max_body, body_timeout) = {
        let rules = house.rules.load();
        (rules.max_body, rules.body_timeout)
    };
    // hyper has read `Content-Length` for it.
    let announced = body.size_hint().exact();
    if announced.is_some_and(|n| n > max_body as u64) {
        return Err(Failure::BodyTooLarge(max_body));
    }
    let Some(first) = next(&mut body, body_timeout).await? else { return Ok(Bytes::new()) };
    visit.took_in(first.len());
    if announced == Some(first.len() as u64) {
        return Ok(first);
    }
    let mut whole = Vec::new();
    let mut more = Some(first);
    while let Some(piece) = more {
        if piece.len() > max_body - whole.len() {
            return Err(Failure::BodyTooLarge(max_body));
        }
        grow(&mut whole, piece.len(), announced);
        whole.extend_from_slice(&piece);
        visit.took_in(whole.len());
        drop(piece);
        more = next(&mut body, body_timeout).await?;
    }
    Ok(whole.into())
}

/// Refuses `request` by `failure` before its body was read. A small body is read and thrown away, so that its client can
/// use the connection again. Before any other the connection ends, and the answer says so (RFC 9112 §9.6).
pub(super) async fn unread(failure: Failure, request: Request<Incoming>) -> Failure {
    let (head, mut body) = request.into_parts();
    if body.is_end_stream() || failure.closes() {
        return failure;
    }
    // Who waits for a word before the body has the answer for one; reading would ask for the body.
    let is_held = head.headers.contains_key(EXPECT);
    let is_small = body.size_hint().upper().is_none_or(|most| most <= SMALL as u64);
    let read = async {
        let mut read = 0;
        while let Some(piece) = next(&mut body, PATIENCE).await.ok()? {
            read += piece.len();
            if read > SMALL {
                return None;
            }
        }
        Some(())
    };
    let is_read = !is_held && is_small && matches!(tokio::time::timeout(PATIENCE, read).await, Ok(Some(())));
    if is_read { failure } else { Failure::Unread(Box::new(failure)) }
}

/// Makes room for `more` bytes: doubling what is small, in steps of [`STEP`] beyond, and never for more than came
/// because more was announced.
fn grow(whole: &mut Vec<u8>, more: usize, announced: Option<u64>) {
    if whole.capacity() - whole.len() >= more {
        return;
    }
    let step = whole.len().clamp(16 << 10, STEP);
    let left = announced.map_or(step, |n| (n as usize).saturating_sub(whole.len()).min(STEP));
    whole.reserve_exact(more.max(left));
}

/// What it means that a body ended in `error`. Its connection's end is its client's leaving, as it is while an answer is
/// waited for.
fn broken(error: &hyper::Error) -> Failure {
    let causes =
        std::iter::successors(error.source(), |cause: &&(dyn std::error::Error + 'static)| (*cause).source());
    let has_left = |cause: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(cause.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
    };
    match causes.filter_map(|cause| cause.downcast_ref()).any(has_left) {
        true => Failure::Left,
        false => Failure::BadRequest("the request body is malformed"),
    }
}

async fn next(body: &mut Incoming, silence: Duration) -> Result<Option<Bytes>, Failure> {
    loop {
        // What is there already needs no timer.
        let mut frame = poll_fn(|cx| hush::poll_frame(body, cx));
        let frame = match (&mut frame).now_or_never() {
            Some(frame) => frame,
            // Boxed: it would make room in every request's future.
            None => Box::pin(tokio::time::timeout(silence, frame))
                .await
                .map_err(|_| Failure::BodyTooSlow(silence))?,
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

    fn ask(integration: Option<&str>) -> Door {
        Door::Ask { operation: Operation::Chat, integration: integration.map(str::to_owned) }
    }

    #[test]
    fn a_path_names_the_operation_and_perhaps_the_integration() {
        assert_eq!(door("/v1/chat/completions").unwrap(), ask(None));
        assert_eq!(door("/acme/v1/chat/completions").unwrap(), ask(Some("acme")));
        assert_eq!(door("/ac%2Dme/v1/chat/completions").unwrap(), ask(Some("ac-me")));
        assert_eq!(door("/acme/v1/models").unwrap(), Door::Models { integration: Some("acme".into()) });
        let relay = Door::Relay { integration: "ac-me".into(), rest: "models/x%2Fy".into() };
        assert_eq!(door("/ac%2Dme/v1/models/x%2Fy").unwrap(), relay);
        for path in ["/v1/models/openai/x", "/v1/models/openai%2Fx"] {
            assert_eq!(door(path).unwrap(), Door::Model { model: "openai/x".into() });
        }
        for path in [
            "/",
            "",
            "*",
            "/v1",
            "/v1/",
            "//v1/models",
            "/a/b/v1/models",
            "/v1/models/",
            "/v1/chat",
            "/acme/v1/",
        ] {
            assert!(matches!(door(path), Err(Failure::NotFound(_))), "{path} was taken");
        }
    }

    #[test]
    fn json_may_have_parameters_or_no_type_at_all() {
        let check = |name, value: &str| {
            check_type(&Fields::of(&Request::builder().header(name, value).body(()).unwrap()))
        };
        assert!(check_type(&Fields::default()).is_ok());
        assert!(check(CONTENT_TYPE, "Application/JSON ; charset=utf-8").is_ok());
        assert!(check(CONTENT_TYPE, "text/plain").is_err());
        assert!(check(CONTENT_TYPE, "application/jsonx").is_err());
        assert!(check(CONTENT_ENCODING, "gzip").is_err());
        assert!(check(CONTENT_ENCODING, "identity").is_ok());
    }
}
