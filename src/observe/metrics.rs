//! Metrics: counters and histograms as handles, resolved once for each integration and shown as OpenMetrics text.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::access::Ending;

/// Seconds; the last ones matter for answers that think for minutes.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0];
/// The statuses whose counters are found without a look-up.
const COMMON: [u16; 8] = [200, 400, 404, 429, 499, 502, 503, 504];

/// The top-level fields of OpenAI's chat request and Galileo's own: those that have a counter of their own where they are
/// lost. Any other name is a client's choice and counts as `other`.
const FIELDS: [&str; 46] = [
    "audio",
    "echo",
    "frequency_penalty",
    "function_call",
    "functions",
    "input",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "min_p",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_a",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
    "dimensions",
    "encoding_format",
];

/// The top-level field of OpenAI's or Galileo's at which `path` begins (`messages[2].content`); `None` for any other, which
/// is a name of the client's own.
pub fn known_field(path: &str) -> Option<&'static str> {
    let top = path.split(['.', '[']).next().unwrap_or(path);
    FIELDS.into_iter().find(|field| *field == top)
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<StatusLabels, Counter>,
    errors: Family<CodeLabels, Counter>,
    endings: Family<EndingLabels, Counter>,
    in_flight: Family<Labels, Gauge>,
    queued: Family<Labels, Gauge>,
    duration: Family<Labels, Histogram>,
    first_byte: Family<Labels, Histogram>,
    handler: Family<Labels, Histogram>,
    connects: Family<Labels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    lost: Family<FieldLabels, Counter>,
    rotations: Family<RotationLabels, Counter>,
    errands: Family<StatusLabels, Counter>,
    /// Connections that clients hold open.
    pub connections: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    integration: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabels {
    integration: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabels {
    integration: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndingLabels {
    integration: String,
    ending: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    integration: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RotationLabels {
    integration: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FieldLabels {
    integration: String,
    field: String,
}

impl Metrics {
    /// All metrics, registered and at zero.
    pub fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            errors: Family::default(),
            endings: Family::default(),
            in_flight: Family::default(),
            queued: Family::default(),
            duration: Family::new_with_constructor(histogram),
            first_byte: Family::new_with_constructor(histogram),
            handler: Family::new_with_constructor(histogram),
            connects: Family::default(),
            tokens: Family::default(),
            lost: Family::default(),
            rotations: Family::default(),
            errands: Family::default(),
            connections: Gauge::default(),
        };
        metrics.register_all();
        metrics
    }

    fn register_all(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = registry.sub_registry_with_prefix("outrider");
        registry.register("requests", "Requests answered, by the status sent", self.requests.clone());
        registry.register("errors", "Requests that failed, by our code", self.errors.clone());
        registry.register("endings", "Requests by how they ended", self.endings.clone());
        registry.register("in_flight", "Requests being answered", self.in_flight.clone());
        registry.register("queued", "Requests waiting for their turn", self.queued.clone());
        registry.register("request_seconds", "From head to last byte", self.duration.clone());
        registry.register("first_byte_seconds", "From head to the upstream's head", self.first_byte.clone());
        registry.register(
            "handler_seconds",
            "From a worker having been asked to the head of its answer",
            self.handler.clone(),
        );
        registry.register("upstream_connects", "New upstream connections", self.connects.clone());
        registry.register("tokens", "Tokens that answers reported", self.tokens.clone());
        registry.register(
            "lost_fields",
            "Fields that did not reach the provider as written",
            self.lost.clone(),
        );
        registry.register(
            "rotations",
            "Certificates, keys and secrets that changed in their files",
            self.rotations.clone(),
        );
        registry.register(
            "handler_upstream_requests",
            "Requests of handlers to their providers through us, by the status they were sent",
            self.errands.clone(),
        );
        registry.register(
            "client_connections",
            "Connections that clients hold open",
            self.connections.clone(),
        );
    }

    /// Adds further metrics under our prefix.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        add(registry.sub_registry_with_prefix("outrider"));
    }

    /// The handles of one integration; `""` stands for requests that never found one, and for the server's own files.
    pub fn integration(self: &Arc<Self>, name: &str) -> IntegrationMetrics {
        let labels = Labels { integration: name.to_owned() };
        let ending = |e: Ending| {
            self.endings.get_or_create_owned(&EndingLabels { integration: name.to_owned(), ending: e.word() })
        };
        let tokens =
            |kind| self.tokens.get_or_create_owned(&TokenLabels { integration: name.to_owned(), kind });
        for result in ["taken", "refused"] {
            let labels = RotationLabels { integration: name.to_owned(), result };
            drop(self.rotations.get_or_create(&labels));
        }
        IntegrationMetrics {
            all: Arc::clone(self),
            name: name.to_owned(),
            common: std::array::from_fn(|_| OnceLock::new()),
            endings: [ending(Ending::Complete), ending(Ending::Cancelled), ending(Ending::Failed)],
            in_flight: self.in_flight.get_or_create_owned(&labels),
            queued: self.queued.get_or_create_owned(&labels),
            duration: self.duration.get_or_create_owned(&labels),
            first_byte: self.first_byte.get_or_create_owned(&labels),
            handler: OnceLock::new(),
            connects: self.connects.get_or_create_owned(&labels),
            tokens: [tokens("prompt"), tokens("completion")],
        }
    }

    /// All metrics as OpenMetrics 1.0 text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The handles of one integration: a request adds to them without a look-up.
#[derive(Debug)]
pub struct IntegrationMetrics {
    all: Arc<Metrics>,
    name: String,
    common: [OnceLock<Counter>; COMMON.len()],
    endings: [Counter; 3],
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Requests waiting for their turn.
    pub queued: Gauge,
    duration: Histogram,
    first_byte: Histogram,
    /// Only where there is a handler.
    handler: OnceLock<Histogram>,
    /// New upstream connections.
    pub connects: Counter,
    tokens: [Counter; 2],
}

impl IntegrationMetrics {
    /// Counts one request that has ended.
    pub fn ended(&self, status: u16, code: Option<&str>, ending: Ending, total: Duration) {
        self.status(status);
        self.endings[ending as usize].inc();
        self.duration.observe(total.as_secs_f64());
        if let Some(code) = code {
            let labels = CodeLabels { integration: self.name.clone(), code: code.to_owned() };
            self.all.errors.get_or_create(&labels).inc();
        }
    }

    /// Notes how long the upstream took to answer.
    pub fn answered(&self, first_byte: Duration) {
        self.first_byte.observe(first_byte.as_secs_f64());
    }

    /// Notes how long a handler's worker took to begin its answer.
    pub fn handled(&self, took: Duration) {
        let find = || self.all.handler.get_or_create_owned(&Labels { integration: self.name.clone() });
        self.handler.get_or_init(find).observe(took.as_secs_f64());
    }

    /// Adds what an answer reported.
    pub fn used(&self, prompt: u64, completion: u64) {
        self.tokens[0].inc_by(prompt);
        self.tokens[1].inc_by(completion);
    }

    /// Counts a field that did not reach the provider as the client wrote it, under its top-level name if that is one
    /// of [`FIELDS`]: a client cannot fill the memory with names.
    pub fn lost(&self, field: &str) {
        let field = known_field(field).unwrap_or("other");
        self.all
            .lost
            .get_or_create(&FieldLabels { integration: self.name.clone(), field: field.to_owned() })
            .inc();
    }

    /// Counts files that changed: taken over, or refused so that the old ones stay.
    pub fn rotated(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        let labels = RotationLabels { integration: self.name.clone(), result };
        self.all.rotations.get_or_create(&labels).inc();
    }

    /// Counts a request of the integration's handler to its provider through us.
    pub fn ran_errand(&self, status: u16) {
        let labels = StatusLabels { integration: self.name.clone(), status };
        self.all.errands.get_or_create(&labels).inc();
    }

    fn status(&self, status: u16) {
        let find = || {
            let labels = StatusLabels { integration: self.name.clone(), status };
            self.all.requests.get_or_create_owned(&labels)
        };
        match COMMON.iter().position(|s| *s == status) {
            Some(at) => self.common[at].get_or_init(find).inc(),
            None => find().inc(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_its_integration_status_and_code() {
        let all = Arc::new(Metrics::new());
        let acme = all.integration("acme");
        acme.ended(200, None, Ending::Complete, Duration::from_millis(3));
        acme.ended(418, Some("odd"), Ending::Failed, Duration::from_millis(3));
        let text = all.text();
        for line in [
            "outrider_requests_total{integration=\"acme\",status=\"200\"} 1",
            "outrider_requests_total{integration=\"acme\",status=\"418\"} 1",
            "outrider_errors_total{integration=\"acme\",code=\"odd\"} 1",
            "outrider_endings_total{integration=\"acme\",ending=\"complete\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_clients_field_names_cannot_multiply_the_metrics() {
        let all = Arc::new(Metrics::new());
        let acme = all.integration("acme");
        acme.lost("response_format.json_schema.schema.minimum");
        for n in 0..100 {
            acme.lost(&format!("Junk-{n}"));
            acme.lost(&"x".repeat(n + 1));
        }
        let text = all.text();
        assert!(text.contains("field=\"response_format\"} 1"));
        assert_eq!(text.lines().filter(|l| l.contains("lost_fields_total{")).count(), 2, "{text}");
        assert!(text.contains("field=\"other\"} 200"));
    }
}
