//! Embeddings: what a client asks for and what it reads, for the dialects that must translate both.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/embeddings/create>. OpenAI's own SDK for Python asks for
//! `base64` unless told otherwise: little-endian `f32`, one after the other.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::chat::{ShapeError, field, items, nameless, object, plain, required, text_of};
use super::json::{Object, Raw, Text};
use super::{Envelope, Usage};

/// A request for embeddings.
#[derive(Debug)]
pub struct EmbeddingsRequest<'a> {
    /// The texts, at least one unless the client sent an empty list. Token numbers are not among what can be
    /// translated.
    pub input: Vec<Text<'a>>,
    /// `dimensions`.
    pub dimensions: Option<u64>,
    /// Whether vectors are wanted as base64.
    pub base64: bool,
    /// `user`.
    pub user: Option<Text<'a>>,
    /// Fields beyond OpenAI's own, as they came.
    pub others: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> EmbeddingsRequest<'a> {
    /// Reads `body`, one JSON object in UTF-8.
    ///
    /// # Errors
    /// [`ShapeError`] with the path of the first field that has not the shape that OpenAI documents, or that holds
    /// token numbers.
    pub fn read(body: &'a [u8]) -> Result<Self, ShapeError> {
        let text = std::str::from_utf8(body).map_err(|e| ShapeError::new(e.to_string()))?;
        Self::read_fields(object(text)?)
    }

    /// Reads the body that `envelope` has become by its edits, without putting it together.
    ///
    /// # Errors
    /// As [`EmbeddingsRequest::read`].
    pub fn of(envelope: &'a Envelope) -> Result<Self, ShapeError> {
        Self::read_fields(envelope.fields().ok_or_else(nameless)?)
    }

    fn read_fields(mut fields: Object<'a>) -> Result<Self, ShapeError> {
        fields.take("model");
        let format = field(&mut fields, "encoding_format", text_of)?;
        let base64 = match format.as_ref().and_then(|text| text.decode()).as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(ShapeError::new("expected float or base64").at("encoding_format")),
        };
        Ok(Self {
            input: required(&mut fields, "input", read_input)?,
            dimensions: plain(&mut fields, "dimensions", "an integer, not below 0")?,
            base64,
            user: field(&mut fields, "user", text_of)?,
            others: fields.into_rest().collect(),
        })
    }
}

fn read_input(raw: Raw<'_>) -> Result<Vec<Text<'_>>, ShapeError> {
    if !raw.get().starts_with('[') {
        return text_of(raw).map(|text| vec![text]);
    }
    items(raw, |item| match item.get().as_bytes().first() {
        Some(b'0'..=b'9' | b'[') => {
            Err(ShapeError::unsupported("token numbers mean nothing to this provider: send texts"))
        }
        _ => text_of(item),
    })
}

/// The answer to a request for embeddings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embeddings {
    object: &'static str,
    /// One for each text, in the order of the texts.
    pub data: Vec<Embedding>,
    /// The model as the client called it.
    pub model: String,
    /// What it cost.
    pub usage: EmbeddingsUsage,
}

impl Embeddings {
    /// The answer of `vectors`, one for each text in order.
    pub fn new(model: impl Into<String>, vectors: Vec<Vec<f32>>, base64: bool, prompt_tokens: u64) -> Self {
        let embedding = |(index, vector)| Embedding {
            object: "embedding",
            index,
            embedding: if base64 { Vector::Base64(vector) } else { Vector::Floats(vector) },
        };
        Self {
            object: "list",
            data: vectors.into_iter().enumerate().map(embedding).collect(),
            model: model.into(),
            usage: EmbeddingsUsage { prompt_tokens, total_tokens: prompt_tokens },
        }
    }

    /// The same count as a chat's, for log and metrics.
    pub fn usage(&self) -> Usage {
        let EmbeddingsUsage { prompt_tokens, total_tokens } = self.usage;
        Usage { prompt_tokens, total_tokens, ..Usage::default() }
    }
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    object: &'static str,
    /// Which text it is of, from 0.
    pub index: usize,
    /// Its numbers.
    pub embedding: Vector,
}

/// A vector in the form that the client asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// As a list of numbers.
    Floats(Vec<f32>),
    /// As base64 of little-endian `f32`.
    Base64(Vec<f32>),
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Floats(numbers) => numbers.serialize(serializer),
            Self::Base64(numbers) => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                serializer.serialize_str(&STANDARD.encode(bytes))
            }
        }
    }
}

/// The count of tokens; embeddings have no completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EmbeddingsUsage {
    /// All that was read.
    pub prompt_tokens: u64,
    /// The same.
    pub total_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (String, bool) {
        let error = EmbeddingsRequest::read(body.as_bytes()).unwrap_err();
        (error.path, error.unsupported)
    }

    #[test]
    fn one_text_or_several_are_read() {
        let one = EmbeddingsRequest::read(br#"{"model":"m","input":"a","dimensions":2,"x":1}"#).unwrap();
        assert!(one.input.len() == 1 && one.input[0].is("a") && !one.base64);
        assert_eq!((one.dimensions, &*one.others[0].0), (Some(2), "x"));
        let two = EmbeddingsRequest::read(br#"{"input":["a","b"],"encoding_format":"base64"}"#).unwrap();
        assert!(two.input.len() == 2 && two.base64);
    }

    #[test]
    fn a_wrong_shape_is_named_and_token_numbers_are_what_cannot_be_translated() {
        assert_eq!(refused(r#"{"model":"m"}"#), ("input".into(), false));
        assert_eq!(refused(r#"{"input":[1,2]}"#), ("input[0]".into(), true));
        assert_eq!(refused(r#"{"input":["a",[1]]}"#), ("input[1]".into(), true));
        assert_eq!(refused(r#"{"input":{}}"#), ("input".into(), false));
        assert_eq!(refused(r#"{"input":"a","encoding_format":"int8"}"#), ("encoding_format".into(), false));
    }

    #[test]
    fn vectors_are_written_in_the_form_that_was_asked_for() {
        let json =
            |base64| serde_json::to_value(Embeddings::new("m", vec![vec![1.0, -0.5]], base64, 3)).unwrap();
        assert_eq!(json(false)["data"][0]["embedding"], serde_json::json!([1.0, -0.5]));
        assert_eq!(json(true)["data"][0]["embedding"], "AACAPwAAAL8=");
        assert_eq!(json(true)["usage"], serde_json::json!({ "prompt_tokens": 3, "total_tokens": 3 }));
        assert_eq!(json(true)["object"], "list");
    }
}
