//! Gemini's stream as OpenAI's chunks.
//!
//! Each event is an answer that holds what is new. Nothing marks the last one: a stream is complete when its body ends and
//! every candidate has said why it finished. What comes after that, such as the counts, still belongs to it.

use bytes::BytesMut;

use super::answer::{self, Candidate, Counts, Ids, Said};
use super::reply;
use crate::dialect::answer::{Answer, Reply, Teller, too_early};
use crate::dialect::chunks::{self, Chunks};
use crate::dialect::{Broken, Context};
use crate::framing::sse::{Event, Splitter};
use crate::openai::completion::{Delta, FinishReason, Logprobs};
use crate::openai::json::Text;
use crate::openai::{ChatRequest, Fault, Usage};

/// One answer that is being translated.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Chunks,
    legacy: bool,
    ids: Ids,
    choices: Vec<Progress>,
    counts: Option<Counts>,
}

/// How far one candidate has come.
#[derive(Debug)]
struct Progress {
    index: u32,
    calls: usize,
    reason: Option<FinishReason>,
}

/// More candidates than any model gives.
const MOST_CHOICES: usize = 128;

impl Stream {
    /// The answer to a request, of which nothing has come.
    pub(super) fn answer(chat: &ChatRequest<'_>, context: &Context<'_>) -> Answer<Self> {
        let teller = Self {
            chunks: Chunks::new(context, chat.include_usage),
            legacy: chat.legacy,
            ids: Ids::new(context),
            choices: Vec::new(),
            counts: None,
        };
        Answer::new(Splitter::new(context.max_event), teller)
    }
}

impl Teller for Stream {
    type Framing = Splitter;

    fn whole(&mut self, body: &[u8]) -> Result<Reply, Broken> {
        reply::read(body, self.legacy, &mut self.ids)
    }

    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) -> Result<(), Broken> {
        // Gateways that speak several formats may end every stream with OpenAI's last event, which says nothing here.
        if event.is_done() {
            return Ok(());
        }
        let mut answer = answer::Answer::read(&event.data)?;
        self.counts = answer.usage_metadata.or(self.counts);
        self.chunks.name(answer.response_id.as_deref().unwrap_or_default());
        let candidates = answer.candidates.take().unwrap_or_default();
        if candidates.is_empty()
            && self.choices.is_empty()
            && let Some(words) = answer.blocked()
        {
            self.choices.push(Progress { index: 0, calls: 0, reason: Some(FinishReason::ContentFilter) });
            self.refuse(0, &words, out);
        }
        for (place, candidate) in (0..).zip(candidates) {
            self.candidate(place, candidate, out)?;
        }
        Ok(())
    }

    fn end(&mut self, read: Result<(), Broken>, rest: &[u8], out: &mut BytesMut) -> Result<(), Box<Fault>> {
        // Where nothing marks the last event, an error behind it counts, whatever came before.
        let has_failed = read.is_err() || Fault::inside(rest.trim_ascii()).is_some();
        if has_failed || !self.is_finished() {
            return Err(too_early(read, rest, "no finishReason came"));
        }
        self.choices.sort_by_key(|choice| choice.index);
        for choice in &self.choices {
            self.chunks.reason(choice.index, choice.reason.unwrap_or(FinishReason::Stop), out);
        }
        self.chunks.end(self.usage(), out);
        Ok(())
    }

    fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    fn usage(&self) -> Option<Usage> {
        self.counts.and_then(|counts| counts.usage())
    }
}

impl Stream {
    /// Whether there is an answer and each has said why it finished.
    fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.reason.is_some())
    }

    fn candidate(
        &mut self,
        place: u32,
        mut candidate: Candidate<'_>,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        let index = candidate.index.unwrap_or(place);
        let at = self.progress(index)?;
        let mut logprobs = candidate.logprobs();
        for said in candidate.said(&mut self.ids)? {
            match said {
                Said::Text(text) => self.say(index, text, logprobs.take().as_ref(), out),
                Said::Thought(text) => {
                    let delta = Delta { reasoning_content: Some(text), ..Delta::default() };
                    self.chunks.choice(index, delta, None, out);
                }
                Said::Call { id, name, arguments } => self.call(at, (&id, name), &arguments, out),
            }
        }
        if logprobs.is_some() {
            self.say(index, Text::Plain(""), logprobs.as_ref(), out);
        }
        if let Some(reason) = candidate.reason(self.choices[at].calls > 0, self.legacy)? {
            self.choices[at].reason = Some(reason);
            if reason == FinishReason::ContentFilter
                && let Some(words) = candidate.finish_message
            {
                self.refuse(index, &words, out);
            }
        }
        Ok(())
    }

    /// Where the candidate `index` stands among those that have begun.
    fn progress(&mut self, index: u32) -> Result<usize, Broken> {
        if let Some(at) = self.choices.iter().position(|choice| choice.index == index) {
            return Ok(at);
        }
        if self.choices.len() == MOST_CHOICES {
            return Err(Broken::Garbled("the upstream sent more candidates than any model gives".to_owned()));
        }
        self.choices.push(Progress { index, calls: 0, reason: None });
        Ok(self.choices.len() - 1)
    }

    fn say(&mut self, index: u32, text: Text<'_>, logprobs: Option<&Logprobs>, out: &mut BytesMut) {
        self.chunks.choice(index, Delta { content: Some(text), ..Delta::default() }, logprobs, out);
    }

    fn refuse(&mut self, index: u32, words: &str, out: &mut BytesMut) {
        let delta = Delta { refusal: Some(Text::Plain(words)), ..Delta::default() };
        self.chunks.choice(index, delta, None, out);
    }

    /// Calls come whole. A client of the legacy `functions` can be told of the first one only.
    fn call(&mut self, at: usize, (id, name): (&str, Text<'_>), arguments: &str, out: &mut BytesMut) {
        let Progress { index, calls, .. } = self.choices[at];
        self.choices[at].calls += 1;
        let head = Some((Text::Plain(id), name));
        let delta = chunks::call(self.legacy, calls, head, Text::Plain(arguments));
        if !self.legacy || calls == 0 {
            self.chunks.choice(index, delta, None, out);
        }
    }
}
