//! Reload: a transaction, by signal, by watching, and by `outrider reload --wait`.

use serde_json::{Value, json};

use crate::support::launch::mount;
use crate::support::{Call, Connection, Gate, Setup, Sidecar, TokenServer, Upstream, integration};

const RELOADED: &str = "configuration reloaded";
const REFUSED: &str = "reload refused";
const WATCH: &str = "watch = true\nrotation_interval = \"20ms\"";
const SOCKET: &str = "listen = \"unix:admin.sock\"";

fn is_reload(line: &Value) -> bool {
    line["message"].as_str() == Some(RELOADED)
}

#[test]
fn a_reload_is_one_line_that_says_what_it_did_and_what_needs_a_restart() {
    let upstream = Upstream::saying("hello");
    let url = upstream.url("/v1");
    let three = ["same", "changed", "removed"].map(|name| integration(name, &url, "")).concat();
    let mut sidecar = Setup::new(three).start();
    let tables = integration("same", &url, "")
        + &integration("changed", &url, "drop = [\"user\"]")
        + &integration("added", &url, "")
        + "[log]\naccess = false\n";
    sidecar.rewrite(tables);
    sidecar.reload();
    let line = sidecar.log_line("the reload", is_reload);
    assert_eq!((&line["generation"], &line["unchanged"]), (&2.into(), &1.into()), "{line}");
    for (key, name) in [
        ("added", "added"),
        ("changed", "changed"),
        ("removed", "removed"),
        ("restart_needed_for", "log.access"),
    ] {
        assert_eq!(line[key], json!([name]), "{line}");
    }
    assert_eq!((&line["failed"], &line["stale"]), (&json!([]), &json!([])), "{line}");
    assert_eq!(sidecar.metric("outrider_config_generation"), Some(2.0));
    assert_eq!(sidecar.metric("outrider_config_reloads_total{result=\"taken\"}"), Some(1.0));
}

#[test]
fn a_refused_reload_changes_nothing_tells_every_problem_and_shows_in_metrics() {
    let upstream = Upstream::saying("hello");
    let mut sidecar = Setup::before(&upstream, "").start();
    assert_eq!(sidecar.metric("outrider_config_last_reload_successful"), Some(1.0));
    sidecar.rewrite(
        integration("acme", "ftp://nowhere", "endpoit = 1") + &integration("new", &upstream.url("/v1"), ""),
    );
    sidecar.reload();
    sidecar.logged(REFUSED, 1);
    for words in ["endpoit", "must begin with https://"] {
        assert!(sidecar.output().contains(words), "{words} is not told:\n{}", sidecar.output());
    }
    assert_eq!(sidecar.metric("outrider_config_last_reload_successful"), Some(0.0));
    assert_eq!(sidecar.metric("outrider_config_generation"), Some(1.0));
    let state = sidecar.admin("/integrations").json();
    assert_eq!(
        (&state["config"]["last_reload"]["ok"], &state["config"]["last_reload"]["problems"]),
        (&false.into(), &2.into())
    );
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    sidecar.ask(&Call::say("new/m", "hi")).refusal(404, "model_not_found");
    sidecar.rewrite(integration("acme", &upstream.url("/v1"), ""));
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.metric("outrider_config_last_reload_successful"), Some(1.0));
}

#[test]
fn what_a_reload_leaves_alone_keeps_its_token_and_its_connection() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret_file = \"secret\" }}",
        server.url()
    );
    let kept = integration("kept", &upstream.url("/v1"), &oauth);
    // One worker has one pool: otherwise a second connection could be another worker's.
    let mut sidecar = Setup::new(kept.clone()).server("workers = 1").file("secret", "s").start();
    sidecar.ask(&Call::say("kept/m", "hi")).content();
    for round in 1..=3 {
        sidecar.rewrite(kept.clone() + &integration(&format!("more{round}"), "http://127.0.0.1:9/v1", ""));
        sidecar.reload();
        sidecar.logged(RELOADED, round);
        sidecar.ask(&Call::say("kept/m", "hi")).content();
    }
    assert_eq!((server.calls(), upstream.connections(), upstream.count()), (1, 1, 4));
}

#[test]
fn the_caller_key_the_longest_body_and_the_log_level_change_without_a_restart() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let path = sidecar.dir().join("config.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let text = text.replace("[server]\n", "[server]\napi_key = \"let-me-in\"\nmax_body = 200\n");
    sidecar.put("config.toml", &(text + "[log]\nlevel = \"error\"\n"));
    sidecar.reload();
    let key = |call: Call| call.header("authorization", "Bearer let-me-in");
    // The line itself is no longer written at this level: what it did is to be seen.
    let mut turns = 0;
    while sidecar.metric("outrider_config_generation") != Some(2.0) {
        turns += 1;
        assert!(turns < 100_000, "the reload was not taken");
    }
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).status, 401);
    assert_eq!(sidecar.ask(&key(Call::say("m", "hi"))).content(), "hello");
    sidecar.ask(&key(Call::say("m", &"x".repeat(300)))).refusal(413, "body_too_large");
    assert!(!sidecar.output().contains(RELOADED));
}

/// Galileo's definition of an integration behind `upstream`.
fn definition(upstream: &Upstream, model: &str) -> String {
    serde_json::json!({"endpoint": upstream.url("/v1"), "authentication_type": "none", "models": [model]})
        .to_string()
}

#[test]
fn a_watched_directory_is_taken_over_at_kubernetes_swap_and_a_half_written_file_is_not() {
    let upstream = Upstream::saying("hello");
    let (one, two) = (definition(&upstream, "m1"), definition(&upstream, "m2"));
    let setup = Setup::new("integrations_dir = \"mounted\"\n").server(WATCH).file("mounted/README", "x");
    let mounted = setup.dir().join("mounted");
    mount(&mounted, 1, &[("acme.json", &one)]);
    let sidecar = setup.start();
    assert_eq!(sidecar.ask(&Call::say("m1", "hi")).content(), "hello");
    mount(&mounted, 2, &[("acme.json", &two)]);
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.ask(&Call::say("m2", "hi")).content(), "hello");
    let half = &one[..one.len() / 2];
    mount(&mounted, 3, &[("acme.json", &two), ("beta.json", half)]);
    sidecar.logged(REFUSED, 1);
    assert_eq!(sidecar.ask(&Call::say("m2", "hi")).content(), "hello");
    mount(&mounted, 4, &[("acme.json", &two), ("beta.json", &one)]);
    sidecar.logged(RELOADED, 2);
    assert_eq!(sidecar.ask(&Call::say("beta/m1", "hi")).content(), "hello");
    assert_eq!(sidecar.output().matches(REFUSED).count(), 1, "a bad file is told once");
}

#[test]
fn a_watched_file_that_is_only_touched_or_put_back_reloads_nothing_more() {
    let upstream = Upstream::saying("hello");
    let mut sidecar = Setup::before(&upstream, "").server(WATCH).start();
    sidecar.rewrite(integration("acme", &upstream.url("/v1"), ""));
    sidecar.rewrite("[integrations.acme]\nendpoit = 1\n");
    sidecar.logged(REFUSED, 1);
    sidecar.rewrite(integration("acme", &upstream.url("/v1"), ""));
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.metric("outrider_config_last_reload_successful"), Some(1.0));
    sidecar.rewrite(integration("beta", &upstream.url("/v1"), ""));
    sidecar.logged(RELOADED, 2);
    assert_eq!(sidecar.metric("outrider_config_generation"), Some(3.0));
}

#[test]
fn the_command_waits_until_a_reload_is_taken_or_tells_why_it_is_refused() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").admin(SOCKET);
    let config = setup.write().display().to_string();
    let ended = setup.run(&["reload", "--wait", "--config", &config]);
    assert_eq!(ended.code, 1, "nobody runs: {}", ended.output());
    let mut sidecar = setup.start();
    let run = |sidecar: &Sidecar| sidecar.run(&["reload", "--wait", "--config", &config]);
    let ended = run(&sidecar);
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(ended.stdout.contains("generation 2"), "{}", ended.output());
    sidecar.rewrite(
        integration("acme", &upstream.url("/v1"), "") + &integration("beta", &upstream.url("/v1"), ""),
    );
    assert_eq!(run(&sidecar).code, 0);
    assert_eq!(sidecar.ask(&Call::say("beta/m", "hi")).content(), "hello");
    sidecar.rewrite("[integrations.acme]\nendpoit = 1\n");
    let ended = run(&sidecar);
    assert_eq!(ended.code, 78, "{}", ended.output());
    assert!(ended.stderr.contains("endpoit"), "{}", ended.output());
    assert_eq!(sidecar.ask(&Call::say("beta/m", "hi")).content(), "hello");
    let get =
        Connection::open_unix(&sidecar.dir().join("admin.sock")).send(&Call::get("/integrations")).answer();
    assert_eq!(get.json()["generation"], 3);
}

#[test]
fn a_reload_that_fails_an_integration_or_leaves_one_stale_is_exit_3_with_its_name() {
    let upstream = Upstream::saying("hello");
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = ";
    let of = |name: &str, file: &str| integration(name, &upstream.url("/v1"), &format!("{key}\"{file}\""));
    let setup = Setup::new(of("acme", "key")).file("key", "k").admin(SOCKET);
    let config = setup.write().display().to_string();
    let mut sidecar = setup.start();
    let run = |sidecar: &Sidecar| sidecar.run(&["reload", "--wait", "--config", &config]);
    sidecar.rewrite(of("acme", "key") + &of("beta", "no-such-key"));
    let ended = run(&sidecar);
    assert_eq!(ended.code, 3, "{}", ended.output());
    assert!(ended.stdout.contains("generation 2"), "{}", ended.output());
    assert!(
        ended.stderr.contains("error: integration `beta` cannot serve: api_key_value_file"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("error: integration `acme`"), "{}", ended.stderr);

    std::fs::remove_file(sidecar.dir().join("key")).expect("it is there");
    sidecar.rewrite(of("acme", "key"));
    let ended = run(&sidecar);
    assert_eq!(ended.code, 3, "{}", ended.output());
    assert!(
        ended.stderr.contains("error: integration `acme` goes on with its old files: "),
        "{}",
        ended.stderr
    );
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");

    sidecar.put("key", "k");
    let ended = run(&sidecar);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.output());
}

#[test]
fn keys_that_wait_for_a_restart_are_named_and_are_no_failure() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").admin(SOCKET);
    let config = setup.write().display().to_string();
    let mut sidecar = setup.start();
    sidecar.rewrite(integration("acme", &upstream.url("/v1"), "") + "[log]\naccess = false\n");
    let ended = sidecar.run(&["reload", "--wait", "--config", &config]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    assert!(ended.stderr.starts_with("warning: a restart is needed for `log.access`"), "{}", ended.stderr);
}

#[test]
fn a_reload_that_only_the_running_process_refuses_is_exit_78_with_its_words() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").admin(SOCKET);
    let config = setup.write().display().to_string();
    let mut sidecar = setup.start();
    // The command has the variable, the process has not.
    sidecar.rewrite(integration("acme", &upstream.url("/v1"), "headers = { x-a = \"${ONLY_HERE}\" }"));
    let ended = sidecar.run_with(&["reload", "--wait", "--config", &config], ("ONLY_HERE", "1"));
    assert_eq!(ended.code, 78, "{}", ended.output());
    assert!(ended.stderr.contains("ONLY_HERE"), "{}", ended.output());
}

#[test]
fn a_reload_with_a_broken_key_of_callers_is_refused_and_the_old_one_stays() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").server("api_key_file = \"caller\"").admin(SOCKET);
    let setup = setup.file("caller", "old-key");
    let config = setup.write().display().to_string();
    let sidecar = setup.start();
    let run = || sidecar.run(&["reload", "--wait", "--config", &config]);
    let ask = |key: &str| {
        sidecar.ask(&Call::say("m", "hi").header("authorization", &format!("Bearer {key}"))).status
    };
    sidecar.put("caller", "");
    let ended = run();
    assert_eq!(ended.code, 78, "{}", ended.output());
    assert!(ended.stderr.contains("server.api_key_file"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the running configuration stays"), "{}", ended.stderr);
    assert_eq!(ask("old-key"), 200);
    sidecar.put("caller", "new-key");
    let ended = run();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.output());
    assert_eq!((ask("old-key"), ask("new-key")), (401, 200));
}

#[test]
fn a_restart_that_would_fail_is_exit_3_and_what_runs_is_left_alone() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").admin(SOCKET);
    let path = setup.write();
    let config = path.display().to_string();
    let sidecar = setup.start();
    let text = std::fs::read_to_string(&path).expect("it was written");
    let tls = "[server]\ntls = { cert_file = \"gone.crt\", key_file = \"gone.key\" }";
    std::fs::write(&path, text.replace("[server]", tls)).expect("it can be written");
    let ended = sidecar.run(&["reload", "--wait", "--config", &config]);
    assert_eq!(ended.code, 3, "{}", ended.output());
    assert!(ended.stderr.contains("error: server.tls: `key_file`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("a restart would fail"), "{}", ended.stderr);
    assert!(ended.stderr.contains("a restart is needed for `server.tls`"), "{}", ended.stderr);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn a_strict_start_shows_everything_that_check_would() {
    let upstream = Upstream::saying("hello");
    let tls = "token_tls = { ca_file = \"no-such-ca\" }";
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"";
    let tables =
        integration("one", &upstream.url("/v1"), tls) + &integration("two", &upstream.url("/v1"), key);
    let setup = Setup::new(tables).server("start = \"strict\"");
    let config = setup.write().display().to_string();
    let ended = setup.run(&["--config", &config]);
    assert_eq!(ended.code, 78, "{}", ended.output());
    for words in ["no-such-ca", "api_key_value_file"] {
        assert!(ended.output().contains(words), "{}", ended.output());
    }
}

#[test]
fn a_change_of_settings_that_the_world_fails_stands_with_its_remedy() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        turn.open_stream();
        turn.delta("one");
        held.wait();
        turn.done();
    });
    let mut sidecar = Setup::before(&upstream, "").start();
    let mut stream = sidecar.connect();
    stream.send(&Call::stream("m", "hi")).head();
    stream.data();
    let key =
        "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"no-such-key\"";
    sidecar.rewrite(integration("acme", &upstream.url("/v1"), key));
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(503, "integration_unavailable");
    assert!(message.contains("api_key_value_file"), "{message}");
    gate.open();
    assert_eq!(
        stream.all_data().last().map(String::as_str),
        Some("[DONE]"),
        "what had begun runs to its end"
    );
}

#[test]
fn a_watched_file_that_is_written_in_place_is_never_taken_while_it_is_cut_off() {
    let upstream = Upstream::saying("hello");
    let mut sidecar = Setup::before(&upstream, "").server(WATCH).start();
    for round in 1..=12 {
        let comment = format!("# {round}\n");
        sidecar.rewrite(comment.clone() + &integration("acme", &upstream.url("/v1"), ""));
        sidecar.logged(RELOADED, round);
    }
    assert_eq!(sidecar.output().matches("no integration is configured").count(), 0);
    assert_eq!(sidecar.output().matches(REFUSED).count(), 0);
}

#[test]
fn an_emptied_file_changes_nothing_and_one_that_lost_its_watch_is_still_watched() {
    let upstream = Upstream::saying("hello");
    let mut sidecar = Setup::before(&upstream, "").server(WATCH).start();
    let config = std::fs::read_to_string(sidecar.dir().join("config.toml")).expect("it is there");
    sidecar.put("config.toml", "\n");
    sidecar.logged(REFUSED, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    sidecar.reload();
    sidecar.logged(REFUSED, 2);
    // Cut short, at the end of a line.
    let cut = config.replace("watch = true\n", "").replace("\"m\"", "\"other\"");
    sidecar.put("config.toml", &cut);
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.ask(&Call::say("other", "hi")).content(), "hello");
    sidecar.put("config.toml", &config);
    sidecar.logged(RELOADED, 2);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    sidecar.terminate();
    assert_eq!(sidecar.wait(), 0);
}
