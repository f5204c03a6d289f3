//! What a right configuration becomes.
