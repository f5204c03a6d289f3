//! OAuth2 client credentials at one token endpoint: what makes them differ from others, and the token request that
//! they make (RFC 6749 §4.4.2).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use form_urlencoded::{Serializer, byte_serialize};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Uri};

use super::answer::{self, Fields, Granted, Trouble};
use super::credential::{Credential, Issuer, Proof, bearer, host_of};
use super::fetch::{self, Flight};
use crate::config::valid::{ClientAuth, OAuth2, is_suspect, shown};
use crate::echo::Needles;
use crate::egress::Egress;
use crate::outbound::Unsigned;
use crate::secret::Secret;
use crate::tls;

/// What to do where an answer has no token, and no token endpoint was named.
const NOT_SET: &str = "; oauth2_token_url is not set, so the integration's endpoint itself was asked";

const PROOF: Proof = Proof {
    name: "client credentials",
    check: "client_id, client_secret, client_auth and the scope of this integration",
};

/// The same where no token endpoint was named.
const PROOF_AT_ENDPOINT: Proof = Proof {
    name: "client credentials",
    check: "oauth2_token_url, which is not set, so that the integration's endpoint itself was asked for the token",
};

/// Everything that makes one token differ from another: two integrations whose credentials are equal share one
/// token and one fetch. The header that carries the token is not part of it. Not `Debug`: the form may hold secrets.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Client {
    url: Uri,
    is_endpoint: bool,
    hidden_path: Vec<Secret>,
    id: String,
    secret: Secret,
    auth: ClientAuth,
    form: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    prefix: String,
    token_field: String,
    expires_field: String,
    tls: tls::Profile,
}

impl Client {
    /// Reads the secret and checks what must fit into headers. The error says what is wrong in the world.
    pub(super) fn read(settings: &OAuth2, tls: &tls::Profile) -> Result<Self, String> {
        let source = &settings.client_secret;
        let secret = source.load().map_err(|why| format!("{}: {why}", source.key("client_secret")))?;
        if settings.client_id.is_empty() {
            return Err("client_id is empty".into());
        }
        if HeaderValue::from_str(&settings.prefix).is_err() {
            return Err("oauth2.prefix holds characters that cannot stand in a header".into());
        }
        Ok(Self {
            url: settings.token_url.clone(),
            is_endpoint: settings.is_endpoint,
            hidden_path: settings.hidden_path.clone(),
            id: settings.client_id.clone(),
            secret,
            auth: settings.client_auth,
            form: form(settings),
            headers: settings.extra_headers.clone(),
            prefix: settings.prefix.clone(),
            token_field: settings.token_field.clone(),
            expires_field: settings.expires_field.clone(),
            tls: tls.clone(),
        })
    }

    /// The token endpoint, as it may be shown.
    pub(super) fn shown_url(&self) -> String {
        shown(&self.url, &self.hidden_path)
    }

    /// What stands before the token in the header that carries it.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The token request.
    fn request(&self) -> Box<Unsigned> {
        let mut headers = Vec::with_capacity(1 + self.headers.len());
        let mut form = Serializer::new(String::new());
        form.extend_pairs(&self.form);
        match self.auth {
            ClientAuth::Post => {
                form.append_pair("client_id", &self.id).append_pair("client_secret", self.secret.expose());
            }
            ClientAuth::Basic => {
                let value = format!("Basic {}", self.basic());
                let mut value = HeaderValue::from_str(&value).expect("base64 can stand in a header");
                value.set_sensitive(true);
                headers.push((AUTHORIZATION, value));
            }
        }
        let mut request = fetch::post(&self.url, form.finish());
        for (name, value) in headers.iter().chain(&self.headers) {
            request.headers.insert(name, value.clone());
        }
        request
    }

    /// `text` without what we send besides public words, by a proxy that is shown `proxy`: a token endpoint may echo what
    /// it was given, in any form.
    fn hide(&self, text: &str, proxy: Option<&HeaderValue>) -> String {
        let basic = format!("Basic {}", self.basic());
        let headers = self.headers.iter().map(|(_, value)| value.as_bytes());
        let params = self.form.iter().filter(|(name, value)| !is_public(name) || is_suspect(name, value));
        let params = params.map(|(_, value)| value.as_bytes());
        let query = form_urlencoded::parse(self.url.query().unwrap_or_default().as_bytes());
        // What has no `=` is a value without a name.
        let query: Vec<_> = query.map(|(name, value)| if value.is_empty() { name } else { value }).collect();
        let query = query.iter().map(|value| value.as_bytes());
        let proxy = proxy.map(HeaderValue::as_bytes);
        let path = self.hidden_path.iter().map(|text| text.expose().as_bytes());
        let values = headers.chain(params).chain(query).chain(path).chain(proxy).chain([basic.as_bytes()]);
        let needles = Needles::of(values).and_secret(self.secret.expose());
        needles.clean_text(text).unwrap_or_else(|| text.to_owned())
    }

    /// RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
    fn basic(&self) -> String {
        let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        BASE64_STANDARD.encode(format!("{}:{}", encode(&self.id), encode(self.secret.expose())))
    }
}

impl Credential for Client {
    type Pass = HeaderValue;

    fn issuer(&self) -> Issuer {
        let proof = if self.is_endpoint { &PROOF_AT_ENDPOINT } else { &PROOF };
        Issuer { host: host_of(&self.url), proof }
    }

    async fn ask(&self, flight: &Flight<'_>) -> Result<Granted<HeaderValue>, Trouble> {
        let (status, body) = flight.exchange(0, self.request()).await?;
        let proxy = flight.way.stops.first().and_then(Egress::proxy_authorization);
        let hide = |text: &str| self.hide(text, proxy);
        let (help, url) = match self.is_endpoint {
            true => {
                (NOT_SET, "oauth2_token_url: it is not set, so the integration's endpoint itself was asked")
            }
            false => ("; oauth2.token_field names another", "the token URL"),
        };
        let (token, expires) = (&self.token_field, &self.expires_field);
        let fields = Fields { token, expires, help, url, hide: &hide };
        answer::read(status, &body, &fields)?.with(|token| bearer(&self.prefix, &token))
    }
}

/// Whether the parameter `name` of a token request says nothing that a log may not hold.
fn is_public(name: &str) -> bool {
    ["grant_type", "scope", "audience", "resource"].contains(&name)
}

/// The form without the client's own proof; an extra parameter takes the place of one of ours by the same name,
/// since none may stand twice (RFC 6749 §3.2).
fn form(settings: &OAuth2) -> Vec<(String, String)> {
    let ours = [
        ("grant_type", Some("client_credentials")),
        ("scope", settings.scope.as_deref()),
        ("audience", settings.audience.as_deref()),
        ("resource", settings.resource.as_deref()),
    ];
    let replaced = |name: &str| settings.extra_params.iter().any(|(extra, _)| extra == name);
    let ours = ours.into_iter().filter(|(name, _)| !replaced(name));
    let ours = ours.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    ours.chain(settings.extra_params.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::super::testing::{self, Endpoint, LIMIT, SEAT, answer, settings};
    use super::*;
    use crate::config::valid::SecretSource;

    fn credential(settings: &OAuth2) -> Client {
        Client::read(settings, &tls::Profile::default()).unwrap()
    }

    fn body(request: &Unsigned) -> Vec<(String, String)> {
        form_urlencoded::parse(&request.body.joined()).into_owned().collect()
    }

    #[test]
    fn post_puts_the_client_into_the_form() {
        let request = credential(&settings("http://idp.test/token")).request();
        let want =
            [("grant_type", "client_credentials"), ("client_id", "the id"), ("client_secret", "s:e/c&r=t")];
        assert_eq!(body(&request), want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(request.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
        assert!(!request.headers.contains_key(AUTHORIZATION));
        assert_eq!(request.uri, "http://idp.test/token");
    }

    #[test]
    fn basic_form_encodes_both_parts_first_and_leaves_them_out_of_the_form() {
        let mut settings = settings("http://idp.test/token");
        settings.client_auth = ClientAuth::Basic;
        let request = credential(&settings).request();
        let value = &request.headers[AUTHORIZATION];
        assert!(value.is_sensitive());
        let sent = BASE64_STANDARD.decode(&value.as_bytes()["Basic ".len()..]).unwrap();
        assert_eq!(sent, b"the+id:s%3Ae%2Fc%26r%3Dt");
        assert_eq!(body(&request).len(), 1);
    }

    #[test]
    fn scope_audience_resource_and_extras_are_sent_once_each() {
        let mut settings = settings("http://idp.test/token");
        settings.scope = Some("a b".into());
        settings.audience = Some("https://api".into());
        settings.resource = Some("urn:r".into());
        settings.extra_params = vec![("audience".into(), "other".into()), ("tenant".into(), "t 1".into())];
        settings.extra_headers = vec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("t1"))];
        let request = credential(&settings).request();
        let sent = body(&request);
        let field =
            |name: &str| sent.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
        assert_eq!(field("scope"), ["a b"]);
        assert_eq!(field("audience"), ["other"]);
        assert_eq!(field("resource"), ["urn:r"]);
        assert_eq!(field("tenant"), ["t 1"]);
        assert_eq!(request.headers["x-tenant"], "t1");
    }

    #[test]
    fn what_changes_the_token_makes_another_credential_and_the_header_does_not() {
        let base = settings("http://idp.test/token");
        let mut header = base.clone();
        header.header = HeaderName::from_static("x-token");
        assert!(credential(&base) == credential(&header));
        let changes: [fn(&mut OAuth2); 6] = [
            |s| s.client_id.push('x'),
            |s| s.scope = Some("x".into()),
            |s| s.audience = Some("x".into()),
            |s| s.token_field.push('x'),
            |s| s.extra_params.push(("x".into(), "x".into())),
            |s| s.client_auth = ClientAuth::Basic,
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert!(credential(&base) != credential(&other));
        }
        let tls = tls::Profile { server_name: Some("x".into()), ..tls::Profile::default() };
        assert!(credential(&base) != Client::read(&base, &tls).unwrap());
    }

    #[test]
    fn an_echoed_secret_is_hidden_in_every_form() {
        let credential = credential(&settings("http://idp.test/token"));
        let echo = format!("a s:e/c&r=t b s%3Ae%2Fc%26r%3Dt c {}", credential.basic());
        assert_eq!(credential.hide(&echo, None), "a *** b *** c ***");
    }

    #[tokio::test]
    async fn what_a_token_endpoint_echoes_of_a_request_is_hidden() {
        let secret = "s3cr3t&<0123456789abcdef0123456789>";
        let texts = [
            "bad url /token?api_key=url-secret-1&tenant=t",
            "sent client_key=prm-secret-1&scope=read+all&audience=https%3A%2F%2Fapi.test x-extra: hdr-secret-1",
            "secret s3cr3t&amp;&lt;0123456789abcdef0123456789&gt; of the id",
            "secret s3cr3t%26%3C0123456789abcdef0123456789%3E of the id",
            "secret s3cr3t\\u0026\\u003c0123456789abcdef0123456789\\u003e of the id",
            "secret s3cr3t&<0123456789abcdef01234... of the id",
        ];
        let wants = [
            "bad url /token?api_key=***&tenant=t",
            "sent client_key=***&scope=read+all&audience=https%3A%2F%2Fapi.test x-extra: ***",
            "secret *** of the id",
            "secret *** of the id",
            "secret *** of the id",
            "secret ***... of the id",
        ];
        let endpoint = Endpoint::saying(move |n| {
            let said = serde_json::json!({ "error": "invalid_client", "error_description": texts[n - 1] });
            answer(401, &said.to_string())
        })
        .await;
        let mut settings = endpoint.settings();
        settings.token_url = format!("{}&api_key=url-secret-1", endpoint.url()).parse().unwrap();
        settings.client_secret = SecretSource::Inline(Secret::new(secret));
        settings.scope = Some("read all".into());
        settings.audience = Some("https://api.test".into());
        settings.extra_params = vec![("client_key".into(), "prm-secret-1".into())];
        settings.extra_headers =
            vec![(HeaderName::from_static("x-extra"), HeaderValue::from_static("hdr-secret-1"))];
        let client = credential(&settings);
        let way = testing::way(endpoint.egress(), LIMIT);
        for want in wants {
            match way.ask(SEAT, &client).await.map_err(|miss| miss.trouble) {
                Err(Trouble::Refused { description: Some(told), .. }) => assert_eq!(told, want),
                _ => panic!("no refusal where {want} was to be told"),
            }
        }
    }

    #[test]
    fn words_are_cut_behind_the_mask_and_nowhere_before() {
        let mut settings = settings("http://idp.test/token");
        settings.client_secret = SecretSource::Inline(Secret::new("s3cr3t-0123456789abcdef0123456789"));
        let client = credential(&settings);
        let hide = |text: &str| client.hide(text, None);
        let fields =
            Fields { token: "access_token", expires: "expires_in", help: "", url: "it", hide: &hide };
        for at in 250..310 {
            let said = format!("{}s3cr3t-0123456789abcdef0123456789", "x".repeat(at));
            let body = serde_json::json!({ "error": "x", "error_description": said }).to_string();
            let Err(Trouble::Refused { description: Some(told), .. }) =
                answer::read(401, body.as_bytes(), &fields)
            else {
                panic!("no refusal at {at}")
            };
            assert!(!told.contains('s'), "{at}: {told}");
        }
    }

    #[test]
    fn the_host_is_named_without_user_information() {
        assert_eq!(&*credential(&settings("http://u:p@idp.test:81/token")).issuer().host, "idp.test:81");
        assert_eq!(&*credential(&settings("https://idp.test/token")).issuer().host, "idp.test");
    }
}
