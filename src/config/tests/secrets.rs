//! No report ever holds a secret: a sentinel stands in every secret place, with every kind of mistake around it.

use proptest::prelude::*;

use super::House;

/// What must never be seen.
const SENTINEL: &str = "s3NT1Nel";

/// Every place in an integration where a secret may stand, `@` being the secret.
const PLACES: &[&str] = &[
    "api_key_value = \"@\"",
    "api_key_value = \"Bearer @\"",
    "token = '{\"client_id\": \"me\", \"client_secret\": \"@\"}'",
    "token = '{\"client_id\": \"@\", \"client_secret\": 5}'",
    "token = \"@\"",
    "oauth2 = { client_id = \"me\", client_secret = \"@\" }",
    "oauth2 = { client_id = \"me\", client_secret = \"x\", extra_params = { password = \"@\" } }",
    "oauth2 = { client_id = \"me\", client_secret = \"x\", extra_headers = { x-k = \"@\" } }",
    "headers = { x-key = \"@\" }",
    "headers = { authorization = \"Bearer @\", format = \"@\" }",
    "aws = { region = \"r\", access_key_id = \"@\", secret_access_key = \"@\", session_token = \"@\" }",
    "aws = { role_arn = \"@\", web_identity_token_file = \"t\", role_session_name = \"@\", region = \"${SECRET}\" }",
    "aws = { role_arn = \"arn:aws:iam::1:role/@\", web_identity_token_file = \"t\", sts_endpoint = \"https://me:@@a.example\" }",
    "aws = { role_arn = \"arn:aws:iam::1:role/@\", web_identity_token_file = \"@\", region = \"${SECRET}\" }",
    "gcp = { credentials_file = \"@\", scope = \"@\" }",
    "gcp = { metadata_host = \"me:@@m.example\", scope = \"@\" }",
    "gcp = { scope = \"${SECRET}\", metadata_host = \"${SECRET}\" }",
    "endpoint = \"https://me:@@a.example/v1\"",
    "oauth2_token_url = \"https://me:@@a.example/token?key=@\"",
    "oauth2_token_url = \"https://a.example/token?key=@\"",
    "proxy = \"http://me:@@proxy.example:3128\"",
    "proxy = \"socks5://me:@@proxy.example:3128\"",
    "query = { key = \"@\" }",
    "defaults = { user = \"@\" }",
    "custom_llm_config = { file_name = \"h.py\", class_name = \"H\", init_kwargs = { key = \"@\" } }",
    "format = \"declared\"\nrequest = { key = \"@\", m = \"{{ messages }}\" }\nresponse = { content = \"@\" }",
    "format = \"declared\"\nrequest = { key = \"{{ '@' | nothing }}\" }\nresponse = { content = \"{{ ${SECRET} | x }}\" }",
    "format = \"declared\"\nrequest = { key = \"{{ '@' + }}\" }\nresponse = { error = \"{{ '@' }}\" }\nstream = { framing = \"${SECRET}\" }",
    "api_key_value = \"${@-x}\"",
    "api_key_value = \"${NO_SUCH:-@\"",
    "api_key_value = \"${SET} @ ${NO_SUCH}\"",
    "authentication_scope = \"${SECRET}\"",
    "format = \"${SECRET}\"",
    "limits = { connect = \"${SECRET}\" }",
    "models = [\"m\"] # @",
    "api_key_value_file = \"@\"",
    "api_key_value_file = \"Bearer @\"",
    "token_file = '{\"client_secret\": \"@\"}'",
    "oauth2 = { client_id = \"me\", client_secret_file = \"@\" }",
    "tls = { client_cert_file = \"c\", client_key_file = \"@\" }",
    "tls = { client_cert_file = \"@\", client_key_file = \"k\", client_key_password_file = \"@\" }",
    "aws = { region = \"us-east-1\", access_key_id_file = \"@\", secret_access_key_file = \"@\", session_token_file = \"@\" }",
    "headers = { x-key = \"${file:@}\" }",
    "api_key_valu = \"@\"",
    "apikey = { value = \"@\" }",
];

/// Places where no secret belongs. One in them is known by how it begins.
const MISPLACED: &[&str] = &[
    "api_key_header = \"Authorization: Bearer @\"",
    "api_key_header = \"sk-@\"",
    "format = \"Bearer @\"",
    "default_model = \"sk-@\"",
    "forward_headers = [\"authorization: Bearer @\"]",
    "limits = { token = '{\"client_id\": \"me\", \"client_secret\": \"@\"}' }",
    "limits = { connect = \"Basic @\" }",
    "headers = { \"Authorization: Bearer @\" = \"x\" }",
    "\"Authorization: Bearer @\" = 5",
    "authentication_type = \"token @\"",
];

/// How a line may be broken.
const BREAKS: &[fn(&str) -> String] = &[
    |line| line.to_owned(),
    |line| line.replacen('=', "", 1),
    |line| line.replacen('"', "", 1),
    |line| line.replacen('\'', "", 1),
    |line| line.trim_end_matches(['"', '\'', '}', ' ']).to_owned(),
    |line| line.replacen("= \"", "= [\"", 1),
    |line| line.replacen("= \"", "= 5 \"", 1),
    |line| line.replacen('"', "\"\"\"\n", 1),
    |line| format!("{line} {line}"),
    |line| format!("{line}\n{line}"),
    |line| line.replacen(SENTINEL, &format!("{SENTINEL}\\q"), 1),
    |line| line.replacen(SENTINEL, &format!("{SENTINEL}\\n"), 1),
    |line| line.replacen(SENTINEL, &format!("\u{1}{SENTINEL}"), 1),
    |line| line.split_once('=').map(|(_, value)| value.to_owned()).unwrap_or_default(),
    |line| line.replacen("= ", "=\n", 1),
    |line| format!("[{line}"),
    |_| SENTINEL.to_owned(),
    |_| format!("\"{SENTINEL}\""),
];

fn report(toml: &str) -> String {
    let house = House::new(toml).env([("SET", "set"), ("SECRET", SENTINEL)]);
    let shown = match house.load() {
        Ok(loaded) => format!("{loaded:?}{}{}", loaded.warnings, loaded.warnings.to_json()),
        Err(problems) => format!("{}{}{problems:?}", problems.render(true), problems.to_json()),
    };
    shown.replace(&house.path().display().to_string(), "DIR")
}

#[test]
fn no_place_and_no_mistake_shows_a_secret() {
    for place in PLACES.iter().chain(MISPLACED) {
        for (n, broken) in BREAKS.iter().enumerate() {
            let line = broken(
                &place
                    .replace("@@", &format!("{SENTINEL}\u{0}"))
                    .replace('@', SENTINEL)
                    .replace('\u{0}', "@"),
            );
            for rest in [WRONG, right(&line)] {
                let toml = format!("[integrations.acme]\n{line}\n{rest}");
                let shown = report(&toml);
                assert!(!shown.contains(SENTINEL), "break {n} of `{place}` shows it:\n{toml}\n{shown}");
            }
        }
    }
}

/// Further lines that are full of mistakes.
const WRONG: &str = "authentication_type = \"api_key\"\napi_key_header = \"x key\"\nunknown = 1\n";

/// Further lines that make an integration of `line`, if that is right itself.
fn right(line: &str) -> &'static str {
    let endpoint = line.contains("endpoint");
    if line.starts_with("aws =") {
        return "endpoint = \"https://a.example\"\nmodels = [\"m\"]\nauthentication_type = \"aws_sigv4\"\n";
    }
    if line.starts_with("gcp =") {
        return "endpoint = \"https://a.example\"\nmodels = [\"m\"]\nauthentication_type = \"gcp\"\n";
    }
    match (line.contains("api_key"), line.contains("token") || line.contains("oauth2")) {
        (true, _) => {
            "endpoint = \"https://a.example\"\nmodels = [\"m\"]\nauthentication_type = \"api_key\"\napi_key_header = \"x\"\n"
        }
        (_, true) => "endpoint = \"https://a.example\"\nmodels = [\"m\"]\nauthentication_type = \"oauth2\"\n",
        _ if endpoint => "models = [\"m\"]\nauthentication_type = \"none\"\n",
        _ => "endpoint = \"https://a.example\"\nmodels = [\"m\"]\nauthentication_type = \"none\"\n",
    }
}

#[test]
fn settings_that_are_right_print_without_their_secrets() {
    let mut loaded = 0;
    for place in PLACES {
        let line = place.replace('@', SENTINEL);
        let house =
            House::new(&format!("[integrations.acme]\n{line}\n{}", right(&line))).env([("SECRET", SENTINEL)]);
        if let Ok(settings) = house.load() {
            loaded += 1;
            assert!(!format!("{settings:?}").contains(SENTINEL), "{place} prints");
        }
    }
    assert!(loaded >= 8, "only {loaded} of the places make a configuration");
}

#[test]
fn the_servers_own_key_and_the_environment_are_not_shown() {
    for toml in [
        format!("[server]\napi_key = \"{SENTINEL}\"\nworkers = \"x\""),
        format!("[server]\napi_key = [\"{SENTINEL}\"]"),
        format!("[server]\napi_key = \"{SENTINEL}\"\napi_key_file = \"f\""),
        format!("[server]\nworkers = 1\napi_key = \"{SENTINEL}"),
        format!("[server]\nworkers = {SENTINEL}"),
        "[log]\nlevel = \"${SECRET}\"".to_owned(),
    ] {
        assert!(!report(&toml).contains(SENTINEL), "{}", report(&toml));
    }
    let house = House::new("").env([
        ("OUTRIDER_SERVER__API_KEY", "s3NT1Nel\n"),
        ("OUTRIDER_SERVER__API_KYE", SENTINEL),
        ("OUTRIDER_INTEGRATIONS__A__TOKEN", SENTINEL),
        ("OUTRIDER_INTEGRATIONS__A__OAUTH2", SENTINEL),
        ("HTTPS_PROXY", "socks5://me:s3NT1Nel@p:1"),
    ]);
    let shown = house.report();
    assert!(!shown.contains(SENTINEL) && shown.contains("HTTPS_PROXY"), "{shown}");
}

#[test]
fn galileos_json_is_not_shown() {
    for json in [
        format!("{{\"api_key_value\": \"{SENTINEL}\", \"endpoint\": 5}}"),
        format!("{{\"api_key_value\": \"{SENTINEL}\"\n \"endpoint\": 5}}"),
        format!("{{\"api_key_value\": \"{SENTINEL}"),
        format!("{{\"api_key_value\": {SENTINEL}}}"),
        format!("\"{SENTINEL}\""),
        format!(
            "{{\"api_key_value\": [\"{SENTINEL}\"], \"token\": {{\"client_secret\": \"{SENTINEL}\"}}, \"headers\": {{\"a b\": \"{SENTINEL}\"}}}}"
        ),
        format!("{{\"model_properties\": \"{SENTINEL}\", \"unknown\": {{\"x\": [\"{SENTINEL}\"]}}}}"),
    ] {
        let house = House::new("integrations_dir = \"d\"\n").with("d/a.json", &json);
        let shown = format!("{}{:?}", house.report(), house.load());
        assert!(!shown.contains(SENTINEL), "{json}: {shown}");
    }
}

/// What is said of a good line with a secret that is broken by `patch` at a byte of its text; `None` where that would cut
/// the secret, which could not be found again.
fn said_of_broken(place: &str, cut: usize, patch: &str) -> Option<String> {
    let line = place.replace("@@", &format!("{SENTINEL}\u{0}")).replace('@', SENTINEL).replace('\u{0}', "@");
    let mut toml = format!("[integrations.acme]\nunknown = 1\n{line}\nmodels = 5\n");
    let at = cut.min(toml.len());
    let inside = toml.match_indices(SENTINEL).any(|(n, s)| n < at && at < n + s.len());
    if inside || !toml.is_char_boundary(at) {
        return None;
    }
    toml.insert_str(at, patch);
    Some(report(&toml))
}

#[test]
fn a_bracket_between_a_key_and_its_secret_shows_nothing() {
    // Found by the property below: a list that closes before it was opened.
    for shown in PLACES.iter().filter_map(|place| said_of_broken(place, 43, "]")) {
        assert!(!shown.contains(SENTINEL), "{shown}");
    }
}

proptest! {
    /// Cut and patched anywhere.
    #[test]
    fn no_broken_text_shows_a_secret(place in 0..PLACES.len(), cut in 0usize..200, patch in "[\\[\\]{}\"'=#.,\\n a5]{0,3}") {
        let shown = said_of_broken(PLACES[place], cut, &patch);
        prop_assume!(shown.is_some());
        let shown = shown.unwrap_or_default();
        prop_assert!(!shown.contains(SENTINEL), "{}", shown);
    }
}
