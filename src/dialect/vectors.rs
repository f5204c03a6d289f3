//! The answer to a request for embeddings, for every provider whose answer must be translated.

use bytes::BytesMut;

use super::chunks;
use super::{Broken, Context, Decoder, End, Fed, Head, Outcome, Untranslatable, Whole};
use crate::openai::{Embeddings, EmbeddingsRequest, Envelope, Fault, Usage};

/// What a provider's answer holds: one vector for each text, in order, and the tokens of all texts.
pub(super) type Read = fn(Head<'_>, &[u8]) -> Result<(Vec<Vec<f32>>, u64), Broken>;

/// Reads the answer to one request.
#[derive(Debug)]
pub(super) struct Vectors {
    read: Read,
    model: String,
    texts: usize,
    base64: bool,
    usage: Option<Usage>,
    failed: Option<Outcome>,
}

impl Vectors {
    /// The reader of the answer to `request`.
    pub(super) fn new(request: &EmbeddingsRequest<'_>, context: &Context<'_>, read: Read) -> Self {
        let model = context.client_model.to_owned();
        Self { read, model, texts: request.input.len(), base64: request.base64, usage: None, failed: None }
    }
}

/// Refuses what no provider can answer.
pub(super) fn check(envelope: &Envelope, request: &EmbeddingsRequest<'_>) -> Result<(), Untranslatable> {
    if envelope.stream() {
        return Err(Untranslatable::malformed("stream", "embeddings come whole, never as a stream"));
    }
    if request.input.is_empty() {
        return Err(Untranslatable::malformed("input", "there must be at least one text"));
    }
    Ok(())
}

impl Decoder for Vectors {
    fn whole(&mut self, head: Head<'_>, body: &[u8]) -> Result<Whole, Broken> {
        let (vectors, tokens) = (self.read)(head, body)?;
        if vectors.len() != self.texts {
            let why = format!("the upstream gave {} vectors for {} texts", vectors.len(), self.texts);
            return Err(Broken::Garbled(why));
        }
        let embeddings = Embeddings::new(self.model.clone(), vectors, self.base64, tokens);
        self.usage = Some(embeddings.usage());
        Ok(Whole::Embeddings(embeddings))
    }

    fn feed(&mut self, _: &[u8], _: &mut BytesMut) -> Result<Fed, Broken> {
        Err(Broken::Garbled("embeddings came as a stream".to_owned()))
    }

    fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        match (&self.failed, end) {
            (Some(outcome), _) => outcome.clone(),
            (None, End::Clean) => {
                Outcome::Unfinished(Box::new(Fault::garbled("embeddings came as a stream")))
            }
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
        Fault::read(head.status, head.headers, body)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}
