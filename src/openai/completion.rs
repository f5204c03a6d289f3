//! (scaffold)
/// An answer.
#[derive(Debug, serde::Serialize)]
pub struct Completion {
    /// Token counts.
    pub usage: Option<Usage>,
}
/// A chunk.
#[derive(Debug, serde::Serialize)]
pub struct Chunk;
/// Token counts.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Usage {
    /// Prompt.
    pub prompt_tokens: u64,
    /// Completion.
    pub completion_tokens: u64,
}
