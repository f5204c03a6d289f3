//! What newcomers write: keys of other programs, endpoints that lead back to us or go out in the clear, and tables beside
//! the JSON that they were meant for.

use super::{House, acme};

const KEYED: &str = "models = [\"m\"]\nauthentication_type = \"api_key\"\napi_key_header = \"x-key\"\n";

/// The report of `[integrations.acme]` with `lines`.
fn integration(lines: &str) -> String {
    House::new(&format!("[integrations.acme]\n{lines}\n")).report()
}

#[test]
fn a_credential_that_goes_to_another_machine_without_tls_is_a_warning_with_its_key_and_the_host() {
    insta::assert_snapshot!(
        integration(&format!("endpoint = \"http://llm.corp:8000/v1\"\n{KEYED}api_key_value = \"s3cret\"")),
        @r#"
    warning: `integrations.acme.endpoint` begins with http://, and on the way to llm.corp everyone can read what goes there: `integrations.acme.api_key_value`
     --> config.toml:2:1
      |
    2 | endpoint = ***
      | ^^^^^^^^
      = help: begin it with https://; if that host speaks no TLS, let a tunnel or a service mesh that encrypts lead to it

    1 warning
    "#
    );
}

#[test]
fn every_kind_of_credential_and_every_url_that_is_shown_one_is_looked_at() {
    let oauth2 = "models = [\"m\"]\noauth2 = { client_id = \"me\", client_secret = \"s3cret\" }\n";
    let open = "models = [\"m\"]\nauthentication_type = \"none\"\n";
    let aws = "models = [\"m\"]\nformat = \"bedrock\"\nauthentication_type = \"aws_sigv4\"\n";
    let clear = "endpoint = \"http://llm.corp/v1\"\n";
    let sealed = "endpoint = \"https://llm.corp/v1\"\n";
    for (lines, key, words) in [
        (format!("{clear}{oauth2}"), "endpoint", "the token, `integrations.acme.oauth2.client_secret`"),
        (
            format!("{sealed}{oauth2}oauth2_token_url = \"http://idp.corp/token\""),
            "oauth2_token_url",
            "on the way to idp.corp everyone can read what goes there: `integrations.acme.oauth2.client_secret`",
        ),
        (
            format!(
                "{sealed}models = [\"m\"]\ntoken = '{{\"client_id\": \"i\", \"client_secret\": \"s3cret\"}}'\noauth2_token_url = \"http://idp.corp/token\""
            ),
            "oauth2_token_url",
            "`integrations.acme.token`",
        ),
        (
            format!("{clear}{open}headers = {{ x-a = \"1\", x-api-key = \"s3cret\" }}"),
            "endpoint",
            "what goes there: `integrations.acme.headers.x-api-key`\n",
        ),
        (
            format!("{clear}{open}query = {{ key = \"s3cret\", v = \"1\" }}"),
            "endpoint",
            "what goes there: `integrations.acme.query.key`\n",
        ),
        (format!("{clear}models = [\"m\"]\nauthentication_type = \"gcp\""), "endpoint", "the token\n"),
        (
            format!(
                "{clear}{aws}aws = {{ region = \"r\", access_key_id = \"AKIA\", secret_access_key = \"s3cret\" }}"
            ),
            "endpoint",
            "what the AWS keys sign",
        ),
        (
            format!(
                "{sealed}{aws}aws = {{ region = \"r\", role_arn = \"arn:aws:iam::1:role/r\", web_identity_token_file = \"t\", sts_endpoint = \"http://sts.corp\" }}"
            ),
            "aws.sts_endpoint",
            "`integrations.acme.aws.web_identity_token_file`",
        ),
    ] {
        let report = integration(&lines);
        assert!(
            report.contains(&format!("warning: `integrations.acme.{key}` begins with http://")),
            "{report}"
        );
        assert!(report.contains(words) && report.contains("begin it with https://"), "{lines}: {report}");
        assert!(report.ends_with("\n1 warning\n") && !report.contains("s3cret"), "{lines}: {report}");
    }
}

#[test]
fn what_holds_no_credential_or_stays_on_this_machine_may_go_without_tls() {
    for lines in [
        "endpoint = \"http://llm.corp/v1\"\nmodels = [\"m\"]\nauthentication_type = \"none\"\nheaders = { x-team = \"a\" }".to_owned(),
        format!("endpoint = \"http://127.0.0.1:8000/v1\"\n{KEYED}api_key_value = \"s3cret\""),
        format!("endpoint = \"http://localhost:8000/v1\"\n{KEYED}api_key_value = \"s3cret\""),
        format!("endpoint = \"http://[::1]:8000/v1\"\n{KEYED}api_key_value = \"s3cret\""),
        format!("endpoint = \"https://llm.corp/v1\"\n{KEYED}api_key_value = \"s3cret\""),
    ] {
        assert_eq!(integration(&lines), "", "{lines}");
    }
}

#[test]
fn keys_of_other_programs_are_told_their_names_here_and_nothing_is_missed_besides() {
    let base = "endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"api_key\"\napi_key_header = \"x-key\"\n";
    insta::assert_snapshot!(integration(&format!("{base}api_key = \"s3cret\"")), @r#"
    error: unknown key `api_key`
     --> config.toml:6:1
      |
    6 | api_key = ***
      | ^^^^^^^
      = help: did you mean `api_key_value`? It is sent as it is, `Bearer ` included, in the header `api_key_header`; `api_key` in [server] is what callers present

    1 error
    "#);
    for (line, words) in [
        ("api_key_file = \"k\"", "did you mean `api_key_value_file`?"),
        (
            "[integrations.acme.oauth2]\napi_key = \"s3cret\"",
            "the provider's is `api_key_value` in [integrations.acme]",
        ),
        ("api_key_value = \"k\"\ntimeout = 5", "`limits = { first_byte = "),
        ("api_key_value = \"k\"\ntoken_url = \"https://t.example\"", "did you mean `oauth2_token_url`?"),
        ("api_key_value = \"k\"\nverify = false", "certificates are always verified"),
        ("api_key_value = \"k\"\nca_bundle = \"c\"", "`tls = { ca_file = "),
        ("api_key_value = \"k\"\nclient_key = \"c\"", "`client_key_file` beside `client_cert_file`"),
        ("api_key_value = \"k\"\nextra_headers = { a = \"b\" }", "did you mean `headers`?"),
        ("api_key_value = \"k\"\norganization = \"o\"", "OpenAI-Organization"),
        ("api_key_value = \"k\"\ntemperature = 0.5", "`defaults = { temperature = … }`"),
        ("api_key_value = \"k\"\nmax_retries = 2", "the client's own retries decide"),
        ("api_key_value = \"k\"\ntls = { ca = \"c\" }", "did you mean `ca_file`?"),
        ("api_key_value = \"k\"\ntls = { verify = false }", "certificates are always verified"),
    ] {
        let report = integration(&format!("{base}{line}"));
        assert!(report.contains(words) && !report.contains("belongs in [server]"), "{line}: {report}");
        assert!(!report.contains("s3cret"), "{line}: {report}");
    }
    let bare = "authentication_type = \"none\"\n";
    for key in ["base_url", "baseURL", "url", "api_base"] {
        let report = integration(&format!("{bare}{key} = \"https://a.example/v1\"\nmodel = \"m\""));
        assert!(
            report.contains("did you mean `endpoint`?") && report.contains("did you mean `models`?"),
            "{report}"
        );
        assert!(report.ends_with("\n2 errors\n"), "{key}: {report}");
    }
}

#[test]
fn galileos_json_is_told_them_too() {
    let json = "{\"base_url\": \"https://a.example/v1\", \"models\": [\"m\"],\n \"authentication_type\": \"api_key\",\n \
                \"api_key_header\": \"x-key\", \"api_key\": \"s3cret\"}";
    let report = House::new("integrations_dir = \"d\"\n").with("d/acme.json", json).report();
    for words in ["did you mean `endpoint`?", "did you mean `api_key_value`?", "has no `endpoint`"] {
        assert!(report.contains(words), "{words}: {report}");
    }
    assert!(
        !report.contains("belongs in [server]") && report.ends_with("\n2 errors, 2 warnings\n"),
        "{report}"
    );
}

/// The report of integrations, each with its endpoint, and of `listen`.
fn endpoints(listen: &str, all: &[(&str, &str, &str)]) -> String {
    let one = |(name, endpoint, more): &(&str, &str, &str)| {
        format!(
            "[integrations.{name}]\nendpoint = \"{endpoint}\"\nmodels = [\"{name}-m\"]\nauthentication_type = \"none\"\n{more}\n"
        )
    };
    let all: String = all.iter().map(one).collect();
    House::new(&format!("[server]\nlisten = {listen}\napi_key = \"k\"\n{all}")).report()
}

#[test]
fn an_endpoint_that_leads_back_to_its_integration_is_an_error() {
    let own = "\"127.0.0.1:4020\"";
    insta::assert_snapshot!(endpoints(own, &[("acme", "http://127.0.0.1:4020/acme/v1", "")]), @r#"
    error: `integrations.acme.endpoint` leads to Outrider itself (`server.listen` is 127.0.0.1:4020): the integration would call itself
     --> config.toml:5:1
      |
    5 | endpoint = ***
      | ^^^^^^^^
      = help: set the provider's own URL: http://127.0.0.1:4020/acme/v1 is what clients call

    1 error
    "#);
    for (listen, endpoint) in [
        (own, "http://127.0.0.1:4020/v1"),
        (own, "http://localhost:4020/v1"),
        (own, "http://127.0.0.1:4020"),
        (own, "http://127.0.0.1:4020/acme"),
        ("\"0.0.0.0:4020\"", "http://localhost:4020/acme/v1"),
        ("\"[::]:4020\"", "http://[::1]:4020/acme/v1"),
        ("[\"unix:/tmp/o.sock\", \"10.1.2.3:80\"]", "http://10.1.2.3/v1"),
    ] {
        let report = endpoints(listen, &[("acme", endpoint, "")]);
        assert!(report.contains("the integration would call itself"), "{listen} {endpoint}: {report}");
        assert_eq!(report.matches("error: ").count(), 1, "{listen} {endpoint}: {report}");
    }
    let report = endpoints(own, &[("acme", "http://127.0.0.1:4020", "path = \"/acme/v1/chat/completions\"")]);
    assert!(report.contains("would call itself"), "{report}");
    let circle = [("a", "http://127.0.0.1:4020/b/v1", ""), ("b", "http://127.0.0.1:4020/a/v1", "")];
    let report = endpoints(own, &circle);
    assert!(report.contains("call itself by way of `b`") && report.contains("by way of `a`"), "{report}");
}

#[test]
fn an_endpoint_that_leads_to_another_integration_or_listener_may_stay() {
    let own = "\"127.0.0.1:4020\"";
    let other = ("real", "https://a.example/v1", "");
    for (endpoint, more) in [
        ("http://127.0.0.1:4020/real/v1", ""),
        ("http://127.0.0.1:4021/acme/v1", ""),
        ("http://127.0.0.2:4020/v1", ""),
        ("http://acme.example:4020/v1", ""),
        // A handler names the model that it asks for.
        ("http://127.0.0.1:4020/v1", "custom_llm_config = { file_name = \"h.py\", class_name = \"H\" }"),
    ] {
        assert_eq!(endpoints(own, &[("acme", endpoint, more), other]), "", "{endpoint}");
    }
}

const JSON: &str =
    "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"authentication_type\": \"none\"}";

#[test]
fn a_table_or_a_variable_beside_no_json_of_its_name_is_one_error_that_names_the_file() {
    let dir = "integrations_dir = \"d\"\n";
    let house =
        House::new(&format!("{dir}[integrations.acmee.limits]\nidle = \"1s\"\n")).with("d/acme.json", JSON);
    insta::assert_snapshot!(house.report(), @r#"
    error: there is no integration `acmee` to which this could be added: `endpoint` and models are given nowhere
     --> config.toml:2:15
      |
    2 | [integrations.acmee.limits]
      |               ^^^^^
      = help: did you mean `acme` (d/acme.json)?

    1 error
    "#);
    let house = House::new(&format!("{dir}[integrations.acme]\nstrict = true\n")).with("d/Acme.json", JSON);
    let report = house.report();
    assert!(
        report.contains("did you mean `Acme` (d/Acme.json)?") && report.ends_with("\n1 error\n"),
        "{report}"
    );
    let house = House::new(dir).with("d/acme.json", JSON);
    let report = house.env([("OUTRIDER_INTEGRATIONS__ACM__API_KEY_VALUE", "s3cret")]).report();
    assert!(report.contains("environment variable OUTRIDER_INTEGRATIONS__ACM__API_KEY_VALUE"), "{report}");
    assert!(
        report.contains("did you mean `acme` (d/acme.json)?") && report.ends_with("\n1 error\n"),
        "{report}"
    );
    let toml =
        format!("{}[integrations.acmee]\nmodels = [\"n\"]\nauthentication_type = \"none\"\n", acme(""));
    assert!(House::new(&toml).report().contains("`integrations.acmee` has no `endpoint`"), "a new one");
}

#[test]
fn a_broken_json_is_the_only_thing_that_is_wrong() {
    let dir = "integrations_dir = \"d\"\n";
    for toml in [dir.to_owned(), format!("{dir}[integrations.a]\nstrict = true\n")] {
        let report = House::new(&toml).with("d/a.json", &JSON.replacen("\",", "\",,", 1)).report();
        assert!(report.contains("d/a.json:1:") && report.ends_with("\n1 error\n"), "{report}");
    }
    assert!(House::new("integrations_dir = \"no\"\n").report().ends_with("\n1 error\n"));
    insta::assert_snapshot!(House::new(dir).with("d/a.jsn", JSON).report(), @r#"
    warning: no integration is configured: no file in d ends in .json
     --> config.toml:1:1
      |
    1 | integrations_dir = "d"
      | ^^^^^^^^^^^^^^^^
      = help: put Galileo's JSON files there, each named NAME.json, or add [integrations.NAME]

    1 warning
    "#);
}

#[test]
fn a_token_in_another_form_is_told_the_right_one_and_what_was_found() {
    let json = |token: &str| {
        let base = JSON.replace("\"none\"", "\"oauth2\"").replace('}', &format!(",\n \"token\": {token}}}"));
        House::new("integrations_dir = \"d\"\n").with("d/acme.json", &base).report()
    };
    insta::assert_snapshot!(json("{\"client_id\": \"a\", \"client_secret\": \"s3cret\"}"), @r#"
    error: `integrations.acme.token` must be a string, found a table
     --> d/acme.json:2:2
      |
    2 |  "token": {"client_id": ***, "client_secret": ***}}
      |  ^^^^^^^
      = help: write it as Galileo does, the JSON in a string: "token": "{\"client_id\": \"…\", \"client_secret\": \"…\"}"

    1 error
    "#);
    insta::assert_snapshot!(json("\"{\\\"clientId\\\": \\\"a\\\", \\\"client_secret\\\": \\\"s3cret\\\"}\""), @r#"
    error: `integrations.acme.token` has no `client_id` in it, and `clientId` in its place
     --> d/acme.json:2:2
      |
    2 |  "token": ***}
      |  ^^^^^^^
      = help: write `client_id`, for no other name is read, or set it in `oauth2 = { … }`

    1 error
    "#);
    for (token, words) in [
        (r#"{"id": "a", "client_secret": "s3cret"}"#, "no `client_id` in it, and `id` in its place"),
        (r#"{"client_id": "a", "clientSecret": "s3cret"}"#, "no `client_secret` in it, and `clientSecret`"),
        (r#"{"client_id": "a", "password": "s3cret"}"#, "besides what is known there is `password`"),
        (r#"{"client_id": "a"}"#, "has no `client_secret` in it\n"),
    ] {
        let lines = format!("endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\ntoken = '{token}'");
        let report = integration(&lines);
        assert!(report.contains(words) && report.contains("config.toml:4:1"), "{token}: {report}");
        assert!(report.ends_with("\n1 error\n") && !report.contains("s3cret"), "{token}: {report}");
        let house = House::new(&lines.replace(&format!("token = '{token}'"), "token_file = \"t\"").replacen(
            "",
            "[integrations.acme]\n",
            1,
        ));
        let report = house.with("t", token).report();
        assert!(
            report.contains(words) && report.contains("`integrations.acme.token_file`"),
            "{token}: {report}"
        );
    }
}

#[test]
fn what_could_never_work_is_an_error() {
    for (lines, words) in [
        ("proxy = \"None\"", "did you mean \"none\"?"),
        ("forward_headers = [\"x-*\"]", "is no pattern"),
        ("defaults = { seed = 99999999999999999999 }", "a number that JSON has not"),
        ("defaults = { a = { b = [nan] } }", "a number that JSON has not"),
        (
            "oauth2_token_url = \"https://l.example/t\"\ntoken = '{\"client_id\": \"a\", \"client_secret\": \"b\", \"client_id\": \"c\"}'",
            "this key stands in line 1 already",
        ),
    ] {
        let toml = acme(lines);
        let toml =
            if lines.contains("token") { toml.replace("authentication_type = \"none\"\n", "") } else { toml };
        let report = House::new(&toml).report();
        assert!(report.contains(words) && report.contains("\n1 error\n"), "{lines}: {report}");
    }
    let oauth2 = acme("oauth2 = { client_id = \"${NO_SUCH}\", client_secret = \"s\" }")
        .replace("\"none\"", "\"oauth2\"");
    let report = House::new(&oauth2).report();
    assert!(report.contains("NO_SUCH is not set") && report.contains("\n1 error\n"), "{report}");
    let house = House::new(&acme("")).env([("OUTRIDER_INTEGRATIONS__ACME__DROP", "[user]")]);
    assert!(house.report().contains("must be a list"), "{}", house.report());
}

#[test]
fn a_name_with_a_dot_and_without_quotes_is_one_error_that_says_how_to_write_it() {
    let lines = "endpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"none\"\n";
    let report = |toml: String| House::new(&toml).report();
    insta::assert_snapshot!(report(format!("[integrations.gpt-4.1]\n{lines}")), @r#"
    error: unknown key `1`
     --> config.toml:1:21
      |
    1 | [integrations.gpt-4.1]
      |                     ^
      = help: a dot parts a name, unless it stands in quotes: [integrations."gpt-4.1"]

    1 error
    "#);
    let below =
        report(format!("[integrations.a.b.c]\n{lines}[integrations.a.b.c.limits]\nconnect = \"1s\"\n"));
    assert!(below.contains("[integrations.\"a.b.c\"]") && below.contains("\n1 error\n"), "{below}");
    let beside = report(format!("[integrations.a]\n{lines}[integrations.a.b]\n{lines}"));
    assert!(beside.contains("[integrations.\"a.b\"]") && beside.contains("1 error"), "{beside}");
    let other = report(format!("[integrations.a]\n{lines}[integrations.a.limit]\nconnect = \"1s\"\n"));
    assert!(other.contains("did you mean `limits`?"), "{other}");
    let table = report(format!(
        "[integrations.a]\n{lines}[integrations.a.oauth]\nendpoint = \"https://a.example/t\"\n"
    ));
    assert!(table.contains("did you mean `oauth2`?"), "{table}");
}

#[test]
fn the_name_of_a_key_gives_a_terminal_nothing_to_obey() {
    let json = "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"headers\": {\"a\\u001b[31m\": \"x\"}}";
    let report = House::new("integrations_dir = \"d\"\n").with("d/a.json", json).report();
    assert!(report.contains("a\\u{1b}[31m") && !report.contains('\u{1b}'), "{report}");
}

#[test]
fn a_key_of_an_integration_below_its_defaults_is_a_warning() {
    let report = House::new(&acme("[integrations.acme.defaults]\nstrict = true")).report();
    assert!(
        report.contains("`strict` is a field of the request here, and no key of [integrations.acme]"),
        "{report}"
    );
}

#[test]
fn an_entry_of_no_proxy_that_spares_no_host_is_a_warning() {
    let toml = |list: &str| format!("[egress]\n{list}\n{}", acme(""));
    let list = "no_proxy = \"10.0.0.0/99, .svc,https://a.example,a.example;b.example,me:s3cret@c.example\"";
    insta::assert_snapshot!(House::new(&toml(list)).report(), @r#"
    warning: `egress.no_proxy` spares no host by "10.0.0.0/99", which is no range of addresses such as 10.0.0.0/8
     --> config.toml:2:1
      |
    2 | no_proxy = ***
      | ^^^^^^^^
      = help: hosts, .suffixes, addresses and ranges are known, each also with a port, and * for all

    warning: `egress.no_proxy` spares no host by "https://a.example", which is a URL: write its host alone
     --> config.toml:2:1
      |
    2 | no_proxy = ***
      | ^^^^^^^^
      = help: hosts, .suffixes, addresses and ranges are known, each also with a port, and * for all

    warning: `egress.no_proxy` spares no host by "a.example;b.example", which holds a `;`: commas or blanks stand between entries
     --> config.toml:2:1
      |
    2 | no_proxy = ***
      | ^^^^^^^^
      = help: hosts, .suffixes, addresses and ranges are known, each also with a port, and * for all

    warning: `egress.no_proxy` spares no host by an entry, which holds a user: write the host alone
     --> config.toml:2:1
      |
    2 | no_proxy = ***
      | ^^^^^^^^
      = help: hosts, .suffixes, addresses and ranges are known, each also with a port, and * for all

    4 warnings
    "#);
    let proxy = "proxy = \"http://p.corp:3128\"";
    let house = House::new(&toml(proxy)).env([("NO_PROXY", "169.254.*,localhost")]);
    insta::assert_snapshot!(house.report(), @r#"
    warning: the environment variable NO_PROXY spares no host by "169.254.*", which has a `*` in a place where none is known: it stands alone, or first as in *.example.com
     --> environment variable NO_PROXY
      = help: hosts, .suffixes, addresses and ranges are known, each also with a port, and * for all

    1 warning
    "#);
    let unproxied = House::new(&toml("")).env([("NO_PROXY", "169.254.*")]).report();
    assert!(unproxied.is_empty(), "{unproxied}");
}
