//! What a right configuration becomes.

use std::path::Path;
use std::time::Duration;

use super::{House, acme};
use crate::config::valid::{
    Authorization, CallStyle, ClientAuth, Integration, Level, Listen, Proxy, SecretSource,
};
use crate::tls::{CaMode, Version};

fn one(house: &House) -> Integration {
    house.loaded().settings.integrations["acme"].clone()
}

#[test]
fn an_empty_file_gives_the_defaults_of_the_contract_and_a_warning() {
    let house = House::new("");
    let loaded = house.loaded();
    let settings = &loaded.settings;
    assert_eq!(settings.server.listen, [Listen::Tcp("127.0.0.1:4010".parse().unwrap())]);
    assert_eq!(settings.admin.listen, Some(Listen::Tcp("127.0.0.1:4011".parse().unwrap())));
    assert_eq!((settings.server.max_header_bytes, settings.server.max_body), (64 << 10, 32 << 20));
    assert_eq!((settings.server.max_connections, settings.server.strict_start), (16_384, false));
    assert_eq!(settings.server.idle_timeout, Duration::from_secs(75));
    assert!(settings.server.workers >= 1);
    assert_eq!((settings.log.level, settings.log.access), (Level::Info, true));
    assert_eq!(
        (settings.handlers.enabled, settings.handlers.directory.to_str()),
        (false, Some("/opt/custom_llms"))
    );
    assert_eq!((settings.handlers.memory, settings.handlers.call_style), (1 << 30, CallStyle::Auto));
    assert!(house.report().contains("no integration is configured"));
}

#[test]
fn one_path_for_whole_answers_and_streams_is_warned_of_where_the_format_has_two() {
    let report = |format: &str| {
        House::new(&acme(&format!("format = \"{format}\"\npath = \"/run/{{model}}\""))).report()
    };
    assert!(report("gemini").contains("gemini streams from another path"), "{}", report("gemini"));
    assert_eq!(report("openai"), "");
}

#[test]
fn forms_are_expanded_after_parsing_and_inside_the_token() {
    let house = House::new(&format!(
        "{}headers = {{ x-a = \"${{A}}\", x-b = \"$${{A}} $$\", x-c = \"${{B:-b}}\", x-d = \"Bearer ${{file:key}}\" }}\n",
        acme("").replace("\"none\"", "\"oauth2\"\ntoken = '{\"client_id\": \"${ID}\", \"client_secret\": \"${SECRET}\"}'")
    ))
    .with("key", "k3y\n")
    .env([("A", "a\"\n[x]".split('\n').next().unwrap()), ("ID", "me"), ("SECRET", "q\"uo\\te")]);
    let acme = one(&house);
    let values: Vec<_> = acme.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
    assert_eq!(values, ["a\"", "${A} $$", "b", "Bearer k3y"]);
    let Authorization::OAuth2(oauth2) = &acme.authorization else { panic!("no oauth2") };
    assert_eq!(oauth2.client_id, "me");
    assert_eq!(oauth2.client_secret.load().unwrap().expose(), "q\"uo\\te");
    assert_eq!(oauth2.token_url, acme.endpoint, "the token endpoint is the endpoint");
    let whole = House::new(&acme_with_token("${TOKEN}"))
        .env([("TOKEN", r#"{"client_id": "i", "client_secret": "${x}"}"#)]);
    let Authorization::OAuth2(oauth2) = one(&whole).authorization else { panic!("no oauth2") };
    assert_eq!(
        oauth2.client_secret.load().unwrap().expose(),
        "${x}",
        "what was put in is not expanded again"
    );
}

fn acme_with_token(token: &str) -> String {
    format!(
        "[integrations.acme]\nendpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\ntoken = \"{token}\"\n"
    )
}

#[test]
fn an_expanded_value_may_stand_for_any_type() {
    let toml =
        acme("models = \"${MODELS}\"\nstrict = \"${STRICT}\"\nlimits = { max_concurrent = \"${N:-7}\" }");
    let house =
        House::new(&toml.replacen("models = [\"m\"]\n", "", 1)).env([("MODELS", "a, b"), ("STRICT", "true")]);
    let acme = one(&house);
    assert_eq!(acme.models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((acme.strict, acme.limits.max_concurrent), (true, 7));
}

#[test]
fn the_environment_stands_above_the_file_and_keeps_text_as_it_is() {
    let toml = acme("").replace("acme]", "\"my-Acme.1\"]");
    let house = House::new(&format!("[server]\nlisten = \"127.0.0.1:1\"\n{toml}")).env([
        ("OUTRIDER_SERVER__LISTEN", "127.0.0.1:2,unix:/run/o.sock"),
        ("OUTRIDER_SERVER__API_KEY", "007"),
        ("OUTRIDER_SERVER__WORKERS", "3"),
        ("OUTRIDER_SERVER__WATCH", "true"),
        ("OUTRIDER_SERVER__MAX_BODY", "1024"),
        ("OUTRIDER_INTEGRATIONS__MY_ACME_1__MODELS", "[\"x,y\", \"z\"]"),
        ("OUTRIDER_INTEGRATIONS__NEW__ENDPOINT", "https://new.example/v1"),
        ("OUTRIDER_INTEGRATIONS__NEW__MODELS", "n"),
        ("OUTRIDER_INTEGRATIONS__NEW__AUTHENTICATION_TYPE", "none"),
        ("OUTRIDER_INTEGRATIONS__NEW__LIMITS", "{ connect = \"1s\" }"),
        ("OUTRIDER_PORT", "tcp://10.0.0.1:4010"),
        ("OUTRIDER_SERVICE_PORT_HTTP", "4010"),
        ("OUTRIDER__PORT", "1"),
    ]);
    let settings = house.loaded().settings;
    assert_eq!(settings.server.listen.len(), 2);
    let key = settings.server.api_key.clone().unwrap();
    assert_eq!(key.load().unwrap().expose(), "007", "digits are no number here");
    assert_eq!((settings.server.workers, settings.server.watch, settings.server.max_body), (3, true, 1024));
    let models = &settings.integrations["my-Acme.1"].models;
    assert_eq!(models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["x,y", "z"]);
    assert_eq!(settings.integrations["new"].limits.connect, Duration::from_secs(1));
    assert_eq!(settings.integrations["new"].origin.to_string(), "environment");
}

#[test]
fn a_variable_that_may_mean_two_integrations_is_warned_of() {
    let two = |name: &str, other: &str| {
        let named = |name: &str, model: &str| {
            acme("").replace("acme]", &format!("\"{name}\"]")).replace("[\"m\"]", &format!("[\"{model}\"]"))
        };
        let house = House::new(&format!("{}{}", named(name, "m"), named(other, "n")));
        house.env([("OUTRIDER_INTEGRATIONS__MY_GW__PATH", "/x")]).report()
    };
    for (name, other, taken) in [("my-gw", "my.gw", "my-gw"), ("my-gw", "my_gw", "my_gw")] {
        let report = two(name, other);
        let rest = if taken == name { other } else { name };
        let words = format!("warning: it may mean `{rest}` as well as `{taken}`, which it sets\n");
        assert!(report.contains(&words) && report.contains("1 warning"), "{report}");
    }
    assert_eq!(two("my-gw", "my-gw2"), "");
}

#[test]
fn an_unreadable_file_inside_an_integration_is_the_worlds_fault() {
    let house = House::new(&acme("headers = { x-a = \"${file:none}\" }"));
    let loaded = house.loaded();
    let world = &loaded.settings.integrations["acme"].world;
    assert!(
        world.len() == 1 && world[0].starts_with("integrations.acme.headers.x-a: cannot read"),
        "{world:?}"
    );
    assert!(
        loaded.files.contains_key(&house.path().join("none")),
        "it is watched, so that it is seen when it comes"
    );
    let house = House::new(&acme_with_token("").replace("token = \"\"", "token_file = \"none\""));
    let words = format!("acme.token_file: {}/…: No such file", house.path().display());
    assert!(one(&house).world[0].contains(&words), "{:?}", one(&house).world);
    let house = House::new(&acme_with_token("").replace("token = \"\"", "token_file = \"t\""))
        .with("t", "{\"client_id\": \"me\", \"client_secret\": \"s\"}\n");
    let Authorization::OAuth2(oauth2) = one(&house).authorization else { panic!("no oauth2") };
    let file = house.path().join("t");
    assert_eq!(oauth2.client_secret, SecretSource::Token { file, client_id: "me".to_owned() });
}

#[test]
fn relative_paths_are_relative_to_the_file_that_holds_them() {
    let toml = acme(
        "tls = { ca_file = \"ca.pem\" }\nauthentication_type = \"api_key\"\napi_key_header = \"x\"\napi_key_value_file = \"../key\"",
    );
    let toml = toml.replacen("authentication_type = \"none\"\n", "", 1);
    let house = House::new("").with("etc/o.toml", &format!("integrations_dir = \"more\"\n[server]\nlisten = \"unix:o.sock\"\n{toml}"))
        .with("etc/more/b.json", r#"{"endpoint": "https://b.example", "models": ["n"], "authentication_type": "none", "headers": {"x": "${file:h}"}}"#)
        .with("etc/more/h", "from beside it");
    let options = crate::config::Options {
        file: Some("etc/o.toml".into()),
        env: crate::config::Environment::default(),
        dir: house.path().to_owned(),
        texts: None,
    };
    let settings = crate::config::load(&options).unwrap_or_else(|p| panic!("{p}")).settings;
    let etc = house.path().join("etc");
    assert_eq!(settings.server.listen, [Listen::Unix(etc.join("o.sock"))]);
    assert_eq!(settings.integrations["acme"].tls.ca_files, [etc.join("ca.pem")]);
    let Authorization::ApiKey { value, .. } = &settings.integrations["acme"].authorization else {
        panic!("no key")
    };
    assert_eq!(value.file(), Some(&etc.join("../key")));
    assert_eq!(settings.integrations["b"].headers[0].1, "from beside it");
}

#[test]
fn a_handler_sees_of_the_environment_what_it_needs_to_run_and_what_is_named() {
    let variables = [
        ("PATH", "/bin"),
        ("PYTHONPATH", "/lib"),
        ("https_proxy", "http://u:pw-7@proxy:3128"),
        ("CORP_REGION", "eu"),
        ("CORP_SECRET", "s"),
        ("OUTRIDER_SERVER__API_KEY", "k"),
        ("AWS_SECRET_ACCESS_KEY", "a"),
    ];
    let text = format!("[handlers]\nenv = [\"CORP_REGION\", \"ABSENT\"]\n{}", handler(""));
    let settings = House::new(&text).env(variables).loaded().settings;
    let names: Vec<_> = settings.handlers.environment.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["CORP_REGION", "PATH", "PYTHONPATH", "https_proxy"]);
    assert_eq!(settings.handlers.environment.0[1].1, "/bin");
    let shown = format!("{:?}", settings.handlers);
    assert!(shown.contains("https_proxy") && !shown.contains("pw-7"), "{shown}");
    assert_eq!(settings.integrations["h"].handler.as_ref().unwrap().common, settings.handlers);
}

#[test]
fn a_variable_is_not_blamed_for_another() {
    let variables = [("https_proxy", "http://proxy:0"), ("OUTRIDER_SERVER__API_KEY", "k")];
    let report = House::new(&handler("")).env(variables).report();
    assert!(report.contains("https_proxy has no usable port"), "{report}");
    assert!(!report.contains("API_KEY"), "{report}");
}

#[test]
fn a_handler_whose_requests_leave_through_outrider_calls_it_past_every_proxy() {
    let seen = |variables: &[(&'static str, &'static str)]| {
        let text = format!("[handlers]\negress = true\n{}", handler(""));
        House::new(&text).env(variables.to_vec()).loaded().settings.handlers.environment.0.clone()
    };
    let both = |value: &str| ["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), value.to_owned()));
    assert_eq!(seen(&[]), both("127.0.0.1"));
    assert_eq!(seen(&[("NO_PROXY", ".corp")]), both(".corp,127.0.0.1"));
    assert_eq!(seen(&[("NO_PROXY", ".corp"), ("no_proxy", ".own")]), both(".own,127.0.0.1"));
    let all = seen(&[("HTTP_PROXY", "http://proxy:3128"), ("no_proxy", "")]);
    assert_eq!(all[1..], both("127.0.0.1"));
}

#[test]
fn a_signature_needs_requests_that_leave_through_outrider() {
    let aws = "authentication_type = \"aws_sigv4\"\naws = { region = \"r\", access_key_id = \"a\", secret_access_key = \"s\" }";
    let report = House::new(&handler(aws)).report();
    assert!(report.contains("set `egress = true` in [handlers]"), "{report}");
    House::new(&format!("[handlers]\negress = true\n{}", handler(aws))).loaded();
}

fn handler(more: &str) -> String {
    let none = if more.contains("authentication_type") { "" } else { "authentication_type = \"none\"" };
    format!(
        "[integrations.h]\nendpoint = \"https://h.example/v1\"\nmodels = [\"h\"]\n{none}\n{more}\n\
         custom_llm_config = {{ file_name = \"h.py\", class_name = \"H\" }}\n"
    )
}

#[test]
fn galileos_variables_are_the_defaults_of_the_handlers() {
    let variables = [("GALILEO_CUSTOM_LLMS_ENABLED", "TRUE"), ("GALILEO_CUSTOM_LLMS_DIRECTORY", "/srv/h")];
    let handlers = House::new("").env(variables).loaded().settings.handlers;
    assert_eq!((handlers.enabled, &*handlers.directory), (true, Path::new("/srv/h")));
    let handlers = House::new("[handlers]\nenabled = false\ndirectory = \"/own\"")
        .env(variables)
        .loaded()
        .settings
        .handlers;
    assert_eq!((handlers.enabled, &*handlers.directory), (false, Path::new("/own")));
    assert!(
        House::new("")
            .env([("GALILEO_CUSTOM_LLMS_ENABLED", "maybe")])
            .report()
            .contains("GALILEO_CUSTOM_LLMS_ENABLED")
    );
}

#[test]
fn the_common_authorities_are_merged_into_each_profile() {
    let profile = |egress: &str, tls: &str| {
        let acme = one(&House::new(&format!("[egress]\n{egress}\n{}", acme(tls))));
        assert_eq!(
            acme.tls, acme.token_tls,
            "the token endpoint's settings are the endpoint's where none are given"
        );
        let names: Vec<_> =
            acme.tls.ca_files.iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        (names.join(","), acme.tls.ca_mode)
    };
    let corp = "ca_file = \"corp\"";
    assert_eq!(profile("", ""), (String::new(), CaMode::Add));
    assert_eq!(profile(corp, ""), ("corp".into(), CaMode::Add));
    assert_eq!(profile(corp, "tls = { ca_file = \"own\" }"), ("corp,own".into(), CaMode::Add));
    assert_eq!(
        profile(corp, "tls = { ca_file = \"own\", ca_mode = \"replace\" }"),
        ("own".into(), CaMode::Replace)
    );
    let replacing = "ca_file = \"corp\"\nca_mode = \"replace\"";
    assert_eq!(profile(replacing, "tls = { ca_file = \"own\" }"), ("corp,own".into(), CaMode::Replace));
    let own = one(&House::new(&acme(
        "tls = { min_version = \"1.3\", http2 = true }\ntoken_tls = { server_name = \"t.example\" }",
    )));
    assert_eq!((own.tls.min_version, own.tls.http2, own.token_tls.http2), (Version::Tls13, true, false));
    assert_eq!(own.token_tls.server_name.as_deref(), Some("t.example"));
}

#[test]
fn each_url_has_its_own_way_out() {
    let ways = |egress: &str, more: &str, env: &[(&str, &str)]| {
        let toml = format!(
            "[egress]\n{egress}\n[integrations.acme]\nendpoint = \"https://a.corp/v1\"\nmodels = [\"m\"]\n\
             oauth2_token_url = \"http://t.example/token\"\noauth2 = {{ client_id = \"i\", client_secret = \"s\" }}\n{more}\n"
        );
        let acme = one(&House::new(&toml).env(env.iter().copied()));
        let shown = |proxy: Proxy| match proxy {
            Proxy::Direct => "-".to_owned(),
            Proxy::Through { shown, .. } => shown,
        };
        (shown(acme.proxy), shown(acme.token_routes.to(&"http://t.example/token".parse().unwrap())))
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let env = [("HTTPS_PROXY", "http://u:p@s:1"), ("http_proxy", "p:2")];
    assert_eq!(ways("", "", &[]), pair("-", "-"));
    assert_eq!(ways("", "", &env), pair("http://s:1", "http://p:2"));
    assert_eq!(ways("", "", &[env[0], env[1], ("NO_PROXY", ".corp")]), pair("-", "http://p:2"));
    assert_eq!(
        ways("no_proxy = \"t.example\"", "", &[env[0], env[1], ("NO_PROXY", ".corp")]),
        pair("http://s:1", "-")
    );
    assert_eq!(ways("proxy = \"none\"", "", &env), pair("-", "-"));
    assert_eq!(ways("proxy = \"http://c:3\"", "", &env), pair("http://c:3", "http://c:3"));
    assert_eq!(ways("proxy = \"http://c:3\"", "proxy = \"none\"", &env), pair("-", "-"));
    assert_eq!(
        ways("no_proxy = \"*\"", "proxy = \"http://own:4\"", &env),
        pair("http://own:4", "http://own:4")
    );
}

#[test]
fn limits_and_call_style_of_an_integration_stand_above_the_common_ones() {
    let house = House::new(&format!(
        "[limits]\nconnect = \"9s\"\nidle = \"8s\"\n[handlers]\ncall_style = \"direct\"\n{}",
        acme(
            "limits = { idle = \"7s\", queue_timeout = \"0s\", max_answer = \"1KiB\" }\ncustom_llm_config = { file_name = \"h.py\", class_name = \"H\" }"
        )
    ));
    let acme = one(&house);
    assert_eq!((acme.limits.connect, acme.limits.idle), (Duration::from_secs(9), Duration::from_secs(7)));
    assert_eq!((acme.limits.queue_timeout, acme.limits.max_answer), (Duration::ZERO, 1024));
    assert_eq!(acme.handler.unwrap().call_style, CallStyle::Direct);
}

#[test]
fn models_are_those_of_both_forms_each_once() {
    let house = House::new(
        "[integrations.acme]\nendpoint = \"https://a.example/v1/\"\nauthentication_type = \"none\"\nmodels = [\"a\", \"b\", \"x\"]\nmodel_properties = [{ name = \"a\", alias = \"x\" }]\ndefault_model = \"a\"\n",
    );
    let acme = one(&house);
    let models: Vec<_> = acme.models.iter().map(|m| (m.name.as_str(), m.alias.as_str())).collect();
    assert_eq!(models, [("a", "x"), ("b", "b")]);
    assert_eq!(acme.default_model.unwrap().as_str(), "x", "a default may be a name; it is kept as alias");
    assert_eq!(acme.endpoint, "https://a.example/v1", "a slash at the end is taken off");
}

#[test]
fn tables_of_the_users_own_keep_their_order() {
    let house = House::new(&acme(
        "query = { z = \"1\", api-version = 2024-10-21, a = 3 }\nrename = { z = \"y\", b = \"c\" }\ndefaults = { z = 1, a = [1, { b = 2.5 }] }",
    ));
    let acme = one(&house);
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&")
    };
    assert_eq!(pairs(&acme.query), "z=1&api-version=2024-10-21&a=3");
    assert_eq!(pairs(&acme.edits.rename), "z=y&b=c");
    assert_eq!(pairs(&acme.edits.defaults), "z=1&a=[1,{\"b\":2.5}]");
}

#[test]
fn what_later_versions_build_loads_already() {
    let later = |lines: &str| {
        let toml =
            format!("[integrations.acme]\nendpoint = \"https://a.example\"\nmodels = [\"m\"]\n{lines}\n");
        one(&House::new(&toml)).authorization
    };
    assert_eq!(later("authentication_type = \"signature\""), Authorization::Later("signature"));
    let jwt = "oauth2 = { client_id = \"i\", client_auth = \"private_key_jwt\", signing_key_file = \"k\", signing_alg = \"RS256\" }";
    assert!(matches!(later(jwt), Authorization::Later(word) if word.contains("private_key_jwt")));
    let Authorization::OAuth2(basic) =
        later("oauth2 = { client_id = \"i\", client_secret = \"s\", client_auth = \"basic\" }")
    else {
        panic!("no oauth2")
    };
    assert_eq!(basic.client_auth, ClientAuth::Basic);
}

#[test]
fn a_declared_format_keeps_its_tables() {
    let lines = "format = \"declared\"\n[integrations.acme.request]\nengine = \"{{ model }}\"\nprompt = \"{{ messages | join_prompt }}\"\nparams.t = \"{{ temperature }}\"\n[integrations.acme.response]\ncontent = \"{{ output }}\"\n";
    let declared = one(&House::new(&acme(lines))).declared.unwrap();
    assert_eq!(declared["request"]["params"]["t"], "{{ temperature }}");
    assert_eq!(declared["response"]["content"], "{{ output }}");
}

#[test]
fn a_token_url_stays_as_it_was_written_and_a_scheme_may_be_in_capitals() {
    let lines = |url: &str| {
        format!(
            "[integrations.acme]\nendpoint = \"HTTPS://a.example/v1/\"\nmodels = [\"m\"]\noauth2_token_url = \"{url}\"\n\
             oauth2 = {{ client_id = \"i\", client_secret = \"s\" }}\n"
        )
    };
    for url in
        ["https://login.example/token?p=B2C_1/", "https://login.example/o/token/", "http://l.example:81/?"]
    {
        let acme = one(&House::new(&lines(url)));
        let Authorization::OAuth2(oauth2) = acme.authorization else { panic!("no oauth2") };
        assert_eq!(oauth2.token_url.to_string(), url);
        assert_eq!(acme.endpoint, "https://a.example/v1");
        assert_eq!(acme.endpoint.scheme_str(), Some("https"));
    }
    let report = House::new(&lines("https://me:s3cret@login.example/token?p=s3cret")).report();
    assert!(report.contains("holds a user or a password") && !report.contains("s3cret"), "{report}");
}

#[test]
fn equal_files_give_equal_settings() {
    let toml = acme("headers = { x-a = \"1\" }\nquery = { b = 1 }");
    let (a, b) = (House::new(&toml), House::new(&toml));
    assert_eq!(a.loaded().settings, b.loaded().settings);
    let other = House::new(&toml.replace("x-a = \"1\"", "x-a = \"2\""));
    assert_ne!(a.loaded().settings, other.loaded().settings);
}

#[test]
fn a_number_that_is_sent_keeps_the_zeros_at_its_end() {
    let oauth2 = "oauth2 = { client_id = \"a\", client_secret = \"b\", extra_params = { v = 2.0 } }";
    let toml = acme(&format!("query = {{ api-version = 1.10, n = 3, e = 1e1 }}\n{oauth2}"));
    let toml = format!("integrations_dir = \"d\"\n{}", toml.replace("authentication_type = \"none\"\n", ""));
    let json = r#"{"endpoint": "https://b.example", "models": ["n"], "authentication_type": "none", "query": {"v": 1.10}}"#;
    let settings = House::new(&toml).with("d/b.json", json).loaded().settings;
    let query = |name: &str| settings.integrations[name].query.clone();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(query("acme"), [pair("api-version", "1.10"), pair("n", "3"), pair("e", "10")]);
    assert_eq!(query("b"), [pair("v", "1.10")]);
    let Authorization::OAuth2(oauth2) = &settings.integrations["acme"].authorization else { panic!() };
    assert_eq!(oauth2.extra_params, [pair("v", "2.0")]);
}
