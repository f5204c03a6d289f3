//! (scaffold)
/// A chat request.
#[derive(Debug)]
pub struct ChatRequest;
