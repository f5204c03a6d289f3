//! Galileo's JSON as TOML that means the same: read by the reader of `integrations_dir`, written without its secrets, and
//! read again to see that it does.

mod hide;
mod page;
mod token;
mod toml;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::environment::Environment;
use super::expand::Expander;
use super::places::{Layer, Node, Origin, Places};
use super::problem::{Problem, Problems, Severity};
use super::source::{self, Definitions, Options, Sources, Texts};
use super::text;
use super::valid::{Authorization, AwsKeys, Integration, PARAMETERS, SecretSource};
use super::{At, Loaded, checked, load};
use crate::files::Prints;
use crate::names::IntegrationName;
use crate::secret::Secret;

pub use self::page::Reference;

/// One of Galileo's definitions.
pub struct Definition {
    /// How messages call it: its path.
    pub shown: String,
    /// What relative paths in it are relative to.
    pub dir: PathBuf,
    /// Its text.
    pub text: String,
}

/// A definition in TOML. None of its texts holds a secret, but for what `loaded` has in memory.
pub struct Imported {
    /// The table `[integrations.NAME]`, to be appended to a configuration.
    pub toml: String,
    /// What `integrations_dir` warns of in the JSON.
    pub warnings: Problems,
    /// Where each secret is to be put, in the order of the table.
    pub references: Vec<Reference>,
    /// The secrets that were missing in the JSON, or only stars: keys of `token` or of the integration.
    pub missing: Vec<&'static str>,
    /// The keys of the JSON that have no effect here.
    pub ignored: Vec<String>,
    /// What the table cannot say, as sentences without their end.
    pub losses: Vec<String>,
    /// The table as it was read again, with every secret in its place.
    pub loaded: Loaded,
}

impl Definition {
    /// What the JSON calls itself, if it does.
    pub fn name(&self) -> Option<String> {
        let json: Value = serde_json::from_str(self.text.trim_start_matches('\u{feff}')).ok()?;
        json.get("name")?.as_str().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
    }
}

/// Writes `definition` as the integration `name`. Its mistakes are those that `integrations_dir` tells, all at once; but a
/// secret may be missing, and so may the variables that hold secrets. Blocks: it looks at the files that the JSON names.
pub fn import(
    definition: &Definition,
    name: &IntegrationName,
    env: &Environment,
) -> Result<Imported, Problems> {
    let (layer, _) = source::parse_definition(layer(definition), name.as_str())?;
    let Ok(Value::Object(mut json)) = serde_json::from_str(&layer.text) else {
        return Err(Problem::nowhere(Severity::Error, "expected an object, `{…}`").into());
    };
    keep_decimals(&mut json, &layer);
    let missing = token::fill(&mut json);
    let is_named = |variable: &str| definition.text.contains(&format!("${{{variable}"));
    let is_unwanted = |variable: &str| is_elsewhere(variable) && !is_named(variable);
    let env = env.changed(is_unwanted, token::stand_ins(&json, env));
    let mut read = read(layer, name, &json, &env)?;
    forget_stand_in(&mut read, name);
    let page = page::page(name.as_str(), &json, &definition.dir, &missing);
    let loaded = again(definition, name, &page, &env, &read)?;
    let page::Page { toml, references, ignored, losses, .. } = page;
    Ok(Imported { toml, warnings: read.warnings, references, missing, ignored, losses, loaded })
}

/// Makes texts of the numbers in `query` and `oauth2.extra_params` where the reader takes them as they are written.
fn keep_decimals(json: &mut Map<String, Value>, layer: &Layer) {
    let places = Places { layers: vec![layer.clone()] };
    let keep = |at: &At, table: Option<&mut Value>| {
        for (key, value) in table.and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(written) = places.decimal(&at.key(key)).filter(|_| value.is_number()) {
                *value = Value::from(written);
            }
        }
    };
    keep(&layer.at.key("query"), json.get_mut("query"));
    let parameters = json.get_mut("oauth2").and_then(|oauth2| oauth2.get_mut("extra_params"));
    keep(&layer.at.key("oauth2").key("extra_params"), parameters);
}

/// Leaves out what is told of the key that only stands in for one: it is not the user's.
fn forget_stand_in(read: &mut Loaded, name: &IntegrationName) {
    let stand_in = SecretSource::Inline(Secret::new(token::MISSING));
    let authorization = read.settings.integrations.get(name).map(|one| &one.authorization);
    if matches!(authorization, Some(Authorization::ApiKey { value, .. }) if *value == stand_in) {
        let key = At::integration(name.as_str()).key("api_key_value").to_string();
        read.warnings.retain(|problem| problem.key.as_ref() != Some(&key));
    }
}

/// Whether a variable speaks of the configuration that the table is for, and not of the JSON.
fn is_elsewhere(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    name.starts_with("OUTRIDER_") || name.starts_with("GALILEO_") || name.ends_with("_PROXY")
}

fn layer(definition: &Definition) -> Layer {
    Layer {
        origin: Origin::Galileo,
        shown: definition.shown.clone(),
        dir: definition.dir.clone(),
        at: At::root(),
        text: definition.text.clone(),
        root: Node::default(),
        variables: Vec::new(),
    }
}

/// The JSON alone, read as one of `integrations_dir`.
fn read(
    layer: Layer,
    name: &IntegrationName,
    json: &Map<String, Value>,
    env: &Environment,
) -> Result<Loaded, Problems> {
    let dict = json.iter().map(|(key, value)| (key.clone(), text::from_json(value.clone()))).collect();
    let sources = Sources {
        places: Places { layers: vec![layer] },
        merged: source::as_integration(name.as_str(), dict),
        texts: Texts::default(),
        problems: Problems::default(),
        definitions: Definitions::default(),
    };
    checked(sources, env, &mut Prints::new())
}

/// The table read as a configuration of its own, with the JSON's secrets in their places. An error if it does not mean the
/// same.
fn again(
    definition: &Definition,
    name: &IntegrationName,
    page: &page::Page,
    env: &Environment,
    read: &Loaded,
) -> Result<Loaded, Problems> {
    let variable = |(name, value): &(String, Value)| (name.clone(), filled(value, &definition.dir, env));
    let options = Options {
        file: None,
        env: env.changed(|_| false, page.variables.iter().map(variable)),
        dir: definition.dir.clone(),
        texts: Some(Texts::of(definition.dir.join("config.toml"), page.toml.clone())),
    };
    let wrong = |why: &str| {
        let message = format!("the TOML for `{name}` {why}");
        let help = "put the JSON into integrations_dir as it is; and please report this";
        Problems::from(Problem::nowhere(Severity::Error, message).with_help(help))
    };
    let mut loaded = load(&options).map_err(|problems| {
        let first = problems.iter().map(|problem| problem.message.as_str()).next().unwrap_or_default();
        wrong(&format!("would not load: {first}"))
    })?;
    let (Some(before), Some(after)) =
        (read.settings.integrations.get(name), loaded.settings.integrations.get_mut(name))
    else {
        return Err(wrong("has no integration"));
    };
    if !page.differs && effect(before) != effect(after) {
        return Err(wrong("would not mean the same"));
    }
    after.authorization = before.authorization.clone();
    Ok(loaded)
}

/// The text of a secret as the environment would hold it: with the variables in it filled in.
fn filled(value: &Value, dir: &Path, env: &Environment) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut expander = Expander { env, dir, files: &mut Prints::new(), given: Vec::new(), asked: Vec::new() };
    expander.expand(&text).map_or_else(|_| text.clone(), std::borrow::Cow::into_owned)
}

/// What counts of an integration: not where it or its values stand, not whether its secrets are in a file, and none of the parameters
/// that are never filtered.
fn effect(integration: &Integration) -> Integration {
    let mut one = integration.clone();
    one.referred.clear();
    one.world.clear();
    one.hidden_query.clear();
    one.hidden_path.clear();
    if let Authorization::OAuth2(oauth2) = &mut one.authorization {
        oauth2.hidden_path.clear();
    }
    for listed in one.models.iter_mut().filter_map(|model| model.supported.as_mut()) {
        listed.retain(|name| PARAMETERS.iter().any(|(_, wire)| wire == name));
    }
    let hidden = || SecretSource::Inline(Secret::new("***"));
    match &mut one.authorization {
        Authorization::ApiKey { value, .. } => *value = hidden(),
        Authorization::OAuth2(oauth2) => oauth2.client_secret = hidden(),
        Authorization::SigV4(aws) => {
            if let AwsKeys::Fixed { id, secret, session } = &mut aws.keys {
                (*id, *secret) = (hidden(), hidden());
                session.iter_mut().for_each(|session| *session = hidden());
            }
        }
        Authorization::None | Authorization::Gcp(_) | Authorization::Later(_) => {}
    }
    one
}
