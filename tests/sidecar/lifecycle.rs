//! Reload and stop: a new configuration changes what it changes, and a stop loses no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Call, Connection, Gate, Setup, TokenServer, Upstream, integration};

const RELOADED: &str = "configuration reloaded";

#[test]
fn a_reload_takes_the_new_integrations_over() {
    let (old, new) = (Upstream::saying("old"), Upstream::saying("new"));
    let mut sidecar = Setup::before(&old, "").start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "old");
    let tables =
        integration("acme", &new.url("/v1"), "") + &integration("beta", &new.url("/v1"), "models = [\"b\"]");
    sidecar.rewrite(tables);
    assert_eq!(
        sidecar.ask(&Call::say("m", "hi")).content(),
        "old",
        "a file that is only written changes nothing"
    );
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "new");
    assert_eq!(sidecar.ask(&Call::say("b", "hi")).content(), "new");
}

#[test]
fn a_signal_right_after_the_start_is_obeyed() {
    let upstream = Upstream::saying("hello");
    for _ in 0..5 {
        let mut sidecar = Setup::before(&upstream, "").start();
        sidecar.reload();
        sidecar.logged(RELOADED, 1);
        sidecar.terminate();
        assert_eq!(sidecar.wait(), 0);
    }
}

#[test]
fn a_reload_of_a_wrong_file_changes_nothing_and_says_why() {
    let upstream = Upstream::saying("hello");
    let mut sidecar = Setup::before(&upstream, "").start();
    sidecar.rewrite("[integrations.acme]\nendpoit = 1\n");
    sidecar.reload();
    sidecar.logged("reload refused", 1);
    assert!(sidecar.output().contains("endpoit"));
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn a_reload_keeps_the_tokens_of_what_it_does_not_change() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        server.url()
    );
    let mut sidecar = Setup::before(&upstream, &lines).start();
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
    sidecar.rewrite(
        integration("acme", &upstream.url("/v1"), &lines) + &integration("beta", &upstream.url("/v1"), ""),
    );
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
    assert_eq!(server.calls(), 1);
}

#[test]
fn a_stream_that_began_before_a_reload_runs_to_its_end() {
    let gate = Gate::new();
    let held = gate.clone();
    let old = Upstream::start(move |turn| {
        turn.open_stream();
        turn.delta("one");
        held.wait();
        turn.done();
    });
    let new = Upstream::saying("new");
    let mut sidecar = Setup::before(&old, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    connection.data();
    sidecar.rewrite(integration("acme", &new.url("/v1"), ""));
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "new");
    gate.open();
    assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
}

#[test]
fn reloads_under_load_lose_no_request() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = sidecar.address();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 1..=10 {
        sidecar.reload();
        sidecar.logged(RELOADED, round);
    }
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.join().expect("no caller lost a request");
    }
    assert!(served.load(Ordering::SeqCst) > 0);
}

#[test]
fn what_failed_by_the_world_is_tried_again_by_a_reload_once_the_world_is_right() {
    let upstream = Upstream::saying("hello");
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"late\"";
    let sidecar = Setup::before(&upstream, key).start();
    sidecar.ask(&Call::say("m", "hi")).refusal(503, "integration_unavailable");
    std::fs::write(sidecar.dir().join("late"), "k\n").expect("the temporary folder can be written");
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}

#[test]
fn sigterm_ends_with_exit_0_and_lets_a_stream_finish() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| {
        turn.open_stream();
        turn.delta("one");
        held.wait();
        turn.done();
    });
    let mut sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    connection.data();
    sidecar.terminate();
    gate.open();
    assert_eq!(connection.all_data().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
}

#[test]
fn an_endless_stream_is_cut_at_the_drain_limit() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.until_left();
    });
    let mut sidecar = Setup::before(&upstream, "").server("drain_timeout = \"300ms\"").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    connection.data();
    sidecar.terminate();
    sidecar.wait();
    assert!(!connection.all_data().iter().any(|data| data == "[DONE]"));
}

#[test]
fn a_stop_refuses_new_connections_and_a_second_signal_ends_at_once() {
    let upstream = Upstream::start(|turn| {
        turn.open_stream();
        turn.delta("one");
        turn.until_left();
    });
    let mut sidecar = Setup::before(&upstream, "").start();
    let mut connection = sidecar.connect();
    connection.send(&Call::stream("m", "hi")).head();
    connection.data();
    sidecar.terminate();
    sidecar.logged("stopping", 1);
    let mut waited = 0;
    while std::net::TcpStream::connect(sidecar.address()).is_ok() {
        waited += 1;
        assert!(waited < 100_000, "new connections are still taken after a stop signal");
    }
    assert_eq!(sidecar.admin("/readyz").status, 503);
    assert_eq!(sidecar.admin("/livez").status, 200);
    sidecar.terminate();
    sidecar.wait();
    assert!(!connection.all_data().iter().any(|data| data == "[DONE]"));
}

#[test]
fn the_socket_file_of_a_killed_instance_is_replaced_and_that_of_a_living_one_is_not() {
    let upstream = Upstream::saying("hello");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("proxy.sock");
    let listen = format!("listen = \"unix:{}\"", path.display());
    drop(Setup::before(&upstream, "").server(&listen).start());
    assert!(path.exists(), "a killed instance leaves its file");
    let _second = Setup::before(&upstream, "").server(&listen).start();
    assert_eq!(Connection::open_unix(&path).send(&Call::say("m", "hi")).answer().content(), "hello");
    let third = Setup::before(&upstream, "").server(&listen);
    let config = third.write();
    let ended = third.run(&["--config", &config.to_string_lossy()]);
    assert_eq!(ended.code, 1, "{}", ended.output());
    assert_eq!(Connection::open_unix(&path).send(&Call::say("m", "hi")).answer().content(), "hello");
}
