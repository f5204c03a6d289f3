//! `outrider explain`: the exact request that the provider would get, with secrets masked and every change told. Nothing
//! is sent.

mod layout;
mod page;

use std::io::{self, IsTerminal, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::ValueEnum;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use serde_json::json;

use self::page::Page;
pub(super) use self::page::way;
use super::{Exit, console, output};
use crate::config::valid::Integration;
use crate::config::{self, Loaded, Options};
use crate::integration::{Entry, Registry, Workshop};
use crate::proxy::{Explained, Question, explain};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The integration
    integration: String,
    /// A request body as a client sends it, JSON of OpenAI's shape; `-` reads it from stdin; default: one that says hello to
    /// the integration's default_model, else its first model
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// What the client calls
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    path: String,
    /// A header that the client sends, as NAME: VALUE; may be repeated
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// How the request is shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Show the body byte for byte, not laid out
    #[arg(long)]
    exact: bool,
    /// The configuration; else OUTRIDER_CONFIG, else ./config.toml, else /etc/outrider/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How the request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Shows on stdout what would be sent, or how the client would be refused.
pub(super) fn run(args: &Explain) -> Exit {
    let (exit, text, notes) = match answer(args, &Options::process(args.config.clone())) {
        Ok((exit, text)) => (exit, text, String::new()),
        Err((exit, why)) => (exit, String::new(), why),
    };
    output::print(exit, &text, &notes)
}

/// The exit code and the page, or how it ends and why.
fn answer(args: &Explain, options: &Options) -> Result<(Exit, String), (Exit, String)> {
    let loaded = config::load(options).map_err(|p| (Exit::Config, p.render(io::stderr().is_terminal())))?;
    let Some(settings) = loaded.settings.integrations.get(args.integration.as_str()) else {
        return Err((Exit::Usage, console::unknown(&args.integration, &loaded.settings)));
    };
    let head = head(args).map_err(|why| (Exit::Usage, why))?;
    let body = body(args, settings).map_err(|why| (Exit::Usage, why))?;
    Ok(shown(args, &loaded, settings, (head, body)))
}

fn shown(
    args: &Explain,
    loaded: &Loaded,
    settings: &Integration,
    (head, body): (Parts, Bytes),
) -> (Exit, String) {
    let workshop = Workshop::dry();
    let entry = Arc::new(Entry::build(settings.clone(), &workshop));
    let registry = Registry::new(vec![Arc::clone(&entry)], 0);
    let question = Question {
        integration: &args.integration,
        head,
        body: body.clone(),
        max_body: loaded.settings.server.max_body,
    };
    let explained = explain(question, &registry, &loaded.veil(settings));
    let exit = match &explained {
        Explained::Sent(_) | Explained::Own => Exit::Done,
        Explained::Refused(refusal) if refusal.unavailable => Exit::Config,
        Explained::Refused(_) => Exit::Failed,
    };
    let file = match &args.request {
        None => "a request of explain's own".into(),
        Some(file) if file.as_os_str() == "-" => "stdin".into(),
        Some(file) => file.to_string_lossy(),
    };
    let page = Page { explained: &explained, settings: &entry.settings, file: &file, body: &body };
    let text = match args.format {
        Format::Text => page.text(args.exact),
        Format::Json => page.json(),
    };
    (exit, text)
}

/// The head of the client's request: a POST at the path that names the integration.
fn head(args: &Explain) -> Result<Parts, String> {
    let name = &args.integration;
    let rest = args.path.strip_prefix(&format!("/{name}")).unwrap_or(&args.path);
    if !rest.starts_with("/v1/") {
        return Err(format!("--path must begin with /v1/ or /{name}/v1/, as what a client calls\n"));
    }
    let mut head = Request::post(format!("/{name}{rest}"));
    for (name, value) in &args.header {
        head = head.header(name, value);
    }
    if !args.header.iter().any(|(name, _)| name == CONTENT_TYPE) {
        head = head.header(CONTENT_TYPE, "application/json");
    }
    let request = head.body(()).map_err(|_| "--path cannot stand in a URL\n".to_owned())?;
    Ok(request.into_parts().0)
}

/// The request without the line's end that editors put at the end of a file; where none is named, the smallest that
/// makes sense.
fn body(args: &Explain, settings: &Integration) -> Result<Bytes, String> {
    let Some(file) = &args.request else { return own(args, settings) };
    let read = if file.as_os_str() == "-" {
        let mut body = Vec::new();
        io::stdin().lock().read_to_end(&mut body).map(|_| body)
    } else {
        std::fs::read(file)
    };
    let mut body = read.map_err(|error| format!("cannot read {}: {error}\n", file.display()))?;
    body.truncate(body.trim_ascii_end().len());
    Ok(body.into())
}

fn own(args: &Explain, settings: &Integration) -> Result<Bytes, String> {
    let Some(model) = &settings.default_model else {
        let name = &settings.name;
        return Err(format!("integration `{name}` has no model: name a request with --request\n"));
    };
    let body = if args.path.ends_with("/embeddings") {
        json!({"model": model.as_str(), "input": "hello"})
    } else {
        json!({"model": model.as_str(), "messages": [{"role": "user", "content": "Say hello."}]})
    };
    Ok(body.to_string().into())
}

/// `NAME: VALUE`.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| "what stands before the colon is not a header's name")?;
    let value = value.trim().parse().map_err(|_| "what stands after the colon cannot stand in a header")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    const ACME: &str = "[integrations.acme]\nendpoint = \"https://acme.example/v1\"\nauthentication_type = \"none\"\nmodels = [\"m\"]\n";

    fn ask(path: &str, name: &str, body: &str) -> Result<(Exit, String), (Exit, String)> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), ACME).unwrap();
        let request = dir.path().join("request.json");
        std::fs::write(&request, body).unwrap();
        let args = Explain {
            integration: name.to_owned(),
            request: Some(request),
            path: path.to_owned(),
            header: Vec::new(),
            format: Format::Text,
            exact: false,
            config: None,
        };
        let options =
            Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
        answer(&args, &options)
            .map(|(exit, text)| (exit, text.replace(&dir.path().display().to_string(), "DIR")))
    }

    #[test]
    fn a_request_is_shown_whole() {
        let body = "{\"model\": \"m\", \"n\": 18446744073709551617,\n \"messages\": []}\n";
        let (exit, text) = ask("/v1/chat/completions", "acme", body).unwrap();
        assert_eq!(exit, Exit::Done);
        insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r#"
    POST https://acme.example/v1/chat/completions
    content-type: application/json
    accept: application/json
    accept-encoding: identity
    host: acme.example
    user-agent: outrider/VERSION
    content-length: 58

    {
      "model": "m",
      "n": 18446744073709551617,
      "messages": []
    }

    model        `m`
    authorized   none
    connects to  acme.example:443 by TLS 1.2 or later as acme.example
    sent         nothing, and no token was fetched
    "#);
    }

    #[test]
    fn a_refusal_names_line_and_column_of_broken_json() {
        let (exit, text) =
            ask("/acme/v1/chat/completions", "acme", "{\"model\": \"m\",\n \"é\": x}").unwrap();
        assert_eq!(exit, Exit::Failed);
        insta::assert_snapshot!(text, @r#"
    refused with status 400; nothing is sent

    {"error":{"message":"integration `acme`: not JSON at byte 22: expected a value","type":"invalid_request_error","param":null,"code":"invalid_body"}}

    at DIR/request.json:2:7
    "#);
    }

    #[test]
    fn what_cannot_be_asked_is_wrong_usage() {
        for (path, name) in [
            ("/v1/chat/completions", "acne"),
            ("/other/v1/chat/completions", "acme"),
            ("v1", "acme"),
            ("/v1/a b", "acme"),
        ] {
            assert_eq!(ask(path, name, "{}").unwrap_err().0, Exit::Usage, "{path} {name}");
        }
        assert!(ask("/v1/models", "acme", "{}").unwrap().1.contains("by itself"));
        assert!(ask("/v1/", "acme", "{}").unwrap().1.contains("not_found"));
        assert!(header("x-a: 1").is_ok() && header("x-a").is_err() && header("x a: 1").is_err());
    }
}
