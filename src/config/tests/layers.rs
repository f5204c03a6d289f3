//! What layers and tables do to each other: headers that a credential overrides, keys of two
//! layers that mean the same, and names of models.

use super::{House, acme};
use crate::config::Authorization;
use crate::config::valid::ClientAuth;

#[test]
fn a_header_that_the_credential_overrides_is_a_warning_where_it_stands() {
    let key = "api_key_header = \"X-Key\"\napi_key_value = \"k\"";
    let token = "oauth2 = { client_id = \"i\", client_secret = \"s\" }";
    let own = "oauth2 = { client_id = \"i\", client_secret = \"s\", header = \"x-token\" }";
    for (kind, credential, lines, overridden) in [
        ("api_key", key, "headers = { x-kEY = \"other\", authorization = \"b\" }", Some("headers.x-kEY")),
        (
            "api_key",
            key,
            "custom_header_mapping = { run_id = \"x-key\" }",
            Some("custom_header_mapping.run_id"),
        ),
        ("api_key", key, "forward_headers = [\"a\", \"x-key\"]", Some("forward_headers[1]")),
        ("oauth2", token, "headers = { Authorization = \"Bearer other\" }", Some("headers.Authorization")),
        ("oauth2", own, "headers = { X-Token = \"other\" }", Some("headers.X-Token")),
        ("oauth2", own, "headers = { Authorization = \"Bearer other\" }", None),
        ("none", "", "headers = { Authorization = \"Bearer other\" }", None),
    ] {
        let toml = acme(&format!("{credential}\n{lines}")).replace("\"none\"", &format!("\"{kind}\""));
        let house = House::new(&toml);
        let warnings = house.loaded().warnings;
        let keys: Vec<_> = warnings.iter().map(|warning| warning.key.clone().unwrap_or_default()).collect();
        let expected: Vec<_> = overridden.iter().map(|key| format!("integrations.acme.{key}")).collect();
        assert_eq!(keys, expected, "{toml}: {warnings}");
        assert!(overridden.is_none() || house.report().contains("is not sent"), "{warnings}");
        assert!(!house.report().contains("other"), "a value was shown");
    }
}

#[test]
fn a_header_above_replaces_the_same_one_below_in_whatever_letters() {
    let json = r#"{"authentication_type": "none", "endpoint": "https://a.example/v1", "models": ["m"],
        "headers": {"X-Team": "json", "X-Other": "kept"}}"#;
    let toml = "integrations_dir = \"d\"\n[integrations.a.headers]\nx-team = \"toml\"\n";
    let headers = |house: &House| {
        let loaded = house.loaded();
        let shown = |(name, value): &(http::HeaderName, http::HeaderValue)| {
            format!("{name}={}", value.to_str().unwrap())
        };
        let mut all: Vec<_> = loaded.settings.integrations["a"].headers.iter().map(shown).collect();
        all.sort();
        all
    };
    let house = House::new(toml).with("d/a.json", json);
    assert_eq!(headers(&house), ["x-other=kept", "x-team=toml"]);
    let house = house.env([("OUTRIDER_INTEGRATIONS__A__HEADERS__X-TEAM", "env")]);
    assert_eq!(headers(&house), ["x-other=kept", "x-team=env"]);
    let house = House::new(toml).with("d/a.json", json).env([
        ("OUTRIDER_INTEGRATIONS__A__HEADERS__X_TEAM", "env"),
        ("OUTRIDER_INTEGRATIONS__A__HEADERS__X_OTHER", "env too"),
    ]);
    assert_eq!(headers(&house), ["x-other=env too", "x-team=env"], "a variable's name holds no dashes");
    let twice = House::new(&acme("headers = { x-team = \"a\", X-Team = \"b\" }"));
    assert!(twice.report().contains("the header `x-team` is given twice"), "{}", twice.report());
}

#[test]
fn a_token_above_says_more_of_the_client_than_oauth2_below() {
    let json = r#"{"endpoint": "https://a.example/v1", "models": ["m"], "oauth2_token_url": "https://l.example/t",
        "oauth2": {"client_id": "below", "client_secret": "s3cret-1", "client_auth": "basic"}}"#;
    let toml = "integrations_dir = \"d\"\n";
    let client = |house: &House| {
        let loaded = house.loaded();
        let Authorization::OAuth2(oauth2) = &loaded.settings.integrations["a"].authorization else {
            panic!()
        };
        (oauth2.client_id.clone(), oauth2.client_auth)
    };
    let house = House::new(toml).with("d/a.json", json);
    assert_eq!(client(&house), ("below".to_owned(), ClientAuth::Basic));
    let above = r#"{"client_id": "above", "client_secret": "s3cret-2"}"#;
    let house = house.env([("OUTRIDER_INTEGRATIONS__A__TOKEN", above)]);
    assert_eq!(client(&house), ("above".to_owned(), ClientAuth::Basic));
}

#[test]
fn what_a_form_gives_stays_text_where_a_variable_of_the_key_itself_may_be_a_number() {
    let forms = acme("defaults = { user = \"${U}\", seed = \"${S}\" }");
    let house = House::new(&forms).env([
        ("U", "{ admin = true }"),
        ("S", "12"),
        ("OUTRIDER_INTEGRATIONS__ACME__DEFAULTS__topK", "7"),
    ]);
    let defaults = house.loaded().settings.integrations["acme"].edits.defaults.clone();
    let wanted = r#"[["user","\"{ admin = true }\""],["seed","\"12\""],["topK","7"]]"#;
    assert_eq!(serde_json::to_string(&defaults).unwrap(), wanted);
}

#[test]
fn variables_may_give_a_table_and_more_of_its_keys_but_not_keys_of_a_text() {
    let whole = "OUTRIDER_INTEGRATIONS__ACME__DEFAULTS";
    let part = "OUTRIDER_INTEGRATIONS__ACME__DEFAULTS__TOP_K";
    let house = House::new(&acme("")).env([(whole, "{ temperature = 0.5 }"), (part, "7")]);
    let defaults = house.loaded().settings.integrations["acme"].edits.defaults.clone();
    assert_eq!(serde_json::to_string(&defaults).unwrap(), r#"[["temperature","0.5"],["top_k","7"]]"#);
    let report = House::new(&acme("")).env([(whole, "s3cret"), (part, "7")]).report();
    assert!(report.contains(&format!("--> environment variable {part}")), "{report}");
    assert!(report.contains(&format!("--> environment variable {whole}")), "{report}");
    assert!(!report.contains("s3cret"), "{report}");
}

#[test]
fn a_mistake_is_shown_in_the_layer_that_the_value_is_from() {
    let toml = acme(
        "model_properties = [{ name = \"n\", alias = \"x\" }, { name = \"o\", alias = \"y\" }]\nheaders = { x-a = \"b\" }",
    );
    let cases = [
        ("OUTRIDER_INTEGRATIONS__ACME__MODELS", "[1]"),
        ("OUTRIDER_INTEGRATIONS__ACME__MODEL_PROPERTIES", "[{ name = 5, alias = 'x' }]"),
        ("OUTRIDER_INTEGRATIONS__ACME__HEADERS", "{ x-a = 5 }"),
        ("OUTRIDER_INTEGRATIONS__ACME__MODELS", "[\"a\\u0000\"]"),
    ];
    for (name, value) in cases {
        let report = House::new(&toml).env([(name, value)]).report();
        assert!(report.contains(&format!("--> environment variable {name}")), "{value}: {report}");
        assert!(!report.contains("config.toml"), "{value}: {report}");
    }
    let json = r#"{"authentication_type": "none", "endpoint": "https://a.example/v1",
        "model_properties": [{"name": "m", "alias": "n"}]}"#;
    let over = "integrations_dir = \"d\"\n[integrations.a]\nmodel_properties = [{ alias = \"n\" }]\n";
    let report = House::new(over).with("d/a.json", json).report();
    assert!(report.contains("has no `name`") && report.contains("config.toml:3"), "{report}");
}

#[test]
fn a_models_name_that_leads_past_another_integration_is_a_warning() {
    let one = |name: &str, models: &str| {
        format!(
            "[integrations.{name}]\nendpoint = \"https://a.example/v1\"\nauthentication_type = \"none\"\n{models}\n"
        )
    };
    let house =
        |models: &str| House::new(&format!("{}{}", one("openai", "models = [\"gpt\"]"), one("z", models)));
    let shadow = house("models = [\"openai/gpt\"]").report();
    assert!(
        shadow.contains("the model `openai/gpt` hides the model `gpt` of the integration `openai`"),
        "{shadow}"
    );
    assert!(shadow.contains("the path /openai/v1 alone") && shadow.contains("1 warning"), "{shadow}");
    assert_eq!(house("models = [\"openai/other\", \"none/gpt\"]").report(), "");
    let own = "model_properties = [{ name = \"z/m\", alias = \"m\" }]";
    assert_eq!(house(own).report(), "", "both names lead to the same model");
    let both = format!("{}{}", one("a", "models = [\"m\"]"), one("b", "models = [\"m\", \"b/m\"]"));
    let both = House::new(&both).report();
    assert!(both.contains("clients use /b/v1\n") && both.contains("2 warnings"), "{both}");
}
