//! No report ever holds a secret.
