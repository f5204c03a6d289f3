//! Secrets that are probably not what was meant: a warning each, with its place and remedy, and nothing of the secret.

use super::House;

/// `acme` with an API key for the header `header`; `line` is its last, the fifth.
fn keyed(header: &str, line: &str) -> String {
    format!(
        "[integrations.acme]\nendpoint = \"https://acme.example/v1\"\nmodels = [\"m\"]\n\
         authentication_type = \"api_key\"\napi_key_header = \"{header}\"\n{line}\n"
    )
}

#[test]
fn a_bare_key_in_authorization_is_a_warning_that_knows_of_gateways_that_take_it() {
    let toml = keyed("Authorization", "api_key_value = \"s3cret\"");
    insta::assert_snapshot!(House::new(&toml).report(), @r#"
    warning: `integrations.acme.api_key_value` has no scheme before it, which this header mostly carries (`authorization`)
     --> config.toml:6:1
      |
    6 | api_key_value = ***
      | ^^^^^^^^^^^^^
      = help: write `Bearer ` before it, unless the provider takes the bare key there

    1 warning
    "#);
    for good in ["Bearer s3cret", "ApiKey s3cret", "Signature=s3cret", "Custom s3cret"] {
        let toml = keyed("Authorization", &format!("api_key_value = \"{good}\""));
        assert_eq!(House::new(&toml).report(), "", "{good}");
    }
    assert_eq!(House::new(&keyed("x-key", "api_key_value = \"s3cret\"")).report(), "");
}

#[test]
fn a_variable_that_holds_the_scheme_already_is_told() {
    let house = House::new(&keyed("Authorization", "api_key_value = \"Bearer ${KEY}\""));
    let report = house.env([("KEY", "Bearer s3cret")]).report();
    assert!(report.contains("has two schemes before it") && report.contains("config.toml:6:1"), "{report}");
}

#[test]
fn a_default_that_is_a_placeholder_is_told_and_set_it_is_not() {
    let toml = keyed("x-key", "api_key_value = \"${KEY:-replace-me}\"");
    insta::assert_snapshot!(House::new(&toml).report(), @r#"
    warning: `integrations.acme.api_key_value` looks like a placeholder
     --> config.toml:6:1
      |
    6 | api_key_value = ***
      | ^^^^^^^^^^^^^
      = help: put the real one there; if it is the default of a ${NAME:-…}, set that variable

    1 warning
    "#);
    assert_eq!(House::new(&toml).env([("KEY", "s3cret")]).report(), "");
}

#[test]
fn each_doubtful_value_is_one_warning_with_its_remedy_and_nothing_of_it() {
    for (value, words, help) in [
        ("'\"s3cret-1\"'", "is in quotes", "leave the quotes out"),
        ("\"API_KEY=s3cret-1\"", "has a name before it", "keep what stands behind the name alone"),
        ("\"x-key: s3cret-1\"", "has a name before it", "keep what stands behind the name alone"),
        ("\"$S3CRET_KEY\"", "nothing filled in", "write ${NAME}"),
        ("\"{{ s3cret_key }}\"", "nothing filled in", "write ${NAME}"),
        ("\"<s3cret key>\"", "looks like a placeholder", "put the real one there"),
        ("\"sk-s3cret...\"", "looks like a placeholder", "put the real one there"),
        ("\"s3cret-1 \"", "begins or ends with a blank", "leave it out"),
        (
            "\"s3cret-file\"",
            "is the path of a file that exists",
            "`api_key_value_file` is the key for a file",
        ),
        ("\"Bearer d/s3cret\"", "is the path of a file that exists", "`api_key_value_file` is the key"),
    ] {
        let house = House::new(&keyed("x-key", &format!("api_key_value = {value}")));
        let house = house.with("s3cret-file", "k\n").with("d/s3cret", "k\n");
        let report = house.report();
        assert!(report.contains(words) && report.contains(help), "{value}: {report}");
        assert!(report.contains("config.toml:6:1") && report.ends_with("\n1 warning\n"), "{value}: {report}");
        assert!(!report.to_lowercase().contains("s3cret"), "{value}: {report}");
    }
}

#[test]
fn what_a_secrets_file_holds_is_looked_at_too_and_its_path_is_not_shown() {
    let toml = keyed("Authorization", "api_key_value_file = \"acme-key\"");
    insta::assert_snapshot!(House::new(&toml).with("acme-key", "\"s3cret-1\"\n").report(), @r#"
    warning: `integrations.acme.api_key_value_file`: what the file holds is in quotes, which are used as part of it
     --> config.toml:6:1
      |
    6 | api_key_value_file = ***
      | ^^^^^^^^^^^^^^^^^^
      = help: leave the quotes out: nothing takes them off

    1 warning
    "#);
    for (text, words) in [
        ("OPENAI_API_KEY=s3cret-1", "has a name before it"),
        ("{\"api_key\": \"s3cret-1\"}", "is JSON"),
        ("Bearer ${S3CRET}", "nothing filled in"),
        ("s3cret-1", "has no scheme before it"),
        ("Bearer s3cret-1 ", "begins or ends with a blank"),
    ] {
        let report = House::new(&toml).with("acme-key", text).report();
        assert!(report.contains(words) && report.ends_with("\n1 warning\n"), "{text}: {report}");
        assert!(!report.to_lowercase().contains("s3cret"), "{text}: {report}");
    }
    assert_eq!(House::new(&toml).with("acme-key", "Bearer s3cret-1\n").report(), "");
}

#[test]
fn every_kind_of_secret_is_looked_at() {
    let base = "[integrations.acme]\nendpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\n";
    for (lines, key) in [
        (
            "token = '{\"client_id\": \"me\", \"client_secret\": \"changeme\"}'",
            "`integrations.acme.token`: its client_secret",
        ),
        (
            "token = '{\"client_id\": \"<id>\", \"client_secret\": \"s\"}'",
            "`integrations.acme.token`: its client_id",
        ),
        ("token_file = \"token\"", "`integrations.acme.token_file`: what the file holds"),
        (
            "oauth2 = { client_id = \"me\", client_secret = \"changeme\" }",
            "`integrations.acme.oauth2.client_secret` looks",
        ),
        (
            "oauth2 = { client_id = \"$CLIENT_ID\", client_secret = \"s\" }",
            "`integrations.acme.oauth2.client_id` looks",
        ),
        (
            "oauth2 = { client_id = \"me\", client_secret_file = \"secret\" }",
            "`integrations.acme.oauth2.client_secret_file`: what",
        ),
        (
            "oauth2 = { client_id = \"me\", client_secret = \"s\", prefix = \"Bearer\" }",
            "ends without a space",
        ),
        (
            "authentication_type = \"aws_sigv4\"\naws = { region = \"r\", access_key_id = \"AKIA\", secret_access_key = \"changeme\" }",
            "`integrations.acme.aws.secret_access_key` looks",
        ),
        (
            "authentication_type = \"aws_sigv4\"\naws = { region = \"r\", access_key_id = \"AKIA\", secret_access_key_file = \"secret\" }",
            "`integrations.acme.aws.secret_access_key_file`: what",
        ),
        (
            "authentication_type = \"none\"\nheaders = { x-api-key = \"$API_KEY\" }",
            "`integrations.acme.headers.x-api-key` looks",
        ),
        ("authentication_type = \"none\"\n[server]\napi_key = \"changeme\"", "`server.api_key` looks"),
        (
            "authentication_type = \"none\"\n[server]\napi_key = \"Bearer s3cret\"",
            "`server.api_key` has a scheme",
        ),
        (
            "authentication_type = \"none\"\n[server]\napi_key_file = \"secret\"",
            "`server.api_key_file`: what",
        ),
    ] {
        let house = House::new(&format!("{base}{lines}\n")).with("secret", "changeme");
        let house = house.with("token", "{\"client_id\": \"me\", \"client_secret\": \"changeme\"}");
        let report = house.report();
        assert!(report.contains(&format!("warning: {key}")) || report.contains(key), "{lines}: {report}");
        assert!(report.ends_with("\n1 warning\n") && report.contains("config.toml:"), "{lines}: {report}");
    }
}

#[test]
fn a_doubt_about_a_variable_or_galileos_json_stands_where_the_value_is_from() {
    let json = "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"],\n \"authentication_type\": \"api_key\",\n \
                \"api_key_header\": \"x-key\",\n \"api_key_value\": \"YOUR_API_KEY\"}";
    let house = House::new("integrations_dir = \"d\"\n").with("d/acme.json", json);
    assert!(house.report().contains("d/acme.json:4:2"), "{}", house.report());
    let house = house.env([("OUTRIDER_INTEGRATIONS__ACME__API_KEY_VALUE", "changeme")]);
    let variable = "environment variable OUTRIDER_INTEGRATIONS__ACME__API_KEY_VALUE";
    assert!(house.report().contains(variable), "{}", house.report());
}
