//! Embeddings: the texts under Mistral's names, the vectors always asked for as numbers and written as the client wants.

use bytes::BytesMut;
use serde::Deserialize;

use super::reply;
use crate::dialect::loss::Losses;
use crate::dialect::parts::whole;
use crate::dialect::{Broken, Context, Head, Untranslatable};
use crate::openai::json::Writer;
use crate::openai::{EmbeddingsRequest, Fault};

/// Writes the body of a request.
pub(super) fn write(
    wanted: &EmbeddingsRequest<'_>,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    let mut out = BytesMut::with_capacity(1024);
    let mut json = Writer::new(&mut out);
    json.object();
    json.member("model", context.provider_model);
    json.key("input");
    json.list();
    for (index, text) in wanted.input.iter().enumerate() {
        whole(*text, || format!("input[{index}]"))?;
        json.text(*text);
    }
    json.end_list();
    if let Some(dimensions) = wanted.dimensions {
        json.key("output_dimension");
        json.value(&dimensions);
    }
    if wanted.user.is_some_and(|user| !user.is_empty()) {
        losses.dropped("user", NO_SUCH_FIELD)?;
    }
    for (name, raw) in &wanted.others {
        match &**name {
            "metadata" => {
                json.key("metadata");
                json.raw(raw.get());
            }
            "output_dtype" if raw.get() == "\"float\"" => {}
            _ => losses.dropped(name.clone().into_owned(), NO_SUCH_FIELD)?,
        }
    }
    json.end_object();
    Ok(out)
}

const NO_SUCH_FIELD: &str = "Mistral's embeddings have no such field";

/// The vectors in the order of the texts, and the tokens of all texts.
pub(super) fn read(_: Head<'_>, body: &[u8]) -> Result<(Vec<Vec<f32>>, u64), Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| reply::nonsense(&e, body))?;
    let Some(mut data) = wire.data else {
        return Err(match Fault::inside(body) {
            Some(_) => reply::upstream(body),
            None => Broken::Garbled("the upstream's answer has no embeddings".to_owned()),
        });
    };
    data.sort_by_key(|one| one.index);
    let vectors = data.into_iter().map(|one| one.embedding).collect();
    Ok((vectors, wire.usage.and_then(|usage| usage.usage()).map_or(0, |usage| usage.prompt_tokens)))
}

#[derive(Deserialize)]
struct Wire<'a> {
    data: Option<Vec<WireVector>>,
    #[serde(borrow)]
    usage: Option<reply::WireUsage<'a>>,
}

#[derive(Deserialize)]
struct WireVector {
    #[serde(default)]
    index: u64,
    embedding: Vec<f32>,
}
