//! What a request that asks for nothing special would meet: a default that the format has to refuse.

use std::sync::Arc;

use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::config::{At, Loaded};
use crate::integration::{Entry, Registry};
use crate::proxy::{Explained, Question, explain};

/// The default of `entry` for which a client is refused that has not asked for it, at the first model that refuses.
pub(super) fn refused_default(loaded: &Loaded, entry: &Arc<Entry>, at: &At) -> Option<(At, String)> {
    let one = &entry.settings;
    if one.edits.defaults.is_empty() {
        return None;
    }
    let registry = Registry::new(vec![Arc::clone(entry)], 0);
    let veil = loaded.veil(one);
    one.models.iter().find_map(|model| {
        let name = one.name.as_str();
        let head =
            Request::post(format!("/{name}/v1/chat/completions")).header(CONTENT_TYPE, "application/json");
        let head = head.body(()).ok()?.into_parts().0;
        let body = json!({"model": model.alias.as_str(), "messages": [{"role": "user", "content": "hello"}]});
        let (body, max_body) = (body.to_string().into(), loaded.settings.server.max_body);
        let question = Question { integration: name, head, body, max_body };
        let Explained::Refused(refusal) = explain(question, &registry, &veil) else { return None };
        let told: Value = serde_json::from_str(&refusal.body).ok()?;
        let (param, why) = (told["error"]["param"].as_str()?, told["error"]["message"].as_str()?);
        let (key, _) = one.edits.defaults.iter().find(|(key, _)| key == param)?;
        let why = why.strip_prefix(&format!("integration `{name}`: ")).unwrap_or(why);
        let at = at.key("defaults").key(key);
        let model = model.alias.as_str();
        let why = format!("`{at}`: a client that does not set it is refused (model `{model}`): {why}");
        Some((at, why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Options};
    use crate::integration::Workshop;

    /// What is told of the only integration, spelled `keys`.
    fn told(keys: &str) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let head = "[integrations.acme]\nendpoint = \"https://a.example\"\nauthentication_type = \"none\"\n";
        std::fs::write(&file, format!("{head}{keys}\n")).unwrap();
        let loaded = config::load(&Options { file: Some(file), ..Options::default() }).unwrap();
        let one = loaded.settings.integrations.values().next().unwrap();
        let entry = Arc::new(Entry::build(one.clone(), &Workshop::dry()));
        let (at, why) = refused_default(&loaded, &entry, &At::integration("acme"))?;
        Some((at.to_string(), why))
    }

    #[test]
    fn a_default_that_the_format_refuses_is_told_with_its_key_model_and_reason() {
        let keys = "format = \"anthropic\"\nmodels = [\"claude-sonnet-4-5\"]\ndefaults = { seed = 4, n = 2 }";
        let (at, why) = told(keys).unwrap();
        assert_eq!(at, "integrations.acme.defaults.n");
        assert!(why.contains("`claude-sonnet-4-5`") && why.contains("one answer a request"), "{why}");
    }

    #[test]
    fn a_default_that_goes_through_or_is_left_out_is_not_told() {
        for keys in [
            "models = [\"m\"]\ndefaults = { n = 2 }",
            "format = \"anthropic\"\nmodels = [\"claude-sonnet-4-5\"]\ndefaults = { seed = 4, max_tokens = 100 }",
            "format = \"anthropic\"\nmodels = [\"claude-sonnet-4-5\"]",
        ] {
            assert_eq!(told(keys), None, "{keys}");
        }
    }
}
