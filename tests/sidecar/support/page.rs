//! A page of the documentation as the tests read it: its fenced blocks, its sections, its tables.

use std::collections::BTreeSet;

/// The text of a page.
#[derive(Clone, Copy)]
pub(crate) struct Page(pub(crate) &'static str);

impl Page {
    /// The fenced blocks of one language, in order, without the indentation of their list.
    pub(crate) fn blocks(self, language: &str) -> Vec<String> {
        let (mut blocks, mut open) = (Vec::new(), None);
        for line in self.0.lines() {
            let indent = line.len() - line.trim_start().len();
            match (line.trim().strip_prefix("```"), &mut open) {
                (Some(word), None) => open = Some((word == language, indent, String::new())),
                (Some(_), Some(_)) => {
                    blocks.extend(open.take().filter(|(wanted, ..)| *wanted).map(|(_, _, text)| text));
                }
                (None, Some((_, indent, text))) => {
                    text.push_str(line.get(*indent..).unwrap_or_default());
                    text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "a block of the page is not closed");
        assert!(!blocks.is_empty(), "the page has no block of {language}");
        blocks
    }

    /// The text below a heading, to the next one of the same level.
    pub(crate) fn section(self, heading: &str) -> &'static str {
        let (_, rest) = self.0.split_once(&format!("\n## {heading}\n")).expect("the page has this heading");
        rest.split_once("\n## ").map_or(rest, |(section, _)| section)
    }

    /// The commands of the shell blocks, one a line, without comments.
    pub(crate) fn commands(self) -> Vec<String> {
        let text = self.blocks("sh").concat().replace("\\\n", " ");
        let bare = |line: &str| line.split(" # ").next().unwrap_or_default().trim().to_owned();
        text.lines().map(bare).filter(|line| !line.is_empty()).collect()
    }
}

/// The rows of the table of `section` whose first heading is `first`.
pub(crate) fn table(section: &str, first: &str) -> Vec<Vec<String>> {
    let rows = section.lines().skip_while(|line| !line.starts_with(&format!("| {first} |")));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "the page has no table that begins with `{first}`");
    rows
}

/// What stands in backticks.
pub(crate) fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The names in the first column of a table.
pub(crate) fn names(rows: &[Vec<String>]) -> BTreeSet<String> {
    rows.iter().flat_map(|row| spans(&row[0])).map(str::to_owned).collect()
}
