//! What is wrong in the world, and what this version has not: each integration is built as serving would build it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::plain;
use crate::auth;
use crate::config::valid::{Authorization, AwsKeys, Integration, SecretSource, Settings};
use crate::config::{At, Loaded, Problem, Problems, Severity};
use crate::integration::{Entry, Workshop, misplaced};
use crate::tls;

/// Everything that would fail an integration or the start, as errors; what would fail each request, as warnings.
pub(in crate::cli) fn problems(loaded: &Loaded) -> Problems {
    look(loaded).0
}

/// Likewise, with each integration as it was built.
pub(super) fn look(loaded: &Loaded) -> (Problems, Vec<Arc<Entry>>) {
    let (mut problems, mut entries) = (Problems::default(), Vec::new());
    for (at, why) in of_server(&loaded.settings) {
        problems.push(error(loaded, &at, why));
    }
    let workshop = Workshop::dry();
    for (at, why) in of_authorities(loaded) {
        let help = "ask its owner for the one that is used now: what another signs is not trusted here";
        problems.push(loaded.places.problem(Severity::Warning, &at, why).with_help(help));
    }
    let common = of_common_authorities(loaded);
    if let Some(why) = &common {
        let at = At::root().key("egress").key("ca_file");
        problems.push(error(loaded, &at, why.replacen("ca_file", "egress.ca_file", 1)));
    }
    let is_common = |why: &str| common.as_ref().is_some_and(|common| why.contains(common));
    for one in loaded.settings.integrations.values() {
        let at = At::integration(one.name.as_str());
        let mut wrong = of_integration(one, &at);
        wrong.retain(|(_, why)| !is_common(why));
        let entry = Arc::new(Entry::build(one.clone(), &workshop));
        if let Err(why) = &entry.state
            && !is_common(why)
            && !wrong.iter().any(|(_, known)| why.contains(known))
        {
            wrong.push((at.key(first_word(why)), why.clone()));
        }
        for (at, why) in wrong {
            let variable = variable_behind(&at).filter(|_| !loaded.places.gives(&at));
            let why = match variable {
                Some(name) => format!("the environment variable {name}: {why}"),
                None => named(&at, why),
            };
            let problem = problems.push(error(loaded, &at, why));
            if let Some(name) = variable {
                problem.of_variable(name);
            }
        }
        if let Some((at, why)) = plain::refused_default(loaded, &entry, &at) {
            problems.push(loaded.places.problem(Severity::Warning, &at, why));
        }
        entries.push(entry);
    }
    (problems, entries)
}

/// The remedy with its key, unless it names it itself.
fn named(at: &At, why: String) -> String {
    let key = at.to_string();
    let last = key.rsplit('.').next().unwrap_or_default();
    if why.contains(last) { why } else { format!("`{key}`: {why}") }
}

/// An error at `at`, with what to do where a file cannot be had. The last part of a path may be kept back: a secret is put
/// there by mistake.
fn error(loaded: &Loaded, at: &At, why: String) -> Problem {
    let says = |end| why.contains(end);
    let help = if says("/…: No such file") {
        "put the file there, or correct its path (its last part is not shown, in case it is the secret itself)"
    } else if says("No such file") {
        "put it there, or correct the path"
    } else if says("Permission denied") {
        "let the user that Outrider runs as read it"
    } else {
        return loaded.places.problem(Severity::Error, at, why);
    };
    loaded.places.problem(Severity::Error, at, why).with_help(help)
}

/// The environment variable that says what the key at `at` would, where nobody writes that key.
fn variable_behind(at: &At) -> Option<&'static str> {
    const ALL: [(&str, &str); 5] = [
        (".gcp.credentials_file", "GOOGLE_APPLICATION_CREDENTIALS"),
        (".aws.access_key_id", "AWS_ACCESS_KEY_ID"),
        (".aws.secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        (".aws.session_token", "AWS_SESSION_TOKEN"),
        (".aws.web_identity_token_file", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ];
    let at = at.to_string();
    ALL.iter().find(|(key, _)| at.ends_with(key)).map(|(_, variable)| *variable)
}

/// Most remedies begin with the key that they are about.
fn first_word(text: &str) -> &str {
    text.trim_start_matches('`').split([':', ' ', '`', '=']).next().unwrap_or_default()
}

fn of_server(settings: &Settings) -> Vec<(At, String)> {
    let (at, mut wrong) = (At::root().key("server"), Vec::new());
    if let Some(key) = &settings.server.api_key
        && let Err(why) = key.load()
    {
        let name = key.key("api_key");
        wrong.push((at.key(&name), format!("server.{name}: {why}")));
    }
    for why in of_server_tls(settings) {
        wrong.push((at.key("tls").key(first_word(&why)), format!("server.tls: {why}")));
    }
    wrong
}

/// What is wrong with the files of `server.tls`.
pub(in crate::cli) fn of_server_tls(settings: &Settings) -> Vec<String> {
    settings.server.tls.as_ref().map(tls::InboundFiles::faults).unwrap_or_default()
}

/// The files of authorities with one that has ended, or will soon; each file once, at a key that names it.
fn of_authorities(loaded: &Loaded) -> Vec<(At, String)> {
    let mut files: BTreeMap<&Path, (At, &str)> = BTreeMap::new();
    if let Some(path) = loaded.settings.server.tls.as_ref().and_then(|tls| tls.client_ca_file.as_ref()) {
        files.insert(path, (At::root().key("server").key("tls").key("client_ca_file"), "client_ca_file"));
    }
    for one in loaded.settings.integrations.values() {
        for (key, profile) in [("tls", &one.tls), ("token_tls", &one.token_tls)] {
            let own = At::integration(one.name.as_str()).key(key).key("ca_file");
            // Its own comes last; the others are those of all.
            let own_path = profile.ca_files.last().filter(|_| loaded.places.gives(&own));
            for path in &profile.ca_files {
                let common = At::root().key("egress").key("ca_file");
                let at = if own_path == Some(path) { own.clone() } else { common };
                files.entry(path).or_insert((at, "ca_file"));
            }
        }
    }
    let now = SystemTime::now();
    files.into_iter().filter_map(|(path, (at, key))| Some((at, tls::waning(key, path, now)?))).collect()
}

/// What is wrong with the `ca_file` of `[egress]`, which fails every integration that trusts it.
fn of_common_authorities(loaded: &Loaded) -> Option<String> {
    let given = |at: At| loaded.places.gives(&at.key("ca_file"));
    if !given(At::root().key("egress")) {
        return None;
    }
    let common = loaded.settings.integrations.values().find_map(|one| {
        let own = given(At::integration(one.name.as_str()).key("tls"));
        // Its own comes last.
        one.tls.ca_files.first().filter(|_| one.tls.ca_files.len() > usize::from(own))
    });
    let alone = tls::Profile {
        ca_files: vec![common?.clone()],
        ca_mode: tls::CaMode::Replace,
        ..tls::Profile::default()
    };
    tls::load(&alone).err()
}

/// What can be seen without building: all of it at once, where building stops at the first.
fn of_integration(one: &Integration, at: &At) -> Vec<(At, String)> {
    let mut wrong: Vec<(At, String)> = Vec::new();
    for why in &one.world {
        let inside = why.strip_prefix(&format!("{at}.")).unwrap_or_default();
        let key = inside.split([':', '.', '[']).next().unwrap_or_default();
        wrong.push((at.key(key), why.clone()));
    }
    for why in one.handler.iter().flat_map(misplaced) {
        wrong.push((at.key("custom_llm_config"), why));
    }
    wrong.extend(of_authorization(&one.authorization, at));
    for (key, profile) in [("tls", &one.tls), ("token_tls", &one.token_tls)] {
        for why in tls::faults(profile) {
            if wrong.iter().all(|(_, known)| *known != why) {
                wrong.push((at.key(key).key(first_word(&why)), why));
            }
        }
    }
    wrong
}

/// Each secret that cannot be read.
fn of_authorization(authorization: &Authorization, at: &At) -> Vec<(At, String)> {
    let reads = match authorization {
        Authorization::ApiKey { value, .. } => {
            vec![(at.key(&value.key("api_key_value")), value.load().map(drop))]
        }
        Authorization::OAuth2(oauth2) => {
            let secret = &oauth2.client_secret;
            let at = if matches!(secret, SecretSource::Token { .. }) { at } else { &at.key("oauth2") };
            vec![(at.key(&secret.key("client_secret")), secret.load().map(drop))]
        }
        Authorization::SigV4(aws) => of_aws(&aws.keys, &at.key("aws")),
        Authorization::Gcp(gcp) => {
            vec![(at.key("gcp").key("credentials_file"), auth::check_gcp(gcp))]
        }
        Authorization::None | Authorization::Later(_) => Vec::new(),
    };
    reads.into_iter().filter_map(|(at, read)| Some((at, read.err()?))).collect()
}

fn of_aws(keys: &AwsKeys, at: &At) -> Vec<(At, Result<(), String>)> {
    match keys {
        AwsKeys::Fixed { id, secret, session } => {
            let session = session.iter().map(|session| ("session_token", session));
            let all = [("access_key_id", id), ("secret_access_key", secret)].into_iter().chain(session);
            all.map(|(key, secret)| (at.key(&secret.key(key)), secret.load().map(drop))).collect()
        }
        AwsKeys::WebIdentity(identity) => {
            let token = SecretSource::File(identity.token_file.clone());
            vec![(at.key("web_identity_token_file"), token.load().map(drop))]
        }
    }
}
