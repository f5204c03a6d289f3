//! Endpoints that lead back to us: a request to one would be answered by asking for it again, until nothing is left.

use std::collections::BTreeMap;

use http::Uri;

use super::clear;
use super::{Integration, Listen};
use crate::config::places::At;
use crate::config::read::Reading;
use crate::names::IntegrationName;

/// Notes each integration of `all` whose endpoint is one of the addresses `listen` and leads back to it. One that leads to
/// another integration may stay.
pub(in crate::config) fn refuse(
    all: &BTreeMap<IntegrationName, Integration>,
    listen: &[Listen],
    r: &mut Reading<'_>,
) {
    for one in all.values() {
        let Some(address) = own_address(&one.endpoint, listen) else { continue };
        let Some(way) = way_back(one, all, listen) else { continue };
        let at = At::integration(one.name.as_str()).key("endpoint");
        let message = format!(
            "`{at}` leads to Outrider itself (`server.listen` is {address}): the integration would call itself{way}"
        );
        let name = &one.name;
        r.error(&at, message)
            .help(format!("set the provider's own URL: http://{address}/{name}/v1 is what clients call"));
    }
}

/// How requests to `one` come back to it, to be read after what it does; `None` where they do not.
fn way_back(
    one: &Integration,
    all: &BTreeMap<IntegrationName, Integration>,
    listen: &[Listen],
) -> Option<String> {
    let (mut here, mut by) = (one, Vec::new());
    loop {
        own_address(&here.endpoint, listen)?;
        let first = first_piece(here);
        match first.as_deref().and_then(|name| all.get(name)) {
            Some(next) if next.name == one.name => break,
            // A circle that `one` only leads into is told of those that are in it.
            Some(next) if by.contains(&&next.name) => return None,
            Some(next) => {
                by.push(&next.name);
                here = next;
            }
            // What a handler asks for is its own affair: it names a model of another integration.
            None if here.handler.is_some() => return None,
            None if by.is_empty() => break,
            None => return None,
        }
    }
    let by: Vec<_> = by.iter().map(|name| format!("`{name}`")).collect();
    Some(if by.is_empty() { String::new() } else { format!(" by way of {}", by.join(", ")) })
}

/// The first piece of the path that is called: an integration's name, if it is one.
fn first_piece(one: &Integration) -> Option<String> {
    let own = one.path.as_deref().unwrap_or_default();
    let path = format!("{}{own}", one.endpoint.path());
    let piece = path.split('/').find(|piece| !piece.is_empty())?;
    Some(percent_encoding::percent_decode_str(piece).decode_utf8_lossy().into_owned())
}

/// The one of `listen` that `endpoint` names.
fn own_address(endpoint: &Uri, listen: &[Listen]) -> Option<String> {
    let default = if endpoint.scheme_str() == Some("http") { 80 } else { 443 };
    let port = endpoint.port_u16().unwrap_or(default);
    let named = clear::address(endpoint.host()?);
    listen.iter().find_map(|listen| {
        let Listen::Tcp(own) = listen else { return None };
        let ip = own.ip();
        let is_reached = match named {
            Some(named) => {
                named == ip || ip.is_unspecified() && (named.is_loopback() || named.is_unspecified())
            }
            None => clear::is_here(endpoint) && (ip.is_loopback() || ip.is_unspecified()),
        };
        (own.port() == port && is_reached).then(|| own.to_string())
    })
}
