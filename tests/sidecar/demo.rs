//! `outrider demo --handlers`: a Python handler among the rest, and one clear sentence where there is no Python for it.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Ended, Setup, python};

/// The rows of the demo's table that begin with `integration`.
fn rows<'o>(ended: &'o Ended, integration: &str) -> Vec<&'o str> {
    ended.stdout.lines().filter(|line| line.starts_with(integration)).collect()
}

#[test]
fn a_handler_is_shown_whole_streamed_and_refusing_by_itself_and_through_the_sidecar() {
    let python = python::interpreter().display().to_string();
    let ended = Setup::new("").run(&["demo", "--once", "--handlers", "--python", &python]);
    assert_eq!(ended.code, 0, "{}", ended.output());
    for (integration, authorization) in [("py-handler ", " oauth2 "), ("py-egress ", " oauth2 + mTLS ")] {
        let rows = rows(&ended, integration);
        let shown = |row: &str, words: [&str; 3]| words.iter().all(|word| row.contains(word));
        assert_eq!(rows.len(), 3, "{}", ended.output());
        assert!(rows.iter().all(|row| row.contains(authorization)), "{rows:?}");
        assert!(shown(rows[0], ["whole", " 200 ", "9 tokens"]) && rows[0].ends_with("  1"), "{}", rows[0]);
        assert!(
            shown(rows[1], ["streamed", " 200 ", "9 chunks, [DONE]"]) && rows[1].ends_with("  0"),
            "{}",
            rows[1]
        );
        assert!(shown(rows[2], ["too much", " 429 ", "handler_error"]), "{}", rows[2]);
    }
    assert!(ended.stdout.contains("18 of 18 steps: all went well"), "{}", ended.output());
}

#[test]
fn an_interpreter_without_litellm_is_named_with_the_command_that_helps() {
    let setup = bare(Setup::new(""));
    let bare = setup.dir().join("bin/python3").display().to_string();
    let ended = setup.env("OUTRIDER_PYTHON", &bare).run(&["demo", "--once", "--handlers"]);
    assert_eq!(ended.code, 1, "{}", ended.output());
    assert!(
        ended.stderr.contains("lacks litellm") && ended.stderr.contains("-m pip install litellm=="),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains("12 of 12 steps"), "the others are shown: {}", ended.output());
}

#[test]
fn without_a_package_index_one_sentence_says_so_and_the_other_rows_are_shown() {
    let setup = bare(Setup::new(""));
    let bin = setup.dir().join("bin").display().to_string();
    let cache = setup.dir().join("cache").display().to_string();
    let setup = setup
        .env("PATH", &format!("{bin}:/usr/bin:/bin"))
        .env("XDG_CACHE_HOME", &cache)
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        .env("PIP_RETRIES", "0");
    let ended = setup.run(&["demo", "--once", "--handlers"]);
    assert_eq!(ended.code, 1, "{}", ended.output());
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines[0].starts_with("Installing litellm==") && lines[0].contains(&cache), "{lines:?}");
    assert!(
        lines[1].contains("no handler was shown: litellm==") && lines[1].contains("PIP_INDEX_URL"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        ended.stdout.contains("12 of 12 steps") && rows(&ended, "py-handler").is_empty(),
        "{}",
        ended.output()
    );
}

/// With a `bin/python3` that finds no installed packages.
fn bare(setup: Setup) -> Setup {
    let asked =
        std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let python = String::from_utf8(asked.expect("python3 is there").stdout).expect("its path is UTF-8");
    let setup = setup.file("bin/python3", &format!("#!/bin/sh\nexec {} -S -E \"$@\"\n", python.trim()));
    let path = setup.dir().join("bin/python3");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("the mode can be set");
    setup
}
