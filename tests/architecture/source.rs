//! One Rust file as a row of tokens: comments are gone, what only tests compile is gone, strings are marked.

/// One token and where it stands. `::` is one token; every other sign stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Counted from 1.
    pub(crate) line: usize,
    /// A word, a sign, or the inside of a string literal as it is written.
    pub(crate) text: String,
    /// Whether it is the inside of a string literal.
    pub(crate) literal: bool,
}

/// A file of the house.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the repository, with `/` between.
    pub(crate) path: String,
    /// All its lines, those of comments and tests included.
    pub(crate) lines: usize,
    /// Whether its first line begins with `//!`.
    pub(crate) has_purpose: bool,
    /// What the compiler sees outside of tests.
    pub(crate) tokens: Vec<Token>,
    /// Modules that stand in files of their own and that only tests compile.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    /// Reads `text` as the file at `path`.
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let (tokens, test_modules) = without_tests(&Lexer::new(text).tokens());
        Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            has_purpose: text.starts_with("//!"),
            tokens,
            test_modules,
        }
    }

    /// The path of the module that this file is: empty for the root, `["proxy", "reply"]` for `src/proxy/reply.rs`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut parts: Vec<&str> = inner.split('/').collect();
        if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
            parts.pop();
        }
        parts
    }

    /// Whether the words at `at` and after it are `words`, none of them in a string.
    pub(crate) fn reads(&self, at: usize, words: &[&str]) -> bool {
        let found = self.tokens.get(at..at + words.len());
        found.is_some_and(|found| found.iter().zip(words).all(|(t, w)| !t.literal && t.text == *w))
    }
}

/// Cuts a text into tokens, leaving out comments and white space.
struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1, tokens: Vec::new() }
    }

    fn tokens(mut self) -> Vec<Token> {
        while let Some(next) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip(block_comment(self.rest));
            } else if let Some((open, hashes)) = string_start(self.rest) {
                self.string(open, hashes);
            } else if next == '\'' {
                self.quote();
            } else if next == '_' || next.is_alphanumeric() {
                let word = |c: char| c != '_' && !c.is_alphanumeric();
                self.push(self.rest.find(word).unwrap_or(self.rest.len()));
            } else if next.is_whitespace() {
                self.skip(next.len_utf8());
            } else {
                self.push(if self.rest.starts_with("::") { 2 } else { next.len_utf8() });
            }
        }
        self.tokens
    }

    fn skip(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at(length);
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }

    fn push(&mut self, length: usize) {
        let text = self.rest[..length].to_owned();
        self.tokens.push(Token { line: self.line, text, literal: false });
        self.skip(length);
    }

    /// A string whose opening (`"`, `b"`, `r#"`) is `open` bytes long and has `hashes`, if it is raw.
    fn string(&mut self, open: usize, hashes: Option<usize>) {
        let inside = &self.rest[open..];
        let length = match hashes {
            Some(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                inside.find(&end).unwrap_or(inside.len())
            }
            None => plain_end(inside),
        };
        let text = inside[..length].to_owned();
        self.tokens.push(Token { line: self.line, text, literal: true });
        let close = 1 + hashes.unwrap_or(0);
        self.skip((open + length + close).min(self.rest.len()));
    }

    /// A character, or the sign before a lifetime.
    fn quote(&mut self) {
        let mut after = self.rest[1..].char_indices();
        let length = match after.next() {
            Some((_, '\\')) => self.rest[3..].find('\'').map_or(1, |at| at + 4),
            Some((_, c)) if self.rest[1 + c.len_utf8()..].starts_with('\'') => c.len_utf8() + 2,
            _ => 1,
        };
        self.skip(length);
    }
}

/// How long the opening of a string literal is that begins here, and its hashes if it is raw.
fn string_start(text: &str) -> Option<(usize, Option<usize>)> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|p| text.starts_with(p))?;
    let after = &text[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return None;
    }
    match (prefix.ends_with('r'), hashes) {
        (true, _) => Some((prefix.len() + hashes + 1, Some(hashes))),
        (false, 0) => Some((prefix.len() + 1, None)),
        (false, _) => None,
    }
}

fn plain_end(inside: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    inside.len()
}

fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if here.starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Leaves out every item under `#[cfg(test)]`; also tells which modules are declared so in files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if !spells(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = item_end(tokens, at + 7);
        let item = &tokens[at + 7..end];
        let declared = (0..item.len()).find(|i| spells(&item[*i..], &["mod"]));
        modules.extend(declared.filter(|i| item.len() == i + 3).map(|i| item[i + 1].text.clone()));
        at = end;
    }
    (kept, modules)
}

fn spells(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(t, w)| !t.literal && t.text == *w)
}

/// Where the item that begins at `at` ends: behind its `;` or its closing brace.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            _ if token.literal => {}
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth <= 1 => return at,
            "}" => depth -= 1,
            ";" if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::read("src/x.rs", text).tokens.into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_of_every_kind_are_left_out() {
        assert_eq!(words("//! a\n/// b\na /* c /* d */ e */ b // f\n"), ["a", "b"]);
    }

    #[test]
    fn a_string_is_one_token_whatever_stands_in_it() {
        let text = r####"f("a \" // b", r#"c " d"#, b"e", '"', '\'', 'x', &'a str)"####;
        let literals: Vec<String> =
            Source::read("src/x.rs", text).tokens.into_iter().filter(|t| t.literal).map(|t| t.text).collect();
        assert_eq!(literals, [r#"a \" // b"#, r#"c " d"#, "e"]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let source = Source::read("src/x.rs", "\"a\nb\"\n/*\n*/ end");
        assert_eq!(source.tokens.last().map(|t| t.line), Some(4));
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        let text = "a; #[cfg(test)] mod tests { fn x() { y[1]; } } b; #[cfg(test)] #[rustfmt::skip] use c::{d, e}; f";
        assert_eq!(words(text).join(" "), "a ; b ; ; f");
        assert_eq!(Source::read("src/x.rs", "#[cfg(test)]\nmod tests;\nmod y;").test_modules, ["tests"]);
    }
}
