//! Dialects: one folder a provider, each turning an OpenAI request into the provider's and its answer back.
//!
//! All of it is pure: no socket, no clock, no randomness. Ids and times come in through [`Context`]. A dialect is
//! built once for an integration ([`build`]) and shared by its requests; what belongs to one request lives in the
//! [`Decoder`] that [`Dialect::prepare`] returns with it.

mod answer;
pub mod anthropic;
pub mod azure;
pub mod bedrock;
mod calls;
mod chunks;
mod claude;
pub mod cohere;
pub mod declared;
mod events;
pub mod foreign;
pub mod gemini;
mod handler;
mod loss;
mod marks;
mod media;
pub mod mistral;
pub mod ollama;
pub mod openai;
mod parts;
mod schema;
#[cfg(test)]
mod testing;
mod tier;
mod turns;
mod vectors;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderMap;
use http::response::Parts;
use serde::Serialize;
use serde_json::Value;

use crate::framing::sse;
use crate::openai::chat::ShapeError;
use crate::openai::{Completion, Embeddings, Envelope, Fault, Operation, Usage, excerpt};
use crate::outbound::{Report, Unsigned};

/// Translates requests of one format.
pub trait Dialect: Send + Sync + fmt::Debug {
    /// Turns `request` into the provider's, or says which field the format cannot express.
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable>;

    /// The tails that [`Dialect::prepare`] uses, so that their URLs can be built once for each model. `{model}` in
    /// a tail stands for the provider's name of the model, which is percent-encoded there.
    fn tails(&self) -> Vec<Cow<'static, str>>;

    /// Whether `{model}` keeps only what RFC 3986 calls unreserved, rather than the colons and such that model names
    /// commonly hold and most providers' documentation shows as they are.
    fn keeps_only_unreserved(&self) -> bool {
        false
    }

    /// Whether the upstream speaks OpenAI's own format, so that other `/v1/…` paths may be relayed to it.
    fn is_openai_compatible(&self) -> bool {
        false
    }

    /// What stands between the endpoint and such a path, which begins behind its `/v1`.
    fn relays_below(&self) -> &'static str {
        ""
    }
}

/// What a translation needs to know besides the body.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What the client called.
    pub operation: Operation,
    /// The model's name as the provider knows it.
    pub provider_model: &'a str,
    /// The model's name as the client wrote it: an answer carries this one.
    pub client_model: &'a str,
    /// An id for the answer where the provider gives none, `chatcmpl-…`.
    pub id: &'a str,
    /// Seconds since the epoch.
    pub created: u64,
    /// Whether a field that would be dropped is a refusal instead.
    pub strict: bool,
    /// The longest event of a stream, in bytes (`limits.max_event`).
    pub max_event: usize,
}

/// A request ready for `dress` and `sign`, and the decoder for its answer.
#[derive(Debug)]
pub struct Prepared {
    /// The provider's request.
    pub unsigned: Box<Unsigned>,
    /// What could not be carried over as it was.
    pub report: Report,
    /// Reads the answer.
    pub decoder: Box<dyn Decoder>,
}

/// The head of an upstream's answer.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl<'a> From<&'a Parts> for Head<'a> {
    fn from(parts: &'a Parts) -> Self {
        Self { status: parts.status.as_u16(), headers: &parts.headers }
    }
}

/// Reads one answer. It knows the request that it answers: alias, id, time, `include_usage`, tool names.
pub trait Decoder: Send + fmt::Debug {
    /// How a successful answer that is not a stream reaches the client.
    fn whole(&mut self, head: Head<'_>, body: &[u8]) -> Result<Whole, Broken>;

    /// Whether a whole answer goes on byte for byte, unread ([`Decoder::whole`] is then never called).
    fn passes_whole(&self) -> bool {
        false
    }

    /// Takes the next bytes of a stream, cut anywhere; writes complete OpenAI events to `out`.
    ///
    /// With [`Fed::Through`] nothing was written: the input itself is what goes on, unchanged.
    ///
    /// # Errors
    /// What was written to `out` before the error is good and goes on; then [`Decoder::finish`] is to be called with
    /// [`End::Broken`], and nothing more is fed.
    fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> Result<Fed, Broken>;

    /// Ends the stream. [`End::Clean`]: the upstream ended properly; whatever is missing (finish, usage, `[DONE]`)
    /// is written; for a stream that ended too early [`Outcome::Unfinished`] is the answer, and the caller, who knows
    /// the upstream's name, ends it as broken. [`End::Broken`]: an error event is written, never `[DONE]`. Nothing is
    /// written after an event that already ended the stream.
    fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome;

    /// Whether the client has been told that the stream is complete (`[DONE]` went out).
    fn is_done(&self) -> bool;

    /// Whether the client has been told, in the upstream's own words, that the stream failed: nothing may follow.
    fn has_failed(&self) -> bool {
        false
    }

    /// A comment that keeps the client patient while the upstream has nothing for it, behind what has gone out by now.
    fn ping(&self) -> &'static [u8] {
        sse::PING
    }

    /// Whether a stream of this format may come as `kind`, a media type that mostly means that no stream came
    /// (`application/json`).
    fn may_stream_as(&self, _kind: &str) -> bool {
        false
    }

    /// Whether `body` begins a stream of this format although its media type is one that no stream has; `None` while it
    /// is too short to know.
    fn is_stream_behind(&self, _body: &[u8]) -> Option<bool> {
        Some(false)
    }

    /// Reads an answer of status 400 or above. Never fails: what makes no sense is wrapped.
    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault;

    /// The usage that the answer carried, as far as it has been seen.
    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// A whole answer as the client gets it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Whole {
    /// To a chat request.
    Completion(Completion),
    /// To a request for embeddings.
    Embeddings(Embeddings),
}

/// What [`Decoder::feed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The input goes on as it is.
    Through,
    /// What stands in `out` goes on, which may be nothing yet.
    Rewritten,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// The upstream closed its body properly.
    Clean,
    /// It broke off: the fault to tell the client.
    Broken(&'a Fault),
}

/// What the client was told when the stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer, with `[DONE]`.
    Complete,
    /// An error event; for the log and the metrics.
    Failed(String),
    /// Nothing yet: the upstream closed properly but too early, or said an error last. To be ended as broken.
    Unfinished(Box<Fault>),
}

/// Why an answer could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The upstream reported an error inside a 200 or in the middle of a stream.
    Upstream(Box<Fault>),
    /// Bytes that make no sense as an answer of this format; how, in words that may hold the upstream's, uncut.
    Garbled(String),
}

impl Broken {
    /// The error that an upstream told as JSON inside a 200 or a stream.
    fn told(json: &[u8]) -> Self {
        let fault = Fault::inside(json).unwrap_or_else(|| Fault {
            status: 502,
            message: "the upstream reported an error without words".to_owned(),
            ..Fault::default()
        });
        Self::Upstream(Box::new(fault))
    }

    /// The error that an upstream told in a stream in words that are no JSON.
    fn said(words: &[u8]) -> Self {
        match excerpt(words).trim() {
            "" => Self::told(words),
            said => {
                Self::Upstream(Box::new(Fault { status: 502, message: said.to_owned(), ..Fault::default() }))
            }
        }
    }

    /// What JSON says that stands bare among the events of a stream: an error, or nothing for anybody.
    fn bare(json: &[u8]) -> Result<(), Self> {
        Fault::inside(json).map_or(Ok(()), |fault| Err(Self::Upstream(Box::new(fault))))
    }

    /// What makes sense, but has no place in OpenAI's chat format. Whoever asks again is answered alike, and pays for it.
    fn homeless(what: &str) -> Self {
        let why = format!("the upstream answered with {what}, which OpenAI's chat format cannot carry");
        let headers = vec![("x-should-retry", "false".to_owned())];
        Self::Upstream(Box::new(Fault { headers, ..Fault::garbled(why) }))
    }

    /// Bytes that are no answer of the vendor `whose`, and what stands in them.
    fn nonsense(whose: &str, error: &serde_json::Error, data: &[u8]) -> Self {
        let data = excerpt(data);
        Self::Garbled(format!("the upstream sent what is not an answer of {whose}'s ({error}): {data}"))
    }
}

/// A request that cannot be sent: a 400 that names the field, or a 502 where the translation itself failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untranslatable {
    /// OpenAI's `param`: the path of the field (`messages[2].content[0].input_audio`).
    pub param: String,
    /// What is wrong and what to do, for the client.
    pub message: String,
    /// Whether the body itself is malformed (`invalid_body`), rather than asking for what the format lacks
    /// (`unsupported_parameter`).
    pub malformed: bool,
    /// Whether the client did nothing wrong, and the integration's own settings failed (an expression at `param`).
    pub failed: bool,
}

impl Untranslatable {
    /// A field that the format has no place for.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into(), malformed: false, failed: false }
    }

    /// A field that no OpenAI client should send.
    pub fn malformed(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { malformed: true, ..Self::unsupported(param, message) }
    }

    /// Settings of the integration that could not turn a good request into the provider's; `param` is their key.
    pub fn failed(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { failed: true, ..Self::unsupported(param, message) }
    }
}

impl From<ShapeError> for Untranslatable {
    fn from(error: ShapeError) -> Self {
        Self { malformed: !error.unsupported, ..Self::unsupported(error.path, error.message) }
    }
}

/// The formats of the configuration contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenAI's own and everything compatible with it.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Azure OpenAI.
    Azure,
    /// Mistral.
    Mistral,
    /// Gemini.
    Gemini,
    /// Gemini on Vertex AI.
    Vertex,
    /// Bedrock's Converse.
    Bedrock,
    /// Cohere v2.
    Cohere,
    /// Ollama's own API.
    Ollama,
    /// Declared in the configuration.
    Declared,
}

impl Format {
    /// Every format with the word that names it in the configuration.
    pub const ALL: [(&'static str, Self); 10] = [
        ("openai", Self::OpenAi),
        ("anthropic", Self::Anthropic),
        ("azure", Self::Azure),
        ("mistral", Self::Mistral),
        ("gemini", Self::Gemini),
        ("vertex", Self::Vertex),
        ("bedrock", Self::Bedrock),
        ("cohere", Self::Cohere),
        ("ollama", Self::Ollama),
        ("declared", Self::Declared),
    ];

    /// What is appended to the endpoint of a chat, as messages show it, and how endpoints end that hold some of it already.
    pub fn appended(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::OpenAi | Self::Mistral => ("/chat/completions", &["/chat/completions"]),
            Self::Anthropic => ("/v1/messages", &["/v1/messages", "/v1"]),
            Self::Azure => ("/openai/deployments/…", &["/chat/completions", "/openai/v1", "/openai"]),
            Self::Gemini => ("/v1beta/models/…", &["/v1beta/models", "/v1beta"]),
            Self::Vertex => ("/models/…", &["/models"]),
            Self::Bedrock => ("/model/…", &["/model"]),
            Self::Cohere => ("/v2/chat", &["/v2/chat", "/v2"]),
            Self::Ollama => ("/api/chat", &["/api/chat", "/api"]),
            Self::Declared => ("nothing", &[]),
        }
    }

    /// What they are called elsewhere, models and makers included; what begins so and goes on behind a dash is meant too.
    pub const ALIASES: &[(&'static str, Self)] = &[
        ("azure-openai", Self::Azure),
        ("azureopenai", Self::Azure),
        ("aoai", Self::Azure),
        ("google-vertex", Self::Vertex),
        ("vertexai", Self::Vertex),
        ("gcp", Self::Vertex),
        ("google", Self::Gemini),
        ("googleai", Self::Gemini),
        ("aistudio", Self::Gemini),
        ("palm", Self::Gemini),
        ("aws", Self::Bedrock),
        ("amazon", Self::Bedrock),
        ("nova", Self::Bedrock),
        ("titan", Self::Bedrock),
        ("claude", Self::Anthropic),
        ("gpt", Self::OpenAi),
        ("chatgpt", Self::OpenAi),
        ("oai", Self::OpenAi),
        ("litellm", Self::OpenAi),
        ("vllm", Self::OpenAi),
        ("tgi", Self::OpenAi),
        ("nim", Self::OpenAi),
        ("llama.cpp", Self::OpenAi),
        ("lmstudio", Self::OpenAi),
        ("openrouter", Self::OpenAi),
        ("together", Self::OpenAi),
        ("fireworks", Self::OpenAi),
        ("portkey", Self::OpenAi),
        ("groq", Self::OpenAi),
        ("grok", Self::OpenAi),
        ("xai", Self::OpenAi),
        ("deepseek", Self::OpenAi),
        ("perplexity", Self::OpenAi),
        ("mixtral", Self::Mistral),
        ("mistralai", Self::Mistral),
        ("codestral", Self::Mistral),
        ("command", Self::Cohere),
        ("llama", Self::Ollama),
        ("custom", Self::Declared),
        ("generic", Self::Declared),
        ("template", Self::Declared),
        ("own", Self::Declared),
    ];

    /// The format whose answers look the same, which some of those read more leniently that share them.
    fn answers_like(self) -> Self {
        match self {
            Self::Azure | Self::Mistral => Self::OpenAi,
            Self::Vertex => Self::Gemini,
            other => other,
        }
    }

    /// The word that names it in the configuration.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, f)| *f == self).map_or("?", |(w, _)| w)
    }
}

/// What a dialect is built from.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// Whose format.
    pub format: Format,
    /// Azure's `api-version`.
    pub api_version: Option<&'a str>,
    /// The tables of a declared format: an object with `request`, `response` and perhaps `stream`.
    pub declared: Option<&'a Value>,
    /// The integration's name, for messages about its tables.
    pub name: Option<&'a str>,
}

impl From<Format> for Recipe<'_> {
    fn from(format: Format) -> Self {
        Self { format, api_version: None, declared: None, name: None }
    }
}

/// What is spoken to the workers of a handler.
pub fn handler() -> Arc<dyn Dialect> {
    Arc::new(handler::Handler)
}

/// The dialect of a recipe.
///
/// # Errors
/// The tables of a declared format are wrong; in words.
pub fn build(recipe: Recipe<'_>) -> Result<Arc<dyn Dialect>, String> {
    match recipe.format {
        Format::OpenAi => Ok(Arc::new(openai::OpenAi)),
        Format::Anthropic => Ok(Arc::new(anthropic::Anthropic)),
        Format::Azure => Ok(Arc::new(azure::Azure::new(recipe.api_version))),
        Format::Mistral => Ok(Arc::new(mistral::Mistral)),
        Format::Gemini => Ok(Arc::new(gemini::Gemini::STUDIO)),
        Format::Vertex => Ok(Arc::new(gemini::Gemini::VERTEX)),
        Format::Bedrock => Ok(Arc::new(bedrock::Bedrock)),
        Format::Cohere => Ok(Arc::new(cohere::Cohere)),
        Format::Ollama => Ok(Arc::new(ollama::Ollama)),
        Format::Declared => Ok(Arc::new(declared::Declared::new(recipe.name, recipe.declared)?)),
    }
}
