//! Messages that must not contradict what is written.

use super::{House, acme};

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
