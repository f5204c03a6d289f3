//! What stands in a URL and is plainly no secret: words, versions, dates, small numbers.

use http::Uri;

use super::veil::{holds_credential, is_random, is_suspect};
use super::{Integration, STARS};
use crate::secret::Secret;

/// The shortest value that is worth hiding: what is shorter would be found in ordinary words.
const LEAST: usize = 6;

/// The longest word, the longest number (a date), and the most capitals inside of a word.
const WORD: usize = 20;
const NUMBER: usize = 8;
const CAPITALS: usize = 3;

/// Names of parameters that hold secrets and say so only as a whole.
const CODES: [&str; 4] = ["code", "hmac", "otp", "pin"];

/// What stands in a version behind its number.
const STAGES: [&str; 6] = ["a", "alpha", "b", "beta", "preview", "rc"];

impl Integration {
    /// What stands in the URLs of its requests and may be a secret: values of `query` that came from elsewhere than the
    /// configuration's files or may be one by their looks, and what of `endpoint` and `path` came from elsewhere.
    pub fn hidden_in_urls(&self) -> impl Iterator<Item = &str> {
        let hides = |name: &String, value: &String| {
            self.hidden_query.contains(name) || is_suspect_parameter(name, value)
        };
        let query = self.query.iter().filter(move |(name, value)| hides(name, value));
        query.map(|(_, value)| value.as_str()).chain(self.hidden_path.iter().map(Secret::expose))
    }

    /// The endpoint, as it may be shown.
    pub fn shown_endpoint(&self) -> String {
        shown(&self.endpoint, &self.hidden_path)
    }
}

/// `url` as it may be shown where `hidden` stands in its path: of a query, which may hold what nobody should see, only that
/// there is one.
pub fn shown(url: &Uri, hidden: &[Secret]) -> String {
    let (whole, path) = (url.to_string(), url.path());
    let (before, query) = whole.split_once('?').map_or((&*whole, ""), |(before, _)| (before, "?…"));
    let hidden = hidden.iter().map(Secret::expose).filter(|text| text.len() >= LEAST);
    let covered = hidden.fold(path.to_owned(), |path, text| path.replace(text, STARS));
    before.strip_suffix(path).unwrap_or(before).to_owned() + &covered + query
}

/// Whether the value of a parameter of a URL's query may be a secret, whatever its name: it is none only if it plainly
/// is something else.
pub fn is_suspect_parameter(name: &str, value: &str) -> bool {
    let is_code = CODES.iter().any(|code| name.eq_ignore_ascii_case(code));
    is_code || is_suspect(name, value) || !is_plain(value)
}

/// What of `text`, which came from elsewhere into the `endpoint` or the `path` of an integration, may be a secret: all of
/// it if it is one piece of the path, else each piece that is not plainly something else. What stands in the address
/// is none.
pub(in crate::config) fn secrets_of_path(text: &Secret, endpoint: &Uri) -> Vec<Secret> {
    let text = text.expose();
    let address = endpoint.authority().map_or("", |authority| authority.as_str());
    let pieces = text.split(['/', '?', '&', '=']);
    let is_one = !text.contains('/');
    let hidden = pieces.filter(|piece| !is_plain(piece)).chain(is_one.then_some(text));
    hidden.filter(|piece| !piece.is_empty() && !address.contains(piece)).map(Secret::new).collect()
}

/// Whether `value` is words, versions, dates and numbers, or too short to be a secret.
fn is_plain(value: &str) -> bool {
    if value.len() < LEAST {
        return true;
    }
    let mut pieces = value.split(|c: char| !c.is_alphanumeric());
    !holds_credential(value) && !is_random(value) && pieces.all(is_plain_piece)
}

/// `eastus`, `2024`, `4o`, `v1`, `v1beta1`, `gpt4`; nothing in which letters and digits are mixed otherwise.
fn is_plain_piece(piece: &str) -> bool {
    let runs = runs(piece);
    let letters = |run: &str| run.starts_with(char::is_alphabetic);
    match runs.as_slice() {
        [] => true,
        [one] if letters(one) => is_word(one),
        [one] => one.len() <= NUMBER,
        [word, number] if letters(word) => is_word(word) && number.len() <= 4,
        [number, unit] => number.len() <= 4 && unit.len() <= 2,
        [v, number, stage, last @ ..] => {
            let is_version = v.eq_ignore_ascii_case("v") && number.len() <= 2 && STAGES.contains(stage);
            is_version && last.len() <= 1 && last.iter().all(|number| number.len() <= 2)
        }
    }
}

fn is_word(word: &str) -> bool {
    let capitals = word.chars().filter(|c| c.is_uppercase()).count();
    word.len() <= WORD && (capitals <= CAPITALS || capitals == word.chars().count())
}

/// The letters and the digits of `piece`, apart.
fn runs(piece: &str) -> Vec<&str> {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut runs = Vec::new();
    let mut rest = piece;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_digit(c) != is_digit(first)).unwrap_or(rest.len());
        runs.push(&rest[..end]);
        rest = &rest[end..];
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_versions_and_dates_are_plain() {
        for value in [
            "",
            "sse",
            "2024-10-21",
            "2024-05-01-preview",
            "20241021",
            "v1beta1",
            "1.0.0",
            "us-east-1",
            "eastus2",
            "gpt-4o-mini",
            "eventStream",
            "application/json",
            "true",
            "TENANT",
            "red team",
            "größe",
            "a1b2c",
        ] {
            assert!(!is_suspect_parameter("x", value), "{value} is hidden");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_plain() {
        for value in [
            "Abcdefgh-0123456789-XYZ",
            "s3cr3t-words",
            "pa55word",
            "0123456789",
            "fn-0123456789abcdef",
            "QwErTyUiOpAs",
            "sk-live",
            "Bearer of-words",
            "abcdefghijklmnopqrstu",
            "123e4567-e89b-12d3-a456-426614174000",
            "v1gamma1",
            "v1beta1x2",
        ] {
            assert!(is_suspect_parameter("x", value), "{value} is shown");
        }
        for name in ["code", "Code", "sig", "api_key", "access-token", "otp"] {
            assert!(is_suspect_parameter(name, "words"), "{name} is shown");
        }
        assert!(!is_suspect_parameter("country_code", "us"));
    }

    #[test]
    fn of_a_text_in_an_address_only_what_is_in_the_path_may_be_a_secret() {
        let endpoint: Uri = "https://acme.example:8443/fn-0123456789abcdef/team/v1".parse().unwrap();
        let hidden = |text: &str| {
            let all = secrets_of_path(&Secret::new(text), &endpoint);
            all.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(hidden("fn-0123456789abcdef"), ["fn-0123456789abcdef"; 2]);
        assert_eq!(hidden("team"), ["team"]);
        assert_eq!(hidden("acme.example"), [""; 0]);
        assert_eq!(hidden("https://acme.example:8443/fn-0123456789abcdef/team/v1"), ["fn-0123456789abcdef"]);
        assert_eq!(hidden("/chat/completions"), [""; 0]);
    }
}
