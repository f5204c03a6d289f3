//! The forms that a string value may hold: `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `${file:/path}`.
//!
//! They are expanded after parsing, so that a value cannot inject TOML. `$$` alone stays, `$${` is a literal `${`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::read::is_home;
pub use crate::files::plain;
use crate::files::{self, Prints};

/// The longest file that `${file:…}` reads, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a string could not be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The text is wrong, or a variable is missing: what, and what to do.
    Text { message: String, help: String },
    /// A file cannot be read: wrong in the world.
    World(String),
}

/// Where variables and files come from, and which files were asked for.
pub(super) struct Expander<'a> {
    pub(super) env: &'a Environment,
    /// What a relative path in `${file:…}` is relative to.
    pub(super) dir: &'a Path,
    pub(super) files: &'a mut Prints,
    /// What the forms gave so far.
    pub(super) given: Vec<String>,
    /// The files among `files` that this text asked for.
    pub(super) asked: Vec<PathBuf>,
}

impl Expander<'_> {
    /// Expands every form in `text`.
    pub(super) fn expand<'t>(&mut self, text: &'t str) -> Result<Cow<'t, str>, Failure> {
        if !text.contains("${") {
            return Ok(Cow::Borrowed(text));
        }
        let (mut out, mut rest) = (String::new(), text);
        while let Some(start) = rest.find("${") {
            if rest[..start].ends_with('$') {
                out.push_str(&rest[..start - 1]);
                out.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            out.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                return Err(wrong(
                    "`${` without its `}`".to_owned(),
                    "close it, or write `$${` for a literal `${`",
                ));
            };
            let given = self.form(&rest[start + 2..start + length])?;
            out.push_str(&given);
            self.given.push(given);
            rest = &rest[start + length + 1..];
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }

    fn form(&mut self, form: &str) -> Result<String, Failure> {
        if let Some(path) = form.strip_prefix("file:") {
            return self.file(path);
        }
        let end = form.find(':').unwrap_or(form.len());
        let (name, rest) = form.split_at(end);
        if !is_name(name) {
            // What stands there may be a secret: it is not repeated.
            let help =
                "known are ${VAR}, ${VAR:-default}, ${VAR:?message} and ${file:/path}; a literal is `$${`";
            return Err(wrong("what stands between `${` and `}` is not a variable's name".to_owned(), help));
        }
        if self.env.is_unreadable(name) {
            let message = format!("the environment variable {name} is set, and its value is not UTF-8");
            return Err(wrong(message, "set it anew"));
        }
        let set = self.env.get(name);
        let filled = set.filter(|value| !value.is_empty());
        match (rest.strip_prefix(":-"), rest.strip_prefix(":?"), rest.is_empty()) {
            (Some(default), ..) if default.contains("${") => Err(wrong(
                format!("the default of ${{{name}:-…}} holds another `${{`"),
                "forms cannot be nested",
            )),
            (Some(default), ..) => Ok(filled.unwrap_or(default).to_owned()),
            (_, Some(message), _) => filled.map(str::to_owned).ok_or_else(|| {
                let colon = if message.is_empty() { "" } else { ": " };
                let lacks = if set.is_some() { "empty" } else { "not set" };
                missing(name, format!("the environment variable {name} is {lacks}{colon}{message}"))
            }),
            (_, _, true) => set
                .map(str::to_owned)
                .ok_or_else(|| missing(name, format!("the environment variable {name} is not set"))),
            _ => {
                let help = format!("write ${{{name}:-default}} or ${{{name}:?message}}");
                Err(wrong(format!("after ${{{name}: comes `-` or `?`"), &help))
            }
        }
    }

    fn file(&mut self, path: &str) -> Result<String, Failure> {
        if is_home(path) {
            return Err(wrong(
                "the path of a file begins with `~`, which only a shell fills in".to_owned(),
                "write the whole path",
            ));
        }
        let path = self.dir.join(path);
        // The print comes first: what changes in between is then seen as a change.
        self.files.insert(path.clone(), files::print(&path));
        self.asked.push(path.clone());
        match read(&path) {
            // As a secret's own file: one that is just being written is not taken for what it will be.
            Ok(text) if text.trim().is_empty() => {
                Err(Failure::World(format!("{} is empty", files::shown(&path))))
            }
            read => read.map_err(|why| Failure::World(format!("cannot read {}: {why}", files::shown(&path)))),
        }
    }
}

/// Reads a small text file; one newline at its end is trimmed. The error never quotes the content.
pub(super) fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;

    files::check_pipe(path).map_err(|e| plain(&e))?;
    let file = std::fs::File::open(path).map_err(|e| plain(&e))?;
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| plain(&e))?;
    if text.len() as u64 > MAX_FILE {
        return Err("it is larger than 1 MiB".to_owned());
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Whether a variable may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.bytes().all(word) && !name.as_bytes()[0].is_ascii_digit()
}

fn missing(name: &str, message: String) -> Failure {
    Failure::Text { message, help: format!("set {name}, or give a default: ${{{name}:-default}}") }
}

fn wrong(message: String, help: &str) -> Failure {
    Failure::Text { message, help: help.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, Failure> {
        let env = Environment::of([("A", "one"), ("EMPTY", "")]);
        let mut files = Prints::new();
        let mut expander = Expander {
            env: &env,
            dir: Path::new("/nowhere"),
            files: &mut files,
            given: Vec::new(),
            asked: Vec::new(),
        };
        expander.expand(text).map(Cow::into_owned)
    }

    #[test]
    fn every_form_is_expanded() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "one"),
            ("x${A}y${A}z", "xoneyonez"),
            ("${EMPTY}", ""),
            ("${B:-two}", "two"),
            ("${EMPTY:-two}", "two"),
            ("${A:-two}", "one"),
            ("${B:-}", ""),
            ("${A:?needed}", "one"),
            ("$$", "$$"),
            ("a$b$$c", "a$b$$c"),
            ("$${A}", "${A}"),
            ("$${A} ${A}", "${A} one"),
            ("{{ x }}", "{{ x }}"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        for text in ["${B}", "${B:?}", "${EMPTY:?say why}"] {
            let Err(Failure::Text { message, .. }) = expand(text) else { panic!("{text} was expanded") };
            assert!(message.contains(" B ") || message.contains("EMPTY is empty: say why"), "{message}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused_and_not_repeated() {
        for text in ["${sk-live-1}", "${}", "${A", "${A:x}", "${B:-${A}}", "${1A}"] {
            let Err(Failure::Text { message, .. }) = expand(text) else { panic!("{text} was expanded") };
            assert!(!message.contains("sk-live"), "{message}");
        }
    }

    #[test]
    fn a_file_loses_one_newline_and_a_missing_one_is_the_worlds_fault() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "s3cret\n\n").unwrap();
        let (env, mut files) = (Environment::of([]), Prints::new());
        let mut expander =
            Expander { env: &env, dir: dir.path(), files: &mut files, given: Vec::new(), asked: Vec::new() };
        assert_eq!(expander.expand("Bearer ${file:key}").unwrap(), "Bearer s3cret\n");
        assert!(
            matches!(expander.expand("${file:none}"), Err(Failure::World(why)) if why.contains("/…: No such file"))
        );
        assert_eq!(files.len(), 2, "a missing file is watched too");
    }
}
