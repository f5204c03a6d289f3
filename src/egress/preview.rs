//! What a request would look like on the wire, and where it would go, told without sending it.

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use super::Egress;
use crate::outbound::Unsigned;

/// Where requests go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host and port, or in words a socket beside us.
    pub to: String,
    /// TLS, where it is spoken.
    pub tls: Option<TlsRoute>,
    /// The proxy on the way.
    pub proxy: Option<ProxyRoute>,
}

/// What is asked for in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoute {
    /// The name that is asked for and verified.
    pub server_name: String,
    /// Whether the server may choose HTTP/2.
    pub offers_http2: bool,
}

/// A proxy on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRoute {
    /// Its URL without credentials.
    pub url: String,
    /// Whether it is handed the request to pass on, rather than asked to CONNECT.
    pub forwards: bool,
    /// Whether it is told who we are.
    pub has_credentials: bool,
}

impl Egress {
    /// Where requests go, and how.
    pub fn route(&self) -> Route {
        self.pool.destination().route()
    }

    /// The headers with which `request` would go out over HTTP/1.1, read off the head that would be sent. A proxy's
    /// credentials are not among them: in their place stands `stars`.
    pub fn preview(&self, request: &Unsigned, stars: &'static str) -> HeaderMap {
        let mut headers = fields(&self.pool.destination().head(request));
        if let Some(field) = headers.get_mut(PROXY_AUTHORIZATION) {
            *field = HeaderValue::from_static(stars);
        }
        headers
    }
}

/// The fields of a head of our own.
fn fields(head: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let mut rest = memmem::find(head, b"\r\n").map_or(head, |end| &head[end + 2..]);
    while let Some(end) = memmem::find(rest, b"\r\n") {
        if let Some(colon) = memmem::find(&rest[..end], b": ")
            && let Ok(name) = HeaderName::from_bytes(&rest[..colon])
            && let Ok(value) = HeaderValue::from_bytes(&rest[colon + 2..end])
        {
            fields.append(name, value);
        }
        rest = &rest[end + 2..];
    }
    fields
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::testing::*;
    use super::super::{Clients, Egress};
    use super::*;
    use crate::config::valid::Proxy;
    use crate::outbound::Segments;
    use crate::secret::Secret;
    use crate::tasks::Tasks;
    use crate::tls::Profile;

    fn egress(url: &str, proxy: &Proxy) -> Egress {
        let clients = Clients::new(1, Tasks::new());
        clients.egress(&url.parse().unwrap(), &Profile::default(), proxy, &LIMITS).unwrap()
    }

    fn unsigned(url: &str) -> Box<Unsigned> {
        let mut headers = HeaderMap::new();
        for value in ["1: 2", ""] {
            headers.append("x-a", HeaderValue::from_static(value));
        }
        let body = Segments::many(vec!["{\"a\":".into(), "1}".into()]);
        let mut unsigned = Unsigned::new(Method::POST, "/x", headers, body);
        unsigned.uri = url.parse().unwrap();
        unsigned
    }

    #[tokio::test]
    async fn the_preview_is_what_goes_out() {
        let upstream = Upstream::bind().await;
        let egress = upstream.egress(LIMITS);
        let url = format!("http://127.0.0.1:{}/v1/x?a=1", upstream.port());
        let headers = egress.preview(&unsigned(&url), "***");
        let mut signed = post(&["{\"a\":", "1}"]);
        signed.request.headers = unsigned(&url).headers;
        let (_, sent) = tokio::join!(egress.send(SEAT, signed), async {
            let mut peer = upstream.accept().await;
            peer.serve().await
        });
        let mut shown = "POST /v1/x?a=1 HTTP/1.1\r\n".to_owned();
        for (name, value) in &headers {
            shown.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        assert_eq!(sent, format!("{shown}\r\n{{\"a\":1}}"));
    }

    #[test]
    fn the_password_of_a_proxy_that_passes_on_is_not_shown() {
        let proxy = Proxy::Through {
            url: Secret::new("http://me:s3cret@proxy.example:3128"),
            shown: "http://proxy.example:3128".to_owned(),
        };
        let egress = egress("http://a.example/v1", &proxy);
        let headers = egress.preview(&unsigned("http://a.example/v1/x"), "***");
        assert!(headers["host"] == "a.example" && headers["proxy-authorization"] == "***");
        let route = egress.route();
        assert_eq!((route.to.as_str(), route.tls), ("a.example:80", None));
        let through =
            ProxyRoute { url: "http://proxy.example:3128".into(), forwards: true, has_credentials: true };
        assert_eq!(route.proxy, Some(through));
    }
}
