//! The names that configuration and requests use, parsed once into types that cannot be wrong.

use std::fmt;
use std::sync::Arc;

/// The name of one integration: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or a digit, and not
/// `v1`, since it stands in paths as `/{integration}/v1/…`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IntegrationName(Arc<str>);

impl IntegrationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for IntegrationName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 {
            return Err(BadName("is 1 to 64 characters long"));
        }
        if !text.bytes().all(allowed) {
            return Err(BadName("holds only letters, digits, `.`, `_` and `-`"));
        }
        if !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(BadName("begins with a letter or a digit"));
        }
        if text == "v1" {
            return Err(BadName("cannot be `v1`: that is the path's own word"));
        }
        Ok(Self(text.into()))
    }
}

/// A model's name or alias: not empty, no control characters, at most 512 bytes. Slashes are common
/// (`openai/gpt-oss-20b`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as text that is shared, not copied.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl std::str::FromStr for ModelName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.trim().is_empty() {
            return Err(BadName("is not empty"));
        }
        if text.len() > 512 {
            return Err(BadName("is at most 512 bytes long"));
        }
        if text.chars().any(char::is_control) {
            return Err(BadName("holds no control characters"));
        }
        Ok(Self(text.into()))
    }
}

/// Why a name was refused: the rule that it breaks, to be read after "a name …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name {0}")]
pub struct BadName(pub &'static str);

macro_rules! prints_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
prints_as_text!(IntegrationName, ModelName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integration_name_that_could_be_mistaken_in_a_path_is_refused() {
        for bad in ["", "v1", "a/b", "-a", ".hidden", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<IntegrationName>().is_err(), "{bad:?} was taken");
        }
        for good in ["acme", "Acme-2.prod_eu", "v1x"] {
            assert_eq!(good.parse::<IntegrationName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_model_name_may_hold_slashes_but_no_control_characters() {
        assert!("openai/gpt-oss-20b".parse::<ModelName>().is_ok());
        assert!("@mistral/mistral-tiny".parse::<ModelName>().is_ok());
        for bad in ["", "  ", "a\r\nb", "a\0"] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?} was taken");
        }
    }
}
