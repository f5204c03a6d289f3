//! Durations, sizes and flags as they are written.

use std::time::Duration;

/// The longest duration that makes sense here: a year. Longer ones overflow clocks.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// `"250ms"`, `"5s"`, `"2m"`, `"1h"`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(60 * 60)?),
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}

/// What [`LONGEST`] is, as it is written.
pub(super) const MOST: &str = "8760h";

/// Whether `text` is a duration that is longer than any may be.
pub(super) fn is_too_long(text: &str) -> bool {
    let unit = text.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    let has_number = unit.len() < text.trim().len();
    has_number && matches!(unit.trim_start(), "ms" | "s" | "m" | "h") && duration(text).is_none()
}

/// `"512B"`, `"64KiB"`, `"32MiB"`, `"1GiB"` or a number of bytes.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

/// `true` or `false`, and what is commonly written for them in the environment.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        for bad in [
            "",
            "5",
            "s",
            "5 sec",
            "-1s",
            "1.5s",
            "5S",
            "99999999999999999999s",
            "9999h9",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(bad), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn a_duration_that_is_too_long_is_told_from_what_is_none() {
        assert_eq!(duration(MOST), Some(LONGEST));
        for long in ["8761h", "9999999 h", "99999999999999999999s", "18446744073709551615h"] {
            assert!(is_too_long(long), "{long:?}");
        }
        for other in ["8760h", "5s", "", "h", "5", "-1s", "9999h9", "99999999999999999999"] {
            assert!(!is_too_long(other), "{other:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("32MiB"), Some(33_554_432));
        assert_eq!(size("1GiB"), Some(1_073_741_824));
        assert_eq!(size("100"), Some(100));
        for bad in ["", "64KB", "64kb", "KiB", "-1", "18446744073709551615GiB"] {
            assert_eq!(size(bad), None, "{bad:?} was taken");
        }
    }
}
