//! What others wrote, made harmless for a terminal: nothing that moves its cursor, and nothing that shows letters in
//! another order than they stand in, or not at all.

use std::path::Path;

/// `text` on one line.
pub(super) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push(c, &mut shown));
    shown
}

/// Appends `c`: a control character as a space, a character of format that is not seen by its number.
pub(super) fn push(c: char, to: &mut String) {
    match c {
        c if c.is_control() => to.push(' '),
        // Marks and overrides of direction (UAX #9), ends of lines, what has no width, tags.
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => to.extend(c.escape_unicode()),
        c => to.push(c),
    }
}

/// `text` with the commands of ours in it as they are to be typed: with `--config` where the configuration was named so,
/// and `explain` with the integration.
pub(super) fn typed(text: &str, integration: &str, config: Option<&Path>) -> String {
    let config =
        config.map(|path| format!(" --config {}", quoted(&path.to_string_lossy()))).unwrap_or_default();
    let mut typed = String::new();
    for (n, part) in text.split('`').enumerate() {
        if n > 0 {
            typed.push('`');
        }
        typed.push_str(part);
        if n % 2 == 1 && part.starts_with("outrider ") {
            if part == "outrider explain" {
                typed.push_str(&format!(" {integration}"));
            }
            typed.push_str(&config);
        }
    }
    typed
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_seen() {
        let text =
            "a\u{1b}[2J\r\nb\u{9b}31m \u{202e}fdp.exe\u{2066}\u{200b}\u{feff}\u{2028} é 👩\u{200d}💻 שלום";
        let shown = "a [2J  b 31m \\u{202e}fdp.exe\\u{2066}\\u{200b}\\u{feff}\\u{2028} é 👩\u{200d}💻 שלום";
        assert_eq!(line(text), shown);
    }

    #[test]
    fn a_command_carries_the_configuration_that_was_named() {
        let text = "run `outrider check --online`, then `outrider explain`; not `ca_file`";
        assert_eq!(
            typed(text, "acme", Some(Path::new("my conf/it's.toml"))),
            r"run `outrider check --online --config 'my conf/it'\''s.toml'`, then `outrider explain acme --config 'my conf/it'\''s.toml'`; not `ca_file`"
        );
        let bare = "run `outrider check --online`, then `outrider explain acme`; not `ca_file`";
        assert_eq!(typed(text, "acme", None), bare);
    }
}
