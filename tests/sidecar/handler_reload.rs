//! A handler's code changes while it serves: a new generation starts beside the old one, which ends its calls.

use crate::support::handlers::{handler, handler_at, say, setup, start, state, until};
use crate::support::launch::mount;
use crate::support::{Call, Sidecar};

/// A handler that answers with `text`, after `before` was run in its method.
fn saying(text: &str, before: &str) -> String {
    format!(
        "import asyncio\nfrom litellm import CustomLLM\n\nclass H(CustomLLM):\n    def __init__(self, more=''):\n        self.more = more\n\n    \
         async def acompletion(self, messages, **kwargs):\n        {before}\n        \
         return {{'choices': [{{'message': {{'content': '{text}' + self.more}}}}]}}\n"
    )
}

fn serve(server: &str, tables: &str, files: &[(&str, &str)]) -> Sidecar {
    let mut setup = setup(&[], "", tables).server(server);
    for (name, text) in files {
        setup = setup.file(&format!("handlers/{name}"), text);
    }
    start(setup)
}

/// Waits until `integration` answers with `text`.
fn until_it_says(sidecar: &Sidecar, integration: &str, text: &str) {
    let end = tokio::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let said = say(sidecar, integration, "hi").content();
        if said == text {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "it still says {said}:\n{}", sidecar.output());
    }
}

#[test]
fn an_edit_takes_effect_at_the_reload_and_a_broken_one_keeps_what_serves() {
    let tables = handler("h", "h.py", "H", "") + &handler("other", "other.py", "H", "");
    let files = [("h.py", &*saying("one", "pass")), ("other.py", &*saying("other", "pass"))];
    let mut sidecar = serve("drain_timeout = \"10s\"", &tables, &files);
    assert_eq!(say(&sidecar, "h", "hi").content(), "one");
    assert_eq!(say(&sidecar, "other", "hi").content(), "other");
    sidecar.put("handlers/h.py", &saying("two", "pass"));
    assert_eq!(say(&sidecar, "h", "hi").content(), "one", "nobody asked for a reload yet");
    sidecar.reload();
    until_it_says(&sidecar, "h", "two");
    assert_eq!(
        state(&sidecar, "other")["handler"]["generation"],
        1,
        "what has not changed keeps its workers"
    );

    sidecar.put("handlers/h.py", "class H(:\n");
    sidecar.reload();
    let stale = until(&sidecar, "h", |state| !state["handler"]["stale"].is_null());
    assert!(stale["handler"]["stale"].to_string().contains("h.py"), "{stale:#}");
    assert_eq!((&stale["state"], say(&sidecar, "h", "hi").content().as_str()), (&"ready".into(), "two"));

    sidecar.rewrite(sidecar_tables(&handler(
        "h",
        "h.py",
        "H",
        "custom_llm_config = { file_name = \"h.py\", class_name = \"H\", init_kwargs = { more = \" more\" } }",
    )));
    sidecar.put("handlers/h.py", &saying("three", "pass"));
    sidecar.reload();
    until_it_says(&sidecar, "h", "three more");
    sidecar.ask(&Call::say("other/m", "hi")).refusal(404, "model_not_found");
}

/// The tables with those of `[handlers]`, as [`setup`] writes them.
fn sidecar_tables(integrations: &str) -> String {
    let python = crate::support::python::interpreter().display();
    format!(
        "[handlers]\nenabled = true\ndirectory = \"handlers\"\npython = \"{python}\"\nworkers = 1\n\n{integrations}"
    )
}

#[test]
fn a_module_that_the_handler_imports_counts_as_its_code() {
    let text =
        saying("x", "import late").replace("'x'", "late.SAYS").replace("import asyncio", "import early");
    let files =
        [("h.py", &*text), ("early.py", "SAYS = 1\n"), ("late.py", "SAYS = 'late one'\n"), ("unused.py", "")];
    let sidecar = serve("", &handler("h", "h.py", "H", ""), &files);
    assert_eq!(say(&sidecar, "h", "hi").content(), "late one");
    let ends_so = |state: &serde_json::Value, name: &str| {
        state["handler"]["files"]
            .as_array()
            .is_some_and(|all| all.iter().any(|f| f.as_str().is_some_and(|f| f.ends_with(name))))
    };
    until(&sidecar, "h", |state| ends_so(state, "/late.py") && ends_so(state, "/early.py"));
    assert!(!ends_so(&state(&sidecar, "h"), "/unused.py"));
    sidecar.put("handlers/late.py", "SAYS = 'late two'\n");
    sidecar.reload();
    until_it_says(&sidecar, "h", "late two");
}

#[test]
fn calls_of_the_old_generation_end_where_they_began() {
    let gate = "while not __import__('os').path.exists(messages[-1]['content']): await asyncio.sleep(0.01)";
    let sidecar = serve("", &handler("h", "h.py", "H", ""), &[("h.py", &saying("old", gate))]);
    let go = sidecar.dir().join("go");
    let mut slow = sidecar.connect();
    slow.send(&Call::say("h/m", &go.display().to_string()));
    until(&sidecar, "h", |state| state["handler"]["in_flight"] == 1);
    sidecar.put("handlers/h.py", &saying("new", "pass"));
    sidecar.reload();
    until(&sidecar, "h", |state| state["handler"]["generation"] == 2);
    assert_eq!(say(&sidecar, "h", "hi").content(), "new");
    sidecar.put("go", "");
    assert_eq!(slow.answer().content(), "old");
    until(&sidecar, "h", |state| state["handler"]["workers"].as_array().is_some_and(|all| all.len() == 1));
}

#[test]
fn the_command_waits_for_a_new_handler_and_a_broken_one_is_exit_3() {
    let tables = handler("h", "h.py", "H", "");
    let setup = setup(&[], "", &tables).admin("listen = \"unix:admin.sock\"");
    let setup = setup.file("handlers/h.py", &saying("one", "pass"));
    let config = setup.write().display().to_string();
    let sidecar = setup.start();
    assert_eq!(say(&sidecar, "h", "hi").content(), "one");
    let run = || sidecar.run(&["reload", "--wait", "--config", &config]);
    sidecar.put("handlers/h.py", &saying("two", "pass"));
    let ended = run();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.output());
    assert_eq!(say(&sidecar, "h", "hi").content(), "two", "it serves once the command has ended");
    sidecar.put("handlers/h.py", "class H(:\n");
    let ended = run();
    assert_eq!(ended.code, 3, "{}", ended.output());
    let words = "error: integration `h` goes on with the handler that it had: ";
    assert!(ended.stderr.starts_with(words) && ended.stderr.contains("h.py"), "{}", ended.stderr);
    assert_eq!(say(&sidecar, "h", "hi").content(), "two");
}

#[test]
fn reloads_under_load_fail_no_call() {
    let sidecar = serve("", &handler("h", "h.py", "H", ""), &[("h.py", &saying("0", "pass"))]);
    say(&sidecar, "h", "hi").content();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = sidecar.connect();
                    for _ in 0..150 {
                        let answer = connection.send(&Call::say("h/m", "hi")).answer();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                })
            })
            .collect();
        for round in 1..=8 {
            sidecar.put("handlers/h.py", &saying(&round.to_string(), "pass"));
            sidecar.reload();
            sidecar.logged("configuration reloaded", round);
        }
        for call in calls {
            call.join().expect("no call failed");
        }
    });
    until_it_says(&sidecar, "h", "8");
}

#[test]
fn a_config_map_that_is_swapped_is_taken_over_by_watching() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let one = saying("one", "import helper").replace("'one'", "helper.SAYS");
    mount(dir.path(), 1, &[("h.py", &one), ("helper.py", "SAYS = 'mounted one'\n")]);
    let tables = sidecar_tables(&handler("h", "h.py", "H", ""))
        .replace("directory = \"handlers\"", &format!("directory = \"{}\"", dir.path().display()));
    let setup = crate::support::Setup::new(tables).server("watch = true\nrotation_interval = \"20ms\"");
    let sidecar = start(setup.env("PATH", "/usr/bin:/bin"));
    assert_eq!(say(&sidecar, "h", "hi").content(), "mounted one");
    mount(dir.path(), 2, &[("h.py", &one), ("helper.py", "SAYS = 'mounted two'\n")]);
    until_it_says(&sidecar, "h", "mounted two");
}

#[test]
fn a_handler_that_could_not_load_is_tried_again_once_its_file_changes() {
    let sidecar =
        serve("rotation_interval = \"20ms\"", &handler("h", "h.py", "H", ""), &[("h.py", "class H(:\n")]);
    say(&sidecar, "h", "hi").refusal(503, "handler_unavailable");
    until(&sidecar, "h", |state| state["state"] == "failed");
    sidecar.put("handlers/h.py", &saying("healed", "pass"));
    until(&sidecar, "h", |state| state["state"] == "ready");
    assert_eq!(say(&sidecar, "h", "hi").content(), "healed");
    let gone = serve("rotation_interval = \"20ms\"", &handler("h", "h.py", "H", ""), &[("x.py", "")]);
    say(&gone, "h", "hi").refusal(503, "integration_unavailable");
    gone.put("handlers/h.py", &saying("here", "pass"));
    until(&gone, "h", |state| state["state"] == "ready");
    assert_eq!(say(&gone, "h", "hi").content(), "here");
}

#[test]
fn a_new_key_is_never_handed_to_workers_of_the_old_endpoint() {
    let text = |broken: &str| {
        format!(
            "{broken}\nfrom litellm import CustomLLM\n\nclass H(CustomLLM):\n    async def acompletion(self, messages, api_base, api_key, **kwargs):\n        \
         return {{'choices': [{{'message': {{'content': f'{{api_base}} {{api_key}}'}}}}]}}\n"
        )
    };
    let table = |host: &str, header: &str, key: &str| {
        let lines = format!(
            "authentication_type = \"api_key\"\napi_key_header = \"{header}\"\napi_key_value = \"{key}\""
        );
        handler_at(&format!("https://{host}.example"), "h", ("h.py", "H"), &lines)
    };
    let mut sidecar = serve("", &table("old", "x-key", "old-key"), &[("h.py", &text(""))]);
    until_it_says(&sidecar, "h", "https://old.example old-key");
    // Meanwhile no call is lost, and each goes with the key that belongs to its endpoint.
    sidecar.rewrite(sidecar_tables(&table("new", "x-other", "new-key")));
    sidecar.put("handlers/h.py", &text("import time; time.sleep(1)"));
    sidecar.reload();
    sidecar.logged("configuration reloaded", 1);
    assert_eq!(say(&sidecar, "h", "hi").content(), "https://new.example new-key");
    sidecar.rewrite(sidecar_tables(&table("third", "x-other", "third-key")));
    sidecar.put("handlers/h.py", "class H(:\n");
    sidecar.reload();
    sidecar.logged("configuration reloaded", 2);
    say(&sidecar, "h", "hi").refusal(503, "handler_unavailable");
    assert!(!sidecar.output().contains("third-key"));
}
