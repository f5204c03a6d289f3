//! The keys of the tables, and what each is for: read by `tables`, described by `outrider schema`.

/// The keys of `response`.
pub const RESPONSE: &[&str] = &[
    "content",
    "finish_reason",
    "usage",
    "error",
    "error_status",
    "tool_calls",
    "reasoning_content",
    "reasoning",
    "refusal",
    "id",
];

/// The keys of `stream`.
pub const STREAM: &[&str] = &[
    "framing",
    "delta",
    "finish_reason",
    "usage",
    "done",
    "error",
    "error_status",
    "tool_calls",
    "reasoning",
    "reasoning_content",
    "refusal",
    "id",
];

/// The keys of `usage`.
pub const COUNTS: &[&str] =
    &["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"];

/// The words of `stream.framing`.
pub const FRAMINGS: &[&str] = &["sse", "ndjson", "json_array"];

/// What a key of these tables is for, as one sentence.
pub fn meaning(key: &str) -> &'static str {
    match key {
        "framing" => "How the events of a stream are told apart.",
        "content" => "The text of an answer.",
        "delta" => "The text that an event adds.",
        "finish_reason" => "Why the answer ended; nothing in a stream until it does.",
        "done" => "Whether this event is the last one.",
        "usage" => "The counts of tokens: each by itself, or one expression that gives OpenAI's object.",
        "error" => "The words of an error; nothing where there is none.",
        "error_status" => "The status of an error inside a 200.",
        "tool_calls" => "A list of calls: OpenAI's, or with `id`, `name` and `arguments`.",
        "reasoning" | "reasoning_content" => "The text of the model's thinking.",
        "refusal" => "The text of a refusal.",
        "id" => "The answer's id.",
        "prompt_tokens" => "The tokens of the request.",
        "completion_tokens" => "The tokens of the answer.",
        "total_tokens" => "The tokens of both.",
        "cached_tokens" => "Those of the request that were cached.",
        "reasoning_tokens" => "Those of the answer that were spent on thinking.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning() {
        for key in RESPONSE.iter().chain(STREAM).chain(COUNTS) {
            assert!(meaning(key).ends_with('.'), "{key} has none");
        }
    }
}
