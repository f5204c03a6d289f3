//! `GET /v1/models`: what a client may send as `model`.

use bytes::Bytes;
use serde::Serialize;

use super::failure::Failure;
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

/// All models, or those of the integration that the path names.
pub(super) fn list(registry: &Registry, integration: Option<&str>) -> Result<Outcome, Failure> {
    let created = registry.created;
    let model = |id, owned_by| Model { id, object: "model", created, owned_by };
    let json = match integration {
        Some(name) => {
            let settings = &registry.integration(name)?.settings;
            let data = settings.models.iter().map(|m| model(m.alias.as_str(), settings.name.as_str()));
            serde_json::to_vec(&List { object: "list", data: data.collect() })
        }
        None => {
            let models = registry.models();
            let data = models.iter().map(|(id, owner)| model(id, owner)).collect();
            serde_json::to_vec(&List { object: "list", data })
        }
    };
    json.map(|json| Outcome::Models(Bytes::from(json)))
        .map_err(|_| Failure::Internal("the list of models did not serialise"))
}
