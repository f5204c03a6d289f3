//! The answer to one chat request, for every provider whose events must be translated: whole, or event by event.
//!
//! A dialect gives a [`Teller`], who knows what one event says and what must have come before the stream may end. All
//! else is here: the order in which a stream ends, well or in an error, and that it ends only once.

use std::fmt;

use bytes::BytesMut;

use super::chunks::{self, Chunks};
use super::events::Framing;
use super::{Broken, Decoder, End, Fed, Head, Outcome, Whole};
use crate::openai::completion::Choice;
use crate::openai::{Fault, Usage};

/// Tells a client of OpenAI what the answers of one format say.
pub(super) trait Teller: fmt::Debug + Send + Sized {
    /// Where the events of its streams end.
    type Framing: Framing;

    /// Reads the body of a 200 that is no stream.
    fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken>;

    /// Tells what one event says. Behind the event that ends the chunks none follows.
    fn event(&mut self, event: Event<'_, Self>, out: &mut BytesMut) -> Result<(), Broken>;

    /// The upstream closed, and no event has ended the chunks. `read` says how the reading of the last event went,
    /// `rest` is what stood behind the last whole one. Ends the chunks where nothing but their end is missing.
    ///
    /// # Errors
    /// What the client is to be told: mostly [`too_early`].
    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], out: &mut BytesMut) -> Result<(), Box<Fault>>;

    /// What all is written with.
    fn chunks(&self) -> &Chunks;

    /// The usage that a stream has told so far.
    fn usage(&self) -> Option<Usage>;

    /// As [`Decoder::fault`].
    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        Fault::read(head.status, head.headers, body)
    }

    /// As [`Decoder::may_stream_as`].
    fn may_stream_as(&self, _kind: &str) -> bool {
        false
    }
}

/// What a whole answer says.
#[derive(Debug)]
pub(super) struct Reply {
    /// The provider's own id, if it gives one.
    pub(super) id: Option<String>,
    /// The answers, in order.
    pub(super) choices: Vec<Choice>,
    /// What they cost, if it says.
    pub(super) usage: Option<Usage>,
}

impl Reply {
    /// An answer of one choice.
    pub(super) fn one(id: Option<String>, choice: Choice, usage: Option<Usage>) -> Self {
        Self { id, choices: vec![choice], usage }
    }
}

/// Why the stream of an upstream that closed too early has failed: the error that it told last, else that it `lacks`
/// its end. Some gateways answer a request for a stream with an error's bare JSON, which is `rest`; half an event, that
/// makes no sense, says no more than that the stream ended.
pub(super) fn too_early(read: Result<(), Broken>, rest: &[u8], lacks: &str) -> Box<Fault> {
    match read {
        Err(Broken::Upstream(fault)) => fault,
        Ok(()) | Err(Broken::Garbled(_)) => Box::new(
            Fault::inside(rest.trim_ascii())
                .unwrap_or_else(|| Fault::garbled(format!("the upstream's stream ended early: {lacks}"))),
        ),
    }
}

/// Reads the answer to one request.
#[derive(Debug)]
pub(super) struct Answer<T: Teller> {
    framing: T::Framing,
    teller: T,
    /// What a whole answer cost.
    usage: Option<Usage>,
    /// The words of the error that ended the stream.
    failed: Option<String>,
}

impl<T: Teller> Answer<T> {
    /// An answer of which nothing has come.
    pub(super) fn new(framing: T::Framing, teller: T) -> Self {
        Self { framing, teller, usage: None, failed: None }
    }

    /// The upstream closed: complete if its last event lacked only its end, or if the teller has heard enough.
    fn end(&mut self, out: &mut BytesMut) -> Result<(), Box<Fault>> {
        let Self { framing, teller, .. } = self;
        let (read, rest) = framing.end(|event| tell(teller, event, out));
        if teller.chunks().are_done() { Ok(()) } else { teller.end(read, &rest, out) }
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) -> Outcome {
        chunks::fail(fault, out);
        Outcome::Failed(self.failed.insert(fault.message.clone()).clone())
    }
}

impl<T: Teller> Decoder for Answer<T> {
    fn whole(&mut self, _: Head<'_>, body: &[u8]) -> Result<Whole, Broken> {
        if body.trim_ascii().is_empty() {
            return Err(Broken::Garbled("its body is empty".to_owned()));
        }
        let Reply { id, mut choices, usage } = self.teller.whole(body)?;
        choices.iter_mut().for_each(|choice| choice.message.settle());
        self.usage = usage;
        Ok(Whole::Completion(self.teller.chunks().completion(id, choices, usage)))
    }

    fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> Result<Fed, Broken> {
        let Self { framing, teller, failed, .. } = self;
        if failed.is_none() && !teller.chunks().are_done() {
            framing.feed(input, |event| tell(teller, event, out))?;
        }
        Ok(Fed::Rewritten)
    }

    fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        if self.is_done() {
            return Outcome::Complete;
        }
        if let Some(words) = &self.failed {
            return Outcome::Failed(words.clone());
        }
        match end {
            End::Broken(fault) => self.fail(fault, out),
            End::Clean => match self.end(out) {
                Ok(()) => Outcome::Complete,
                Err(fault) => Outcome::Unfinished(fault),
            },
        }
    }

    fn is_done(&self) -> bool {
        self.teller.chunks().are_done()
    }

    fn may_stream_as(&self, kind: &str) -> bool {
        self.teller.may_stream_as(kind)
    }

    fn is_stream_behind(&self, body: &[u8]) -> Option<bool> {
        T::Framing::begins(body)
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        self.teller.fault(head, body)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage.or_else(|| self.teller.usage())
    }
}

/// One event as the framing of `T` hands it out.
pub(super) type Event<'a, T> = <<T as Teller>::Framing as Framing>::Event<'a>;

/// Lets `teller` tell of one event; whether that was the last.
fn tell<T: Teller>(teller: &mut T, event: Event<'_, T>, out: &mut BytesMut) -> Result<bool, Broken> {
    teller.event(event, out)?;
    Ok(teller.chunks().are_done())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::dialect::Context;
    use crate::framing::sse;
    use crate::openai::Operation;
    use crate::openai::completion::{Delta, FinishReason, Message};
    use crate::openai::json::Text;

    /// Of a format whose events are plain words.
    #[derive(Debug)]
    struct Parrot {
        chunks: Chunks,
        heard: bool,
    }

    impl Teller for Parrot {
        type Framing = sse::Splitter;

        fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken> {
            let id = std::str::from_utf8(body).map_err(|e| Broken::Garbled(e.to_string()))?;
            let choice = Choice {
                index: 0,
                message: Message::default(),
                finish_reason: FinishReason::Stop,
                logprobs: None,
            };
            Ok(Reply::one(Some(id.trim_matches('-').to_owned()), choice, self.usage()))
        }

        fn event(&mut self, event: sse::Event<'_>, out: &mut BytesMut) -> Result<(), Broken> {
            match &*event.data {
                b"bye" => self.chunks.finish(FinishReason::Stop, self.usage(), out),
                b"ouch" => return Err(Broken::told(br#"{"error":"it hurts"}"#)),
                data => {
                    let words =
                        std::str::from_utf8(data).map_err(|_| Broken::Garbled("no words".to_owned()))?;
                    self.chunks.delta(Delta { content: Some(Text::Plain(words)), ..Delta::default() }, out);
                    self.heard = true;
                }
            }
            Ok(())
        }

        fn end(&mut self, read: Result<(), Broken>, rest: &[u8], _: &mut BytesMut) -> Result<(), Box<Fault>> {
            Err(too_early(read, rest, "nobody said bye"))
        }

        fn chunks(&self) -> &Chunks {
            &self.chunks
        }

        fn usage(&self) -> Option<Usage> {
            self.heard.then(Usage::default)
        }
    }

    fn parrot() -> Answer<Parrot> {
        let context = Context {
            operation: Operation::Chat,
            provider_model: "real",
            client_model: "alias",
            id: "chatcmpl-1",
            created: 1,
            strict: false,
            max_event: 100,
        };
        let teller = Parrot { chunks: Chunks::new(&context, false), heard: false };
        Answer::new(sse::Splitter::new(context.max_event), teller)
    }

    fn cut() -> Fault {
        Fault::garbled("cut")
    }

    #[test]
    fn what_comes_behind_the_last_event_is_for_nobody() {
        let (mut answer, mut out) = (parrot(), BytesMut::new());
        assert_eq!(answer.feed(b"data: hi\n\ndata: bye\n\ndata: ouch\n\n", &mut out), Ok(Fed::Rewritten));
        assert!(answer.is_done() && out.ends_with(b"[DONE]\n\n"));
        let told = out.clone();
        assert_eq!(answer.feed(b"data: ouch\n\n", &mut out), Ok(Fed::Rewritten));
        assert_eq!(answer.finish(End::Broken(&cut()), &mut out), Outcome::Complete);
        assert_eq!(answer.finish(End::Clean, &mut out), Outcome::Complete);
        assert_eq!(out, told);
    }

    #[test]
    fn a_stream_that_lacks_only_the_end_of_its_last_event_is_complete() {
        let (mut answer, mut out) = (parrot(), BytesMut::new());
        assert_eq!(answer.feed(b"data: hi\n\ndata: bye", &mut out), Ok(Fed::Rewritten));
        assert!(!answer.is_done());
        assert_eq!(answer.finish(End::Clean, &mut out), Outcome::Complete);
        assert!(answer.is_done() && out.ends_with(b"[DONE]\n\n"));
    }

    #[test]
    fn an_early_end_is_left_to_the_caller_and_a_stream_fails_only_once() {
        let (mut answer, mut out) = (parrot(), BytesMut::new());
        assert_eq!(answer.feed(b"data: hi\n\n", &mut out), Ok(Fed::Rewritten));
        let told = out.clone();
        assert!(matches!(answer.finish(End::Clean, &mut out), Outcome::Unfinished(_)));
        assert_eq!(out, told);
        let failed = Outcome::Failed("cut".to_owned());
        assert_eq!(answer.finish(End::Broken(&cut()), &mut out), failed);
        let told = out.clone();
        assert!(told.ends_with(b"\"code\":\"upstream_garbled\"}}\n\n"));
        assert_eq!(answer.feed(b"data: bye\n\n", &mut out), Ok(Fed::Rewritten));
        for end in [End::Clean, End::Broken(&Fault::garbled("again"))] {
            assert_eq!(answer.finish(end, &mut out), failed);
        }
        assert!(out == told && !answer.is_done());
    }

    #[test]
    fn an_early_end_is_told_in_the_last_words_of_the_upstream_if_there_are_any() {
        let lacks = "the upstream's stream ended early: nobody said bye";
        for (rest, words) in [
            ("", lacks),
            ("data: hi", lacks),
            ("data: ouch", "it hurts"),
            ("{\"error\":{\"message\":\"bare\"}}\n", "bare"),
            ("{\"a\":1}\n\n{\"error\":{\"mess", lacks),
            ("{\"error\":{\"mess", lacks),
        ] {
            let (mut answer, mut out) = (parrot(), BytesMut::new());
            assert_eq!(answer.feed(rest.as_bytes(), &mut out), Ok(Fed::Rewritten));
            let Outcome::Unfinished(fault) = answer.finish(End::Clean, &mut out) else { panic!("{rest}") };
            assert_eq!(fault.message, words, "{rest}");
        }
        let (mut answer, mut out) = (parrot(), BytesMut::new());
        let bare = b"data: hi\n\n{\"error\":{\"message\":\"bare\"}}\n\n";
        assert_eq!(answer.feed(bare, &mut out), Err(Broken::told(br#"{"error":{"message":"bare"}}"#)));
        let garbled = too_early(Err(Broken::Garbled("half".to_owned())), b"", "nobody said bye");
        assert_eq!((garbled.status, &*garbled.message), (502, lacks));
    }

    #[test]
    fn a_whole_answer_has_the_id_of_the_provider_or_ours_and_tells_its_cost() {
        for (own, wanted) in [("own-1", "own-1"), ("-", "chatcmpl-1")] {
            let mut answer = parrot();
            answer.teller.heard = true;
            let head = Head { status: 200, headers: &HeaderMap::new() };
            let Ok(Whole::Completion(completion)) = answer.whole(head, own.as_bytes()) else {
                panic!("{own}")
            };
            assert_eq!((&*completion.id, &*completion.model, completion.created), (wanted, "alias", 1));
            answer.teller.heard = false;
            assert_eq!(answer.usage(), Some(Usage::default()));
        }
    }

    #[test]
    fn an_answer_without_a_body_is_told_as_that() {
        for body in ["", " \r\n"] {
            let told = parrot().whole(Head { status: 200, headers: &HeaderMap::new() }, body.as_bytes());
            assert!(matches!(told, Err(Broken::Garbled(words)) if words == "its body is empty"), "{body:?}");
        }
    }
}
