//! `outrider schema`: what editors check `config.toml` with. That it takes what the program takes is held wherever these
//! tests start it (`support/schema.rs`), key by key in `src/config/tests/schema.rs`.

use serde_json::Value;

use crate::support::schema::refusals;
use crate::support::{Setup, integration};

#[test]
fn it_prints_the_schema_and_needs_no_configuration() {
    let ended = Setup::new("").run(&["schema"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&ended.stdout).expect("stdout is one JSON value");
    assert_eq!(schema, outrider::config::schema());
    jsonschema::draft7::meta::validate(&schema).expect("it is a schema of draft 7");
    let workers = &schema["properties"]["handlers"]["properties"]["workers"];
    assert_eq!(
        (&workers["default"], &workers["description"]),
        (&2.into(), &"Processes of each handler, at most 1024.".into())
    );
}

#[test]
fn what_check_calls_unknown_it_refuses_by_name() {
    for (lines, key) in [
        ("endpoit = \"x\"", "endpoit"),
        ("limits = { conect = \"1s\" }", "conect"),
        ("oauth2.client_idd = \"x\"", "client_idd"),
        ("tls = { ca = \"x\" }", "ca"),
    ] {
        let text = integration("acme", "http://127.0.0.1:9/v1", lines);
        let checked = Setup::new("").file("c.toml", &text).run(&["check", "c.toml"]);
        assert!(checked.output().contains(&format!("unknown key `{key}`")), "{}", checked.output());
        let words = refusals(&text);
        assert!(words.len() == 1 && words[0].contains(key), "{words:?}");
    }
}

#[test]
fn a_value_of_another_kind_is_refused_and_a_form_is_not() {
    let of = |lines: &str| refusals(&format!("[server]\n{lines}\n")).len();
    for good in [
        "workers = \"${WORKERS:-4}\"",
        "watch = \"${WATCH}\"",
        "header_timeout = \"${T}\"",
        "max_body = \"${file:size}\"",
        "start = \"${START:-strict}\"",
        "listen = [\"127.0.0.1:1\", \"unix:s\"]",
        "max_body = 1024",
        "header_timeout = \"1h\"",
    ] {
        assert_eq!(of(good), 0, "{good}");
    }
    for bad in [
        "workers = \"4\"",
        "workers = -1",
        "watch = \"true\"",
        "header_timeout = 10",
        "header_timeout = \"10 sec\"",
        "max_body = \"1KB\"",
        "start = \"strickt\"",
        "listen = 1",
    ] {
        assert_eq!(of(bad), 1, "{bad}");
    }
}
