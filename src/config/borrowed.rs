//! Keys as LiteLLM, OpenAI's clients and others call them, and where the same is said here.

use super::places::At;
use super::valid::PARAMETERS;

/// Where what a borrowed key says belongs.
pub(super) struct Meant {
    /// The key of the same table that it stands for, if it is one.
    pub(super) key: Option<&'static str>,
    /// What to do.
    pub(super) help: String,
}

/// Names that stand for a key of the integration: that key, and what else is to be known, if something is.
const KEYS: [(&[&str], &str, &str); 17] = [
    (
        &["api_key", "key", "secret_key", "openai_api_key", "azure_api_key", "anthropic_api_key"],
        "api_key_value",
        "It is sent as it is, `Bearer ` included, in the header `api_key_header`; `api_key` in [server] is what callers present",
    ),
    (&["api_key_file", "key_file", "api_key_path"], "api_key_value_file", ""),
    (&["header", "auth_header", "api_key_name", "key_header"], "api_key_header", ""),
    (&["auth", "auth_type", "authentication", "authorization"], "authentication_type", ""),
    (
        &["token_url", "token_uri", "token_endpoint", "oauth_token_url", "oauth2_url", "auth_url"],
        "oauth2_token_url",
        "",
    ),
    (&["scope", "scopes", "oauth2_scope", "token_scope"], "authentication_scope", ""),
    (
        &[
            "base_url",
            "url",
            "uri",
            "base",
            "host",
            "api_base",
            "api_url",
            "api_endpoint",
            "openai_api_base",
            "azure_endpoint",
        ],
        "endpoint",
        "It is the base URL, to which `format` appends the rest",
    ),
    (
        &[
            "model",
            "model_name",
            "model_id",
            "model_list",
            "deployment",
            "deployment_id",
            "deployment_name",
            "azure_deployment",
        ],
        "models",
        "It is a list: models = [\"…\"]; what clients call a model is `alias` in `model_properties`",
    ),
    (
        &["extra_headers", "default_headers", "custom_headers", "http_headers", "additional_headers"],
        "headers",
        "",
    ),
    (&["extra_query", "default_query", "query_params", "query_parameters", "params"], "query", ""),
    (&["extra_body", "default_params", "model_kwargs", "parameters"], "defaults", ""),
    (
        &["custom_llm_provider", "api_type", "type", "kind", "dialect", "protocol", "provider_type"],
        "format",
        "",
    ),
    (&["http_proxy", "https_proxy", "all_proxy", "proxies", "proxy_url"], "proxy", ""),
    (
        &["drop_params", "additional_drop_params", "exclude"],
        "drop",
        "It is a list of fields of the OpenAI body",
    ),
    (&["ssl", "mtls"], "tls", ""),
    (&["azure_api_version", "version"], "api_version", ""),
    (&["handler", "custom_handler"], "custom_llm_config", ""),
];

/// Names that stand for what is said in a table of the integration, and how it is written.
const TABLES: [(&[&str], &str); 20] = [
    (
        &["timeout", "request_timeout", "stream_timeout", "read_timeout", "timeout_seconds", "timeout_ms"],
        "the times are `limits = { first_byte = \"600s\", idle = \"120s\" }`: until the answer begins, and the longest silence in it",
    ),
    (&["connect_timeout"], "it is `limits = { connect = \"5s\" }`"),
    (&["queue_timeout"], "it is `limits = { queue_timeout = \"30s\" }`"),
    (
        &["max_parallel_requests", "max_concurrent_requests", "max_connections", "concurrency", "parallel"],
        "it is `limits = { max_concurrent = 1024 }`",
    ),
    (
        &["client_cert", "client_certificate", "ssl_certificate", "cert", "cert_file", "client_cert_path"],
        "it is `tls = { client_cert_file = \"…\", client_key_file = \"…\" }`",
    ),
    (
        &["client_key", "ssl_key", "client_key_path", "cert_key"],
        "it is `client_key_file` beside `client_cert_file` in `tls = { … }`",
    ),
    (
        &[
            "ca",
            "ca_bundle",
            "ca_cert",
            "ca_certs",
            "ca_file",
            "cafile",
            "ca_path",
            "ssl_ca_cert",
            "ssl_cert_file",
            "root_ca",
        ],
        "it is `tls = { ca_file = \"…\" }`, or `ca_file` in [egress] for every integration",
    ),
    (
        &[
            "verify",
            "verify_ssl",
            "ssl_verify",
            "tls_verify",
            "insecure",
            "skip_verify",
            "insecure_skip_verify",
            "tls_skip_verify",
        ],
        "certificates are always verified: name the authority that signed the provider's in `tls = { ca_file = \"…\" }`",
    ),
    (&["server_name", "sni", "tls_server_name"], "it is `tls = { server_name = \"…\" }`"),
    (&["http2"], "it is `tls = { http2 = true }`"),
    (
        &["organization", "org", "openai_organization", "org_id"],
        "it is `headers = { OpenAI-Organization = \"…\" }`",
    ),
    (
        &["project", "openai_project"],
        "OpenAI's is `headers = { OpenAI-Project = \"…\" }`; Google's stands in `endpoint`",
    ),
    (&["vertex_project", "vertex_location", "location"], "it stands in `endpoint`, as Google's URL has it"),
    (
        &[
            "vertex_credentials",
            "credentials",
            "credentials_file",
            "google_application_credentials",
            "service_account_file",
        ],
        "Google's are `gcp = { credentials_file = \"…\" }`, with authentication_type = \"gcp\"",
    ),
    (&["region", "aws_region", "aws_region_name"], "it is `aws = { region = \"…\" }`"),
    (
        &[
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
            "access_key_id",
            "secret_access_key",
        ],
        "AWS's keys are `aws = { access_key_id_file = \"…\", secret_access_key_file = \"…\" }`, with authentication_type = \"aws_sigv4\"",
    ),
    (&["aws_role_name", "aws_role_arn", "role_arn"], "it is `aws = { role_arn = \"…\" }`"),
    (
        &["max_retries", "num_retries", "retries", "retry"],
        "leave it out: what the provider answers is not asked for again here, the client's own retries decide",
    ),
    (
        &["client_auth", "auth_method", "token_endpoint_auth_method"],
        "it is `oauth2 = { client_auth = \"…\" }`: \"post\" or \"basic\"",
    ),
    (&["max_files", "max_file_size_bytes"], "it is a key of `multi_modal_config = { … }`"),
];

/// Names in an integration's `oauth2` that stand for a key of the integration itself, or of the table.
const IN_OAUTH2: [(&[&str], &str); 3] = [
    (&["token_url", "token_uri", "token_endpoint", "url"], "oauth2_token_url"),
    (&["scope", "scopes"], "authentication_scope"),
    (&["token"], "token"),
];

/// Names in a `tls` that stand for one of its keys.
const IN_TLS: [(&[&str], &str); 3] = [
    (&["cert", "cert_file", "client_cert", "certificate"], "client_cert_file"),
    (&["key", "key_file", "client_key"], "client_key_file"),
    (&["ca", "ca_bundle", "ca_cert", "cafile", "root_ca"], "ca_file"),
];

/// What `key`, which is unknown in the table at `at`, is called here.
pub(super) fn meant(at: &At, key: &str) -> Option<Meant> {
    let name = at.integration_name()?;
    let table = At::integration(name);
    let keys = at.keys();
    let is = |names: &&[&str]| names.iter().any(|other| flat(other) == flat(key));
    let found = match keys.as_slice() {
        [_, _] => return of_integration(key),
        [_, _, "oauth2"] => {
            let own = IN_OAUTH2.iter().find(|(names, _)| is(names));
            own.map(|(_, own)| Meant { key: None, help: format!("it is `{own}` in [{table}]") })
        }
        [_, _, "tls" | "token_tls"] => match IN_TLS.iter().find(|(names, _)| is(names)) {
            Some((_, own)) => Some(Meant { key: Some(own), help: format!("did you mean `{own}`?") }),
            None => TABLES.iter().find(|(names, _)| names.contains(&"verify") && is(names)).map(to_table),
        },
        _ => None,
    };
    // In [server] it would be the key of the callers.
    let is_api_key = flat(key) == flat("api_key");
    found.or_else(|| {
        is_api_key
            .then(|| Meant { key: None, help: format!("the provider's is `api_key_value` in [{table}]") })
    })
}

fn of_integration(key: &str) -> Option<Meant> {
    let is = |names: &&[&str]| names.iter().any(|other| flat(other) == flat(key));
    if let Some((_, own, more)) = KEYS.iter().find(|(names, ..)| is(names)) {
        let more = if more.is_empty() { String::new() } else { format!(" {more}") };
        return Some(Meant { key: Some(own), help: format!("did you mean `{own}`?{more}") });
    }
    let in_table = TABLES.iter().find(|(names, _)| is(names)).map(to_table);
    in_table.or_else(|| {
        let (_, field) = PARAMETERS.iter().find(|(own, wire)| *own == key || *wire == key)?;
        let help = format!("what is set where a client gave none stands in `defaults = {{ {field} = … }}`");
        Some(Meant { key: None, help })
    })
}

fn to_table((_, help): &(&[&str], &str)) -> Meant {
    Meant { key: None, help: (*help).to_owned() }
}

/// A key without what only the manner of writing it adds: `baseURL` is `base_url`.
fn flat(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn what_is_borrowed_stands_for_keys_that_there_are_and_is_none_itself() {
        let at = At::integration("acme");
        let known = keys::of(&at).unwrap();
        for (names, own, _) in KEYS {
            assert!(known.contains(&own), "{own}");
            for name in names {
                assert!(!known.contains(name), "{name} is a key");
                assert_eq!(meant(&at, name).and_then(|meant| meant.key), Some(own), "{name}");
            }
        }
        for (names, help) in TABLES {
            for name in names {
                assert!(!known.contains(name), "{name} is a key");
                assert_eq!(meant(&at, name).map(|meant| meant.help).as_deref(), Some(help), "{name}");
            }
        }
        for (table, rows) in [("tls", IN_TLS), ("token_tls", IN_TLS)] {
            let known = keys::of(&at.key(table)).unwrap();
            for (names, own) in rows {
                assert!(known.contains(&own) && names.iter().all(|name| !known.contains(name)), "{own}");
            }
        }
        let (inner, outer) = (keys::of(&at.key("oauth2")).unwrap(), known);
        for (names, own) in IN_OAUTH2 {
            assert!(outer.contains(&own) && names.iter().all(|name| !inner.contains(name)), "{own}");
        }
    }

    #[test]
    fn the_manner_of_writing_makes_no_difference_and_other_tables_borrow_nothing() {
        let at = At::integration("acme");
        for key in ["baseURL", "base-url", "BASE_URL"] {
            assert_eq!(meant(&at, key).and_then(|meant| meant.key), Some("endpoint"), "{key}");
        }
        assert!(meant(&At::root().key("server"), "api_key").is_none());
        assert!(meant(&at, "nothing_that_anyone_knows").is_none());
    }
}
