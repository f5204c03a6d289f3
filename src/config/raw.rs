//! What a user may write: the tables and their keys, each field still by itself.
//!
//! This is the one list of keys. A key that does not stand here is unknown; `valid` turns these into settings.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;

use super::places::At;
use super::read::{Field, Many, Pairs, Read, Reading, Scalar, Size};
use super::valid::{CallStyle, Level, LogFormat, SecretSource};
use crate::dialect::Format;
use crate::tls::{CaMode, Version};

/// Declares tables: their fields, their secrets (each with its twin `_file`), and keys that are accepted and ignored.
macro_rules! tables {
    ($(
        $(#[$doc:meta])*
        $table:ident $(secrets [$($secret:ident),*])? $(ignored [$($ignored:ident),*])? { $($key:ident: $kind:ty,)* }
    )*) => {
        $(
            $(#[$doc])*
            pub(super) struct $table {
                $(pub(super) $key: Field<$kind>,)*
                $($(pub(super) $secret: Field<SecretSource>,)*)?
            }

            impl $table {
                pub(super) const KEYS: &[&str] = &[
                    $(stringify!($key),)*
                    $($(stringify!($secret), concat!(stringify!($secret), "_file"),)*)?
                    $($(stringify!($ignored),)*)?
                ];

                /// Those of them that a user would write.
                #[cfg(test)]
                const WRITTEN: &[&str] = &[$(stringify!($key),)* $($(stringify!($secret),)*)?];
            }

            /// The table where nothing is written.
            impl Default for $table {
                fn default() -> Self {
                    Self { $($key: Field::Absent,)* $($($secret: Field::Absent,)*)? }
                }
            }

            impl Read for $table {
                fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
                    let Some(dict) = reading.table(value, at) else { return Field::Bad };
                    reading.refuse_unknown(&dict, at, Self::KEYS, ELSEWHERE);
                    Field::Given(Self {
                        $($key: reading.field(&dict, at, stringify!($key)),)*
                        $($($secret: reading.secret(&dict, at, stringify!($secret)),)*)?
                    })
                }
            }
        )*

        /// Whether any table has a key of this name.
        pub(super) fn is_known_key(key: &str) -> bool {
            false $(|| $table::KEYS.contains(&key))*
        }

        /// Every key that a user would write.
        #[cfg(test)]
        pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
            [$($table::WRITTEN),*].into_iter().flatten().copied()
        }
    };
}

/// Keys that are often put into the wrong table, and their own.
const ELSEWHERE: &[(&str, &str)] = &[
    ("listen", "server"),
    ("workers", "server"),
    ("api_key", "server"),
    ("max_body", "server"),
    ("drain_timeout", "server"),
    ("level", "log"),
    ("metrics_listen", "admin"),
    ("no_proxy", "egress"),
    ("connect", "limits"),
    ("first_byte", "limits"),
    ("max_concurrent", "limits"),
    ("client_cert_file", "integrations.NAME.tls"),
    ("ca_file", "integrations.NAME.tls"),
    ("client_id", "integrations.NAME.oauth2"),
    ("client_secret", "integrations.NAME.oauth2"),
    ("audience", "integrations.NAME.oauth2"),
];

tables! {
    /// The whole.
    Root {
        integrations_dir: String,
        server: Server,
        admin: Admin,
        log: Log,
        egress: Egress,
        limits: Limits,
        handlers: Handlers,
        integrations: Pairs<Integration>,
    }

    /// `[server]`.
    Server secrets [api_key] {
        listen: Many<String>,
        unix_mode: String,
        unix_owner: usize,
        unix_group: usize,
        tls: InboundTls,
        start: Start,
        watch: bool,
        rotation_interval: Duration,
        workers: usize,
        header_timeout: Duration,
        body_timeout: Duration,
        idle_timeout: Duration,
        max_header_bytes: Size,
        max_body: Size,
        max_connections: usize,
        linger: Duration,
        drain_timeout: Duration,
    }

    /// `server.tls`.
    InboundTls {
        cert_file: PathBuf,
        key_file: PathBuf,
        client_ca_file: PathBuf,
    }

    /// `[admin]`.
    Admin {
        listen: String,
        metrics_listen: String,
    }

    /// `[log]`.
    Log {
        level: Level,
        format: LogFormat,
        access: bool,
    }

    /// `[egress]`.
    Egress {
        proxy: String,
        no_proxy: String,
        ca_file: PathBuf,
        ca_mode: CaMode,
    }

    /// `[limits]`, and those of one integration.
    Limits {
        connect: Duration,
        first_byte: Duration,
        idle: Duration,
        token: Duration,
        max_concurrent: usize,
        queue_timeout: Duration,
        pool_idle: Duration,
        max_connection_age: Duration,
        max_answer: Size,
        max_event: Size,
    }

    /// `[handlers]`.
    Handlers {
        enabled: bool,
        directory: PathBuf,
        python: String,
        workers: usize,
        start_timeout: Duration,
        start_wait: Duration,
        request_timeout: Duration,
        memory: Size,
        max_requests: usize,
        max_in_flight: usize,
        sync_threads: usize,
        egress: bool,
        call_style: CallStyle,
        env: Vec<String>,
    }

    /// `[integrations.NAME]`: Galileo's fields and ours.
    Integration
    secrets [api_key_value, token]
    ignored [
        is_legacy_format, name, provider, id, extra, created_at, updated_at, created_by, is_selected, permissions
    ]
    {
        endpoint: String,
        authentication_type: AuthenticationType,
        api_key_header: String,
        oauth2_token_url: String,
        authentication_scope: String,
        model_properties: Vec<ModelProperties>,
        models: Vec<String>,
        default_model: String,
        headers: Pairs<String>,
        custom_header_mapping: HeaderMapping,
        custom_llm_config: HandlerConfig,
        multi_modal_config: MultiModal,
        format: Format,
        path: String,
        query: Pairs<Scalar>,
        api_version: String,
        oauth2: OAuth2,
        aws: Aws,
        gcp: Gcp,
        tls: Tls,
        token_tls: Tls,
        proxy: String,
        limits: Limits,
        forward_headers: Vec<String>,
        defaults: Pairs<serde_json::Value>,
        rename: Pairs<String>,
        drop: Vec<String>,
        strict: bool,
        call_style: CallStyle,
        request: serde_json::Value,
        response: serde_json::Value,
        stream: serde_json::Value,
    }

    /// One of `model_properties`.
    ModelProperties {
        name: String,
        alias: String,
        based_on: String,
        supported_parameters: Vec<String>,
        supports_json_schema: bool,
    }

    /// `custom_header_mapping`.
    HeaderMapping {
        job_id: String,
        user_id: String,
        project_id: String,
        run_id: String,
    }

    /// `custom_llm_config`.
    HandlerConfig {
        file_name: String,
        class_name: String,
        init_kwargs: Pairs<serde_json::Value>,
    }

    /// `multi_modal_config`.
    MultiModal {
        max_files: usize,
        max_file_size_bytes: usize,
    }

    /// `oauth2`.
    OAuth2 secrets [client_secret] {
        client_id: String,
        client_auth: ClientAuthentication,
        audience: String,
        resource: String,
        extra_params: Pairs<Scalar>,
        extra_headers: Pairs<String>,
        header: String,
        prefix: String,
        token_field: String,
        expires_field: String,
        signing_key_file: PathBuf,
        signing_alg: SigningAlgorithm,
        key_id: String,
        signing_cert_file: PathBuf,
        assertion_audience: String,
        assertion_file: PathBuf,
    }

    /// `aws`.
    Aws secrets [access_key_id, secret_access_key, session_token] {
        region: String,
        service: String,
        role_arn: String,
        role_session_name: String,
        web_identity_token_file: PathBuf,
        sts_endpoint: String,
    }

    /// `gcp`.
    Gcp {
        credentials_file: PathBuf,
        scope: String,
        metadata_host: String,
    }

    /// `tls` and `token_tls`.
    Tls {
        client_cert_file: PathBuf,
        client_key_file: PathBuf,
        client_key_password_file: PathBuf,
        ca_file: PathBuf,
        ca_mode: CaMode,
        server_name: String,
        min_version: Version,
        http2: bool,
    }
}

/// Declares a type whose values are words.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($word:literal => $value:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($value,)* }

        impl Read for $name {
            fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
                word(value, at, reading, &[$(($word, Self::$value),)*])
            }
        }
    )*};
}

words! {
    /// `server.start`.
    Start { "degrade" => Degrade, "strict" => Strict, }

    /// `authentication_type`: Galileo's three, and ours.
    AuthenticationType {
        "none" => None,
        "api_key" => ApiKey,
        "oauth2" => OAuth2,
        "aws_sigv4" => AwsSigV4,
        "gcp" => Gcp,
        "signature" => Signature,
    }

    /// `oauth2.client_auth`.
    ClientAuthentication {
        "post" => Post,
        "basic" => Basic,
        "private_key_jwt" => PrivateKeyJwt,
        "tls_client_auth" => TlsClientAuth,
        "assertion_file" => AssertionFile,
    }

    /// `oauth2.signing_alg` (RFC 7518 §3.1).
    SigningAlgorithm {
        "RS256" => Rs256,
        "RS384" => Rs384,
        "RS512" => Rs512,
        "PS256" => Ps256,
        "PS384" => Ps384,
        "PS512" => Ps512,
        "ES256" => Es256,
        "ES384" => Es384,
        "EdDSA" => EdDsa,
    }
}

impl Read for Format {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        word(value, at, reading, &Self::ALL)
    }
}

impl Read for Level {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let words = [
            ("off", Self::Off),
            ("error", Self::Error),
            ("warn", Self::Warn),
            ("info", Self::Info),
            ("debug", Self::Debug),
            ("trace", Self::Trace),
        ];
        word(value, at, reading, &words)
    }
}

impl Read for LogFormat {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        word(value, at, reading, &[("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)])
    }
}

impl Read for CallStyle {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        word(
            value,
            at,
            reading,
            &[("auto", Self::Auto), ("litellm", Self::Litellm), ("direct", Self::Direct)],
        )
    }
}

impl Read for CaMode {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        word(value, at, reading, &[("add", Self::Add), ("replace", Self::Replace)])
    }
}

impl Read for Version {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        word(value, at, reading, &[("1.2", Self::Tls12), ("1.3", Self::Tls13)])
    }
}

/// One of `words`, or a note that says which there are.
fn word<T: Copy>(value: &Value, at: &At, reading: &mut Reading<'_>, words: &[(&str, T)]) -> Field<T> {
    let Field::Given(text) = String::read(value, at, reading) else { return Field::Bad };
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
        return Field::Given(*found);
    }
    let names = words.iter().map(|(word, _)| *word);
    let near = super::read::nearest(&text, names.clone());
    let all = names.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let shown = if reading.may_show(at) { format!(", found {text:?}") } else { String::new() };
    let problem = reading.error(at, format!("`{at}` must be one of {all}{shown}"));
    if let Some(near) = near {
        problem.help(format!("did you mean \"{near}\"?"));
    }
    Field::Bad
}
