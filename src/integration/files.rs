//! The files that one integration is built from, as they were just before it was built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::valid::{self, Authorization, AwsKeys, GcpSource, SecretSource};
use crate::files::{self, Print, Prints};
use crate::tls::Profile;
use crate::workers;

/// Every file that the building of an integration reads: two are equal if their files and contents are.
#[derive(Clone, Debug)]
pub struct Files {
    own: Vec<File>,
    /// What `${file:…}` names was read with the settings: it tells what a change came from, and is none by itself.
    referred: Vec<Referred>,
}

/// A file that `${file:…}` names in the value of `key`.
#[derive(Clone, Debug)]
struct Referred {
    key: String,
    path: PathBuf,
    modified: Option<u64>,
    print: Print,
}

impl PartialEq for Referred {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.path, self.print) == (&other.key, &other.path, other.print)
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own
    }
}

impl Eq for Files {}

/// One file.
#[derive(Clone, Debug)]
pub struct File {
    /// The key that names it.
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// When it was written, in seconds since the epoch.
    pub modified: Option<u64>,
    /// Whether it holds a secret.
    pub is_secret: bool,
    print: Print,
}

impl PartialEq for File {
    /// When a file was written does not count.
    fn eq(&self, other: &Self) -> bool {
        (self.key, &self.path, self.print) == (other.key, &other.path, other.print)
    }
}

impl Eq for File {}

impl Files {
    /// The files of `settings` as they are now. Blocks: it reads them.
    pub fn of(settings: &valid::Integration) -> Self {
        let referred = |(key, path): &(String, PathBuf)| Referred {
            key: key.clone(),
            path: path.clone(),
            modified: files::modified(path),
            print: files::print(path),
        };
        let mut found = Self { own: Vec::new(), referred: settings.referred.iter().map(referred).collect() };
        found.tls("tls", &settings.tls);
        match &settings.authorization {
            Authorization::None | Authorization::Later(_) => {}
            Authorization::ApiKey { value, .. } => found.secret("api_key_value_file", value),
            Authorization::Gcp(gcp) => {
                if let GcpSource::File(path) = &gcp.source {
                    found.add("gcp.credentials_file", path, true);
                }
                found.token_tls(settings);
            }
            Authorization::SigV4(aws) => found.aws(&aws.keys, settings),
            Authorization::OAuth2(oauth2) => {
                found.secret("client_secret_file", &oauth2.client_secret);
                found.token_tls(settings);
            }
        }
        if let Some(handler) = &settings.handler {
            found.handler(handler);
        }
        found
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, File> {
        self.own.iter()
    }

    /// When each secret was written, by the key that holds it: the last time, if several files make it up.
    pub fn secrets(&self) -> BTreeMap<&str, u64> {
        let own = self.own.iter().filter(|file| file.is_secret).map(|file| (file.key, file.modified));
        let referred = self.referred.iter().map(|file| (file.key.as_str(), file.modified));
        let mut written = BTreeMap::new();
        for (key, at) in own.chain(referred) {
            if let Some(at) = at {
                let last = written.entry(key).or_insert(at);
                *last = at.max(*last);
            }
        }
        written
    }

    /// Whether one of them is in `now` with another content.
    pub fn differ(&self, now: &Prints) -> bool {
        self.own.iter().any(|file| now.get(&file.path).is_some_and(|print| *print != file.print))
    }

    /// The keys of the files that are not in `other` with the same content.
    pub fn changed_from(&self, other: &Self) -> Vec<&str> {
        let own = self.own.iter().filter(|file| !other.own.contains(file)).map(|file| file.key);
        let referred = self.referred.iter().filter(|file| !other.referred.contains(file));
        own.chain(referred.map(|file| file.key.as_str())).collect()
    }

    fn tls(&mut self, table: &'static str, profile: &Profile) {
        let keys = if table == "tls" { TLS } else { TOKEN_TLS };
        for path in &profile.ca_files {
            self.add(keys[0], path, false);
        }
        let (certificate, key) = (&profile.client_cert_file, &profile.client_key_file);
        for (at, path, is_secret) in
            [(1, certificate, false), (2, key, true), (3, &profile.client_key_password_file, true)]
        {
            if let Some(path) = path {
                self.add(keys[at], path, is_secret);
            }
        }
    }

    fn token_tls(&mut self, settings: &valid::Integration) {
        if settings.token_tls != settings.tls {
            self.tls("token_tls", &settings.token_tls);
        }
    }

    /// A web identity's token is not among them, nor is that of Google's external accounts: it is read for each fetch, and needs nothing to be built anew.
    fn aws(&mut self, keys: &AwsKeys, settings: &valid::Integration) {
        match keys {
            AwsKeys::Fixed { id, secret, session } => {
                self.secret("aws.access_key_id_file", id);
                self.secret("aws.secret_access_key_file", secret);
                if let Some(session) = session {
                    self.secret("aws.session_token_file", session);
                }
            }
            AwsKeys::WebIdentity(_) => self.token_tls(settings),
        }
    }

    /// A handler's file belongs to its workers, which take it anew when a reload asks for it. One that may not be
    /// loaded is waited for here: the integration is built again once it has changed.
    fn handler(&mut self, handler: &valid::Handler) {
        let directory = &handler.common.directory;
        if workers::check_file(directory, &handler.file_name).is_err() {
            self.add("custom_llm_config.file_name", &directory.join(&handler.file_name), false);
        }
    }

    fn secret(&mut self, key: &'static str, source: &SecretSource) {
        let key = if matches!(source, SecretSource::Token { .. }) { "token_file" } else { key };
        if let Some(path) = source.file() {
            self.add(key, path, true);
        }
    }

    fn add(&mut self, key: &'static str, path: &Path, is_secret: bool) {
        let (path, modified) = (path.to_owned(), files::modified(path));
        let print = files::print(&path);
        self.own.push(File { key, path, modified, is_secret, print });
    }
}

const TLS: [&str; 4] =
    ["tls.ca_file", "tls.client_cert_file", "tls.client_key_file", "tls.client_key_password_file"];
const TOKEN_TLS: [&str; 4] = [
    "token_tls.ca_file",
    "token_tls.client_cert_file",
    "token_tls.client_key_file",
    "token_tls.client_key_password_file",
];
