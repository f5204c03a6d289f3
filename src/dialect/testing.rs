//! What the tests of several dialects need: JSON that nobody planned for.

use proptest::prelude::*;
use serde_json::Value;

/// Any JSON of moderate size whose names and texts are among `words`, so that it often looks like what is meant.
pub(super) fn json_of(words: &[&'static str]) -> impl Strategy<Value = Value> {
    let word = prop::sample::select(words.to_vec());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}
