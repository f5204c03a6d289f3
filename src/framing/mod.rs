//! Bytes to events and events to bytes, with no socket in sight.

pub mod sse;
