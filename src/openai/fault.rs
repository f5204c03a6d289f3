//! An upstream's refusal, reduced to what an OpenAI error can say.

/// What an upstream said when it refused: its own status and words. The reply room turns it into an OpenAI error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The upstream's HTTP status, 400 to 599; for an error inside a 200 or a stream, the nearest one.
    pub status: u16,
    /// The upstream's own words, at most 500 characters of them, never empty.
    pub message: String,
    /// OpenAI's `type`, when the upstream's word for it is known.
    pub kind: Option<String>,
    /// OpenAI's `param`.
    pub param: Option<String>,
    /// OpenAI's `code`.
    pub code: Option<String>,
    /// `retry-after` and its like (`retry-after-ms`, `x-should-retry`), to be handed on as they are.
    pub headers: Vec<(&'static str, String)>,
}
