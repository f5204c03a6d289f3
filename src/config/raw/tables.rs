//! The tables and their keys: of each its type, what it is for, and what holds where it is not written.
//!
//! This is the one list of keys: reading and `outrider schema` are both made of it.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use serde_json::json;

use super::words::{AuthenticationType, ClientAuthentication, SigningAlgorithm, Start};
use crate::config::number::Size;
use crate::config::places::At;
use crate::config::read::{Field, Many, Pairs, Read, Reading, Scalar};
use crate::config::shape::{Shape, Table};
use crate::config::valid::{CallStyle, Level, LogFormat, SecretSource};
use crate::dialect::Format;
use crate::tls::{CaMode, Version};

tables! {
    /// The whole.
    Root {
        /// A directory of Galileo's JSON files: each `*.json` in it is one integration, named after its file.
        integrations_dir: String,
        /// Where runners reach Outrider, and the limits of what they may send.
        server: Server,
        /// The listeners for probes, metrics and the state of integrations.
        admin: Admin,
        /// What is logged, and how.
        log: Log,
        /// The way out to providers: proxy and certificate authorities.
        egress: Egress,
        /// The limits of every integration; each may set its own.
        limits: Limits,
        /// How Python handlers (`custom_llm_config`) run.
        handlers: Handlers,
        /// The integrations, one table for each provider; a name has at most 64 letters, digits, `.`, `_` and `-`.
        integrations: Pairs<Integration>,
    }

    /// `[server]`.
    Server
    secrets {
        /// What callers must present as `Authorization: Bearer …`; it never goes to a provider.
        api_key,
    }
    {
        /// Where runners reach us: an IP address and a port, `unix:` and a path, or a list of both.
        listen: Many<String> = "127.0.0.1:4010",
        /// The permissions of a Unix socket that we listen on, in octal.
        unix_mode: String = "0660",
        /// The id of the user that a Unix socket is given to.
        unix_owner: usize,
        /// The id of the group that a Unix socket is given to.
        unix_group: usize,
        /// TLS towards callers.
        tls: InboundTls,
        /// Whether what is wrong in the world fails one integration (`degrade`) or stops the start (`strict`).
        start: Start = "degrade",
        /// Whether the configuration is read again when its files change.
        watch: bool = false,
        /// How often certificates, keys and secrets are looked at; a duration.
        rotation_interval: Duration = "5s",
        /// Threads that serve, at most 1024; 0: as many as the cores that we may use.
        workers: usize = 0,
        /// Within what a request's head must arrive; a duration.
        header_timeout: Duration = "10s",
        /// How long a request's body may be silent; a duration.
        body_timeout: Duration = "30s",
        /// How long an idle connection of a caller is kept; a duration.
        idle_timeout: Duration = "75s",
        /// The longest head of a request, at least 8KiB; a size.
        max_header_bytes: Size = "64KiB",
        /// The longest body of a request; a size.
        max_body: Size = "32MiB",
        /// Connections of callers at once.
        max_connections: usize = 16384,
        /// After SIGTERM: go on serving until idle for so long; a duration.
        linger: Duration = "0s",
        /// After SIGTERM: stop after so long at the latest; a duration.
        drain_timeout: Duration = "30s",
    }

    /// `server.tls`.
    InboundTls {
        /// The PEM file of the certificate, with its chain.
        cert_file: PathBuf,
        /// The PEM file of the certificate's key.
        key_file: PathBuf,
        /// The PEM file of the authorities that must have signed callers' certificates; left out: none is demanded.
        client_ca_file: PathBuf,
    }

    /// `[admin]`.
    Admin {
        /// Where /livez, /readyz, /metrics and /integrations are served; `off` for nowhere.
        listen: String = "127.0.0.1:4011",
        /// A second listener with /livez, /readyz and /metrics alone, for scrapers from outside the pod.
        metrics_listen: String,
    }

    /// `[log]`.
    Log {
        /// The least level that is written.
        level: Level = "info",
        /// How lines look; `auto`: text on a terminal, JSON elsewhere.
        format: LogFormat = "auto",
        /// Whether each request writes a line.
        access: bool = true,
    }

    /// `[egress]`.
    Egress {
        /// The URL of the proxy to the outside, or `none`; left out: HTTPS_PROXY and HTTP_PROXY.
        proxy: String,
        /// The hosts without proxy, with commas between them; left out: NO_PROXY.
        no_proxy: String,
        /// The PEM file of the company's certificate authorities, for every integration.
        ca_file: PathBuf,
        /// Whether `ca_file` is added to the system's authorities or replaces them.
        ca_mode: CaMode = "add",
    }

    /// `[limits]`, and those of one integration.
    Limits {
        /// For DNS, TCP, TLS and proxy together; a duration.
        connect: Duration = "5s",
        /// Until the head of the provider's answer; a duration.
        first_byte: Duration = "600s",
        /// The longest silence inside an answer; a duration.
        idle: Duration = "120s",
        /// For one token request; a duration.
        token: Duration = "5s",
        /// Requests at once to one integration.
        max_concurrent: usize = 1024,
        /// How long a further request waits for its turn before a 503; a duration, `0s`: it does not wait.
        queue_timeout: Duration = "30s",
        /// How long a free connection to a provider is kept; a duration.
        pool_idle: Duration = "30s",
        /// The oldest that a connection to a provider is used again; a duration.
        max_connection_age: Duration = "5m",
        /// The longest answer that must be read as a whole; a size.
        max_answer: Size = "32MiB",
        /// The longest event of a stream; a size.
        max_event: Size = "16MiB",
    }

    /// `[handlers]`.
    Handlers {
        /// Whether handlers run; left out: GALILEO_CUSTOM_LLMS_ENABLED, else false.
        enabled: bool,
        /// Where handlers' files lie; left out: GALILEO_CUSTOM_LLMS_DIRECTORY, else /opt/custom_llms.
        directory: PathBuf,
        /// An interpreter that has litellm: a name in PATH, or a path.
        python: String = "python3",
        /// Processes of each handler, at most 1024.
        workers: usize = 2,
        /// To import the file and construct the class; a duration.
        start_timeout: Duration = "60s",
        /// How long a request waits for a handler that is starting; a duration.
        start_wait: Duration = "10s",
        /// Until a handler's answer or its first chunk; a duration.
        request_timeout: Duration = "600s",
        /// The private memory above which a worker is replaced; a size.
        memory: Size = "1GiB",
        /// After how many calls a worker is replaced; 0: never.
        max_requests: usize = 0,
        /// Calls at once in one worker.
        max_in_flight: usize = 64,
        /// Threads of one worker for methods without `async`.
        sync_threads: usize = 32,
        /// Whether `api_base` leads through Outrider, which adds authorization, certificate and proxy.
        egress: bool = false,
        /// How a handler's method is called: by its signature, with litellm's keywords, or with flat OpenAI parameters.
        call_style: CallStyle = "auto",
        /// The names of environment variables that handlers see besides the default ones.
        env: Vec<String> = [],
    }

    /// `[integrations.NAME]`: Galileo's fields and ours.
    Integration
    secrets {
        /// The API key's header as it is sent, `Bearer ` included.
        api_key_value,
        /// OAuth2 credentials in Galileo's form: JSON with `client_id` and `client_secret`.
        token,
    }
    ignored [
        is_legacy_format, name, provider, id, extra, created_at, updated_at, created_by, is_selected, permissions
    ]
    {
        /// The provider's base URL, without what `format` appends; for `declared` the full URL, for a handler its `api_base`.
        endpoint: String,
        /// How requests get their right to enter.
        authentication_type: AuthenticationType = "oauth2",
        /// The header that carries the API key.
        api_key_header: String,
        /// The URL of the token endpoint; left out: `endpoint`.
        oauth2_token_url: String,
        /// Sent as `scope` in the token request.
        authentication_scope: String,
        /// The models with what is to be said of each.
        model_properties: Vec<ModelProperties>,
        /// The models as the provider calls them: names only.
        models: Vec<String>,
        /// What serves a request that names no model: a name or an alias; left out: the first model.
        default_model: String,
        /// Set on every request, over what was there; at most 50.
        headers: Pairs<String>,
        /// The headers in which the provider gets the runner's ids.
        custom_header_mapping: HeaderMapping,
        /// A Python class that answers in place of a provider.
        custom_llm_config: HandlerConfig,
        /// Limits on images and files in one request.
        multi_modal_config: MultiModal,
        /// What the provider speaks.
        format: Format = "openai",
        /// Replaces the path that the format appends; `{model}` is filled in.
        path: String,
        /// Added to every URL, in order.
        query: Pairs<Scalar>,
        /// The version of Azure's API, for format `azure`.
        api_version: String,
        /// How tokens are asked for and where they go, for `authentication_type = "oauth2"`.
        oauth2: OAuth2,
        /// What signs requests, for `authentication_type = "aws_sigv4"`.
        aws: Aws,
        /// Where Google's tokens come from, for `authentication_type = "gcp"`.
        gcp: Gcp,
        /// TLS towards the endpoint.
        tls: Tls,
        /// TLS towards the token endpoint; left out: as `tls`.
        token_tls: Tls,
        /// The integration's own proxy, or `none`; left out: that of [egress].
        proxy: String,
        /// The integration's own limits; what is left out is as in [limits].
        limits: Limits,
        /// The headers of the client that are let through.
        forward_headers: Vec<String>,
        /// Fields of the OpenAI body that are set where the client gave none.
        defaults: Pairs<serde_json::Value>,
        /// Fields of the OpenAI body and the names under which they leave.
        rename: Pairs<String>,
        /// Fields of the OpenAI body that are left out.
        drop: Vec<String>,
        /// Whether a field that would be left out is a 400 instead.
        strict: bool = false,
        /// How the handler's method is called; left out: as in [handlers].
        call_style: CallStyle,
        /// What is sent, for format `declared`: a string that is wholly `{{ … }}` is an expression.
        request: serde_json::Value,
        /// Where the parts of a whole answer stand, for format `declared`.
        response: serde_json::Value,
        /// Where the parts of a stream stand, for format `declared`.
        stream: serde_json::Value,
    }

    /// One of `model_properties`.
    ModelProperties {
        /// The model as the provider calls it.
        name: String,
        /// What clients send and Galileo shows; left out: `name`.
        alias: String,
        /// The model of Galileo's that this one is like; kept for `console`, without effect here.
        based_on: String,
        /// The only parameters that pass, under Galileo's names; left out: all pass.
        supported_parameters: Vec<String>,
        /// Whether the model takes a JSON schema; kept for `console`.
        supports_json_schema: bool,
    }

    /// `custom_header_mapping`.
    HeaderMapping {
        /// The header for the job's id.
        job_id: String,
        /// The header for the user's id.
        user_id: String,
        /// The header for the project's id.
        project_id: String,
        /// The header for the run's id.
        run_id: String,
    }

    /// `custom_llm_config`.
    HandlerConfig {
        /// The bare name of a .py file in the handlers' directory.
        file_name: String,
        /// The class in it.
        class_name: String,
        /// Given to the class's constructor.
        init_kwargs: Pairs<serde_json::Value>,
    }

    /// `multi_modal_config`.
    MultiModal {
        /// Images and files in one request, at least 1; left out: no limit.
        max_files: usize,
        /// Bytes of one image or file, at least 1; left out: no limit.
        max_file_size_bytes: usize,
    }

    /// `oauth2`.
    OAuth2
    secrets {
        /// The client's secret.
        client_secret,
    }
    {
        /// The client's id.
        client_id: String,
        /// How the client proves itself to the token endpoint.
        client_auth: ClientAuthentication = "post",
        /// Sent as `audience` in the token request.
        audience: String,
        /// Sent as `resource` in the token request.
        resource: String,
        /// Further fields of the token request.
        extra_params: Pairs<Scalar>,
        /// Further headers of the token request.
        extra_headers: Pairs<String>,
        /// The header that carries the token.
        header: String = "Authorization",
        /// What stands before the token in that header.
        prefix: String = "Bearer ",
        /// The field of the answer that has the token.
        token_field: String = "access_token",
        /// The field of the answer that has the token's life in seconds.
        expires_field: String = "expires_in",
        /// The PEM file of the key that signs assertions, for `private_key_jwt`.
        signing_key_file: PathBuf,
        /// The algorithm that signs assertions, for `private_key_jwt`.
        signing_alg: SigningAlgorithm,
        /// The key's id, for `private_key_jwt`.
        key_id: String,
        /// The PEM file of the key's certificate, for `private_key_jwt`.
        signing_cert_file: PathBuf,
        /// The audience of assertions, for `private_key_jwt`.
        assertion_audience: String,
        /// The file of the platform's own assertion, for `assertion_file`; left out: AZURE_FEDERATED_TOKEN_FILE.
        assertion_file: PathBuf,
    }

    /// `aws`.
    Aws
    secrets {
        /// The access key's id; left out: AWS_ACCESS_KEY_ID.
        access_key_id,
        /// The access key; left out: AWS_SECRET_ACCESS_KEY.
        secret_access_key,
        /// What temporary keys come with; left out: AWS_SESSION_TOKEN.
        session_token,
    }
    {
        /// The region that is signed for; left out: the endpoint's, else AWS_REGION.
        region: String,
        /// The service that is signed for.
        service: String = "bedrock",
        /// The role that is assumed with a web identity; left out: AWS_ROLE_ARN.
        role_arn: String,
        /// What AWS's logs call the session; left out: AWS_ROLE_SESSION_NAME, else outrider.
        role_session_name: String,
        /// The file of the web identity's token; left out: AWS_WEB_IDENTITY_TOKEN_FILE.
        web_identity_token_file: PathBuf,
        /// The URL of the token service that gives temporary keys; left out: the region's own.
        sts_endpoint: String,
    }

    /// `gcp`.
    Gcp {
        /// The file of Google's credentials; left out: GOOGLE_APPLICATION_CREDENTIALS, else the machine's own account.
        credentials_file: PathBuf,
        /// The scopes that are asked for, with spaces between them.
        scope: String,
        /// The host that gives the machine's own token; left out: GCE_METADATA_HOST, else metadata.google.internal.
        metadata_host: String,
    }

    /// `tls` and `token_tls`.
    Tls {
        /// The PEM file of the client certificate, with its chain.
        client_cert_file: PathBuf,
        /// The PEM file of the client certificate's key.
        client_key_file: PathBuf,
        /// The file of the password of an encrypted key.
        client_key_password_file: PathBuf,
        /// The PEM file of further certificate authorities.
        ca_file: PathBuf,
        /// Whether `ca_file` is added to the other authorities or replaces them.
        ca_mode: CaMode = "add",
        /// The name that is asked for and checked, where it is not the URL's.
        server_name: String,
        /// The least version of TLS.
        min_version: Version = "1.2",
        /// Whether HTTP/2 is offered.
        http2: bool = false,
    }
}
