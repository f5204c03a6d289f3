//! `[server]` and `[admin]`: what is warned of, and what a Unix socket may be.

use super::{House, acme};

#[test]
fn what_other_machines_reach_is_warned_of_unless_it_is_protected() {
    let warned = |server: &str, admin: &str| {
        let text = format!("[server]\n{server}\n[admin]\n{admin}\n{}", acme(""));
        let warnings = House::new(&text).with("key", "k\n").loaded().warnings;
        let words = ["without `server.tls`", "without `server.api_key`", "`admin.listen` can be reached"];
        words.map(|words| warnings.iter().any(|warning| warning.message.contains(words)))
    };
    let everywhere = "listen = [\"127.0.0.1:4010\", \"0.0.0.0:4020\"]";
    let tls = "tls = { cert_file = \"c\", key_file = \"k\" }";
    let mutual = "tls = { cert_file = \"c\", key_file = \"k\", client_ca_file = \"a\" }";
    let key = "api_key_file = \"key\"";
    assert_eq!(warned("listen = [\"127.0.0.1:1\", \"[::1]:1\", \"unix:s\"]", ""), [false; 3]);
    assert_eq!(warned(everywhere, ""), [true, true, false]);
    assert_eq!(warned(&format!("{everywhere}\n{tls}"), ""), [false, true, false]);
    assert_eq!(warned(&format!("{everywhere}\n{key}"), ""), [true, false, false]);
    assert_eq!(warned(&format!("{everywhere}\n{tls}\n{key}"), ""), [false; 3]);
    assert_eq!(warned(&format!("{everywhere}\n{mutual}"), ""), [false; 3]);
    assert_eq!(warned("", "listen = \"[::]:4011\""), [false, false, true]);
    assert_eq!(warned("", "metrics_listen = \"0.0.0.0:4012\""), [false; 3]);
}

#[test]
fn the_mode_of_a_socket_is_octal_text() {
    for good in ["\"0660\"", "\"600\"", "\"0777\""] {
        House::new(&format!("[server]\nunix_mode = {good}\n{}", acme(""))).loaded();
    }
    for bad in ["660", "\"0888\"", "\"1777\"", "\"\"", "\"rw-rw----\"", "\"+660\""] {
        let report = House::new(&format!("[server]\nunix_mode = {bad}\n{}", acme(""))).report();
        assert!(report.contains("server.unix_mode"), "{bad}: {report}");
    }
    let report = House::new(&format!("[server]\nunix_group = \"staff\"\n{}", acme(""))).report();
    assert!(report.contains("server.unix_group"), "{report}");
}

#[test]
fn a_linger_that_drain_timeout_cuts_off_is_warned_of() {
    let report = |server: &str| House::new(&format!("[server]\n{server}\n{}", acme(""))).report();
    assert!(report("linger = \"30s\"").contains("`server.drain_timeout` bounds it"));
    assert!(!report("linger = \"30s\"\ndrain_timeout = \"31s\"").contains("bounds it"));
}

#[test]
fn one_port_of_two_listeners_is_an_error_where_one_is_every_address() {
    let report = |listen: &str, admin: &str| {
        let warnings = "api_key = \"k\"\ntls = { cert_file = \"c\", key_file = \"k\" }";
        let server = format!("[server]\nlisten = {listen}\n{warnings}\n[admin]\nlisten = \"{admin}\"\n");
        House::new(&format!("{server}{}", acme(""))).report()
    };
    insta::assert_snapshot!(report("\"0.0.0.0:4010\"", "127.0.0.1:4010"), @r#"
    error: `admin.listen` is a port that `server.listen` has already, and one of them is for all addresses
     --> config.toml:6:1
      |
    6 | listen = "127.0.0.1:4010"
      | ^^^^^^
      = help: each listener needs a port of its own where one is on 0.0.0.0 or [::]

    1 error
    "#);
    for (listen, admin) in [
        ("\"127.0.0.1:1\"", "0.0.0.0:1"),
        ("\"[::]:1\"", "127.0.0.1:1"),
        ("\"[::]:1\"", "[::1]:1"),
        ("\"[::]:1\"", "0.0.0.0:1"),
        ("[\"10.0.0.1:1\", \"0.0.0.0:1\"]", "off"),
    ] {
        let is_mixed = listen.contains("[::]") && !admin.contains("[::1]");
        let words = if is_mixed { "warning: `" } else { "error: `" };
        let report = report(listen, admin);
        assert!(report.contains(words) && report.contains("is a port that `server.listen` has"), "{report}");
    }
    for (listen, admin) in [
        ("\"0.0.0.0:0\"", "127.0.0.1:0"),
        ("\"0.0.0.0:1\"", "127.0.0.1:2"),
        ("\"0.0.0.0:1\"", "[::1]:1"),
        ("\"127.0.0.1:1\"", "127.0.0.2:1"),
    ] {
        assert!(!report(listen, admin).contains("has already"), "{listen} {admin}");
    }
}

#[test]
fn a_socket_that_nobody_could_connect_to_is_refused() {
    let long = format!("/run/{}", "s".repeat(120));
    for (path, words) in [
        (
            long.as_str(),
            "the path in `server.listen` has 125 bytes, and that of a Unix socket at most about 100",
        ),
        ("/run/a\\u0000b", "`server.listen` holds a character that no path can have"),
    ] {
        let report = House::new(&format!("[server]\nlisten = \"unix:{path}\"\n{}", acme(""))).report();
        assert!(report.contains(words) && report.contains("1 error"), "{report}");
        let admin =
            format!("[admin]\nlisten = \"unix:{path}\"\nmetrics_listen = \"unix:{path}\"\n{}", acme(""));
        let report = House::new(&admin).report();
        assert!(report.contains("`admin.listen`") && report.contains("`admin.metrics_listen`"), "{report}");
    }
    let fits = format!("[server]\nlisten = \"unix:/run/{}\"\n{}", "s".repeat(90), acme(""));
    assert!(!House::new(&fits).report().contains("error"));
}

#[test]
fn one_socket_by_two_ways_is_warned_of() {
    let report = |second: &str| {
        let listen = format!("[server]\nlisten = [\"unix:/d/x\", \"unix:{second}\"]\n");
        House::new(&(listen + &acme(""))).report()
    };
    insta::assert_snapshot!(report("/d/../d/x"), @r#"
    warning: `server.listen` is the socket that `server.listen` is, unless a symbolic link is in its way
     --> config.toml:2:1
      |
    2 | listen = ["unix:/d/x", "unix:/d/../d/x"]
      | ^^^^^^
      = help: each listener needs a socket of its own

    1 warning
    "#);
    for (second, words) in [
        ("/d/./x", "error: `server.listen` is an address that"),
        ("/../d/e/../x", "warning: `server.listen` is the socket that"),
        ("/d/../x", ""),
        ("d/x", ""),
        ("../d/x", ""),
    ] {
        let report = report(second);
        assert!(report.contains(words) && report.contains("listener needs") != words.is_empty(), "{report}");
    }
}

#[test]
fn more_workers_than_any_machine_could_use_are_an_error() {
    let report =
        |table: &str, n: u32| House::new(&format!("[{table}]\nworkers = {n}\n{}", acme(""))).report();
    insta::assert_snapshot!(report("server", 1_000_000), @r#"
    error: `server.workers` must be 1024 or less
     --> config.toml:2:1
      |
    2 | workers = 1000000
      | ^^^^^^^

    1 error
    "#);
    assert!(report("handlers", 1025).contains("`handlers.workers` must be 1024 or less"));
    for (table, n) in [("server", 0), ("server", 1024), ("handlers", 1024)] {
        assert!(report(table, n).is_empty(), "{table} {n}");
    }
}

#[test]
fn a_mode_that_no_socket_is_made_with_is_a_warning() {
    let report = |server: &str, admin: &str| {
        House::new(&format!("[server]\n{server}\n[admin]\n{admin}\n{}", acme(""))).report()
    };
    insta::assert_snapshot!(report("unix_mode = \"0600\"", ""), @r#"
    warning: `server.unix_mode` is not used: no listener is a Unix socket
     --> config.toml:2:1
      |
    2 | unix_mode = "0600"
      | ^^^^^^^^^
      = help: leave it out, or listen on unix:/path

    1 warning
    "#);
    assert_eq!(report("unix_mode = \"0660\"", ""), "");
    assert_eq!(report("unix_mode = \"0600\"\nlisten = \"unix:s\"", ""), "");
    assert_eq!(report("unix_mode = \"0600\"", "metrics_listen = \"unix:s\""), "");
}
