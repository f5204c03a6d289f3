//! `outrider schema`: the JSON Schema of the configuration's file, for editors.

use std::io::{self, Write};

use super::Exit;
use crate::config;

/// Prints it on stdout.
pub(super) fn run() -> Exit {
    let text = format!("{:#}\n", config::schema());
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Exit::Done,
        // A file cut short would be no JSON: whoever redirected it must know.
        Err(_) => Exit::Failed,
    }
}
