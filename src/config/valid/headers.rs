//! Header names and values that an integration sets or lets through.

use http::{HeaderName, HeaderValue};

use super::{RunnerId, doubt, is_suspect};
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Pairs, Reading};
use crate::hop::is_hop_by_hop;

/// Galileo's own limit.
const MOST: usize = 50;

/// Headers that are the transport's own, besides those of one connection (RFC 9110 §7.6.1, RFC 9112 §6): set by
/// configuration they would break the framing. `accept-encoding` and `content-encoding` would lead to bodies that cannot
/// be read.
const FRAMING: [&str; 8] = [
    "accept-encoding",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authorization",
];

/// `headers` and `extra_headers`.
pub(super) fn fixed(
    raw: Field<Pairs<String>>,
    at: &At,
    r: &mut Reading<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let pairs = raw.given().map(|pairs| pairs.0).unwrap_or_default();
    if pairs.len() > MOST {
        r.error(at, format!("`{at}` has {} headers; at most {MOST} are taken", pairs.len()));
    }
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (key, text) in pairs {
        let at = at.key(&key);
        let (Some(name), Some(value)) = (name(&key, &at, r), value(&text, &at, r)) else { continue };
        if headers.iter().any(|(before, _)| *before == name) {
            r.error(&at, format!("the header `{name}` is given twice"))
                .help("names are the same in capitals");
        }
        if let Some(doubt) = doubt::doubt(&text).filter(|_| is_suspect(&key, "")) {
            r.warning(&at, format!("`{at}` {doubt}")).help(doubt.help(&key));
        }
        headers.push((name, value));
    }
    headers
}

/// `custom_header_mapping`.
pub(super) fn mapping(
    raw: Field<raw::HeaderMapping>,
    at: &At,
    r: &mut Reading<'_>,
) -> Vec<(RunnerId, HeaderName)> {
    let Some(raw) = raw.given() else { return Vec::new() };
    let all = [
        ("job_id", RunnerId::Job, raw.job_id),
        ("user_id", RunnerId::User, raw.user_id),
        ("project_id", RunnerId::Project, raw.project_id),
        ("run_id", RunnerId::Run, raw.run_id),
    ];
    let mut mapping: Vec<(RunnerId, HeaderName)> = Vec::new();
    for (key, id, field) in all {
        let at = at.key(key);
        let Some(name) = field.given().and_then(|text| name(&text, &at, r)) else { continue };
        if name == http::header::AUTHORIZATION {
            r.error(&at, format!("`{at}` would replace the credential")).help("choose another header");
        }
        if mapping.iter().any(|(_, before)| *before == name) {
            r.error(&at, format!("the header `{name}` carries another id already"))
                .help("give each id its own header");
        }
        mapping.push((id, name));
    }
    mapping
}

/// `forward_headers`.
pub(super) fn forwarded(raw: Field<Vec<String>>, at: &At, r: &mut Reading<'_>) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for (n, text) in raw.or(Vec::new()).iter().enumerate() {
        let at = at.index(n);
        let Some(name) = name(text, &at, r) else { continue };
        if name.as_str().contains('*') {
            r.error(&at, format!("`{at}` is no pattern: `*` is a letter of a header's name"))
                .help("name each header that is to be let through");
        }
        if name == http::header::AUTHORIZATION {
            let help =
                "the caller's own credential never leaves; set the integration's with authentication_type";
            r.error(&at, "`authorization` cannot be let through").help(help);
        }
        names.push(name);
    }
    names
}

/// Warns of each header in `keys`, which are those of tables as they were written, that the credential overrides.
pub(super) fn warn_overridden(keys: &[(At, String)], credential: &[HeaderName], r: &mut Reading<'_>) {
    for (at, name) in keys {
        if credential.iter().any(|own| own.as_str().eq_ignore_ascii_case(name)) {
            r.warning(
                at,
                format!("`{at}` is not sent: the integration's own credential goes into that header"),
            )
            .help("leave it out, or let authentication_type put the credential elsewhere");
        }
    }
}

/// The keys that name a header that is put on requests, each with that header.
pub(super) fn named(
    headers: &Field<Pairs<String>>,
    mapping: &Field<raw::HeaderMapping>,
    forwarded: &Field<Vec<String>>,
    at: &At,
) -> Vec<(At, String)> {
    let mut named = Vec::new();
    let table = at.key("headers");
    for (name, _) in headers.get().iter().flat_map(|pairs| &pairs.0) {
        named.push((table.key(name), name.clone()));
    }
    let table = at.key("custom_header_mapping");
    if let Some(raw) = mapping.get() {
        let all = [
            ("job_id", &raw.job_id),
            ("user_id", &raw.user_id),
            ("project_id", &raw.project_id),
            ("run_id", &raw.run_id),
        ];
        for (id, name) in all {
            // That one is an error.
            let name = name.get().filter(|name| !name.eq_ignore_ascii_case("authorization"));
            named.extend(name.map(|name| (table.key(id), name.clone())));
        }
    }
    let list = at.key("forward_headers");
    for (n, name) in forwarded.get().into_iter().flatten().enumerate() {
        if !name.eq_ignore_ascii_case("authorization") {
            named.push((list.index(n), name.clone()));
        }
    }
    named
}

/// A header's name that configuration may use.
pub(super) fn name(text: &str, at: &At, r: &mut Reading<'_>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        r.error(at, format!("`{at}`: not a header's name")).help("letters, digits and `-`, such as x-tenant");
        return None;
    };
    if is_hop_by_hop(&name) || FRAMING.contains(&name.as_str()) {
        let message = format!("the header `{name}` belongs to the connection and cannot be set");
        r.error(at, message).help("leave it out: Outrider sets it itself where it is needed");
        return None;
    }
    Some(name)
}

/// A header's value; printed as `Sensitive`, since it may be a credential.
pub(super) fn value(text: &str, at: &At, r: &mut Reading<'_>) -> Option<HeaderValue> {
    match HeaderValue::from_str(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(_) => {
            r.error(at, format!("the value of `{at}` cannot stand in a header"))
                .help("it holds a line's end or another control character");
            None
        }
    }
}
