//! (scaffold)
/// An answer.
#[derive(Debug, serde::Serialize)]
pub struct Completion;
/// A chunk.
#[derive(Debug, serde::Serialize)]
pub struct Chunk;
/// Token counts.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Usage;
