//! How a process ended, in words.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::WaitStatus;
use tokio::sync::watch;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::workers) enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It never began.
    Refused(String),
    /// It is gone; nobody was told how.
    Unknown,
}

impl Ending {
    /// Waits for it.
    pub(in crate::workers) async fn of(ended: &mut watch::Receiver<Option<Self>>) -> Self {
        let told = ended.wait_for(Option::is_some).await;
        told.ok().and_then(|told| told.clone()).unwrap_or(Self::Unknown)
    }

    pub(super) fn of_child(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Unknown,
        }
    }

    pub(super) fn of_orphan(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => match meaning(*signal) {
                Some(meaning) => write!(f, "was ended by signal {signal} ({meaning})"),
                None => write!(f, "was ended by signal {signal}"),
            },
            Self::Refused(why) => write!(f, "could not be started: {why}"),
            Self::Unknown => f.write_str("is gone"),
        }
    }
}

/// Numbers as Linux has them on every machine that Outrider runs on.
fn meaning(signal: i32) -> Option<&'static str> {
    Some(match signal {
        2 => "SIGINT",
        4 => "SIGILL: illegal instruction",
        6 => "SIGABRT: abort",
        7 => "SIGBUS: bus error",
        8 => "SIGFPE: arithmetic error",
        9 => "SIGKILL: by the kernel for want of memory, or by someone",
        11 => "SIGSEGV: segmentation fault",
        15 => "SIGTERM",
        31 => "SIGSYS: forbidden system call",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_has_words_that_a_person_understands() {
        for (ending, words) in [
            (Ending::Exited(3), "exited with code 3"),
            (Ending::Signalled(11), "was ended by signal 11 (SIGSEGV: segmentation fault)"),
            (Ending::Signalled(64), "was ended by signal 64"),
            (Ending::Refused("fork: EAGAIN".to_owned()), "could not be started: fork: EAGAIN"),
        ] {
            assert_eq!(ending.to_string(), words);
        }
        assert_eq!(Ending::of_child(ExitStatus::from_raw(3 << 8)), Ending::Exited(3));
        assert_eq!(Ending::of_child(ExitStatus::from_raw(9)), Ending::Signalled(9));
    }
}
