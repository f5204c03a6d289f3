//! AWS's signatures: what leaves is signed, by keys that are given or fetched, and nothing that proves us is shown.

use aws_lc_rs::{digest, hmac};
use serde_json::json;

use crate::support::upstream::{Request, completion};
use crate::support::{Call, Setup, Sidecar, Turn, Upstream};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+SENTINEL";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Computes by hand what AWS would compute of the request that arrived, and compares. `canonical` are its path, encoded
/// twice, and its sorted query; `scope` is the region and the service.
fn assert_signed(request: &Request, canonical: (&str, &str), scope: &str, (id, secret): (&str, &str)) {
    let header = |name: &str| request.head.header(name).unwrap_or_default().to_owned();
    let (date, authorization) = (header("x-amz-date"), header("authorization"));
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=").expect("it is signed");
    let (credential, rest) = rest.split_once(", SignedHeaders=").expect("it says what is signed");
    let (signed, signature) = rest.split_once(", Signature=").expect("it has a signature");
    let scope = format!("{}/{scope}/aws4_request", &date[..8]);
    assert_eq!(credential, format!("{id}/{scope}"));
    let needed = ["content-type", "host", "x-amz-date"];
    let session = request.head.header("x-amz-security-token").map(|_| "x-amz-security-token");
    assert_eq!(signed, needed.into_iter().chain(session).collect::<Vec<_>>().join(";"));
    let headers: String = signed.split(';').map(|name| format!("{name}:{}\n", header(name))).collect();
    let body = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    let (path, query) = canonical;
    let whole = format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{body}", request.method());
    let whole = hex(digest::digest(&digest::SHA256, whole.as_bytes()).as_ref());
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    let want = mac(&key, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{whole}"));
    assert_eq!(signature, hex(&want), "of {whole}");
}

/// The fields of an answer of AWS's token service, with keys numbered `number`.
fn assume(turn: &mut Turn, number: usize) {
    let body = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>key-{number}</SecretAccessKey>\
         <SessionToken>session/{number}+SENTINEL==</SessionToken><Expiration>2096-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    turn.answer_with(200, &[("content-type", "text/xml")], body);
}

/// A token service that numbers its keys.
fn service() -> Upstream {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    Upstream::start(move |turn| assume(turn, calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1))
}

/// A sidecar whose role is assumed at `sts` with the token `jwt-1`.
fn with_role(upstream: &Upstream, sts: &Upstream) -> Sidecar {
    let lines = format!(
        "authentication_type = \"aws_sigv4\"\naws = {{ region = \"eu-west-3\", role_arn = \"arn:aws:iam::1:role/r\", \
         web_identity_token_file = \"token\", sts_endpoint = \"{}\" }}",
        sts.url("")
    );
    Setup::before(upstream, &lines).file("token", "jwt-1\n").start()
}

#[test]
fn the_request_that_arrives_is_the_one_that_was_signed() {
    let upstream = Upstream::saying("hello");
    let lines = "authentication_type = \"aws_sigv4\"\npath = \"/model/{model}/invoke\"\nquery = { b = \"2 x\", a = \"é/\" }\n\
                 headers = { x-team = \"red\" }\nmodel_properties = [{ name = \"arn:aws/m 1\", alias = \"m\" }]\n\
                 aws = { region = \"us-east-1\", access_key_id = \"AKIDEXAMPLE\", secret_access_key_file = \"key\" }";
    let sidecar = Setup::before(&upstream, lines).file("key", SECRET).start();
    let call = Call::say("m", "hi").header("authorization", "Bearer caller").header("x-amz-date", "mine");
    assert_eq!(sidecar.ask(&call).content(), "hello");
    let request = upstream.request();
    assert_eq!(request.target(), "/v1/model/arn:aws%2Fm%201/invoke?b=2+x&a=%C3%A9%2F");
    let canonical = ("/v1/model/arn%3Aaws%252Fm%25201/invoke", "a=%C3%A9%2F&b=2%20x");
    assert_signed(&request, canonical, "us-east-1/bedrock", ("AKIDEXAMPLE", SECRET));
    assert_eq!(request.head.header("x-amz-security-token"), None);
    assert!(!sidecar.output().contains("SENTINEL") && !sidecar.output().contains("Signature="));
    let status = sidecar.admin("/integrations").json();
    assert_eq!(status["integrations"][0]["authorization"], json!({"kind": "aws_sigv4"}));
}

#[test]
fn keys_and_region_come_from_the_environment_where_the_configuration_says_none() {
    let upstream = Upstream::saying("hello");
    let sidecar =
        Setup::before(&upstream, "authentication_type = \"aws_sigv4\"\naws = { service = \"execute-api\" }")
            .env("AWS_ACCESS_KEY_ID", "AKIDENV")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_SESSION_TOKEN", "session+SENTINEL==")
            .env("AWS_DEFAULT_REGION", "ap-southeast-2")
            .start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    let request = upstream.request();
    let canonical = ("/v1/chat/completions", "");
    assert_signed(&request, canonical, "ap-southeast-2/execute-api", ("AKIDENV", SECRET));
    assert_eq!(request.head.header("x-amz-security-token"), Some("session+SENTINEL=="));
    assert!(!sidecar.output().contains("SENTINEL"));
}

#[test]
fn fifty_callers_share_the_keys_that_one_call_to_the_token_service_gives() {
    let (upstream, sts) = (Upstream::saying("hello"), service());
    let sidecar = with_role(&upstream, &sts);
    let mut callers: Vec<_> = (0..50).map(|_| sidecar.connect()).collect();
    for caller in &mut callers {
        caller.send(&Call::say("m", "hi"));
    }
    for caller in &mut callers {
        assert_eq!(caller.answer().content(), "hello");
    }
    let call = sts.request();
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&\
                RoleSessionName=outrider&WebIdentityToken=jwt-1";
    assert_eq!(call.text(), form);
    assert_eq!(call.head.header("authorization"), None);
    for request in upstream.requests(50) {
        assert_signed(&request, ("/v1/chat/completions", ""), "eu-west-3/bedrock", ("ASIA1", "key-1"));
    }
    assert_eq!(sidecar.metric("outrider_oauth2_token_fetches_total{integration=\"acme\"}"), Some(1.0));
    let status = sidecar.admin("/integrations").json();
    let authorization = &status["integrations"][0]["authorization"];
    assert_eq!((&authorization["kind"], &authorization["token_live"]), (&json!("aws_sigv4"), &json!(true)));
    assert!(!sidecar.output().contains("SENTINEL") && !sidecar.output().contains("jwt-1"));
}

#[test]
fn keys_that_have_ended_are_fetched_once_more_with_the_token_of_that_moment() {
    let upstream = Upstream::start(|turn| {
        let ended = turn.request.head.header("x-amz-security-token") == Some("session/1+SENTINEL==");
        if ended {
            let body = r#"{"message":"The security token session/1+SENTINEL== is expired"}"#;
            turn.answer_with(403, &[("x-amzn-errortype", "ExpiredTokenException")], body);
        } else {
            turn.answer(200, completion("hello").to_string());
        }
    });
    let sts = service();
    let sidecar = with_role(&upstream, &sts);
    sidecar.ask(&Call::say("m", "hi").at("/v1/chat/completions"));
    sidecar.put("token", "jwt-2");
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!((sts.count(), upstream.count()), (2, 3));
    assert!(sts.requests(2)[1].text().ends_with("WebIdentityToken=jwt-1"), "it was replaced before");
}

#[test]
fn keys_that_have_ended_are_fetched_once_more_for_what_is_relayed_too() {
    let upstream = Upstream::start(|turn| {
        if turn.request.head.header("x-amz-security-token") == Some("session/1+SENTINEL==") {
            turn.answer_with(403, &[("x-amzn-errortype", "ExpiredTokenException")], "{}");
        } else {
            turn.answer(200, "{\"ok\":true}");
        }
    });
    let sts = service();
    let answer = with_role(&upstream, &sts).ask(&Call::get("/acme/v1/files"));
    assert_eq!((answer.status, answer.text()), (200, "{\"ok\":true}"));
    assert_eq!((sts.count(), upstream.count()), (2, 2));
}

#[test]
fn another_403_is_the_callers_to_see_and_shows_no_credential() {
    let upstream = Upstream::start(|turn| {
        let echo = turn.request.head.header("authorization").unwrap_or_default().to_owned();
        let session = turn.request.head.header("x-amz-security-token").unwrap_or_default().to_owned();
        let body = json!({"message": format!("not allowed: {echo} {session}")}).to_string();
        turn.answer_with(403, &[("x-amzn-errortype", "AccessDeniedException")], body);
    });
    let sts = service();
    let answer = with_role(&upstream, &sts).ask(&Call::say("m", "hi"));
    assert_eq!(answer.status, 403);
    let text = answer.text();
    assert!(
        text.contains("not allowed") && !text.contains("SENTINEL") && !text.contains("Signature="),
        "{text}"
    );
    assert_eq!((sts.count(), upstream.count()), (1, 1));
}

#[test]
fn a_token_service_that_refuses_or_is_down_is_told_with_its_words() {
    let upstream = Upstream::saying("hello");
    let refusing = Upstream::start(|turn| {
        let error = "<Code>InvalidIdentityToken</Code><Message>No OpenIDConnect provider found</Message>";
        turn.answer(400, format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"));
    });
    let message = with_role(&upstream, &refusing).ask(&Call::say("m", "hi")).refusal(502, "token_refused");
    for words in ["web identity token", "InvalidIdentityToken", "No OpenIDConnect provider", "aws.role_arn"] {
        assert!(message.contains(words), "the message does not say `{words}`: {message}");
    }
    let down = Upstream::start(|turn| turn.answer(503, "down"));
    let sidecar = with_role(&upstream, &down);
    for _ in 0..5 {
        sidecar.ask(&Call::say("m", "hi")).refusal(503, "token_unavailable");
    }
    assert!(down.count() <= 5 && upstream.count() == 0);
}

#[test]
fn a_key_file_that_changes_is_used_and_what_is_missing_is_named_by_check() {
    let upstream = Upstream::saying("hello");
    let lines = "authentication_type = \"aws_sigv4\"\n\
                 aws = { region = \"us-east-1\", access_key_id_file = \"id\", secret_access_key_file = \"key\" }";
    let setup = Setup::before(&upstream, lines).server("rotation_interval = \"100ms\"").file("id", "AKID1");
    let missing = setup.run(&["check", &setup.write().to_string_lossy()]);
    assert_eq!(missing.code, 78, "{}", missing.output());
    assert!(missing.stdout.contains("secret_access_key_file"), "{}", missing.stdout);
    let sidecar = setup.file("key", "key-1").start();
    sidecar.ask(&Call::say("m", "hi"));
    sidecar.put("key", "key-2");
    sidecar.logged("new files are in use", 1);
    sidecar.ask(&Call::say("m", "hi"));
    for (request, key) in upstream.requests(2).iter().zip(["key-1", "key-2"]) {
        assert_signed(request, ("/v1/chat/completions", ""), "us-east-1/bedrock", ("AKID1", key));
    }
}
