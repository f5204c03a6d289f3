//! What an authorizer would put on a request, told without a secret and without fetching anything.

use http::{HeaderName, HeaderValue};

use super::{ApiKey, Authorizer, Bearer};
use crate::outbound::Unsigned;

/// What stands in place of a secret.
const STARS: &str = "***";

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
        match self {
            Self::None => Vec::new(),
            Self::ApiKey(key) => vec![key.preview(unsigned)],
            Self::OAuth2(bearer) => vec![bearer.preview(unsigned)],
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

impl Bearer {
    fn preview(&self, on: &mut Unsigned) -> Put {
        let credential = self.source.credential();
        let from = format!("token from {}", credential.url());
        put(on, &self.header, &format!("{}{STARS}", credential.prefix()), from)
    }
}

/// Puts `shown` where the secret would stand.
fn put(on: &mut Unsigned, header: &HeaderName, shown: &str, from: String) -> Put {
    let shown = HeaderValue::from_str(shown).unwrap_or(HeaderValue::from_static(STARS));
    on.headers.insert(header.clone(), shown);
    Put { header: header.clone(), from }
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::super::testing::*;
    use super::super::{Tokens, tls};
    use super::*;
    use crate::config::valid::{Authorization, OAuth2, SecretSource};
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
        Tokens::new(Tasks::new()).authorizer(&settings, None, &tls::Profile::default(), LIMIT).unwrap()
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
        let (puts, values) = shown(&authorizer(&tokens, &settings, endpoint.egress(), LIMIT));
        assert_eq!((puts[0].header.clone(), values), (header, vec!["JWT ***".to_owned()]));
        assert!(puts[0].from.starts_with("token from http://127.0.0.1:"), "{}", puts[0].from);
        assert_eq!(endpoint.calls(), 0);
    }

    #[test]
    fn nothing_is_put_on_where_no_authorization_is_set() {
        assert!(shown(&Authorizer::None).0.is_empty());
    }
}
