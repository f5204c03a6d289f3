//! `gcp`: the file with the credentials, or the machine's own metadata server, and the scope.

use std::path::PathBuf;

use http::Uri;

use super::{Authorization, Gcp, GcpSource, egress};
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Reading};

/// Where a machine of Google's asks who it is.
const METADATA_HOST: &str = "metadata.google.internal";
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// Notes what is wrong in the table itself, whether or not it is used.
pub(super) fn check(gcp: &Field<raw::Gcp>, at: &At, r: &mut Reading<'_>) {
    let Some(gcp) = gcp.get() else { return };
    if gcp.credentials_file.is_absent() && gcp.scope.is_absent() && gcp.metadata_host.is_absent() {
        r.warning(at, "`gcp` is empty").help("it may hold credentials_file, scope and metadata_host");
    }
    if gcp.credentials_file.is_given() && gcp.metadata_host.is_given() {
        r.error(&at.key("metadata_host"), "both `credentials_file` and `metadata_host` are given")
            .help("keep the file, or the machine's own account");
    }
    let scope = at.key("scope");
    match gcp.scope.get() {
        Some(text) if text.trim().is_empty() => {
            r.error(&scope, format!("`{scope}` is empty")).help("leave it out, or fill it in");
        }
        Some(text) if text.chars().any(char::is_control) => {
            r.error(&scope, format!("`{scope}` holds a control character"))
                .help("write several scopes with spaces between them");
        }
        _ => {}
    }
}

/// The authorization by `gcp`: its file, else the environment's, else the metadata server.
pub(super) fn settings(gcp: Field<raw::Gcp>, at: &At, r: &mut Reading<'_>) -> Option<Authorization> {
    let raw = match gcp {
        Field::Given(raw) => raw,
        Field::Absent => raw::Gcp::default(),
        Field::Bad => return None,
    };
    let env = r.env;
    let said = |name| env.first(&[name]).map(|(_, value)| value.to_owned());
    let host = match raw.metadata_host {
        Field::Absent => None,
        given => Some(given.given()?),
    };
    let file = match raw.credentials_file {
        Field::Absent if host.is_none() => said("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from),
        Field::Absent => None,
        given => Some(given.given()?),
    };
    let source = match file {
        Some(file) => GcpSource::File(file),
        None => {
            let (variable, host) = match host {
                Some(host) => (None, host),
                None => match env.first(&["GCE_METADATA_HOST"]) {
                    Some((name, host)) => (Some(name), host.to_owned()),
                    None => (None, METADATA_HOST.to_owned()),
                },
            };
            GcpSource::Metadata(metadata(&host, variable, &at.key("metadata_host"), r)?)
        }
    };
    Some(Authorization::Gcp(Gcp { source, scope: raw.scope.given() }))
}

/// Where `host` gives a token, which `variable` named, or else the key `at`.
fn metadata(host: &str, variable: Option<&str>, at: &At, r: &mut Reading<'_>) -> Option<Uri> {
    let url = egress::without_query(&format!("http://{host}{METADATA_PATH}"));
    url.map_err(|(why, _)| {
        let what =
            variable.map_or_else(|| format!("`{at}`"), |name| format!("the environment variable {name}"));
        let problem = r.error(at, format!("{what} {why}"));
        problem.help(format!("name a host alone, with or without a port, such as {METADATA_HOST}"));
        variable.map(|name| problem.of_variable(name));
    })
    .ok()
}
