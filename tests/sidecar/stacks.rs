//! Ten stacks as they stand in companies, each with the habits of its parts.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use outrider::dialect::Format;
use serde_json::{Value, json};

use crate::proxy::{Doing, Via};
use crate::support::provider::answer;
use crate::support::tls::{Authority, Pair};
use crate::support::token_server::issue;
use crate::support::upstream::Request;
use crate::support::{Call, Setup, Sidecar, TokenServer, Upstream, integration};

/// A provider of `format`.
fn provider(format: Format) -> Upstream {
    Upstream::start(move |turn| answer(turn, format))
}

/// A token server that answers `token` to each call.
fn issuer(token: Value) -> TokenServer {
    TokenServer::start(move |turn, _| turn.answer(200, token.to_string()))
}

/// The fields of a token request.
fn form(request: &Request) -> Vec<(String, String)> {
    let mut fields: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
    fields.sort();
    fields
}

fn field(form: &[(String, String)], name: &str) -> Option<String> {
    form.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// Asks whole and streamed; both must say `hello`.
fn says_hello(sidecar: &Sidecar) {
    let caller = ("authorization", "Bearer caller-SENTINEL");
    let got = sidecar.ask(&Call::say("m", "hi").header(caller.0, caller.1));
    assert_eq!(got.content(), "hello");
    let mut connection = sidecar.connect();
    let (status, _) = connection.send(&Call::stream("m", "hi").header(caller.0, caller.1)).head();
    assert_eq!(status, 200);
    let data = connection.all_data();
    assert_eq!(data.last().map(String::as_str), Some("[DONE]"), "{data:?}");
    let text = |chunk: &String| {
        let chunk: Value = serde_json::from_str(chunk).unwrap_or_default();
        chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(data.iter().map(text).collect::<String>(), "hello");
}

/// The value of `name` in both requests; fails if they differ.
fn carried(upstream: &Upstream, name: &str) -> Option<String> {
    let requests = upstream.requests(2);
    assert_eq!(requests.len(), 2);
    let values: Vec<Option<&str>> = requests.iter().map(|request| request.head.header(name)).collect();
    assert_eq!(values[0], values[1]);
    for request in &requests {
        let raw = String::from_utf8_lossy(&request.head.raw);
        assert!(!raw.contains("caller-SENTINEL"), "{raw}");
    }
    values[0].map(str::to_owned)
}

#[test]
fn entra_before_azure() {
    let tokens = issuer(
        json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "eyJ0.entra.sig"}),
    );
    let upstream = provider(Format::Azure);
    let lines = format!(
        "format = \"azure\"\napi_version = \"2024-10-21\"\nauthentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         authentication_scope = \"https://cognitiveservices.azure.com/.default\"\n\
         token = '{{\"client_id\": \"app-guid\", \"client_secret\": \"s~cr.t\"}}'",
        tokens.url().replace("/oauth2/token", "/tenant-guid/oauth2/v2.0/token")
    );
    says_hello(&Setup::new(integration("acme", &upstream.url(""), &lines)).start());
    let asked = &tokens.requests(1)[0];
    assert_eq!(asked.target(), "/tenant-guid/oauth2/v2.0/token");
    let want = [
        ("client_id", "app-guid"),
        ("client_secret", "s~cr.t"),
        ("grant_type", "client_credentials"),
        ("scope", "https://cognitiveservices.azure.com/.default"),
    ];
    assert_eq!(form(asked), want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer eyJ0.entra.sig"));
    assert_eq!(carried(&upstream, "api-key"), None);
    let target = "/openai/deployments/real-model/chat/completions?api-version=2024-10-21";
    assert_eq!(upstream.requests(2)[0].target(), target);
}

#[test]
fn apigee_whose_lifetime_is_a_text_and_whose_token_is_of_its_own_type() {
    let tokens = issuer(
        json!({"refresh_token_expires_in": "0", "api_product_list": "[llm]", "organization_name": "corp",
               "token_type": "BearerToken", "issued_at": "1700000000000", "client_id": "k", "access_token": "apigee-1",
               "application_name": "app", "scope": "", "expires_in": "1799", "refresh_count": "0", "status": "approved"}),
    );
    let upstream = provider(Format::OpenAi);
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         oauth2 = {{ client_id = \"consumer-key\", client_secret = \"consumer-secret\", client_auth = \"basic\" }}",
        tokens.url()
    );
    let sidecar = Setup::before(&upstream, &lines).start();
    says_hello(&sidecar);
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer apigee-1"));
    assert_eq!(tokens.calls(), 1, "a lifetime that is a text is a lifetime");
    let left = sidecar.admin("/integrations").json()["integrations"][0].to_string();
    assert!(left.contains("\"token_live\":true"), "{left}");
    let basic = BASE64_STANDARD.encode("consumer-key:consumer-secret");
    assert_eq!(tokens.requests(1)[0].head.header("authorization"), Some(format!("Basic {basic}").as_str()));
}

#[test]
fn ping_with_a_client_certificate_towards_the_token_endpoint_and_the_model() {
    let authority = Authority::new();
    let (certificate, key) = authority.client();
    let ping = Upstream::start_tls(authority.strict_server("localhost"), |turn| issue(turn, 1, 7199));
    let upstream =
        Upstream::start_tls(authority.strict_server("localhost"), |turn| answer(turn, Format::OpenAi));
    let url = |of: &Upstream, path: &str| format!("https://localhost:{}{path}", of.address().port());
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         oauth2 = {{ client_id = \"me\", client_secret = \"pw\", extra_params = {{ access_token_manager_id = \"llm\" }} }}\n\
         tls = {{ ca_file = \"ca.pem\", client_cert_file = \"client.pem\", client_key_file = \"client.key\" }}",
        url(&ping, "/as/token.oauth2")
    );
    let sidecar = Setup::new(integration("acme", &url(&upstream, "/v1"), &lines))
        .file("ca.pem", &authority.pem())
        .file("client.pem", &certificate)
        .file("client.key", &key)
        .start();
    says_hello(&sidecar);
    let shown = Pair { certificate, key }.der();
    for request in ping.requests(1).iter().chain(&upstream.requests(2)) {
        assert_eq!(request.client.as_deref(), Some(shown.as_slice()));
    }
    assert_eq!(field(&form(&ping.requests(1)[0]), "access_token_manager_id").as_deref(), Some("llm"));
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer token-1"));
}

#[test]
fn keycloak_before_kong_which_refuses_a_token_once() {
    let tokens = TokenServer::start(|turn, number| {
        let token = json!({"access_token": format!("keycloak-{number}"), "expires_in": 300, "refresh_expires_in": 0,
                           "token_type": "Bearer", "not-before-policy": 0, "scope": "email profile"});
        turn.answer(200, token.to_string());
    });
    let upstream = Upstream::start(|turn| {
        if turn.request.head.header("authorization") == Some("Bearer keycloak-1") {
            let challenge = [
                ("www-authenticate", "Bearer realm=\"corp\", error=\"invalid_token\""),
                ("server", "kong/3.6"),
            ];
            return turn.answer_with(401, &challenge, r#"{"message":"Unauthorized"}"#);
        }
        answer(turn, Format::OpenAi);
    });
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        tokens.url().replace("/oauth2/token", "/realms/corp/protocol/openid-connect/token")
    );
    says_hello(&Setup::before(&upstream, &lines).start());
    let bearers: Vec<_> =
        upstream.requests(3).iter().map(|r| r.head.header("authorization").map(str::to_owned)).collect();
    let want = ["keycloak-1", "keycloak-2", "keycloak-2"].map(|token| Some(format!("Bearer {token}")));
    assert_eq!((bearers, tokens.calls()), (want.to_vec(), 2));
    assert_eq!(tokens.requests(1)[0].target(), "/realms/corp/protocol/openid-connect/token");
}

#[test]
fn bedrock_by_an_api_key_of_its_own() {
    let upstream = provider(Format::Bedrock);
    let lines = "format = \"bedrock\"\nauthentication_type = \"api_key\"\napi_key_header = \"Authorization\"\n\
                 api_key_value = \"Bearer ABSKQmVkcm9ja0FQSUtleS0x\"";
    says_hello(&Setup::new(integration("acme", &upstream.url(""), lines)).start());
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer ABSKQmVkcm9ja0FQSUtleS0x"));
    assert_eq!(carried(&upstream, "x-amz-date"), None);
    let targets: Vec<_> = upstream.requests(2).iter().map(|r| r.target().to_owned()).collect();
    assert_eq!(targets, ["/model/real-model/converse", "/model/real-model/converse-stream"]);
}

#[test]
fn vertex_with_the_bearer_of_the_machine() {
    let upstream = provider(Format::Vertex);
    let machine = issuer(json!({"access_token": "ya29.machine", "expires_in": 3599, "token_type": "Bearer"}));
    let host = machine.url().replace("http://", "").replace("/oauth2/token", "");
    let path = "/v1/projects/p-1/locations/europe-west4/publishers/google";
    let lines = "format = \"vertex\"\nauthentication_type = \"gcp\"";
    let setup = Setup::new(integration("acme", &upstream.url(path), lines));
    says_hello(&setup.env("GCE_METADATA_HOST", &host).start());
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer ya29.machine"));
    assert_eq!(carried(&upstream, "x-goog-api-key"), None);
    let targets: Vec<_> = upstream.requests(2).iter().map(|r| r.target().to_owned()).collect();
    let tails = ["generateContent", "streamGenerateContent?alt=sse"];
    assert_eq!(targets, tails.map(|tail| format!("{path}/models/real-model:{tail}")));
    assert_eq!(machine.calls(), 1);
}

#[test]
fn anthropic_behind_oauth2_gets_no_key_of_its_own() {
    let (upstream, tokens) = (provider(Format::Anthropic), TokenServer::issuing());
    let lines = format!(
        "format = \"anthropic\"\nauthentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         oauth2 = {{ client_id = \"c\", client_secret = \"s\", audience = \"https://api.corp/claude\" }}",
        tokens.url()
    );
    says_hello(&Setup::new(integration("acme", &upstream.url("/claude"), &lines)).start());
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer token-1"));
    assert_eq!(carried(&upstream, "x-api-key"), None);
    assert_eq!(carried(&upstream, "anthropic-version").as_deref(), Some("2023-06-01"));
    assert_eq!(field(&form(&tokens.requests(1)[0]), "audience").as_deref(), Some("https://api.corp/claude"));
}

#[test]
fn an_openai_compatible_model_behind_portkeys_header() {
    let upstream = provider(Format::OpenAi);
    let lines = "authentication_type = \"api_key\"\napi_key_header = \"x-portkey-api-key\"\napi_key_value_file = \"key\"\n\
                 headers = { x-portkey-config = \"pc-corp-1\", x-portkey-provider = \"@openai-eu\" }\n\
                 custom_header_mapping = { run_id = \"x-portkey-trace-id\" }";
    let setup = Setup::before(&upstream, lines).file("key", "pk-live-1\n");
    let sidecar = setup.start();
    says_hello(&sidecar);
    for (name, value) in [
        ("x-portkey-api-key", Some("pk-live-1")),
        ("x-portkey-config", Some("pc-corp-1")),
        ("x-portkey-provider", Some("@openai-eu")),
        ("authorization", None),
    ] {
        assert_eq!(carried(&upstream, name).as_deref(), value, "{name}");
    }
    sidecar.ask(&Call::say("m", "hi").header("x-galileo-run-id", "run-7"));
    assert_eq!(upstream.requests(3)[2].head.header("x-portkey-trace-id"), Some("run-7"));
}

#[test]
fn a_corporate_proxy_leads_to_the_model_and_sees_neither_token_nor_prompt() {
    let authority = Authority::new();
    let upstream =
        Upstream::start_tls(authority.server("llm.corp.example"), |turn| answer(turn, Format::Anthropic));
    let (via, tokens) = (Via::start(Doing::Lead(upstream.address())), TokenServer::issuing());
    let lines = format!(
        "format = \"anthropic\"\nauthentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\n\
         oauth2 = {{ client_id = \"c\", client_secret = \"s\" }}\ntls = {{ ca_file = \"ca.pem\" }}",
        tokens.url()
    );
    let sidecar = Setup::new(integration("acme", "https://llm.corp.example", &lines))
        .file("ca.pem", &authority.pem())
        .env("HTTPS_PROXY", &via.url("CORP%5Cann:pw@"))
        .env("NO_PROXY", "127.0.0.1,.svc")
        .start();
    says_hello(&sidecar);
    assert_eq!(carried(&upstream, "authorization").as_deref(), Some("Bearer token-1"));
    assert_eq!(carried(&upstream, "proxy-authorization"), None);
    let asked = via.asked();
    let basic = BASE64_STANDARD.encode("CORP\\ann:pw");
    assert!(!asked.is_empty());
    for head in asked {
        assert!(head.starts_with("CONNECT llm.corp.example:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("proxy-authorization: Basic {basic}\r\n")), "{head}");
        assert!(!head.contains("token-1"), "{head}");
    }
}

#[test]
fn okta_with_basic_and_a_header_and_a_prefix_of_the_gateways_own() {
    let tokens = issuer(
        json!({"token_type": "Bearer", "expires_in": 3600, "access_token": "okta-1", "scope": "llm.call"}),
    );
    let upstream = provider(Format::OpenAi);
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\nauthentication_scope = \"llm.call\"\n\
         oauth2 = {{ client_id = \"0oa:1\", client_secret = \"p w+d\", client_auth = \"basic\", header = \"X-Corp-Authorization\", prefix = \"JWT \" }}",
        tokens.url().replace("/oauth2/token", "/oauth2/default/v1/token")
    );
    says_hello(&Setup::before(&upstream, &lines).start());
    assert_eq!(carried(&upstream, "x-corp-authorization").as_deref(), Some("JWT okta-1"));
    assert_eq!(carried(&upstream, "authorization"), None);
    let asked = &tokens.requests(1)[0];
    assert_eq!(asked.target(), "/oauth2/default/v1/token");
    // RFC 6749 §2.3.1: both are form-encoded first.
    let basic = BASE64_STANDARD.encode("0oa%3A1:p+w%2Bd");
    assert_eq!(asked.head.header("authorization"), Some(format!("Basic {basic}").as_str()));
    let form = form(asked);
    assert_eq!((field(&form, "client_secret"), field(&form, "client_id")), (None, None));
    assert_eq!(field(&form, "scope").as_deref(), Some("llm.call"));
}
