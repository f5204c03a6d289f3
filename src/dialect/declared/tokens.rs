//! A reading of expressions that tells names from texts; the compiler has the last word on what is sound.

/// A piece of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'s> {
    /// A name, or a word of the language.
    Name(&'s str),
    /// One character of any other kind.
    Sign(char),
    /// A quoted text in its quotes, or a number as far as it has no sign in it.
    Value(&'s str),
}

/// Where a `}}` ends the expression before the source ends, as the lexer of templates sees it: the compiler takes for
/// granted that there is none.
pub(super) fn closed_early(source: &str) -> Option<usize> {
    let (mut open, mut rest) = (0_isize, source);
    while let Some(c) = rest.chars().next() {
        if open == 0 && rest.starts_with("}}") {
            return Some(source.len() - rest.len());
        }
        open += match c {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        let length = if matches!(c, '\'' | '"') { text_end(rest, c) } else { c.len_utf8() };
        rest = &rest[length..];
    }
    None
}

/// A reading of the source that is good enough to tell names from texts; the compiler has checked the rest.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest) = (Vec::new(), source);
    while let Some(c) = rest.chars().next() {
        let length = if c.is_alphanumeric() || c == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let is_number = c.is_ascii_digit();
            tokens.push(if is_number { Token::Value(&rest[..end]) } else { Token::Name(&rest[..end]) });
            end
        } else if c == '\'' || c == '"' {
            let end = text_end(rest, c);
            tokens.push(Token::Value(&rest[..end]));
            end
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Sign(c));
            }
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the quoted text that `rest` begins with.
fn text_end(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_inside_the_source_is_found() {
        for source in ["a }} and {{ b ", " a }}", "{'a': {'b': 1}}}}", "}}", "a -}}"] {
            assert!(closed_early(source).is_some(), "{source}");
        }
        for source in ["{'a': {'b': 1}}", "'}}'", "{'a': {}}[x]", "a }"] {
            assert!(closed_early(source).is_none(), "{source}");
        }
    }
}
