//! Settings: from files and environment to checked types, with every mistake reported at once.
//!
//! `source` reads, `raw` mirrors what a user may write, `galileo` turns Galileo's JSON into the same shape, `valid`
//! holds what the rest of the house sees, and `problem` is how a mistake is shown.

pub mod valid;
