//! Where the events of a declared stream end: as the tables say, or nowhere, since the answer comes whole.

use bytes::BytesMut;

use super::tables;
use crate::dialect::Broken;
use crate::dialect::events::Framing;
use crate::framing::{TooLong, json_array, ndjson, sse};
use crate::openai::excerpt;

/// What finds them.
#[derive(Debug)]
pub(super) enum Source {
    Sse(sse::Splitter),
    Lines(ndjson::Splitter),
    Array(json_array::Splitter),
    /// The provider answers whole: nothing is told before all of it is there.
    Whole {
        body: BytesMut,
        most: usize,
    },
}

/// What they are.
pub(super) enum Event<'a> {
    /// News, under the name that only server-sent events have.
    Json { json: &'a [u8], name: &'a [u8] },
    /// OpenAI's last event.
    Done,
    /// The array has ended, and with it the stream.
    Closed,
    /// A whole answer.
    Whole(&'a [u8]),
}

impl Source {
    /// The framing that the tables name, if any, whose events have at most `most` bytes.
    pub(super) fn new(framing: Option<tables::Framing>, most: usize) -> Self {
        match framing {
            Some(tables::Framing::Sse) => Self::Sse(sse::Splitter::new(most)),
            Some(tables::Framing::Lines) => Self::Lines(ndjson::Splitter::new(most)),
            Some(tables::Framing::Array) => Self::Array(json_array::Splitter::new(most)),
            None => Self::Whole { body: BytesMut::new(), most },
        }
    }
}

impl Framing for Source {
    type Event<'a> = Event<'a>;

    fn feed(
        &mut self,
        input: &[u8],
        mut each: impl FnMut(Event<'_>) -> Result<bool, Broken>,
    ) -> Result<(), Broken> {
        match self {
            Self::Sse(splitter) => splitter.feed(input, |event| sent(&event, &mut each)),
            Self::Lines(splitter) => splitter.feed(input, |json| each(Event::Json { json, name: b"" })),
            Self::Array(splitter) => {
                splitter.push(input);
                elements(splitter, each)
            }
            Self::Whole { body, most } if body.len() + input.len() > *most => Err(TooLong(*most).into()),
            Self::Whole { body, .. } => {
                body.extend_from_slice(input);
                Ok(())
            }
        }
    }

    fn end(
        &mut self,
        mut each: impl FnMut(Event<'_>) -> Result<bool, Broken>,
    ) -> (Result<(), Broken>, BytesMut) {
        let last = match self {
            Self::Sse(splitter) => return splitter.end(|event| sent(&event, &mut each)),
            Self::Lines(splitter) => return splitter.end(|json| each(Event::Json { json, name: b"" })),
            Self::Array(splitter) if splitter.is_closed() && !splitter.is_bare() => each(Event::Closed),
            Self::Array(_) => Ok(false),
            Self::Whole { body, .. } => each(Event::Whole(&std::mem::take(body))),
        };
        (last.map(|_| ()), BytesMut::new())
    }
}

fn sent(
    event: &sse::Event<'_>,
    each: &mut impl FnMut(Event<'_>) -> Result<bool, Broken>,
) -> Result<bool, Broken> {
    match &*event.data {
        _ if event.is_done() => each(Event::Done),
        blank if blank.trim_ascii().is_empty() => Ok(false),
        json => each(Event::Json { json, name: event.name }),
    }
}

fn elements(
    splitter: &mut json_array::Splitter,
    mut each: impl FnMut(Event<'_>) -> Result<bool, Broken>,
) -> Result<(), Broken> {
    while let Some(element) = splitter.pop().map_err(|error| Broken::Garbled(error.to_string()))? {
        if each(Event::Json { json: &element, name: b"" })? {
            break;
        }
        if splitter.is_bare() {
            let shown = excerpt(&element);
            return Err(Broken::Garbled(format!(
                "the upstream sent an object where an array was due: {shown}"
            )));
        }
    }
    Ok(())
}
