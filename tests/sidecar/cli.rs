//! The commands: what they print, and the exit codes that scripts rely on.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::launch::run_to_end;
use crate::support::{Call, Setup, Upstream, integration};

const MISTAKES: &str = "[integrations.acme]\nendpoit = \"http://127.0.0.1:9/v1\"\nmodels = [\"m\"]\nauthentication_type = \"none\"\n\
                        limits = { connect = \"soon\" }\n";

#[test]
fn check_says_that_a_good_file_is_good() {
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""));
    let config = setup.write();
    let ended = setup.run(&["check", &config.to_string_lossy()]);
    assert_eq!(ended.code, 0, "{}", ended.output());
}

#[test]
fn check_shows_every_mistake_with_its_place_and_a_guess() {
    let setup = Setup::new(MISTAKES);
    let config = setup.write();
    let ended = setup.run(&["check", &config.to_string_lossy()]);
    let output = ended.output();
    assert_eq!(ended.code, 78, "{output}");
    for words in ["config.toml:", "endpoit", "did you mean", "endpoint", "connect", "soon"] {
        assert!(output.contains(words), "`{words}` is missing:\n{output}");
    }
}

#[test]
fn check_writes_json_for_machines() {
    let setup = Setup::new(MISTAKES);
    let config = setup.write();
    let ended = setup.run(&["check", &config.to_string_lossy(), "--format", "json"]);
    assert_eq!(ended.code, 78, "{}", ended.output());
    let parsed: Value = serde_json::from_str(&ended.stdout).expect("stdout is one JSON value");
    assert!(parsed.to_string().contains("endpoit") && parsed.to_string().contains("connect"), "{parsed}");
}

#[test]
fn check_treats_what_is_wrong_in_the_world_as_an_error() {
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"";
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", key));
    let config = setup.write();
    let ended = setup.run(&["check", &config.to_string_lossy()]);
    assert_ne!(ended.code, 0);
    assert!(ended.output().contains("api_key_value_file"), "{}", ended.output());
}

#[test]
fn a_handler_outside_its_folder_is_a_configuration_error() {
    for bad in ["../outside.py", "/tmp/outside.py", "a/b.py"] {
        let handler = format!("custom_llm_config = {{ file_name = \"{bad}\", class_name = \"H\" }}");
        let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", &handler));
        let config = setup.write();
        assert_eq!(setup.run(&["check", &config.to_string_lossy()]).code, 78, "{bad}");
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    let setup = Setup::new("");
    for args in [&["no-such-command"][..], &["--no-such-flag"], &["check", "--format", "yaml"]] {
        let ended = setup.run(args);
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.output());
    }
}

#[test]
fn help_and_version_are_there() {
    let setup = Setup::new("");
    let help = setup.run(&["--help"]);
    assert_eq!(help.code, 0);
    for command in ["check", "console", "demo", "explain", "import", "schema", "try"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
    assert!(setup.run(&["--version"]).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_every_command() {
    let script = Setup::new("").run(&["completions", "bash"]).stdout;
    for words in ["outrider,try)", "--prompt", "--stream"] {
        assert!(script.contains(words), "`{words}` is missing");
    }
}

#[test]
fn what_could_not_be_written_is_not_called_done() {
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""));
    let config = setup.write();
    for command in ["check", "console acme", "explain acme", "schema", "completions bash"] {
        let line = format!("\"$0\" {command} > /dev/full");
        let mut full = Command::new("/bin/sh");
        full.args(["-c", &line, env!("CARGO_BIN_EXE_outrider")]).env_clear().env("OUTRIDER_CONFIG", &config);
        let ended = run_to_end(full, command);
        assert_eq!(ended.code, 1, "{command}: {}", ended.output());
        assert!(ended.stderr.contains("the output could not be written"), "{command}: {}", ended.output());
    }
}

#[test]
fn a_second_instance_on_a_taken_port_fails() {
    let upstream = Upstream::saying("hello");
    let first = Setup::before(&upstream, "").start();
    let second = Setup::before(&upstream, "").server(&format!("listen = \"{}\"", first.address()));
    let config = second.write();
    let ended = second.run(&["--config", &config.to_string_lossy()]);
    assert_eq!(ended.code, 1, "{}", ended.output());
    assert!(ended.output().contains(&first.address().to_string()), "{}", ended.output());
    assert_eq!(first.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn a_start_that_fails_says_why_though_the_log_is_off() {
    let upstream = Upstream::saying("hello");
    let first = Setup::before(&upstream, "").start();
    let tables = integration("acme", &upstream.url("/v1"), "") + "[log]\nlevel = \"off\"\n";
    let second = Setup::new(tables).server(&format!("listen = \"{}\"", first.address()));
    let ended = second.run(&["--config", &second.write().to_string_lossy()]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", ended.output());
    assert!(ended.stderr.contains(&first.address().to_string()), "{}", ended.output());
}

/// A Unix socket whose queue is full, so that whoever connects to it waits; and those that fill it.
fn full(path: &Path) -> (Socket, Vec<Socket>) {
    let unix = || Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket can be had");
    let (listener, at) = (unix(), SockAddr::unix(path).expect("the path is short"));
    listener.bind(&at).and_then(|()| listener.listen(0)).expect("the temporary folder takes a socket");
    let mut queue = Vec::new();
    loop {
        let one = unix();
        one.set_nonblocking(true).expect("a socket can be told not to wait");
        if one.connect(&at).is_err() {
            return (listener, queue);
        }
        queue.push(one);
    }
}

#[test]
fn a_start_that_hangs_heeds_a_stop() {
    let setup = Setup::new(integration("acme", "http://127.0.0.1:9/v1", ""))
        .server("listen = [\"unix:free.sock\", \"unix:full.sock\"]");
    let config = setup.write();
    let _queue = full(&setup.dir().join("full.sock"));
    let begun = setup.begin(&["--config", &config.to_string_lossy()]);
    begun.until_file(&setup.dir().join("free.sock"));
    begun.signal("TERM");
    let ended = begun.end("a start that hangs");
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(ended.stdout.contains("stopped before the start was done"), "{}", ended.output());
}

#[test]
fn console_writes_what_galileo_needs_and_no_secret() {
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"key-SENTINEL\"\n\
               model_properties = [{ name = \"real-model\", alias = \"Nice Name\" }]\ncustom_header_mapping = { job_id = \"X-Corp-Job\" }";
    let setup =
        Setup::new(integration("acme", "http://127.0.0.1:9/v1", key)).server("listen = \"127.0.0.1:4010\"");
    let config = setup.write();
    let ended = setup.run(&["console", "acme", "--config", &config.to_string_lossy()]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    let pasted: Value = serde_json::from_str(&ended.stdout).expect("stdout is one JSON value");
    assert_eq!(pasted["endpoint"], "http://127.0.0.1:4010/acme/v1", "{pasted}");
    assert_eq!(pasted["authentication_type"], "none");
    assert_eq!(pasted["model_properties"][0]["name"], "Nice Name", "a client sends the alias: {pasted}");
    let header = pasted["custom_header_mapping"]["job_id"].as_str().map(str::to_lowercase);
    assert_eq!(header.as_deref(), Some("x-galileo-job-id"), "{pasted}");
    assert!(!ended.output().contains("SENTINEL"));
    let other = setup.run(&[
        "console",
        "acme",
        "--base",
        "http://sidecar:4010",
        "--config",
        &config.to_string_lossy(),
    ]);
    assert!(other.stdout.contains("http://sidecar:4010/acme/v1"), "{}", other.output());
    assert_ne!(setup.run(&["console", "acne", "--config", &config.to_string_lossy()]).code, 0);
}

#[test]
fn the_demo_shows_every_way_through_and_ends() {
    let setup = Setup::new("");
    let ended = setup.run(&["demo", "--once"]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    for words in ["openai", "anthropic"] {
        assert!(ended.stdout.to_lowercase().contains(words), "{}", ended.stdout);
    }
}
