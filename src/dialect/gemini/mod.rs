//! Gemini, by Google's own API for developers and by Vertex AI: `generateContent` and `streamGenerateContent`.
//!
//! Reference: <https://ai.google.dev/api/generate-content> and
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>. Both take the same bodies, but for
//! embeddings; their paths differ. The right to enter is no business of this folder.

mod answer;
mod embed;
mod models;
mod part;
mod reply;
mod request;
mod schema;
mod signature;
mod stream;
mod thinking;
mod tools;
mod turns;

use std::borrow::Cow;

use http::Method;

use self::stream::Stream;
use super::loss::Losses;
use super::{Context, Dialect, Prepared, Untranslatable, openai};
use crate::openai::{ChatRequest, Envelope, Operation};
use crate::outbound::{Segments, Unsigned};

/// The translator.
#[derive(Clone, Copy, Debug)]
pub struct Gemini {
    flavour: Flavour,
}

/// Whose API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    /// Google's for developers (AI Studio).
    Studio,
    /// Vertex AI's.
    Vertex,
}

impl Gemini {
    /// For Google's API for developers.
    pub const STUDIO: Self = Self { flavour: Flavour::Studio };

    /// For Vertex AI.
    pub const VERTEX: Self = Self { flavour: Flavour::Vertex };

    fn chat(self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let chat = ChatRequest::of(request)?;
        let mut losses = Losses::of(request, context);
        let wire = request::write(&chat, context, self.flavour, &mut losses)?;
        let tails = self.flavour.tails();
        let tail = if chat.stream { tails.stream } else { tails.whole };
        let unsigned =
            Unsigned::new(Method::POST, tail, openai::headers(chat.stream), Segments::one(wire.freeze()));
        let decoder = Box::new(Stream::answer(&chat, context));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder })
    }

    fn embeddings(self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        let mut losses = Losses::of(request, context);
        let (method, wire, vectors) = embed::write(request, context, self.flavour, &mut losses)?;
        let tails = self.flavour.tails();
        let tail = match method {
            embed::Method::Batch => tails.embed_batch,
            embed::Method::One => tails.embed_one,
            embed::Method::Predict => tails.predict,
        };
        let unsigned =
            Unsigned::new(Method::POST, tail, openai::headers(false), Segments::one(wire.freeze()));
        Ok(Prepared { unsigned, report: losses.into_report(), decoder: Box::new(vectors) })
    }
}

impl Dialect for Gemini {
    fn prepare(&self, request: &Envelope, context: &Context<'_>) -> Result<Prepared, Untranslatable> {
        match context.operation {
            Operation::Chat => self.chat(request, context),
            Operation::Embeddings => self.embeddings(request, context),
            Operation::Relay => Err(Untranslatable::unsupported(
                "",
                "Gemini's format has chat completions and embeddings only",
            )),
        }
    }

    fn tails(&self) -> Vec<Cow<'static, str>> {
        let Tails { whole, stream, embed_batch, embed_one, predict } = self.flavour.tails();
        let all = [whole, stream, embed_batch, embed_one, predict];
        all.into_iter().filter(|tail| !tail.is_empty()).map(Cow::Borrowed).collect()
    }
}

/// What is appended to the endpoint, by what is asked; empty where it is never asked.
struct Tails {
    whole: &'static str,
    stream: &'static str,
    embed_batch: &'static str,
    embed_one: &'static str,
    predict: &'static str,
}

impl Flavour {
    fn tails(self) -> Tails {
        match self {
            Self::Studio => Tails {
                whole: "/v1beta/models/{model}:generateContent",
                stream: "/v1beta/models/{model}:streamGenerateContent?alt=sse",
                embed_batch: "/v1beta/models/{model}:batchEmbedContents",
                embed_one: "",
                predict: "",
            },
            Self::Vertex => Tails {
                whole: "/models/{model}:generateContent",
                stream: "/models/{model}:streamGenerateContent?alt=sse",
                embed_batch: "/models/{model}:batchEmbedContents",
                embed_one: "/models/{model}:embedContent",
                predict: "/models/{model}:predict",
            },
        }
    }
}

#[cfg(test)]
mod tests;
