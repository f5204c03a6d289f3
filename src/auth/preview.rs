//! What an authorizer would put on a request, told without a secret and without fetching anything.

use http::{HeaderName, HeaderValue};

use super::credential::Credential;
use super::{ApiKey, Authorizer, Bearer, Kind};
use crate::config::valid::shown;
use crate::outbound::Unsigned;

/// What stands in place of a secret.
pub(super) const STARS: &str = "***";

/// The schemes that an API key may begin with: they are no secret, and one that is missing is a common mistake.
const SCHEMES: [&str; 3] = ["Bearer", "Basic", "Token"];

/// One header that an authorizer puts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its name.
    pub header: HeaderName,
    /// Where its value comes from.
    pub from: String,
}

impl Authorizer {
    /// Puts on `unsigned` what [`Authorizer::sign`] would put on, with stars in place of what is secret, and tells what
    /// it was. Nothing is fetched.
    pub fn preview(&self, unsigned: &mut Unsigned) -> Vec<Put> {
        match &self.0 {
            Kind::None => Vec::new(),
            Kind::ApiKey(key) => vec![key.preview(unsigned)],
            Kind::OAuth2(bearer) => {
                let client = bearer.source.credential();
                bearer.preview(unsigned, client.prefix(), &client.shown_url())
            }
            Kind::Gcp(bearer) => {
                let account = bearer.source.credential();
                let url = account.urls().first().map(|url| shown(url, &[])).unwrap_or_default();
                bearer.preview(unsigned, "Bearer ", &url)
            }
            Kind::SigV4(signer) => signer.preview(unsigned),
        }
    }
}

impl ApiKey {
    fn preview(&self, on: &mut Unsigned) -> Put {
        let scheme =
            self.value.to_str().ok().and_then(|value| value.split_once(' ')).map(|(scheme, _)| scheme);
        let scheme =
            scheme.and_then(|own| SCHEMES.iter().find(|known| own.eq_ignore_ascii_case(known)).map(|_| own));
        let shown = scheme.map_or_else(|| STARS.to_owned(), |scheme| format!("{scheme} {STARS}"));
        put(on, &self.header, &shown, "the API key".to_owned())
    }
}

impl<C: Credential> Bearer<C> {
    fn preview(&self, on: &mut Unsigned, prefix: &str, url: &str) -> Vec<Put> {
        if let Some((name, value)) = &self.beside {
            on.headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        vec![put(on, &self.header, &format!("{prefix}{STARS}"), format!("token from {url}"))]
    }
}

/// Puts `shown` where the secret would stand.
pub(super) fn put(on: &mut Unsigned, header: &HeaderName, shown: &str, from: String) -> Put {
    let shown = HeaderValue::from_str(shown).unwrap_or(HeaderValue::from_static(STARS));
    on.headers.insert(header.clone(), shown);
    Put { header: header.clone(), from }
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use http::header::AUTHORIZATION;

    use super::super::Tokens;
    use super::super::testing::*;
    use super::*;
    use crate::config::valid::{Authorization, Aws, AwsKeys, OAuth2, SecretSource, WebIdentity};
    use crate::egress::Egress;
    use crate::secret::Secret;
    use crate::tasks::Tasks;

    fn shown(authorizer: &Authorizer) -> (Vec<Put>, Vec<String>) {
        let mut unsigned = request();
        let puts = authorizer.preview(&mut unsigned);
        let value = |put: &Put| unsigned.headers[&put.header].to_str().unwrap().to_owned();
        let values = puts.iter().map(value).collect();
        (puts, values)
    }

    fn key(value: &str) -> Authorizer {
        let value = SecretSource::Inline(Secret::new(value));
        let settings = Authorization::ApiKey { header: AUTHORIZATION, value };
        build(&Tokens::new(Tasks::new()), &settings).unwrap()
    }

    #[test]
    fn of_an_api_key_only_a_known_scheme_is_shown() {
        for (value, want) in [
            ("Bearer sk-1", "Bearer ***"),
            ("bearer  sk-1 2", "bearer ***"),
            ("sk-1", "***"),
            ("secret words", "***"),
        ] {
            assert_eq!(shown(&key(value)).1, [want]);
        }
    }

    #[tokio::test]
    async fn a_token_is_told_by_its_endpoint_and_not_fetched() {
        let (endpoint, tokens) = (Endpoint::granting().await, Tokens::new(Tasks::new()));
        let header = HeaderName::from_static("x-token");
        let settings = OAuth2 { header: header.clone(), prefix: "JWT ".into(), ..endpoint.settings() };
        let (puts, values) = shown(&authorizer(&tokens, &settings, &endpoint.egress(), LIMIT));
        assert_eq!((puts[0].header.clone(), values), (header, vec!["JWT ***".to_owned()]));
        assert!(puts[0].from.starts_with("token from http://127.0.0.1:"), "{}", puts[0].from);
        assert_eq!(endpoint.calls(), 0);
    }

    #[test]
    fn nothing_is_put_on_where_no_authorization_is_set() {
        assert!(shown(&Authorizer::none()).0.is_empty());
    }

    fn aws(keys: AwsKeys, egress: &Egress) -> Vec<String> {
        let settings = Aws { region: "eu-west-1".to_owned(), service: "bedrock".to_owned(), keys };
        let settings = Authorization::SigV4(Box::new(settings));
        let tokens = Tokens::new(Tasks::new());
        let way = |_: &Uri| Ok(egress.clone());
        let (puts, values) = shown(&build_with(&tokens, &settings, &way, LIMIT).unwrap());
        puts.iter().zip(values).map(|(put, value)| format!("{}: {value}", put.header)).collect()
    }

    #[tokio::test]
    async fn of_a_signature_its_scope_and_what_it_signs_are_shown() {
        let endpoint = Endpoint::granting().await;
        let secret = |text: &str| SecretSource::Inline(Secret::new(text));
        let fixed = |session: Option<&str>| AwsKeys::Fixed {
            id: secret("AKIDSECRET"),
            secret: secret("s3cret"),
            session: session.map(secret),
        };
        let web = AwsKeys::WebIdentity(WebIdentity {
            role_arn: "arn".to_owned(),
            session_name: "s".to_owned(),
            token_file: "/no/such/token".into(),
            sts_endpoint: "https://sts.test/".parse().unwrap(),
        });
        for (keys, has_session) in [(fixed(None), false), (fixed(Some("t0ken")), true), (web, true)] {
            let all = aws(keys, &endpoint.egress());
            let text = all.join("\n");
            assert!(!text.contains("SECRET") && !text.contains("t0ken"), "{text}");
            assert!(all[0].starts_with("x-amz-date: 20"), "{text}");
            let signature = all.iter().find_map(|line| line.strip_prefix("authorization: ")).unwrap();
            assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=***/20"), "{text}");
            assert!(signature.contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=host;"), "{text}");
            assert!(signature.ends_with(", Signature=***"), "{text}");
            assert_eq!(all.contains(&"x-amz-security-token: ***".to_owned()), has_session, "{text}");
        }
        assert_eq!(endpoint.calls(), 0);
    }
}
