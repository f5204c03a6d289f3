//! Credentials that go out without TLS: whoever is on the way to the host can read them.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Uri};

use super::{Authorization, AwsKeys, Integration, is_suspect, is_suspect_parameter};
use crate::config::places::At;
use crate::config::read::Reading;

/// Warns of each URL of `one` that begins with `http://`, leads to another machine, and is shown a credential.
pub(in crate::config) fn warn(one: &Integration, r: &mut Reading<'_>) {
    let at = At::integration(one.name.as_str());
    let (mut shown, mut others) = (to_endpoint(one, &at), Vec::new());
    match &one.authorization {
        Authorization::OAuth2(oauth2) => {
            let asked = to_token_endpoint(one, &at, r);
            if oauth2.token_url == one.endpoint {
                shown.extend(asked);
            } else {
                others.push((at.key("oauth2_token_url"), &oauth2.token_url, asked));
            }
        }
        Authorization::SigV4(aws) => {
            if let AwsKeys::WebIdentity(identity) = &aws.keys {
                let aws = at.key("aws");
                let file = format!("`{}`", aws.key("web_identity_token_file"));
                others.push((aws.key("sts_endpoint"), &identity.sts_endpoint, vec![file]));
            }
        }
        Authorization::None
        | Authorization::ApiKey { .. }
        | Authorization::Gcp(_)
        | Authorization::Later(_) => {}
    }
    let all = std::iter::once((at.key("endpoint"), &one.endpoint, shown)).chain(others);
    for (at, url, shown) in all.filter(|(_, url, shown)| is_clear(url) && !shown.is_empty()) {
        let host = url.host().unwrap_or_default();
        let message = format!(
            "`{at}` begins with http://, and on the way to {host} everyone can read what goes there: {}",
            shown.join(", ")
        );
        r.warning(&at, message).help(
            "begin it with https://; if that host speaks no TLS, let a tunnel or a service mesh that encrypts lead to it",
        );
    }
}

/// What every request shows to the endpoint.
fn to_endpoint(one: &Integration, at: &At) -> Vec<String> {
    let mut shown = match &one.authorization {
        Authorization::ApiKey { value, .. } => vec![format!("`{}`", at.key(&value.key("api_key_value")))],
        Authorization::OAuth2(_) | Authorization::Gcp(_) => vec!["the token".to_owned()],
        Authorization::SigV4(_) => vec!["what the AWS keys sign".to_owned()],
        Authorization::None | Authorization::Later(_) => Vec::new(),
    };
    let headers = one.headers.iter().filter(is_secret);
    shown.extend(headers.map(|(name, _)| format!("`{}`", at.key("headers").key(name.as_str()))));
    let query = one.query.iter().filter(|(name, value)| is_suspect(name, value));
    shown.extend(query.map(|(name, _)| format!("`{}`", at.key("query").key(name))));
    shown
}

/// What is shown to the token endpoint.
fn to_token_endpoint(one: &Integration, at: &At, r: &Reading<'_>) -> Vec<String> {
    let Authorization::OAuth2(oauth2) = &one.authorization else { return Vec::new() };
    let secrets = one.authorization.secrets(at).into_iter().map(|(at, _)| at);
    // What stands in `token` itself is a secret like one of `oauth2`.
    let given = secrets.map(|own| if r.places.gives(&own) { own } else { at.key("token") });
    let mut shown: Vec<_> = given.map(|at| format!("`{at}`")).collect();
    let table = at.key("oauth2");
    let headers = oauth2.extra_headers.iter().filter(is_secret);
    shown.extend(headers.map(|(name, _)| format!("`{}`", table.key("extra_headers").key(name.as_str()))));
    let fields = oauth2.extra_params.iter().filter(|(name, value)| is_suspect_parameter(name, value));
    shown.extend(fields.map(|(name, _)| format!("`{}`", table.key("extra_params").key(name))));
    shown
}

/// Whether a header holds a secret, by its name or its looks.
fn is_secret((name, value): &&(HeaderName, HeaderValue)) -> bool {
    is_suspect(name.as_str(), value.to_str().unwrap_or_default())
}

/// Whether what goes to `url` leaves this machine, and without TLS.
fn is_clear(url: &Uri) -> bool {
    url.scheme_str() == Some("http") && !is_here(url)
}

/// Whether the host of `url` is this machine.
pub(super) fn is_here(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    match address(&host) {
        Some(address) => address.is_loopback(),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The address that stands in a URL as its host, if it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_this_machine_or_is_under_tls_is_not_in_the_clear() {
        for (url, expected) in [
            ("http://llm.corp/v1", true),
            ("http://10.0.0.1:81/v1", true),
            ("http://[fd00::1]/v1", true),
            ("http://localhost.corp/v1", true),
            ("https://llm.corp/v1", false),
            ("http://127.0.0.1:9/v1", false),
            ("http://127.8.8.8/v1", false),
            ("http://[::1]:9/v1", false),
            ("http://LocalHost:9/v1", false),
            ("http://llm.localhost/v1", false),
        ] {
            assert_eq!(is_clear(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
