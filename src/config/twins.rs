//! Keys that mean the same under another name: a secret `x` and its twin `x_file`, a header in small letters and in
//! capitals. A higher layer that gives one of them replaces the other below it.

use figment::value::{Dict, Value};

use super::places::Layer;

/// The secrets, by the tables that hold them: those of one integration, of its `oauth2` and of its `aws`.
const SECRETS: [&str; 7] = [
    "api_key",
    "api_key_value",
    "token",
    "client_secret",
    "access_key_id",
    "secret_access_key",
    "session_token",
];

/// What `token` and `token_file` hold, as it stands in `oauth2`.
const CLIENT: [&str; 3] = ["client_id", "client_secret", "client_secret_file"];

/// The tables below the root, and below one integration, in which secrets stand.
const TABLES: [&str; 4] = ["server", "integrations", "oauth2", "aws"];

/// The tables whose keys are names of headers, of an integration and of its `oauth2`.
const HEADERS: [&str; 2] = ["headers", "extra_headers"];

/// Takes out of each layer the secrets whose twin a layer above gives, and the headers that it gives in other letters.
pub(super) fn retire(layers: &mut [(Layer, Dict)]) {
    for n in 1..layers.len() {
        let (below, above) = layers.split_at_mut(n);
        for (_, dict) in below {
            retire_in(dict, &above[0].1, 0);
        }
    }
}

fn retire_in(below: &mut Dict, above: &Dict, depth: usize) {
    for secret in SECRETS {
        let file = format!("{secret}_file");
        if above.contains_key(secret) {
            below.remove(&file);
        }
        if above.contains_key(&file) {
            below.remove(secret);
        }
    }
    // What `token` says of the client is said in `oauth2` too, which wins within one layer.
    if depth == 2
        && (above.contains_key("token") || above.contains_key("token_file"))
        && let Some(Value::Dict(_, oauth2)) = below.get_mut("oauth2")
    {
        CLIENT.iter().for_each(|key| drop(oauth2.remove(*key)));
    }
    for (key, value) in above {
        let (Some(Value::Dict(_, inner)), Value::Dict(_, above)) = (below.get_mut(key), value) else {
            continue;
        };
        if depth > 1 && HEADERS.contains(&key.as_str()) {
            inner.retain(|name, _| !above.keys().any(|own| own != name && own.eq_ignore_ascii_case(name)));
            continue;
        }
        // At depth 1 the keys are the names of integrations.
        if depth == 1 || TABLES.contains(&key.as_str()) {
            retire_in(inner, above, depth + 1);
        }
    }
}
