//! Mistakes of environment variables.

use super::{House, acme};

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let house = House::new(&acme("")).env([
        ("OUTRIDER_SERVER__WORKERS", "many"),
        ("OUTRIDER_SERVER__LISTNE", "127.0.0.1:1"),
        ("OUTRIDER_INTEGRATIONS__ACME__LIMITS__CONNECT", "soon"),
        ("OUTRIDER_INTEGRATIONS__NEW__FORMAT", "openai"),
    ]);
    insta::assert_snapshot!(house.report(), @r#"
    error: `integrations.acme.limits.connect` must be a duration such as "250ms", "5s", "2m" or "1h", found "soon"
     --> environment variable OUTRIDER_INTEGRATIONS__ACME__LIMITS__CONNECT

    error: `authentication_type` is not given, and nothing of its default `oauth2` is
     --> environment variable OUTRIDER_INTEGRATIONS__NEW__FORMAT
      = help: set authentication_type = "none", "api_key" or "oauth2"; without it Galileo's default is oauth2

    error: `integrations.new` has no `endpoint`
     --> environment variable OUTRIDER_INTEGRATIONS__NEW__FORMAT
      = help: set the base URL, such as https://api.example.com/v1

    error: `integrations.new` names no model
     --> environment variable OUTRIDER_INTEGRATIONS__NEW__FORMAT
      = help: set models = ["…"], the names that the provider knows

    error: unknown key `listne`
     --> environment variable OUTRIDER_SERVER__LISTNE
      = help: did you mean `listen`?

    error: `server.workers` must be a whole number, found "many"
     --> environment variable OUTRIDER_SERVER__WORKERS

    6 errors
    "#);
}

#[test]
fn a_variable_that_is_not_utf_8_is_neither_passed_over_nor_called_unset() {
    let lines = acme("query = { a = \"${ODD:-x}\" }");
    let mut house = House::new(&lines);
    house.env =
        house.env.with_unreadable("ODD").with_unreadable("OUTRIDER_LOG__LEVEL").with_unreadable("OUTRIDER_X");
    insta::assert_snapshot!(house.report(), @r#"
    error: the value of OUTRIDER_LOG__LEVEL is not UTF-8
     --> environment variable OUTRIDER_LOG__LEVEL
      = help: set it anew, or unset it

    error: the environment variable ODD is set, and its value is not UTF-8
     --> config.toml:5:11
      |
    5 | query = { a = *** }
      |           ^
      = help: set it anew

    2 errors
    "#);
}
