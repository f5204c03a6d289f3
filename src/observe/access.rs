//! The access line: what one request did, in names, numbers and our own codes; never a prompt, never a secret.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clock::Stamper;
use super::log::Sink;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered in full.
    Complete,
    /// The client left before the end.
    Cancelled,
    /// Answered with an error, or a stream that ended in one.
    Failed,
}

impl Ending {
    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// The facts of one request.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    /// `x-request-id`.
    pub request_id: &'a str,
    /// The path that was called, without its query.
    pub path: &'a str,
    /// The integration that answered, once known.
    pub integration: Option<&'a str>,
    /// The model as the client wrote it.
    pub model: Option<&'a str>,
    /// The status that the client was sent; 499 where it left before one.
    pub status: u16,
    /// Our code, where the request failed.
    pub code: Option<&'a str>,
    /// The cause in words for the log alone.
    pub cause: Option<&'a str>,
    /// The upstream's own id of a request that failed.
    pub upstream_id: Option<&'a str>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// From the head being read to the end.
    pub total: Duration,
    /// How long it has been over: its line bears the time of its end.
    pub ago: Duration,
    /// From the head being read to the upstream's head.
    pub first_byte: Option<Duration>,
    /// Setting up the upstream connection, if a new one was needed.
    pub connected: Option<Duration>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Prompt and completion tokens, where the answer told them.
    pub tokens: Option<(u64, u64)>,
    /// The client's own count of retries (`x-stainless-retry-count`).
    pub retry: Option<u32>,
}

/// Writes access lines.
#[derive(Debug)]
pub struct Access {
    sink: Sink,
    stamper: Mutex<Stamper>,
}

impl Access {
    /// Lines go to `sink`.
    pub fn new(sink: Sink) -> Self {
        Self { sink, stamper: Mutex::default() }
    }

    /// Writes one line.
    pub fn write(&self, record: &Record<'_>, ending: Ending) {
        self.sink.append(false, |out| {
            let mut stamper = self.stamper.lock().unwrap_or_else(PoisonError::into_inner);
            if self.sink.is_json() {
                json_line(record, ending, &mut stamper, out);
            } else {
                text_line(record, ending, &mut stamper, out);
            }
        });
    }
}

/// What stands before the value of a field.
macro_rules! field {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

fn json_line(record: &Record<'_>, ending: Ending, stamper: &mut Stamper, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    stamper.write(record.ago, out);
    out.extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\"");
    let mut line = Fields(out);
    line.text(field!("request_id"), Some(record.request_id));
    line.text(field!("path"), Some(record.path));
    line.word(field!("integration"), record.integration);
    line.text(field!("model"), record.model);
    line.number(field!("status"), Some(record.status.into()));
    line.word(field!("ending"), Some(ending.word()));
    line.text(field!("code"), record.code);
    line.text(field!("cause"), record.cause);
    line.text(field!("upstream_request_id"), record.upstream_id);
    line.flag(field!("stream"), record.stream);
    line.millis(field!("total_ms"), Some(record.total));
    line.millis(field!("first_byte_ms"), record.first_byte);
    line.millis(field!("connect_ms"), record.connected);
    line.number(field!("bytes_in"), Some(record.bytes_in));
    line.number(field!("bytes_out"), Some(record.bytes_out));
    line.number(field!("prompt_tokens"), record.tokens.map(|t| t.0));
    line.number(field!("completion_tokens"), record.tokens.map(|t| t.1));
    line.number(field!("client_retry"), record.retry.filter(|n| *n > 0).map(u64::from));
    out.extend_from_slice(b"}\n");
}

/// `HH:MM:SS.mmm request 200 complete openai-key gpt-4o 12.3 ms …`: for people at a terminal.
fn text_line(record: &Record<'_>, ending: Ending, stamper: &mut Stamper, out: &mut Vec<u8>) {
    stamper.write(record.ago, out);
    let (integration, model) = (record.integration.unwrap_or("-"), record.model.unwrap_or("-"));
    let _ = write!(
        out,
        "  INFO request {} {} {integration} {} in {:.1} ms id={}",
        record.status,
        ending.word(),
        printable(model),
        record.total.as_secs_f64() * 1e3,
        record.request_id
    );
    // Where the names do not say what was asked for, the path does.
    if record.integration.is_none() || record.model.is_none() {
        let _ = write!(out, " path={}", printable(record.path));
    }
    if let Some(code) = record.code {
        let _ = write!(out, " code={}", printable(code));
    }
    if let Some(id) = record.upstream_id {
        let _ = write!(out, " upstream_request_id={}", printable(id));
    }
    if let Some(cause) = record.cause {
        let _ = write!(out, " cause={}", printable(cause));
    }
    out.push(b'\n');
}

/// A client's words on a terminal must not move its cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Appends fields, each behind what [`field`] makes of its name; absent values leave nothing.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn put(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// For a value that needs no escape: one of our own words, or a name that was checked when it was configured.
    fn word(&mut self, field: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.put(field);
        self.0.push(b'"');
        self.put(value);
        self.0.push(b'"');
    }

    fn text(&mut self, field: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        // No early end, so that the compiler makes vector code of it.
        let plain = value
            .bytes()
            .fold(true, |plain, b| plain & (b' '..0x7f).contains(&b) & (b != b'"') & (b != b'\\'));
        if plain {
            self.word(field, Some(value));
        } else {
            self.put(field);
            let _ = serde_json::to_writer(&mut *self.0, value);
        }
    }

    fn flag(&mut self, field: &str, value: bool) {
        self.put(field);
        self.put(if value { "true" } else { "false" });
    }

    fn number(&mut self, field: &str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.put(field);
        self.put(itoa::Buffer::new().format(value));
    }

    fn millis(&mut self, field: &str, value: Option<Duration>) {
        let Some(value) = value else { return };
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.number(field, Some(micros / 1000));
        // A thousand more, so that no zero in front is lost; its own digit is left out.
        let mut rest = itoa::Buffer::new();
        let rest = rest.format(1000 + micros % 1000);
        self.0.push(b'.');
        self.put(&rest[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::{parse, unix_seconds};
    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_the_client_named_its_model() {
        let record = Record {
            bytes_in: 20,
            bytes_out: u64::MAX,
            first_byte: Some(Duration::from_micros(5)),
            request_id: "r1",
            path: "/v1/chat/completions",
            model: Some("a\"b\\c\n\u{1}é"),
            status: 404,
            code: Some("model_not_found"),
            total: Duration::from_micros(1234),
            ..Record::default()
        };
        let mut out = Vec::new();
        json_line(&record, Ending::Failed, &mut Stamper::default(), &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["model"], "a\"b\\c\n\u{1}é");
        assert_eq!((&line["total_ms"], &line["first_byte_ms"]), (&1.234.into(), &0.005.into()));
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&20.into(), &u64::MAX.into()));
        assert!(line.get("integration").is_none());
    }

    #[test]
    fn a_line_that_is_written_late_bears_the_time_of_the_end() {
        let record = Record { ago: Duration::from_secs(3600), ..Record::default() };
        let (mut out, before) = (Vec::new(), unix_seconds());
        json_line(&record, Ending::Complete, &mut Stamper::default(), &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let at = parse(line["timestamp"].as_str().unwrap()).unwrap();
        assert!((before - 3600..=unix_seconds() - 3600).contains(&at), "{line}");
    }

    #[test]
    fn a_text_line_holds_no_control_characters() {
        let record = Record { model: Some("\u{1b}[2Jm\n"), cause: Some("a\r\nb"), ..Record::default() };
        let mut out = Vec::new();
        text_line(&record, Ending::Cancelled, &mut Stamper::default(), &mut out);
        assert_eq!(out.iter().filter(|b| b.is_ascii_control()).count(), 1);
    }

    #[test]
    fn a_text_line_names_the_path_where_no_model_is_known_and_the_upstreams_id() {
        let told = |record: &Record<'_>| {
            let mut out = Vec::new();
            text_line(record, Ending::Failed, &mut Stamper::default(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let record = Record { path: "/v1/chat\n", upstream_id: Some("req-7"), ..Record::default() };
        let line = told(&record);
        assert!(line.contains(" path=/v1/chat  upstream_request_id=req-7"), "{line}");
        let relayed = Record { integration: Some("acme"), ..record.clone() };
        assert!(told(&relayed).contains(" path=/v1/chat "));
        let known = Record { model: Some("m"), ..relayed };
        assert!(!told(&known).contains("path="));
    }
}
