//! Where an integration is defined.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where an integration is defined, for messages: `config.toml:12` or `acme.json`.
///
/// It is nothing of what the integration is: any two are equal, so that one that has only moved, by a comment above it,
/// is known for the same.
#[derive(Default)]
pub struct Whereabouts(Mutex<String>);

impl Whereabouts {
    /// It is where `other` says from now on.
    pub fn follow(&self, other: &Self) {
        if !std::ptr::eq(self, other) {
            *self.lock() = other.to_string();
        }
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<String> for Whereabouts {
    fn from(place: String) -> Self {
        Self(Mutex::new(place))
    }
}

impl Clone for Whereabouts {
    fn clone(&self) -> Self {
        self.to_string().into()
    }
}

impl PartialEq for Whereabouts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Whereabouts {}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lock())
    }
}

impl fmt::Debug for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.lock(), f)
    }
}
