//! AWS's published examples, signatures that botocore made, and keys from a scripted token service.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;

use super::super::testing::*;
use super::super::{AuthError, Authorizer, Tokens};
use super::*;
use crate::config::valid::{Authorization, AwsKeys, WebIdentity as Settings};
use crate::tasks::Tasks;

/// What AWS's own examples are signed with.
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn keys(session: Option<&str>) -> Keys {
    Keys::new(&Secret::new(ID), &Secret::new(SECRET), session.map(Secret::new).as_ref()).ok().unwrap()
}

/// One request, and what it is signed for.
struct Case {
    url: &'static str,
    method: Method,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    session: Option<&'static str>,
    place: (&'static str, &'static str),
    at: &'static str,
}

impl Case {
    /// As AWS's test suite has it.
    fn of_aws(method: Method, url: &'static str) -> Self {
        let (place, at) = (("us-east-1", "service"), "2015-08-30T12:36:00Z");
        Self { url, method, headers: &[], body: "", session: None, place, at }
    }

    /// Signed by `Signer`, with a body in two pieces.
    fn signed(&self) -> Box<Unsigned> {
        let (region, service) = (self.place.0.to_owned(), self.place.1.to_owned());
        let uri: http::Uri = self.url.parse().unwrap();
        let host = HeaderValue::from_str(uri.authority().unwrap().as_str()).unwrap();
        let signer = Signer { region, service, host, keyring: Keyring::Fixed(keys(self.session)) };
        let (one, two) = self.body.split_at(self.body.len() / 2);
        let pieces = [one, "", two].map(|piece| Bytes::from_static(piece.as_bytes())).to_vec();
        let mut unsigned = Unsigned::new(self.method.clone(), "", HeaderMap::new(), Segments::many(pieces));
        unsigned.uri = uri;
        for (name, value) in self.headers {
            unsigned.headers.append(*name, HeaderValue::from_static(value));
        }
        let Keyring::Fixed(keys) = &signer.keyring else { unreachable!() };
        let now = UNIX_EPOCH + Duration::from_secs(clock::parse(self.at).unwrap());
        signer.sign(keys, &mut unsigned, now).unwrap();
        unsigned
    }

    fn signature(&self) -> String {
        let signed = self.signed();
        let text = signed.headers[AUTHORIZATION].to_str().unwrap();
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    }
}

#[test]
fn awss_own_examples_come_out_as_published() {
    let get = |url| Case::of_aws(Method::GET, url);
    let session = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    for (case, want) in [
        (
            get("https://example.amazonaws.com/"),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            Case { session: Some(session), ..get("https://example.amazonaws.com/") },
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        ),
        (
            get("https://example.amazonaws.com/./example"),
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        (
            get("https://example.amazonaws.com/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1"),
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            Case::of_aws(Method::POST, "https://example.amazonaws.com/"),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
    ] {
        assert_eq!(case.signature(), want, "{}", case.url);
    }
}

/// Botocore 1.44.8 signed the same requests: `SigV4Auth(credentials, service, region).add_auth(request)`.
#[test]
fn botocore_signs_as_we_do() {
    let bedrock = || Case {
        url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
        method: Method::POST,
        headers: &[("content-type", "application/json")],
        body: "{\"messages\":[{\"role\":\"user\"}]}",
        session: None,
        place: ("us-east-1", "bedrock"),
        at: "2026-11-25T16:04:05Z",
    };
    let session = Some("IQoJb3JpZ2luX2Vj//SESSION==");
    let arn = Case {
        url: "http://127.0.0.1:8080/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.meta.llama3/converse?b=2&a=1%2F2&empty=",
        headers: &[
            ("content-type", "application/json"),
            ("x-amz-custom", " two  words "),
            ("user-agent", "anything"),
            ("x-team", "unsigned"),
        ],
        body: "",
        place: ("eu-west-3", "bedrock"),
        ..bedrock()
    };
    for (case, want) in [
        (bedrock(), "22dffa752a050b956e4f7f99668896620392c110c27382fdbcd6172c5cb63438"),
        (Case { session, ..bedrock() }, "eb40fb2023328449e5a4d14b04135e31941c7cbd465541cf45d69444d3f49c18"),
        (arn, "4aae7e10c37253e7e084b3539494208512855edd8e359f4614a28d86ad2f7134"),
    ] {
        assert_eq!(case.signature(), want, "{} {:?}", case.url, case.session);
    }
}

#[test]
fn what_stood_there_is_replaced_and_what_proves_us_is_sensitive() {
    let stale = &[("authorization", "Bearer x"), ("x-amz-date", "y"), ("x-amz-security-token", "z")];
    let case = Case { headers: stale, ..Case::of_aws(Method::POST, "https://example.amazonaws.com/") };
    assert_eq!(case.signature(), Case::of_aws(Method::POST, case.url).signature());
    let signed = Case { session: Some("temporary"), ..case }.signed();
    assert_eq!(signed.headers[DATE], "20150830T123600Z");
    assert_eq!(signed.headers.get_all(AUTHORIZATION).iter().count(), 1);
    assert_eq!(signed.headers[SESSION], "temporary");
    assert!(signed.headers[AUTHORIZATION].is_sensitive() && signed.headers[SESSION].is_sensitive());
    let text = signed.headers[AUTHORIZATION].to_str().unwrap();
    let want = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=";
    assert!(text.starts_with(want), "{text}");
}

#[test]
fn a_header_that_is_no_text_does_not_hinder() {
    let mut unsigned = request();
    unsigned.uri = "https://example.amazonaws.com/".parse().unwrap();
    unsigned.headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(b"a/\xff").unwrap());
    let host = HeaderValue::from_static("example.amazonaws.com");
    let signer =
        Signer { region: "r".to_owned(), service: "s".to_owned(), host, keyring: Keyring::Fixed(keys(None)) };
    let Keyring::Fixed(keys) = &signer.keyring else { unreachable!() };
    signer.sign(keys, &mut unsigned, now()).unwrap();
    let text = unsigned.headers[AUTHORIZATION].to_str().unwrap();
    assert!(text.contains("SignedHeaders=host;x-amz-date,"), "{text}");
}

#[test]
fn keys_that_cannot_be_sent_fail_the_integration_without_being_shown() {
    let inline = |text: &str| SecretSource::Inline(Secret::new(text));
    let read = |id: &str, secret: &str, session: Option<&str>| {
        Keys::read(&inline(id), &inline(secret), session.map(inline).as_ref()).err().unwrap()
    };
    for (words, want) in [
        (read("AKID\nX", "s", None), "aws: access_key_id: it holds several lines"),
        (read("AKID", "", None), "aws: secret_access_key: it is empty"),
        (read("AKID", "s", Some("a\0")), "aws: session_token: it holds a control character"),
    ] {
        assert!(words.starts_with(want) && !words.contains("AKID"), "{words}");
    }
}

fn sts(n: usize, seconds: u64) -> Vec<u8> {
    let expiration = clock::written(clock::unix_seconds() + seconds);
    let body = format!(
        "<R><Credentials><AccessKeyId>ASIA{n}</AccessKeyId><SecretAccessKey>secret-{n}</SecretAccessKey>\
         <SessionToken>session-{n}</SessionToken><Expiration>{expiration}</Expiration></Credentials></R>"
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {length}\r\n\r\n{body}").into()
}

/// A role whose keys come from `endpoint` for the token in `file`.
fn role(endpoint: &Endpoint, tokens: &Tokens, file: &std::path::Path) -> Authorizer {
    let settings = Aws {
        region: "us-east-1".to_owned(),
        service: "bedrock".to_owned(),
        keys: AwsKeys::WebIdentity(Settings {
            role_arn: "arn:aws:iam::1:role/r".to_owned(),
            session_name: "here".to_owned(),
            token_file: file.to_owned(),
            sts_endpoint: endpoint.url().parse().unwrap(),
        }),
    };
    let egress = endpoint.egress();
    let settings = Authorization::SigV4(Box::new(settings));
    build_with(tokens, &settings, &|_| Ok(egress.clone()), LIMIT).unwrap()
}

/// The session that a request carries, and its stamp.
async fn session(authorizer: &Authorizer) -> Result<(String, Stamp), AuthError> {
    let mut unsigned = request();
    unsigned.uri = "https://example.amazonaws.com/x".parse().unwrap();
    let signed = authorizer.sign(SEAT, unsigned).await?;
    let text = signed.request.headers[AUTHORIZATION].to_str().unwrap();
    let session = signed.request.headers[SESSION].to_str().unwrap();
    assert!(text.contains(&format!("Credential=ASIA{}/", session.trim_start_matches("session-"))), "{text}");
    Ok((session.to_owned(), signed.stamp))
}

#[tokio::test]
async fn fifty_callers_share_the_keys_of_one_call_which_says_who_we_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "jwt+1\n").unwrap();
    let (endpoint, tokens) = (Endpoint::saying(|n| sts(n, 3600)).await, Tokens::new(Tasks::new()));
    let authorizer = role(&endpoint, &tokens, &file);
    let sessions = join_all((0..50).map(|_| session(&authorizer))).await;
    assert!(sessions.into_iter().all(|session| session.unwrap().0 == "session-1"));
    let again = role(&endpoint, &tokens, &file);
    assert_eq!((session(&again).await.unwrap().0.as_str(), endpoint.calls()), ("session-1", 1));
    let request = endpoint.requests().remove(0);
    assert!(request.starts_with("POST /token?tenant=t HTTP/1.1\r\n"), "{request}");
    let form = form_urlencoded::parse(request.split_once("\r\n\r\n").unwrap().1.as_bytes());
    let want = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::1:role/r"),
        ("RoleSessionName", "here"),
        ("WebIdentityToken", "jwt+1"),
    ];
    let form: HashMap<_, _> = form.into_owned().collect();
    assert_eq!(form, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let status = serde_json::to_value(authorizer.status()).unwrap();
    assert_eq!((&status["kind"], &status["token_live"]), (&"aws_sigv4".into(), &true.into()));
}

#[tokio::test]
async fn keys_that_an_upstream_calls_expired_are_replaced_once_with_the_token_of_that_moment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "jwt-1").unwrap();
    let (endpoint, tokens) = (Endpoint::saying(|n| sts(n, 3600)).await, Tokens::new(Tasks::new()));
    let authorizer = role(&endpoint, &tokens, &file);
    let (_, stamp) = session(&authorizer).await.unwrap();
    let mut headers = HeaderMap::new();
    assert!(authorizer.is_blamed(http::StatusCode::UNAUTHORIZED, &headers));
    assert!(!authorizer.is_blamed(http::StatusCode::FORBIDDEN, &headers));
    headers.insert(ERROR, HeaderValue::from_static("AccessDeniedException"));
    assert!(!authorizer.is_blamed(http::StatusCode::FORBIDDEN, &headers));
    headers.insert(ERROR, HeaderValue::from_static("ExpiredTokenException:http://internal/"));
    assert!(authorizer.is_blamed(http::StatusCode::FORBIDDEN, &headers));
    assert!(!authorizer.is_blamed(http::StatusCode::BAD_REQUEST, &headers));
    std::fs::write(&file, "jwt-2").unwrap();
    assert_eq!(authorizer.refused(SEAT, stamp).await, Ok(true));
    let (second, stamp) = session(&authorizer).await.unwrap();
    assert_eq!((second.as_str(), endpoint.calls()), ("session-2", 2));
    assert!(endpoint.requests()[1].contains("WebIdentityToken=jwt-2"));
    assert_eq!(authorizer.refused(SEAT, stamp).await, Ok(false));
}

#[tokio::test]
async fn a_token_file_that_is_not_there_is_an_outage_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let (endpoint, tokens) = (Endpoint::saying(|n| sts(n, 3600)).await, Tokens::new(Tasks::new()));
    let authorizer = role(&endpoint, &tokens, &file);
    let error = session(&authorizer).await.unwrap_err();
    let words = format!("aws.web_identity_token_file: {}/…: No such file", dir.path().display());
    assert!(error.to_string().contains(&words), "{error}");
    std::fs::write(&file, "jwt").unwrap();
    tokio::time::sleep(error.retry_after().unwrap()).await;
    assert_eq!(session(&authorizer).await.unwrap().0, "session-1");
}

#[tokio::test]
async fn a_role_that_is_refused_says_what_to_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "jwt").unwrap();
    let endpoint = Endpoint::saying(|_| {
        answer(403, "<E><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error></E>")
    });
    let (endpoint, tokens) = (endpoint.await, Tokens::new(Tasks::new()));
    let error = session(&role(&endpoint, &tokens, &file)).await.unwrap_err().to_string();
    let want =
        "refused our web identity token with status 403: AccessDenied: Not authorized; check aws.role_arn";
    assert!(error.contains(want), "{error}");
}
