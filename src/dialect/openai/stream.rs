//! The answer of an OpenAI-compatible upstream: its events go on untouched, but never half of one, and never as a
//! success when they end too early.

use std::fmt;
use std::sync::LazyLock;

use bytes::BytesMut;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::alike::Alike;
use crate::dialect::chunks;
use crate::dialect::{Broken, Decoder, End, Fed, Head, Outcome, Whole};
use crate::framing::Complete;
use crate::framing::sse::{self, Event, Events, Splitter};
use crate::openai::{Fault, Usage, excerpt, scan};

/// Passes an answer on and watches how it ends. What each event touches stands side by side, as in a `Relay`.
#[derive(Debug)]
#[repr(C)]
pub(in crate::dialect) struct Passing {
    splitter: Splitter,
    alike: Alike,
    end: Option<Outcome>,
    choices: Choices,
    usage: Option<Usage>,
    /// The client was given an event's id.
    has_id: bool,
}

impl Passing {
    /// For an answer whose events have at most `max_event` bytes.
    pub(in crate::dialect) fn new(max_event: usize) -> Self {
        let (splitter, alike, choices) = (Splitter::new(max_event), Alike::default(), Choices::default());
        Self { splitter, alike, choices, usage: None, end: None, has_id: false }
    }

    /// Looks at all events; the length of what may go on, which is less than all behind the last event.
    fn look(&mut self, events: &[u8]) -> Result<usize, (usize, Broken)> {
        let mut good = 0;
        let mut seen = Events::new(events);
        for event in seen.by_ref() {
            self.look_at(&event, &events[good..event.end]).map_err(|broken| (good, broken))?;
            good = event.end;
            if self.end.is_some() {
                return Ok(good);
            }
        }
        self.has_id |= seen.has_id();
        Ok(events.len())
    }

    /// Looks at one event, which came as `lines`.
    fn look_at(&mut self, event: &Event<'_>, lines: &[u8]) -> Result<(), Broken> {
        if self.alike.knows(lines) {
            return Ok(());
        }
        if event.is_done() {
            self.end = Some(Outcome::Complete);
            return Ok(());
        }
        let data = &*event.data;
        if event.is_bare {
            return Broken::bare(data);
        }
        if event.name == b"error" || ERROR.find(data).is_some() {
            Self::look_for_error(event)?;
        }
        let ends = says(data, &FINISH_REASON) || says(data, &USAGE);
        if ends || has_an_index_but_0(data) {
            // What is skipped would not be looked at, and OpenAI's own client dies of what is no UTF-8.
            let text = std::str::from_utf8(data).map_err(|e| garbled(e, data))?;
            let seen: Seen<'_> = serde_json::from_str(text).map_err(|e| garbled(e, data))?;
            seen.choices.iter().flatten().for_each(|choice| self.choices.note(choice));
            let usage = seen.usage.and_then(|raw| serde_json::from_str(raw.get()).ok());
            self.usage = usage.or(self.usage);
        } else {
            scan::check(data).map_err(|e| garbled(e, data))?;
            self.choices.begin(0);
        }
        // OpenAI's own client dies of it.
        if !data.trim_ascii_start().starts_with(b"{") {
            return Err(garbled("no object", data));
        }
        if !ends && event.name.is_empty() {
            self.alike.learn(lines);
        }
        Ok(())
    }

    /// An error is told anew, never passed on as it came: it may repeat what we sent, and clients overlook some forms.
    fn look_for_error(event: &Event<'_>) -> Result<(), Broken> {
        let data = &*event.data;
        let seen: Result<MaybeError<'_>, _> = serde_json::from_slice(data);
        let Ok(seen) = seen else {
            if event.name != b"error" {
                return Ok(());
            }
            return Err(Broken::said(data));
        };
        let told = seen.error.is_some_and(|raw| !matches!(raw.get(), "false" | "\"\"" | "{}"));
        let is_error =
            told || event.name == b"error" || seen.object.is_some_and(|raw| raw.get() == "\"error\"");
        match Fault::inside(data).filter(|_| is_error) {
            Some(fault) => Err(Broken::Upstream(Box::new(fault))),
            None if told => Err(Broken::Upstream(Box::new(Fault::garbled("an error without words")))),
            None => Ok(()),
        }
    }

    /// What came last without a blank line behind it, if it makes sense.
    fn take_rest(&mut self, out: &mut BytesMut) -> Result<(), Box<Fault>> {
        let rest = self.splitter.rest();
        if Events::new(&rest).next().is_none() {
            return Ok(());
        }
        match self.look(&rest) {
            Ok(good) => out.extend_from_slice(&rest[..good]),
            Err((_, Broken::Upstream(fault))) => return Err(fault),
            // Cut off in the middle: that the stream ended early says it all.
            Err((_, Broken::Garbled(_))) => {}
        }
        Ok(())
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) -> Outcome {
        chunks::fail(fault, out);
        let outcome = Outcome::Failed(fault.message.clone());
        self.end = Some(outcome.clone());
        outcome
    }
}

impl Decoder for Passing {
    fn whole(&mut self, _: Head<'_>, body: &[u8]) -> Result<Whole, Broken> {
        serde_json::from_slice(body).map(Whole::Completion).map_err(|e| garbled(e, body))
    }

    fn passes_whole(&self) -> bool {
        true
    }

    fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> Result<Fed, Broken> {
        if self.end.is_some() {
            return Ok(Fed::Rewritten);
        }
        // Nearly always one event comes at a time, and is like the one before: its lines need not be told apart.
        if self.splitter.would_take_whole(input.len()) && self.alike.knows(input) {
            return Ok(Fed::Through);
        }
        let complete = self.splitter.push(input)?;
        let good = self.look(&complete).map_err(|(good, broken)| {
            out.extend_from_slice(&complete[..good]);
            broken
        })?;
        if matches!(complete, Complete::Input(_)) && good == input.len() {
            return Ok(Fed::Through);
        }
        out.extend_from_slice(&complete[..good]);
        Ok(Fed::Rewritten)
    }

    fn finish(&mut self, end: End<'_>, out: &mut BytesMut) -> Outcome {
        if self.end.is_none()
            && matches!(end, End::Clean)
            && let Err(fault) = self.take_rest(out)
        {
            return Outcome::Unfinished(fault);
        }
        if let Some(outcome) = &self.end {
            return outcome.clone();
        }
        match end {
            End::Broken(fault) => self.fail(fault, out),
            End::Clean if self.choices.are_finished() => {
                sse::done(out);
                self.end = Some(Outcome::Complete);
                Outcome::Complete
            }
            End::Clean => Outcome::Unfinished(Box::new(Fault::garbled(TOO_EARLY))),
        }
    }

    fn is_done(&self) -> bool {
        self.end == Some(Outcome::Complete)
    }

    fn has_failed(&self) -> bool {
        matches!(self.end, Some(Outcome::Failed(_)))
    }

    fn ping(&self) -> &'static [u8] {
        if self.has_id { sse::PING_AFTER_ID } else { sse::PING }
    }

    fn is_stream_behind(&self, body: &[u8]) -> Option<bool> {
        sse::begins(body)
    }

    fn fault(&self, head: Head<'_>, body: &[u8]) -> Fault {
        Fault::read(head.status, head.headers, body)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

// Built once: building a finder costs more than looking through a chunk with it.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finish_reason\""));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"index\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));

const TOO_EARLY: &str = "the upstream's stream ended early: neither a finish_reason nor [DONE] came";

/// What matters in a chunk; everything else is only checked to be JSON.
#[derive(Deserialize)]
struct Seen<'a> {
    #[serde(borrow)]
    choices: Option<Vec<SeenChoice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SeenChoice<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MaybeError<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// The choices that have begun, by their index, and whether they are finished.
#[derive(Debug, Default)]
struct Choices(Vec<(u64, bool)>);

impl Choices {
    fn begin(&mut self, index: u64) -> &mut bool {
        let known = self.0.iter().position(|(known, _)| *known == index);
        let at = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push((index, false));
        }
        &mut self.0[at].1
    }

    fn note(&mut self, choice: &SeenChoice<'_>) {
        let index = choice.index.and_then(|raw| raw.get().parse().ok()).unwrap_or(0);
        // An empty one stands in every chunk of some servers.
        *self.begin(index) |= choice.finish_reason.is_some_and(|raw| raw.get() != "\"\"");
    }

    fn are_finished(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, finished)| *finished)
    }
}

/// Whether an index other than 0 stands somewhere: of a choice, or of a call of a tool.
fn has_an_index_but_0(data: &[u8]) -> bool {
    values(data, &INDEX).any(|value| matches!(value.first(), Some(b'1'..=b'9')))
}

/// Whether `key` stands somewhere with another value than `null`; cheap, and may say yes too often.
fn says(data: &[u8], key: &Finder<'_>) -> bool {
    values(data, key).any(|value| !value.starts_with(b"null"))
}

/// What stands behind each `key`.
fn values<'a>(data: &'a [u8], key: &Finder<'_>) -> impl Iterator<Item = &'a [u8]> {
    key.find_iter(data).filter_map(|at| {
        let value = data[at + key.needle().len()..].trim_ascii_start();
        value.strip_prefix(b":").map(<[u8]>::trim_ascii_start)
    })
}

fn garbled(error: impl fmt::Display, data: &[u8]) -> Broken {
    Broken::Garbled(format!("the upstream sent what is not a chunk ({error}): {}", excerpt(data)))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const CHUNK: &str = "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const FINISH: &str =
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const WITH_USAGE: &str = "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    /// What reaches the client when the stream comes in steps of `step` bytes, and how it ended.
    fn run(stream: &str, step: usize, fault: Option<&Fault>) -> (String, Outcome) {
        let mut passing = Passing::new(10_000);
        let mut out = BytesMut::new();
        let mut broken = None;
        for piece in stream.as_bytes().chunks(step) {
            match passing.feed(piece, &mut out) {
                Ok(Fed::Through) => out.extend_from_slice(piece),
                Ok(Fed::Rewritten) => {}
                Err(Broken::Upstream(fault)) => broken = Some(*fault),
                Err(Broken::Garbled(words)) => broken = Some(Fault::garbled(words)),
            }
            if broken.is_some() {
                break;
            }
        }
        let end = broken.as_ref().or(fault).map_or(End::Clean, End::Broken);
        let mut outcome = passing.finish(end, &mut out);
        if let Outcome::Unfinished(fault) = outcome {
            outcome = passing.finish(End::Broken(&fault), &mut out);
        }
        (String::from_utf8(out.to_vec()).unwrap(), outcome)
    }

    /// The same, for every cut.
    fn any_cut(stream: &str, fault: Option<&Fault>) -> (String, Outcome) {
        let whole = run(stream, stream.len().max(1), fault);
        for step in 1..stream.len() {
            assert_eq!(run(stream, step, fault), whole, "in steps of {step}");
        }
        whole
    }

    #[test]
    fn a_complete_stream_goes_on_untouched() {
        let stream = format!(": hi\n\n{CHUNK}{FINISH}{WITH_USAGE}{DONE}");
        assert_eq!(any_cut(&stream, None), (stream.clone(), Outcome::Complete));
        let crlf = stream.replace('\n', "\r\n");
        assert_eq!(any_cut(&crlf, None).0, crlf);
    }

    #[test]
    fn whole_events_are_not_copied_and_the_usage_is_seen() {
        let (mut passing, mut out) = (Passing::new(10_000), BytesMut::new());
        for event in [CHUNK, FINISH, WITH_USAGE, DONE] {
            assert_eq!(passing.feed(event.as_bytes(), &mut out), Ok(Fed::Through));
        }
        assert!(out.is_empty() && passing.is_done());
        assert_eq!(passing.usage().unwrap().total_tokens, 3);
    }

    #[test]
    fn behind_an_id_a_client_is_kept_patient_without_a_blank_line() {
        let ids = CHUNK.replace("data: ", "id: 1\ndata: ");
        let (mut passing, mut out) = (Passing::new(10_000), BytesMut::new());
        for (event, ping) in [(CHUNK, ": ping\n\n"), (&ids, ": ping\n"), (CHUNK, ": ping\n")] {
            assert_eq!(passing.feed(event.as_bytes(), &mut out), Ok(Fed::Through));
            assert_eq!(passing.ping(), ping.as_bytes(), "{event}");
        }
    }

    #[test]
    fn events_alike_go_on_untouched_however_they_come_and_never_longer_than_they_may() {
        let text = |text: &str| CHUNK.replace("Hel", text);
        let stream =
            [CHUNK, &text("lo"), ": hi\n\n", &text(" \\\"you\\\""), &text(""), FINISH, DONE].concat();
        for stream in [stream.replace("data: ", "id: 1\ndata: "), stream.replace('\n', "\r\n"), stream] {
            assert_eq!(any_cut(&stream, None), (stream.clone(), Outcome::Complete));
        }
        let mut passing = Passing::new(CHUNK.len());
        let mut out = BytesMut::new();
        for known in [CHUNK, &text("x"), &text("abc")] {
            assert_eq!(passing.feed(known.as_bytes(), &mut out), Ok(Fed::Through));
        }
        assert!(passing.feed(text("long").as_bytes(), &mut out).is_err());
    }

    #[test]
    fn an_event_that_hides_behind_a_known_one_is_seen() {
        for hidden in
            ["\\n\\ndata: {\"error\"", "\n\ndata: {\"error\":{\"message\":\"boom\"}}\n\ndata: {\"x\":\""]
        {
            let (text, outcome) = any_cut(&format!("{CHUNK}{}{DONE}", CHUNK.replace("Hel", hidden)), None);
            assert!(matches!(outcome, Outcome::Failed(_)), "{text}");
        }
    }

    #[test]
    fn half_an_event_is_held_back_for_good_when_the_stream_breaks() {
        let fault = Fault { status: 502, message: "cut".to_owned(), ..Fault::default() };
        let (text, outcome) = any_cut(&format!("{CHUNK}data: {{\"id\":\"1\",\"cho"), Some(&fault));
        let error = r#"data: {"error":{"message":"cut","type":"upstream_error","param":null,"code":null}}"#;
        assert_eq!(text, format!("{CHUNK}{error}\n\n"));
        assert_eq!(outcome, Outcome::Failed("cut".to_owned()));
    }

    #[test]
    fn a_stream_that_ends_too_early_is_an_error_and_not_a_success() {
        let (text, outcome) = any_cut(CHUNK, None);
        assert!(
            text.starts_with(CHUNK) && text.contains("ended early") && !text.contains("data: [DONE]"),
            "{text}"
        );
        assert_eq!(outcome, Outcome::Failed(TOO_EARLY.to_owned()));
        let (text, _) = any_cut(&format!("{CHUNK}data: {{\"id\":"), None);
        assert!(text.starts_with(CHUNK) && text.contains("ended early"), "{text}");
    }

    #[test]
    fn a_finished_stream_without_its_last_event_gets_it() {
        let stream = format!("{CHUNK}{FINISH}");
        assert_eq!(any_cut(&stream, None), (format!("{stream}{DONE}"), Outcome::Complete));
        assert_eq!(any_cut(&format!("{stream}data: [DONE]"), None).0, format!("{stream}{DONE}"));
    }

    #[test]
    fn behind_an_error_event_nothing_follows() {
        let error = r#"data: {"error":{"message":"boom","type":"server_error","param":null,"code":null}}"#;
        let error = format!("{error}\n\n");
        let (text, outcome) = any_cut(&format!("{CHUNK}{error}{DONE}"), None);
        assert_eq!((text, outcome), (format!("{CHUNK}{error}"), Outcome::Failed("boom".to_owned())));
    }

    #[test]
    fn an_error_that_clients_overlook_is_told_in_openai_words() {
        for event in
            ["data: {\"object\":\"error\",\"message\":\"boom\",\"code\":400}", "event: error\ndata: boom"]
        {
            let (text, _) = any_cut(&format!("{CHUNK}{event}\n\n{DONE}"), None);
            assert!(text.contains("\"error\":{\"message\":\"boom\"") && !text.contains("[DONE]"), "{text}");
        }
    }

    #[test]
    fn bare_json_of_an_error_is_told_and_never_passed_on() {
        let error = r#"{"error":{"message":"boom","type":"t","code":"c"}}"#;
        for (before, behind) in [("", ""), ("", "\n\n"), (CHUNK, "\n"), (CHUNK, "\n\n")] {
            let (text, outcome) = any_cut(&format!("{before}{error}{behind}"), None);
            let told = r#"data: {"error":{"message":"boom","type":"t","param":null,"code":"c"}}"#;
            assert_eq!((text, outcome), (format!("{before}{told}\n\n"), Outcome::Failed("boom".to_owned())));
        }
        let stream = format!("{CHUNK}{{\"id\":1}}\n\n{FINISH}{DONE}");
        assert_eq!(any_cut(&stream, None), (stream.clone(), Outcome::Complete), "it is for nobody");
    }

    #[test]
    fn an_empty_reason_is_none_and_all_choices_must_have_one() {
        let of = |event: &str, index: u8| event.replace("\"index\":0", &format!("\"index\": {index}"));
        let empty = CHUNK.replace("\"finish_reason\":null", "\"finish_reason\":\"\"");
        let (first, second) = (of(FINISH, 0), of(FINISH, 1));
        for (stream, is_whole) in [
            (format!("{empty}{empty}"), false),
            (format!("{empty}{FINISH}"), true),
            (format!("{CHUNK}{}{first}", of(CHUNK, 1)), false),
            (format!("{CHUNK}{}{second}", of(CHUNK, 1)), false),
            (format!("{CHUNK}{}{first}{}{second}{WITH_USAGE}", of(CHUNK, 1), of(CHUNK, 1)), true),
        ] {
            let (text, outcome) = any_cut(&stream, None);
            assert_eq!(outcome == Outcome::Complete, is_whole, "{text}");
            assert_eq!(text.ends_with(DONE), is_whole, "{text}");
        }
    }

    #[test]
    fn a_null_error_or_the_word_in_a_text_is_no_error() {
        let chunk = CHUNK.replace("\"usage\":null", "\"error\":null").replace("Hel", "say \\\"error\\\"");
        let stream = format!("{chunk}{FINISH}{DONE}");
        assert_eq!(any_cut(&stream, None), (stream.clone(), Outcome::Complete));
    }

    #[test]
    fn malformed_data_is_garbled_and_the_good_part_stays() {
        let (text, outcome) = any_cut(&format!("{CHUNK}data: {{\"choices\":[\n\n{DONE}"), None);
        assert!(
            text.starts_with(CHUNK) && text.contains("upstream_garbled") && !text.contains("[DONE]"),
            "{text}"
        );
        assert!(matches!(outcome, Outcome::Failed(_)));
    }

    #[test]
    fn a_chunk_that_is_no_utf_8_is_garbled_whatever_it_says() {
        for event in [CHUNK, FINISH, WITH_USAGE, &CHUNK.replace("\"index\":0", "\"index\":1")] {
            let (before, behind) = event.split_once("\"id\":\"1").unwrap();
            let bad = [before.as_bytes(), b"\"id\":\"\xff", behind.as_bytes()].concat();
            let (mut passing, mut out) = (Passing::new(10_000), BytesMut::new());
            let told = passing.feed(&bad, &mut out);
            assert!(matches!(told, Err(Broken::Garbled(_))) && out.is_empty(), "{event}: {told:?}");
        }
    }

    #[test]
    fn json_that_is_no_object_is_no_chunk() {
        for data in ["null", "5", "[1]", " \"x\"", "[{\"usage\":{}}]"] {
            let (text, outcome) = any_cut(&format!("{CHUNK}data: {data}\n\n{DONE}"), None);
            assert!(text.starts_with(CHUNK) && text.contains("not a chunk"), "{text}");
            assert!(matches!(outcome, Outcome::Failed(_)), "{data}");
        }
        let spaced = format!("{CHUNK}{}{DONE}", FINISH.replace("data: ", "data:  \t"));
        assert_eq!(any_cut(&spaced, None), (spaced.clone(), Outcome::Complete));
    }

    #[test]
    fn data_behind_the_end_is_swallowed() {
        let stream = format!("{CHUNK}{FINISH}{DONE}");
        assert_eq!(any_cut(&format!("{stream}{CHUNK}"), None).0, stream);
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let head = Head { status: 401, headers: &HeaderMap::new() };
        let fault =
            Passing::new(1).fault(head, br#"{"error":{"message":"bad key","code":"invalid_api_key"}}"#);
        assert_eq!((fault.status, fault.message.as_str()), (401, "bad key"));
    }
}
