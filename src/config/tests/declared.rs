//! Mistakes in the tables of a declared format, as they are shown.

use super::{House, acme};

#[test]
#[expect(clippy::too_many_lines, reason = "a whole report as it is shown")]
fn all_mistakes_of_a_declared_format_are_shown_at_once() {
    let toml = acme(
        r#"format = "declared"
[integrations.acme.request]
prompt = "{{ messages | joinprompt(user='Human: ') }}"
params.heat = "{{ temprature * 2 }}"
params.words = ["{{ stop | }}", "Say: {{ user }}", "{{ user }} and {{ user }}"]
n = "{{ n.get('x') if n else now() }}"
seed = "{{ seed + 1 }}"
[integrations.acme.response]
contents = "{{ output }}"
usage = { prompt_token = "{{ in }}" }
error = "{{ error.message | default('unknown') }}"
[integrations.acme.stream]
framing = "ndjsn"
delta = "{{ output | default }} {{ x }}"
finish_reason = "stop"
"#,
    );
    insta::assert_snapshot!(House::new(&toml).report(), @r#"
    error: `integrations.acme.request.prompt` uses an unknown filter, `joinprompt`
     --> config.toml:7:1
      |
    7 | prompt = ***
      | ^^^^^^
      = help: did you mean `join_prompt`?

    warning: `integrations.acme.request.params.heat` uses `temprature`, which is no field of an OpenAI request
     --> config.toml:8:8
      |
    8 | params.heat = ***
      |        ^^^^
      = help: did you mean `temperature`?

    warning: `integrations.acme.request.params.heat` fails on a sample request: tried to use * operator on unsupported types undefined and number
     --> config.toml:8:8
      |
    8 | params.heat = ***
      |        ^^^^
      = help: try it on the values that an OpenAI client sends

    error: `integrations.acme.request.params.words[0]` is no expression: unexpected end of input, expected identifier, at character 9
     --> config.toml:9:17
      |
    9 | params.words = [***, ***, ***]
      |                 ^^^
      = help: docs/declared.md shows what an expression may be

    warning: `integrations.acme.request.params.words[1]` is sent as it stands: only a string that is wholly `{{ … }}` is an expression
     --> config.toml:9:33
      |
    9 | params.words = [***, ***, ***]
      |                      ^^^
      = help: an expression must be the whole string: join texts inside it with `~`, as in "{{ 'Say: ' ~ text }}"

    error: `integrations.acme.request.params.words[2]` is no expression: its braces end before the string does, at character 9
     --> config.toml:9:52
      |
    9 | params.words = [***, ***, ***]
      |                           ^^^
      = help: an expression must be the whole string: join texts inside it with `~`, as in "{{ 'Say: ' ~ text }}"

    error: `integrations.acme.request.n` calls a method, `get`, and values have none
      --> config.toml:10:1
       |
    10 | n = ***
       | ^
       = help: take a member as value.name, and use filters: `value | name`

    error: `integrations.acme.request.n` calls a function, `now`, and there are none
      --> config.toml:10:1
       |
    10 | n = ***
       | ^
       = help: use a filter: `value | name`

    error: `integrations.acme.request.seed` fails where a request has no `seed`: tried to use + operator on unsupported types undefined and number
      --> config.toml:11:1
       |
    11 | seed = ***
       | ^^^^
       = help: leave it out there: `… if seed is defined else none`

    error: `integrations.acme.response` needs `content`
      --> config.toml:12:20
       |
    12 | [integrations.acme.response]
       |                    ^^^^^^^^
       = help: say where the text is: content = "{{ … }}"

    error: `integrations.acme.response.contents` is an unknown key
      --> config.toml:13:1
       |
    13 | contents = ***
       | ^^^^^^^^
       = help: did you mean `content`?

    error: `integrations.acme.response.usage.prompt_token` is an unknown key
      --> config.toml:14:11
       |
    14 | usage = { prompt_token = *** }
       |           ^^^^^^^^^^^^
       = help: did you mean `prompt_tokens`?

    error: `integrations.acme.response.error` gives an error where an answer has none: every answer would be one
      --> config.toml:15:1
       |
    15 | error = ***
       | ^^^^^
       = help: let it be none where there is no error: `error.message | default(none)`

    error: `integrations.acme.stream.framing` must be one of "sse", "ndjson", "json_array"
      --> config.toml:17:1
       |
    17 | framing = "ndjsn"
       | ^^^^^^^
       = help: did you mean `ndjson`?

    error: `integrations.acme.stream.delta` is no expression: its braces end before the string does, at character 21
      --> config.toml:18:1
       |
    18 | delta = ***
       | ^^^^^
       = help: an expression must be the whole string: join texts inside it with `~`, as in "{{ 'Say: ' ~ text }}"

    error: `integrations.acme.stream.finish_reason` would make every event the last one
      --> config.toml:19:1
       |
    19 | finish_reason = ***
       | ^^^^^^^^^^^^^
       = help: write an expression that is none until the last event

    13 errors, 3 warnings
    "#);
}

#[test]
fn good_tables_load_without_a_word() {
    let toml = acme(
        r#"format = "declared"
defaults = { seed = 1 }
[integrations.acme.request]
prompt = "{{ messages | join_prompt }}"
params = { seed = "{{ seed + 1 }}", tenant = "{{ tenant }}", key = "${KEY:-none}" }
[integrations.acme.response]
content = "{{ output | upper }}"
usage.total_tokens = "{{ read + written }}"
error = "{{ error.message | default(none) }}"
[integrations.acme.stream]
framing = "json_array"
delta = "{{ output }}"
"#,
    );
    let loaded = House::new(&toml).loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn words_put_together_from_variables_are_not_repeated() {
    let toml = acme(
        r#"format = "declared"
request = { prompt = "{{ messages | ${FILTER} }}" }
response = { content = "{{ x }}" }
"#,
    );
    let report = House::new(&toml).env([("FILTER", "s3cret")]).report();
    assert!(report.contains("is no good expression once its variables are filled in"), "{report}");
    assert!(!report.contains("s3cret"), "{report}");
}
