//! `outrider console`: the JSON to paste into Galileo, so that its runners call Outrider instead of the provider.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Exit, output};
use crate::config::valid::{
    Integration, Listen, Model, PARAMETERS, RunnerId, Server, Settings, has_usable_port,
};
use crate::config::{self, Options};

/// What stands for the caller's key, which is never printed.
const PLACEHOLDER: &str = "Bearer PUT-THE-VALUE-OF-server.api_key-HERE";

/// The port of `server.listen` where none is given.
const DEFAULT_PORT: u16 = 4010;

/// What the command takes.
#[derive(Debug, clap::Args)]
pub(super) struct Console {
    /// The integration
    integration: String,
    /// Where the runners reach Outrider, such as http://outrider.galileo.svc:4010; default: the first address of server.listen
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints the JSON on stdout and what to know about it on stderr.
pub(super) fn run(console: &Console) -> Exit {
    let (exit, text, notes) = match page(console, &Options::process(console.config.clone())) {
        Ok((page, notes)) => (Exit::Done, format!("{page:#}\n"), notes),
        Err((exit, why)) => (exit, String::new(), why),
    };
    output::print(exit, &text, &notes)
}

/// The page and the notes, or how it ends and why.
fn page(console: &Console, options: &Options) -> Result<(Value, String), (Exit, String)> {
    let loaded = config::load(options).map_err(|p| (Exit::Config, p.render(io::stderr().is_terminal())))?;
    let settings = loaded.settings;
    let Some(integration) = settings.integrations.get(console.integration.as_str()) else {
        return Err((Exit::Usage, unknown(&console.integration, &settings)));
    };
    let mut notes = String::new();
    let base = match &console.base {
        Some(url) => given_base(url, &console.integration).map_err(|why| (Exit::Usage, why))?,
        None => own_base(&settings.server, &mut notes).map_err(|why| (Exit::Usage, why))?,
    };
    if settings.server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()) {
        notes += "note: server.tls.client_ca_file is set: only runners that show a client certificate of those authorities get in, and\n\
                  Galileo's page has no field for one: the runner itself needs it, or a Unix socket or 127.0.0.1 without TLS beside.\n";
    }
    if settings.server.api_key.is_some() {
        notes +=
            "note: server.api_key is set: put its value where the JSON says so. It is not printed here.\n";
    }
    Ok((Page { integration, base: &base, has_key: settings.server.api_key.is_some() }.json(), notes))
}

/// What to say where there is no integration `name`.
pub(super) fn unknown(name: &str, settings: &Settings) -> String {
    if settings.integrations.is_empty() {
        return format!("there is no integration `{name}`: the configuration has none\n");
    }
    if [".toml", ".json"].iter().any(|end| name.ends_with(end)) {
        return format!(
            "there is no integration `{name}`: an integration's name goes here, and the file behind --config; there are: {}\n",
            settings.integrations.keys().map(|known| known.as_str()).collect::<Vec<_>>().join(", ")
        );
    }
    let known = || settings.integrations.keys().map(|known| known.as_str());
    let near = known().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    let near = near.filter(|near| strsim::damerau_levenshtein(name, near) <= (name.len() / 3).max(1));
    match near {
        Some(near) => format!("there is no integration `{name}`: did you mean `{near}`?\n"),
        None => format!(
            "there is no integration `{name}`; there are: {}\n",
            known().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// `--base` without what is appended to it anyway.
fn given_base(url: &str, name: &str) -> Result<String, String> {
    let base = url.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches('/');
    let authority = base.find("://").map_or(0, |colon| colon + 3);
    // A host may be called as the integration is.
    let base = base
        .strip_suffix(name)
        .filter(|rest| rest.ends_with('/') && rest.len() > authority)
        .map_or(base, |rest| rest.trim_end_matches('/'));
    let uri = base.parse::<http::Uri>().ok();
    let is_url = |uri: http::Uri| {
        let authority = uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri.host().is_some_and(|host| !host.is_empty())
            && has_usable_port(&uri)
            && !authority.contains('@')
    };
    match uri.is_some_and(is_url) && !base.contains('#') {
        true => Ok(base.to_owned()),
        false => {
            Err("--base must be a URL such as http://outrider.galileo.svc:4010, with a port that there is or none, without user and query\n"
                .to_owned())
        }
    }
}

/// The URL of the first address that we listen on ourselves, and who can reach it.
fn own_base(server: &Server, notes: &mut String) -> Result<String, String> {
    let tcp = |listen: &Listen| match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    };
    let Some(address) = server.listen.iter().find_map(tcp) else {
        return Err("Outrider listens on a Unix socket alone, which has no URL: say with --base where runners reach it\n".to_owned());
    };
    *notes += &reach(address);
    let mut shown = match address.ip().is_unspecified() {
        true => SocketAddr::from(([127, 0, 0, 1], address.port())),
        false => address,
    };
    if address.port() == 0 {
        shown.set_port(DEFAULT_PORT);
        *notes += "note: server.listen has port 0, which is another at each start. The endpoint is written with the default\n\
                   port: give server.listen a port, or say with --base where runners reach it.\n";
    }
    Ok(format!("{}://{shown}", if server.tls.is_some() { "https" } else { "http" }))
}

fn reach(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return "note: the endpoint is written with 127.0.0.1; runners in other pods need --base with the name of Outrider's Service.\n"
            .to_owned();
    }
    if address.ip().is_loopback() {
        return format!(
            "note: {address} is a loopback address. It reaches Outrider only from containers of the same pod (or processes of the\n\
             same host). Runners in other pods do not reach it: for them listen on 0.0.0.0 behind a Service, with TLS and\n\
             server.api_key, and use --base. In the runner set NO_PROXY=127.0.0.1,localhost if it has a proxy.\n"
        );
    }
    String::new()
}

/// What is pasted.
struct Page<'a> {
    integration: &'a Integration,
    base: &'a str,
    has_key: bool,
}

impl Page<'_> {
    fn json(&self) -> Value {
        let Self { integration, base, has_key } = self;
        let mut page = Map::new();
        page.insert("endpoint".to_owned(), json!(format!("{base}/{}/v1", integration.name)));
        page.insert("authentication_type".to_owned(), json!(if *has_key { "api_key" } else { "none" }));
        if *has_key {
            page.insert("api_key_header".to_owned(), json!("Authorization"));
            page.insert("api_key_value".to_owned(), json!(PLACEHOLDER));
        }
        let models: Vec<_> = integration.models.iter().map(model).collect();
        page.insert("model_properties".to_owned(), json!(models));
        if let Some(default) = &integration.default_model {
            page.insert("default_model".to_owned(), json!(default.as_str()));
        }
        let mapping: Map<_, _> = integration.header_mapping.iter().map(|(id, _)| header(*id)).collect();
        if !mapping.is_empty() {
            page.insert("custom_header_mapping".to_owned(), Value::Object(mapping));
        }
        let media = integration.media;
        if media.max_files.is_some() || media.max_file_size_bytes.is_some() {
            let limits =
                json!({"max_files": media.max_files, "max_file_size_bytes": media.max_file_size_bytes});
            page.insert("multi_modal_config".to_owned(), limits);
        }
        Value::Object(page)
    }
}

/// A model as clients of ours name it; what Galileo may send to it is as in the integration.
fn model(model: &Model) -> Value {
    let alias = model.alias.as_str();
    let mut page = Map::from_iter([("name".to_owned(), json!(alias)), ("alias".to_owned(), json!(alias))]);
    if let Some(based_on) = &model.based_on {
        page.insert("based_on".to_owned(), json!(based_on));
    }
    if let Some(supported) = &model.supported {
        let galileo = |wire: &String| match PARAMETERS.iter().find(|(_, known)| known == wire) {
            Some((galileo, _)) => (*galileo).to_owned(),
            None => wire.clone(),
        };
        page.insert("supported_parameters".to_owned(), supported.iter().map(galileo).collect());
    }
    if let Some(supports) = model.json_schema {
        page.insert("supports_json_schema".to_owned(), json!(supports));
    }
    Value::Object(page)
}

/// The header in which we take an id of the runner.
fn header(id: RunnerId) -> (String, Value) {
    let word = match id {
        RunnerId::Job => "job",
        RunnerId::User => "user",
        RunnerId::Project => "project",
        RunnerId::Run => "run",
    };
    (format!("{word}_id"), json!(format!("x-galileo-{word}-id")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    const ACME: &str = r#"
[integrations.acme]
endpoint = "https://acme.example/v1"
authentication_type = "api_key"
api_key_header = "x-key"
api_key_value = "key-SENTINEL"
headers = { x-team = "team-SENTINEL" }
model_properties = [{ name = "real", alias = "Nice Name", supported_parameters = ["stop_sequences", "n"] }, { name = "b", based_on = "gpt-5.4", supports_json_schema = true }]
custom_header_mapping = { job_id = "X-Corp-Job", run_id = "X-Corp-Run" }
multi_modal_config = { max_files = 3 }
"#;

    fn console(server: &str, name: &str, base: Option<&str>) -> Result<(Value, String), (Exit, String)> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), format!("{server}{ACME}")).unwrap();
        let console = Console { integration: name.to_owned(), base: base.map(str::to_owned), config: None };
        page(
            &console,
            &Options {
                file: None,
                env: Environment::default(),
                dir: dir.path().to_owned(),
                ..Options::default()
            },
        )
    }

    #[test]
    fn the_page_names_aliases_ids_and_limits_and_no_secret() {
        let (page, notes) = console("", "acme", None).unwrap();
        assert!(!format!("{page}{notes}").contains("SENTINEL"));
        insta::assert_snapshot!(format!("{page:#}"), @r#"
    {
      "endpoint": "http://127.0.0.1:4010/acme/v1",
      "authentication_type": "none",
      "model_properties": [
        {
          "name": "Nice Name",
          "alias": "Nice Name",
          "supported_parameters": [
            "stop_sequences",
            "n"
          ]
        },
        {
          "name": "b",
          "alias": "b",
          "based_on": "gpt-5.4",
          "supports_json_schema": true
        }
      ],
      "default_model": "Nice Name",
      "custom_header_mapping": {
        "job_id": "x-galileo-job-id",
        "run_id": "x-galileo-run-id"
      },
      "multi_modal_config": {
        "max_files": 3,
        "max_file_size_bytes": null
      }
    }
    "#);
        assert!(notes.contains("only from containers of the same pod"), "{notes}");
    }

    #[test]
    fn a_callers_key_is_a_placeholder() {
        let (page, notes) = console("[server]\napi_key = \"caller-SENTINEL\"\n", "acme", None).unwrap();
        assert_eq!(
            (&page["authentication_type"], &page["api_key_header"]),
            (&json!("api_key"), &json!("Authorization"))
        );
        assert_eq!(page["api_key_value"], PLACEHOLDER);
        assert!(!format!("{page}{notes}").contains("SENTINEL"));
    }

    #[test]
    fn the_base_is_where_runners_reach_us() {
        let endpoint = |server: &str, base: Option<&str>| {
            let (page, _) = console(server, "acme", base).unwrap();
            page["endpoint"].as_str().unwrap().to_owned()
        };
        assert_eq!(endpoint("", None), "http://127.0.0.1:4010/acme/v1");
        assert_eq!(endpoint("[server]\nlisten = \"0.0.0.0:81\"\n", None), "http://127.0.0.1:81/acme/v1");
        assert_eq!(endpoint("[server]\nlisten = \"127.0.0.1:0\"\n", None), "http://127.0.0.1:4010/acme/v1");
        let both = "[server]\nlisten = [\"unix:/run/o.sock\", \"[::1]:82\"]\n";
        assert_eq!(endpoint(both, None), "http://[::1]:82/acme/v1");
        for appended in ["", "/", "/v1/", "/acme", "/acme/", "/acme/v1", "/acme/v1/"] {
            let base = format!("https://o.svc{appended}");
            assert_eq!(endpoint("", Some(&base)), "https://o.svc/acme/v1", "{base}");
        }
        assert_eq!(endpoint("", Some("http://acme/v1")), "http://acme/acme/v1");
        assert_eq!(endpoint("", Some("http://o.svc/of-acme")), "http://o.svc/of-acme/acme/v1");
        let unix = "[server]\nlisten = \"unix:/run/o.sock\"\n";
        assert_eq!(console(unix, "acme", None).unwrap_err().0, Exit::Usage);
        for bad in [
            "o.svc:4010",
            "http://me:pw@o.svc",
            "ftp://o",
            "http://o?x",
            "https://o:99999",
            "http://o:0",
            "http://:80",
        ] {
            assert_eq!(console("", "acme", Some(bad)).unwrap_err().0, Exit::Usage, "{bad} was taken");
        }
    }

    #[test]
    fn a_name_that_is_not_there_gets_a_guess() {
        let (exit, why) = console("", "acne", None).unwrap_err();
        assert_eq!(exit, Exit::Usage);
        assert!(why.contains("did you mean `acme`"), "{why}");
    }
}
