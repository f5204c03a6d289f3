//! Embeddings: OpenAI's request as Ollama's, and Ollama's answer as vectors.

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

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
    json.key("input");
    json.list();
    request.input.iter().for_each(|text| json.text(*text));
    json.end_list();
    if let Some(dimensions) = request.dimensions {
        json.key("dimensions");
        json.value(&dimensions);
    }
    for (name, raw) in &request.others {
        match OWN.iter().find(|own| **own == *name) {
            Some(own) => {
                json.key(own);
                json.raw(raw.get());
            }
            None => losses.dropped(name.clone().into_owned(), "Ollama's format has no such field")?,
        }
    }
    if request.user.is_some() {
        losses.dropped("user", "Ollama's format has no such field")?;
    }
    json.end_object();
    Ok(out)
}

/// Ollama's own fields, which go on as they came.
const OWN: [&str; 3] = ["truncate", "keep_alive", "options"];

/// The vectors of an answer, and how many tokens the texts had.
fn read(_: Head<'_>, body: &[u8]) -> Result<(Vec<Vec<f32>>, u64), Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| Broken::nonsense("Ollama", &e, body))?;
    match (wire.embeddings, wire.error) {
        (_, Some(_)) => Err(Broken::told(body)),
        (Some(vectors), None) => Ok((vectors, wire.prompt_eval_count.unwrap_or_default())),
        (None, None) => {
            Err(Broken::Garbled("the upstream's answer is none of Ollama's: it has no vectors".to_owned()))
        }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    embeddings: Option<Vec<Vec<f32>>>,
    prompt_eval_count: Option<u64>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}
