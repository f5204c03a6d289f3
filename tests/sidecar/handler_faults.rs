//! What a bad handler can do to us: its own calls fail in words, its worker is replaced, and nobody else notices.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use crate::support::handlers::{handler, say, setup, start, state, until};
use crate::support::{Call, PATIENCE, Setup, Sidecar, Upstream, integration, python};

/// A sidecar with the handler that does what it is told, asynchronous as `bad` and synchronous as `sync`.
fn bad(keys: &str) -> Sidecar {
    let tables = handler("bad", "bad.py", "Handler", "") + &handler("sync", "bad.py", "Synchronous", "");
    start(setup(&["bad.py"], keys, &tables))
}

/// The process that answers; whatever is no word of its language it echoes with its id.
fn pid(sidecar: &Sidecar, integration: &str) -> String {
    let answer = say(sidecar, integration, "who").content();
    answer.split(' ').next().unwrap_or_default().to_owned()
}

fn restarts(sidecar: &Sidecar, integration: &str, cause: &str) -> f64 {
    let line = format!("outrider_handler_restarts_total{{integration=\"{integration}\",cause=\"{cause}\"}}");
    sidecar.metric(&line).unwrap_or_default()
}

/// Waits until the process `pid` has ended, whether or not anybody has asked for it yet.
fn until_gone(pid: &str) {
    let number = pid.parse().ok().and_then(Pid::from_raw).expect("a process has a number");
    // It becomes readable at the end (pidfd_open(2)).
    let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return };
    let limit = Timespec::try_from(PATIENCE).expect("it is a time");
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    assert_eq!(ended, Ok(1), "process {pid} is still there");
}

#[test]
fn a_worker_that_ends_fails_its_calls_in_words_and_is_replaced() {
    let sidecar = bad("");
    let mut before = pid(&sidecar, "bad");
    for (word, how) in
        [("exit 9", "code 9"), ("segfault", "signal 11"), ("kill 9", "signal 9"), ("abort", "signal 6")]
    {
        let message = say(&sidecar, "bad", word).refusal(502, "handler_crashed");
        assert!(message.contains("`bad`") && message.contains(how), "{message}");
        let now = pid(&sidecar, "bad");
        assert_ne!(now, before, "{word}");
        before = now;
    }
    assert_eq!(restarts(&sidecar, "bad", "crash"), 4.0);
    assert_eq!(restarts(&sidecar, "sync", "crash"), 0.0);
    let mut stream = sidecar.connect();
    assert_eq!(stream.send(&Call::stream("bad/m", "exit 1")).head().0, 200);
    let data = stream.all_data();
    assert!(data.last().is_some_and(|last| last.contains("handler_crashed")), "{data:?}");
    assert!(!data.contains(&"[DONE]".to_owned()), "{data:?}");
}

#[test]
fn a_call_that_takes_too_long_is_a_504_and_a_worker_that_is_blocked_is_replaced() {
    // What is answered must be within it too, on whatever machine.
    let sidecar = bad("request_timeout = \"3s\"");
    let before = pid(&sidecar, "bad");
    say(&sidecar, "bad", "hang 600").refusal(504, "handler_timeout");
    assert_eq!(say(&sidecar, "bad", "done").content(), "['cancelled']");
    assert_eq!(pid(&sidecar, "bad"), before, "a call that can be cancelled costs no worker");
    for word in ["block 600", "spin 600"] {
        let before = pid(&sidecar, "bad");
        say(&sidecar, "bad", word).refusal(504, "handler_timeout");
        assert_ne!(pid(&sidecar, "bad"), before, "{word}");
    }
    assert_eq!(restarts(&sidecar, "bad", "hang"), 2.0);
    let log = sidecar.output();
    assert!(log.contains("in spin") && log.contains("bad.py"), "the stacks are not in the log:\n{log}");
}

#[test]
fn one_blocked_worker_of_two_leaves_the_other_to_serve() {
    let sidecar = bad("workers = 2\nrequest_timeout = \"3s\"");
    until(&sidecar, "bad", |state| {
        state["handler"]["workers"]
            .as_array()
            .is_some_and(|all| all.iter().filter(|one| one["state"] == "ready").count() == 2)
    });
    let mut blocked = sidecar.connect();
    blocked.send(&Call::say("bad/m", "block 600"));
    until(&sidecar, "bad", |state| {
        state["handler"]["workers"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["state"] == "blocked"))
    });
    for _ in 0..4 {
        say(&sidecar, "bad", "who").content();
    }
    blocked.answer().refusal(504, "handler_timeout");
}

#[test]
fn a_worker_that_takes_too_much_memory_is_replaced() {
    let sidecar = bad("memory = \"100MiB\"");
    let before = pid(&sidecar, "bad");
    // It may be caught before or after it has answered.
    let status = say(&sidecar, "bad", "hog 300").status;
    assert!([200, 502].contains(&status), "{status}");
    until(&sidecar, "bad", |state| state["handler"]["restarts"]["memory"] == 1);
    assert_ne!(pid(&sidecar, "bad"), before);
    assert!(sidecar.output().contains("memory"), "{}", sidecar.output());
}

#[test]
fn what_a_handler_writes_to_its_descriptors_harms_nobody_but_itself() {
    let sidecar = bad("");
    for word in [
        "print 2000",
        "long-line 300000",
        "close-output",
        "close-fds",
        "garbage 100",
        "fork 1",
        "fork-and-return",
        "thread 1",
        "leave-directory",
        "recurse",
    ] {
        for integration in ["bad", "sync"] {
            let answer = say(&sidecar, integration, word);
            assert!([200, 500, 502].contains(&answer.status), "{word}: {} {}", answer.status, answer.text());
            for _ in 0..3 {
                say(&sidecar, integration, "who").content();
            }
        }
    }
    sidecar.log_line("what a handler printed", |line| {
        let text = line.to_string();
        text.contains("line 1") && text.contains("bad") && !text.contains("\"line 1\\n")
    });
}

#[test]
fn no_process_outlives_a_sidecar_that_was_killed_or_stopped() {
    for signal in ["KILL", "TERM"] {
        let mut sidecar = bad("");
        let (worker, child) = (pid(&sidecar, "bad"), say(&sidecar, "bad", "child 600").content());
        let blocked = pid(&sidecar, "sync");
        let mut stuck = sidecar.connect();
        stuck.send(&Call::say("sync/m", "spin 600"));
        until(&sidecar, "sync", |state| state["handler"]["in_flight"] == 1);
        sidecar.kill_with(signal);
        drop(stuck);
        sidecar.wait();
        for pid in [worker, child, blocked] {
            until_gone(&pid);
        }
    }
}

#[test]
fn every_process_may_be_killed_and_the_next_calls_are_answered() {
    let sidecar = bad("");
    let worker = pid(&sidecar, "bad");
    let zygote = std::fs::read_to_string(format!("/proc/{worker}/stat")).expect("it runs");
    let zygote = zygote
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(1))
        .expect("it has a parent")
        .to_owned();
    // The worker goes on without its zygote, and another one is there when it must be replaced.
    kill(&zygote);
    until_gone(&zygote);
    assert_eq!(pid(&sidecar, "bad"), worker);
    kill(&worker);
    // A call that was written to it before its sockets were closed could not be asked again.
    until(&sidecar, "bad", |state| state["handler"]["restarts"]["crash"] == 1);
    let answer = say(&sidecar, "bad", "who");
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), sidecar.output());
    assert!(!answer.content().starts_with(&worker));
}

fn kill(pid: &str) {
    signal(pid, "KILL");
}

fn signal(pid: &str, name: &str) {
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "{pid} cannot be sent {name}");
}

#[test]
fn a_call_that_a_process_had_not_taken_when_it_died_waits_for_no_other_longer_than_for_a_start() {
    let sidecar = bad("start_wait = \"1s\"\nrequest_timeout = \"5s\"");
    let state = until(&sidecar, "bad", |state| state["state"] == "ready");
    let worker = state["handler"]["workers"][0]["pid"].to_string();
    // It takes nothing any more, and nobody knows yet.
    signal(&worker, "STOP");
    let mut call = sidecar.connect();
    call.send(&Call::say("bad/m", "who"));
    until(&sidecar, "bad", |state| state["handler"]["in_flight"] == 1 || state["handler"]["waiting"] == 1);
    sidecar.put("handlers/bad.py", "import time\ntime.sleep(600)\n");
    kill(&worker);
    let message = call.answer().refusal(503, "handler_unavailable");
    assert!(message.contains("still starting"), "{message}");
}

#[test]
fn a_client_that_leaves_cancels_its_call() {
    let sidecar = bad("");
    let tells = |question: &str, what: &str| {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !say(&sidecar, "bad", question).content().contains(what) {
            assert!(
                tokio::time::Instant::now() < end,
                "the handler never said that it had {question}: {what}"
            );
        }
    };
    let hangs = (Call::say("bad/m", "hang 600"), "hang", "cancelled");
    for (call, begun, done) in [hangs, (Call::stream("bad/m", "endless"), "stream", "closed")] {
        let mut connection = sidecar.connect();
        connection.send(&call);
        // A call that has not reached the handler yet has nothing to be told.
        tells("begun", begun);
        drop(connection);
        until(&sidecar, "bad", |state| state["handler"]["in_flight"] == 0);
        tells("done", done);
    }
}

#[test]
fn a_worker_that_has_served_enough_is_replaced_without_a_failed_call() {
    let sidecar = bad("max_requests = 5");
    let mut pids = std::collections::BTreeSet::new();
    let mut calls = 0;
    while pids.len() < 3 {
        pids.insert(pid(&sidecar, "bad"));
        calls += 1;
        assert!(calls < 50_000, "{pids:?}");
    }
    assert!(restarts(&sidecar, "bad", "max_requests") >= 2.0);
}

#[test]
fn a_handler_that_does_not_load_fails_its_integration_alone_and_says_why() {
    let broken = [
        ("module", "missing_module.py", "Handler", "no_such_package"),
        ("name", "missing_name.py", "Handler", "undefined_name"),
        ("syntax", "syntax.py", "Handler", "syntax.py"),
        ("class", "other_class.py", "Handler", "First"),
        ("plain", "other_class.py", "Plain", "CustomLLM"),
        ("wants", "constructor.py", "Wants", "region"),
        ("raises", "constructor.py", "Raises", "cannot log in"),
        ("exits", "exits.py", "Handler", "no configuration found"),
        ("dies", "dies.py", "Handler", "9"),
        ("unknown", "signatures.py", "RequiredUnknown", "tenant"),
    ];
    let mut files: Vec<String> = broken
        .iter()
        .map(
            |(_, file, ..)| {
                if *file == "signatures.py" { (*file).to_owned() } else { format!("broken/{file}") }
            },
        )
        .collect();
    files.extend(["broken/broken_helper.py".to_owned(), "bad.py".to_owned()]);
    files.dedup();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let mut tables = handler("bad", "bad.py", "Handler", "");
    for (name, file, class, _) in broken {
        tables += &handler(name, file, class, "");
    }
    let sidecar = start(setup(&files, "", &tables));
    say(&sidecar, "bad", "who").content();
    for (name, _, _, why) in broken {
        let answer = say(&sidecar, name, "hi");
        let message = answer.refusal(503, "handler_unavailable");
        assert!(
            message.contains(name) && !message.contains("Traceback") && !message.contains(".py"),
            "{message}"
        );
        let failed = until(&sidecar, name, |state| state["state"] == "failed");
        let remedy = failed["remedy"].as_str().unwrap_or_default().to_owned();
        assert!(remedy.contains(why), "{name}: {remedy}");
        assert_eq!(
            sidecar.metric(&format!("outrider_integration_ready{{integration=\"{name}\"}}")),
            Some(0.0)
        );
    }
    assert_eq!(sidecar.admin("/readyz").status, 200);
    say(&sidecar, "bad", "who").content();
}

#[test]
fn a_handler_that_cannot_be_started_again_is_not_counted_as_ready() {
    let table = handler("h", "while_down.py", "Handler", "");
    let sidecar = start(setup(&["broken/while_down.py"], "", &table));
    let ready = "outrider_integration_ready{integration=\"h\"}";
    assert_eq!((say(&sidecar, "h", "hi").content().as_str(), sidecar.metric(ready)), ("ok", Some(1.0)));
    sidecar.put("handlers/down", "");
    say(&sidecar, "h", "exit").refusal(502, "handler_crashed");
    until(&sidecar, "h", |state| state["handler"]["restarts"]["load"] != 0);
    assert_eq!((&state(&sidecar, "h")["state"], sidecar.metric(ready)), (&"starting".into(), Some(0.0)));
    std::fs::remove_file(sidecar.dir().join("handlers/down")).unwrap();
    until(&sidecar, "h", |state| state["state"] == "ready");
    assert_eq!(sidecar.metric(ready), Some(1.0));
}

#[test]
fn a_handler_that_is_slow_to_load_makes_requests_wait_and_then_fails() {
    let keys = "start_timeout = \"30s\"\nstart_wait = \"100ms\"";
    let sidecar = setup(&["broken/hangs.py"], keys, &handler("slow", "hangs.py", "Handler", "")).start();
    let answer = say(&sidecar, "slow", "hi");
    answer.refusal(503, "handler_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let failed = until(&sidecar, "slow", |state| state["handler"]["restarts"]["start_timeout"] != 0);
    assert!(
        failed["handler"]["trouble"].as_str().is_some_and(|why| why.contains("start_timeout")),
        "{failed:#}"
    );
}

/// An interpreter that finds no installed packages.
fn bare_python(setup: Setup) -> Setup {
    let python = python::interpreter().display().to_string();
    let setup = setup.file("bare-python", &format!("#!/bin/sh\nexec {python} -S -E \"$@\"\n"));
    let path = setup.dir().join("bare-python");
    let made =
        std::process::Command::new("sh").args(["-c", &format!("chmod +x {}", path.display())]).status();
    assert!(made.is_ok_and(|status| status.success()));
    setup
}

#[test]
fn without_litellm_only_handlers_fail_and_the_interpreter_and_the_command_are_named() {
    let upstream = Upstream::saying("hello");
    let tables = handler("bad", "bad.py", "Handler", "") + &integration("acme", &upstream.url("/v1"), "");
    let sidecar = bare_python(setup(&["bad.py"], "python = \"./bare-python\"", &tables)).start();
    say(&sidecar, "bad", "hi").refusal(503, "handler_unavailable");
    let remedy = until(&sidecar, "bad", |state| state["state"] == "failed")["remedy"].to_string();
    assert!(remedy.contains("litellm is not installed") && remedy.contains("-m pip install"), "{remedy}");
    assert_eq!(say(&sidecar, "acme", "hi").content(), "hello");
    let none =
        setup(&["bad.py"], "python = \"no-such-python\"", &handler("bad", "bad.py", "Handler", "")).start();
    say(&none, "bad", "hi").refusal(503, "handler_unavailable");
    let remedy = until(&none, "bad", |state| state["state"] == "failed")["remedy"].to_string();
    assert!(remedy.contains("no-such-python"), "{remedy}");
}

#[test]
fn handlers_that_are_not_enabled_or_not_where_they_should_be_fail_in_words() {
    let table = handler("h", "bad.py", "Handler", "");
    let off = Setup::new(format!("[handlers]\ndirectory = \"handlers\"\n{table}")).start();
    let message = say(&off, "h", "hi").refusal(503, "integration_unavailable");
    assert!(message.contains("GALILEO_CUSTOM_LLMS_ENABLED"), "{message}");
    let gone = setup(&[], "", &table).start();
    let message = say(&gone, "h", "hi").refusal(503, "integration_unavailable");
    assert!(message.contains("handlers.directory"), "{message}");
}

#[test]
fn the_environment_is_withheld_but_for_what_is_named() {
    let keys = "env = [\"CORP_REGION\"]";
    let setup = setup(&["bad.py"], keys, &handler("bad", "bad.py", "Handler", ""));
    let sidecar = start(setup.env("CORP_REGION", "eu").env("CORP_PASSWORD", "s3cret"));
    let seen = say(&sidecar, "bad", "environment").content();
    assert!(seen.contains("'CORP_REGION'") && seen.contains("'PATH'"), "{seen}");
    assert!(!seen.contains("CORP_PASSWORD"), "{seen}");
}

#[test]
fn a_strict_start_waits_for_handlers_and_stops_where_one_does_not_load() {
    let broken = handler("broken", "syntax.py", "Handler", "");
    let setup_of =
        |tables: &str| setup(&["bad.py", "broken/syntax.py"], "", tables).server("start = \"strict\"");
    let ended = {
        let setup = setup_of(&broken);
        let config = setup.write();
        setup.run(&["--config", &config.to_string_lossy()])
    };
    assert_ne!(ended.code, 0);
    assert!(ended.output().contains("syntax.py"), "{}", ended.output());
    let sidecar = setup_of(&handler("bad", "bad.py", "Handler", "")).start();
    assert_eq!(state(&sidecar, "bad")["state"], Value::from("ready"));
}

/// A handler whose file writes `began` beside it when it is loaded, and goes on once there is `go`.
const LATE: &str = "import time
from pathlib import Path

from litellm import CustomLLM

Path(__file__).with_name('began').touch()
while not Path(__file__).with_name('go').exists():
    time.sleep(0.02)


class Handler(CustomLLM):
    async def acompletion(self, *args, **kwargs):
        pass
";

#[test]
fn a_strict_start_that_waits_for_handlers_heeds_a_stop_and_remembers_a_reload() {
    let setup = setup(&[], "", &handler("late", "late.py", "Handler", ""))
        .file("handlers/late.py", LATE)
        .server("start = \"strict\"");
    let config = setup.write();
    let waiting = |signal: &str| {
        let begun = setup.begin(&["--config", &config.to_string_lossy()]);
        begun.until_file(&setup.dir().join("handlers/began"));
        begun.signal(signal);
        begun
    };
    let ended = waiting("TERM").end("a start that is told to stop");
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(ended.stdout.contains("stopped before the start was done"), "{}", ended.output());
    std::fs::remove_file(setup.dir().join("handlers/began")).expect("the handler has written it");
    let reloaded = waiting("HUP");
    std::fs::write(setup.dir().join("handlers/go"), "").expect("the temporary folder can be written");
    reloaded.logged("listening");
    reloaded.logged("configuration reloaded");
    reloaded.signal("TERM");
    assert_eq!(reloaded.end("a sidecar that was reloaded").code, 0);
}
