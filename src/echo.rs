//! What a stranger sends back of what it was given: our credentials are found in its words, however they stand there.
//!
//! Whoever repeats such words takes the credentials out first and cuts the words afterwards: what is left of a
//! credential that was cut would be found no more.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use memchr::{memchr, memchr3, memmem, memrchr};

/// What stands in place of a credential.
const STARS: &[u8] = b"***";

/// Shorter than this, a value is no secret and would be found in ordinary words.
const LEAST: usize = 6;

/// So many bytes of a credential's beginning are hidden too: some cut what they repeat.
const ENOUGH: usize = 24;

/// What is to be found in a text. It is made where something failed or a [`Trace`] was found: no request that goes well
/// needs it. Not `Debug`: it holds secrets.
#[derive(Default)]
pub struct Needles(Vec<Needle>);

impl Needles {
    /// Those of values as they stand in a header or a query: each with and without the scheme before it
    /// (`Bearer …`), and what that scheme makes of it. What is shorter than six bytes is left alone.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let all = values.into_iter().flat_map(Needle::all);
        Self(all.filter(|needle| needle.secret.len() >= LEAST).collect())
    }

    /// These and `secret`, which is known to be one: it is hidden at any length.
    #[must_use]
    pub fn and_secret(mut self, secret: &str) -> Self {
        self.0.push(Needle { secret: secret.trim().as_bytes().to_vec(), in_part: true });
        self
    }

    /// The same, found as wholes alone: for texts that nobody cuts.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.0.iter_mut().for_each(|needle| needle.in_part = false);
        self
    }

    /// `text` without any of them; nothing if there are none in it. One may begin as another does, or within another:
    /// what any of them covers is hidden.
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        let (mut clean, mut from) = (Vec::new(), 0);
        for at in 0..text.len() {
            let Some(end) = self.end(text, at) else { continue };
            if at >= from {
                clean.extend_from_slice(&text[from..at]);
                clean.extend_from_slice(STARS);
            }
            from = from.max(end);
        }
        if from == 0 {
            return None;
        }
        clean.extend_from_slice(&text[from..]);
        Some(clean)
    }

    /// Likewise, of words.
    pub fn clean_text(&self, text: &str) -> Option<String> {
        self.clean(text.as_bytes()).map(|clean| String::from_utf8_lossy(&clean).into_owned())
    }

    /// Where the longest ends that begins at `at`.
    fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        self.0.iter().filter_map(|needle| needle.end(text, at)).max()
    }
}

/// What betrays that a text repeats a value, as this stands in a header or a query: looked for before [`Needles`] are made,
/// which costs more than the headers of a good answer are worth. Nearly all of those are too short to hold it. Not `Debug`:
/// it holds secrets.
pub struct Trace<'a> {
    /// No form of the value is without this, escapes apart, but for the password.
    core: &'a [u8],
    password: Option<Vec<u8>>,
}

impl<'a> Trace<'a> {
    /// That of `value`; nothing if it is too short to be hidden.
    pub fn of(value: &'a [u8]) -> Option<Self> {
        let forms = Forms::of(value);
        let core = forms.given.filter(|given| given.len() >= LEAST).unwrap_or(forms.bare);
        let password = forms.password.filter(|password| password.len() >= LEAST);
        (forms.value.len() >= LEAST).then_some(Self { core, password })
    }

    /// Whether `text` may repeat the value as a whole; it seldom says so of one that does not.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        // A blank may stand there as `+`.
        let word = self.password.as_deref().map(last_word);
        let least = word.map_or(self.core.len(), |word| word.len().min(self.core.len()));
        let has = |part| memmem::find(text, part).is_some();
        text.len() >= least
            && (memchr3(ESCAPES[0], ESCAPES[1], ESCAPES[2], text).is_some()
                || has(self.core)
                || word.is_some_and(has))
    }
}

/// What a value is and what its scheme makes of it.
struct Forms<'a> {
    /// Without blanks at its ends: a reader takes them off a field's value (RFC 9110 §5.5), and may give back what is left.
    value: &'a [u8],
    /// Without the scheme before it.
    bare: &'a [u8],
    /// Of `Signature=…`.
    given: Option<&'a [u8]>,
    /// Of `Basic …`.
    password: Option<Vec<u8>>,
}

impl<'a> Forms<'a> {
    fn of(value: &'a [u8]) -> Self {
        let value = value.trim_ascii();
        let bare = last_word(value);
        let given = memchr(b'=', bare).map(|at| {
            let given = &bare[at + 1..];
            given.strip_prefix(b"\"").and_then(|given| given.strip_suffix(b"\"")).unwrap_or(given)
        });
        let is_basic = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
        let pair = is_basic.then(|| BASE64_STANDARD.decode(bare).ok()).flatten();
        let password = pair.and_then(|mut pair| {
            let at = memchr(b':', &pair)?;
            Some(pair.split_off(at + 1))
        });
        Self { value, bare, given, password }
    }
}

/// What stands behind the last blank.
fn last_word(text: &[u8]) -> &[u8] {
    memrchr(b' ', text).map_or(text, |at| &text[at + 1..])
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
        let Forms { value, bare, given, password } = Forms::of(value);
        let needle = |secret: &[u8], in_part| Self { secret: secret.to_vec(), in_part };
        let mut all = vec![needle(bare, true)];
        if bare.len() < value.len() {
            // The beginning of this is the scheme's own word.
            all.push(needle(value, false));
        }
        // What ends in `=` is padded, and nothing is left of that.
        all.extend(given.map(|given| needle(given, true)));
        all.extend(password.map(|secret| Self { secret, in_part: true }));
        all
    }

    /// Where this credential ends if it begins at `at`, or enough of its beginning to be no chance: then all that may
    /// belong to it goes too.
    fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        if text[at] != *self.secret.first()? && !ESCAPES.contains(&text[at]) {
            return None;
        }
        let (mut end, mut found) = (at, 0);
        while let Some(byte) = self.secret.get(found) {
            let rest = &text[end..];
            let next = spelled(rest, u32::from(*byte)).map(|length| (length, 1));
            let Some((length, bytes)) = next.or_else(|| letter(rest, &self.secret[found..])) else { break };
            (end, found) = (end + length, found + bytes);
        }
        if found == self.secret.len() {
            return Some(end);
        }
        let is_enough = found >= ENOUGH || (end == text.len() && found >= LEAST);
        (self.in_part && is_enough).then(|| end + run(&text[end..]))
    }
}

/// How many bytes at the beginning of `text` may go on with a credential: what tokens and keys are made of.
fn run(text: &[u8]) -> usize {
    let goes_on = |at: usize| match text[at] {
        // The end of a sentence, or an ellipsis, is none.
        b'.' => text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric),
        byte => byte.is_ascii_alphanumeric() || b"+/=_-~%".contains(&byte),
    };
    (0..text.len()).find(|at| !goes_on(*at)).unwrap_or(text.len())
}

/// How an escaped character begins: in JSON, in a URL, in HTML.
const ESCAPES: [u8; 3] = *b"\\%&";

/// How many bytes at the beginning of `text` spell `code`, a byte or a letter beyond ASCII, in any way in which an upstream
/// may repeat it.
fn spelled(text: &[u8], code: u32) -> Option<usize> {
    let [first, rest @ ..] = text else { return None };
    let escaped = match first {
        b'\\' => in_json(rest, code),
        b'%' => is_hex(rest, 2, code).then_some(2),
        b'&' => in_html(rest, code),
        b'+' if code == u32::from(b' ') => Some(0),
        _ => None,
    };
    escaped.map(|length| length + 1).or_else(|| (u32::from(*first) == code).then_some(1))
}

/// How many bytes at the beginning of `text` spell the letter beyond ASCII that `secret` begins with, as JSON and HTML do,
/// which escape whole letters; and how many bytes the letter itself has.
fn letter(text: &[u8], secret: &[u8]) -> Option<(usize, usize)> {
    if !matches!(text.first()?, b'\\' | b'&') {
        return None;
    }
    let first = secret.utf8_chunks().next()?.valid().chars().next().filter(|first| !first.is_ascii())?;
    let mut units = [0; 2];
    let pair: &[u16] = first.encode_utf16(&mut units);
    let of_json = pair.iter().try_fold(0, |at, unit| {
        let escape = text[at..].strip_prefix(b"\\u")?;
        is_hex(escape, 4, u32::from(*unit)).then_some(at + 6)
    });
    Some((of_json.or_else(|| spelled(text, u32::from(first)))?, first.len_utf8()))
}

/// Behind a backslash.
fn in_json(text: &[u8], code: u32) -> Option<usize> {
    match text {
        [b'u', digits @ ..] => is_hex(digits, 4, code).then_some(5),
        [b'x', digits @ ..] => is_hex(digits, 2, code).then_some(3),
        [b'"' | b'\'' | b'\\' | b'/', ..] => (u32::from(text[0]) == code).then_some(1),
        _ => None,
    }
}

/// Behind an ampersand.
fn in_html(text: &[u8], code: u32) -> Option<usize> {
    let end = text.iter().take(10).position(|b| *b == b';')?;
    let name = str::from_utf8(&text[..end]).ok()?;
    let said = match name {
        "amp" => u32::from(b'&'),
        "lt" => u32::from(b'<'),
        "gt" => u32::from(b'>'),
        "quot" => u32::from(b'"'),
        "apos" => u32::from(b'\''),
        _ => {
            let number = name.strip_prefix('#')?;
            match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            }
        }
    };
    (said == code).then_some(end + 1)
}

/// Whether `text` begins with `code` in so many hexadecimal digits.
fn is_hex(text: &[u8], digits: usize, code: u32) -> bool {
    let digits = text.get(..digits).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let number = digits.and_then(|digits| u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
    number == Some(code)
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

    #[test]
    fn wherever_a_value_is_found_its_trace_is_too() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let values = [
            "Bearer TOKEN-1".to_owned(),
            " TOKEN-1\t".to_owned(),
            "Bearer abc".to_owned(),
            "AWS4 Credential=AKIA/x, Signature=0a1b2c3d".to_owned(),
            "Token token=\"t0k3n-1\"".to_owned(),
            "Digest a=b".to_owned(),
            basic("me:pa55word"),
            basic("me:two words of it"),
            basic("me:blank "),
            basic("me"),
        ];
        for value in &values {
            let trace = Trace::of(value.as_bytes()).unwrap();
            let needles = Needles::of([value.as_bytes()]).whole();
            for Needle { secret, .. } in &needles.0 {
                let secret = str::from_utf8(secret).unwrap();
                let hex = |byte: u8| format!("%{byte:02x}");
                let escaped: String = secret.bytes().map(hex).collect();
                for said in [secret, &secret.replace(' ', "+"), &escaped] {
                    let said = format!("x{said}y");
                    assert!(needles.clean_text(&said).is_some(), "{value}: {said}");
                    assert!(trace.may_be_in(said.as_bytes()), "{value}: {said}");
                }
            }
        }
        let trace = Trace::of(b"Bearer TOKEN-1").unwrap();
        assert!(!trace.may_be_in(b"TOKEN-2 of ordinary words") && !trace.may_be_in(b"%2F"));
        assert!(Trace::of(b" 2024 ").is_none() && Trace::of(b"").is_none());
    }

    #[test]
    fn of_two_that_begin_alike_each_is_hidden_to_its_end() {
        let head = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9";
        let (long, short) =
            (format!("{head}.{}.sig", "A".repeat(90)), format!("{head}.{}.sig", "B".repeat(40)));
        let values = [long.as_bytes(), short.as_bytes()];
        for order in [values, [values[1], values[0]]] {
            let needles = Needles::of(order);
            for said in [&long, &short] {
                let text = format!("gateway key {said} is not allowed.");
                assert_eq!(needles.clean_text(&text).unwrap(), "gateway key *** is not allowed.");
            }
        }
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_where_a_form_of_it_begins_alike() {
        let secret = "q8Zt3LmVw0XyB7cRk2NdPf5H+j9Gs4%uA1eOiYx6Wz/=";
        let form = "q8Zt3LmVw0XyB7cRk2NdPf5H%2Bj9Gs4%25uA1eOiYx6Wz%2F%3D";
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("me:{form}")));
        let needles = Needles::of([basic.as_bytes()]).and_secret(secret);
        for said in [secret, form] {
            assert_eq!(needles.clean_text(&format!("not '{said}'!")).unwrap(), "not '***'!", "{said}");
        }
    }

    #[test]
    fn a_letter_beyond_ascii_is_found_however_it_is_escaped() {
        let needles = Needles::of(["clé-ключ-🔑-1234".as_bytes()]);
        for said in [
            "clé-ключ-🔑-1234",
            "cl\\u00e9-\\u043a\\u043b\\u044e\\u0447-\\ud83d\\udd11-1234",
            "cl\\u00E9-ключ-\\uD83D\\uDD11-1234",
            "cl%C3%A9-%D0%BA%D0%BB%D1%8E%D1%87-%F0%9F%94%91-1234",
            "cl&#233;-&#1082;&#x43b;&#1102;&#x447;-&#128273;-1234",
        ] {
            assert_eq!(needles.clean_text(&format!("<{said}>")).unwrap(), "<***>", "{said}");
        }
        let latin: &[u8] = b"cl\xe9-key-1234";
        assert_eq!(Needles::of([latin]).clean(b"<cl\\u00e9-key-1234>").unwrap(), b"<***>");
    }

    #[test]
    fn what_begins_within_another_is_hidden_to_its_end() {
        let needles = Needles::of([b"abcdefgh".as_slice(), b"efghijklmn"]);
        assert_eq!(needles.clean_text("<abcdefghijklmn>").unwrap(), "<***>");
        assert_eq!(needles.clean_text("<abcdefghabcdefgh>").unwrap(), "<******>");
    }

    #[test]
    fn behind_enough_of_a_beginning_all_goes_that_may_belong_to_it() {
        let needles = Needles::of([b"0123456789abcdef0123456789abcdef".as_slice()]);
        for (said, told) in [
            ("0123456789abcdef0123456789-Other/Key.v2= is bad", "*** is bad"),
            ("0123456789abcdef0123456789... is bad", "***... is bad"),
            ("\\\"0123456789abcdef0123456789\\\" is bad", "\\\"***\\\" is bad"),
        ] {
            assert_eq!(needles.clean_text(said).unwrap(), told);
        }
    }
}
