//! What the house tells people: the log, the access line of each request, and the metrics.
//!
//! Handles are passed in, there are no globals but `tracing`'s dispatcher. Nothing here ever sees a body or a
//! secret: records hold names, numbers and our own codes.

pub mod access;
pub mod clock;
mod event;
pub mod log;
pub mod metrics;
pub mod status;

pub use access::{Access, Ending};
pub use event::List;
pub use log::Sink;
pub use metrics::{IntegrationMetrics, Metrics};
pub use status::Status;
