//! The binary: hands the command line to `cli` and chooses the exit code.
fn main() {}
