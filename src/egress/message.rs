//! The request as it goes on the wire.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use http_body::{Frame, SizeHint};

use crate::hop::is_hop_by_hop;
use crate::outbound::{Segments, Unsigned};

/// What names us upstream.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("outrider/", env!("CARGO_PKG_VERSION")));

/// Whether a field belongs to one connection, or to the framing: set by us, never copied.
fn is_framing(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-length" | "expect") || is_hop_by_hop(name)
}

/// The head of `request` as text (RFC 9112 §3, §5): origin form, our own host and framing; or through a proxy that
/// passes it on to the authority of `forward`, absolute form and what proves who we are.
pub(super) fn head(
    request: &Unsigned,
    host: &HeaderValue,
    forward: Option<(&Authority, Option<&HeaderValue>)>,
) -> Vec<u8> {
    let mut head = Vec::with_capacity(1000);
    head.extend_from_slice(request.method.as_str().as_bytes());
    head.push(b' ');
    if let Some((authority, _)) = forward {
        head.extend_from_slice(b"http://");
        head.extend_from_slice(authority.as_str().as_bytes());
    }
    let path = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    head.extend_from_slice(path.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    let mut is_named = false;
    for (name, value) in &request.headers {
        if name != header::HOST && !is_framing(name) {
            is_named = is_named || name == header::USER_AGENT;
            line(&mut head, name, value.as_bytes());
        }
    }
    line(&mut head, &header::HOST, host.as_bytes());
    if !is_named {
        line(&mut head, &header::USER_AGENT, USER_AGENT.as_bytes());
    }
    if let Some((_, Some(authorization))) = forward {
        line(&mut head, &header::PROXY_AUTHORIZATION, authorization.as_bytes());
    }
    let length = request.body.len();
    if length > 0 || expects_body(&request.method) {
        line(&mut head, &header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn line(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Whether an empty body must be said to be one (RFC 9110 §8.6).
fn expects_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// `request` as it goes on a connection of HTTP/2: the whole URL at `authority` in place of `host` (RFC 9113 §8.3.1),
/// without framing.
pub(super) fn compose(request: &Unsigned, authority: &Authority) -> Request<Outgoing> {
    let mut headers = request.headers.clone();
    // Comparing the few names that are there costs less than looking up those that are not.
    for name in request.headers.keys().filter(|name| **name == header::HOST || is_framing(name)) {
        headers.remove(name);
    }
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    let body = Outgoing::new(request.body.clone());
    if body.left == 0 && expects_body(&request.method) {
        // hyper says nothing about an empty body.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let mut url = Parts::default();
    (url.scheme, url.authority) = (Some(Scheme::HTTPS), Some(authority.clone()));
    url.path_and_query =
        Some(request.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    let mut composed = Request::new(body);
    *composed.method_mut() = request.method.clone();
    *composed.uri_mut() = Uri::from_parts(url).unwrap_or_default();
    *composed.headers_mut() = headers;
    composed
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
    use http::HeaderMap;
    use http_body_util::BodyExt as _;

    use super::*;

    fn request(method: Method, uri: &'static str) -> Box<Unsigned> {
        let mut request = Unsigned::new(method, "", HeaderMap::new(), Segments::default());
        request.uri = Uri::from_static(uri);
        request
    }

    /// `request` as it goes to `a.example` over either version.
    fn written(request: &Unsigned) -> (String, Request<Outgoing>) {
        let host = HeaderValue::from_static("a.example");
        let text = String::from_utf8(head(request, &host, None)).unwrap();
        (text, compose(request, &Authority::from_static("a.example")))
    }

    #[test]
    fn an_empty_post_says_its_length_and_a_get_has_none() {
        for (method, says) in [(Method::POST, true), (Method::GET, false)] {
            let (text, request) = written(&request(method, "http://b.example"));
            assert!(text.contains(" / HTTP/1.1\r\nhost: a.example\r\n"), "{text}");
            assert_eq!(request.uri(), "https://a.example/");
            assert_eq!(text.contains("\r\ncontent-length: 0\r\n"), says, "{text}");
            assert_eq!(request.headers().get("content-length").is_some_and(|it| it == "0"), says);
        }
    }

    #[test]
    fn what_belongs_to_one_connection_is_never_copied() {
        let mut request = request(Method::POST, "http://b.example/x");
        let ends = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"];
        for name in ends.into_iter().chain(["upgrade", "expect", "content-length", "host"]) {
            request.headers.insert(name, HeaderValue::from_static("doomed"));
        }
        request.headers.insert("x-a", HeaderValue::from_static("1"));
        let (text, composed) = written(&request);
        assert!(text.contains("\r\nx-a: 1\r\n") && !text.contains("doomed"), "{text}");
        let mut names: Vec<_> = composed.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "user-agent", "x-a"]);
        assert_eq!(composed.headers()["content-length"], "0");
    }

    #[test]
    fn a_user_agent_that_was_configured_stays() {
        let mut request = request(Method::POST, "http://b.example/x");
        request.headers.insert("user-agent", HeaderValue::from_static("ours/1"));
        let (text, composed) = written(&request);
        assert_eq!(
            (text.matches("user-agent").count(), text.contains("\r\nuser-agent: ours/1\r\n")),
            (1, true)
        );
        assert_eq!(composed.headers()["user-agent"], "ours/1");
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
