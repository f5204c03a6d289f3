//! The headers that an integration puts on each request: forwarded ones, the runner's ids, static ones.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::edit::Refused;
use crate::config::valid::{self, RunnerId};
use crate::hop::connection_named;
use crate::openai::Envelope;

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Built once for an integration.
#[derive(Debug)]
pub(super) struct Headers {
    forward: Vec<HeaderName>,
    mapping: Vec<(RunnerId, HeaderName)>,
    fixed: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    pub(super) fn new(settings: &valid::Integration) -> Self {
        Self {
            forward: settings.forward_headers.clone(),
            mapping: settings.header_mapping.clone(),
            fixed: settings.headers.clone(),
        }
    }

    /// Static headers override everything; the authorizer comes after and overrides them. A relayed request has no
    /// `request` that could be looked into.
    pub(super) fn put(
        &self,
        headers: &mut HeaderMap,
        client: &HeaderMap,
        request: Option<&Envelope>,
    ) -> Result<(), Refused> {
        headers.entry(ACCEPT_ENCODING).or_insert(IDENTITY);
        for name in self.forward.iter().filter(|name| !is_hop_by_hop(name, client)) {
            for (at, value) in client.get_all(name).iter().enumerate() {
                if at == 0 {
                    headers.insert(name.clone(), value.clone());
                } else {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        if !self.mapping.is_empty() {
            self.map(headers, client, request)?;
        }
        for (name, value) in &self.fixed {
            headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    fn map(
        &self,
        headers: &mut HeaderMap,
        client: &HeaderMap,
        request: Option<&Envelope>,
    ) -> Result<(), Refused> {
        let mut metadata: Option<Map<String, Value>> = None;
        for (id, name) in &self.mapping {
            let (field, header) = words(*id);
            if let Some(value) = client.get(header).filter(|value| !value.is_empty()) {
                if holds_control(value.as_bytes()) {
                    return Err(refused(header.to_owned(), name));
                }
                headers.insert(name.clone(), value.clone());
                continue;
            }
            let metadata = metadata.get_or_insert_with(|| {
                serde_json::from_slice(request.and_then(metadata_of).unwrap_or(b"{}")).unwrap_or_default()
            });
            let text = match metadata.get(field) {
                Some(Value::String(text)) if !text.is_empty() => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => continue,
            };
            let value = HeaderValue::from_str(&text).ok().filter(|value| !holds_control(value.as_bytes()));
            headers.insert(name.clone(), value.ok_or_else(|| refused(format!("metadata.{field}"), name))?);
        }
        Ok(())
    }
}

/// The `metadata` that the client sent, also where it goes no further: `drop` keeps it from the body alone. Without one, what
/// `defaults` say.
fn metadata_of(request: &Envelope) -> Option<&[u8]> {
    request.sent(METADATA).filter(|raw| *raw != b"null").or_else(|| request.raw(METADATA))
}

const METADATA: &str = "metadata";

/// A header may hold a tab, and beyond ASCII what some take for the end of a line. An id may not: readers would differ
/// in what it is.
fn holds_control(id: &[u8]) -> bool {
    str::from_utf8(id).map_or_else(|_| id.contains(&b'\t'), |text| text.contains(char::is_control))
}

/// The id that the client gave as `param` cannot go into the header `name`.
fn refused(param: String, name: &HeaderName) -> Refused {
    let message = format!("{param} goes into the header `{name}` and may not hold control characters");
    Refused { param, message, unsupported: false }
}

/// Whether the client has said in `Connection` that the field is for this connection alone (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &HeaderName, client: &HeaderMap) -> bool {
    connection_named(client).any(|one| one.eq_ignore_ascii_case(name.as_str()))
}

fn words(id: RunnerId) -> (&'static str, &'static str) {
    match id {
        RunnerId::Job => ("job_id", "x-galileo-job-id"),
        RunnerId::User => ("user_id", "x-galileo-user-id"),
        RunnerId::Project => ("project_id", "x-galileo-project-id"),
        RunnerId::Run => ("run_id", "x-galileo-run-id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(client: &[(&str, &str)], body: &str) -> Result<HeaderMap, Refused> {
        put_of(client, &Envelope::read(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    fn put_of(client: &[(&str, &str)], envelope: &Envelope) -> Result<HeaderMap, Refused> {
        let headers = Headers {
            forward: vec![HeaderName::from_static("x-tenant")],
            mapping: vec![
                (RunnerId::Job, HeaderName::from_static("x-their-job")),
                (RunnerId::User, HeaderName::from_static("x-their-user")),
            ],
            fixed: vec![(HeaderName::from_static("x-team"), HeaderValue::from_static("ml"))],
        };
        let mut from = HeaderMap::new();
        for (name, value) in client {
            from.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let mut to = HeaderMap::new();
        to.insert("x-team", HeaderValue::from_static("old"));
        headers.put(&mut to, &from, Some(envelope)).map(|()| to)
    }

    #[test]
    fn an_id_is_found_in_metadata_that_goes_no_further() {
        let edited = |body: &str, edit: fn(&mut Envelope)| {
            let mut envelope = Envelope::read(Bytes::copy_from_slice(body.as_bytes())).unwrap();
            edit(&mut envelope);
            put_of(&[], &envelope).unwrap().get("x-their-job").map(|id| id.to_str().unwrap().to_owned())
        };
        let dropped = |envelope: &mut Envelope| assert!(envelope.drop_field("metadata"));
        let renamed = |envelope: &mut Envelope| assert!(envelope.rename("metadata", "labels"));
        let default = |envelope: &mut Envelope| envelope.set_default("metadata", &br#"{"job_id":"d"}"#[..]);
        let body = r#"{"m\u0065tadata":{"job_id":"m"}}"#;
        assert_eq!(edited(body, dropped).as_deref(), Some("m"));
        assert_eq!(edited(body, renamed).as_deref(), Some("m"));
        assert_eq!(edited("{}", default).as_deref(), Some("d"));
        assert_eq!(edited(r#"{"metadata":null}"#, default).as_deref(), Some("d"));
    }

    #[test]
    fn a_runners_id_comes_from_its_header_first_and_from_metadata_else() {
        let to = put(&[("x-galileo-job-id", "h")], r#"{"metadata":{"job_id":"m","user_id":7}}"#).unwrap();
        assert_eq!(to["x-their-job"], "h");
        assert_eq!(to["x-their-user"], "7");
        let to = put(&[("x-galileo-job-id", "")], r#"{"metadata":{"job_id":"m","user_id":""}}"#).unwrap();
        assert_eq!(to["x-their-job"], "m", "an empty header is none");
        assert!(!to.contains_key("x-their-user"), "an empty id is none");
    }

    #[test]
    fn an_id_with_control_characters_is_refused_by_name() {
        for id in [r"a\r\nx-evil: 1", r"a\tb", r"a\u0000", r"a\u007f", r"a\u0085"] {
            let refused = put(&[], &format!(r#"{{"metadata":{{"job_id":"{id}"}}}}"#)).unwrap_err();
            assert_eq!(refused.param, "metadata.job_id");
        }
        let refused = put(&[("x-galileo-user-id", "a\tb")], "{}").unwrap_err();
        assert_eq!(refused.param, "x-galileo-user-id");
        assert!(refused.message.starts_with("x-galileo-user-id goes into the header `x-their-user`"));
    }

    #[test]
    fn only_the_named_client_headers_pass_and_static_ones_override() {
        let to = put(&[("x-tenant", "a"), ("x-tenant", "b"), ("x-other", "c")], "{}").unwrap();
        assert_eq!(to.get_all("x-tenant").iter().count(), 2);
        assert!(!to.contains_key("x-other"));
        assert_eq!(to["x-team"], "ml");
    }

    #[test]
    fn a_header_that_the_client_calls_hop_by_hop_stops_here() {
        let to = put(&[("x-tenant", "a"), ("connection", "close, X-Tenant")], "{}").unwrap();
        assert!(!to.contains_key("x-tenant"));
    }

    #[test]
    fn metadata_that_is_no_object_is_not_our_business() {
        assert!(put(&[], r#"{"metadata":"text"}"#).unwrap().get("x-their-job").is_none());
    }
}
