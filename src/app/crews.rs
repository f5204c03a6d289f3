//! The metrics of handlers that are read off at each scrape: their workers by state, and what became of those before.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::collect::{gauge, name, one};
use crate::integration::Entry;
use crate::workers::{CrewStatus, WorkerState};

/// A number of a crew.
type Read = fn(&CrewStatus) -> u64;

const GAUGES: [(&str, &str, Read); 4] = [
    ("handler_in_flight", "Calls that workers are at", |crew| crew.in_flight as u64),
    ("handler_waiting", "Requests that wait for a worker", |crew| crew.waiting as u64),
    ("handler_generation", "Which generation of the handler's code serves", |crew| crew.generation),
    ("handler_memory_bytes", "Private memory of the handler's workers", |crew| {
        crew.workers.iter().map(|worker| worker.memory).sum()
    }),
];

/// Nothing where there are no handlers.
pub(super) fn encode(entries: &[Arc<Entry>], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let status = |entry: &Entry| Some(entry.state.as_ref().ok()?.crew.as_ref()?.status());
    let crews: Vec<(&str, CrewStatus)> =
        entries.iter().filter_map(|entry| Some((name(entry), status(entry)?))).collect();
    if crews.is_empty() {
        return Ok(());
    }
    let mut workers = gauge(to, "handler_workers", "Worker processes of handlers, by state")?;
    for (name, crew) in &crews {
        for (state, word) in WorkerState::ALL {
            let count = crew.workers.iter().filter(|worker| worker.state == state).count();
            one(&mut workers, &[("integration", name), ("state", word)], count as u64)?;
        }
    }
    for (metric, help, read) in GAUGES {
        let mut to = gauge(to, metric, help)?;
        for (name, crew) in &crews {
            one(&mut to, &[("integration", name)], read(crew))?;
        }
    }
    let help = "Workers that were replaced or ended, by cause";
    let mut restarts = to.encode_descriptor("handler_restarts", help, None, MetricType::Counter)?;
    for (name, crew) in &crews {
        for (cause, count) in crew.restarts {
            let labels = [("integration", *name), ("cause", cause)];
            ConstCounter::new(count).encode(restarts.encode_family(&labels)?)?;
        }
    }
    let mut calls = to.encode_descriptor("handler_calls", "Calls of handlers", None, MetricType::Counter)?;
    for (name, crew) in &crews {
        ConstCounter::new(crew.calls).encode(calls.encode_family(&[("integration", *name)])?)?;
    }
    Ok(())
}
