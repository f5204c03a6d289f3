//! The value of `x-outrider-dropped`: the fields that did not reach the provider as the client wrote them.

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::outbound::Report;

/// The longest list, in bytes; a number behind it tells how many more there are.
const MOST: usize = 1000;

/// What cannot stand in an item of the list, besides what is not ASCII, and `+`, which marks the number.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%').add(b'+');

/// The fields of `report`, if there are any: those on top of the body first, with commas between them, other characters
/// than visible ASCII percent-encoded. `+12` at the end: twelve more did not fit.
pub(super) fn list(report: &Report) -> Option<HeaderValue> {
    let mut fields: Vec<&str> = report.lost().map(|change| &*change.field).collect();
    if fields.is_empty() {
        return None;
    }
    fields.sort_by_key(|field| field.contains(['.', '[']));
    let (mut list, mut more) = (String::new(), 0);
    for field in fields {
        let (length, comma) = (list.len(), if list.is_empty() { "" } else { "," });
        list.extend([comma].into_iter().chain(utf8_percent_encode(field, ESCAPED)));
        if list.len() > MOST {
            list.truncate(length);
            more += 1;
        }
    }
    if more > 0 {
        let comma = if list.is_empty() { "" } else { "," };
        list.push_str(&format!("{comma}+{more}"));
    }
    HeaderValue::try_from(list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: impl IntoIterator<Item = String>) -> Option<String> {
        let mut report = Report::default();
        fields.into_iter().for_each(|field| report.dropped(field, "why"));
        list(&report).map(|list| list.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_escaped_and_hides_nothing_else() {
        let fields = ["seed", "größe", "a b", "c,d", "100%", "+1", "line\nend", "schema.尺", ""];
        let want = "seed,gr%C3%B6%C3%9Fe,a%20b,c%2Cd,100%25,%2B1,line%0Aend,,schema.%E5%B0%BA";
        assert_eq!(told(fields.map(str::to_owned)).as_deref(), Some(want));
        assert_eq!(told([]), None);
    }

    #[test]
    fn a_list_that_is_too_long_has_the_fields_on_top_first_and_counts_the_rest() {
        let deep = (100..400).map(|n| format!("tools[{n}].function.parameters"));
        let list = told(deep.chain(["seed".to_owned(), "x".repeat(2000), "user".to_owned()])).unwrap();
        assert!(list.starts_with("seed,user,tools[100].function.parameters,"), "{list}");
        let (told, more) = list.rsplit_once(",+").unwrap();
        assert!(told.len() <= MOST, "{}", told.len());
        assert_eq!(told.split(',').count() + more.parse::<usize>().unwrap(), 303);
        assert_eq!(self::told(["x".repeat(2000)]).as_deref(), Some("+1"));
    }

    #[test]
    fn what_was_only_renamed_or_set_is_not_in_it() {
        let mut report = Report::default();
        report.note(crate::outbound::Done::Renamed, "a", "why");
        report.note(crate::outbound::Done::Defaulted, "b", "why");
        assert_eq!(list(&report), None);
        report.changed("c", "why");
        assert_eq!(list(&report), Some(HeaderValue::from_static("c")));
    }
}
