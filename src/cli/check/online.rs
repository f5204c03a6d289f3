//! Whether what the configuration names can be reached: a name is resolved and a connection opened, nothing is sent.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use http::Uri;
use serde_json::{Value, json};

use crate::auth;
use crate::config::Environment;
use crate::config::valid::{Integration, Settings};

/// One host that was tried.
#[derive(Debug)]
pub(super) struct Reached {
    integration: String,
    what: &'static str,
    host: String,
    outcome: Result<SocketAddr, String>,
}

impl Reached {
    pub(super) fn is_fine(&self) -> bool {
        self.outcome.is_ok()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "integration": self.integration,
            "what": self.what,
            "host": self.host,
            "address": self.outcome.as_ref().ok().map(ToString::to_string),
            "error": self.outcome.as_ref().err(),
        })
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { integration, what, host, outcome } = self;
        match outcome {
            Ok(address) => write!(f, "{integration:24} {what} {host}: connected to {address}"),
            Err(why) => write!(f, "{integration:24} {what} {host}: cannot be reached: {why}"),
        }
    }
}

/// Tries the endpoint and the token endpoint of every integration, all at once.
pub(super) fn reach(settings: &Settings) -> Vec<Reached> {
    let targets = settings.integrations.values().flat_map(targets);
    let tries: Vec<_> = targets
        .map(|(integration, what, uri)| {
            let host = host_of(&uri);
            let (sent, limit) = (host.clone(), integration.limits.connect);
            (integration.name.to_string(), what, host, limit, try_in_thread(sent, limit))
        })
        .collect();
    tries
        .into_iter()
        .map(|(integration, what, host, limit, answer)| {
            // Resolving cannot be given a limit, so it is waited for as long as both may take.
            let outcome = answer
                .recv_timeout(limit * 2)
                .unwrap_or_else(|_| Err(format!("the name was not resolved within {limit:?}")));
            Reached { integration, what, host, outcome }
        })
        .collect()
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

fn targets(one: &Integration) -> impl Iterator<Item = (&Integration, &'static str, Uri)> {
    let tokens =
        auth::token_urls(&one.authorization).into_iter().map(move |url| (one, "token endpoint", url));
    std::iter::once((one, "endpoint", one.endpoint.clone())).chain(tokens)
}

/// `host:port`, as it is resolved.
fn host_of(uri: &Uri) -> String {
    let port = uri.port_u16().unwrap_or_else(|| if uri.scheme_str() == Some("https") { 443 } else { 80 });
    format!("{}:{port}", uri.host().unwrap_or_default())
}

fn try_in_thread(host: String, limit: Duration) -> mpsc::Receiver<Result<SocketAddr, String>> {
    let (send, answer) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more once the time is up.
        let _ = send.send(connect(&host, limit));
    });
    answer
}

fn connect(host: &str, limit: Duration) -> Result<SocketAddr, String> {
    let addresses: Vec<_> =
        host.to_socket_addrs().map_err(|e| format!("the name cannot be resolved: {e}"))?.collect();
    let mut last = "the name has no address".to_owned();
    let each = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    for address in addresses {
        match TcpStream::connect_timeout(&address, each.max(Duration::from_millis(1))) {
            Ok(_) => return Ok(address),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}
