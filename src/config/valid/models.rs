//! The models of an integration: names, aliases, parameters, the default.

use super::{Model, PARAMETERS};
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Reading, nearest};
use crate::names::ModelName;

/// `model_properties` and then those of `models` that are not among them.
pub(super) fn models(
    properties: Field<Vec<raw::ModelProperties>>,
    names: Field<Vec<String>>,
    at: &At,
    r: &mut Reading<'_>,
) -> Vec<Model> {
    let mut models: Vec<Model> = Vec::new();
    let list = at.key("model_properties");
    for (n, raw) in properties.or(Vec::new()).into_iter().enumerate() {
        let at = list.index(n);
        let Some(model) = model(raw, &at, r) else { continue };
        if models.iter().any(|before| before.alias == model.alias) {
            let message = format!("two models answer to `{}`", model.alias);
            r.error(&at.key("alias"), message).help("give each model an alias of its own");
        }
        models.push(model);
    }
    let list = at.key("models");
    for (n, text) in names.or(Vec::new()).iter().enumerate() {
        let Some(name) = name(text, &list.index(n), r) else { continue };
        if !models.iter().any(|before| before.name == name || before.alias == name) {
            models.push(plain(name));
        }
    }
    models
}

/// The alias of `default_model`, which may be written as name or alias; the first model's where it is not given.
pub(super) fn default_model(
    raw: Field<String>,
    models: &mut Vec<Model>,
    at: &At,
    r: &mut Reading<'_>,
) -> Option<ModelName> {
    let at = at.key("default_model");
    let Some(text) = raw.given() else { return models.first().map(|model| model.alias.clone()) };
    let name = name(&text, &at, r)?;
    if models.is_empty() {
        models.push(plain(name));
    }
    let by_alias = models.iter().find(|m| m.alias.as_str() == text);
    if let Some(found) = by_alias.or_else(|| models.iter().find(|m| m.name.as_str() == text)) {
        return Some(found.alias.clone());
    }
    let known = models.iter().flat_map(|m| [m.alias.as_str(), m.name.as_str()]);
    let help = match nearest(&text, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            "name one of `model_properties` or `models`, or leave it out: the first is the default".to_owned()
        }
    };
    let shown = if r.may_show(&at, &text) { format!(": `{text}`") } else { String::new() };
    r.error(&at, format!("`default_model` is none of the integration's models{shown}")).help(help);
    None
}

fn model(raw: raw::ModelProperties, at: &At, r: &mut Reading<'_>) -> Option<Model> {
    if raw.name.is_absent() {
        r.error(&at.key("name"), format!("`{at}` has no `name`"))
            .help("the name goes to the provider as it is");
    }
    let is_empty = raw.supported_parameters.get().is_some_and(Vec::is_empty);
    if is_empty && !r.is_galileo(at) {
        let message = "`supported_parameters` is empty, so every parameter passes";
        r.warning(&at.key("supported_parameters"), message).help("leave it out, or list what may pass");
    }
    if raw.based_on.is_given() && raw.supported_parameters.is_given() && !is_empty {
        let message = "`based_on` and `supported_parameters` exclude each other";
        r.error(&at.key("supported_parameters"), message).help("keep one of them");
    }
    let supported = raw.supported_parameters.given().filter(|list| !list.is_empty());
    let supported = supported.map(|list| wire_names(&list, &at.key("supported_parameters"), r));
    let alias = raw.alias.given().and_then(|text| name(&text, &at.key("alias"), r));
    let name = name(&raw.name.given()?, &at.key("name"), r)?;
    Some(Model {
        alias: alias.unwrap_or_else(|| name.clone()),
        name,
        based_on: raw.based_on.given(),
        supported,
        json_schema: raw.supports_json_schema.given(),
    })
}

fn plain(name: ModelName) -> Model {
    Model { alias: name.clone(), name, based_on: None, supported: None, json_schema: None }
}

fn name(text: &str, at: &At, r: &mut Reading<'_>) -> Option<ModelName> {
    match text.parse() {
        Ok(name) => Some(name),
        Err(bad) => {
            r.error(at, format!("`{at}` cannot name a model: {bad}"));
            None
        }
    }
}

/// Galileo's name of a parameter that is called `text` by Galileo or by OpenAI, as Galileo's own defaults call `stop`.
pub(in crate::config) fn parameter(text: &str) -> Option<&'static str> {
    let known = PARAMETERS.iter().find(|(galileo, wire)| *galileo == text || *wire == text);
    known.map(|(galileo, _)| *galileo)
}

/// Galileo's names as OpenAI's. One that we do not know is an error, but in Galileo's own JSON it may be newer than we
/// are: there it is kept as it is.
fn wire_names(list: &[String], at: &At, r: &mut Reading<'_>) -> Vec<String> {
    let mut wire = Vec::new();
    for (n, text) in list.iter().enumerate() {
        let at = at.index(n);
        let own = parameter(text).filter(|own| *own == text || r.is_galileo(&at));
        if let Some((_, name)) = PARAMETERS.iter().find(|(galileo, _)| Some(*galileo) == own) {
            wire.push((*name).to_owned());
            continue;
        }
        let known = PARAMETERS.iter().map(|(galileo, _)| *galileo);
        let help = match parameter(text) {
            Some(galileo) => format!("Galileo's name for it is `{galileo}`"),
            None => match nearest(text, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
            },
        };
        let shown = if r.may_show(&at, text) { format!(" `{text}`") } else { String::new() };
        r.error_unless_galileo(&at, format!("unknown parameter{shown}")).help(help);
        wire.push(text.clone());
    }
    wire
}
