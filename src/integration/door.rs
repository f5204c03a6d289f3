//! The handlers' door: where on loopback handlers reach their providers through us, and the key that each integration's
//! handler has to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::secret::Secret;

/// Random bytes in a key: nobody guesses it.
const RANDOM: usize = 32;

/// The handlers' door. It lives as long as the process: a handler that was given its `api_base` keeps it over reloads.
#[derive(Debug)]
pub struct HandlersDoor {
    address: SocketAddr,
    keys: Mutex<Vec<Key>>,
}

#[derive(Debug)]
struct Key {
    integration: Arc<str>,
    secret: Secret,
}

impl HandlersDoor {
    /// One that is listened on at `address`; nobody has a key yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, keys: Mutex::default() }
    }

    /// The `api_base` under which the handler of `integration` reaches its provider, `http://127.0.0.1:PORT/KEY`: the
    /// same each time. Whoever has it has the integration's right to enter: it must never be logged.
    ///
    /// # Errors
    ///
    /// The system has no random bytes.
    pub fn base(&self, integration: &str) -> Result<String, String> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known = keys.iter().find(|key| *key.integration == *integration).map(|key| key.secret.clone());
        let secret = match known {
            Some(secret) => secret,
            None => {
                let secret = random()?;
                keys.push(Key { integration: integration.into(), secret: secret.clone() });
                secret
            }
        };
        Ok(format!("http://{}/{}", self.address, secret.expose()))
    }

    /// The integration to whose handler the key `given` belongs. How long that takes does not tell how much of a key
    /// was right.
    pub fn whose(&self, given: &[u8]) -> Option<Arc<str>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            |found, key: &Key| key.secret.matches(given).then(|| Arc::clone(&key.integration)).or(found);
        keys.iter().fold(None, found)
    }
}

fn random() -> Result<Secret, String> {
    let mut bytes = [0; RANDOM];
    rand::fill(&mut bytes)
        .map_err(|_| "no key for the handlers' door: the system has no random bytes".to_owned())?;
    Ok(Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_integration_has_one_key_that_opens_for_it_alone_and_is_not_printed() {
        let door = HandlersDoor::new("127.0.0.1:4011".parse().unwrap());
        let [acme, other] = ["acme", "other"].map(|name| door.base(name).unwrap());
        assert_eq!(door.base("acme").unwrap(), acme);
        let key = |base: &str| base.strip_prefix("http://127.0.0.1:4011/").unwrap().to_owned();
        let (acme, other) = (key(&acme), key(&other));
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(&acme).unwrap().len(), RANDOM);
        assert_eq!(door.whose(acme.as_bytes()).as_deref(), Some("acme"));
        assert_eq!(door.whose(other.as_bytes()).as_deref(), Some("other"));
        for wrong in ["", "acme", &acme[1..], &format!("{acme}x"), &acme.to_ascii_uppercase()] {
            assert_eq!(door.whose(wrong.as_bytes()), None, "{wrong} opened");
        }
        let shown = format!("{door:?}");
        assert!(!shown.contains(&acme) && !shown.contains(&other), "{shown}");
    }

    #[test]
    fn keys_of_two_doors_differ() {
        let base = || HandlersDoor::new("127.0.0.1:1".parse().unwrap()).base("acme").unwrap();
        assert_ne!(base(), base());
    }
}
