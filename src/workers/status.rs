//! What a worker says of itself on its status socket: bytes become messages, and whatever else they are is ignored.
//!
//! A handler's code may write there too. It can harm its own worker with it, and nothing else.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use memchr::memchr;
use serde_json::Value;

use super::report::Loaded;

/// The longest line that is read.
const MOST_LINE: usize = 256 << 10;
/// The most files that are watched for one worker.
const MOST_FILES: usize = 256;
/// The most of each text that is kept.
const MOST_TEXT: usize = 4 << 10;
const MOST_TRACEBACK: usize = 64 << 10;
const MOST_LIST: usize = 32;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Its event loop runs.
    Beat,
    /// It has loaded the handler, and answers.
    Ready(Box<Loaded>, BTreeSet<PathBuf>),
    /// It has not, and ends.
    Failed {
        /// What is wrong and what to do, in one line.
        error: String,
        /// For the log alone.
        traceback: Option<String>,
        files: BTreeSet<PathBuf>,
    },
    /// It has loaded more of the directory.
    Files(BTreeSet<PathBuf>),
    /// So many of so many threads are held by calls that nobody waits for.
    Stuck(u64, u64),
}

/// Takes lines apart. At most [`MOST_LINE`] bytes are kept.
#[derive(Debug)]
pub(super) struct Reader {
    /// Only files in it are believed in.
    directory: PathBuf,
    partial: Vec<u8>,
    skipping: bool,
}

impl Reader {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), partial: Vec::new(), skipping: false }
    }

    /// The messages that `bytes` complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(end) = memchr(b'\n', bytes) {
            self.take(&bytes[..end]);
            let line = std::mem::take(&mut self.partial);
            if !std::mem::take(&mut self.skipping) {
                messages.extend(self.message(&line));
            }
            bytes = &bytes[end + 1..];
        }
        self.take(bytes);
        messages
    }

    fn take(&mut self, bytes: &[u8]) {
        self.skipping |= self.partial.len() + bytes.len() > MOST_LINE;
        if self.skipping {
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn message(&self, line: &[u8]) -> Option<Message> {
        if line.is_empty() {
            return Some(Message::Beat);
        }
        let said: Value = serde_json::from_slice(line).ok()?;
        if let Some(ready) = said.get("ready").filter(|ready| ready.is_object()) {
            return Some(Message::Ready(Box::new(loaded(ready)), self.files(&ready["files"])));
        }
        if let Some(failed) = said.get("failed").filter(|failed| failed.is_object()) {
            let error = text(&failed["error"], MOST_TEXT);
            return Some(Message::Failed {
                error: error
                    .unwrap_or_else(|| "the handler does not load, and no reason was given".to_owned()),
                traceback: text(&failed["traceback"], MOST_TRACEBACK),
                files: self.files(&failed["files"]),
            });
        }
        if let Some(stuck) = said.get("stuck").and_then(Value::as_u64) {
            return Some(Message::Stuck(stuck, said["threads"].as_u64()?));
        }
        said.get("files").map(|files| Message::Files(self.files(files)))
    }

    fn files(&self, said: &Value) -> BTreeSet<PathBuf> {
        let paths = said.as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from);
        let is_inside = |path: &PathBuf| {
            let inner = path.strip_prefix(&self.directory);
            inner.is_ok_and(|inner| inner.components().all(|part| matches!(part, Component::Normal(_))))
        };
        paths.filter(is_inside).take(MOST_FILES).collect()
    }
}

fn loaded(ready: &Value) -> Loaded {
    let word = |key: &str| text(&ready[key], MOST_TEXT).unwrap_or_default();
    Loaded {
        class: word("class"),
        methods: texts(&ready["methods"]),
        style: word("style"),
        warnings: texts(&ready["warnings"]),
        python: word("python"),
        litellm: word("litellm"),
    }
}

fn texts(said: &Value) -> Vec<String> {
    said.as_array().into_iter().flatten().filter_map(|said| text(said, MOST_TEXT)).take(MOST_LIST).collect()
}

fn text(said: &Value, most: usize) -> Option<String> {
    let said = said.as_str()?.trim_end();
    Some(said[..said.floor_char_boundary(most)].to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Message> {
        Reader::new(Path::new("/h")).push(bytes)
    }

    #[test]
    fn a_worker_that_is_ready_says_what_it_loaded() {
        let said = br#"{"ready":{"class":"H","methods":["acompletion"],"style":"direct","warnings":["w"],
            "files":["/h/h.py","/h/sub/x.py","/etc/passwd","/h/../etc/passwd",7],"python":"3.11.7","litellm":"1.1"}}"#;
        let mut line: Vec<u8> = said.iter().copied().filter(|byte| *byte != b'\n').collect();
        line.push(b'\n');
        let files = ["/h/h.py", "/h/sub/x.py"].map(PathBuf::from).into();
        let loaded = Loaded {
            class: "H".into(),
            methods: vec!["acompletion".into()],
            style: "direct".into(),
            warnings: vec!["w".into()],
            python: "3.11.7".into(),
            litellm: "1.1".into(),
        };
        assert_eq!(read(&line), [Message::Ready(Box::new(loaded), files)]);
    }

    #[test]
    fn lines_come_in_pieces_and_garbage_between_them_is_ignored() {
        let mut reader = Reader::new(Path::new("/h"));
        assert_eq!(reader.push(b"\n\nprint\n{\"stu"), [Message::Beat, Message::Beat]);
        assert_eq!(reader.push(b"ck\":17,\"threads\":32}\n[1]\n7\n{}\n\xff\n"), [Message::Stuck(17, 32)]);
        let failed = reader.push(b"{\"failed\":{\"error\":\"no\",\"traceback\":\"t\"}}\n");
        let expected =
            Message::Failed { error: "no".into(), traceback: Some("t".into()), files: BTreeSet::new() };
        assert_eq!(failed, [expected]);
    }

    #[test]
    fn a_line_without_end_costs_a_bounded_amount_and_the_next_one_counts() {
        let mut reader = Reader::new(Path::new("/h"));
        for _ in 0..100 {
            assert_eq!(reader.push(&[b'x'; 64 << 10]), []);
            assert!(reader.partial.len() <= MOST_LINE);
        }
        assert_eq!(reader.push(b"\n\n"), [Message::Beat]);
    }

    proptest! {
        #[test]
        fn pieces_say_what_the_whole_says(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 1usize..20) {
            let whole = read(&bytes);
            let mut reader = Reader::new(Path::new("/h"));
            let pieces: Vec<_> = bytes.chunks(cut).flat_map(|piece| reader.push(piece)).collect();
            prop_assert_eq!(whole, pieces);
        }
    }
}
