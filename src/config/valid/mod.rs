//! Checked settings: what the rest of the house sees. A value of these types cannot be wrong in itself; what may
//! still be wrong is the world (a missing file, an expired certificate), which fails one integration.

mod authorization;
mod aws;
pub(super) mod clear;
pub(super) mod credential;
mod debug;
pub(super) mod doubt;
pub(super) mod egress;
mod gcp;
mod headers;
pub(super) mod integration;
pub(super) mod itself;
pub(super) mod models;
mod plain;
mod proxy;
mod routes;
pub(super) mod server;
mod veil;
mod whereabouts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

pub use egress::has_usable_port;
pub(in crate::config) use plain::secrets_of_path;
pub use plain::{is_suspect_parameter, shown};
pub use proxy::Entrance;
pub use routes::Routes;
pub use veil::{STARS, Veil, holds_credential, is_random, is_suspect};
pub use whereabouts::Whereabouts;

use crate::dialect::Format;
use crate::names::{IntegrationName, ModelName};
use crate::secret::Secret;
use crate::tls;

/// The parameters that Galileo may list in `supported_parameters`, each with its name on OpenAI's wire. Only these are
/// ever filtered.
pub const PARAMETERS: [(&str, &str); 18] = [
    ("temperature", "temperature"),
    ("max_tokens", "max_tokens"),
    ("stop_sequences", "stop"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("echo", "echo"),
    ("logprobs", "logprobs"),
    ("top_logprobs", "top_logprobs"),
    ("n", "n"),
    ("api_version", "api_version"),
    ("tools", "tools"),
    ("tool_choice", "tool_choice"),
    ("response_format", "response_format"),
    ("reasoning_effort", "reasoning_effort"),
    ("verbosity", "verbosity"),
    ("deployment_name", "deployment_name"),
];

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The proxy listener and its limits.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// How the handlers run.
    pub handlers: Arc<Handlers>,
    /// The integrations, by name.
    pub integrations: BTreeMap<IntegrationName, Integration>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Who may connect to the Unix sockets that we listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixSockets {
    /// The permissions of the file: connecting takes the right to write.
    pub mode: u32,
    /// The id of the user that it is given to.
    pub owner: Option<u32>,
    /// The id of the group that it is given to.
    pub group: Option<u32>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// One or more addresses.
    pub listen: Vec<Listen>,
    /// What callers must present as Bearer.
    pub api_key: Option<SecretSource>,
    /// How Unix sockets are made.
    pub unix: UnixSockets,
    /// Inbound TLS.
    pub tls: Option<tls::InboundFiles>,
    /// Whether what is wrong in the world stops the start.
    pub strict_start: bool,
    /// Whether files are watched.
    pub watch: bool,
    /// How often certificates, keys, secrets and, with `watch`, the configuration are looked at.
    pub rotation_interval: Duration,
    /// Runtime threads, at least 1.
    pub workers: usize,
    /// A full request head must arrive within.
    pub header_timeout: Duration,
    /// Silence while a request body is read.
    pub body_timeout: Duration,
    /// Idle keep-alive.
    pub idle_timeout: Duration,
    /// The longest head, in bytes.
    pub max_header_bytes: usize,
    /// The longest body, in bytes.
    pub max_body: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// After SIGTERM: keep serving until idle this long.
    pub linger: Duration,
    /// After SIGTERM: at most this long.
    pub drain_timeout: Duration,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The admin listener; `None` is `"off"`.
    pub listen: Option<Listen>,
    /// A second listener with probes and metrics alone.
    pub metrics_listen: Option<Listen>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least level that is written.
    pub level: Level,
    /// How lines look.
    pub format: LogFormat,
    /// Whether each request writes a line.
    pub access: bool,
}

/// A level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words explain themselves")]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON unless stdout is a terminal.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `[handlers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handlers {
    /// Whether handlers run at all.
    pub enabled: bool,
    /// Where their files are.
    pub directory: PathBuf,
    /// The interpreter.
    pub python: String,
    /// Processes per handler.
    pub workers: usize,
    /// Import and construct.
    pub start_timeout: Duration,
    /// How long a request waits for a handler that is starting.
    pub start_wait: Duration,
    /// Until the answer or its first chunk.
    pub request_timeout: Duration,
    /// Private memory of one worker, in bytes.
    pub memory: usize,
    /// Replace a worker after so many calls; 0 = never.
    pub max_requests: usize,
    /// Calls at once, per worker.
    pub max_in_flight: usize,
    /// Threads for synchronous methods.
    pub sync_threads: usize,
    /// Whether `api_base` leads through Outrider.
    pub egress: bool,
    /// How methods are called.
    pub call_style: CallStyle,
    /// Environment names passed on besides the default list.
    pub env: Vec<String>,
    /// What handlers see of the environment: all that is passed on, as it was when the configuration was read.
    pub environment: Variables,
    /// How long calls may take to end once their worker is replaced: the server's.
    pub drain_timeout: Duration,
}

/// Environment variables in order of their names. Their values may be secrets and are not printed.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Variables(pub Vec<(String, String)>);

/// How a handler's method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStyle {
    /// By its signature.
    Auto,
    /// With litellm's keywords.
    Litellm,
    /// With flat OpenAI parameters.
    Direct,
}

/// One integration.
#[derive(Clone, PartialEq, Eq)]
pub struct Integration {
    /// Its name.
    pub name: IntegrationName,
    /// Where it is defined.
    pub origin: Whereabouts,
    /// The provider's format.
    pub format: Format,
    /// The base URL: absolute, http or https, without query or fragment, no slash at its end.
    pub endpoint: Uri,
    /// Replaces the path that the format appends; `{model}` is filled in.
    pub path: Option<String>,
    /// Added to every URL, in order.
    pub query: Vec<(String, String)>,
    /// Azure's `api-version`.
    pub api_version: Option<String>,
    /// How the request gets its right to enter.
    pub authorization: Authorization,
    /// The models, at least one unless a handler or default says otherwise.
    pub models: Vec<Model>,
    /// What serves a request without `model`: the alias of one of `models`.
    pub default_model: Option<ModelName>,
    /// Set on every request, overriding.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The runner's ids under the customer's header names.
    pub header_mapping: Vec<(RunnerId, HeaderName)>,
    /// Client headers let through.
    pub forward_headers: Vec<HeaderName>,
    /// A Python class that answers.
    pub handler: Option<Handler>,
    /// Limits on images and files in one request.
    pub media: MediaLimits,
    /// TLS towards the endpoint.
    pub tls: tls::Profile,
    /// TLS towards the token endpoint.
    pub token_tls: tls::Profile,
    /// The way to the endpoint.
    pub proxy: Proxy,
    /// The ways to token endpoints, which may be others: `no_proxy` and the scheme decide for each URL.
    pub token_routes: Routes,
    /// Limits.
    pub limits: Limits,
    /// Edits of the OpenAI body.
    pub edits: Edits,
    /// Whether a field that would be dropped is a refusal.
    pub strict: bool,
    /// The tables of a declared format, as JSON; checked when that format is built.
    pub declared: Option<serde_json::Value>,
    /// The files that `${file:…}` in its values names, each with the key of the value.
    pub referred: Vec<(String, PathBuf)>,
    /// The names in `query` whose values came from elsewhere than the configuration's files (the environment, `${…}`):
    /// they may be secrets.
    pub hidden_query: Vec<String>,
    /// What in `endpoint` and `path` came from there and may be a secret.
    pub hidden_path: Vec<Secret>,
    /// What is wrong in the world already while reading (an unreadable `${file:…}`): fails this integration.
    pub world: Vec<String>,
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// Written in the configuration or expanded from the environment.
    Inline(Secret),
    /// In a file, read when the integration is built; one trailing newline is trimmed.
    File(PathBuf),
    /// The `client_secret` of Galileo's `token`, which is in a file.
    Token {
        /// The file: `{"client_id": "…", "client_secret": "…"}`.
        file: PathBuf,
        /// The id that the secret must belong to.
        client_id: String,
    },
}

/// How a request gets its right to enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Nothing is added.
    None,
    /// One header, set verbatim.
    ApiKey {
        /// Its name.
        header: HeaderName,
        /// Its value.
        value: SecretSource,
    },
    /// A bearer by OAuth2 client credentials.
    OAuth2(Box<OAuth2>),
    /// AWS's signature, version 4.
    SigV4(Box<Aws>),
    /// A bearer of Google's.
    Gcp(Gcp),
    /// One of ours that this version has not yet: its word.
    Later(&'static str),
}

/// What signs requests to AWS.
#[derive(Clone, PartialEq, Eq)]
pub struct Aws {
    /// The region that signatures name.
    pub region: String,
    /// The service that they name.
    pub service: String,
    /// What they are made with.
    pub keys: AwsKeys,
}

/// Where the keys come from.
#[derive(Clone, PartialEq, Eq)]
pub enum AwsKeys {
    /// Given, in the configuration or by the environment.
    Fixed {
        /// The access key's id.
        id: SecretSource,
        /// The access key.
        secret: SecretSource,
        /// What proves that keys are temporary ones.
        session: Option<SecretSource>,
    },
    /// Temporary ones that the Security Token Service gives for a web identity.
    WebIdentity(WebIdentity),
}

/// A role of AWS's that is assumed with a token of another platform.
#[derive(Clone, PartialEq, Eq)]
pub struct WebIdentity {
    /// The role.
    pub role_arn: String,
    /// What AWS's own logs call the session.
    pub session_name: String,
    /// The platform's token, which it renews: read for each fetch.
    pub token_file: PathBuf,
    /// The Security Token Service.
    pub sts_endpoint: Uri,
}

/// What Google's tokens are asked for with.
#[derive(Clone, PartialEq, Eq)]
pub struct Gcp {
    /// Who asks.
    pub source: GcpSource,
    /// What for, if that was said: scopes with spaces between them.
    pub scope: Option<String>,
}

/// Who asks for a token of Google's.
#[derive(Clone, PartialEq, Eq)]
pub enum GcpSource {
    /// The account in this file.
    File(PathBuf),
    /// The machine that we run on, at this URL.
    Metadata(Uri),
}

/// OAuth2 client credentials (RFC 6749 §4.4).
#[derive(Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: Uri,
    /// Whether that is the integration's `endpoint`, because no other URL is given.
    pub is_endpoint: bool,
    /// What of its path came from elsewhere than the configuration's files and may be a secret.
    pub hidden_path: Vec<Secret>,
    /// The client's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretSource,
    /// How the client proves itself to the token endpoint.
    pub client_auth: ClientAuth,
    /// Sent as `scope`.
    pub scope: Option<String>,
    /// Sent as `audience`.
    pub audience: Option<String>,
    /// Sent as `resource`.
    pub resource: Option<String>,
    /// Further form fields.
    pub extra_params: Vec<(String, String)>,
    /// Further headers of the token request.
    pub extra_headers: Vec<(HeaderName, HeaderValue)>,
    /// The header that carries the token.
    pub header: HeaderName,
    /// What stands before it.
    pub prefix: String,
    /// Where the answer has the token.
    pub token_field: String,
    /// Where the answer has its lifetime, in seconds.
    pub expires_field: String,
}

/// How the client proves itself to the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// `client_id` and `client_secret` in the form.
    Post,
    /// HTTP Basic, both form-encoded first (RFC 6749 §2.3.1).
    Basic,
}

/// One model of an integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Goes verbatim to the provider.
    pub name: ModelName,
    /// What a client selects by; the name where no alias is given.
    pub alias: ModelName,
    /// The model of Galileo's that this one is like; it has no effect here and is handed back by `console`.
    pub based_on: Option<String>,
    /// The only parameters that pass, as OpenAI's wire names; `None` lets all pass.
    pub supported: Option<Vec<String>>,
    /// Whether the model takes a JSON schema, if said.
    pub json_schema: Option<bool>,
}

/// One of the runner's own ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunnerId {
    /// `job_id`, from `x-galileo-job-id`.
    Job,
    /// `user_id`, from `x-galileo-user-id`.
    User,
    /// `project_id`, from `x-galileo-project-id`.
    Project,
    /// `run_id`, from `x-galileo-run-id`.
    Run,
}

impl Integration {
    /// What is spoken to it, in one word: its format, or `handler`.
    pub fn spoken(&self) -> &'static str {
        if self.handler.is_some() { "handler" } else { self.format.word() }
    }
}

/// `custom_llm_config`.
#[derive(Clone, PartialEq, Eq)]
pub struct Handler {
    /// A bare file name.
    pub file_name: String,
    /// The class in it.
    pub class_name: String,
    /// Given to its constructor.
    pub init_kwargs: serde_json::Map<String, serde_json::Value>,
    /// How its methods are called.
    pub call_style: CallStyle,
    /// How all handlers run.
    pub common: Arc<Handlers>,
}

/// `multi_modal_config`; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaLimits {
    /// File and image parts in one request.
    pub max_files: Option<u64>,
    /// Bytes of one part, decoded.
    pub max_file_size_bytes: Option<u64>,
}

/// The way out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// Straight to the endpoint.
    Direct,
    /// Through an HTTP proxy, but for the hosts in `no_proxy`.
    Through {
        /// Its URL, which may hold credentials.
        url: Secret,
        /// Its URL without them, for messages.
        shown: String,
    },
}

/// Limits of one integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// DNS + TCP + TLS + proxy.
    pub connect: Duration,
    /// Until the upstream's response head.
    pub first_byte: Duration,
    /// Silence inside a response body or stream.
    pub idle: Duration,
    /// One token request.
    pub token: Duration,
    /// Requests at once.
    pub max_concurrent: usize,
    /// How long a request may wait for its turn.
    pub queue_timeout: Duration,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// The oldest that a connection is used again.
    pub max_connection_age: Duration,
    /// The longest whole answer that is read, in bytes.
    pub max_answer: usize,
    /// The longest event or line of a stream, in bytes.
    pub max_event: usize,
}

/// Edits of the OpenAI body, made before translation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Set when the client gave none; values as JSON text.
    pub defaults: Vec<(String, String)>,
    /// From, to.
    pub rename: Vec<(String, String)>,
    /// Left out.
    pub drop: Vec<String>,
}
