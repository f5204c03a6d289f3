//! Cargo's build script: has the linker lay the code that a request runs side by side (`journey.ld`), in the profiles that
//! are for use and for measuring.
//!
//! GNU's linker and LLVM's read such a script and keep their own layout for the rest. Where another one is asked for, or
//! the system is not Linux, the binary is laid out as that linker likes: slower when it is cold, otherwise the same.

use std::env;

const SCRIPT: &str = ".cargo/journey.ld";

/// Linkers that know no such scripts.
const OTHERS: [&str; 3] = ["mold", "wild", "gold"];

#[expect(clippy::disallowed_methods, reason = "that is how Cargo tells a build script what it builds")]
fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let told = |name| env::var(name).unwrap_or_default();
    // The last is how `mold -run` puts itself in another linker's place.
    let asked = ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_LINKER", "LD_PRELOAD"].map(told).join(" ");
    let is_for_use = told("PROFILE") == "release" && told("CARGO_CFG_TARGET_OS") == "linux";
    if is_for_use && !OTHERS.iter().any(|linker| asked.contains(linker)) {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/{SCRIPT}", told("CARGO_MANIFEST_DIR"));
    }
}
