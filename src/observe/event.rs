//! One event of the log as one JSON object: numbers, flags and lists as what they are, all else as text.

use std::fmt::{self, Debug};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::clock::Stamper;

/// A list as a field of an event (`?List(&names)`): an array in a log of JSON, and the same words in one of text.
pub struct List<'a, T>(
    /// What is listed.
    pub &'a [T],
);

impl<T: AsRef<str>> Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (n, item) in self.0.iter().enumerate() {
            let text = serde_json::to_string(item.as_ref()).map_err(|_| fmt::Error)?;
            write!(f, "{}{text}", if n > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// Writes events as `{"timestamp":…,"level":…,"message":…,…}`, one a line.
#[derive(Debug, Default)]
pub(super) struct Json {
    stamper: Mutex<Stamper>,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = b"{\"timestamp\":\"".to_vec();
        self.stamper.lock().unwrap_or_else(PoisonError::into_inner).write(Duration::ZERO, &mut line);
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(event.metadata().level().as_str().as_bytes());
        line.push(b'"');
        event.record(&mut Fields(&mut line));
        line.extend_from_slice(b"}\n");
        to.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

/// Appends each field with its comma.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        // A Vec takes everything.
        let _ = write!(self.0, ",\"{}\":{value}", field.name());
    }

    fn text(&mut self, field: &Field, value: &str) {
        self.raw(field, serde_json::Value::from(value));
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // What is no number is null.
        self.raw(field, serde_json::Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.raw(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.raw(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        // Fields are values without their types: a list is known by how it is written.
        let is_list = text.starts_with('[') && field.name() != "message";
        if is_list && serde_json::from_str::<Vec<String>>(&text).is_ok() {
            self.raw(field, &text);
        } else {
            self.text(field, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tracing_subscriber::prelude::*;

    use super::*;

    /// What `tell` logs, line by line.
    fn logged(tell: impl FnOnce()) -> Vec<Value> {
        let shelf = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&shelf);
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Json::default())
            .with_writer(move || Shelf(Arc::clone(&ours)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), tell);
        let text = String::from_utf8(shelf.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    struct Shelf(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shelf {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lists_are_arrays_and_numbers_are_numbers() {
        let names = ["a.b", "é\"\\\n\u{1b}"];
        let lines = logged(|| {
            tracing::info!(failed = ?List(&names), stale = ?List::<String>(&[]), linger_ms = 5000_u64, ok = true, half = 0.5, "reloaded");
        });
        let mut line = lines[0].clone();
        let stamp = line["timestamp"].take();
        assert!(stamp.as_str().is_some_and(|stamp| stamp.len() == 24 && stamp.ends_with('Z')), "{stamp}");
        let expected = json!({"timestamp": null, "level": "INFO", "message": "reloaded", "failed": names, "stale": [],
            "linger_ms": 5000, "ok": true, "half": 0.5});
        assert_eq!(line, expected);
    }

    #[test]
    fn text_stays_text_whatever_it_looks_like() {
        let lines = logged(|| {
            tracing::warn!(peer = %"[::1]:80", odd = "[\"a\"]", none = ?None::<u8>, "[\"a\"]");
            tracing::error!(error = %std::io::Error::other("no\nline"), big = u128::MAX, nan = f64::NAN, "two");
        });
        let first = &lines[0];
        assert_eq!(
            (&first["peer"], &first["odd"], &first["none"]),
            (&json!("[::1]:80"), &json!("[\"a\"]"), &json!("None"))
        );
        assert_eq!(first["message"], "[\"a\"]");
        assert_eq!(
            (&lines[1]["error"], &lines[1]["nan"], &lines[1]["level"]),
            (&json!("no\nline"), &json!(null), &json!("ERROR"))
        );
    }

    #[test]
    fn in_text_a_list_is_what_it_was() {
        assert_eq!(format!("{:?}", List(&["a", "b"])), "[\"a\", \"b\"]");
    }
}
