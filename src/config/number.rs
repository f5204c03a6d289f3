//! Counts and sizes: how they are read, what is said of those that are none, and how a number is shown.

use figment::value::{Num, Value};

use super::places::At;
use super::read::{Field, Read, Reading};
use super::units;

impl Read for usize {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        let loose = reading.loose(value, at).and_then(|text| text.trim().parse().ok());
        if let Some(count) = whole(value).or(loose) {
            return Field::Given(count);
        }
        let expected = match Beyond::of(value, at, reading) {
            Some(Beyond::Below) => "a whole number, 0 or more",
            Some(Beyond::Above) => &format!("a whole number of at most {}", Self::MAX),
            None => "a whole number",
        };
        reading.mismatch::<Self>(value, at, expected);
        reading.help_unquoted(value, at, |text| counted(text).is_some());
        Field::Bad
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) usize);

impl Read for Size {
    fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
        if let Some(bytes) = whole(value).or_else(|| value.as_str().and_then(units::size)) {
            return Field::Given(Self(bytes));
        }
        let expected = match Beyond::of(value, at, reading) {
            Some(Beyond::Below) => "a size of 0 or more bytes",
            Some(Beyond::Above) => &format!("a size of at most {} bytes", usize::MAX),
            None => "a size such as \"64KiB\", \"32MiB\" or a number of bytes",
        };
        reading.mismatch(value, at, expected).map_or(Field::Bad, Field::Given)
    }
}

/// Which end of the counts a whole number is beyond.
enum Beyond {
    Below,
    Above,
}

impl Beyond {
    /// `None` for what is no whole number at all.
    fn of(value: &Value, at: &At, reading: &Reading<'_>) -> Option<Self> {
        let written = match value {
            Value::Num(_, number) => reading.places.number(at).map_or_else(|| shown(*number), str::to_owned),
            // A good one in quotes is beyond nothing.
            _ => value.as_str().filter(|text| counted(text).is_none())?.trim().to_owned(),
        };
        let digits = written.trim_start_matches(['-', '+']);
        let is_whole = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_');
        is_whole.then_some(if written.starts_with('-') { Self::Below } else { Self::Above })
    }
}

/// `text` as TOML would have it if it stood without quotes.
fn counted(text: &str) -> Option<usize> {
    text.replace('_', "").parse().ok()
}

/// `value` as a number of 0 or more.
pub(super) fn whole(value: &Value) -> Option<usize> {
    let number = value.to_num()?;
    let signed = number.to_i128().and_then(|n| usize::try_from(n).ok());
    signed.or_else(|| number.to_u128().and_then(|n| usize::try_from(n).ok()))
}

/// `number` where nobody knows how it was written.
pub(super) fn shown(number: Num) -> String {
    match (number.to_i128(), number.to_u128(), number.to_f64()) {
        (Some(n), _, _) => n.to_string(),
        (_, Some(n), _) => n.to_string(),
        (_, _, Some(n)) => n.to_string(),
        _ => "a number".to_owned(),
    }
}
