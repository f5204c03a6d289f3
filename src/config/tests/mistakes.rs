//! Mistakes as they are shown, all at once.

use super::{House, acme};
use crate::config::{Environment, Options, load};

#[test]
fn all_mistakes_of_a_file_are_shown_at_once() {
    let toml = "[server]\nlistne = \"127.0.0.1:1\"\nworkers = \"two\"\nheader_timeout = 10\n[limits]\nconnect = \"5 seconds\"\n[egres]\n";
    insta::assert_snapshot!(House::new(toml).report(), @r#"
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

    error: unknown key `egres`
     --> config.toml:7:2
      |
    7 | [egres]
      |  ^^^^^
      = help: did you mean `egress`?

    warning: no integration is configured
      = help: add [integrations.NAME], or set integrations_dir to a directory with Galileo's JSON files

    5 errors, 1 warning
    "#);
}

#[test]
fn all_mistakes_of_an_integration_are_shown_at_once_and_its_secrets_are_not() {
    let house = House::new(
        r#"[integrations.acme]
endpont = "https://acme.example/v1"
format = "antropic"
authentication_type = "api_key"
api_key_value = "Bearer s3cret" # and s3cret
model_properties = [{ name = "a", alias = "x" }, { name = "b", alias = "x", suported_parameters = ["n"] }]
"#,
    );
    insta::assert_snapshot!(house.report(), @r#"
    error: `integrations.acme`: authentication_type = "api_key" needs `api_key_header`
     --> config.toml:1:15
      |
    1 | [integrations.acme]
      |               ^^^^
      = help: name the header, such as api_key_header = "Authorization"

    error: unknown key `endpont`
     --> config.toml:2:1
      |
    2 | endpont = ***
      | ^^^^^^^
      = help: did you mean `endpoint`?

    error: `integrations.acme.format` must be one of "openai", "anthropic", "azure", "mistral", "gemini", "vertex", "bedrock", "cohere", "ollama", "declared", found "antropic"
     --> config.toml:3:1
      |
    3 | format = "antropic"
      | ^^^^^^
      = help: did you mean "anthropic"?

    error: two models answer to `x`
     --> config.toml:6:64
      |
    6 | model_properties = [{ name = "a", alias = "x" }, { name = "b", alias = "x", suported_parameters = [***] }]
      |                                                                ^^^^^
      = help: give each model an alias of its own

    error: unknown key `suported_parameters`
     --> config.toml:6:77
      |
    6 | model_properties = [{ name = "a", alias = "x" }, { name = "b", alias = "x", suported_parameters = [***] }]
      |                                                                             ^^^^^^^^^^^^^^^^^^^
      = help: did you mean `supported_parameters`?

    5 errors
    "#);
}

#[test]
fn a_syntax_error_shows_where_and_not_what() {
    let house = House::new(
        "[server]\nlisten = \"127.0.0.1:1\nworkers = 2\n[integrations.acme]\napi_key_value Bearer s3cret\ntoken = {{\n",
    );
    insta::assert_snapshot!(house.report(), @r#"
    error: not valid TOML: invalid basic string, expected `"`
     --> config.toml:2:22
      |
    2 | listen = ***
      |          ^^^

    error: not valid TOML: key with no value, expected `=`
     --> config.toml:5:15
      |
    5 | api_key_value ***
      |               ^^^

    error: not valid TOML: missing key for inline table element, expected key
     --> config.toml:6:10
      |
    6 | token = ***
      |         ^^^

    error: not valid TOML: unclosed inline table, expected `}`
     --> config.toml:6:11
      |
    6 | token = ***
      |         ^^^

    4 errors
    "#);
}

#[test]
fn a_key_given_twice_is_shown_where_it_stands_again() {
    let house = House::new("[server]\nworkers = 1\nworkers = 2\n");
    insta::assert_snapshot!(house.report(), @r#"
    error: not valid TOML: duplicate key
     --> config.toml:3:1
      |
    3 | workers = ***
      | ^^^^^^^^^
      = help: `server.workers` stands in line 2 already: keep one of them

    1 error
    "#);
}

#[test]
fn a_mistake_in_galileos_json_has_its_line_and_does_not_hide_those_of_other_files() {
    let house = House::new("integrations_dir = \"d\"\n[server]\nstart = \"strickt\"\n")
        .with("d/a.json", "{\"endpoint\": \"https://a.example/v1\",\n  \"models\": \"m\",\n  \"authentication_type\": \"none\"}\n")
        .with("d/b.json", "{\"endpoint\": \"https://b.example/v1\",\n \"api_key_value\": \"s3cret\n\"}")
        .with("d/c.json", "[]")
        .with("d/not a name.json", "{}");
    insta::assert_snapshot!(house.report(), @r#"
    error: `server.start` must be one of "degrade", "strict", found "strickt"
     --> config.toml:3:1
      |
    3 | start = "strickt"
      | ^^^^^
      = help: did you mean "strict"?

    error: `integrations.a.models` must be a list, `["…"]`, found "m"
     --> d/a.json:2:3
      |
    2 |   "models": "m",
      |   ^^^^^^^^

    error: not valid JSON: control character (\u0000-\u001F) found while parsing a string
     --> d/b.json:3:1

    error: not valid JSON: expected an object, `{…}`
     --> d/c.json:1:1

    error: `not a name` cannot name an integration: a name holds only letters, digits, `.`, `_` and `-`
     --> d/not a name.json
      = help: rename the file: an integration is called what its file is called

    5 errors
    "#);
}

#[test]
fn a_key_that_stands_where_its_header_should_is_refused_and_not_shown() {
    let swapped = "authentication_type = \"api_key\"\napi_key_header = \"sk-proj-Qm8Zr2Lk9Wn4Xb7Tc1Vd\"\n\
                   api_key_value = \"Authorization\"";
    let lines = acme("").replace("authentication_type = \"none\"", swapped);
    insta::assert_snapshot!(House::new(&lines).report(), @r#"
    error: `integrations.acme.api_key_header` looks like a key, not like the name of a header
     --> config.toml:5:1
      |
    5 | api_key_header = ***
      | ^^^^^^^^^^^^^^
      = help: if it is the key, it belongs into api_key_value or api_key_value_file; this names the header that it is sent in

    1 error
    "#);
}

#[test]
fn a_file_that_is_not_there_is_named_and_without_any_all_places_are() {
    let house = House::new("");
    let options = Options {
        file: Some("none.toml".into()),
        env: Environment::default(),
        dir: house.path().to_owned(),
        ..Options::default()
    };
    let report = load(&options).unwrap_err().render(false);
    insta::assert_snapshot!(report, @r#"
    error: cannot read none.toml: No such file or directory
     --> none.toml

    1 error
    "#);
    let env = Environment::of([("OUTRIDER_CONFIG", "other.toml")]);
    let report = load(&Options { file: None, env, dir: house.path().to_owned(), ..Options::default() })
        .unwrap_err()
        .render(false);
    assert!(report.contains("other.toml"), "{report}");
    let empty = tempfile::tempdir().unwrap();
    let report =
        load(&Options { dir: empty.path().to_owned(), ..Options::default() }).unwrap_err().render(false);
    assert!(report.contains("/config.toml nor /etc/outrider/config.toml exists"), "{report}");
}

#[test]
fn variables_and_files_that_are_missing_are_shown_where_they_are_asked_for() {
    let house = House::new(&format!(
        "[log]\nlevel = \"${{LEVEL}}\"\n[server]\napi_key = \"${{file:caller-key}}\"\n{}",
        acme("default_model = \"${MODEL:?choose one}\"\nheaders = { x-a = \"${A\", x-b = \"${s3cret-x}\" }")
    ));
    insta::assert_snapshot!(house.report(), @r#"
    error: the environment variable LEVEL is not set
     --> config.toml:2:1
      |
    2 | level = "${LEVEL}"
      | ^^^^^
      = help: set LEVEL, or give a default: ${LEVEL:-default}

    error: cannot read DIR/…: No such file or directory
     --> config.toml:4:1
      |
    4 | api_key = ***
      | ^^^^^^^

    error: the environment variable MODEL is not set: choose one
     --> config.toml:9:1
      |
    9 | default_model = "${MODEL:?choose one}"
      | ^^^^^^^^^^^^^
      = help: set MODEL, or give a default: ${MODEL:-default}

    error: `${` without its `}`
      --> config.toml:10:13
       |
    10 | headers = { x-a = ***, x-b = *** }
       |             ^^^
       = help: close it, or write `$${` for a literal `${`

    error: what stands between `${` and `}` is not a variable's name
      --> config.toml:10:26
       |
    10 | headers = { x-a = ***, x-b = *** }
       |                        ^^^
       = help: known are ${VAR}, ${VAR:-default}, ${VAR:?message} and ${file:/path}; a literal is `$${`

    5 errors
    "#);
}

/// The report of one integration, `lines` being all of it.
fn integration(lines: &str) -> String {
    House::new(&format!("[integrations.acme]\n{lines}\n")).report()
}

#[test]
fn without_an_authentication_type_the_help_says_what_was_probably_meant() {
    let base = "endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\n";
    insta::assert_snapshot!(integration(base), @r#"
    error: `authentication_type` is not given, and nothing of its default `oauth2` is
     --> config.toml:1:15
      |
    1 | [integrations.acme]
      |               ^^^^
      = help: set authentication_type = "none", "api_key" or "oauth2"; without it Galileo's default is oauth2

    1 error
    "#);
    let with_key = format!("{base}api_key_header = \"x-key\"\napi_key_value = \"s3cret\"");
    assert!(integration(&with_key).contains("set authentication_type = \"api_key\""));
    let with_token_url = format!("{base}oauth2_token_url = \"https://t.example/token\"");
    assert!(integration(&with_token_url).contains("oauth2 needs a `client_id`"));
}

#[test]
fn secrets_are_given_once_and_are_not_empty() {
    insta::assert_snapshot!(
        integration(
            "endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"api_key\"\napi_key_header = \"x-key\"\n\
             api_key_value = \"\"\n[integrations.b]\nendpoint = \"https://b.example\"\nmodels = [\"n\"]\n\
             token = \"{s3cret}\"\noauth2 = { client_id = \"me\", client_secret = \"s3cret\", client_secret_file = \"s\" }"
        ),
        @r#"
    error: `integrations.acme.api_key_value` is empty
     --> config.toml:6:1
      |
    6 | api_key_value = ***
      | ^^^^^^^^^^^^^
      = help: an empty credential would become a request without one

    error: both `client_secret` and `client_secret_file` are given
      --> config.toml:11:56
       |
    11 | oauth2 = { client_id = ***, client_secret = ***, client_secret_file = *** }
       |                                                  ^^^^^^^^^^^^^^^^^^
       = help: keep one of them

    2 errors
    "#);
}

#[test]
fn an_endpoint_is_a_plain_url() {
    for (endpoint, words) in [
        ("a.example/v1", "must begin with https://"),
        ("ftp://a.example", "must begin with https://"),
        ("https://", "is not a URL"),
        ("https://me:s3cret@a.example/v1", "holds a user or a password"),
        ("https://a.example/v1?key=s3cret", "has a query"),
        ("https://a.example/v1#s3cret", "has a fragment"),
        ("https://a b/v1", "is not a URL"),
        ("https://a.example:0/v1", "has no usable port"),
        ("https://a.example:99999/v1", "has no usable port"),
        ("", "must begin with https://"),
    ] {
        let report = integration(&format!(
            "endpoint = \"{endpoint}\"\nmodels = [\"m\"]\nauthentication_type = \"none\""
        ));
        assert!(report.contains(words) && !report.contains("s3cret"), "{endpoint}: {report}");
        assert!(report.ends_with("\n1 error\n"), "{endpoint}: {report}");
    }
}

/// Every line is one mistake: what is added to a good integration, and words of the message.
const MISTAKES: &[(&str, &str)] = &[
    ("headers = { content-length = \"5\" }", "`content-length` belongs to the connection"),
    ("headers = { Host = \"x\" }", "`host` belongs to the connection"),
    ("headers = { \"bad name\" = \"x\" }", "not a header's name"),
    ("headers = { x-a = \"a\\nb\" }", "cannot stand in a header"),
    ("headers = { x-a = \"1\", X-A = \"2\" }", "is given twice"),
    ("custom_header_mapping = { job_id = \"transfer-encoding\" }", "belongs to the connection"),
    ("custom_header_mapping = { job_id = \"x-a\", run_id = \"X-A\" }", "carries another id already"),
    ("custom_header_mapping = { jobid = \"x-a\" }", "did you mean `job_id`?"),
    ("forward_headers = [\"Authorization\"]", "the caller's own credential never leaves"),
    ("forward_headers = [\"Connection\"]", "belongs to the connection"),
    ("default_model = \"n\"", "none of the integration's models"),
    ("multi_modal_config = { max_files = 0 }", "must be 1 or more"),
    (
        "custom_llm_config = { file_name = \"../h.py\", class_name = \"H\" }",
        "must be the bare name of a .py file",
    ),
    (
        "custom_llm_config = { file_name = \"/opt/h.py\", class_name = \"H\" }",
        "must be the bare name of a .py file",
    ),
    (
        "custom_llm_config = { file_name = \"a/h.py\", class_name = \"H\" }",
        "must be the bare name of a .py file",
    ),
    (
        "custom_llm_config = { file_name = \"h.txt\", class_name = \"H\" }",
        "must be the bare name of a .py file",
    ),
    (
        "custom_llm_config = { file_name = \".py\", class_name = \"H\" }",
        "must be the bare name of a .py file",
    ),
    ("custom_llm_config = { file_name = \"h.py\" }", "needs `class_name`"),
    ("custom_llm_config = { file_name = \"h.py\", class_name = \"a b\" }", "is not the name of a class"),
    ("limits = { connect = \"0s\" }", "must be a duration above 0"),
    ("limits = { max_concurrent = 0 }", "must be 1 or more"),
    ("limits = { max_concurrent = -1 }", "must be a whole number, 0 or more, found -1"),
    ("limits = { idle = 5 }", "give it a unit: \"5s\""),
    ("path = \"v2\"", "must begin with `/`"),
    ("path = \"/{modle}/x\"", "only {model} is filled in"),
    ("path = \"/x?y=1\"", "put a query into `query"),
    ("format = \"azure\"", "needs `api_version`"),
    (
        "format = \"azure\"\napi_version = \"a\"\nquery = { api-version = \"b\" }",
        "`api_version` says something else",
    ),
    ("format = \"declared\"\nresponse.content = \"{{ x }}\"", "needs `request`"),
    ("format = \"declared\"\nrequest.m = \"{{ messages }}\"\nresponse = {}", "needs `content`"),
    ("tls = { client_cert_file = \"c\" }", "needs `client_key_file`"),
    ("tls = { ca_mode = \"replace\" }", "would trust nobody"),
    ("tls = { min_version = \"1.1\" }", "must be one of \"1.2\", \"1.3\", found \"1.1\""),
    ("tls = { server_name = \"a b\" }", "must be a host's name"),
    ("proxy = \"socks5://me:s3cret@p:1\"", "must be an http:// or https:// proxy"),
    ("defaults = { model = \"x\" }", "`model` cannot be edited"),
    ("drop = [\"messages\"]", "`messages` cannot be edited"),
    ("rename = { max_tokens = \"stream\" }", "`stream` cannot be edited"),
    ("rename = { a = \"c\", b = \"c\" }", "two fields are renamed to `c`"),
    ("rename = { a = \"c\" }\ndrop = [\"a\"]", "both renamed and dropped"),
    ("aws = { access_key_id = \"a\" }", "needs `secret_access_key`"),
    (
        "model_properties = [{ name = \"a\", based_on = \"b\", supported_parameters = [\"n\"] }]",
        "exclude each other",
    ),
    (
        "model_properties = [{ name = \"a\", supported_parameters = [\"temprature\"] }]",
        "did you mean `temperature`?",
    ),
    (
        "model_properties = [{ name = \"a\", supported_parameters = [\"stop\"] }]",
        "Galileo's name for it is `stop_sequences`",
    ),
    ("model_properties = [{ alias = \"a\" }]", "has no `name`"),
    ("model_properties = [{ name = \"a\\u0000\" }]", "cannot name a model"),
    ("client_id = \"x\"", "`client_id` belongs in [integrations.NAME.oauth2]"),
    ("timeout = 5", "`limits = { first_byte = "),
    ("colour = 5", "config.toml.example shows every key"),
    ("call_style = \"litelm\"", "did you mean \"litellm\"?"),
];

#[test]
fn each_mistake_in_an_integration_is_one_error_that_says_so() {
    for (lines, words) in MISTAKES {
        let report = House::new(&acme(lines)).report();
        assert!(report.contains(words), "{lines}: {report}");
        let errors = report.matches("error: ").count();
        assert!(errors == 1 && report.contains("--> config.toml:"), "{lines}: {errors} errors: {report}");
    }
}

#[test]
fn each_flaw_of_a_secret_says_what_to_do() {
    for (value, help) in [
        ("Bearer k\\n", "one newline at the end is left out"),
        ("Bearer ", "write the key after it"),
        ("", "would become a request without one"),
        ("****", "set the secret itself"),
    ] {
        let lines =
            "endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"api_key\"\n";
        let report = integration(&format!("{lines}api_key_header = \"x\"\napi_key_value = \"{value}\""));
        assert!(report.contains("`integrations.") && report.contains(help), "{value}: {report}");
        assert_eq!(report.matches("error: ").count(), 1, "{value}: {report}");
    }
}

#[test]
fn each_mistake_in_oauth2_is_one_error_that_says_so() {
    for (lines, words) in [
        ("oauth2 = { client_id = \"me\" }", "oauth2 needs a `client_secret`"),
        ("oauth2 = { client_secret = \"x\" }", "oauth2 needs a `client_id`"),
        ("token = \"s3cret\"", "`token`: it must hold JSON"),
        ("token = '{\"client_id\": 5, \"client_secret\": \"x\"}'", "its client_id must be a string"),
        ("token = '{\"client_id\": \"\", \"client_secret\": \"x\"}'", "its client_id is empty"),
        ("token = '{\"client_id\": \"a\", \"client_secret\": \"${NO}\"}'", "NO is not set"),
        (
            "oauth2 = { client_id = \"a\", client_secret = \"b\", client_auth = \"Basic\" }",
            "did you mean \"basic\"?",
        ),
        (
            "oauth2 = { client_id = \"a\", client_secret = \"b\", extra_params = { grant_type = \"x\" } }",
            "cannot be one of `extra_params`",
        ),
        (
            "oauth2 = { client_id = \"a\", client_secret = \"b\", header = \"te\" }",
            "belongs to the connection",
        ),
        (
            "oauth2 = { client_id = \"a\", client_secret = \"b\", prefix = \"a\\n\" }",
            "cannot stand in a header",
        ),
        ("oauth2 = { client_id = \"a\", client_auth = \"private_key_jwt\" }", "needs `signing_key_file`"),
        ("oauth2 = { client_id = \"a\", client_auth = \"assertion_file\" }", "needs `assertion_file`"),
    ] {
        let report = integration(&format!("endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\n{lines}"));
        assert!(report.contains(words) && !report.contains("s3cret"), "{lines}: {report}");
        assert_eq!(report.matches("error: ").count(), 1, "{lines}: {report}");
    }
}

#[test]
fn each_mistake_in_the_common_tables_is_one_error_that_says_so() {
    for (lines, words) in [
        ("[server]\nlisten = \"localhost:4010\"", "write 127.0.0.1:4010"),
        ("[server]\nlisten = \":4010\"", "write 0.0.0.0:4010"),
        ("[server]\nlisten = []", "is empty"),
        ("[server]\nlisten = [\"127.0.0.1:4011\"]", "has already"),
        ("[server]\nlisten = \"unix:\"", "names no socket"),
        ("[server]\nmax_header_bytes = \"4KiB\"", "at least 8192 bytes"),
        ("[server]\nmax_body = \"32MB\"", "must be a size such as"),
        ("[server]\ntls = { cert_file = \"c\" }", "needs `key_file`"),
        ("[server]\nwatch = \"yes\"", "must be true or false"),
        ("[server]\nidle_timeout = \"9999h\"", "must be a duration of at most \"8760h\", a year, found"),
        ("[egress]\nca_mode = \"replace\"", "would trust nobody"),
        ("[egress]\nproxy = \"http://p/x\"", "must not have a path"),
        ("[handlers]\nworkers = 0", "must be 1 or more"),
        ("[handlers]\nenv = [\"A=B\"]", "holds names of environment variables"),
        ("[log]\nformat = \"xml\"", "must be one of \"auto\", \"json\", \"text\""),
        ("listen = \"127.0.0.1:1\"", "`listen` belongs in [server]"),
        ("integrations = 5", "must be a table"),
        ("integrations_dir = \"none\"", "cannot read the directory none"),
        (
            "[integrations.\"a/b\"]\nendpoint = \"https://a.example\"\nmodels = [\"m\"]\nauthentication_type = \"none\"",
            "cannot name an integration",
        ),
    ] {
        let report = House::new(&format!("{lines}\n")).report();
        assert!(report.contains(words), "{lines}: {report}");
        assert_eq!(report.matches("error: ").count(), 1, "{lines}: {report}");
    }
}

#[test]
fn each_thing_without_effect_is_a_warning() {
    for (lines, words) in [
        ("api_key_value = \"x\"", "`api_key_value` is not used"),
        (
            "tls = {}\n[integrations.b]\nendpoint = \"http://b.example\"\nmodels = [\"n\"]\nauthentication_type = \"none\"\ntls = {}",
            "the endpoint begins with http://",
        ),
        ("request = { a = 1 }", "`request` is not used"),
        ("api_version = \"2024-10-21\"", "`api_version` is not used: the format is openai"),
        ("token_tls = {}", "`token_tls` is not used: authentication_type is \"none\""),
        ("call_style = \"direct\"", "`call_style` is not used: there is no `custom_llm_config`"),
        (
            "model_properties = [{ name = \"a\", supported_parameters = [] }]",
            "is empty, so every parameter passes",
        ),
        (
            "[integrations.b]\nendpoint = \"https://b.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"none\"",
            "the model `m` is also in the integration `acme`",
        ),
        (
            "[integrations.b]\nendpoint = \"https://b.example/v1/chat/completions\"\nmodels = [\"n\"]\nauthentication_type = \"none\"",
            "ends in /chat/completions, and /chat/completions is appended to it",
        ),
        (
            "[integrations.b]\nendpoint = \"https://b.example/v1\"\nformat = \"anthropic\"\nmodels = [\"n\"]\nauthentication_type = \"none\"",
            "ends in /v1, and /v1/messages is appended to it",
        ),
        (
            "[integrations.b]\nendpoint = \"https://b.example/v1\"\nmodels = [\"n\"]\noauth2 = { client_id = \"a\", client_secret = \"b\", key_id = \"k\" }",
            "`key_id` is not used",
        ),
    ] {
        let house = House::new(&acme(lines));
        let loaded = house.loaded();
        assert_eq!(loaded.warnings.len(), 1, "{lines}: {}", loaded.warnings);
        assert!(house.report().contains(words), "{lines}: {}", house.report());
    }
}

#[test]
fn more_headers_than_galileo_takes_are_refused() {
    let headers = |n: usize| (0..n).map(|n| format!("x-{n} = \"v\"")).collect::<Vec<_>>().join(", ");
    let report = |n: usize| House::new(&acme(&format!("headers = {{ {} }}", headers(n)))).report();
    assert_eq!(report(50), "");
    assert!(report(51).contains("has 51 headers; at most 50 are taken"), "{}", report(51));
}

#[test]
fn a_file_that_is_no_text_is_named_and_a_byte_order_mark_is_no_mistake() {
    let house = House::new("").with("d/a.json", "\u{feff}{\"endpoint\": \"https://a.example\", \"models\": [\"m\"], \"authentication_type\": \"none\"}");
    std::fs::write(
        house.path().join("config.toml"),
        "\u{feff}integrations_dir = \"d\"\r\n[log]\r\nlevel = \"info\"\r\n",
    )
    .unwrap();
    assert_eq!(house.report(), "");
    std::fs::write(house.path().join("config.toml"), [0xff, 0xfe, b'a']).unwrap();
    assert!(house.report().contains("cannot read config.toml"), "{}", house.report());
}
