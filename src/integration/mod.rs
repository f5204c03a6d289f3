//! One integration assembled: dialect + authorizer + destination + headers + limits, and the registry that finds it.

mod door;
mod edit;
mod files;
mod handler;
mod headers;
mod media;
mod permit;
pub mod registry;
mod url;

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Uri};

use crate::auth::{Authorizer, Site, Tokens};
use crate::config::valid;
use crate::dialect::{self, Dialect};
use crate::egress::{Clients, Egress, EgressLimits};
use crate::observe::{IntegrationMetrics, Metrics};
use crate::openai::Envelope;
use crate::outbound::{Report, Unsigned};
use crate::tasks::Tasks;
use crate::tls;
use crate::workers::{Crew, CrewState, Spec};

pub use door::HandlersDoor;
pub use edit::Refused;
pub use files::Files;
pub use handler::{Stable, misplaced};
pub use media::TooMuch;
pub use permit::{Busy, Permit, SlotBook};
pub use registry::{Found, NotFound, Registry};

/// Everything that serves the requests of one integration. Shared by requests; never changed once built.
#[derive(Debug)]
pub struct Integration {
    settings: Arc<valid::Integration>,
    dialect: Arc<dyn Dialect>,
    /// Puts the right to enter on a request.
    pub authorizer: Authorizer,
    /// The way to the endpoint.
    pub egress: Egress,
    /// The workers that answer in the endpoint's stead, for a handler.
    pub crew: Option<Arc<Crew>>,
    /// What those workers must be that are handed what is put on its requests.
    hands: Option<Box<Spec>>,
    /// What a worker is handed instead of the right to enter, where its requests leave through us.
    handed: Option<Authorizer>,
    urls: url::Urls,
    headers: headers::Headers,
    permits: permit::Permits,
}

/// What integrations are built from: lives as long as the process, so that a reload keeps pools, tokens and slots.
#[derive(Debug)]
pub struct Workshop {
    /// Upstream connections, by TLS profile.
    pub clients: Arc<Clients>,
    /// Tokens, by credential.
    pub tokens: Tokens,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Slots, by integration.
    pub slots: SlotBook,
    /// What runs handlers; `None` where integrations are built to be looked at, and no code of a customer may run.
    pub stable: Option<Stable>,
}

impl Workshop {
    /// One for integrations that are only looked at.
    pub fn dry() -> Self {
        let tasks = Tasks::new();
        Self {
            clients: Arc::new(Clients::new(1, tasks.clone())),
            tokens: Tokens::new(tasks),
            metrics: Arc::new(Metrics::new()),
            slots: SlotBook::default(),
            stable: None,
        }
    }
}

/// One configured integration: ready, or failed by the world with the remedy in words.
#[derive(Debug)]
pub struct Entry {
    /// Its settings.
    pub settings: Arc<valid::Integration>,
    /// The integration, or what is wrong and what to do.
    pub state: Result<Integration, String>,
    /// The files that it was built from, as they were.
    pub files: Files,
    /// When client certificates end, in seconds since the epoch, each with whom it is shown to: `client` is the
    /// endpoint, `token_client` the token endpoint where it has its own.
    pub expiries: Vec<(&'static str, u64)>,
    /// Its metrics.
    pub metrics: IntegrationMetrics,
}

impl Entry {
    /// Builds `settings`. Never fails as a whole: what is wrong in the world becomes the entry's state.
    pub fn build(settings: valid::Integration, workshop: &Workshop) -> Self {
        let settings = Arc::new(settings);
        let metrics = workshop.metrics.integration(settings.name.as_str());
        // Before they are read: what changes in between is then seen as a change.
        let files = Files::of(&settings);
        let state = Integration::build(Arc::clone(&settings), workshop);
        let expiries = expiries(&settings);
        Self { settings, state, files, expiries, metrics }
    }
}

impl Entry {
    /// Why it cannot serve at present: what fails it, or its handler.
    pub fn trouble(&self) -> Option<String> {
        let integration = match &self.state {
            Ok(integration) => integration,
            Err(remedy) => return Some(remedy.clone()),
        };
        match integration.crew.as_ref()?.status().state {
            CrewState::Failed(why) => Some(why),
            CrewState::Starting | CrewState::Ready | CrewState::Stopping => None,
        }
    }

    /// Whether it can serve now: not while no process of its handler is there, be it for a moment or the hundredth time.
    pub fn serves(&self) -> bool {
        let is_there = |crew: &Arc<Crew>| crew.status().takes_calls();
        self.state.as_ref().is_ok_and(|integration| integration.crew.as_ref().is_none_or(is_there))
    }
}

/// What puts the right to enter on requests that say `host`; `limits` are those of the way to the endpoint.
fn authorizer(
    settings: &valid::Integration,
    workshop: &Workshop,
    host: &HeaderValue,
    limits: EgressLimits,
) -> Result<Authorizer, String> {
    // Longer than the limit of the whole token request, whose words name the right key.
    let limits = EgressLimits { first_byte: settings.limits.token.saturating_mul(2), ..limits };
    let (tls, limit) = (&settings.token_tls, settings.limits.token);
    let proxy = |url: &Uri| settings.token_routes.to(url);
    let way = |url: &Uri| workshop.clients.egress(url, tls, &proxy(url), &limits);
    let integration = settings.name.as_str();
    let site = Site { integration, host, tls, proxy: &proxy, limit, way: &way };
    workshop.tokens.authorizer(&settings.authorization, &site)
}

fn dialect(settings: &valid::Integration) -> Result<Arc<dyn Dialect>, String> {
    if settings.handler.is_some() {
        return Ok(dialect::handler());
    }
    dialect::build(dialect::Recipe {
        format: settings.format,
        api_version: settings.api_version.as_deref(),
        declared: settings.declared.as_ref(),
        name: Some(settings.name.as_str()),
    })
}

fn expiries(settings: &valid::Integration) -> Vec<(&'static str, u64)> {
    let has_own = settings.token_tls != settings.tls;
    let token = tls::expiry(&settings.token_tls).filter(|_| has_own).map(|at| ("token_client", at));
    tls::expiry(&settings.tls).map(|at| ("client", at)).into_iter().chain(token).collect()
}

impl Integration {
    fn build(settings: Arc<valid::Integration>, workshop: &Workshop) -> Result<Self, String> {
        if let Some(remedy) = settings.world.first() {
            return Err(remedy.clone());
        }
        let dialect = dialect(&settings)?;
        let limits = EgressLimits {
            connect: settings.limits.connect,
            first_byte: settings.limits.first_byte,
            pool_idle: settings.limits.pool_idle,
            max_connection_age: settings.limits.max_connection_age,
        };
        let egress = workshop.clients.egress(&settings.endpoint, &settings.tls, &settings.proxy, &limits)?;
        let authorizer = authorizer(&settings, workshop, egress.host(), limits)?;
        let (crew, hands) = handler::crew(&settings, workshop)?.unzip();
        let valid::Limits { max_concurrent, queue_timeout, .. } = settings.limits;
        let slots = workshop.slots.of(settings.name.as_str(), max_concurrent);
        let through_us = settings.handler.as_ref().is_some_and(|handler| handler.common.egress);
        Ok(Self {
            crew,
            hands: hands.map(Box::new),
            handed: through_us.then(Authorizer::none),
            urls: url::Urls::new(&settings, &*dialect),
            headers: headers::Headers::new(&settings),
            permits: permit::Permits::new(slots, max_concurrent, queue_timeout),
            settings,
            dialect,
            authorizer,
            egress,
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &valid::Integration {
        &self.settings
    }

    /// What puts the right to enter on a request that a client has asked for. It is the authorizer, but for a handler
    /// whose own requests leave through us: those are what gets it.
    pub fn entrance(&self) -> &Authorizer {
        self.handed.as_ref().unwrap_or(&self.authorizer)
    }

    /// Its handler's workers, and what those of them must be that a request of it may be handed to.
    pub fn station(&self) -> Option<(&Crew, &Spec)> {
        Some((self.crew.as_deref()?, self.hands.as_deref()?))
    }

    /// Begins a new generation of its handler's workers if the handler's files have changed. Blocks: it reads them.
    pub fn renew_handler(&self) {
        if let Some((crew, spec)) = self.station() {
            crew.renew(spec.clone());
        }
    }

    /// Its dialect.
    pub fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Has its `max_concurrent` hold from now on: it has taken the place of what was built before under its name, whose
    /// requests keep their slots.
    pub fn rule(&self) {
        self.permits.rule();
    }

    /// Waits for a slot, at most `queue_timeout`; the slot is free again when the permit is dropped.
    pub async fn permit(&self, metrics: &IntegrationMetrics) -> Result<Permit, Busy> {
        self.permits.acquire(metrics).await
    }

    /// Refuses a request with more or larger images and files than `multi_modal_config` allows.
    pub fn check_media(&self, request: &Envelope) -> Result<(), TooMuch> {
        media::check(&self.settings.media, request)
    }

    /// Makes the configured edits on the OpenAI body: model, supported parameters, defaults, rename, drop.
    pub fn edit(
        &self,
        request: &mut Envelope,
        model: &valid::Model,
        report: &mut Report,
    ) -> Result<(), Refused> {
        edit::apply(&self.settings, model, request, report)
    }

    /// Puts URL and headers on a prepared request for the integration's model at `model`. `client` are the headers
    /// that the client sent.
    pub fn dress(
        &self,
        unsigned: &mut Unsigned,
        model: usize,
        client: &HeaderMap,
        request: &Envelope,
    ) -> Result<(), Refused> {
        unsigned.uri = match self.settings.handler {
            Some(_) => handler::URL.clone(),
            None => self.urls.of(&unsigned.tail, model),
        };
        self.headers.put(&mut unsigned.headers, client, Some(request))
    }

    /// Likewise for a request that is relayed to `tail` with the client's own query and content type; `false` if they
    /// make no URL.
    pub fn dress_relay(
        &self,
        unsigned: &mut Unsigned,
        tail: &str,
        query: Option<&str>,
        client: &HeaderMap,
    ) -> Result<bool, Refused> {
        let Some(uri) = self.urls.relayed(tail, query) else { return Ok(false) };
        unsigned.uri = uri;
        let content_type = unsigned.headers.get(CONTENT_TYPE).cloned();
        self.headers.put(&mut unsigned.headers, client, None)?;
        if let Some(content_type) = content_type {
            unsigned.headers.insert(CONTENT_TYPE, content_type);
        }
        Ok(true)
    }
}
