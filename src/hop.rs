//! The fields of HTTP that belong to one connection alone: whoever passes a message on says its own, or none (RFC 9110
//! §7.6.1).

use http::header::{CONNECTION, HeaderMap, HeaderName};

/// Whether `name` is one of them, whatever `connection` says. Each room that passes something on has more that it keeps.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

/// The names that stand in `connection`, as they were written: of fields that belong to this connection too.
pub fn connection_named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_connection_names_is_found_in_each_of_its_fields() {
        let mut headers = HeaderMap::new();
        for value in ["close, X-Hop", "x-more"] {
            headers.append(CONNECTION, HeaderValue::from_static(value));
        }
        assert_eq!(connection_named(&headers).collect::<Vec<_>>(), ["close", "X-Hop", "x-more"]);
    }
}
