//! The metrics that are read off at each scrape: the configuration, each integration's state, its token's life, its
//! certificates and secrets.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::crews;
use crate::auth::TokenStatus;
use crate::integration::Entry;
use crate::observe::{Status, clock};
use crate::proxy::House;
use crate::tls::Inbound;

/// Reads off the house.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) house: Weak<House>,
    pub(super) inbound: Option<Arc<Inbound>>,
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(house) = self.house.upgrade() else { return Ok(()) };
        let status = house.status.load();
        configuration(&status, &mut encoder)?;
        let registry = house.registry.load();
        integrations(registry.entries(), &status, &mut encoder)?;
        let own = self.inbound.as_ref().and_then(|inbound| inbound.expiry());
        certificates(registry.entries(), own, &mut encoder)?;
        tokens(registry.entries(), &mut encoder)?;
        crews::encode(registry.entries(), &mut encoder)
    }
}

fn configuration(status: &Status, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let last = status.last.as_ref().map_or(status.loaded_at, |last| last.at);
    let gauges = [
        ("config_generation", "Configurations taken since the start", status.generation),
        ("config_last_reload_successful", "Whether the last reload was taken", u64::from(status.is_good())),
        ("config_last_reload_timestamp_seconds", "When the last reload or the start was", last),
    ];
    for (name, help, value) in gauges {
        let to = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(to)?;
    }
    let mut to = to.encode_descriptor("config_reloads", "Reloads by result", None, MetricType::Counter)?;
    for (result, count) in [("taken", status.taken), ("refused", status.refused)] {
        ConstCounter::new(count).encode(to.encode_family(&[("result", result)])?)?;
    }
    Ok(())
}

fn integrations(entries: &[Arc<Entry>], status: &Status, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut ready = gauge(to, "integration_ready", "Whether the integration can serve")?;
    for entry in entries {
        one(&mut ready, &[("integration", name(entry))], u64::from(entry.serves()))?;
    }
    let help = "Whether new files or values of it cannot be used, so that the old ones are";
    let mut stale = gauge(to, "integration_stale", help)?;
    for entry in entries {
        one(&mut stale, &[("integration", name(entry))], u64::from(status.stale.contains_key(name(entry))))?;
    }
    let mut written =
        gauge(to, "secret_file_modified_timestamp_seconds", "When a secret in use was written")?;
    for entry in entries {
        for (key, at) in entry.files.secrets() {
            one(&mut written, &[("integration", name(entry)), ("key", key)], at)?;
        }
    }
    Ok(())
}

/// `own` is the end of the listeners' certificate, which belongs to no integration.
fn certificates(entries: &[Arc<Entry>], own: Option<u64>, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut ends = gauge(to, "cert_expiry_seconds", "When a certificate in use ends, as Unix time")?;
    for entry in entries {
        for (kind, at) in &entry.expiries {
            one(&mut ends, &[("integration", name(entry)), ("kind", kind)], *at)?;
        }
    }
    if let Some(at) = own {
        one(&mut ends, &[("integration", ""), ("kind", "server")], at)?;
    }
    Ok(())
}

/// A number of a token, given the present time.
type Read = fn(&TokenStatus, u64) -> Option<u64>;

const TOKEN_GAUGES: [(&str, &str, Read); 4] = [
    ("oauth2_token_live", "Whether there is a token that may be used", |token, _| {
        Some(u64::from(token.token_live))
    }),
    ("oauth2_token_fetched_timestamp_seconds", "When the token was asked for", |token, now| {
        token.token_age_seconds.map(|age| now.saturating_sub(age as u64))
    }),
    ("oauth2_token_expiry_timestamp_seconds", "When the token ends", |token, now| {
        token.token_ends_in_seconds.map(|left| now.saturating_add(left as u64))
    }),
    ("oauth2_token_waiting", "Requests that wait for a token", |token, _| {
        u64::try_from(token.token_waiting).ok()
    }),
];
const TOKEN_COUNTERS: [(&str, &str, Read); 2] = [
    ("oauth2_token_fetches", "Token requests that were made", |token, _| Some(token.token_fetches)),
    ("oauth2_token_failures", "Token requests that gave no token", |token, _| Some(token.token_failures)),
];

fn tokens(entries: &[Arc<Entry>], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let status = |entry: &Entry| entry.state.as_ref().ok()?.authorizer.status().token;
    let tokens: Vec<(&str, TokenStatus)> =
        entries.iter().filter_map(|entry| Some((name(entry), status(entry)?))).collect();
    let now = clock::unix_seconds();
    for (metric, help, read) in TOKEN_GAUGES {
        let mut to = gauge(to, metric, help)?;
        for (name, token) in &tokens {
            if let Some(value) = read(token, now) {
                one(&mut to, &[("integration", name)], value)?;
            }
        }
    }
    for (metric, help, read) in TOKEN_COUNTERS {
        let mut to = to.encode_descriptor(metric, help, None, MetricType::Counter)?;
        for (name, token) in &tokens {
            if let Some(value) = read(token, now) {
                ConstCounter::new(value).encode(to.encode_family(&[("integration", *name)])?)?;
            }
        }
    }
    Ok(())
}

pub(super) fn name(entry: &Entry) -> &str {
    entry.settings.name.as_str()
}

pub(super) fn gauge<'e>(
    to: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    to.encode_descriptor(name, help, None, MetricType::Gauge)
}

pub(super) fn one<const N: usize>(
    to: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> fmt::Result {
    ConstGauge::new(value).encode(to.encode_family(labels)?)
}
