//! Authorities whose time is over, or nearly: rustls trusts them all the same, and who signs in their place is unknown here.

use std::path::Path;
use std::time::SystemTime;

use super::validity::{Validity, date};
use super::{pem, subject};

/// So many days before its end an authority is told of.
const SOON: u64 = 30;
const DAY: u64 = 86_400;

/// What is to be said of the authorities in the file `path`, which `key` of the configuration names: of those that have
/// ended or end within 30 days, the one that does first. `None` if none does, or the file cannot be read, of which
/// others complain. Blocks.
pub fn waning(key: &str, path: &Path, now: SystemTime) -> Option<String> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let all = pem::certificates(key, path, &pem::text(key, path).ok()?).ok()?;
    let ends = all.iter().filter_map(|one| Some((Validity::of(one)?.not_after, one)));
    let (mut ends, mut count) = (ends.collect::<Vec<_>>(), 0);
    ends.sort_by_key(|(end, _)| *end);
    let (first, one) = *ends.first()?;
    let name = subject::of(one).filter(|name| !name.is_empty());
    let name = name.map_or_else(String::new, |name| format!(" {name}"));
    let when = if first < now {
        count += ends.iter().filter(|(end, _)| *end < now).count();
        format!("ended on {}", date(first))
    } else if first < now.saturating_add(SOON * DAY) {
        format!("ends on {}, in {} days", date(first), (first - now) / DAY)
    } else {
        return None;
    };
    let more =
        if count > 1 { format!("; {count} of the {} in it have ended", all.len()) } else { String::new() };
    Some(pem::says(key, path, format_args!("holds an authority{name} that {when}{more}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::Authority;
    use super::*;

    #[test]
    fn an_authority_that_has_ended_or_ends_soon_is_told_with_its_name_and_its_end() {
        let authority = Authority::new();
        let one = |name: &str, year: i32| {
            let pair = authority.issue(&[], |params| {
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
                params.not_before = rcgen::date_time_ymd(2000, 1, 1);
                params.not_after = rcgen::date_time_ymd(year, 1, 1);
            });
            pair.certificate
        };
        // The first of January 2030.
        let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        let told = |text: &str, days_before: u64| {
            let path = authority.file("ca.pem", text);
            let told = waning("ca_file", &path, new_year - Duration::from_secs(days_before * DAY));
            told.map(|told| told.replace(&path.display().to_string(), "CA"))
        };
        let (two, three) =
            (one("Corp A", 2030) + &one("Corp B", 2040), one("Old", 2020) + &one("Older", 2010));
        assert_eq!(told(&two, 31), None);
        assert_eq!(
            told(&two, 10).as_deref(),
            Some(
                "`ca_file` CA holds an authority CN=Corp A that ends on Tue, 01 Jan 2030 00:00:00 GMT, in 10 days"
            )
        );
        assert_eq!(
            told(&(three + &two), 1).as_deref(),
            Some(
                "`ca_file` CA holds an authority CN=Older that ended on Fri, 01 Jan 2010 00:00:00 GMT; 2 of the 4 in it have ended"
            )
        );
        assert_eq!(told("no PEM", 0), None);
    }
}
