//! What a worker was handed that is secret: it is taken out of what the worker says.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::HeaderValue;
use serde_json::{Map, Value};

use super::spec::Spec;
use crate::config::valid::is_suspect;
use crate::echo::Needles;

/// So many keys or tokens are known at a time, the newest: one is renewed now and then, and calls outlive it.
const MOST: usize = 4;

/// The secrets of one worker.
pub(super) struct Handed {
    /// Those that it was made with.
    fixed: Needles,
    /// Those that calls brought.
    latest: ArcSwap<Latest>,
    noting: Mutex<()>,
}

#[derive(Default)]
struct Latest {
    /// The newest first.
    values: Vec<HeaderValue>,
    needles: Needles,
}

impl Handed {
    /// Those of a worker of `spec` before its first call: the secret part of its `api_base`, what stands in `init_kwargs`
    /// under a name like a secret's, and what of the environment does.
    pub(super) fn new(spec: &Spec) -> Self {
        let mut texts = Vec::new();
        named(&spec.init_kwargs, &mut texts);
        // What begins with a slash is the place of a file, which tracebacks are full of.
        let environment =
            spec.environment.0.iter().filter(|(name, text)| is_suspect(name, "") && !text.starts_with('/'));
        texts.extend(environment.map(|(_, text)| text.as_str()));
        let fixed = Needles::of(texts.into_iter().map(str::as_bytes)).whole();
        let fixed = match &spec.hidden {
            Some(hidden) => fixed.and_secret(hidden),
            None => fixed,
        };
        Self { fixed, latest: ArcSwap::default(), noting: Mutex::default() }
    }

    /// Notes the header of a call that holds its key. Where it is a known one it costs a comparison.
    pub(super) fn note(&self, value: &HeaderValue) {
        if self.latest.load().values.contains(value) {
            return;
        }
        let _one = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.latest.load();
        let others = before.values.iter().filter(|other| *other != value).take(MOST - 1);
        let values: Vec<_> = std::iter::once(value).chain(others).cloned().collect();
        let needles = Needles::of(values.iter().map(HeaderValue::as_bytes));
        self.latest.store(std::sync::Arc::new(Latest { values, needles }));
    }

    /// `text` without any of them.
    pub(super) fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let latest = self.latest.load();
        let mut clean = Cow::Borrowed(text);
        for needles in [&self.fixed, &latest.needles] {
            if let Some(cleaner) = needles.clean_text(&clean) {
                clean = Cow::Owned(cleaner);
            }
        }
        clean
    }
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed").field("latest", &self.latest.load().values.len()).finish_non_exhaustive()
    }
}

/// The texts in `fields` that stand under a name like a secret's, however deep.
fn named<'v>(fields: &'v Map<String, Value>, into: &mut Vec<&'v str>) {
    for (name, value) in fields {
        match value {
            _ if is_suspect(name, "") => texts(value, into),
            Value::Object(fields) => named(fields, into),
            _ => {}
        }
    }
}

fn texts<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::testing::{environment, spec};
    use super::*;

    #[test]
    fn what_a_worker_is_made_with_is_known_by_its_name() {
        let mut spec = spec(Path::new("/handlers"));
        let kwargs =
            json!({"region": "eu-central-1", "api_key": "kwarg-s3cret", "deep": {"tokens": ["deep-s3cret"]}});
        spec.init_kwargs = kwargs.as_object().unwrap().clone();
        spec.environment =
            environment(&[("CORP_PASSWORD", "env-s3cret"), ("SSL_CERT_FILE", "/etc/corp.pem")]);
        spec.hidden = Some("way-s3cret".into());
        let handed = Handed::new(&spec);
        let said = "kwarg-s3cret deep-s3cret env-s3cret way-s3cret eu-central-1 /etc/corp.pem";
        assert_eq!(handed.clean(said), "*** *** *** *** eu-central-1 /etc/corp.pem");
        assert!(!format!("{handed:?}").contains("s3cret"));
    }

    #[test]
    fn the_newest_keys_of_calls_are_known_with_and_without_their_scheme_and_cut() {
        let handed = Handed::new(&spec(Path::new("/handlers")));
        assert!(matches!(handed.clean("Bearer key-0-s3cret"), Cow::Borrowed(_)));
        let key = |n: usize| HeaderValue::try_from(format!("Bearer key-{n}-s3cret")).unwrap();
        for n in [0, 1, 2, 1, 3, 4] {
            handed.note(&key(n));
        }
        assert_eq!(handed.latest.load().values, [key(4), key(3), key(2), key(1)]);
        assert_eq!(handed.clean("key-0-s3cret key-1-s3cret Bearer key-4-s3cret"), "key-0-s3cret *** ***");
        assert_eq!(handed.clean("it begins with key-3-s3"), "it begins with ***");
    }
}
