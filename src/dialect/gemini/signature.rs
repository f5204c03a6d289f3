//! The signature of a thought, kept in the id of the call that it led to.
//!
//! Models of the third generation refuse a conversation whose calls come back without the signature that they were made
//! with, and OpenAI's format has no field for it. An id is the one thing that every client must give back as it got it,
//! so the signature travels there, in characters that other vendors' ids may hold too. Nothing has to be remembered.

use std::borrow::Cow;

/// Between an id and the signature that it carries.
const MARK: &str = "-sig-";

/// What Google documents for calls that another model made: its models then look for no signature.
pub(super) const FOREIGN: &str = "skip_thought_signature_validator";

/// An id that carries `signature`, which is base64; one that is not is left out.
pub(super) fn sign(id: &str, signature: &str) -> String {
    let bare = signature.trim_end_matches('=');
    let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    if bare.is_empty() || !bare.bytes().all(is_good) {
        return id.to_owned();
    }
    let safe = bare.chars().map(|c| match c {
        '+' => '-',
        '/' => '_',
        c => c,
    });
    let mut signed = String::with_capacity(id.len() + MARK.len() + bare.len());
    signed.push_str(id);
    signed.push_str(MARK);
    signed.extend(safe);
    signed
}

/// The id without its signature, and the signature as it was.
pub(super) fn split<'a>(id: &Cow<'a, str>) -> (Cow<'a, str>, Option<String>) {
    let Some((bare, carried)) = id.split_once(MARK) else { return (id.clone(), None) };
    let mut signature: String = carried
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let padding = (4 - signature.len() % 4) % 4;
    signature.extend(std::iter::repeat_n('=', padding));
    (Cow::Owned(bare.to_owned()), Some(signature))
}

/// Whether `id` would be read as one that carries a signature.
pub(super) fn is_signed(id: &str) -> bool {
    id.contains(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_comes_back_as_it_was() {
        for signature in ["CgQ+/w==", "AAAA", "AAA=", "a+b/c+d/", "EjQKMgERTfQKsig/sig+"] {
            let id = sign("call_1", signature);
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{id}");
            let (bare, found) = split(&Cow::Borrowed(&id));
            assert_eq!((&*bare, found.as_deref()), ("call_1", Some(signature)));
        }
    }

    #[test]
    fn an_id_without_a_signature_is_left_alone() {
        assert_eq!(split(&Cow::Borrowed("call_1")), (Cow::Borrowed("call_1"), None));
        assert_eq!(sign("call_1", ""), "call_1");
        assert_eq!(sign("call_1", "no base64!"), "call_1");
        assert!(is_signed(&sign("call_1", "AAAA")) && !is_signed("call_1"));
    }
}
