//! Google's tokens: each kind of credential fetches one token for all, follows its file, and is never shown.

use std::collections::HashMap;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::upstream::Request;
use crate::support::{Call, Setup, Sidecar, TokenServer, Upstream};

const GCP: &str = "authentication_type = \"gcp\"\ngcp = { credentials_file = \"gcp.json\" }";

/// Two private keys as PEM, each with what verifies its signatures.
static KEYS: LazyLock<[(String, Vec<u8>); 2]> = LazyLock::new(|| [(); 2].map(|()| key()));

fn key() -> (String, Vec<u8>) {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key can be written");
    let text = BASE64_STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem, pair.public_key().as_ref().to_vec())
}

/// The file of the service account whose key is the `n`th.
fn service(server: &TokenServer, n: usize) -> String {
    json!({
        "type": "service_account", "private_key_id": format!("kid-{n}"), "private_key": KEYS[n].0,
        "client_email": "sa@p.iam.gserviceaccount.com", "token_uri": server.url(),
    })
    .to_string()
}

fn sidecar(upstream: &Upstream, file: &str) -> Sidecar {
    Setup::before(upstream, GCP).server("rotation_interval = \"100ms\"").file("gcp.json", file).start()
}

fn form(request: &Request) -> HashMap<String, String> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

fn bearers(upstream: &Upstream, count: usize) -> Vec<String> {
    let requests = upstream.requests(count);
    requests.iter().map(|r| r.head.header("authorization").unwrap_or("none").to_owned()).collect()
}

/// Verifies the assertion of a token request by the `n`th key; its header and its claims.
fn assertion(request: &Request, n: usize) -> [Value; 2] {
    let form = form(request);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (text, signature) = form["assertion"].rsplit_once('.').expect("it has three parts");
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).expect("a part is base64url");
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &KEYS[n].1);
    key.verify(text.as_bytes(), &decode(signature)).expect("the signature is the key's");
    let (header, claims) = text.split_once('.').expect("it has three parts");
    [header, claims].map(|part| serde_json::from_slice(&decode(part)).expect("a part is JSON"))
}

#[test]
fn fifty_callers_share_the_token_of_one_signed_assertion() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let sidecar = sidecar(&upstream, &service(&server, 0));
    let mut callers: Vec<_> = (0..50).map(|_| sidecar.connect()).collect();
    for caller in &mut callers {
        caller.send(&Call::say("m", "hi").header("authorization", "Bearer caller"));
    }
    for caller in &mut callers {
        assert_eq!(caller.answer().content(), "hello");
    }
    assert!(bearers(&upstream, 50).iter().all(|bearer| bearer == "Bearer token-1"));
    assert_eq!(server.calls(), 1);
    let [header, claims] = assertion(&server.requests(1)[0], 0);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "kid-0"}));
    let (issued, ends) = (claims["iat"].as_u64(), claims["exp"].as_u64());
    assert_eq!(ends.zip(issued).map(|(ends, issued)| ends - issued), Some(3600));
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!("sa@p.iam.gserviceaccount.com"), &json!(server.url()))
    );
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    let status = sidecar.admin("/integrations").json();
    let authorization = &status["integrations"][0]["authorization"];
    assert_eq!((&authorization["kind"], &authorization["token_live"]), (&json!("gcp"), &json!(true)));
    assert_eq!(sidecar.metric("outrider_oauth2_token_fetches_total{integration=\"acme\"}"), Some(1.0));
    assert!(!sidecar.output().contains("token-1") && !sidecar.output().contains("PRIVATE KEY"));
}

#[test]
fn a_credentials_file_that_changes_is_used_and_one_that_is_cut_is_not() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let sidecar = sidecar(&upstream, &service(&server, 0));
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    sidecar.put("gcp.json", &service(&server, 1)[..100]);
    sidecar.logged("new files are refused", 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    sidecar.put("gcp.json", &service(&server, 1));
    sidecar.logged("new files are in use", 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(bearers(&upstream, 3), ["Bearer token-1", "Bearer token-1", "Bearer token-2"]);
    let [header, _] = assertion(&server.requests(2)[1], 1);
    assert_eq!(header["kid"], "kid-1");
    assert!(!sidecar.output().contains("PRIVATE KEY"));
}

#[test]
fn a_401_of_the_upstream_renews_the_token_once() {
    let upstream = Upstream::start(|turn| match turn.request.head.header("authorization") {
        Some("Bearer token-1") => turn.answer(401, r#"{"error":{"message":"expired"}}"#),
        _ => turn.complete("hello"),
    });
    let server = TokenServer::issuing();
    let sidecar = sidecar(&upstream, &service(&server, 0));
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(bearers(&upstream, 2), ["Bearer token-1", "Bearer token-2"]);
}

#[test]
fn an_external_account_exchanges_the_token_of_that_moment_and_speaks_for_a_service_account() {
    let upstream = Upstream::saying("hello");
    let google = Upstream::start(|turn| match turn.request.target() {
        "/v1/token" => {
            turn.answer(200, r#"{"access_token":"fed-1","token_type":"Bearer","expires_in":3600}"#)
        }
        _ => turn.answer(200, r#"{"accessToken":"sa-1","expireTime":"2096-01-01T00:00:00Z"}"#),
    });
    let file = json!({
        "type": "external_account", "audience": "//iam/pools/p", "token_url": google.url("/v1/token"),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "service_account_impersonation_url": google.url("/v1/sa:generateAccessToken"),
        "credential_source": {"file": "subject", "format": {"type": "json", "subject_token_field_name": "jwt"}},
    });
    let setup = Setup::before(&upstream, GCP).file("gcp.json", &file.to_string());
    let missing = setup.run(&["check", &setup.write().to_string_lossy()]);
    assert!(missing.code == 78 && missing.stdout.contains("/…: No such file"), "{}", missing.output());
    let sidecar = setup.start();
    sidecar.put("subject", r#"{"jwt": "SENTINEL-1"}"#);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(bearers(&upstream, 1), ["Bearer sa-1"]);
    let requests = google.requests(2);
    let exchange = form(&requests[0]);
    assert_eq!(exchange["subject_token"], "SENTINEL-1");
    assert_eq!(exchange["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(requests[1].head.header("authorization"), Some("Bearer fed-1"));
    assert_eq!(requests[1].json()["scope"], json!(["https://www.googleapis.com/auth/cloud-platform"]));
    assert!(!sidecar.output().contains("SENTINEL") && !sidecar.output().contains("fed-1"));
}

#[test]
fn without_a_file_the_machine_is_asked_for_its_own_token() {
    let upstream = Upstream::saying("hello");
    let metadata = Upstream::start(|turn| {
        let flavor = turn.request.head.header("metadata-flavor") == Some("Google");
        let body = r#"{"access_token":"vm-1","expires_in":3599,"token_type":"Bearer"}"#;
        if flavor { turn.answer(200, body) } else { turn.answer(403, "{}") }
    });
    let sidecar = Setup::before(&upstream, "authentication_type = \"gcp\"")
        .env("GCE_METADATA_HOST", &metadata.address().to_string())
        .start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(bearers(&upstream, 1), ["Bearer vm-1"]);
    let call = metadata.request();
    assert_eq!(call.method(), "GET");
    assert_eq!(call.target(), "/computeMetadata/v1/instance/service-accounts/default/token");
}

#[test]
fn credentials_that_are_refused_or_an_endpoint_that_is_down_are_told() {
    let upstream = Upstream::saying("hello");
    let server = TokenServer::start(|turn, _| {
        turn.answer(
            400,
            r#"{"error":"invalid_grant","error_description":"Token has been revoked: rt-SENTINEL"}"#,
        );
    });
    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "cs-SENTINEL",
        "refresh_token": "rt-SENTINEL", "token_uri": server.url(),
    });
    let refused = sidecar(&upstream, &user.to_string());
    let message = refused.ask(&Call::say("m", "hi")).refusal(502, "token_refused");
    assert!(
        message.contains("user credentials") && message.contains("Token has been revoked: ***"),
        "{message}"
    );
    assert!(!message.contains("SENTINEL") && !refused.output().contains("SENTINEL"));
    let down = TokenServer::start(|turn, _| turn.answer(503, "{}"));
    let sidecar = sidecar(&upstream, &service(&down, 0));
    for _ in 0..5 {
        sidecar.ask(&Call::say("m", "hi")).refusal(503, "token_unavailable");
    }
    assert!(down.calls() <= 5 && upstream.count() == 0);
}

#[test]
fn a_wrong_file_is_a_503_that_names_it_and_heals_and_check_finds_it_and_what_it_leads_to() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let broken = service(&server, 0).replace("client_email", "mail");
    let setup =
        Setup::before(&upstream, GCP).server("rotation_interval = \"100ms\"").file("gcp.json", &broken);
    let config = setup.write().to_string_lossy().into_owned();
    let found = setup.run(&["check", &config]);
    assert_eq!(found.code, 78, "{}", found.output());
    assert!(found.stdout.contains("gcp.json: its `client_email` is missing"), "{}", found.stdout);
    assert!(
        found.stdout.matches("error: ").count() == 1 && found.stdout.contains("--> config.toml:"),
        "{}",
        found.stdout
    );
    let sidecar = setup.start();
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(503, "integration_unavailable");
    assert!(message.contains("gcp.json: its `client_email` is missing"), "{message}");
    sidecar.put("gcp.json", &service(&server, 0));
    sidecar.logged("the integration can serve again", 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    let online = sidecar.run(&["check", &config, "--online"]);
    let host = server.url().replace("http://", "").replace("/oauth2/token", "");
    assert!(
        online.code == 0 && online.stdout.contains(&format!("token endpoint {host}: connected")),
        "{}",
        online.output()
    );
}
