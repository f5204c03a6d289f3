//! Embeddings by `InvokeModel`: each family of models has a format of its own.
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html> and
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>.

use bytes::BytesMut;
use http::Method;
use serde::Deserialize;

use super::{JSON, headers, reply};
use crate::dialect::loss::Losses;
use crate::dialect::vectors::{self, Vectors};
use crate::dialect::{Broken, Context, Head, Prepared, Untranslatable};
use crate::openai::json::Writer;
use crate::openai::{EmbeddingsRequest, Envelope, Fault};
use crate::outbound::{Segments, Unsigned};

/// What is appended for embeddings.
pub(super) const TAIL: &str = "/model/{model}/invoke";

/// Whose format a model speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Titan's first text model: one text, no settings.
    TitanOne,
    /// Titan's text model of today: one text.
    Titan,
    /// Titan's model of texts and images: one text.
    TitanImage,
    /// Nova's model: one text.
    Nova,
    /// Cohere's before the fourth: many texts, one length.
    CohereThree,
    /// Cohere's: many texts.
    Cohere,
}

/// The first line whose sign a name holds counts.
const FAMILIES: [(&str, Family); 6] = [
    ("titan-embed-image", Family::TitanImage),
    ("titan-embed-text-v1", Family::TitanOne),
    ("titan-embed", Family::Titan),
    ("nova-2-multimodal-embeddings", Family::Nova),
    ("cohere.embed-v", Family::Cohere),
    ("cohere.embed", Family::CohereThree),
];

/// Turns a request for embeddings into that of the model's family.
pub(super) fn prepare(envelope: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
    let request = EmbeddingsRequest::of(envelope)?;
    vectors::check(envelope, &request)?;
    let found = FAMILIES.iter().find(|(sign, _)| context.provider_model.contains(sign));
    let Some((_, family)) = found else {
        let why = "Bedrock has a format for each family of embedding models, and this name tells none of those \
                   that are translated: titan-embed, nova-2-multimodal-embeddings, cohere.embed";
        return Err(Untranslatable::unsupported("model", why));
    };
    refuse(&request, *family)?;
    let mut losses = Losses::of(envelope, context);
    let mut out = BytesMut::with_capacity(envelope.length() + 128);
    write(&request, *family, &mut Writer::new(&mut out), &mut losses);
    if request.user.is_some_and(|user| !user.is_blank()) {
        losses.dropped("user", "Bedrock's embeddings have no such field")?;
    }
    for (name, _) in request.others.iter().filter(|(name, _)| !family.settings().contains(&&**name)) {
        losses.dropped(name.clone().into_owned(), "this model has no such setting")?;
    }
    let unsigned = Unsigned::new(Method::POST, TAIL, headers(JSON), Segments::one(out.freeze()));
    let decoder = Box::new(Vectors::new(&request, context, read));
    Ok(Prepared { unsigned, report: losses.into_report(), decoder })
}

impl Family {
    /// Fields of its own that a client may send beside OpenAI's.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Titan => &["normalize"],
            Self::CohereThree | Self::Cohere => &["input_type", "truncate"],
            Self::TitanOne | Self::TitanImage | Self::Nova => &[],
        }
    }
}

fn refuse(request: &EmbeddingsRequest<'_>, family: Family) -> Result<(), Untranslatable> {
    let takes_many = matches!(family, Family::Cohere | Family::CohereThree);
    if request.input.len() > 1 && !takes_many {
        let why = "this model takes one text a request: send each text by itself";
        return Err(Untranslatable::unsupported("input", why));
    }
    if request.dimensions.is_some() && matches!(family, Family::TitanOne | Family::CohereThree) {
        let why = "the vectors of this model have one length only";
        return Err(Untranslatable::unsupported("dimensions", why));
    }
    for (index, text) in request.input.iter().enumerate() {
        if text.is_torn() {
            let why = "an escape in this text spells half a character";
            return Err(Untranslatable::malformed(format!("input[{index}]"), why));
        }
    }
    Ok(())
}

fn write(request: &EmbeddingsRequest<'_>, family: Family, json: &mut Writer<'_>, losses: &mut Losses) {
    json.object();
    match family {
        Family::TitanOne | Family::Titan | Family::TitanImage => {
            write_texts(request, "inputText", json);
            match request.dimensions {
                Some(length) if family == Family::TitanImage => {
                    json.key("embeddingConfig");
                    json.value(&serde_json::json!({ "outputEmbeddingLength": length }));
                }
                Some(length) => {
                    json.key("dimensions");
                    json.value(&length);
                }
                None => {}
            }
        }
        Family::Nova => write_nova(request, json),
        Family::CohereThree | Family::Cohere => {
            json.key("texts");
            json.list();
            request.input.iter().for_each(|text| json.text(*text));
            json.end_list();
            if !request.others.iter().any(|(name, _)| name == "input_type") {
                json.tag("input_type", "search_document");
                losses.defaulted("input_type", "this model requires it; `search_document`");
            }
            if let Some(length) = request.dimensions {
                json.key("output_dimension");
                json.value(&length);
            }
            json.key("embedding_types");
            json.value(&["float"]);
        }
    }
    for (name, value) in request.others.iter().filter(|(name, _)| family.settings().contains(&&**name)) {
        json.name(name);
        json.raw(value.get());
    }
    json.end_object();
}

fn write_texts(request: &EmbeddingsRequest<'_>, key: &'static str, json: &mut Writer<'_>) {
    for text in request.input.iter().take(1) {
        json.key(key);
        json.text(*text);
    }
}

fn write_nova(request: &EmbeddingsRequest<'_>, json: &mut Writer<'_>) {
    json.tag("taskType", "SINGLE_EMBEDDING");
    json.key("singleEmbeddingParams");
    json.object();
    json.tag("embeddingPurpose", "GENERIC_INDEX");
    if let Some(length) = request.dimensions {
        json.key("embeddingDimension");
        json.value(&length);
    }
    json.key("text");
    json.object();
    // A text that is too long is refused, as OpenAI does.
    json.tag("truncationMode", "NONE");
    write_texts(request, "value", json);
    json.end_object();
    json.end_object();
}

/// Reads any family's answer: their shapes exclude each other.
fn read(head: Head<'_>, body: &[u8]) -> Result<(Vec<Vec<f32>>, u64), Broken> {
    let wire: Wire = serde_json::from_slice(body).map_err(|e| reply::garbled(&e, body))?;
    // Cohere's tell their tokens in a header only.
    let counted = head.headers.get("x-amzn-bedrock-input-token-count");
    let counted = || counted?.to_str().ok()?.parse().ok();
    let tokens = wire.tokens.or_else(counted).unwrap_or(0);
    let vectors = match (wire.embedding, wire.embeddings) {
        (Some(vector), _) => vec![vector],
        (None, Some(Many::ByType { float })) => float,
        (None, Some(Many::Plain(vectors))) => vectors,
        (None, Some(Many::Named(vectors))) => vectors.into_iter().map(|named| named.embedding).collect(),
        (None, None) => {
            return Err(match Fault::inside(body) {
                Some(fault) => Broken::Upstream(Box::new(fault)),
                None => Broken::Garbled("the upstream's answer holds no embeddings".to_owned()),
            });
        }
    };
    Ok((vectors, tokens))
}

#[derive(Deserialize)]
struct Wire {
    embedding: Option<Vec<f32>>,
    embeddings: Option<Many>,
    #[serde(rename = "inputTextTokenCount")]
    tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Many {
    ByType { float: Vec<Vec<f32>> },
    Plain(Vec<Vec<f32>>),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    embedding: Vec<f32>,
}
