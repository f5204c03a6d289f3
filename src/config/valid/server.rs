//! `[server]`, `[admin]`, `[log]` and `[handlers]`: what concerns the whole house.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::{Admin, CallStyle, Handlers, Level, Listen, Log, LogFormat, Server, UnixSockets, Variables};
use crate::config::number::Size;
use crate::config::places::At;
use crate::config::raw;
use crate::config::read::{Field, Reading};
use crate::config::units;
use crate::tls::InboundFiles;

/// More threads, or processes of one handler, than any machine could use.
const MOST_WORKERS: usize = 1024;

/// What hyper needs at least for a head.
const LEAST_HEAD: usize = 8 << 10;

pub(in crate::config) fn server(raw: Field<raw::Server>, r: &mut Reading<'_>) -> Server {
    let at = At::root().key("server");
    let raw = raw.given().unwrap_or_default();
    let listen = match raw.listen.given() {
        None => vec![Listen::Tcp(([127, 0, 0, 1], 4010).into())],
        Some(many) => {
            if many.0.is_empty() {
                r.error(&at.key("listen"), "`server.listen` is empty")
                    .help("name an address such as 127.0.0.1:4010");
            }
            many.0.iter().filter_map(|text| address(text, &at.key("listen"), r)).collect()
        }
    };
    let unix = UnixSockets {
        mode: mode(raw.unix_mode, &at, r),
        owner: id(raw.unix_owner, &at.key("unix_owner"), r),
        group: id(raw.unix_group, &at.key("unix_group"), r),
    };
    let linger = raw.linger.or(Duration::ZERO);
    let drain_timeout = raw.drain_timeout.or(Duration::from_secs(30));
    if !linger.is_zero() && linger >= drain_timeout {
        let at = at.key("linger");
        r.warning(&at, format!("`{at}` is never reached: `server.drain_timeout` bounds it"))
            .help("make `drain_timeout` longer than `linger` and the longest answer together");
    }
    let mut need = Need { at: &at, r };
    Server {
        listen,
        unix,
        header_timeout: need.time("header_timeout", raw.header_timeout, 10),
        body_timeout: need.time("body_timeout", raw.body_timeout, 30),
        idle_timeout: need.time("idle_timeout", raw.idle_timeout, 75),
        max_header_bytes: need.least("max_header_bytes", raw.max_header_bytes, 64 << 10, LEAST_HEAD),
        max_body: need.least("max_body", raw.max_body, 32 << 20, 1),
        max_connections: need.count("max_connections", raw.max_connections, 16_384),
        linger,
        drain_timeout,
        strict_start: raw.start.or(raw::Start::Degrade) == raw::Start::Strict,
        rotation_interval: need.time("rotation_interval", raw.rotation_interval, 5),
        watch: raw.watch.or(false),
        workers: workers(need.most("workers", raw.workers.or(0), MOST_WORKERS)),
        api_key: raw.api_key.given(),
        tls: raw.tls.given().and_then(|tls| inbound(tls, &at.key("tls"), r)),
    }
}

/// What a Unix socket's file is made with.
const MODE: u32 = 0o660;

/// Warns of a `unix_mode` that no socket is made with. The default is that of people who write all keys down.
pub(in crate::config) fn warn_of_idle_mode(server: &Server, admin: &Admin, r: &mut Reading<'_>) {
    let mut all = server.listen.iter().chain(&admin.listen).chain(&admin.metrics_listen);
    if server.unix.mode != MODE && !all.any(|listen| matches!(listen, Listen::Unix(_))) {
        let at = At::root().key("server").key("unix_mode");
        r.warning(&at, format!("`{at}` is not used: no listener is a Unix socket"))
            .help("leave it out, or listen on unix:/path");
    }
}

/// Written as `chmod` takes it: a number of TOML would leave open whether 660 is octal.
fn mode(raw: Field<String>, at: &At, r: &mut Reading<'_>) -> u32 {
    let Some(text) = raw.given() else { return MODE };
    let octal = text.len() <= 4 && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if octal && mode <= 0o777 => mode,
        _ => {
            let at = at.key("unix_mode");
            r.error(&at, format!("`{at}` must be permissions in octal such as \"0660\"")).help(
                "\"0660\" lets the owner and the group connect, \"0666\" everyone, \"0600\" the owner alone",
            );
            MODE
        }
    }
}

/// The id of a user or a group.
fn id(raw: Field<usize>, at: &At, r: &mut Reading<'_>) -> Option<u32> {
    let given = raw.given()?;
    let id = u32::try_from(given).ok();
    if id.is_none() {
        r.error(at, format!("`{at}` is no id"))
            .help("`id NAME` shows those of a user, `getent group NAME` that of a group");
    }
    id
}

/// Warns of what other machines can reach and nothing protects.
pub(in crate::config) fn warn_exposed(server: &Server, admin: &Admin, r: &mut Reading<'_>) {
    let exposed = |listen: &&Listen| matches!(listen, Listen::Tcp(address) if !address.ip().is_loopback());
    let at = At::root().key("server").key("listen");
    if server.listen.iter().any(|listen| exposed(&listen)) {
        if server.tls.is_none() {
            r.warning(&at, "`server.listen` can be reached from other machines, and without `server.tls` prompts, answers and callers' keys cross the network readable to all on the way")
                .help("set `server.tls`, or listen on 127.0.0.1 or on a Unix socket");
        }
        let known = server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        if server.api_key.is_none() && !known {
            r.warning(&at, "`server.listen` can be reached from other machines, and without `server.api_key` whoever reaches it uses your providers with your credentials")
                .help("set `server.api_key_file` or `client_ca_file` in `server.tls`, or listen on 127.0.0.1 or on a Unix socket");
        }
    }
    if admin.listen.as_ref().is_some_and(|listen| exposed(&listen)) {
        let at = At::root().key("admin").key("listen");
        r.warning(&at, "`admin.listen` can be reached from other machines, and tells whoever asks the names, endpoints and states of all integrations")
            .help("keep it on 127.0.0.1 and give probes and scrapers `admin.metrics_listen`, which shows less");
    }
}

fn workers(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

fn inbound(raw: raw::InboundTls, at: &At, r: &mut Reading<'_>) -> Option<InboundFiles> {
    for (key, field) in [("cert_file", &raw.cert_file), ("key_file", &raw.key_file)] {
        if field.is_absent() {
            r.error(&at.key(key), format!("`{at}` needs `{key}`"))
                .help("name the PEM files of the certificate and of its key");
        }
    }
    Some(InboundFiles {
        cert_file: raw.cert_file.given()?,
        key_file: raw.key_file.given()?,
        client_ca_file: raw.client_ca_file.given(),
    })
}

pub(in crate::config) fn admin(raw: Field<raw::Admin>, r: &mut Reading<'_>) -> Admin {
    let at = At::root().key("admin");
    let raw = raw.given().unwrap_or_default();
    let listen = match raw.listen.given().as_deref() {
        Some("off") => None,
        Some(text) => address(text, &at.key("listen"), r),
        None => Some(Listen::Tcp(([127, 0, 0, 1], 4011).into())),
    };
    let metrics_listen = match raw.metrics_listen.given().as_deref() {
        Some("off") | None => None,
        Some(text) => address(text, &at.key("metrics_listen"), r),
    };
    Admin { listen, metrics_listen }
}

/// Notes two listeners on one address: the second could not be opened.
pub(in crate::config) fn refuse_shared_addresses(server: &Server, admin: &Admin, r: &mut Reading<'_>) {
    let server_at = At::root().key("server").key("listen");
    let admin_at = At::root().key("admin");
    let all = server.listen.iter().map(|l| (l, server_at.clone()));
    let all = all.chain(admin.listen.iter().map(|l| (l, admin_at.key("listen"))));
    let all: Vec<_> =
        all.chain(admin.metrics_listen.iter().map(|l| (l, admin_at.key("metrics_listen")))).collect();
    for (n, (listen, at)) in all.iter().enumerate() {
        let Some((before, other)) = all[..n].iter().find(|(before, _)| collide(before, listen)) else {
            continue;
        };
        if before == listen {
            let message = format!("`{at}` is an address that `{other}` has already");
            r.error(at, message).help("each listener needs an address of its own");
        } else if let (Listen::Unix(_), Listen::Unix(_)) = (before, listen) {
            let message =
                format!("`{at}` is the socket that `{other}` is, unless a symbolic link is in its way");
            r.warning(at, message).help("each listener needs a socket of its own");
        } else {
            let message =
                format!("`{at}` is a port that `{other}` has already, and one of them is for all addresses");
            let help = "each listener needs a port of its own where one is on 0.0.0.0 or [::]";
            // Few systems keep IPv4 out of `[::]` (net.ipv6.bindv6only).
            let is_sure = is_ipv6(before) == is_ipv6(listen);
            let problem = if is_sure { r.error(at, message) } else { r.warning(at, message) };
            problem.help(help);
        }
    }
}

/// `path` without `..`, as far as it leads back out of a directory that is named before.
fn unwound(path: &Path) -> PathBuf {
    let mut unwound = PathBuf::new();
    for part in path.components() {
        match (part, unwound.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => drop(unwound.pop()),
            (Component::ParentDir, Some(Component::RootDir)) => {}
            (part, _) => unwound.push(part),
        }
    }
    unwound
}

/// Whether most systems open only one of the two.
fn collide(one: &Listen, other: &Listen) -> bool {
    let (one, other) = match (one, other) {
        (Listen::Tcp(one), Listen::Tcp(other)) => (one, other),
        (Listen::Unix(one), Listen::Unix(other)) => return unwound(one) == unwound(other),
        (Listen::Tcp(_), Listen::Unix(_)) | (Listen::Unix(_), Listen::Tcp(_)) => return false,
    };
    let covers = |all: &SocketAddr, one: &SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4() || one.ip().is_unspecified())
    };
    let is_same = one == other || covers(one, other) || covers(other, one);
    one.port() != 0 && one.port() == other.port() && is_same
}

fn is_ipv6(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.is_ipv6())
}

pub(in crate::config) fn log(raw: Field<raw::Log>) -> Log {
    let raw = raw.given().unwrap_or_default();
    Log {
        level: raw.level.or(Level::Info),
        format: raw.format.or(LogFormat::Auto),
        access: raw.access.or(true),
    }
}

/// `drain_timeout` is the server's: a handler that is replaced ends its calls like a server that stops.
pub(in crate::config) fn handlers(
    raw: Field<raw::Handlers>,
    drain_timeout: Duration,
    r: &mut Reading<'_>,
) -> Handlers {
    let at = At::root().key("handlers");
    let raw = raw.given().unwrap_or_default();
    let env = raw.env.or(Vec::new());
    for (n, name) in env.iter().enumerate() {
        if name.is_empty() || name.contains(['=', '\0']) {
            r.error(&at.key("env").index(n), "`handlers.env` holds names of environment variables");
        }
    }
    let directory = raw.directory.given().unwrap_or_else(|| galileo_directory(r));
    let python = python(raw.python, &at.key("python"), r);
    let enabled = raw.enabled.given().unwrap_or_else(|| galileo_enabled(r));
    let egress = raw.egress.or(false);
    let environment = environment(&env, egress, r);
    let mut need = Need { at: &at, r };
    let workers = need.count("workers", raw.workers, 2);
    Handlers {
        enabled,
        directory,
        python,
        workers: need.most("workers", workers, MOST_WORKERS),
        start_timeout: need.time("start_timeout", raw.start_timeout, 60),
        start_wait: raw.start_wait.or(Duration::from_secs(10)),
        request_timeout: need.time("request_timeout", raw.request_timeout, 600),
        memory: need.least("memory", raw.memory, 1 << 30, 1 << 20),
        max_requests: raw.max_requests.or(0),
        max_in_flight: need.count("max_in_flight", raw.max_in_flight, 64),
        sync_threads: need.count("sync_threads", raw.sync_threads, 32),
        egress,
        call_style: raw.call_style.or(CallStyle::Auto),
        env,
        environment,
        drain_timeout,
    }
}

/// What handlers may see of the environment without being asked: how to find and run programs, the customer's language
/// and time, the ways out, and whom to trust there. All else may be another's secret.
const PASSED_ON: [&str; 20] = [
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "NO_PROXY",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

fn environment(named: &[String], egress: bool, r: &Reading<'_>) -> Variables {
    let mut passed = r.env.those(|name| {
        PASSED_ON.contains(&name) || name.starts_with("PYTHON") || named.iter().any(|one| one == name)
    });
    if egress {
        keep_from_proxies(&mut passed);
    }
    Variables(passed)
}

/// Has handlers call us on loopback straight: else a proxy, which takes even that unless it is told not to, would be
/// sent what is meant for us. Programs differ in which spelling of the name counts.
fn keep_from_proxies(variables: &mut Vec<(String, String)>) {
    const NAMES: [&str; 2] = ["no_proxy", "NO_PROXY"];
    let of = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let told = NAMES.iter().find_map(|name| of(name).filter(|value| !value.is_empty()));
    let straight = told.map_or_else(|| LOOPBACK.to_owned(), |hosts| format!("{hosts},{LOOPBACK}"));
    variables.retain(|(name, _)| !NAMES.contains(&name.as_str()));
    variables.extend(NAMES.map(|name| (name.to_owned(), straight.clone())));
    variables.sort_unstable();
}

/// Where handlers reach their providers through us.
const LOOPBACK: &str = "127.0.0.1";

fn galileo_enabled(r: &mut Reading<'_>) -> bool {
    const NAME: &str = "GALILEO_CUSTOM_LLMS_ENABLED";
    let Some((_, text)) = r.env.first(&[NAME]) else { return false };
    units::flag(text).unwrap_or_else(|| {
        let help = "write true or false, or set `enabled` in [handlers]";
        r.error(
            &At::root().key("handlers"),
            format!("the environment variable {NAME} is neither true nor false"),
        )
        .of_variable(NAME)
        .help(help);
        false
    })
}

fn galileo_directory(r: &Reading<'_>) -> PathBuf {
    r.env
        .first(&["GALILEO_CUSTOM_LLMS_DIRECTORY"])
        .map_or("/opt/custom_llms", |(_, directory)| directory)
        .into()
}

/// A bare name is looked up in `PATH`; anything with a slash is a path like all others.
fn python(raw: Field<String>, at: &At, r: &mut Reading<'_>) -> String {
    match raw.given() {
        None => "python3".to_owned(),
        Some(text) if text.trim().is_empty() => {
            r.error(at, format!("`{at}` is empty"))
                .help("name an interpreter that has litellm, such as python3");
            text
        }
        Some(text) if r.refuse_home(&text, at) => text,
        Some(text) if text.contains('/') => r.places.dir_of(at).join(text).display().to_string(),
        Some(text) => text,
    }
}

/// An address to listen on.
fn address(text: &str, at: &At, r: &mut Reading<'_>) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            r.error(at, format!("`{at}` names no socket")).help("write unix:/run/outrider/proxy.sock");
            return None;
        }
        if r.refuse_home(path, at) {
            return None;
        }
        return socket(r.places.dir_of(at).join(path), at, r);
    }
    if let Ok(address) = text.parse() {
        return Some(Listen::Tcp(address));
    }
    let shown = if r.may_show(at, text) { format!(", found {text:?}") } else { String::new() };
    let help = match text.rsplit_once(':') {
        Some(("localhost", port)) => {
            format!("write 127.0.0.1:{port}: a container may resolve localhost to ::1 first")
        }
        Some(("", port)) => {
            format!("write 0.0.0.0:{port} for every interface, 127.0.0.1:{port} for this pod alone")
        }
        _ => "write an address and a port such as 127.0.0.1:4010, or unix:/path".to_owned(),
    };
    r.error(at, format!("`{at}` must be an IP address and a port, or `unix:` and a path{shown}")).help(help);
    None
}

/// The socket at `path`. A longer path could be given to a socket by a link, but nobody could connect to it by that.
fn socket(path: PathBuf, at: &At, r: &mut Reading<'_>) -> Option<Listen> {
    if std::os::unix::net::SocketAddr::from_pathname(&path).is_ok() {
        return Some(Listen::Unix(path));
    }
    let length = path.as_os_str().len();
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        r.error(at, format!("`{at}` holds a character that no path can have")).help("leave it out");
    } else {
        r.error(
            at,
            format!("the path in `{at}` has {length} bytes, and that of a Unix socket at most about 100"),
        )
        .help("put it into a directory with a short path, such as unix:/run/outrider/proxy.sock");
    }
    None
}

/// Fields that must not be 0.
pub(super) struct Need<'n, 'r> {
    pub(super) at: &'n At,
    pub(super) r: &'n mut Reading<'r>,
}

impl Need<'_, '_> {
    pub(super) fn time(&mut self, key: &str, field: Field<Duration>, default: u64) -> Duration {
        let time = field.or(Duration::from_secs(default));
        self.check(key, !time.is_zero(), "a duration above 0");
        time
    }

    /// A `default` is not checked: it may be inherited, and was then told of where it is written.
    pub(super) fn count(&mut self, key: &str, field: Field<usize>, default: usize) -> usize {
        let Some(count) = field.given() else { return default };
        self.check(key, count > 0, "1 or more");
        count
    }

    /// The same `count`, which must not be above `most`.
    fn most(&mut self, key: &str, count: usize, most: usize) -> usize {
        self.check(key, count <= most, &format!("{most} or less"));
        count
    }

    /// The same of a size in bytes.
    pub(super) fn least(&mut self, key: &str, field: Field<Size>, default: usize, least: usize) -> usize {
        let Some(Size(size)) = field.given() else { return default };
        self.check(key, size >= least, &format!("at least {least} bytes"));
        size
    }

    fn check(&mut self, key: &str, holds: bool, expected: &str) {
        if !holds {
            let at = self.at.key(key);
            self.r.error(&at, format!("`{at}` must be {expected}"));
        }
    }
}
