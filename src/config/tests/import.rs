//! What `import` writes means what the JSON means, holds no secret, and its mistakes are those of `integrations_dir`.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::House;
use super::galileo::PAYLOADS;
use crate::config::valid::{Authorization, AwsKeys, Integration, SecretSource};
use crate::config::{Definition, Environment, Imported, Problems, Severity, import};
use crate::secret::Secret;

/// In every secret of these tests.
const SENTINEL: &str = "s3nt1nel";

/// Galileo's and our own keys in the shapes that people write, with a secret wherever one may be.
fn definitions() -> Vec<(&'static str, Value)> {
    let token = |fields: Value| Value::from(fields.to_string());
    vec![
        (
            "an export",
            json!({"id": "1", "name": "x", "provider": "custom", "extra": {"a": 1}, "created_at": "2026-07-01", "updated_at": null,
                "is_selected": true, "permissions": [], "is_legacy_format": false, "authentication_type": "api_key",
                "endpoint": "https://a.example/v1", "api_key_header": "Authorization", "api_key_value": "Bearer s3nt1nel",
                "oauth2_token_url": "", "token": null, "authentication_scope": "", "default_model": "",
                "headers": {"X-Team": "a \"b\" \\c", "x-api-key": "s3nt1nel-2", "x-a.b": "c"},
                "custom_header_mapping": {"job_id": "", "run_id": "x-run", "user_id": null},
                "model_properties": [{"name": "n", "alias": "", "supported_parameters": ["n", "brand_new"]}, {"name": "o", "based_on": "gpt", "supports_json_schema": true}],
                "models": ["p"], "multi_modal_config": {"max_files": null, "max_file_size_bytes": 10}, "custom_llm_config": null,
                "brand_new": {"deep": "s3nt1nel-3"}}),
        ),
        (
            "constructor arguments",
            json!({"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"], "api_key_value": "s3nt1nel",
                "custom_llm_config": {"file_name": "h.py", "class_name": "H", "init_kwargs": {
                    "z": 1, "api_key": "s3nt1nel", "ratio": 0.5, "big": 18446744073709551615u64, "negative": -3, "password": "s3nt1nel 7",
                    "pin_token": "true", "dsn": "postgres://u:s3nt1nel@h/db", "store": "Server=h;Password=s3nt1nel;", "keys": ["123"], "deep": {"list": [1, {"secret": "s3nt1nel-deep"}, ["a", []]], "empty": {}, "long": "x".repeat(90)}}}}),
        ),
        (
            "a client with more than its token says",
            json!({"endpoint": "https://a.example/v1", "models": ["m"], "authentication_scope": "a b",
                "token": token(json!({"client_id": "i\"d", "client_secret": "s3nt1nel\\\"", "audience": "x"})),
                "oauth2": {"client_auth": "basic", "audience": "https://a.example", "prefix": "Token ",
                    "extra_params": {"n": 1, "key": "s3nt1nel-p", "plain": "word"}, "extra_headers": {"x-auth": "s3nt1nel-h"}}}),
        ),
        (
            "an own client",
            json!({"authentication_type": "oauth2", "endpoint": "https://a.example/v1", "oauth2_token_url": "https://l.example/t?sig=s3nt1nel",
                "models": ["m"], "oauth2": {"client_id": "own", "client_secret": "s3nt1nel"}, "api_key_header": "x-key"}),
        ),
        (
            "references already",
            json!({"authentication_type": "oauth2", "endpoint": "${BASE:-https://a.example}/v1", "models": ["m"],
                "headers": {"x-api-key": "${KEY}", "x-literal": "a$${b}", "x-secret": "${NONE:-s3nt1nel}"},
                "token": token(json!({"client_id": "${ID}", "client_secret": "${SECRET}"}))}),
        ),
        (
            "AWS",
            json!({"authentication_type": "aws_sigv4", "format": "bedrock", "endpoint": "https://bedrock-runtime.us-east-1.amazonaws.com",
                "models": ["m"], "aws": {"access_key_id": "s3nt1nel-id", "secret_access_key": "s3nt1nel", "region": "us-east-1"},
                "proxy": "http://me:s3nt1nel@proxy:3128", "query": {"z": "1", "a": "x", "api-key": "s3nt1nel-q"}}),
        ),
        (
            "the rest of ours",
            json!({"authentication_type": "none", "format": "declared", "endpoint": "https://a.example/generate/", "models": ["m"],
                "tls": {"ca_file": "/etc/ssl/ca.pem", "client_key_file": "/etc/k", "client_cert_file": "/etc/c", "min_version": "1.3"}, "limits": {"connect": "2s", "max_answer": 1024},
                "forward_headers": ["x-a"], "defaults": {"max_tokens": 7, "stop": ["\n", "'"], "user_token": "s3nt1nel", "nested": {"a": [true]}},
                "rename": {"a": "b"}, "drop": ["user"], "strict": true, "token": "s3nt1nel", "aws": {"access_key_id": "s3nt1nel", "secret_access_key": "s3nt1nel"},
                "request": {"prompt": "{{ messages | join_prompt(user='A: ') }}", "max_tokens": "{{ max_tokens }}", "key": "s3nt1nel-r", "o": [1, {"p": "{{ seed }}"}]},
                "response": {"content": "{{ a['b'] ~ \"c\" }}", "usage": {"total_tokens": "{{ t }}"}}, "stream": {"framing": "ndjson", "delta": "{{ a }}", "done": "{{ d }}"}}),
        ),
    ]
}

const VARIABLES: [(&str, &str); 3] = [("KEY", "k-1"), ("ID", "me"), ("SECRET", "s-1")];

fn definition(text: &str) -> Definition {
    Definition { shown: "d/acme.json".to_owned(), dir: "/no/such/directory".into(), text: text.to_owned() }
}

fn imported(text: &str) -> Result<Imported, Problems> {
    import(&definition(text), &"acme".parse().unwrap(), &Environment::default())
}

fn of_directory(text: &str) -> House {
    House::new("integrations_dir = \"d\"\n").with("d/acme.json", text).env(VARIABLES)
}

/// The value that the JSON has at `key`.
fn secret(json: &Value, key: &str) -> String {
    let (mut place, mut rest) = (json, key);
    while !rest.is_empty() {
        // A list has no step in a key: what is meant is what has the key.
        while let Value::Array(values) = place {
            let name = rest.split('.').next().unwrap();
            place = values
                .iter()
                .find(|one| !one[name].is_null())
                .unwrap_or_else(|| panic!("{key} is not in {json}"));
        }
        let (first, after) = rest.split_once('.').unwrap_or((rest, ""));
        (place, rest) = (&place[first], after);
    }
    let place = place.as_array().map_or(place, |values| &values[0]);
    let text = place.as_str().unwrap_or_else(|| panic!("{key} is no text in {json}"));
    match (key, serde_json::from_str::<Value>(text)) {
        ("token", Ok(token)) => token["client_secret"].as_str().unwrap().to_owned(),
        _ => text.replace("${NONE:-s3nt1nel}", "s3nt1nel"),
    }
}

/// The TOML as a configuration, with every secret put where its reference says.
fn of_toml(json: &Value, imported: &Imported) -> House {
    let (mut house, mut variables) =
        (House::new(&imported.toml), VARIABLES.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec());
    for reference in &imported.references {
        let value = secret(json, &reference.key);
        let place = |kind: &str| {
            let (_, rest) = reference.what.split_once(&format!("{kind} `"))?;
            rest.split('`').next().map(str::to_owned)
        };
        match (place("the file"), place("environment variable")) {
            (Some(file), _) => house = house.with(&file, &format!("{value}\n")),
            (_, Some(variable)) => variables.push((variable, value)),
            _ => panic!("{reference:?}"),
        }
    }
    house.env(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The integration without what differs by design: where it and its values stand, and whether its secrets are in files.
fn bare(house: &House) -> Integration {
    let mut one = house.loaded().settings.integrations["acme"].clone();
    one.referred.clear();
    one.hidden_query.clear();
    one.hidden_path.clear();
    if let Authorization::OAuth2(oauth2) = &mut one.authorization {
        oauth2.hidden_path.clear();
    }
    assert!(one.world.is_empty(), "{:?}", one.world);
    let inline = |source: &mut SecretSource| {
        let text = source.load().unwrap().expose().to_owned();
        *source = SecretSource::Inline(Secret::new(text));
    };
    match &mut one.authorization {
        Authorization::ApiKey { value, .. } => inline(value),
        Authorization::OAuth2(oauth2) => inline(&mut oauth2.client_secret),
        Authorization::SigV4(aws) => {
            let AwsKeys::Fixed { id, secret, .. } = &mut aws.keys else { panic!("no keys") };
            inline(id);
            inline(secret);
        }
        Authorization::None | Authorization::Gcp(_) | Authorization::Later(_) => {}
    }
    one
}

fn means_the_same(what: &str, text: &str) {
    let json: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
    let imported = imported(text).unwrap_or_else(|problems| panic!("{what}: {problems}"));
    assert!(imported.losses.is_empty(), "{what}: {:?}", imported.losses);
    let (before, mut after) = (bare(&of_directory(text)), bare(&of_toml(&json, &imported)));
    if what == "an export" {
        // A parameter that nobody knows is never filtered, whether it is listed or not.
        after.models[0].supported.as_mut().unwrap().push("brand_new".to_owned());
    }
    assert!(before == after, "{what}:\n{}\n{before:#?}\n{after:#?}", imported.toml);
    let warnings = of_toml(&json, &imported).loaded().warnings;
    assert!(warnings.is_empty(), "{what}: {warnings}{}", imported.toml);
}

#[test]
fn each_of_galileos_payloads_means_the_same_in_toml() {
    for (name, text) in PAYLOADS {
        means_the_same(name, text);
    }
}

#[test]
fn so_does_every_other_shape() {
    for (what, json) in definitions() {
        means_the_same(what, &json.to_string());
        means_the_same(what, &format!("\u{feff}{json:#}"));
    }
}

#[test]
fn no_secret_is_in_anything_that_is_printed() {
    let payloads = PAYLOADS.map(|(what, text)| {
        let text = ["KEY-1", "KEY-2", "SECRET-3", "secret_xyz"]
            .iter()
            .fold(text.to_owned(), |text, key| text.replace(key, SENTINEL));
        (what, text)
    });
    let others = definitions().into_iter().map(|(what, json)| (what, json.to_string()));
    for (what, text) in payloads.into_iter().chain(others) {
        let imported = imported(&text).unwrap_or_else(|problems| panic!("{what}: {problems}"));
        let Imported { toml, warnings, references, ignored, losses, .. } = imported;
        let printed = format!("{toml}{}{references:?}{ignored:?}{losses:?}", warnings.render(false));
        assert!(!printed.contains(SENTINEL), "{what}: {printed}");
        let (first, last) = (text.find(SENTINEL), toml.contains("s3nt"));
        assert!(!last && (first.is_none() || !references.is_empty()), "{what}: {toml}");
    }
}

#[test]
fn the_table_is_one_that_a_person_would_write() {
    let json = definitions().swap_remove(0).1;
    let imported = imported(&json.to_string()).unwrap();
    insta::assert_snapshot!(imported.toml, @r##"
    [integrations.acme]
    endpoint = "https://a.example/v1"
    authentication_type = "api_key"
    api_key_header = "Authorization"
    # The file `acme-api-key` is to hold the value of that header, `Bearer ` included.
    api_key_value_file = "acme-api-key"
    models = ["p"]
    model_properties = [
        { name = "n", supported_parameters = ["n"] },
        { name = "o", based_on = "gpt", supports_json_schema = true },
    ]
    # `${ACME_HEADERS_X_API_KEY}` is to hold x-api-key.
    headers = { X-Team = 'a "b" \c', x-api-key = "${ACME_HEADERS_X_API_KEY}", "x-a.b" = "c" }
    custom_header_mapping = { run_id = "x-run" }
    multi_modal_config = { max_file_size_bytes = 10 }
    "##);
    let told: Vec<_> = imported.references.iter().map(|one| format!("{}: {}", one.key, one.what)).collect();
    insta::assert_snapshot!(told.join("\n"), @r##"
    api_key_value: put it into the file `acme-api-key` beside config.toml, `Bearer ` included
    headers.x-api-key: put it into the environment variable `ACME_HEADERS_X_API_KEY`
    "##);
    assert_eq!(
        imported.ignored,
        [
            "id",
            "provider",
            "extra",
            "created_at",
            "updated_at",
            "is_selected",
            "permissions",
            "is_legacy_format"
        ]
    );
    assert_eq!(imported.warnings.len(), 2, "{}", imported.warnings);
}

#[test]
fn a_client_of_galileos_becomes_a_table() {
    insta::assert_snapshot!(imported(PAYLOADS[5].1).unwrap().toml, @r##"
    [integrations.acme]
    endpoint = "https://enterprise.example/api/v2"
    authentication_type = "oauth2"
    oauth2_token_url = "https://auth.enterprise.example/oauth2/token"
    authentication_scope = "inference.execute"
    # The file `acme-client-secret` is to hold the client's secret.
    oauth2 = { client_id = "app", client_secret_file = "acme-client-secret" }
    models = ["enterprise-v2"]
    # It runs if [handlers] has `enabled = true`; its file lies in the `directory` of [handlers].
    custom_llm_config = { file_name = "enterprise_handler.py", class_name = "EnterpriseAdapter" }
    "##);
}

#[test]
fn mistakes_are_told_as_integrations_dir_tells_them() {
    for text in [
        "",
        "[]",
        "{\"endpoint\": \"https://a.example/v1\",\n  \"models\": \"m\",\n  \"authentication_type\": \"none\"}",
        "{\"endpoint\": \"https://a.example/v1\",\n \"api_key_value\": \"s3nt1nel\n\"}",
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"authentication_type\": \"oauth\"}",
        "{\"endpont\": \"https://a.example/v1\", \"models\": [\"m\"], \"authentication_type\": \"none\"}",
        "{\"endpoint\": \"https://me:s3nt1nel@a.example/v1\", \"models\": [], \"authentication_type\": \"none\", \"headers\": {\"te\": \"x\"}}",
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"authentication_type\": \"api_key\", \"api_key_value\": \"s3nt1nel\\n\"}",
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"token\": \"{\\\"client_id\\\": \\\"a\\\", \\\"client_secret\\\": \\\"s3\\\\nnt1nel\\\"}\"}",
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"], \"token\": \"s3nt1nel\"}",
        "{\"endpoint\": \"https://a.example/v1\", \"models\": [\"m\"]}",
        "{\"endpoint\": \"${NOT_SET}\", \"models\": [\"m\"], \"authentication_type\": \"none\"}",
        "{\"endpoint\": \"https://a.example\", \"models\": [\"m\"], \"authentication_type\": \"none\", \"headers\": {\"a\": 5, \"b\": \"${s3nt1nel!}\"}}",
    ] {
        let errors = |problems: Problems| {
            let mut errors = Problems::default();
            for error in problems.iter().filter(|problem| problem.severity == Severity::Error) {
                errors.push(error.clone());
            }
            errors.render(false)
        };
        let report = errors(imported(text).err().unwrap_or_default());
        assert_eq!(report, errors(of_directory(text).load().err().unwrap_or_default()), "{text}");
        assert!(report.contains("d/acme.json") && !report.contains(SENTINEL), "{text}: {report}");
    }
}

#[test]
fn an_export_without_its_secrets_gets_places_for_them() {
    for (text, missing, key) in [
        (
            json!({"authentication_type": "api_key", "api_key_header": "x", "api_key_value": null}),
            vec!["api_key_value"],
            "api_key_value_file = \"acme-api-key\"",
        ),
        (
            json!({"authentication_type": "api_key", "api_key_header": "x", "api_key_value": "********"}),
            vec!["api_key_value"],
            "acme-api-key",
        ),
        (
            json!({"token": "{\"client_id\": \"me\"}"}),
            vec!["client_secret"],
            "client_id = \"me\", client_secret_file = \"acme-client-secret\"",
        ),
        (
            json!({"authentication_type": "oauth2", "token": null}),
            vec!["client_id", "client_secret"],
            "client_id = \"${ACME_OAUTH2_CLIENT_ID}\"",
        ),
        (json!({"oauth2": {"client_id": "me"}, "token": "***"}), vec!["client_secret"], "client_secret_file"),
    ] {
        let mut json = text;
        json["endpoint"] = "https://a.example/v1".into();
        json["models"] = json!(["m"]);
        let imported = imported(&json.to_string()).unwrap_or_else(|problems| panic!("{json}: {problems}"));
        assert_eq!(imported.missing, missing, "{json}");
        assert!(imported.toml.contains(key), "{json}: {}", imported.toml);
        assert!(!imported.toml.contains("missing") && !imported.toml.contains("**"), "{}", imported.toml);
    }
}

#[test]
fn variables_of_secrets_need_not_be_set_here() {
    let token = "{\"client_id\": \"a\", \"client_secret\": \"${NOT_SET_1}\"}";
    for (json, kept) in [
        (
            json!({"authentication_type": "api_key", "api_key_header": "x", "api_key_value": "Bearer ${NOT_SET}"}),
            "api_key_value = \"Bearer ${NOT_SET}\"",
        ),
        (json!({"token": token}), "client_secret = \"${NOT_SET_1}\""),
        (json!({"token": "${NOT_SET}"}), "token = \"${NOT_SET}\""),
        (
            json!({"authentication_type": "none", "headers": {"x-key": "${NOT_SET:?say it}"}}),
            "\"${NOT_SET:?say it}\"",
        ),
    ] {
        let mut json = json;
        json["endpoint"] = "https://a.example/v1".into();
        json["models"] = json!(["m"]);
        let imported = imported(&json.to_string()).unwrap_or_else(|problems| panic!("{json}: {problems}"));
        assert!(imported.toml.contains(kept) && imported.references.is_empty(), "{}", imported.toml);
    }
}

#[test]
fn what_toml_cannot_say_is_told() {
    let null = json!({"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"],
        "custom_llm_config": {"file_name": "h.py", "class_name": "H", "init_kwargs": {"a": {"b": null, "c": [null, 1]}}}});
    let imported_null = imported(&null.to_string()).unwrap();
    assert_eq!(imported_null.losses.len(), 2, "{:?}", imported_null.losses);
    assert!(imported_null.toml.contains("a = { c = [1] }"), "{}", imported_null.toml);
    let direct = json!({"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"],
        "defaults": {"stop": null}, "headers": {"x-a": null}, "multi_modal_config": {"max_files": null},
        "custom_llm_config": {"file_name": "h.py", "class_name": "H", "init_kwargs": {"n": 1, "nul": null}}});
    let told = imported(&direct.to_string()).unwrap().losses.join("\n");
    assert!(told.contains("`custom_llm_config.init_kwargs.nul`") && told.lines().count() == 1, "{told}");
    let number = json!({"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"],
        "custom_llm_config": {"file_name": "h.py", "class_name": "H", "init_kwargs": {"password": 12345, "db": {"password": 12345}}}});
    let Imported { toml, losses, .. } = imported(&number.to_string()).unwrap();
    assert!(losses.len() == 2 && losses[1].contains("db.password"), "{losses:?}");
    assert!(!toml.contains("12345"), "{toml}");
    let unknown = json!({"authentication_type": "none", "endpoint": "https://a.example/v1",
        "model_properties": [{"name": "m", "supported_parameters": ["brand_new"]}]});
    assert!(imported(&unknown.to_string()).unwrap().losses[0].contains("supported_parameters"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_printed_either() {
    let base = |mut json: Value| {
        json["endpoint"] = "https://a.example/v1".into();
        json["models"] = json!(["m"]);
        json.to_string()
    };
    for text in [
        base(
            json!({"authentication_type": "api_key", "api_key_header": "x", "api_key_value_file": "sk-s3nt1nel"}),
        ),
        base(
            json!({"authentication_type": "none", "tls": {"client_cert_file": "c", "client_key_file": "-----BEGIN\ns3nt1nel"}}),
        ),
        base(json!({"token": "{\"client_id\": \"${A:-\\\"}${B:-me}\", \"client_secret\": \"s3nt1nel\"}"})),
    ] {
        let Ok(Imported { toml, references, .. }) = imported(&text) else { continue };
        assert!(!toml.contains(SENTINEL) && !references.is_empty(), "{toml}");
    }
}

#[test]
fn relative_paths_are_pointed_out() {
    let json = json!({"authentication_type": "oauth2", "endpoint": "https://a.example/v1", "models": ["m"], "token_file": "token.json",
        "headers": {"x-a": "${file:team}", "x-b": "${file:/etc/team}"}, "tls": {"ca_file": "/etc/ca.pem"}});
    let toml = imported(&json.to_string()).unwrap().toml;
    let lines: Vec<_> = toml.lines().collect();
    for (key, is_relative) in [("token_file", true), ("headers", true), ("tls", false)] {
        let n = lines.iter().position(|line| line.starts_with(key)).unwrap();
        assert_eq!(lines[n - 1].contains("relative to config.toml"), is_relative, "{key}: {toml}");
    }
}

#[test]
fn a_proxy_that_the_json_takes_from_the_environment_is_read_there() {
    let json = json!({"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"], "proxy": "${HTTPS_PROXY}"});
    let import = |proxy: &str| {
        let env = Environment::of([("HTTPS_PROXY", proxy)]);
        import(&definition(&json.to_string()), &"acme".parse().unwrap(), &env)
    };
    assert!(import("http://proxy:3128").unwrap().toml.contains("proxy = \"${HTTPS_PROXY}\""));
    assert!(import("http://proxy/path").err().unwrap().render(false).contains("must not have a path"));
}

#[test]
fn the_environment_of_the_machine_does_not_matter() {
    let env = Environment::of([
        ("OUTRIDER_INTEGRATIONS__ACME__ENDPOINT", "nonsense"),
        ("HTTPS_PROXY", "nonsense://"),
        ("GALILEO_CUSTOM_LLMS_ENABLED", "maybe"),
    ]);
    let imported = import(&definition(PAYLOADS[4].1), &"acme".parse().unwrap(), &env);
    assert!(imported.is_ok_and(|imported| imported.warnings.is_empty()));
}

/// What may stand in the tables whose keys are the user's own.
fn tree() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "a",
        "${A:-b}",
        "${A:-1}",
        "$${x}",
        "a'b\"c\\",
        "123",
        "true",
        "{ a = 1 }",
        "[1]",
        "s3nt1nel",
        "{{ user }}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            table(inner).prop_map(Value::Object),
        ]
    })
}

fn table(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof!["[a-z]{1,3}", "(api_key|password|x-a.b|token)", any::<String>()];
    prop::collection::vec((name, value), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_integrations_dir_takes_import_takes(
        defaults in table(tree()),
        kwargs in table(tree()),
        query in table(prop_oneof![any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)]),
        headers in prop::collection::vec(("[a-z-]{1,6}", "[ -~]{0,30}"), 0..4),
        alias in prop::option::of(any::<String>()),
    ) {
        let headers: Map<_, _> = headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        let json = json!({
            "authentication_type": "none", "endpoint": "https://a.example/v1", "defaults": defaults, "query": query, "headers": headers,
            "custom_llm_config": {"file_name": "h.py", "class_name": "H", "init_kwargs": kwargs},
            "model_properties": [{"name": "m", "alias": alias}],
        });
        let text = json.to_string();
        // What is not there is refused where it is used alone.
        prop_assume!(!text.contains("${"));
        let errors = |problems: &Problems| problems.iter().filter(|p| p.severity == Severity::Error).count();
        match (imported(&text), of_directory(&text).load_unchecked()) {
            (Ok(_), Ok(loaded)) => prop_assert!(!loaded.warnings.has_errors()),
            (Err(one), Err(other)) => prop_assert_eq!(errors(&one), errors(&other), "{}{}", one, other),
            (Err(only), Ok(_)) => prop_assert!(false, "import alone refuses {}: {}", text, only),
            (Ok(_), Err(only)) => prop_assert!(false, "integrations_dir alone refuses {}: {}", text, only),
        }
    }
}

#[test]
fn a_number_in_the_query_is_written_as_it_stands() {
    let json = r#"{"endpoint": "https://a.example", "models": ["n"], "authentication_type": "none", "query": {"v": 1.10}}"#;
    let imported = imported(json).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(imported.toml.contains("query = { v = \"1.10\" }"), "{}", imported.toml);
}

#[test]
fn nothing_is_said_of_the_form_of_a_key_that_is_not_in_the_export() {
    for value in ["null", "\"****\"", "\"${NO_SUCH_KEY}\""] {
        let json = format!(
            r#"{{"endpoint": "https://a.example", "models": ["n"], "authentication_type": "api_key",
                "api_key_header": "Authorization", "api_key_value": {value}}}"#
        );
        let imported = imported(&json).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(imported.warnings.is_empty(), "{value}: {}", imported.warnings);
    }
}
