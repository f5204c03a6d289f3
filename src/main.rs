//! The binary: hands the command line to `cli` and turns how it ended into the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(outrider::cli::run(std::env::args_os()) as u8)
}
