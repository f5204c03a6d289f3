//! `outrider check`: every mistake of a configuration, what is wrong in the world, and on request what cannot be
//! reached or loaded.

mod handlers;
mod online;
mod plain;
pub(super) mod world;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Value, json};

use self::handlers::Tried;
use self::online::Reached;
use super::{Exit, output};
use crate::config::valid::{Authorization, Integration, Settings};
use crate::config::{self, Environment, Options, Problems};
use crate::integration::Entry;

/// What checking takes.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same as FILE
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Also connect to every endpoint and token endpoint as serving would, through proxy and TLS (sends no request), and
    /// load every handler (runs its constructor)
    #[arg(long)]
    online: bool,
    /// How the report looks
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How a report looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Checks and reports on stdout.
pub(super) fn run(check: &Check) -> Exit {
    let options = Options::process(check.file.clone().or_else(|| check.config.clone()));
    let (exit, text) = report(check, &options, io::stdout().is_terminal());
    output::print(exit, &text, "")
}

/// The exit code and the report.
fn report(check: &Check, options: &Options, colour: bool) -> (Exit, String) {
    let (problems, settings, entries) = match config::load(options) {
        Err(problems) => (problems, None, Vec::new()),
        Ok(loaded) => {
            let mut problems = loaded.warnings.clone();
            let (found, entries) = world::look(&loaded);
            problems.extend(found);
            problems.sort();
            (problems, Some(loaded.settings), entries)
        }
    };
    let online = check.online.then(|| Online::look(settings.as_ref(), &entries, &options.env));
    let exit =
        if problems.has_errors() { Exit::Config } else { online.as_ref().map_or(Exit::Done, Online::exit) };
    let ready = settings.as_ref().filter(|_| !problems.has_errors());
    let report = Report { problems: &problems, settings: ready, online: online.unwrap_or_default() };
    let text = match check.format {
        Format::Text => report.text(exit, colour),
        Format::Json => format!("{:#}\n", report.json(exit)),
    };
    (exit, text)
}

/// What `--online` finds besides.
#[derive(Debug, Default)]
struct Online {
    reached: Vec<Reached>,
    tried: Vec<Tried>,
    /// The integrations that could not be built, so that nothing of them was tried.
    unchecked: Vec<String>,
    /// Why nothing was tried at all.
    nothing: Option<String>,
    hint: Option<String>,
}

impl Online {
    fn look(settings: Option<&Settings>, entries: &[Arc<Entry>], env: &Environment) -> Self {
        let Some(settings) = settings else {
            let why = "nothing was tried online: the mistakes above come first".to_owned();
            return Self { nothing: Some(why), ..Self::default() };
        };
        let (reached, nothing) = match online::reach(entries) {
            Ok(reached) => (reached, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let unbuilt = entries.iter().filter(|entry| entry.state.is_err());
        Self {
            reached,
            tried: handlers::load(settings, entries),
            unchecked: unbuilt.map(|entry| entry.settings.name.to_string()).collect(),
            nothing,
            hint: online::proxy_hint(env),
        }
    }

    fn exit(&self) -> Exit {
        if !self.tried.iter().all(Tried::is_fine) {
            Exit::Config
        } else if self.nothing.is_some() {
            Exit::Failed
        } else if !self.reached.iter().all(Reached::is_fine) {
            Exit::Unreachable
        } else {
            Exit::Done
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<_> = self.reached.iter().map(ToString::to_string).collect();
        lines.extend(self.tried.iter().map(ToString::to_string));
        let unchecked = self.unchecked.iter();
        lines
            .extend(unchecked.map(|name| format!("{name:24} not tried online: its errors above come first")));
        lines.extend(self.nothing.clone());
        lines.extend(self.hint.iter().map(|hint| format!("hint: {hint}")));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// What was found.
struct Report<'a> {
    problems: &'a Problems,
    settings: Option<&'a Settings>,
    online: Online,
}

impl Report<'_> {
    fn text(&self, exit: Exit, colour: bool) -> String {
        let mut text = self.problems.render(colour);
        for integration in self.settings.iter().flat_map(|s| s.integrations.values()) {
            text += &line(integration);
        }
        text += &self.online.text();
        if exit == Exit::Done {
            text += "ok\n";
        }
        text
    }

    fn json(&self, exit: Exit) -> Value {
        let integration = |one: &Integration| {
            json!({
                "name": one.name.as_str(),
                "format": one.spoken(),
                "authorization": authorization(one),
                "models": one.models.iter().map(|m| m.alias.as_str()).collect::<Vec<_>>(),
                "origin": one.origin.to_string(),
            })
        };
        let integrations: Vec<_> =
            self.settings.iter().flat_map(|s| s.integrations.values()).map(integration).collect();
        json!({
            "ok": exit == Exit::Done,
            "problems": self.problems.to_json(),
            "integrations": integrations,
            "handlers": self.online.tried.iter().map(Tried::to_json).collect::<Vec<_>>(),
            "online": self.online.reached.iter().map(Reached::to_json).collect::<Vec<_>>(),
            "unchecked": self.online.unchecked,
            "hint": self.online.hint,
        })
    }
}

/// One integration in one line.
fn line(one: &Integration) -> String {
    let count = one.models.len();
    let models = format!("{count} model{}", if count == 1 { "" } else { "s" });
    format!(
        "{:24} {:10} {:10} {models:10} {}\n",
        one.name.as_str(),
        one.spoken(),
        authorization(one),
        one.origin
    )
}

fn authorization(one: &Integration) -> &'static str {
    match &one.authorization {
        Authorization::None => "none",
        Authorization::ApiKey { .. } => "api_key",
        Authorization::OAuth2(_) => "oauth2",
        Authorization::SigV4(_) => "aws_sigv4",
        Authorization::Gcp(_) => "gcp",
        Authorization::Later(word) => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str, online: bool, format: Format, env: Environment) -> (Exit, String) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), toml).unwrap();
        let check = Check { file: None, config: None, online, format };
        let options = Options { file: None, env, dir: dir.path().to_owned(), ..Options::default() };
        let (exit, text) = report(&check, &options, false);
        (exit, text.replace(&dir.path().display().to_string(), "DIR"))
    }

    const GOOD: &str = "[integrations.acme]\nendpoint = \"http://127.0.0.1:9/v1\"\nmodels = [\"a\", \"b\"]\nauthentication_type = \"none\"\n";

    #[test]
    fn a_good_configuration_is_a_line_for_each_integration() {
        let (exit, text) = check(GOOD, false, Format::Text, Environment::default());
        assert_eq!(exit, Exit::Done);
        insta::assert_snapshot!(text, @r#"
    acme                     openai     none       2 models   config.toml:1
    ok
    "#);
    }

    #[test]
    fn what_is_wrong_in_the_world_is_an_error_of_its_integration() {
        let toml = format!(
            "{GOOD}{}{}{}",
            "[integrations.key]\nendpoint = \"https://k.example/v1\"\nmodels = [\"k\"]\nauthentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"\n",
            "[integrations.handler]\nendpoint = \"https://h.example/v1\"\nmodels = [\"h\"]\nauthentication_type = \"none\"\ncustom_llm_config = { file_name = \"h.py\", class_name = \"H\" }\n",
            "[integrations.file]\nendpoint = \"${file:no-such-endpoint}\"\nmodels = [\"f\"]\nauthentication_type = \"none\"\n",
        );
        let elsewhere = Environment::of([("GALILEO_CUSTOM_LLMS_DIRECTORY", "/no/such/directory")]);
        let (exit, text) = check(&toml, false, Format::Text, elsewhere);
        assert_eq!(exit, Exit::Config);
        insta::assert_snapshot!(text, @r#"
    error: `integrations.key.api_key_value_file`: DIR/…: No such file or directory
      --> config.toml:10:1
       |
    10 | api_key_value_file = ***
       | ^^^^^^^^^^^^^^^^^^
       = help: put the file there, or correct its path (its last part is not shown, in case it is the secret itself)

    error: `integrations.handler.custom_llm_config`: handlers are not enabled: set `enabled = true` in [handlers] or GALILEO_CUSTOM_LLMS_ENABLED=true
      --> config.toml:15:1
       |
    15 | custom_llm_config = { file_name = "h.py", class_name = "H" }
       | ^^^^^^^^^^^^^^^^^

    error: `integrations.handler.custom_llm_config`: the directory of handlers /no/such/directory cannot be read: No such file or directory (os error 2) (handlers.directory)
      --> config.toml:15:1
       |
    15 | custom_llm_config = { file_name = "h.py", class_name = "H" }
       | ^^^^^^^^^^^^^^^^^
       = help: put it there, or correct the path

    error: integrations.file.endpoint: cannot read DIR/…: No such file or directory
      --> config.toml:17:1
       |
    17 | endpoint = ***
       | ^^^^^^^^
       = help: put the file there, or correct its path (its last part is not shown, in case it is the secret itself)

    4 errors
    "#);
    }

    #[test]
    fn each_missing_file_is_one_error_at_the_key_that_somebody_wrote() {
        let lines = "endpoint = \"https://k.example/v1\"\nmodels = [\"k\"]\nauthentication_type =";
        let token = r#"token = '{"client_id": "i", "client_secret": "${file:sk-1}"}'"#;
        for (more, keys) in [
            (
                "\"none\"\ntls = { client_cert_file = \"sk-1\", client_key_file = \"sk-2\", client_key_password_file = \"sk-3\" }",
                &["tls.client_cert_file", "tls.client_key_file", "tls.client_key_password_file"][..],
            ),
            (&format!("\"oauth2\"\n{token}"), &["token"]),
            ("\"oauth2\"\ntoken_file = \"sk-1\"", &["token_file"]),
            ("\"oauth2\"\noauth2 = { client_id = \"i\", client_secret = \"${file:sk-1}\" }", &["oauth2"]),
            (
                "\"oauth2\"\noauth2 = { client_id = \"i\", client_secret_file = \"sk-1\" }",
                &["oauth2.client_secret_file"],
            ),
        ] {
            let toml = format!("[integrations.key]\n{lines} {more}\n");
            let (exit, text) = check(&toml, false, Format::Json, Environment::default());
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let of = |problem: &Value| problem["key"].as_str().unwrap_or_default().to_owned();
            let mut found: Vec<_> = parsed["problems"].as_array().unwrap().iter().map(of).collect();
            found.sort();
            let wanted: Vec<_> = keys.iter().map(|key| format!("integrations.key.{key}")).collect();
            assert_eq!((exit, found), (Exit::Config, wanted), "{toml}: {text}");
            assert!(!text.contains("sk-"), "{text}");
        }
    }

    #[test]
    fn a_common_ca_file_that_cannot_be_used_is_one_error_where_it_stands() {
        let toml = format!("{GOOD}{}", GOOD.replace("acme", "beta") + "tls = { ca_file = \"own.pem\" }\n")
            .replace("http://127.0.0.1:9", "https://a.example")
            + "[egress]\nca_file = \"corp.pem\"\n";
        let (exit, text) = check(&toml, false, Format::Text, Environment::default());
        assert_eq!(exit, Exit::Config);
        insta::assert_snapshot!(text, @r#"
    warning: 2 models are also in the integration `acme`: `a`, `b`
     --> config.toml:5:15
      |
    5 | [integrations.beta]
      |               ^^^^
      = help: a bare name will answer 400; clients use /beta/v1 or beta/MODEL

    error: `ca_file` DIR/own.pem cannot be read: No such file or directory
     --> config.toml:9:9
      |
    9 | tls = { ca_file = "own.pem" }
      |         ^^^^^^^
      = help: put it there, or correct the path

    error: `egress.ca_file` DIR/corp.pem cannot be read: No such file or directory
      --> config.toml:11:1
       |
    11 | ca_file = "corp.pem"
       | ^^^^^^^
       = help: put it there, or correct the path

    2 errors, 1 warning
    "#);
        let toml = toml.replace("corp.pem", "config.toml").replace("tls = { ca_file = \"own.pem\" }\n", "");
        let (_, text) = check(&toml, false, Format::Text, Environment::default());
        insta::assert_snapshot!(text, @r#"
    warning: 2 models are also in the integration `acme`: `a`, `b`
     --> config.toml:5:15
      |
    5 | [integrations.beta]
      |               ^^^^
      = help: a bare name will answer 400; clients use /beta/v1 or beta/MODEL

    error: `egress.ca_file` DIR/config.toml is not PEM: it has no `-----BEGIN …-----` line
      --> config.toml:10:1
       |
    10 | ca_file = "config.toml"
       | ^^^^^^^

    1 error, 1 warning
    "#);
    }

    /// The keys and the places of what `check` finds, in its order.
    fn places(toml: &str, env: Environment) -> Vec<(String, String)> {
        let (_, text) = check(toml, false, Format::Json, env);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let of = |problem: &Value| {
            let key = problem["key"].as_str().unwrap_or_default().to_owned();
            let (line, variable) = (problem["line"].as_u64(), problem["variable"].as_str());
            (key, variable.map_or_else(|| line.unwrap_or_default().to_string(), str::to_owned))
        };
        parsed["problems"].as_array().unwrap().iter().map(of).collect()
    }

    #[test]
    fn a_broken_authority_is_told_at_the_key_that_names_its_file() {
        let cut = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(cut.path(), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
        let toml = GOOD.replace("http://127.0.0.1:9", "https://a.example");
        let tables = format!("tls = {{ ca_file = {0:?} }}\ntoken_tls = {{ ca_file = {0:?} }}\n", cut.path());
        let (found, wanted) =
            (places(&format!("{toml}{tables}"), Environment::default()), "integrations.acme.tls.ca_file");
        assert!(found.contains(&(wanted.to_owned(), "5".to_owned())), "{found:?}");
        assert!(found.iter().all(|(key, _)| key != "integrations.acme"), "{found:?}");
    }

    #[test]
    fn a_host_that_there_cannot_be_is_told_at_the_endpoint() {
        for (host, more, words) in [
            ("https://a..b", "", "correct the host"),
            ("http://a..b", "", "correct the host"),
            ("https://256.1.1.1", "", "correct the host"),
            ("http://256.1.1.1", "tls = { server_name = \"a.example\" }\n", "correct the host"),
            ("https://-x.example", "", "correct the host of `endpoint`, or set `server_name`"),
        ] {
            let toml = GOOD.replace("http://127.0.0.1:9", host) + more;
            let (exit, text) = check(&toml, false, Format::Text, Environment::default());
            assert!(exit == Exit::Config && text.contains(words), "{host}: {text}");
            let at = ("integrations.acme.endpoint".to_owned(), "2".to_owned());
            assert!(places(&toml, Environment::default()).contains(&at), "{host}: {text}");
        }
        let named = GOOD.replace("http://127.0.0.1:9", "https://-x.example")
            + "tls = { server_name = \"x.example\" }\n";
        for toml in [&named, &GOOD.replace("127.0.0.1", "010.0.0.1"), &GOOD.replace("127.0.0.1", "my_svc.")] {
            let (exit, text) = check(toml, false, Format::Text, Environment::default());
            assert_eq!(exit, Exit::Done, "{toml}: {text}");
        }
    }

    #[test]
    fn what_a_variable_names_is_told_there_and_not_at_a_key_that_nobody_wrote() {
        for (kind, name, more) in [
            ("gcp", "GOOGLE_APPLICATION_CREDENTIALS", None),
            ("aws_sigv4", "AWS_WEB_IDENTITY_TOKEN_FILE", Some(("AWS_ROLE_ARN", "arn:aws:iam::1:role/R"))),
        ] {
            let toml = GOOD.replace("\"none\"", &format!("\"{kind}\"")).replace("127.0.0.1:9", "a.example");
            let pairs = [(name, "/no/such-SENTINEL"), ("AWS_REGION", "eu-west-1")];
            let env = || Environment::of(pairs.into_iter().chain(more));
            let (exit, text) = check(&toml, false, Format::Text, env());
            assert_eq!(exit, Exit::Config, "{text}");
            assert!(text.contains(&format!("error: the environment variable {name}: ")), "{text}");
            assert!(!text.contains("SENTINEL") && !text.contains("credentials_file`"), "{text}");
            assert!(places(&toml, env()).iter().any(|(_, place)| place == name), "{text}");
        }
    }

    #[test]
    fn each_missing_file_of_inbound_tls_is_told_at_once() {
        let toml = "[server]\n[server.tls]\ncert_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"a\"\n";
        let found = places(&format!("{toml}{GOOD}"), Environment::default());
        let at = |key: &str, line: &str| (format!("server.tls.{key}"), line.to_owned());
        assert_eq!(found, [at("cert_file", "3"), at("key_file", "4"), at("client_ca_file", "5")]);
    }

    #[test]
    fn a_report_in_json_names_file_line_column_and_key() {
        let (exit, text) = check("[server]\nlisten = 5\n", false, Format::Json, Environment::default());
        assert_eq!(exit, Exit::Config);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["ok"], false);
        let problem = &parsed["problems"][0];
        assert_eq!(
            (&problem["file"], &problem["line"], &problem["column"]),
            (&json!("config.toml"), &json!(2), &json!(1))
        );
        assert_eq!((&problem["key"], &problem["severity"]), (&json!("server.listen"), &json!("error")));
    }

    #[test]
    fn online_connects_to_each_endpoint_and_a_closed_port_is_exit_69() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = GOOD.replace("127.0.0.1:9", &listener.local_addr().unwrap().to_string());
        let (exit, text) = check(&open, true, Format::Text, Environment::default());
        assert_eq!(exit, Exit::Done, "{text}");
        // Bound, and never listened on: nobody else gets it.
        let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        closed.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = closed.local_addr().unwrap().as_socket().unwrap();
        let nobody = GOOD.replace("127.0.0.1:9", &address.to_string());
        let (exit, text) = check(&nobody, true, Format::Text, Environment::default());
        assert_eq!(exit, Exit::Unreachable, "{text}");
        assert!(text.contains(&address.to_string()) && text.contains("refused"), "{text}");
    }

    #[test]
    fn a_proxy_that_would_catch_loopback_is_pointed_out() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = GOOD.replace("127.0.0.1:9", &listener.local_addr().unwrap().to_string());
        let caught = Environment::of([("HTTP_PROXY", "http://me:s3cret@proxy:3128")]);
        let (exit, text) = check(&open, true, Format::Text, caught);
        assert_eq!(exit, Exit::Done, "{text}");
        assert!(text.contains("NO_PROXY=127.0.0.1,localhost") && !text.contains("s3cret"), "{text}");
        let spared =
            Environment::of([("HTTP_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost,127.0.0.1")]);
        assert!(!check(&open, true, Format::Text, spared).1.contains("hint"));
    }
}
