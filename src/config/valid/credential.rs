//! Secrets: where one comes from, what it may hold, and how it is read when it is needed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::SecretSource;
use crate::config::places::At;
use crate::config::{expand, text};
use crate::files;
use crate::secret::Secret;

impl SecretSource {
    /// Reads the secret as it is now; one newline at the end of a file is trimmed. An empty one and one with control
    /// characters are refused. The error shows the file as far as it exists, never what is in it.
    pub fn load(&self) -> Result<Secret, String> {
        match self {
            Self::Inline(secret) => {
                check(secret.expose()).map(|()| secret.clone()).map_err(|why| format!("it {why}"))
            }
            Self::File(path) => {
                let text = expand::read(path).map_err(|why| in_file(path, &why))?;
                check(&text).map_err(|why| in_file(path, &format!("it {why}")))?;
                Ok(Secret::new(text))
            }
            Self::Token { file, client_id } => {
                let token = Token::read(file, &[])?;
                if token.client_id.as_ref().is_some_and(|now| now != client_id) {
                    return Err(in_file(file, "its client_id has changed; reload to use it"));
                }
                token.client_secret.ok_or_else(|| in_file(file, "it has no client_secret"))
            }
        }
    }

    /// The key that it was written in, where it is the secret `key`: its twin for a file.
    pub fn key(&self, key: &str) -> String {
        match self {
            Self::Inline(_) => key.to_owned(),
            Self::File(_) => format!("{key}_file"),
            Self::Token { .. } => "token_file".to_owned(),
        }
    }

    /// The file that it is read from, if it is.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Inline(_) => None,
            Self::File(file) | Self::Token { file, .. } => Some(file),
        }
    }
}

/// What Galileo's `token` holds.
#[derive(Debug, Default)]
pub(in crate::config) struct Token {
    pub(in crate::config) client_id: Option<String>,
    pub(in crate::config) client_secret: Option<Secret>,
    /// The names of what else is in it.
    pub(in crate::config) others: Vec<String>,
}

impl Token {
    /// Reads the token in a file, but for the fields `unread`. Nothing in it is expanded.
    pub(in crate::config) fn read(path: &Path, unread: &[&str]) -> Result<Self, String> {
        let text = expand::read(path).map_err(|why| in_file(path, &why))?;
        let token = Self::parse(&text, unread, |text| Ok(text.to_owned()));
        let token = token.map_err(|why| in_file(path, &why))?;
        Ok(token.unwrap_or_default())
    }

    /// Reads `{"client_id": "…", "client_secret": "…"}`; each string in it goes through `expand`, and `None` means
    /// that `expand` has complained. What stands in the fields `unread` does not matter. The error never quotes the text.
    pub(in crate::config) fn parse(
        text: &str,
        unread: &[&str],
        mut expand: impl FnMut(&str) -> Result<String, ()>,
    ) -> Result<Option<Self>, String> {
        const SHAPE: &str = r#"{"client_id": "…", "client_secret": "…"}"#;
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return Err(format!("it must hold JSON: {SHAPE}"));
        };
        if let Some(twice) = text::json(text, &At::root()).ok().and_then(|json| json.twice) {
            let (line, _) = twice.first;
            return Err(format!("in its JSON this key stands in line {line} already: keep one of them"));
        }
        let mut field = |name: &str| match object.get(name) {
            _ if unread.contains(&name) => Ok(Ok(None)),
            None | Some(Value::Null) => Ok(Ok(None)),
            Some(Value::String(text)) => Ok(expand(text).map(Some)),
            Some(_) => Err(format!("its {name} must be a string")),
        };
        let (Ok(client_id), Ok(client_secret)) = (field("client_id")?, field("client_secret")?) else {
            return Ok(None);
        };
        for (name, text) in [("client_id", &client_id), ("client_secret", &client_secret)] {
            text.as_deref().map_or(Ok(()), check).map_err(|why| format!("its {name} {why}"))?;
        }
        let others = object.keys().filter(|key| !["client_id", "client_secret"].contains(&key.as_str()));
        let others = others.cloned().collect();
        Ok(Some(Self { client_id, client_secret: client_secret.map(Secret::new), others }))
    }
}

/// What a secret may not be. It prints as words to be read after the secret's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Flaw {
    Empty,
    BareScheme,
    Control,
    Lines,
    Masked,
}

impl Flaw {
    /// What to do.
    pub(in crate::config) fn help(self) -> &'static str {
        match self {
            Self::Empty => "an empty credential would become a request without one",
            Self::BareScheme => "write the key after it; a variable may be empty",
            Self::Control => {
                "write it without; in a file, which a `…_file` key names, one newline at the end is left out"
            }
            Self::Lines => "keep the secret alone, on one line",
            Self::Masked => "set the secret itself: what shows it as stars does not hand it out",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::BareScheme => "is empty after its scheme",
            Self::Control => "holds a control character, such as a line's end",
            Self::Lines => "holds several lines, where the secret alone may stand",
            Self::Masked => "is masked: these are not the secret's own characters",
        })
    }
}

/// Whether `text` may be a secret.
pub(in crate::config) fn check(text: &str) -> Result<(), Flaw> {
    if text.trim().is_empty() {
        return Err(Flaw::Empty);
    }
    if ["bearer", "basic", "token"].contains(&text.trim().to_ascii_lowercase().as_str()) {
        return Err(Flaw::BareScheme);
    }
    if text.trim_end_matches(['\r', '\n']).contains('\n') {
        return Err(Flaw::Lines);
    }
    if text.chars().any(char::is_control) {
        return Err(Flaw::Control);
    }
    if text.chars().all(|c| matches!(c, '*' | '•')) {
        return Err(Flaw::Masked);
    }
    Ok(())
}

fn in_file(path: &Path, why: &str) -> String {
    format!("{}: {why}", files::shown(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_loses_one_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "sk-1234\n").unwrap();
        assert_eq!(SecretSource::File(path).load().unwrap().expose(), "sk-1234");
    }

    #[test]
    fn an_empty_masked_or_garbled_secret_is_refused_and_never_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for bad in ["", "\n", "  ", "Bearer \n", "sk-1234\nsk-5678", "sk-1234\n\n", "sk-1234\0", "****"] {
            std::fs::write(&path, bad).unwrap();
            let why = SecretSource::File(path.clone()).load().unwrap_err();
            assert!(why.starts_with(&path.display().to_string()) && !why.contains("sk-"), "{why}");
        }
        std::fs::write(&path, [b's', 0xff]).unwrap();
        assert!(SecretSource::File(path.clone()).load().is_err());
        std::fs::remove_file(&path).unwrap();
        let missing = SecretSource::File(path).load().unwrap_err();
        assert!(missing.starts_with(&format!("{}/…: No such file", dir.path().display())), "{missing}");
    }

    #[test]
    fn a_token_file_gives_its_secret_while_it_belongs_to_the_same_client() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let source = SecretSource::Token { file: file.clone(), client_id: "me".to_owned() };
        std::fs::write(&file, r#"{"client_id": "me", "client_secret": "s1"}"#).unwrap();
        assert_eq!(source.load().unwrap().expose(), "s1");
        std::fs::write(&file, r#"{"client_id": "me", "client_secret": "s2"}"#).unwrap();
        assert_eq!(source.load().unwrap().expose(), "s2", "it is read anew");
        std::fs::write(&file, r#"{"client_id": "you", "client_secret": "s3"}"#).unwrap();
        assert!(source.load().unwrap_err().contains("reload"));
        for bad in
            ["s4", "[]", r#"{"client_secret": 5}"#, r#"{"client_id": "me"}"#, r#"{"client_secret": ""}"#]
        {
            std::fs::write(&file, bad).unwrap();
            assert!(source.load().is_err(), "{bad} was taken");
        }
    }
}
