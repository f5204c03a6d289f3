//! What came into the configuration from elsewhere than its files: from the environment, from `${…}`. It may be a secret.

use super::mask;
use super::places::At;
use crate::secret::Secret;

/// The texts that came from elsewhere, each with the key that holds it.
#[derive(Default)]
pub(super) struct Foreign {
    texts: Vec<(At, Secret)>,
    /// Those in addresses and in `path`, of which only a part may be a secret.
    ways: Vec<(At, Secret)>,
}

/// Keys of addresses, which the admin listener and `check --online` show too.
const ADDRESSES: [&str; 2] = ["endpoint", "oauth2_token_url"];

impl Foreign {
    /// Notes that `text`, which is in the value at `at`, came from elsewhere. What is known to be harmless is not kept.
    pub(super) fn note(&mut self, at: &At, text: &str) {
        if matches!(at.keys().as_slice(), ["integrations", _, "endpoint" | "path" | "oauth2_token_url"]) {
            self.ways.push((at.clone(), Secret::new(text)));
        }
        let is_address = matches!(at.keys().as_slice(), ["integrations", _, key] if ADDRESSES.contains(key));
        if at.integration_name().is_some() && !is_address && !mask::is_harmless(at) {
            self.texts.push((at.clone(), Secret::new(text)));
        }
    }

    /// The keys within the integration `name` whose values came from elsewhere, and those texts.
    pub(super) fn of(&self, name: &str) -> (Vec<Vec<String>>, Vec<Secret>) {
        let own = self.texts.iter().filter(|(at, _)| at.integration_name() == Some(name));
        own.map(|(at, text)| (at.within_integration(), text.clone())).unzip()
    }

    /// The texts in those of the `keys` `endpoint`, `path` and `oauth2_token_url` of the integration `name`.
    pub(super) fn ways(&self, name: &str, keys: &[&str]) -> impl Iterator<Item = &Secret> {
        let is_meant = move |at: &At| {
            at.integration_name() == Some(name) && at.keys().last().is_some_and(|key| keys.contains(key))
        };
        self.ways.iter().filter(move |(at, _)| is_meant(at)).map(|(_, text)| text)
    }
}
