//! Which integration serves a request, and under which name the provider hears of the model.

use serde_json::Value;

use crate::support::{Call, Setup, Sidecar, Upstream, integration};

/// Two integrations: `acme` (models `m` = `real-model`, `plain`) and `beta` with the models given.
fn two(acme: &Upstream, beta: &Upstream, beta_lines: &str) -> Sidecar {
    let tables =
        [integration("acme", &acme.url("/v1"), ""), integration("beta", &beta.url("/base/v2"), beta_lines)];
    Setup::new(tables.concat()).start()
}

fn models(sidecar: &Sidecar, path: &str) -> Vec<String> {
    let answer = sidecar.ask(&Call::get(path));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    assert_eq!(list["object"], "list");
    let model = |entry: &Value| {
        assert_eq!(entry["object"], "model", "{entry}");
        entry["id"].as_str().expect("a model has an id").to_owned()
    };
    list["data"].as_array().expect("a list has data").iter().map(model).collect()
}

#[test]
fn an_alias_a_name_and_both_with_the_integration_before_them_find_the_model() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "models = [\"b-1\", \"deep/b-2\"]");
    for name in ["m", "real-model", "acme/m", "acme/real-model"] {
        assert_eq!(sidecar.ask(&Call::say(name, "hi")).content(), "acme", "{name}");
    }
    for name in ["b-1", "beta/b-1", "deep/b-2", "beta/deep/b-2"] {
        assert_eq!(sidecar.ask(&Call::say(name, "hi")).content(), "beta", "{name}");
    }
    assert!(acme.requests(4).iter().all(|r| r.json()["model"] == "real-model"));
    let heard: Vec<Value> = beta.requests(4).iter().map(|r| r.json()["model"].clone()).collect();
    assert_eq!(heard, ["b-1", "b-1", "deep/b-2", "deep/b-2"]);
    assert!(beta.requests(4).iter().all(|r| r.target() == "/base/v2/chat/completions"));
}

#[test]
fn the_path_names_the_integration() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "");
    let path = "/beta/v1/chat/completions";
    assert_eq!(sidecar.ask(&Call::say("m", "hi").at(path)).content(), "beta");
    assert_eq!(sidecar.ask(&Call::say("real-model", "hi").at(path)).content(), "beta");
    assert!(beta.requests(2).iter().all(|r| r.json()["model"] == "real-model"));
    assert_eq!(acme.count(), 0);
}

#[test]
fn an_exact_name_wins_over_integration_and_model() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let tables = [
        integration("acme", &acme.url("/v1"), "models = [\"beta/m\"]"),
        integration("beta", &beta.url("/v1"), "models = [\"m\"]"),
    ];
    let sidecar = Setup::new(tables.concat()).start();
    assert_eq!(sidecar.ask(&Call::say("beta/m", "hi")).content(), "acme");
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "beta");
}

#[test]
fn a_model_of_two_integrations_is_refused_with_the_forms_to_use() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "");
    let message = sidecar.ask(&Call::say("m", "hi")).refusal(400, "model_ambiguous");
    for form in ["acme/m", "beta/m"] {
        assert!(message.contains(form), "the message does not offer {form}: {message}");
    }
    assert_eq!(sidecar.ask(&Call::say("beta/m", "hi")).content(), "beta");
    assert_eq!(acme.count(), 0);
}

#[test]
fn an_unknown_model_is_refused_with_the_nearest_names() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "models = [\"gpt-oss-20b\"]");
    let message = sidecar.ask(&Call::say("gpt-os-20b", "hi")).refusal(404, "model_not_found");
    assert!(message.contains("gpt-os-20b") && message.contains("gpt-oss-20b"), "{message}");
    for name in ["../../../etc/passwd", "m\\r\\nX-Smug: 1"] {
        let body = format!("{{\"model\":\"{name}\",\"messages\":[]}}");
        sidecar.ask(&Call::chat(body)).refusal(404, "model_not_found");
    }
    assert_eq!(acme.count() + beta.count(), 0);
}

#[test]
fn an_unknown_integration_in_the_path_is_refused_with_the_nearest_names() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "");
    let message =
        sidecar.ask(&Call::say("m", "hi").at("/acne/v1/chat/completions")).refusal(404, "model_not_found");
    assert!(message.contains("acme"), "{message}");
    let foreign = sidecar.ask(&Call::say("b-9", "hi").at("/acme/v1/chat/completions"));
    assert!(foreign.refusal(404, "model_not_found").contains("acme"));
}

#[test]
fn a_request_without_a_model_is_served_where_the_default_is_clear() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let body = r#"{"messages":[]}"#;
    let sidecar = two(&acme, &beta, "default_model = \"plain\"");
    sidecar.ask(&Call::chat(body)).refusal(400, "model_missing");
    assert_eq!(sidecar.ask(&Call::chat(body).at("/beta/v1/chat/completions")).content(), "beta");
    assert_eq!(beta.request().json()["model"], "plain");
    assert_eq!(sidecar.ask(&Call::chat(body).at("/acme/v1/chat/completions")).content(), "acme");
    assert_eq!(acme.request().json()["model"], "real-model", "without default_model it is the first model");

    let alone = Upstream::saying("alone");
    let sidecar = Setup::before(&alone, "default_model = \"m\"").start();
    assert_eq!(sidecar.ask(&Call::chat(body)).content(), "alone");
    assert_eq!(alone.request().json()["model"], "real-model");
}

#[test]
fn a_list_of_models_holds_what_a_client_may_send() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "models = [\"plain\", \"b-1\"]");
    let all = models(&sidecar, "/v1/models");
    for name in ["m", "b-1", "acme/plain", "beta/plain"] {
        assert!(all.iter().any(|id| id == name), "{name} is not listed: {all:?}");
    }
    assert!(!all.iter().any(|id| id == "plain"), "an ambiguous name is listed: {all:?}");
    for id in &all {
        assert_eq!(sidecar.ask(&Call::say(id, "hi")).status, 200, "{id} is listed but not served");
    }
    let own = models(&sidecar, "/beta/v1/models");
    assert!(own.iter().any(|id| id == "plain") && own.iter().any(|id| id == "b-1"), "{own:?}");
    assert!(!own.iter().any(|id| id == "m"), "{own:?}");
}

#[test]
fn a_model_is_told_of_by_every_name_that_a_client_may_send() {
    let (acme, beta) = (Upstream::saying("acme"), Upstream::saying("beta"));
    let sidecar = two(&acme, &beta, "models = [\"plain\", \"deep/b-2\"]");
    for (path, id, owner) in [
        ("/v1/models/m", "m", "acme"),
        ("/v1/models/real-model", "real-model", "acme"),
        ("/v1/models/acme/plain", "acme/plain", "acme"),
        ("/v1/models/deep%2Fb-2", "deep/b-2", "beta"),
        ("/beta/v1/models/plain", "plain", "beta"),
        ("/beta/v1/models/deep/b-2", "deep/b-2", "beta"),
    ] {
        let answer = sidecar.ask(&Call::get(path));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let model = answer.json();
        let told = [&model["object"], &model["id"], &model["owned_by"]];
        assert_eq!(told, ["model", id, owner], "{path}");
    }
    let message = sidecar.ask(&Call::get("/v1/models/mm")).refusal(404, "model_not_found");
    assert!(message.contains("did you mean `m`?"), "{message}");
    sidecar.ask(&Call::get("/v1/models/plain")).refusal(400, "model_ambiguous");
    assert_eq!(sidecar.ask(&Call::get("/v1/models/m").method("PUT")).status, 405);
    assert_eq!(beta.count(), 0);
    for call in [Call::get("/beta/v1/models/other"), Call::get("/beta/v1/models/plain").method("DELETE")] {
        sidecar.ask(&call);
    }
    let targets: Vec<_> = beta.requests(2).iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/base/v2/models/other", "/base/v2/models/plain"], "others are the provider's");
}

#[test]
fn an_unknown_path_and_a_wrong_method_are_refused() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::before(&upstream, "").start();
    for path in ["/", "/v2/chat/completions", "/v1", "/acme", "/v1/../v1/chat/completions", "//v1/models"] {
        sidecar.ask(&Call::get(path)).refusal(404, "not_found");
    }
    let wrong = sidecar.ask(&Call::get("/v1/chat/completions"));
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert!(wrong.json()["error"]["message"].is_string());
    let wrong = sidecar.ask(&Call::post("/v1/models", "{}"));
    assert_eq!(wrong.status, 405);
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("GET")));
    let wrong = sidecar.ask(&Call::say("m", "hi").method("PUT"));
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    let query = sidecar.ask(&Call::say("m", "hi").at("/v1/chat/completions?x=1"));
    assert_eq!(query.content(), "hello");
    assert_eq!(upstream.request().target(), "/v1/chat/completions", "the client's query went on");
}
