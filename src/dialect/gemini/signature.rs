//! The signature of a thought, kept in the id of the call that it led to.
//!
//! Models of the third generation refuse a conversation whose calls come back without the signature that they were made
//! with, and OpenAI's format has no field for it. An id is the one thing that every client must give back as it got it,
//! so the signature travels there, in characters that other vendors' ids may hold too. Nothing has to be remembered.

use std::borrow::Cow;

use crate::openai::json::{Object, Raw, Text};

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

/// The signature that stands beside a call, exactly as it was given, in the fields that nobody else reads there; and the
/// paths of everything else in them.
pub(super) fn told<'a>(fields: &[(Cow<'a, str>, Raw<'a>)]) -> (Option<Cow<'a, str>>, Vec<String>) {
    let (mut found, mut beyond) = (None, Vec::new());
    for (name, raw) in fields {
        let Some((_, way)) = PLACES.iter().find(|(field, _)| field == name) else {
            beyond.push(name.clone().into_owned());
            continue;
        };
        let before = beyond.len();
        let signature =
            dig(*raw, way, name.clone().into_owned(), &mut beyond).filter(|text| !text.is_empty());
        match (&found, signature) {
            (_, None) => {}
            (None, signature) => found = signature,
            (Some(first), Some(second)) if *first == second => {}
            (Some(_), Some(_)) => beyond.insert(before, format!("{name}.{}", way.join("."))),
        }
    }
    (found, beyond)
}

/// Where clients give a signature: as Google's own interface in OpenAI's format does, or as LiteLLM does.
const PLACES: [(&str, &[&str]); 3] = [
    ("extra_content", &["google", "thought_signature"]),
    ("provider_specific_fields", &["thought_signature"]),
    ("function.provider_specific_fields", &["thought_signature"]),
];

/// The text that stands at the end of `way`, which begins in the value at `place`; what is beside goes to `beyond`.
fn dig<'a>(raw: Raw<'a>, way: &[&str], place: String, beyond: &mut Vec<String>) -> Option<Cow<'a, str>> {
    let Some((next, way)) = way.split_first() else {
        let text = Text::read(raw).and_then(Text::decode);
        if text.is_none() {
            beyond.push(place);
        }
        return text;
    };
    let Ok(mut object) = Object::read(raw.get()) else {
        beyond.push(place);
        return None;
    };
    let inner = object.take(next);
    beyond.extend(object.into_rest().map(|(name, _)| format!("{place}.{name}")));
    dig(inner?, way, format!("{place}.{next}"), beyond)
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
    fn a_signature_beside_a_call_is_found_and_the_rest_is_named() {
        let told = |json: &str| {
            let fields: Vec<_> = Object::read(json).unwrap().into_rest().collect();
            let (found, beyond) = told(&fields);
            (found.map(Cow::into_owned), beyond.join(" "))
        };
        for (json, found, beyond) in [
            (r#"{"extra_content":{"google":{"thought_signature":"a-b_c=="}}}"#, Some("a-b_c=="), ""),
            (r#"{"provider_specific_fields":{"thought_signature":"S"}}"#, Some("S"), ""),
            (r#"{"function.provider_specific_fields":{"thought_signature":"S"},"x":1}"#, Some("S"), "x"),
            (
                r#"{"extra_content":{"google":{"thought_signature":"S","thought":true},"y":1}}"#,
                Some("S"),
                "extra_content.y extra_content.google.thought",
            ),
            (
                r#"{"extra_content":{"google":{"thought_signature":"S"}},"provider_specific_fields":{"thought_signature":"S"}}"#,
                Some("S"),
                "",
            ),
            (
                r#"{"extra_content":{"google":{"thought_signature":"S"}},"provider_specific_fields":{"thought_signature":"T"}}"#,
                Some("S"),
                "provider_specific_fields.thought_signature",
            ),
            (
                r#"{"extra_content":{"google":{"thought_signature":1}}}"#,
                None,
                "extra_content.google.thought_signature",
            ),
            (r#"{"extra_content":"S"}"#, None, "extra_content"),
            (r#"{"provider_specific_fields":{"thought_signature":""}}"#, None, ""),
            (r#"{"provider_specific_fields":{"thought_signature":null}}"#, None, ""),
        ] {
            assert_eq!(told(json), (found.map(str::to_owned), beyond.to_owned()), "{json}");
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
