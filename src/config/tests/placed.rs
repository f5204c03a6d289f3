//! Where mistakes are placed: at what somebody wrote, be it a key's twin, another file or a variable.

use super::{House, acme};

#[test]
fn a_secret_that_is_not_used_is_told_where_its_file_is_named() {
    insta::assert_snapshot!(House::new(&acme("api_key_value_file = \"kf2\"\ntoken_file = \"t\"")).report(), @r#"
    warning: `api_key_value_file` is not used: authentication_type is "none"
     --> config.toml:5:1
      |
    5 | api_key_value_file = ***
      | ^^^^^^^^^^^^^^^^^^
      = help: leave it out, or set authentication_type = "api_key"

    warning: `token_file` is not used: authentication_type is "none"
     --> config.toml:6:1
      |
    6 | token_file = ***
      | ^^^^^^^^^^
      = help: leave it out, or set authentication_type = "oauth2"

    2 warnings
    "#);
}

#[test]
fn a_secret_that_is_not_used_is_told_in_the_file_that_names_it() {
    let json = r#"{"endpoint": "https://acme.example/v1", "models": ["m"], "authentication_type": "none"}"#;
    let toml = "integrations_dir = \"galileo\"\n[integrations.acme]\napi_key_value_file = \"kf2\"\n";
    let report = House::new(toml).with("galileo/acme.json", json).report();
    assert!(
        report.contains("`api_key_value_file` is not used") && report.contains("config.toml:3:1"),
        "{report}"
    );
}

#[test]
fn what_an_environment_variable_says_is_told_there() {
    let aws = "[integrations.a]\nendpoint = \"https://b.example\"\nmodels = [\"m\"]\nformat = \"bedrock\"\nauthentication_type = \"aws_sigv4\"\n";
    for (toml, name, value, key) in [
        ("", "HTTPS_PROXY", "socks5://h:1", "egress.proxy"),
        ("", "GALILEO_CUSTOM_LLMS_ENABLED", "maybe", "handlers"),
        ("[egress]\nproxy = \"http://p:1\"\n", "NO_PROXY", "169.254.*", "egress.no_proxy"),
        (aws, "AWS_REGION", "not a region", "integrations.a.aws.region"),
        ("[handlers]\n[log]\n", "GALILEO_CUSTOM_LLMS_ENABLED", "maybe", "handlers"),
    ] {
        let house = House::new(toml).env([(name, value)]);
        let problems = match house.load() {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems,
        };
        let about = problems.iter().find(|problem| problem.message.contains(name)).unwrap();
        let place = about.place.as_ref().unwrap();
        assert_eq!(place.to_string(), format!("environment variable {name}"));
        assert_eq!((about.key.as_deref(), place.line), (Some(key), None));
        assert_eq!(problems.to_json()[0]["variable"], name, "{problems}");
    }
}

#[test]
fn the_caret_under_a_syntax_error_stands_where_the_column_says() {
    for (line, shown, caret, column) in [
        ("strict=treu", "strict=***", "       ^^^", 8),
        ("strict = treu", "strict = ***", "         ^^^", 10),
        ("\tstrict\t=  treu", " strict =  ***", "           ^^^", 12),
        ("\"strict\" =treu", "\"strict\" =***", "          ^^^", 11),
        ("strict", "strict", "      ^^^", 7),
    ] {
        let report = House::new(&format!("{}{line}\n", acme(""))).report();
        let lines: Vec<_> = report.lines().collect();
        let at = lines.iter().position(|line| line.contains("config.toml:")).unwrap();
        assert!(lines[at].ends_with(&format!(":{column}")), "{line}: {report}");
        let after = |n: usize| lines[at + n].split_once("| ").unwrap().1;
        assert_eq!((after(2), after(3)), (shown, caret), "{line}: {report}");
    }
}
