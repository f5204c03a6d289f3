//! A token endpoint's answer, from bytes to a token or to what is wrong with it (RFC 6749 §5). No sockets, no clock.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::openai::json::unmarked;

/// How long a token lives whose answer does not say so. Short enough that a wrong guess is soon mended, long enough
/// that the endpoint is not asked for every request.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The longest that a token is believed to live: absurd lifetimes are cut to it.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The longest that words of the endpoint are quoted, in characters.
const MAX_WORDS: usize = 300;

/// Where an OAuth2 server, or one that is nearly so, puts the name of an error.
const ERROR_FIELDS: [&str; 4] = ["error", "errorCode", "ErrorCode", "code"];
/// Where it puts the words.
const DESCRIPTION_FIELDS: [&str; 5] = ["error_description", "errorSummary", "Error", "message", "detail"];

/// What an answer gave and how long it lives.
pub(super) struct Granted<P> {
    /// What requests put on. As read from an answer: a token that is not empty and has only characters that RFC 6749
    /// §A.12 allows.
    pub(super) pass: P,
    /// How long it lives; zero for one that serves only those who wait for it.
    pub(super) lifetime: Duration,
}

impl<P> Granted<P> {
    /// The same with what `make` makes of it.
    pub(super) fn with<Q>(self, make: impl FnOnce(P) -> Result<Q, Trouble>) -> Result<Granted<Q>, Trouble> {
        Ok(Granted { pass: make(self.pass)?, lifetime: self.lifetime })
    }
}

/// Where an answer has what, and what must not be repeated of it.
pub(super) struct Fields<'a> {
    /// The field of the token.
    pub(super) token: &'a str,
    /// The field of its lifetime in seconds.
    pub(super) expires: &'a str,
    /// What to do where the token is not there, or nothing.
    pub(super) help: &'static str,
    /// What to check where the endpoint is none.
    pub(super) url: &'static str,
    /// Takes our secrets out of a text.
    pub(super) hide: &'a dyn Fn(&str) -> String,
}

/// Why there is no token. Its words are cleaned, shortened and free of our secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The endpoint refused our credentials.
    Refused {
        /// Its status.
        status: u16,
        /// Its `error`.
        error: Option<String>,
        /// Its `error_description`.
        description: Option<String>,
    },
    /// Anything else, to be read after "no token from HOST: ".
    Unavailable {
        /// What happened.
        words: String,
        /// The same without the endpoint's own words.
        ours: String,
        /// Nothing but a change of the configuration, or of what stands on the way, can help.
        hopeless: bool,
    },
}

impl Trouble {
    /// Anything but a refusal, in these words, which are ours.
    pub(super) fn unavailable(words: impl Into<String>) -> Self {
        let words = words.into();
        Self::Unavailable { ours: words.clone(), words, hopeless: false }
    }

    /// Likewise, where asking again cannot help.
    pub(super) fn hopeless(words: String) -> Self {
        Self::Unavailable { ours: words.clone(), words, hopeless: true }
    }

    /// Likewise, where `words` hold some of the endpoint's own, and `ours` say the same without them.
    pub(super) fn quoting(words: String, ours: impl Into<String>) -> Self {
        Self::Unavailable { words, ours: ours.into(), hopeless: false }
    }
}

/// Reads a whole answer. The body is never quoted but for the fields that name an error.
pub(super) fn read(status: u16, body: &[u8], fields: &Fields<'_>) -> Result<Granted<String>, Trouble> {
    let json = object(status, body, fields)?;
    let pass = token(&json, fields)?;
    check_type(json.get("token_type"), &pass, fields)?;
    Ok(Granted { pass, lifetime: lifetime(json.get(fields.expires)) })
}

/// What a whole answer says, if it is one that grants something.
pub(super) fn object(status: u16, body: &[u8], fields: &Fields<'_>) -> Result<Map<String, Value>, Trouble> {
    if (300..400).contains(&status) {
        let words =
            format!("it answered with a redirect ({status}), which is not followed; check {}", fields.url);
        return Err(Trouble::unavailable(words));
    }
    let json = serde_json::from_slice::<Map<String, Value>>(unmarked(body)).ok();
    if !(200..300).contains(&status) {
        return Err(refusal(status, &json.unwrap_or_default(), fields));
    }
    let Some(json) = json else {
        return Err(Trouble::unavailable(format!("its answer is not a JSON object; check {}", fields.url)));
    };
    if json.get("error").is_some_and(is_said) {
        return Err(refusal(status, &json, fields));
    }
    Ok(json)
}

/// An answer that says no: a 400, 401 or 403 (or an `error` in a 200) blames our credentials, unless it says itself
/// that the trouble will pass; any other status blames the endpoint.
fn refusal(status: u16, json: &Map<String, Value>, fields: &Fields<'_>) -> Trouble {
    let token = json.get(fields.token).and_then(Value::as_str);
    let words = |names: &[&str]| {
        let text = names.iter().find_map(|field| words_of(json.get(*field)?))?;
        let text = without(token.unwrap_or_default(), text);
        Some(clean(&(fields.hide)(&text))).filter(|text| !text.is_empty())
    };
    let (error, description) = (words(&ERROR_FIELDS), words(&DESCRIPTION_FIELDS));
    let passes = matches!(error.as_deref(), Some("temporarily_unavailable" | "server_error" | "slow_down"));
    if matches!(status, 200..300 | 400 | 401 | 403) && !passes {
        return Trouble::Refused { status, error, description };
    }
    outage(status, [error, description], fields.url)
}

/// An answer that blames neither us nor what we have shown; `url` is what to check where it is not even there.
pub(super) fn outage(status: u16, said: [Option<String>; 2], url: &str) -> Trouble {
    let said: Vec<_> = said.into_iter().flatten().collect();
    let hint = if matches!(status, 404 | 405 | 410) { format!("; check {url}") } else { String::new() };
    let ours = format!("it answered {status}{hint}");
    match said.join(": ") {
        said if said.is_empty() => Trouble::unavailable(ours),
        said => Trouble::quoting(format!("it answered {status} ({said}){hint}"), ours),
    }
}

/// `text` with the token starred.
fn without(token: &str, text: &str) -> String {
    if token.is_empty() { text.to_owned() } else { text.replace(token, "***") }
}

/// The words in an error field: text, or the message of an object.
fn words_of(value: &Value) -> Option<&str> {
    let text = value.as_str().or_else(|| value.get("message")?.as_str())?;
    (!text.is_empty()).then_some(text)
}

fn is_said(error: &Value) -> bool {
    !matches!(error, Value::Null | Value::Bool(false)) && error.as_str() != Some("")
}

/// RFC 6749 §7.1: a token of a type that we do not know must not be used. Apigee says `BearerToken`.
fn check_type(given: Option<&Value>, token: &str, fields: &Fields<'_>) -> Result<(), Trouble> {
    let known = |word: &str| ["bearer", "bearertoken"].iter().any(|known| word.eq_ignore_ascii_case(known));
    match given {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(word)) if known(word) => Ok(()),
        Some(Value::String(word)) => {
            let told = |word: &str| format!("it gives tokens of {word}, and only `Bearer` can be used");
            let word = clean(&(fields.hide)(&without(token, word)));
            Err(Trouble::quoting(told(&format!("type `{word}`")), told("another type")))
        }
        Some(_) => Err(Trouble::unavailable("its `token_type` is not text")),
    }
}

/// The token in an answer.
pub(super) fn token(json: &Map<String, Value>, fields: &Fields<'_>) -> Result<String, Trouble> {
    let field = fields.token;
    let wrong = |what: &str| Err(Trouble::unavailable(format!("its answer's `{field}` {what}")));
    match json.get(field) {
        None | Some(Value::Null) => wrong(&format!("is missing{}", fields.help)),
        Some(Value::String(token)) if token.trim().is_empty() => wrong("is empty"),
        Some(Value::String(token)) if !token.bytes().all(|b| matches!(b, 0x20..=0x7e)) => {
            wrong("holds characters that cannot stand in a header")
        }
        Some(Value::String(token)) => Ok(token.clone()),
        Some(_) => wrong("is not text"),
    }
}

/// A number or a number as text, in seconds; what cannot be read counts as not given, less than none as none.
fn lifetime(given: Option<&Value>) -> Duration {
    let seconds = match given {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    seconds.filter(|seconds| !seconds.is_nan()).map_or(DEFAULT_LIFETIME, within)
}

/// A lifetime of so many seconds, as far as it is believed.
pub(super) fn within(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, MAX_LIFETIME.as_secs_f64()))
}

/// A stranger's words made fit for one line.
pub(super) fn clean(text: &str) -> String {
    let line: String = text.chars().take(MAX_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<(String, u64), Trouble> {
        let hide = |text: &str| text.replace("s:e/c&r=t", "***");
        let fields = Fields {
            token: "access_token",
            expires: "expires_in",
            help: "",
            url: "the token URL",
            hide: &hide,
        };
        super::read(status, body.as_bytes(), &fields).map(|g| (g.pass, g.lifetime.as_millis() as u64))
    }

    fn words(status: u16, body: &str) -> String {
        match read(status, body) {
            Err(Trouble::Unavailable { words, .. }) => words,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_lifetime_may_be_a_number_a_float_text_or_missing() {
        for (given, want) in [
            ("3600", 3_600_000),
            ("3600.5", 3_600_500),
            ("\"3600\"", 3_600_000),
            ("\" 12.5 \"", 12_500),
            ("null", 300_000),
            ("\"soon\"", 300_000),
            ("\"NaN\"", 300_000),
            ("[1]", 300_000),
            ("0", 0),
            ("-5", 0),
            ("1e300", 86_400_000),
            ("\"inf\"", 86_400_000),
            ("99999999999999999999", 86_400_000),
        ] {
            let body = format!("{{\"access_token\":\"t\",\"expires_in\":{given}}}");
            assert_eq!(read(200, &body), Ok(("t".into(), want)), "{given}");
        }
        assert_eq!(read(200, "{\"access_token\":\"t\"}"), Ok(("t".into(), 300_000)));
        assert_eq!(read(200, "\u{feff}{\"access_token\":\"t\"}"), Ok(("t".into(), 300_000)));
    }

    #[test]
    fn the_type_is_read_without_case_and_any_other_is_a_failure() {
        for good in ["\"Bearer\"", "\"bEaReR\"", "\"BearerToken\"", "null"] {
            assert!(
                read(200, &format!("{{\"access_token\":\"t\",\"token_type\":{good}}}")).is_ok(),
                "{good}"
            );
        }
        for bad in ["\"mac\"", "\"DPoP\"", "\"\"", "1"] {
            words(200, &format!("{{\"access_token\":\"t\",\"token_type\":{bad}}}"));
        }
        assert!(words(200, "{\"access_token\":\"t\",\"token_type\":\"DPoP\"}").contains("type `DPoP`"));
    }

    #[test]
    fn a_token_that_stands_in_the_type_is_not_shown() {
        let both = words(200, "{\"access_token\":\"tok-1\",\"token_type\":\"Key tok-1\"}");
        assert!(both.contains("type `Key ***`"), "{both}");
        let alone = words(200, "{\"token_type\":\"tok-1\"}");
        assert!(alone.contains("is missing") && !alone.contains("tok-1"), "{alone}");
    }

    #[test]
    fn an_outage_is_told_without_the_endpoints_words_too() {
        let ours = |status, body: &str| match read(status, body) {
            Err(Trouble::Unavailable { ours, .. }) => ours,
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(ours(429, "{\"error\":\"slow\",\"message\":\"later\"}"), "it answered 429");
        assert_eq!(ours(404, "{\"error\":\"x\"}"), "it answered 404; check the token URL");
        assert_eq!(ours(200, "<html>"), "its answer is not a JSON object; check the token URL");
        assert_eq!(
            ours(200, "{\"access_token\":\"t\",\"token_type\":\"DPoP\"}"),
            "it gives tokens of another type, and only `Bearer` can be used"
        );
    }

    #[test]
    fn a_token_that_is_missing_empty_or_unfit_for_a_header_is_a_failure_with_its_words() {
        for (token, want) in [
            ("null", "is missing"),
            ("\"\"", "is empty"),
            ("\"  \"", "is empty"),
            ("\"a\\r\\nX-Smug: 1\"", "cannot stand in a header"),
            ("\"a\\u0000\"", "cannot stand in a header"),
            ("\"é\"", "cannot stand in a header"),
            ("{}", "is not text"),
        ] {
            let words = words(200, &format!("{{\"access_token\":{token}}}"));
            assert!(words.contains(want) && !words.contains("Smug"), "{token}: {words}");
        }
        assert!(words(200, "{}").contains("is missing"));
    }

    #[test]
    fn other_fields_can_hold_the_token_and_its_lifetime() {
        let fields = Fields { token: "id_token", expires: "ttl", help: "", url: "it", hide: &str::to_owned };
        let granted = super::read(200, b"{\"id_token\":\"t\",\"ttl\":7,\"expires_in\":1}", &fields);
        assert!(matches!(granted, Ok(Granted { pass, lifetime }) if pass == "t" && lifetime.as_secs() == 7));
    }

    #[test]
    fn a_refusal_keeps_the_endpoints_words_cleaned_and_without_our_secret() {
        let body = "{\"error\":\"invalid_client\",\"error_description\":\"no\\r\\nclient_secret=s:e/c&r=t\"}";
        for status in [200, 400, 401, 403] {
            let want = Trouble::Refused {
                status,
                error: Some("invalid_client".into()),
                description: Some("no  client_secret=***".into()),
            };
            assert_eq!(read(status, body), Err(want));
        }
        let long = format!("{{\"error\":\"{}\"}}", "x".repeat(5000));
        assert!(
            matches!(read(400, &long), Err(Trouble::Refused { error: Some(e), .. }) if e.len() == MAX_WORDS)
        );
        let bare = Trouble::Refused { status: 401, error: None, description: None };
        assert_eq!(read(401, "<html>login</html>"), Err(bare));
    }

    #[test]
    fn an_error_in_a_200_is_a_refusal_even_beside_a_token_and_does_not_show_it() {
        let body = "{\"error\":\"x\",\"error_description\":\"for tok-1\",\"access_token\":\"tok-1\"}";
        let want =
            Trouble::Refused { status: 200, error: Some("x".into()), description: Some("for ***".into()) };
        assert_eq!(read(200, body), Err(want));
        assert!(read(200, "{\"error\":null,\"access_token\":\"t\"}").is_ok());
        assert!(read(200, "{\"error\":\"\",\"access_token\":\"t\"}").is_ok());
    }

    #[test]
    fn what_is_not_about_our_credentials_is_an_outage() {
        assert!(words(503, "down").contains("answered 503"));
        assert!(words(404, "<html>").contains("check the token URL"));
        assert!(words(429, "{\"error\":\"slow\",\"message\":\"later\"}").contains("429 (slow: later)"));
        assert!(words(400, "{\"error\":\"temporarily_unavailable\"}").contains("temporarily_unavailable"));
        assert!(words(302, "").contains("redirect (302)"));
        for body in [
            "<html>login</html>",
            "",
            "[]",
            "\"t\"",
            "{\"access_token\":\"t\"",
            "\u{feff}",
            "\u{feff}\u{feff}{}",
        ] {
            assert!(words(200, body).contains("not a JSON object"), "{body}");
        }
    }
}
