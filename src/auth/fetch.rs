//! One token request: out through the egress, its answer read within its limits of time and size.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::answer::{Granted, Trouble};
use super::credential::Credential;
use crate::egress::{self, Egress, SendError};
use crate::outbound::{Segments, Stamp, Unsigned};
use crate::tasks::Seat;

/// The longest answer of a token endpoint that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The longest that a `retry-after` is heeded: whoever mends an endpoint that asked for more need not wait for it.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How a caller reaches those who have a part in a token, and how long it gives them.
#[derive(Clone)]
pub(super) struct Way {
    /// The integration that the caller is for.
    pub(super) integration: Arc<str>,
    /// Towards each of them, in the credential's order: the token endpoint first.
    pub(super) stops: Arc<[Egress]>,
    /// The whole token request: connecting, the heads and the bodies.
    pub(super) limit: Duration,
}

impl Way {
    /// Asks once for a token.
    pub(super) async fn ask<C: Credential>(
        &self,
        seat: Seat,
        credential: &C,
    ) -> Result<Granted<C::Pass>, Miss> {
        let flight = Flight { seat, way: self, rest: OnceLock::new() };
        let asked = timeout(self.limit, credential.ask(&flight)).await.unwrap_or_else(|_| {
            Err(Trouble::unavailable(format!("it did not answer within {:?} (limits.token)", self.limit)))
        });
        asked.map_err(|trouble| Miss { trouble, rest: flight.rest.into_inner() })
    }
}

/// Why one asking gave no token.
pub(super) struct Miss {
    pub(super) trouble: Trouble,
    /// How long those who were asked want to be left alone.
    pub(super) rest: Option<Duration>,
}

/// One asking for a token.
pub(super) struct Flight<'a> {
    seat: Seat,
    pub(super) way: &'a Way,
    rest: OnceLock<Duration>,
}

impl Flight<'_> {
    /// Sends `request` to the stop of this number; its status and its whole answer.
    pub(super) async fn exchange(
        &self,
        stop: usize,
        request: Box<Unsigned>,
    ) -> Result<(u16, BytesMut), Trouble> {
        let egress = self.way.stops.get(stop).ok_or_else(|| Trouble::unavailable("there is no way to it"))?;
        let sent = egress.send(self.seat, request.seal(Stamp(0))).await;
        let sent = sent.map_err(|why| unanswered(&why))?;
        let (status, coding) = (sent.head.status, coding(&sent.head.headers));
        if let Some(rest) = rest(status, &sent.head.headers) {
            _ = self.rest.set(rest);
        }
        let body = whole(sent.body).await?;
        match coding.or_else(|| body.starts_with(GZIP).then_some("gzip")) {
            // Some say so of what is not: what can be read is.
            Some(coding) if status.is_success() && !is_text(&body) => Err(Trouble::unavailable(format!(
                "its answer is compressed ({coding}), although it was asked for one that is not"
            ))),
            _ => Ok((status.as_u16(), body)),
        }
    }
}

/// What a gzip file begins with (RFC 1952 §2.3.1).
const GZIP: &[u8] = b"\x1f\x8b";

/// Why there is no answer. Until a request is sent nobody has words that could hold anything of it.
fn unanswered(why: &SendError) -> Trouble {
    let words = why.to_string();
    match why {
        SendError::Closed(_) => Trouble::quoting(words, "the connection ended before it answered"),
        SendError::Garbled(_) => Trouble::quoting(words, "its answer is not HTTP that can be used"),
        SendError::Tls(_) | SendError::ProxyAuth(_) => Trouble::hopeless(words),
        _ => Trouble::unavailable(words),
    }
}

/// How long an answer of this head asks to be left alone (RFC 9110 §10.2.3), as far as it is heeded.
fn rest(status: StatusCode, fields: &HeaderMap) -> Option<Duration> {
    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let said = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    // Some give fractions, or more than any number of theirs holds; a sign or `inf` is nothing that counts.
    let is_number = said.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let rest = match said.parse::<f64>() {
        Ok(seconds) if is_number => {
            Duration::try_from_secs_f64(seconds.min(LONGEST_REST.as_secs_f64())).ok()?
        }
        _ => httpdate::parse_http_date(said).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(rest.min(LONGEST_REST))
}

/// How the answer says that it is compressed.
fn coding(fields: &HeaderMap) -> Option<&'static str> {
    let said = fields.get(CONTENT_ENCODING)?.as_bytes();
    ["gzip", "deflate", "br", "zstd"].into_iter().find(|coding| said.eq_ignore_ascii_case(coding.as_bytes()))
}

/// Whether `body` begins like JSON or XML.
fn is_text(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start(), [b'{' | b'<', ..])
}

/// A request with this form to `url`, for an answer of JSON.
pub(super) fn post(url: &Uri, form: String) -> Box<Unsigned> {
    let mut request = to(url, Method::POST, Segments::one(Bytes::from(form)));
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

/// A request for what is at `url`.
pub(super) fn get(url: &Uri) -> Box<Unsigned> {
    to(url, Method::GET, Segments::default())
}

fn to(url: &Uri, method: Method, body: Segments) -> Box<Unsigned> {
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let mut request = Unsigned::new(method, "", headers, body);
    request.uri = url.clone();
    request
}

/// Reads the whole body; one that is too long is left unread, which closes its connection.
async fn whole(mut body: egress::Body) -> Result<BytesMut, Trouble> {
    let too_long = || Err(Trouble::unavailable("its answer is longer than 1 MiB"));
    if body.size_hint().lower() > MAX_ANSWER as u64 {
        return too_long();
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| {
            Trouble::quoting(format!("its answer broke off: {why}"), "its answer broke off")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > MAX_ANSWER {
            return too_long();
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::super::testing::*;
    use super::*;
    use crate::tls::Profile;

    async fn ask(endpoint: &Endpoint, limit: Duration) -> Result<Granted<HeaderValue>, Trouble> {
        let credential = Client::read(&endpoint.settings(), &Profile::default()).unwrap();
        way(endpoint.egress(), limit).ask(SEAT, &credential).await.map_err(|miss| miss.trouble)
    }

    async fn words(answer: Vec<u8>) -> String {
        let endpoint = Endpoint::saying(move |_| answer.clone()).await;
        match ask(&endpoint, LIMIT).await {
            Err(Trouble::Unavailable { words, .. }) => words,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was granted"),
        }
    }

    #[tokio::test]
    async fn the_request_is_a_form_sent_to_the_path_and_query_of_the_token_url() {
        let endpoint = Endpoint::granting().await;
        let granted = ask(&endpoint, LIMIT).await.ok().unwrap();
        assert_eq!((granted.pass.to_str().unwrap(), granted.lifetime.as_secs()), ("Bearer tok-1", 3600));
        let request = &endpoint.requests()[0];
        assert!(request.starts_with("POST /token?tenant=t HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
        let form = "grant_type=client_credentials&client_id=the+id&client_secret=s%3Ae%2Fc%26r%3Dt";
        assert!(request.ends_with(&format!("\r\n\r\n{form}")), "{request}");
    }

    #[tokio::test]
    async fn an_answer_over_one_mebibyte_is_not_read_to_its_end() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n";
        assert!(words(head.into()).await.contains("longer than 1 MiB"));
        let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n".to_vec();
        endless.resize(endless.len() + (2 << 20), b'a');
        assert!(words(endless).await.contains("longer than 1 MiB"));
        let mut padded = format!("{{\"access_token\":\"t\"{}", " ".repeat(1 << 19)).into_bytes();
        padded.push(b'}');
        let endpoint = Endpoint::saying(move |_| answer(200, std::str::from_utf8(&padded).unwrap())).await;
        assert_eq!(ask(&endpoint, LIMIT).await.ok().unwrap().pass, "Bearer t");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let other = Endpoint::granting().await;
        let head = format!("HTTP/1.1 307 X\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", other.url());
        assert!(words(head.into()).await.contains("redirect (307)"));
        assert_eq!(other.calls(), 0);
    }

    #[tokio::test]
    async fn a_closed_connection_a_cut_body_and_noise_are_each_told_in_words() {
        assert!(words(Vec::new()).await.contains("closed the connection before it answered"));
        let cut = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 50\r\n\r\n{\"access_token\":\"tok";
        assert!(words(cut.into()).await.contains("its answer broke off"));
        let noise = words(b"\x00\x01 noise\r\n\r\n".to_vec()).await;
        assert!(noise.contains("cannot be used") && noise.starts_with("the answer of 127.0.0.1"), "{noise}");
    }

    #[tokio::test]
    async fn a_compressed_answer_is_told_as_such_and_one_that_only_says_so_is_read() {
        let coded = |field: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\n{field}content-length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        for answer in [
            coded("content-encoding: GZip\r\n", b"\x1f\x8b\x08xx"),
            coded("", b"\x1f\x8b\x08xx"),
            coded("content-encoding: br\r\n", b"\x0b\x02\x80"),
        ] {
            let words = words(answer).await;
            assert!(words.contains("its answer is compressed (") && !words.contains("JSON"), "{words}");
        }
        let plain = coded("content-encoding: gzip\r\n", b"{\"access_token\":\"t\"}");
        let endpoint = Endpoint::saying(move |_| plain.clone()).await;
        assert_eq!(ask(&endpoint, LIMIT).await.ok().unwrap().pass, "Bearer t");
    }

    #[test]
    fn a_failing_endpoint_may_ask_to_be_left_alone_for_up_to_a_minute() {
        let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        for (status, said, want) in [
            (503, "7", Some(7.0)),
            (429, " 30 ", Some(30.0)),
            (429, "1.5", Some(1.5)),
            (500, "3600", Some(60.0)),
            (503, "99999999999999999999", Some(60.0)),
            (503, &in_an_hour, Some(60.0)),
            (503, "Sun, 06 Nov 1994 08:49:37 GMT", None),
            (503, "soon", None),
            (503, "-1", None),
            (503, "inf", None),
            (503, "1.2.3", None),
            (401, "7", None),
            (200, "7", None),
        ] {
            let fields = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(said).unwrap())]);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(rest(status, &fields), want.map(Duration::from_secs_f64), "{status}: {said}");
        }
    }

    #[tokio::test]
    async fn one_limit_bounds_the_head_and_the_body_together() {
        let endpoint = Endpoint::granting().await;
        endpoint.close();
        let silent = ask(&endpoint, Duration::from_millis(50)).await.err().unwrap();
        let want = "it did not answer within 50ms (limits.token)";
        assert_eq!(silent, Trouble::unavailable(want));
        let stalled = Endpoint::saying(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".to_vec()).await;
        let stalled = ask(&stalled, Duration::from_millis(200)).await.err().unwrap();
        assert_eq!(stalled, Trouble::unavailable(want.replace("50ms", "200ms")));
    }
}
