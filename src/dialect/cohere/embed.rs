//! Embeddings: OpenAI's request as Cohere's, and Cohere's answer as vectors.

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::reply::{self, WireUsage};
use crate::dialect::loss::Losses;
use crate::dialect::vectors::{self, Vectors};
use crate::dialect::{Broken, Context, Head, Untranslatable};
use crate::openai::json::Writer;
use crate::openai::{EmbeddingsRequest, Envelope};

/// The body of a request, and who reads the answer to it.
pub(super) fn translate(
    envelope: &Envelope,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<(BytesMut, Vectors), Untranslatable> {
    let request = EmbeddingsRequest::of(envelope)?;
    vectors::check(envelope, &request)?;
    let wire = write(&request, context, losses)?;
    Ok((wire, Vectors::new(&request, context, read)))
}

fn write(
    request: &EmbeddingsRequest<'_>,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    let mut out = BytesMut::with_capacity(4096);
    let mut json = Writer::new(&mut out);
    json.object();
    json.member("model", context.provider_model);
    json.key("texts");
    json.list();
    request.input.iter().for_each(|text| json.text(*text));
    json.end_list();
    json.key("embedding_types");
    json.raw(r#"["float"]"#);
    if let Some(dimensions) = request.dimensions {
        json.key("output_dimension");
        json.value(&dimensions);
    }
    for (name, raw) in &request.others {
        match OWN.iter().find(|own| **own == *name) {
            Some(own) => {
                json.key(own);
                json.raw(raw.get());
            }
            None => losses.dropped(name.clone().into_owned(), "Cohere's format has no such field")?,
        }
    }
    if !request.others.iter().any(|(name, _)| name == INPUT_TYPE) {
        losses.defaulted(INPUT_TYPE, "Cohere requires it; send `search_query` and the like to change it");
        json.tag(INPUT_TYPE, "search_document");
    }
    if request.user.is_some() {
        losses.dropped("user", "Cohere's format has no such field")?;
    }
    json.end_object();
    Ok(out)
}

const INPUT_TYPE: &str = "input_type";

/// Cohere's own fields, which go on as they came.
const OWN: [&str; 4] = [INPUT_TYPE, "truncate", "max_tokens", "priority"];

/// The vectors of an answer, and how many tokens the texts had.
fn read(_: Head<'_>, body: &[u8]) -> Result<(Vec<Vec<f32>>, u64), Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| reply::garbled(&e, body))?;
    match (wire.embeddings.and_then(|embeddings| embeddings.float), wire.message) {
        (Some(vectors), _) => {
            Ok((vectors, wire.meta.unwrap_or_default().usage().map_or(0, |usage| usage.prompt_tokens)))
        }
        (None, Some(_)) => Err(Broken::told(body)),
        (None, None) => {
            Err(Broken::Garbled("the upstream's answer is none of Cohere's: it has no vectors".to_owned()))
        }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    embeddings: Option<WireEmbeddings>,
    meta: Option<WireUsage>,
    /// Words of an error.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireEmbeddings {
    float: Option<Vec<Vec<f32>>>,
}
