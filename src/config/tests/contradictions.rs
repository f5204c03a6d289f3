//! What says two things at once, and messages that must not.

use super::{House, acme};

#[test]
fn renames_in_a_circle_and_defaults_that_are_dropped_are_errors() {
    for (lines, words, help) in [
        (
            "rename = { a = \"b\", b = \"a\" }",
            "the renames lead in a circle: `b` to `a` to `b`",
            "keep one of them",
        ),
        (
            "rename = { a = \"b\", b = \"c\", c = \"a\" }",
            "in a circle: `c` to `a` to `b` to `c`",
            "keep one of them",
        ),
        ("rename = { c = \"c\" }", "`c` is renamed to itself", "leave it out"),
        (
            "defaults = { user = \"u\" }\ndrop = [\"user\"]",
            "`user` is both in `defaults` and in `drop`",
            "keep one of them",
        ),
    ] {
        let report = House::new(&acme(lines)).report();
        assert!(report.contains(words) && report.contains(help), "{lines}: {report}");
        assert!(report.contains("config.toml:5:") && report.ends_with("\n1 error\n"), "{lines}: {report}");
    }
    // Each is made in turn, so that a chain means something.
    for lines in ["rename = { a = \"b\", b = \"c\" }", "rename = { b = \"c\", a = \"b\" }"] {
        House::new(&acme(lines)).loaded();
    }
}

#[test]
fn a_file_over_another_may_take_back_what_that_one_says() {
    let json = r#"{"endpoint": "https://acme.example/v1", "models": ["m"], "authentication_type": "none",
        "rename": {"a": "b", "c": "d"}, "defaults": {"user": "u"}}"#;
    let over = "rename = { b = \"a\", c = \"c\" }\ndrop = [\"user\"]\n";
    let toml = format!("integrations_dir = \"galileo\"\n[integrations.acme]\n{over}");
    House::new(&toml).with("galileo/acme.json", json).loaded();
}

#[test]
fn a_number_is_shown_as_it_is_written_and_told_what_it_is_beyond() {
    for (toml, words) in [
        (acme("multi_modal_config = { max_files = 1.0 }"), "max_files` must be a whole number, found 1.0\n"),
        (
            acme("multi_modal_config = { max_files = -1 }"),
            "max_files` must be a whole number, 0 or more, found -1\n",
        ),
        (
            "[server]\nmax_body = 99999999999999999999\n".to_owned(),
            "`server.max_body` must be a size of at most 18446744073709551615 bytes, found 99999999999999999999\n",
        ),
        ("[server]\nmax_body = -5\n".to_owned(), "must be a size of 0 or more bytes, found -5\n"),
        ("[server]\nmax_body = 1e400\n".to_owned(), "or a number of bytes, found 1e400\n"),
        (
            "[server]\nunix_owner = -1\n".to_owned(),
            "`server.unix_owner` must be a whole number, 0 or more, found -1\n",
        ),
        ("[server]\nworkers = \"99999999999999999999\"\n".to_owned(), "found \"99999999999999999999\"\n"),
    ] {
        let report = House::new(&toml).report();
        assert!(report.contains(words), "{toml}: {report}");
    }
}

#[test]
fn letters_outside_ascii_may_stand_in_a_header_and_nobody_is_told_that_they_may_not() {
    House::new(&acme("headers = { x = \"ü\" }")).loaded();
    let report = House::new(&acme("headers = { x = \"a\\u0007b\" }")).report();
    assert!(report.contains("it holds a line's end or another control character"), "{report}");
    assert!(!report.contains("ASCII"), "{report}");
}
