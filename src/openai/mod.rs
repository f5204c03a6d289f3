//! The common tongue: what a client of OpenAI's API sends and expects, as values.
//!
//! Pass-through requests never become more than an [`Envelope`]: the bytes as they came and the spans that one
//! scan found. Only a dialect that must translate reads the whole into [`chat::ChatRequest`].

pub mod chat;
pub mod completion;
pub mod embeddings;
pub mod envelope;
pub mod fault;
mod form;
pub mod json;
pub mod message;
pub mod scan;
pub mod tool;

pub use chat::ChatRequest;
pub use completion::{Chunk, Completion, Usage};
pub use embeddings::{Embeddings, EmbeddingsRequest};
pub use envelope::Envelope;
pub use fault::{Fault, excerpt};

/// What a client asked for, by the path it called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// Any other `/v1/…` path of an OpenAI-compatible integration: forwarded with its own method and type.
    Relay,
}
