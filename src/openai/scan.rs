//! The one scan of a request body. (Being replaced by the measured scan; same promises.)
use std::ops::Range;
/// One top-level member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key with its quotes.
    pub key: Range<u32>,
    /// The value, without surrounding white space.
    pub value: Range<u32>,
}
/// What stands as `model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// Nothing.
    Absent,
    /// A string.
    Text {
        /// Where, quotes included.
        span: Range<u32>,
        /// Decoded.
        text: String,
    },
    /// Something that is not a string, or does not decode.
    Other(Range<u32>),
}
/// What one scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Top-level members in order.
    pub members: Vec<Member>,
    /// `model`.
    pub model: Model,
    /// `stream`, if it is a boolean.
    pub stream: Option<bool>,
}
/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScanError(pub String);
/// Scans `body`.
pub fn scan(body: &[u8]) -> Result<Scan, ScanError> {
    use serde_json::value::RawValue;
    struct V<'a>(Vec<(&'a RawValue, &'a RawValue)>);
    impl<'de> serde::Deserialize<'de> for V<'de> {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            struct Vis;
            impl<'de> serde::de::Visitor<'de> for Vis {
                type Value = V<'de>;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut m: A) -> Result<V<'de>, A::Error> {
                    let mut v = vec![];
                    while let Some(e) = m.next_entry()? {
                        v.push(e);
                    }
                    Ok(V(v))
                }
            }
            d.deserialize_map(Vis)
        }
    }
    std::str::from_utf8(body).map_err(|e| ScanError(e.to_string()))?;
    let v: V<'_> = serde_json::from_slice(body).map_err(|e| ScanError(e.to_string()))?;
    let span = |r: &RawValue| {
        let s = (r.get().as_ptr() as usize - body.as_ptr() as usize) as u32;
        s..s + r.get().len() as u32
    };
    let (mut model, mut stream, mut members) = (Model::Absent, None, vec![]);
    for (k, val) in v.0 {
        let name: String = serde_json::from_str(k.get()).unwrap_or_default();
        if name == "model" {
            if model != Model::Absent {
                return Err(ScanError("duplicate `model`".into()));
            }
            model = match serde_json::from_str::<String>(val.get()) {
                Ok(text) => Model::Text { span: span(val), text },
                Err(_) => Model::Other(span(val)),
            };
        }
        if name == "stream" {
            stream = serde_json::from_str(val.get()).ok();
        }
        members.push(Member { key: span(k), value: span(val) });
    }
    Ok(Scan { members, model, stream })
}
