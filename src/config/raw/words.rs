//! The types whose values are words: which there are, and how one is read.

use figment::value::Value;

use crate::config::places::At;
use crate::config::read::{Field, Read, Reading, nearest};
use crate::config::shape::{self, Shape};
use crate::config::valid::{CallStyle, Level, LogFormat};
use crate::dialect::Format;
use crate::tls::{CaMode, Version};

/// A type whose values are words.
pub(in crate::config) trait Word: Copy + 'static {
    /// Each of them.
    const WORDS: &'static [(&'static str, Self)];
}

/// Declares such types.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($word:literal => $value:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::config) enum $name { $($value,)* }

        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$value),)*];
        }
    )*};
}

words! {
    /// `server.start`.
    Start { "degrade" => Degrade, "strict" => Strict, }

    /// `authentication_type`: Galileo's three, and ours.
    AuthenticationType {
        "none" => None,
        "api_key" => ApiKey,
        "oauth2" => OAuth2,
        "aws_sigv4" => AwsSigV4,
        "gcp" => Gcp,
        "signature" => Signature,
    }

    /// `oauth2.client_auth`.
    ClientAuthentication {
        "post" => Post,
        "basic" => Basic,
        "private_key_jwt" => PrivateKeyJwt,
        "tls_client_auth" => TlsClientAuth,
        "assertion_file" => AssertionFile,
    }

    /// `oauth2.signing_alg` (RFC 7518 §3.1).
    SigningAlgorithm {
        "RS256" => Rs256,
        "RS384" => Rs384,
        "RS512" => Rs512,
        "PS256" => Ps256,
        "PS384" => Ps384,
        "PS512" => Ps512,
        "ES256" => Es256,
        "ES384" => Es384,
        "EdDSA" => EdDsa,
    }
}

impl Word for Format {
    const WORDS: &'static [(&'static str, Self)] = &Self::ALL;
}

impl Word for Level {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)];
}

impl Word for CallStyle {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("litellm", Self::Litellm), ("direct", Self::Direct)];
}

impl Word for CaMode {
    const WORDS: &'static [(&'static str, Self)] = &[("add", Self::Add), ("replace", Self::Replace)];
}

impl Word for Version {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", Self::Tls12), ("1.3", Self::Tls13)];
}

impl<T: Word> Read for T {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let Field::Given(text) = String::read(value, at, reading) else { return Field::Bad };
        if let Some((_, found)) = T::WORDS.iter().find(|(word, _)| *word == text) {
            return Field::Given(*found);
        }
        let names = T::WORDS.iter().map(|(word, _)| *word);
        let near = alias(&text, &names).or_else(|| nearest(&text, names.clone()));
        let all = names.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let shown = if reading.may_show(at, &text) { format!(", found {text:?}") } else { String::new() };
        let problem = reading.error(at, format!("`{at}` must be one of {all}{shown}"));
        if let Some(near) = near {
            problem.help(format!("did you mean \"{near}\"?"));
        }
        Field::Bad
    }
}

/// Other names for what our words mean, and the word; those of formats are theirs. What is longer than a name and begins
/// with it means the same. The first whose word is one of those that may be written counts.
const ALIASES: &[(&str, &str)] = &[
    ("google", "gcp"),
    ("aws", "aws_sigv4"),
    ("sigv4", "aws_sigv4"),
    ("iam", "aws_sigv4"),
    ("apikey", "api_key"),
    ("api-key", "api_key"),
    ("bearer", "api_key"),
    ("static", "api_key"),
    ("key", "api_key"),
    ("token", "api_key"),
    ("basic", "api_key"),
    ("client-credentials", "oauth2"),
    ("oauth", "oauth2"),
    ("oidc", "oauth2"),
    ("mtls", "none"),
    ("mtls", "tls_client_auth"),
    ("tls", "none"),
    ("no", "none"),
    ("off", "none"),
    ("client-secret-post", "post"),
    ("client-secret-basic", "basic"),
    ("jwt", "private_key_jwt"),
    ("plain", "text"),
    ("pretty", "text"),
    ("warning", "warn"),
    ("critical", "error"),
    ("verbose", "debug"),
];

/// The one of `words` that `text` is another name for, or a longer one.
fn alias<'w>(text: &str, words: &(impl Iterator<Item = &'w str> + Clone)) -> Option<&'w str> {
    let text = text.trim().to_lowercase().replace(['_', ' '], "-");
    let begins =
        |name: &str| text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let of = |word: &str| words.clone().find(|one| *one == word);
    let formats = Format::ALIASES.iter().map(|(name, format)| (*name, format.word()));
    let all = formats.chain(ALIASES.iter().copied());
    let other = all.filter(|(name, _)| begins(name)).find_map(|(_, word)| of(word));
    other.or_else(|| words.clone().find(|word| begins(&word.replace('_', "-"))))
}

impl<T: Word> Shape for T {
    fn shape() -> serde_json::Value {
        shape::one_of(T::WORDS.iter().map(|(word, _)| *word))
    }
}
