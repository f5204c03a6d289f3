//! The request as it goes on the wire, and the rules that a response head must keep beyond hyper's own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};

use crate::outbound::{Segments, Signed, Unsigned};

/// What names us upstream.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("outrider/", env!("CARGO_PKG_VERSION")));

/// Whether a field belongs to one connection or to its framing (RFC 9110 §7.6.1): set by hyper, never copied.
fn is_framing(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "content-length" | "transfer-encoding" | "te" | "upgrade" | "expect"
    )
}

/// Makes `signed` ready for a connection to `host`: origin form, our own host and framing.
pub(super) fn dress(signed: Signed, host: &HeaderValue) -> Request<Outgoing> {
    let Unsigned { method, uri, headers, body, tail: _ } = *signed.request;
    compose(method, &uri, headers, body, host)
}

/// Likewise, of its parts.
pub(super) fn compose(
    method: Method,
    uri: &Uri,
    mut headers: HeaderMap,
    body: Segments,
    host: &HeaderValue,
) -> Request<Outgoing> {
    // Comparing the few names that are there costs less than looking up those that are not.
    if headers.keys().any(is_framing) {
        let framing: Vec<HeaderName> = headers.keys().filter(|name| is_framing(name)).cloned().collect();
        for name in framing {
            headers.remove(name);
        }
    }
    headers.insert(header::HOST, host.clone());
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    let body = Outgoing::new(body);
    if body.left == 0 && !matches!(method, Method::GET | Method::HEAD) {
        // hyper says nothing about an empty body; RFC 9110 §8.6 wants it said where the method expects one.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let path = uri.path_and_query().cloned();
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.headers_mut() = headers;
    request
}

/// Puts the whole URL into `request`, which is in origin form: for a proxy that passes it on, and for HTTP/2.
pub(super) fn absolute<B>(request: &mut Request<B>, scheme: Scheme, authority: &Authority) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority.clone());
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// What is wrong with the framing of `response`, in words: hyper lets these pass, RFC 9112 §6 does not, and a proxy
/// that guesses lets one answer be smuggled into the next.
pub(super) fn check<B>(response: &Response<B>) -> Result<(), &'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it answered 101 Switching Protocols, which nobody asked for");
    }
    let headers: &HeaderMap = response.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err("its answer has both Content-Length and Transfer-Encoding");
    }
    if codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err("its answer has a Transfer-Encoding other than `chunked`");
    }
    Ok(())
}

/// A request body: each piece is one frame, nothing is copied, and the length is known.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl Outgoing {
    fn new(body: Segments) -> Self {
        let left = body.len() as u64;
        Self { pieces: body.into_pieces().into_iter(), left }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.find(|piece| !piece.is_empty());
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::outbound::Stamp;

    fn signed(method: Method, uri: &'static str, pieces: Vec<Bytes>) -> Signed {
        let mut request = Unsigned::new(method, "", HeaderMap::new(), Segments::many(pieces));
        request.uri = Uri::from_static(uri);
        Signed { request, stamp: Stamp::default() }
    }

    #[test]
    fn an_empty_post_says_its_length_and_a_get_has_none() {
        let host = HeaderValue::from_static("a.example");
        let length = |method| {
            let request = dress(signed(method, "http://b.example", vec![]), &host);
            assert_eq!(
                (request.uri().path(), request.headers()["host"].as_bytes()),
                ("/", b"a.example".as_slice())
            );
            request.headers().get("content-length").cloned()
        };
        assert_eq!(length(Method::POST).unwrap(), "0");
        assert_eq!(length(Method::GET), None);
    }

    #[test]
    fn a_user_agent_that_was_configured_stays() {
        let mut request = signed(Method::POST, "http://b.example/x", vec![]);
        request.request.headers.insert("user-agent", HeaderValue::from_static("ours/1"));
        let request = dress(request, &HeaderValue::from_static("a.example"));
        assert_eq!(request.headers()["user-agent"], "ours/1");
    }

    #[tokio::test]
    async fn a_body_goes_out_as_the_very_bytes_that_came_in() {
        let pieces = vec![Bytes::from("one".to_owned()), Bytes::new(), Bytes::from("three".to_owned())];
        let places = [pieces[0].as_ptr(), pieces[2].as_ptr()];
        let mut body = Outgoing::new(Segments::many(pieces));
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(8));
        for place in places {
            assert!(!http_body::Body::is_end_stream(&body));
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame.as_ptr(), place);
        }
        assert!(http_body::Body::is_end_stream(&body));
        assert!(body.frame().await.is_none());
    }
}
