//! The fences: what may be named only in its own rooms, as one table.

use super::source::{Source, Token};

/// One rule: `sign` may stand only in `rooms`.
pub(crate) struct Fence {
    /// What is fenced, for the message.
    pub(crate) what: &'static str,
    /// How it is recognised.
    sign: Sign,
    /// Where the rule holds: files whose path begins so.
    within: &'static str,
    /// Where it may stand: a file, or all files of a folder.
    rooms: &'static [&'static str],
    /// Single files with the reason why each may break the rule.
    exceptions: &'static [(&'static str, &'static str)],
}

/// How something fenced is recognised.
enum Sign {
    /// Any of these rows of tokens, one after the other.
    Tokens(&'static [&'static [&'static str]]),
    /// A constant of this type that is used, not only compared with.
    Constant(&'static str),
    /// `word` inside `derive(…)`, or `impl … word … for`.
    Trait(&'static str),
    /// A string one of whose lines begins with one of these, or that is one of them.
    Text(&'static [&'static str]),
    /// A name, alone or as a whole word of a string.
    Word(&'static [&'static str]),
}

const DEMO: &str = "src/cli/demo";

/// Every fence of the house.
pub(crate) const FENCES: &[Fence] = &[
    Fence {
        what: "the environment (`std::env`)",
        sign: Sign::Tokens(&[
            &["env", "::", "var"],
            &["env", "::", "var_os"],
            &["env", "::", "vars"],
            &["env", "::", "vars_os"],
            &["env", "::", "set_var"],
            &["env", "::", "remove_var"],
            &["env", "::", "{"],
        ]),
        within: "src/",
        rooms: &["src/config/environment"],
        exceptions: &[],
    },
    Fence {
        what: "the command line (`std::env::args`)",
        sign: Sign::Tokens(&[&["env", "::", "args"], &["env", "::", "args_os"]]),
        within: "src/",
        rooms: &["src/main.rs"],
        exceptions: &[],
    },
    Fence {
        what: "`Deserialize` for settings",
        sign: Sign::Trait("Deserialize"),
        within: "src/config",
        rooms: &["src/config/raw", "src/config/galileo"],
        exceptions: &[],
    },
    Fence {
        what: "`Secret::expose`",
        sign: Sign::Tokens(&[&[".", "expose", "("], &["Secret", "::", "expose"]]),
        within: "src/",
        rooms: &["src/secret", "src/auth", "src/config/valid", "src/integration/door", "src/tls"],
        exceptions: &[],
    },
    Fence {
        what: "a path that is printed whole (`files::shown` shows it where it may be a secret)",
        sign: Sign::Tokens(&[&[".", "display", "("], &[".", "to_string_lossy", "("]]),
        within: "src/",
        rooms: &["src/files", "src/config/source", "src/cli", "src/server", "src/workers"],
        exceptions: &[
            ("src/config/valid/server.rs", "the path of an interpreter, which is run"),
            ("src/tls/pem.rs", "the path of authorities, which are public"),
            ("src/tls/words.rs", "a certificate that was read from there, and shown to a server"),
        ],
    },
    Fence {
        what: "`Unsigned::seal`",
        sign: Sign::Tokens(&[&[".", "seal", "("], &["Unsigned", "::", "seal"]]),
        within: "src/",
        rooms: &["src/auth"],
        exceptions: &[],
    },
    Fence {
        what: "a `StatusCode` that is sent",
        sign: Sign::Constant("StatusCode"),
        within: "src/",
        rooms: &["src/proxy/reply", "src/server/admin", DEMO],
        exceptions: &[],
    },
    Fence {
        what: "the text of an SSE line",
        sign: Sign::Text(&["data: ", "event: ", "retry: ", ": ping", "[DONE]"]),
        within: "src/",
        rooms: &["src/framing/sse", DEMO],
        exceptions: &[],
    },
    Fence {
        what: "a rustls configuration builder",
        sign: Sign::Tokens(&[
            &["ClientConfig", "::", "builder"],
            &["ClientConfig", "::", "builder_with_provider"],
            &["ClientConfig", "::", "builder_with_protocol_versions"],
            &["ServerConfig", "::", "builder"],
            &["ServerConfig", "::", "builder_with_provider"],
            &["ServerConfig", "::", "builder_with_protocol_versions"],
        ]),
        within: "src/",
        rooms: &["src/tls", "src/egress", DEMO],
        exceptions: &[],
    },
    Fence {
        what: "words that are cut before `proxy/hide` has taken our credentials out of them",
        sign: Sign::Tokens(&[&["chars", "(", ")", ".", "take"]]),
        within: "src/dialect",
        rooms: &["src/openai/fault"],
        exceptions: &[("src/dialect/declared/message.rs", "it is a client's word for a part of its message")],
    },
    Fence {
        what: "`Fault::shorten`",
        sign: Sign::Tokens(&[&[".", "shorten", "("]]),
        within: "src/",
        rooms: &["src/proxy/hide"],
        exceptions: &[],
    },
    Fence {
        what: "spawning a task past `tasks::Tasks`",
        sign: Sign::Tokens(&[&["tokio", "::", "spawn"], &["task", "::", "spawn"], &["spawn_local"]]),
        within: "src/",
        rooms: &["src/tasks"],
        exceptions: &[],
    },
    Fence {
        what: "a child process",
        sign: Sign::Tokens(&[&["process", "::", "Command"], &["tokio", "::", "process"]]),
        within: "src/",
        rooms: &["src/workers/process"],
        exceptions: &[(
            "src/cli/demo/python.rs",
            "it makes the demo an interpreter with litellm: no handler runs in it",
        )],
    },
    Fence {
        what: "a word of AWS's signature",
        sign: Sign::Word(&[
            "x-amz-date",
            "x-amz-security-token",
            "AssumeRoleWithWebIdentity",
            "SignableRequest",
        ]),
        within: "src/",
        rooms: &["src/auth/aws"],
        exceptions: &[],
    },
    Fence {
        what: "a word of Google's tokens",
        sign: Sign::Word(&[
            "x-goog-user-project",
            "metadata-flavor",
            "service_account",
            "authorized_user",
            "external_account",
            "credential_source",
            "generateAccessToken",
        ]),
        within: "src/",
        rooms: &["src/auth/google"],
        exceptions: &[],
    },
    Fence {
        what: "the engine of expressions, or a word of declared formats",
        sign: Sign::Word(&[
            "minijinja",
            "join_prompt",
            "last_user",
            "system_text",
            "as_list",
            "error_status",
        ]),
        within: "src/",
        rooms: &["src/dialect/declared"],
        exceptions: &[],
    },
    Fence {
        what: "a word of Anthropic's",
        sign: Sign::Word(&[
            "anthropic",
            "x-api-key",
            "anthropic-version",
            "anthropic-beta",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "tool_result",
            "input_schema",
            "message_start",
            "message_delta",
            "message_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "thinking_delta",
        ]),
        within: "src/",
        rooms: &["src/dialect/anthropic", "src/dialect/mod.rs", DEMO],
        exceptions: &[(
            "src/config/valid/doubt.rs",
            "a header that is known for bare keys, whoever reads it",
        )],
    },
    Fence {
        what: "a word of Azure's",
        // `api_version` is a setting, which `query` may hold as well.
        sign: Sign::Word(&["azure", "deployments", "api-version"]),
        within: "src/",
        rooms: &["src/dialect/azure", "src/dialect/mod.rs", "src/config"],
        exceptions: &[],
    },
    Fence {
        what: "a word of Mistral's",
        sign: Sign::Word(&[
            "mistral",
            "random_seed",
            "prompt_mode",
            "safe_prompt",
            "model_length",
            "document_url",
            "document_name",
            "output_dtype",
            "guardrails",
        ]),
        within: "src/",
        rooms: &["src/dialect/mistral", "src/dialect/mod.rs"],
        exceptions: &[],
    },
    Fence {
        what: "the usual tier as Anthropic and Mistral name it",
        sign: Sign::Word(&["standard_only"]),
        within: "src/",
        rooms: &["src/dialect/anthropic", "src/dialect/mistral"],
        exceptions: &[],
    },
    Fence {
        what: "the length of a vector as Cohere and Mistral name it",
        sign: Sign::Word(&["output_dimension"]),
        within: "src/",
        rooms: &["src/dialect/cohere", "src/dialect/mistral"],
        exceptions: &[(
            "src/dialect/bedrock/embed.rs",
            "Bedrock takes requests for Cohere's models in Cohere's words",
        )],
    },
    Fence {
        what: "a word of Gemini's",
        sign: Sign::Word(&[
            "generateContent",
            "streamGenerateContent",
            "batchEmbedContents",
            "embedContent",
            "embedContentConfig",
            "outputDimensionality",
            "systemInstruction",
            "functionDeclarations",
            "parametersJsonSchema",
            "functionCallingConfig",
            "allowedFunctionNames",
            "functionResponse",
            "inlineData",
            "fileData",
            "generationConfig",
            "maxOutputTokens",
            "candidateCount",
            "responseMimeType",
            "responseJsonSchema",
            "responseLogprobs",
            "thinkingConfig",
            "thinkingBudget",
            "thinkingLevel",
            "includeThoughts",
            "thoughtSignature",
            "thought_signature",
            "prompt_feedback",
            "block_reason",
            "usage_metadata",
            "candidates_token_count",
            "thoughts_token_count",
            "safetySettings",
            "cachedContent",
        ]),
        within: "src/",
        rooms: &["src/dialect/gemini"],
        exceptions: &[],
    },
    Fence {
        what: "a word of Claude's, whoever serves it",
        sign: Sign::Word(&["claude", "budget_tokens", "tool_use", "end_turn"]),
        within: "src/",
        rooms: &[
            "src/dialect/claude",
            "src/dialect/anthropic",
            "src/dialect/bedrock",
            "src/dialect/mod.rs",
            DEMO,
        ],
        exceptions: &[],
    },
    Fence {
        what: "a word of Bedrock's",
        sign: Sign::Word(&[
            "converse",
            "toolSpec",
            "toolUse",
            "toolResult",
            "toolUseId",
            "additionalModelRequestFields",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "stopReason",
            "x-amzn-bedrock-input-token-count",
        ]),
        within: "src/",
        rooms: &["src/dialect/bedrock"],
        exceptions: &[],
    },
    Fence {
        what: "a header of AWS' event streams",
        sign: Sign::Word(&["event-type", "exception-type", "message-type", "error-code"]),
        within: "src/",
        rooms: &["src/framing/eventstream"],
        exceptions: &[("src/dialect/bedrock/tests.rs", "it writes frames to feed a stream")],
    },
    Fence {
        what: "a count as Anthropic and Cohere name it",
        sign: Sign::Word(&["input_tokens", "output_tokens"]),
        within: "src/",
        rooms: &["src/dialect/anthropic", "src/dialect/cohere", DEMO],
        exceptions: &[],
    },
    Fence {
        what: "a word of Cohere's",
        sign: Sign::Word(&[
            "cohere",
            "strict_tools",
            "tool_plan",
            "token_budget",
            "safety_mode",
            "citation_options",
            "billed_units",
            "embedding_types",
            "input_type",
            "search_document",
            "ERROR_TOXIC",
            "message-start",
            "content-start",
            "content-delta",
            "content-end",
            "tool-plan-delta",
            "tool-call-start",
            "tool-call-delta",
            "tool-call-end",
            "message-end",
        ]),
        within: "src/",
        rooms: &["src/dialect/cohere", "src/dialect/mod.rs"],
        exceptions: &[
            ("src/dialect/bedrock/embed.rs", "Bedrock takes requests for Cohere's models in Cohere's words"),
            ("src/dialect/bedrock/models.rs", "its table names every family that it serves"),
        ],
    },
    Fence {
        what: "a word of Ollama's",
        sign: Sign::Word(&[
            "ollama",
            "num_predict",
            "keep_alive",
            "tool_name",
            "done_reason",
            "prompt_eval_count",
            "eval_count",
            "/api/chat",
            "/api/embed",
        ]),
        within: "src/",
        rooms: &["src/dialect/ollama", "src/dialect/mod.rs"],
        exceptions: &[],
    },
];

impl Fence {
    /// The lines of `file` that break this rule.
    pub(crate) fn broken(&self, file: &Source) -> Vec<usize> {
        if !file.path.starts_with(self.within) || self.rooms.iter().any(|room| stands_in(&file.path, room)) {
            return Vec::new();
        }
        let mut lines: Vec<usize> = (0..file.tokens.len())
            .filter(|at| self.sign.stands_at(file, *at))
            .map(|at| file.tokens[at].line)
            .collect();
        lines.dedup();
        lines
    }

    /// Why the file at `path` may break this rule, if it may.
    pub(crate) fn excuse(&self, path: &str) -> Option<&'static str> {
        self.exceptions.iter().find(|(file, _)| *file == path).map(|(_, reason)| *reason)
    }

    /// The files that are excused.
    pub(crate) fn excused(&self) -> impl Iterator<Item = &'static str> {
        self.exceptions.iter().map(|(file, _)| *file)
    }

    /// What to tell who broke it.
    pub(crate) fn message(&self) -> String {
        format!("{} belongs in {} alone", self.what, self.rooms.join(", "))
    }
}

/// Whether `path` is the file or lies in the folder that `room` names.
fn stands_in(path: &str, room: &str) -> bool {
    let rest = path.strip_prefix(room);
    rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

impl Sign {
    fn stands_at(&self, file: &Source, at: usize) -> bool {
        let token = &file.tokens[at];
        match self {
            Self::Tokens(rows) => rows.iter().any(|row| file.reads(at, row)),
            Self::Constant(kind) => file.reads(at, &[kind, "::"]) && is_used(file, at),
            Self::Trait(word) => !token.literal && token.text == *word && gives_a_trait(file, at),
            Self::Text(starts) => token.literal && is_line(&token.text, starts),
            Self::Word(words) => words.iter().any(|word| speaks(token, word)),
        }
    }
}

/// Whether `Type::NAME` at `at` is a constant that is used as a value: not compared with, not a pattern.
fn is_used(file: &Source, at: usize) -> bool {
    let is_constant = |text: &str| text.len() > 1 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let compared = |by: &str| at >= 2 && file.reads(at - 2, &[by, "="]);
    let pattern = file.reads(at + 3, &["=", ">"]) || file.reads(at + 3, &["|"]);
    file.tokens.get(at + 2).is_some_and(|t| is_constant(&t.text))
        && !compared("=")
        && !compared("!")
        && !pattern
}

/// Whether the word at `at` stands in a `derive(…)` or between `impl` and `for`.
fn gives_a_trait(file: &Source, at: usize) -> bool {
    let before =
        file.tokens[..at].iter().rev().take_while(|t| !matches!(t.text.as_str(), ";" | "{" | "}" | "]"));
    let opens = before.into_iter().find(|t| !t.literal && matches!(t.text.as_str(), "derive" | "impl"));
    match opens.map(|t| t.text.as_str()) {
        Some("derive") => true,
        Some("impl") => {
            let after = file.tokens[at..].iter().take_while(|t| !matches!(t.text.as_str(), ";" | "{"));
            after.into_iter().any(|t| !t.literal && t.text == "for")
        }
        _ => false,
    }
}

/// Whether a line of a string begins with one of `starts`, or the whole is one of them.
fn is_line(text: &str, starts: &[&str]) -> bool {
    let lines = || text.split('\n').flat_map(|line| line.split("\\n"));
    starts.iter().any(|start| {
        let is_prefix = start.ends_with(' ') || start.starts_with(':');
        if is_prefix { lines().any(|line| line.starts_with(start)) } else { text == *start }
    })
}

/// Whether a token is `word`, or a string that holds it as a whole word, in any case.
fn speaks(token: &Token, word: &str) -> bool {
    if !token.literal {
        return token.text.eq_ignore_ascii_case(word);
    }
    let belongs = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    token.text.split(|c| !belongs(c)).any(|piece| piece.eq_ignore_ascii_case(word))
}
