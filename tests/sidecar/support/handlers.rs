//! A sidecar with Python handlers: those of `tests/handlers/`, run by the real litellm.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Answer, Call, Setup, Sidecar, integration, python};

/// The handlers of the tests.
pub(crate) fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handlers")
}

/// The table of an integration whose handler is `class` in `file`; `lines` as in [`integration`].
pub(crate) fn handler(name: &str, file: &str, class: &str, lines: &str) -> String {
    handler_at("http://127.0.0.1:9/base", name, (file, class), lines)
}

/// Likewise, with this endpoint.
pub(crate) fn handler_at(endpoint: &str, name: &str, (file, class): (&str, &str), lines: &str) -> String {
    let config = if lines.contains("custom_llm_config") {
        String::new()
    } else {
        format!("\ncustom_llm_config = {{ file_name = \"{file}\", class_name = \"{class}\" }}")
    };
    integration(name, endpoint, &format!("{lines}{config}"))
}

/// Integrations with handlers, whose files lie in `handlers/` beside the configuration; `keys` are further lines of
/// `[handlers]`. One worker each, where they do not say otherwise.
pub(crate) fn setup(files: &[&str], keys: &str, integrations: &str) -> Setup {
    let (python, mut lines) = (python::interpreter().display().to_string(), keys.to_owned());
    for (key, value) in [
        ("python", format!("\"{python}\"")),
        ("workers", "1".to_owned()),
        ("start_wait", "\"60s\"".to_owned()),
    ] {
        if !keys.lines().any(|line| line.starts_with(&format!("{key} ="))) {
            lines.push_str(&format!("\n{key} = {value}"));
        }
    }
    let tables = format!("[handlers]\nenabled = true\ndirectory = \"handlers\"\n{lines}\n\n{integrations}");
    let setup = Setup::new(tables).server("workers = 1").env("PATH", "/usr/bin:/bin");
    files.iter().fold(setup, |setup, file| {
        let text = std::fs::read_to_string(home().join(file));
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).expect("it names a file");
        setup.file(&format!("handlers/{name}"), &text.expect("the handler is one of the tests'"))
    })
}

/// Starts it and waits until each handler has loaded or has failed to: importing litellm takes seconds.
pub(crate) fn start(setup: Setup) -> Sidecar {
    let sidecar = setup.start();
    let all = sidecar.admin("/integrations").json();
    for one in all["integrations"].as_array().into_iter().flatten() {
        until(&sidecar, one["name"].as_str().unwrap_or_default(), |state| state["state"] != "starting");
    }
    sidecar
}

/// What the admin side says of the handler of `integration`.
pub(crate) fn state(sidecar: &Sidecar, integration: &str) -> Value {
    let all = sidecar.admin("/integrations").json();
    let all = all["integrations"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["name"] == integration).unwrap_or_default()
}

/// Waits until `look` is satisfied with what the admin side says of `integration`; fails loudly if it never is.
pub(crate) fn until(sidecar: &Sidecar, integration: &str, look: impl Fn(&Value) -> bool) -> Value {
    let words = || format!("it stays as {:#}", state(sidecar, integration));
    sidecar.until(words, || Some(state(sidecar, integration)).filter(&look))
}

/// Asks `integration` for a whole answer to `text`.
pub(crate) fn say(sidecar: &Sidecar, integration: &str, text: &str) -> Answer {
    sidecar.ask(&Call::say(&format!("{integration}/m"), text))
}

/// Asks with these fields beside `model` and `messages`.
pub(crate) fn ask_with(sidecar: &Sidecar, integration: &str, fields: Value) -> Answer {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    sidecar.ask(&Call::post(&format!("/{integration}/v1/chat/completions"), body.to_string()))
}
