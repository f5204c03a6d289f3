//! Each form of the credentials against a scripted token endpoint, and every mistake in their files.

use std::collections::HashMap;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tempfile::TempDir;

use super::super::testing::*;
use super::super::{AuthError, Authorizer, Tokens};
use super::*;
use crate::config::valid::Authorization;
use crate::tasks::Tasks;

/// A key of the tests' own, as PEM and as what verifies its signatures.
static KEY: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = BASE64_STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem, pair.public_key().as_ref().to_vec())
});

/// A folder with a credentials file, and the endpoint that it names.
struct House {
    dir: TempDir,
    endpoint: Endpoint,
    tokens: Tokens,
    scope: Option<String>,
}

impl House {
    async fn new() -> Self {
        Self::saying(|n| grant(n, 3600)).await
    }

    async fn saying(script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::saying(script).await);
        Self { dir, endpoint, tokens: Tokens::new(Tasks::new()), scope: None }
    }

    fn url(&self, path: &str) -> String {
        self.endpoint.url().replace("/token?tenant=t", path)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// The account that a file with this content is for.
    fn account(&self, file: &Value) -> Result<Authorizer, String> {
        self.put("credentials.json", &file.to_string());
        self.asks(GcpSource::File(self.dir.path().join("credentials.json")))
    }

    fn asks(&self, source: GcpSource) -> Result<Authorizer, String> {
        let settings = Authorization::Gcp(Gcp { source, scope: self.scope.clone() });
        let egress = self.endpoint.egress();
        build_with(&self.tokens, &settings, &|_| Ok(egress.clone()), LIMIT)
    }

    /// The form and the head of the `n`th request.
    fn form(&self, n: usize) -> (HashMap<String, String>, String) {
        let request = self.endpoint.requests().remove(n);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        (form_urlencoded::parse(body.as_bytes()).into_owned().collect(), head.to_owned())
    }

    fn service(&self) -> Value {
        json!({
            "type": "service_account", "project_id": "p", "private_key_id": "kid-1", "private_key": KEY.0,
            "client_email": "sa@p.iam.gserviceaccount.com", "token_uri": self.url("/token"),
        })
    }

    fn external(&self, source: &Value) -> Value {
        json!({
            "type": "external_account", "audience": "//iam.googleapis.com/pools/p/providers/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": self.url("/v1/token"),
            "credential_source": source,
        })
    }
}

fn pairs(form: &HashMap<String, String>, want: &[(&str, &str)]) {
    let want = want.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>();
    assert_eq!(form, &want);
}

#[tokio::test]
async fn a_service_account_signs_an_assertion_that_its_public_key_verifies() {
    let house = House::new().await;
    let account = house.account(&house.service()).unwrap();
    let before = clock::unix_seconds();
    assert_eq!(sign(&account).await.unwrap().0, "Bearer tok-1");
    let (form, head) = house.form(0);
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (text, signature) = form["assertion"].rsplit_once('.').unwrap();
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &KEY.1)
        .verify(text.as_bytes(), &decode(signature))
        .unwrap();
    let parts: Vec<Value> =
        text.split('.').map(|part| serde_json::from_slice(&decode(part)).unwrap()).collect();
    assert_eq!(parts[0], json!({"alg": "RS256", "typ": "JWT", "kid": "kid-1"}));
    let (claims, issued) = (&parts[1], parts[1]["iat"].as_u64().unwrap());
    assert!((before..before + 30).contains(&issued));
    let want = json!({
        "iss": "sa@p.iam.gserviceaccount.com", "scope": SCOPE, "aud": house.url("/token"),
        "iat": issued, "exp": issued + 3600,
    });
    assert_eq!(claims, &want);
    let again = house.account(&house.service()).unwrap();
    assert_eq!(sign(&again).await.unwrap().0, "Bearer tok-1", "one credential has one token");
}

#[tokio::test]
async fn a_user_sends_its_refresh_token_and_a_scope_only_if_one_is_set() {
    let mut house = House::new().await;
    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "cs-1", "refresh_token": "rt/1",
        "token_uri": house.url("/token"), "quota_project_id": "payer",
    });
    let mut want = vec![
        ("grant_type", "refresh_token"),
        ("client_id", "id"),
        ("client_secret", "cs-1"),
        ("refresh_token", "rt/1"),
    ];
    let account = house.account(&user).unwrap();
    let signed = account.sign(SEAT, request()).await.unwrap();
    assert_eq!(
        (&signed.request.headers[AUTHORIZATION], &signed.request.headers[QUOTA_PROJECT]),
        (&"Bearer tok-1".parse().unwrap(), &"payer".parse().unwrap())
    );
    pairs(&house.form(0).0, &want);
    let mut configured = request();
    configured.headers.insert(QUOTA_PROJECT, HeaderValue::from_static("another"));
    assert_eq!(account.sign(SEAT, configured).await.unwrap().request.headers[QUOTA_PROJECT], "another");
    house.scope = Some("a b".to_owned());
    sign(&house.account(&user).unwrap()).await.unwrap();
    want.push(("scope", "a b"));
    pairs(&house.form(1).0, &want);
}

#[tokio::test]
async fn an_external_account_exchanges_the_token_that_is_in_its_file_at_that_moment() {
    let mut house = House::new().await;
    house.scope = Some("mine".to_owned());
    house.put("subject", "sub-1\n");
    let mut file = house.external(&json!({"file": "subject"}));
    file["client_id"] = json!("cid");
    file["client_secret"] = json!("cs");
    let account = house.account(&file).unwrap();
    house.put("subject", "sub-2\n");
    assert_eq!(sign(&account).await.unwrap().0, "Bearer tok-1");
    let (form, head) = house.form(0);
    assert!(head.starts_with("POST /v1/token HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("authorization: Basic {}", BASE64_STANDARD.encode("cid:cs"))), "{head}");
    let want = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", "//iam.googleapis.com/pools/p/providers/x"),
        ("scope", "mine"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token", "sub-2"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    pairs(&form, &want);
}

#[tokio::test]
async fn a_subject_token_may_come_from_a_url_as_a_field_of_json_and_speak_for_another_account() {
    let ends = clock::written(clock::unix_seconds() + 1800);
    let script = move |n| match n {
        1 => answer(200, "{\"access_token\": \"sub-1\"}"),
        2 => grant(2, 3600),
        _ => answer(200, &json!({"accessToken": "imp-1", "expireTime": ends}).to_string()),
    };
    let house = House::saying(script).await;
    let source = json!({
        "url": house.url("/identity?api-version=1"), "headers": {"Metadata": "True"},
        "format": {"type": "json", "subject_token_field_name": "access_token"},
    });
    let mut file = house.external(&source);
    file["service_account_impersonation_url"] = json!(house.url("/sa:generateAccessToken"));
    file["service_account_impersonation"] = json!({"token_lifetime_seconds": 1800});
    file["workforce_pool_user_project"] = json!("wp");
    let account = house.account(&file).unwrap();
    assert_eq!(sign(&account).await.unwrap().0, "Bearer imp-1");
    let subject = house.form(0).1;
    assert!(subject.starts_with("GET /identity?api-version=1 HTTP/1.1\r\n"), "{subject}");
    assert!(subject.contains("metadata: True\r\n"), "{subject}");
    let (exchange, _) = house.form(1);
    assert_eq!((exchange["subject_token"].as_str(), exchange["scope"].as_str()), ("sub-1", SCOPE));
    assert_eq!(exchange["options"], "{\"userProject\":\"wp\"}");
    let last = house.endpoint.requests().remove(2);
    assert!(last.starts_with("POST /sa:generateAccessToken HTTP/1.1\r\n"), "{last}");
    assert!(last.contains("authorization: Bearer tok-2\r\n"), "{last}");
    assert!(last.ends_with(&format!("{{\"scope\":[\"{SCOPE}\"],\"lifetime\":\"1800s\"}}")), "{last}");
    let left = account.status().token.unwrap().token_ends_in_seconds.unwrap();
    assert!((1700.0..=1800.0).contains(&left), "{left}");
}

#[tokio::test]
async fn an_impersonated_account_is_spoken_for_by_its_source_and_a_refusal_says_where() {
    let script = |n| match n {
        1 => grant(1, 3600),
        _ => answer(
            403,
            "{\"error\": {\"code\": 403, \"message\": \"tok-1 may not getAccessToken\", \"status\": \"PERMISSION_DENIED\"}}",
        ),
    };
    let mut house = House::saying(script).await;
    house.scope = Some("only this".to_owned());
    let file = json!({
        "type": "impersonated_service_account", "delegates": ["projects/-/serviceAccounts/d"],
        "service_account_impersonation_url": house.url("/sa"), "source_credentials": house.service(),
    });
    let error = sign(&house.account(&file).unwrap()).await.unwrap_err();
    assert!(matches!(error, AuthError::Refused { status: 403, .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("impersonation at 127.0.0.1") && text.contains("*** may not getAccessToken"),
        "{text}"
    );
    let last = house.endpoint.requests().remove(1);
    assert!(
        last.contains("\"scope\":[\"only\",\"this\"]") && last.contains("\"delegates\":[\"projects/-"),
        "{last}"
    );
}

#[tokio::test]
async fn the_machine_is_asked_with_its_flavor_and_a_scope_only_if_one_is_set() {
    let mut house = House::new().await;
    let url: Uri = house.url("/computeMetadata/v1/token").parse().unwrap();
    let account = house.asks(GcpSource::Metadata(url.clone())).unwrap();
    assert_eq!(sign(&account).await.unwrap().0, "Bearer tok-1");
    let head = house.form(0).1;
    assert!(head.starts_with("GET /computeMetadata/v1/token HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("metadata-flavor: Google"), "{head}");
    house.scope = Some("a b".to_owned());
    sign(&house.asks(GcpSource::Metadata(url)).unwrap()).await.unwrap();
    assert!(house.form(1).1.starts_with("GET /computeMetadata/v1/token?scopes=a%2Cb HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_machine_without_an_account_says_what_it_lacks() {
    let house = House::saying(|_| answer(404, "Not Found")).await;
    let account = house.asks(GcpSource::Metadata(house.url("/token").parse().unwrap())).unwrap();
    let text = sign(&account).await.unwrap_err().to_string();
    assert!(
        text.contains("it answered 404; check that a service account is attached to the machine"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refusal_names_what_was_shown_and_shows_nothing_of_it() {
    let house = House::saying(|_| {
        answer(
            400,
            "{\"error\": \"invalid_grant\", \"error_description\": \"rt/1 of cs-1 has been revoked\"}",
        )
    });
    let house = house.await;
    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "cs-1", "refresh_token": "rt/1",
        "token_uri": house.url("/token"),
    });
    let text = sign(&house.account(&user).unwrap()).await.unwrap_err().to_string();
    let want = "refused our user credentials with status 400: invalid_grant: *** of *** has been revoked; check gcp.credentials_file";
    assert!(text.contains(want), "{text}");
}

#[tokio::test]
async fn where_the_subject_token_is_missing_the_outage_names_the_place() {
    let house = House::saying(|_| answer(500, "down")).await;
    let missing =
        sign(&house.account(&house.external(&json!({"file": "no-such"}))).unwrap()).await.unwrap_err();
    assert!(missing.to_string().contains("no-such: No such file"), "{missing}");
    house.put("empty", " \n");
    let empty = sign(&house.account(&house.external(&json!({"file": "empty"}))).unwrap()).await.unwrap_err();
    assert!(empty.to_string().contains("empty: the subject token is empty"), "{empty}");
    let url = house.external(&json!({"url": house.url("/subject")}));
    let down = sign(&house.account(&url).unwrap()).await.unwrap_err();
    assert!(down.to_string().contains("the subject token's URL at 127.0.0.1"), "{down}");
}

/// Each of these files fails the integration with words that name it and hold `want`, and none of its values.
fn refuses(house: &House, file: &Value, want: &str) {
    let path = house.dir.path().join("credentials.json").display().to_string();
    let words = house.account(file).err().unwrap_or_default();
    assert!(words.starts_with(&format!("gcp: {path}: ")) && words.contains(want), "{want}: {words}");
    assert!(!words.contains("s3cret") && !words.contains("PRIVATE"), "{words}");
}

fn with(base: &Value, key: &str, value: Value) -> Value {
    let mut file = base.clone();
    file[key] = value;
    file
}

#[tokio::test]
async fn each_mistake_in_an_accounts_file_names_the_file_and_the_field_and_shows_no_value() {
    let house = House::new().await;
    let service = house.service();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (file, want) in [
        (json!([]), "it is not a JSON object"),
        (json!({}), "its `type` is missing"),
        (with(&service, "type", json!("s3cret")), "its `type` must be service_account,"),
        (with(&service, "private_key", json!(null)), "its `private_key` is missing"),
        (
            with(&service, "private_key", json!("s3cret")),
            "its `private_key` is not a private key in PEM form",
        ),
        (
            with(&service, "private_key", json!(KEY.0.replace('\n', ""))),
            "its `private_key` is not a private key",
        ),
        (with(&service, "client_email", json!(5)), "its `client_email` is not text"),
        (with(&service, "client_email", json!(" ")), "its `client_email` is empty"),
        (with(&service, "token_uri", json!("s3cret")), "its `token_uri` is not an http:// or https:// URL"),
        (with(&service, "token_uri", json!("https://me:s3cret@h/")), "its `token_uri` is not an http"),
        (
            json!({"type": "authorized_user", "client_id": "a", "client_secret": "s3cret"}),
            "its `refresh_token` is missing",
        ),
        (with(&service, "private_key", json!(ec)), "its `private_key` is not a whole RSA key"),
    ] {
        refuses(&house, &file, want);
    }
    let words = house.asks(GcpSource::File(house.dir.path().join("none"))).err().unwrap();
    assert!(words.ends_with("none: No such file or directory"), "{words}");
    let words = house.asks(GcpSource::File(house.dir.path().to_owned())).err().unwrap();
    assert!(words.ends_with("it is not a file"), "{words}");
}

#[tokio::test]
async fn each_mistake_in_the_file_of_another_platforms_account_is_named_too() {
    let house = House::new().await;
    let file = house.external(&json!({"file": "s3cret"}));
    let source = |source: Value| with(&file, "credential_source", source);
    for (file, want) in [
        (with(&file, "audience", json!(null)), "its `audience` is missing"),
        (with(&file, "credential_source", json!(null)), "its `credential_source` is missing"),
        (source(json!("s3cret")), "its `credential_source` is not an object"),
        (source(json!({})), "has neither `file` nor `url`"),
        (
            source(json!({"environment_id": "aws1"})),
            "asks for AWS as the other platform, which is not supported",
        ),
        (
            source(json!({"executable": {"command": "s3cret"}})),
            "`credential_source.executable` asks for a program",
        ),
        (
            source(json!({"file": "f", "format": {"type": "json"}})),
            "`credential_source.format.subject_token_field_name` is missing",
        ),
        (
            source(json!({"file": "f", "format": {"type": "s3cret"}})),
            "`credential_source.format.type` must be text or json",
        ),
        (
            source(json!({"url": "http://h/", "headers": {"a b": "s3cret"}})),
            "`credential_source.headers` holds what is no header",
        ),
        (
            json!({"type": "impersonated_service_account", "service_account_impersonation_url": "http://h/", "source_credentials": {"type": "x"}}),
            "its `source_credentials.type` must be",
        ),
    ] {
        refuses(&house, &file, want);
    }
}
