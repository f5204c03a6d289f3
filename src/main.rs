//! The binary: hands the command line to `cli` and turns how it ended into the exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A busy proxy holds the memory of dozens of requests at once, and gives it back in another order than it took it: see
/// `docs/performance.md` for what that costs with the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(outrider::cli::run(std::env::args_os()) as u8)
}
