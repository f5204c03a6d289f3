//! The loader as a whole: files in a directory and an environment in, settings or problems out.

mod clouds;
mod common;
mod contradictions;
mod declared;
mod doubts;
mod environment;
mod example;
mod files;
mod galileo;
mod import;
mod layers;
mod meant;
mod mistakes;
mod placed;
mod schema;
mod secrets;
mod server;
mod settings;
mod slips;

use std::path::Path;

use super::{Environment, Loaded, Options, Problems, load};

/// A directory with configuration files, and an environment.
struct House {
    dir: tempfile::TempDir,
    env: Environment,
}

impl House {
    /// One with `config.toml`.
    fn new(toml: &str) -> Self {
        let house = Self { dir: tempfile::tempdir().unwrap(), env: Environment::default() };
        house.with("config.toml", toml)
    }

    /// And with another file.
    fn with(self, path: &str, text: &str) -> Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// And with these environment variables alone.
    fn env<'a>(self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { env: Environment::of(pairs), ..self }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What loading gives, held against the schema.
    fn load(&self) -> Result<Loaded, Problems> {
        let result = self.load_unchecked();
        if let Ok(text) = std::fs::read_to_string(self.path().join("config.toml")) {
            schema::agrees(&text, &result);
        }
        result
    }

    fn load_unchecked(&self) -> Result<Loaded, Problems> {
        load(&Options {
            file: None,
            env: self.env.clone(),
            dir: self.path().to_owned(),
            ..Options::default()
        })
    }

    /// What was loaded, or a panic that shows why not.
    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The report, with the directory's name taken out.
    fn report(&self) -> String {
        let text = match self.load() {
            Ok(loaded) => loaded.warnings.render(false),
            Err(problems) => problems.render(false),
        };
        text.replace(&self.path().display().to_string(), "DIR")
    }
}

/// `[integrations.acme]` with what an integration must have, and `more` below it.
fn acme(more: &str) -> String {
    let acme = "[integrations.acme]\nendpoint = \"https://acme.example/v1\"\nmodels = [\"m\"]\n";
    format!("{acme}authentication_type = \"none\"\n{more}\n")
}
