//! A proxy's entrance: where it is, and the credentials of its URL as the field that says them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::Proxy;

/// Where a proxy is and what to say there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Scheme, host and port, without credentials.
    pub uri: Uri,
    /// The same as it was written, for messages.
    pub shown: String,
    /// `Proxy-Authorization`, if its URL holds credentials: Basic (RFC 7617), marked as sensitive.
    pub authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The entrance of the proxy; `None` for the straight way.
    ///
    /// # Errors
    ///
    /// A URL that is none; it is never quoted, since it may hold a password.
    pub fn entrance(&self) -> Result<Option<Entrance>, String> {
        let Self::Through { url, shown } = self else { return Ok(None) };
        let uri = shown.parse().map_err(|_| "`proxy` is not a URL".to_owned())?;
        let url = url.expose();
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authorization = match authority.rsplit_once('@') {
            None | Some(("", _)) => None,
            Some((credentials, _)) => Some(basic(credentials)?),
        };
        Ok(Some(Entrance { uri, shown: shown.clone(), authorization }))
    }
}

/// `user:password` as it stands in a URL, as the value of a field.
fn basic(credentials: &str) -> Result<HeaderValue, String> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    if plain.contains(&b':') {
        return Err("the user in `proxy` holds a `:`, which Basic (RFC 7617) cannot carry".to_owned());
    }
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let field = format!("Basic {}", STANDARD.encode(plain));
    let mut field = HeaderValue::from_str(&field).map_err(|_| "base64 is no field value".to_owned())?;
    field.set_sensitive(true);
    Ok(field)
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn entrance(url: &str) -> Result<Option<Entrance>, String> {
        let shown = "http://proxy.corp:3128".to_owned();
        Proxy::Through { url: Secret::new(url), shown }.entrance()
    }

    #[test]
    fn the_credentials_of_a_url_are_decoded_and_never_printed() {
        for (url, plain) in [
            ("http://me:s3cret@proxy.corp:3128", "me:s3cret"),
            ("http://CORP%5Cme:p%40ss%3A%2F@proxy.corp:3128", "CORP\\me:p@ss:/"),
            ("http://me@proxy.corp:3128", "me:"),
            ("http://me:a:b@proxy.corp:3128", "me:a:b"),
        ] {
            let entrance = entrance(url).unwrap().unwrap();
            let field = entrance.authorization.clone().unwrap();
            assert_eq!(field, format!("Basic {}", STANDARD.encode(plain)));
            assert_eq!(entrance.uri, "http://proxy.corp:3128");
            let printed = format!("{entrance} {entrance:?}");
            assert!(!printed.contains("Basic") && !printed.contains("s3cret"), "{printed}");
        }
    }

    #[test]
    fn a_proxy_without_credentials_is_told_none() {
        for url in ["http://proxy.corp:3128", "http://@proxy.corp:3128"] {
            assert_eq!(entrance(url).unwrap().unwrap().authorization, None);
        }
        assert_eq!(Proxy::Direct.entrance(), Ok(None));
        assert!(entrance("http://a%3Ab:c@proxy.corp:3128").unwrap_err().contains("RFC 7617"));
    }
}
