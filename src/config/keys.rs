//! Which keys there are, by the table that holds them, and which of them a variable's name was probably meant for.

use std::sync::LazyLock;

use serde_json::Value;

use super::places::At;
use super::raw::Root;
use super::shape::Shape as _;

/// What `raw` declares.
static SHAPE: LazyLock<Value> = LazyLock::new(Root::shape);

/// The keys of the table at `at`, or of each of the tables in the list there; nothing where any key may stand, or none.
pub(super) fn of(at: &At) -> Option<Vec<&'static str>> {
    let mut shape = &*SHAPE;
    for key in at.keys() {
        let own = &shape["properties"][key];
        shape = if own.is_object() { own } else { &shape["additionalProperties"] };
        if shape["items"].is_object() {
            shape = &shape["items"];
        }
    }
    Some(shape["properties"].as_object()?.keys().map(String::as_str).collect())
}

/// The key that the variable `name` would set if its levels had two underscores between them, and what that variable is
/// called; `integrations` are those that there are.
pub(super) fn meant(name: &str, integrations: &[&str]) -> Option<(String, Option<String>)> {
    let rest = name.strip_prefix("OUTRIDER_").filter(|rest| !rest.contains("__"))?;
    let mut found: Option<(usize, Vec<String>)> = None;
    for path in paths() {
        let joined = path.join("_").to_uppercase();
        let (length, meant) = match joined.split_once(ANY) {
            None if joined == rest => (joined.len(), path),
            None => continue,
            Some((before, after)) => {
                let Some(own) = rest.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) else {
                    continue;
                };
                // A name that is there says where it ends.
                let is_there = integrations.iter().any(|name| as_variable(name) == own);
                let length = joined.len() + if is_there { rest.len() } else { 0 };
                if own.is_empty() {
                    continue;
                }
                (
                    length,
                    path.iter()
                        .map(|key| if key == ANY { own.to_lowercase() } else { key.clone() })
                        .collect(),
                )
            }
        };
        if found.as_ref().is_none_or(|(longest, _)| length > *longest) {
            found = Some((length, meant));
        }
    }
    let path = found?.1;
    let variable = (path.len() > 1).then(|| format!("OUTRIDER_{}", path.join("__").to_uppercase()));
    Some((path.join("."), variable))
}

/// An integration's name as it stands in a variable's.
pub(super) fn as_variable(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

/// Stands for an integration's name: it is in no key.
const ANY: &str = "*";

/// Every key of two levels or more, and `integrations_dir`; tables without keys of ours as a whole.
fn paths() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    collect(&SHAPE, &[], &mut found);
    found.retain(|path| path.len() > 1 || path == &["integrations_dir"]);
    found
}

fn collect(shape: &Value, at: &[String], found: &mut Vec<Vec<String>>) {
    for (key, below) in shape["properties"].as_object().into_iter().flatten() {
        let path = [at, std::slice::from_ref(key)].concat();
        collect(below, &path, found);
        if key == "integrations" {
            collect(&below["additionalProperties"], &[path.as_slice(), &[ANY.to_owned()]].concat(), found);
        } else {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_table_are_those_that_are_declared() {
        let limits = At::integration("acme").key("limits");
        assert!(
            of(&limits).is_some_and(|keys| keys.contains(&"max_concurrent") && !keys.contains(&"models"))
        );
        assert!(of(&At::root()).is_some_and(|keys| keys.contains(&"integrations_dir")));
        let model = At::integration("acme").key("model_properties").index(1);
        assert!(of(&model).is_some_and(|keys| keys.contains(&"alias")));
        for open in
            [At::integration("acme").key("headers"), At::root().key("integrations"), At::root().key("no")]
        {
            assert_eq!(of(&open), None, "{open}");
        }
    }

    #[test]
    fn a_name_with_single_underscores_is_the_key_that_it_was_meant_for() {
        let integrations = ["acme", "my-gw", "a.limits"];
        for (name, key, variable) in [
            ("OUTRIDER_SERVER_LISTEN", "server.listen", Some("OUTRIDER_SERVER__LISTEN")),
            (
                "OUTRIDER_SERVER_TLS_CERT_FILE",
                "server.tls.cert_file",
                Some("OUTRIDER_SERVER__TLS__CERT_FILE"),
            ),
            ("OUTRIDER_LOG_LEVEL", "log.level", Some("OUTRIDER_LOG__LEVEL")),
            ("OUTRIDER_INTEGRATIONS_DIR", "integrations_dir", None),
            (
                "OUTRIDER_INTEGRATIONS_ACME_API_KEY_VALUE",
                "integrations.acme.api_key_value",
                Some("OUTRIDER_INTEGRATIONS__ACME__API_KEY_VALUE"),
            ),
            (
                "OUTRIDER_INTEGRATIONS_MY_GW_LIMITS_TOKEN",
                "integrations.my_gw.limits.token",
                Some("OUTRIDER_INTEGRATIONS__MY_GW__LIMITS__TOKEN"),
            ),
            (
                "OUTRIDER_INTEGRATIONS_A_LIMITS_TOKEN",
                "integrations.a_limits.token",
                Some("OUTRIDER_INTEGRATIONS__A_LIMITS__TOKEN"),
            ),
        ] {
            let expected = Some((key.to_owned(), variable.map(str::to_owned)));
            assert_eq!(meant(name, &integrations), expected, "{name}");
        }
    }

    #[test]
    fn what_kubernetes_and_others_set_is_meant_for_no_key() {
        for name in [
            "OUTRIDER_CONFIG",
            "OUTRIDER_PORT",
            "OUTRIDER_SERVICE_HOST",
            "OUTRIDER_SERVICE_PORT",
            "OUTRIDER_SERVICE_PORT_HTTP",
            "OUTRIDER_PORT_4010_TCP",
            "OUTRIDER_PORT_4010_TCP_ADDR",
            "OUTRIDER_PORT_4010_TCP_PORT",
            "OUTRIDER_PORT_4010_TCP_PROTO",
            "OUTRIDER_ADMIN_SERVICE_HOST",
            "OUTRIDER_SERVER_PORT",
            "OUTRIDER_SERVER__LISTEN",
            "OUTRIDER_SERVER_",
            "OUTRIDER_",
            "SERVER_LISTEN",
            "OUTRIDER_INTEGRATIONS_TOKEN",
        ] {
            assert_eq!(meant(name, &[]), None, "{name}");
        }
    }
}
