//! The way out: endpoints, proxies and TLS.

use std::path::PathBuf;

use http::Uri;

use super::{Proxy, Routes, routes};
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Reading};
use crate::secret::Secret;
use crate::tls::{CaMode, Profile, Table};

/// `[egress]`, and what the environment says about proxies.
pub(in crate::config) struct Egress {
    proxy: Choice,
    /// For `http` and for `https`, from the environment.
    environment: [Option<Proxy>; 2],
    no_proxy: Vec<String>,
    ca_file: Option<PathBuf>,
    ca_mode: CaMode,
}

/// What is written for the straight way, and would be taken for a host's name.
const DIRECT: [&str; 6] = ["none", "direct", "off", "no", "false", "null"];

/// What a `proxy` key says.
#[derive(Clone)]
pub(super) enum Choice {
    /// Nothing.
    Unsaid,
    /// `"none"`.
    Direct,
    /// A proxy.
    Through(Proxy),
}

impl Egress {
    pub(in crate::config) fn new(raw: Field<raw::Egress>, r: &mut Reading<'_>) -> Self {
        let at = At::root().key("egress");
        let raw = raw.given().unwrap_or_default();
        if raw.ca_mode.get() == Some(&CaMode::Replace) && raw.ca_file.is_absent() {
            replaces_nothing(&at, r);
        }
        let no_proxy = raw.no_proxy.given().map(|list| (None, list));
        let inherited = || r.env.first(&["NO_PROXY", "no_proxy"]);
        let no_proxy = no_proxy.or_else(|| inherited().map(|(name, list)| (Some(name), list.to_owned())));
        let proxy = choice(raw.proxy, &at.key("proxy"), r);
        let environment = match proxy {
            Choice::Unsaid => [
                from_environment(["HTTP_PROXY", "http_proxy"], r),
                from_environment(["HTTPS_PROXY", "https_proxy"], r),
            ],
            Choice::Direct | Choice::Through(_) => [None, None],
        };
        let (name, list) = no_proxy.unwrap_or_default();
        let words = list.split([',', ' ']).filter(|word| !word.is_empty());
        let no_proxy: Vec<_> = words.map(str::to_lowercase).collect();
        let has_proxy = matches!(proxy, Choice::Through(_)) || environment.iter().any(Option::is_some);
        // What the environment says for other programs is of no interest where nothing is to be spared.
        if name.is_none() || has_proxy {
            warn_of_idle_entries(name, &no_proxy, &at.key("no_proxy"), r);
        }
        Self {
            proxy,
            environment,
            no_proxy,
            ca_file: raw.ca_file.given(),
            ca_mode: raw.ca_mode.or(CaMode::Add),
        }
    }

    /// The ways of an integration whose own `proxy` is `own`. Its own proxy is used for every host; the common one and
    /// the environment's spare the hosts in `no_proxy` and loopback, which no proxy could reach.
    pub(super) fn routes(&self, own: &Choice) -> Routes {
        match own {
            Choice::Direct => return Routes::default(),
            Choice::Through(proxy) => return Routes::always(proxy),
            Choice::Unsaid => {}
        }
        let common = match &self.proxy {
            Choice::Through(proxy) => [Some(proxy.clone()), Some(proxy.clone())],
            Choice::Direct => [None, None],
            Choice::Unsaid => self.environment.clone(),
        };
        Routes::sparing(common, self.no_proxy.clone())
    }

    /// The TLS profile of an integration. `replace` of its own leaves only its own `ca_file`.
    pub(super) fn profile(&self, raw: Option<raw::Tls>, at: &At, r: &mut Reading<'_>) -> Profile {
        let raw = raw.unwrap_or_default();
        check_client_certificate(&raw, at, r);
        let (own, mode) = (raw.ca_file.given(), raw.ca_mode.given());
        if mode == Some(CaMode::Replace) && own.is_none() && self.ca_file.is_none() {
            replaces_nothing(at, r);
        }
        let alone = mode == Some(CaMode::Replace) && own.is_some();
        let common = self.ca_file.clone().filter(|_| !alone);
        Profile {
            table: if at.keys().last() == Some(&"token_tls") { Table::TokenTls } else { Table::Tls },
            ca_files: common.into_iter().chain(own).collect(),
            ca_mode: if mode == Some(CaMode::Replace) { CaMode::Replace } else { self.ca_mode },
            client_cert_file: raw.client_cert_file.given(),
            client_key_file: raw.client_key_file.given(),
            client_key_password_file: raw.client_key_password_file.given(),
            server_name: raw
                .server_name
                .given()
                .and_then(|name| server_name(name, &at.key("server_name"), r)),
            min_version: raw.min_version.or(crate::tls::Version::default()),
            http2: raw.http2.or(false),
        }
    }
}

/// Warns of entries of `no_proxy`, or of the environment variable `name`, that spare no host. No error: other programs
/// may know more than we do, and people use one list for all.
fn warn_of_idle_entries(name: Option<&str>, entries: &[String], at: &At, r: &mut Reading<'_>) {
    for entry in entries {
        let Some(flaw) = routes::flaw(entry) else { continue };
        let list = name.map_or_else(|| format!("`{at}`"), |name| format!("the environment variable {name}"));
        let entry = if r.may_show(at, entry) { format!("{entry:?}") } else { "an entry".to_owned() };
        let problem = r.warning(at, format!("{list} spares no host by {entry}, which {flaw}"));
        problem
            .help("hosts, .suffixes, addresses and ranges are known, each also with a port, and * for all");
        if let Some(name) = name {
            problem.of_variable(name);
        }
    }
}

fn replaces_nothing(at: &At, r: &mut Reading<'_>) {
    r.error(&at.key("ca_mode"), "`ca_mode = \"replace\"` without a `ca_file` would trust nobody")
        .help("name the PEM file in ca_file");
}

fn check_client_certificate(raw: &raw::Tls, at: &At, r: &mut Reading<'_>) {
    let (cert, key, password) = (&raw.client_cert_file, &raw.client_key_file, &raw.client_key_password_file);
    let mut need = |given: &str, missing: &str| {
        r.error(&at.key(given), format!("`{given}` needs `{missing}`"))
            .help(format!("add {missing} beside it"));
    };
    if cert.is_given() && key.is_absent() {
        need("client_cert_file", "client_key_file");
    }
    if key.is_given() && cert.is_absent() {
        need("client_key_file", "client_cert_file");
    }
    if password.is_given() && key.is_absent() {
        need("client_key_password_file", "client_key_file");
    }
}

fn server_name(name: String, at: &At, r: &mut Reading<'_>) -> Option<String> {
    if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
        r.error(at, format!("`{at}` must be a host's name or an IP address")).help("without scheme and port");
        return None;
    }
    Some(name)
}

/// An absolute http or https URL without user, query and fragment. The text is never quoted: it may hold a password.
pub(super) fn url(text: &str, at: &At, r: &mut Reading<'_>) -> Option<Uri> {
    told(without_query(text), at, r)
}

/// Likewise, for who says himself where it stands: what is wrong, and what to do.
pub(super) fn without_query(text: &str) -> Result<Uri, (&'static str, &'static str)> {
    let uri = absolute(text)?;
    if uri.query().is_some() || text.contains('?') {
        return Err(("has a query (`?…`)", "put it into `query = { … }`"));
    }
    text.trim_end_matches('/').parse().map_err(|_| NO_URL)
}

/// Likewise for a token endpoint, which may have a query (RFC 6749 §3.2): it stays as it was written.
pub(super) fn token_url(text: &str, at: &At, r: &mut Reading<'_>) -> Option<Uri> {
    told(absolute(text), at, r)
}

fn told(uri: Result<Uri, (&'static str, &'static str)>, at: &At, r: &mut Reading<'_>) -> Option<Uri> {
    uri.map_err(|(message, help)| {
        r.error(at, format!("`{at}` {message}")).help(help);
    })
    .ok()
}

const NO_URL: (&str, &str) = ("is not a URL", "write it like https://api.example.com/v1");

fn absolute(text: &str) -> Result<Uri, (&'static str, &'static str)> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    Err(match text.parse::<Uri>() {
        _ if !matches!(scheme.as_deref(), Some("https" | "http")) => {
            ("must begin with https:// or http://", "write it like https://api.example.com/v1")
        }
        _ if text.contains('#') => ("has a fragment (`#…`)", "leave it out"),
        Err(_) => NO_URL,
        Ok(uri) if uri.host().unwrap_or_default().is_empty() => {
            ("names no host", "write it like https://api.example.com/v1")
        }
        Ok(uri) if uri.authority().is_some_and(|a| a.as_str().contains('@')) => {
            ("holds a user or a password", "use authentication_type, or a header in `headers`")
        }
        Ok(uri) if is_impossible(uri.host().unwrap_or_default()) => (
            "names a host that there cannot be",
            "correct the host: a part of a name has 1 to 63 letters, and a part of an address is at most 255",
        ),
        Ok(uri) if !has_usable_port(&uri) => ("has no usable port", "leave the `:` out, or name a port"),
        Ok(uri) => return Ok(uri),
    })
}

/// Whether no resolver can find `host`, whatever it knows: one part of the name is empty or too long, or it is an address with
/// a number above 255. What begins with 0 may be octal, which some resolvers take.
fn is_impossible(host: &str) -> bool {
    let parts: Vec<_> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_address = parts.len() == 4 && parts.iter().all(is_number);
    let is_beyond = |part: &&str| !part.starts_with('0') && part.parse::<u8>().is_err();
    parts.iter().any(|part| part.is_empty() || part.len() > 63) || (is_address && parts.iter().any(is_beyond))
}

/// Notes that TLS with `endpoint` could verify no name: its host is none that certificates know, and `profile` says none.
pub(super) fn demand_name(endpoint: &Uri, profile: &Profile, at: &At, r: &mut Reading<'_>) {
    let host = endpoint.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_name = rustls::pki_types::ServerName::try_from(host).is_ok();
    // A wrong `server_name` is told already.
    let says_one = profile.server_name.is_some() || r.places.gives(&at.key("tls").key("server_name"));
    if endpoint.scheme_str() == Some("https") && !is_name && !says_one {
        let at = at.key("endpoint");
        r.error(&at, format!("the host of `{at}` is neither a DNS name nor an IP address")).help(
            "correct the host of `endpoint`, or set `server_name` in `tls` to the name in its certificate",
        );
    }
}

/// Whether the URL names no port at all, or one that there is: `http` takes `:99999` and `:` for none.
pub fn has_usable_port(uri: &Uri) -> bool {
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    // A password may stand before the host, and an address in brackets be it.
    let after_host = authority.rsplit(['@', ']']).next().unwrap_or_default();
    !after_host.contains(':') || uri.port_u16().is_some_and(|port| port > 0)
}

/// What a `proxy` key says.
pub(super) fn choice(raw: Field<String>, at: &At, r: &mut Reading<'_>) -> Choice {
    match raw.given().as_deref() {
        None => Choice::Unsaid,
        Some("none" | "") => Choice::Direct,
        Some(text) if DIRECT.iter().any(|word| text.eq_ignore_ascii_case(word)) => {
            r.error(at, format!("`{at}` names no proxy")).help("did you mean \"none\"?");
            Choice::Direct
        }
        Some(text) => match proxy(text) {
            Ok(proxy) => Choice::Through(proxy),
            Err(why) => {
                r.error(at, format!("`{at}` {why}"))
                    .help(remedy(text, "write http://proxy.example:3128, or \"none\""));
                Choice::Direct
            }
        },
    }
}

fn from_environment(names: [&str; 2], r: &mut Reading<'_>) -> Option<Proxy> {
    let env = r.env;
    let (name, text) = env.first(&names)?;
    match proxy(text) {
        Ok(proxy) => Some(proxy),
        Err(why) => {
            let help = "correct it, or set `proxy` in [egress]: \"none\" is the straight way";
            let help = remedy(text, help);
            r.error(&At::root().key("egress").key("proxy"), format!("the environment variable {name} {why}"))
                .of_variable(name)
                .help(help);
            None
        }
    }
}

/// What to do about the proxy `text`: a password in it may hold what a URL cannot.
fn remedy(text: &str, help: &str) -> String {
    let has_password = text.contains('@');
    let encode =
        "; in a password percent-encode what is special in a URL: `/` is %2F, `#` %23, `?` %3F, `%` %25";
    format!("{help}{}", if has_password { encode } else { "" })
}

/// A proxy's URL; as everywhere, `host:port` means `http://host:port`.
fn proxy(text: &str) -> Result<Proxy, &'static str> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|_| "is not a URL")?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if scheme.starts_with("socks") {
        return Err("is a SOCKS proxy, which is not spoken here: it must be an http:// or https:// proxy");
    }
    if !matches!(scheme, "http" | "https") {
        return Err("must be an http:// or https:// proxy");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("must not have a path or a query");
    }
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let shown = authority.rsplit('@').next().unwrap_or_default();
    if shown.is_empty() || shown.starts_with(':') {
        return Err("names no host");
    }
    if !has_usable_port(&uri) {
        return Err("has no usable port");
    }
    Ok(Proxy::Through { url: Secret::new(full.trim_end_matches('/')), shown: format!("{scheme}://{shown}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_breaks_the_url_is_told_how_to_stand_in_it() {
        assert!(proxy("http://me:p/w@proxy.corp:3128").is_err());
        assert!(remedy("http://me:p/w@proxy.corp:3128", "write it").ends_with("`%` %25"));
        assert_eq!(remedy("socks5://proxy.corp", "write it"), "write it");
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let Ok(Proxy::Through { url, shown }) = proxy("http://me:s3cret@proxy.corp:3128/") else {
            panic!("refused")
        };
        assert_eq!(url.expose(), "http://me:s3cret@proxy.corp:3128");
        assert_eq!(shown, "http://proxy.corp:3128");
        assert!(
            matches!(proxy("proxy.corp:3128"), Ok(Proxy::Through { shown, .. }) if shown == "http://proxy.corp:3128")
        );
        assert!(
            matches!(proxy("http://me:s3cret@proxy.corp"), Ok(Proxy::Through { shown, .. }) if shown == "http://proxy.corp")
        );
        for bad in [
            "http://me:s3cret@proxy:",
            "http://[::1]:0",
            "socks5://proxy:1080",
            "http://",
            "http://proxy/path",
            "http://a b",
            "http://:3128",
        ] {
            assert!(proxy(bad).is_err(), "{bad} was taken");
        }
    }
}
