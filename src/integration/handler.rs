//! A handler as an integration's destination: the crew that answers, and what its workers are told.

use std::fmt;
use std::sync::{Arc, LazyLock};

use http::Uri;
use http::header::AUTHORIZATION;

use super::{HandlersDoor, Workshop};
use crate::config::valid::{self, Authorization};
use crate::tls;
use crate::workers::{self, Crew, Spec, Workers};

/// What a worker is asked at; its socket is known, and the host in it is not looked at.
pub(super) static URL: LazyLock<Uri> =
    LazyLock::new(|| Uri::from_static("http://handler/v1/chat/completions"));

/// A worker trusts the length of what we send it: the client's was checked, and our own edits make it longer.
const MAX_BODY: usize = 1 << 30;

/// What runs handlers.
pub struct Stable {
    /// Their workers.
    pub workers: Workers,
    /// Where handlers send their requests with `handlers.egress`.
    pub door: Option<Arc<HandlersDoor>>,
}

impl fmt::Debug for Stable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stable").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// The crew of an integration that has a handler; it begins to start. None is made where nothing may run.
///
/// # Errors
///
/// What is wrong in the world, with the remedy.
pub(super) fn crew(
    settings: &valid::Integration,
    workshop: &Workshop,
) -> Result<Option<(Arc<Crew>, Spec)>, String> {
    let Some(handler) = &settings.handler else { return Ok(None) };
    if let Some(why) = misplaced(handler).first() {
        return Err(format!("custom_llm_config: {why}"));
    }
    let Some(stable) = &workshop.stable else { return Ok(None) };
    let spec = spec(settings, handler, stable)?;
    let crew = stable.workers.crew(settings.name.as_str(), spec.clone())?;
    Ok(Some((crew, spec)))
}

/// What keeps a handler from being loaded before any of it is run: all of it, each with the remedy.
pub fn misplaced(handler: &valid::Handler) -> Vec<String> {
    let mut wrong = Vec::new();
    if !handler.common.enabled {
        let help = "set `enabled = true` in [handlers] or GALILEO_CUSTOM_LLMS_ENABLED=true";
        wrong.push(format!("handlers are not enabled: {help}"));
    }
    wrong.extend(workers::check_file(&handler.common.directory, &handler.file_name).err());
    wrong
}

/// What the workers of an integration's handler are to be.
///
/// # Errors
///
/// What is wrong in the world, with the remedy.
fn spec(settings: &valid::Integration, handler: &valid::Handler, stable: &Stable) -> Result<Spec, String> {
    let common = &*handler.common;
    let name = settings.name.as_str();
    let api_base = match (&stable.door, common.egress) {
        (_, false) => settings.endpoint.to_string(),
        (Some(door), true) => door.base(name)?,
        (None, true) => {
            return Err("handlers.egress was switched on while Outrider ran: restart it".to_owned());
        }
    };
    let hidden = common.egress.then(|| api_base.rsplit('/').next().unwrap_or_default().into());
    let ca_bundle = if common.egress { None } else { tls::bundle(&settings.tls)? };
    let (key_header, key_prefix) = if common.egress { (None, None) } else { key(&settings.authorization) };
    Ok(Spec {
        directory: common.directory.clone(),
        file_name: handler.file_name.clone(),
        class_name: handler.class_name.clone(),
        init_kwargs: handler.init_kwargs.clone(),
        call_style: handler.call_style,
        api_base: Some(api_base.trim_end_matches('/').to_owned()),
        key_header,
        key_prefix,
        sync_threads: common.sync_threads,
        max_body: MAX_BODY,
        python: common.python.clone(),
        environment: common.environment.clone(),
        ca_bundle: ca_bundle.map(Into::into),
        hidden,
        workers: common.workers,
        start_timeout: common.start_timeout,
        start_wait: common.start_wait,
        request_timeout: common.request_timeout,
        memory: common.memory,
        max_requests: common.max_requests,
        max_in_flight: common.max_in_flight,
        queue_timeout: settings.limits.queue_timeout,
        drain_timeout: common.drain_timeout,
    })
}

/// The header that becomes `api_key`, and what is not part of the key in it.
fn key(authorization: &Authorization) -> (Option<String>, Option<String>) {
    match authorization {
        Authorization::ApiKey { header, .. } => (Some(header.to_string()), None),
        Authorization::OAuth2(oauth2) => (Some(oauth2.header.to_string()), Some(oauth2.prefix.clone())),
        Authorization::Gcp(_) => (Some(AUTHORIZATION.to_string()), Some("Bearer ".to_owned())),
        Authorization::None | Authorization::SigV4(_) | Authorization::Later(_) => (None, None),
    }
}
