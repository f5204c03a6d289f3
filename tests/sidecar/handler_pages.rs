//! What the pages on handlers say: their examples load and answer, their tables are what the program does.

use std::collections::BTreeSet;
use std::path::Path;

use outrider::config::{Environment, Options, load};
use serde_json::{Value, json};

use crate::support::handlers::{handler_at, setup, state, until};
use crate::support::page::{Page, names, spans, table};
use crate::support::{Answer, Call, Setup, Sidecar, Upstream, integration, python};

const README: Page = Page(include_str!("../../README.md"));
const WRITERS: Page = Page(include_str!("../../handlers/README.md"));
const OPERATORS: Page = Page(include_str!("../../docs/handlers.md"));
const NEEDED: &str = include_str!("../../handlers/requirements.txt");
const WORKER: &str = include_str!("../../handlers/worker.py");
const SETTINGS: &str = include_str!("../../src/config/valid/server.rs");

/// The class of each Python block of a page, and the block.
fn classes(page: Page) -> Vec<(String, String)> {
    let class = |text: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix("class ")?.split('(').next());
        found.expect("each block has one class").to_owned()
    };
    page.blocks("python").into_iter().map(|text| (class(&text), text)).collect()
}

/// Every handler of the writers' page before `upstream`, each as the integration that is called like its class.
fn all_of_them(upstream: &Upstream, keys: &str) -> Setup {
    let classes = classes(WRITERS);
    let tables = classes.iter().map(|(class, _)| {
        let file = format!("{}.py", class.to_lowercase());
        handler_at(&upstream.url("/v2"), &class.to_lowercase(), (&file, class), "")
    });
    let setup = setup(&[], keys, &tables.collect::<String>());
    classes.iter().fold(setup, |setup, (class, text)| {
        setup.file(&format!("handlers/{}.py", class.to_lowercase()), text)
    })
}

fn say(sidecar: &Sidecar, class: &str, text: &str) -> Answer {
    sidecar.ask(&Call::say("m", text).at(&format!("/{class}/v1/chat/completions")))
}

// ---- The page for those who write handlers.

#[test]
fn every_handler_of_the_page_answers_as_it_says() {
    let upstream = Upstream::start(|turn| {
        let question = turn.request.json()["text"].clone();
        turn.answer(200, json!({"text": question}).to_string());
    });
    let sidecar = all_of_them(&upstream, "").start();
    assert_eq!(say(&sidecar, "echo", "hi").content(), "hi");
    assert_eq!(say(&sidecar, "passeson", "hi").content(), "hi");
    assert_eq!(upstream.request().target(), "/v2/ask");
    assert_eq!(say(&sidecar, "words", "one two").content(), "one two ");
    assert_eq!(say(&sidecar, "blocks", "hi").content(), "done");
    let refused = say(&sidecar, "refuses", "hi");
    assert!(refused.refusal(429, "quota_exceeded").contains("the quota of this project is used up"));
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert_eq!(classes(WRITERS).len(), 5, "a handler of the page is not tried");

    let mut stream = sidecar.connect();
    let call = Call::stream("m", "one two").at("/words/v1/chat/completions");
    assert_eq!(stream.send(&call).head().0, 200);
    let data = stream.all_data();
    let chunks = data.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let words: Vec<String> = chunks
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(
        (words, data.last().map(String::as_str)),
        (vec!["one ".into(), "two ".into()], Some("[DONE]"))
    );
}

#[test]
fn the_smallest_handler_is_checked_tried_by_itself_and_asked_past_outrider_as_the_page_says() {
    let upstream = Upstream::saying("nothing");
    let python = python::interpreter().display().to_string();
    let text = WRITERS.blocks("toml").concat();
    let keys = format!("\"custom_llms\"\npython = \"{python}\"\nstart_wait = \"60s\"");
    let text = text.replace("\"/opt/custom_llms\"", &keys);
    let text = text.replace("https://ai.corp.example", &upstream.url(""));
    let (_, echo) = classes(WRITERS).remove(0);
    let setup = Setup::new(text).file("custom_llms/echo.py", &echo);
    // Not in ours, which may be too deep for the path of a socket.
    let tmp = tempfile::tempdir_in("/tmp").expect("a temporary folder can be made");
    let setup = setup.env("TMPDIR", &tmp.path().to_string_lossy());
    let config = setup.write().to_string_lossy().into_owned();

    let shown = WRITERS.blocks("text").concat();
    let ended = setup.run(&["check", &config, "--online"]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    // Python's own version is the machine's.
    let without = |line: &str| line.split(" Python ").next().unwrap_or_default().to_owned();
    assert!(
        ended.stdout.lines().any(|line| without(line) == without(shown.trim_end())),
        "{}",
        ended.output()
    );
    assert!(shown.contains(pinned().trim_start_matches("litellm==")), "{shown}");

    let alone = WRITERS.commands().into_iter().find(|line| line.starts_with("python3 -c "));
    let script = alone.as_deref().and_then(|line| line.split('\'').nth(1)).expect("the page tries it alone");
    let dir = setup.dir().join("custom_llms").display().to_string();
    let ended = python::run(&format!("import sys; sys.path.insert(0, sys.argv[1]); {script}"), &[&dir]);
    assert!(ended.code == 0 && ended.stdout.contains("content='hi'"), "{}", ended.output());

    let attempt = WRITERS.commands().into_iter().find(|line| line.starts_with("outrider try "));
    let attempt = attempt.expect("the page tries it").replace("config.toml", &config);
    let ended = setup.run(&attempt.split(' ').skip(1).collect::<Vec<_>>());
    assert!(ended.code == 0 && ended.stdout.contains("You said: hi"), "{}", ended.output());

    let sidecar = setup.start();
    let curl = Call::post("/echo/v1/chat/completions", body_of("http://127.0.0.1:4010"));
    assert_eq!(sidecar.ask(&curl).content(), "You said: hi");
    let socket = socket_in(tmp.path());
    let mut worker = crate::support::Connection::open_unix(&socket);
    assert!(worker.send(&Call::get("/v1/handlers")).answer().text().contains("\"Echo\""));
    let direct = Call::post("/v1/chat/completions", body_of("'authorization: Bearer test'"));
    assert_eq!(worker.send(&direct).answer().content(), "You said: hi");
}

/// The body of the page's `curl` command that has `words`.
fn body_of(words: &str) -> String {
    let line = WRITERS.commands().into_iter().find(|line| line.starts_with("curl ") && line.contains(words));
    let line = line.expect("the page has such a command");
    line.split(" -d '").nth(1).and_then(|rest| rest.strip_suffix('\'')).expect("it sends a body").to_owned()
}

/// The socket of the first worker, where the page says that it is.
fn socket_in(tmp: &Path) -> std::path::PathBuf {
    let said = WRITERS.commands().into_iter().find(|line| line.ends_with("http://handler/v1/handlers"));
    assert!(said.is_some_and(|line| line.contains("/outrider-run-*/w0.sock ")));
    let run = std::fs::read_dir(tmp).expect("it is there").flatten().map(|entry| entry.path());
    let run = run.into_iter().find(|path| path.to_string_lossy().contains("/outrider-run-"));
    run.expect("Outrider made its directory").join("w0.sock")
}

#[test]
fn what_arrives_is_what_the_worker_hands_over() {
    let given = |name: &str| {
        let (_, rest) = WORKER.split_once(&format!("\n{name}: dict[")).expect("it is there");
        let body = rest.split_once("\n}").map_or(rest, |(body, _)| body);
        let names = body.lines().filter_map(|line| line.strip_prefix("    \"")?.split('"').next());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let rows = table(WRITERS.section("What arrives"), "name");
    let (flat, litellm): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| !row[2].is_empty());
    let fields = ["temperature", "max_tokens", "tools", "stream", "stream_options", "max_completion_tokens"];
    let column = |rows: &[Vec<String>]| {
        let mut names = names(rows);
        names.retain(|name| !fields.contains(&name.as_str()));
        names
    };
    assert_eq!((column(&flat), column(&litellm)), (given("FLAT"), given("LITELLM")));
}

#[test]
fn the_order_of_methods_and_the_environment_are_those_of_the_program() {
    let rows = table(WRITERS.section("Streams"), "the client asks for");
    for (row, name) in rows.iter().zip(["WHOLE", "STREAM"]) {
        let said = spans(&row[1]).iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        assert!(WORKER.contains(&format!("{name} = ({said})")), "{name} = ({said})");
    }
    let passed = SETTINGS.split_once("const PASSED_ON").and_then(|(_, rest)| rest.split_once("];"));
    let passed = passed.expect("they are listed there").0.split('"').skip(1).step_by(2);
    for page in [WRITERS.section("Secrets, environment, files"), OPERATORS.section("Environment and rights")]
    {
        let said: BTreeSet<&str> = spans(page).into_iter().collect();
        for name in passed.clone().filter(|name| *name != name.to_lowercase()) {
            let is_proxy = name.ends_with("_PROXY") && page.contains("the proxy variables");
            assert!(is_proxy || said.contains(name), "{name} is not on the page");
        }
    }
}

// ---- The README and the page for those who run them.

/// The litellm that handlers are tested with.
fn pinned() -> &'static str {
    let line = NEEDED.lines().find(|line| line.starts_with("litellm==")).expect("it is pinned");
    line.split(';').next().unwrap_or_default().trim()
}

#[test]
fn the_readmes_handler_answers_and_is_shown_among_the_integrations() {
    let python = python::interpreter().display().to_string();
    let text = README.blocks("toml").into_iter().find(|block| block.contains("custom_llm_config"));
    let text = text
        .expect("the README has a handler")
        .replace("\"python/bin/python\"", &format!("\"{python}\"\nstart_wait = \"60s\""));
    let sidecar = Setup::new(text).file("custom_llms/echo.py", &README.blocks("python").concat()).start();
    let answer = sidecar.ask(&Call::say("echo-1", "hi").at("/echo/v1/chat/completions"));
    assert_eq!(answer.content(), "You said: hi");
    let shown = until(&sidecar, "echo", |state| state["handler"]["class"] == "Echo");
    assert_eq!((&shown["state"], &shown["handler"]["call_style"]), (&json!("ready"), &json!("direct")));
}

#[test]
fn every_page_names_the_litellm_that_is_tested() {
    for page in [README, OPERATORS] {
        let lines: Vec<_> = page.commands().into_iter().filter(|line| line.contains("pip install")).collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(pinned())), "{lines:?}");
    }
}

/// The handlers' settings of a configuration, as its debug form.
fn settings(lines: &str) -> String {
    let text = format!("[handlers]\n{lines}\n{}", integration("acme", "http://127.0.0.1:9/v1", ""));
    let setup = Setup::new("").file("c.toml", &text);
    let options = Options {
        file: Some("c.toml".into()),
        env: Environment::default(),
        dir: setup.dir().to_owned(),
        ..Options::default()
    };
    format!("{:#?}", load(&options).expect("the configuration is good").settings.handlers)
}

#[test]
fn the_defaults_of_handlers_are_those_of_the_program() {
    let rows = table(README.section("Python handlers"), "`[handlers]`");
    let line = |row: &Vec<String>| {
        let (key, value) = (row[0].trim_matches('`'), row[1].trim_matches('`'));
        let bare = ["false", "[]"].contains(&value) || value.bytes().all(|byte| byte.is_ascii_digit());
        if bare { format!("{key} = {value}\n") } else { format!("{key} = \"{value}\"\n") }
    };
    assert_eq!(settings(&rows.iter().map(line).collect::<String>()), settings(""));
    let raw = include_str!("../../src/config/raw/tables.rs");
    let keys = raw.split_once("\n    Handlers {").and_then(|(_, rest)| rest.split_once("\n    }"));
    let keys =
        keys.expect("the keys are there").0.lines().map(str::trim).filter(|line| !line.starts_with('/'));
    let key = |line: &str| Some(line.split_once(": ")?.0.to_owned());
    assert_eq!(names(&rows), keys.filter_map(key).collect::<BTreeSet<_>>());
}

#[test]
fn the_causes_and_the_metrics_are_exactly_those_of_a_running_handler() {
    let upstream = Upstream::start(|turn| turn.answer(200, "{\"text\": \"hello\"}"));
    let sidecar = all_of_them(&upstream, "egress = true").start();
    assert_eq!(say(&sidecar, "passeson", "hi").content(), "hello");
    say(&sidecar, "echo", "hi").content();
    let text = sidecar.admin("/metrics").text().to_owned();
    let metrics = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let metrics = metrics.filter(|(name, _)| name.starts_with("outrider_handler_"));
    let name = |(name, kind): (&str, &str)| {
        if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
    };
    let shown = OPERATORS.section("What can be seen");
    assert_eq!(names(&table(shown, "metric")), metrics.map(name).collect::<BTreeSet<_>>());

    let state = state(&sidecar, "echo");
    let causes = state["handler"]["restarts"].as_object().expect("restarts are told by cause");
    let causes: BTreeSet<String> = causes.keys().cloned().collect();
    assert_eq!(names(&table(OPERATORS.section("What ends a worker"), "cause")), causes);
}
