//! Whether what the configuration names can be reached: each endpoint and token endpoint is connected to as the serving
//! code would do it, proxy and TLS included, and no request is sent.

use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::config::Environment;
use crate::egress::{Egress, Met, MetTls, Route, SendError};
use crate::integration::Entry;
use crate::observe::clock;
use crate::tls;

/// What is near its end is told to be, so many days before.
const SOON: u64 = 30;

/// One place that was tried, or is not ours to try.
#[derive(Debug)]
pub(super) struct Reached {
    integration: String,
    what: &'static str,
    route: Route,
    /// `None`: a handler connects there by itself.
    outcome: Option<Result<Met, SendError>>,
}

impl Reached {
    pub(super) fn is_fine(&self) -> bool {
        !matches!(self.outcome, Some(Err(_)))
    }

    pub(super) fn to_json(&self) -> Value {
        let met = self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok());
        let error = self.outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
        let tls = |tls: &MetTls| {
            json!({
                "version": tls.version,
                "http2": tls.http2,
                "certificate_ends": tls.certificate_ends.map(tls::date),
            })
        };
        json!({
            "integration": self.integration,
            "what": self.what,
            "host": self.route.to,
            "proxy": self.route.proxy.as_ref().map(|proxy| &proxy.url),
            "tried": self.outcome.is_some(),
            "address": met.and_then(|met| met.address).map(|address| address.to_string()),
            "tls": met.and_then(|met| met.tls.as_ref()).map(tls),
            "step": error.map(step),
            "error": error.map(ToString::to_string),
        })
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { integration, what, route, outcome } = self;
        write!(f, "{integration:24} {what} {}: ", route.to)?;
        match outcome {
            None => f.write_str("not tried: the handler connects there by itself"),
            Some(Err(why)) => write!(f, "cannot be reached ({}): {why}", step(why)),
            Some(Ok(met)) => {
                f.write_str("connected")?;
                match &route.proxy {
                    Some(proxy) if proxy.forwards => {
                        return write!(
                            f,
                            " to the proxy {}, which passes requests on: whether it finds the host shows with a request",
                            proxy.url
                        );
                    }
                    Some(proxy) => write!(f, " through the proxy {}", proxy.url)?,
                    None => met.address.iter().try_for_each(|address| write!(f, " to {address}"))?,
                }
                met.tls.iter().try_for_each(|tls| f.write_str(&agreed(tls)))
            }
        }
    }
}

/// At which step of connecting it was.
fn step(error: &SendError) -> &'static str {
    match error {
        SendError::Resolve(_) => "DNS",
        SendError::Tls(_) | SendError::Garbled(_) => "TLS",
        SendError::Proxy(_) | SendError::ProxyAuth(_) => "proxy",
        SendError::ConnectTimeout(_) | SendError::FirstByteTimeout(_) => "timeout",
        SendError::Connect(_) | SendError::Closed(_) => "connection",
    }
}

/// What a handshake came to.
fn agreed(tls: &MetTls) -> String {
    let http2 = if tls.http2 { ", HTTP/2" } else { "" };
    let ends = tls.certificate_ends.map_or_else(String::new, |end| {
        let days = end.saturating_sub(clock::unix_seconds()) / 86_400;
        let soon = if days < SOON { format!(", in {days} days") } else { String::new() };
        format!("; its certificate ends on {}{soon}", tls::date(end))
    });
    format!(" by TLS {}{http2}{ends}", tls.version)
}

/// Tries the endpoint and the token endpoints of each integration that could be built, all at once.
///
/// # Errors
///
/// This process cannot run anything.
pub(super) fn reach(entries: &[Arc<Entry>]) -> Result<Vec<Reached>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let reached = runtime.block_on(join_all(entries.iter().flat_map(|entry| places(entry))));
    // A name that is still being looked up must not hold the end up.
    runtime.shutdown_background();
    Ok(reached)
}

/// Galileo's runner calls us on 127.0.0.1: a proxy in its environment would catch that. What is set here is probably
/// set there.
pub(super) fn proxy_hint(env: &Environment) -> Option<String> {
    let (name, _) = env.first(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?;
    let spared = env.first(&["NO_PROXY", "no_proxy"]).map_or("", |(_, list)| list);
    let spares = |host: &str| spared.split([',', ' ']).any(|entry| entry == host || entry == "*");
    (!spares("127.0.0.1")).then(|| {
        format!("{name} is set: a runner with it sends calls for 127.0.0.1 to the proxy unless NO_PROXY=127.0.0.1,localhost is set too")
    })
}

/// Everywhere that requests of `entry` lead to.
fn places(entry: &Entry) -> impl Iterator<Item = impl Future<Output = Reached>> {
    let built = entry.state.as_ref().ok();
    built.into_iter().flat_map(move |integration| {
        let is_ours = entry.settings.handler.as_ref().is_none_or(|handler| handler.common.egress);
        let stops = integration.authorizer.stops().iter().map(|stop| ("token endpoint", stop, true));
        let all = std::iter::once(("endpoint", &integration.egress, is_ours)).chain(stops);
        all.map(move |(what, way, is_ours)| place(entry.settings.name.to_string(), what, way, is_ours))
    })
}

async fn place(integration: String, what: &'static str, way: &Egress, is_ours: bool) -> Reached {
    let outcome = if is_ours { Some(way.reach().await) } else { None };
    Reached { integration, what, route: way.route(), outcome }
}
