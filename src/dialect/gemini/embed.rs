//! Embeddings: `batchEmbedContents` of Gemini's own API; on Vertex AI that, `embedContent` for a single text, or `predict`
//! for models of old.
//!
//! Reference: <https://ai.google.dev/api/embeddings> and
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>.

use bytes::BytesMut;
use serde::Deserialize;

use super::Flavour;
use super::answer::Counts;
use super::models;
use crate::dialect::loss::Losses;
use crate::dialect::vectors::{self, Vectors};
use crate::dialect::{Broken, Context, Head, Untranslatable};
use crate::openai::json::{Text, Writer};
use crate::openai::{EmbeddingsRequest, Envelope};

/// A way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Gemini's own API, and Vertex AI with several texts.
    Batch,
    /// Vertex AI with one text.
    One,
    /// Vertex AI with models of old.
    Predict,
}

/// Writes the body of a request; what could not be carried over goes to `losses`.
pub(super) fn write(
    envelope: &Envelope,
    context: &Context<'_>,
    flavour: Flavour,
    losses: &mut Losses,
) -> Result<(Method, BytesMut, Vectors), Untranslatable> {
    let request = EmbeddingsRequest::of(envelope)?;
    vectors::check(envelope, &request)?;
    if let Some(index) = request.input.iter().position(|text| text.is_torn()) {
        let why = "an escape in this text spells half a character";
        return Err(Untranslatable::malformed(format!("input[{index}]"), why));
    }
    if request.user.is_some() {
        losses.dropped("user", "Gemini's embeddings have no such field")?;
    }
    for (name, _) in request.others.iter().filter(|(name, _)| name != TASK) {
        losses.dropped(name.clone().into_owned(), "Gemini's embeddings have no such field")?;
    }
    let method = match flavour {
        Flavour::Studio => Method::Batch,
        Flavour::Vertex if !models::embeds_content(context.provider_model) => Method::Predict,
        Flavour::Vertex if request.input.len() == 1 => Method::One,
        Flavour::Vertex => Method::Batch,
    };
    let mut out = BytesMut::with_capacity(envelope.length() + 256);
    let mut json = Writer::new(&mut out);
    match method {
        Method::Predict => write_instances(&request, &mut json),
        Method::One => write_one(request.input[0], &request, &mut json),
        Method::Batch => {
            json.object();
            json.key("requests");
            json.list();
            for text in &request.input {
                match flavour {
                    Flavour::Studio => write_request(*text, &request, context.provider_model, &mut json),
                    Flavour::Vertex => write_one(*text, &request, &mut json),
                }
            }
            json.end_list();
            json.end_object();
        }
    }
    let read = match method {
        Method::Batch => read_batch,
        Method::One => read_one,
        Method::Predict => read_predictions,
    };
    Ok((method, out, Vectors::new(&request, context, read)))
}

/// Google's own field that a client or `defaults` may set: what the vectors are for.
const TASK: &str = "task_type";

fn write_request(text: Text<'_>, request: &EmbeddingsRequest<'_>, model: &str, json: &mut Writer<'_>) {
    json.object();
    json.member("model", &format!("models/{model}"));
    write_content(text, json);
    write_task(request, "taskType", json);
    write_dimensions(request, json);
    json.end_object();
}

fn write_one(text: Text<'_>, request: &EmbeddingsRequest<'_>, json: &mut Writer<'_>) {
    json.object();
    write_content(text, json);
    json.key("embedContentConfig");
    json.object();
    write_task(request, "taskType", json);
    write_dimensions(request, json);
    refuse_to_cut(json);
    json.end_object();
    json.end_object();
}

fn write_instances(request: &EmbeddingsRequest<'_>, json: &mut Writer<'_>) {
    json.object();
    json.key("instances");
    json.list();
    for text in &request.input {
        json.object();
        json.key("content");
        json.text(*text);
        write_task(request, "task_type", json);
        json.end_object();
    }
    json.end_list();
    json.key("parameters");
    json.object();
    write_dimensions(request, json);
    refuse_to_cut(json);
    json.end_object();
    json.end_object();
}

fn write_content(text: Text<'_>, json: &mut Writer<'_>) {
    json.key("content");
    json.object();
    json.key("parts");
    json.list();
    json.object();
    json.key("text");
    json.text(text);
    json.end_object();
    json.end_list();
    json.end_object();
}

fn write_task(request: &EmbeddingsRequest<'_>, wire: &'static str, json: &mut Writer<'_>) {
    if let Some((_, raw)) = request.others.iter().find(|(name, _)| name == TASK) {
        json.key(wire);
        json.raw(raw.get());
    }
}

fn write_dimensions(request: &EmbeddingsRequest<'_>, json: &mut Writer<'_>) {
    if let Some(dimensions) = request.dimensions {
        json.key("outputDimensionality");
        json.value(&dimensions);
    }
}

/// A text that is too long is an error, as with OpenAI, and not cut off unseen.
fn refuse_to_cut(json: &mut Writer<'_>) {
    json.key("autoTruncate");
    json.value(&false);
}

type Read = Result<(Vec<Vec<f32>>, u64), Broken>;

fn read_batch(_: Head<'_>, body: &[u8]) -> Read {
    let answer: Wire = parse(body)?;
    let tokens = answer.tokens();
    Ok((
        answer.embeddings.unwrap_or_default().into_iter().map(|embedding| embedding.values).collect(),
        tokens,
    ))
}

fn read_one(_: Head<'_>, body: &[u8]) -> Read {
    let answer: Wire = parse(body)?;
    let tokens = answer.tokens();
    Ok((answer.embedding.into_iter().map(|embedding| embedding.values).collect(), tokens))
}

fn read_predictions(_: Head<'_>, body: &[u8]) -> Read {
    let answer: Predictions = parse(body)?;
    let embeddings: Vec<_> = answer.predictions.into_iter().map(|prediction| prediction.embeddings).collect();
    let tokens = embeddings.iter().map(Embedding::tokens).sum();
    Ok((embeddings.into_iter().map(|embedding| embedding.values).collect(), tokens))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Broken> {
    let told: Result<Told, _> = serde_json::from_slice(body);
    if told.is_ok_and(|told| told.error.is_some()) {
        return Err(Broken::told(body));
    }
    serde_json::from_slice(body).map_err(|e| Broken::nonsense("Google", &e, body))
}

#[derive(Deserialize)]
struct Told {
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    embedding: Option<Embedding>,
    embeddings: Option<Vec<Embedding>>,
    usage_metadata: Option<Counts>,
}

impl Wire {
    fn tokens(&self) -> u64 {
        let each = || self.embeddings.iter().flatten().map(Embedding::tokens).sum();
        self.usage_metadata.map_or_else(each, |counts| counts.prompt_tokens())
    }
}

#[derive(Deserialize)]
struct Predictions {
    predictions: Vec<Prediction>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Embedding,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
    statistics: Option<Statistics>,
}

impl Embedding {
    fn tokens(&self) -> u64 {
        self.statistics.as_ref().and_then(|s| s.token_count).map_or(0, |count| count.max(0.0) as u64)
    }
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(alias = "tokenCount")]
    token_count: Option<f64>,
}
