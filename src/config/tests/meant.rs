//! Slips of those who know what they want: the report says what they meant and where it goes.

use super::{House, acme};
use crate::config::raw;

#[test]
fn a_table_that_is_written_twice_is_named_with_its_key_and_its_first_line() {
    let toml = format!(
        "{}[integrations.acme.limits]\nidle = \"1s\"\n\n[integrations.acme]\nformat = \"openai\"\n",
        acme("")
    );
    insta::assert_snapshot!(House::new(&toml).report(), @r#"
    error: not valid TOML: duplicate table
     --> config.toml:9:15
      |
    9 | [integrations.acme]
      |               ^^^^
      = help: [integrations.acme] stands in line 1 already: put its keys there

    1 error
    "#);
    let toml = "[integrations.\"a b\"]\n[log]\nlevel = \"info\"\nlevel = \"warn\"\n  [integrations.\"a b\"] # again\n";
    insta::assert_snapshot!(House::new(toml).report(), @r#"
    error: not valid TOML: duplicate key
     --> config.toml:4:1
      |
    4 | level = ***
      | ^^^^^^^
      = help: `log.level` stands in line 3 already: keep one of them

    error: not valid TOML: duplicate table
     --> config.toml:5:17
      |
    5 |   [integrations."a b"]
      |                 ^^^^^
      = help: [integrations.a b] stands in line 1 already: put its keys there

    2 errors
    "#);
}

#[test]
fn a_key_of_an_integration_that_stands_below_one_of_its_tables_is_told_where_to_go() {
    let toml = "[integrations.acme]\nendpoint = \"https://acme.example/v1\"\n\
                authentication_type = \"api_key\"\napi_key_header = \"x-key\"\n\n\
                [integrations.acme.limits]\nconnect = \"1s\"\napi_key_value = \"s3cret\"\nmodels = [\"m\"]\nconect = \"2s\"\n";
    insta::assert_snapshot!(House::new(toml).report(), @r#"
    error: unknown key `api_key_value` in `limits`
     --> config.toml:8:1
      |
    8 | api_key_value = ***
      | ^^^^^^^^^^^^^
      = help: what follows [integrations.acme.limits] belongs to that table: move the key up to line 1, [integrations.acme]

    error: unknown key `models` in `limits`
     --> config.toml:9:1
      |
    9 | models = [***]
      | ^^^^^^
      = help: what follows [integrations.acme.limits] belongs to that table: move the key up to line 1, [integrations.acme]

    error: unknown key `conect`
      --> config.toml:10:1
       |
    10 | conect = ***
       | ^^^^^^
       = help: did you mean `connect`?

    3 errors
    "#);
    let inline = acme(
        "limits = { connect = \"1s\", strict = true }\ntls = { min_version = \"1.3\", min_versoin = \"1.3\" }",
    );
    insta::assert_snapshot!(House::new(&inline).report(), @r#"
    error: unknown key `strict` in `limits`
     --> config.toml:5:28
      |
    5 | limits = { connect = "1s", strict = *** }
      |                            ^^^^^^
      = help: it belongs to [integrations.acme]

    error: unknown key `min_versoin`
     --> config.toml:6:30
      |
    6 | tls = { min_version = "1.3", min_versoin = *** }
      |                              ^^^^^^^^^^^
      = help: did you mean `min_version`?

    2 errors
    "#);
}

#[test]
fn where_an_integration_has_no_header_of_its_own_the_help_says_to_write_one() {
    let toml = "[integrations.acme.headers]\nx-a = \"1\"\n[integrations.acme.limits]\n\
                endpoint = \"https://acme.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"none\"\n";
    let report = House::new(toml).report();
    let help = "move the key above line 3, below a line [integrations.acme]";
    assert!(report.matches(help).count() == 3 && report.ends_with("\n3 errors\n"), "{report}");
}

#[test]
fn a_key_below_a_table_of_a_list_or_in_headers_is_told_likewise() {
    let toml = "[integrations.acme]\nendpoint = \"https://acme.example/v1\"\nauthentication_type = \"none\"\n\
                [[integrations.acme.model_properties]]\nname = \"m\"\n\
                [[integrations.acme.model_properties]]\nname = \"n\"\ndefault_model = \"n\"\n\
                [integrations.acme.headers]\nx-team = \"a\"\nforward_headers = \"x-b\"\n\
                [server]\nintegrations_dir = \"d\"\n";
    insta::assert_snapshot!(House::new(toml).report(), @r#"
    error: unknown key `default_model` in `model_properties`
     --> config.toml:8:1
      |
    8 | default_model = ***
      | ^^^^^^^^^^^^^
      = help: what follows [[integrations.acme.model_properties]] belongs to that table: move the key up to line 1, [integrations.acme]

    warning: `forward_headers` is a header here, and no key of [integrations.acme]
      --> config.toml:11:1
       |
    11 | forward_headers = ***
       | ^^^^^^^^^^^^^^^
       = help: what follows [integrations.acme.headers] belongs to that table: move the key up to line 1, [integrations.acme]

    error: unknown key `integrations_dir` in `server`
      --> config.toml:13:1
       |
    13 | integrations_dir = ***
       | ^^^^^^^^^^^^^^^^
       = help: what follows [server] belongs to that table: move the key to the top, before any table

    2 errors, 1 warning
    "#);
}

#[test]
fn what_stands_between_braces_was_not_meant_to_stand_above() {
    for table in ["query", "headers"] {
        for lines in [
            format!("{table} = {{ extra = \"1\", proxy = \"2\" }}"),
            format!("{table}.extra = \"1\"\n{table}.proxy = \"2\""),
        ] {
            assert_eq!(House::new(&acme(&lines)).report(), "", "{lines}");
        }
    }
    let json = r#"{"endpoint": "https://a.example/v1", "models": ["m"], "authentication_type": "none", "headers": {"extra": "1"}}"#;
    assert_eq!(House::new("integrations_dir = \"d\"").with("d/acme.json", json).report(), "");
    let below = House::new(&acme("[integrations.acme.query]\nextra = \"1\"")).report();
    assert!(below.contains("`extra` is a parameter of the URL here, and no key of"), "{below}");
}

#[test]
fn what_a_token_holds_besides_its_client_is_told_with_its_place_and_never_its_value() {
    let token = r#"token = '{"client_id": "me", "client_secret": "s3cret", "scope": "in-ner", "audience": "in-ner", "limits": "in-ner", "x": "in-ner"}'"#;
    let lines = acme(token).replace("authentication_type = \"none\"", "authentication_type = \"oauth2\"");
    insta::assert_snapshot!(House::new(&lines).report(), @r#"
    warning: `scope` in `integrations.acme.token` is not read: only client_id and client_secret are
     --> config.toml:5:1
      |
    5 | token = ***
      | ^^^^^
      = help: it is `authentication_scope` in [integrations.acme]

    warning: `audience` in `integrations.acme.token` is not read: only client_id and client_secret are
     --> config.toml:5:1
      |
    5 | token = ***
      | ^^^^^
      = help: it belongs in `oauth2 = { audience = … }`

    warning: `limits` in `integrations.acme.token` is not read: only client_id and client_secret are
     --> config.toml:5:1
      |
    5 | token = ***
      | ^^^^^
      = help: it belongs in [integrations.acme]

    warning: `x` in `integrations.acme.token` is not read: only client_id and client_secret are
     --> config.toml:5:1
      |
    5 | token = ***
      | ^^^^^
      = help: leave it out

    4 warnings
    "#);
    let filed = lines.replace(token, "token_file = \"t\"");
    let held = r#"{"client_id": "me", "client_secret": "s3cret", "scope": "in-ner"}"#;
    let report = House::new(&filed).with("t", held).report();
    assert!(report.contains("`scope` in `integrations.acme.token_file` is not read"), "{report}");
    assert!(report.ends_with("\n1 warning\n") && !report.contains("in-ner"), "{report}");
}

#[test]
fn a_field_inside_of_another_is_told_as_one_that_drop_does_not_reach() {
    let lines = "drop = [\"user\", \"messages[0].name\", \"user.id\"]";
    insta::assert_snapshot!(House::new(&acme(lines)).report(), @r#"
    warning: `messages[0].name` is no field on top of the body, and others are not dropped
     --> config.toml:5:17
      |
    5 | drop = ["user", "messages[0].name", "user.id"]
      |                 ^^^^^^^^^^^^^^^^^^
      = help: name the field on top, which is dropped with all that is in it

    warning: `user.id` is no field on top of the body, and others are not dropped
     --> config.toml:5:37
      |
    5 | drop = ["user", "messages[0].name", "user.id"]
      |                                     ^^^^^^^^^
      = help: name the field on top, which is dropped with all that is in it

    2 warnings
    "#);
}

#[test]
fn what_a_format_or_an_authorization_is_called_elsewhere_leads_to_our_word() {
    for (key, words) in [
        (
            "format",
            &[
                ("claude", "anthropic"),
                ("Claude-3", "anthropic"),
                ("gpt", "openai"),
                ("gpt-4o", "openai"),
                ("openai-compatible", "openai"),
                ("openai_compatible", "openai"),
                ("vllm", "openai"),
                ("google", "gemini"),
                ("gemini-2.5-pro", "gemini"),
                ("gcp", "vertex"),
                ("google_vertex", "vertex"),
                ("aws", "bedrock"),
                ("aws_bedrock", "bedrock"),
                ("azure_openai", "azure"),
                ("custom", "declared"),
                ("llama", "ollama"),
            ][..],
        ),
        (
            "authentication_type",
            &[
                ("bearer", "api_key"),
                ("api-key", "api_key"),
                ("OAuth", "oauth2"),
                ("aws", "aws_sigv4"),
                ("google", "gcp"),
                ("mtls", "none"),
            ],
        ),
        ("oauth2.client_auth", &[("client_secret_basic", "basic"), ("mtls", "tls_client_auth")]),
    ] {
        for (written, meant) in words {
            let report = House::new(
                &acme("").replace("authentication_type = \"none\"\n", &format!("{key} = \"{written}\"\n")),
            )
            .report();
            assert!(
                report.contains(&format!("help: did you mean \"{meant}\"?")),
                "{key} = {written}: {report}"
            );
        }
    }
    let nothing = House::new(&acme("format = \"soap\"")).report();
    assert!(!nothing.contains("did you mean"), "{nothing}");
}

#[test]
fn a_path_that_begins_with_the_shells_home_is_refused_in_words() {
    let toml = acme("tls = { ca_file = \"~/corp.pem\" }");
    insta::assert_snapshot!(House::new(&toml).report(), @r#"
    error: `integrations.acme.tls.ca_file` begins with `~`, which only a shell fills in
     --> config.toml:5:9
      |
    5 | tls = { ca_file = "~/corp.pem" }
      |         ^^^^^^^
      = help: write the whole path, or "${HOME}/…"

    1 error
    "#);
    for lines in [
        "[server]\nlisten = \"unix:~/proxy.sock\"",
        "[server]\napi_key_file = \"~/key\"",
        "[server]\napi_key = \"${file:~/key}\"",
        "[handlers]\npython = \"~/venv/bin/python\"",
        "[handlers]\ndirectory = \"~\"",
    ] {
        let report = House::new(&format!("{lines}\n")).report();
        assert!(report.contains("begins with `~`, which only a shell fills in"), "{lines}: {report}");
        assert!(
            report.contains("write the whole path") && report.matches("error: ").count() == 1,
            "{lines}: {report}"
        );
    }
    let report = House::new("integrations_dir = \"~/defs\"\n").report();
    assert!(report.contains("write the whole path, or \"${HOME}/…\""), "{report}");
    let home = House::new(&acme("")).with("h/ca.pem", "");
    let path = home.path().display().to_string();
    let toml = "[handlers]\ndirectory = \"${HOME}/h\"\n";
    let loaded = House::new(toml).env([("HOME", path.as_str())]).loaded();
    assert_eq!(loaded.settings.handlers.directory, home.path().join("h"));
}

#[test]
fn a_variable_with_single_underscores_is_a_warning_and_those_of_kubernetes_are_not() {
    let house = House::new(&acme("forward_headers = [\"${OUTRIDER_LOG_FORMAT:-x-a}\"]")).env([
        ("OUTRIDER_SERVER_LISTEN", "127.0.0.1:1"),
        ("OUTRIDER_INTEGRATIONS_ACME_API_KEY_VALUE", "s3cret"),
        ("OUTRIDER_INTEGRATIONS_DIR", "/defs"),
        ("OUTRIDER_LOG_FORMAT", "x-b"),
        ("OUTRIDER_PORT", "tcp://10.0.0.1:4010"),
        ("OUTRIDER_SERVICE_HOST", "10.0.0.1"),
        ("OUTRIDER_PORT_4010_TCP_ADDR", "10.0.0.1"),
    ]);
    insta::assert_snapshot!(house.report(), @r#"
    warning: OUTRIDER_INTEGRATIONS_ACME_API_KEY_VALUE is not read as `integrations.acme.api_key_value`
     --> environment variable OUTRIDER_INTEGRATIONS_ACME_API_KEY_VALUE
      = help: two underscores stand between the levels: OUTRIDER_INTEGRATIONS__ACME__API_KEY_VALUE

    warning: OUTRIDER_INTEGRATIONS_DIR is not read as `integrations_dir`
     --> environment variable OUTRIDER_INTEGRATIONS_DIR
      = help: a key without a table cannot be set by a variable: write "${OUTRIDER_INTEGRATIONS_DIR}" in the file

    warning: OUTRIDER_SERVER_LISTEN is not read as `server.listen`
     --> environment variable OUTRIDER_SERVER_LISTEN
      = help: two underscores stand between the levels: OUTRIDER_SERVER__LISTEN

    3 warnings
    "#);
}

#[test]
fn a_number_or_a_flag_in_quotes_is_told_to_stand_without_them() {
    for (lines, words) in [
        ("[server]\nworkers = \"2\"", ["a whole number, found \"2\"\n", "leave the quotes out: 2\n"]),
        (
            "[limits]\nmax_concurrent = \"1_000\"",
            ["a whole number, found \"1_000\"\n", "leave the quotes out: 1_000\n"],
        ),
        ("[server]\nwatch = \"true\"", ["true or false, found \"true\"\n", "leave the quotes out: true\n"]),
    ] {
        let report = House::new(&format!("{lines}\n{}", acme(""))).report();
        assert!(words.iter().all(|words| report.contains(words)), "{report}");
    }
    let beyond = House::new(&format!("[server]\nworkers = \"{}0\"\n{}", usize::MAX, acme(""))).report();
    assert!(beyond.contains("of at most") && !beyond.contains("quotes"), "{beyond}");
}

#[test]
fn what_is_no_secret_in_the_common_tables_is_shown_where_it_is_wrong() {
    let tables = [
        ("server", raw::Server::KEYS),
        ("limits", raw::Limits::KEYS),
        ("handlers", raw::Handlers::KEYS),
        ("log", raw::Log::KEYS),
    ];
    for (table, key) in tables.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table, key))) {
        let report = House::new(&format!("[{table}]\n{key} = 1.5\n{}", acme(""))).report();
        let hidden = ["api_key", "api_key_file", "tls"].contains(key);
        assert!(hidden != report.contains(&format!("2 | {key} = 1.5\n")), "{report}");
    }
}
