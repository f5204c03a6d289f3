//! What handlers print: it stands in our log as theirs, and the keys that we handed them do not.

use serde_json::Value;

use crate::support::handlers::{handler, setup, start, until};
use crate::support::{Call, TokenServer};

/// Every form of a key that a handler may print is looked for by its middle.
const KEY: &str = "sk-live/SENTINEL+0123456789abcdef";

const KWARGS: &str =
    "custom_llm_config = { file_name = \"talks.py\", class_name = \"CLASS\", init_kwargs = { KWARGS } }";

fn table(name: &str, class: &str, kwargs: &str, lines: &str) -> String {
    let config = KWARGS.replace("CLASS", class).replace("KWARGS", kwargs);
    handler(name, "talks.py", class, &format!("{lines}\n{config}"))
}

#[test]
fn a_key_that_a_handler_prints_is_starred_in_the_log_and_the_rest_of_the_line_is_not() {
    let server = TokenServer::issuing();
    let kwargs = "region = \"eu-1\", api_secret = \"kwarg-SENTINEL\"";
    let key =
        format!("authentication_type = \"api_key\"\napi_key_header = \"x-key\"\napi_key_value = \"{KEY}\"");
    let oauth = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"{}\"\noauth2 = {{ client_id = \"me\", client_secret = \"s\" }}",
        server.url()
    );
    let tables = table("keyed", "Handler", kwargs, &key) + &table("tokens", "Handler", kwargs, &oauth);
    let sidecar = start(setup(&["talks.py"], "", &tables));
    for name in ["keyed", "tokens"] {
        let call = Call::say("m", "hi").at(&format!("/{name}/v1/chat/completions"));
        assert_eq!(sidecar.ask(&call).content(), "said");
    }
    for name in ["keyed", "tokens"] {
        let said = |words: &'static str| {
            let is_it = move |line: &Value| {
                line["integration"] == name
                    && line["message"].as_str().is_some_and(|text| text.starts_with(words))
            };
            sidecar.log_line(words, is_it)["message"].as_str().unwrap_or_default().to_owned()
        };
        assert!(said("said all").starts_with("said all with a key of "));
        assert_eq!(said("the key is"), "the key is ***");
        // The token came with its scheme.
        let bearer = if name == "keyed" { "Bearer " } else { "" };
        assert_eq!(said("headers:"), format!("headers: {{'Authorization': '{bearer}***'}}"));
        assert_eq!(said("url:"), "url: https://a.example/?key=***");
        assert_eq!(said("constructed"), "constructed in eu-1 with ***");
        // Of the longer key only the beginning stood in what is logged of a line.
        let end = if name == "keyed" { "xx*** … (cut)" } else { "xx***" };
        assert!(said("long").ends_with(end), "{}", said("long"));
        let raised = said("Traceback");
        assert!(raised.ends_with("ValueError: *** and *** were refused"), "{raised}");
    }
    let log = sidecar.output();
    assert!(!log.contains("SENTINEL") && !log.contains("token-1"), "{log}");
}

#[test]
fn a_secret_in_the_words_of_a_failed_load_is_starred_too() {
    let tables =
        table("broken", "Broken", "api_secret = \"kwarg-SENTINEL\"", "authentication_type = \"none\"");
    let sidecar = start(setup(&["talks.py"], "", &tables));
    let failed = until(&sidecar, "broken", |state| state["state"] == "failed");
    let remedy = failed["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("cannot log in with") && !remedy.contains("SENTINEL"), "{remedy}");
    assert!(!sidecar.output().contains("SENTINEL"), "{}", sidecar.output());
}
