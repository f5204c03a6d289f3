//! The floor order: a module may name only modules that stand above it in `src/lib.rs`.

use super::source::{Source, Token};

/// The rooms in floor order, as `root` (`src/lib.rs`) declares them.
pub(crate) fn rooms(root: &Source) -> Vec<String> {
    let declares = |at: &usize| root.reads(*at, &["mod"]) && root.reads(at + 2, &[";"]);
    (0..root.tokens.len()).filter(declares).map(|at| root.tokens[at + 1].text.clone()).collect()
}

/// One mention of a room: the line and the room's name.
pub(crate) type Mention = (usize, String);

/// Every room that `file` names, by `crate::…` or by leaving its own room through `super::…`.
pub(crate) fn mentions(file: &Source) -> Vec<Mention> {
    let mut reader = Reader { tokens: &file.tokens, found: Vec::new() };
    let mut place: Vec<String> = file.module().into_iter().map(str::to_owned).collect();
    let mut inline: Vec<bool> = Vec::new();
    for at in 0..file.tokens.len() {
        if file.reads(at, &["{"]) {
            let is_module = at >= 2 && file.reads(at - 2, &["mod"]);
            if is_module {
                place.push(file.tokens[at - 1].text.clone());
            }
            inline.push(is_module);
        } else if file.reads(at, &["}"]) && inline.pop() == Some(true) {
            place.pop();
        } else if reader.starts_path(at) {
            let base = if file.reads(at, &["crate"]) { &[][..] } else { &place[..] };
            reader.path(at, base);
        }
    }
    reader.found
}

/// Why `file` breaks the order of `rooms`, line by line.
pub(crate) fn broken(file: &Source, rooms: &[String]) -> Vec<(usize, String)> {
    let Some(own) = file.module().first().map(|room| (*room).to_owned()) else {
        return Vec::new();
    };
    let floor = |room: &str| rooms.iter().position(|r| r == room);
    let Some(own_floor) = floor(&own) else {
        return vec![(1, format!("stands in the room `{own}`, which src/lib.rs does not declare"))];
    };
    let judge = |(line, room): Mention| match floor(&room) {
        None => Some((line, format!("names `crate::{room}`, which is no room of src/lib.rs"))),
        Some(other) if other > own_floor => Some((
            line,
            format!(
                "`{own}` names `{room}`, which stands below it in src/lib.rs: a module may name only modules above it"
            ),
        )),
        Some(_) => None,
    };
    mentions(file).into_iter().filter_map(judge).collect()
}

/// Reads paths and groups of paths.
struct Reader<'a> {
    tokens: &'a [Token],
    found: Vec<Mention>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).filter(|t| !t.literal).map_or("", |t| t.text.as_str())
    }

    /// Whether `crate::` or `super::` begins here and does not go on from a word before it.
    fn starts_path(&self, at: usize) -> bool {
        let continues = at > 0 && self.text(at - 1) == "::";
        matches!(self.text(at), "crate" | "super") && self.text(at + 1) == "::" && !continues
    }

    /// Follows the path at `at`, which begins in the module `base`; returns what stands behind it.
    fn path(&mut self, at: usize, base: &[String]) -> usize {
        match self.text(at) {
            "crate" => self.onwards(at, &[]),
            "super" => self.onwards(at, &base[..base.len().saturating_sub(1)]),
            "self" => self.onwards(at, base),
            "{" => self.group(at + 1, base),
            word => {
                let room = base.first().map_or(word, String::as_str).to_owned();
                if let Some(token) = self.tokens.get(at) {
                    self.found.push((token.line, room));
                }
                at + 1
            }
        }
    }

    fn onwards(&mut self, at: usize, base: &[String]) -> usize {
        if self.text(at + 1) == "::" { self.path(at + 2, base) } else { at + 1 }
    }

    /// Each path of a group `{a, b::c, d::{e, f}}` whose inside begins at `at`.
    fn group(&mut self, mut at: usize, base: &[String]) -> usize {
        while at < self.tokens.len() && self.text(at) != "}" {
            at = self.path(at, base);
            let mut depth = 0;
            while at < self.tokens.len() {
                match self.text(at) {
                    "{" => depth += 1,
                    "}" if depth == 0 => break,
                    "}" => depth -= 1,
                    "," if depth == 0 => break,
                    _ => {}
                }
                at += 1;
            }
            at += usize::from(self.text(at) == ",");
        }
        at + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, text: &str) -> Vec<String> {
        mentions(&Source::read(path, text)).into_iter().map(|(_, room)| room).collect()
    }

    #[test]
    fn a_group_names_each_of_its_rooms() {
        let text = "use crate::{a, b::c, d::{e, f::{g}}, self as root, h as i};";
        assert_eq!(named("src/x.rs", text), ["a", "b", "d", "h"]);
    }

    #[test]
    fn a_path_in_the_middle_of_an_expression_counts() {
        assert_eq!(named("src/x.rs", "fn f(v: &crate::a::T) { <crate::b::U>::g(); }"), ["a", "b"]);
    }

    #[test]
    fn super_leaves_the_room_only_when_it_goes_far_enough() {
        assert_eq!(named("src/x/y.rs", "use super::z; use super::super::a::B;"), ["x", "a"]);
        assert_eq!(named("src/x/mod.rs", "use super::{a, b}; pub(super) fn f() {}"), ["a", "b"]);
        assert_eq!(
            named("src/x.rs", "mod inner { use super::y; use super::super::a; } use super::b;"),
            ["x", "a", "b"]
        );
    }

    #[test]
    fn rooms_are_read_in_their_order() {
        let root = Source::read("src/lib.rs", "//! x\npub mod b;\n\nmod a;\n");
        assert_eq!(rooms(&root), ["b", "a"]);
    }
}
