//! The private directory of this process: the workers' script and sockets. What dead processes have left is taken away.

use std::fs::{self, File, Permissions, TryLockError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How its name begins.
const PREFIX: &str = "outrider-run-";
/// In it; held by a lock for as long as the process lives.
const LOCK: &str = "lock";
/// What a Unix socket's path may have, its last zero left out.
const LONGEST_PATH: usize = 107;
/// The longest name of a socket in it.
const LONGEST_NAME: &str = "/w18446744073709551615.sock";
/// Connections that may wait to be accepted: more than a worker may have in flight.
const BACKLOG: i32 = 1024;

/// A directory that nobody else may look into. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct RunDir {
    dir: tempfile::TempDir,
    script: PathBuf,
    /// Tells others that its owner lives.
    _lock: File,
}

/// A socket that a worker serves. Dropped, its file is removed.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
    dir: Arc<RunDir>,
}

impl RunDir {
    /// Makes one below `base`, or below `/tmp` if sockets below `base` would have too long a path, and writes `script`
    /// into it. Blocks.
    pub(super) fn make(base: &Path, script: &str) -> Result<Self, String> {
        let fits =
            |base: &Path| base.as_os_str().len() + 1 + PREFIX.len() + 6 + LONGEST_NAME.len() <= LONGEST_PATH;
        let base = if fits(base) { base } else { Path::new("/tmp") };
        sweep(base);
        let says = |error: io::Error| {
            format!(
                "no private directory for handlers' sockets could be made in {}: {error} (TMPDIR)",
                base.display()
            )
        };
        let only_us = Permissions::from_mode(0o700);
        let dir =
            tempfile::Builder::new().prefix(PREFIX).permissions(only_us).tempdir_in(base).map_err(says)?;
        let lock = lock(dir.path()).map_err(says)?;
        let script_path = dir.path().join("worker.py");
        write(&script_path, script).map_err(says)?;
        Ok(Self { dir, script: script_path, _lock: lock })
    }

    /// Takes it away with all that is in it, now. Blocks.
    pub(super) fn remove(&self) {
        // What cannot be removed is left to the next start.
        let _ = fs::remove_dir_all(self.dir.path());
    }

    /// Writes `text` into it, once for each text; where it is. Blocks.
    fn keep(&self, text: &str) -> io::Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let path = self.dir.path().join(format!("{:016x}.pem", hasher.finish()));
        if !path.exists() {
            write(&path, text)?;
        }
        Ok(path)
    }

    /// The script that workers run.
    pub(super) fn script(&self) -> &Path {
        &self.script
    }
}

impl Door {
    /// A socket in `dir`, already listening.
    pub(super) fn open(dir: &Arc<RunDir>, id: u64) -> io::Result<Self> {
        let path = dir.dir.path().join(format!("w{id}.sock"));
        let listener = UnixListener::bind(&path)?;
        let door = Self { listener, path, dir: Arc::clone(dir) };
        fs::set_permissions(&door.path, Permissions::from_mode(0o600))?;
        rustix::net::listen(&door.listener, BACKLOG)?;
        Ok(door)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes authorities beside it, for the worker that serves it; where they are.
    pub(super) fn keep(&self, text: &str) -> io::Result<PathBuf> {
        self.dir.keep(text)
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The directory may be gone already, and is removed with all that is in it.
        let _ = fs::remove_file(&self.path);
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// The lock is there under its name only once it is held: else a sweep could take it.
fn lock(dir: &Path) -> io::Result<File> {
    let early = dir.join("lock.new");
    let lock = File::options().write(true).create_new(true).mode(0o600).open(&early)?;
    lock.try_lock().map_err(io::Error::from)?;
    fs::rename(early, dir.join(LOCK))?;
    Ok(lock)
}

/// Removes the directories in `base` whose owner was one of us and has died.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    let us = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && found.uid() == us);
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !is_ours {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(path.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => match fs::remove_dir_all(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "what a dead process had left was removed"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "what a dead process left stays")
                }
            },
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_is_private_holds_the_script_and_goes_with_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let dir = Arc::new(RunDir::make(base.path(), "print()").unwrap());
        let at = dir.dir.path().to_owned();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&at), mode(dir.script())), (0o700, 0o600));
        assert_eq!(fs::read_to_string(dir.script()).unwrap(), "print()");
        let door = Door::open(&dir, u64::MAX).unwrap();
        assert_eq!(mode(door.path()), 0o600);
        UnixStream::connect(door.path()).unwrap();
        drop(dir);
        assert!(at.exists(), "the door is still open");
        drop(door);
        assert!(!at.exists());
    }

    #[test]
    fn what_a_dead_owner_left_is_removed_and_what_lives_or_is_strange_is_not() {
        let base = tempfile::tempdir().unwrap();
        let living = RunDir::make(base.path(), "x").unwrap();
        let dead = RunDir::make(base.path(), "x").unwrap();
        let gone = dead.dir.path().to_owned();
        // Killed: the lock is lost, and the directory stays.
        let RunDir { dir, _lock: lock, .. } = dead;
        let _ = dir.keep();
        lock.unlock().unwrap();
        let strange = base.path().join("outrider-run-other");
        fs::create_dir(&strange).unwrap();
        let link = base.path().join("outrider-run-link");
        std::os::unix::fs::symlink(&gone, &link).unwrap();
        let next = RunDir::make(base.path(), "x").unwrap();
        assert!(!gone.exists());
        assert!(living.dir.path().exists() && next.dir.path().exists() && strange.exists());
        assert!(fs::symlink_metadata(link).is_ok());
    }

    #[test]
    fn a_base_that_is_too_long_for_sockets_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(90));
        fs::create_dir(&deep).unwrap();
        let dir = RunDir::make(&deep, "x").unwrap();
        assert!(dir.dir.path().starts_with("/tmp") && !dir.dir.path().starts_with(&deep));
        let missing = RunDir::make(Path::new("/none"), "x").unwrap_err();
        assert!(missing.contains("/none") && missing.contains("TMPDIR"), "{missing}");
    }
}
