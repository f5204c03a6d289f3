//! What one walk over a request's fields finds: looking each of them up by its name costs more.

use http::{HeaderValue, Request};

/// The fields that are looked at here, of each the first that came.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// What all of them take on the wire, `: ` and the lines' ends included, in bytes.
    pub(super) size: usize,
    pub(super) hosts: usize,
    /// Whether the connection is to become something that it is not here.
    pub(super) upgrade: bool,
    pub(super) transfer_encodings: usize,
    pub(super) transfer_encoding: Option<&'a HeaderValue>,
    pub(super) authorization: Option<&'a HeaderValue>,
    pub(super) content_type: Option<&'a HeaderValue>,
    pub(super) content_encoding: Option<&'a HeaderValue>,
    pub(super) request_id: Option<&'a HeaderValue>,
    pub(super) retry_count: Option<&'a HeaderValue>,
    /// OpenAI's SDKs say in it how long they wait for bytes.
    pub(super) read_timeout: Option<&'a HeaderValue>,
}

impl<'a> Fields<'a> {
    pub(super) fn of<B>(request: &'a Request<B>) -> Self {
        let mut found = Self::default();
        for (name, value) in request.headers() {
            let name = name.as_str();
            found.size += name.len() + value.len() + 4;
            let place = match name {
                "host" => {
                    found.hosts += 1;
                    continue;
                }
                "upgrade" => {
                    // Java's own client offers HTTP/2 by it, and goes on as before where nobody takes it up.
                    found.upgrade |= !value.as_bytes().eq_ignore_ascii_case(b"h2c");
                    continue;
                }
                "transfer-encoding" => {
                    found.transfer_encodings += 1;
                    &mut found.transfer_encoding
                }
                "authorization" => &mut found.authorization,
                "content-type" => &mut found.content_type,
                "content-encoding" => &mut found.content_encoding,
                "x-request-id" => &mut found.request_id,
                "x-stainless-retry-count" => &mut found.retry_count,
                "x-stainless-read-timeout" => &mut found.read_timeout,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        found
    }
}

/// A field's value as text, if it is text.
pub(super) fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

/// What a content type names, without its parameters (RFC 9110 §8.3.1). Its letters may be of either case.
pub(super) fn essence(content_type: &HeaderValue) -> &[u8] {
    content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts_and_of_those_that_are_looked_at_the_first_is_kept() {
        let request = Request::builder()
            .header("Host", "a")
            .header("host", "b")
            .header("Transfer-Encoding", "chunked")
            .header("transfer-encoding", "gzip")
            .header("content-type", "application/json")
            .header("x-request-id", "1")
            .header("x-request-id", "2")
            .header("x-other", "");
        let request = request.body(()).unwrap();
        let fields = Fields::of(&request);
        assert_eq!((fields.hosts, fields.transfer_encodings, fields.upgrade), (2, 2, false));
        assert_eq!(text(fields.transfer_encoding), Some("chunked"));
        assert_eq!(text(fields.request_id), Some("1"));
        assert!(fields.authorization.is_none());
        let wire = "host: a\r\nhost: b\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\
                    content-type: application/json\r\nx-request-id: 1\r\nx-request-id: 2\r\nx-other: \r\n";
        assert_eq!(fields.size, wire.len());
    }

    #[test]
    fn an_offer_of_http_2_asks_for_no_upgrade_and_all_else_does() {
        for (offers, asks) in [
            (&["h2c"] as &[_], false),
            (&["H2C"], false),
            (&["websocket"], true),
            (&["h2c", "websocket"], true),
            (&["websocket", "h2c"], true),
            (&["h2c, websocket"], true),
            (&[""], true),
        ] {
            let mut request = Request::builder();
            for offer in offers {
                request = request.header("upgrade", *offer);
            }
            let request = request.body(()).unwrap();
            assert_eq!(Fields::of(&request).upgrade, asks, "{offers:?}");
        }
    }
}
