//! `outrider try` before an upstream that ends well and has said nothing: no answer is told as one.

use crate::support::{Ended, Setup, Upstream};

fn attempt(setup: &Setup, more: &[&str]) -> Ended {
    let config = setup.write();
    setup.run(&[&["try", "acme", "--config", &config.to_string_lossy()], more].concat())
}

/// Fails unless it failed with `why`, and says what to look at.
fn is_none(ended: &Ended, why: &str) {
    assert_eq!(ended.code, 1, "{}", ended.output());
    for (label, words) in [("failed", why), ("next", "is `format` what the upstream speaks?")] {
        let line = ended.stdout.lines().find(|line| line.starts_with(label));
        assert!(line.is_some_and(|line| line.contains(words)), "no `{words}`: {}", ended.output());
    }
}

#[test]
fn what_ends_as_an_answer_does_and_is_none_is_exit_1_with_what_to_look_at() {
    let chunk = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"error"}]}"#;
    for (event, why) in [
        ("", "no part of a chat completion came"),
        (r#"{"completion":"hello"}"#, "no part of a chat completion came"),
        (chunk, "finish_reason `error`"),
        ("null", "not a chunk"),
        ("[1]", "not a chunk"),
    ] {
        let upstream = Upstream::start(move |turn| {
            turn.open_stream();
            if !event.is_empty() {
                turn.event(event);
            }
            turn.event("[DONE]");
            turn.end();
        });
        let ended = attempt(&Setup::before(&upstream, ""), &["--stream"]);
        is_none(&ended, why);
    }
    for (choice, why) in [
        (r#"{"message":null}"#, "no chat completion"),
        (r#"{"message":{"content":5}}"#, "no chat completion"),
        (r#"{"message":{"content":"x"},"finish_reason":"error"}"#, "finish_reason `error`"),
    ] {
        let upstream = Upstream::start(move |turn| turn.answer(200, format!(r#"{{"choices":[{choice}]}}"#)));
        let ended = attempt(&Setup::before(&upstream, ""), &[]);
        is_none(&ended, why);
    }
}
