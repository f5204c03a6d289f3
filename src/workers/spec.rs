//! What a crew is to be: handler, interpreter, and limits; and what of it a worker is told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::valid::{CallStyle, Variables};

/// Everything that the workers of one integration are made of. A spec that differs in anything makes a new generation.
#[derive(Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where handlers' files lie.
    pub directory: PathBuf,
    /// The handler's file: a bare name in `directory`.
    pub file_name: String,
    /// The class in it.
    pub class_name: String,
    /// Given to its constructor. May hold secrets: never printed, and never in an argument or the environment.
    pub init_kwargs: Map<String, Value>,
    /// How its methods are called.
    pub call_style: CallStyle,
    /// What the handler is given as `api_base`.
    pub api_base: Option<String>,
    /// The header whose value is handed to the handler as `api_key`.
    pub key_header: Option<String>,
    /// What is taken off the front of that value.
    pub key_prefix: Option<String>,
    /// Threads for synchronous methods.
    pub sync_threads: usize,
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// The interpreter: a path, or a name that is looked up in the `PATH` of `environment`.
    pub python: String,
    /// The whole environment of the workers; nothing is added but two switches of litellm's.
    pub environment: Variables,
    /// Authorities, as PEM, that the handler's own connections are to trust instead of the system's.
    pub ca_bundle: Option<Arc<str>>,
    /// A part of `api_base` that is a secret: it is taken out of what workers print.
    pub hidden: Option<Arc<str>>,
    /// How many processes.
    pub workers: usize,
    /// Import and construct, of the interpreter and of each worker.
    pub start_timeout: Duration,
    /// How long a request waits for a crew of which no worker is ready.
    pub start_wait: Duration,
    /// Until the answer or its first chunk.
    pub request_timeout: Duration,
    /// Private memory of one worker, in bytes; 0 = any.
    pub memory: usize,
    /// A worker is replaced after so many calls; 0 = never.
    pub max_requests: usize,
    /// Calls at once, per worker.
    pub max_in_flight: usize,
    /// How long a request waits where all workers are busy.
    pub queue_timeout: Duration,
    /// How long calls may take to end once their worker is to be replaced.
    pub drain_timeout: Duration,
}

impl Spec {
    /// The handler's path as it is imported: links are not resolved.
    pub fn file(&self) -> PathBuf {
        self.directory.join(&self.file_name)
    }

    /// Whether workers of `other` may be handed what is meant for these: they send it to the same place, and look for the
    /// key where it is.
    pub(super) fn is_handed_alike(&self, other: &Self) -> bool {
        self.api_base == other.api_base
            && (&self.key_header, &self.key_prefix) == (&other.key_header, &other.key_prefix)
            && self.ca_bundle == other.ca_bundle
    }

    /// What a worker reads before anything else: one JSON object.
    pub(super) fn told(&self, integration: &str, ca_bundle: Option<&Path>) -> Vec<u8> {
        let style = match self.call_style {
            CallStyle::Auto => "auto",
            CallStyle::Litellm => "litellm",
            CallStyle::Direct => "direct",
        };
        let told = json!({
            "integration": integration,
            "file": self.file().to_string_lossy(),
            "directory": self.directory.to_string_lossy(),
            "class_name": self.class_name,
            "init_kwargs": self.init_kwargs,
            "call_style": style,
            "api_base": self.api_base,
            "key_header": self.key_header,
            "key_prefix": self.key_prefix,
            "sync_threads": self.sync_threads,
            "max_body": self.max_body,
            "ca_bundle": ca_bundle.map(|path| path.to_string_lossy()),
            "hidden": self.hidden.as_deref(),
            "mode": "serve",
        });
        told.to_string().into_bytes()
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("file", &self.file())
            .field("class_name", &self.class_name)
            .field("init_kwargs", &self.init_kwargs.keys().collect::<Vec<_>>())
            .field("python", &self.python)
            .field("environment", &self.environment)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
