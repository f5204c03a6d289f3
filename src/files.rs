//! Files as they were at a moment: whether one has changed since, by what is in it.
//!
//! What counts is the content: a file that was touched has not changed, and one that was replaced with its old times
//! (`cp -p`, Kubernetes' `..data` link) has. Hashes are compared in this process alone; nothing of a file is kept.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// More of a file than this is not looked at.
const MOST: u64 = 16 << 20;
/// Times of files are this coarse at worst: a younger file may change once more and keep its times.
const COARSE: i64 = 2;
/// Each so many looks every file is read, whatever its times say: not all file systems keep them.
const READ_ALL_EVERY: u64 = 12;

/// What a file held, or that it could not be read. A directory is what its `*.json` are: their names and contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(Option<u64>);

/// Files by path.
pub type Prints = BTreeMap<PathBuf, Print>;

/// What is at `path` now. Blocks: it reads the file.
pub fn print(path: &Path) -> Print {
    Eye::default().one(path)
}

/// `path` as messages may show it: as far as it exists, then `…`. Somebody may have written a secret where its file's
/// path belongs, and that exists nowhere. Blocks: it looks.
pub fn shown(path: &Path) -> String {
    match path.ancestors().find(|part| fs::symlink_metadata(part).is_ok()) {
        Some(all) if all == path => all.display().to_string(),
        Some(part) => part.join("…").display().to_string(),
        None => "…".to_owned(),
    }
}

/// When the file at `path` was written, in seconds since the epoch.
pub fn modified(path: &Path) -> Option<u64> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    modified.duration_since(UNIX_EPOCH).ok().map(|age| age.as_secs())
}

/// Whether something that is neither a file nor a directory is at `path`, or where a link there leads.
pub fn is_no_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Refuses a pipe that has a name, for whose writer one might wait for ever. One that was opened for us (`/dev/stdin`, a
/// shell's `<(…)`) has none, or is named by its number.
pub fn check_pipe(path: &Path) -> io::Result<()> {
    let is_pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    let is_opened = || path.starts_with("/dev") || path.starts_with("/proc") || path.canonicalize().is_err();
    if is_pipe && !is_opened() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, and must be a file"));
    }
    Ok(())
}

/// Looks at the same files again and again, and reads only those whose times have moved.
#[derive(Debug, Default)]
pub struct Eye {
    seen: HashMap<PathBuf, (Stamp, Print)>,
    looks: u64,
}

/// What a change of a file's content changes too: its change time cannot be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Eye {
    /// What is at `paths` now. Blocks.
    pub fn look(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Prints {
        self.looks += 1;
        if self.looks.is_multiple_of(READ_ALL_EVERY) {
            self.seen.clear();
        }
        paths.into_iter().map(|path| (path.clone(), self.one(&path))).collect()
    }

    fn one(&mut self, path: &Path) -> Print {
        let Ok(found) = fs::metadata(path) else {
            self.seen.remove(path);
            return Print(None);
        };
        if found.is_dir() {
            return self.directory(path);
        }
        // A pipe or a device would block or never end.
        if !found.is_file() {
            return Print(None);
        }
        let stamp = Stamp::of(&found);
        if let Some((_, print)) = self.seen.get(path).filter(|(seen, _)| *seen == stamp) {
            return *print;
        }
        let print = Print(hash(path));
        if stamp.is_settled() {
            self.seen.insert(path.to_owned(), (stamp, print));
        }
        print
    }

    fn directory(&mut self, path: &Path) -> Print {
        let Ok(entries) = fs::read_dir(path) else { return Print(None) };
        let is_definition = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".json") && !name.starts_with('.')
        };
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).filter(is_definition).collect();
        paths.sort();
        let mut hasher = DefaultHasher::new();
        for path in paths.into_iter().filter(|path| !path.is_dir()) {
            self.one(&path).0.hash(&mut hasher);
            path.hash(&mut hasher);
        }
        Print(Some(hasher.finish()))
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether a later change would show.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.changed.0 < now.saturating_sub(COARSE) && self.modified.0 < now.saturating_sub(COARSE)
    }
}

fn hash(path: &Path) -> Option<u64> {
    let mut file = File::open(path).ok()?.take(MOST);
    let (mut hasher, mut block) = (DefaultHasher::new(), [0; 8 << 10]);
    loop {
        match file.read(&mut block) {
            Ok(0) => return Some(hasher.finish()),
            Ok(length) => hasher.write(&block[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// An I/O error without `(os error 2)`.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_file_has_changed_if_its_content_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut eye = Eye::default();
        let mut look = || eye.look([path.clone()])[&path];
        let absent = look();
        fs::write(&path, "one").unwrap();
        let one = look();
        assert_ne!(one, absent);
        fs::write(&path, "one").unwrap();
        assert_eq!(look(), one, "it was only written again");
        fs::write(&path, "two").unwrap();
        assert_ne!(look(), one);
        fs::remove_file(&path).unwrap();
        assert_eq!(look(), absent);
    }

    #[test]
    fn a_replacement_with_the_old_times_and_size_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("key"), dir.path().join("next"));
        let old = SystemTime::now() - std::time::Duration::from_secs(3600);
        let write = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        };
        let mut eye = Eye::default();
        write(&path, "one");
        let one = eye.look([path.clone()]);
        write(&next, "two");
        fs::rename(&next, &path).unwrap();
        let two = eye.look([path.clone()]);
        assert_ne!(one, two);
        write(&path, "six");
        assert_ne!(two, eye.look([path]), "written in place");
    }

    #[test]
    fn a_file_behind_kubernetes_links_changes_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (folder, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("key"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let mut eye = Eye::default();
        let one = eye.look([at("key")]);
        symlink("..2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        assert_ne!(one, eye.look([at("key")]));
    }

    #[test]
    fn a_directory_is_its_definitions_and_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let none = print(dir.path());
        fs::write(at(".hidden.json"), "{}").unwrap();
        fs::write(at("README"), "x").unwrap();
        assert_eq!(print(dir.path()), none);
        fs::write(at("a.json"), "{}").unwrap();
        let one = print(dir.path());
        assert_ne!(one, none);
        fs::write(at("a.json"), "{ }").unwrap();
        assert_ne!(print(dir.path()), one);
    }

    #[test]
    fn a_path_is_shown_as_far_as_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let (at, root) = (|name: &str| dir.path().join(name), dir.path().display());
        fs::write(at("key"), "x").unwrap();
        symlink("gone", at("link")).unwrap();
        for there in ["key", "link"] {
            assert_eq!(shown(&at(there)), format!("{root}/{there}"));
        }
        for missing in ["sk-1", "Bearer sk/1/2", "key/sk-1", "sk-1/../key", "{\"client_secret\": \"sk-1\"}"] {
            assert!(!shown(&at(missing)).contains("sk"), "{}", shown(&at(missing)));
        }
        assert_eq!(shown(&at("sk-1")), format!("{root}/…"));
        assert_eq!(shown(Path::new("/no-such/sk-1")), "/…");
        assert_eq!(shown(Path::new("no-such/sk-1")), "…");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        assert_eq!(print(Path::new("/dev/zero")), Print(None));
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink("pipe", at("link")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (name, is_one) in [("pipe", true), ("link", true), ("file", false), ("nothing", false)] {
            assert_eq!((is_no_file(&at(name)), check_pipe(&at(name)).is_err()), (is_one, is_one), "{name}");
        }
        let (opened, _writer) = io::pipe().unwrap();
        let opened = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened));
        symlink(&opened, at("opened")).unwrap();
        assert!(check_pipe(Path::new(&opened)).is_ok() && check_pipe(&at("opened")).is_ok());
    }
}
