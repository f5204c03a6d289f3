//! Embeddings: the texts under Mistral's names, the vectors always asked for as numbers and written as the client wants.

use bytes::BytesMut;
use serde::Deserialize;

use super::reply;
use crate::dialect::chunks;
use crate::dialect::loss::Losses;
use crate::dialect::{Broken, Context, Decoder, End, Fed, Head, Outcome, Untranslatable, Whole};
use crate::openai::json::Writer;
use crate::openai::{Embeddings, EmbeddingsRequest, Fault, Usage};

/// Writes the body of a request.
pub(super) fn write(
    wanted: &EmbeddingsRequest<'_>,
    stream: bool,
    context: &Context<'_>,
    losses: &mut Losses,
) -> Result<BytesMut, Untranslatable> {
    if stream {
        return Err(Untranslatable::malformed("stream", "embeddings come whole, never as a stream"));
    }
    if wanted.input.is_empty() {
        return Err(Untranslatable::malformed("input", "there must be at least one text"));
    }
    let mut out = BytesMut::with_capacity(1024);
    let mut json = Writer::new(&mut out);
    json.object();
    json.member("model", context.provider_model);
    json.key("input");
    json.list();
    for (index, text) in wanted.input.iter().enumerate() {
        if text.is_torn() {
            let why = "an escape in this text spells half a character";
            return Err(Untranslatable::malformed(format!("input[{index}]"), why));
        }
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

/// Reads the answer to one request.
#[derive(Debug)]
pub(super) struct Vectors {
    model: String,
    texts: usize,
    base64: bool,
    usage: Option<Usage>,
    failed: Option<Outcome>,
}

impl Vectors {
    pub(super) fn new(wanted: &EmbeddingsRequest<'_>, context: &Context<'_>) -> Self {
        let model = context.client_model.to_owned();
        Self { model, texts: wanted.input.len(), base64: wanted.base64, usage: None, failed: None }
    }
}

impl Decoder for Vectors {
    fn whole(&mut self, _: Head<'_>, body: &[u8]) -> Result<Whole, Broken> {
        let (vectors, tokens) = read(body)?;
        if vectors.len() != self.texts {
            let why = format!("the upstream gave {} vectors for {} texts", vectors.len(), self.texts);
            return Err(Broken::Garbled(why));
        }
        let embeddings = Embeddings::new(self.model.clone(), vectors, self.base64, tokens);
        self.usage = Some(embeddings.usage());
        Ok(Whole::Embeddings(embeddings))
    }

    fn feed(&mut self, _: &[u8], _: &mut BytesMut) -> Result<Fed, Broken> {
        Err(Broken::Garbled(STREAMED.to_owned()))
    }

    fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        match (&self.failed, end) {
            (Some(outcome), _) => outcome.clone(),
            (None, End::Clean) => Outcome::Unfinished(Box::new(Fault::garbled(STREAMED))),
            (None, End::Broken(fault)) => {
                chunks::fail(fault, out);
                self.failed.insert(Outcome::Failed(fault.message.clone())).clone()
            }
        }
    }

    fn is_done(&self) -> bool {
        false
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        reply::fault(head, body)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

const STREAMED: &str = "embeddings came as a stream";

/// The vectors in the order of the texts, and the tokens of all texts.
fn read(body: &[u8]) -> Result<(Vec<Vec<f32>>, u64), Broken> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|e| reply::garbled(&e, body))?;
    let Some(mut data) = wire.data else {
        return Err(match Fault::inside(body) {
            Some(_) => reply::upstream(body),
            None => Broken::Garbled("the upstream's answer has no embeddings".to_owned()),
        });
    };
    data.sort_by_key(|one| one.index);
    let vectors = data.into_iter().map(|one| one.embedding).collect();
    Ok((vectors, wire.usage.map_or(0, |usage| usage.usage().prompt_tokens)))
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
