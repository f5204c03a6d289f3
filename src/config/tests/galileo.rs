//! Galileo's own JSON loads as it is.

use super::House;
use crate::config::Loaded;
use crate::config::valid::{Authorization, Integration, SecretSource};
use crate::dialect::Format;

/// The payloads that people have, shaped like those of Galileo's documentation.
pub(super) const PAYLOADS: [(&str, &str); 6] = [
    (
        "portkey",
        r#"{"authentication_type": "api_key", "endpoint": "https://gateway.example/v1",
            "api_key_header": "x-gateway-key", "api_key_value": "KEY-1",
            "models": ["@vendor/tiny", "@vendor/large"], "default_model": "@vendor/tiny"}"#,
    ),
    (
        "bearer",
        r#"{"authentication_type": "api_key", "endpoint": "https://bearer.example/v1",
            "api_key_header": "Authorization", "api_key_value": "Bearer KEY-2", "models": ["vendor/open-20b"]}"#,
    ),
    (
        "oauth",
        r#"{"authentication_type": "oauth2", "endpoint": "https://api.provider.example/v1",
            "oauth2_token_url": "https://auth.provider.example/oauth2/token", "authentication_scope": "inference",
            "token": "{\"client_id\": \"ID-3\", \"client_secret\": \"SECRET-3\"}",
            "model_properties": [{"name": "provider-v2", "alias": "Provider v2",
                                  "supported_parameters": ["max_tokens", "stop_sequences", "top_p"]}]}"#,
    ),
    (
        "open",
        r#"{"authentication_type": "none", "endpoint": "https://internal.example/v1",
            "models": ["custom-1"], "default_model": "custom-1"}"#,
    ),
    (
        "handler",
        r#"{"authentication_type": "none", "endpoint": "https://ai.example/inference",
            "model_properties": [{"name": "own-model", "alias": "Own Model", "based_on": "gpt-5.4"}],
            "custom_llm_config": {"file_name": "own_handler.py", "class_name": "OwnHandler",
                                  "init_kwargs": {"timeout": 60, "retry_count": 3}}}"#,
    ),
    (
        "both",
        r#"{"authentication_type": "oauth2", "endpoint": "https://enterprise.example/api/v2",
            "oauth2_token_url": "https://auth.enterprise.example/oauth2/token", "authentication_scope": "inference.execute",
            "token": "{\"client_id\": \"app\", \"client_secret\": \"secret_xyz\"}", "models": ["enterprise-v2"],
            "custom_llm_config": {"file_name": "enterprise_handler.py", "class_name": "EnterpriseAdapter"}}"#,
    ),
];

fn house() -> House {
    let house = House::new("integrations_dir = \"integrations\"\n");
    PAYLOADS.iter().fold(house, |house, (name, text)| house.with(&format!("integrations/{name}.json"), text))
}

fn named<'l>(loaded: &'l Loaded, name: &str) -> &'l Integration {
    &loaded.settings.integrations[name]
}

#[test]
fn every_payload_loads_without_a_warning() {
    let loaded = house().loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.settings.integrations.len(), PAYLOADS.len());
    assert!(loaded.settings.integrations.values().all(|i| i.format == Format::OpenAi && i.world.is_empty()));
    assert_eq!(named(&loaded, "open").origin.to_string(), "integrations/open.json");
    assert_eq!(loaded.files.len(), 2 + PAYLOADS.len(), "the file, the directory and each definition");
}

#[test]
fn keys_tokens_and_models_arrive() {
    let loaded = house().loaded();
    let Authorization::ApiKey { header, value } = &named(&loaded, "bearer").authorization else {
        panic!("no key")
    };
    assert_eq!((header.as_str(), value.load().unwrap().expose()), ("authorization", "Bearer KEY-2"));
    let Authorization::OAuth2(oauth2) = &named(&loaded, "oauth").authorization else { panic!("no oauth2") };
    assert_eq!(oauth2.token_url, "https://auth.provider.example/oauth2/token");
    assert_eq!((oauth2.client_id.as_str(), oauth2.scope.as_deref()), ("ID-3", Some("inference")));
    assert_eq!(oauth2.client_secret.load().unwrap().expose(), "SECRET-3");
    let model = &named(&loaded, "oauth").models[0];
    assert_eq!((model.name.as_str(), model.alias.as_str()), ("provider-v2", "Provider v2"));
    assert_eq!(model.supported.as_deref().unwrap(), ["max_tokens", "stop", "top_p"]);
    assert_eq!(named(&loaded, "portkey").default_model.as_ref().unwrap().as_str(), "@vendor/tiny");
    assert_eq!(named(&loaded, "oauth").default_model.as_ref().unwrap().as_str(), "Provider v2");
    let handler = named(&loaded, "handler").handler.as_ref().unwrap();
    assert_eq!((handler.file_name.as_str(), handler.class_name.as_str()), ("own_handler.py", "OwnHandler"));
    assert_eq!(handler.init_kwargs["retry_count"], 3);
}

#[test]
fn a_null_among_a_constructors_arguments_is_none_there_as_galileo_hands_it_over() {
    let text = r#"{"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"], "custom_llm_config":
        {"file_name": "h.py", "class_name": "H", "init_kwargs": {"nothing": null, "deep": {"nothing": null}}}}"#;
    let house = House::new("integrations_dir = \"galileo\"\n").with("galileo/acme.json", text);
    let loaded = house.loaded();
    let kwargs = &named(&loaded, "acme").handler.as_ref().unwrap().init_kwargs;
    assert!(kwargs["nothing"].is_null() && kwargs["deep"]["nothing"].is_null(), "{kwargs:?}");
}

#[test]
fn what_the_table_says_of_a_client_need_not_be_right_in_the_token() {
    let of = |token: &str, oauth2: &str| {
        let json = serde_json::json!({"endpoint": "https://a.example/v1", "models": ["m"], "token": token});
        House::new(&format!("integrations_dir = \"d\"\n[integrations.acme]\noauth2 = {{ {oauth2} }}\n"))
            .with("d/acme.json", &json.to_string())
            .with("secret", "own-secret\n")
    };
    let of_starred = r#"{"client_id": "exported", "client_secret": "******"}"#;
    let of_unset = r#"{"client_id": "exported", "client_secret": "${NOPE}"}"#;
    for token in ["********", "id:secret", of_starred, of_unset, r#"{"client_id": 5}"#] {
        for secret in ["client_secret = \"own-secret\"", "client_secret_file = \"secret\""] {
            let house = of(token, &format!("client_id = \"own\", {secret}"));
            let loaded = house.loaded();
            let Authorization::OAuth2(oauth2) = &named(&loaded, "acme").authorization else {
                panic!("{token}")
            };
            let secret = oauth2.client_secret.load().unwrap();
            assert_eq!((oauth2.client_id.as_str(), secret.expose()), ("own", "own-secret"), "{token}");
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        }
    }
    for token in [of_starred, of_unset] {
        let loaded = of(token, "client_secret = \"own-secret\"").loaded();
        let Authorization::OAuth2(oauth2) = &named(&loaded, "acme").authorization else { panic!("{token}") };
        assert_eq!(oauth2.client_id, "exported");
    }
    for (token, oauth2) in [
        ("********", "client_secret = \"own-secret\""),
        (of_starred, "client_id = \"own\""),
        (r#"{"client_id": "****", "client_secret": "s"}"#, "client_secret = \"own-secret\""),
    ] {
        let report = of(token, oauth2).report();
        assert!(report.contains("masked") && report.matches("error: ").count() == 1, "{token}: {report}");
    }
}

#[test]
fn what_galileo_returns_on_read_is_accepted_and_an_unknown_key_is_a_warning() {
    let text = r#"{"id": "1", "name": "x", "provider": "custom", "extra": {"a": 1}, "created_at": "2026-07-01",
        "updated_at": null, "created_by": "me", "is_selected": true, "permissions": [], "is_legacy_format": false,
        "authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"], "api_key_value": null,
        "multi_modal_config": {"max_files": null, "max_file_size_bytes": 10}, "custom_llm_config": null,
        "brand_new": {"deep": 1}}"#;
    let house = House::new("integrations_dir = \"d\"").with("d/a.json", text);
    let loaded = house.loaded();
    assert_eq!(named(&loaded, "a").media.max_files, None);
    assert_eq!(named(&loaded, "a").media.max_file_size_bytes, Some(10));
    insta::assert_snapshot!(house.report(), @r#"
    warning: unknown key `brand_new`
     --> d/a.json:5:9
      |
    5 |         "brand_new": {"deep": ***}}
      |         ^^^^^^^^^^^
      = help: it is ignored

    1 warning
    "#);
}

#[test]
fn a_token_laid_out_in_lines_and_fields_that_nobody_filled_in_load() {
    let oauth = r#"{"authentication_type": "oauth2", "endpoint": "https://a.example/v1", "oauth2_token_url": "",
        "authentication_scope": "", "models": ["m"], "default_model": "", "api_key_header": "", "api_key_value": "",
        "token": "{\n  \"client_id\": \"ID\",\r\n\t\"client_secret\": \"S\"\n}"}"#;
    let open = r#"{"authentication_type": "none", "endpoint": "https://b.example/v1", "token": "",
        "api_key_header": "", "api_key_value": "", "oauth2_token_url": "", "headers": {"x-empty": ""},
        "model_properties": [{"name": "n", "alias": "", "based_on": "", "supported_parameters": ["n"]}],
        "custom_header_mapping": {"job_id": "", "run_id": "x-run"}}"#;
    let house = House::new("integrations_dir = \"d\"").with("d/oauth.json", oauth).with("d/open.json", open);
    let loaded = house.loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let Authorization::OAuth2(oauth2) = &named(&loaded, "oauth").authorization else { panic!("no oauth2") };
    assert_eq!((oauth2.client_id.as_str(), oauth2.client_secret.load().unwrap().expose()), ("ID", "S"));
    assert_eq!(oauth2.token_url, "https://a.example/v1");
    let open = named(&loaded, "open");
    assert_eq!(open.models[0].alias.as_str(), "n");
    assert_eq!((open.headers.len(), open.header_mapping.len()), (1, 1), "an empty header is a header");
}

#[test]
fn what_is_used_must_not_be_empty_nor_may_a_secret_in_a_token_hold_a_lines_end() {
    let empty = r#"{"authentication_type": "api_key", "endpoint": "https://a.example/v1", "models": ["m"],
        "api_key_header": "x", "api_key_value": ""}"#;
    let broken = r#"{"authentication_type": "oauth2", "endpoint": "https://b.example/v1", "models": ["n"],
        "token": "{\"client_id\": \"ID\", \"client_secret\": \"a\\nb\"}"}"#;
    let house = House::new("integrations_dir = \"d\"").with("d/a.json", empty).with("d/b.json", broken);
    let report = house.report();
    for words in ["needs `api_key_value`", "its client_secret holds several lines", "2 errors"] {
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn toml_overlays_galileos_json_field_by_field() {
    let house = House::new("integrations_dir = \"d\"\n[integrations.oauth]\nformat = \"anthropic\"\n[integrations.oauth.oauth2]\nclient_secret_file = \"s\"\n")
        .with("d/oauth.json", PAYLOADS[2].1)
        .with("s", "FROM-FILE\n");
    let loaded = house.loaded();
    let oauth = named(&loaded, "oauth");
    assert_eq!(oauth.format, Format::Anthropic);
    assert_eq!(oauth.endpoint, "https://api.provider.example/v1");
    let Authorization::OAuth2(oauth2) = &oauth.authorization else { panic!("no oauth2") };
    assert_eq!(oauth2.client_id, "ID-3");
    assert_eq!(oauth2.client_secret, SecretSource::File(house.path().join("s")));
    assert_eq!(oauth.origin.to_string(), "d/oauth.json, config.toml:2");
}

#[test]
fn a_file_above_replaces_the_secret_below_it() {
    let toml = "integrations_dir = \"d\"\n[integrations.bearer]\napi_key_value_file = \"key\"\n";
    let house = House::new(toml).with("d/bearer.json", PAYLOADS[1].1);
    let loaded = house.loaded();
    let Authorization::ApiKey { value, .. } = &named(&loaded, "bearer").authorization else {
        panic!("no key")
    };
    assert_eq!(*value, SecretSource::File(house.path().join("key")));
}

#[test]
fn an_export_without_its_secret_says_which_to_set() {
    let text = r#"{"authentication_type": "api_key", "endpoint": "https://a.example/v1", "models": ["m"],
        "api_key_header": "Authorization", "api_key_value": null}"#;
    let other =
        r#"{"endpoint": "https://a.example/v1", "models": ["n"], "token": "{\"client_id\": \"me\"}"}"#;
    let masked = r#"{"authentication_type": "api_key", "endpoint": "https://a.example/v1", "models": ["o"],
        "api_key_header": "Authorization", "api_key_value": "********"}"#;
    let house = House::new("integrations_dir = \"d\"")
        .with("d/a.json", text)
        .with("d/b.json", other)
        .with("d/c.json", masked);
    insta::assert_snapshot!(house.report(), @r#"
    error: `integrations.a`: authentication_type = "api_key" needs `api_key_value`
     --> d/a.json:2:44
      |
    2 |         "api_key_header": "Authorization", "api_key_value": ***}
      |                                            ^^^^^^^^^^^^^^^
      = help: set api_key_value or api_key_value_file; the value is sent as it is, `Bearer ` included

    error: `integrations.b.token` has no `client_secret` in it
     --> d/b.json:1:55
      |
    1 | {"endpoint": ***, "models": ["n"], "token": ***}
      |                                    ^^^^^^^
      = help: write `client_secret` into it, or set it in `oauth2 = { … }`

    error: `integrations.c.api_key_value` is masked: these are not the secret's own characters
     --> d/c.json:2:44
      |
    2 |         "api_key_header": "Authorization", "api_key_value": ***}
      |                                            ^^^^^^^^^^^^^^^
      = help: set the secret itself: what shows it as stars does not hand it out

    3 errors
    "#);
}

#[test]
fn an_export_may_hold_a_starred_key_that_is_not_used() {
    let oauth2 = r#"{"authentication_type": "oauth2", "endpoint": "https://a.example/v1", "models": ["m"],
        "token": "{\"client_id\": \"me\", \"client_secret\": \"s3cret\"}", "api_key_value": "****"}"#;
    let none = r#"{"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["n"],
        "api_key_header": "x-key", "api_key_value": "****"}"#;
    let house = House::new("integrations_dir = \"d\"").with("d/a.json", oauth2).with("d/b.json", none);
    let report = house.report();
    assert!(!report.contains("error"), "{report}");
    assert_eq!(report.matches("warning: `api_key_value` is not used").count(), 2, "{report}");
}

#[test]
fn a_key_that_stands_twice_is_named_and_underlined_and_neither_value_is_shown() {
    let lines = "{\"endpoint\": \"https://e.example/v1\",\n \"headers\": {\"x-a\": \"1\", \"x-b\": \"2\",\n  \"x-c\": \"3\", \"x-a\": \"4\"}}";
    let line =
        r#"{"api_key_value": "s3cret-1", "models": ["m"], "api_key_value": "s3cret-2", "strict": true}"#;
    let table = r#"{"models": ["m"], "headers": {"x-a": "s3cret-1"}, "headers": {"x-b": "s3cret-2"}}"#;
    let house = House::new("integrations_dir = \"d\"")
        .with("d/a.json", lines)
        .with("d/b.json", line)
        .with("d/c.json", table);
    insta::assert_snapshot!(house.report(), @r#"
    error: `integrations.a.headers.x-a` stands twice in one object
     --> d/a.json:3:15
      |
    3 |   "x-c": ***, "x-a": ***}}
      |               ^^^^^
      = help: it stands in line 2, column 14 already: keep one of them

    error: `integrations.b.api_key_value` stands twice in one object
     --> d/b.json:1:48
      |
    1 | {"api_key_value": ***, "models": ["m"], "api_key_value": ***, "strict": true}
      |                                         ^^^^^^^^^^^^^^^
      = help: it stands in line 1, column 2 already: keep one of them

    error: `integrations.c.headers` stands twice in one object
     --> d/c.json:1:51
      |
    1 | {"models": ["m"], "headers": {"x-a": ***}, "headers": {"x-b": ***}}
      |                                            ^^^^^^^^^
      = help: it stands in line 1, column 19 already: keep one of them

    3 errors
    "#);
}

#[test]
fn a_misspelt_key_is_a_warning_and_what_it_meant_is_missed() {
    let text = r#"{"endpont": "https://a.example/v1", "models": ["m"], "authentication_type": "none"}"#;
    let report = House::new("integrations_dir = \"d\"").with("d/a.json", text).report();
    for words in ["did you mean `endpoint`?", "`integrations.a` has no `endpoint`", "1 error, 1 warning"] {
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn hidden_entries_and_other_files_are_not_read() {
    let house = House::new("integrations_dir = \"d\"")
        .with("d/..data/x.json", "nonsense")
        .with("d/.hidden.json", "nonsense")
        .with("d/notes.txt", "nonsense")
        .with("d/open.json", PAYLOADS[3].1);
    assert_eq!(house.loaded().settings.integrations.len(), 1);
}

#[test]
fn a_parameter_may_be_called_as_galileos_own_defaults_call_it() {
    let json = r#"{"endpoint": "https://a.example/v1", "authentication_type": "none",
        "model_properties": [{"name": "m", "supported_parameters": ["stop", "top_p"]}]}"#;
    let house = House::new("integrations_dir = \"d\"").with("d/a.json", json);
    let loaded = house.loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(named(&loaded, "a").models[0].supported.as_deref().unwrap(), ["stop", "top_p"]);
}
