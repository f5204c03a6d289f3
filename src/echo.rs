//! What a stranger sends back of what it was given: our credentials are found in its words, however they stand there.
//!
//! Whoever repeats such words takes the credentials out first and cuts the words afterwards: what is left of a
//! credential that was cut would be found no more.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What stands in place of a credential.
const STARS: &[u8] = b"***";

/// Shorter than this, a value is no secret and would be found in ordinary words.
const LEAST: usize = 6;

/// So many bytes of a credential's beginning are hidden too: some cut what they repeat.
const ENOUGH: usize = 24;

/// What is to be found in a text. It is made where something failed: no request that goes well needs it. Not `Debug`:
/// it holds secrets.
#[derive(Default)]
pub struct Needles(
    /// The longest first: one may be in another.
    Vec<Needle>,
);

impl Needles {
    /// Those of values as they stand in a header or a query: each with and without the scheme before it
    /// (`Bearer …`), and what that scheme makes of it. What is shorter than six bytes is left alone.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let all = values.into_iter().flat_map(Needle::all);
        Self::sorted(all.filter(|needle| needle.secret.len() >= LEAST).collect())
    }

    /// These and `secret`, which is known to be one: it is hidden at any length.
    #[must_use]
    pub fn and_secret(self, secret: &str) -> Self {
        let mut all = self.0;
        all.push(Needle { secret: secret.trim().as_bytes().to_vec(), in_part: true });
        Self::sorted(all)
    }

    /// The same, found as wholes alone: for texts that nobody cuts.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.0.iter_mut().for_each(|needle| needle.in_part = false);
        self
    }

    /// `text` without any of them; nothing if there are none in it.
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut clean = None;
        for needle in &self.0 {
            let hidden = hide(clean.as_deref().unwrap_or(text), needle);
            clean = hidden.or(clean);
        }
        clean
    }

    /// Likewise, of words.
    pub fn clean_text(&self, text: &str) -> Option<String> {
        self.clean(text.as_bytes()).map(|clean| String::from_utf8_lossy(&clean).into_owned())
    }

    fn sorted(mut all: Vec<Needle>) -> Self {
        all.sort_by_key(|needle| std::cmp::Reverse(needle.secret.len()));
        Self(all)
    }
}

/// One form of a credential.
struct Needle {
    secret: Vec<u8>,
    /// Whether its beginning is hidden too, and not only the whole.
    in_part: bool,
}

impl Needle {
    /// `value` with and without the scheme before it (`Bearer …`), and what that scheme makes of it.
    fn all(value: &[u8]) -> Vec<Self> {
        // A reader takes blanks off the ends of a field's value (RFC 9110 §5.5), and may give back what is left.
        let value = value.trim_ascii();
        let bare = value.rsplit(|byte| *byte == b' ').next().unwrap_or(value);
        let needle = |secret: &[u8], in_part| Self { secret: secret.to_vec(), in_part };
        let mut all = vec![needle(bare, true)];
        if bare.len() < value.len() {
            // The beginning of this is the scheme's own word.
            all.push(needle(value, false));
        }
        // `Signature=…`; what ends in `=` is padded.
        if let Some(at) = bare.iter().position(|byte| *byte == b'=') {
            let given = &bare[at + 1..];
            let quoted = given.strip_prefix(b"\"").and_then(|given| given.strip_suffix(b"\""));
            all.push(needle(quoted.unwrap_or(given), true));
        }
        if value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
            && let Ok(pair) = BASE64_STANDARD.decode(bare)
            && let Some(at) = pair.iter().position(|byte| *byte == b':')
        {
            all.push(needle(&pair[at + 1..], true));
        }
        all
    }

    /// How much of the beginning of `text` is this credential, or enough of its beginning to be no chance.
    fn found(&self, text: &[u8]) -> Option<usize> {
        let (mut at, mut found) = (0, 0);
        for byte in &self.secret {
            let Some(length) = spelled(&text[at..], *byte) else { break };
            (at, found) = (at + length, found + 1);
        }
        let is_enough = found >= ENOUGH || (at == text.len() && found >= LEAST);
        (found == self.secret.len() || self.in_part && is_enough).then_some(at)
    }
}

fn hide(text: &[u8], needle: &Needle) -> Option<Vec<u8>> {
    let first = *needle.secret.first()?;
    let (mut clean, mut from, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let may_begin = text[at] == first || ESCAPES.contains(&text[at]);
        match may_begin.then(|| needle.found(&text[at..])).flatten() {
            Some(length) => {
                clean.extend_from_slice(&text[from..at]);
                clean.extend_from_slice(STARS);
                at += length;
                from = at;
            }
            None => at += 1,
        }
    }
    if from == 0 {
        return None;
    }
    clean.extend_from_slice(&text[from..]);
    Some(clean)
}

/// How an escaped character begins: in JSON, in a URL, in HTML.
const ESCAPES: [u8; 3] = *b"\\%&";

/// How many bytes at the beginning of `text` spell `byte`, in any way in which an upstream may repeat it.
fn spelled(text: &[u8], byte: u8) -> Option<usize> {
    let [first, rest @ ..] = text else { return None };
    let escaped = match first {
        b'\\' => in_json(rest, byte),
        b'%' => is_hex(rest, 2, byte).then_some(2),
        b'&' => in_html(rest, byte),
        b'+' if byte == b' ' => Some(0),
        _ => None,
    };
    escaped.map(|length| length + 1).or_else(|| (*first == byte).then_some(1))
}

/// Behind a backslash.
fn in_json(text: &[u8], byte: u8) -> Option<usize> {
    match text {
        [b'u', digits @ ..] => is_hex(digits, 4, byte).then_some(5),
        [b'x', digits @ ..] => is_hex(digits, 2, byte).then_some(3),
        [b'"' | b'\'' | b'\\' | b'/', ..] => (text[0] == byte).then_some(1),
        _ => None,
    }
}

/// Behind an ampersand.
fn in_html(text: &[u8], byte: u8) -> Option<usize> {
    let end = text.iter().take(8).position(|b| *b == b';')?;
    let name = str::from_utf8(&text[..end]).ok()?;
    let code = match name {
        "amp" => b'&',
        "lt" => b'<',
        "gt" => b'>',
        "quot" => b'"',
        "apos" => b'\'',
        _ => {
            let number = name.strip_prefix('#')?;
            match number.strip_prefix(['x', 'X']) {
                Some(hex) => u8::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            }
        }
    };
    (code == byte).then_some(end + 1)
}

/// Whether `text` begins with `byte` in so many hexadecimal digits.
fn is_hex(text: &[u8], digits: usize, byte: u8) -> bool {
    let digits = text.get(..digits).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let number = digits.and_then(|digits| u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
    number == Some(u16::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_value_is_left_alone_and_a_short_secret_is_not() {
        let values = Needles::of([b"2024".as_slice()]);
        assert_eq!(values.clean_text("since 2024"), None);
        assert_eq!(values.and_secret("s3c").clean_text("s3c of 2024"), Some("*** of 2024".to_owned()));
    }

    #[test]
    fn a_secret_of_several_words_is_found_whole_and_where_it_was_cut() {
        let needles = Needles::default().and_secret("some words that nobody else should know");
        for said in
            ["some words that nobody else should know", "some+words+that+nobody+else+sh...", "some wor"]
        {
            let clean = needles.clean_text(said).unwrap();
            assert!(clean.starts_with("***") && !clean.contains("wor"), "{said}: {clean}");
        }
        assert_eq!(Needles::default().and_secret("").clean_text("ordinary words"), None);
    }
}
