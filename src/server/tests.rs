//! The handlers' door over real sockets: a handler's client on one side, a provider on the other.

use std::net::SocketAddr;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::config::{Environment, Options, load};
use crate::integration::{Entry, HandlersDoor, Registry, Workshop};
use crate::proxy::Rules;
use crate::server::listen::Address;
use crate::server::stop::Stopper;

const KEY: &str = "authentication_type = \"api_key\"\napi_key_header = \"Authorization\"\napi_key_value = \"Bearer provider-key\"";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A sidecar with one integration, `acme`, before a provider that the test plays.
struct Sidecar {
    house: Arc<House>,
    clients: SocketAddr,
    door: SocketAddr,
    /// The path that leads to `acme`.
    way: String,
    stopper: Stopper,
    running: JoinHandle<io::Result<()>>,
}

impl Sidecar {
    /// `lines` are those of the integration, `server` those of `[server]`.
    fn before(provider: &Provider, lines: &str, server: &str) -> Self {
        Self::patient(provider, lines, server, clock::STUCK)
    }

    /// The same with a second worker, which does not run.
    fn of_two(provider: &Provider) -> (Self, Serving) {
        let (sidecar, mut others) = Self::start(provider, KEY, "workers = 2", clock::STUCK);
        (sidecar, others.remove(0))
    }

    /// The same, whose clients may take nothing of their answers for `stuck`.
    fn patient(provider: &Provider, lines: &str, server: &str, stuck: Duration) -> Self {
        Self::start(provider, lines, &format!("workers = 1\n{server}"), stuck).0
    }

    /// With the workers that are not run.
    fn start(provider: &Provider, lines: &str, server: &str, stuck: Duration) -> (Self, Vec<Serving>) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\n{server}\n[integrations.acme]\nendpoint = \"http://{}/v1\"\nmodels = [\"m\"]\n{lines}\n",
            provider.address()
        );
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let options =
            Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
        let settings = load(&options).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let bind = || {
            Bound::bind(&valid::Listen::Tcp("127.0.0.1:0".parse().unwrap()), &settings.server.unix).unwrap()
        };
        let doors = Doors { clients: vec![bind()], handlers: Some(bind()) };
        let at = |bound: &Bound| match bound.address() {
            Address::Tcp(address) => address,
            other => panic!("bound at {other}"),
        };
        let (clients, door) = (at(&doors.clients[0]), at(doors.handlers.as_ref().unwrap()));
        let house = house(&settings, door);
        let base = house.door.as_ref().unwrap().base("acme").unwrap();
        let way = base.strip_prefix(&format!("http://{door}")).unwrap().to_owned();
        let (stopper, stop) = Stopper::new();
        let mut crew = Serving::crew(&house, &settings.server, &Tasks::new(), &stop, None);
        let mut serving = crew.remove(0);
        serving.clients.limits.stuck = stuck;
        let running = house.tasks.spawn(serving.run(doors));
        (Self { house, clients, door, way, stopper, running }, crew)
    }

    async fn handler(&self) -> Peer {
        Peer::new(TcpStream::connect(self.door).await.unwrap())
    }

    /// The figures, as the admin side shows them.
    fn figures(&self) -> String {
        self.house.ended.settle_all();
        self.house.metrics.text()
    }

    /// What a handler is answered that sends `method` and `rest` (path, query and all behind the first line).
    async fn ask(&self, method: &str, rest: &str) -> String {
        let mut handler = self.handler().await;
        handler.say(&format!("{method} {}{rest}", self.way)).await;
        handler.message().await
    }
}

/// A house as these settings are, whose handlers' door is at `door`.
pub(super) fn house(settings: &valid::Settings, door: SocketAddr) -> Arc<House> {
    let workshop = Workshop::dry();
    let door = Arc::new(HandlersDoor::new(door));
    let entries = settings.integrations.values().map(|one| Arc::new(Entry::build(one.clone(), &workshop)));
    Arc::new(House {
        registry: ArcSwap::from_pointee(Registry::new(entries.collect(), 0)),
        max_head: settings.server.max_header_bytes,
        door: Some(door),
        rules: ArcSwap::from_pointee(Rules {
            caller_key: Some(crate::secret::Secret::new("callers-key")),
            max_body: settings.server.max_body,
            body_timeout: settings.server.body_timeout,
        }),
        ..House::bare(1, Arc::clone(&workshop.metrics))
    })
}

struct Provider(TcpListener);

impl Provider {
    async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Peer {
        Peer::new(self.0.accept().await.unwrap().0)
    }

    /// Takes one request on a new connection and says `answer`.
    async fn answer(&self, answer: &str) -> String {
        let mut peer = self.accept().await;
        let request = peer.message().await;
        peer.say(answer).await;
        request
    }
}

/// One end of a connection.
struct Peer {
    io: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    fn new(io: TcpStream) -> Self {
        Self { io, read: Vec::new() }
    }

    async fn say(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// One message, head and body, whose length is said.
    async fn message(&mut self) -> String {
        let head = self.until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |digits| digits.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more().await, "closed inside the body after {head}");
        }
        let body: Vec<u8> = self.read.drain(..length).collect();
        head + &String::from_utf8(body).unwrap()
    }

    /// What comes up to `mark` and with it.
    async fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, mark.as_bytes()) {
                let bytes: Vec<u8> = self.read.drain(..at + mark.len()).collect();
                return String::from_utf8(bytes).unwrap();
            }
            assert!(self.more().await, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn more(&mut self) -> bool {
        soon(self.io.read_buf(&mut self.read)).await.unwrap() > 0
    }

    /// Waits until the other side has closed.
    async fn closed(&mut self) {
        let mut sink = [0; 4096];
        soon(async { while self.io.read(&mut sink).await.is_ok_and(|n| n > 0) {} }).await;
    }
}

/// What comes of `what`, which must come soon.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it did not happen")
}

fn code(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(json["error"]["message"].is_string() && json["error"]["type"].is_string(), "{answer}");
    json["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_handlers_request_goes_to_its_provider_with_our_key_and_the_answer_comes_back_as_it_is() {
    let provider = Provider::bind().await;
    let lines = format!("{KEY}\nheaders = {{ x-team = \"ours\" }}\nquery = {{ tenant = \"t\" }}");
    let sidecar = Sidecar::before(&provider, &lines, "");
    let asked = "/jobs//7?a=%20b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer stand-in\r\nx-team: theirs\r\nx-own: 1\r\n\
                 accept-encoding: gzip\r\nuser-agent: httpx\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-type: text/odd\r\n\
                 content-length: 5\r\n\r\n{\"a\":";
    let said = "HTTP/1.1 207 Odd\r\nset-cookie: s=1\r\nx-request-id: theirs\r\ncontent-type: text/odd\r\nconnection: close\r\n\
                content-length: 4\r\n\r\n\t{\r\n";
    let (answer, got) = tokio::join!(sidecar.ask("PROPFIND", asked), provider.answer(said));
    let (line, fields) = got.split_once("\r\n").unwrap();
    assert_eq!(line, "PROPFIND /v1/jobs//7?a=%20b&tenant=t HTTP/1.1");
    for field in [
        "authorization: Bearer provider-key",
        "x-team: ours",
        "x-own: 1",
        "accept-encoding: identity",
        "user-agent: httpx",
        "content-type: text/odd",
        &format!("host: {}", provider.address()),
    ] {
        let name = field.split_once(' ').unwrap().0;
        let all: Vec<&str> = fields.lines().filter(|line| line.starts_with(name)).collect();
        assert_eq!(all, [field], "{got}");
    }
    assert!(!got.contains("x-hop") && got.ends_with("\r\n\r\n{\"a\":"), "{got}");
    assert!(answer.starts_with("HTTP/1.1 207 "), "{answer}");
    for field in ["set-cookie: s=1", "x-request-id: theirs", "content-type: text/odd"] {
        assert!(answer.lines().any(|line| line == field), "{field} is missing in {answer}");
    }
    assert!(answer.ends_with("\r\n\r\n\t{\r\n"), "{answer}");
}

#[tokio::test]
async fn without_an_authorization_the_handlers_own_goes_on_and_the_bare_way_is_the_endpoint() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, "authentication_type = \"none\"", "");
    let asked = " HTTP/1.1\r\nhost: x\r\nauthorization: Bearer own\r\n\r\n";
    let (answer, got) = tokio::join!(sidecar.ask("GET", asked), provider.answer(OK));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"), "{answer}");
    assert!(
        got.starts_with("GET /v1 HTTP/1.1\r\n") && got.contains("authorization: Bearer own\r\n"),
        "{got}"
    );
}

#[tokio::test]
async fn a_handler_needs_no_slot_and_disturbs_no_figure_of_its_clients() {
    let provider = Provider::bind().await;
    let lines = format!("{KEY}\nlimits = {{ max_concurrent = 1 }}");
    let sidecar = Sidecar::before(&provider, &lines, "max_connections = 1");
    let registry = sidecar.house.registry.load_full();
    let entry = registry.integration("acme").unwrap();
    let _outer = entry.state.as_ref().unwrap().permit(&entry.metrics).await.unwrap();
    let _client = TcpStream::connect(sidecar.clients).await.unwrap();
    let (answer, _) = tokio::join!(sidecar.ask("GET", "/x HTTP/1.1\r\nhost: x\r\n\r\n"), provider.answer(OK));
    assert!(answer.ends_with("ok"), "{answer}");
    let metrics = sidecar.figures();
    let counted = "outrider_handler_upstream_requests_total{integration=\"acme\",status=\"200\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    for apart in ["outrider_requests_total{", "outrider_client_connections 2"] {
        assert!(!metrics.contains(apart), "{metrics}");
    }
    assert!(
        metrics.contains("outrider_endings_total{integration=\"acme\",ending=\"complete\"} 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_stream_passes_event_by_event_and_a_handler_that_leaves_closes_the_provider() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "");
    let mut handler = sidecar.handler().await;
    let body = "{\"stream\":true}";
    let request = format!(
        "POST {}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{body}",
        sidecar.way
    );
    handler.say(&request).await;
    let mut peer = provider.accept().await;
    assert!(peer.message().await.ends_with(body));
    peer.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        // Said only when the one before has arrived.
        peer.say(&format!("9\r\n{event}\r\n")).await;
        handler.until(event).await;
    }
    drop(handler);
    peer.closed().await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_and_the_request_sent_again() {
    let provider = Provider::bind().await;
    let lines = format!(
        "authentication_type = \"oauth2\"\noauth2_token_url = \"http://{}/token\"\noauth2 = {{ client_id = \"c\", client_secret = \"s\" }}",
        provider.address()
    );
    let sidecar = Sidecar::before(&provider, &lines, "");
    let token = |name: &str| {
        let json = format!("{{\"access_token\":\"{name}\",\"token_type\":\"Bearer\",\"expires_in\":600}}");
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
            json.len()
        )
    };
    let serve = async {
        let mut got = vec![provider.answer(&token("token-1")).await];
        got.push(
            provider
                .answer("HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await,
        );
        got.push(provider.answer(&token("token-2")).await);
        got.push(provider.answer(OK).await);
        got
    };
    let asked = "/x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
    let (answer, got) = tokio::join!(sidecar.ask("PUT", asked), serve);
    assert!(answer.ends_with("ok"), "{answer}");
    for (request, name) in [(&got[1], "token-1"), (&got[3], "token-2")] {
        assert!(
            request.starts_with("PUT /v1/x HTTP/1.1\r\n") && request.ends_with("\r\n\r\nbody"),
            "{request}"
        );
        assert!(request.contains(&format!("authorization: Bearer {name}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_provider_goes_back_whole_but_for_our_key() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "");
    let said = "HTTP/1.1 429 Slow\r\nretry-after: 9\r\ncontent-type: text/html\r\ncontent-length: 24\r\n\r\n<b>provider-key is spent";
    let (answer, _) =
        tokio::join!(sidecar.ask("GET", "/x HTTP/1.1\r\nhost: x\r\n\r\n"), provider.answer(said));
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 9\r\n"), "{answer}");
    assert!(answer.ends_with("<b>*** is spent"), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused_in_openais_shape_with_our_codes() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "max_body = 8");
    for (said, wanted) in [
        ("HTTP/1.1 302 Found\r\nlocation: http://x/\r\ncontent-length: 0\r\n\r\n", "upstream_redirect"),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx", "upstream_garbled"),
        ("SSH-2.0-x\r\n", "upstream_garbled"),
    ] {
        let ask = sidecar.ask("GET", "/x HTTP/1.1\r\nhost: x\r\n\r\n");
        let (answer, _) = tokio::join!(ask, provider.answer(said));
        assert_eq!(code(&answer), wanted, "{said}");
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("acme"), "{answer}");
    }
    let head = "HTTP/1.1\r\nhost: x\r\n";
    for (method, rest, status, wanted) in [
        ("GET", format!("/../x {head}\r\n"), 400, "bad_request"),
        ("TRACE", format!("/x {head}\r\n"), 400, "bad_request"),
        ("GET", format!("/x {head}upgrade: websocket\r\n\r\n"), 400, "bad_request"),
        ("POST", format!("/x {head}content-length: 9\r\n\r\n123456789"), 413, "body_too_large"),
    ] {
        let answer = sidecar.ask(method, &rest).await;
        assert_eq!((&answer[9..12], code(&answer)), (&*status.to_string(), wanted.to_owned()), "{rest}");
    }
    let gone = provider.address();
    drop(provider);
    // Bound again, so that nobody else comes to listen there.
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind(gone).unwrap();
    let answer = sidecar.ask("GET", &format!("/x {head}\r\n")).await;
    assert_eq!((&answer[9..12], code(&answer).as_str()), ("502", "upstream_unreachable"));
    sidecar.house.registry.store(Arc::new(Registry::new(vec![], 0)));
    let answer = sidecar.ask("GET", &format!("/x {head}\r\n")).await;
    assert_eq!((&answer[9..12], code(&answer).as_str()), ("404", "model_not_found"));
}

#[tokio::test]
async fn who_shows_no_key_is_told_nothing() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "");
    let wrong = format!("{}x/y", sidecar.way);
    for target in ["/", "/v1/chat/completions", "/acme/v1/models", "*", &wrong, &sidecar.way[1..]] {
        let mut handler = sidecar.handler().await;
        handler.say(&format!("OPTIONS {target} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let answer = handler.message().await;
        let known = ["HTTP/1.1 404 Not Found", "content-length: 0"];
        let told: Vec<&str> =
            answer.lines().filter(|line| !line.starts_with("date: ") && !line.is_empty()).collect();
        assert!(told == known || answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    let mut client = Peer::new(TcpStream::connect(sidecar.clients).await.unwrap());
    client.say(&format!("GET {}/x HTTP/1.1\r\nhost: x\r\n\r\n", sidecar.way)).await;
    assert!(client.message().await.starts_with("HTTP/1.1 401 "), "clients are let in by their own key alone");
}

#[tokio::test]
async fn the_log_tells_of_a_handlers_requests_and_never_of_its_key() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "");
    let lines = Lines::of_this_process();
    let head = "HTTP/1.1\r\nhost: x\r\n\r\n";
    let good = format!("/good/7?q=1 {head}");
    tokio::join!(sidecar.ask("GET", &good), provider.answer(OK));
    sidecar.ask("GET", &format!("/a/../b {head}")).await;
    sidecar.ask("GET", &format!("x/wrong {head}")).await;
    sidecar.house.ended.settle_all();
    let text = lines.text();
    for told in [
        "DEBUG outrider::proxy::visit: a handler's request to its provider integration=\"acme\" path=\"/good/7\" status=200",
        "WARN outrider::proxy::visit: a handler's request to its provider failed integration=\"acme\" path=\"/a/../b\" status=400",
        "DEBUG outrider::proxy: a request at the handlers' door showed no key",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    assert!(!text.contains(&sidecar.way[1..]), "{text}");
}

/// Log lines, kept.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    /// What our own code logs from now on, whichever test's it is: whether a place in the code logs at all is decided
    /// once for the process.
    fn of_this_process() -> Self {
        let lines = Self::default();
        let written = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || written.clone());
        let ours = Targets::new().with_target("outrider", tracing::Level::TRACE);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer).with(ours))
            .unwrap();
        tracing::callsite::rebuild_interest_cache();
        lines
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_drain_keeps_the_door_open_until_the_last_client_has_its_answer() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "");
    let mut client = Peer::new(TcpStream::connect(sidecar.clients).await.unwrap());
    let chat = "{\"model\":\"m\",\"messages\":[]}";
    let head = "POST /acme/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer callers-key\r\n";
    client.say(&format!("{head}content-length: {}\r\n\r\n{chat}", chat.len())).await;
    let mut outer = provider.accept().await;
    outer.message().await;
    let mut early = sidecar.handler().await;

    sidecar.house.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    sidecar.stopper.begin();
    client_door_is_closed(sidecar.clients).await;
    let request = format!("GET {}/x HTTP/1.1\r\nhost: x\r\n\r\n", sidecar.way);
    let last = OK.replace("OK", "OK\r\nconnection: close");
    for handler in [&mut early, &mut sidecar.handler().await] {
        handler.say(&request).await;
        let (answer, _) = tokio::join!(handler.message(), provider.answer(&last));
        assert!(answer.ends_with("ok"), "{answer}");
    }
    let said = "{\"choices\":[]}";
    outer.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len())).await;
    assert!(client.message().await.ends_with(said));
    soon(sidecar.running).await.unwrap().unwrap();
}

/// Waits until nobody accepts at `address` any more: the stop has been heard there.
async fn client_door_is_closed(address: SocketAddr) {
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cut_ends_what_a_handler_waits_for() {
    let provider = Provider::bind().await;
    let sidecar = Sidecar::before(&provider, KEY, "");
    let mut client = Peer::new(TcpStream::connect(sidecar.clients).await.unwrap());
    client.say("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await;
    let mut handler = sidecar.handler().await;
    handler.say(&format!("GET {}/x HTTP/1.1\r\nhost: x\r\n\r\n", sidecar.way)).await;
    let mut peer = provider.accept().await;
    peer.message().await;
    sidecar.house.cut.store(true, std::sync::atomic::Ordering::Relaxed);
    sidecar.stopper.begin();
    sidecar.stopper.end();
    assert_eq!(code(&handler.message().await), "draining");
    peer.closed().await;
    drop(client);
    soon(sidecar.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up_under_a_code_of_its_own() {
    let bodies = ["/v1/chat/completions HTTP/1.1", "/acme/v1/files HTTP/1.1"];
    for (number, line) in bodies.into_iter().enumerate() {
        let provider = Provider::bind().await;
        let (lines, stuck) = ("authentication_type = \"none\"", Duration::from_millis(200));
        let sidecar = Sidecar::patient(&provider, lines, "header_timeout = \"100ms\"", stuck);
        let body = "{\"model\":\"m\",\"messages\":[],\"stream\":true}";
        let mut client = Peer::new(TcpStream::connect(sidecar.clients).await.unwrap());
        let asked = format!(
            "POST {line}\r\nhost: x\r\nauthorization: Bearer callers-key\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.say(&asked).await;
        let mut peer = provider.accept().await;
        peer.message().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        let event = format!("data: {{\"choices\":[],\"x\":\"{}\"}}\n\n", "x".repeat(60_000));
        // More than any buffer on the way holds, until the provider is left too.
        soon(async { while peer.io.write_all(event.as_bytes()).await.is_ok() {} }).await;
        let wanted = "outrider_errors_total{integration=\"acme\",code=\"client_stalled\"} 1";
        soon(async {
            while !sidecar.figures().contains(wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let ended = "outrider_endings_total{integration=\"acme\",ending=\"failed\"} 1";
        let metrics = sidecar.figures();
        assert!(metrics.contains(ended), "{number}: {metrics}");
        drop(client);
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_steadily_gets_all_of_its_answer() {
    let provider = Provider::bind().await;
    let (lines, stuck) = ("authentication_type = \"none\"", Duration::from_secs(2));
    let sidecar = Sidecar::patient(&provider, lines, "header_timeout = \"100ms\"", stuck);
    let socket = TcpSocket::new_v4().unwrap();
    // Room of its own: how often the system tells of some depends on how much there is.
    socket.set_recv_buffer_size(32 << 10).unwrap();
    let mut client = Peer::new(socket.connect(sidecar.clients).await.unwrap());
    let asked = "GET /acme/v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer callers-key\r\n\r\n";
    client.say(asked).await;
    let mut peer = provider.accept().await;
    peer.message().await;
    let length = 6 << 20;
    let answer = async {
        peer.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
        peer.io.write_all(&vec![b'x'; length]).await.unwrap();
    };
    let read = async {
        let (mut some, mut whole, begun) = (vec![0; 40_000], 0, Instant::now());
        while whole < length {
            // The pace is what is tested: a third of the system's buffer takes it longer than it may take nothing. It is
            // that of the clock: on a busy machine a nap takes longer.
            let passed = begun.elapsed();
            if passed < 3 * stuck && whole >= 400 * passed.as_millis() as usize {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let more = client.io.read(&mut some).await.unwrap();
            assert!(more > 0, "cut after {whole} bytes");
            whole += more;
        }
    };
    soon(async { tokio::join!(answer, read) }).await;
}

#[tokio::test]
async fn connections_for_a_worker_that_is_gone_are_served_by_the_others() {
    let provider = Provider::bind().await;
    let (sidecar, other) = Sidecar::of_two(&provider);
    drop(other);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Peer::new(TcpStream::connect(sidecar.clients).await.unwrap());
        client.say("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer callers-key\r\n\r\n").await;
        assert!(client.message().await.starts_with("HTTP/1.1 200 "));
        // Open: the next one is for the thread with fewer of them.
        clients.push(client);
    }
}
