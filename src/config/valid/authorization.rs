//! How an integration gets its right to enter: `authentication_type` and what each kind needs.

use http::{HeaderName, HeaderValue, Uri};

use super::credential::{self, Token};
use super::{Authorization, ClientAuth, OAuth2, SecretSource, aws, doubt, egress, gcp, headers, is_random};
use crate::config::places::{At, shown_key};
use crate::config::raw::{self, AuthenticationType as Type, ClientAuthentication};
use crate::config::read::{Field, Pairs, Reading, Scalar};
use crate::config::{borrowed, keys};
use crate::files;
use crate::secret::Secret;

/// The fields of an integration that concern its authorization.
pub(super) struct Fields {
    pub(super) kind: Field<Type>,
    pub(super) api_key_header: Field<String>,
    pub(super) api_key_value: Field<SecretSource>,
    pub(super) token_url: Field<String>,
    pub(super) scope: Field<String>,
    pub(super) token: Field<SecretSource>,
    pub(super) oauth2: Field<raw::OAuth2>,
    pub(super) aws: Field<raw::Aws>,
    pub(super) gcp: Field<raw::Gcp>,
    pub(super) has_token_tls: bool,
}

/// The authorization of the integration at `at`, whose tokens come from `endpoint` unless another URL is given.
pub(super) fn authorization(fields: Fields, endpoint: &Uri, at: &At, r: &mut Reading<'_>) -> Authorization {
    let kind = match &fields.kind {
        Field::Given(kind) => *kind,
        Field::Bad => return Authorization::None,
        Field::Absent => match default_kind(&fields, at, r) {
            Some(kind) => kind,
            None => return Authorization::None,
        },
    };
    warn_unused(&fields, kind, at, r);
    aws::check(&fields.aws, &at.key("aws"), r);
    gcp::check(&fields.gcp, &at.key("gcp"), r);
    match kind {
        Type::None => Authorization::None,
        Type::ApiKey => api_key(fields, at, r).unwrap_or(Authorization::None),
        Type::OAuth2 => oauth2(fields, endpoint, at, r).unwrap_or(Authorization::None),
        Type::AwsSigV4 => {
            aws::settings(fields.aws, endpoint, &at.key("aws"), r).unwrap_or(Authorization::None)
        }
        Type::Gcp => gcp::settings(fields.gcp, &at.key("gcp"), r).unwrap_or(Authorization::None),
        Type::Signature => Authorization::Later("signature"),
    }
}

impl Authorization {
    /// The headers that it puts on requests, whatever else is set there.
    pub(super) fn headers(&self) -> Vec<HeaderName> {
        match self {
            Self::None | Self::Later(_) => Vec::new(),
            Self::ApiKey { header, .. } => vec![header.clone()],
            Self::OAuth2(oauth2) => vec![oauth2.header.clone()],
            Self::SigV4(_) | Self::Gcp(_) => vec![http::header::AUTHORIZATION],
        }
    }
}

/// Galileo's default is `oauth2`; where nothing of it is given, something else was meant.
fn default_kind(fields: &Fields, at: &At, r: &mut Reading<'_>) -> Option<Type> {
    let has_oauth2 = !(fields.token_url.is_absent() && fields.token.is_absent() && fields.oauth2.is_absent());
    if has_oauth2 {
        return Some(Type::OAuth2);
    }
    let help = if fields.api_key_header.is_absent() && fields.api_key_value.is_absent() {
        "set authentication_type = \"none\", \"api_key\" or \"oauth2\"; without it Galileo's default is oauth2"
    } else {
        "set authentication_type = \"api_key\"; without it Galileo's default is oauth2"
    };
    r.error(
        &at.key("authentication_type"),
        "`authentication_type` is not given, and nothing of its default `oauth2` is",
    )
    .help(help);
    None
}

fn warn_unused(fields: &Fields, kind: Type, at: &At, r: &mut Reading<'_>) {
    // A secret may stand in its twin, maybe of another file: what is not used is what somebody wrote.
    let written = |field: &Field<SecretSource>, key: &'static str| {
        field.get().map_or_else(|| key.to_owned(), |secret| secret.key(key))
    };
    let (value, token) = (written(&fields.api_key_value, "api_key_value"), written(&fields.token, "token"));
    let all = [
        ("api_key_header", fields.api_key_header.is_given(), Type::ApiKey),
        (&value, fields.api_key_value.is_given(), Type::ApiKey),
        ("oauth2_token_url", fields.token_url.is_given(), Type::OAuth2),
        (
            "authentication_scope",
            fields.scope.get().is_some_and(|scope| !scope.trim().is_empty()),
            Type::OAuth2,
        ),
        (&token, fields.token.is_given(), Type::OAuth2),
        ("oauth2", fields.oauth2.is_given(), Type::OAuth2),
        ("aws", fields.aws.is_given(), Type::AwsSigV4),
        ("gcp", fields.gcp.is_given(), Type::Gcp),
    ];
    for (key, given, wanted) in all {
        if given && kind != wanted {
            let message = format!("`{key}` is not used: authentication_type is {}", word(kind));
            r.warning(&at.key(key), message)
                .help(format!("leave it out, or set authentication_type = {}", word(wanted)));
        }
    }
    if fields.has_token_tls && matches!(kind, Type::None | Type::ApiKey) {
        let message = format!("`token_tls` is not used: authentication_type is {}", word(kind));
        r.warning(&at.key("token_tls"), message)
            .help("leave it out: only a token endpoint is asked for with it, and `tls` is for the endpoint");
    }
}

fn word(kind: Type) -> &'static str {
    match kind {
        Type::None => "\"none\"",
        Type::ApiKey => "\"api_key\"",
        Type::OAuth2 => "\"oauth2\"",
        Type::AwsSigV4 => "\"aws_sigv4\"",
        Type::Gcp => "\"gcp\"",
        Type::Signature => "\"signature\"",
    }
}

fn api_key(fields: Fields, at: &At, r: &mut Reading<'_>) -> Option<Authorization> {
    for (key, absent) in [
        ("api_key_header", fields.api_key_header.is_absent()),
        ("api_key_value", fields.api_key_value.is_absent()),
    ] {
        if absent {
            let help = match key {
                "api_key_header" => "name the header, such as api_key_header = \"Authorization\"",
                _ => {
                    "set api_key_value or api_key_value_file; the value is sent as it is, `Bearer ` included"
                }
            };
            r.error(&at.key(key), format!("`{at}`: authentication_type = \"api_key\" needs `{key}`"))
                .help(help);
        }
    }
    let header = fields.api_key_header.given().and_then(|text| {
        let at = at.key("api_key_header");
        if is_random(&text) {
            r.error(&at, format!("`{at}` looks like a key, not like the name of a header"))
                .help("if it is the key, it belongs into api_key_value or api_key_value_file; this names the header that it is sent in");
            return None;
        }
        headers::name(&text, &at, r)
    });
    let value = fields.api_key_value.given();
    if let Some(SecretSource::Inline(secret)) = &value {
        let at = at.key("api_key_value");
        if !r.judge(secret.expose(), &at) {
            return None;
        }
        headers::value(secret.expose(), &at, r)?;
        if let Some(header) = header.as_ref().filter(|_| doubt::doubt(secret.expose()).is_none())
            && let Some(doubt) = doubt::doubt_in_header(header, secret.expose())
        {
            r.warning(&at, format!("`{at}` {doubt} (`{header}`)")).help(doubt.help("api_key_value"));
        }
    }
    Some(Authorization::ApiKey { header: header?, value: value? })
}

fn oauth2(fields: Fields, endpoint: &Uri, at: &At, r: &mut Reading<'_>) -> Option<Authorization> {
    let is_endpoint = fields.token_url.is_absent();
    let token_url = match fields.token_url.given() {
        Some(text) => egress::token_url(&text, &at.key("oauth2_token_url"), r),
        None => Some(endpoint.clone()),
    };
    let table = at.key("oauth2");
    let raw = fields.oauth2.given().unwrap_or_default();
    let token = token(fields.token, &raw, at, r);
    let method = raw.client_auth.get().copied().unwrap_or(ClientAuthentication::Post);
    check_method(&raw, method, &table, r);
    let secret_is_absent = raw.client_secret.is_absent();
    // What is wrong with them is noted already, or is the world's: nothing stands in for them.
    let id_is_bad = raw.client_id.is_bad();
    let is_bad = token.is_none() || id_is_bad || raw.client_secret.is_bad();
    let given_id = raw.client_id.given();
    let client_id = given_id.clone().or_else(|| token.as_ref()?.id.clone());
    let client_secret = raw.client_secret.given().or_else(|| token.as_ref()?.secret.clone());
    let needs_secret = matches!(method, ClientAuthentication::Post | ClientAuthentication::Basic);
    if token.is_some() {
        let written = token.as_ref().and_then(|token| token.written.as_ref());
        let lacks_id = !id_is_bad && client_id.as_deref().is_none_or(|id| id.trim().is_empty());
        let lacks_secret = needs_secret && secret_is_absent && client_secret.is_none();
        check_token(written, [("client_id", lacks_id), ("client_secret", lacks_secret)], at, r);
    }
    check_id(given_id.as_deref(), client_id.as_deref(), &table.key("client_id"), r);
    let oauth2 = OAuth2 {
        token_url: token_url?,
        is_endpoint,
        hidden_path: Vec::new(),
        client_id: client_id.unwrap_or_default(),
        client_secret: client_secret.unwrap_or_else(|| SecretSource::Inline(Secret::new(""))),
        client_auth: if method == ClientAuthentication::Basic { ClientAuth::Basic } else { ClientAuth::Post },
        scope: fields.scope.given().filter(|scope| !scope.trim().is_empty()),
        audience: raw.audience.given(),
        resource: raw.resource.given(),
        extra_params: parameters(raw.extra_params, &table.key("extra_params"), r),
        extra_headers: headers::fixed(raw.extra_headers, &table.key("extra_headers"), r),
        header: carrier(raw.header, &table.key("header"), r),
        prefix: prefix(raw.prefix, &table.key("prefix"), r),
        token_field: field_name(raw.token_field, "access_token", &table.key("token_field"), r),
        expires_field: field_name(raw.expires_field, "expires_in", &table.key("expires_field"), r),
    };
    if is_bad {
        return None;
    }
    Some(match method {
        ClientAuthentication::Post | ClientAuthentication::Basic => Authorization::OAuth2(Box::new(oauth2)),
        ClientAuthentication::PrivateKeyJwt => {
            Authorization::Later("oauth2 with client_auth private_key_jwt")
        }
        ClientAuthentication::TlsClientAuth => {
            Authorization::Later("oauth2 with client_auth tls_client_auth")
        }
        ClientAuthentication::AssertionFile => Authorization::Later("oauth2 with client_auth assertion_file"),
    })
}

/// Looks at the client's id, as it was given at `at` and as it is used.
fn check_id(given: Option<&str>, used: Option<&str>, at: &At, r: &mut Reading<'_>) {
    if let Some(doubt) = given.and_then(doubt::doubt) {
        r.warning(at, format!("`{at}` {doubt}")).help(doubt.help("client_id"));
    }
    if used.is_some_and(|id| id.chars().any(char::is_control)) {
        r.error(at, "`client_id` holds a control character").help("write it without, on one line");
    }
}

/// The client's id and secret as the `token` gives them.
#[derive(Default)]
struct Credentials {
    id: Option<String>,
    secret: Option<SecretSource>,
    written: Option<Written>,
}

/// The key that gives the token, and the names of what in it is not known.
struct Written {
    at: At,
    others: Vec<String>,
}

/// What `token` or `token_file` holds besides what `oauth2` says itself; nothing in it if neither is given, `None` if
/// something is wrong with it. What is not needed may be wrong: an export of Galileo's has stars there.
fn token(
    field: Field<SecretSource>,
    oauth2: &raw::OAuth2,
    at: &At,
    r: &mut Reading<'_>,
) -> Option<Credentials> {
    let (at, file_at) = (at.key("token"), at.key("token_file"));
    let unread: &[&str] = match (oauth2.client_id.is_absent(), oauth2.client_secret.is_absent()) {
        (false, false) => return Some(Credentials::default()),
        (true, false) => &["client_secret"],
        (_, true) => &[],
    };
    match field {
        Field::Absent => Some(Credentials::default()),
        Field::Bad => None,
        Field::Given(SecretSource::File(file) | SecretSource::Token { file, .. }) => {
            r.files.insert(file.clone(), files::print(&file));
            match Token::read(&file, unread) {
                Ok(token) => {
                    let client_id = token.client_id.clone().unwrap_or_default();
                    let secret = token.client_secret.map(|_| SecretSource::Token { file, client_id });
                    let written = Some(Written { at: file_at, others: token.others });
                    Some(Credentials { id: token.client_id, secret, written })
                }
                Err(why) => {
                    r.world_is_wrong(&file_at, why);
                    None
                }
            }
        }
        Field::Given(SecretSource::Inline(secret)) => inline_token(secret.expose(), unread, &at, r),
    }
}

/// The forms are expanded inside the JSON, so that a value cannot break out of it. A text that becomes JSON only by
/// expanding (`token = "${TOKEN}"`) is expanded as a whole.
fn inline_token(text: &str, unread: &[&str], at: &At, r: &mut Reading<'_>) -> Option<Credentials> {
    // Lines may lay out the JSON; each text in it is checked by itself.
    if let Err(flaw) = credential::check(&text.replace(char::is_control, " ")) {
        r.flaw(flaw, at);
        return None;
    }
    let is_json = serde_json::from_str::<serde_json::Value>(text).is_ok();
    let parsed = if is_json {
        Token::parse(text, unread, |inner| r.expand_text(inner, at).ok_or(()))
    } else {
        let whole = r.expand_text(text, at)?;
        Token::parse(&whole, unread, |inner| Ok(inner.to_owned()))
    };
    match parsed {
        Ok(token) => {
            let token = token?;
            let secret = token.client_secret.as_ref().map(Secret::expose);
            for (name, text) in [("client_id", token.client_id.as_deref()), ("client_secret", secret)] {
                if let Some(doubt) = text.and_then(doubt::doubt) {
                    r.warning(at, format!("`{at}`: its {name} {doubt}")).help(doubt.help(name));
                }
            }
            let written = Some(Written { at: at.clone(), others: token.others });
            let secret = token.client_secret.map(SecretSource::Inline);
            Some(Credentials { id: token.client_id, secret, written })
        }
        Err(why) => {
            let help = "or set client_id and client_secret in `oauth2 = { … }`";
            r.error(at, format!("`token`: {why}")).help(help);
            None
        }
    }
}

/// So many of the names in a token are told.
const MOST_NAMED: usize = 5;

fn check_token(written: Option<&Written>, lacks: [(&str, bool); 2], at: &At, r: &mut Reading<'_>) {
    for (what, _) in lacks.iter().filter(|(_, is_missing)| *is_missing) {
        missing_credential(what, written, at, r);
    }
    // What is missing is told with the names of what is there.
    if lacks.iter().all(|(_, is_missing)| !is_missing) {
        warn_unread(written, at, r);
    }
}

fn missing_credential(what: &str, written: Option<&Written>, at: &At, r: &mut Reading<'_>) {
    if let Some(Written { at, others }) = written {
        let flat = |key: &str| key.replace(['_', '-'], "").to_lowercase();
        let near = others.iter().find(|key| flat(key) == flat(what) || flat(what).ends_with(&flat(key)));
        let found: Vec<_> =
            others.iter().take(MOST_NAMED).map(|key| format!("`{}`", shown_key(key))).collect();
        let (message, help) = match near {
            Some(near) => (
                format!("`{at}` has no `{what}` in it, and `{near}` in its place"),
                format!("write `{what}`, for no other name is read"),
            ),
            None if found.is_empty() => {
                (format!("`{at}` has no `{what}` in it"), format!("write `{what}` into it"))
            }
            None => (
                format!("`{at}` has no `{what}` in it: besides what is known there is {}", found.join(", ")),
                format!("write `{what}` into it"),
            ),
        };
        r.error(at, message).help(format!("{help}, or set it in `oauth2 = {{ … }}`"));
        return;
    }
    let table = at.key("oauth2").key(what);
    let help = match what {
        "client_id" => "set `oauth2 = { client_id = \"…\" }`, or `token` with both",
        _ => "set `oauth2 = { client_secret_file = \"…\" }`, or `token` with both",
    };
    r.error(&table, format!("`{at}`: oauth2 needs a `{what}`")).help(help);
}

/// Warns of what a token holds and nobody reads there.
fn warn_unread(written: Option<&Written>, integration: &At, r: &mut Reading<'_>) {
    let Some(Written { at, others }) = written else { return };
    for key in others.iter().take(MOST_NAMED) {
        let has = |table: &At| keys::of(table).is_some_and(|known| known.contains(&key.as_str()));
        let help = if has(&integration.key("oauth2")) {
            format!("it belongs in `oauth2 = {{ {key} = … }}`")
        } else if let Some(own) = borrowed::meant(integration, key).and_then(|meant| meant.key) {
            format!("it is `{own}` in [{integration}]")
        } else if has(integration) {
            format!("it belongs in [{integration}]")
        } else {
            "leave it out".to_owned()
        };
        let message =
            format!("`{}` in `{at}` is not read: only client_id and client_secret are", shown_key(key));
        r.warning(at, message).help(help);
    }
}

/// What the other ways of proving oneself need, and what they do not use.
fn check_method(raw: &raw::OAuth2, method: ClientAuthentication, at: &At, r: &mut Reading<'_>) {
    let is_jwt = method == ClientAuthentication::PrivateKeyJwt;
    if is_jwt && raw.signing_key_file.is_absent() {
        r.error(&at.key("client_auth"), "`client_auth = \"private_key_jwt\"` needs `signing_key_file`")
            .help("name the PEM file of the private key");
    }
    let is_assertion = method == ClientAuthentication::AssertionFile;
    if is_assertion
        && raw.assertion_file.is_absent()
        && r.env.first(&["AZURE_FEDERATED_TOKEN_FILE"]).is_none()
    {
        r.error(&at.key("client_auth"), "`client_auth = \"assertion_file\"` needs `assertion_file`")
            .help("name the file, or set AZURE_FEDERATED_TOKEN_FILE");
    }
    for (key, given, used, wanted) in [
        ("signing_key_file", raw.signing_key_file.is_given(), is_jwt, "private_key_jwt"),
        ("signing_alg", raw.signing_alg.is_given(), is_jwt, "private_key_jwt"),
        ("key_id", raw.key_id.is_given(), is_jwt, "private_key_jwt"),
        ("signing_cert_file", raw.signing_cert_file.is_given(), is_jwt, "private_key_jwt"),
        ("assertion_audience", raw.assertion_audience.is_given(), is_jwt, "private_key_jwt"),
        ("assertion_file", raw.assertion_file.is_given(), is_assertion, "assertion_file"),
    ] {
        if given && !used {
            r.warning(&at.key(key), format!("`{key}` is not used"))
                .help(format!("it belongs to client_auth = \"{wanted}\""));
        }
    }
}

fn parameters(raw: Field<Pairs<Scalar>>, at: &At, r: &mut Reading<'_>) -> Vec<(String, String)> {
    const OURS: [(&str, &str); 6] = [
        ("grant_type", "it is always client_credentials"),
        ("client_id", "set oauth2.client_id"),
        ("client_secret", "set oauth2.client_secret or client_secret_file"),
        ("scope", "set authentication_scope"),
        ("audience", "set oauth2.audience"),
        ("resource", "set oauth2.resource"),
    ];
    let pairs = raw.given().map(|pairs| pairs.0).unwrap_or_default();
    for (key, _) in &pairs {
        if let Some((_, help)) = OURS.iter().find(|(ours, _)| ours == key) {
            r.error(&at.key(key), format!("`{key}` cannot be one of `extra_params`")).help(*help);
        }
    }
    pairs.into_iter().map(|(key, value)| (key, value.0)).collect()
}

fn carrier(raw: Field<String>, at: &At, r: &mut Reading<'_>) -> HeaderName {
    let name = raw.given().and_then(|text| headers::name(&text, at, r));
    name.unwrap_or(http::header::AUTHORIZATION)
}

fn prefix(raw: Field<String>, at: &At, r: &mut Reading<'_>) -> String {
    let prefix = raw.or("Bearer ".to_owned());
    if HeaderValue::from_str(&prefix).is_err() {
        r.error(at, format!("`{at}` cannot stand in a header"))
            .help("write it like \"Bearer \", its space included");
    } else if prefix.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        r.warning(at, format!("`{at}` ends without a space: the token follows at once"))
            .help("write it like \"Bearer \", its space included");
    }
    prefix
}

fn field_name(raw: Field<String>, default: &str, at: &At, r: &mut Reading<'_>) -> String {
    let name = raw.or(default.to_owned());
    if name.trim().is_empty() {
        r.error(at, format!("`{at}` is empty")).help(format!("leave it out for `{default}`"));
    }
    name
}
