//! What a generation was made of: its spec, the files that it read, and the packages of its interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::spec::Spec;
use crate::files::{self, Print};

/// How deep, and how many, files of the directory are looked at when it is not known which one was read.
const DEEP: usize = 4;
const MANY: usize = 256;

/// What a generation was made of, as it was then.
#[derive(Clone, Debug)]
pub(super) struct Made {
    spec: Arc<Spec>,
    /// `None` is a file that changed while it was read.
    files: BTreeMap<PathBuf, Option<Print>>,
    /// After a failure: all of the directory that could be to blame, be it missing from it.
    folder: Option<Folder>,
    packages: Option<(PathBuf, u64)>,
}

/// The Python files of a directory.
pub(super) type Folder = BTreeMap<PathBuf, Print>;

/// Files that a worker has read, as they are shortly after.
pub(super) type Seen = BTreeMap<PathBuf, Option<Print>>;

impl Made {
    /// Before anything is read. Blocks.
    pub(super) fn begin(spec: Arc<Spec>) -> Self {
        let file = spec.file();
        let print = files::print(&file);
        Self { spec, files: [(file, Some(print))].into(), folder: None, packages: None }
    }

    /// Adds files that a worker has read. A file that is known already stays as it was.
    pub(super) fn add(&mut self, seen: Seen) {
        for (path, print) in seen {
            self.files.entry(path).or_insert(print);
        }
    }

    /// It did not work, with what was `read` at the last try: any file of the directory may be what has to change.
    pub(super) fn failed(&mut self, folder: Folder, read: Seen) {
        self.files.extend(read);
        self.folder = Some(folder);
    }

    /// The interpreter has its packages below `prefix`, which were as `print` says.
    pub(super) fn with_packages(&mut self, prefix: &Path, print: u64) {
        self.packages.get_or_insert_with(|| (prefix.to_owned(), print));
    }

    /// Whether what could be made of `spec` now would be the same. Blocks.
    pub(super) fn is_of(&self, spec: &Spec) -> bool {
        *self.spec == *spec
            && are_same(&self.files)
            && self.folder.as_ref().is_none_or(|then| *then == folder(&spec.directory))
            && !self.has_other_packages()
    }

    /// Whether packages of the interpreter were installed or removed since. Blocks.
    pub(super) fn has_other_packages(&self) -> bool {
        self.packages.as_ref().is_some_and(|(prefix, then)| packages(prefix) != *then)
    }

    /// The files whose change would show.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let all: BTreeSet<&PathBuf> =
            self.files.keys().chain(self.folder.iter().flat_map(BTreeMap::keys)).collect();
        all.into_iter().cloned().collect()
    }
}

/// `paths` as they are now, if they have not changed after `since`, when they began to be read. Blocks.
pub(super) fn see(paths: BTreeSet<PathBuf>, since: SystemTime) -> Seen {
    let seen = |path: PathBuf| {
        let print = (!has_changed(&path, since)).then(|| files::print(&path));
        (path, print)
    };
    paths.into_iter().map(seen).collect()
}

/// Whether the files are as they were. Blocks.
pub(super) fn are_same(seen: &Seen) -> bool {
    seen.iter().all(|(path, print)| *print == Some(files::print(path)))
}

fn has_changed(path: &Path, since: SystemTime) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    let changed = Duration::new(
        u64::try_from(found.ctime()).unwrap_or_default(),
        u32::try_from(found.ctime_nsec()).unwrap_or_default(),
    );
    since.duration_since(UNIX_EPOCH).is_ok_and(|since| changed > since)
}

/// The Python files below `directory`, as they are. Blocks.
pub(super) fn folder(directory: &Path) -> Folder {
    let mut found = BTreeMap::new();
    walk(directory, DEEP, &mut found);
    found
}

fn walk(directory: &Path, deep: usize, found: &mut Folder) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // `..data` and its kind hold the same files again.
        if name.as_encoded_bytes().starts_with(b".") || found.len() >= MANY {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == "py") {
            let print = files::print(&path);
            found.insert(path, print);
        } else if deep > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != "__pycache__" {
            walk(&path, deep - 1, found);
        }
    }
}

/// Which packages are installed below an interpreter's `prefix`, in which versions. Blocks.
pub(super) fn packages(prefix: &Path) -> u64 {
    let list = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_lib = |path: &PathBuf| file_name(path).starts_with("lib");
    let libraries = list(prefix.to_owned()).chain(list(prefix.join("local"))).filter(is_lib);
    let pythons = libraries.flat_map(list).filter(|path| file_name(path).starts_with("python3"));
    let folders = pythons.flat_map(|python| [python.join("site-packages"), python.join("dist-packages")]);
    let is_package = |path: &PathBuf| path.extension().is_some_and(|e| e == "dist-info" || e == "egg-info");
    let all: BTreeSet<PathBuf> = folders.flat_map(list).filter(is_package).collect();
    let mut hasher = DefaultHasher::new();
    all.hash(&mut hasher);
    hasher.finish()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::testing::spec;

    #[test]
    fn it_is_the_same_until_spec_or_content_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("h.py"), "one").unwrap();
        fs::write(dir.path().join("helper.py"), "one").unwrap();
        let spec = spec(dir.path());
        let mut made = Made::begin(Arc::new(spec.clone()));
        made.add(see([dir.path().join("helper.py")].into(), SystemTime::now()));
        assert!(made.is_of(&spec));
        assert_eq!(made.paths(), [dir.path().join("h.py"), dir.path().join("helper.py")]);
        fs::write(dir.path().join("other.py"), "x").unwrap();
        assert!(made.is_of(&spec), "nobody reads it");
        assert!(!made.is_of(&Spec { class_name: "Other".into(), ..spec.clone() }));
        fs::write(dir.path().join("helper.py"), "two").unwrap();
        assert!(!made.is_of(&spec));
        fs::write(dir.path().join("helper.py"), "one").unwrap();
        assert!(made.is_of(&spec));
    }

    #[test]
    fn a_file_that_changed_while_it_was_read_counts_as_changed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("h.py"), "one").unwrap();
        let before = SystemTime::now() - Duration::from_secs(60);
        let mut made = Made::begin(Arc::new(spec(dir.path())));
        fs::write(dir.path().join("late.py"), "two").unwrap();
        made.add(see([dir.path().join("late.py")].into(), before));
        assert!(!made.is_of(&spec(dir.path())));
    }

    #[test]
    fn after_a_failure_any_file_of_the_directory_counts_even_one_that_was_missing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("h.py"), "import sub.helper").unwrap();
        fs::create_dir_all(dir.path().join("sub/__pycache__")).unwrap();
        let mut made = Made::begin(Arc::new(spec(dir.path())));
        made.failed(folder(dir.path()), Seen::new());
        fs::write(dir.path().join("README"), "x").unwrap();
        fs::write(dir.path().join("sub/__pycache__/x.py"), "x").unwrap();
        assert!(made.is_of(&spec(dir.path())));
        fs::write(dir.path().join("sub/helper.py"), "x").unwrap();
        assert!(!made.is_of(&spec(dir.path())));
    }

    #[test]
    fn packages_are_told_apart_by_name_and_version() {
        let prefix = tempfile::tempdir().unwrap();
        let site = prefix.path().join("lib/python3.11/site-packages");
        fs::create_dir_all(site.join("litellm")).unwrap();
        let none = packages(prefix.path());
        fs::create_dir(site.join("__pycache__")).unwrap();
        assert_eq!(packages(prefix.path()), none);
        let mut made = Made::begin(Arc::new(spec(prefix.path())));
        made.with_packages(prefix.path(), none);
        assert!(!made.has_other_packages());
        fs::create_dir(site.join("litellm-1.2.3.dist-info")).unwrap();
        assert!(made.has_other_packages());
    }
}
