//! What a request would look like on the wire, and where it would go, told without sending it.

use http::header::{CONTENT_LENGTH, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Uri};
use http_body::Body as _;

use super::{Egress, message};
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

    /// The request target and the headers with which `request` would go out over HTTP/1.1. A proxy's credentials are
    /// not among them: in their place stands `stars`.
    pub fn preview(&self, request: Box<Unsigned>, stars: &'static str) -> (Uri, HeaderMap) {
        let to = self.pool.destination();
        let Unsigned { method, uri, headers, body, tail: _ } = *request;
        let mut request = message::compose(method, &uri, headers, body, to.host_field());
        to.address(&mut request);
        // hyper says how long the body is.
        let length = request.body().size_hint().exact().filter(|length| *length > 0);
        let (parts, _) = request.into_parts();
        let mut headers = parts.headers;
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(field) = headers.get_mut(PROXY_AUTHORIZATION) {
            *field = HeaderValue::from_static(stars);
        }
        (parts.uri, headers)
    }
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
        headers.insert("x-a", HeaderValue::from_static("1"));
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
        let (target, headers) = egress.preview(unsigned(&url), "***");
        let mut signed = post(&["{\"a\":", "1}"]);
        signed.request.headers = unsigned(&url).headers;
        let (_, sent) = tokio::join!(egress.send(SEAT, signed), async {
            let mut peer = upstream.accept().await;
            peer.serve().await
        });
        let mut shown = format!("POST {target} HTTP/1.1\r\n");
        for (name, value) in &headers {
            shown.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        assert_eq!(sent, format!("{shown}\r\n{{\"a\":1}}"));
    }

    #[test]
    fn a_proxy_that_passes_on_is_given_the_whole_url_and_its_password_is_not_shown() {
        let proxy = Proxy::Through {
            url: Secret::new("http://me:s3cret@proxy.example:3128"),
            shown: "http://proxy.example:3128".to_owned(),
        };
        let egress = egress("http://a.example/v1", &proxy);
        let (target, headers) = egress.preview(unsigned("http://a.example/v1/x"), "***");
        assert_eq!(target, "http://a.example/v1/x");
        assert!(headers["host"] == "a.example" && headers["proxy-authorization"] == "***");
        let route = egress.route();
        assert_eq!((route.to.as_str(), route.tls), ("a.example:80", None));
        let through =
            ProxyRoute { url: "http://proxy.example:3128".into(), forwards: true, has_credentials: true };
        assert_eq!(route.proxy, Some(through));
    }
}
