//! Mistakes as they are shown, all at once.

use super::{House, acme};

#[test]
fn all_mistakes_of_a_file_are_shown_at_once() {
    let house = House::new(
        r#"[server]
listne = "127.0.0.1:1"
workers = "two"
header_timeout = 10
[limits]
connect = "5 seconds"
[integrations.acme]
endpont = "https://acme.example/v1"
format = "antropic"
authentication_type = "api_key"
api_key_value = "Bearer s3cret" # and s3cret
model_properties = [{ name = "a", alias = "x" }, { name = "b", alias = "x", suported_parameters = ["n"] }]
[egres]
"#,
    );
    insta::assert_snapshot!(house.report(), @r#"
    error: unknown key `listne`
     --> config.toml:2:1
      |
    2 | listne = ***
      | ^^^^^^
      = help: did you mean `listen`?

    error: `server.workers` must be a whole number, found "two"
     --> config.toml:3:1
      |
    3 | workers = "two"
      | ^^^^^^^

    error: `server.header_timeout` must be a duration such as "250ms", "5s", "2m" or "1h", found 10
     --> config.toml:4:1
      |
    4 | header_timeout = 10
      | ^^^^^^^^^^^^^^
      = help: give it a unit: "10s"

    error: `limits.connect` must be a duration such as "250ms", "5s", "2m" or "1h", found "5 seconds"
     --> config.toml:6:1
      |
    6 | connect = "5 seconds"
      | ^^^^^^^

    error: `integrations.acme`: authentication_type = "api_key" needs `api_key_header`
     --> config.toml:7:15
      |
    7 | [integrations.acme]
      |               ^^^^
      = help: name the header, such as api_key_header = "Authorization"

    error: `integrations.acme` has no `endpoint`
     --> config.toml:7:15
      |
    7 | [integrations.acme]
      |               ^^^^
      = help: set the base URL, such as https://api.example.com/v1

    error: unknown key `endpont`
     --> config.toml:8:1
      |
    8 | endpont = ***
      | ^^^^^^^
      = help: did you mean `endpoint`?

    error: `integrations.acme.format` must be one of "openai", "anthropic", "azure", "mistral", "gemini", "vertex", "bedrock", "cohere", "ollama", "declared", found "antropic"
     --> config.toml:9:1
      |
    9 | format = "antropic"
      | ^^^^^^
      = help: did you mean "anthropic"?

    error: two models answer to `x`
      --> config.toml:12:64
       |
    12 | model_properties = [{ name = "a", alias = "x" }, { name = "b", alias = "x", suported_parameters = [***] }]
       |                                                                ^^^^^
       = help: give each model an alias of its own

    error: unknown key `suported_parameters`
      --> config.toml:12:77
       |
    12 | model_properties = [{ name = "a", alias = "x" }, { name = "b", alias = "x", suported_parameters = [***] }]
       |                                                                             ^^^^^^^^^^^^^^^^^^^
       = help: did you mean `supported_parameters`?

    error: unknown key `egres`
      --> config.toml:13:2
       |
    13 | [egres]
       |  ^^^^^
       = help: did you mean `egress`?

    11 errors
    "#);
}
