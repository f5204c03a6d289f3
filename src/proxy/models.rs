//! `GET /v1/models` and `/v1/models/{model}`: what a client may send as `model`.

use bytes::Bytes;
use http::Method;
use serde::Serialize;

use super::failure::Failure;
use super::intake;
use super::reply::Outcome;
use crate::integration::Registry;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

/// The one that a client would mean by `model`, by this name.
pub(super) fn one(registry: &Registry, integration: Option<&str>, model: &str) -> Result<Outcome, Failure> {
    let found = registry.find(integration, Some(model))?;
    let owned_by = found.entry.settings.name.as_str();
    answer(&Model { id: model, object: "model", created: registry.created, owned_by })
}

/// What `method` asks for at `rest` below an integration, if that is one of its models here: the provider may know it by
/// another name, or serve no such path.
pub(super) fn known(registry: &Registry, integration: &str, rest: &str, method: &Method) -> Option<Outcome> {
    let model = intake::model(rest).filter(|_| intake::is_read(method))?;
    one(registry, Some(integration), &model).ok()
}

/// All models, or those of the integration that the path names.
pub(super) fn list(registry: &Registry, integration: Option<&str>) -> Result<Outcome, Failure> {
    let created = registry.created;
    let model = |id, owned_by| Model { id, object: "model", created, owned_by };
    match integration {
        Some(name) => {
            let settings = &registry.integration(name)?.settings;
            let data = settings.models.iter().map(|m| model(m.alias.as_str(), settings.name.as_str()));
            answer(&List { object: "list", data: data.collect() })
        }
        None => {
            let models = registry.models();
            let data = models.iter().map(|(id, owner)| model(id, owner)).collect();
            answer(&List { object: "list", data })
        }
    }
}

fn answer(what: &impl Serialize) -> Result<Outcome, Failure> {
    serde_json::to_vec(what)
        .map(|json| Outcome::Models(Bytes::from(json)))
        .map_err(|_| Failure::Internal("the models did not serialise"))
}
