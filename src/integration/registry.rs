//! The registry: which integration a path or a model belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use super::Entry;
use crate::config::valid;

/// All integrations of one configuration. Requests hold the snapshot that they began with.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Vec<Arc<Entry>>,
    by_name: HashMap<String, usize>,
    by_model: HashMap<String, Vec<(usize, usize)>>,
    /// Seconds since the epoch at which it was built: `created` in `/v1/models`.
    pub created: u64,
}

/// The integration and the model of a request.
#[derive(Debug)]
pub struct Found<'a> {
    /// The integration.
    pub entry: &'a Arc<Entry>,
    /// Which of its models, by place.
    pub index: usize,
}

impl<'a> Found<'a> {
    /// The model.
    pub fn model(&self) -> &'a valid::Model {
        &self.entry.settings.models[self.index]
    }
}

/// Why no integration serves a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// The path names an integration that is not there; the nearest names.
    Integration(String, Vec<String>),
    /// The model is not there.
    Model {
        /// The model.
        model: String,
        /// The integration that was named, if one was.
        integration: Option<String>,
        /// The nearest names.
        near: Vec<String>,
    },
    /// The model stands in several integrations; the forms that name one.
    Ambiguous(String, Vec<String>),
    /// No model was given and none is the default; names that would do.
    Missing(Vec<String>),
}

impl Registry {
    /// Orders `entries` for look-up.
    pub fn new(entries: Vec<Arc<Entry>>, created: u64) -> Self {
        let mut by_name = HashMap::new();
        let mut by_model: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_name.insert(entry.settings.name.as_str().to_owned(), at);
            for (index, model) in entry.settings.models.iter().enumerate() {
                for word in words(model) {
                    let places = by_model.entry(word.to_owned()).or_default();
                    // An alias beats another model's name in the same integration, else the first one stands.
                    match places.iter_mut().find(|(e, _)| *e == at) {
                        None => places.push((at, index)),
                        Some(place) if word == model.alias.as_str() => {
                            if entry.settings.models[place.1].alias.as_str() != word {
                                place.1 = index;
                            }
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        Self { entries, by_name, by_model, created }
    }

    /// All integrations, in order of their names.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The integration of this name.
    pub fn integration(&self, name: &str) -> Result<&Arc<Entry>, NotFound> {
        let at = self.by_name.get(name);
        at.map(|at| &self.entries[*at]).ok_or_else(|| {
            NotFound::Integration(name.to_owned(), nearest(name, self.by_name.keys().map(String::as_str)))
        })
    }

    /// Finds by path first, then by an exact alias or name, then by `integration/model`.
    pub fn find(&self, path: Option<&str>, model: Option<&str>) -> Result<Found<'_>, NotFound> {
        match (path, model) {
            (Some(name), Some(model)) => Self::in_entry(self.integration(name)?, model),
            (Some(name), None) => Self::default_of(self.integration(name)?),
            (None, Some(model)) => self.by_model(model),
            (None, None) => match self.entries.as_slice() {
                [only] => Self::default_of(only),
                many => {
                    let firsts = (0..many.len()).filter_map(|at| self.forms(at).next());
                    Err(NotFound::Missing(firsts.take(5).collect()))
                }
            },
        }
    }

    fn by_model(&self, model: &str) -> Result<Found<'_>, NotFound> {
        match self.by_model.get(model).map(Vec::as_slice) {
            Some([(entry, index)]) => Ok(Found { entry: &self.entries[*entry], index: *index }),
            Some(many) => {
                let forms = many.iter().filter_map(|place| self.form(*place, model));
                Err(NotFound::Ambiguous(model.to_owned(), forms.collect()))
            }
            None => {
                if let Some((name, rest)) = model.split_once('/')
                    && let Some(at) = self.by_name.get(name)
                {
                    return Self::in_entry(&self.entries[*at], rest);
                }
                // Aliases that stand in several integrations would only lead to the next error.
                let all = self.models();
                let names =
                    self.by_model.iter().filter(|(_, places)| places.len() == 1).map(|(name, _)| name);
                let known = all.iter().map(|(form, _)| form.as_str()).chain(names.map(String::as_str));
                Err(NotFound::Model {
                    model: model.to_owned(),
                    integration: None,
                    near: nearest(model, known),
                })
            }
        }
    }

    fn in_entry<'a>(entry: &'a Arc<Entry>, model: &str) -> Result<Found<'a>, NotFound> {
        let models = &entry.settings.models;
        let by_alias = models.iter().position(|m| m.alias.as_str() == model);
        let found = by_alias.or_else(|| models.iter().position(|m| m.name.as_str() == model));
        found.map(|index| Found { entry, index }).ok_or_else(|| NotFound::Model {
            model: model.to_owned(),
            integration: Some(entry.settings.name.to_string()),
            near: nearest(model, models.iter().flat_map(words)),
        })
    }

    fn default_of(entry: &Arc<Entry>) -> Result<Found<'_>, NotFound> {
        match &entry.settings.default_model {
            Some(name) => Self::in_entry(entry, name.as_str()),
            None => Err(NotFound::Missing(Vec::new())),
        }
    }

    /// What a client may send as `model`, each with its integration: aliases, or `integration/alias` where the bare
    /// one stands in several integrations. A model that neither leads to is left out: only a path does.
    pub fn models(&self) -> Vec<(String, &str)> {
        let mut all = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            for (index, model) in entry.settings.models.iter().enumerate() {
                let alias = model.alias.as_str();
                let alone = self.by_model.get(alias).is_none_or(|places| places.len() == 1);
                let form = if alone { Some(alias.to_owned()) } else { self.form((at, index), alias) };
                all.extend(form.map(|form| (form, entry.settings.name.as_str())));
            }
        }
        all
    }

    /// `integration/word` for the model at `place`, unless that leads elsewhere: a model may be called so as a whole.
    fn form(&self, place: (usize, usize), word: &str) -> Option<String> {
        let form = format!("{}/{word}", self.entries[place.0].settings.name);
        let leads_there = match self.by_model.get(&form) {
            None => true,
            Some(places) => places.as_slice() == [place],
        };
        leads_there.then_some(form)
    }

    /// Those of the models of the integration at `at`.
    fn forms(&self, at: usize) -> impl Iterator<Item = String> {
        let models = self.entries[at].settings.models.iter().enumerate();
        models.filter_map(move |(index, model)| self.form((at, index), model.alias.as_str()))
    }
}

fn words(model: &valid::Model) -> impl Iterator<Item = &str> {
    let name = Some(model.name.as_str()).filter(|name| *name != model.alias.as_str());
    std::iter::once(model.alias.as_str()).chain(name)
}

/// Up to three known names that a person may have meant, the nearest first.
fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    // A client chooses the name: comparing a very long one with all others would cost too much.
    let wanted: String = wanted.chars().take(64).collect::<String>().to_lowercase();
    let mut near: Vec<(f64, &str)> = known
        .map(|k| (strsim::jaro_winkler(&wanted, &k.to_lowercase()), k))
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    near.into_iter().take(3).map(|(_, k)| k.to_owned()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dialect::Format;
    use crate::integration::Workshop;
    use std::time::Duration;

    /// The settings of an integration with these models, for tests of this room.
    pub(in crate::integration) fn integration(name: &str, models: &[&str]) -> valid::Integration {
        let model = |name: &&str| {
            let (name, alias) = name.split_once(" as ").unwrap_or((name, name));
            valid::Model {
                name: name.parse().unwrap(),
                alias: alias.parse().unwrap(),
                based_on: None,
                supported: None,
                json_schema: None,
            }
        };
        valid::Integration {
            name: name.parse().unwrap(),
            origin: "test".to_owned().into(),
            format: Format::OpenAi,
            endpoint: "http://127.0.0.1:9/v1".parse().unwrap(),
            path: None,
            query: vec![],
            api_version: None,
            authorization: valid::Authorization::None,
            models: models.iter().map(model).collect(),
            default_model: None,
            headers: vec![],
            header_mapping: vec![],
            forward_headers: vec![],
            handler: None,
            media: valid::MediaLimits::default(),
            tls: crate::tls::Profile::default(),
            token_tls: crate::tls::Profile::default(),
            proxy: valid::Proxy::Direct,
            token_routes: valid::Routes::default(),
            limits: valid::Limits {
                connect: Duration::from_secs(5),
                first_byte: Duration::from_secs(600),
                idle: Duration::from_secs(120),
                token: Duration::from_secs(5),
                max_concurrent: 8,
                queue_timeout: Duration::from_secs(30),
                pool_idle: Duration::from_secs(30),
                max_connection_age: Duration::from_secs(300),
                max_answer: 1 << 20,
                max_event: 1 << 20,
            },
            edits: valid::Edits::default(),
            strict: false,
            declared: None,
            referred: vec![],
            hidden_query: vec![],
            hidden_path: vec![],
            world: vec![],
        }
    }

    fn registry(all: &[(&str, &[&str], Option<&str>)]) -> Registry {
        let workshop = Workshop::dry();
        let entries = all.iter().map(|(name, models, default)| {
            let mut settings = integration(name, models);
            settings.default_model = default.map(|d| d.parse().unwrap());
            Arc::new(Entry::build(settings, &workshop))
        });
        Registry::new(entries.collect(), 1)
    }

    fn at(found: Result<Found<'_>, NotFound>) -> (String, String) {
        let found = found.unwrap();
        (found.entry.settings.name.to_string(), found.model().name.to_string())
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn an_exact_name_wins_over_integration_slash_model() {
        let registry = registry(&[("openai", &["gpt"], None), ("together", &["openai/gpt"], None)]);
        assert_eq!(at(registry.find(None, Some("openai/gpt"))), pair("together", "openai/gpt"));
        assert_eq!(at(registry.find(Some("openai"), Some("gpt"))), pair("openai", "gpt"));
        assert_eq!(at(registry.find(None, Some("together/openai/gpt"))), pair("together", "openai/gpt"));
    }

    #[test]
    fn a_model_in_two_integrations_is_ambiguous_by_its_bare_name() {
        let registry = registry(&[("a", &["m"], None), ("b", &["x as m"], None)]);
        let NotFound::Ambiguous(_, forms) = registry.find(None, Some("m")).unwrap_err() else { panic!() };
        assert_eq!(forms, ["a/m", "b/m"]);
        assert_eq!(at(registry.find(None, Some("b/m"))), pair("b", "x"));
        assert_eq!(at(registry.find(Some("a"), Some("m"))), pair("a", "m"));
        assert_eq!(registry.models(), [("a/m".to_owned(), "a"), ("b/m".to_owned(), "b")]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_not_advised() {
        let all: [(&str, &[&str], Option<&str>); 3] =
            [("openai", &["gpt"], None), ("other", &["gpt"], None), ("together", &["openai/gpt"], None)];
        let registry = registry(&all);
        let NotFound::Ambiguous(_, forms) = registry.find(None, Some("gpt")).unwrap_err() else { panic!() };
        assert_eq!(forms, ["other/gpt"]);
        let listed = [("other/gpt".to_owned(), "other"), ("openai/gpt".to_owned(), "together")];
        assert_eq!(registry.models(), listed);
        for (form, owner) in registry.models() {
            assert_eq!(at(registry.find(None, Some(&form))).0, owner);
        }
        let NotFound::Missing(forms) = registry.find(None, None).unwrap_err() else { panic!() };
        assert_eq!(forms, ["other/gpt", "together/openai/gpt"]);
        assert_eq!(at(registry.find(Some("openai"), Some("gpt"))), pair("openai", "gpt"), "by the path");
    }

    #[test]
    fn an_alias_beats_another_models_name_in_the_same_integration() {
        let registry = registry(&[("a", &["fast", "slow as fast"], None)]);
        assert_eq!(at(registry.find(None, Some("fast"))), pair("a", "fast"));
        let registry = self::registry(&[("a", &["real as shown", "other as real"], None)]);
        assert_eq!(at(registry.find(None, Some("real"))), pair("a", "other"));
        assert_eq!(at(registry.find(Some("a"), Some("real"))), pair("a", "other"));
        assert_eq!(at(registry.find(None, Some("shown"))), pair("a", "real"));
    }

    #[test]
    fn a_default_model_serves_by_path_or_where_there_is_only_one_integration() {
        let one = registry(&[("a", &["m", "n"], Some("n"))]);
        assert_eq!(at(one.find(None, None)), pair("a", "n"));
        let two = registry(&[("a", &["m"], Some("m")), ("b", &["n"], None)]);
        assert_eq!(at(two.find(Some("a"), None)), pair("a", "m"));
        assert!(
            matches!(two.find(None, None).unwrap_err(), NotFound::Missing(forms) if forms == ["a/m", "b/n"])
        );
        assert!(matches!(two.find(Some("b"), None).unwrap_err(), NotFound::Missing(_)));
    }

    #[test]
    fn an_unknown_name_brings_the_nearest_ones() {
        let registry = registry(&[("acme", &["gpt-4o", "claude-sonnet"], None)]);
        let NotFound::Model { near, .. } = registry.find(None, Some("gpt4o")).unwrap_err() else { panic!() };
        assert_eq!(near, ["gpt-4o"]);
        let NotFound::Integration(_, near) = registry.find(Some("acmee"), Some("x")).unwrap_err() else {
            panic!()
        };
        assert_eq!(near, ["acme"]);
        let NotFound::Model { .. } = registry.find(None, Some("../../../etc/passwd")).unwrap_err() else {
            panic!()
        };
    }
}
