//! The slots of an integration outlive what it is built of: no rotation and no reload lets more in than the limit.

use crate::support::{Call, Connection, Gate, Setup, Sidecar, Upstream, integration};

const KEY: &str =
    "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"key\"\n";
const QUICK: &str = "rotation_interval = \"20ms\"";
const RELOADED: &str = "configuration reloaded";

/// A provider that holds back the answers to what says `first` or `second`, each at its own gate.
fn gated() -> (Upstream, [Gate; 2]) {
    let gates = [Gate::new(), Gate::new()];
    let [first, second] = gates.clone();
    let upstream = Upstream::start(move |turn| {
        match turn.request.text() {
            text if text.contains("first") => first.wait(),
            text if text.contains("second") => second.wait(),
            _ => {}
        }
        turn.complete("hello");
    });
    (upstream, gates)
}

/// `count` more connections whose requests are at the provider, as its requests up to `total`.
fn hanging(
    sidecar: &Sidecar,
    upstream: &Upstream,
    (count, total): (usize, usize),
    word: &str,
) -> Vec<Connection> {
    let ask = |_| {
        let mut caller = sidecar.connect();
        caller.send(&Call::say("m", word));
        caller
    };
    let callers = (0..count).map(ask).collect();
    upstream.requests(total);
    callers
}

fn figure(sidecar: &Sidecar, name: &str) -> Option<f64> {
    sidecar.metric(&format!("outrider_{name}{{integration=\"acme\"}}"))
}

fn overloaded(sidecar: &Sidecar) {
    sidecar.ask(&Call::say("m", "hi")).refusal(503, "overloaded");
}

fn limits(most: usize) -> String {
    format!("limits = {{ max_concurrent = {most}, queue_timeout = \"100ms\" }}")
}

#[test]
fn a_rotated_key_lets_no_more_in_while_the_old_requests_run() {
    let (upstream, [gate, _]) = gated();
    let lines = format!("{KEY}{}", limits(2));
    let sidecar = Setup::before(&upstream, &lines).server(QUICK).file("key", "one").start();
    let old = hanging(&sidecar, &upstream, (2, 2), "first");
    for (count, key) in ["two", "three"].into_iter().enumerate() {
        sidecar.put("key", key);
        sidecar.logged("new files are in use", count + 1);
        overloaded(&sidecar);
    }
    assert_eq!((figure(&sidecar, "in_flight"), figure(&sidecar, "queued")), (Some(2.0), Some(0.0)));
    gate.open();
    for mut caller in old {
        assert_eq!(caller.answer().content(), "hello");
    }
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(upstream.requests(3)[2].head.header("x-key"), Some("three"));
}

#[test]
fn who_waits_for_a_slot_gets_the_one_that_an_old_request_gives_back() {
    let (upstream, [gate, _]) = gated();
    let lines = format!("{KEY}limits = {{ max_concurrent = 1 }}");
    let sidecar = Setup::before(&upstream, &lines).server(QUICK).file("key", "one").start();
    let mut old = hanging(&sidecar, &upstream, (1, 1), "first");
    let mut waiting = sidecar.connect();
    waiting.send(&Call::say("m", "hi"));
    sidecar.put("key", "two");
    sidecar.logged("new files are in use", 1);
    let mut new = sidecar.connect();
    new.send(&Call::say("m", "hi"));
    let mut turns = 0;
    while figure(&sidecar, "queued") != Some(2.0) {
        turns += 1;
        assert!(turns < 100_000, "they do not wait");
    }
    assert_eq!(upstream.count(), 1);
    gate.open();
    for caller in [&mut old[0], &mut waiting, &mut new] {
        assert_eq!(caller.answer().content(), "hello");
    }
    assert_eq!(figure(&sidecar, "queued"), Some(0.0));
}

#[test]
fn a_changed_limit_holds_from_the_reload_on_for_what_runs_too() {
    let (upstream, gates) = gated();
    let table = |most: usize| integration("acme", &upstream.url("/v1"), &limits(most));
    let mut sidecar = Setup::new(table(2)).start();
    let mut running = hanging(&sidecar, &upstream, (2, 2), "first");

    sidecar.rewrite(table(3) + "[integrations.broken]\nendpoint = 7\n");
    sidecar.reload();
    sidecar.logged("reload refused", 1);
    overloaded(&sidecar);

    sidecar.rewrite(table(3));
    sidecar.reload();
    sidecar.logged(RELOADED, 1);
    let mut last = hanging(&sidecar, &upstream, (1, 3), "second");
    overloaded(&sidecar);

    sidecar.rewrite(table(1));
    sidecar.reload();
    sidecar.logged(RELOADED, 2);
    overloaded(&sidecar);
    gates[0].open();
    for caller in &mut running {
        assert_eq!(caller.answer().content(), "hello");
    }
    overloaded(&sidecar);
    assert_eq!(figure(&sidecar, "in_flight"), Some(1.0));
    gates[1].open();
    assert_eq!(last[0].answer().content(), "hello");
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(upstream.count(), 4);
}

#[test]
fn an_integration_that_is_gone_and_back_counts_what_still_runs() {
    let (upstream, [gate, _]) = gated();
    let acme = integration("acme", &upstream.url("/v1"), &limits(1));
    let other = integration("other", &upstream.url("/v1"), "");
    let mut sidecar = Setup::new(acme.clone()).start();
    let mut old = hanging(&sidecar, &upstream, (1, 1), "first");
    for (count, tables) in [other.clone(), acme + &other].into_iter().enumerate() {
        sidecar.rewrite(tables);
        sidecar.reload();
        sidecar.logged(RELOADED, count + 1);
    }
    sidecar.ask(&Call::say("acme/m", "hi")).refusal(503, "overloaded");
    gate.open();
    assert_eq!(old[0].answer().content(), "hello");
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
}
