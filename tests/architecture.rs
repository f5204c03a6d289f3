//! The rules of the house, checked by a machine: floor order, fences, file length, and a purpose for every file.
//!
//! Text in comments and what only tests compile does not count for the order and the fences.

#[path = "architecture/fences.rs"]
mod fences;
#[path = "architecture/floors.rs"]
mod floors;
#[path = "architecture/layout.rs"]
mod layout;
#[path = "architecture/source.rs"]
mod source;

use std::fmt;
use std::path::Path;

use fences::FENCES;
use source::Source;

/// The longest file, all lines counted.
const MAX_LINES: usize = 600;

/// Every Rust file that the rules are about.
struct House(Vec<Source>);

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    rule: String,
}

impl House {
    /// Reads the files under `root` that Cargo compiles.
    fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        for folder in ["src", "tests", "benches"] {
            collect(root, &root.join(folder), &mut files);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self(files)
    }

    /// Every broken rule, file by file.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rooms = self.file("src/lib.rs").map(floors::rooms).unwrap_or_default();
        if rooms.is_empty() {
            findings.push(Finding::new("src/lib.rs", 1, "declares no rooms: `pub mod …;` in floor order"));
        }
        for file in &self.0 {
            findings.extend(shape(file));
            if file.path.starts_with("src/") && !self.is_for_tests(file) {
                let broken = floors::broken(file, &rooms);
                findings.extend(broken.into_iter().map(|(line, rule)| Finding::new(&file.path, line, rule)));
                findings.extend(fenced(file));
            }
        }
        findings.extend(self.idle_exceptions());
        findings
    }

    fn file(&self, path: &str) -> Option<&Source> {
        self.0.iter().find(|file| file.path == path)
    }

    /// Whether `file` is a module that its parent declares under `#[cfg(test)]`, or lies in one.
    fn is_for_tests(&self, file: &Source) -> bool {
        let own = file.module();
        self.0.iter().filter(|parent| parent.path.starts_with("src/")).any(|parent| {
            let module = parent.module();
            let below = own.strip_prefix(module.as_slice()).and_then(<[_]>::first);
            below.is_some_and(|name| parent.test_modules.iter().any(|m| m == name))
        })
    }

    /// Exceptions that no file needs any more.
    fn idle_exceptions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for fence in FENCES {
            for path in fence.excused() {
                if self.file(path).is_none_or(|file| fence.broken(file).is_empty()) {
                    let rule =
                        format!("needs no exception for {} any more: take it out of the table", fence.what);
                    findings.push(Finding::new(path, 1, rule));
                }
            }
        }
        findings
    }
}

/// What is wrong with the file as a file.
fn shape(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.lines > MAX_LINES {
        let rule = format!("has {} lines; a file has at most {MAX_LINES}", file.lines);
        findings.push(Finding::new(&file.path, MAX_LINES + 1, rule));
    }
    if !file.has_purpose {
        let rule = "its first line must begin with `//!` and say what the file is for";
        findings.push(Finding::new(&file.path, 1, rule));
    }
    findings
}

/// The fences that `file` breaks without an excuse.
fn fenced(file: &Source) -> Vec<Finding> {
    let judged = FENCES.iter().filter(|fence| fence.excuse(&file.path).is_none());
    judged
        .flat_map(|fence| {
            fence.broken(file).into_iter().map(|line| Finding::new(&file.path, line, fence.message()))
        })
        .collect()
}

/// Adds every `.rs` file under `folder`, which may be missing.
fn collect(root: &Path, folder: &Path, files: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder that opened can be listed").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("Rust sources are UTF-8");
            let name = path.strip_prefix(root).expect("the folder lies under the root");
            files.push(Source::read(&name.to_string_lossy(), &text));
        }
    }
}

impl Finding {
    fn new(path: &str, line: usize, rule: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

#[test]
fn the_house_keeps_its_rules() {
    let house = House::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(
        house.0.len() > 20,
        "only {} files were found: the check looks in the wrong place",
        house.0.len()
    );
    let findings: Vec<String> = house.findings().iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} broken rules:\n{}", findings.len(), findings.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "//! x\npub mod secret;\npub mod config;\npub mod auth;\npub mod proxy;\n";

    /// What the checker finds in a house of `src/lib.rs` and one more file, but for idle exceptions.
    fn findings(path: &str, text: &str) -> Vec<String> {
        let house = House(vec![Source::read("src/lib.rs", ROOT), Source::read(path, text)]);
        let found = house.findings().into_iter().filter(|f| !f.rule.contains("needs no exception"));
        found.map(|f| f.to_string()).collect()
    }

    /// Asserts that there is exactly one finding, at `line`, and that its rule says `words`.
    fn finds(path: &str, text: &str, line: usize, words: &str) {
        let found = findings(path, text);
        assert_eq!(found.len(), 1, "{path}: {text:?} gave {found:?}");
        assert!(found[0].starts_with(&format!("{path}:{line}: ")) && found[0].contains(words), "{found:?}");
    }

    /// Asserts that the file breaks no rule.
    fn allows(path: &str, text: &str) {
        assert_eq!(findings(path, text), Vec::<String>::new(), "{path}: {text:?}");
    }

    #[test]
    fn a_module_that_names_one_below_it_is_found() {
        finds("src/config/raw.rs", "//! x\n\nuse crate::proxy::Answer;\n", 3, "`config` names `proxy`");
        finds(
            "src/config/raw.rs",
            "//! x\nuse crate::{secret::Secret,\n auth::Token};\n",
            3,
            "`config` names `auth`",
        );
        finds("src/config/raw.rs", "//! x\nuse super::super::auth;\n", 2, "`config` names `auth`");
        finds("src/config/raw.rs", "//! x\nfn f() { crate::auth::go() }\n", 2, "`config` names `auth`");
        finds("src/cellar.rs", "//! x\n", 1, "`cellar`, which src/lib.rs does not declare");
        finds("src/auth.rs", "//! x\nuse crate::attic::A;\n", 2, "no room of src/lib.rs");
    }

    #[test]
    fn a_module_may_name_itself_those_above_it_and_anything_in_its_tests() {
        allows("src/auth/x.rs", "//! x\nuse crate::{config, secret};\nuse super::y;\nuse crate::auth::z;\n");
        allows(
            "src/auth.rs",
            "//! x\n// crate::proxy\n#[cfg(test)]\nmod tests {\n    use crate::proxy::P;\n}\n",
        );
        allows("src/main.rs", "//! x\nuse outrider::proxy;\n");
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_does_not_count() {
        let parent = Source::read("src/auth/mod.rs", "//! x\n#[cfg(test)]\nmod tests;\n");
        let tests = Source::read("src/auth/tests.rs", "//! x\nuse crate::proxy::P;\n");
        let house = House(vec![Source::read("src/lib.rs", ROOT), parent, tests]);
        assert!(house.findings().iter().all(|f| f.path != "src/auth/tests.rs"));
    }

    #[test]
    fn a_file_that_is_too_long_or_has_no_purpose_is_found() {
        let long = format!("//! x\n{}", "\n".repeat(MAX_LINES));
        finds("tests/sidecar/x.rs", &long, 601, "has 601 lines");
        finds("benches/x.rs", "use std::fmt;\n", 1, "must begin with `//!`");
        finds("src/auth.rs", "\n//! x\n", 1, "must begin with `//!`");
    }

    #[test]
    fn each_fence_is_found_outside_its_room_and_allowed_within() {
        let cases = [
            ("std::env::var(\"X\")", "src/config/environment.rs", "the environment"),
            ("std::env::{self, var}", "src/config/environment/layers.rs", "the environment"),
            ("env::args().next()", "src/main.rs", "the command line"),
            ("s.expose()", "src/config/valid.rs", "Secret::expose"),
            ("u.map(Unsigned::seal)", "src/auth/mod.rs", "Unsigned::seal"),
            ("u.seal(stamp)", "src/auth/mod.rs", "Unsigned::seal"),
            ("StatusCode::BAD_GATEWAY", "src/proxy/reply.rs", "StatusCode"),
            ("b\"data: {}\\n\\n\"", "src/cli/demo.rs", "SSE line"),
            ("\"id: 1\\nevent: x\"", "src/cli/demo/mock.rs", "SSE line"),
            ("\"[DONE]\"", "src/cli/demo/mock.rs", "SSE line"),
            ("rustls::ClientConfig::builder()", "src/cli/demo.rs", "rustls"),
            ("ServerConfig::builder_with_provider(p)", "src/cli/demo.rs", "rustls"),
            ("tokio::spawn(f)", "src/tasks.rs", "spawning"),
            ("tokio::task::spawn(f)", "src/tasks.rs", "spawning"),
            ("set.spawn_local(f)", "src/tasks.rs", "spawning"),
            ("std::process::Command::new(p)", "src/workers/process.rs", "child process"),
            ("\"x-api-key\"", "src/dialect/anthropic/request.rs", "Anthropic"),
            ("json[\"input_tokens\"]", "src/dialect/anthropic/reply.rs", "Anthropic"),
            ("Format::Anthropic", "src/dialect/mod.rs", "Anthropic"),
        ];
        for (code, room, words) in cases {
            let text = format!("//! x\nfn f() {{\n    {code}\n}}\n");
            finds("src/proxy/relay.rs", &text, 3, words);
            let found = findings(room, &text);
            assert!(found.iter().all(|f| !f.contains("belongs in")), "{room}: {found:?}");
            allows("src/proxy/relay.rs", &format!("//! x\n/// {code}\n#[cfg(test)]\nfn f() {{ {code} }}\n"));
        }
    }

    #[test]
    fn settings_are_deserialized_only_where_they_are_raw() {
        let derived = "//! x\n#[derive(Debug, serde::Deserialize)]\nstruct A;\n";
        let written = "//! x\nimpl<'de> Deserialize<'de> for A {}\n";
        for text in [derived, written] {
            finds("src/config/valid.rs", text, 2, "`Deserialize`");
            allows("src/config/raw.rs", text);
            allows("src/auth/oauth2.rs", text);
        }
        allows("src/config/problem.rs", "//! x\nuse serde::Deserialize;\nfn f<T: Deserialize>() {}\n");
    }

    #[test]
    fn words_that_only_resemble_a_fenced_one_are_allowed() {
        allows(
            "src/proxy/relay.rs",
            "//! x\nfn f(s: StatusCode) -> bool { StatusCode::from_u16(s); env!(\"X\"); s == StatusCode::OK }\n",
        );
        allows(
            "src/proxy/relay.rs",
            "//! x\nconst A: &str = \"the stream ended without [DONE]; data:image/png\";\n",
        );
        allows("src/proxy/relay.rs", "//! x\nfn f() { let prompt_input_tokens = 1; tasks.spawn(x); }\n");
    }
}
