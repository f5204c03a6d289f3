//! Rotation: certificates, keys and secrets are taken over when their files change, without a signal, and what is broken
//! leaves the old ones in use.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::support::launch::mount;
use crate::support::tls::Authority;
use crate::support::{Call, Connection, Gate, Setup, Sidecar, TokenServer, Upstream, integration};

const QUICK: &str = "rotation_interval = \"20ms\"";
const IN_USE: &str = "new files are in use";
const REFUSED: &str = "new files are refused";
const AGAIN: &str = "the integration can serve again";
const MTLS: &str = "tls = { ca_file = \"ca.pem\", client_cert_file = \"certs/client.pem\", client_key_file = \"certs/client.key\" }";

/// Puts the pair into the folder `certs` in one step.
fn swap(dir: &Path, number: usize, (certificate, key): &(String, String)) {
    mount(&dir.join("certs"), number, &[("client.pem", certificate), ("client.key", key)]);
}

/// A provider that demands a certificate of `authority`, and its base URL.
fn strict(authority: &Authority) -> (Upstream, String) {
    let upstream = Upstream::start_tls(authority.strict_server("localhost"), |turn| turn.complete("hello"));
    let url = format!("https://localhost:{}/v1", upstream.address().port());
    (upstream, url)
}

#[test]
fn a_client_certificate_that_is_swapped_is_shown_from_then_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let (_upstream, url) = strict(&new);
    let setup = Setup::new(integration("acme", &url, MTLS)).server(QUICK).file("ca.pem", &new.pem());
    swap(setup.dir(), 1, &old.client());
    let sidecar = setup.start();
    sidecar.ask(&Call::say("m", "hi")).refusal(502, "upstream_tls");
    swap(sidecar.dir(), 2, &new.client());
    sidecar.logged(IN_USE, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(sidecar.metric("outrider_rotations_total{integration=\"acme\",result=\"taken\"}"), Some(1.0));
    let ends = sidecar.metric("outrider_cert_expiry_seconds{integration=\"acme\",kind=\"client\"}");
    assert!(ends.is_some_and(|at| at > 1e9), "{ends:?}");
    let written =
        "outrider_secret_file_modified_timestamp_seconds{integration=\"acme\",key=\"tls.client_key_file\"}";
    assert!(sidecar.metric(written).is_some_and(|at| at > 1e9));
}

#[test]
fn a_comment_above_an_integration_is_no_change_of_it_while_its_secret_is_broken() {
    let upstream = Upstream::saying("hello");
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"key\"";
    let tables = integration("acme", &upstream.url("/v1"), key);
    let mut sidecar = Setup::new(tables.clone()).server(QUICK).file("key", "secret-1").start();
    std::fs::write(sidecar.dir().join("key"), "").unwrap();
    sidecar.logged(REFUSED, 1);
    let origin =
        |sidecar: &Sidecar| sidecar.admin("/integrations").json()["integrations"][0]["origin"].clone();
    let before = origin(&sidecar);
    sidecar.rewrite(format!("# A comment.\n{tables}"));
    sidecar.reload();
    sidecar.logged("configuration reloaded", 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_ne!(origin(&sidecar), before, "it is still said to stand where it stood");
}

#[test]
fn a_broken_pair_leaves_the_old_one_in_use_is_told_once_and_heals() {
    let authority = Authority::new();
    let (_upstream, url) = strict(&authority);
    let setup = Setup::new(integration("acme", &url, MTLS)).server(QUICK).file("ca.pem", &authority.pem());
    swap(setup.dir(), 1, &authority.client());
    let sidecar = setup.start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    let (good, other) = (authority.client(), authority.client());
    let stale = "outrider_integration_stale{integration=\"acme\"}";
    swap(sidecar.dir(), 2, &(good.0.clone(), other.1));
    sidecar.logged(REFUSED, 1);
    assert!(sidecar.output().contains("is not the key of the first certificate"), "{}", sidecar.output());
    let half = good.0[..good.0.len() / 2].to_owned();
    swap(sidecar.dir(), 3, &(half, good.1.clone()));
    sidecar.logged(REFUSED, 2);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(sidecar.metric(stale), Some(1.0));
    assert!(sidecar.admin("/integrations").json()["integrations"][0]["stale"].is_string());
    sidecar.reload();
    sidecar.logged("configuration reloaded", 1);
    swap(sidecar.dir(), 4, &good);
    sidecar.logged(IN_USE, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(sidecar.metric(stale), Some(0.0));
    let told = sidecar.output().matches(REFUSED).count();
    assert_eq!(told, 2, "each content is told once:\n{}", sidecar.output());
    assert!(!sidecar.output().contains("PRIVATE KEY"));
}

const KEY: &str =
    "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"key\"";

#[test]
fn a_secret_file_that_changes_is_used_by_the_next_request_and_an_empty_one_is_not() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, KEY).server(QUICK).file("key", "KEY-ONE\n").start();
    let sent = |count: usize| {
        sidecar.ask(&Call::say("m", "hi")).content();
        upstream.requests(count)[count - 1].head.header("x-key").map(str::to_owned)
    };
    assert_eq!(sent(1).as_deref(), Some("KEY-ONE"));
    sidecar.put("key", "");
    sidecar.logged(REFUSED, 1);
    assert_eq!(sent(2).as_deref(), Some("KEY-ONE"));
    let stale = "outrider_integration_stale{integration=\"acme\"}";
    assert_eq!(sidecar.metric(stale), Some(1.0));
    sidecar.put("key", "KEY-ONE\n");
    sidecar.until_metric(stale, 0.0);
    sidecar.put("key", "");
    sidecar.logged(REFUSED, 2);
    assert_eq!(sidecar.metric(stale), Some(1.0));
    sidecar.put("key", "KEY-TWO");
    sidecar.logged(IN_USE, 1);
    assert_eq!(sent(3).as_deref(), Some("KEY-TWO"));
    let listed = sidecar.output() + sidecar.admin("/integrations").text() + sidecar.admin("/metrics").text();
    assert!(!listed.contains("KEY-TWO") && !listed.contains("KEY-ONE"), "a secret was shown");
}

#[test]
fn what_a_value_refers_to_is_taken_over_without_what_was_only_edited() {
    let upstream = Upstream::saying("hello");
    let lines = "headers = { x-tenant = \"${file:tenant}\" }";
    let mut sidecar = Setup::before(&upstream, lines).server(QUICK).file("tenant", "one").start();
    sidecar.rewrite(integration("other", &upstream.url("/v1"), lines));
    sidecar.put("tenant", "two");
    sidecar.logged(IN_USE, 1);
    assert!(sidecar.output().contains("headers.x-tenant"), "the key is not told:\n{}", sidecar.output());
    sidecar.ask(&Call::say("acme/m", "hi")).content();
    assert_eq!(upstream.request().head.header("x-tenant"), Some("two"));
    assert_eq!(sidecar.metric("outrider_config_generation"), Some(1.0));
    let written =
        "outrider_secret_file_modified_timestamp_seconds{integration=\"acme\",key=\"headers.x-tenant\"}";
    assert!(sidecar.metric(written).is_some_and(|at| at > 1e9));
    std::fs::remove_file(sidecar.dir().join("tenant")).expect("it is there");
    sidecar.logged(REFUSED, 1);
    assert_eq!(sidecar.ask(&Call::say("acme/m", "hi")).content(), "hello");
    sidecar.ask(&Call::say("other/m", "hi")).refusal(404, "model_not_found");
}

#[test]
fn the_key_of_callers_is_rotated_too() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").server(QUICK).server("api_key_file = \"caller\"");
    let sidecar = setup.file("caller", "old-key").start();
    let ask = |key: &str| {
        sidecar.ask(&Call::say("m", "hi").header("authorization", &format!("Bearer {key}"))).status
    };
    assert_eq!((ask("old-key"), ask("new-key")), (200, 401));
    sidecar.put("caller", "");
    sidecar.logged("server.api_key_file:", 1);
    assert_eq!(ask("old-key"), 200);
    sidecar.put("caller", "new-key");
    sidecar.logged("the new server.api_key_file is in use", 1);
    assert_eq!((ask("old-key"), ask("new-key")), (401, 200));
    let counted = |result: &str| {
        sidecar.metric(&format!("outrider_rotations_total{{integration=\"\",result=\"{result}\"}}"))
    };
    assert_eq!(counted("taken"), Some(1.0));
    assert!(counted("refused") >= Some(1.0), "{:?}", counted("refused"));
}

#[test]
fn a_key_of_callers_that_a_reload_takes_over_is_counted_as_well() {
    let upstream = Upstream::saying("hello");
    let setup = Setup::before(&upstream, "").server("api_key_file = \"caller\"");
    let sidecar = setup.server("rotation_interval = \"1h\"").file("caller", "old-key").start();
    let taken = || sidecar.metric("outrider_rotations_total{integration=\"\",result=\"taken\"}");
    sidecar.reload();
    sidecar.logged("configuration reloaded", 1);
    assert_eq!(taken(), Some(0.0));
    sidecar.put("caller", "new-key");
    sidecar.reload();
    sidecar.logged("configuration reloaded", 2);
    assert_eq!(taken(), Some(1.0));
}

#[test]
fn a_client_secret_that_changes_is_used_for_the_next_token() {
    let (upstream, server) = (Upstream::saying("hello"), TokenServer::issuing());
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"c\", client_secret_file = \"secret\" }}",
        server.url()
    );
    let sidecar = Setup::before(&upstream, &lines).server(QUICK).file("secret", "s-one").start();
    sidecar.ask(&Call::say("m", "hi")).content();
    let fetched = "outrider_oauth2_token_fetches_total{integration=\"acme\"}";
    assert_eq!(sidecar.metric(fetched), Some(1.0));
    for name in ["fetched", "expiry"] {
        let line = format!("outrider_oauth2_token_{name}_timestamp_seconds{{integration=\"acme\"}}");
        assert!(sidecar.metric(&line).is_some_and(|at| at > 1e9), "{line}");
    }
    assert_eq!(sidecar.metric("outrider_oauth2_token_live{integration=\"acme\"}"), Some(1.0));
    sidecar.put("secret", "s-two");
    sidecar.logged(IN_USE, 1);
    sidecar.ask(&Call::say("m", "hi")).content();
    let calls = server.requests(2);
    assert!(calls[0].text().contains("s-one") && calls[1].text().contains("s-two"));
}

#[test]
fn what_the_world_failed_serves_once_its_file_is_there_and_is_not_tried_before() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, KEY).server(QUICK).start();
    sidecar.ask(&Call::say("m", "hi")).refusal(503, "integration_unavailable");
    for round in 1..=3 {
        sidecar.reload();
        sidecar.logged("configuration reloaded", round);
    }
    let told = sidecar.output().matches("(config.toml:").count();
    assert_eq!(told, 1, "it was built again without a change:\n{}", sidecar.output());
    sidecar.put("key", "k");
    sidecar.logged(AGAIN, 1);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    assert_eq!(sidecar.metric("outrider_integration_ready{integration=\"acme\"}"), Some(1.0));
}

#[test]
fn an_expired_certificate_fails_its_integration_and_two_others_serve() {
    let authority = Authority::new();
    let (_strict, url) = strict(&authority);
    let upstream = Upstream::saying("hello");
    let tables = integration("expired", &url, MTLS)
        + &integration("one", &upstream.url("/v1"), "")
        + &integration("two", &upstream.url("/v1"), "");
    let setup = Setup::new(tables).server(QUICK).file("ca.pem", &authority.pem());
    swap(setup.dir(), 1, &authority.expired_client());
    let sidecar = setup.start();
    let message = sidecar.ask(&Call::say("expired/m", "hi")).refusal(503, "integration_unavailable");
    assert!(message.contains("expired"), "{message}");
    for name in ["one/m", "two/m"] {
        assert_eq!(sidecar.ask(&Call::say(name, "hi")).content(), "hello");
    }
    assert_eq!(sidecar.admin("/readyz").status, 200);
    swap(sidecar.dir(), 2, &authority.client());
    sidecar.logged(AGAIN, 1);
    assert_eq!(sidecar.ask(&Call::say("expired/m", "hi")).content(), "hello");
}

const STREAMS: usize = 10;
const DELTAS: usize = 40;

/// A provider behind TLS whose streams wait at `begin` after the first piece and at `end` before the last.
fn gated(authority: &Authority, begin: Gate, end: Gate) -> Upstream {
    Upstream::start_tls(authority.strict_server("localhost"), move |turn| {
        if !turn.request.text().contains("\"stream\":true") {
            return turn.complete("hello");
        }
        turn.open_stream();
        for n in 0..DELTAS {
            match n {
                1 => begin.wait(),
                n if n == DELTAS - 1 => end.wait(),
                _ => {}
            }
            turn.delta(&format!("piece {n}"));
        }
        turn.done();
    })
}

/// Asks again and again until `over`; how often it was answered.
fn caller(address: SocketAddr, over: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut connection, mut served) = (Connection::open(address), 0);
        while !over.load(Ordering::SeqCst) {
            assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
            served += 1;
        }
        served
    })
}

#[test]
fn ten_rotations_and_a_hundred_reloads_under_load_lose_no_request_and_no_byte() {
    let (authority, begin, end) = (Authority::new(), Gate::new(), Gate::new());
    let upstream = gated(&authority, begin.clone(), end.clone());
    let url = format!("https://localhost:{}/v1", upstream.address().port());
    let tables = integration("acme", &url, MTLS) + "[log]\naccess = false\n";
    let setup = Setup::new(tables).server(QUICK).file("ca.pem", &authority.pem());
    swap(setup.dir(), 0, &authority.client());
    let sidecar = setup.start();
    let mut streams: Vec<Connection> = (0..STREAMS).map(|_| sidecar.connect()).collect();
    for stream in &mut streams {
        stream.send(&Call::stream("m", "hi")).head();
        assert!(stream.data().contains("piece 0"));
    }
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..2).map(|_| caller(sidecar.address(), Arc::clone(&over))).collect();
    begin.open();
    for round in 1..=10 {
        swap(sidecar.dir(), round, &authority.client());
        sidecar.logged(IN_USE, round);
        assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
        for reload in 1..=10 {
            sidecar.reload();
            sidecar.logged("configuration reloaded", (round - 1) * 10 + reload);
        }
    }
    end.open();
    for stream in &mut streams {
        let data = stream.all_data();
        let pieces: Vec<_> = data.iter().filter(|data| data.contains("piece ")).collect();
        assert_eq!(pieces.len(), DELTAS - 1);
        for (n, piece) in pieces.iter().enumerate() {
            assert!(piece.contains(&format!("\"piece {}\"", n + 1)), "{piece}");
        }
        assert_eq!(data.last().map(String::as_str), Some("[DONE]"));
    }
    over.store(true, Ordering::SeqCst);
    let served = callers.into_iter().map(|caller| caller.join().expect("no caller lost a request"));
    assert!(served.sum::<usize>() > 0);
    assert!(upstream.connections() >= STREAMS + 10, "each certificate makes its own connections");
}

#[test]
fn the_certificate_that_callers_see_is_rotated_without_a_signal() {
    let upstream = Upstream::saying("hello");
    let (old, new) = (Authority::new(), Authority::new());
    let (first, second) = (old.issue("outrider.example"), new.issue("outrider.example"));
    let setup = Setup::before(&upstream, "")
        .server(QUICK)
        .server("tls = { cert_file = \"own/tls.crt\", key_file = \"own/tls.key\" }");
    let own = setup.dir().join("own");
    mount(&own, 1, &[("tls.crt", &first.certificate), ("tls.key", &first.key)]);
    let sidecar = setup.start();
    mount(&own, 2, &[("tls.crt", &second.certificate), ("tls.key", &second.key)]);
    sidecar.logged("server.tls renewed", 1);
    let mut caller = Connection::open_tls(sidecar.address(), new.caller(None), "outrider.example");
    assert_eq!(caller.send(&Call::say("m", "hi")).answer().content(), "hello");
    let ends = sidecar.metric("outrider_cert_expiry_seconds{integration=\"\",kind=\"server\"}");
    assert!(ends.is_some_and(|at| at > 1e9), "{ends:?}");
    let taken = sidecar.metric("outrider_rotations_total{integration=\"\",result=\"taken\"}");
    assert_eq!(taken, Some(1.0));
}

#[test]
fn a_file_that_is_read_for_ever_holds_up_neither_requests_nor_the_admin_side_nor_the_end() {
    let upstream = Upstream::saying("hello");
    let key = "authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value_file = \"key\"";
    let mut sidecar = Setup::before(&upstream, key).file("key", "k3y-for-nobody").start();
    // A pipe without end, as a file on a file system that hangs. One with a name would not be read.
    let path = sidecar.dir().join("key");
    std::fs::remove_file(&path).expect("it was there");
    let (reader, mut writer) = std::io::pipe().expect("there are pipes");
    let opened = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
    std::os::unix::fs::symlink(opened, path).expect("the temporary folder can be written");
    writer.write_all(b"k").expect("it has room");
    sidecar.reload();
    let left = || rustix::io::ioctl_fionread(&reader).expect("it is a pipe");
    sidecar.until(|| "nobody reads the key".to_owned(), || (left() == 0).then_some(()));
    assert_eq!(sidecar.admin("/livez").status, 200);
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
    sidecar.terminate();
    assert_eq!(sidecar.wait(), 0, "{}", sidecar.output());
    drop(writer);
}
