//! A secret string: it prints as `***` and has neither `Display` nor `Serialize`.

use std::fmt;
use std::sync::Arc;

/// A secret. `Debug` prints `***`; the text leaves only through [`Secret::expose`], whose callers
/// `tests/architecture.rs` limits to the rooms that put it on the wire.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this secret, in a time that depends on its length alone.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let mine = self.0.as_bytes();
        let differs = mine.iter().zip(candidate).fold(0u8, |acc, (a, b)| std::hint::black_box(acc | (a ^ b)));
        mine.len() == candidate.len() && differs == 0
    }

    /// Whether there is nothing in it: an empty credential must never become an unauthenticated request.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("sk-live-1234");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(***)");
    }

    #[test]
    fn a_secret_matches_itself_and_nothing_else() {
        let secret = Secret::new("abc");
        assert!(secret.matches(b"abc"));
        for other in ["", "ab", "abcd", "abd"] {
            assert!(!secret.matches(other.as_bytes()), "{other} was taken");
        }
    }
}
