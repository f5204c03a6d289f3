//! The ids of tool calls: Mistral takes nine letters and digits, clients send whatever other providers gave them.

use std::borrow::Cow;
use std::collections::HashSet;

/// How many characters an id has.
const LENGTH: usize = 9;

const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Gives ids, each once in a conversation.
#[derive(Debug, Default)]
pub(super) struct Ids<'a> {
    given: HashSet<Cow<'a, str>>,
}

impl<'a> Ids<'a> {
    /// The id for a call that the client knows as `id`: the same one where Mistral takes it and no other call has it,
    /// else one that is made from it, the same in each request of a conversation.
    pub(super) fn give(&mut self, id: &Cow<'a, str>) -> Cow<'a, str> {
        let mut wire = if is_good(id) { id.clone() } else { Cow::Owned(made_of(id, 0)) };
        let mut number = 1;
        while !self.given.insert(wire.clone()) {
            wire = Cow::Owned(made_of(id, number));
            number += 1;
        }
        wire
    }
}

/// Nine characters that `text` and `number` lead to, for a call that the provider has not named too.
pub(super) fn made_of(text: &str, number: u64) -> String {
    // FNV-1a, spread once more: nothing hangs on its strength, only that it is the same everywhere and always.
    let bytes = text.bytes().chain(number.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut rest = hash ^ (hash >> 29);
    let digit = |_| {
        let digit = usize::try_from(rest % 62).unwrap_or_default();
        rest /= 62;
        char::from(ALPHABET[digit])
    };
    (0..LENGTH).map(digit).collect()
}

fn is_good(id: &str) -> bool {
    id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_fits_stays_and_any_other_always_becomes_the_same() {
        let give = |id: &'static str| Ids::default().give(&Cow::Borrowed(id)).into_owned();
        assert_eq!(give("abcDEF123"), "abcDEF123");
        for id in ["call_1", "", "null", "abcDEF1234", "call:1/é|x", "abc_EF123"] {
            assert!(is_good(&give(id)) && give(id) == give(id), "{id}");
        }
        assert_ne!(give("call_1"), give("call_2"));
    }

    proptest! {
        #[test]
        fn no_two_calls_get_the_same(ids in proptest::collection::vec("call_[ab]{1,2}|[ab]{9}", 0..40)) {
            let mut all = Ids::default();
            let given: Vec<_> = ids.iter().map(|id| all.give(&Cow::Borrowed(id.as_str())).into_owned()).collect();
            let distinct: HashSet<_> = given.iter().collect();
            prop_assert_eq!(distinct.len(), ids.len());
            prop_assert!(given.iter().all(|id| is_good(id)));
        }
    }
}
