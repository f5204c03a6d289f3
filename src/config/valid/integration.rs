//! One integration: its fields checked, each by itself and against the others.

use std::collections::BTreeMap;

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::authorization::Fields;
use super::server::Need;
use super::{
    Authorization, Edits, Handler, Handlers, Integration, Limits, MediaLimits, Model, Proxy, Routes,
    authorization, egress, headers, models,
};
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Pairs, Reading, Scalar, nearest};
use crate::dialect::declared::Step;
use crate::dialect::{self, Format};
use crate::names::IntegrationName;
use crate::tls::Profile;

/// What all integrations share.
pub(in crate::config) struct Common {
    pub(in crate::config) egress: egress::Egress,
    pub(in crate::config) limits: Limits,
    pub(in crate::config) handlers: Arc<Handlers>,
}

/// The integration `name`. Where a field is wrong (which is noted) some other value stands in for it: such a
/// configuration is never used, or the integration is failed by what is wrong in the world.
pub(in crate::config) fn integration(
    name: &str,
    raw: raw::Integration,
    common: &Common,
    r: &mut Reading<'_>,
) -> Option<Integration> {
    let at = At::integration(name);
    let name = name_of(name, &at, r)?;
    let handler = handler(raw.custom_llm_config, raw.call_style, common, &at, r);
    let format = raw.format.or(Format::OpenAi);
    let has_own_path = handler.is_some() || raw.path.is_given();
    let endpoint = endpoint(&raw.endpoint, format, has_own_path, &at, r);
    let names_some = names_models(&raw.model_properties) || names_models(&raw.models);
    let mut models = models::models(raw.model_properties, raw.models, &at, r);
    let default_model = models::default_model(raw.default_model, &mut models, &at, r);
    demand_models(names_some || !models.is_empty(), handler.is_some(), &at, r);
    let fields = Fields {
        kind: raw.authentication_type,
        api_key_header: raw.api_key_header,
        api_key_value: raw.api_key_value,
        token_url: raw.oauth2_token_url,
        scope: raw.authentication_scope,
        token: raw.token,
        oauth2: raw.oauth2,
        aws: raw.aws,
        gcp: raw.gcp,
        has_token_tls: raw.token_tls.is_given(),
    };
    let authorization = authorization::authorization(fields, &endpoint, &at, r);
    let named = headers::named(&raw.headers, &raw.custom_header_mapping, &raw.forward_headers, &at);
    headers::warn_overridden(&named, &authorization.headers(), r);
    check_signer(&authorization, handler.as_ref(), &at, r);
    let edits = edits(raw.defaults, raw.rename, raw.drop, &at, r);
    let way = Way::new((raw.tls, raw.token_tls, raw.proxy), &endpoint, common, &at, r);
    let mut query = query(raw.query);
    Some(Integration {
        origin: r.places.origin_of(name.as_str()).into(),
        format,
        path: raw.path.given().and_then(|path| path_of(path, format, &at.key("path"), r)),
        api_version: api_version(raw.api_version, &mut query, format, &at, r),
        query,
        models,
        default_model,
        headers: headers::fixed(raw.headers, &at.key("headers"), r),
        header_mapping: headers::mapping(raw.custom_header_mapping, &at.key("custom_header_mapping"), r),
        forward_headers: headers::forwarded(raw.forward_headers, &at.key("forward_headers"), r),
        handler,
        media: media(raw.multi_modal_config, &at.key("multi_modal_config"), r),
        tls: way.tls,
        token_tls: way.token_tls,
        proxy: way.proxy,
        token_routes: way.token_routes,
        limits: limits(raw.limits, &at.key("limits"), &common.limits, r),
        strict: raw.strict.or(false),
        declared: declared(format, [raw.request, raw.response, raw.stream], &edits, &at, r),
        edits,
        referred: Vec::new(),
        hidden_query: Vec::new(),
        hidden_path: Vec::new(),
        world: Vec::new(),
        endpoint,
        authorization,
        name,
    })
}

fn name_of(name: &str, at: &At, r: &mut Reading<'_>) -> Option<IntegrationName> {
    match name.parse() {
        Ok(name) => Some(name),
        Err(bad) => {
            r.error(at, format!("`{name}` cannot name an integration: {bad}"));
            None
        }
    }
}

/// The ways to the endpoint and to token endpoints.
struct Way {
    tls: Profile,
    token_tls: Profile,
    proxy: Proxy,
    token_routes: Routes,
}

impl Way {
    fn new(
        (tls, token_tls, proxy): (Field<raw::Tls>, Field<raw::Tls>, Field<String>),
        endpoint: &Uri,
        common: &Common,
        at: &At,
        r: &mut Reading<'_>,
    ) -> Self {
        if tls.is_given() && endpoint.scheme_str() == Some("http") {
            r.warning(&at.key("tls"), "`tls` is not used: the endpoint begins with http://")
                .help("write https://");
        }
        let tls = common.egress.profile(tls.given(), &at.key("tls"), r);
        let token_tls =
            token_tls.given().map(|raw| common.egress.profile(Some(raw), &at.key("token_tls"), r));
        egress::demand_name(endpoint, &tls, at, r);
        let own = egress::choice(proxy, &at.key("proxy"), r);
        let routes = common.egress.routes(&own);
        Self {
            token_tls: token_tls.unwrap_or_else(|| tls.clone()),
            tls,
            proxy: routes.to(endpoint),
            token_routes: routes,
        }
    }
}

fn endpoint(raw: &Field<String>, format: Format, has_own_path: bool, at: &At, r: &mut Reading<'_>) -> Uri {
    if raw.is_absent() {
        r.error(&at.key("endpoint"), format!("`{at}` has no `endpoint`"))
            .help("set the base URL, such as https://api.example.com/v1");
    }
    let at = at.key("endpoint");
    let Some(text) = raw.get() else { return Uri::from_static("https://unknown.invalid") };
    let Some(endpoint) = egress::url(text, &at, r) else {
        return Uri::from_static("https://unknown.invalid");
    };
    // Nothing is appended to a full URL: a slash at its end means something.
    let endpoint = if format == Format::Declared { text.parse().unwrap_or(endpoint) } else { endpoint };
    let (whole, ends) = format.appended();
    let end = ends.iter().find(|end| endpoint.path().ends_with(*end));
    if let Some(end) = end.filter(|_| !has_own_path) {
        let message = format!("`endpoint` ends in {end}, and {whole} is appended to it");
        r.warning(&at, message).help("leave it out");
    }
    endpoint
}

/// Whether there is something in the list, be it wrong.
fn names_models<T>(field: &Field<Vec<T>>) -> bool {
    match field {
        Field::Absent => false,
        Field::Bad => true,
        Field::Given(list) => !list.is_empty(),
    }
}

fn demand_models(has_some: bool, is_handler: bool, at: &At, r: &mut Reading<'_>) {
    if has_some {
        return;
    }
    let (message, help) =
        (format!("`{at}` names no model"), "set models = [\"…\"], the names that the provider knows");
    let at = at.key("models");
    let problem = if is_handler { r.warning(&at, message) } else { r.error(&at, message) };
    problem.help(help);
}

fn query(raw: Field<Pairs<Scalar>>) -> Vec<(String, String)> {
    raw.given().map(|q| q.0.into_iter().map(|(k, v)| (k, v.0)).collect()).unwrap_or_default()
}

/// Azure's version of the API. Written into `query` it means the same, and is taken out there: not every path has one.
fn api_version(
    raw: Field<String>,
    query: &mut Vec<(String, String)>,
    format: Format,
    at: &At,
    r: &mut Reading<'_>,
) -> Option<String> {
    if format != Format::Azure && raw.is_given() {
        let message = format!("`api_version` is not used: the format is {}", format.word());
        r.warning(&at.key("api_version"), message).help(
            "it belongs to format = \"azure\"; what another provider wants in its URL goes into `query`",
        );
    }
    let in_query = match query.iter().position(|(key, _)| key == API_VERSION) {
        Some(place) if format == Format::Azure => Some(query.remove(place).1),
        _ => None,
    };
    if format == Format::Azure && raw.is_absent() && in_query.is_none() {
        r.error(&at.key("api_version"), format!("`{at}`: format \"azure\" needs `api_version`"))
            .help("set it as Azure's documentation has it, such as api_version = \"2024-10-21\"");
    }
    if in_query.is_some() && raw.get().is_some_and(|version| in_query.as_ref() != Some(version)) {
        r.error(&at.key("query").key(API_VERSION), format!("`{at}`: `api_version` says something else"))
            .help("keep one of them");
    }
    raw.given().or(in_query)
}

const API_VERSION: &str = "api-version";

/// `path`: begins with a slash and holds no other form than `{model}`.
fn path_of(path: String, format: Format, at: &At, r: &mut Reading<'_>) -> Option<String> {
    let plain = path.replace("{model}", "model");
    let (message, help) = if !path.starts_with('/') {
        ("must begin with `/`", "it replaces what the format appends to the endpoint")
    } else if path.contains(['?', '#']) {
        ("must hold no query and no fragment", "put a query into `query = { … }`")
    } else if plain.contains(['{', '}']) {
        ("holds braces that are not `{model}`", "only {model} is filled in")
    } else if plain.parse::<Uri>().is_err() || !plain.is_ascii() {
        ("is not the path of a URL", "percent-encode spaces and letters outside ASCII")
    } else {
        if matches!(format, Format::Bedrock | Format::Gemini | Format::Vertex) {
            let word = format.word();
            r.warning(at, format!("`{at}` is called for streams too, and {word} streams from another path"))
                .help("leave it out, or have clients ask for whole answers only");
        }
        return Some(path);
    };
    r.error(at, format!("`{at}` {message}")).help(help);
    None
}

/// A signature is made over the request to the endpoint, which without `handlers.egress` only the handler sees.
fn check_signer(authorization: &Authorization, handler: Option<&Handler>, at: &At, r: &mut Reading<'_>) {
    let sends_itself = handler.is_some_and(|handler| !handler.common.egress);
    if sends_itself && matches!(authorization, Authorization::SigV4(_)) {
        let at = at.key("authentication_type");
        r.error(&at, format!("`{at}` cannot be aws_sigv4 for a handler that sends its requests itself"))
            .help("set `egress = true` in [handlers], so that they leave through Outrider, or let the handler sign");
    }
}

fn handler(
    raw: Field<raw::HandlerConfig>,
    call_style: Field<super::CallStyle>,
    common: &Common,
    at: &At,
    r: &mut Reading<'_>,
) -> Option<Handler> {
    if raw.is_absent() && call_style.is_given() {
        r.warning(&at.key("call_style"), "`call_style` is not used: there is no `custom_llm_config`")
            .help("it says how a handler is called: leave it out");
    }
    let raw = raw.given()?;
    let at = at.key("custom_llm_config");
    for (key, absent) in
        [("file_name", raw.file_name.is_absent()), ("class_name", raw.class_name.is_absent())]
    {
        if absent {
            r.error(&at.key(key), format!("`{at}` needs `{key}`"))
                .help("name the .py file in the handlers' directory and its class");
        }
    }
    let file_name = raw.file_name.or(String::new());
    let bare = file_name.strip_suffix(".py").is_some_and(|stem| !stem.is_empty() && !stem.starts_with('.'));
    if !file_name.is_empty() && (!bare || file_name.contains(['/', '\\', '\0']) || file_name.contains("..")) {
        let message = format!("`{}` must be the bare name of a .py file", at.key("file_name"));
        r.error(&at.key("file_name"), message)
            .help("handlers lie directly in the handlers' directory: write the name without any path");
    }
    let class_name = raw.class_name.or(String::new());
    let word = class_name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !word || class_name.starts_with(|c: char| c.is_ascii_digit()) {
        r.error(&at.key("class_name"), format!("`{}` is not the name of a class", at.key("class_name")));
    }
    let init_kwargs = raw.init_kwargs.given().map(|pairs| pairs.0.into_iter().collect()).unwrap_or_default();
    Some(Handler {
        file_name,
        class_name,
        init_kwargs,
        call_style: call_style.or(common.handlers.call_style),
        common: Arc::clone(&common.handlers),
    })
}

fn media(raw: Field<raw::MultiModal>, at: &At, r: &mut Reading<'_>) -> MediaLimits {
    let raw = raw.given().unwrap_or_default();
    let mut limit = |key: &str, field: Field<usize>| {
        let limit = field.given()?;
        if limit == 0 {
            r.error(&at.key(key), format!("`{key}` must be 1 or more")).help("leave it out for no limit");
        }
        u64::try_from(limit).ok()
    };
    MediaLimits {
        max_files: limit("max_files", raw.max_files),
        max_file_size_bytes: limit("max_file_size_bytes", raw.max_file_size_bytes),
    }
}

/// The limits of `[limits]`, where nothing is given.
pub(in crate::config) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(600),
    idle: Duration::from_secs(120),
    token: Duration::from_secs(5),
    max_concurrent: 1024,
    queue_timeout: Duration::from_secs(30),
    pool_idle: Duration::from_secs(30),
    max_connection_age: Duration::from_secs(300),
    max_answer: 32 << 20,
    max_event: 16 << 20,
};

/// The limits at `at`, on top of `base`. Only `queue_timeout` may be 0: then nobody waits.
pub(in crate::config) fn limits(
    raw: Field<raw::Limits>,
    at: &At,
    base: &Limits,
    r: &mut Reading<'_>,
) -> Limits {
    let raw = raw.given().unwrap_or_default();
    let mut need = Need { at, r };
    let mut time = |key: &str, field: Field<Duration>, base: Duration| match field {
        Field::Given(_) => need.time(key, field, 1),
        Field::Absent | Field::Bad => base,
    };
    Limits {
        connect: time("connect", raw.connect, base.connect),
        first_byte: time("first_byte", raw.first_byte, base.first_byte),
        idle: time("idle", raw.idle, base.idle),
        token: time("token", raw.token, base.token),
        pool_idle: time("pool_idle", raw.pool_idle, base.pool_idle),
        max_connection_age: time("max_connection_age", raw.max_connection_age, base.max_connection_age),
        queue_timeout: raw.queue_timeout.or(base.queue_timeout),
        max_concurrent: need.count("max_concurrent", raw.max_concurrent, base.max_concurrent),
        max_answer: need.least("max_answer", raw.max_answer, base.max_answer, 1),
        max_event: need.least("max_event", raw.max_event, base.max_event, 1),
    }
}

fn edits(
    defaults: Field<Pairs<serde_json::Value>>,
    rename: Field<Pairs<String>>,
    drop: Field<Vec<String>>,
    at: &At,
    r: &mut Reading<'_>,
) -> Edits {
    let defaults = defaults.given().map(|pairs| pairs.0).unwrap_or_default();
    let rename = rename.given().map(|pairs| pairs.0).unwrap_or_default();
    let drop = drop.or(Vec::new());
    for (key, _) in &defaults {
        let own = at.key("defaults").key(key);
        refuse_core(key, &own, r);
        if drop.contains(key) && r.places.share_a_layer(&[own.clone(), at.key("drop")]) {
            r.error(&own, format!("`{key}` is both in `defaults` and in `drop`, which leaves it out again"))
                .help("keep one of them");
        }
    }
    for (n, (from, to)) in rename.iter().enumerate() {
        let table = at.key("rename");
        let at = table.key(from);
        refuse_core(from, &at, r);
        refuse_core(to, &at, r);
        if drop.contains(from) {
            r.error(&at, format!("`{from}` is both renamed and dropped")).help("keep one of them");
        }
        if rename[..n].iter().any(|(_, before)| before == to) {
            r.error(&at, format!("two fields are renamed to `{to}`"))
                .help("a body cannot hold a field twice");
        }
        refuse_circle(&rename[..n], (from, to), &table, r);
    }
    for (n, field) in drop.iter().enumerate() {
        let at = at.key("drop").index(n);
        refuse_core(field, &at, r);
        if field.contains(['.', '[']) {
            r.warning(&at, format!("`{field}` is no field on top of the body, and others are not dropped"))
                .help("name the field on top, which is dropped with all that is in it");
        }
    }
    Edits {
        defaults: defaults.into_iter().map(|(key, value)| (key, value.to_string())).collect(),
        rename,
        drop,
    }
}

/// Refuses a rename that leads with those `before` it back to its own field: each is made in turn, so that two of them swap
/// nothing. A file over another may take back what it cannot leave out: that is one layer's rename and another's.
fn refuse_circle(before: &[(String, String)], (from, to): (&str, &str), table: &At, r: &mut Reading<'_>) {
    let Some(circle) = circle(before, from, to) else { return };
    let at = table.key(from);
    let all: Vec<_> = circle.iter().map(|field| table.key(field)).collect();
    if !r.places.share_a_layer(&all) {
        return;
    }
    if circle.len() > 1 {
        let way: Vec<_> = circle.iter().chain([&from]).map(|field| format!("`{field}`")).collect();
        r.error(&at, format!("the renames lead in a circle: {}", way.join(" to ")))
            .help("keep one of them: they are made in turn, and swap nothing");
    } else {
        r.error(&at, format!("`{from}` is renamed to itself")).help("leave it out, or name another field");
    }
}

/// The fields on the way from `from` back to itself, if there is one.
fn circle<'a>(before: &'a [(String, String)], from: &'a str, to: &'a str) -> Option<Vec<&'a str>> {
    let (mut fields, mut field) = (vec![from], to);
    while field != from {
        // Those before may have a circle of their own.
        if fields.contains(&field) {
            return None;
        }
        fields.push(field);
        field = before.iter().find(|(key, _)| key == field).map(|(_, to)| to.as_str())?;
    }
    Some(fields)
}

/// The fields that make a request what it is are not edited.
fn refuse_core(field: &str, at: &At, r: &mut Reading<'_>) {
    let help = match field {
        "model" => "use `alias` in model_properties, or `default_model`",
        "messages" | "stream" => "leave it to the client",
        _ if field.trim().is_empty() => "name a field of the OpenAI body",
        _ => return,
    };
    r.error(at, format!("`{field}` cannot be edited")).help(help);
}

/// The tables of a declared format as one object.
fn declared(
    format: Format,
    tables: [Field<serde_json::Value>; 3],
    edits: &Edits,
    at: &At,
    r: &mut Reading<'_>,
) -> Option<serde_json::Value> {
    let mut object = serde_json::Map::new();
    for (key, field) in ["request", "response", "stream"].into_iter().zip(tables) {
        let missing = field.is_absent() && format == Format::Declared && key != "stream";
        match field.given() {
            Some(_) if format != Format::Declared => {
                r.warning(&at.key(key), format!("`{key}` is not used: the format is {}", format.word()))
                    .help("it belongs to format = \"declared\"");
            }
            Some(value) if value.is_object() => {
                object.insert(key.to_owned(), value);
            }
            Some(_) => {
                r.error(&at.key(key), format!("`{}` must be a table", at.key(key)));
            }
            None if missing => {
                r.error(&at.key(key), format!("`{at}`: format \"declared\" needs `{key}`"))
                    .help("see `request` and `response`");
            }
            None => {}
        }
    }
    if format != Format::Declared {
        return None;
    }
    let tables = serde_json::Value::Object(object);
    let given: Vec<_> = edits.defaults.iter().map(|(name, _)| name.as_str()).collect();
    for mistake in dialect::declared::check(&tables, &given) {
        note(mistake, at, r);
    }
    Some(tables)
}

/// Shows a mistake in a declared format where it stands. What was put together from variables is not repeated.
fn note(mistake: dialect::declared::Mistake, at: &At, r: &mut Reading<'_>) {
    let step = |at: At, step: &Step| match step {
        Step::Key(key) => at.key(key),
        Step::Index(index) => at.index(*index),
    };
    let at = mistake.at.0.iter().fold(at.clone(), step);
    let near = mistake.unknown.as_ref().and_then(|(word, known)| nearest(word, known.iter().copied()));
    let help = near.map_or(mistake.help, |near| format!("did you mean `{near}`?"));
    if help.is_empty() {
        return;
    }
    let message = if r.is_expanded(&at) {
        format!("`{at}` is no good expression once its variables are filled in")
    } else {
        format!("`{at}` {}", mistake.message)
    };
    // An expression may hold what must not be shown, and its words may hold some of it.
    let problem = if mistake.is_warning { r.warning(&at, message) } else { r.error(&at, message) };
    problem.help(help);
}

/// Warns of every name that clients may send and that more than one integration answers to, and of every one that
/// leads past another integration's model.
pub(in crate::config) fn warn_shared_models<'a>(
    all: &(impl Iterator<Item = &'a Integration> + Clone),
    r: &mut Reading<'_>,
) {
    warn_common_names(all, r);
    for integration in all.clone() {
        let at = At::integration(integration.name.as_str());
        for word in integration.models.iter().flat_map(words) {
            if let Some((owner, model)) = hidden_by(word, integration, all.clone()) {
                let message =
                    format!("the model `{word}` hides the model `{model}` of the integration `{owner}`");
                r.warning(&at, message).help(format!(
                    "`{word}` leads here; clients reach that one by the path /{owner}/v1 alone"
                ));
            }
        }
    }
}

/// How many names are told of those that the same integrations have in common.
const MOST_COMMON: usize = 5;

/// Warns once for each set of integrations that answer to the same names.
fn warn_common_names<'a>(all: &(impl Iterator<Item = &'a Integration> + Clone), r: &mut Reading<'_>) {
    let mut homes: BTreeMap<&str, Vec<&IntegrationName>> = BTreeMap::new();
    for integration in all.clone() {
        for word in integration.models.iter().flat_map(words) {
            let homes = homes.entry(word).or_default();
            if homes.last() != Some(&&integration.name) {
                homes.push(&integration.name);
            }
        }
    }
    let mut common: BTreeMap<&[&IntegrationName], Vec<&str>> = BTreeMap::new();
    for (word, homes) in homes.iter().filter(|(_, homes)| homes.len() > 1) {
        common.entry(homes).or_default().push(word);
    }
    for (set, names) in common {
        let Some((last, others)) = set.split_last() else { continue };
        let others = others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let others = format!("the integration{} {others}", if set.len() > 2 { "s" } else { "" });
        let (message, form, bare) = match names.as_slice() {
            [name] => {
                (format!("the model `{name}` is also in {others}"), format!("{last}/{name}"), "the bare name")
            }
            many => (common_names(many, &others), format!("{last}/MODEL"), "a bare name"),
        };
        // A form that is a model's own name leads to that one.
        let taken = names.iter().any(|name| homes.contains_key(&*format!("{last}/{name}")));
        let or = if taken { String::new() } else { format!(" or {form}") };
        r.warning(&At::integration(last.as_str()), message)
            .help(format!("{bare} will answer 400; clients use /{last}/v1{or}"));
    }
}

fn common_names(names: &[&str], others: &str) -> String {
    let told = names.iter().take(MOST_COMMON).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(MOST_COMMON) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} models are also in {others}: {told}{more}", names.len())
}

/// The integration and the model in it that `word`, a name of `here`, would mean if no model were called so.
fn hidden_by<'a, 'w>(
    word: &'w str,
    here: &Integration,
    mut all: impl Iterator<Item = &'a Integration>,
) -> Option<(&'a IntegrationName, &'w str)> {
    let (name, rest) = word.split_once('/')?;
    let owner = all.find(|one| one.name.as_str() == name)?;
    let meant = owner.models.iter().find(|model| words(model).any(|own| own == rest))?;
    let is_same = owner.name == here.name && words(meant).any(|own| own == word);
    (!is_same).then_some((&owner.name, rest))
}

/// What clients may send for a model: its alias and its name.
fn words(model: &Model) -> impl Iterator<Item = &str> {
    let name = (model.name != model.alias).then_some(model.name.as_str());
    std::iter::once(model.alias.as_str()).chain(name)
}
