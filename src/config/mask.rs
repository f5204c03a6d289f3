//! One line of a file as it may be shown: keys as they stand, values masked unless their key is known to be harmless.

use std::ops::Range;

use super::places::{At, Inside, Layer, Node, Origin, floor};
use super::problem::Snippet;
use super::valid::{holds_credential, is_random};

/// The line that `mark` begins in, masked, with `mark` underlined.
pub(super) fn line(layer: &Layer, mark: &Range<usize>) -> Option<Snippet> {
    let start = layer.text[..floor(&layer.text, mark.start)].rfind('\n').map_or(0, |n| n + 1);
    let end = layer.text[start..].find('\n').map_or(layer.text.len(), |n| start + n);
    let mut hidden = Vec::new();
    secrets(&layer.root, (&layer.at, &layer.text), &(start..end), &mut hidden);
    Some(Line { layer, span: start..end, hidden }.masked(mark))
}

/// The line that `at` lies in when the text could not be parsed: only keys that we know ourselves are shown, since
/// anything else may be a piece of a secret.
pub(super) fn broken_line(text: &str, at: usize, known: impl Fn(&str) -> bool) -> Option<Snippet> {
    let at = floor(text, at);
    let start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let word = line.trim_start().trim_start_matches(['[', '"', '\'']);
    let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(word.len());
    let (indent, word) = (line.len() - word.len(), &word[..end]);
    if !known(word) {
        return None;
    }
    let after = line[indent + end..].trim_start();
    let behind_quote = after.strip_prefix(['"', '\'']).unwrap_or(after).trim_start();
    let value = behind_quote.strip_prefix(['=', ':']).map(str::trim_start);
    // As it is spaced in the file, or the caret would stand under another character than the column says.
    let shown = match value {
        Some(value) => &line[..line.len() - value.len()],
        None => &line[..indent + end],
    };
    let rest = value.unwrap_or(after).trim().is_empty();
    let shown = if rest { shown.trim_end() } else { shown }.replace('\t', " ");
    let gap = if rest || value.is_some() { "" } else { " " };
    let offset = line[..at - start].chars().count();
    let (known_width, shown_width) = (shown.chars().count(), shown.trim_end().chars().count());
    let from = if offset < known_width { offset } else { known_width + gap.len() };
    let text = if rest { shown } else { format!("{shown}{gap}***") };
    let width = if offset < known_width { shown_width.saturating_sub(from).max(1) } else { 3 };
    Some(Snippet { text, from, width })
}

/// Whether the value at `at` may be printed. What is not listed here is a secret until shown otherwise.
pub(super) fn is_harmless(at: &At) -> bool {
    match at.keys().as_slice() {
        ["integrations_dir"] => true,
        ["server" | "admin", key] => SERVER.contains(key),
        ["log", "level" | "format" | "access"] | ["egress", "ca_file" | "ca_mode" | "no_proxy"] => true,
        ["limits", key] | ["integrations", _, "limits", key] => LIMITS.contains(key),
        ["handlers", key] => HANDLERS.contains(key),
        ["server", "tls", key] | ["integrations", _, "tls" | "token_tls", key] => TLS.contains(key),
        ["integrations", _, "rename", _] | ["integrations", _, "stream", "framing"] => true,
        ["integrations", _, key] => INTEGRATION.contains(key),
        ["integrations", _, "aws", key] => ["region", "service"].contains(key),
        ["integrations", _, "oauth2", key] => ["client_auth", "header", "signing_alg"].contains(key),
        ["integrations", _, "model_properties", key] => MODEL.contains(key),
        ["integrations", _, "custom_header_mapping", _] => true,
        ["integrations", _, "custom_llm_config", key] => ["file_name", "class_name"].contains(key),
        ["integrations", _, "multi_modal_config", key] => ["max_files", "max_file_size_bytes"].contains(key),
        _ => false,
    }
}

/// Whether the value `text` may be a secret, although its key holds none.
pub(super) fn may_be_secret(text: &str) -> bool {
    // `user:password@`, as URLs have it.
    let has_password = text.split_once('@').is_some_and(|(before, _)| before.contains(':'));
    holds_credential(text) || is_random(text) || has_password
}

/// The spans in `window` whose text must not be shown.
fn secrets(node: &Node, (at, text): (&At, &str), window: &Range<usize>, found: &mut Vec<Range<usize>>) {
    match &node.inside {
        Inside::Table(table) => {
            for (key, node) in table {
                if holds_credential(key) {
                    found.push(node.mark.clone());
                }
                secrets(node, (&at.key(key), text), window, found);
            }
        }
        Inside::Array(array) => array.iter().for_each(|node| secrets(node, (at, text), window, found)),
        Inside::Nothing => {
            let touches = node.span.start < window.end && node.span.end > window.start;
            // What is put where no secret belongs may be one nevertheless.
            let value = text.get(node.span.clone()).unwrap_or_default();
            if touches && (!is_harmless(at) || may_be_secret(value)) {
                found.push(node.span.clone());
            }
        }
    }
}

/// One line while it is being masked.
struct Line<'a> {
    layer: &'a Layer,
    span: Range<usize>,
    hidden: Vec<Range<usize>>,
}

impl Line<'_> {
    fn masked(&self, mark: &Range<usize>) -> Snippet {
        let (mut text, mut width, mut from, mut to) = (String::new(), 0, None, 0);
        let mut last_hidden = None;
        let line = self.layer.text[self.span.clone()].trim_end();
        for (offset, c) in line.char_indices().map(|(n, c)| (self.span.start + n, c)) {
            if self.layer.origin == Origin::Toml && self.is_comment(offset, c) {
                break;
            }
            let hidden = self.hidden.iter().position(|span| span.contains(&offset));
            let repeated = hidden.is_some() && hidden == last_hidden;
            last_hidden = hidden;
            if mark.start <= offset && from.is_none() {
                from = Some(width);
            }
            if !repeated {
                let piece =
                    if hidden.is_some() { "***".to_owned() } else { c.to_string().replace('\t', " ") };
                width += piece.chars().count();
                text.push_str(&piece);
            }
            if mark.contains(&offset) {
                to = width;
            }
        }
        let from = from.unwrap_or(width);
        Snippet { text: text.trim_end().to_owned(), from, width: to.saturating_sub(from).max(1) }
    }

    /// A `#` that is in no value begins a comment, which may hold an old secret. (One in a quoted key ends the
    /// line early: harmless.)
    fn is_comment(&self, offset: usize, c: char) -> bool {
        c == '#' && !inside_value(&self.layer.root, offset)
    }
}

fn inside_value(node: &Node, offset: usize) -> bool {
    match &node.inside {
        Inside::Table(table) => table.values().any(|node| inside_value(node, offset)),
        Inside::Array(array) => array.iter().any(|node| inside_value(node, offset)),
        Inside::Nothing => node.span.contains(&offset),
    }
}

/// Harmless keys of `[server]` and `[admin]`.
const SERVER: [&str; 17] = [
    "listen",
    "start",
    "watch",
    "rotation_interval",
    "workers",
    "header_timeout",
    "body_timeout",
    "idle_timeout",
    "max_header_bytes",
    "max_body",
    "max_connections",
    "linger",
    "drain_timeout",
    "metrics_listen",
    "unix_mode",
    "unix_owner",
    "unix_group",
];

/// Of `limits`.
const LIMITS: [&str; 10] = [
    "connect",
    "first_byte",
    "idle",
    "token",
    "max_concurrent",
    "queue_timeout",
    "pool_idle",
    "max_connection_age",
    "max_answer",
    "max_event",
];

/// Of `[handlers]`.
const HANDLERS: [&str; 15] = [
    "enabled",
    "directory",
    "python",
    "workers",
    "start_timeout",
    "start_wait",
    "request_timeout",
    "memory",
    "max_requests",
    "max_in_flight",
    "sync_threads",
    "egress",
    "call_style",
    "env",
    "file_name",
];

/// Of one integration.
const INTEGRATION: [&str; 13] = [
    "format",
    "path",
    "api_version",
    "authentication_type",
    "api_key_header",
    "models",
    "default_model",
    "forward_headers",
    "rename",
    "drop",
    "strict",
    "call_style",
    "client_auth",
];

/// Of `tls`. A certificate may have been pasted with its key where the path of its file belongs.
const TLS: [&str; 5] = ["client_ca_file", "ca_file", "ca_mode", "min_version", "http2"];

/// Of `model_properties`.
const MODEL: [&str; 5] = ["name", "alias", "based_on", "supported_parameters", "supports_json_schema"];
