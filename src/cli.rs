//! (scaffold)

pub mod demo;
