//! The file of a Unix socket: it has its mode and group before anyone can connect, and is taken away with its listener.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::config::valid::UnixSockets;

/// A socket's file. Dropped, it is removed, unless another process has put its own in this place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    mark: (u64, u64),
}

/// Binds a socket at `path`. What a dead process has left there is replaced; a living one and other files are not.
pub(super) fn bind(path: &Path, manner: &UnixSockets) -> Result<(UnixListener, SocketFile), String> {
    let says = |what: &str, error: io::Error| format!("unix:{} {what}: {error}", path.display());
    remove_stale(path).map_err(|error| says("cannot be replaced", error))?;
    // Between bind and chmod a socket is open to whom the umask lets in: so that happens behind a closed door.
    let room = Private::beside(path).map_err(|error| says("cannot be made", error))?;
    let inside = room.0.join("s");
    let listener = UnixListener::bind(&inside).map_err(|error| says("cannot be listened on", error))?;
    listener.set_nonblocking(true).map_err(|error| says("cannot be used", error))?;
    if let Some(group) = manner.group {
        let what = format!("cannot be given to group {group} (server.unix_group); is this process in it?");
        chown(&inside, None, Some(group)).map_err(|error| says(&what, error))?;
    }
    fs::set_permissions(&inside, Permissions::from_mode(manner.mode))
        .map_err(|error| says("cannot be given its mode", error))?;
    // Last: who has given a file away may no longer change it.
    if let Some(owner) = manner.owner {
        let what = format!("cannot be given to user {owner} (server.unix_owner), which takes CAP_CHOWN");
        chown(&inside, Some(owner), None).map_err(|error| says(&what, error))?;
    }
    let file =
        SocketFile { path: path.to_owned(), mark: mark(&inside).map_err(|e| says("cannot be read", e))? };
    match publish(&inside, path) {
        Ok(()) => Ok((listener, file)),
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    "is taken: another process (another Outrider?) listens there, or the file is no socket"
                }
                _ => "cannot be made",
            };
            Err(says(why, error))
        }
    }
}

/// Gives it its name, unless that is taken.
fn publish(inside: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(inside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system has links.
        Err(_) if fs::symlink_metadata(path).is_err() => fs::rename(inside, path),
        linked => linked,
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let stale = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if stale { fs::remove_file(path) } else { Ok(()) }
}

fn mark(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    /// The listener must still be open: it keeps its inode from being another file's.
    fn drop(&mut self) {
        if mark(&self.path).is_ok_and(|found| found == self.mark) {
            // A folder that has become read-only keeps a file that the next start replaces.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A folder for us alone, removed with what is in it.
struct Private(PathBuf);

impl Private {
    /// Its name is short: the path of a socket may have about 100 bytes.
    fn beside(path: &Path) -> io::Result<Self> {
        let name = format!(".o{:06x}", fastrand::u32(..1 << 24));
        let folder = path.parent().unwrap_or_else(|| Path::new("")).join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What cannot be removed is an empty folder or a socket that nobody reaches.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: UnixSockets = UnixSockets { mode: 0o660, owner: None, group: None };

    #[test]
    fn a_socket_left_behind_is_replaced_but_a_live_one_and_a_plain_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        drop(UnixListener::bind(&path).unwrap());
        let live = bind(&path, &OURS).unwrap();
        assert!(bind(&path, &OURS).unwrap_err().contains("is taken"));
        assert!(UnixStream::connect(&path).is_ok());
        drop(live);
        fs::write(&path, "a file of theirs").unwrap();
        assert!(bind(&path, &OURS).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file of theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn it_has_the_mode_that_was_asked_for_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        for mode in [0o660, 0o600, 0o666] {
            let (_listener, _file) = bind(&path, &UnixSockets { mode, ..OURS }).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert!(!path.exists());
    }

    #[test]
    fn it_belongs_to_whom_it_was_given_before_anyone_can_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let us = fs::metadata(dir.path()).unwrap();
        let (_listener, _file) =
            bind(&path, &UnixSockets { owner: Some(us.uid()), group: Some(us.gid()), ..OURS }).unwrap();
        let socket = fs::metadata(&path).unwrap();
        assert_eq!((socket.uid(), socket.gid()), (us.uid(), us.gid()));
        // Only root gives files away; anyone else is told which key asks for it.
        let other = UnixSockets { owner: Some(us.uid() + 1), ..OURS };
        match bind(&dir.path().join("other.sock"), &other) {
            Ok(_bound) => assert_eq!(us.uid(), 0, "only root gives files away"),
            Err(why) => assert!(why.contains("server.unix_owner"), "{why}"),
        }
    }

    #[test]
    fn a_file_that_another_process_has_put_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let (listener, file) = bind(&path, &OURS).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(file);
        drop(listener);
        assert!(path.exists());
        drop(theirs);
    }
}
