//! What is read, and from where: the file, Galileo's JSON, the environment; merged by figment into one tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::again::{self, Again};
use super::environment::Environment;
use super::expand::{Expander, Failure, plain};
use super::places::{At, Inside, Layer, Node, Origin, Places};
use super::problem::{Place, Problem, Problems, Severity};
use super::read::{HOME_HELP, is_home};
use super::{keys, mask, raw, text, twins};
use crate::files::{self, Prints};
use crate::names::IntegrationName;

/// What to load.
#[derive(Clone, Default)]
pub struct Options {
    /// `--config F`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Environment,
    /// The working directory.
    pub dir: PathBuf,
    /// Where given, the configuration is these texts, whatever its files hold by now. What they refer to
    /// (`${file:…}`, `token_file`) is read anew.
    pub texts: Option<Texts>,
}

/// The texts of a configuration as they were read: its file and Galileo's JSON. They may hold secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    file: PathBuf,
    texts: BTreeMap<PathBuf, String>,
}

impl Texts {
    /// The text of a configuration that is to be the file `file`.
    pub(super) fn of(file: PathBuf, text: String) -> Self {
        Self { texts: BTreeMap::from([(file.clone(), text)]), file }
    }

    /// The configuration's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file or directory at `path` is one of these texts, or lists them.
    pub fn hold(&self, path: &Path) -> bool {
        self.texts.keys().any(|text| text == path || text.parent() == Some(path))
    }

    /// Whether the configuration's file has nothing in it.
    pub fn is_blank(&self) -> bool {
        self.texts.get(&self.file).is_none_or(|text| text.trim().is_empty())
    }

    fn listed(&self, dir: &Path) -> Vec<PathBuf> {
        let inside = |path: &&PathBuf| **path != self.file && path.parent() == Some(dir);
        self.texts.keys().filter(inside).cloned().collect()
    }
}

impl Options {
    /// Those of this process, with `file` as the command line gave it.
    pub fn process(file: Option<PathBuf>) -> Self {
        Self {
            file,
            env: Environment::process(),
            dir: std::env::current_dir().unwrap_or_default(),
            texts: None,
        }
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        match &self.texts {
            None => {
                files::check_pipe(path)?;
                let bytes = std::fs::read(path)?;
                let flaw = if is_utf16(&bytes) { UTF_16 } else { "it is not UTF-8" };
                String::from_utf8(bytes)
                    .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, flaw))
            }
            Some(texts) => texts.texts.get(path).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<PathBuf>> {
        if let Some(texts) = &self.texts {
            return Ok(texts.listed(dir));
        }
        let entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
        let mut paths: Vec<_> =
            entries.into_iter().map(|e| e.path()).filter(|p| may_be_definition(p)).collect();
        paths.sort();
        Ok(paths)
    }

    /// How messages call the file at `path`.
    fn shown(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.dir).ok().filter(|_| self.dir.parent().is_some());
        match below.unwrap_or(path).display().to_string() {
            shown if shown.is_empty() => ".".to_owned(),
            shown => shown,
        }
    }
}

/// What is said of a file that [`is_utf16`].
pub const UTF_16: &str = "it is UTF-16, and must be UTF-8";

/// What to do about it.
pub const UTF_16_HELP: &str = "save it as UTF-8; `iconv -f UTF-16 -t UTF-8 FILE` writes it so";

/// Whether `bytes` begin as a text in UTF-16 does, which PowerShell's `>` writes.
pub fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// Everything that was read.
pub(super) struct Sources {
    pub(super) places: Places,
    pub(super) merged: Dict,
    pub(super) texts: Texts,
    pub(super) problems: Problems,
    pub(super) definitions: Definitions,
}

/// What was found where `integrations_dir` leads.
#[derive(Default)]
pub(super) struct Definitions {
    /// How messages call the directory, if it could be read.
    pub(super) dir: Option<String>,
    /// The integrations whose files are wrong, which is noted.
    pub(super) broken: Vec<String>,
    /// Whether the directory itself is wrong, which is noted.
    pub(super) is_lost: bool,
}

/// Reads all layers. A file that cannot be found or parsed ends it; a mistake in one of Galileo's JSON files does not.
/// `files` gets what was read or looked for, also where it fails; each print is taken before the file is read, so that
/// what changes in between is seen as a change later.
pub(super) fn read(options: &Options, files: &mut Prints) -> Result<Sources, Problems> {
    let file = find(options)?;
    files.insert(file.clone(), files::print(&file));
    let (config, config_dict) = read_toml(options, &file)?;
    let mut sources = Sources {
        places: Places::default(),
        merged: Dict::new(),
        texts: Texts { texts: BTreeMap::from([(file.clone(), config.text.clone())]), file },
        problems: Problems::default(),
        definitions: Definitions::default(),
    };
    let mut layers = match config_dict.get("integrations_dir").and_then(Value::as_str) {
        Some(dir) => read_directory(options, dir, &config, &mut sources, files),
        None => Vec::new(),
    };
    layers.push((config, config_dict));
    warn_misspelt(options, &layers, &mut sources.problems);
    let environment = read_environment(options, &layers, &mut sources.problems);
    layers.push(environment);
    twins::retire(&mut layers);
    let mut figment = Figment::new();
    for (layer, dict) in layers {
        figment = figment.merge(Merged { name: layer.shown.clone(), dict });
        sources.places.layers.push(layer);
    }
    sources.merged = figment
        .data()
        .map_err(|e| Problem::nowhere(Severity::Error, e.kind.to_string()))?
        .remove(&Profile::Default)
        .unwrap_or_default();
    Ok(sources)
}

/// `--config F`, else `OUTRIDER_CONFIG`, else `config.toml` here, else `/etc/outrider/config.toml`.
fn find(options: &Options) -> Result<PathBuf, Problems> {
    if let Some(texts) = &options.texts {
        return Ok(texts.file.clone());
    }
    if let Some(file) = &options.file {
        return Ok(options.dir.join(file));
    }
    if let Some((_, file)) = options.env.first(&["OUTRIDER_CONFIG"]) {
        return Ok(options.dir.join(file));
    }
    let tried = [options.dir.join("config.toml"), PathBuf::from("/etc/outrider/config.toml")];
    if let Some(found) = tried.iter().find(|file| file.exists()) {
        return Ok(found.clone());
    }
    let message =
        format!("no configuration: neither {} nor {} exists", tried[0].display(), tried[1].display());
    let help = "name one with --config FILE or OUTRIDER_CONFIG=FILE; config.toml.example shows every key";
    Err(Problem::nowhere(Severity::Error, message).with_help(help).into())
}

fn read_toml(options: &Options, file: &Path) -> Result<(Layer, Dict), Problems> {
    let text = options.read(file).map_err(|e| unreadable(options, file, &plain(&e)))?;
    let parsed = text::toml(&text);
    let mut layer = layer_of(options, Origin::Toml, file, text);
    match parsed {
        Ok((dict, root)) => {
            layer.root = root;
            Ok((layer, dict))
        }
        Err(errors) => {
            let mut problems = Problems::default();
            for garbled in errors {
                problems.push(broken(&layer, &garbled, "not valid TOML"));
            }
            problems.sort();
            Err(problems)
        }
    }
}

/// Reads each `*.json` of `integrations_dir`. Hidden entries are Kubernetes' own links.
fn read_directory(
    options: &Options,
    written: &str,
    config: &Layer,
    sources: &mut Sources,
    files: &mut Prints,
) -> Vec<(Layer, Dict)> {
    let at = At::root().key("integrations_dir");
    let own = Places { layers: vec![config.clone()] };
    let problems = &mut sources.problems;
    let mut expander =
        Expander { env: &options.env, dir: &config.dir, files, given: Vec::new(), asked: Vec::new() };
    let dir = match expander.expand(written) {
        Ok(dir) => config.dir.join(dir.as_ref()),
        Err(failure) => {
            sources.definitions.is_lost = true;
            match failure {
                Failure::Text { message, help } => {
                    problems.push(own.problem(Severity::Error, &at, message).with_help(help))
                }
                Failure::World(why) => problems.push(own.problem(Severity::Error, &at, why)),
            };
            return Vec::new();
        }
    };
    files.insert(dir.clone(), files::print(&dir));
    let paths = match options.list(&dir) {
        Ok(paths) => {
            sources.definitions.dir = Some(options.shown(&dir));
            for path in paths.iter().filter(|path| !is_definition(path)) {
                let message = format!("{} is not read: its name must end in .json", options.shown(path));
                let help = "rename it: the end of its name must be in small letters";
                problems.push(own.problem(Severity::Warning, &at, message).with_help(help));
            }
            paths
        }
        Err(e) => {
            sources.definitions.is_lost = true;
            let (message, help) = unlistable(&options.shown(&dir), is_home(written), &e);
            problems.push(own.problem(Severity::Error, &at, message).with_help(help));
            Vec::new()
        }
    };
    let mut layers = Vec::new();
    for path in paths.into_iter().filter(|path| is_definition(path)) {
        files.insert(path.clone(), files::print(&path));
        if options.texts.is_none() && files::is_no_file(&path) {
            let message = format!("{} is not read: it is a pipe, a socket or a device", options.shown(&path));
            let problem = own.problem(Severity::Warning, &at, message);
            sources.problems.push(problem.with_help("put the JSON itself there, or a link to its file"));
            continue;
        }
        match read_definition(options, &path) {
            Ok(layer) => {
                sources.texts.texts.insert(path.clone(), layer.0.text.clone());
                layers.push(layer);
            }
            Err(problems) => {
                sources.problems.extend(problems);
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
                sources.definitions.broken.push(name.to_owned());
            }
        }
    }
    layers
}

/// Why the directory `shown` cannot be read, and what to do.
fn unlistable(shown: &str, is_home: bool, error: &std::io::Error) -> (String, &'static str) {
    if error.kind() == std::io::ErrorKind::NotADirectory {
        let message = format!("`integrations_dir` must be a directory, and {shown} is a file");
        return (message, "name the directory that it lies in: each *.json there is one integration");
    }
    let help = "make it, or leave integrations_dir out: it is only for Galileo's JSON files";
    let message = format!("cannot read the directory {shown}: {}", plain(error));
    (message, if is_home { HOME_HELP } else { help })
}

/// Whether it is one of Galileo's JSON files, or is named like one but for the capitals in `.JSON`.
fn may_be_definition(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.to_ascii_lowercase().ends_with(".json") && !name.starts_with('.') && !path.is_dir()
}

/// Whether, of those, it is one that is read.
fn is_definition(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json")
}

fn read_definition(options: &Options, path: &Path) -> Result<(Layer, Dict), Problems> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = options.read(path).map_err(|e| unreadable(options, path, &plain(&e)))?;
    let (layer, dict) = parse_definition(layer_of(options, Origin::Galileo, path, text), &name)?;
    Ok((layer, as_integration(&name, dict)))
}

/// Reads the text of `layer` as Galileo's JSON for the integration `name`.
pub(super) fn parse_definition(mut layer: Layer, name: &str) -> Result<(Layer, Dict), Problems> {
    if let Some(text) = layer.text.strip_prefix('\u{feff}') {
        layer.text = text.to_owned();
    }
    if let Err(bad) = name.parse::<IntegrationName>() {
        let message = format!("`{name}` cannot name an integration: {bad}");
        let place =
            Place { file: Some(layer.shown), variable: None, line: None, column: None, snippet: None };
        let problem = Problem { place: Some(place), ..Problem::nowhere(Severity::Error, message) };
        let help = "rename the file: an integration is called what its file is called";
        return Err(problem.with_help(help).into());
    }
    layer.at = At::integration(name);
    let text::Json { dict, root, twice } =
        text::json(&layer.text, &layer.at).map_err(|garbled| broken(&layer, &garbled, "not valid JSON"))?;
    layer.root = root;
    match twice {
        None => Ok((layer, dict)),
        Some(twice) => Err(again::in_json(&layer, &twice).into()),
    }
}

/// The whole configuration of which `dict` is the integration `name`.
pub(super) fn as_integration(name: &str, dict: Dict) -> Dict {
    let integrations = Dict::from([(name.to_owned(), Value::from(dict))]);
    Dict::from([("integrations".to_owned(), Value::from(integrations))])
}

/// The layer of `OUTRIDER_SERVER__LISTEN` and the like. Values stay text, whatever they look like: an API key of
/// digits must keep its zeros. Names without two underscores are no configuration: Kubernetes sets `OUTRIDER_PORT`.
fn read_environment(options: &Options, below: &[(Layer, Dict)], problems: &mut Problems) -> (Layer, Dict) {
    let (mut dict, mut root, mut variables) = (Dict::new(), Node::default(), Vec::new());
    for name in options.env.unreadable().filter(|name| levels(name).is_some()) {
        let problem = about_variable(Severity::Error, name, format!("the value of {name} is not UTF-8"));
        problems.push(problem.with_help("set it anew, or unset it"));
    }
    for (name, value) in options.env.all() {
        let Some(levels) = levels(name) else { continue };
        let mut path: Vec<String> = levels.split("__").enumerate().map(|(n, key)| as_key(key, n)).collect();
        if let Some((taken, other)) = as_written(&mut path, below) {
            let message = format!("it may mean `{other}` as well as `{taken}`, which it sets");
            let help =
                "a variable's name cannot tell them apart: rename one, or set it in the file, with `${…}`";
            problems.push(about_variable(Severity::Warning, name, message).with_help(help));
        }
        let number = variables.len();
        variables.push(name.to_owned());
        if !put(&mut dict, &mut root, &path, value, number) {
            let mut problem = about_variable(
                Severity::Error,
                name,
                "it sets a part of what another variable gives as a whole",
            );
            problem.key = Some(path.join("."));
            problems.push(problem.with_help("the other may be a table, `{ key = value }`, or go"));
        }
    }
    let layer = Layer {
        origin: Origin::Environment,
        shown: "environment".to_owned(),
        dir: options.dir.clone(),
        at: At::root(),
        text: String::new(),
        root,
        variables,
    };
    (layer, dict)
}

/// What a variable's name says of levels and keys, if it is one of configuration.
fn levels(name: &str) -> Option<&str> {
    name.strip_prefix("OUTRIDER_").filter(|rest| rest.contains("__"))
}

/// Warns of variables that would set a key if there were two underscores between its levels; not of those that the
/// files refer to.
fn warn_misspelt(options: &Options, layers: &[(Layer, Dict)], problems: &mut Problems) {
    let integrations: Vec<_> = named(layers).map(String::as_str).collect();
    for name in options.env.names() {
        let Some((key, variable)) = keys::meant(name, &integrations) else { continue };
        if layers.iter().any(|(layer, _)| layer.text.contains(&format!("${{{name}"))) {
            continue;
        }
        let message = format!("{name} is not read as `{key}`");
        let mut problem = about_variable(Severity::Warning, name, message);
        problem.key = Some(key);
        problems.push(problem.with_help(match variable {
            Some(variable) => format!("two underscores stand between the levels: {variable}"),
            None => format!(
                "a key without a table cannot be set by a variable: write \"${{{name}}}\" in the file"
            ),
        }));
    }
}

fn about_variable(severity: Severity, name: &str, message: impl Into<String>) -> Problem {
    Problem { place: Some(Place::variable(name)), ..Problem::nowhere(severity, message) }
}

/// The names of integrations.
fn named(layers: &[(Layer, Dict)]) -> impl Iterator<Item = &String> {
    layers.iter().filter_map(|(_, dict)| dict.get("integrations")?.as_dict()).flat_map(Dict::keys)
}

/// A key as it stands in a variable's name. In the tables of an integration keys may be the user's own: there, small
/// letters say that the others are meant to be capital.
fn as_key(written: &str, depth: usize) -> String {
    match depth > 2 && written.contains(|c: char| c.is_ascii_lowercase()) {
        true => written.to_owned(),
        false => written.to_lowercase(),
    }
}

/// A variable's name cannot hold dashes, dots or small letters: `MY_GW` means the integration `my-gw` if there is one,
/// and `X_TEAM` its header `X-Team`. Where it may mean two, the one that is taken and another.
fn as_written(path: &mut [String], below: &[(Layer, Dict)]) -> Option<(String, String)> {
    let mut tables: Vec<&Dict> = below.iter().map(|(_, dict)| dict).collect();
    let mut doubt = None;
    for key in path {
        let is_it = |known: &&String| keys::as_variable(known) == keys::as_variable(key);
        let mut all: Vec<_> = tables.iter().flat_map(|table| table.keys()).filter(is_it).collect();
        // As it is written, if so; else that of the first layer.
        all.sort_by_key(|known| *known != key);
        if let Some(known) = all.first() {
            let other = all.iter().find(|other| *other != known);
            doubt = doubt.or_else(|| other.map(|other| ((*known).clone(), (*other).clone())));
            key.clone_from(known);
        }
        tables = tables.iter().filter_map(|table| table.get(key)?.as_dict()).collect();
    }
    doubt
}

/// Puts what variable `number` says at `path`; false if another has put a text there, and not a table, where this one
/// has a part of it.
fn put(dict: &mut Dict, node: &mut Node, path: &[String], value: &str, number: usize) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    if !matches!(node.inside, Inside::Table(_)) {
        node.inside = Inside::Table(BTreeMap::new());
    }
    let Inside::Table(nodes) = &mut node.inside else { return true };
    let below =
        nodes.entry(first.clone()).or_insert_with(|| Node { mark: number..number + 1, ..Node::default() });
    if rest.is_empty() {
        dict.insert(first.clone(), Value::from(value.to_owned()));
        return true;
    }
    let entry = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    // The whole comes before its parts: variables are in order.
    if let Some(table @ Value::Dict(..)) = entry.as_str().and_then(text::toml_value) {
        *entry = table;
    }
    match entry {
        Value::Dict(_, inner) => put(inner, below, rest, value, number),
        _ => false,
    }
}

fn layer_of(options: &Options, origin: Origin, path: &Path, text: String) -> Layer {
    Layer {
        origin,
        shown: options.shown(path),
        dir: path.parent().unwrap_or_else(|| Path::new("")).to_owned(),
        at: At::root(),
        text,
        root: Node::default(),
        variables: Vec::new(),
    }
}

fn unreadable(options: &Options, path: &Path, why: &str) -> Problem {
    let shown = options.shown(path);
    let place = Place { file: Some(shown.clone()), variable: None, line: None, column: None, snippet: None };
    let mut problem = Problem::nowhere(Severity::Error, format!("cannot read {shown}: {why}"));
    if path.is_dir() {
        problem.message = format!("cannot read {shown}: it is a directory");
        problem.help("name the file in it: config.toml, most likely");
    } else if why == UTF_16 {
        problem.help(UTF_16_HELP);
    } else if path.iter().any(|part| part == "~") {
        problem.help(format!("`~` is filled in by a shell alone: {HOME_HELP}"));
    }
    Problem { place: Some(place), ..problem }
}

fn broken(layer: &Layer, garbled: &text::Garbled, what: &str) -> Problem {
    let again = if garbled.message == "duplicate key" { Again::find(layer, garbled.at) } else { None };
    if let Some(Again { at, first, snippet }) = again {
        let is_known = at.keys().last().is_some_and(|key| raw::is_known_key(key));
        let (kind, shown) = match &snippet {
            Some(_) => ("table", format!("[{at}]")),
            None if is_known => ("key", format!("`{at}`")),
            None => ("key", "it".to_owned()),
        };
        let snippet = snippet.or_else(|| mask::broken_line(&layer.text, garbled.at, raw::is_known_key));
        let place = layer.place_in_text(&(garbled.at..garbled.at + 1), snippet);
        let mut problem = Problem::nowhere(Severity::Error, format!("{what}: duplicate {kind}"));
        problem.integration = at.integration_name().map(str::to_owned);
        let then = if kind == "table" { "put its keys there" } else { "keep one of them" };
        let help = format!("{shown} stands in line {first} already: {then}");
        problem.key = (kind == "table" || is_known).then(|| at.to_string());
        return Problem { place: Some(place), ..problem }.with_help(help);
    }
    let snippet = mask::broken_line(&layer.text, garbled.at, raw::is_known_key);
    let place = layer.place_in_text(&(garbled.at..garbled.at + 1), snippet);
    let mut problem = Problem::nowhere(Severity::Error, format!("{what}: {}", garbled.message));
    problem.integration = layer.at.integration_name().map(str::to_owned);
    Problem { place: Some(place), ..problem }
}

/// One layer as figment merges it.
struct Merged {
    name: String,
    dict: Dict,
}

impl Provider for Merged {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}
