//! `outrider schema`: the JSON Schema of the configuration's file, for editors.

use super::{Exit, output};
use crate::config;

/// Prints it on stdout.
pub(super) fn run() -> Exit {
    output::print(Exit::Done, &format!("{:#}\n", config::schema()), "")
}
