//! TLS towards callers: the certificate, client certificates, slow and plain callers, and renewal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::support::tls::{Authority, Pair};
use crate::support::{Call, Connection, Gate, Setup, Sidecar, Upstream, integration};

const NAME: &str = "outrider.example";
const TLS: &str = "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }";
const MUTUAL: &str =
    "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\", client_ca_file = \"clients.pem\" }";

fn behind(upstream: &Upstream, authority: &Authority, tls: &str) -> Setup {
    let pair = authority.issue(NAME);
    Setup::before(upstream, "")
        .server(tls)
        .file("tls.crt", &pair.certificate)
        .file("tls.key", &pair.key)
        .file("clients.pem", &authority.pem())
}

fn connect(sidecar: &Sidecar, authority: &Authority, pair: Option<&Pair>) -> Connection {
    Connection::open_tls(sidecar.address(), authority.caller(pair), NAME)
}

fn write(dir: &Path, pair: &Pair) {
    for (name, text) in [("tls.crt", &pair.certificate), ("tls.key", &pair.key)] {
        std::fs::write(dir.join(name), text).expect("the temporary folder can be written");
    }
}

#[test]
fn callers_over_tls_are_served_and_the_admin_side_stays_plain() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let sidecar = behind(&upstream, &authority, TLS).start();
    let mut connection = connect(&sidecar, &authority, None);
    for _ in 0..2 {
        assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
    }
    assert_eq!(sidecar.admin("/readyz").status, 200);
}

#[test]
fn a_unix_socket_beside_it_stays_plain() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let both = "listen = [\"127.0.0.1:0\", \"unix:proxy.sock\"]";
    let pair = authority.issue(NAME);
    let setup = Setup::before(&upstream, "").server(both).server(TLS);
    let sidecar = setup.file("tls.crt", &pair.certificate).file("tls.key", &pair.key).start();
    let mut plain = Connection::open_unix(&sidecar.dir().join("proxy.sock"));
    assert_eq!(plain.send(&Call::say("m", "hi")).answer().content(), "hello");
    let mut encrypted = connect(&sidecar, &authority, None);
    assert_eq!(encrypted.send(&Call::say("m", "hi")).answer().content(), "hello");
}

#[test]
fn http2_is_not_negotiated() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let sidecar = behind(&upstream, &authority, TLS).start();
    let mut client = authority.caller(None);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut connection = Connection::open_tls(sidecar.address(), client, NAME);
    assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
}

#[test]
fn a_client_certificate_is_demanded_and_a_strangers_is_refused() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let sidecar = behind(&upstream, &authority, MUTUAL).start();
    let ours = authority.issue("runner.example");
    let mut connection = connect(&sidecar, &authority, Some(&ours));
    assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");

    let stranger = Authority::new().issue("runner.example");
    for (pair, words) in [
        (None, "`client_ca_file` demands one"),
        (Some(&stranger), "is not signed by an authority of `client_ca_file`"),
    ] {
        let mut refused = connect(&sidecar, &authority, pair);
        refused.send(&Call::say("m", "hi"));
        assert!(refused.is_closed());
        sidecar.log_line(words, |line| line.to_string().contains(words));
    }
    assert_eq!(upstream.count(), 1, "a refused caller reached the provider");
}

#[test]
fn a_handshake_that_dawdles_is_cut_and_holds_nobody_up() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    // The one who does not dawdle must be done within it too, on whatever machine.
    let sidecar = behind(&upstream, &authority, TLS).server("header_timeout = \"3s\"").start();
    let connect_raw = || TcpStream::connect(sidecar.address()).expect("the sidecar listens");
    let (mut silent, mut slow) = (connect_raw(), connect_raw());
    slow.write_all(&[22, 3, 1, 2, 0]).expect("the sidecar reads");
    let mut connection = connect(&sidecar, &authority, None);
    assert_eq!(connection.send(&Call::say("m", "hi")).answer().content(), "hello");
    for socket in [&mut silent, &mut slow] {
        socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("a socket takes a timeout");
        let mut rest = Vec::new();
        let ended = socket.read_to_end(&mut rest);
        assert!(!ended.is_err_and(|e| crate::support::wire::is_timeout(&e)), "it was never cut");
    }
}

#[test]
fn plain_http_is_told_to_use_https_and_closed() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let sidecar = behind(&upstream, &authority, TLS).start();
    let mut connection = sidecar.connect();
    let answer = connection.send(&Call::say("m", "hi")).answer();
    assert_eq!((answer.status, answer.clean), (400, true));
    assert_eq!(answer.json()["error"]["code"], "tls_required");
    assert!(connection.is_closed());

    let mut noise = sidecar.connect();
    noise.send_raw(b"\0\x01\x02 neither");
    assert!(noise.is_closed());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_renewed_certificate_is_for_new_connections_and_an_open_stream_goes_on() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |turn| match turn.request.text().contains("wait") {
        true => {
            turn.open_stream();
            turn.delta("one");
            held.wait();
            turn.done();
        }
        false => turn.complete("hello"),
    });
    let (old, new) = (Authority::new(), Authority::new());
    let sidecar = behind(&upstream, &old, TLS).start();
    let mut stream = connect(&sidecar, &old, None);
    stream.send(&Call::stream("m", "wait")).head();
    stream.data();

    write(sidecar.dir(), &Pair { key: old.issue(NAME).key, ..new.issue(NAME) });
    sidecar.reload();
    sidecar.logged("reload refused", 1);
    let mut still = connect(&sidecar, &old, None);
    assert_eq!(still.send(&Call::say("m", "hi")).answer().content(), "hello", "a broken pair was taken");

    write(sidecar.dir(), &new.issue(NAME));
    sidecar.reload();
    sidecar.logged("server.tls renewed", 1);
    let mut fresh = connect(&sidecar, &new, None);
    assert_eq!(fresh.send(&Call::say("m", "hi")).answer().content(), "hello");
    assert_eq!(still.send(&Call::say("m", "hi")).answer().content(), "hello");
    gate.open();
    assert_eq!(stream.all_data().last().map(String::as_str), Some("[DONE]"));
}

#[test]
fn a_reload_takes_the_certificate_and_the_configuration_or_neither() {
    let (upstream, old, new) = (Upstream::saying("hello"), Authority::new(), Authority::new());
    // Only the signal looks at the files.
    let server = format!("{TLS}\nrotation_interval = \"1h\"");
    let mut sidecar = behind(&upstream, &old, &server).start();
    let acme = integration("acme", &upstream.url("/v1"), "");
    let beta = integration("beta", &upstream.url("/v1"), "");
    let asked = |sidecar: &Sidecar, authority: &Authority, model: &str| {
        connect(sidecar, authority, None).send(&Call::say(model, "hi")).answer()
    };

    write(sidecar.dir(), &new.issue(NAME));
    sidecar.rewrite(acme.clone() + "[integrations.beta]\nendpoint = 7\n");
    sidecar.reload();
    sidecar.logged("reload refused", 1);
    assert_eq!(asked(&sidecar, &old, "acme/m").content(), "hello", "the certificate is another");
    assert!(!sidecar.output().contains("server.tls"), "{}", sidecar.output());

    write(sidecar.dir(), &Pair { key: old.issue(NAME).key, ..new.issue(NAME) });
    sidecar.rewrite(acme.clone() + &beta);
    sidecar.reload();
    sidecar.logged("reload refused", 2);
    assert!(sidecar.output().contains("server.tls: `key_file`"), "{}", sidecar.output());
    asked(&sidecar, &old, "beta/m").refusal(404, "model_not_found");

    write(sidecar.dir(), &new.issue(NAME));
    sidecar.reload();
    sidecar.logged("configuration reloaded", 1);
    sidecar.logged("server.tls renewed", 1);
    assert_eq!(asked(&sidecar, &new, "beta/m").content(), "hello");
}

#[test]
fn files_that_the_configuration_no_longer_names_refuse_no_reload() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let setup = behind(&upstream, &authority, &format!("{TLS}\nrotation_interval = \"1h\""));
    let sidecar = setup.start();
    let path = sidecar.dir().join("config.toml");
    let text = std::fs::read_to_string(&path).expect("it was written").replace("tls.crt", "other.crt");
    sidecar.put("config.toml", &text);
    std::fs::rename(sidecar.dir().join("tls.crt"), sidecar.dir().join("other.crt")).expect("it is there");
    sidecar.reload();
    let line = sidecar.log_line("the reload", |line| line["message"] == "configuration reloaded");
    assert_eq!(line["restart_needed_for"][0], "server.tls", "{line}");
}

#[test]
fn what_is_wrong_with_it_stops_the_start_and_check_says_the_same() {
    let (upstream, authority) = (Upstream::saying("hello"), Authority::new());
    let other = authority.issue(NAME);
    let cases = [
        (behind(&upstream, &authority, TLS).file("tls.key", &other.key), "is not the key of"),
        (behind(&upstream, &authority, &TLS.replace("tls.crt", "gone.crt")), "/… cannot be read"),
        (behind(&upstream, &authority, MUTUAL).file("clients.pem", "hello"), "is not PEM"),
    ];
    for (setup, words) in cases {
        let config = setup.write();
        let config = config.to_string_lossy();
        for args in [&["--config", &*config][..], &["check", &*config]] {
            let ended = setup.run(args);
            assert_eq!(ended.code, 78, "{}", ended.output());
            assert!(ended.output().contains("server.tls: `"), "{}", ended.output());
            assert!(ended.output().contains(words), "{}", ended.output());
        }
    }
}

#[test]
fn a_renewed_certificate_is_taken_without_a_signal_and_its_end_is_a_metric() {
    let (upstream, old, new) = (Upstream::saying("hello"), Authority::new(), Authority::new());
    let server = format!("{TLS}\nrotation_interval = \"50ms\"");
    let sidecar = behind(&upstream, &old, &server).start();
    let mut open = connect(&sidecar, &old, None);
    assert_eq!(open.send(&Call::say("m", "hi")).answer().content(), "hello");
    write(sidecar.dir(), &new.issue(NAME));
    sidecar.logged("server.tls renewed", 1);
    let mut fresh = connect(&sidecar, &new, None);
    assert_eq!(fresh.send(&Call::say("m", "hi")).answer().content(), "hello");
    assert_eq!(open.send(&Call::say("m", "hi")).answer().content(), "hello");
    let metrics = sidecar.admin("/metrics");
    let line = "outrider_cert_expiry_seconds{integration=\"\",kind=\"server\"} ";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[test]
fn tls_to_a_port_without_it_is_told_in_the_log() {
    let upstream = Upstream::saying("unreached");
    let sidecar = Setup::before(&upstream, "").start();
    let mut caller = sidecar.connect();
    // A record of a handshake, and the beginning of one (RFC 8446 §5.1).
    caller.send_raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    assert!(caller.is_closed());
    sidecar.logged("a caller speaks TLS, and this port does not", 1);
    assert_eq!(upstream.count(), 0);
}
