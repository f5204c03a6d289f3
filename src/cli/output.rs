//! What a command prints before it ends.

use std::io::{self, Write as _};

use super::Exit;

/// Prints `page` on stdout and `notes` on stderr; how the command ends that was to end in `exit`.
///
/// A page that is cut short by a full disk must not pass for whole. A reader that has seen enough, such as `head`, is no
/// failure.
pub(super) fn print(exit: Exit, page: &str, notes: &str) -> Exit {
    let written = {
        let mut stdout = io::stdout().lock();
        stdout.write_all(page.as_bytes()).and_then(|()| stdout.flush())
    };
    let mut stderr = io::stderr().lock();
    // There is nobody left to tell if stderr is gone.
    let _ = stderr.write_all(notes.as_bytes());
    match written {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr, "error: the output could not be written: {why}");
            if exit == Exit::Done { Exit::Failed } else { exit }
        }
        _ => exit,
    }
}
