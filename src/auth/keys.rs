//! Reads secrets from where the configuration says they are.

use std::path::Path;

use crate::config::valid::SecretSource;
use crate::secret::Secret;

/// The longest secret that is read from a file, in bytes.
const MAX_SECRET: u64 = 1 << 20;

/// The secret itself, read now if it stands in a file; one trailing newline is trimmed.
///
/// The error says what is wrong in the world: a file that cannot be read, or nothing in it. An empty credential
/// would become an unauthenticated request.
pub fn read_secret(source: &SecretSource) -> Result<Secret, String> {
    match source {
        SecretSource::Inline(secret) if secret.is_empty() => Err("the secret is empty".into()),
        SecretSource::Inline(secret) => Ok(secret.clone()),
        SecretSource::File(path) => {
            read_file(path).map_err(|why| format!("secret file {}: {why}", path.display()))
        }
        SecretSource::Token { .. } => source.load(),
    }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MAX_SECRET {
        return Err("it is larger than 1 MiB".into());
    }
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it is empty".into());
    }
    Ok(Secret::new(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, content).unwrap();
        (dir, SecretSource::File(path))
    }

    #[test]
    fn one_trailing_newline_is_trimmed_and_nothing_else() {
        for (content, want) in [("s3", "s3"), ("s3\n", "s3"), ("s3\r\n", "s3"), (" s3 \n\n", " s3 \n")] {
            let (_dir, source) = file(content.as_bytes());
            assert_eq!(read_secret(&source).unwrap().expose(), want);
        }
    }

    #[test]
    fn a_secret_that_is_empty_missing_or_not_text_is_an_error_that_names_the_file() {
        assert!(read_secret(&SecretSource::Inline(Secret::new(""))).is_err());
        for content in [&b""[..], b"\n", b"\xff\xfe"] {
            let (_dir, source) = file(content);
            let words = read_secret(&source).unwrap_err();
            assert!(words.contains("/secret: it is "), "{words}");
        }
        let words = read_secret(&SecretSource::File("/nowhere/at/all".into())).unwrap_err();
        assert!(words.contains("/nowhere/at/all"), "{words}");
    }
}
