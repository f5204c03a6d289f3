//! Settings: from files and environment to checked types, with every mistake reported at once.
//!
//! `source` reads the layers and figment merges them, `text` turns TOML and JSON into values and `places` remembers
//! where each stands; `expand` fills in `${…}`; `raw` mirrors what a user may write and `read` takes it field by field;
//! `valid` holds what the rest of the house sees; `problem` is how a mistake is shown and `mask` keeps secrets out of it; `unknown`, `borrowed`, `keys` and `again` say what was meant; `veil` remembers what came from elsewhere than the files.
//! `shape` and `schema` describe what may be written, and `import` writes Galileo's JSON as TOML.

mod again;
mod borrowed;
mod environment;
mod expand;
mod import;
mod keys;
mod mask;
mod number;
mod places;
mod problem;
mod raw;
mod read;
mod schema;
mod shape;
mod source;
mod text;
mod twins;
mod units;
mod unknown;
pub mod valid;
mod veil;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use figment::value::Value;
use http::Uri;

use self::places::At as Path;
use self::raw::Root;
use self::read::{Field, Pairs, Read as _, Reading};
use self::source::{Definitions, Sources};
use self::valid::integration::Common;
use self::valid::{Authorization, Integration, Settings, integration, itself, server};
use self::veil::Foreign;

use crate::files::Prints;

pub use self::environment::Environment;
pub use self::expand::plain;
pub use self::import::{Definition, Imported, Reference, import};
pub use self::places::{At, Places};
pub use self::problem::{Place, Problem, Problems, Severity, Snippet};
pub use self::schema::schema;
pub use self::source::{Options, Texts, UTF_16, UTF_16_HELP, is_utf16};
pub use self::valid::Veil;

/// A configuration that can be used.
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What may not be as it was meant.
    pub warnings: Problems,
    /// Everything that was read, or looked for in vain, as it was: for watching.
    pub files: Prints,
    /// The texts that it was read from.
    pub texts: Texts,
    /// Where each key stands, for messages about what turns out to be wrong later.
    pub places: Places,
    /// What of it is not to be shown.
    foreign: Foreign,
}

impl Loaded {
    /// What is not to be shown of a request of `integration`. Blocks: it reads the files of secrets.
    pub fn veil(&self, integration: &Integration) -> Veil {
        let (keys, texts) = self.foreign.of(integration.name.as_str());
        Veil::new(integration, keys, texts)
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, warnings, files, texts: _, places: _, foreign: _ } = self;
        let mut shown = f.debug_struct("Loaded");
        shown
            .field("settings", settings)
            .field("warnings", warnings)
            .field("files", &files.len())
            .finish_non_exhaustive()
    }
}

/// Reads and checks the configuration. What is wrong in the text is an error, and all errors are returned at once;
/// what is wrong in the world is kept in the integration that it concerns. Blocks: it reads files.
pub fn load(options: &Options) -> Result<Loaded, Problems> {
    load_watched(options, &mut Prints::new())
}

/// Likewise; `files` gets everything that was read or looked for, also where the configuration is refused: what must
/// change before another try makes sense.
pub fn load_watched(options: &Options, files: &mut Prints) -> Result<Loaded, Problems> {
    checked(source::read(options, files)?, &options.env, files)
}

/// What `sources` say, checked.
fn checked(mut sources: Sources, env: &Environment, files: &mut Prints) -> Result<Loaded, Problems> {
    let mut merged = Value::from(std::mem::take(&mut sources.merged));
    let mut reading = Reading::new(env, &sources.places);
    reading.problems = sources.problems;
    reading.expand(&mut merged, &Path::root());
    let root = Root::read(&merged, &Path::root(), &mut reading);
    let settings = settings(root.given().unwrap_or_default(), &sources.definitions, &mut reading);
    let Reading { mut problems, files: referred, foreign, .. } = reading;
    files.extend(referred);
    problems.sort();
    if problems.has_errors() {
        return Err(problems);
    }
    let Sources { texts, places, .. } = sources;
    for (at, doubt) in valid::doubt::of_files(&settings) {
        let message = format!("`{at}`: what the file holds {doubt}");
        problems.push(places.problem(Severity::Warning, &at, message).with_help(doubt.help("")));
    }
    problems.sort();
    Ok(Loaded { settings, warnings: problems, files: files.clone(), texts, places, foreign })
}

/// Reads `[admin]` alone: what is wrong elsewhere does not matter to who only asks a running sidecar. Blocks.
pub fn admin(options: &Options) -> Result<valid::Admin, Problems> {
    let mut sources = source::read(options, &mut Prints::new())?;
    let mut merged = Value::from(std::mem::take(&mut sources.merged));
    let mut reading = Reading::new(&options.env, &sources.places);
    reading.expand(&mut merged, &Path::root());
    let root = Root::read(&merged, &Path::root(), &mut reading);
    let admin = server::admin(root.given().unwrap_or_default().admin, &mut reading);
    let mut problems = Problems::default();
    let ours = |key: &Option<String>| key.as_ref().is_some_and(|key| key.split('.').next() == Some("admin"));
    for problem in reading.problems.iter().filter(|problem| ours(&problem.key)) {
        problems.push(problem.clone());
    }
    if problems.has_errors() { Err(problems) } else { Ok(admin) }
}

fn settings(root: Root, definitions: &Definitions, r: &mut Reading<'_>) -> Settings {
    if root.integrations_dir.get().is_some_and(String::is_empty) {
        let at = Path::root().key("integrations_dir");
        r.error(&at, "`integrations_dir` is empty").help("name a directory, or leave it out");
    }
    let server = server::server(root.server, r);
    let admin = server::admin(root.admin, r);
    server::refuse_shared_addresses(&server, &admin, r);
    server::warn_exposed(&server, &admin, r);
    server::warn_of_idle_mode(&server, &admin, r);
    let common = Common {
        egress: valid::egress::Egress::new(root.egress, r),
        limits: integration::limits(root.limits, &Path::root().key("limits"), &integration::LIMITS, r),
        handlers: Arc::new(server::handlers(root.handlers, server.drain_timeout, r)),
    };
    let integrations = integrations(root.integrations, &common, definitions, r);
    itself::refuse(&integrations, &server.listen, r);
    Settings { server, admin, log: server::log(root.log), integrations, handlers: common.handlers }
}

fn integrations(
    raw: Field<Pairs<raw::Integration>>,
    common: &Common,
    definitions: &Definitions,
    r: &mut Reading<'_>,
) -> BTreeMap<crate::names::IntegrationName, Integration> {
    if raw.is_absent() {
        warn_of_none(definitions, r);
    }
    let raw = raw.given().map(|pairs| pairs.0).unwrap_or_default();
    let names: Vec<_> = raw.iter().map(|(name, _)| name.clone()).collect();
    let mut all = BTreeMap::new();
    for (name, raw) in raw {
        // What its own file says is not known.
        if definitions.broken.contains(&name) || is_misnamed(&name, &raw, &names, r) {
            continue;
        }
        if let Some(mut integration) = integration::integration(&name, raw, common, r) {
            integration.world =
                r.world.iter().filter(|(of, _)| *of == name).map(|(_, why)| why.clone()).collect();
            let table = format!("{}.", Path::integration(&name));
            let key = |at: &Path| at.to_string().strip_prefix(&table).map(str::to_owned);
            integration.referred =
                r.referred.iter().filter_map(|(at, path)| Some((key(at)?, path.clone()))).collect();
            integration.hidden_query = foreign_query(&r.foreign, &name, &integration.query);
            note_hidden_paths(&mut integration, &r.foreign);
            valid::clear::warn(&integration, r);
            all.insert(integration.name.clone(), integration);
        }
    }
    integration::warn_shared_models(&all.values(), r);
    all
}

/// Notes what must not be shown of the paths that requests of `integration` go to.
fn note_hidden_paths(integration: &mut Integration, foreign: &Foreign) {
    let name = integration.name.as_str();
    let hidden = |keys, url: &Uri| {
        foreign.ways(name, keys).flat_map(|text| valid::secrets_of_path(text, url)).collect()
    };
    let path = hidden(&["endpoint", "path"], &integration.endpoint);
    if let Authorization::OAuth2(oauth2) = &mut integration.authorization {
        let keys: &[&str] = if oauth2.is_endpoint { &["endpoint"] } else { &["oauth2_token_url"] };
        oauth2.hidden_path = hidden(keys, &oauth2.token_url);
    }
    integration.hidden_path = path;
}

/// Says that there is no integration, unless what would be one is wrong, which is noted.
fn warn_of_none(definitions: &Definitions, r: &mut Reading<'_>) {
    let help = "add [integrations.NAME], or set integrations_dir to a directory with Galileo's JSON files";
    let problem = match &definitions.dir {
        _ if definitions.is_lost || !definitions.broken.is_empty() => return,
        Some(dir) => {
            let help = "put Galileo's JSON files there, each named NAME.json, or add [integrations.NAME]";
            let at = Path::root().key("integrations_dir");
            let message = format!("no integration is configured: no file in {dir} ends in .json");
            r.places.problem(Severity::Warning, &at, message).with_help(help)
        }
        None => Problem::nowhere(Severity::Warning, "no integration is configured").with_help(help),
    };
    r.problems.push(problem);
}

/// Notes a table or a variable that only adds to an integration, where there is none of that name and one whose name is
/// like it.
fn is_misnamed(name: &str, raw: &raw::Integration, names: &[String], r: &mut Reading<'_>) -> bool {
    let is_whole = !(raw.endpoint.is_absent() && raw.models.is_absent() && raw.model_properties.is_absent());
    let others = || names.iter().map(String::as_str).filter(|other| *other != name);
    let as_here = others().find(|other| other.eq_ignore_ascii_case(name));
    let Some(near) = as_here.or_else(|| read::nearest(name, others())).filter(|_| !is_whole) else {
        return false;
    };
    let at = Path::integration(name);
    let help = format!("did you mean `{near}` ({})?", r.places.origin_of(near));
    r.error(&at, format!("there is no integration `{name}` to which this could be added: `endpoint` and models are given nowhere"))
        .help(help);
    true
}

/// The names in `query` of the integration `name` whose values came from elsewhere.
fn foreign_query(foreign: &Foreign, name: &str, query: &[(String, String)]) -> Vec<String> {
    let (keys, _) = foreign.of(name);
    let is_foreign = |name: &str| keys.iter().any(|key| *key == ["query", &name.to_lowercase()]);
    query.iter().map(|(name, _)| name).filter(|name| is_foreign(name)).cloned().collect()
}

#[cfg(test)]
mod tests;
