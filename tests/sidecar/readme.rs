//! What the README says: its examples run, and its tables are what the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use outrider::config::{Environment, Options, load};
use outrider::dialect::Format;
use serde_json::{Value, json};

use crate::support::page::{Page, names, spans, table};
use crate::support::tls::Authority;
use crate::support::{Call, Setup, Sidecar, TokenServer, Upstream, integration};

const HANDSHAKE: &str = include_str!("../../src/server/handshake.rs");
const README: &str = include_str!("../../README.md");
const TELL: &str = include_str!("../../src/proxy/reply/tell.rs");
const WORKER: &str = include_str!("../../src/proxy/worker.rs");
const RELAY: &str = include_str!("../../src/proxy/relay.rs");
const ACCESS: &str = include_str!("../../src/observe/access.rs");
const COMMANDS: &str = include_str!("../../src/cli/mod.rs");
const CARGO: &str = include_str!("../../Cargo.toml");

// ---- Reading the README.

const PAGE: Page = Page(README);

fn blocks(language: &str) -> Vec<String> {
    PAGE.blocks(language)
}

fn section(heading: &str) -> &'static str {
    PAGE.section(heading)
}

fn commands() -> Vec<String> {
    PAGE.commands()
}

/// A folder in which everything was done that the README tells a newcomer to do before the first start.
fn newcomer(tables: &str) -> Setup {
    let mut setup = Setup::new(tables);
    let files: Vec<_> = commands().into_iter().filter(|line| line.starts_with("printf ")).collect();
    assert!(files.len() >= 2, "the README makes fewer secret files than it uses");
    for line in files.iter().map(|line| real(line)) {
        let made = Command::new("sh").args(["-c", &line]).current_dir(setup.dir()).status();
        assert!(made.is_ok_and(|status| status.success()), "`{line}` failed");
    }
    for line in commands() {
        let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) else {
            continue;
        };
        setup = setup.env(name, &real(value.trim_matches('\'')));
    }
    let (authority, handler) = (Authority::new(), blocks("python").concat());
    let (certificate, key) = authority.client();
    let setup = setup.file("client.crt", &certificate).file("client.key", &key);
    let setup = setup.file("corp-ca.pem", &authority.pem());
    setup.file("integrations/enterprise.json", &definition()).file("custom_llms/echo.py", &handler)
}

/// `text` as a newcomer writes it, with a secret in place of `your-…`: `check` warns of placeholders.
fn real(text: &str) -> String {
    text.replace("your-", "s3cret-")
}

/// `setup` with a secret in every variable that `text` gives a placeholder as default.
fn filled(setup: Setup, text: &str) -> Setup {
    let names = text.split("${").skip(1).filter_map(|form| form.split_once(":-replace-me}"));
    names.fold(setup, |setup, (name, _)| setup.env(name, "s3cret"))
}

/// Galileo's JSON in the README.
fn definition() -> String {
    let all = blocks("json").into_iter().find(|block| block.contains("\"endpoint\""));
    all.expect("the README shows one of Galileo's definitions")
}

fn checked(setup: &Setup, file: &str) {
    let ended = setup.run(&["check", file]);
    assert_eq!(ended.code, 0, "{file} of the README is not good:\n{}", ended.output());
    assert!(!ended.output().contains("warning"), "{file} of the README is warned of:\n{}", ended.output());
}

// ---- Its examples.

#[test]
fn every_configuration_of_the_readme_passes_check() {
    for (n, block) in blocks("toml").iter().enumerate() {
        let name = format!("readme-{n}.toml");
        let setup = filled(newcomer(""), block).file(&name, block);
        checked(&setup, &name);
    }
}

#[test]
fn every_format_stands_in_the_table_and_in_a_configuration_that_check_takes() {
    let formats: BTreeSet<String> = Format::ALL.iter().map(|(word, _)| (*word).to_owned()).collect();
    assert_eq!(names(&table(section("Formats"), "`format`")), formats);
    let shown = blocks("toml").concat();
    for word in formats.iter().filter(|word| *word != "openai") {
        assert!(shown.contains(&format!("format = \"{word}\"")), "no configuration shows {word}");
    }
}

#[test]
fn galileos_json_of_the_readme_loads_without_an_overlay_too() {
    let setup = newcomer("").file("bare.toml", "integrations_dir = \"integrations\"\n");
    checked(&setup, "bare.toml");
}

#[test]
fn the_example_file_passes_check_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml.example");
    let example = std::fs::read_to_string(path).expect("config.toml.example is there");
    checked(&filled(Setup::new(""), &example).file("example.toml", &example), "example.toml");
    let ended = Setup::new("").file("example.toml", &example).run(&["check", "example.toml"]);
    assert!(ended.code == 0 && ended.output().contains("looks like a placeholder"), "{}", ended.output());
}

/// The README's configuration that holds `words`, with the tables of `from` for its hosts.
fn configuration(words: &str, changes: &[(&str, &str)]) -> String {
    let found = blocks("toml").into_iter().find(|block| block.contains(words));
    let mut text = found.expect("the README has such a configuration");
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is not in:\n{text}");
        text = text.replace(from, to);
    }
    text
}

/// The README's own `curl` call.
fn curl() -> Call {
    let line = commands().into_iter().find(|line| line.starts_with("curl ") && line.contains(" -d '"));
    let line = line.expect("the README has a curl call");
    let path = line.split("http://127.0.0.1:4010").nth(1).and_then(|rest| rest.split(' ').next());
    let body = line.split(" -d '").nth(1).and_then(|rest| rest.strip_suffix('\''));
    Call::post(path.expect("curl calls us"), body.expect("curl sends a body"))
}

const GATEWAY: &str = "https://gateway.corp.example";
const LOGIN: &str = "https://login.corp.example/oauth2/token";

#[test]
fn the_first_configuration_serves_the_readmes_curl_with_its_key() {
    let upstream = Upstream::saying("hello");
    let text = configuration("api_key_value_file", &[(GATEWAY, &upstream.url(""))]);
    let sidecar = newcomer(&text).start();
    assert_eq!(sidecar.ask(&curl()).content(), "hello");
    let request = upstream.request();
    assert_eq!(request.target(), "/openai/v1/chat/completions");
    assert_eq!(request.head.header("authorization"), Some("Bearer sk-s3cret-key"));
}

#[test]
fn the_same_key_from_the_environment_serves_it_too() {
    let upstream = Upstream::saying("hello");
    let text = configuration("${ACME_KEY", &[(GATEWAY, &upstream.url(""))]);
    assert_eq!(newcomer(&text).start().ask(&curl()).content(), "hello");
    assert_eq!(upstream.request().head.header("authorization"), Some("Bearer sk-s3cret-key"));
}

#[test]
fn the_configuration_behind_oauth2_serves_it_with_a_token() {
    let (upstream, tokens) = (Upstream::saying("hello"), TokenServer::issuing());
    let changes = [(GATEWAY, upstream.url("")), (LOGIN, tokens.url())];
    let text =
        configuration("authentication_scope", &changes.each_ref().map(|(from, to)| (*from, to.as_str())));
    assert_eq!(newcomer(&text).start().ask(&curl()).content(), "hello");
    assert_eq!(upstream.request().head.header("authorization"), Some("Bearer token-1"));
    let form = tokens.requests(1)[0].text().to_owned();
    assert!(
        form.contains("scope=inference") && form.contains("client_secret=s3cret-client-secret"),
        "{form}"
    );
}

#[test]
fn the_anthropic_configuration_translates() {
    let upstream = Upstream::start(|turn| {
        let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
            "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
        turn.answer(200, answer.to_string());
    });
    let tokens = TokenServer::issuing();
    let changes = [(GATEWAY, upstream.url("")), (LOGIN, tokens.url())];
    let text = configuration("anthropic", &changes.each_ref().map(|(from, to)| (*from, to.as_str())));
    let sidecar = newcomer(&text).start();
    assert_eq!(sidecar.ask(&Call::say("Claude Sonnet", "hi")).content(), "hello");
    assert_eq!(upstream.request().target(), "/anthropic/v1/messages");
}

#[test]
fn the_error_of_the_readme_is_what_the_first_configuration_answers() {
    let shown = blocks("json").into_iter().find(|block| block.contains("\"error\""));
    let shown: Value = serde_json::from_str(&shown.expect("the README shows an error")).expect("it is JSON");
    let sidecar = newcomer(&configuration("api_key_value_file", &[])).start();
    let answer = sidecar.ask(&Call::say("gpt4o", "hi").at("/acme/v1/chat/completions"));
    assert_eq!(answer.json(), shown);
}

#[test]
fn explain_prints_what_the_readme_shows() {
    let section = section("What would be sent");
    let shown = blocks("text").into_iter().find(|block| block.starts_with("POST "));
    let request = blocks("json").into_iter().find(|block| block.contains("\"messages\""));
    let command = commands().into_iter().find(|line| line.starts_with("outrider explain "));
    let (shown, request) = (shown.expect("the page is shown"), request.expect("its request is shown"));
    assert!(section.contains(&shown) && section.contains(&request));
    let setup =
        newcomer("").file("config.toml", &configuration("anthropic", &[])).file("request.json", &request);
    let args: Vec<String> =
        command.iter().flat_map(|line| line.split(' ').skip(1)).map(str::to_owned).collect();
    let ended = setup.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ended.stdout, shown, "{}", ended.stderr);
}

/// The lines of a page of `try`, but for what differs from one network to another.
fn steadily(page: &str) -> Vec<String> {
    let elsewhere =
        |line: &&str| ["time ", "connects to ", "configuration "].iter().any(|l| line.starts_with(l));
    page.lines()
        .map(|line| if elsewhere(&line) { line.split("  ").next().unwrap_or(line) } else { line }.to_owned())
        .collect()
}

#[test]
fn try_prints_what_the_readme_shows() {
    let section = section("Trying an integration");
    let command = commands().into_iter().find(|line| line.starts_with("outrider try "));
    let command = command.expect("the README tries it");
    assert!(section.contains(&command), "{command}");
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    let shown: Vec<String> = blocks("text").into_iter().filter(|block| section.contains(block)).collect();
    let [went_well, failed] = shown.as_slice() else { panic!("the README shows two pages: {shown:?}") };
    let upstream = Upstream::start(|turn| {
        let headers = [("content-type", "application/json"), ("x-request-id", "req-7")];
        turn.answer_with(200, &headers, crate::support::upstream::completion("hello").to_string());
    });
    let printed = |tokens: &TokenServer| {
        let changes = [(GATEWAY, upstream.url("")), (LOGIN, tokens.url())];
        let text =
            configuration("authentication_scope", &changes.each_ref().map(|(from, to)| (*from, to.as_str())));
        let ended = newcomer("").file("config.toml", &text).run(&args);
        let host = tokens.url().replace("http://", "").replace("/oauth2/token", "");
        (ended.code, ended.stdout.replace(&tokens.url(), LOGIN).replace(&host, "login.corp.example"))
    };
    let (code, page) = printed(&TokenServer::issuing());
    assert_eq!((code, steadily(&page)), (0, steadily(went_well)));
    let refusing = TokenServer::start(|turn, _| turn.answer(401, r#"{"error": "invalid_client"}"#));
    let (code, page) = printed(&refusing);
    assert!(code == 77 && page.contains(failed.as_str()), "{page}");
}

#[test]
fn import_prints_what_the_readme_shows() {
    let command = commands().into_iter().find(|line| line.starts_with("outrider import "));
    let command = command.expect("the README imports its JSON");
    let args: Vec<&str> = command.split(' ').skip(1).take_while(|word| *word != ">>").collect();
    let shown = blocks("toml").into_iter().find(|block| block.starts_with("# From "));
    let ended = newcomer("").run(&args);
    assert_eq!((ended.code, ended.stdout), (0, shown.expect("the README shows it")), "{}", ended.stderr);
}

#[test]
fn every_integration_of_the_readme_can_be_explained() {
    for (n, block) in blocks("toml").iter().enumerate() {
        let name = format!("readme-{n}.toml");
        let body = r#"{"messages": [{"role": "user", "content": "hi"}]}"#;
        let setup = newcomer("").file(&name, block).file("request.json", body);
        let names = block.lines().filter_map(|line| line.strip_prefix("[integrations.")?.strip_suffix(']'));
        for integration in names.filter(|name| !name.contains('.')) {
            let ended = setup.run(&["explain", integration, "--request", "request.json", "--config", &name]);
            assert_eq!(ended.code, 0, "{integration} in:\n{block}\n{}", ended.output());
            for secret in ["sk-s3cret-key", "s3cret-client-secret"] {
                assert!(!ended.output().contains(secret), "{}", ended.output());
            }
        }
    }
}

#[test]
fn the_demo_prints_what_the_readme_shows() {
    let printed = Setup::new("").run(&["demo", "--once"]).stdout;
    let table = blocks("text").into_iter().find(|block| block.starts_with("integration "));
    for line in table.expect("the README shows the demo's table").lines() {
        let line = line.trim_end_matches('…').trim_end();
        assert!(printed.lines().any(|row| row.starts_with(line)), "`{line}` is not in:\n{printed}");
    }
}

// ---- Its commands.

/// Fails unless `outrider ARGS` is a command with these flags.
fn known(args: &[&str]) {
    let setup = Setup::new("");
    let words = args.iter().take_while(|word| !word.starts_with('-'));
    let command: Vec<&str> = words.take(1).copied().collect();
    let help = setup.run(&[command.as_slice(), &["--help"]].concat());
    assert_eq!(help.code, 0, "`outrider {}` is no command: {}", args.join(" "), help.output());
    for flag in args.iter().filter(|word| word.starts_with("--")) {
        assert!(
            help.stdout.contains(&format!("{flag} ")) || help.stdout.contains(&format!("{flag}\n")),
            "`outrider {}` has no {flag}",
            args.join(" ")
        );
    }
}

#[test]
fn the_commands_of_the_readme_are_there() {
    let prose = spans(README).into_iter().filter(|span| span.starts_with("outrider ")).map(str::to_owned);
    let all = commands();
    for line in ["cargo run --release -- demo", "cargo test"] {
        assert!(all.iter().any(|command| command == line), "the README lost `{line}`");
    }
    for line in all.into_iter().chain(prose) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["outrider", args @ ..] | ["cargo", "run", "--release", "--", args @ ..] => known(args),
            ["cargo", "build", "--profile", profile] => {
                assert!(CARGO.contains(&format!("[profile.{profile}]")), "{line}");
            }
            ["cargo", "test"] | ["curl" | "printf" | "export" | "umask", ..] => {}
            ["python3" | "python/bin/python", "-m", "venv" | "pip", ..] => {}
            _ => assert!(line.is_empty(), "the README has a command that nobody checks: {line}"),
        }
    }
}

#[test]
fn console_prints_the_endpoint_that_the_readme_promises() {
    let setup = newcomer("").file("first.toml", &configuration("api_key_value_file", &[]));
    let ended = setup.run(&["console", "acme", "--config", "first.toml"]);
    let page: Value = serde_json::from_str(&ended.stdout).expect("stdout is one JSON value");
    let endpoint = page["endpoint"].as_str().expect("it has an endpoint");
    assert!(
        section("Pointing the runner here").contains(&format!("Its `endpoint` is `{endpoint}`")),
        "{endpoint}"
    );
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let (_, body) = COMMANDS.split_once("pub enum Exit {").expect("the exit codes are there");
    let body = body.split_once('}').map_or(body, |(body, _)| body);
    let codes = body.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "));
    let codes: BTreeSet<String> = codes.map(|(_, code)| code.to_owned()).collect();
    let rows = table(section("Signals and exit codes"), "exit code");
    assert_eq!(rows.into_iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), codes);
}

// ---- Its tables.

/// The code of errors and the status of each, as `tell.rs` has them; 0 for the upstream's own.
fn told() -> BTreeMap<String, u16> {
    let source = TELL.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let source = source.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    let mut codes = BTreeMap::new();
    let pieces: Vec<&str> = source.split('"').collect();
    for n in (1..pieces.len()).step_by(2) {
        let word = pieces[n];
        let is_code = !word.is_empty() && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let before = pieces[n - 1].trim_end();
        if !is_code || before.ends_with("Some(") {
            continue;
        }
        codes.insert(word.to_owned(), status_before(before));
    }
    // A handler's own errors have its own status.
    let kinds = WORKER.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    for code in kinds {
        codes.entry(code.to_owned()).or_insert(0);
    }
    codes
}

/// The status that stands right before a code: `Told::new(StatusCode::X, `, or one of the short forms of `tell.rs`.
fn status_before(before: &str) -> u16 {
    if before.ends_with("bad(") {
        return 400;
    }
    if before.ends_with("gateway(") {
        return 502;
    }
    if before.ends_with("unavailable(") {
        return 503;
    }
    let name = before.strip_suffix(',').and_then(|text| text.rsplit_once("(")).map(|(_, name)| name.trim());
    let known = match name {
        Some("StatusCode::BAD_REQUEST") => http::StatusCode::BAD_REQUEST,
        Some("StatusCode::UNAUTHORIZED") => http::StatusCode::UNAUTHORIZED,
        Some("StatusCode::NOT_FOUND") => http::StatusCode::NOT_FOUND,
        Some("StatusCode::METHOD_NOT_ALLOWED") => http::StatusCode::METHOD_NOT_ALLOWED,
        Some("StatusCode::REQUEST_TIMEOUT") => http::StatusCode::REQUEST_TIMEOUT,
        Some("StatusCode::PAYLOAD_TOO_LARGE") => http::StatusCode::PAYLOAD_TOO_LARGE,
        Some("StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE") => {
            http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        Some("StatusCode::UNSUPPORTED_MEDIA_TYPE") => http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Some("StatusCode::INTERNAL_SERVER_ERROR") => http::StatusCode::INTERNAL_SERVER_ERROR,
        Some("StatusCode::BAD_GATEWAY") => http::StatusCode::BAD_GATEWAY,
        Some("StatusCode::SERVICE_UNAVAILABLE") => http::StatusCode::SERVICE_UNAVAILABLE,
        Some("StatusCode::GATEWAY_TIMEOUT") => http::StatusCode::GATEWAY_TIMEOUT,
        _ => return 0,
    };
    known.as_u16()
}

#[test]
fn the_table_of_errors_is_exactly_what_can_be_told() {
    let rows = table(section("Errors"), "code");
    let row = |row: &Vec<String>| (row[0].trim_matches('`').to_owned(), row[1].parse().unwrap_or(0));
    let readme: BTreeMap<String, u16> = rows.iter().map(row).collect();
    assert_eq!(readme.len(), rows.len(), "a code stands twice");
    let mut told = told();
    // What a listener with TLS answers to plain HTTP, before there is a request.
    let early = HANDSHAKE.split("\"code\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    told.extend(early.map(|code| (code.to_owned(), 400)));
    assert_eq!(readme, told);
    for piece in RELAY.split("break_off(").skip(1) {
        let code = piece.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
        assert!(code.is_none_or(|code| readme.contains_key(code)), "{code:?} is not in the README");
    }
}

#[test]
fn the_fields_of_the_access_line_are_those_that_are_written() {
    let body = ACCESS.split_once("fn json_line").and_then(|(_, rest)| rest.split_once("\n}\n"));
    let (body, _) = body.expect("the line is written there");
    let written = body.lines().filter_map(|line| line.trim().strip_prefix("line.")?.split('"').nth(1));
    let written: BTreeSet<String> = written.map(str::to_owned).collect();
    assert_eq!(names(&table(section("Logs, admin endpoints, metrics"), "field")), written);
}

/// A sidecar that has answered, refused, and left a field out.
fn busy(upstream: &Upstream) -> Sidecar {
    let sidecar = Setup::before(upstream, "drop = [\"user\"]").start();
    let call = r#"{"model":"m","messages":[],"user":"u"}"#;
    assert_eq!(sidecar.ask(&Call::chat(call)).header("x-outrider-dropped"), Some("user"));
    assert_eq!(sidecar.ask(&Call::say("no-such-model", "hi")).status, 404);
    sidecar
}

#[test]
fn the_metrics_are_exactly_those_of_a_running_sidecar() {
    let upstream = Upstream::saying("hello");
    let sidecar = busy(&upstream);
    // A request is counted just before its line is written.
    sidecar.logged("request", 2);
    let answer = sidecar.admin("/metrics");
    let types = answer.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| match kind {
        "counter" => format!("{name}_total"),
        _ => name.to_owned(),
    };
    let served: BTreeSet<String> = types.map(name).collect();
    assert_eq!(names(&table(section("Logs, admin endpoints, metrics"), "metric")), served);
}

#[test]
fn the_admin_endpoints_are_exactly_those_that_are_served() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let served: BTreeSet<String> = sidecar.admin("/").text().lines().map(str::to_owned).collect();
    let readme = names(&table(section("Logs, admin endpoints, metrics"), "`GET`"));
    assert_eq!(readme, served);
    for path in readme {
        assert_eq!(sidecar.admin(&path).status, 200, "{path}");
    }
}

/// The settings of a configuration without any mistake.
fn settings(text: &str) -> outrider::config::valid::Settings {
    let setup = Setup::new("").file("c.toml", text);
    let options = Options {
        file: Some("c.toml".into()),
        env: Environment::default(),
        dir: setup.dir().to_owned(),
        ..Options::default()
    };
    load(&options).expect("the configuration is good").settings
}

/// The fields of a settings type, by its debug form.
fn fields(value: &impl std::fmt::Debug) -> BTreeSet<String> {
    let text = format!("{value:#?}");
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.split_once(':')?.0;
        name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then(|| name.to_owned())
    });
    names.collect()
}

/// The rows of a table of keys and defaults as TOML.
fn lines(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| {
        let value = row[1].trim_matches('`');
        let quote = if value.bytes().all(|b| b.is_ascii_digit()) { "" } else { "\"" };
        format!("{} = {quote}{value}{quote}\n", row[0].trim_matches('`'))
    };
    rows.iter().map(line).collect()
}

#[test]
fn the_defaults_of_the_limits_are_those_of_the_program() {
    let acme = integration("acme", "http://127.0.0.1:9/v1", "");
    let limits = |text: &str| settings(text).integrations.values().next().expect("acme is there").limits;
    let rows = table(section("Limits"), "`[limits]`");
    assert_eq!(limits(&format!("[limits]\n{}\n{acme}", lines(&rows))), limits(&acme));
    assert_eq!(names(&rows), fields(&limits(&acme)));

    let rows = table(section("Limits"), "`[server]`");
    let server = settings(&acme).server;
    assert_eq!(settings(&format!("[server]\n{}\n{acme}", lines(&rows))).server, server);
    let mut bounds = fields(&server);
    for other in ["listen", "strict_start", "watch", "workers", "api_key", "tls", "unix"] {
        assert!(bounds.remove(other), "{other} is no longer there");
    }
    assert_eq!(names(&rows), bounds);
}

#[test]
fn the_defaults_of_oauth2_are_those_of_the_program() {
    let with = |more: &str| {
        let lines = format!(
            "authentication_type = \"oauth2\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\"{more} }}"
        );
        let text = integration("acme", "http://127.0.0.1:9/v1", &lines);
        settings(&text).integrations.into_values().next().expect("acme is there").authorization
    };
    let rows = table(section("Authorization"), "key");
    let mut said = String::new();
    for row in &rows {
        // The spans keep their spaces: the prefix has one.
        let (keys, values) = (spans(&row[0]), spans(&row[1]));
        if keys.len() == values.len() {
            for (key, value) in keys.iter().zip(&values) {
                said.push_str(&format!(", {key} = \"{value}\""));
            }
        }
    }
    assert!(said.contains("prefix = \"Bearer \"") && said.contains("client_auth = \"post\""), "{said}");
    assert_eq!(with(&said), with(""));
    let every = ", audience = \"a\", resource = \"r\", extra_params = {}, extra_headers = {}, client_auth = \"basic\"";
    assert_ne!(with(every), with(""));
}

// ---- What it says is not there yet.

/// An integration that asks for `setting`, with what this needs to be no mistake.
fn asking(name: &str, setting: &str) -> String {
    let scheme = if setting.starts_with("tls") { "https" } else { "http" };
    let mut lines = format!("{setting}\n");
    for (word, more) in [
        ("\"azure\"", "api_version = \"1\"\n"),
        ("\"declared\"", "request.m = \"{{ messages }}\"\nresponse.content = \"{{ text }}\"\n"),
        ("oauth2 =", "authentication_type = \"oauth2\"\n"),
    ] {
        if setting.contains(word) {
            lines.push_str(more);
        }
    }
    integration(name, &format!("{scheme}://127.0.0.1:9/v1"), &lines)
}

/// The remedy of each integration that cannot serve.
fn failed(tables: String) -> BTreeMap<String, String> {
    let listed = Setup::new(tables).start().admin("/integrations").json();
    let all = listed["integrations"].as_array().expect("they are listed").clone();
    let remedy = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["remedy"].as_str()?.to_owned()));
    all.iter().filter_map(remedy).collect()
}

#[test]
fn what_the_readme_says_is_missing_is_refused_by_name() {
    let missing: Vec<_> = spans(section("What this version does not do yet"))
        .into_iter()
        .filter(|s| s.contains(" = "))
        .collect();
    assert!(!missing.is_empty());
    let tables = missing.iter().enumerate().map(|(n, setting)| asking(&format!("n{n}"), setting)).collect();
    let failed = failed(tables);
    for (n, setting) in missing.iter().enumerate() {
        let remedy = failed.get(&format!("n{n}"));
        assert!(remedy.is_some_and(|remedy| remedy.contains("in this version")), "{setting}: {remedy:?}");
    }
}

#[test]
fn every_other_format_is_served() {
    let tables = Format::ALL.iter().map(|(word, _)| asking(word, &format!("format = \"{word}\""))).collect();
    let failed: BTreeSet<String> = failed(tables).into_keys().collect();
    let missing = spans(section("What this version does not do yet"));
    let missing = missing.iter().filter_map(|span| span.strip_prefix("format = "));
    assert_eq!(missing.map(|word| word.trim_matches('"').to_owned()).collect::<BTreeSet<_>>(), failed);
}
