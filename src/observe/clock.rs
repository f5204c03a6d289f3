//! Wall-clock time as RFC 3339 text, without a formatter call for each line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch; 0 if the clock stands before it.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Remembers the last second it formatted, since log lines come many a second.
#[derive(Debug, Default)]
pub struct Stamper {
    second: u64,
    text: [u8; 19],
}

impl Stamper {
    /// Appends the time that was `ago` as `2026-11-23T06:04:14.123Z`.
    pub fn write(&mut self, ago: Duration, out: &mut Vec<u8>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = now.saturating_sub(ago);
        self.write_at(at.as_secs(), at.subsec_millis(), out);
    }

    fn write_at(&mut self, second: u64, millis: u32, out: &mut Vec<u8>) {
        if second != self.second || self.text[0] == 0 {
            self.second = second;
            self.text = format_second(second);
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        out.extend_from_slice(&digits::<3>(u64::from(millis)));
        out.push(b'Z');
    }
}

/// The second as RFC 3339 writes it.
#[cfg(test)]
pub fn written(second: u64) -> String {
    format!("{}Z", String::from_utf8_lossy(&format_second(second)))
}

fn format_second(second: u64) -> [u8; 19] {
    let (year, month, day) = civil(second / 86_400);
    let (hour, minute, rest) = (second / 3600 % 24, second / 60 % 60, second % 60);
    let mut text = *b"0000-00-00T00:00:00";
    text[0..4].copy_from_slice(&digits::<4>(year));
    for (at, value) in [(5, month), (8, day), (11, hour), (14, minute), (17, rest)] {
        text[at..at + 2].copy_from_slice(&digits::<2>(value));
    }
    text
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The second of a time as RFC 3339 writes it, with `Z` or an offset, from 1970 on; what is below a second is cut off.
pub fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.trim().split_once(['T', 't'])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let time = time.split_once('.').map_or(time, |(time, _)| time);
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let at = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    if matches!(zone, "Z" | "z") {
        return Some(at);
    }
    let [hours, minutes] = numbers(&zone[1..], ':')?;
    let offset = hours * 3600 + minutes * 60;
    if zone.starts_with('+') { at.checked_sub(offset) } else { at.checked_add(offset) }
}

/// `N` whole numbers of at most four digits, with `between` between them.
fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let number = |part: &str| {
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse().ok())?
    };
    let all: Vec<u64> = text.split(between).map(number).collect::<Option<_>>()?;
    all.try_into().ok()
}

/// The days from 1970-01-01 to a date: `civil` the other way round.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn digits<const N: usize>(mut value: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for at in (0..N).rev() {
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_time_is_read_whatever_its_zone_and_fraction() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-28T23:59:59.007Z", Some(951_782_399)),
            ("2024-02-29t00:00:00z", Some(1_709_164_800)),
            ("2024-02-29T01:30:00+01:30", Some(1_709_164_800)),
            ("2024-02-28T22:00:00-02:00", Some(1_709_164_800)),
            ("2100-03-01T00:00:00.123456789Z", Some(4_107_542_400)),
            ("2024-02-29", None),
            ("2024-02-29T00:00:00", None),
            ("2024-13-29T00:00:00Z", None),
            ("2024-02-29T24:00:00Z", None),
            ("1969-12-31T00:00:00Z", None),
            ("1970-01-01T00:00:00+01:00", None),
            ("2024-02-2é T00:00:00+é", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
        let mut stamper = Stamper::default();
        for second in (0..4_200_000_000).step_by(7_654_321) {
            let mut out = Vec::new();
            stamper.write_at(second, 1, &mut out);
            assert_eq!(parse(std::str::from_utf8(&out).unwrap()), Some(second));
        }
    }

    #[test]
    fn a_time_is_written_as_rfc_3339_across_leap_days_and_centuries() {
        let mut stamper = Stamper::default();
        for (second, want) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let mut out = Vec::new();
            stamper.write_at(second, 7, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
